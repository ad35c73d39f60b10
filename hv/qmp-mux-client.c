/* hv/qmp-mux-client.c - a client of the multiplexer: what it says, and what it is told. */
#include "hv/qmp-mux-private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"

static void message(void *arg, const char *data, size_t len)
{
	struct mux_client *cl = arg;
	struct qmp_mux *m = cl->mux;

	mux_command_take(cl, data, len);
	mux_client_settle(cl);
	mux_command_run(m);
}

static void writable(void *arg)
{
	struct mux_client *cl = arg;

	mux_client_flush(cl);
	mux_client_settle(cl);
	mux_command_run(cl->mux);
}

static void broken(void *arg, const struct err *err)
{
	mux_client_drop(arg);
}

static void eof(void *arg)
{
	struct mux_client *cl = arg;

	cl->eof = true;
	mux_client_settle(cl);
}

struct mux_client *mux_client_new(struct qmp_mux *m, const struct hv_peer *who)
{
	struct mux_client *cl = calloc(1, sizeof(*cl));

	if (cl == NULL)
		return NULL;
	cl->mux = m;
	cl->who = *who;
	list_init(&cl->turn);
	list_init(&cl->commands);
	list_append(&m->clients, &cl->entry);
	return cl;
}

void mux_client_add(struct qmp_mux *m, int fd, const struct hv_peer *who)
{
	struct mux_client *cl = mux_client_new(m, who);
	const struct json_stream_callbacks cb = { .message = message,
		.writable = writable,
		.broken = broken,
		.eof = eof,
		.arg = cl,
		.lenient = true,
		.keep_fds = true };
	struct err err;

	if (cl == NULL) {
		close(fd);
		return;
	}
	if (json_stream_create(&cl->stream, m->loop, fd, &cb, &err) < 0) {
		log_warn("%s: ignoring a client: %s", quote(m->path), err.msg);
		list_remove(&cl->entry);
		free(cl);
		return;
	}
	m->handles++;
	m->nclients++;
	mux_client_greet(cl);
	mux_client_settle(cl);
}

void mux_client_greet(struct mux_client *cl)
{
	struct qmp_mux *m = cl->mux;

	if (cl->stream == NULL || cl->greeted || m->greeting == NULL)
		return;
	cl->greeted = true;
	mux_client_give(cl, m->greeting, strlen(m->greeting), true);
}

void mux_client_flush(struct mux_client *cl)
{
	ssize_t n;

	if (cl->dead || cl->out.len == 0)
		return;
	n = json_stream_write(cl->stream, cl->out.data, cl->out.len, -1);
	if (n < 0) {
		mux_client_drop(cl);
		return;
	}
	/* A large buffer goes back when it is empty. */
	if ((size_t)n == cl->out.len && cl->out.cap > MUX_OUT_HIGH)
		buf_finish(&cl->out);
	else
		buf_drop(&cl->out, (size_t)n);
}

void mux_client_give(struct mux_client *cl, const char *text, size_t len, bool now)
{
	if (cl->dead)
		return;
	if (!now && cl->out.len > MUX_OUT_MAX) {
		log_warn(
			"%s: cut off a client that does not read (uid %d, pid %d): %zu KiB wait for it",
			quote(cl->mux->path), (int)cl->who.uid, (int)cl->who.pid,
			cl->out.len >> 10);
		mux_client_drop(cl);
		return;
	}
	buf_add(&cl->out, text, len);
	buf_adds(&cl->out, "\r\n");
	if (cl->out.bad)
		mux_client_drop(cl);
	else if (now)
		mux_client_flush(cl);
	else if (!deadline_armed(&cl->mux->later))
		deadline_set(&cl->mux->later, 0);
}

void mux_client_settle(struct mux_client *cl)
{
	bool full = cl->ncommands >= MUX_COMMANDS_MAX || cl->waiting > MUX_WAITING_BYTES ||
		    cl->out.len >= MUX_OUT_HIGH;

	if (cl->dead)
		return;
	mux_command_turn(cl);
	if (cl->stream == NULL)
		return;
	if (cl->eof && list_empty(&cl->commands) && cl->out.len == 0)
		mux_client_drop(cl);
	else
		json_stream_pause(cl->stream, full || !cl->greeted);
}

static void stream_closed(void *arg)
{
	struct mux_client *cl = arg;
	struct qmp_mux *m = cl->mux;

	buf_finish(&cl->out);
	free(cl);
	mux_part_closed(m);
}

void mux_client_drop(struct mux_client *cl)
{
	if (cl->dead)
		return;
	cl->dead = true;
	list_remove(&cl->entry);
	mux_command_abandon(cl);
	if (cl->stream != NULL) {
		cl->mux->nclients--;
		json_stream_close(cl->stream, stream_closed, cl);
	} else {
		buf_finish(&cl->out);
		free(cl);
	}
}
