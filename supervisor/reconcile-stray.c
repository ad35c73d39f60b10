/* Processes with our marker that no one owns: supervisor/reconcile.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/child.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/marker.h"
#include "supervisor/reconcile-private.h"

static bool in_ledger(struct drover *d, const struct marked *p)
{
	const struct object *o = ledger_find(d->ledger, p->owner, OBJECT_PROCESS, p->name);

	return o != NULL && o->data != NULL && json_int(o->data, "pid", 0) == p->pid &&
	       (uint64_t)json_int(o->data, "starttime", 0) == p->starttime;
}

/* What is being started is not written down yet, and what is being stopped not any more. */
static bool may_be_used(struct drover *d, const struct marked *p)
{
	const struct machine *m = str_starts(p->owner, "vm/") ? machine_find(d, p->owner + 3)
							      : NULL;
	const struct hv_process *hv;

	if (!str_starts(p->owner, "vm/") && !str_starts(p->owner, "registry/"))
		return true;
	if (in_ledger(d, p))
		return true;
	if (m == NULL || !reconcile_owner_in_use(d, p->owner))
		return false;
	if (!reconcile_settled(m))
		return true;
	hv = hv_process(m->hv);
	return (hv->pid == p->pid && hv->starttime == p->starttime) ||
	       (hv->jail_pid == p->pid && hv->jail_starttime == p->starttime);
}

/* A helper of one of ours has its environment, and goes when it goes. */
static bool is_child_of_ours(const struct marked *v, size_t n, const struct marked *p)
{
	pid_t parent = proc_parent(p->pid);

	for (size_t i = 0; i < n; i++) {
		if (v[i].pid == parent)
			return true;
	}
	return false;
}

/*
 * Each process of the host costs some microseconds, so that what the kernel tells of links and
 * rules is no reason to look; one that was seen and is still too young is.
 */
static bool is_time(struct pass *p)
{
	struct reconciler *r = p->r;
	uint64_t now = clock_mono_ms();
	struct sighting *s;
	bool due = p->mode != RECONCILE_AGED || r->strays_ms == 0 ||
		   now - r->strays_ms >= drover_config(r->d)->drover->reconcile_interval;

	list_for_each_entry (s, &r->sightings, entry)
		due = due || s->kind == DIFF_STRAY;
	if (due)
		r->strays_ms = now;
	return due;
}

void find_strays(struct pass *p)
{
	struct marked *v = NULL;
	struct err err;
	size_t n = 0;

	if (!is_time(p))
		return;
	if (marker_scan(p->r->d->run_dir, &v, &n, &err) < 0)
		log_warn("reconciler: %s (ignoring)", err.msg);
	for (size_t i = 0; i < n; i++) {
		struct difference *diff;
		char name[32];

		if (may_be_used(p->r->d, &v[i]) || is_child_of_ours(v, n, &v[i]))
			continue;
		snprintf(name, sizeof(name), "%d", (int)v[i].pid);
		diff = add_difference(p, DIFF_STRAY, name, v[i].owner,
			"the process %s says that it is ours, and nobody uses it",
			quote(v[i].name));
		if (diff != NULL)
			diff->starttime = v[i].starttime;
		sight(p, diff);
	}
	marked_free(v, n);
}

bool stray_is_unowned(struct pass *p, const struct difference *diff)
{
	struct marked *v = NULL;
	bool unowned = false;
	size_t n = 0;

	if (marker_scan(p->r->d->run_dir, &v, &n, NULL) < 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (v[i].pid == atoi(diff->name) && v[i].starttime == diff->starttime)
			unowned = !may_be_used(p->r->d, &v[i]);
	}
	marked_free(v, n);
	return unowned;
}

/* ---- its end ---- */

struct ending {
	struct pass *p;
	struct child *child;
};

static void ended(void *arg, const struct child_status *status)
{
	struct ending *e = arg;
	struct pass *p = e->p;

	child_release(e->child);
	free(e);
	if (pass_resume(p))
		pass_mended(p, NULL);
}

int mend_stray(struct pass *p, struct difference *diff, struct err *err)
{
	static const struct child_stop_step steps[] = { { SIGTERM, 1000 } };
	struct ending *e = calloc(1, sizeof(*e));
	int r;

	if (e == NULL)
		return err_nomem(err);
	e->p = p;
	r = child_adopt(&e->child, p->r->d->loop, atoi(diff->name), diff->starttime, ended, e, err);
	if (r < 0) {
		free(e);
		return r == -ESRCH ? 0 : r; /* gone meanwhile: the better */
	}
	child_stop(e->child, steps, ARRAY_LEN(steps));
	return 1;
}
