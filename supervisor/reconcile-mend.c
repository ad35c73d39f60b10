/* What is done about differences: supervisor/reconcile.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/host-net.h"
#include "supervisor/network.h"
#include "supervisor/network-tap.h"
#include "supervisor/reconcile-private.h"
#include "supervisor/service.h"

#define HOUR_MS      (3600 * (uint64_t)1000)
#define LOST_LOOK_MS 20

/* ---- how ---- */

static void objects_released(void *arg)
{
	struct pass *p = arg;
	struct err err = { 0 };

	if (!pass_resume(p))
		return;
	if (ledger_has(p->r->d->ledger, p->v[p->at].name) &&
		!reconcile_owner_in_use(p->r->d, p->v[p->at].name))
		err_set(&err, -EIO, "not all of it could be released (the log says why)");
	pass_mended(p, err.code < 0 ? &err : NULL);
}

static int mend_objects(struct pass *p, struct difference *diff, struct err *err)
{
	objects_release(p->r->d, diff->name, objects_released, p);
	return 1;
}

static void call_returned(void *arg, const struct err *err)
{
	struct pass *p = arg;

	if (pass_resume(p))
		pass_mended(p, err);
}

static int mend_tap(struct pass *p, struct difference *diff, struct err *err)
{
	int r = link_deleter_tap(p->r->d->linkdel, diff->name, call_returned, p, err);

	return r < 0 ? r : 1;
}

static int mend_folder(struct pass *p, struct difference *diff, struct err *err)
{
	return remove_tree(diff->name, err); /* a few sockets on a tmpfs */
}

static void host_checked(void *arg)
{
	call_returned(arg, NULL);
}

static int mend_host(struct pass *p, struct difference *diff, struct err *err)
{
	network_host_check(p->r->d, host_checked, p);
	return 1;
}

static struct nic *nic_of(struct drover *d, const struct difference *diff)
{
	struct machine *m = machine_find(d, diff->owner + strlen("vm/"));

	for (unsigned i = 0; m != NULL && reconcile_settled(m) && i < m->nnics; i++) {
		if (strcmp(m->nics[i].tap, diff->name) == 0)
			return &m->nics[i];
	}
	return NULL;
}

static void lost_look(struct pass *p)
{
	const struct nic *nic = nic_of(p->r->d, &p->v[p->at]);
	struct err err = { 0 };
	int r = nic != NULL ? network_tap_result(nic, &err) : -ESRCH;

	if (r == -EINPROGRESS) {
		pass_later(p, LOST_LOOK_MS, lost_look);
		return;
	}
	if (nic == NULL)
		err_set(&err, -ESRCH, "its machine has ended");
	pass_mended(p, r < 0 ? &err : NULL);
}

/* By looking at it again and again: the machine may end meanwhile, and we too. */
static int mend_lost(struct pass *p, struct difference *diff, struct err *err)
{
	struct nic *nic = nic_of(p->r->d, diff);
	struct machine *m;

	p->r->busy = false;
	if (nic == NULL)
		return err_set(err, -ESRCH, "its machine has ended");
	m = machine_find(p->r->d, diff->owner + strlen("vm/"));
	network_tap_begin(m, (unsigned)(nic - m->nics));
	pass_later(p, 0, lost_look);
	return 1;
}

static int mend_bridge(struct pass *p, struct difference *diff, struct err *err)
{
	struct bridge_net *b = bridge_find(p->r->d, diff->name);

	if (b == NULL)
		return 0;
	p->wait = (struct bridge_wait){ .ready = call_returned, .arg = p };
	bridge_mend(b, &p->wait);
	return 1;
}

static int mend_link(struct pass *p, struct difference *diff, struct err *err)
{
	struct machine *m = machine_find(p->r->d, diff->owner + strlen("vm/"));
	const struct nic *nic = nic_of(p->r->d, diff);

	return nic != NULL ? network_set_link(m, nic, err) : 0;
}

static int mend_service(struct pass *p, struct difference *diff, struct err *err)
{
	struct machine *m = machine_find(p->r->d, diff->owner + strlen("vm/"));
	struct nic *nic = nic_of(p->r->d, diff);

	return m != NULL && nic != NULL ? network_adopt_nic(m, nic, err) : 0;
}

static int mend_setting(struct pass *p, struct difference *diff, struct err *err)
{
	return host_net_set_again(p->r->d, reconcile_rp_filter_all(p->r->d), err);
}

static int mend_firewall(struct pass *p, struct difference *diff, struct err *err)
{
	host_net_rebuild(p->r->d, call_returned, p);
	return 1;
}

/* clang-format off */
const struct difference_row difference_rows[DIFF_KINDS] = {
	[DIFF_OBJECTS]  = { "objects", true, 0, "released", "released", mend_objects },
	[DIFF_TAP]      = { "tap", true, 0, "deleted", "deleted", mend_tap },
	[DIFF_FOLDER]   = { "folder", true, 0, "removed", "removed", mend_folder },
	[DIFF_STRAY]    = { "stray", true, 0, "ended", "ended", mend_stray },
	[DIFF_HOST]     = { "settings", true, 0, "put back as they were", "put back as they were",
			    mend_host },
	[DIFF_TAP_LOST] = { "tap-lost", false, 60, "made and attached again",
			    "made and attached again", mend_lost },
	[DIFF_BRIDGE]   = { "bridge", false, 60, "put back", "put back", mend_bridge },
	[DIFF_LINK]     = { "link", false, 60, "put back", "put back", mend_link },
	[DIFF_SETTING]  = { "sysctl", false, 6, "set again", "set again", mend_setting },
	[DIFF_FIREWALL] = { "nft-table", false, 12, "made again", "made again", mend_firewall },
	[DIFF_SERVICE]  = { "process", false, 0, "started or found again",
			    "started or found again", mend_service },
};
/* clang-format on */

/* ---- one after the other ---- */

/* Somebody who keeps undoing it does not get us to fight with them. */
static bool within_limit(struct reconciler *r, enum difference_kind kind)
{
	unsigned limit = difference_rows[kind].limit;
	uint64_t now = clock_mono_ms();

	if (limit == 0)
		return true;
	if (r->mends[kind].n == 0 || now - r->mends[kind].since_ms >= HOUR_MS) {
		r->mends[kind].since_ms = now;
		r->mends[kind].n = 0;
	}
	if (r->mends[kind].n < limit) {
		r->mends[kind].n++;
		return true;
	}
	if (r->mends[kind].n == limit) {
		r->mends[kind].n++;
		log_error("reconciler: somebody keeps changing this (%s): it is left alone for an "
			  "hour; `drover doctor --fix` mends it at once",
			difference_rows[kind].word);
	}
	return false;
}

static const char *machine_name(const struct difference *diff)
{
	return diff->owner != NULL && str_starts(diff->owner, "vm/") ? diff->owner + 3 : NULL;
}

static void tell(struct pass *p, const struct difference *diff, const char *event)
{
	const char *vm = machine_name(diff);
	json_t *more = json_object();

	json_put_str(more, "what", difference_rows[diff->kind].word);
	json_put_str(more, "object", diff->name);
	json_put_str(more, "difference", diff->text);
	json_put_str(more, "action", diff->action);
	events_emit(p->r->d->events, vm != NULL ? "vm" : "drover", vm, event, more);
	log_msg(LOG_LVL_WARN, vm, "%s %s: %s: %s", difference_rows[diff->kind].word, diff->name,
		diff->text, diff->action);
}

static void set_action(struct pass *p, struct difference *diff, char *text)
{
	diff->action = text;
	p->nomem = p->nomem || text == NULL;
}

static void next(struct pass *p)
{
	p->at++;
	pass_later(p, 0, pass_mend);
}

/* Only a new run has another TAP then. Told once, however often it is tried. */
static void note_lost(struct pass *p, struct difference *diff, const struct err *why)
{
	struct nic *nic = nic_of(p->r->d, diff);

	set_action(p, diff,
		str_printf(
			"it could not be attached again: %s; `drover restart %s` brings the network back",
			why->msg, machine_name(diff)));
	if (nic == NULL || nic->lost_told)
		return;
	nic->lost_told = true;
	tell(p, diff, "network-lost");
}

/* It was tried just now, or nobody is to be disturbed: what is known of it. */
static bool is_known_lost(struct pass *p, struct difference *diff)
{
	struct nic *nic = diff->kind == DIFF_TAP_LOST ? nic_of(p->r->d, diff) : NULL;
	struct err err;

	if (nic == NULL || p->mode == RECONCILE_NOW || network_tap_result(nic, &err) >= 0 ||
		err.code == 0)
		return false;
	if (p->mode == RECONCILE_AGED && !network_tap_can_wait(nic))
		return false;
	note_lost(p, diff, &err);
	return true;
}

void pass_mended(struct pass *p, const struct err *err)
{
	struct difference *diff = &p->v[p->at];

	diff->mended = err == NULL;
	if (err != NULL && diff->kind == DIFF_TAP_LOST) {
		note_lost(p, diff, err);
		next(p);
		return;
	}
	set_action(p, diff,
		err == NULL ? strdup(difference_rows[diff->kind].did)
			    : str_printf("failed: %s", err->msg));
	tell(p, diff, err == NULL ? "repaired" : "repair-failed");
	next(p);
}

/* Whether it is still as it was found; earlier mends of this pass took their time. */
static bool still_unowned(struct pass *p, const struct difference *diff)
{
	struct drover *d = p->r->d;

	switch (diff->kind) {
	case DIFF_OBJECTS:
	case DIFF_FOLDER:
		return !reconcile_owner_in_use(d, diff->owner);
	case DIFF_TAP:
		return ledger_find(d->ledger, diff->owner, OBJECT_TAP, diff->name) == NULL;
	case DIFF_STRAY:
		return stray_is_unowned(p, diff);
	case DIFF_HOST:
		return !host_net_needed(d);
	default:
		return true;
	}
}

/* service.c starts it again by itself, after a while. */
static bool service_is_waiting(struct pass *p, const struct difference *diff)
{
	const struct nic *nic = nic_of(p->r->d, diff);

	return nic != NULL && nic->dnsmasq != NULL && service_waits(nic->dnsmasq);
}

/* false: nothing is to be done; diff->action says why. */
static bool shall_mend(struct pass *p, struct difference *diff)
{
	const struct difference_row *row = &difference_rows[diff->kind];

	if (diff->kind == DIFF_SERVICE && service_is_waiting(p, diff)) {
		set_action(p, diff, strdup("it is being started again"));
	} else if (is_known_lost(p, diff)) {
		return false;
	} else if (p->mode == RECONCILE_LOOK) {
		set_action(p, diff, str_printf("would be %s", row->would));
	} else if (!still_unowned(p, diff)) {
		set_action(p, diff, strdup("in use again"));
	} else if (p->mode == RECONCILE_AGED && diff->young) {
		set_action(p, diff, strdup("removed when it is older"));
	} else if (p->mode == RECONCILE_AGED && !within_limit(p->r, diff->kind)) {
		set_action(p, diff, strdup("left alone: somebody keeps changing it"));
	} else {
		return true;
	}
	return false;
}

void pass_mend(struct pass *p)
{
	struct difference *diff;
	struct err err;
	int r;

	while (p->at < p->n && !shall_mend(p, &p->v[p->at]))
		p->at++;
	if (p->at == p->n) {
		pass_finish(p);
		return;
	}
	diff = &p->v[p->at];
	p->r->busy = true;
	r = difference_rows[diff->kind].mend(p, diff, &err);
	if (r == 1)
		return;
	p->r->busy = false;
	pass_mended(p, r < 0 ? &err : NULL);
}
