/*
 * supervisor/events.h - the event log: numbered, one JSON object a line, in state_dir/events.jsonl
 * (rotated to events.jsonl.1 at events_max). Loop thread.
 *
 * Numbers have no gap and go on over restarts of the daemon; an event that was given out is in the
 * file, unless that cannot be written: then it waits in memory (1 MiB at most) for the next one.
 * A torn last line (host crash) is cut off at the next start.
 */
#ifndef DROVER_SUPERVISOR_EVENTS_H
#define DROVER_SUPERVISOR_EVENTS_H

#include <jansson.h>
#include <stdint.h>
#include <uv.h>
#include "lib/err.h"

struct events;
struct events_sub;

/* path: the file; NULL keeps them in memory alone (tests). */
int events_open(struct events **out, uv_loop_t *loop, const char *path, uint64_t max_bytes,
	struct err *err);
void events_close(struct events *ev);

/*
 * Adds one: seq and time are filled in, then kind, name (may be NULL), event, then the members of
 * more (reference taken over; may be NULL; it cannot replace those). The line is appended with one
 * write(). Subscribers get it before this returns; one that is emitted by a subscriber is given out
 * when all have had the one before. Returns seq, 0 when there was no memory.
 */
uint64_t events_emit(
	struct events *ev, const char *kind, const char *name, const char *event, json_t *more);
uint64_t events_last(const struct events *ev);
/*
 * Whether the file is still where it should be: if somebody has moved or deleted it, another one is
 * begun, with an event that says so, and the numbers go on.
 */
void events_check(struct events *ev);

/* line: the object's text without newline, borrowed. */
typedef void events_fn(void *arg, uint64_t seq, const char *line, size_t len);
/*
 * Calls fn for each stored event with a number above since (as far back as the files go, in
 * order), at once.
 */
int events_replay(struct events *ev, uint64_t since, events_fn *fn, void *arg, struct err *err);
/* From now on each new one. fn may unsubscribe itself and others. NULL without memory. */
struct events_sub *events_subscribe(struct events *ev, events_fn *fn, void *arg);
void events_unsubscribe(struct events_sub *sub);

#endif
