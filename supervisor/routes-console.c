/*
 * A person at a machine's console: what the guest says comes as a stream of frames, what is typed
 * goes in requests of its own, so that all of it passes where the API passes.
 *
 * A frame is "o LENGTH\n" and so many bytes of the guest's, or "j LENGTH\n" and a JSON object.
 */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"

#define FRAMES        "application/vnd.drover.console"
#define REPLAY_MAX    (1u << 20)
#define BEHIND_MAX    (1u << 20) /* a reader that is further behind is cut off, and comes again */
#define ATTACHED_MAX  64
#define ID_COUNT_BITS 12

struct attached {
	struct console_follow follow;
	struct console_seat seat;
	struct console *console; /* NULL once the run is over */
	struct stream *st;
	const struct drover *d;
	char *name; /* of the machine */
};

static void leave(struct attached *a)
{
	/* A daemon that goes, and sends all away, gives nobody another one's turn. */
	if (a->d->stopping || a->d->leaving)
		list_remove(&a->seat.entry);
	else if (a->console != NULL)
		console_seat_leave(console_seats(a->console), &a->seat);
	console_unfollow(&a->follow);
	free(a->name);
	free(a);
}

static void on_gone(void *arg)
{
	struct attached *a = arg;

	if (a->seat.writes && !a->d->stopping)
		log_msg(LOG_LVL_INFO, a->name, "uid %u (pid %d) has left the console",
			(unsigned)a->seat.uid, (int)a->seat.pid);
	leave(a);
}

static void frame(struct buf *out, char kind, const char *data, size_t len)
{
	buf_printf(out, "%c %zu\n", kind, len);
	buf_add(out, data, len);
}

static void send_frame(struct attached *a, char kind, const char *data, size_t len)
{
	struct buf b = { 0 };

	frame(&b, kind, data, len);
	stream_write(a->st, buf_str(&b), b.len);
	buf_finish(&b);
}

/* Takes over j. */
static void send_json(struct attached *a, json_t *j)
{
	char *text = json_text(j);

	if (text != NULL)
		send_frame(a, 'j', text, strlen(text));
	free(text);
	json_decref(j);
}

static void put_writers(struct attached *a, json_t *j)
{
	struct buf who = { 0 };

	console_seats_writers(console_seats(a->console), &who);
	json_put_bool(j, "writes", a->seat.writes);
	json_put_str(j, "writers", who.len > 0 ? buf_str(&who) : NULL);
	buf_finish(&who);
}

static void on_changed(void *arg)
{
	struct attached *a = arg;
	json_t *j = json_object();

	put_writers(a, j);
	send_json(a, j);
}

static void on_output(void *arg, const char *data, size_t len)
{
	struct attached *a = arg;
	json_t *end;

	if (data != NULL) {
		send_frame(a, 'o', data, len);
		return;
	}
	end = json_object();
	json_put_bool(end, "end", true);
	send_json(a, end);
	stream_end(a->st);
	leave(a);
}

/* ---- the request ---- */

struct wish {
	enum console_mode mode;
	bool force, replay;
	uint64_t from;
};

static int wished_mode(const char *word, enum console_mode *out, struct err *err)
{
	static const struct {
		const char *word;
		enum console_mode mode;
	} modes[] = { { "alone", CONSOLE_ALONE }, { "share", CONSOLE_SHARES },
		{ "none", CONSOLE_READS } };

	*out = CONSOLE_ALONE;
	if (word == NULL)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		if (strcmp(modes[i].word, word) == 0) {
			*out = modes[i].mode;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "write must be alone, share or none, not %s", quote(word));
}

/* A position of another boot is none of this one's. */
static int read_wish(struct request *rq, const struct machine *m, struct wish *w, struct err *err)
{
	int64_t from = 0, boot = 0, replay = 1, wrote = 0;
	int r = wished_mode(request_query(rq, "write"), &w->mode, err);

	if (r == 0)
		r = request_query_int(rq, "from", 0, &from, err);
	if (r == 0)
		r = request_query_int(rq, "boot", 0, &boot, err);
	if (r == 0)
		r = request_query_int(rq, "replay", 1, &replay, err);
	if (r == 0)
		r = request_query_int(rq, "wrote", 0, &wrote, err);
	if (r < 0)
		return r;
	/* Who had the turn when an earlier daemon ended has it still, whoever comes back first. */
	if (wrote > 0 && (uint64_t)wrote >> ID_COUNT_BITS < m->d->started_ms)
		w->force = true;
	w->replay = replay != 0 || boot != 0;
	w->from = boot == (int64_t)m->boot && from > 0 ? (uint64_t)from : 0;
	return 0;
}

static unsigned count(const struct console_seats *s)
{
	const struct console_seat *seat;
	unsigned n = 0;

	list_for_each_entry (seat, &s->list, entry)
		n += seat->id != 0;
	return n;
}

static uint64_t new_id(void)
{
	static unsigned n;

	/* None of an earlier daemon; and it fits the integers of any JSON. */
	return clock_unix_ms() << ID_COUNT_BITS | (n++ & ((1u << ID_COUNT_BITS) - 1));
}

static void say_hello(struct attached *a, const struct machine *m, uint64_t start, uint64_t now)
{
	json_t *j = json_object();

	json_put_int(j, "attached", (int64_t)a->seat.id);
	json_put_int(j, "boot", m->boot);
	json_put_int(j, "position", (int64_t)start);
	json_put_int(j, "now", (int64_t)now);
	put_writers(a, j);
	send_json(a, j);
}

static void begin(struct attached *a, const struct machine *m, const struct wish *w,
	const struct buf *replay, uint64_t start)
{
	uint64_t now = console_position(a->console);

	console_seat_take(console_seats(a->console), &a->seat, w->force);
	if (w->force)
		log_msg(LOG_LVL_INFO, m->name, "uid %u (pid %d) has taken over the console",
			(unsigned)a->seat.uid, (int)a->seat.pid);
	say_hello(a, m, start, now);
	if (replay->len > 0)
		send_frame(a, 'o', buf_str(replay), replay->len);
	console_follow(a->console, &a->follow);
}

static int attach(struct machine *m, struct request *rq, const struct wish *w, struct err *err)
{
	struct stream_opts opts = { .type = FRAMES, .gone = on_gone };
	struct attached *a;
	struct buf replay = { 0 };
	uint64_t start = console_position(m->console);
	int r = 0;

	if (count(console_seats(m->console)) >= ATTACHED_MAX)
		return err_set(err, -EBUSY, "vm %s: there are %d at its console already", m->name,
			ATTACHED_MAX);
	if (w->replay)
		r = console_from(m->console, w->from, REPLAY_MAX, &replay, &start, err);
	if (r < 0)
		return r;
	a = calloc(1, sizeof(*a));
	if (a != NULL)
		a->name = strdup(m->name);
	if (a == NULL || a->name == NULL) {
		free(a);
		buf_finish(&replay);
		return err_nomem(err);
	}
	list_init(&a->follow.entry);
	list_init(&a->seat.entry);
	a->console = m->console;
	a->d = m->d;
	a->follow.data = on_output;
	a->follow.arg = a->seat.arg = opts.arg = a;
	a->seat.changed = on_changed;
	a->seat.mode = w->mode;
	a->seat.uid = request_uid(rq);
	a->seat.pid = request_pid(rq);
	a->seat.id = new_id();
	opts.max_queue = replay.len + BEHIND_MAX;
	a->st = request_stream(rq, &opts);
	if (a->st != NULL)
		begin(a, m, w, &replay, start);
	else
		leave(a);
	buf_finish(&replay);
	return 0;
}

static int has_console(const struct machine *m, struct err *err)
{
	if (m->console != NULL)
		return 0;
	return err_set(err, -EBADFD, "vm %s has no console while it is %s", m->name,
		machine_state_name(m->state));
}

void route_vm_console(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct wish w = { 0 };
	struct err err;
	int r;

	if (m == NULL || !route_flag(rq, "force", &w.force))
		return;
	r = read_wish(rq, m, &w, &err);
	if (r == 0)
		r = has_console(m, &err);
	if (r == 0)
		r = attach(m, rq, &w, &err);
	if (r < 0)
		route_machine_err(rq, m, &err);
}

/* ---- what is typed ---- */

static int may_not(const struct machine *m, struct err *err)
{
	struct buf who = { 0 };

	console_seats_writers(console_seats(m->console), &who);
	err_set(err, -EBUSY, "vm %s: somebody else writes to its console: %s", m->name,
		buf_str(&who));
	buf_finish(&who);
	return err->code;
}

static int type(struct machine *m, const char *data, size_t len, struct err *err)
{
	int r = len > 0 ? console_type(m->console, data, len) : 0;

	if (r == -EAGAIN)
		return err_set(
			err, r, "vm %s: its guest has not taken what was typed before", m->name);
	return r < 0 ? err_errno(err, r, "vm %s: its console", m->name) : 0;
}

static int type_attached(
	struct machine *m, uint64_t id, const char *data, size_t len, struct err *err)
{
	const struct console_seat *seat;

	list_for_each_entry (seat, &console_seats(m->console)->list, entry) {
		if (seat->id == id)
			return seat->writes ? type(m, data, len, err) : may_not(m, err);
	}
	return err_set(err, -EBADFD, "vm %s: you are not at its console any more", m->name);
}

/* For this request only, beside others that share. */
static int type_once(
	struct machine *m, struct request *rq, const char *data, size_t len, struct err *err)
{
	struct console_seat seat = {
		.mode = CONSOLE_SHARES, .uid = request_uid(rq), .pid = request_pid(rq)
	};
	int r;

	console_seat_take(console_seats(m->console), &seat, false);
	r = seat.writes ? type(m, data, len, err) : may_not(m, err);
	console_seat_leave(console_seats(m->console), &seat);
	return r;
}

void route_vm_console_type(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	int64_t id = 0;
	struct err err;
	size_t len;
	const char *data = request_body(rq, &len);
	int r;

	if (m == NULL)
		return;
	r = request_query_int(rq, "attached", 0, &id, &err);
	if (r == 0)
		r = has_console(m, &err);
	if (r == 0 && id != 0)
		r = type_attached(m, (uint64_t)id, data, len, &err);
	else if (r == 0)
		r = type_once(m, rq, data, len, &err);
	if (r < 0)
		route_machine_err(rq, m, &err);
	else
		reply_text(rq, 204, "text/plain; charset=utf-8", "", 0);
}
