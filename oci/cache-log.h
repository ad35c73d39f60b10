/*
 * oci/cache-log.h - what a pull-through cache was asked for and what it had to fetch, counted from
 * the access log of docker-registry (whose own counters are always 0 in 2.8) and from that of its
 * relay. Blocking. Part of droverd, in the thread pool.
 */
#ifndef DROVER_OCI_CACHE_LOG_H
#define DROVER_OCI_CACHE_LOG_H

#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

/* Of blobs alone: what a tag points at is asked of the upstream each time. */
struct cache_count {
	uint64_t asked;         /* GETs of blobs, whatever the answer was */
	uint64_t served;        /* those that were answered with one */
	uint64_t served_bytes;  /* that went out */
	uint64_t fetched;       /* blobs that the upstream was asked for, and gave */
	uint64_t fetched_bytes; /* that came in */
};

/* Blobs (or their bytes) given out without the upstream, of those asked for; -1: there were none. */
double cache_hit_rate(const struct cache_count *c);
double cache_byte_hit_rate(const struct cache_count *c);

/* One line of either log, without its end. A line about anything else is passed over. */
void cache_log_line(const char *line, struct cache_count *c);
/* How the relay writes it: "fetched 3000 /v2/org/vm/blobs/sha256:..." */
void cache_log_fetched(int fd, const char *path, uint64_t bytes);

/* How far a log is counted. */
struct cache_log_at {
	uint64_t inode, offset;
};
/*
 * Counts the whole lines behind *at, which moves behind them. Another file at this path, or one that
 * is shorter than it was, is counted from its beginning. None: nothing to count.
 *
 * A log above max bytes is then moved to PATH.1 and emptied: its writer has it open, O_APPEND, and
 * does not open it again. A line that comes in the instant between is lost to the count.
 */
int cache_log_follow(const char *path, uint64_t max, struct cache_log_at *at, struct cache_count *c,
	struct err *err);
/* *at is its end: what is in it already is not counted. */
void cache_log_end(const char *path, struct cache_log_at *at);

#endif
