#include "supervisor/reconcile-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/network-egress.h"
#include "supervisor/network-uplink.h"
#include "supervisor/network-watch.h"

/* Changes come in bunches; and whoever keeps changing things back shall not keep us busy. */
#define KICK_MS  50
#define PAUSE_MS 1000

/* ---- passes ---- */

static void pass_begin(struct pass *p);

static void next_pass(struct reconciler *r)
{
	struct pass *p = list_first(&r->passes, struct pass, entry);

	if (p != NULL)
		pass_later(p, 0, pass_begin);
}

void pass_later(struct pass *p, uint64_t ms, void (*fn)(struct pass *p))
{
	p->r->step_fn = fn;
	deadline_set(&p->r->step, ms);
}

static void step(void *arg)
{
	struct reconciler *r = arg;
	struct pass *p = list_first(&r->passes, struct pass, entry);

	if (p != NULL)
		r->step_fn(p);
}

static void pass_free(struct pass *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->v[i].name);
		free(p->v[i].owner);
		free(p->v[i].text);
		free(p->v[i].action);
	}
	free(p->v);
	free(p);
}

static void sighting_free(struct sighting *s)
{
	list_remove(&s->entry);
	free(s->name);
	free(s);
}

static void pass_begin(struct pass *p)
{
	struct reconciler *r = p->r;
	struct sighting *s, *tmp;

	if (p->mode == RECONCILE_AGED)
		r->kicked = false;
	if (p->mode != RECONCILE_LOOK && r->d->look_after != NULL)
		r->d->look_after(r->d);
	r->young_ms = UINT64_MAX;
	list_for_each_entry (s, &r->sightings, entry)
		s->seen = false;
	find_differences(p);
	list_for_each_entry_safe (s, tmp, &r->sightings, entry) {
		if (!s->seen)
			sighting_free(s);
	}
	find_firewall(p);
}

static json_t *differences_json(const struct pass *p)
{
	json_t *array = json_array();

	for (size_t i = 0; i < p->n; i++) {
		const struct difference *diff = &p->v[i];
		json_t *j = json_object();

		json_put_str(j, "kind", difference_rows[diff->kind].word);
		json_put_str(j, "name", diff->name);
		json_put_str(j, "owner", diff->owner);
		json_put_str(j, "difference", diff->text);
		json_put_str(j, "action", diff->action);
		json_put_bool(j, "mended", diff->mended);
		json_array_append_new(array, j);
	}
	return array;
}

static void arm(struct reconciler *r)
{
	uint64_t ms = drover_config(r->d)->drover->reconcile_interval;

	if (!r->kicked)
		deadline_set(&r->timer, MIN(ms, r->young_ms));
}

void pass_finish(struct pass *p)
{
	struct reconciler *r = p->r;
	json_t *differences = differences_json(p);
	struct err err;

	if (p->mode != RECONCILE_LOOK && !r->destroyed)
		network_egress_refresh(r->d);
	list_remove(&p->entry);
	r->last_pass_ms = clock_mono_ms();
	if (p->done != NULL && p->nomem) {
		err_nomem(&err);
		p->done(p->arg, NULL, &err);
	} else if (p->done != NULL) {
		p->done(p->arg, differences, NULL);
	}
	json_decref(differences);
	pass_free(p);
	if (r->destroyed)
		return;
	arm(r);
	next_pass(r);
}

int reconcile_run(struct reconciler *r, enum reconcile_mode mode, reconcile_done_fn *done,
	void *arg, struct err *err)
{
	struct pass *p;
	bool first;

	if (r == NULL || r->destroyed)
		return err_set(err, -ECANCELED, "droverd is starting or stopping");
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_nomem(err);
	*p = (struct pass){ .r = r, .mode = mode, .done = done, .arg = arg };
	first = list_empty(&r->passes);
	list_append(&r->passes, &p->entry);
	if (first)
		next_pass(r);
	return 0;
}

/* ---- when ---- */

static void timer(void *arg)
{
	struct reconciler *r = arg;
	struct err err;

	if (reconcile_run(r, RECONCILE_AGED, NULL, NULL, &err) < 0) {
		log_error("reconciler: %s", err.msg);
		deadline_set(&r->timer, drover_config(r->d)->drover->reconcile_interval);
	}
}

static void kick(struct reconciler *r)
{
	uint64_t since = clock_mono_ms() - r->last_pass_ms;

	if (r->kicked || r->destroyed)
		return;
	r->kicked = true;
	deadline_set(&r->timer, since >= PAUSE_MS ? KICK_MS : PAUSE_MS - since + KICK_MS);
}

void reconcile_rearm(struct reconciler *r)
{
	if (r != NULL && list_empty(&r->passes))
		arm(r);
}

static bool is_used(struct reconciler *r, const char *tap)
{
	const struct machine *m;
	struct bridge_net *b;

	for (b = bridge_next(r->d, NULL); b != NULL; b = bridge_next(r->d, b)) {
		if (strcmp(bridge_name(b), tap) == 0)
			return bridge_ready(b);
	}
	list_for_each_entry (m, &r->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			if (strcmp(m->nics[i].tap, tap) == 0)
				return reconcile_settled(m) && !m->nics[i].lost;
		}
	}
	return false;
}

static void link_event(void *arg, const struct net_event *e)
{
	struct reconciler *r = arg;
	bool loss = e->kind == NET_LINK_GONE || e->kind == NET_ADDRESS_GONE ||
		    (e->kind == NET_LINK_CHANGED && !e->up);

	loss = network_watch(r->d, e) || (loss && is_used(r, e->ifname));
	if (e->kind == NET_EVENTS_LOST || loss)
		kick(r);
}

static void nft_event(void *arg)
{
	struct reconciler *r = arg;

	if (r->d->host_ready)
		kick(r);
}

/* ---- begin and end ---- */

static void handle_closed(void *arg)
{
	struct reconciler *r = arg;

	if (--r->handles == 0)
		free(r);
}

static void release(struct reconciler *r)
{
	struct sighting *s, *tmp;

	list_for_each_entry_safe (s, tmp, &r->sightings, entry)
		sighting_free(s);
	r->handles = 4;
	deadline_close(&r->timer, handle_closed);
	deadline_close(&r->step, handle_closed);
	net_monitor_destroy(r->links, handle_closed, r);
	nft_monitor_destroy(r->nft, handle_closed, r);
}

bool pass_resume(struct pass *p)
{
	struct reconciler *r = p->r;

	r->busy = false;
	if (!r->destroyed)
		return true;
	/* It was told already that it is cancelled. */
	list_remove(&p->entry);
	pass_free(p);
	release(r);
	return false;
}

int reconcile_create(struct reconciler **out, struct drover *d, struct err *err)
{
	struct reconciler *r = calloc(1, sizeof(*r));
	struct err mine;

	if (r == NULL)
		return err_nomem(err);
	r->d = d;
	r->young_ms = UINT64_MAX;
	list_init(&r->passes);
	list_init(&r->sightings);
	deadline_init(&r->timer, d->loop, timer, r);
	deadline_init(&r->step, d->loop, step, r);
	network_uplink_start(d);
	/* Without them the timer finds everything, later. */
	if (net_monitor_create(&r->links, d->loop, link_event, r, &mine) < 0)
		log_warn("reconciler: %s (ignoring)", mine.msg);
	if (nft_monitor_create(&r->nft, d->loop, nft_event, r, &mine) < 0)
		log_warn("reconciler: %s (ignoring)", mine.msg);
	/* Not before the first answers: whoever waits for the API has waited for the adoption. */
	r->kicked = true;
	deadline_set(&r->timer, KICK_MS);
	*out = r;
	return 0;
}

void reconcile_destroy(struct reconciler *r)
{
	struct pass *running = NULL, *p;
	struct err err;

	if (r == NULL)
		return;
	r->destroyed = true;
	network_uplink_release(r->d);
	err_set(&err, -ECANCELED, "droverd is stopping");
	if (r->busy)
		running = list_first(&r->passes, struct pass, entry);
	while ((p = list_first(&r->passes, struct pass, entry)) != NULL) {
		list_remove(&p->entry);
		if (p->done != NULL)
			p->done(p->arg, NULL, &err);
		p->done = NULL;
		if (p != running)
			pass_free(p);
	}
	deadline_cancel(&r->timer);
	deadline_cancel(&r->step);
	if (running == NULL)
		release(r);
	else if (r->listing != NULL)
		firewall_list_cancel(r->listing);
}
