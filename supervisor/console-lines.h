/*
 * supervisor/console-lines.h - the guest's output as lines of text: escape sequences and other
 * control characters taken out, and the last of them kept. Pure.
 */
#ifndef DROVER_SUPERVISOR_CONSOLE_LINES_H
#define DROVER_SUPERVISOR_CONSOLE_LINES_H

#include "lib/str.h"

enum {
	CONSOLE_LINE_MAX = 1024, /* what is beyond is left out of the line */
	CONSOLE_TAIL_MAX = 4096,
	CONSOLE_TAIL_LINES = 50,
	CONSOLE_TAIL_READ = 16384, /* of a log, enough to fill the tail */
};

/* Where in an escape sequence the guest's output is (ECMA-48, 5.3 and 5.4). */
enum escape {
	ESC_NONE,
	ESC_SEEN,         /* after ESC */
	ESC_INTERMEDIATE, /* ESC, then 0x20 to 0x2f: "ESC ( B" */
	ESC_CSI,          /* after ESC [ */
	ESC_STRING,       /* OSC, DCS and the like: up to BEL or ESC \ */
};

/* {0} is an empty one. */
struct console_lines {
	enum escape escape;
	char line[CONSOLE_LINE_MAX + 1];
	size_t line_len;
	struct buf tail; /* whole lines, each with its newline */
};

/* fn (may be NULL) gets each line that ends here; the line is lines' own. */
void console_lines_take(struct console_lines *l, const char *data, size_t len,
	void (*fn)(void *arg, const char *line), void *arg);
/* The last n lines, what has been begun among them. */
void console_lines_tail(const struct console_lines *l, unsigned n, struct strv *out);
void console_lines_finish(struct console_lines *l);

#endif
