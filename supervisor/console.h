/*
 * supervisor/console.h - the serial console of one machine: a bounded log for each boot, and a Unix
 * socket for several readers and writers. Loop thread.
 *
 * The log is always written, whoever reads; a slow reader is cut off and never holds up the
 * guest or the loop (FACTS, lesson 9). A boot's log is dir/BOOT.log and, once that has reached
 * half of max_bytes, dir/BOOT.0.log with what was before it: together the last max_bytes at most.
 * The logs of the last 10 boots are kept.
 */
#ifndef DROVER_SUPERVISOR_CONSOLE_H
#define DROVER_SUPERVISOR_CONSOLE_H

#include <stdbool.h>
#include <uv.h>
#include "lib/list.h"
#include "lib/str.h"
#include "supervisor/console-seats.h"

struct console;

struct console_opts {
	const char *log_dir;     /* state_dir/log/NAME, made when missing */
	const char *socket_path; /* run_dir/vm/NAME/console.sock */
	unsigned boot;
	uint64_t max_bytes;
	/* Bytes that a client typed, for the guest. -EAGAIN: it has no room now; nothing was taken. */
	int (*input)(void *arg, const char *data, size_t len);
	/* A whole line from the guest, without its end, control characters taken out; may be NULL. */
	void (*line)(void *arg, const char *line);
	void *arg;
};

/* Copies opts. Opens (appending: an adopted machine goes on) the log and listens. */
int console_create(
	struct console **out, uv_loop_t *loop, const struct console_opts *opts, struct err *err);
/* What the guest wrote. */
void console_write(struct console *c, const char *data, size_t len);
/* The last n lines (at most 50) of this boot, for `why`: kept in memory, at most 4 KiB. */
void console_tail(const struct console *c, unsigned n, struct strv *out);
/* Number of clients at the socket. */
unsigned console_clients(const struct console *c);
/* A line of drover's own, in the log and for whoever reads: "\r\n[drover: TEXT]\r\n". */
void console_note(struct console *c, const char *text);
/*
 * For a machine that another daemon has left running: whatever it said while nobody listened is
 * lost, and the log says between when that was.
 */
void console_note_gap(struct console *c);

/*
 * Who writes. A client of the socket takes a seat that shares with its first byte, until it leaves;
 * what it types while somebody writes alone is dropped, and it is told so once.
 */
struct console_seats *console_seats(struct console *c);
/* As the input of opts. -EPIPE when nobody takes it. */
int console_type(struct console *c, const char *data, size_t len);
/* As in supervisor/console-log.h. */
uint64_t console_position(const struct console *c);
int console_from(const struct console *c, uint64_t from, size_t max, struct buf *out,
	uint64_t *start, struct err *err);
/*
 * Whoever follows the log within the daemon, embedded. data has what the guest wrote just now, when
 * it is in the log; NULL once, when the console ends. data may unfollow its own.
 */
struct console_follow {
	struct list entry;
	void (*data)(void *arg, const char *data, size_t len);
	void *arg;
};
void console_follow(struct console *c, struct console_follow *f);
void console_unfollow(struct console_follow *f); /* an ended one too */

/* Removes the socket, cuts the clients off. Takes NULL. */
void console_destroy(struct console *c);

/*
 * The log of a boot, oldest first: boot > 0 that one, 0 the newest, -1 the one before ... -ENOENT
 * when there is none. *boot_out (may be NULL) gets its number.
 */
int console_log_read(
	const char *log_dir, int64_t boot, struct buf *out, unsigned *boot_out, struct err *err);

#endif
