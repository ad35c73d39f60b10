#include "supervisor/health.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/deadline.h"
#include "lib/json.h"
#include "supervisor/probe.h"

/* While the guest comes up its users want to know soon. */
#define QUICK_MS 1000

struct check {
	struct health *h;
	char *text;
	struct health_check what;
	struct probe *probe; /* under way */
	bool seen;           /* console */
	bool answered;       /* since the guest's boot */
	struct err error;    /* of the last answer; code 0: passed */
	uint64_t last_ms;    /* unix */
};

struct health {
	uv_loop_t *loop;
	struct http_client *http;
	struct health_callbacks cb;
	struct health_spec spec; /* but its list */
	struct check *checks;
	size_t n;
	enum health_state state;
	bool ready, paused, closing;
	bool in_round;
	size_t pending;        /* probes of the round */
	struct deadline timer; /* the round's end, or the next one's beginning */
	uint64_t round_ms;     /* when the round began, in the loop's time */
	uint64_t start_end_ms; /* of the start period; while paused what is left of it */
	unsigned failures;     /* rounds in a row */
	char failed_check[128], failed_reason[256];
};

static void begin_round(struct health *h);

const char *health_state_name(enum health_state s)
{
	static const char *const names[] = { "starting", "healthy", "unhealthy" };

	return names[s];
}

/* ---- when ---- */

static bool has_probes(const struct health *h)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->checks[i].what.kind != HEALTH_CONSOLE)
			return true;
	}
	return false;
}

static bool starting(const struct health *h)
{
	return !h->ready && uv_now(h->loop) < h->start_end_ms;
}

/* The next round, counted from the beginning of the last one. */
static void arm_next(struct health *h)
{
	uint64_t now = uv_now(h->loop), due = h->round_ms + h->spec.interval_ms;

	if (starting(h))
		due = h->round_ms + MIN(h->spec.interval_ms, QUICK_MS);
	if (!has_probes(h)) {
		/* The console speaks by itself; what counts is that it has not. */
		if (h->ready || h->spec.late) {
			deadline_cancel(&h->timer);
			return;
		}
		due = MAX(due, h->start_end_ms);
	}
	deadline_set(&h->timer, due > now ? due - now : 0);
}

/* ---- a round ---- */

static void answer(struct check *c, const struct err *err)
{
	c->answered = true;
	c->last_ms = clock_unix_ms();
	c->error.code = 0;
	if (err != NULL)
		c->error = *err;
}

static bool excused(const struct check *c)
{
	return c->what.kind == HEALTH_CONSOLE && !c->seen && c->h->spec.late;
}

static void remember_failure(struct health *h, const struct check *c)
{
	snprintf(h->failed_check, sizeof(h->failed_check), "%s", c->text);
	snprintf(h->failed_reason, sizeof(h->failed_reason), "%s", c->error.msg);
}

static void set_state(struct health *h, enum health_state state)
{
	enum health_state from = h->state;

	h->state = state;
	if (state == HEALTH_UNHEALTHY || from == HEALTH_UNHEALTHY)
		h->cb.changed(h->cb.arg, state);
}

static void round_passed(struct health *h, bool all)
{
	bool first = all && !h->ready;

	h->failures = 0;
	if (first)
		h->ready = true;
	arm_next(h);
	if (first)
		h->cb.ready(h->cb.arg);
	if (!h->closing && !h->paused && h->failures == 0 && h->state != HEALTH_HEALTHY)
		set_state(h, HEALTH_HEALTHY);
}

static void round_failed(struct health *h)
{
	bool counts = !starting(h);

	if (counts)
		h->failures++;
	arm_next(h);
	if (!counts || h->failures < h->spec.retries)
		return;
	if (h->state != HEALTH_UNHEALTHY)
		set_state(h, HEALTH_UNHEALTHY);
	if (!h->closing && h->state == HEALTH_UNHEALTHY && h->failures % h->spec.retries == 0)
		h->cb.act(h->cb.arg);
}

static void end_round(struct health *h)
{
	const struct check *failed = NULL;
	bool all = true;

	h->in_round = false;
	for (size_t i = 0; i < h->n; i++) {
		const struct check *c = &h->checks[i];

		if (c->error.code == 0)
			continue;
		all = false;
		if (failed == NULL && !excused(c))
			failed = c;
	}
	if (failed == NULL) {
		round_passed(h, all);
		return;
	}
	remember_failure(h, failed);
	round_failed(h);
}

static void probe_done(void *arg, const struct err *err)
{
	struct check *c = arg;

	c->probe = NULL;
	answer(c, err);
	if (--c->h->pending == 0)
		end_round(c->h);
}

static void start_check(struct check *c)
{
	struct health *h = c->h;
	unsigned port = c->what.port;
	char address[64];
	struct probe_target target = { .loop = h->loop,
		.http = h->http,
		.timeout_ms = h->spec.timeout_ms,
		.ping = h->cb.ping,
		.forget = h->cb.forget,
		.arg = h->cb.arg };
	struct err err;

	if (h->cb.address(h->cb.arg, &port, address)) {
		target.address = address;
		target.port = port != c->what.port ? port : 0;
	}
	if (c->what.kind == HEALTH_CONSOLE) {
		if (!c->seen)
			err_set(&err, -EAGAIN, "not seen on the console%s",
				h->spec.late ? " by this daemon, which came later" : "");
		answer(c, c->seen ? NULL : &err);
	} else if (probe_start(&c->probe, &c->what, &target, probe_done, c, &err) < 0) {
		c->probe = NULL;
		answer(c, &err);
	} else {
		h->pending++;
	}
}

static void begin_round(struct health *h)
{
	h->in_round = true;
	h->round_ms = uv_now(h->loop);
	h->pending = 0;
	for (size_t i = 0; i < h->n; i++)
		start_check(&h->checks[i]);
	if (h->pending == 0)
		end_round(h);
	else
		deadline_set(&h->timer, h->spec.timeout_ms);
}

static void cancel_probes(struct health *h)
{
	for (size_t i = 0; i < h->n; i++) {
		struct probe *p = h->checks[i].probe;

		h->checks[i].probe = NULL;
		if (p != NULL)
			probe_cancel(p);
	}
	h->pending = 0;
}

static void timer_fired(void *arg)
{
	struct health *h = arg;
	struct err err;

	if (!h->in_round) {
		begin_round(h);
		return;
	}
	err_set(&err, -ETIMEDOUT, "no answer in %llu ms", (unsigned long long)h->spec.timeout_ms);
	for (size_t i = 0; i < h->n; i++) {
		if (h->checks[i].probe != NULL)
			answer(&h->checks[i], &err);
	}
	cancel_probes(h);
	end_round(h);
}

/* ---- from outside ---- */

static void wait_for_first(struct health *h)
{
	h->round_ms = uv_now(h->loop);
	deadline_set(&h->timer, MIN(h->spec.interval_ms, QUICK_MS));
}

static void stop_round(struct health *h)
{
	cancel_probes(h);
	h->in_round = false;
	h->failures = 0;
	deadline_cancel(&h->timer);
}

void health_pause(struct health *h)
{
	uint64_t now = uv_now(h->loop);

	if (h->paused)
		return;
	h->paused = true;
	h->start_end_ms = h->start_end_ms > now ? h->start_end_ms - now : 0;
	stop_round(h);
}

void health_resume(struct health *h)
{
	if (!h->paused)
		return;
	h->paused = false;
	h->start_end_ms += uv_now(h->loop);
	wait_for_first(h);
}

void health_boot(struct health *h)
{
	stop_round(h);
	h->state = HEALTH_STARTING;
	h->ready = h->spec.late = false;
	h->start_end_ms = h->spec.start_period_ms + (h->paused ? 0 : uv_now(h->loop));
	for (size_t i = 0; i < h->n; i++)
		h->checks[i].seen = h->checks[i].answered = false;
	if (!h->paused)
		wait_for_first(h);
}

bool health_wants_console(const struct health *h)
{
	for (size_t i = 0; i < h->n; i++) {
		if (h->checks[i].what.kind == HEALTH_CONSOLE && !h->checks[i].seen)
			return true;
	}
	return false;
}

void health_console(struct health *h, const char *line)
{
	bool news = false;

	for (size_t i = 0; i < h->n; i++) {
		struct check *c = &h->checks[i];

		if (c->what.kind != HEALTH_CONSOLE || c->seen ||
			regexec(&c->what.regex, line, 0, NULL, 0) != 0)
			continue;
		c->seen = news = true;
		answer(c, NULL);
	}
	/* On a later turn: the console's own work comes first. */
	if (news && !h->in_round && !h->paused)
		deadline_set(&h->timer, 0);
}

/* ---- what is known ---- */

enum health_state health_state(const struct health *h)
{
	return h->state;
}

bool health_ready(const struct health *h)
{
	return h->ready;
}

const char *health_failed_check(const struct health *h)
{
	return h->failed_check;
}

const char *health_failed_reason(const struct health *h)
{
	return h->failed_reason;
}

static json_t *check_json(const struct check *c)
{
	json_t *j = json_object();
	char time[32];

	json_object_set_new(j, "check", json_str_new(c->text));
	json_object_set_new(j, "ok", c->answered ? json_boolean(c->error.code == 0) : json_null());
	json_object_set_new(j, "error",
		c->answered && c->error.code < 0 ? json_str_new(c->error.msg) : json_null());
	format_time(time, c->last_ms);
	json_put_str(j, "last", c->answered ? time : NULL);
	return j;
}

json_t *health_json(const struct health *h)
{
	json_t *j = json_object(), *checks = json_array();

	json_put_str(j, "state", health_state_name(h->state));
	json_put_bool(j, "ready", h->ready);
	for (size_t i = 0; i < h->n; i++)
		json_array_append_new(checks, check_json(&h->checks[i]));
	json_object_set_new(j, "checks", checks);
	return j;
}

/* ---- life ---- */

static void health_free(void *arg)
{
	struct health *h = arg;

	for (size_t i = 0; i < h->n; i++) {
		free(h->checks[i].text);
		health_check_finish(&h->checks[i].what);
	}
	free(h->checks);
	free(h);
}

int health_create(struct health **out, uv_loop_t *loop, struct http_client *http,
	const struct health_spec *spec, const struct health_callbacks *cb, struct err *err)
{
	struct health *h = calloc(1, sizeof(*h));
	int r = 0;

	if (h != NULL)
		h->checks = calloc(spec->checks->n, sizeof(*h->checks));
	if (h == NULL || h->checks == NULL) {
		free(h);
		return err_nomem(err);
	}
	h->loop = loop;
	h->http = http;
	h->spec = *spec;
	h->spec.checks = NULL; /* borrowed */
	h->cb = *cb;
	h->ready = spec->ready;
	for (size_t i = 0; i < spec->checks->n && r == 0; i++) {
		struct check *c = &h->checks[i];

		c->h = h;
		c->seen = spec->ready || spec->said;
		r = health_check_parse(&c->what, spec->checks->v[i], err);
		if (r < 0)
			break;
		h->n++;
		c->text = strdup(spec->checks->v[i]);
		if (c->text == NULL)
			r = err_nomem(err);
	}
	if (r < 0) {
		health_free(h);
		return r;
	}
	deadline_init(&h->timer, loop, timer_fired, h);
	h->start_end_ms = uv_now(loop) + spec->start_period_ms;
	wait_for_first(h);
	*out = h;
	return 0;
}

void health_destroy(struct health *h)
{
	if (h == NULL)
		return;
	h->closing = true;
	cancel_probes(h);
	deadline_close(&h->timer, health_free);
}
