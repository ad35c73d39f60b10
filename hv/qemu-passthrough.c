/* hv/qemu-passthrough.c - other people's commands: hv/qmp-mux.h at QEMU's monitor. */
#include <errno.h>
#include <stdio.h>

#include "hv/qemu.h"

/* For this long a guest's shutdown may be the answer to a client's power button. */
#define POWERDOWN_MS 120000

static int send_on(
	void *arg, const char *text, size_t len, int fd, qmp_text_fn *reply, void *reply_arg)
{
	struct qemu *q = arg;

	if (q->qmp == NULL || !qemu_alive(q))
		return -ENOTCONN;
	return qmp_send_text(q->qmp, text, len, fd, reply, reply_arg);
}

static void note(struct qemu *q, enum qmp_effect effect, const struct hv_peer *who)
{
	struct qemu_by *by = &q->by[effect];

	snprintf(by->who, sizeof(by->who), "uid %d (pid %d) at the monitor", (int)who->uid,
		(int)who->pid);
	by->at = uv_now(q->hv.loop);
}

/* Recorded before the command goes out, so that its events find it (FACTS, lesson 2). */
static void intent(void *arg, const struct qmp_ask *ask, const struct hv_peer *who)
{
	struct qemu *q = arg;

	note(q, ask->effect, who);
	/* As in qemu_reset(): else it would end the run. */
	if (ask->effect == QMP_EFFECT_RESET && q->reboot_is_exit)
		qemu_set_reboot_action(q, "reset");
	if (ask->effect == QMP_EFFECT_QUIT && q->hv.cb.quitting != NULL)
		q->hv.cb.quitting(q->hv.cb.arg, q->by[ask->effect].who, false);
}

static void answered(void *arg, enum qmp_effect effect, bool good)
{
	struct qemu *q = arg;

	/* Only a move of the tray is told by an event. */
	if (good && effect == QMP_EFFECT_TRAY)
		qemu_ask_drives(q);
	/* What these events tell comes before the answer; the others' may come later. */
	if (good && effect != QMP_EFFECT_STOP && effect != QMP_EFFECT_CONT &&
		effect != QMP_EFFECT_TRAY)
		return;
	if (effect == QMP_EFFECT_RESET && q->reboot_is_exit)
		qemu_set_reboot_action(q, "shutdown");
	if (effect == QMP_EFFECT_QUIT && q->hv.cb.quitting != NULL)
		q->hv.cb.quitting(q->hv.cb.arg, q->by[effect].who, true);
	q->by[effect].who[0] = '\0';
}

static void asked(void *arg, const struct qmp_ask *ask, const struct hv_peer *who, bool refused)
{
	struct qemu *q = arg;
	const struct hv_passed p = { .who = *who,
		.command = ask->name,
		.line = ask->hmp[0] != '\0' ? ask->hmp : NULL,
		.changes = ask->changes,
		.refused = refused };

	if (q->hv.cb.passed != NULL && q->phase != QEMU_CLOSING)
		q->hv.cb.passed(q->hv.cb.arg, &p);
}

const char *qemu_take_by(struct qemu *q, enum qmp_effect effect, char out[48])
{
	struct qemu_by *by = &q->by[effect];
	bool stale = effect == QMP_EFFECT_POWERDOWN && uv_now(q->hv.loop) - by->at > POWERDOWN_MS;

	snprintf(out, sizeof(by->who), "%s", stale ? "" : by->who);
	by->who[0] = '\0';
	return out[0] != '\0' ? out : NULL;
}

int qemu_make_mux(struct qemu *q, struct err *err)
{
	const struct qmp_mux_callbacks cb = {
		.send = send_on, .intent = intent, .answered = answered, .asked = asked, .arg = q
	};

	return qmp_mux_create(&q->mux, q->hv.loop, &cb, err);
}

void qemu_execute_text(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg)
{
	qmp_mux_execute(qemu_of(hv)->mux, who, text, len, write, reply, arg);
}

int qemu_passthrough(struct hv *hv, const char *path, gid_t group, struct err *err)
{
	return qmp_mux_listen(qemu_of(hv)->mux, path, group, err);
}

void qemu_passthrough_write(struct hv *hv, bool write)
{
	qmp_mux_set_write(qemu_of(hv)->mux, write);
}
