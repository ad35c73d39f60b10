/*
 * A machine becomes again what it was: from a snapshot. supervisor/machine.h.
 *
 * Everything that can be found wrong is found before anything is touched, and the disks are copied
 * beside the old ones while the machine still runs. Then m->restore is on record: from here on it
 * goes forward, whoever is killed. The run is ended, each disk changes places with its copy (DISK ->
 * DISK.before, DISK.restore -> DISK: done again it does nothing), and a new run loads the memory. Only
 * when that is up, or its start has failed and the old disks are back, does the record go.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/clone.h"
#include "oci/overlay.h"
#include "supervisor/faults.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"

#define COPY_SUFFIX   ".restore"
#define BEFORE_SUFFIX ".before"

/* ---- the disks change places ---- */

static int with_suffix(const char *path, const char *suffix, char **out, struct err *err)
{
	*out = str_printf("%s%s", path, suffix);
	return *out == NULL ? err_nomem(err) : 0;
}

static int move(const char *from, const char *to, struct err *err)
{
	if (rename(from, to) == 0)
		return 0;
	return err_errno(err, -errno, "rename %s to %s", quote(from), quote(to));
}

static int disk_forward(const char *path, struct err *err)
{
	char *copy = NULL, *before = NULL;
	int r = with_suffix(path, COPY_SUFFIX, &copy, err);

	if (r == 0)
		r = with_suffix(path, BEFORE_SUFFIX, &before, err);
	if (r == 0 && access(copy, F_OK) == 0) {
		if (access(path, F_OK) == 0)
			r = move(path, before, err);
		if (r == 0)
			r = move(copy, path, err);
	}
	free(copy);
	free(before);
	return r;
}

static int disk_back(const char *path, struct err *err)
{
	char *copy = NULL, *before = NULL;
	int r = with_suffix(path, COPY_SUFFIX, &copy, err);

	if (r == 0)
		r = with_suffix(path, BEFORE_SUFFIX, &before, err);
	if (r == 0 && access(before, F_OK) == 0)
		r = move(before, path, err);
	if (r == 0 && unlink(copy) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "delete %s", quote(copy));
	free(copy);
	free(before);
	return r;
}

static int each_disk(
	const json_t *manifest, int (*fn)(const char *path, struct err *err), struct err *err)
{
	const json_t *files = json_arr(manifest, "files"), *f;
	size_t i;
	int r = 0;

	json_array_foreach (files, i, f) {
		const char *path = json_str(f, "path");

		if (path != NULL && r == 0)
			r = fn(path, err);
	}
	return r;
}

/* ---- before anything is touched ---- */

static int check(struct machine *m, const char *name, json_t **out, struct err *err)
{
	char *dir = machine_snapshot_dir(m, name);
	json_t *manifest = NULL;
	int r = dir == NULL ? err_nomem(err) : 0;

	if (r == 0) {
		r = machine_snapshot_read(m, name, &manifest, err);
		if (r < 0) {
			free(dir);
			return r;
		}
	}
	if (r == 0)
		r = snapshot_check_config(manifest, m->cfg, err);
	if (r == 0)
		r = machine_check_disks(m, manifest, err);
	if (r == 0)
		r = snapshot_check_files(dir, manifest, err);
	free(dir);
	if (r == 0) {
		*out = manifest;
		return 0;
	}
	json_decref(manifest);
	/* What was not found is a part of it, not it. */
	if (r == -ENOENT)
		err->code = -EINVAL;
	return err_wrap(err, "vm %s: snapshot %s does not match", m->name, quote(name));
}

static void check_version(struct machine_job *j)
{
	if (snapshot_has_memory(j->manifest))
		job_version(j);
	else
		job_next(j, NULL);
}

static int verify(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return snapshot_verify(j->dir, j->manifest, err);
}

static void verify_files(struct machine_job *j)
{
	job_pool(j, verify);
}

/* ---- the copies ---- */

static int copy_all(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	const json_t *files = json_arr(j->manifest, "files"), *f;
	size_t i;
	int r = 0;

	json_array_foreach (files, i, f) {
		const char *path = json_str(f, "path"), *name = json_str(f, "name");
		enum clone_method method;
		char *from, *to = NULL;

		if (path == NULL || name == NULL || r < 0)
			continue;
		from = path_join(j->dir, name);
		r = from == NULL ? err_nomem(err) : with_suffix(path, COPY_SUFFIX, &to, err);
		if (r == 0)
			r = clone_file_until(from, to, false, &j->cancelled, &method, err);
		if (r == 0)
			r = file_sync(to, err);
		/* One that is not there was moved already, the swap will think. */
		if (r == 0) {
			*strrchr(to, '/') = '\0';
			r = file_sync(to, err);
		}
		free(from);
		free(to);
	}
	return r == 0 ? machine_link_bases(j->dir, files, j->m->dir, err) : r;
}

static void copy_disks(struct machine_job *j)
{
	job_pool(j, copy_all);
}

static int remove_copy(const char *path, struct err *err)
{
	char *copy = NULL;
	int r = with_suffix(path, COPY_SUFFIX, &copy, err);

	if (r == 0 && unlink(copy) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "delete %s", quote(copy));
	free(copy);
	return r;
}

static int remove_copies(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return each_disk(j->manifest, remove_copy, err);
}

/* Also when putting it on record failed: then nothing of it may be on record. */
static void forget_copies(struct machine_job *j)
{
	machine_forget_restore(j->m);
	machine_save(j->m, NULL);
	job_pool(j, remove_copies);
}

/* ---- from here on it goes forward ---- */

static int sync_state(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	char *path = path_join(j->m->dir, "state.json");
	int r = path == NULL ? err_nomem(err) : file_sync(path, err);

	free(path);
	return r == 0 ? file_sync(j->m->dir, err) : r;
}

static void put_on_record(struct machine_job *j)
{
	struct machine *m = j->m;
	struct err err;
	int r = 0;

	m->restore = strdup(j->name);
	m->restore_memory = snapshot_has_memory(j->manifest);
	m->restore_run = m->restore_memory || machine_active(m);
	if (m->restore == NULL)
		r = err_nomem(&err);
	if (r == 0)
		r = machine_save(m, &err);
	if (r < 0)
		job_next(j, &err);
	else
		job_pool(j, sync_state);
}

static void go(struct machine_job *j)
{
	struct machine *m = j->m;

	/* The operation ends when the machine has come to where it is going. */
	j->op = NULL;
	if (m->restore_run) {
		m->want_known = true;
		m->want_running = true;
	}
	m->intent = INTENT_RESTORE;
	machine_save(m, NULL);
	job_next(j, NULL);
	if (machine_active(m))
		machine_event(m, EV_STOP);
	else
		machine_restore_settle(m);
}

static const struct job_step steps[] = {
	{ "version", check_version },
	{ "verify", verify_files },
	{ "copy", copy_disks },
	{ "record", put_on_record },
	{ "go", go },
	{ NULL, NULL },
};

static const struct job_step undo[] = {
	{ "remove", forget_copies },
	{ NULL, NULL },
};

static const struct job_kind kind = { "restore", "restore", steps, undo, "restore-begun", NULL,
	"restore-failed" };

static const char *point(size_t i)
{
	static const char *const more[] = { "swap", "loaded" };

	if (i < ARRAY_LEN(steps) - 1)
		return steps[i].name;
	i -= ARRAY_LEN(steps) - 1;
	return i < ARRAY_LEN(more) ? more[i] : NULL;
}
const struct fault_table restore_faults = { "restore", point, FAULT_BIT(ARRAY_LEN(steps) - 1) - 1 };

int machine_restore(struct machine *m, const char *name, struct operation **op, struct err *err)
{
	struct machine_job *j;
	json_t *manifest = NULL;
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->cfg == NULL || (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED &&
				      m->state != MACHINE_STOPPED && m->state != MACHINE_FAILED))
		return machine_wrong_state(m, "restore", err);
	if (m->job != NULL)
		return err_set(err, -EBUSY, "vm %s: its last %s is coming to its end", m->name,
			m->job->kind->verb);
	r = check(m, name, &manifest, err);
	if (r < 0)
		return r;
	j = job_create(m, &kind);
	if (j == NULL) {
		json_decref(manifest);
		return err_nomem(err);
	}
	j->manifest = manifest;
	j->name = strdup(name);
	j->dir = machine_snapshot_dir(m, name);
	if (j->name == NULL || j->dir == NULL) {
		job_destroy(j);
		return err_nomem(err);
	}
	return job_begin(j, op, err);
}

/* ---- between the runs ---- */

void machine_forget_restore(struct machine *m)
{
	free(m->restore);
	m->restore = NULL;
	m->restore_back = m->restore_memory = m->restore_run = false;
}

static json_t *manifest_of(struct machine *m, struct err *err)
{
	json_t *manifest = NULL;

	return machine_snapshot_read(m, m->restore, &manifest, err) < 0 ? NULL : manifest;
}

/* The disk of then may be of the other kind, and so have another name. */
static int set_disk(struct machine *m, const json_t *manifest, struct err *err)
{
	const char *path = json_str(snapshot_file_of(manifest, "disk0"), "path");
	char *before = NULL;
	int r = 0;

	m->disk_stale = false;
	if (path == NULL || str_eq(path, m->disk_path))
		return 0;
	if (m->disk_path != NULL) {
		r = with_suffix(m->disk_path, BEFORE_SUFFIX, &before, err);
		if (r == 0 && rename(m->disk_path, before) < 0 && errno != ENOENT)
			r = err_errno(err, -errno, "rename %s", quote(m->disk_path));
		free(before);
	}
	free(m->disk_path);
	m->disk_path = strdup(path);
	return r == 0 && m->disk_path == NULL ? err_nomem(err) : r;
}

/* And back: what was made of the snapshot goes. */
static int set_disk_back(struct machine *m, const json_t *manifest, struct err *err)
{
	const char *path = json_str(snapshot_file_of(manifest, "disk0"), "path");
	char *other = path != NULL ? machine_other_disk(path) : NULL, *before = NULL;
	int r = other != NULL ? with_suffix(other, BEFORE_SUFFIX, &before, err) : 0;

	if (r == 0 && before != NULL && access(before, F_OK) == 0) {
		r = move(before, other, err);
		if (r == 0 && unlink(path) < 0 && errno != ENOENT)
			r = err_errno(err, -errno, "delete %s", quote(path));
	}
	if (r == 0 && other != NULL && access(path, F_OK) < 0 && access(other, F_OK) == 0) {
		free(m->disk_path);
		m->disk_path = other;
		other = NULL;
	}
	free(other);
	free(before);
	return r;
}

static int forward(struct machine *m, struct err *err)
{
	json_t *manifest = manifest_of(m, err);
	int r = manifest == NULL ? err->code : 0;

	if (r == 0)
		r = fault_at("restore", "swap", err);
	if (r == 0)
		r = each_disk(manifest, disk_forward, err);
	if (r == 0)
		r = set_disk(m, manifest, err);
	json_decref(manifest);
	return r;
}

/* The old disks come back; that it goes that way is on record before the first of them does. */
static void backward(struct machine *m)
{
	struct err err;
	json_t *manifest;
	int r;

	m->restore_back = true;
	if (machine_save(m, &err) < 0)
		log_error("%s", err.msg);
	manifest = manifest_of(m, &err);
	r = manifest == NULL ? err.code : each_disk(manifest, disk_back, &err);
	if (r == 0)
		r = set_disk_back(m, manifest, &err);
	json_decref(manifest);
	if (r < 0) {
		/* Nothing is lost: they lie beside one another, and the record stays. */
		log_msg(LOG_LVL_ERROR, m->name, "the old disks are not back: %s", err.msg);
		return;
	}
	machine_tell(m, "restore-failed", "the disks are those of before");
	machine_forget_restore(m);
}

/* Whether what has just ended was no try of the new run, or one that another daemon cut short. */
static bool goes_forward(const struct machine *m)
{
	if (m->restore_back || m->intent == INTENT_STOP || m->intent == INTENT_KILL)
		return false;
	return m->intent == INTENT_RESTORE || m->intent == INTENT_RESTART ||
	       m->error.code == -EINTR;
}

bool machine_restore_settle(struct machine *m)
{
	struct operation *op = m->op;
	struct err err = { 0 };

	if (!goes_forward(m)) {
		backward(m);
		return false;
	}
	if (forward(m, &err) < 0) {
		err_wrap(&err, "vm %s: restore", m->name);
		m->error = err;
		backward(m);
		m->intent = INTENT_NONE;
		if (m->state != MACHINE_STOPPING && op != NULL)
			machine_end_op(m, &err);
		return false;
	}
	machine_drop_suspended(m);
	if (m->restore_memory) {
		json_decref(m->story);
		m->story = NULL;
		machine_tell(m, "restore", "becomes what it was in snapshot %s", quote(m->restore));
		machine_event(m, m->state == MACHINE_STOPPING ? EV_AGAIN : EV_START);
		return true;
	}
	return machine_restored_disks(m);
}

bool machine_restored_disks(struct machine *m)
{
	bool run = m->restore_run, between = m->state == MACHINE_STOPPING;

	machine_tell(m, "restore", "has the disks of snapshot %s", quote(m->restore));
	machine_restore_done(m);
	if (run) {
		machine_event(m, between ? EV_AGAIN : EV_START);
		return true;
	}
	m->intent = INTENT_NONE;
	if (!between) {
		machine_end_op(m, NULL);
		return true;
	}
	return false;
}

void machine_restore_done(struct machine *m)
{
	json_t *more = json_object();

	json_put_str(more, "snapshot", m->restore);
	events_emit(m->d->events, "vm", m->name, "restored", more);
	machine_forget_restore(m);
	machine_save(m, NULL);
	machine_sweep_own(m, BEFORE_SUFFIX);
}

void machine_restore_sweep(struct machine *m)
{
	if (m->restore != NULL)
		return;
	machine_sweep_own(m, COPY_SUFFIX);
	/* A machine that comes back has its disks put aside so, until its migration is settled. */
	if (m->in == NULL)
		machine_sweep_own(m, BEFORE_SUFFIX);
	overlay_sweep(m->dir);
}
