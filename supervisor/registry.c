#include "supervisor/registry-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/network-names.h"
#include "supervisor/plan.h"

#define PROBE_TIMEOUT_MS 5000
#define PROBE_EVERY_MS   30000 /* while the upstream is gone */
#define READY_POLL_MS    30
#define RETRY_MIN_MS     300
#define RETRY_MAX_MS     30000
#define DEATHS_MAX       3 /* at start, until those who wait are told */

static void later(struct registry *r, uint64_t ms, void (*fn)(struct registry *r))
{
	r->timer_fn = fn;
	deadline_set(&r->timer, ms);
}

static void timer_fired(void *arg)
{
	struct registry *r = arg;

	r->timer_fn(r);
}

static void wait_expired(void *arg)
{
	struct registry *r = arg;
	struct err err;

	if (r->last_error.code < 0)
		err = r->last_error;
	else
		err_set(&err, -ETIMEDOUT,
			"registry %s: it does not answer at %s; its output is in %s", r->name,
			r->listen, r->log_path);
	registry_tell_waiters(r, &err);
}

static void start_failed(struct registry *r, const struct err *err)
{
	r->last_error = *err;
	r->state = REGISTRY_DOWN;
	log_msg(LOG_LVL_ERROR, r->name, "%s; trying again in %s", err->msg,
		format_duration((r->retry_ms + 999) / 1000));
	registry_tell_waiters(r, err);
	later(r, r->retry_ms, registry_begin);
	r->retry_ms = MIN(r->retry_ms * 2, RETRY_MAX_MS);
}

static void set_up(struct registry *r)
{
	json_t *more = json_object();

	r->state = REGISTRY_UP;
	r->deaths = 0;
	r->retry_ms = RETRY_MIN_MS;
	r->last_error.code = 0;
	json_put_str(more, "mode", r->proxy ? "proxy" : "offline");
	events_emit(r->d->events, "registry", r->name, "ready", more);
	log_msg(LOG_LVL_INFO, r->name, "registry cache at %s %s", r->listen,
		r->proxy            ? "pulls through"
		: r->offline_wanted ? "serves what it has (offline = yes)"
				    : "serves what it has: its upstream cannot be reached");
	registry_tell_waiters(r, NULL);
	registry_prune_up(r);
}

/* ---- is the upstream there, does the cache answer ---- */

static int get(struct registry *r, const char *base, uint64_t timeout_ms, http_done_fn *done)
{
	char *url = str_printf("%s%sv2/", base, str_ends(base, "/") ? "" : "/");
	struct http_spec spec = { .url = url,
		.timeout_ms = timeout_ms,
		.fresh = true,
		.connect_timeout_ms = timeout_ms };
	struct err err;
	int ret = url == NULL ? -ENOMEM : http_request(r->d->http, &spec, done, r, &r->probe, &err);

	free(url);
	return ret;
}

static void poll_ready(struct registry *r);

static void poll_answered(void *arg, const struct http_result *res, const struct err *err)
{
	struct registry *r = arg;

	r->probe = NULL;
	if (r->stopping || registry_prune_holds(r) || r->state != REGISTRY_STARTING ||
		!service_up(r->service))
		return;
	if (err == NULL && res->status < 500) {
		set_up(r);
		if (!r->proxy && !r->offline_wanted)
			later(r, PROBE_EVERY_MS, registry_begin);
		return;
	}
	later(r, READY_POLL_MS, poll_ready);
}

static void poll_ready(struct registry *r)
{
	char *url = str_printf("http://%s", r->listen);

	if (url == NULL || get(r, url, 2000, poll_answered) < 0)
		later(r, READY_POLL_MS, poll_ready);
	free(url);
}

/* ---- starting ---- */

static void launch(struct registry *r, bool proxy);

static void relay_stopped(void *arg)
{
	struct registry *r = arg;

	if (!r->stopping && !registry_prune_holds(r))
		launch(r, false);
}

static void launch(struct registry *r, bool proxy)
{
	struct strv argv = { 0 };
	struct err err;
	int ret = 0;

	if (!proxy && registry_relay_up(r->relay)) {
		registry_relay_stop(r->relay, relay_stopped, r);
		return;
	}
	if (proxy)
		ret = registry_relay_start(r->relay, 0, &err);
	if (ret == 0)
		ret = registry_prepare(r, proxy, &argv, &err);
	if (ret == 0)
		ret = registry_address_free(r->listen, &err);
	if (ret == 0)
		ret = registry_save(r, proxy, &err);
	if (ret == 0)
		ret = service_start(r->service, &argv, &err);
	strv_finish(&argv);
	if (ret < 0) {
		err_wrap(&err, "registry %s", r->name);
		start_failed(r, &err);
		return;
	}
	r->proxy = proxy;
	r->state = REGISTRY_STARTING;
	poll_ready(r);
}

static void stopped_for_proxy(void *arg)
{
	struct registry *r = arg;

	if (!r->stopping)
		launch(r, true);
}

static void probed(void *arg, const struct http_result *res, const struct err *err)
{
	struct registry *r = arg;
	bool there = err == NULL; /* any answer shows that somebody is there */

	r->probe = NULL;
	if (r->stopping || registry_prune_holds(r))
		return;
	if (!service_up(r->service)) {
		launch(r, there);
	} else if (there && !r->proxy) {
		r->state = REGISTRY_STARTING;
		service_stop(r->service, stopped_for_proxy, r);
	} else {
		later(r, PROBE_EVERY_MS, registry_begin);
	}
}

void registry_begin(struct registry *r)
{
	if (r->stopping || registry_prune_holds(r))
		return;
	if (!service_up(r->service))
		r->state = REGISTRY_STARTING;
	if (r->offline_wanted)
		launch(r, false);
	else if (get(r, r->upstream, PROBE_TIMEOUT_MS, probed) < 0)
		later(r, RETRY_MAX_MS, registry_begin);
}

static bool died(void *arg, const struct child_status *status)
{
	struct registry *r = arg;
	struct err err;

	if (r->probe != NULL)
		http_cancel(r->probe);
	if (r->state == REGISTRY_STARTING && r->proxy && r->deaths == 0) {
		/* The upstream went between our question and its own. */
		r->deaths++;
		launch(r, false);
		return false;
	}
	if (r->state == REGISTRY_STARTING && ++r->deaths >= DEATHS_MAX) {
		err_set(&err, -EIO,
			"registry %s: docker-registry %s at its start; its output is in %s",
			r->name, child_status_text(status), r->log_path);
		start_failed(r, &err);
		return false;
	}
	r->state = REGISTRY_STARTING;
	later(r, r->retry_ms, registry_begin);
	r->retry_ms = MIN(r->retry_ms * 2, RETRY_MAX_MS);
	return false;
}

static void stopped_for_begin(void *arg)
{
	struct registry *r = arg;

	if (!r->stopping)
		registry_begin(r);
}

/* The running docker-registry knows the relay by a port that it has no longer. */
static void relay_lost(void *arg)
{
	struct registry *r = arg;

	/* After a prune it is started with another relay in any case. */
	if (r->stopping || registry_prune_holds(r) || !service_up(r->service))
		return;
	if (r->probe != NULL)
		http_cancel(r->probe);
	deadline_cancel(&r->timer);
	r->state = REGISTRY_DOWN;
	service_stop(r->service, stopped_for_begin, r);
}

/* ---- one registry ---- */

static void registry_free(void *arg)
{
	struct registry *r = arg;

	json_decref(r->applied);
	registry_usage_release(r->usage);
	strv_finish(&r->hosts);
	strv_finish(&r->prefetch);
	free(r->name);
	free(r->owner);
	free(r->upstream);
	free(r->listen);
	free(r->storage);
	free(r->log_path);
	free(r);
}

static void prune_timer_closed(void *arg)
{
	struct registry *r = arg;

	deadline_close(&r->timer, registry_free);
}

static void wait_timer_closed(void *arg)
{
	struct registry *r = arg;

	deadline_close(&r->prune_timer, prune_timer_closed);
}

static void registry_destroy(struct registry *r)
{
	list_remove(&r->entry);
	if (r->probe != NULL)
		http_cancel(r->probe);
	r->stopping = true;
	registry_prune_stop(r);
	registry_prefetch_stop(r);
	service_destroy(r->service);
	registry_relay_destroy(r->relay);
	deadline_close(&r->wait_timer, wait_timer_closed);
}

static int registry_create(
	struct registry **out, struct drover *d, const struct registry_config *cfg, struct err *err)
{
	struct registry *r = calloc(1, sizeof(*r));
	struct service_callbacks cb = { .died = died, .arg = r };
	struct service_spec spec = { .kind = "registry" };
	struct registry_relay_spec relay = { .lost = relay_lost, .arg = r };

	if (r == NULL)
		return err_nomem(err);
	r->d = d;
	list_init(&r->waiters);
	list_init(&r->prune_sub.entry);
	list_init(&r->prefetch_sub.entry);
	r->budget = cfg->budget;
	r->age = cfg->age;
	r->name = strdup(cfg->s.name);
	r->owner = str_printf("registry/%s", cfg->s.name);
	r->upstream = strdup(cfg->upstream);
	r->listen = strdup(cfg->listen);
	r->storage = cfg->storage != NULL ? strdup(cfg->storage)
					  : str_printf("%s/registry/%s", d->state_dir, cfg->s.name);
	r->log_path = str_printf("%s/log/registry-%s.log", d->state_dir, cfg->s.name);
	r->applied = plan_applied(&cfg->s);
	r->usage = registry_usage_create(d->state_dir, cfg->s.name);
	r->offline_wanted = cfg->offline;
	r->retry_ms = RETRY_MIN_MS;
	spec.name = r->name;
	spec.owner = r->owner;
	spec.log_path = r->log_path;
	relay.registry = r->name;
	relay.owner = r->owner;
	relay.upstream = r->upstream;
	relay.spool = r->storage;
	if (r->name == NULL || r->owner == NULL || r->upstream == NULL || r->listen == NULL ||
		r->storage == NULL || r->log_path == NULL || r->applied == NULL ||
		r->usage == NULL || registry_hosts(cfg, &r->hosts) < 0 ||
		strv_copy(&r->prefetch, &cfg->prefetch) < 0 ||
		service_create(&r->service, d, &spec, &cb, err) < 0 ||
		registry_relay_create(&r->relay, d, &relay, err) < 0) {
		service_destroy(r->service);
		registry_free(r);
		return err_nomem(err);
	}
	deadline_init(&r->timer, d->loop, timer_fired, r);
	deadline_init(&r->wait_timer, d->loop, wait_expired, r);
	deadline_init(&r->prune_timer, d->loop, registry_prune_due, r);
	list_append(&d->registries, &r->entry);
	*out = r;
	return 0;
}

/* What an earlier daemon started is taken over if it was made from the same section. */
static bool adopt(struct registry *r)
{
	struct strv none = { 0 };
	uint16_t port = 0;
	struct err err;
	bool same = registry_load(r, &port);
	bool up = service_adopt(r->service, &none, &err) == 0;
	bool relay_up = registry_relay_adopt(r->relay, port, &err) == 0;

	if (!up || !same || (port == 0 && relay_up))
		return false;
	r->proxy = port != 0;
	/* It died while nobody looked. */
	if (r->proxy && !relay_up && registry_relay_start(r->relay, port, &err) < 0) {
		log_msg(LOG_LVL_WARN, r->name, "%s; starting it anew", err.msg);
		return false;
	}
	return true;
}

static void stopped_for_adopt(void *arg)
{
	struct registry *r = arg;

	if (!r->stopping)
		registry_relay_stop(r->relay, stopped_for_begin, r);
}

int registry_start(struct drover *d, const struct registry_config *cfg, struct err *err)
{
	struct registry *r = registry_find(d, cfg->s.name);
	int ret;

	if (r != NULL)
		return err_set(err, -EEXIST, "registry %s runs already", cfg->s.name);
	ret = registry_create(&r, d, cfg, err);
	if (ret < 0)
		return err_wrap(err, "registry %s", cfg->s.name);
	r->state = REGISTRY_STARTING;
	if (adopt(r))
		poll_ready(r);
	else if (service_up(r->service) || registry_relay_up(r->relay))
		service_stop(r->service, stopped_for_adopt, r);
	else
		registry_begin(r);
	registries_count(d, NULL, NULL); /* begins the count of one that is new */
	return 0;
}

static void stop_done(void *arg)
{
	struct registry *r = arg;
	void (*stopped)(void *arg) = r->stopped;
	void *stopped_arg = r->stopped_arg;

	registry_remove_files(r);
	registry_destroy(r);
	if (stopped != NULL)
		stopped(stopped_arg);
}

static void stop_relay(void *arg)
{
	struct registry *r = arg;

	registry_relay_stop(r->relay, stop_done, r);
}

void registry_stop(struct drover *d, const char *name, void (*done)(void *arg), void *arg)
{
	struct registry *r = registry_find(d, name);
	struct err gone;

	if (r == NULL) {
		if (done != NULL)
			done(arg);
		return;
	}
	err_set(&gone, -ECANCELED, "registry %s was stopped", name);
	r->stopping = true;
	r->stopped = done;
	r->stopped_arg = arg;
	if (r->probe != NULL)
		http_cancel(r->probe);
	registry_tell_waiters(r, &gone);
	deadline_cancel(&r->timer);
	service_stop(r->service, stop_relay, r);
}

void registries_release(struct drover *d)
{
	struct registry *r, *tmp;

	list_for_each_entry_safe (r, tmp, &d->registries, entry)
		registry_destroy(r);
}
