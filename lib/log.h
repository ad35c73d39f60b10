/*
 * lib/log.h - the log of a program: one line a message, text or JSON. Any thread.
 *
 * Text goes to stderr as "<level> message"; where stderr is the journal's (JOURNAL_STREAM) with
 * the sd-daemon prefix <N>. With a file, lines carry an RFC 3339 time; log_reopen() follows a rename.
 * Control characters and what is no UTF-8 are escaped: a message is always one line.
 */
#ifndef DROVER_LIB_LOG_H
#define DROVER_LIB_LOG_H

#include <stdbool.h>
#include "lib/util.h"

enum log_level {
	LOG_LVL_ERROR,
	LOG_LVL_WARN,
	LOG_LVL_INFO,
	LOG_LVL_DEBUG
};
enum log_format {
	LOG_TEXT,
	LOG_JSON
};

struct log_opts {
	enum log_level level;
	enum log_format format;
	const char *path; /* NULL: stderr */
};

/* Until this is called, messages of level info and above go to stderr as text. */
int log_setup(const struct log_opts *opts);
/* Opens the file again, for SIGHUP after a rotation; without a file does nothing. */
int log_reopen(void);
bool log_enabled(enum log_level level);
/* name is the machine, network or service the message is about; NULL for the program itself. */
void log_msg(enum log_level level, const char *name, const char *fmt, ...) PRINTF(3, 4);

#define log_error(...) log_msg(LOG_LVL_ERROR, NULL, __VA_ARGS__)
#define log_warn(...)  log_msg(LOG_LVL_WARN, NULL, __VA_ARGS__)
#define log_info(...)  log_msg(LOG_LVL_INFO, NULL, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (log_enabled(LOG_LVL_DEBUG))                                                    \
			log_msg(LOG_LVL_DEBUG, NULL, __VA_ARGS__);                                 \
	} while (0)

#endif
