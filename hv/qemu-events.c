/* hv/qemu-events.c - what the events and the status words of QEMU's monitor mean here. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hv/qemu.h"
#include "hv/qemu-row.h"
#include "lib/json.h"

/* QEMU's RunState (qapi/run-state.json). */
static const struct {
	const char *word;
	enum hv_status status;
} statuses[] = {
	{ "running", HV_STATUS_RUNNING },
	{ "paused", HV_STATUS_PAUSED },
	{ "suspended", HV_STATUS_PAUSED },
	{ "debug", HV_STATUS_PAUSED },
	{ "watchdog", HV_STATUS_PAUSED },
	{ "prelaunch", HV_STATUS_CREATED },
	{ "io-error", HV_STATUS_IO_ERROR },
	{ "guest-panicked", HV_STATUS_PANICKED },
	{ "internal-error", HV_STATUS_BROKEN },
	{ "shutdown", HV_STATUS_SHUTDOWN },
	{ "inmigrate", HV_STATUS_INCOMING },
	{ "restore-vm", HV_STATUS_INCOMING },
	{ "save-vm", HV_STATUS_SAVING },
	{ "finish-migrate", HV_STATUS_SAVING },
	/* What was saved can run on. */
	{ "postmigrate", HV_STATUS_PAUSED },
	{ "colo", HV_STATUS_RUNNING },
};

static enum hv_status status_of(const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(statuses); i++)
		if (str_eq(word, statuses[i].word))
			return statuses[i].status;
	return HV_STATUS_UNKNOWN;
}

static void ask_io_error(struct qemu *q);

static void set_status(
	struct qemu *q, enum hv_status status, bool by_us, const char *by, const char *word)
{
	struct hv_event ev = { .kind = HV_EVENT_STATUS,
		.status = status,
		.by_us = by_us,
		.by = by_us ? NULL : by,
		.reason = word };

	if (q->hv.status == status)
		return;
	q->hv.status = status;
	if (status == HV_STATUS_IO_ERROR)
		ask_io_error(q);
	else if (status == HV_STATUS_RUNNING)
		q->io_told = false;
	/* During a start the first status goes with done. */
	if (q->phase != QEMU_STARTING)
		qemu_emit_event(q, &ev);
}

static void status_reply(void *arg, const json_t *reply, const struct err *err)
{
	const char *word = json_str(reply, "status");
	struct qemu *q = arg;

	if (err == NULL && word != NULL) {
		set_status(q, status_of(word), false, NULL, word);
		qemu_answered(q);
	} else if (q->phase == QEMU_STARTING && (err == NULL || err->code != -ECONNRESET)) {
		struct err e;

		err_set(&e, -EPROTO, "the monitor does not tell the status%s%s",
			err != NULL ? ": " : "", err != NULL ? err->msg : "");
		qemu_start_lost(q, &e);
	}
}

void qemu_ask_status(struct qemu *q)
{
	/* The deadline of a start is its owner's. */
	struct qmp_opts opts = { .timeout_ms = q->phase == QEMU_STARTING ? UINT32_MAX : 0 };

	if (q->qmp != NULL)
		qmp_command(q->qmp, "query-status", NULL, &opts, status_reply, q);
}

/* Events */

static void on_stop(struct qemu *q, const json_t *data, const json_t *event)
{
	bool by_us = q->intents.pause;
	char who[48];
	const char *by = qemu_take_by(q, QMP_EFFECT_STOP, who);

	q->intents.pause = false;
	/*
	 * STOP has no reason. If we asked for it, it is most likely that; but an I/O error may have
	 * come first, so the status is asked for in any case: after the answer to our command, if it
	 * was ours (qemu-ops.c), so that nobody waits for that.
	 */
	if (by_us || by != NULL)
		set_status(q, HV_STATUS_PAUSED, by_us, by, "paused");
	if (!by_us && qemu_alive(q))
		qemu_ask_status(q);
}

static void on_resume(struct qemu *q, const json_t *data, const json_t *event)
{
	bool by_us = q->intents.resume;
	char who[48];
	const char *by = qemu_take_by(q, QMP_EFFECT_CONT, who);

	q->intents.resume = q->intents.pause = false;
	set_status(q, HV_STATUS_RUNNING, by_us, by, "running");
}

static void on_shutdown(struct qemu *q, const json_t *data, const json_t *event)
{
	struct hv_event ev = { .kind = HV_EVENT_HOST_QUIT,
		.status = HV_STATUS_SHUTDOWN,
		.reason = json_str(data, "reason"),
		.data = event };
	const char *reason = ev.reason;
	char who[48];
	bool by_us;

	q->hv.status = HV_STATUS_SHUTDOWN;
	if (json_flag(data, "guest", false)) {
		ev.kind = HV_EVENT_GUEST_SHUTDOWN;
		ev.by_us = q->intents.powerdown;
		if (!ev.by_us && str_eq(reason, "guest-shutdown"))
			ev.by = qemu_take_by(q, QMP_EFFECT_POWERDOWN, who);
		qemu_emit_event(q, &ev);
		return;
	}
	if (str_eq(reason, "host-signal"))
		by_us = q->intents.signal;
	else if (str_eq(reason, "host-qmp-system-reset"))
		by_us = q->intents.reset;
	else
		by_us = q->intents.quit && str_eq(reason, "host-qmp-quit");
	ev.by_us = by_us;
	if (!by_us && str_eq(reason, "host-qmp-quit"))
		ev.by = qemu_take_by(q, QMP_EFFECT_QUIT, who);
	qemu_emit_event(q, &ev);
}

/* The event's own time, so that a busy loop does not stretch it. */
static uint64_t event_ms(const json_t *event)
{
	const json_t *t = json_obj(event, "timestamp");

	return (uint64_t)json_int(t, "seconds", 0) * 1000 +
	       (uint64_t)json_int(t, "microseconds", 0) / 1000;
}

/*
 * SeaBIOS, entered a second time, resets the machine once or twice more to get its ROM mapped back
 * (tried on 7.2: within 50 ms). These look like the guest's own, and are part of the first. Whoever
 * has said something on the console since then has come further than that: it is the guest's own.
 */
static bool is_echo(struct qemu *q, const json_t *event)
{
	uint64_t at = event_ms(event);
	bool spoken;

	/* What it said before this event has been written to the socket. */
	if (q->console != NULL)
		serial_drain(q->console);
	spoken = q->spoken;
	q->spoken = false;
	if (!spoken && at >= q->reset_at && at - q->reset_at < QEMU_RESET_SETTLE_MS)
		return true;
	q->reset_at = at;
	return false;
}

static void on_reset(struct qemu *q, const json_t *data, const json_t *event)
{
	const char *reason = json_str(data, "reason");
	bool by_us = q->intents.reset;
	bool echo = is_echo(q, event);
	struct hv_event ev = { .kind = HV_EVENT_HOST_RESET,
		.status = q->hv.status,
		.by_us = by_us,
		.reason = reason,
		.data = event };
	char who[48];

	if (json_flag(data, "guest", false)) {
		if (!echo)
			qemu_emit(q, HV_EVENT_GUEST_RESET, false, reason, event);
		return;
	}
	q->intents.reset = false;
	if (!by_us)
		ev.by = qemu_take_by(q, QMP_EFFECT_RESET, who);
	if (q->reboot_is_exit && (by_us || ev.by != NULL))
		deadline_set(&q->settle, QEMU_RESET_SETTLE_MS);
	qemu_emit_event(q, &ev);
}

static void on_panic(struct qemu *q, const json_t *data, const json_t *event)
{
	const char *type = json_str(json_obj(data, "info"), "type");
	const char *action = json_str(data, "action");
	char reason[128];

	snprintf(reason, sizeof(reason), "%s%s%s", action != NULL ? action : "panic",
		type != NULL ? ": " : "", type != NULL ? type : "");
	qemu_emit(q, HV_EVENT_PANIC, false, reason, event);
}

static void on_watchdog(struct qemu *q, const json_t *data, const json_t *event)
{
	qemu_emit(q, HV_EVENT_WATCHDOG, false, json_str(data, "action"), event);
}

static void on_io_error(struct qemu *q, const json_t *data, const json_t *event)
{
	const char *node = json_str(data, "node-name");
	const char *text = json_str(data, "reason");
	char reason[256];
	struct hv_event ev = { .kind = HV_EVENT_IO_ERROR,
		.status = q->hv.status,
		.nospace = json_flag(data, "nospace", false),
		.reason = reason,
		.data = event };

	if (node == NULL)
		node = json_str(data, "device");
	snprintf(reason, sizeof(reason), "%s: %s", node != NULL ? node : "disk",
		text != NULL ? text : "I/O error");
	hv_clean_text(reason);
	q->io_told = true;
	qemu_emit_event(q, &ev);
}

/* The guest stands still since nobody listened: what for, its devices know (qapi/block-core.json,
 * BlockDeviceIoStatus). */
static void io_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;
	const json_t *e;
	size_t i;

	json_array_foreach (reply, i, e) {
		const char *status = json_str(e, "io-status"), *id = json_str(e, "qdev");
		struct hv_event ev = { .kind = HV_EVENT_IO_ERROR, .status = q->hv.status };
		char reason[256];

		if (q->io_told || q->hv.status != HV_STATUS_IO_ERROR || status == NULL ||
			strcmp(status, "ok") == 0)
			continue;
		q->io_told = true;
		ev.nospace = strcmp(status, "nospace") == 0;
		ev.reason = reason;
		snprintf(reason, sizeof(reason), "%s: %s", id != NULL ? id : "disk",
			ev.nospace ? "No space left on device" : "I/O error");
		hv_clean_text(reason);
		qemu_emit_event(q, &ev);
	}
}

static void ask_io_error(struct qemu *q)
{
	if (q->qmp != NULL && !q->io_told)
		qmp_command(q->qmp, "query-block", NULL, NULL, io_reply, q);
}

static void on_deleted(struct qemu *q, const json_t *data, const json_t *event)
{
	const char *id = json_str(data, "device");

	qemu_rows_device(q, id, false);
	if (qemu_alive(q))
		qemu_emit(q, HV_EVENT_DEVICE_GONE, false, id != NULL ? id : json_str(data, "path"),
			event);
}

static void on_kept(struct qemu *q, const json_t *data, const json_t *event)
{
	qemu_rows_device(q, json_str(data, "device"), true);
}

static void on_dumped(struct qemu *q, const json_t *data, const json_t *event)
{
	qemu_dump_completed(q, data);
}

static void on_migration(struct qemu *q, const json_t *data, const json_t *event)
{
	qemu_stream_event(q, data);
}

static const struct {
	const char *name;
	void (*fn)(struct qemu *q, const json_t *data, const json_t *event);
} events[] = {
	{ "STOP", on_stop },
	{ "RESUME", on_resume },
	{ "SHUTDOWN", on_shutdown },
	{ "RESET", on_reset },
	{ "GUEST_PANICKED", on_panic },
	{ "WATCHDOG", on_watchdog },
	{ "BLOCK_IO_ERROR", on_io_error },
	{ "DEVICE_DELETED", on_deleted },
	{ "DEVICE_UNPLUG_GUEST_ERROR", on_kept },
	{ "DEVICE_TRAY_MOVED", qemu_tray_moved },
	{ "DUMP_COMPLETED", on_dumped },
	{ "MIGRATION", on_migration },
};

void qemu_event(void *arg, const char *name, const json_t *event)
{
	const json_t *data = json_obj(event, "data");
	struct qemu *q = arg;

	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		if (strcmp(name, events[i].name) == 0) {
			events[i].fn(q, data, event);
			return;
		}
	}
	qemu_emit(q, HV_EVENT_OTHER, false, name, event);
}
