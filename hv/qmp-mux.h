/*
 * hv/qmp-mux.h - many clients at one monitor: a QMP server on a Unix socket of its own, whose
 * clients' commands go over the supervisor's one connection. Loop thread.
 *
 * To its clients it is a monitor without out-of-band execution: greeting with QEMU's version,
 * negotiation, ids of any type, events (docs/interop/qmp-spec). Their commands go on verbatim but
 * for the id, a bounded number at a time and in turns, and are answered in each client's own
 * order. What would change anything is refused unless writing is open. Nobody's slowness holds up
 * anybody else: who does not read his answers is not read from, and cut off when events pile up.
 *
 * It outlives the connection to the monitor: while there is none, commands get an error.
 */
#ifndef DROVER_HV_QMP_MUX_H
#define DROVER_HV_QMP_MUX_H

#include <jansson.h>
#include <sys/socket.h>
#include <uv.h>
#include "hv/hv.h"
#include "hv/qmp.h"
#include "hv/qmp-rules.h"

struct qmp_mux;

/* None of them may call into the mux, but for `send`'s reply. */
struct qmp_mux_callbacks {
	/* As qmp_send_text(); -ENOTCONN while there is no connection. */
	int (*send)(void *arg, const char *text, size_t len, int fd, qmp_text_fn *reply,
		void *reply_arg);
	/*
	 * Just before a command with an effect goes out; and when it was answered, well or with an
	 * error. Of one whose answer is lost with the connection nothing more is told.
	 */
	void (*intent)(void *arg, const struct qmp_ask *ask, const struct hv_peer *who);
	void (*answered)(void *arg, enum qmp_effect effect, bool good);
	/* A command went out, or was refused although QEMU might have taken it. */
	void (*asked)(
		void *arg, const struct qmp_ask *ask, const struct hv_peer *who, bool refused);
	void *arg;
};

int qmp_mux_create(
	struct qmp_mux **out, uv_loop_t *loop, const struct qmp_mux_callbacks *cb, struct err *err);
/* Listens at path. group: whose members may connect, beside root and our own uid; -1: none. */
int qmp_mux_listen(struct qmp_mux *m, const char *path, gid_t group, struct err *err);
/* Whether commands that change something are passed on from the socket. */
void qmp_mux_set_write(struct qmp_mux *m, bool write);

/* The monitor is there; greeting is the value of its "QMP". Clients before that wait. */
void qmp_mux_ready(struct qmp_mux *m, const json_t *greeting);
void qmp_mux_event(struct qmp_mux *m, const char *text, size_t len);
/* Replies to what was sent will not come any more (qmp_destroy() forgets them). */
void qmp_mux_lost(struct qmp_mux *m);

/* As hv_execute_text(). */
void qmp_mux_execute(struct qmp_mux *m, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg);

/*
 * Removes the socket, closes all connections; what is under way for qmp_mux_execute() is told
 * -ESRCH. closed fires when the memory is gone. Takes NULL, then closed fires at once.
 */
void qmp_mux_destroy(struct qmp_mux *m, void (*closed)(void *arg), void *arg);

#endif
