/* What is followed as it happens: a machine's console log, the events. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"

#define STREAM_SLACK (1u << 20) /* that a follower may be behind */
#define WAIT_POLL_MS 100        /* for the console of a machine that is about to start */
#define TEXT         "text/plain; charset=utf-8"
#define NDJSON       "application/x-ndjson"

/* ---- log ---- */

struct log_follow {
	struct console_follow follow;
	struct deadline timer;
	struct drover *d;
	struct stream *st;
	char *vm;
	unsigned boot;
	bool done;
};

static void log_free(void *arg)
{
	struct log_follow *f = arg;

	free(f->vm);
	free(f);
}

static void log_done(struct log_follow *f)
{
	if (f->done)
		return;
	f->done = true;
	console_unfollow(&f->follow);
	deadline_close(&f->timer, log_free);
}

static void log_gone(void *arg)
{
	log_done(arg);
}

static void log_end(struct log_follow *f)
{
	stream_end(f->st);
	log_done(f);
}

/* A reader that is too slow is cut off by the stream, which tells log_gone(). */
static void log_data(void *arg, const char *data, size_t len)
{
	struct log_follow *f = arg;

	if (data == NULL)
		log_end(f);
	else
		stream_write(f->st, data, len);
}

static void log_so_far(struct log_follow *f, const struct machine *m)
{
	struct buf text = { 0 };

	if (console_log_read(m->log_dir, f->boot, &text, NULL, NULL) == 0)
		stream_write(f->st, buf_str(&text), text.len);
	buf_finish(&text);
}

static void log_poll(void *arg)
{
	struct log_follow *f = arg;
	const struct machine *m = machine_find(f->d, f->vm);
	bool ended = m == NULL || !machine_active(m) || m->boot != f->boot;

	if (m != NULL && (ended || m->console != NULL))
		log_so_far(f, m);
	/* What comes is added from this same turn of the loop on, so nothing falls in between. */
	if (ended)
		log_end(f);
	else if (m->console != NULL)
		console_follow(m->console, &f->follow);
	else
		deadline_set(&f->timer, WAIT_POLL_MS);
}

static void follow_log(struct drover *d, struct request *rq, const struct machine *m)
{
	struct stream_opts opts = { .type = TEXT,
		.max_queue = drover_config(d)->drover->console_max + STREAM_SLACK,
		.gone = log_gone };
	struct log_follow *f = calloc(1, sizeof(*f));
	struct err err;

	if (f == NULL || deadline_init(&f->timer, d->loop, log_poll, f) < 0) {
		free(f);
		err_nomem(&err);
		reply_err(rq, &err, m->name, NULL);
		return;
	}
	list_init(&f->follow.entry);
	f->follow.data = log_data;
	f->follow.arg = opts.arg = f;
	f->d = d;
	f->boot = m->boot;
	f->vm = strdup(m->name);
	if (f->vm == NULL) {
		err_nomem(&err);
		reply_err(rq, &err, m->name, NULL);
		log_done(f);
		return;
	}
	f->st = request_stream(rq, &opts);
	if (f->st != NULL)
		log_poll(f);
	else
		log_done(f);
}

void route_vm_log(void *arg, struct request *rq)
{
	const struct machine *m = route_machine(arg, rq);
	struct buf text = { 0 };
	int64_t boot = 0;
	bool follow;
	struct err err;

	if (m == NULL || !route_flag(rq, "follow", &follow))
		return;
	if (request_query_int(rq, "boot", 0, &boot, &err) < 0) {
		reply_err(rq, &err, m->name, NULL);
	} else if (follow && machine_active(m) && (boot == 0 || boot == (int64_t)m->boot)) {
		follow_log(arg, rq, m);
	} else if (console_log_read(m->log_dir, boot, &text, NULL, &err) < 0) {
		err_wrap(&err, "vm %s", m->name);
		route_machine_err(rq, m, &err);
	} else {
		reply_text(rq, 200, TEXT, buf_str(&text), text.len);
		buf_finish(&text);
	}
}

/* ---- events ---- */

struct events_follow {
	struct events_sub *sub;
	struct stream *st;
	char *vm; /* only of this machine; NULL: all */
};

static bool is_of(const char *vm, const char *line, size_t len)
{
	json_t *j = NULL;
	bool same;

	/* Most lines need not be parsed for this. */
	if (vm == NULL)
		return true;
	if (memmem(line, len, vm, strlen(vm)) == NULL || json_parse(line, len, &j, NULL) < 0)
		return false;
	same = str_eq(json_str(j, "kind"), "vm") && str_eq(json_str(j, "name"), vm);
	json_decref(j);
	return same;
}

struct collect {
	const char *vm;
	struct buf text;
};

static void collect_line(void *arg, uint64_t seq, const char *line, size_t len)
{
	struct collect *c = arg;

	if (!is_of(c->vm, line, len))
		return;
	buf_add(&c->text, line, len);
	buf_add(&c->text, "\n", 1);
}

static void follow_free(struct events_follow *f)
{
	if (f->sub != NULL)
		events_unsubscribe(f->sub);
	free(f->vm);
	free(f);
}

static void follow_gone(void *arg)
{
	follow_free(arg);
}

static void follow_line(void *arg, uint64_t seq, const char *line, size_t len)
{
	struct events_follow *f = arg;
	struct collect one = { .vm = f->vm };

	collect_line(&one, seq, line, len);
	if (one.text.len > 0)
		stream_write(f->st, one.text.data, one.text.len);
	buf_finish(&one.text);
}

/* In one turn of the loop with the replay: no event is missed or comes twice. */
static int follow_events(struct drover *d, struct request *rq, const struct collect *stored)
{
	struct stream_opts opts = {
		.type = NDJSON, .max_queue = stored->text.len + STREAM_SLACK, .gone = follow_gone
	};
	struct events_follow *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -ENOMEM;
	opts.arg = f;
	f->sub = events_subscribe(d->events, follow_line, f);
	if (stored->vm != NULL)
		f->vm = strdup(stored->vm);
	if (f->sub == NULL || (stored->vm != NULL && f->vm == NULL)) {
		follow_free(f);
		return -ENOMEM;
	}
	f->st = request_stream(rq, &opts);
	if (f->st == NULL) {
		follow_free(f);
		return 0;
	}
	stream_write(f->st, buf_str(&stored->text), stored->text.len);
	return 0;
}

void route_events(void *arg, struct request *rq)
{
	struct drover *d = arg;
	struct collect stored = { .vm = request_query(rq, "vm") };
	struct collect ever = { .vm = stored.vm };
	int64_t since = 0;
	struct err err;
	bool follow;
	int r;

	if (!route_flag(rq, "follow", &follow))
		return;
	r = request_query_int(rq, "since", 0, &since, &err);
	if (r == 0 && since < 0)
		since = MAX((int64_t)events_last(d->events) + since, 0);
	if (r == 0)
		r = events_replay(d->events, (uint64_t)since, collect_line, &stored, &err);
	if (r == 0 && stored.text.bad)
		r = err_nomem(&err);
	/* One that is gone has a past all the same. */
	if (r == 0 && stored.vm != NULL && stored.text.len == 0 &&
		machine_find(d, stored.vm) == NULL) {
		r = events_replay(d->events, 0, collect_line, &ever, &err);
		if (r == 0 && ever.text.len == 0)
			r = route_no_machine(d, stored.vm, &err);
		buf_finish(&ever.text);
	}
	if (r == 0 && follow) {
		r = follow_events(d, rq, &stored);
		if (r < 0)
			err_nomem(&err);
	} else if (r == 0) {
		reply_text(rq, 200, NDJSON, buf_str(&stored.text), stored.text.len);
	}
	if (r < 0)
		reply_err(rq, &err, err.code == -ENOENT ? stored.vm : NULL, NULL);
	buf_finish(&stored.text);
}
