/*
 * supervisor/console-log.h - the log files of a machine's consoles: at most two for each boot, of
 * half of max_bytes each, and the boots of the last CONSOLE_BOOTS. Small write()s into the page
 * cache, on the loop. Reading them is console_log_read() in console.h.
 */
#ifndef DROVER_SUPERVISOR_CONSOLE_LOG_H
#define DROVER_SUPERVISOR_CONSOLE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/str.h"

enum {
	CONSOLE_BOOTS = 10
};

struct console_log {
	char *path, *old_path; /* dir/BOOT.log, dir/BOOT.0.log */
	char *at_path;         /* dir/BOOT.at */
	int fd;                /* -1 while it could not be opened again after a rotation */
	uint64_t size, half;
	uint64_t base; /* where in all that the boot has said this file begins: dir/BOOT.at */
	bool failing;  /* said once, until a write succeeds again */
};

/* Opens for appending, makes dir, removes the logs of boots that are too old. */
int console_log_init(
	struct console_log *l, const char *dir, unsigned boot, uint64_t max_bytes, struct err *err);
/* What cannot be written is lost, with one warning. */
void console_log_write(struct console_log *l, const char *data, size_t len);
/* How much the boot has said so far, as far as it is in the log or was dropped from it. */
uint64_t console_log_position(const struct console_log *l);
/*
 * What the log has from position `from` on, but at most the last max bytes; *start (may be NULL): the
 * position of the first of them, behind `from` when what was before is not there any more.
 */
int console_log_from(const struct console_log *l, uint64_t from, size_t max, struct buf *out,
	uint64_t *start, struct err *err);
/* When it was last written, as clock_unix_ms(); 0: never. */
uint64_t console_log_written_ms(const struct console_log *l);
void console_log_finish(struct console_log *l);

#endif
