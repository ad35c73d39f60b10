/*
 * hv/qmp-mux-private.h - what the files of the multiplexer share: qmp-mux.c (the socket, life),
 * qmp-mux-client.c (connections), qmp-mux-command.c (commands: refused, passed on in turns,
 * answered). Private to them.
 */
#ifndef DROVER_HV_QMP_MUX_PRIVATE_H
#define DROVER_HV_QMP_MUX_PRIVATE_H

#include "hv/json-stream.h"
#include "hv/qmp-mux.h"
#include "lib/deadline.h"
#include "lib/list.h"

enum {
	MUX_CLIENTS_MAX = 64,
	/* Under way at the monitor: of all clients, so that the supervisor's own never wait long. */
	MUX_FLIGHT_MAX = 8,
	MUX_FLIGHT_CLIENT = 2,
	/* Commands, and their bytes, that wait for a client before he is not read from. */
	MUX_COMMANDS_MAX = 64,
	MUX_WAITING_BYTES = 1 << 20,
	/* Bytes of answers that a client has not read before none of his commands is passed on. */
	MUX_OUT_HIGH = 256 << 10,
	/* And with events: beyond this he is cut off. */
	MUX_OUT_MAX = 1 << 20,
};

struct mux_client;

struct mux_command {
	struct list entry;         /* in client->commands */
	struct list flight;        /* in mux->flight while the monitor has it */
	struct mux_client *client; /* NULL: it died */
	struct qmp_mux *mux;
	struct qmp_ask ask;
	char *text; /* until it is sent */
	size_t len;
	int fd; /* -1: none */
	bool sent, answered;
	int error; /* of the connection, not the monitor's; 0: none */
	struct buf answer;
};

struct mux_client {
	struct list entry; /* in mux->clients */
	struct list turn;  /* in mux->turns while it has something to send, and may */
	struct qmp_mux *mux;
	struct json_stream *stream; /* NULL: one command of the API */
	struct hv_peer who;
	bool greeted, negotiated, write, eof, dead;
	struct list commands; /* not answered yet, in their order */
	unsigned ncommands, in_flight;
	size_t waiting; /* bytes of those not sent */
	struct buf out;
	hv_text_fn *reply; /* of the API */
	void *arg;
};

/* A name that getfd gave, or is about to: QEMU has one set of them for a monitor. */
struct mux_fd {
	struct list entry;
	char *name;
	struct mux_client *owner; /* NULL: it died before the answer */
	bool given;
};

struct qmp_mux {
	uv_loop_t *loop;
	struct qmp_mux_callbacks cb;
	char *path;     /* NULL: it does not listen */
	char *greeting; /* a whole line; NULL: the monitor was never there */
	int listen_fd;
	gid_t group;
	bool write, closing, running;
	bool single; /* there is one processor */
	struct list clients, turns, flight, fds;
	unsigned nclients, nflight; /* nclients: of the socket */
	uv_poll_t listener;
	uv_idle_t awake;
	uint64_t awake_until;         /* uv_hrtime() */
	unsigned asleep, asleep_next; /* round trips that sleep from now, and the next time */
	struct deadline accept_again, later; /* later: at once, but not from within a call */
	unsigned handles;                    /* whose close callback has not come */
	void (*closed)(void *arg);
	void *closed_arg;
};

void mux_part_closed(void *arg);
/*
 * The loop does not sleep for the next 100 us. By way of us a round trip has two wake-ups more than
 * without; on an idle machine each takes as long as all the work, and what is awaited (the
 * monitor's answer, the client's next command) comes sooner than that.
 *
 * On a busy one whoever is to answer may wait for the very processor that we do not give up, the more
 * so as we go before the others: when the monitor's answer has not come in that time, the next
 * round trips sleep, twice as many each time.
 */
void mux_stay_awake(struct qmp_mux *m);
/* To a command that was under way: whether it paid to be awake. */
void mux_answer_came(struct qmp_mux *m);

/* qmp-mux-client.c */

/* Takes fd over. */
void mux_client_add(struct qmp_mux *m, int fd, const struct hv_peer *who);
struct mux_client *mux_client_new(struct qmp_mux *m, const struct hv_peer *who);
void mux_client_greet(struct mux_client *cl);
/* A line for it, which is added; now: as soon as it takes it, else with mux->later. */
void mux_client_give(struct mux_client *cl, const char *text, size_t len, bool now);
void mux_client_flush(struct mux_client *cl);
/* Its turn to send, if it may; reads from it or not; ends it when nothing more is to come. */
void mux_client_settle(struct mux_client *cl);
void mux_client_drop(struct mux_client *cl);

/* qmp-mux-command.c */

/* A message of a client: refused, answered or put into its queue. */
void mux_command_take(struct mux_client *cl, const char *text, size_t len);
/* Gives out what has been answered, as far as it is its turn. */
void mux_command_deliver(struct mux_client *cl);
/* Sends what may be sent now. */
void mux_command_run(struct qmp_mux *m);
/* The client may have become able to send. */
void mux_command_turn(struct mux_client *cl);
/* Those of a client that ends: what is under way loses it, the rest goes. */
void mux_command_abandon(struct mux_client *cl);
/* Fails what is under way. */
void mux_command_lost(struct qmp_mux *m);

#endif
