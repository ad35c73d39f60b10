/*
 * A machine is put down on disk and taken up again, over reboots of the host: its memory lies in
 * `suspend` in its folder, its disks stay where they are. And the start of a run from a saved
 * memory, which a restore needs too. supervisor/machine.h.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/faults.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"
#include "supervisor/program-version.h"

#define SUSPEND_DIR "suspend"

/* ---- put down ---- */

static int commit(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	/* Of one that nobody needs any more: there is none while the machine runs. */
	int r = remove_tree(j->dir, err);

	return r == 0 ? snapshot_commit(j->tmp, j->dir, err) : r;
}

static void commit_it(struct machine_job *j)
{
	job_pool(j, commit);
}

static int sync_state(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return file_sync(j->m->dir, err);
}

/* From here on it is the memory on disk that counts, and this process has to go. */
static void put_on_record(struct machine_job *j)
{
	struct machine *m = j->m;
	struct err err;

	m->suspended = true;
	m->hold = false;
	m->intent = INTENT_SUSPEND;
	m->want_known = true;
	m->want_running = false;
	if (machine_save(m, &err) < 0)
		job_next(j, &err);
	else
		job_pool(j, sync_state);
}

static void go(struct machine_job *j)
{
	struct machine *m = j->m;

	/* The operation ends with the run. */
	j->op = NULL;
	job_next(j, NULL);
	machine_event(m, EV_STOP);
}

static const struct job_step steps[] = {
	{ "folder", job_folder },
	{ "hold", job_hold },
	{ "pause", job_pause },
	{ "memory", job_memory },
	{ "manifest", job_seal },
	{ "commit", commit_it },
	{ "record", put_on_record },
	{ "go", go },
	{ NULL, NULL },
};

static void take_back(struct machine_job *j)
{
	struct machine *m = j->m;

	if (m->suspended) {
		m->suspended = false;
		m->hold = !j->lost && j->was_running;
		/* Else a stop has come, which goes on. */
		if (m->intent == INTENT_SUSPEND) {
			m->intent = INTENT_NONE;
			m->want_running = true;
		}
		machine_save(m, NULL);
	}
	job_next(j, NULL);
}

static int remove_both(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	int r = remove_tree(j->tmp, err);

	return r == 0 ? remove_tree(j->dir, err) : r;
}

static void remove_files(struct machine_job *j)
{
	job_pool(j, remove_both);
}

static const struct job_step undo[] = {
	{ "take-back", take_back },
	{ "resume", job_resume },
	{ "remove", remove_files },
	{ NULL, NULL },
};

static const struct job_kind kind = { "suspend", "suspend", steps, undo, "suspend-begun", NULL,
	"suspend-failed" };

static const char *point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table suspend_faults = { "suspend", point, FAULT_ALL };

int machine_suspend(struct machine *m, struct operation **op, struct err *err)
{
	struct machine_job *j;
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->suspended && m->state == MACHINE_STOPPED)
		return 0;
	if (m->cfg == NULL || (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED))
		return machine_wrong_state(m, "suspend", err);
	if (m->job != NULL)
		return err_set(err, -EBUSY, "vm %s: its last %s is coming to its end", m->name,
			m->job->kind->verb);
	if (hv_can(m->hv, HV_CAP_SNAPSHOT, err) < 0)
		return err_wrap(err, "vm %s", m->name);
	if (job_check_run(m, err) < 0)
		return err->code;
	j = job_create(m, &kind);
	if (j == NULL)
		return err_nomem(err);
	j->was_running = m->state == MACHINE_RUNNING;
	j->stays = true;
	j->dir = path_join(m->dir, SUSPEND_DIR);
	j->tmp = str_printf(
		"%s/%s.%llu.tmp", m->dir, SUSPEND_DIR, (unsigned long long)clock_mono_ms());
	r = j->dir == NULL || j->tmp == NULL ? err_nomem(err)
					     : job_manifest(j, "suspend", "memory", err);
	if (r < 0) {
		job_destroy(j);
		return r;
	}
	return job_begin(j, op, err);
}

void machine_drop_suspended(struct machine *m)
{
	char *dir = path_join(m->dir, SUSPEND_DIR), *away;

	m->suspended = false;
	machine_save_soon(m);
	away = str_printf(
		"%s/%s.%llu.tmp", m->dir, SUSPEND_DIR, (unsigned long long)clock_mono_ms());
	/* Under another name: the next suspend may be quicker than the removal. */
	if (dir != NULL && away != NULL && rename(dir, away) == 0)
		pool_remove_tree(m->d->loop, away);
	free(dir);
	free(away);
}

/* ---- taken up ---- */

/* Where the memory lies that the next run begins with; NULL: it boots. malloc'd. */
static char *saved_memory(const struct machine *m)
{
	if (m->restore != NULL)
		return m->restore_memory ? machine_snapshot_dir(m, m->restore) : NULL;
	return m->suspended ? path_join(m->dir, SUSPEND_DIR) : NULL;
}

int machine_find_memory(struct machine *m, struct err *err)
{
	free(m->load_dir);
	m->load_dir = saved_memory(m);
	if (m->load_dir == NULL && (m->suspended || m->restore_memory))
		return err_nomem(err);
	return 0;
}

int machine_check_suspended(struct machine *m, struct err *err)
{
	char *dir = path_join(m->dir, SUSPEND_DIR);
	json_t *manifest = NULL;
	int r = dir == NULL ? err_nomem(err) : snapshot_read(dir, &manifest, err);

	if (r == 0)
		r = snapshot_check_config(manifest, m->cfg, err);
	if (r == 0)
		r = snapshot_check_files(dir, manifest, err);
	json_decref(manifest);
	free(dir);
	if (r == -ENOENT)
		err->code = -EINVAL;
	return r < 0 ? err_wrap(err,
			       "vm %s: what it was suspended with does not match (start --discard boots "
			       "it afresh)",
			       m->name)
		     : 0;
}

/* ---- the version of the program that would run it ---- */

static void check_version(struct machine_job *j, const char *line)
{
	struct err err;

	job_next(j, snapshot_check_version(j->manifest, line, &err) < 0 ? &err : NULL);
}

static void version_told(void *arg, const char *line, const struct err *err)
{
	struct machine_job *j = arg;
	struct machine *m = j->m;

	j->in_pool = false;
	if (m->closing > 0) {
		j->m = NULL;
		job_destroy(j);
		machine_closed(m);
	} else if (err != NULL) {
		job_next(j, err);
	} else {
		check_version(j, line);
	}
}

void job_version(struct machine_job *j)
{
	char *binary = machine_program(j->m->cfg);
	const char *line = binary != NULL ? program_version_known(binary) : NULL;
	struct err err;
	int r;

	if (line != NULL) {
		free(binary);
		check_version(j, line);
		return;
	}
	if (binary == NULL)
		r = err_set(&err, -EINVAL, "the hypervisor's program is not there");
	else
		r = program_version_ask(j->m->d->loop, binary, version_told, j, &err);
	free(binary);
	if (r < 0)
		job_next(j, &err);
	else
		j->in_pool = true;
}

/* ---- the new run is there ---- */

static void goes_on(void *arg, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	if (err == NULL) {
		m->hold = false;
		machine_save_soon(m);
		if (m->warm_load) {
			machine_warm_loaded(m);
			return;
		}
	} else {
		mine = *err;
		err = err_wrap(&mine, "vm %s: resume", m->name) < 0 ? &mine : NULL;
	}
	machine_end_op(m, err);
}

static bool shall_run(const struct machine *m)
{
	json_t *manifest = NULL;
	bool run = snapshot_read(m->load_dir, &manifest, NULL) < 0 ||
		   json_flag(manifest, "running", true);

	json_decref(manifest);
	return run;
}

/*
 * What it was loaded from is given up before the guest runs: its disks change from there on, and
 * that memory would be a lie. Killed in between, the next daemon finds the guest held.
 */
void machine_now_loaded(struct machine *m)
{
	m->up_mono_ms = clock_mono_ms();
	fault_at("restore", "loaded", NULL);
	m->hold = shall_run(m);
	machine_tell(m, "up", "the memory is loaded: %s, %s", hv_caps(m->hv)->program,
		hv_accel_text(m->hv));
	if (m->restore != NULL)
		machine_restore_done(m);
	if (m->suspended)
		machine_drop_suspended(m);
	/* From here on its disk is no copy of the template's any more. */
	m->warm_mtime = 0;
	machine_save(m, NULL);
	free(m->load_dir);
	m->load_dir = NULL;
	if (m->hold)
		hv_resume(m->hv, goes_on, m);
	else
		machine_end_op(m, NULL);
	machine_leave_slot(m);
	machine_wake_waiting(m->d);
}

/* ---- a daemon that was killed has left the guest waiting ---- */

static void let_go_on(void *arg, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL) {
		log_msg(LOG_LVL_ERROR, m->name, "it still stands still: %s", err->msg);
		return;
	}
	m->hold = false;
	machine_save_soon(m);
}

static void thawed(void *arg, const json_t *reply, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL)
		log_msg(LOG_LVL_ERROR, m->name, "its filesystems may still be frozen: %s",
			err->msg);
	m->frozen = false;
	machine_save_soon(m);
}

void machine_unhold(struct machine *m)
{
	json_t *cmd;

	hv_job_cancel(m->hv);
	if (m->hold) {
		machine_tell(m, "resume", "an earlier daemon had it stand still");
		hv_resume(m->hv, let_go_on, m);
	}
	if (m->frozen) {
		cmd = json_pack("{s:s}", "execute", "guest-fsfreeze-thaw");
		hv_agent(m->hv, cmd, 60000, thawed, m);
		json_decref(cmd);
	}
}

/* ---- what a killed daemon has left in the folder ---- */

static void sweep(struct machine *m, const char *dir_path)
{
	DIR *dir = opendir(dir_path);
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		bool stale = strcmp(e->d_name, SUSPEND_DIR) == 0 && dir_path == m->dir &&
			     !m->suspended;
		char *path;

		if (!stale && !str_ends(e->d_name, ".tmp"))
			continue;
		path = path_join(dir_path, e->d_name);
		if (path != NULL)
			pool_remove_tree(m->d->loop, path);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
}

void machine_sweep(struct machine *m)
{
	char *dir = machine_snapshot_dir(m, NULL);

	if (dir != NULL)
		sweep(m, dir);
	sweep(m, m->dir);
	machine_restore_sweep(m);
	free(dir);
}
