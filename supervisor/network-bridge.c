#include "supervisor/network-bridge.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/bridge.h"
#include "netcfg/dnsmasq-bridge.h"
#include "netcfg/survey.h"
#include "supervisor/faults.h"
#include "supervisor/network-bridge-private.h"
#include "supervisor/network-mirror.h"
#include "supervisor/network-vlan.h"
#include "supervisor/network.h"
#include "supervisor/network6.h"
#include "supervisor/network6-serve.h"
#include "supervisor/plan.h"

#define RETRY_MIN_MS 500
#define RETRY_MAX_MS 30000

/* ---- one network ---- */

static void timer_fired(void *arg)
{
	struct bridge_net *b = arg;

	b->timer_fn(b);
}

static void later(struct bridge_net *b, uint64_t ms, void (*fn)(struct bridge_net *b))
{
	b->timer_fn = fn;
	deadline_set(&b->timer, ms);
}

static void bridge_free(void *arg)
{
	struct bridge_net *b = arg;

	config_box_unref(b->box);
	json_decref(b->applied);
	free(b->name);
	free(b->owner);
	free(b->log_path);
	free(b->dir);
	free(b->dhcp_dir);
	free(b->names_dir);
	free(b->lease_file);
	free(b->mirrors_wanted);
	free(b);
}

static void timer_closed(void *arg)
{
	struct bridge_net *b = arg;

	/* One that never came up has watched no leases: that timer has no argument yet. */
	b->lease_timer.arg = b;
	deadline_close(&b->lease_timer, bridge_free);
}

static int bridge_create(struct bridge_net **out, struct drover *d, const char *name)
{
	struct bridge_net *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return -ENOMEM;
	b->d = d;
	list_init(&b->waiters);
	list_init(&b->leases);
	b->name = strdup(name);
	b->owner = str_printf("net/%s", name);
	b->log_path = str_printf("%s/log/network-%s.log", d->state_dir, name);
	b->dir = str_printf("%s/net/%s", d->run_dir, name);
	b->dhcp_dir = str_printf("%s/net/%s/dhcp", d->run_dir, name);
	b->names_dir = str_printf("%s/net/%s/names", d->run_dir, name);
	b->lease_file = str_printf("%s/net/%s.leases", d->state_dir, name);
	if (b->name == NULL || b->owner == NULL || b->log_path == NULL || b->dir == NULL ||
		b->dhcp_dir == NULL || b->names_dir == NULL || b->lease_file == NULL) {
		bridge_free(b);
		return -ENOMEM;
	}
	b->retry_ms = RETRY_MIN_MS;
	deadline_init(&b->timer, d->loop, timer_fired, b);
	list_append(&d->bridges, &b->entry);
	*out = b;
	return 0;
}

static void bridge_destroy(struct bridge_net *b)
{
	bridge_unwatch_leases(b);
	list_remove(&b->entry);
	service_destroy(b->dnsmasq);
	b->dnsmasq = NULL;
	mirrors_destroy(b);
	network6_servers_destroy(b);
	deadline_close(&b->timer, timer_closed);
}

static void tell_waiters(struct bridge_net *b, const struct err *err)
{
	struct bridge_wait *w;
	struct list waiters;

	list_init(&waiters);
	list_splice(&waiters, &b->waiters);
	while ((w = list_first(&waiters, struct bridge_wait, entry)) != NULL) {
		list_remove(&w->entry);
		w->ready(w->arg, err);
	}
}

/* ---- making ---- */

static void begin(struct bridge_net *b);
static void release(struct bridge_net *b);

static void make_failed(struct bridge_net *b)
{
	json_t *more = json_object();
	struct err err = b->err;

	b->state = BRIDGE_DOWN;
	json_put_str(more, "error", err.msg);
	events_emit(b->d->events, "network", b->name, "failed", more);
	log_error("network %s: %s", b->name, err.msg);
	later(b, b->retry_ms, begin);
	b->retry_ms = MIN(b->retry_ms * 2, RETRY_MAX_MS);
	tell_waiters(b, &err);
}

/* Nobody wants what was under way any more. */
static bool is_over(struct bridge_net *b)
{
	b->rebuilding = false;
	if (b->d->leaving)
		bridge_destroy(b);
	else if (b->release_due)
		release(b);
	else
		return false;
	return true;
}

void bridge_made(void *arg, const struct err *err)
{
	struct bridge_net *b = arg;
	json_t *more;

	if (is_over(b))
		return;
	if (err != NULL) {
		b->err = *err;
		make_failed(b);
		return;
	}
	b->state = BRIDGE_UP;
	b->egress_anew = false; /* what guests ask for from now on stays open */
	b->err.code = 0;
	b->retry_ms = RETRY_MIN_MS;
	more = json_object();
	json_put_str(more, "bridge", b->bridge);
	events_emit(b->d->events, "network", b->name, "ready", more);
	network6_delegate(b);
	tell_waiters(b, NULL);
	bridges_converge(b->d);
}

static void run_steps(struct bridge_net *b)
{
	int r = 0;

	while (r == 0 && b->step < bridge_nsteps) {
		r = fault_at("network", bridge_steps[b->step].name, &b->err);
		if (r == 0)
			r = bridge_steps[b->step++].fn(b, &b->err);
	}
	if (r < 0)
		make_failed(b);
}

void bridge_resume(struct bridge_net *b, const struct err *err)
{
	if (is_over(b))
		return;
	if (err == NULL) {
		run_steps(b);
		return;
	}
	b->err = *err;
	make_failed(b);
}

static void begin(struct bridge_net *b)
{
	b->state = BRIDGE_MAKING;
	b->step = 0;
	run_steps(b);
}

/* From the section as it is now; the steps come on a later turn. */
static int configure(struct bridge_net *b, const struct network_config *cfg)
{
	json_t *applied = plan_applied(&cfg->s);
	char *mirrors = mirrors_wanted(b, cfg, drover_config(b->d));
	const char *key;

	if (applied == NULL || mirrors == NULL || network_values(cfg, &b->v, &key, &b->err) < 0) {
		json_decref(applied);
		free(mirrors);
		return -ENOMEM;
	}
	free(b->mirrors_wanted);
	b->mirrors_wanted = mirrors;
	json_decref(b->applied);
	b->applied = applied;
	config_box_unref(b->box);
	b->box = config_box_ref(b->d->box);
	b->cfg = cfg;
	network_bridge_name(drover_config(b->d)->drover->run_id, cfg, b->bridge);
	b->state = BRIDGE_MAKING;
	b->pending = false;
	later(b, 0, begin);
	return 0;
}

/* ---- as configured ---- */

static bool uses(const struct machine *m, const char *name)
{
	for (unsigned i = 0; machine_active(m) && i < m->nnics; i++) {
		if (m->nics[i].bridge[0] != '\0' && str_eq(m->nics[i].network, name))
			return true;
	}
	return false;
}

static bool is_used(struct drover *d, const char *name)
{
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		if (uses(m, name))
			return true;
	}
	return false;
}

/* By a machine whose change waits until somebody stops it (on_change = defer). */
static bool is_kept(struct drover *d, const char *name)
{
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		if (m->deferred != NULL && uses(m, name))
			return true;
	}
	return false;
}

static const struct network_config *wanted(struct drover *d, const char *name)
{
	const struct network_config *n = config_network(drover_config(d), name);

	return n != NULL && network_has_bridge(n) ? n : NULL;
}

bool bridge_in_use(struct drover *d, const char *owner)
{
	const char *name = owner + strlen("net/");

	return wanted(d, name) != NULL || is_used(d, name) || bridge_find(d, name) != NULL;
}

static void released(void *arg)
{
	struct bridge_net *b = arg;
	struct drover *d = b->d;
	const struct network_config *cfg = wanted(d, b->name);
	void (*gone)(void *arg) = b->gone;
	void *gone_arg = b->gone_arg;
	struct err err;

	if (cfg != NULL && gone == NULL && !d->stopping && !d->leaving && configure(b, cfg) == 0)
		return;
	err_set(&err, -ECANCELED, "network %s is no more", b->name);
	tell_waiters(b, &err);
	if (!d->leaving)
		events_emit(d->events, "network", b->name, "removed", NULL);
	bridge_destroy(b);
	if (gone != NULL)
		gone(gone_arg);
}

static void release(struct bridge_net *b)
{
	b->release_due = b->rebuilding;
	if (b->rebuilding)
		return;
	bridge_unwatch_leases(b);
	deadline_cancel(&b->timer);
	b->state = BRIDGE_GOING;
	objects_release(b->d, b->owner, released, b);
}

/* Whether all that differs can be changed under the machines. */
static bool is_live_change(const json_t *old, const json_t *now)
{
	for (size_t i = 0; i < config_nkeys; i++) {
		const struct config_key *k = &config_keys[i];

		if (k->section == SECTION_NETWORK && k->reload != RELOAD_LIVE &&
			!str_eq(json_str(old, k->name), json_str(now, k->name)))
			return false;
	}
	return true;
}

/* Neither the section is another one, nor are those of its mirrors. */
static bool is_as_applied(
	const struct bridge_net *b, const struct network_config *cfg, const json_t *now)
{
	char *mirrors = mirrors_wanted(b, cfg, drover_config(b->d));
	bool same = mirrors != NULL && str_eq(mirrors, b->mirrors_wanted) &&
		    json_equal(now, b->applied);

	free(mirrors);
	return same;
}

/*
 * What cannot be changed under machines waits for them: those that the plan restarts are about to go,
 * others run on with it as it was.
 */
static void wait_for_machines(struct bridge_net *b)
{
	if (!b->pending)
		log_info("network %s: it is changed when no machine uses it any more", b->name);
	b->pending = true;
	if (b->state == BRIDGE_UP && is_kept(b->d, b->name))
		tell_waiters(b, NULL);
}

/* Somebody has taken the change back. */
static void stay(struct bridge_net *b)
{
	if (b->pending && b->state == BRIDGE_UP)
		tell_waiters(b, NULL);
	b->pending = false;
}

static void converge_one(struct bridge_net *b)
{
	const struct network_config *cfg = wanted(b->d, b->name);
	json_t *now = cfg != NULL ? plan_applied(&cfg->s) : NULL;
	char bridge[16] = "";

	if (cfg != NULL)
		network_bridge_name(drover_config(b->d)->drover->run_id, cfg, bridge);
	/* It comes here again when what is under way has ended. */
	if (b->state == BRIDGE_GOING || (b->state == BRIDGE_MAKING && !deadline_armed(&b->timer)))
		;
	else if (cfg == NULL && !is_used(b->d, b->name))
		release(b);
	else if (now != NULL && strcmp(bridge, b->bridge) == 0 && is_as_applied(b, cfg, now))
		stay(b);
	else if (now != NULL && strcmp(bridge, b->bridge) == 0 && is_live_change(b->applied, now))
		configure(b, cfg);
	else if (now != NULL && is_used(b->d, b->name))
		wait_for_machines(b);
	else if (now != NULL)
		release(b);
	json_decref(now);
}

static void add_new(struct drover *d)
{
	const struct config_array *a = &drover_config(d)->by_kind[SECTION_NETWORK];
	struct bridge_net *b;

	for (size_t i = 0; i < a->n; i++) {
		const struct network_config *cfg = (const void *)a->v[i];

		if (!network_has_bridge(cfg) || bridge_find(d, cfg->s.name) != NULL)
			continue;
		if (bridge_create(&b, d, cfg->s.name) < 0)
			log_error("network %s: no memory", cfg->s.name);
		else if (configure(b, cfg) < 0)
			bridge_destroy(b);
	}
}

/* What an earlier daemon made and the configuration has no more: its last machine is gone, too. */
static struct bridge_net *find_orphan(struct drover *d)
{
	struct ledger_owner *owner;
	struct bridge_net *b;

	list_for_each_entry (owner, ledger_owners(d->ledger), entry) {
		const char *name = owner->name + strlen("net/");

		if (str_starts(owner->name, "net/") && bridge_find(d, name) == NULL &&
			wanted(d, name) == NULL && !is_used(d, name) &&
			bridge_create(&b, d, name) == 0)
			return b;
	}
	return NULL;
}

void bridges_converge(struct drover *d)
{
	struct bridge_net *b, *tmp;

	if (!d->bridges_due || d->leaving || d->stopping)
		return;
	list_for_each_entry_safe (b, tmp, &d->bridges, entry)
		converge_one(b);
	while ((b = find_orphan(d)) != NULL)
		release(b);
	add_new(d);
}

void bridges_release(struct drover *d)
{
	struct bridge_net *b, *tmp;
	struct err err;

	err_set(&err, -ECANCELED, "droverd leaves");
	list_for_each_entry_safe (b, tmp, &d->bridges, entry) {
		tell_waiters(b, &err);
		/* What is under way comes to its end with the others. */
		if (b->state != BRIDGE_GOING && !b->rebuilding)
			bridge_destroy(b);
	}
}

struct stop {
	struct deadline soon;
	unsigned left;
	void (*done)(void *arg);
	void *arg;
};

static void stop_free(void *arg)
{
	free(arg);
}

static void one_stopped(void *arg)
{
	struct stop *s = arg;

	if (--s->left > 0)
		return;
	s->done(s->arg);
	deadline_close(&s->soon, stop_free);
}

void bridges_stop(struct drover *d, void (*done)(void *arg), void *arg)
{
	struct stop *s = calloc(1, sizeof(*s));
	struct bridge_net *b, *tmp;

	if (s == NULL) {
		done(arg);
		return;
	}
	*s = (struct stop){ .left = 1, .done = done, .arg = arg };
	deadline_init(&s->soon, d->loop, one_stopped, s);
	deadline_set(&s->soon, 0);
	list_for_each_entry_safe (b, tmp, &d->bridges, entry) {
		s->left++;
		b->gone = one_stopped;
		b->gone_arg = s;
		if (b->state != BRIDGE_GOING)
			release(b);
	}
}

/* ---- what others ask ---- */

struct bridge_net *bridge_find(const struct drover *d, const char *network)
{
	struct bridge_net *b;

	list_for_each_entry (b, &d->bridges, entry) {
		if (strcmp(b->name, network) == 0)
			return b;
	}
	return NULL;
}

struct bridge_net *bridge_next(const struct drover *d, const struct bridge_net *b)
{
	const struct list *next = b != NULL ? b->entry.next : d->bridges.next;

	return next != &d->bridges ? container_of(next, struct bridge_net, entry) : NULL;
}

const char *bridge_network(const struct bridge_net *b)
{
	return b->name;
}

const char *bridge_owner(const struct bridge_net *b)
{
	return b->owner;
}

const char *bridge_name(const struct bridge_net *b)
{
	return b->bridge;
}

const struct network_config *bridge_config(const struct bridge_net *b)
{
	return b->cfg;
}

const struct network_values *bridge_values(const struct bridge_net *b)
{
	return &b->v;
}

bool bridge_is_foreign(const struct bridge_net *b)
{
	return b->foreign;
}

/* While one that shall not be disturbed keeps it as it is, others can have it so as well. */
bool bridge_ready(const struct bridge_net *b)
{
	return b->state == BRIDGE_UP && (!b->pending || is_kept(b->d, b->name));
}

bool bridge_service_down(const struct bridge_net *b)
{
	return b->state == BRIDGE_DOWN || network6_server_down(b, true) != NULL ||
	       (b->dnsmasq != NULL && !service_up(b->dnsmasq));
}

struct service **bridge_service(struct drover *d, const char *network, const char *service)
{
	struct bridge_net *b = bridge_find(d, network);
	struct service **mirrors = b != NULL ? mirrors_service(b, service) : NULL;

	if (mirrors != NULL)
		return mirrors;
	if (b != NULL && network6_service(b, service) != NULL)
		return network6_service(b, service);
	return b != NULL && b->dnsmasq != NULL && strcmp(service, b->name) == 0 ? &b->dnsmasq
										: NULL;
}

bool bridge_wait(struct drover *d, const char *network, struct bridge_wait *wait)
{
	struct bridge_net *b = bridge_find(d, network);

	if (b == NULL) {
		bridges_converge(d);
		b = bridge_find(d, network);
	}
	if (b == NULL || bridge_ready(b))
		return false;
	list_append(&b->waiters, &wait->entry);
	/* Whoever asks for it has changed something, maybe. */
	if (b->state == BRIDGE_DOWN)
		later(b, 0, begin);
	return true;
}

void bridge_unwait(struct bridge_wait *wait)
{
	list_remove(&wait->entry);
}

/* ---- mending ---- */

bool bridge_differs(const struct bridge_net *b, const struct survey *s, struct buf *text)
{
	struct ip4_prefix address = { b->v.v4.gateway, b->v.v4.net.len };
	struct bridge_info info;
	char gateway[19], port[16];

	if (b->state != BRIDGE_UP)
		return false;
	if (bridge_get(b->d->nl, b->bridge, &info) < 0 || info.index != b->index) {
		buf_printf(text, "bridge %s was deleted", b->bridge);
		return true;
	}
	ip4_prefix_format(address, gateway);
	if (address.len != 0 && !survey_has_address(s, b->index, address))
		buf_printf(text, "address %s of bridge %s is missing", gateway, b->bridge);
	else if (network6_differs(b, text) || network6_routes_differ(b, text))
		;
	else if (!info.up && !b->foreign)
		buf_printf(text, "bridge %s is down", b->bridge);
	else if (b->dnsmasq != NULL && !service_up(b->dnsmasq) && !service_waits(b->dnsmasq))
		buf_adds(text, "its dnsmasq does not run");
	else if (network6_server_down(b, false) != NULL)
		buf_printf(text, "its %s does not run", network6_server_down(b, false));
	else
		mirrors_differ(b, s, text);
	for (size_t i = 0; text->len == 0 && i < b->cfg->port.n; i++) {
		network_port_name(b->cfg, b->cfg->port.v[i], port);
		if (bridge_get(b->d->nl, port, &info) < 0 || info.master != b->index)
			buf_printf(text, "%s is no port of bridge %s", port, b->bridge);
	}
	return text->len > 0;
}

void bridge_mend(struct bridge_net *b, struct bridge_wait *wait)
{
	list_append(&b->waiters, &wait->entry);
	if (b->state == BRIDGE_UP || b->state == BRIDGE_DOWN) {
		b->state = BRIDGE_MAKING;
		later(b, 0, begin);
	}
}

/* ---- nics ---- */

static int put_file(struct bridge_net *b, const char *owner, const char *dir, const char *tap,
	const struct buf *text, struct err *err)
{
	char *path = path_join(dir, tap);
	json_t *data = json_object();
	int r;

	json_put_str(data, "network", b->name);
	r = path == NULL || text->bad ? err_nomem(err)
				      : ledger_add(b->d->ledger, owner, OBJECT_RESERVATION, path,
						json_incref(data), err);
	if (r == 0)
		r = file_write_atomic(path, text->data, text->len, 0644, false, err);
	json_decref(data);
	free(path);
	return r;
}

int bridge_reserve(struct bridge_net *b, const char *owner, const struct nic *nic, const char *name,
	struct err *err)
{
	const struct in6_addr *address6 = network6_address(nic);
	struct buf text = { 0 };
	int r;

	dnsmasq_names(&text, nic->address, address6, name, b->cfg->domain);
	r = put_file(b, owner, b->names_dir, nic->tap, &text, err);
	buf_clear(&text);
	dnsmasq_reservation(&text, nic->mac, nic->address, address6, name);
	if (r == 0)
		r = put_file(b, owner, b->dhcp_dir, nic->tap, &text, err);
	buf_finish(&text);
	return r;
}

int bridge_forget(struct drover *d, const char *path, const char *network, struct err *err)
{
	struct bridge_net *b = network != NULL ? bridge_find(d, network) : NULL;

	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "remove %s", quote(path));
	/* Of a file that is gone dnsmasq knows until then. */
	if (b != NULL && b->dnsmasq != NULL && service_up(b->dnsmasq))
		kill(service_pid(b->dnsmasq), SIGHUP);
	return 0;
}

int bridge_release_port(struct drover *d, const char *port, const json_t *data, struct err *err)
{
	const char *bridge = json_str(data, "bridge");
	struct bridge_info info, master;
	bool ours;
	int r = 0;

	if (bridge == NULL || bridge_get(d->nl, port, &info) < 0)
		return 0;
	ours = info.master != 0 && bridge_get(d->nl, bridge, &master) == 0 &&
	       info.master == master.index;
	/* Somebody has made it the port of another bridge. */
	if (info.master != 0 && !ours)
		return 0;
	if (ours)
		r = bridge_enslave(d->nl, port, NULL, err);
	/* A bridge that went before it has left it up, too. */
	return r == 0 && !json_flag(data, "up", true) ? link_down(d->nl, port, err) : r;
}
