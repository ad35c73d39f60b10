/*
 * The disks of a machine into its snapshot: by sharing blocks where the filesystem can; else by the
 * hypervisor, which copies them as they are at that moment while the guest runs on; else here, for
 * which the guest stands still. supervisor/machine-job.h.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"

static int copy_all(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return snapshot_copy_disks(&j->disks, j->tmp, false, &j->cancelled, err);
}

/* What shares its blocks, and what is no disk of the hypervisor's: firmware's variables, the TPM's. */
static int copy_quick(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	int r = snapshot_copy_disks(&j->disks, j->tmp, true, &j->cancelled, err);

	for (size_t i = 0; i < j->disks.n && r == 0; i++) {
		struct snapshot_disks one = { .v = { j->disks.v[i] }, .n = 1 };

		if (j->disks.v[i].disk || j->disks.v[i].cloned)
			continue;
		r = snapshot_copy_disks(&one, j->tmp, false, &j->cancelled, err);
		j->disks.v[i].cloned = r == 0;
	}
	return r;
}

/* How the hypervisor calls it: by its place (machine-hardware.c). */
static int place_of(const struct machine *m, const char *id, char *out, size_t cap)
{
	size_t at = m->disk_path != NULL;

	if (strcmp(id, "disk0") == 0 && m->disk_path != NULL) {
		snprintf(out, cap, "disk0");
		return 0;
	}
	for (size_t i = 0; i < m->run_cfg->volumes.n; i++) {
		struct volume v;
		bool is_it;

		if (volume_parse(&v, m->run_cfg->volumes.v[i], NULL) < 0)
			break;
		is_it = v.name != NULL && str_starts(id, VOLUME_PREFIX) &&
			strcmp(id + strlen(VOLUME_PREFIX), v.name) == 0;
		volume_finish(&v);
		if (!is_it)
			continue;
		snprintf(out, cap, "disk%zu", at + i);
		return 0;
	}
	return -ENOENT;
}

struct copies {
	struct hv_disk_copy v[SNAPSHOT_DISKS_MAX];
	char ids[SNAPSHOT_DISKS_MAX][16];
	size_t n;
};

static void copies_finish(struct copies *c)
{
	for (size_t i = 0; i < c->n; i++)
		free((char *)(uintptr_t)c->v[i].target);
	c->n = 0;
}

/* Those that are left; -ENOENT for one that the hypervisor does not have. */
static int find_copies(const struct machine_job *j, struct copies *c)
{
	for (size_t i = 0; i < j->disks.n; i++) {
		const struct snapshot_disk *d = &j->disks.v[i];

		if (d->cloned)
			continue;
		if (place_of(j->m, d->id, c->ids[c->n], sizeof(c->ids[0])) < 0)
			return -ENOENT;
		c->v[c->n] = (struct hv_disk_copy){ c->ids[c->n], path_join(j->tmp, d->id) };
		if (c->v[c->n++].target == NULL)
			return -ENOMEM;
	}
	return 0;
}

static void stand_still(struct machine_job *j)
{
	j->pool_next = NULL;
	job_pool(j, copy_all);
}

/* The guest may go on. */
static void begun(void *arg, const struct err *err)
{
	struct machine_job *j = arg;

	j->copy_refused = err != NULL;
	if (err != NULL)
		return; /* and done comes */
	j->waits_hv = false;
	job_next(j, NULL);
}

static void done(void *arg, const struct err *err)
{
	struct machine_job *j = arg;

	j->copying = j->m->copying = false;
	machine_save_soon(j->m);
	if (err != NULL)
		j->copy_err = *err;
	for (size_t i = 0; i < j->disks.n && err == NULL; i++)
		j->disks.v[i].cloned = true;
	if (j->copy_refused) {
		j->copy_err.code = 0;
		j->waits_hv = false;
		log_msg(LOG_LVL_INFO, j->m->name, "the guest stands still for the copy: %s",
			err->msg);
		stand_still(j);
	} else if (j->copy_waited) {
		j->waits_hv = false;
		job_next(j, err);
	}
}

static void copy_rest(struct machine_job *j)
{
	struct copies c = { .n = 0 };
	struct machine *m = j->m;
	int r = j->lost || atomic_load(&j->cancelled) ? -ECANCELED : find_copies(j, &c);

	j->pool_next = NULL;
	if (r == -ECANCELED || (r == 0 && c.n == 0)) {
		job_next(j, NULL);
	} else if (r < 0) {
		stand_still(j);
	} else {
		j->copying = j->waits_hv = m->copying = true;
		machine_save_soon(m);
		machine_flush(m);
		hv_copy_disks(m->hv, c.v, c.n, job_hv_progress, begun, done, j);
	}
	copies_finish(&c);
}

void job_copy_disks(struct machine_job *j)
{
	if (!j->m->process || hv_can(j->m->hv, HV_CAP_COPY_DISKS, NULL) < 0) {
		job_pool(j, copy_all);
		return;
	}
	j->pool_next = copy_rest;
	job_pool(j, copy_quick);
}

void job_await_copies(struct machine_job *j)
{
	struct err err = j->copy_err;

	if (!j->copying || j->lost) {
		job_next(j, err.code != 0 && !j->undoing ? &err : NULL);
		return;
	}
	j->copy_waited = j->waits_hv = true;
	if (j->undoing)
		hv_job_cancel(j->m->hv);
}
