/* hv/ch-text.c - requests of somebody else to cloud-hypervisor's API: "PUT /vm.resize {...}". */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

#define BASE "/api/v1"

/* Requests whose doing an event tells, and those that take their time. */
static const struct {
	const char *path;
	int effect; /* -1: none */
	bool slow;
} known[] = {
	{ "/vm.pause", CH_EFFECT_PAUSE, false },
	{ "/vm.resume", CH_EFFECT_RESUME, false },
	{ "/vm.boot", CH_EFFECT_RESUME, true },
	{ "/vm.reboot", CH_EFFECT_RESET, true },
	{ "/vm.power-button", CH_EFFECT_POWERDOWN, false },
	{ "/vm.shutdown", CH_EFFECT_SHUTDOWN, false },
	{ "/vm.delete", CH_EFFECT_SHUTDOWN, false },
	{ "/vmm.shutdown", CH_EFFECT_QUIT, false },
	{ "/vm.snapshot", -1, true },
	{ "/vm.restore", -1, true },
	{ "/vm.coredump", -1, true },
	{ "/vm.send-migration", -1, true },
	{ "/vm.receive-migration", -1, true },
};

static const char *word(const char *p, const char *end, char *out, size_t cap)
{
	size_t n = 0;

	while (p < end && strchr(" \t\r\n", *p) != NULL)
		p++;
	while (p < end && strchr(" \t\r\n", *p) == NULL && n + 1 < cap)
		out[n++] = *p++;
	out[n] = '\0';
	return p;
}

/* A path is of the names that the API has, so that nothing else gets into the request line. */
static bool is_path(const char *s)
{
	return s[0] == '/' &&
	       s[strspn(s, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")] ==
		       '\0';
}

int ch_line_parse(const char *text, size_t len, struct ch_line *out, struct err *err)
{
	const char *end = text + len, *p;
	struct ch_line l = { 0 };
	char path[sizeof(l.path) + sizeof(BASE)];
	json_t *v;

	p = word(text, end, l.method, sizeof(l.method));
	p = word(p, end, path, sizeof(path));
	snprintf(l.path, sizeof(l.path), "%s",
		str_starts(path, BASE "/") ? path + sizeof(BASE) - 1 : path);
	while (p < end && strchr(" \t\r\n", *p) != NULL)
		p++;
	if ((strcmp(l.method, "GET") != 0 && strcmp(l.method, "PUT") != 0) || !is_path(l.path))
		return err_set(err, -EINVAL,
			"not a request: expected GET or PUT and a path, as in GET /vm.info");
	if (p < end) {
		if (json_parse(p, (size_t)(end - p), &v, err) < 0)
			return err_wrap(err, "the body");
		json_decref(v);
	}
	l.body = p;
	l.changes = strcmp(l.method, "GET") != 0;
	*out = l;
	return 0;
}

struct text_call {
	struct list list; /* of c->ops by its op */
	struct ch *c;
	int effect;
	hv_text_fn *reply;
	void *arg;
};

static void note(struct ch *c, int effect, const struct hv_peer *who)
{
	snprintf(c->by[effect], sizeof(c->by[effect]), "uid %d (pid %d) at the monitor",
		(int)who->uid, (int)who->pid);
	if (effect == CH_EFFECT_QUIT && c->hv.cb.quitting != NULL)
		c->hv.cb.quitting(c->hv.cb.arg, c->by[effect], false);
}

static void take_back(struct ch *c, int effect)
{
	if (effect == CH_EFFECT_QUIT && c->hv.cb.quitting != NULL && c->by[effect][0] != '\0')
		c->hv.cb.quitting(c->hv.cb.arg, c->by[effect], true);
	c->by[effect][0] = '\0';
}

/*
 * An answer as text: {"status": 200, "return": ...} or {"status": 404, "error": [...]}, the body as it
 * came, since there are numbers in it that jansson has not.
 */
static char *answer_text(const struct ch_answer *a, const struct err *err)
{
	json_t *body = a->len > 0 ? ch_parse(a->text, a->len) : NULL;
	struct buf text = { 0 };
	char *quoted = NULL;

	buf_printf(&text, "{\"status\":%d,\"%s\":", a->status, err != NULL ? "error" : "return");
	if (body != NULL) {
		buf_add(&text, a->text, a->len);
	} else if (a->len > 0) {
		json_t *s = json_str_new(a->text);

		quoted = json_text(s);
		json_decref(s);
		buf_adds(&text, quoted != NULL ? quoted : "\"\"");
	} else {
		buf_adds(&text, err != NULL ? "[]" : "{}");
	}
	buf_adds(&text, "}");
	free(quoted);
	json_decref(body);
	return buf_steal(&text);
}

static void text_done(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_op *op = arg;
	struct text_call *t = op->arg;
	struct ch *c = op->c;
	hv_text_fn *reply = t->reply;
	void *reply_arg = t->arg;
	int effect = t->effect;
	char *text = a != NULL ? answer_text(a, err) : NULL;
	struct err mine;

	list_remove(&op->list);
	free(op);
	free(t);
	if (effect >= 0 && a != NULL && err != NULL)
		take_back(c, effect);
	/* The event of what succeeded comes, or has come, or was lost. */
	if (effect >= 0 && effect != CH_EFFECT_POWERDOWN && effect != CH_EFFECT_QUIT)
		deadline_set(&c->settle, CH_SETTLE_MS);
	if (text != NULL)
		reply(reply_arg, text, strlen(text), NULL);
	else if (a == NULL)
		reply(reply_arg, NULL, 0, err);
	else
		reply(reply_arg, NULL, 0, (err_nomem(&mine), &mine));
	free(text);
}

/* Without an answer: it was refused, or the hypervisor has gone. */
static void text_failed(void *arg, const json_t *none, const struct err *err)
{
	struct text_call *t = arg;
	hv_text_fn *reply = t->reply;
	void *reply_arg = t->arg;

	free(t);
	reply(reply_arg, NULL, 0, err);
}

static void send_line(struct ch *c, const struct ch_line *l, const char *body, struct text_call *t)
{
	struct ch_op *op = calloc(1, sizeof(*op));
	struct ch_request r = { .method = l->method,
		.path = l->path,
		.text = body[0] != '\0' ? body : NULL,
		.timeout_ms = UINT64_MAX,
		.done = text_done,
		.arg = op };
	struct ch_op values = { .reply = text_failed, .arg = t, .owns_arg = true };
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(known[i].path, l->path) == 0)
			r.slow = known[i].slow;
	if (op == NULL) {
		err_nomem(&err);
		ch_op_later(c, &err, &values);
		return;
	}
	/* In the list of the operations, so that it is answered for when the process goes. */
	*op = values;
	op->c = c;
	list_append(&c->ops, &op->list);
	ch_api_send(c->api, &r);
}

void ch_execute_text(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg)
{
	struct text_call *t = calloc(1, sizeof(*t));
	struct ch_op values = { .reply = text_failed, .arg = t, .owns_arg = true };
	struct ch *c = ch_of(hv);
	struct hv_passed passed = { .who = *who };
	struct ch_line line = { 0 };
	struct err err = { 0 };
	char command[80], *copy = t != NULL ? strndup(text, len) : NULL;

	if (copy == NULL) {
		free(t);
		err_nomem(&err);
		reply(arg, NULL, 0, &err);
		return;
	}
	*t = (struct text_call){ .c = c, .effect = -1, .reply = reply, .arg = arg };
	if (ch_line_parse(copy, strlen(copy), &line, &err) == 0) {
		snprintf(command, sizeof(command), "%s %s", line.method, line.path);
		passed.command = command;
		passed.line = line.body[0] != '\0' ? line.body : NULL;
		passed.changes = line.changes;
		passed.refused = line.changes && !write;
		if (c->hv.cb.passed != NULL)
			c->hv.cb.passed(c->hv.cb.arg, &passed);
	}
	if (err.code == 0 && passed.refused)
		err_set(&err, -EACCES, "%s may change something: that needs --write", command);
	else if (err.code == 0 && (c->api == NULL || !ch_alive(c)))
		err_set(&err, -ENOTCONN, "there is no connection to the API");
	for (size_t i = 0; err.code == 0 && line.changes && i < ARRAY_LEN(known); i++)
		if (strcmp(known[i].path, line.path) == 0)
			t->effect = known[i].effect;
	if (err.code != 0) {
		ch_op_later(c, &err, &values);
	} else {
		if (t->effect >= 0)
			note(c, t->effect, who);
		send_line(c, &line, line.body, t);
	}
	free(copy);
}

/* There is none: its API has one client's view of one request at a time. `drover ch` is for that. */
int ch_passthrough(struct hv *hv, const char *path, gid_t group, struct err *err)
{
	return 0;
}

void ch_passthrough_write(struct hv *hv, bool write)
{
	/* Each request of `drover ch` says so itself. */
}
