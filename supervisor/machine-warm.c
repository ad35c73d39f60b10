/*
 * A warm template: once it is ready its memory, devices and disks become a warm image
 * (supervisor/warm.h), and its run ends. supervisor/machine.h.
 *
 * The memory of such a run is a file from the beginning, so that nothing has to be written when it is
 * frozen. That file must not change once others begin with it: that this run is over is on record
 * before the image has its name.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/faults.h"
#include "supervisor/machine-job.h"
#include "supervisor/warm.h"

#define RUN_DIR  "warming"
#define AGAIN_MS 100 /* until one that somebody is busy with is tried again */

/* ---- the memory of the run ---- */

static char *run_dir(const struct machine *m)
{
	return path_join(m->dir, RUN_DIR);
}

char *machine_warm_ram(const struct machine *m)
{
	return path_join(m->dir, RUN_DIR "/" WARM_RAM);
}

bool machine_is_warm_template(const struct machine *m)
{
	return m->run_cfg != NULL && str_eq(json_str(m->applied, "warm"), "yes");
}

int machine_warm_prepare(struct machine *m, struct err *err)
{
	char *dir = run_dir(m), *ram = machine_warm_ram(m);
	int r = dir == NULL || ram == NULL ? err_nomem(err) : mkdir_p(dir, 0700, err);

	/* That of an earlier run may be an image's by now. */
	if (r == 0 && unlink(ram) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "delete %s", quote(ram));
	/* The hypervisor gives it its size, but not its mode. */
	if (r == 0) {
		int fd = open(ram, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

		if (fd < 0)
			r = err_errno(err, -errno, "create %s", quote(ram));
		else
			close(fd);
	}
	free(dir);
	free(ram);
	return r;
}

void machine_warm_forget_run(struct machine *m)
{
	char *ram = machine_warm_ram(m), *dir = run_dir(m);

	if (ram != NULL && dir != NULL && access(dir, F_OK) == 0) {
		unlink(ram);
		rmdir(dir);
	}
	free(ram);
	free(dir);
}

/* ---- frozen ---- */

static int keep_memory(struct machine_job *j, struct err *err)
{
	char *ram = machine_warm_ram(j->m), *kept = path_join(j->tmp, WARM_RAM);
	int r = ram == NULL || kept == NULL ? err_nomem(err) : 0;

	/* A second name: if this comes to nothing the run goes on with the first. */
	if (r == 0 && link(ram, kept) < 0)
		r = err_errno(err, -errno, "link %s to %s", quote(ram), quote(kept));
	free(ram);
	free(kept);
	return r;
}

static int copy(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	int r = keep_memory(j, err);

	return r < 0 ? r : snapshot_copy_disks(&j->disks, j->tmp, false, &j->cancelled, err);
}

static void keep_files(struct machine_job *j)
{
	job_pool(j, copy);
}

static int sync_state(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return file_sync(j->m->dir, err);
}

static void put_on_record(struct machine_job *j)
{
	struct machine *m = j->m;
	struct err err;

	m->hold = false;
	m->intent = INTENT_WARM;
	m->want_known = true;
	m->want_running = false;
	if (machine_save(m, &err) < 0)
		job_next(j, &err);
	else
		job_pool(j, sync_state);
}

static int commit(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return snapshot_commit(j->tmp, j->dir, err);
}

static void commit_it(struct machine_job *j)
{
	job_pool(j, commit);
}

static void go(struct machine_job *j)
{
	struct machine *m = j->m;

	free(m->warm_note);
	m->warm_note = NULL;
	/* The operation ends with the run. */
	j->op = NULL;
	job_next(j, NULL);
	machine_event(m, EV_STOP);
	warm_sweep(m->d, false);
}

static const struct job_step steps[] = {
	{ "folder", job_folder },
	{ "hold", job_hold },
	{ "pause", job_pause },
	{ "memory", job_memory },
	{ "files", keep_files },
	{ "manifest", job_seal },
	{ "record", put_on_record },
	{ "commit", commit_it },
	{ "go", go },
	{ NULL, NULL },
};

static void take_back(struct machine_job *j)
{
	struct machine *m = j->m;

	if (m->intent == INTENT_WARM) {
		m->intent = INTENT_NONE;
		m->hold = !j->lost && j->was_running;
		m->want_running = true;
		machine_save(m, NULL);
	}
	if (!j->lost) {
		free(m->warm_note);
		m->warm_note = strdup(j->err.msg);
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

/* They have waited in vain. */
static void wake_waiting(struct machine_job *j)
{
	struct drover *d = j->m->d;

	job_next(j, NULL);
	machine_warm_wake(d);
}

static const struct job_step undo[] = {
	{ "take-back", take_back },
	{ "remove", remove_files },
	{ "resume", job_resume },
	{ "wake", wake_waiting },
	{ NULL, NULL },
};

static const struct job_kind kind = { "freeze", "freeze", steps, undo, "freeze-begun", "frozen",
	"freeze-failed" };

static const char *point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table freeze_faults = { "freeze", point, FAULT_ALL };

/* ---- when ---- */

static int freeze(struct machine *m, struct err *err)
{
	struct machine_job *j;
	char *folder;
	int r;

	if (hv_can(m->hv, HV_CAP_MEMORY_CLONE, err) < 0 || hv_can(m->hv, HV_CAP_SNAPSHOT, err) < 0)
		return err->code;
	j = job_create(m, &kind);
	if (j == NULL)
		return err_nomem(err);
	folder = warm_folder(m->d, m->name);
	j->was_running = true;
	j->dir = folder != NULL ? str_printf("%s/%llu", folder, (unsigned long long)clock_unix_ms())
				: NULL;
	j->tmp = j->dir != NULL ? str_printf("%s.tmp", j->dir) : NULL;
	free(folder);
	r = j->tmp == NULL ? err_nomem(err) : job_manifest(j, "warm", "memory", err);
	if (r < 0) {
		job_destroy(j);
		return r;
	}
	warm_describe(m, j->manifest);
	return job_begin(j, NULL, err);
}

void machine_warm_ready(struct machine *m)
{
	struct err err;

	if (!machine_is_warm_template(m) || m->cfg == NULL || !m->cfg->warm || !m->ready ||
		m->state != MACHINE_RUNNING || m->d->stopping || m->intent != INTENT_NONE)
		return;
	if (m->op != NULL || m->job != NULL) {
		deadline_set(&m->warm_timer, AGAIN_MS);
		return;
	}
	if (freeze(m, &err) == 0)
		return;
	free(m->warm_note);
	m->warm_note = strdup(err.msg);
	machine_tell(m, "freeze-failed", "%s", err.msg);
	log_msg(LOG_LVL_WARN, m->name, "it cannot be frozen: %s", err.msg);
	machine_save_soon(m);
	machine_warm_wake(m->d);
}

/* ---- for the API ---- */

static json_t *users(const struct machine *t, const char *image)
{
	json_t *array = json_array();
	struct machine *m;

	list_for_each_entry (m, &t->d->machines, entry) {
		if (m->cfg != NULL && str_eq(m->cfg->from, t->name))
			json_array_append_new(array, json_string(m->name));
		else if (image != NULL && str_eq(m->warm_image, image))
			json_array_append_new(array, json_string(m->name));
	}
	return array;
}

static json_t *template_json(const struct machine *m)
{
	char *folder = warm_folder(m->d, m->name);
	char *newest = folder != NULL ? warm_newest(folder) : NULL;
	json_t *j = json_object(), *manifest = NULL;
	struct err err;
	bool there = newest != NULL && snapshot_read(newest, &manifest, NULL) == 0;
	bool good = there && m->cfg != NULL && warm_check(m, newest, manifest, &err) == 0;

	json_put_str(j, "image", newest);
	json_put_str(j, "made", json_str(manifest, "created"));
	json_put_bool(j, "good", good);
	json_put_str(j, "reason", good ? NULL : there && m->cfg != NULL ? err.msg : m->warm_note);
	json_object_set_new(j, "machines", users(m, newest));
	json_decref(manifest);
	free(newest);
	free(folder);
	return j;
}

bool machine_is_frozen(const struct machine *m)
{
	char *folder = m->cfg != NULL && m->cfg->warm && !machine_active(m)
			       ? warm_folder(m->d, m->name)
			       : NULL;
	char *newest = folder != NULL ? warm_newest(folder) : NULL;
	bool frozen = newest != NULL;

	free(newest);
	free(folder);
	return frozen;
}

/* null for a machine that has to do with neither. */
json_t *machine_warm_json(const struct machine *m)
{
	json_t *j;

	if (m->cfg != NULL && m->cfg->warm)
		return template_json(m);
	if (m->warm_image == NULL && (m->cfg == NULL || m->cfg->from == NULL))
		return json_null();
	j = json_object();
	json_put_str(j, "from", m->cfg != NULL ? m->cfg->from : NULL);
	json_put_str(j, "image", m->warm_image);
	json_put_str(j, "reason", m->warm_note);
	return j;
}
