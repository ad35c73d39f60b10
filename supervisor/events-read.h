/*
 * supervisor/events-read.h - reading of event files: one JSON object a line, its first member the
 * number "seq", which grows by one. Private to supervisor/events*.c.
 */
#ifndef DROVER_SUPERVISOR_EVENTS_READ_H
#define DROVER_SUPERVISOR_EVENTS_READ_H

#include <stddef.h>
#include "supervisor/events.h"

/*
 * Length of the file's sound part and the number of its last event (0: none). A host's crash can
 * leave half a line, or a block of zeros, at the end. Returns 0 or -errno.
 */
int events_find_end(int fd, uint64_t size, uint64_t *end, uint64_t *seq);
/* Gives out the whole lines of data with seq > since; returns how many bytes they took. */
size_t events_read_lines(const char *data, size_t len, uint64_t since, events_fn *fn, void *arg);
/* The same for the first size bytes of a file; skips the older part. Returns 0 or -errno. */
int events_read_file(int fd, uint64_t size, uint64_t since, events_fn *fn, void *arg);

#endif
