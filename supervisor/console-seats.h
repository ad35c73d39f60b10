/*
 * supervisor/console-seats.h - who at a machine's console may write: one alone, or several that all
 * agreed to share. Whoever may not reads along, and gets the turn when it comes: the one that has
 * waited longest, when the last who writes has left. Pure; loop thread.
 */
#ifndef DROVER_SUPERVISOR_CONSOLE_SEATS_H
#define DROVER_SUPERVISOR_CONSOLE_SEATS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/list.h"
#include "lib/str.h"

enum console_mode {
	CONSOLE_READS,  /* never writes */
	CONSOLE_ALONE,  /* only while no one else does */
	CONSOLE_SHARES, /* also beside others that share */
};

/* Embedded in whoever is at the console. */
struct console_seat {
	struct list entry;
	enum console_mode mode;
	uint64_t id; /* 0: none, as of a client of the console's own socket */
	uid_t uid;
	pid_t pid;
	uint64_t since_ms; /* clock_mono_ms() when it came, or when it began or ceased to write */
	bool writes;
	/* writes has changed by somebody else's doing, or others write now; may be NULL. */
	void (*changed)(void *arg);
	void *arg;
};

struct console_seats {
	struct list list; /* in the order in which they wait */
};

void console_seats_init(struct console_seats *s);
/* mode, uid, pid, changed and arg are filled. force: takes the turn from who writes now. */
void console_seat_take(struct console_seats *s, struct console_seat *seat, bool force);
/* One that never took a seat may leave, too, if its entry was initialized. */
void console_seat_leave(struct console_seats *s, struct console_seat *seat);
/* "uid 0 (pid 17), for 3s", and more of them; empty while no one writes. */
void console_seats_writers(const struct console_seats *s, struct buf *out);

#endif
