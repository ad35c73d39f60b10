/* hv/qemu-monitor.c - QEMU's two connections: made, slow, lost, made again. */
#include <errno.h>
#include <stdio.h>

#include "hv/qemu.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

/* A process that ends closes its sockets shortly before it is gone: only then is EOF no news. */
#define LOST_GRACE_MS  200
#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS   30000

void qemu_emit_event(struct qemu *q, const struct hv_event *ev)
{
	if (q->hv.cb.event != NULL && q->phase != QEMU_FAILED && q->phase != QEMU_CLOSING)
		q->hv.cb.event(q->hv.cb.arg, ev);
}

void qemu_emit(
	struct qemu *q, enum hv_event_kind kind, bool by_us, const char *reason, const json_t *data)
{
	struct hv_event ev = {
		.kind = kind, .status = q->hv.status, .by_us = by_us, .reason = reason, .data = data
	};

	qemu_emit_event(q, &ev);
}

void qemu_drop_monitor(struct qemu *q)
{
	struct qmp *qmp = q->qmp;

	q->qmp = NULL;
	if (qmp == NULL)
		return;
	qmp_destroy(qmp, qemu_part_closed, q);
	/* Whose answer is lost: that of a quit does not come, or what it did is seen by the events. */
	q->by[QMP_EFFECT_STOP].who[0] = q->by[QMP_EFFECT_CONT].who[0] = '\0';
	q->by[QMP_EFFECT_TRAY].who[0] = '\0';
	qmp_mux_lost(q->mux);
}

void qemu_drop_console(struct qemu *q)
{
	struct serial *console = q->console;

	q->console = NULL;
	if (console != NULL)
		serial_destroy(console, qemu_part_closed, q);
}

void qemu_drain(struct qemu *q)
{
	if (q->console != NULL)
		serial_drain(q->console);
	if (q->qmp != NULL)
		qmp_drain(q->qmp);
}

/* Slow and lost */

void qemu_retry_later(struct qemu *q)
{
	q->retry_ms = q->retry_ms == 0 ? RETRY_FIRST_MS : MIN(q->retry_ms * 2, RETRY_MAX_MS);
	deadline_set(&q->retry, q->retry_ms);
}

void qemu_set_unresponsive(struct qemu *q, const char *command)
{
	if (q->phase != QEMU_UP || q->hv.unresponsive)
		return;
	q->hv.unresponsive = true;
	q->retry_ms = 0;
	qemu_retry_later(q);
	qemu_emit(q, HV_EVENT_UNRESPONSIVE, false, command, NULL);
}

static void tell_lost(struct qemu *q)
{
	q->lost_told = true;
	q->hv.unresponsive = true;
	q->hv.status = HV_STATUS_UNKNOWN;
	qemu_emit(q, HV_EVENT_MONITOR_LOST, q->intents.quit, NULL, NULL);
}

/* Fires while the monitor is lost or silent, or the console is lost. */
void qemu_retry(void *arg)
{
	struct qemu *q = arg;

	if (q->phase != QEMU_UP)
		return;
	if (q->qmp == NULL && !q->lost_told)
		tell_lost(q);
	if (q->phase != QEMU_UP)
		return;
	if (q->qmp != NULL && q->hv.unresponsive)
		qemu_ask_status(q);
	else
		qemu_connect(q, NULL);
	if (q->qmp == NULL || q->console == NULL || q->hv.unresponsive)
		qemu_retry_later(q);
}

static void monitor_alive(void *arg)
{
	struct qemu *q = arg;

	if (!q->hv.unresponsive)
		return;
	q->hv.unresponsive = q->lost_told = false;
	q->retry_ms = 0;
	if (q->console != NULL)
		deadline_cancel(&q->retry);
	qemu_emit(q, HV_EVENT_RESPONSIVE, false, NULL, NULL);
	/* Much may have happened meanwhile. Before the negotiation's end this waits in a queue. */
	if (q->phase == QEMU_UP)
		qemu_ask_status(q);
}

static void monitor_late(void *arg, const char *command)
{
	qemu_set_unresponsive(arg, command);
}

static void monitor_event_text(void *arg, const char *text, size_t len)
{
	struct qemu *q = arg;

	qmp_mux_event(q->mux, text, len);
}

static void monitor_lost(void *arg, const struct err *err)
{
	struct qemu *q = arg;

	qemu_drop_monitor(q);
	if (q->phase == QEMU_STARTING)
		qemu_start_lost(q, err);
	else if (q->phase == QEMU_UP)
		deadline_set(&q->retry, q->lost_told ? RETRY_FIRST_MS : LOST_GRACE_MS);
}

/* Coming up */

static void kvm_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;

	if (err == NULL)
		snprintf(q->hv.accel_text, sizeof(q->hv.accel_text), "%s",
			json_flag(reply, "enabled", false) ? "kvm" : "tcg");
}

static void monitor_ready(void *arg, const json_t *greeting)
{
	const json_t *version = json_obj(json_obj(greeting, "version"), "qemu");
	struct qemu *q = arg;

	snprintf(q->hv.program, sizeof(q->hv.program), "QEMU %d.%d.%d",
		(int)json_int(version, "major", 0), (int)json_int(version, "minor", 0),
		(int)json_int(version, "micro", 0));
	qmp_mux_ready(q->mux, greeting);
	/* An earlier daemon may have ended in the middle of its own reset. */
	if (q->adopting && q->reboot_is_exit)
		qemu_set_reboot_action(q, "shutdown");
	/* An earlier daemon knew why it took this accelerator; which one it was can be asked. */
	if (q->hv.accel_text[0] == '\0' && q->qmp != NULL)
		qmp_command(q->qmp, "query-kvm", NULL, NULL, kvm_reply, q);
	/* Clients of an earlier connection may have changed them. */
	if (q->adopting || q->phase == QEMU_UP)
		qemu_ask_drives(q);
	/* The last question: its answer ends a start. */
	qemu_ask_status(q);
}

int qemu_take_monitor(struct qemu *q, int fd, struct err *err)
{
	const struct qmp_callbacks cb = { .ready = monitor_ready,
		.event = qemu_event,
		.event_text = monitor_event_text,
		.alive = monitor_alive,
		.late = monitor_late,
		.lost = monitor_lost,
		.arg = q };
	int r = qmp_create(&q->qmp, q->hv.loop, fd, &cb, err);

	if (r == 0)
		q->handles++;
	return r;
}

static void console_data(void *arg, const char *data, size_t len)
{
	struct qemu *q = arg;

	q->spoken = true;
	if (q->hv.cb.console != NULL)
		q->hv.cb.console(q->hv.cb.arg, data, len);
}

static void console_lost(void *arg)
{
	struct qemu *q = arg;

	qemu_drop_console(q);
	if (q->phase == QEMU_UP && !deadline_armed(&q->retry))
		deadline_set(&q->retry, LOST_GRACE_MS);
}

int qemu_take_console(struct qemu *q, int fd, struct err *err)
{
	const struct serial_callbacks cb = { .data = console_data, .lost = console_lost, .arg = q };
	int r = serial_create(&q->console, q->hv.loop, fd, &cb, err);

	if (r == 0)
		q->handles++;
	return r;
}

int qemu_connect(struct qemu *q, struct err *err)
{
	int fd, r = 0;

	if (q->console == NULL && unix_connect(q->serial_path, &fd, NULL) == 0)
		qemu_take_console(q, fd, NULL);
	if (q->qmp == NULL) {
		r = unix_connect(q->mon_path, &fd, err);
		if (r == 0)
			r = qemu_take_monitor(q, fd, err);
	}
	return r;
}
