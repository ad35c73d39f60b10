#include "supervisor/machine-job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/migrate.h"
#include "supervisor/plan.h"
#include "supervisor/snapshot-early.h"

struct machine_job *job_create(struct machine *m, const struct job_kind *kind)
{
	struct machine_job *j = calloc(1, sizeof(*j));

	if (j == NULL)
		return NULL;
	j->m = m;
	j->kind = kind;
	return j;
}

void job_destroy(struct machine_job *j)
{
	if (j == NULL)
		return;
	if (j->m != NULL && j->m->job == j)
		j->m->job = NULL;
	snapshot_disks_finish(&j->disks);
	snapshot_early_destroy(j->early);
	json_decref(j->manifest);
	free(j->name);
	free(j->tmp);
	free(j->dir);
	free(j->text);
	free(j);
}

/* ---- the one way through ---- */

static void emit(const struct machine_job *j, const char *event, const char *reason)
{
	json_t *more;

	if (event == NULL)
		return;
	more = json_object();
	json_put_str(more, j->text != NULL ? "clone" : "snapshot", j->name);
	if (reason != NULL)
		json_put_str(more, "reason", reason);
	events_emit(j->m->d->events, "vm", j->m->name, event, more);
}

static void job_end(struct machine_job *j)
{
	struct operation *op = j->op;
	struct machine *m = j->m;
	struct err err = j->err;

	if (err.code < 0)
		machine_tell(m, j->kind->bad, "%s", err.msg);
	emit(j, err.code < 0 ? j->kind->bad : j->kind->done, err.code < 0 ? err.msg : NULL);
	job_destroy(j);
	/* A job may hand its operation on to what it has set going. */
	if (op != NULL && m->op == op)
		machine_end_op(m, err.code < 0 ? &err : NULL);
}

static const struct err *trouble(struct machine_job *j, const struct err *err, struct err *mine)
{
	if (err != NULL) {
		*mine = *err;
		if (j->kind->steps[j->step - 1].name != NULL && err->code != -ECANCELED)
			err_wrap(mine, "vm %s: %s: %s", j->m->name, j->kind->verb,
				j->kind->steps[j->step - 1].name);
		return mine;
	}
	if (atomic_load(&j->cancelled))
		err_set(mine, -ECANCELED, "vm %s: %s was cancelled", j->m->name, j->kind->verb);
	/* Once its memory is on disk it has no need of the process. */
	else if (j->lost && !j->m->suspended)
		err_set(mine, -ESRCH, "vm %s: %s: the run has ended meanwhile", j->m->name,
			j->kind->verb);
	else
		return NULL;
	return mine;
}

void job_next(struct machine_job *j, const struct err *err)
{
	const struct job_step *step;
	struct err mine;

	j->waits_hv = false;
	if (!j->undoing && j->step > 0) {
		err = trouble(j, err, &mine);
		if (err != NULL) {
			j->err = *err;
			j->undoing = true;
			j->step = 0;
		}
	} else if (err != NULL) {
		log_msg(LOG_LVL_WARN, j->m->name, "%s (ignoring)", err->msg);
	}
	step = &(j->undoing ? j->kind->undo : j->kind->steps)[j->step];
	if (step->name == NULL) {
		job_end(j);
		return;
	}
	j->step++;
	if (!j->undoing) {
		if (j->op != NULL)
			operation_step(j->op, step->name);
		if (fault_at(j->kind->table, step->name, &mine) < 0) {
			job_next(j, &mine);
			return;
		}
	}
	step->fn(j);
}

static int nothing(void *arg, struct err *err)
{
	return 0;
}

static void pool_done(void *arg, const struct err *err)
{
	struct machine_job *j = arg;
	struct machine *m = j->m;

	j->in_pool = false;
	if (m->closing > 0) {
		j->m = NULL;
		job_destroy(j);
		machine_closed(m);
		return;
	}
	if (j->pool_next != NULL && err == NULL)
		j->pool_next(j);
	else
		job_next(j, err);
}

void job_pool(struct machine_job *j, pool_work_fn *fn)
{
	struct err err;

	j->in_pool = true;
	if (pool_work(j->m->d->loop, fn, pool_done, j) == 0)
		return;
	j->in_pool = false;
	err_nomem(&err);
	job_next(j, &err);
}

void job_hv_done(void *arg, const struct err *err)
{
	job_next(arg, err);
}

void job_hv_progress(void *arg, const struct hv_progress *p)
{
	struct machine_job *j = arg;

	if (j->op != NULL)
		operation_progress(j->op, p->done, p->total);
}

int job_check_run(const struct machine *m, struct err *err)
{
	if (!m->process)
		return 0;
	if (machine_is_warm_template(m))
		return err_set(err, -EBADFD,
			"vm %s: it is a warm template, which is frozen by itself once it is ready",
			m->name);
	if (m->added != NULL && json_array_size(m->added) > 0)
		return err_set(err, -EBADFD,
			"vm %s: it has disks that were added to this run, which the next would not "
			"have: remove them first",
			m->name);
	if (machine_added_nics(m) > 0)
		return err_set(err, -EBADFD,
			"vm %s: it has nics that were added to this run, which the next would not "
			"have: remove them first",
			m->name);
	if (m->run_vcpus != 0 || (m->run_cfg != NULL && m->run_memory != m->run_cfg->memory))
		return err_set(err, -EBADFD,
			"vm %s: it was resized in this run, and the next would be as configured",
			m->name);
	return 0;
}

/* ---- from outside ---- */

static int cancel(void *arg, struct err *err)
{
	struct machine *m = arg;

	if (m->job == NULL || m->job->undoing || m->op_ending)
		return err_set(err, -EBADFD, "vm %s: it is just coming to its end", m->name);
	atomic_store(&m->job->cancelled, true);
	if (m->hv != NULL)
		hv_job_cancel(m->hv);
	return 0;
}

int job_begin(struct machine_job *j, struct operation **op, struct err *err)
{
	struct machine *m = j->m;
	int r = machine_check_settled(m, j->kind->verb, err);

	if (r == 0)
		r = machine_begin_op(
			m, j->kind->verb, j->kind->undo->name != NULL ? cancel : NULL, op, err);

	if (r < 0) {
		job_destroy(j);
		return r;
	}
	j->op = m->op;
	m->job = j;
	machine_tell(m, j->kind->begun, "%s", j->name != NULL ? j->name : "asked for by a person");
	emit(j, j->kind->begun, NULL);
	j->pool_next = NULL;
	job_pool(j, nothing);
	return 0;
}

void machine_job_overruled(struct machine *m)
{
	if (m->job == NULL)
		return;
	m->job->op = NULL;
	atomic_store(&m->job->cancelled, true);
	if (m->hv != NULL)
		hv_job_cancel(m->hv);
}

void machine_job_lost(struct machine *m)
{
	struct machine_job *j = m->job;

	m->hold = m->frozen = m->copying = false;
	if (j == NULL)
		return;
	j->lost = true;
	j->op = NULL;
	/* Its callback goes with the hypervisor. */
	if (j->waits_hv)
		job_next(j, NULL);
}

unsigned machine_job_release(struct machine *m)
{
	if (m->job == NULL)
		return 0;
	atomic_store(&m->job->cancelled, true);
	if (m->job->in_pool)
		return 1;
	job_destroy(m->job);
	return 0;
}

/* ---- the manifest ---- */

static int add_disks(struct machine_job *j, struct err *err)
{
	const struct machine *m = j->m;
	const struct vm_config *cfg = m->run_cfg != NULL ? m->run_cfg : m->cfg;

	/* The TPM's own is in the memory; its file is written to by a process that ends after this. */
	if (j->stays)
		return machine_own_disks(m, cfg, true, &j->disks, err);
	return machine_own_files(m, cfg, &j->disks, err);
}

/* What a guest that is to be another one is told apart by. */
static json_t *macs_json(const struct machine *m)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < m->nnics; i++)
		json_array_append_new(array, json_string(m->nics[i].mac));
	return array;
}

int job_manifest(struct machine_job *j, const char *kind, const char *consistency, struct err *err)
{
	struct machine *m = j->m;
	bool up = m->process && m->hv != NULL;
	const struct vm_config *cfg = m->run_cfg != NULL ? m->run_cfg : m->cfg;
	json_t *out = json_object();
	char time[32];

	format_time(time, clock_unix_ms());
	json_put_int(out, "version", 1);
	json_put_str(out, "name", j->name);
	json_put_str(out, "vm", m->name);
	json_put_str(out, "created", time);
	json_put_str(out, "kind", kind);
	json_put_str(out, "consistency", consistency);
	json_put_bool(out, "running", j->was_running);
	json_put_str(out, "hypervisor", cfg != NULL ? cfg->hypervisor : NULL);
	json_put_str(out, "hypervisor_version", up ? hv_caps(m->hv)->program : NULL);
	json_put_str(out, "accel", up ? hv_accel_text(m->hv) : NULL);
	json_put_str(out, "host_cpu", snapshot_host_cpu());
	json_put_int(out, "boot", m->boot);
	json_object_set_new(out, "macs", macs_json(m));
	if (m->run_cfg == NULL && m->cfg != NULL)
		json_object_set_new(out, "config", plan_applied(&m->cfg->s));
	else if (m->applied != NULL)
		json_object_set(out, "config", m->applied);
	else
		json_object_set_new(out, "config", json_object());
	json_decref(j->manifest);
	j->manifest = out;
	return add_disks(j, err);
}

/* ---- steps that jobs share ---- */

void job_folder(struct machine_job *j)
{
	struct err err;
	char *parent = strdup(j->tmp);
	int r = parent == NULL ? err_nomem(&err) : 0;

	if (r == 0) {
		*strrchr(parent, '/') = '\0';
		r = mkdir_p(parent, 0700, &err);
	}
	if (r == 0 && mkdir(j->tmp, 0700) < 0)
		r = err_errno(&err, -errno, "make %s", quote(j->tmp));
	free(parent);
	job_next(j, r < 0 ? &err : NULL);
}

/* What the guest waits for is on record before it has to. */
void job_hold(struct machine_job *j)
{
	struct machine *m = j->m;

	if (m->process) {
		m->hold = j->was_running;
		machine_event(m, EV_SAVE);
		/* The next daemon reads it; should the host crash, no guest is left waiting. */
		machine_flush(m);
	}
	job_next(j, NULL);
}

void job_pause(struct machine_job *j)
{
	if (!j->m->process || !j->was_running) {
		job_next(j, NULL);
		return;
	}
	j->waits_hv = true;
	hv_pause(j->m->hv, job_hv_done, j);
}

/* Its way to the disk begins, while the guest goes on. */
static void memory_saved(void *arg, const struct err *err)
{
	struct machine_job *j = arg;

	if (err == NULL && j->early == NULL)
		j->early = snapshot_early_begin(j->m->d->loop, j->tmp, &j->disks);
	job_hv_done(j, err);
}

void job_memory(struct machine_job *j)
{
	if (!j->m->process || j->disks_only) {
		job_next(j, NULL);
		return;
	}
	j->waits_hv = true;
	hv_save(j->m->hv, j->tmp, job_hv_progress, memory_saved, j);
}

static void resumed(void *arg, const struct err *err)
{
	struct machine_job *j = arg;

	struct machine *m = j->m;

	if (err == NULL)
		m->hold = false;
	/* The hypervisor's own event has told, unless the guest was never stopped, or will not go on. */
	if (m->state == MACHINE_SAVING)
		machine_event(m, err == NULL ? EV_RESUMED : EV_SAVED);
	machine_save_soon(m);
	job_next(j, err);
}

void job_resume(struct machine_job *j)
{
	struct machine *m = j->m;

	/* A stop has its own way with a guest that stands still. */
	if (j->lost || !m->process || m->state == MACHINE_STOPPING) {
		job_next(j, NULL);
	} else if (m->hold) {
		j->waits_hv = true;
		hv_resume(m->hv, resumed, j);
	} else {
		machine_event(m, EV_SAVED);
		job_next(j, NULL);
	}
}

static int seal(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return snapshot_seal(j->tmp, j->manifest, &j->disks, j->early, err);
}

static void seal_now(void *arg)
{
	job_pool(arg, seal);
}

void job_seal(struct machine_job *j)
{
	if (snapshot_early_over(j->early, seal_now, j))
		seal_now(j);
}

static int remove_tmp(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return j->tmp != NULL ? remove_tree(j->tmp, err) : 0;
}

void job_remove(struct machine_job *j)
{
	j->pool_next = NULL;
	job_pool(j, remove_tmp);
}

const struct job_step job_undo_steps[] = {
	{ "resume", job_resume },
	{ "remove", job_remove },
	{ NULL, NULL },
};
