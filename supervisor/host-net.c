#include "supervisor/host-net.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/firewall-set.h"
#include "netcfg/shape.h"
#include "netcfg/sysctl.h"
#include "supervisor/machine-steps.h"
#include "supervisor/network-address.h"
#include "supervisor/network-bridge.h"
#include "supervisor/network-egress.h"
#include "supervisor/network-mirror.h"
#include "supervisor/network-vlan.h"
#include "supervisor/network.h"
#include "supervisor/network6-serve.h"
#include "supervisor/service.h"
#include "supervisor/faults.h"

/* ---- acquiring ---- */

int host_net_change(struct drover *d, const char *key, const char *want, struct err *err)
{
	struct object *o = ledger_find(d->ledger, HOST_OWNER, OBJECT_SYSCTL, key);
	char old[64], now[64];
	json_t *data;
	bool changed;
	int r = sysctl_get(key, old, sizeof(old), err);

	if (r < 0 || strcmp(old, want) == 0)
		return r;
	/* What an earlier daemon found is what is put back. */
	if (o == NULL) {
		data = json_object();
		json_put_str(data, "ours", want);
		json_put_str(data, "old", old);
		r = ledger_add(d->ledger, HOST_OWNER, OBJECT_SYSCTL, key, data, err);
		if (r < 0)
			return r;
	}
	return sysctl_change(key, want, now, sizeof(now), &changed, err);
}

static void table_there(void *arg, const struct err *err)
{
	struct drover *d = arg;

	if (err == NULL)
		return;
	log_error("firewall: %s", err->msg);
	d->host_ready = false;
}

static const struct {
	const char *key, *want;
	enum {
		OF_RP_FILTER_ALL,
		OF_IPV4,
		OF_IPV6
	} of;
} settings[] = {
	{ "net.ipv4.conf.all.rp_filter", "0", OF_RP_FILTER_ALL },
	{ "net.ipv4.ip_forward", "1", OF_IPV4 },
	{ "net.ipv6.conf.all.forwarding", "1", OF_IPV6 },
};

static bool is_needed(const struct drover *d, size_t i, bool rp_filter_all)
{
	switch (settings[i].of) {
	case OF_RP_FILTER_ALL:
		return rp_filter_all;
	case OF_IPV4:
		return d->host_forwards;
	case OF_IPV6:
		return d->host_forwards6;
	}
	return false;
}

bool host_net_setting_differs(const struct drover *d, bool rp_filter_all, struct buf *text)
{
	char now[64];

	for (size_t i = 0; i < ARRAY_LEN(settings); i++) {
		if (!is_needed(d, i, rp_filter_all) ||
			sysctl_get(settings[i].key, now, sizeof(now), NULL) < 0 ||
			strcmp(now, settings[i].want) == 0)
			continue;
		buf_printf(text, "%s is %s", settings[i].key, now);
		return true;
	}
	return false;
}

int host_net_set_again(struct drover *d, bool rp_filter_all, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_LEN(settings); i++) {
		if (is_needed(d, i, rp_filter_all))
			r = host_net_change(d, settings[i].key, settings[i].want, err);
	}
	return r;
}

int host_net_forward(struct drover *d, struct err *err)
{
	int r = d->host_forwards ? 0 : host_net_change(d, "net.ipv4.ip_forward", "1", err);

	d->host_forwards = d->host_forwards || r == 0;
	return r;
}

int host_net_forward6(struct drover *d, struct err *err)
{
	int r = d->host_forwards6 ? 0
				  : host_net_change(d, "net.ipv6.conf.all.forwarding", "1", err);

	d->host_forwards6 = d->host_forwards6 || r == 0;
	return r;
}

int host_net_bridges(struct drover *d, struct err *err)
{
	int r = ledger_add(d->ledger, HOST_OWNER, OBJECT_NFT_TABLE, INET_TABLE, NULL, err);

	if (r == 0)
		r = ledger_add(d->ledger, HOST_OWNER, OBJECT_NFT_TABLE, BRIDGE_TABLE, NULL, err);
	return r;
}

bool host_net_has_bridges(struct drover *d)
{
	return ledger_find(d->ledger, HOST_OWNER, OBJECT_NFT_TABLE, BRIDGE_TABLE) != NULL;
}

json_t *host_net_elements(struct drover *d)
{
	json_t *array = json_array();
	struct ledger_owner *owner;
	struct object *o;

	list_for_each_entry (owner, ledger_owners(d->ledger), entry) {
		list_for_each_entry (o, &owner->objects, entry) {
			if (o->kind == OBJECT_NFT_ELEMENTS && o->data != NULL && !o->going)
				json_array_append(array, o->data);
		}
	}
	return array;
}

int host_net_acquire(struct drover *d, bool rp_filter_all, struct err *err)
{
	struct buf text = { 0 };
	char all[16];
	int r = 0;

	if (rp_filter_all)
		r = host_net_change(d, "net.ipv4.conf.all.rp_filter", "0", err);
	if (r == 0)
		r = host_net_forward(d, err);
	if (r < 0 || d->host_ready)
		return r;
	if (!rp_filter_all &&
		sysctl_get("net.ipv4.conf.all.rp_filter", all, sizeof(all), NULL) == 0 &&
		strcmp(all, "0") != 0)
		log_warn(
			"net.ipv4.conf.all.rp_filter is %s and the kernel takes the larger of it and each link's: "
			"answers that come by another way are dropped; rp_filter = all in the [network] turns it off",
			all);
	r = ledger_add(d->ledger, HOST_OWNER, OBJECT_NFT_TABLE, INET_TABLE, NULL, err);
	if (r < 0)
		return r;
	firewall_table_text(&text);
	if (text.bad || firewall_apply(d->firewall, text.data, table_there, d) < 0)
		r = err_nomem(err);
	else
		d->host_ready = true;
	buf_finish(&text);
	return r;
}

/* ---- the whole table ---- */

static bool tap_of(const struct object *o, struct firewall_tap *out)
{
	const char *net = o->data != NULL ? json_str(o->data, "net") : NULL;

	if (o->kind != OBJECT_NFT_TAP || net == NULL || o->going ||
		ip4_prefix_parse(net, false, &out->net, NULL) < 0)
		return false;
	out->tap = o->name;
	out->nat = json_flag(o->data, "nat", false);
	return true;
}

int host_net_taps(struct drover *d, struct firewall_tap **out, size_t *n, struct err *err)
{
	struct ledger_owner *owner;
	struct firewall_tap *v;
	struct object *o;
	size_t count = 1;

	list_for_each_entry (owner, ledger_owners(d->ledger), entry) {
		list_for_each_entry (o, &owner->objects, entry)
			count += o->kind == OBJECT_NFT_TAP;
	}
	v = calloc(count, sizeof(*v));
	if (v == NULL)
		return err_nomem(err);
	count = 0;
	list_for_each_entry (owner, ledger_owners(d->ledger), entry) {
		list_for_each_entry (o, &owner->objects, entry)
			count += tap_of(o, &v[count]);
	}
	*out = v;
	*n = count;
	return 0;
}

struct rebuild {
	struct deadline soon; /* done never comes from within the call */
	struct err err;
	void (*done)(void *arg, const struct err *err);
	void *arg;
};

static void rebuild_free(void *arg)
{
	free(arg);
}

static void rebuilt(void *arg, const struct err *err)
{
	struct rebuild *b = arg;

	b->done(b->arg, err);
	deadline_close(&b->soon, rebuild_free);
}

static void rebuild_failed(void *arg)
{
	struct rebuild *b = arg;

	rebuilt(b, &b->err);
}

static void add_elements(struct drover *d, struct buf *text)
{
	json_t *all = host_net_elements(d), *e;
	size_t i;

	json_array_foreach (all, i, e)
		firewall_elements_add_text(text, e);
	json_decref(all);
}

void host_net_rebuild(struct drover *d, void (*done)(void *arg, const struct err *err), void *arg)
{
	struct rebuild *b = calloc(1, sizeof(*b));
	struct firewall_tap *taps = NULL;
	struct buf text = { 0 };
	size_t n = 0;
	int r;

	if (b == NULL) {
		struct err err;

		err_nomem(&err);
		done(arg, &err);
		return;
	}
	b->done = done;
	b->arg = arg;
	deadline_init(&b->soon, d->loop, rebuild_failed, b);
	r = host_net_taps(d, &taps, &n, &b->err);
	firewall_table_text(&text);
	if (host_net_has_bridges(d))
		firewall_bridge_text(&text);
	for (size_t i = 0; i < n; i++)
		firewall_tap_add_text(&text, taps[i].tap, taps[i].net, taps[i].nat);
	add_elements(d, &text);
	network_egress_text(d, &text);
	if (r == 0)
		r = ledger_add(d->ledger, HOST_OWNER, OBJECT_NFT_TABLE, INET_TABLE, NULL, &b->err);
	if (r == 0 && (text.bad || firewall_apply(d->firewall, text.data, rebuilt, b) < 0))
		r = err_nomem(&b->err);
	if (r < 0)
		deadline_set(&b->soon, 0);
	buf_finish(&text);
	free(taps);
}

/* ---- releasing ---- */

struct release {
	struct drover *d;
	char *owner;
	char *of_tap;          /* only what belongs to this TAP; NULL: everything */
	struct object *object; /* the one under way */
	enum object_kind kind;
	char *name;
	uint64_t generation;
	struct deadline soon;
	struct service **service; /* of a live machine, to be destroyed after its stop */
	void (*done)(void *arg);
	void *arg;
};

static void release_next(void *arg);

static void release_free(void *arg)
{
	struct release *r = arg;

	free(r->owner);
	free(r->of_tap);
	free(r);
}

static void release_end(struct release *r)
{
	r->done(r->arg);
	deadline_close(&r->soon, release_free);
}

/* The object is gone, unless somebody has made it anew meanwhile. */
static void object_gone(struct release *r)
{
	struct object *o = ledger_find(r->d->ledger, r->owner, r->kind, r->name);

	if (o != NULL && o->generation == r->generation)
		ledger_remove(r->d->ledger, r->owner, r->kind, r->name);
	free(r->name);
	r->name = NULL;
	deadline_set(&r->soon, 0);
}

static void released(void *arg, const struct err *err)
{
	struct release *r = arg;

	if (err == NULL) {
		object_gone(r);
		return;
	}
	if (err->code == -ECANCELED && r->d->leaving) {
		free(r->name);
		release_end(r);
		return;
	}
	log_error("%s: cannot release %s %s: %s (it is tried again later)", r->owner,
		object_kind_name(r->kind), r->name, err->msg);
	ledger_fail(r->d->ledger, r->owner, r->kind, r->name);
	free(r->name);
	r->name = NULL;
	deadline_set(&r->soon, 0);
}

static void service_gone(void *arg)
{
	struct release *r = arg;

	if (r->service != NULL) {
		service_destroy(*r->service);
		*r->service = NULL;
	}
	object_gone(r);
}

/* The service object of a machine of ours that watches this process; NULL: only the ledger knows. */
static struct service **find_service(struct release *r)
{
	struct machine *m;

	if (str_starts(r->owner, "net/"))
		return bridge_service(r->d, r->owner + 4, r->name);
	if (!str_starts(r->owner, "vm/"))
		return NULL;
	m = machine_find(r->d, r->owner + 3);
	for (unsigned i = 0; m != NULL && i < m->nnics; i++) {
		char name[64];

		snprintf(name, sizeof(name), "dnsmasq-%s", m->nics[i].tap);
		if (m->nics[i].dnsmasq != NULL && strcmp(name, r->name) == 0)
			return &m->nics[i].dnsmasq;
	}
	return m != NULL ? machine_helper_find(m, r->name) : NULL;
}

static void release_process(struct release *r, struct object *o)
{
	r->service = find_service(r);
	if (r->service != NULL)
		service_stop(*r->service, service_gone, r);
	else
		service_stop_orphan(r->d, r->owner, o, service_gone, r);
}

static void firewall_text(struct release *r, struct buf *text)
{
	struct object *o = ledger_find(r->d->ledger, r->owner, r->kind, r->name);
	const char *net = o->data != NULL ? json_str(o->data, "net") : NULL;
	struct ip4_prefix p;

	if (r->kind == OBJECT_NFT_TABLE && network_egress_delete(r->name, text))
		return;
	if (r->kind == OBJECT_NFT_TABLE && strcmp(r->name, BRIDGE_TABLE) == 0)
		firewall_bridge_delete_text(text);
	else if (r->kind == OBJECT_NFT_TABLE)
		firewall_table_delete_text(text);
	else if (r->kind == OBJECT_NFT_ELEMENTS)
		firewall_elements_delete_text(text, o->data);
	else if (net != NULL && ip4_prefix_parse(net, false, &p, NULL) == 0)
		firewall_tap_delete_text(text, r->name, p, json_flag(o->data, "nat", false));
}

static void firewall_closed(void *arg, const struct err *err)
{
	/* A table that somebody else has removed took its elements along. */
	released(arg, err != NULL && err->code == -ENOENT ? NULL : err);
}

static int release_one(struct release *r, struct object *o, struct err *err)
{
	struct buf text = { 0 };
	char ifb[16];
	int ret = 0;

	switch (r->kind) {
	case OBJECT_DIR:
		ret = remove_tree(r->name, err);
		break;
	case OBJECT_SYSCTL:
		ret = sysctl_restore(
			r->name, json_str(o->data, "ours"), json_str(o->data, "old"), err);
		break;
	case OBJECT_TAP:
		ret = link_deleter_tap(r->d->linkdel, r->name, released, r, err);
		return ret == 0 ? 1 : ret;
	case OBJECT_BRIDGE:
		ret = link_deleter_bridge(r->d->linkdel, r->name, released, r, err);
		return ret == 0 ? 1 : ret;
	case OBJECT_IFB:
		shape_ifb_name(r->name, ifb);
		ret = link_deleter_ifb(r->d->linkdel, ifb, released, r, err);
		return ret == 0 ? 1 : ret;
	case OBJECT_PORT:
		if (json_str(o->data, "of") != NULL) {
			bridge_released_vlan(r->d, r->owner, r->name, o->data);
			ret = link_deleter_vlan(r->d->linkdel, r->name, released, r, err);
			return ret == 0 ? 1 : ret;
		}
		ret = bridge_release_port(r->d, r->name, o->data, err);
		break;
	case OBJECT_MIRROR:
		ret = mirror_release_address(r->d, r->name, o->data, err);
		break;
	case OBJECT_ADDRESS:
		ret = bridge_take_address(r->d, r->name, o->data, err);
		break;
	case OBJECT_ROUTE:
		ret = network6_release_route(r->d, o->data, err);
		break;
	case OBJECT_RESERVATION:
		ret = bridge_forget(r->d, r->name, json_str(o->data, "network"), err);
		break;
	case OBJECT_NFT_TABLE:
	case OBJECT_NFT_TAP:
	case OBJECT_NFT_ELEMENTS:
		firewall_text(r, &text);
		if (text.len > 0 &&
			firewall_apply(r->d->firewall, text.data, firewall_closed, r) == 0)
			ret = 1;
		buf_finish(&text);
		return ret;
	case OBJECT_PROCESS:
		release_process(r, o);
		return 1;
	case OBJECT_CGROUP:
		ret = cgroup_remove(r->d->loop, r->name, released, r);
		return ret == 0 ? 1 : err_nomem(err);
	case OBJECT_KINDS:
		break;
	}
	return ret;
}

static void release_next(void *arg)
{
	struct release *r = arg;
	/* When we are leaving the next daemon goes on with what the ledger still has. */
	struct object *o = r->d->leaving ? NULL : ledger_last(r->d->ledger, r->owner, r->of_tap);
	struct err err;
	int ret;

	if (o == NULL) {
		release_end(r);
		return;
	}
	r->kind = o->kind;
	r->generation = o->generation;
	o->going = true;
	r->name = strdup(o->name);
	if (r->name == NULL) {
		log_error("%s: no memory to release its objects", r->owner);
		release_end(r);
		return;
	}
	ret = fault_at("release", object_kind_name(r->kind), &err);
	if (ret == 0)
		ret = release_one(r, o, &err);
	if (ret != 1)
		released(r, ret < 0 ? &err : NULL);
}

/* tap: only what belongs to it; NULL: everything. */
static int release_begin(
	struct drover *d, const char *owner, const char *tap, void (*done)(void *arg), void *arg)
{
	struct release *r = calloc(1, sizeof(*r));

	if (r == NULL || (r->owner = strdup(owner)) == NULL) {
		free(r);
		return -1;
	}
	if (tap != NULL && (r->of_tap = strdup(tap)) == NULL) {
		free(r->owner);
		free(r);
		return -1;
	}
	r->d = d;
	r->done = done;
	r->arg = arg;
	ledger_retry(d->ledger, owner);
	deadline_init(&r->soon, d->loop, release_next, r);
	deadline_set(&r->soon, 0);
	return 0;
}

static const char *release_point(size_t i)
{
	return i < OBJECT_KINDS ? object_kind_name((enum object_kind)i) : NULL;
}
const struct fault_table release_faults = { "release", release_point, FAULT_ALL };

/* ---- the host's own, after the last machine's ---- */

struct after {
	struct drover *d;
	void (*done)(void *arg);
	void *arg;
};

bool host_net_needed(struct drover *d)
{
	struct ledger_owner *owner;
	struct object *o;

	list_for_each_entry (owner, ledger_owners(d->ledger), entry) {
		list_for_each_entry (o, &owner->objects, entry) {
			if (o->kind == OBJECT_TAP || o->kind == OBJECT_NFT_TAP ||
				o->kind == OBJECT_BRIDGE || o->kind == OBJECT_NFT_ELEMENTS)
				return true;
		}
	}
	return false;
}

void network_host_check(struct drover *d, void (*done)(void *arg), void *arg)
{
	if (d->leaving || host_net_needed(d) || !ledger_has(d->ledger, HOST_OWNER)) {
		done(arg);
		return;
	}
	d->host_ready = d->host_forwards = d->host_forwards6 = false;
	if (release_begin(d, HOST_OWNER, NULL, done, arg) < 0)
		done(arg);
}

static void owner_released(void *arg)
{
	struct after *after = arg;
	struct drover *d = after->d;
	void (*done)(void *arg) = after->done;
	void *done_arg = after->arg;

	free(after);
	/* A network that is no longer configured had waited for its last machine. */
	bridges_converge(d);
	network_host_check(d, done, done_arg);
}

void objects_release_tap(
	struct drover *d, const char *owner, const char *tap, void (*done)(void *arg), void *arg)
{
	struct after *after = calloc(1, sizeof(*after));

	if (after != NULL) {
		*after = (struct after){ d, done, arg };
		if (release_begin(d, owner, tap, owner_released, after) == 0)
			return;
		free(after);
	}
	log_error("%s: no memory to release its objects", owner);
	done(arg);
}

void objects_release(struct drover *d, const char *owner, void (*done)(void *arg), void *arg)
{
	objects_release_tap(d, owner, NULL, done, arg);
}
