#include "supervisor/console-seats.h"

#include "lib/clock.h"

void console_seats_init(struct console_seats *s)
{
	list_init(&s->list);
}

static struct console_seat *writer(const struct console_seats *s)
{
	struct console_seat *seat;

	list_for_each_entry (seat, &s->list, entry) {
		if (seat->writes)
			return seat;
	}
	return NULL;
}

/* Who goes back to reading waits behind all others. */
static void take_turn_from(struct console_seats *s, const struct console_seat *forced)
{
	struct console_seat *seat, *next;
	struct list demoted;

	list_init(&demoted);
	list_for_each_entry_safe (seat, next, &s->list, entry) {
		if (!seat->writes || seat == forced)
			continue;
		if (seat->mode == CONSOLE_SHARES && forced->mode == CONSOLE_SHARES)
			continue;
		seat->writes = false;
		seat->since_ms = clock_mono_ms();
		list_remove(&seat->entry);
		list_append(&demoted, &seat->entry);
	}
	list_splice(&s->list, &demoted);
}

static void let_write(struct console_seat *seat)
{
	if (seat->writes)
		return;
	seat->writes = true;
	seat->since_ms = clock_mono_ms();
}

/* Gives the turn to whom it belongs. True when that is another one than before. */
static bool settle(struct console_seats *s)
{
	struct console_seat *seat, *first = writer(s);
	bool another = false;

	if (first == NULL) {
		list_for_each_entry (seat, &s->list, entry) {
			if (seat->mode == CONSOLE_READS)
				continue;
			first = seat;
			let_write(first);
			another = true;
			break;
		}
	}
	if (first == NULL || first->mode != CONSOLE_SHARES)
		return another;
	list_for_each_entry (seat, &s->list, entry) {
		if (seat->mode == CONSOLE_SHARES && !seat->writes) {
			let_write(seat);
			another = true;
		}
	}
	return another;
}

/* changed() may end nobody's seat: it only tells. */
static void tell(struct console_seats *s, const struct console_seat *but)
{
	struct console_seat *seat;

	list_for_each_entry (seat, &s->list, entry) {
		if (seat != but && seat->changed != NULL)
			seat->changed(seat->arg);
	}
}

void console_seat_take(struct console_seats *s, struct console_seat *seat, bool force)
{
	seat->writes = false;
	seat->since_ms = clock_mono_ms();
	list_append(&s->list, &seat->entry);
	if (force && seat->mode != CONSOLE_READS) {
		take_turn_from(s, seat);
		let_write(seat);
	}
	if (settle(s) || seat->writes)
		tell(s, seat);
}

void console_seat_leave(struct console_seats *s, struct console_seat *seat)
{
	bool wrote = seat->writes;

	list_remove(&seat->entry);
	seat->writes = false;
	if (wrote) {
		settle(s);
		tell(s, NULL);
	}
}

void console_seats_writers(const struct console_seats *s, struct buf *out)
{
	const struct console_seat *seat;
	uint64_t now = clock_mono_ms();
	bool more = false;

	list_for_each_entry (seat, &s->list, entry) {
		if (!seat->writes)
			continue;
		buf_printf(out, "%suid %u (pid %d), for %s", more ? "; " : "", (unsigned)seat->uid,
			(int)seat->pid, format_duration((now - seat->since_ms) / 1000));
		more = true;
	}
}
