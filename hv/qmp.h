/*
 * hv/qmp.h - a client of QEMU's monitor protocol (QMP) on a connected Unix socket. Loop thread.
 * Times in ms.
 *
 * Negotiates by itself; commands given before that wait. Ids are our own, so that a late reply is
 * known as such and dropped. Messages as in hv/json-stream.h (query-qmp-schema alone has hundreds of
 * KiB).
 */
#ifndef DROVER_HV_QMP_H
#define DROVER_HV_QMP_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>
#include "lib/err.h"

#define QMP_TIMEOUT_MS 5000

struct qmp;

/* All come from the loop; each may be NULL, and each may call qmp_destroy(). */
struct qmp_callbacks {
	/* Capabilities are negotiated. greeting is the value of "QMP". */
	void (*ready)(void *arg, const json_t *greeting);
	void (*event)(void *arg, const char *name, const json_t *event);
	/* The same event's text, as QEMU wrote it, before `event`. */
	void (*event_text)(void *arg, const char *text, size_t len);
	/* A whole message has come, whatever it is; before it is acted on. */
	void (*alive)(void *arg);
	/* A command's deadline has passed; its reply function has been called already. */
	void (*late)(void *arg, const char *command);
	/* EOF or a broken stream. The commands under way have failed already. The last callback. */
	void (*lost)(void *arg, const struct err *err);
	void *arg;
};

/*
 * Exactly once (unless qmp_destroy() comes first), never before the call returns. reply is the value of "return", borrowed; NULL with
 * err. Codes: -ETIMEDOUT, -ECONNRESET when the connection ended, -ENOENT for DeviceNotFound,
 * -ENOTSUP for CommandNotFound, -EIO for other errors of QEMU, whose words are the message.
 */
typedef void qmp_reply_fn(void *arg, const json_t *reply, const struct err *err);

struct qmp_opts {
	uint64_t timeout_ms; /* 0: QMP_TIMEOUT_MS */
	int fd;              /* to go with the command (getfd, add-fd), copied; 0 or -1: none */
	bool sent_is_done;   /* reply fires with NULL, NULL once the command is written: for quit */
};

/* Takes over fd, a non-blocking Unix stream socket, also when it fails. */
int qmp_create(
	struct qmp **out, uv_loop_t *loop, int fd, const struct qmp_callbacks *cb, struct err *err);

/*
 * name and args (may be NULL) are copied; so is what opts points to, which may be NULL. Whatever
 * goes wrong comes by reply, but for -ENOMEM, which is returned: then reply does not fire.
 */
int qmp_command(struct qmp *q, const char *name, const json_t *args, const struct qmp_opts *opts,
	qmp_reply_fn *reply, void *arg);
/* A whole command object; an "id" in it is replaced by ours. */
int qmp_send(struct qmp *q, const json_t *cmd, const struct qmp_opts *opts, qmp_reply_fn *reply,
	void *arg);

/*
 * As qmp_reply_fn, for the whole answer ("return" or "error") as QEMU wrote it, but for an "id" that
 * is not the caller's; it lies within the connection's buffer. text is NULL with err, which tells
 * that the connection ended.
 */
typedef void qmp_text_fn(void *arg, const char *text, size_t len, const struct err *err);
/*
 * A command object's text, which is valid JSON without duplicate keys, goes out as it is but for an
 * "id" of our own. It has no deadline, and is never `late`: how long it may take is its giver's
 * business. fd (-1: none) goes with it, copied. Errors as with qmp_command().
 */
int qmp_send_text(
	struct qmp *q, const char *text, size_t len, int fd, qmp_text_fn *reply, void *arg);

/* Reads what has come so far, with all callbacks: for the last words of a process that is gone. */
void qmp_drain(struct qmp *q);

/* Forgets the commands under way without a call; closed (may be NULL) fires when the memory is
 * gone. Takes NULL, then closed fires at once. */
void qmp_destroy(struct qmp *q, void (*closed)(void *arg), void *arg);

#endif
