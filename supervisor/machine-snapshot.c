/* Snapshots of a machine: made, deleted. supervisor/machine.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/faults.h"
#include "supervisor/machine-job.h"

#define AGENT_MS  2000
#define FREEZE_MS 60000 /* its hooks may flush a database */

char *machine_snapshot_dir(const struct machine *m, const char *name)
{
	return str_printf(
		"%s/snapshots%s%s", m->dir, name != NULL ? "/" : "", name != NULL ? name : "");
}

/* ---- is there room ---- */

static uint64_t resident(pid_t pid)
{
	char path[64], line[128];
	unsigned long long size, pages;

	snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
	if (file_read_line(path, line, sizeof(line), NULL) < 0 ||
		sscanf(line, "%llu %llu", &size, &pages) != 2)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/*
 * What surely does not fit is not begun. Where blocks are shared the disks cost nothing, and a
 * memory file is no larger than what the hypervisor holds of it.
 */
static void check_room(struct machine_job *j)
{
	struct machine *m = j->m;
	uint64_t need = 0, free_bytes;
	struct statvfs vfs;
	struct stat st;
	struct err err;

	if (m->process && !j->disks_only)
		need = MIN(resident(hv_process(m->hv)->pid), m->run_memory);
	for (size_t i = 0; i < j->disks.n; i++) {
		if (stat(j->disks.v[i].path, &st) < 0) {
			err_errno(&err, -errno, "%s", quote(j->disks.v[i].path));
			job_next(j, &err);
			return;
		}
		need += (uint64_t)st.st_blocks * 512;
	}
	if (statvfs(m->dir, &vfs) == 0) {
		free_bytes = (uint64_t)vfs.f_bavail * vfs.f_frsize;
		if (need > free_bytes) {
			err_set(&err, -ENOSPC, "it may need %s below %s, where %s are free",
				format_size(need), quote(m->dir), format_size(free_bytes));
			job_next(j, &err);
			return;
		}
	}
	job_next(j, NULL);
}

/* ---- the guest's own peace ---- */

static void ask(struct machine_job *j, const char *command, uint64_t timeout_ms, hv_reply_fn *reply)
{
	json_t *cmd = json_pack("{s:s}", "execute", command);

	j->waits_hv = true;
	hv_agent(j->m->hv, cmd, timeout_ms, reply, j);
	json_decref(cmd);
}

static void frozen(void *arg, const json_t *reply, const struct err *err)
{
	struct machine_job *j = arg;

	if (err == NULL)
		json_object_set_new(j->manifest, "consistency", json_string("frozen"));
	job_next(j, err);
}

static void agent_answers(void *arg, const json_t *reply, const struct err *err)
{
	struct machine_job *j = arg;
	struct err mine;

	j->waits_hv = false;
	if (err == NULL) {
		/* On record before it is done: nobody else thaws it if we are killed. */
		j->m->frozen = true;
		if (machine_save(j->m, &mine) < 0)
			job_next(j, &mine);
		else
			ask(j, "guest-fsfreeze-freeze", FREEZE_MS, frozen);
	} else if (j->crash_consistent) {
		job_next(j, NULL);
	} else {
		err_set(&mine, -ENOTSUP,
			"the guest's filesystems cannot be frozen, because its agent does not answer; "
			"--crash-consistent takes the disks as after a power cut");
		job_next(j, &mine);
	}
}

static void freeze(struct machine_job *j)
{
	struct err err;

	if (!j->m->process || !j->disks_only || !j->was_running) {
		job_next(j, NULL);
	} else if (hv_caps(j->m->hv)->agent) {
		ask(j, "guest-ping", AGENT_MS, agent_answers);
	} else if (j->crash_consistent) {
		job_next(j, NULL);
	} else {
		err_set(&err, -ENOTSUP,
			"the guest's filesystems cannot be frozen, because it has no agent (agent = "
			"yes); --crash-consistent takes the disks as after a power cut");
		job_next(j, &err);
	}
}

static void thawed(void *arg, const json_t *reply, const struct err *err)
{
	struct machine_job *j = arg;

	j->m->frozen = false;
	machine_save_soon(j->m);
	job_next(j, err);
}

static void thaw(struct machine_job *j)
{
	struct machine *m = j->m;

	if (!m->frozen || j->lost || !m->process || m->hold)
		job_next(j, NULL);
	else
		ask(j, "guest-fsfreeze-thaw", FREEZE_MS, thawed);
}

/* ---- the disks ---- */

static int commit(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return snapshot_commit(j->tmp, j->dir, err);
}

static void commit_it(struct machine_job *j)
{
	job_pool(j, commit);
}

static const struct job_step steps[] = {
	{ "room", check_room },
	{ "folder", job_folder },
	{ "freeze", freeze },
	{ "hold", job_hold },
	{ "pause", job_pause },
	{ "memory", job_memory },
	{ "disks", job_copy_disks },
	{ "resume", job_resume },
	{ "thaw", thaw },
	{ "copied", job_await_copies },
	{ "manifest", job_seal },
	{ "commit", commit_it },
	{ NULL, NULL },
};

static const struct job_step undo[] = {
	{ "resume", job_resume },
	{ "thaw", thaw },
	{ "copied", job_await_copies },
	{ "remove", job_remove },
	{ NULL, NULL },
};

static const struct job_kind kind = { "snapshot", "snapshot", steps, undo, "snapshot-begun",
	"snapshot-done", "snapshot-failed" };

static const char *point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table snapshot_faults = { "snapshot", point, FAULT_ALL };

/* ---- what is asked for ---- */

static int check_new(struct machine *m, const struct snapshot_opts *o, struct err *err)
{
	char *dir;
	bool any;
	int r = name_check(o->name, "snapshot", err);

	if (r < 0)
		return r;
	if (str_ends(o->name, ".tmp"))
		return err_set(
			err, -EINVAL, "snapshot %s: a name does not end in .tmp", quote(o->name));
	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->job != NULL)
		return err_set(err, -EBUSY, "vm %s: what is left of its last %s is being removed",
			m->name, m->job->kind->verb);
	if (m->suspended || (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED &&
				    m->state != MACHINE_STOPPED && m->state != MACHINE_FAILED))
		return machine_wrong_state(m, "snapshot", err);
	any = machine_has_disks(m, m->run_cfg != NULL ? m->run_cfg : m->cfg);
	if (!m->process && !any)
		return err_set(err, -EBADFD,
			"vm %s: it has no disk, and no memory while it does not run", m->name);
	if (!any && o->disks_only)
		return err_set(err, -EINVAL, "vm %s: it has no disk", m->name);
	if (m->process && !o->disks_only && hv_can(m->hv, HV_CAP_SNAPSHOT, err) < 0)
		return err_wrap(err, "vm %s", m->name);
	if (job_check_run(m, err) < 0)
		return err->code;
	dir = machine_snapshot_dir(m, o->name);
	if (dir == NULL)
		return err_nomem(err);
	if (access(dir, F_OK) == 0)
		r = err_set(err, -EEXIST, "vm %s: there is a snapshot %s already", m->name,
			quote(o->name));
	free(dir);
	return r;
}

static int fill(struct machine_job *j, const struct snapshot_opts *o, struct err *err)
{
	struct machine *m = j->m;
	bool full = m->process && !o->disks_only;
	int r;

	j->name = strdup(o->name);
	j->dir = machine_snapshot_dir(m, o->name);
	if (j->name == NULL || j->dir == NULL)
		return err_nomem(err);
	j->tmp = str_printf("%s.%llu.tmp", j->dir, (unsigned long long)clock_mono_ms());
	if (j->tmp == NULL)
		return err_nomem(err);
	j->disks_only = o->disks_only;
	j->crash_consistent = o->crash_consistent;
	j->was_running = m->process && m->state == MACHINE_RUNNING;
	r = job_manifest(j, full ? "full" : "disks",
		full         ? "memory"
		: m->process ? "crash"
			     : "stopped",
		err);
	json_put_str(j->manifest, "description", o->description);
	return r;
}

int machine_snapshot(
	struct machine *m, const struct snapshot_opts *o, struct operation **op, struct err *err)
{
	struct machine_job *j;
	int r = check_new(m, o, err);

	*op = NULL;
	if (r < 0)
		return r;
	j = job_create(m, &kind);
	r = j == NULL ? err_nomem(err) : fill(j, o, err);
	if (r < 0) {
		job_destroy(j);
		return r;
	}
	return job_begin(j, op, err);
}

/* ---- deleted ---- */

static int rename_away(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	int r = rename(j->dir, j->tmp) < 0 ? err_errno(err, -errno, "delete %s", quote(j->dir)) : 0;

	return r == 0 ? remove_tree(j->tmp, err) : r;
}

static void delete_it(struct machine_job *j)
{
	job_pool(j, rename_away);
}

static const struct job_step delete_steps[] = {
	{ "delete", delete_it },
	{ NULL, NULL },
};

static const struct job_kind delete_kind = { "snapshot delete", "snapshot-delete", delete_steps,
	job_undo_steps + 2, "snapshot-deleting", "snapshot-deleted", "snapshot-failed" };

int machine_snapshot_delete(
	struct machine *m, const char *name, struct operation **op, struct err *err)
{
	struct machine_job *j;
	json_t *manifest = NULL;
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->job != NULL)
		return err_set(err, -EBUSY, "vm %s: its %s is coming to its end", m->name,
			m->job->kind->verb);
	/* An earlier daemon was killed at it: the disks come from there, or go back by its manifest. */
	if (m->restore != NULL && str_eq(m->restore, name))
		return err_set(
			err, -EBUSY, "vm %s: snapshot %s is being restored", m->name, quote(name));
	r = machine_snapshot_read(m, name, &manifest, err);
	/* One whose manifest is broken can be deleted. */
	if (r == -ENOENT || r == -ENOMEM)
		return r;
	if (r == 0)
		json_decref(manifest);
	j = job_create(m, &delete_kind);
	if (j != NULL) {
		j->name = strdup(name);
		j->dir = machine_snapshot_dir(m, name);
		j->tmp = str_printf("%s/%s.%llu.tmp", m->dir, "snapshots/deleted",
			(unsigned long long)clock_mono_ms());
	}
	if (j == NULL || j->name == NULL || j->dir == NULL || j->tmp == NULL) {
		job_destroy(j);
		return err_nomem(err);
	}
	return job_begin(j, op, err);
}

int machine_snapshot_read(struct machine *m, const char *name, json_t **out, struct err *err)
{
	char *dir;
	int r = name_check(name, "snapshot", err);

	if (r < 0 || str_ends(name, ".tmp"))
		return err_set(
			err, -ENOENT, "vm %s: there is no snapshot %s", m->name, quote(name));
	dir = machine_snapshot_dir(m, name);
	if (dir == NULL)
		return err_nomem(err);
	if (access(dir, F_OK) < 0)
		r = err_set(err, -ENOENT, "vm %s: there is no snapshot %s", m->name, quote(name));
	else
		r = snapshot_read(dir, out, err);
	free(dir);
	return r;
}
