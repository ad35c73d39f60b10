/* hv/qmp-mux-command.c - clients' commands: refused, passed on in turns, answered in order. */
#include "hv/qmp-mux-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/json-scan.h"

#define RESERVED "drover-"

static void command_free(struct mux_command *c)
{
	list_remove(&c->entry);
	list_remove(&c->flight);
	if (c->fd >= 0)
		close(c->fd);
	qmp_ask_finish(&c->ask);
	buf_finish(&c->answer);
	free(c->text);
	free(c);
}

/* ---- names of descriptors ---- */

static struct mux_fd *fd_find(struct qmp_mux *m, const char *name)
{
	struct mux_fd *f;

	list_for_each_entry (f, &m->fds, entry)
		if (str_eq(f->name, name))
			return f;
	return NULL;
}

static void fd_free(struct mux_fd *f)
{
	list_remove(&f->entry);
	free(f->name);
	free(f);
}

/* Reserves the name for its asker. */
static struct mux_fd *fd_reserve(struct mux_client *cl, const char *name)
{
	struct mux_fd *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return NULL;
	f->name = strdup(name);
	f->owner = cl;
	list_init(&f->entry);
	if (f->name == NULL) {
		fd_free(f);
		return NULL;
	}
	list_append(&cl->mux->fds, &f->entry);
	return f;
}

static void ignore_reply(void *arg, const char *text, size_t len, const struct err *err)
{
}

/* Whose client has died: QEMU would keep the descriptor for ever. */
static void fd_close(struct qmp_mux *m, struct mux_fd *f)
{
	json_t *cmd = json_pack(
		"{s:s,s:{s:s}}", "execute", "closefd", "arguments", "fdname", f->name);
	char *text = json_dumps(cmd, JSON_COMPACT);

	if (text != NULL)
		m->cb.send(m->cb.arg, text, strlen(text), -1, ignore_reply, NULL);
	free(text);
	json_decref(cmd);
	fd_free(f);
}

static bool is_under_way(struct qmp_mux *m, const struct mux_fd *f)
{
	struct mux_command *c;

	list_for_each_entry (c, &m->flight, flight)
		if (c->ask.fd == QMP_FD_GET && str_eq(c->ask.fdname, f->name))
			return true;
	return false;
}

/* What an answered getfd or closefd means for its name. */
static void fd_answered(struct mux_command *c, bool good)
{
	struct mux_fd *f = c->ask.fdname != NULL ? fd_find(c->mux, c->ask.fdname) : NULL;

	/* One that came before the connection was lost has its name back now. */
	if (f == NULL && good && c->ask.fd == QMP_FD_GET && c->ask.fdname != NULL &&
		c->client != NULL)
		f = fd_reserve(c->client, c->ask.fdname);
	if (f == NULL)
		return;
	if (c->ask.fd == QMP_FD_CLOSE) {
		if (good && f->owner == c->client)
			fd_free(f);
	} else if (good) {
		f->given = true;
		if (f->owner == NULL)
			fd_close(c->mux, f);
	} else if (!f->given && !is_under_way(c->mux, f)) {
		fd_free(f);
	}
}

static void fds_abandon(struct mux_client *cl)
{
	struct mux_fd *f, *next;

	list_for_each_entry_safe (f, next, &cl->mux->fds, entry) {
		if (f->owner != cl)
			continue;
		f->owner = NULL;
		if (f->given && !cl->mux->closing)
			fd_close(cl->mux, f);
		else if (!is_under_way(cl->mux, f))
			fd_free(f);
	}
}

/* ---- answers ---- */

/* answer is there: by itself, or when those before it are. */
static void answered(struct mux_command *c)
{
	struct mux_client *cl = c->client;

	c->answered = true;
	if (!c->sent) {
		cl->waiting -= c->len;
		free(c->text);
		c->text = NULL;
	}
	/* An API's call must not be answered from within. */
	if (cl->stream == NULL && !c->sent)
		deadline_set(&cl->mux->later, 0);
	else
		mux_command_deliver(cl);
}

static void PRINTF(3, 4) refuse(struct mux_command *c, const char *class, const char *fmt, ...)
{
	struct qmp_refusal no = { .class = class };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(no.desc, sizeof(no.desc), fmt, ap);
	va_end(ap);
	qmp_refusal_text(&c->answer, c->ask.id, &no);
}

static void fail(struct mux_command *c, int code)
{
	c->error = code;
	refuse(c, "GenericError",
		code == -ENOMEM
			? "out of memory"
			: "The connection to the monitor is lost; try again when it is back");
}

static void end_call(struct mux_client *cl, struct mux_command *c)
{
	hv_text_fn *reply = cl->reply;
	void *arg = cl->arg;
	struct buf text = c->answer;
	int code = text.bad ? -ENOMEM : c->error;
	struct err err;

	c->answer = (struct buf){ 0 };
	mux_client_drop(cl);
	if (code == -EACCES)
		err_set(&err, code, "%s", buf_str(&text));
	else if (code == -ENOMEM)
		err_nomem(&err);
	else if (code != 0)
		err_set(&err, code, "there is no connection to the monitor");
	reply(arg, code == 0 ? buf_str(&text) : NULL, text.len, code == 0 ? NULL : &err);
	buf_finish(&text);
}

void mux_command_deliver(struct mux_client *cl)
{
	struct mux_command *c;

	while (!cl->dead && (c = list_first(&cl->commands, struct mux_command, entry)) != NULL &&
		c->answered) {
		if (cl->stream == NULL) {
			end_call(cl, c);
			return;
		}
		cl->ncommands--;
		if (c->answer.bad) {
			mux_client_drop(cl);
			return;
		}
		list_remove(&c->entry);
		mux_client_give(cl, c->answer.data, c->answer.len, true);
		command_free(c);
	}
}

static void reply_came(void *arg, const char *text, size_t len, const struct err *err)
{
	struct mux_command *c = arg;
	struct mux_client *cl = c->client;
	struct qmp_mux *m = c->mux;
	bool is_socket = cl != NULL && cl->stream != NULL;
	struct json_member error;
	bool good = err == NULL;

	if (good && (c->ask.effect != QMP_EFFECT_NONE || c->ask.fd != QMP_FD_NONE))
		good = !json_find(text, len, "error", &error);
	list_remove(&c->flight);
	m->nflight--;
	mux_answer_came(m);
	if (c->ask.effect != QMP_EFFECT_NONE && err == NULL)
		m->cb.answered(m->cb.arg, c->ask.effect, good);
	if (c->ask.fd != QMP_FD_NONE)
		fd_answered(c, good);
	if (cl == NULL) {
		command_free(c);
	} else {
		cl->in_flight--;
		if (err != NULL)
			fail(c, err->code == -ENOMEM ? -ENOMEM : -ECONNRESET);
		else
			json_splice(&c->answer, text, len, "id", c->ask.id);
		answered(c);
		mux_stay_awake(m);
		/* A call of the API is gone with its answer. */
		if (is_socket)
			mux_client_settle(cl);
	}
	mux_command_run(m);
}

/* ---- taking ---- */

/* 0, or -1 when it is refused. */
static int take_fd(struct mux_client *cl, struct mux_command *c)
{
	const char *name = c->ask.fdname;
	struct mux_fd *f = name != NULL ? fd_find(cl->mux, name) : NULL;

	if (c->ask.fd == QMP_FD_NONE)
		return 0;
	if (c->ask.fd != QMP_FD_CLOSE)
		c->fd = cl->stream != NULL ? json_stream_take_fd(cl->stream) : -1;
	if (name != NULL && str_starts(name, RESERVED))
		refuse(c, "GenericError",
			"File descriptor names that begin with '" RESERVED
			"' are the supervisor's");
	else if (f != NULL && f->owner != cl)
		refuse(c, "GenericError", "File descriptor name '%s' is held by another client",
			name);
	else if (c->ask.fd != QMP_FD_CLOSE && c->fd < 0)
		/* QEMU would take one that an earlier command of anybody has left. */
		refuse(c, "GenericError", "No file descriptor supplied via SCM_RIGHTS");
	else if (c->ask.fd == QMP_FD_GET && name != NULL && f == NULL &&
		 fd_reserve(cl, name) == NULL)
		refuse(c, "GenericError", "out of memory");
	else
		return 0;
	return -1;
}

static bool may_change(const struct mux_client *cl)
{
	return cl->write || (cl->stream != NULL && cl->mux->write);
}

static void refuse_change(struct mux_client *cl, struct mux_command *c)
{
	bool hmp = c->ask.hmp[0] != '\0';

	cl->mux->cb.asked(cl->mux->cb.arg, &c->ask, &cl->who, true);
	if (cl->stream == NULL) {
		c->error = -EACCES;
		buf_printf(&c->answer,
			"%s changes the machine: `drover qmp --write` passes it on, and `qmp_write = yes` "
			"opens the machine's qmp.sock for it",
			quote(hmp ? c->ask.hmp : c->ask.name));
		return;
	}
	refuse(c, "GenericError",
		"%s changes the machine, and this socket only reads: set `qmp_write = yes` for the "
		"machine, or use `drover qmp --write`",
		quote(hmp ? c->ask.hmp : c->ask.name));
}

/* 0: it goes to the monitor; -1: the answer is there. */
static int judge(struct mux_client *cl, struct mux_command *c)
{
	struct qmp_refusal no;

	if (qmp_ask_parse(&c->ask, c->text, c->len, cl->negotiated, &no) < 0) {
		qmp_refusal_text(&c->answer, c->ask.id, &no);
		return -1;
	}
	if (c->ask.negotiates) {
		cl->negotiated = true;
		buf_printf(&c->answer, "{\"return\": {}%s%s}",
			c->ask.id != NULL ? ", \"id\": " : "", c->ask.id != NULL ? c->ask.id : "");
		return -1;
	}
	if (c->ask.changes && !may_change(cl)) {
		refuse_change(cl, c);
		return -1;
	}
	if (take_fd(cl, c) == 0)
		return 0;
	cl->mux->cb.asked(cl->mux->cb.arg, &c->ask, &cl->who, true);
	return -1;
}

void mux_command_take(struct mux_client *cl, const char *text, size_t len)
{
	struct mux_command *c = calloc(1, sizeof(*c));

	if (c != NULL)
		c->text = malloc(len);
	if (c == NULL || c->text == NULL) {
		free(c);
		mux_client_drop(cl);
		return;
	}
	memcpy(c->text, text, len);
	c->len = len;
	c->fd = -1;
	c->client = cl;
	c->mux = cl->mux;
	list_init(&c->flight);
	list_append(&cl->commands, &c->entry);
	cl->ncommands++;
	cl->waiting += len;
	if (judge(cl, c) < 0)
		answered(c);
	else
		mux_command_turn(cl);
}

/* ---- passing on ---- */

static struct mux_command *next_of(struct mux_client *cl)
{
	struct mux_command *c;

	list_for_each_entry (c, &cl->commands, entry)
		if (!c->sent && !c->answered)
			return c;
	return NULL;
}

void mux_command_turn(struct mux_client *cl)
{
	if (!cl->dead && list_empty(&cl->turn) && cl->in_flight < MUX_FLIGHT_CLIENT &&
		cl->out.len < MUX_OUT_HIGH && next_of(cl) != NULL)
		list_append(&cl->mux->turns, &cl->turn);
}

static void send_one(struct mux_client *cl, struct mux_command *c)
{
	struct qmp_mux *m = cl->mux;
	int r;

	if (c->ask.effect != QMP_EFFECT_NONE)
		m->cb.intent(m->cb.arg, &c->ask, &cl->who);
	r = m->cb.send(m->cb.arg, c->text, c->len, c->fd, reply_came, c);
	if (r < 0) {
		if (c->ask.effect != QMP_EFFECT_NONE)
			m->cb.answered(m->cb.arg, c->ask.effect, false);
		fd_answered(c, false);
		fail(c, r);
		answered(c);
		return;
	}
	c->sent = true;
	cl->waiting -= c->len;
	free(c->text);
	c->text = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	cl->in_flight++;
	m->nflight++;
	list_append(&m->flight, &c->flight);
	mux_stay_awake(m);
	/* While the monitor is at it: the record costs a write to the disk. */
	m->cb.asked(m->cb.arg, &c->ask, &cl->who, false);
}

void mux_command_run(struct qmp_mux *m)
{
	struct mux_client *cl;

	/* What a failure gives out may come back here. */
	if (m->running || m->closing)
		return;
	m->running = true;
	while (m->nflight < MUX_FLIGHT_MAX &&
		(cl = list_first(&m->turns, struct mux_client, turn)) != NULL) {
		struct mux_command *c = next_of(cl);

		list_remove(&cl->turn);
		if (c == NULL)
			continue;
		send_one(cl, c);
		mux_client_settle(cl);
	}
	m->running = false;
}

/* ---- ends ---- */

void mux_command_abandon(struct mux_client *cl)
{
	struct mux_command *c;

	fds_abandon(cl);
	list_remove(&cl->turn);
	while ((c = list_first(&cl->commands, struct mux_command, entry)) != NULL) {
		list_remove(&c->entry);
		c->client = NULL;
		if (!c->sent || c->answered)
			command_free(c);
	}
}

void mux_command_lost(struct qmp_mux *m)
{
	struct mux_command *c;
	struct err err;

	err_set(&err, -ECONNRESET, "the connection to the monitor was closed");
	while ((c = list_first(&m->flight, struct mux_command, flight)) != NULL)
		reply_came(c, NULL, 0, &err);
	/* A name belongs to a connection: whoever uses it in the next one gets it anew. */
	while (!list_empty(&m->fds))
		fd_free(list_first(&m->fds, struct mux_fd, entry));
}
