/* What differs between the host and what should be there: supervisor/reconcile.h. */
#include <dirent.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/host-net.h"
#include "supervisor/network-bridge.h"
#include "supervisor/network.h"
#include "supervisor/reconcile-private.h"
#include "supervisor/registry.h"
#include "supervisor/service.h"

#define LIST_TRIES 40
#define LIST_MS    50

struct difference *add_difference(struct pass *p, enum difference_kind kind, const char *name,
	const char *owner, const char *fmt, ...)
{
	struct difference *diff;
	struct buf text = { 0 };
	va_list ap;

	if (p->n == p->cap) {
		size_t cap = p->cap == 0 ? 16 : p->cap * 2;

		diff = reallocarray(p->v, cap, sizeof(*diff));
		if (diff == NULL) {
			p->nomem = true;
			return NULL;
		}
		p->v = diff;
		p->cap = cap;
	}
	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	diff = &p->v[p->n];
	*diff = (struct difference){ .kind = kind,
		.name = strdup(name),
		.owner = owner != NULL ? strdup(owner) : NULL,
		.text = buf_steal(&text) };
	if (diff->name == NULL || diff->text == NULL || (owner != NULL && diff->owner == NULL)) {
		free(diff->name);
		free(diff->owner);
		free(diff->text);
		p->nomem = true;
		return NULL;
	}
	p->n++;
	return diff;
}

/* ---- what no one owns ---- */

/* Since when it is known, and whether that is long enough. */
void sight(struct pass *p, struct difference *diff)
{
	uint64_t min = drover_config(p->r->d)->drover->reconcile_min_age, age;
	uint64_t now = clock_mono_ms();
	struct sighting *s, *found = NULL;

	if (diff == NULL)
		return;
	list_for_each_entry (s, &p->r->sightings, entry) {
		if (s->kind == diff->kind && strcmp(s->name, diff->name) == 0)
			found = s;
	}
	if (found == NULL) {
		found = calloc(1, sizeof(*found));
		if (found != NULL)
			found->name = strdup(diff->name);
		if (found == NULL || found->name == NULL) {
			free(found);
			diff->young = true;
			p->nomem = true;
			return;
		}
		found->kind = diff->kind;
		found->since_ms = now;
		list_append(&p->r->sightings, &found->entry);
	}
	found->seen = true;
	age = now - found->since_ms;
	diff->young = age < min;
	if (diff->young)
		p->r->young_ms = MIN(p->r->young_ms, min - age + 1);
}

bool reconcile_owner_in_use(struct drover *d, const char *owner)
{
	const struct machine *m;

	if (str_starts(owner, "vm/")) {
		m = machine_find(d, owner + 3);
		return m != NULL && (machine_active(m) || m->op != NULL || m->tearing_down);
	}
	if (str_starts(owner, "registry/"))
		return config_find(drover_config(d), SECTION_REGISTRY, owner + 9) != NULL ||
		       registry_applied(d, owner + 9) != NULL;
	if (str_starts(owner, "net/"))
		return bridge_in_use(d, owner);
	return true; /* of the host, or not known here */
}

static void find_objects(struct pass *p)
{
	struct drover *d = p->r->d;
	struct ledger_owner *owner;

	list_for_each_entry (owner, ledger_owners(d->ledger), entry) {
		const struct object *first;
		struct object *o;
		size_t n = 0;

		if (reconcile_owner_in_use(d, owner->name))
			continue;
		list_for_each_entry (o, &owner->objects, entry)
			n++;
		first = list_first(&owner->objects, struct object, entry);
		if (n == 0)
			continue;
		sight(p, add_difference(p, DIFF_OBJECTS, owner->name, owner->name,
				 "it does not run and still has %s %s%s",
				 object_kind_name(first->kind), first->name,
				 n > 1 ? " and more" : ""));
	}
	if (!host_net_needed(d) && ledger_has(d->ledger, HOST_OWNER))
		sight(p, add_difference(p, DIFF_HOST, HOST_OWNER, HOST_OWNER,
				 "no machine needs the host's settings any more"));
}

static bool is_nic_of(const struct machine *m, const char *tap)
{
	for (unsigned i = 0; m != NULL && i < m->nnics; i++) {
		if (strcmp(m->nics[i].tap, tap) == 0)
			return true;
	}
	return false;
}

/* TAPs whose alias says that they are this droverd's, and which the ledger does not know. */
static void find_taps(struct pass *p, const struct survey *s)
{
	struct drover *d = p->r->d;
	char *prefix = network_alias(d, "vm/");

	if (prefix == NULL) {
		p->nomem = true;
		return;
	}
	for (size_t i = 0; i < s->ntaps; i++) {
		const struct survey_tap *tap = &s->taps[i];
		const char *owner;

		if (tap->alias == NULL || !str_starts(tap->alias, prefix))
			continue;
		owner = tap->alias + strlen(prefix) - 3;
		if (ledger_find(d->ledger, owner, OBJECT_TAP, tap->name) != NULL ||
			(reconcile_owner_in_use(d, owner) &&
				is_nic_of(machine_find(d, owner + 3), tap->name)))
			continue;
		sight(p, add_difference(p, DIFF_TAP, tap->name, owner,
				 "its alias says that it is ours, and no machine uses it"));
	}
	free(prefix);
}

static void find_folders(struct pass *p)
{
	struct drover *d = p->r->d;
	char *path = path_join(d->run_dir, "vm"), owner[NAME_LEN_MAX + 4];
	DIR *dir = path != NULL ? opendir(path) : NULL;
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		char *folder;

		if (name_check(e->d_name, "machine", NULL) < 0)
			continue;
		folder = path_join(path, e->d_name);
		snprintf(owner, sizeof(owner), "vm/%s", e->d_name);
		if (folder != NULL && !reconcile_owner_in_use(d, owner) &&
			ledger_find(d->ledger, owner, OBJECT_DIR, folder) == NULL)
			sight(p, add_difference(p, DIFF_FOLDER, folder, owner,
					 "its machine does not run"));
		free(folder);
	}
	if (dir != NULL)
		closedir(dir);
	free(path);
}

/* ---- what running machines lack ---- */

bool reconcile_settled(const struct machine *m)
{
	return m->process && m->state != MACHINE_STOPPING && m->state != MACHINE_PREPARING &&
	       !m->tearing_down && !m->attaching && m->nic_job == NULL;
}

static void find_nic(struct pass *p, struct machine *m, struct nic *nic, const struct survey *s)
{
	const struct survey_tap *tap = survey_tap(s, nic->tap);
	struct buf text = { 0 };

	/* A TAP that has the name of the deleted one is another. */
	if (tap == NULL || (nic->ifindex != 0 && tap->index != nic->ifindex)) {
		add_difference(p, DIFF_TAP_LOST, nic->tap, m->owner,
			"the TAP was deleted, and the hypervisor holds the deleted one");
		return;
	}
	nic->ifindex = tap->index;
	if (network_link_differs(m, nic, s, tap, &text))
		add_difference(p, DIFF_LINK, nic->tap, m->owner, "%s", buf_str(&text));
	else if (!tap->up)
		add_difference(p, DIFF_LINK, nic->tap, m->owner, "it is down");
	buf_finish(&text);
	if (network_service_down(p->r->d, nic))
		add_difference(p, DIFF_SERVICE, nic->tap, m->owner,
			nic->bridge[0] != '\0' ? "a server of its network does not run"
					       : "its dnsmasq does not run");
}

/* Before the nics, whose TAPs become their ports again. */
static void find_bridges(struct pass *p, const struct survey *s)
{
	struct bridge_net *b;

	for (b = bridge_next(p->r->d, NULL); b != NULL; b = bridge_next(p->r->d, b)) {
		struct buf text = { 0 };

		if (bridge_differs(b, s, &text))
			add_difference(p, DIFF_BRIDGE, bridge_network(b), bridge_owner(b), "%s",
				buf_str(&text));
		buf_finish(&text);
	}
}

static void find_nics(struct pass *p, const struct survey *s)
{
	struct machine *m;

	list_for_each_entry (m, &p->r->d->machines, entry) {
		for (unsigned i = 0; reconcile_settled(m) && i < m->nnics; i++) {
			if (network_attached(&m->nics[i]) && !m->nics[i].user)
				find_nic(p, m, &m->nics[i], s);
		}
	}
}

bool reconcile_rp_filter_all(struct drover *d)
{
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; m->run_box != NULL && i < m->nnics; i++) {
			const struct network_config *net = m->nics[i].network != NULL
								   ? network_of_nic(m, &m->nics[i])
								   : NULL;

			if (net != NULL && net->rp_filter == RP_FILTER_ALL)
				return true;
		}
	}
	return false;
}

static void find_settings(struct pass *p)
{
	struct buf text = { 0 };

	if (p->r->d->host_ready &&
		host_net_setting_differs(p->r->d, reconcile_rp_filter_all(p->r->d), &text))
		add_difference(
			p, DIFF_SETTING, "host", NULL, "%s, guests are cut off", buf_str(&text));
	buf_finish(&text);
}

void find_differences(struct pass *p)
{
	struct survey s = { 0 };
	struct err err;

	find_objects(p);
	find_folders(p);
	find_strays(p);
	if (survey_take(p->r->d->nl, &s, &err) < 0) {
		log_warn("reconciler: %s (ignoring)", err.msg);
	} else {
		find_taps(p, &s);
		find_bridges(p, &s);
		find_nics(p, &s);
	}
	survey_finish(&s);
	find_settings(p);
}

/* ---- the firewall ---- */

static void compare(struct pass *p, const char *json, size_t len)
{
	const char *table = p->table == FIREWALL_BRIDGE ? BRIDGE_TABLE : INET_TABLE;
	struct firewall_tap *taps = NULL;
	struct buf text = { 0 };
	json_t *elements;
	struct err err;
	size_t n = 0;

	if (json == NULL) {
		p->firewall_differs = add_difference(p, DIFF_FIREWALL, table, NULL,
					      "the table is missing") != NULL;
		return;
	}
	if (host_net_taps(p->r->d, &taps, &n, &err) < 0) {
		p->nomem = true;
		return;
	}
	elements = host_net_elements(p->r->d);
	if (!firewall_same(p->table, json, len, taps, n, elements, &text))
		p->firewall_differs = add_difference(p, DIFF_FIREWALL, table, NULL, "%s",
					      buf_str(&text)) != NULL;
	json_decref(elements);
	buf_finish(&text);
	free(taps);
}

static void listed(void *arg, const char *json, size_t len, const struct err *err)
{
	struct pass *p = arg;
	struct drover *d = p->r->d;

	p->r->listing = NULL;
	if (!pass_resume(p))
		return;
	/* What changed while nft looked makes the picture worthless. */
	if (err == NULL && firewall_requests(d->firewall) != p->requests && p->tries < LIST_TRIES) {
		pass_later(p, LIST_MS, find_firewall);
		return;
	}
	if (err != NULL)
		log_warn("reconciler: %s (ignoring)", err->msg);
	else if (d->host_ready && firewall_requests(d->firewall) == p->requests)
		compare(p, json, len);
	/* Making one table again makes the other one, too. */
	if (p->table == FIREWALL_INET && host_net_has_bridges(d) && !p->firewall_differs) {
		p->table = FIREWALL_BRIDGE;
		pass_later(p, 0, find_firewall);
		return;
	}
	pass_mend(p);
}

void find_firewall(struct pass *p)
{
	struct reconciler *r = p->r;
	struct err err;

	if (!r->d->host_ready || p->tries == LIST_TRIES) {
		pass_mend(p);
		return;
	}
	p->tries++;
	if (!firewall_idle(r->d->firewall)) {
		pass_later(p, LIST_MS, find_firewall);
		return;
	}
	p->requests = firewall_requests(r->d->firewall);
	r->busy = true;
	if (firewall_list(&r->listing, r->d->loop, p->table, listed, p, &err) < 0) {
		r->busy = false;
		log_warn("reconciler: %s (ignoring)", err.msg);
		pass_mend(p);
	}
}
