/*
 * hv/qmp-private.h - between qmp.c (the connection: greeting, events, replies, its end) and
 * qmp-command.c (the commands: their deadlines, their way out). Loop thread. Times in ms.
 */
#ifndef DROVER_HV_QMP_PRIVATE_H
#define DROVER_HV_QMP_PRIVATE_H

#include "hv/qmp.h"
#include "hv/json-stream.h"
#include "lib/deadline.h"
#include "lib/list.h"

#define NO_DEADLINE UINT64_MAX

enum outcome {
	WAITING,
	WRITTEN, /* and that is all its owner wants */
	FAILED
};

struct command {
	struct list list; /* in queued or sent */
	uint64_t id, due; /* due in the loop's time */
	enum outcome outcome;
	struct err *why; /* of FAILED */
	char name[48];
	char *text; /* until it is written */
	size_t len, off;
	int fd;
	bool had_fd;
	bool abandoned; /* timed out half written: the rest must follow, the reply is dropped */
	bool sent_is_done;
	qmp_reply_fn *reply;
	qmp_text_fn *text_reply; /* in place of reply: the command is foreign text */
	void *arg;
};

enum state {
	QMP_GREETING,
	QMP_NEGOTIATING,
	QMP_READY,
	QMP_LOST,
	QMP_CLOSING
};

struct qmp {
	struct json_stream *stream; /* NULL once the connection has ended */
	struct deadline timer;      /* the earliest due of all commands */
	uv_loop_t *loop;
	struct qmp_callbacks cb;
	enum state state;
	uint64_t next_id;
	struct list queued, sent; /* in the order of the calls */
	struct command *greet;    /* qmp_capabilities, the only one to go before QMP_READY */
	json_t *greeting;
	bool write_broken;
	unsigned handles; /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

static inline bool qmp_usable(const struct qmp *q)
{
	return q->state == QMP_GREETING || q->state == QMP_NEGOTIATING || q->state == QMP_READY;
}

/* Unlinks it too. Calls nobody. */
void qmp_command_free(struct command *c);
/* Frees c, then calls its owner, who may destroy the client. */
void qmp_complete(struct command *c, const json_t *reply, const struct err *err);
/* NULL without memory. */
struct command *qmp_command_new(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts,
	qmp_reply_fn *reply, void *arg);
/* Writes what can be written now. Calls nobody. */
void qmp_flush(struct qmp *q);
/* The timer's: gives up what is due. arg is the client. */
void qmp_timer_fired(void *arg);

#endif
