/* hv/ch-ops.c - what a machine's owner asks of a running cloud-hypervisor. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

static void op_free(struct ch_op *op)
{
	list_remove(&op->list);
	free(op);
}

/* Without a call. */
static void op_drop(struct ch_op *op)
{
	if (op->owns_arg)
		free(op->arg);
	op_free(op);
}

/* The only exit of an operation. reply is NULL with err. */
static void op_complete(struct ch_op *op, const json_t *reply, const struct err *err)
{
	struct ch_op o = *op;

	if (o.c->phase == CH_CLOSING) {
		op_drop(op);
		return;
	}
	op_free(op);
	if (err != NULL && o.expect != NULL && *o.expect > 0 && err->code != -ETIMEDOUT)
		--*o.expect;
	if (err != NULL && o.intent != NULL && err->code != -ETIMEDOUT)
		*o.intent = false;
	if (err == NULL && o.good != NULL)
		o.good(o.c, &o);
	if (o.c->phase == CH_CLOSING)
		return;
	if (o.reply != NULL)
		o.reply(o.arg, reply, err);
	else if (o.done != NULL)
		o.done(o.arg, err);
}

static void op_answered(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_op *op = arg;
	struct ch *c = op->c;
	json_t *reply = NULL;

	if (op->expect != NULL && (err == NULL || err->code != -ETIMEDOUT))
		deadline_set(&c->settle, CH_SETTLE_MS);
	if (err != NULL && a == NULL && op->lost_is_done && err->code != -ETIMEDOUT)
		err = NULL;
	if (err == NULL && a != NULL)
		reply = ch_parse(a->text, a->len);
	if (err == NULL && reply == NULL)
		reply = json_object();
	if (err == NULL && op->convert != NULL) {
		json_t *other = op->convert(reply);

		json_decref(reply);
		reply = other;
	}
	op_complete(op, err == NULL ? reply : NULL, err);
	json_decref(reply);
}

/* Fills in the record of an operation; NULL (and its owner told) without memory. */
static struct ch_op *op_new(struct ch *c, const struct ch_op *values)
{
	struct ch_op *op = malloc(sizeof(*op));
	struct err err;

	if (op != NULL) {
		*op = *values;
		op->c = c;
		list_append(&c->ops, &op->list);
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

void ch_op_later(struct ch *c, const struct err *err, const struct ch_op *values)
{
	struct ch_op *op = op_new(c, values);

	if (op == NULL)
		return;
	op->expect = NULL;
	op->intent = NULL;
	op->good = NULL;
	if (err != NULL)
		op->fail = *err;
	else
		op->fail.code = 1;
	deadline_set(&c->later, 0);
}

void ch_op_send(struct ch *c, const struct ch_request *r, const struct ch_op *values)
{
	struct ch_request mine = *r;
	struct err err;

	if (c->api == NULL || !ch_alive(c)) {
		err_set(&err, c->phase == CH_GONE || c->phase == CH_IDLE ? -ESRCH : -EHOSTUNREACH,
			c->phase == CH_GONE || c->phase == CH_IDLE
				? "the hypervisor is gone"
				: "there is no connection to the API");
		ch_op_later(c, &err, values);
		return;
	}
	mine.done = op_answered;
	mine.arg = op_new(c, values);
	if (mine.arg == NULL)
		return;
	/* Before the request goes out, so that its events find it (lesson 2). */
	if (values->expect != NULL) {
		++*values->expect;
		deadline_cancel(&c->settle);
	}
	if (values->intent != NULL)
		*values->intent = true;
	ch_api_send(c->api, &mine);
}

/* Those that were never sent, and all of them once the process is gone. */
void ch_fail_ops(struct ch *c)
{
	struct list mine;
	struct ch_op *op;
	struct err gone;
	json_t *nothing = json_object();

	err_set(&gone, -ESRCH, "the hypervisor is gone");
	list_init(&mine);
	list_splice(&mine, &c->ops);
	while ((op = list_first(&mine, struct ch_op, list)) != NULL) {
		struct err fail = op->fail;

		list_remove(&op->list);
		if (c->phase == CH_CLOSING)
			op_drop(op);
		else if (fail.code == 1)
			op_complete(op, nothing, NULL);
		else if (fail.code != 0)
			op_complete(op, NULL, &fail);
		else if (c->phase == CH_GONE)
			op_complete(op, op->lost_is_done ? nothing : NULL,
				op->lost_is_done ? NULL : &gone);
		else
			list_append(&c->ops, &op->list);
	}
	json_decref(nothing);
}

void ch_forget_ops(struct ch *c)
{
	while (!list_empty(&c->ops))
		op_drop(list_first(&c->ops, struct ch_op, list));
}

/* ---- the operations ---- */

static void put(struct ch *c, const char *path, const struct ch_op *op)
{
	struct ch_request r = { .method = "PUT", .path = path };

	ch_op_send(c, &r, op);
}

/* Answers come in the order of the requests, unlike events. */
static void paused(struct ch *c, const struct ch_op *op)
{
	ch_set_status(c, c->held ? HV_STATUS_PANICKED : HV_STATUS_PAUSED, true, NULL, "paused");
}

static void resumed(struct ch *c, const struct ch_op *op)
{
	c->held = false;
	ch_set_status(c, HV_STATUS_RUNNING, true, NULL, "running");
}

/* Whether it is that already, and nothing that we have asked for will change it. */
static bool is_so(const struct ch *c, enum hv_status status, unsigned opposite)
{
	return c->hv.status == status && opposite == 0 && !c->hv.unresponsive && ch_alive(c);
}

void ch_pause(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	struct ch_op op = { .done = done, .arg = arg, .good = paused, .expect = &c->intents.pause };

	/* A second time is an error there and none here. */
	if (is_so(c, HV_STATUS_PAUSED, c->intents.resume)) {
		ch_op_later(c, NULL, &op);
		return;
	}
	c->intents.runs = false;
	put(c, "/vm.pause", &op);
}

void ch_resume(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	struct ch_op op = {
		.done = done, .arg = arg, .good = resumed, .expect = &c->intents.resume
	};
	struct err err;

	if (ch_migrate_resume(c, done, arg))
		return;
	/* One that has come here went when an earlier daemon did, and so did its memory. */
	if (c->incoming && hv->status == HV_STATUS_INCOMING && c->phase == CH_UP) {
		process_signal(c->process, SIGKILL);
		err_set(&err, -ESRCH, "the guest is not in it any more");
		ch_op_later(c, &err, &op);
		return;
	}
	if (is_so(c, HV_STATUS_RUNNING, c->intents.pause)) {
		ch_op_later(c, NULL, &op);
		return;
	}
	c->intents.runs = true;
	put(c, hv->status == HV_STATUS_CREATED ? "/vm.boot" : "/vm.resume", &op);
}

void ch_powerdown(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	struct ch_op op = { .done = done, .arg = arg, .intent = &c->intents.powerdown };

	put(c, "/vm.power-button", &op);
}

void ch_reset(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	struct ch_op op = { .done = done, .arg = arg, .expect = &c->intents.reset };
	/* It ends the old guest's threads and loads the kernel again. */
	struct ch_request r = { .method = "PUT", .path = "/vm.reboot", .timeout_ms = 30000 };

	ch_op_send(c, &r, &op);
}

void ch_quit(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	struct ch_op op = {
		.done = done, .arg = arg, .intent = &c->intents.quit, .lost_is_done = true
	};

	if (ch_migrate_quit(c))
		ch_op_later(c, NULL, &op);
	else
		put(c, "/vmm.shutdown", &op);
}

int ch_kill(struct hv *hv, int sig)
{
	struct ch *c = ch_of(hv);
	int r;

	if (c->process == NULL)
		return -ESRCH;
	if (sig == SIGTERM || sig == SIGINT)
		c->intents.signal = true;
	/* One that stands still obeys no other. */
	if (c->frozen && sig == SIGTERM)
		sig = SIGKILL;
	r = process_signal(c->process, sig);
	if (c->frozen && sig == SIGKILL)
		ch_let_end(c);
	return r;
}

/* {"method": "PUT", "path": "/vm.resize", "body": {...}} */
void ch_execute(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	struct ch_op op = { .reply = reply, .arg = arg };
	struct ch_request r = { .method = json_str(cmd, "method"),
		.path = json_str(cmd, "path"),
		.body = json_object_get(cmd, "body"),
		.timeout_ms = timeout_ms };
	struct err err;

	if (r.method != NULL && r.path != NULL && r.path[0] == '/') {
		ch_op_send(ch_of(hv), &r, &op);
		return;
	}
	err_set(&err, -EINVAL, "a request has a method and a path");
	ch_op_later(ch_of(hv), &err, &op);
}

void ch_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	struct ch_op op = { .reply = reply, .arg = arg };
	struct ch_request r = { .method = "GET", .path = "/vmm.ping", .timeout_ms = timeout_ms };
	struct ch *c = ch_of(hv);

	/* It is at work, and says nothing to anybody before that is done. */
	if (c->frozen || (c->api != NULL && ch_api_busy(c->api)))
		ch_op_later(c, NULL, &op);
	else
		ch_op_send(c, &r, &op);
}

void ch_agent(struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	struct ch_op op = { .reply = reply, .arg = arg };
	struct err err;

	err_set(&err, -ENOENT, "cloud-hypervisor has no port for a guest agent");
	ch_op_later(ch_of(hv), &err, &op);
}

void ch_agent_forget(struct hv *hv, const void *arg)
{
	struct ch_op *op, *next;
	struct ch *c = ch_of(hv);

	list_for_each_entry_safe (op, next, &c->ops, list)
		if (op->arg == arg && op->fail.code == -ENOENT)
			op_free(op);
}

int ch_console_write(struct hv *hv, const char *data, size_t len)
{
	struct ch *c = ch_of(hv);

	return c->console == NULL ? -ENOTCONN : serial_write(c->console, data, len);
}

void ch_nmi(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };

	put(ch_of(hv), "/vm.nmi", &op);
}

/* {"disk0": {"read_bytes": 0}, "nic0": {"rx_bytes": 0}} sorted, and in the words of hv.h. */
static json_t *sorted_counters(const json_t *reply)
{
	json_t *out = json_pack("{s:{},s:{},s:{}}", "disks", "nics", "others"), *mine;
	const char *id, *key, *group;
	json_t *of, *value;

	json_object_foreach ((json_t *)reply, id, of) {
		group = json_object_get(of, "read_bytes") != NULL ? "disks"
			: json_object_get(of, "rx_bytes") != NULL ? "nics"
								  : "others";
		mine = json_object();
		json_object_set_new(json_object_get(out, group), id, mine);
		json_object_foreach (of, key, value) {
			char *word = strdup(key);

			for (char *p = word; p != NULL && *p != '\0'; p++)
				if (*p == '_')
					*p = '-';
			if (word != NULL)
				json_object_set(mine, word, value);
			free(word);
		}
	}
	return out;
}

void ch_counters(struct hv *hv, hv_reply_fn *reply, void *arg)
{
	struct ch_op op = { .reply = reply, .arg = arg, .convert = sorted_counters };
	struct ch_request r = { .method = "GET", .path = "/vm.counters" };

	ch_op_send(ch_of(hv), &r, &op);
}
