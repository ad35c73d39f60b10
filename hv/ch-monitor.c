/* hv/ch-monitor.c - API, events and console of cloud-hypervisor: made, slow, lost, made again. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/file.h"

/* A process that ends closes its sockets shortly before it is gone: only then is it no news. */
#define LOST_GRACE_MS  200
#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS   30000
/* A reboot closes the console and makes it anew. */
#define DIAL_FIRST_MS 2
#define DIAL_MAX_MS   1000
/* A pipe holds 64 KiB: one that was nearly full may have refused events. */
#define EVENTS_READ (64u << 10)
#define EVENTS_FULL (60u << 10)

void ch_emit_event(struct ch *c, const struct hv_event *ev)
{
	if (c->hv.cb.event != NULL && c->phase != CH_FAILED && c->phase != CH_CLOSING)
		c->hv.cb.event(c->hv.cb.arg, ev);
}

void ch_emit(
	struct ch *c, enum hv_event_kind kind, bool by_us, const char *reason, const json_t *data)
{
	struct hv_event ev = {
		.kind = kind, .status = c->hv.status, .by_us = by_us, .reason = reason, .data = data
	};

	ch_emit_event(c, &ev);
}

/* ---- the API ---- */

static void retry_later(struct ch *c)
{
	c->retry_ms = c->retry_ms == 0 ? RETRY_FIRST_MS : MIN(c->retry_ms * 2, RETRY_MAX_MS);
	deadline_set(&c->retry, c->retry_ms);
}

static void api_late(void *arg, const char *path)
{
	struct ch *c = arg;

	if (c->phase != CH_UP || c->hv.unresponsive || c->frozen)
		return;
	c->hv.unresponsive = true;
	/* The late answer itself tells when it is over; the retry is for a socket that was closed. */
	c->retry_ms = 0;
	retry_later(c);
	ch_emit(c, HV_EVENT_UNRESPONSIVE, false, path, NULL);
}

void ch_came_back(struct ch *c)
{
	if (!c->hv.unresponsive)
		return;
	c->hv.unresponsive = c->lost_told = false;
	c->retry_ms = 0;
	deadline_cancel(&c->retry);
	ch_emit(c, HV_EVENT_RESPONSIVE, false, NULL, NULL);
}

static void api_alive(void *arg)
{
	struct ch *c = arg;

	c->lost = false;
	/* Much may have happened meanwhile: the answer to this says that it is back, too. */
	if (c->hv.unresponsive && c->phase == CH_UP) {
		deadline_set(&c->settle, CH_SETTLE_MS);
		ch_ask_status(c);
	}
}

static void api_lost(void *arg, const struct err *err)
{
	struct ch *c = arg;

	c->lost = true;
	if (c->phase == CH_STARTING && !c->adopting)
		ch_start_lost(c, err);
	else if (c->phase == CH_UP && !c->lost_told)
		deadline_set(&c->retry, LOST_GRACE_MS);
}

static void tell_lost(struct ch *c)
{
	c->lost_told = true;
	c->hv.unresponsive = true;
	c->hv.status = HV_STATUS_UNKNOWN;
	ch_emit(c, HV_EVENT_MONITOR_LOST, c->intents.quit, NULL, NULL);
}

/* Fires while the API is lost or silent. */
void ch_retry(void *arg)
{
	struct ch *c = arg;

	if (c->phase != CH_UP)
		return;
	if (c->lost && !c->lost_told)
		tell_lost(c);
	if (c->phase != CH_UP || !c->hv.unresponsive)
		return;
	ch_ask_status(c);
	retry_later(c);
}

int ch_open_api(struct ch *c, struct err *err)
{
	const struct ch_api_callbacks cb = {
		.late = api_late, .alive = api_alive, .lost = api_lost, .arg = c
	};
	int r = ch_api_create(&c->api, c->hv.loop, c->api_path, &cb, err);

	if (r == 0)
		c->handles++;
	return r;
}

void ch_drop_api(struct ch *c)
{
	struct ch_api *api = c->api;

	c->api = NULL;
	c->asking = false;
	if (api != NULL)
		ch_api_destroy(api, ch_part_closed, c);
}

/* ---- events ---- */

static void events_closed(uv_handle_t *handle)
{
	ch_part_closed(container_of((uv_poll_t *)handle, struct ch, events));
}

void ch_drop_events(struct ch *c)
{
	if (c->events_fd < 0)
		return;
	uv_poll_stop(&c->events);
	uv_close((uv_handle_t *)&c->events, events_closed);
	close(c->events_fd);
	c->events_fd = -1;
}

static ssize_t read_events(struct ch *c)
{
	/* Of the loop's thread; what is called from here reads no other machine's events. */
	static char chunk[EVENTS_READ];
	ssize_t n = read(c->events_fd, chunk, sizeof(chunk));

	if (n > 0)
		ch_stream_feed(&c->stream, chunk, (size_t)n, ch_event, c);
	return n;
}

static void events_ready(uv_poll_t *poll, int status, int events)
{
	struct ch *c = container_of(poll, struct ch, events);
	ssize_t n = read_events(c);

	if (c->events_fd < 0)
		return;
	/* Nobody has its other end any more: the process is about to be reaped. */
	if (n == 0 || status < 0)
		uv_poll_stop(&c->events);
	else if (n >= (ssize_t)EVENTS_FULL)
		ch_ask_status(c);
}

int ch_open_events(struct ch *c, struct err *err)
{
	int fd = open(c->events_path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	int r;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(c->events_path));
	r = uv_poll_init(c->hv.loop, &c->events, fd);
	if (r < 0) {
		close(fd);
		return err_errno(err, r, "watch %s", quote(c->events_path));
	}
	c->events_fd = fd;
	c->handles++;
	uv_poll_start(&c->events, UV_READABLE, events_ready);
	return 0;
}

/*
 * A FIFO and not a pipe, so that the next daemon can open it again; and the hypervisor gets an end
 * that reads as well, so that what happens while there is no daemon stays in it, where a pipe
 * without a reader refuses it (EPIPE, which vmm/src/lib.rs, start_event_monitor_thread, ignores).
 */
int ch_make_events(struct ch *c, int *out, struct err *err)
{
	int r, fd;

	unlink(c->events_path);
	if (mkfifo(c->events_path, 0600) < 0)
		return err_errno(err, -errno, "make %s", quote(c->events_path));
	r = ch_open_events(c, err);
	if (r < 0)
		return r;
	fd = open(c->events_path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(c->events_path));
	*out = fd;
	return 0;
}

/* ---- the console ---- */

static void console_data(void *arg, const char *data, size_t len)
{
	struct ch *c = arg;

	if (c->hv.cb.console != NULL && c->phase != CH_CLOSING)
		c->hv.cb.console(c->hv.cb.arg, data, len);
}

static void console_lost(void *arg)
{
	struct ch *c = arg;

	ch_drop_console(c);
	c->dial_ms = 0;
	if (ch_alive(c))
		deadline_set(&c->dial, DIAL_FIRST_MS);
}

void ch_drop_console(struct ch *c)
{
	struct serial *console = c->console;

	c->console = NULL;
	if (console != NULL)
		serial_destroy(console, ch_part_closed, c);
}

/* One client at a time, the newest wins: nobody else is to have it, so it is always us. */
void ch_dial_console(struct ch *c)
{
	const struct serial_callbacks cb = { .data = console_data, .lost = console_lost, .arg = c };
	int fd;

	if (c->console != NULL || !ch_alive(c))
		return;
	if (unix_connect(c->serial_path, &fd, NULL) == 0 &&
		serial_create(&c->console, c->hv.loop, fd, &cb, NULL) == 0) {
		c->handles++;
		c->dial_ms = 0;
		return;
	}
	if (c->hv.status == HV_STATUS_SHUTDOWN || c->hv.status == HV_STATUS_INCOMING)
		return;
	c->dial_ms = c->dial_ms == 0 ? DIAL_FIRST_MS : MIN(c->dial_ms * 2, DIAL_MAX_MS);
	deadline_set(&c->dial, c->dial_ms);
}

void ch_dial(void *arg)
{
	ch_dial_console(arg);
}

void ch_drain(struct ch *c)
{
	if (c->console != NULL)
		serial_drain(c->console);
	while (c->events_fd >= 0 && read_events(c) > 0)
		;
}
