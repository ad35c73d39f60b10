/* hv/qemu-ops.c - what a machine's owner asks of a running QEMU. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu.h"
#include "hv/qemu-row.h"

#define CONT_TRIES 5000 /* a round trip each */

/* An operation under way: what its owner asked for. */
struct op {
	struct list list;
	struct qemu *q;
	hv_done_fn *done;
	hv_reply_fn *reply;
	void *arg;
	bool *intent;     /* to be taken back when the command fails */
	bool ends_intent; /* also when it succeeds: the events have come before the reply */
	bool asks_status; /* afterwards */
	int fail;         /* not sent; told by `later` */
	unsigned tries;   /* more of them, should a migration just come to its end */
};

static void op_free(struct op *op)
{
	list_remove(&op->list);
	free(op);
}

static void op_complete(struct op *op, const json_t *reply, const struct err *err)
{
	struct op o = *op;

	op_free(op);
	if (o.intent != NULL && (err != NULL || o.ends_intent))
		*o.intent = false;
	if (o.reply != NULL)
		o.reply(o.arg, reply, err);
	else if (o.done != NULL)
		o.done(o.arg, err);
	if (o.asks_status && qemu_alive(o.q))
		qemu_ask_status(o.q);
}

static void op_failed(struct op *op)
{
	struct err err;

	if (op->q->phase == QEMU_GONE || op->q->phase == QEMU_IDLE)
		err_set(&err, -ESRCH, "the hypervisor is gone");
	else if (op->fail == -ENOMEM)
		err_nomem(&err);
	else
		err_set(&err, op->fail, "there is no connection to the monitor");
	op_complete(op, NULL, &err);
}

/* Those that were never sent, and all of them once the process is gone. */
void qemu_fail_ops(struct qemu *q)
{
	struct list mine;
	struct op *op;

	list_init(&mine);
	list_splice(&mine, &q->ops);
	while ((op = list_first(&mine, struct op, list)) != NULL) {
		list_remove(&op->list);
		if (q->phase == QEMU_CLOSING)
			op_free(op);
		else if (op->fail != 0 || q->phase == QEMU_GONE)
			op_failed(op);
		else
			list_append(&q->ops, &op->list);
	}
	if (q->phase == QEMU_GONE) {
		qemu_rows_fail(q);
		qemu_dump_fail(q);
	}
}

/*
 * A migration has told that it is complete, or was cancelled, a moment before QEMU lets the guest go
 * on: "Migration is not finalized yet" (QEMU, monitor/qmp-cmds.c, qmp_cont()).
 */
static bool is_not_finalized(const struct err *err)
{
	return err != NULL && strstr(err->msg, "not finalized") != NULL;
}

static void op_replied(void *arg, const json_t *reply, const struct err *err)
{
	struct op *op = arg;
	struct qmp *qmp = op->q->qmp;

	if (op->tries > 0 && is_not_finalized(err) && qmp != NULL) {
		op->tries--;
		if (qmp_command(qmp, "cont", NULL, NULL, op_replied, op) == 0)
			return;
	}
	op_complete(op, reply, err);
}

/* Fills in the record of an operation; NULL (and its owner told) without memory. */
static struct op *op_new(struct qemu *q, const struct op *values)
{
	struct op *op = malloc(sizeof(*op));
	struct err err;

	if (op != NULL) {
		*op = *values;
		op->q = q;
		list_append(&q->ops, &op->list);
		return op;
	}
	/* The one case where the answer comes from within the call: nothing can be remembered. */
	err_nomem(&err);
	if (values->reply != NULL)
		values->reply(values->arg, NULL, &err);
	else if (values->done != NULL)
		values->done(values->arg, &err);
	return NULL;
}

static void op_send(
	struct qemu *q, const json_t *cmd, const struct qmp_opts *opts, const struct op *values)
{
	struct op *op = op_new(q, values);

	if (op == NULL)
		return;
	if (cmd == NULL)
		op->fail = -ENOMEM;
	else if (q->qmp == NULL)
		op->fail = -EHOSTUNREACH;
	if (op->fail == 0) {
		/* Before the command goes out, so that its events find it (lesson 2). */
		if (op->intent != NULL)
			*op->intent = true;
		op->fail = qmp_send(q->qmp, cmd, opts, op_replied, op);
	}
	if (op->fail != 0)
		deadline_set(&q->later, 0);
}

void qemu_send(struct qemu *q, const json_t *cmd, const struct qmp_opts *opts, hv_reply_fn *reply,
	void *arg)
{
	struct op op = { .reply = reply, .arg = arg };

	op_send(q, cmd, opts, &op);
}

static void op_command(
	struct qemu *q, const char *name, const struct qmp_opts *opts, const struct op *values)
{
	json_t *cmd = json_pack("{s:s}", "execute", name);

	op_send(q, cmd, opts, values);
	json_decref(cmd);
}

void qemu_pause(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct op op = { .done = done,
		.arg = arg,
		.intent = &q->intents.pause,
		.ends_intent = true,
		.asks_status = true };

	op_command(q, "stop", NULL, &op);
}

void qemu_resume(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct op op = { .done = done,
		.arg = arg,
		.intent = &q->intents.resume,
		.ends_intent = true,
		.tries = CONT_TRIES };

	op_command(q, "cont", NULL, &op);
}

void qemu_powerdown(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct op op = { .done = done, .arg = arg, .intent = &q->intents.powerdown };

	op_command(q, "system_powerdown", NULL, &op);
}

void qemu_set_reboot_action(struct qemu *q, const char *action)
{
	json_t *args = json_pack("{s:s}", "reboot", action);

	if (args != NULL && q->qmp != NULL)
		qmp_command(q->qmp, "set-action", args, NULL, NULL, NULL);
	json_decref(args);
}

void qemu_reset(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct op op = { .done = done, .arg = arg, .intent = &q->intents.reset };

	/*
	 * With reboot=shutdown QEMU would take our reset for a reboot too, and end; so it would the
	 * further resets of the firmware. The old action comes back when those are over.
	 */
	if (q->reboot_is_exit)
		qemu_set_reboot_action(q, "reset");
	op_command(q, "system_reset", NULL, &op);
}

void qemu_reset_settled(void *arg)
{
	qemu_set_reboot_action(arg, "shutdown");
}

void qemu_quit(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct op op = { .done = done, .arg = arg, .intent = &q->intents.quit };
	struct qmp_opts opts = { .sent_is_done = true };

	op_command(q, "quit", &opts, &op);
}

int qemu_kill(struct hv *hv, int sig)
{
	struct qemu *q = qemu_of(hv);

	if (q->process == NULL)
		return -ESRCH;
	if (sig == SIGTERM || sig == SIGINT || sig == SIGHUP)
		q->intents.signal = true;
	return process_signal(q->process, sig);
}

void qemu_execute(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	struct qmp_opts opts = { .timeout_ms = timeout_ms };

	qemu_send(qemu_of(hv), cmd, &opts, reply, arg);
}

int qemu_console_write(struct hv *hv, const char *data, size_t len)
{
	struct qemu *q = qemu_of(hv);

	return q->console == NULL ? -ENOTCONN : serial_write(q->console, data, len);
}

void qemu_forget_ops(struct qemu *q)
{
	while (!list_empty(&q->ops))
		op_free(list_first(&q->ops, struct op, list));
	qemu_rows_forget(q);
	qemu_inspect_forget(q);
}
