/*
 * hv/ch-wire.h - what goes from one cloud-hypervisor to another when a guest migrates, read on its
 * way. Pure: it says how much of what has been read may go on, and keeps no bytes. Sizes in bytes.
 *
 * The sender writes a request, a header of 16 bytes (u16 command, 6 bytes, u64 length of what
 * follows) and its payload, and waits for an answer of the same form (u16 status, 6 bytes, u64 0)
 * before the next. All numbers are in the processor's order, which is little endian on all that it
 * runs on. Memory's payload is a table of ranges (u64 address, u64 length); their bytes follow and
 * are not in the header's length. The order is Start, Config, Memory any number of times, State,
 * Complete; Abandon comes at any time. Start has the version of the protocol in the first two of its
 * 6 bytes (all of this: vm-migration/src/protocol.rs, v50.0 to v53.0; the order: vmm/src/lib.rs,
 * vm_receive_migration_step()).
 *
 * The receiver lets the guest run when it reads Complete, and not before.
 */
#ifndef DROVER_HV_CH_WIRE_H
#define DROVER_HV_CH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

#define CH_WIRE_HEADER 16
/* Larger ones are errors: the receiver allocates what the sender says. */
#define CH_WIRE_CONFIG_MAX (16u << 20)
#define CH_WIRE_STATE_MAX  (256u << 20)
#define CH_WIRE_TABLE_MAX  (64u << 20)

enum ch_wire_command {
	CH_WIRE_START = 1,
	CH_WIRE_CONFIG = 2,
	CH_WIRE_STATE = 3,
	CH_WIRE_MEMORY = 4,
	CH_WIRE_COMPLETE = 5,
	CH_WIRE_ABANDON = 6,
	CH_WIRE_MEMORY_FD = 7,
	CH_WIRE_COMPLETE_PAUSED = 8,
};

/* {0} is a connection on which nothing was said. */
struct ch_wire {
	bool apart;                /* from the caller: it stops at Config, too */
	enum ch_wire_command last; /* request; 0: none */
	bool waits;                /* for its answer */
	bool refused;              /* the receiver has answered with an error */
	uint64_t payload;          /* bytes of it that are still to come, but for */
	uint64_t table;            /* a table's, and for */
	uint64_t ranges;           /* those of the ranges read so far */
	uint64_t memory;           /* bytes of ranges that have gone on */
	uint64_t first;            /* of the first table: of all the guest's memory */
};

enum ch_wire_stop {
	CH_WIRE_NO_STOP,
	CH_WIRE_AT_CONFIG,   /* behind *pass there is its header */
	CH_WIRE_AT_COMPLETE, /* likewise; nothing may be behind it */
};

/*
 * data: what the sender has written and has not gone on. *pass: how much of it may; the rest is to
 * be shown again, with more. At a stop ch_wire_take() is to be called first, unless it is the end.
 * -EBADMSG, or -ENOTSUP for another version of the protocol, with what comes after "it".
 */
int ch_wire_requests(struct ch_wire *w, const char *data, size_t len, size_t *pass,
	enum ch_wire_stop *stop, struct err *err);
/* The request at which it stopped goes on, its payload as well. Returns header and payload together. */
size_t ch_wire_take(struct ch_wire *w, const char *header);
/* The same of what the receiver has written. */
int ch_wire_answers(struct ch_wire *w, const char *data, size_t len, size_t *pass, struct err *err);
/* The header of a request without a version. */
void ch_wire_header(char out[CH_WIRE_HEADER], enum ch_wire_command command, uint64_t length);
const char *ch_wire_name(enum ch_wire_command command);

#endif
