/*
 * hv/agent.h - a client of the QEMU guest agent on the Unix socket of its virtio-serial port. Loop
 * thread. Times in ms.
 *
 * The agent's protocol has no ids that can be relied on, and what was said to an agent that was not
 * running yet stays in the port: so one command is under way at a time, the others wait, and
 * after a connection was made or a command was given up the two are brought back in step by
 * guest-sync-delimited (QEMU, qga/qapi-schema.json): a byte 0xff makes the agent drop what it has
 * read, and the answer that has our number comes behind another one.
 */
#ifndef DROVER_HV_AGENT_H
#define DROVER_HV_AGENT_H

#include <jansson.h>
#include <stdint.h>
#include <uv.h>
#include "lib/err.h"

#define AGENT_MESSAGE_MAX (10u << 20)
#define AGENT_TIMEOUT_MS  5000

struct agent;

/*
 * Exactly once (unless agent_forget() or agent_destroy() comes first), never before the call
 * returns. reply is the value of "return", borrowed; NULL with err. Codes: -ETIMEDOUT (also a
 * command whose success has no answer, as guest-shutdown), -ECONNRESET, -ENOENT when there is no
 * port, -ENOTSUP for CommandNotFound, -EIO for other errors of the agent, whose words are the
 * message. May destroy the client.
 */
typedef void agent_reply_fn(void *arg, const json_t *reply, const struct err *err);

/*
 * path is connected to whenever there is no connection; fd is the first one, a non-blocking Unix
 * stream socket, or -1. It is taken over, also when this fails.
 */
int agent_create(struct agent **out, uv_loop_t *loop, const char *path, int fd, struct err *err);
/* cmd is copied. The time counts from now, waiting included; 0: AGENT_TIMEOUT_MS. -ENOMEM: reply
 * does not fire. */
int agent_command(
	struct agent *a, const json_t *cmd, uint64_t timeout_ms, agent_reply_fn *reply, void *arg);
/* The commands that have this arg: their reply does not fire any more. */
void agent_forget(struct agent *a, const void *arg);
/* closed (may be NULL) fires when the memory is gone. Takes NULL, then closed fires at once. */
void agent_destroy(struct agent *a, void (*closed)(void *arg), void *arg);

#endif
