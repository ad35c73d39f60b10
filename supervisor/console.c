#include "supervisor/console.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/peer.h"
#include "supervisor/console-lines.h"
#include "supervisor/console-log.h"

enum {
	CLIENTS_MAX = 32,
	QUEUE_MAX = 256 << 10,
	ACCEPT_PAUSE_MS = 1000,
};

struct client {
	struct list entry;
	struct console *c;
	uv_poll_t poll;
	int fd;
	struct buf queue;
	bool eof; /* it will not write any more, but may still read */
	struct console_seat seat;
	bool seated, told;
};

struct console {
	uv_loop_t *loop;
	struct console_opts opts;
	char *socket_path;
	struct console_log log;

	int listen_fd;
	uv_poll_t listener;
	uv_timer_t accept_timer;
	unsigned handles; /* that are open; the memory goes with the last */
	bool closing;
	struct list clients, followers;
	struct console_seats seats;
	unsigned nclients;

	struct console_lines lines;
};

static void client_cb(uv_poll_t *poll, int status, int events);
static void accept_again(uv_timer_t *timer);

static void console_free(struct console *c)
{
	console_log_finish(&c->log);
	console_lines_finish(&c->lines);
	free(c->socket_path);
	free(c);
}

static void handle_gone(struct console *c)
{
	if (--c->handles == 0)
		console_free(c);
}

static void client_closed(uv_handle_t *h)
{
	struct client *cl = container_of((uv_poll_t *)h, struct client, poll);
	struct console *c = cl->c;

	buf_finish(&cl->queue);
	free(cl);
	handle_gone(c);
}

static void client_drop(struct client *cl)
{
	if (uv_is_closing((uv_handle_t *)&cl->poll))
		return;
	console_seat_leave(&cl->c->seats, &cl->seat);
	list_remove(&cl->entry);
	cl->c->nclients--;
	uv_close((uv_handle_t *)&cl->poll, client_closed);
	close(cl->fd);
}

static void client_watch(struct client *cl)
{
	int events = (cl->eof ? 0 : UV_READABLE) | (cl->queue.len > 0 ? UV_WRITABLE : 0);

	if (events == 0)
		uv_poll_stop(&cl->poll);
	else
		uv_poll_start(&cl->poll, events, client_cb);
}

/* Bytes that the socket took; 0 when it is full; -errno. */
static ssize_t client_send(struct client *cl, const char *data, size_t len)
{
	ssize_t n;

	do
		n = send(cl->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? 0 : -errno;
	return n;
}

static void client_give(struct client *cl, const char *data, size_t len)
{
	ssize_t n = 0;

	if (cl->queue.len == 0)
		n = client_send(cl, data, len);
	if (n < 0) {
		client_drop(cl);
		return;
	}
	data += n;
	len -= (size_t)n;
	if (len == 0)
		return;
	if (cl->queue.len + len > QUEUE_MAX) {
		log_warn("console %s: cut off a reader that is too slow (%zu KiB behind)",
			quote(cl->c->socket_path), (cl->queue.len + len) >> 10);
		client_drop(cl);
		return;
	}
	buf_add(&cl->queue, data, len);
	if (cl->queue.bad)
		client_drop(cl);
	else
		client_watch(cl);
}

/* A peer that has only shut down its writing side goes on reading; one that is gone goes. */
static void client_eof(struct client *cl)
{
	struct pollfd p = { .fd = cl->fd };

	cl->eof = true;
	console_seat_leave(&cl->c->seats, &cl->seat);
	if (poll(&p, 1, 0) < 0 || (p.revents & (POLLHUP | POLLERR)) != 0)
		client_drop(cl);
	else
		client_watch(cl);
}

/* Nobody who only reads is in the way of one who wants to write alone. */
static void client_sit(struct client *cl)
{
	struct ucred peer = { .uid = (uid_t)-1 };

	peer_credentials(cl->fd, &peer);
	cl->seat.mode = CONSOLE_SHARES;
	cl->seat.uid = peer.uid;
	cl->seat.pid = peer.pid;
	cl->seated = true;
	console_seat_take(&cl->c->seats, &cl->seat, false);
}

static void client_typed(struct client *cl, const char *data, size_t len)
{
	struct buf text = { 0 };

	if (!cl->seated)
		client_sit(cl);
	if (cl->seat.writes) {
		console_type(cl->c, data, len);
	} else if (!cl->told) {
		cl->told = true;
		buf_adds(&text, "\r\n[drover: not passed on: somebody writes alone: ");
		console_seats_writers(&cl->c->seats, &text);
		buf_adds(&text, "]\r\n");
		client_give(cl, buf_str(&text), text.len);
		buf_finish(&text);
	}
}

static void client_cb(uv_poll_t *poll, int status, int events)
{
	struct client *cl = container_of(poll, struct client, poll);
	char data[4096];
	ssize_t n;

	if (status < 0) {
		client_drop(cl);
		return;
	}
	if ((events & UV_WRITABLE) != 0 && cl->queue.len > 0) {
		n = client_send(cl, cl->queue.data, cl->queue.len);
		if (n < 0) {
			client_drop(cl);
			return;
		}
		buf_drop(&cl->queue, (size_t)n);
		client_watch(cl);
	}
	if ((events & UV_READABLE) == 0 || cl->eof)
		return;
	n = recv(cl->fd, data, sizeof(data), MSG_DONTWAIT);
	if (n > 0)
		client_typed(cl, data, (size_t)n);
	else if (n == 0)
		client_eof(cl);
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		client_drop(cl);
}

static void client_add(struct console *c, int fd)
{
	struct client *cl = calloc(1, sizeof(*cl));

	if (cl == NULL || uv_poll_init(c->loop, &cl->poll, fd) < 0) {
		log_warn("console %s: ignoring a reader: no memory", quote(c->socket_path));
		close(fd);
		free(cl);
		return;
	}
	cl->c = c;
	cl->fd = fd;
	list_init(&cl->seat.entry);
	list_append(&c->clients, &cl->entry);
	c->nclients++;
	c->handles++;
	client_watch(cl);
}

/* Without a descriptor to spare the connection stays in the queue, and poll would spin on it. */
static void accept_pause(struct console *c, int code)
{
	log_warn("console %s: accept: %s; trying again in a second", quote(c->socket_path),
		strerror(code));
	uv_poll_stop(&c->listener);
	uv_timer_start(&c->accept_timer, accept_again, ACCEPT_PAUSE_MS, 0);
}

static void accept_cb(uv_poll_t *poll, int status, int events)
{
	struct console *c = container_of(poll, struct console, listener);
	int fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0) {
		if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
			accept_pause(c, errno);
		return;
	}
	if (c->nclients == CLIENTS_MAX) {
		log_warn("console %s: turned a reader away: there are %d already",
			quote(c->socket_path), CLIENTS_MAX);
		close(fd);
		return;
	}
	client_add(c, fd);
}

static void accept_again(uv_timer_t *timer)
{
	struct console *c = container_of(timer, struct console, accept_timer);

	uv_poll_start(&c->listener, UV_READABLE, accept_cb);
}

static void listener_closed(uv_handle_t *h)
{
	handle_gone(container_of((uv_poll_t *)h, struct console, listener));
}

static void timer_closed(uv_handle_t *h)
{
	handle_gone(container_of((uv_timer_t *)h, struct console, accept_timer));
}

static void on_line(void *arg, const char *line)
{
	struct console *c = arg;

	if (!c->closing && c->opts.line != NULL)
		c->opts.line(c->opts.arg, line);
}

/* An adopted machine's last lines are those of its log. */
static void tail_restore(struct console *c)
{
	struct buf text = { 0 };

	/* 0 would mean the newest one. */
	if (c->opts.boot == 0 ||
		console_log_read(c->opts.log_dir, c->opts.boot, &text, NULL, NULL) < 0)
		return;
	if (text.len > CONSOLE_TAIL_READ)
		buf_drop(&text, text.len - CONSOLE_TAIL_READ);
	console_lines_take(&c->lines, buf_str(&text), text.len, NULL, NULL);
	buf_finish(&text);
}

static int console_listen(struct console *c, struct err *err)
{
	int r = unix_listen(c->socket_path, 0600, 16, &c->listen_fd, err);

	if (r < 0)
		return r;
	/* Cannot fail: the timer is needed first, so that both handles are closed alike. */
	uv_timer_init(c->loop, &c->accept_timer);
	c->handles = 1;
	r = uv_poll_init(c->loop, &c->listener, c->listen_fd);
	if (r < 0)
		return err_errno(err, r, "watch %s", quote(c->socket_path));
	c->handles = 2;
	uv_poll_start(&c->listener, UV_READABLE, accept_cb);
	return 0;
}

int console_create(
	struct console **out, uv_loop_t *loop, const struct console_opts *opts, struct err *err)
{
	struct console *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return err_nomem(err);
	c->loop = loop;
	c->opts = *opts;
	c->listen_fd = c->log.fd = -1;
	list_init(&c->clients);
	list_init(&c->followers);
	console_seats_init(&c->seats);
	c->socket_path = strdup(opts->socket_path);
	r = c->socket_path == NULL
		    ? err_nomem(err)
		    : console_log_init(&c->log, opts->log_dir, opts->boot, opts->max_bytes, err);
	if (r == 0) {
		tail_restore(c);
		r = console_listen(c, err);
	}
	c->opts.log_dir = c->opts.socket_path = NULL; /* borrowed until here */
	if (r < 0) {
		if (c->handles > 0)
			console_destroy(c);
		else
			console_free(c);
		return r;
	}
	*out = c;
	return 0;
}

void console_write(struct console *c, const char *data, size_t len)
{
	struct console_follow *f, *fnext;
	struct client *cl, *next;

	if (len == 0 || c->closing)
		return;
	console_log_write(&c->log, data, len);
	list_for_each_entry_safe (cl, next, &c->clients, entry)
		client_give(cl, data, len);
	list_for_each_entry_safe (f, fnext, &c->followers, entry)
		f->data(f->arg, data, len);
	/* Last: a line may make the machine end this console. */
	console_lines_take(&c->lines, data, len, on_line, c);
}

void console_note(struct console *c, const char *text)
{
	struct buf b = { 0 };

	buf_printf(&b, "\r\n[drover: %s]\r\n", text);
	console_write(c, buf_str(&b), b.len);
	buf_finish(&b);
}

void console_note_gap(struct console *c)
{
	uint64_t written = console_log_written_ms(&c->log);
	char from[32], to[32], text[256];

	format_time(to, clock_unix_ms());
	if (written == 0) {
		snprintf(text, sizeof(text), "nobody may have listened until %s", to);
	} else {
		format_time(from, written);
		snprintf(text, sizeof(text),
			"what the guest said after %s, when this log was last written, and before %s "
			"may be missing: there was no droverd to listen",
			from, to);
	}
	console_note(c, text);
}

struct console_seats *console_seats(struct console *c)
{
	return &c->seats;
}

int console_type(struct console *c, const char *data, size_t len)
{
	return c->opts.input != NULL ? c->opts.input(c->opts.arg, data, len) : -EPIPE;
}

uint64_t console_position(const struct console *c)
{
	return console_log_position(&c->log);
}

int console_from(const struct console *c, uint64_t from, size_t max, struct buf *out,
	uint64_t *start, struct err *err)
{
	return console_log_from(&c->log, from, max, out, start, err);
}

void console_tail(const struct console *c, unsigned n, struct strv *out)
{
	console_lines_tail(&c->lines, n, out);
}

unsigned console_clients(const struct console *c)
{
	return c->nclients;
}

void console_follow(struct console *c, struct console_follow *f)
{
	list_append(&c->followers, &f->entry);
}

void console_unfollow(struct console_follow *f)
{
	list_remove(&f->entry);
}

void console_destroy(struct console *c)
{
	struct console_follow *f;
	struct client *cl;

	if (c == NULL || c->closing)
		return;
	c->closing = true;
	unlink(c->socket_path);
	while ((cl = list_first(&c->clients, struct client, entry)) != NULL)
		client_drop(cl);
	if (c->handles > 1)
		uv_close((uv_handle_t *)&c->listener, listener_closed);
	uv_close((uv_handle_t *)&c->accept_timer, timer_closed);
	close(c->listen_fd);
	console_log_finish(&c->log);
	while ((f = list_first(&c->followers, struct console_follow, entry)) != NULL) {
		list_remove(&f->entry);
		f->data(f->arg, NULL, 0);
	}
}
