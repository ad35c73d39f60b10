/*
 * supervisor/console-log.h - the log files of a machine's consoles: at most two for each boot, of
 * half of max_bytes each, and the boots of the last CONSOLE_BOOTS. Small write()s into the page
 * cache, on the loop. Reading them is console_log_read() in console.h.
 */
#ifndef DROVER_SUPERVISOR_CONSOLE_LOG_H
#define DROVER_SUPERVISOR_CONSOLE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/err.h"

enum {
	CONSOLE_BOOTS = 10
};

struct console_log {
	char *path, *old_path; /* dir/BOOT.log, dir/BOOT.0.log */
	int fd;                /* -1 while it could not be opened again after a rotation */
	uint64_t size, half;
	bool failing; /* said once, until a write succeeds again */
};

/* Opens for appending, makes dir, removes the logs of boots that are too old. */
int console_log_init(
	struct console_log *l, const char *dir, unsigned boot, uint64_t max_bytes, struct err *err);
/* What cannot be written is lost, with one warning. */
void console_log_write(struct console_log *l, const char *data, size_t len);
void console_log_finish(struct console_log *l);

#endif
