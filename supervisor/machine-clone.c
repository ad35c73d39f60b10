/*
 * A machine is copied to a new one: supervisor/machine-clone.h.
 *
 * Everything is made in a folder of the source's whose name ends in .tmp, which a later daemon removes
 * if we are killed. Then that becomes the new machine's folder, its section is written, and only it is
 * taken into the configuration. Killed between the last two, its folder is there without a section:
 * `drover list --all` shows it as removed, and its disks are never taken for anything else.
 */
#include "supervisor/machine-clone.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/clone.h"
#include "oci/overlay.h"
#include "supervisor/dropin.h"
#include "supervisor/faults.h"
#include "supervisor/hardware.h"
#include "supervisor/machine-identity.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"
#include "supervisor/reload.h"
#include "supervisor/warm.h"

#define INJECT     "inject.json"
#define IDENTITY   "identity.json" /* supervisor/machine-identity.h */
#define MEMORY_DIR "begin"         /* of a machine that begins with the memory of a snapshot */
#define KEYGEN_MS  60000

/* ---- the files ---- */

static int copy_file(struct machine_job *j, const char *from, const char *name, struct err *err)
{
	char *to = path_join(j->tmp, name);
	enum clone_method method;
	int r = to == NULL ? err_nomem(err)
			   : clone_file_until(from, to, false, &j->cancelled, &method, err);

	if (r == 0)
		r = file_sync(to, err);
	free(to);
	return r;
}

/* The TPM's secrets stay where they are: they are of one machine. */
static bool is_copied(const char *name)
{
	if (str_ends(name, ".part") || str_ends(name, ".restore") || str_ends(name, ".before"))
		return false;
	return machine_is_own_disk(name) || str_starts(name, "volume-") ||
	       strcmp(name, "vars.fd") == 0 || strcmp(name, "vars.qcow2") == 0;
}

/* What its disk was before it was written out whole, or after that was interrupted. */
static bool is_old_disk(const struct machine *m, const char *name)
{
	const char *slash = m->disk_path != NULL ? strrchr(m->disk_path, '/') : NULL;

	return machine_is_own_disk(name) && slash != NULL && machine_is_own_disk(slash + 1) &&
	       strcmp(slash + 1, name) != 0;
}

static int copy_folder(struct machine_job *j, struct err *err)
{
	DIR *dir = opendir(j->m->dir);
	struct dirent *e;
	int r = dir == NULL ? err_errno(err, -errno, "%s", quote(j->m->dir)) : 0;

	while (r == 0 && (e = readdir(dir)) != NULL) {
		char *from;

		if (!is_copied(e->d_name) || is_old_disk(j->m, e->d_name))
			continue;
		from = path_join(j->m->dir, e->d_name);
		r = from == NULL ? err_nomem(err) : copy_file(j, from, e->d_name, err);
		if (r == 0 && machine_is_own_disk(e->d_name))
			r = machine_link_base(from, j->tmp, err);
		free(from);
	}
	if (dir != NULL)
		closedir(dir);
	return r;
}

/* ---- a snapshot's memory ---- */

static int copy_saved(struct machine_job *j, json_t *f, struct err *err)
{
	char *from = path_join(j->dir, json_str(f, "name"));
	char *name = str_printf(MEMORY_DIR "/%s", json_str(f, "name"));
	char *to = name != NULL ? path_join(j->tmp, name) : NULL;
	struct stat st;
	int r = from == NULL || to == NULL ? err_nomem(err) : copy_file(j, from, name, err);

	if (r == 0 && stat(to, &st) < 0)
		r = err_errno(err, -errno, "%s", quote(to));
	if (r == 0)
		json_put_int(f, "mtime_ns", snapshot_mtime_ns(&st));
	free(from);
	free(name);
	free(to);
	return r;
}

/* What is no disk, with a manifest of its own, for the new machine to begin with. */
static int copy_memory(struct machine_job *j, struct err *err)
{
	json_t *manifest = json_deep_copy(j->manifest), *files = json_array(), *f;
	char *dir = path_join(j->tmp, MEMORY_DIR), *path = NULL, *text = NULL;
	int r = manifest == NULL || dir == NULL ? err_nomem(err) : mkdir_p(dir, 0700, err);
	size_t i;

	json_array_foreach (json_object_get(manifest, "files"), i, f) {
		if (r < 0 || json_str(f, "path") != NULL || json_str(f, "name") == NULL ||
			overlay_is_base(json_str(f, "name")))
			continue;
		r = copy_saved(j, f, err);
		json_array_append(files, f);
	}
	json_object_set_new(manifest, "files", files);
	if (r == 0) {
		path = path_join(dir, SNAPSHOT_MANIFEST);
		text = json_text(manifest);
		r = path == NULL || text == NULL ? err_nomem(err) : 0;
	}
	if (r == 0)
		r = file_write_atomic(path, text, strlen(text), 0600, true, err);
	json_decref(manifest);
	free(dir);
	free(path);
	free(text);
	return r;
}

static int take_disk(struct machine_job *j, const char *from, const char *name, struct err *err)
{
	char *to = path_join(j->tmp, name), *made = NULL;
	int r = to == NULL ? err_nomem(err)
			   : machine_take_disk(j->m->cfg, from, to, &j->cancelled, &made, err);

	if (r == 0)
		r = file_sync(made, err);
	free(to);
	free(made);
	return r;
}

static int copy_snapshot(struct machine_job *j, struct err *err)
{
	const json_t *files = json_arr(j->manifest, "files"), *f;
	size_t i;
	int r = j->memory ? copy_memory(j, err) : 0;

	json_array_foreach (files, i, f) {
		const char *path = json_str(f, "path"), *name = json_str(f, "name"), *base;
		char *from;

		if (path == NULL || name == NULL || r < 0)
			continue;
		base = strrchr(path, '/');
		from = path_join(j->dir, name);
		if (from == NULL)
			r = err_nomem(err);
		else if (str_eq(json_str(f, "disk"), "disk0"))
			r = take_disk(j, from, base != NULL ? base + 1 : path, err);
		else
			r = copy_file(j, from, base != NULL ? base + 1 : path, err);
		free(from);
	}
	return r == 0 ? machine_link_bases(j->dir, files, j->tmp, err) : r;
}

static int copy(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	int r;

	if (j->manifest == NULL)
		return copy_folder(j, err);
	r = snapshot_verify(j->dir, j->manifest, err);
	return r == 0 ? copy_snapshot(j, err) : r;
}

static void copy_disks(struct machine_job *j)
{
	job_pool(j, copy);
}

/* ---- who it is ---- */

/* A thing of the job's own was under way: whether somebody still waits for it. */
static bool came_back(struct machine_job *j)
{
	struct machine *m = j->m;

	j->in_pool = false;
	if (m->closing == 0)
		return true;
	j->m = NULL;
	job_destroy(j);
	machine_closed(m);
	return false;
}

static void keys_made(void *arg, const struct child_result *res, const struct err *err)
{
	struct machine_job *j = arg;

	if (came_back(j))
		job_next(j, err);
}

/* ssh-keygen(1) -A: one of each usual type below PREFIX/etc/ssh, without a passphrase. */
static void make_keys(struct machine_job *j)
{
	char *program = find_program("ssh-keygen"), *dir = path_join(j->tmp, "etc/ssh");
	char *argv[] = { "ssh-keygen", "-A", "-f", j->tmp, NULL };
	struct child_spec spec = { .file = program, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = { .timeout_ms = KEYGEN_MS, .async = true };
	struct err err;
	int r = 0;

	if (program == NULL)
		r = err_set(&err, -ENOENT,
			"ssh-keygen is not installed (Debian package openssh-client)");
	else if (dir == NULL)
		r = err_nomem(&err);
	if (r == 0)
		r = mkdir_p(dir, 0700, &err);
	if (r == 0)
		r = child_run(NULL, j->m->d->loop, &spec, &opts, keys_made, j, &err);
	j->in_pool = r == 0;
	free(program);
	free(dir);
	if (r < 0)
		job_next(j, &err);
}

/* What is written into the disk, or, where the memory has that mounted, is told to the guest. */
static const char *identity_file(const struct machine_job *j)
{
	return j->warm || j->memory ? IDENTITY : INJECT;
}

/* A thread of the pool. */
static int write_identity(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	json_t *doc = json_object(), *keys = json_array();
	char *path = path_join(j->tmp, identity_file(j)), *text = NULL,
	     *etc = path_join(j->tmp, "etc"), *ssh = path_join(j->tmp, "etc/ssh");
	int r = path == NULL || etc == NULL || ssh == NULL ? err_nomem(err) : 0;

	json_put_str(doc, "hostname", j->name);
	if (r == 0)
		r = machine_identity_add_id(doc, err);
	if (r == 0)
		r = machine_identity_add_keys(ssh, keys, err);
	json_object_set_new(doc, "host_keys", keys);
	if (r == 0 && (text = json_text(doc)) == NULL)
		r = err_nomem(err);
	if (r == 0)
		r = file_write_atomic(path, text, strlen(text), 0600, false, err);
	if (r == 0)
		r = remove_tree(etc, err);
	json_decref(doc);
	free(text);
	free(path);
	free(etc);
	free(ssh);
	return r;
}

static void forget_identity(struct machine_job *j)
{
	char *path = path_join(j->tmp, INJECT);

	if (path != NULL)
		unlink(path);
	free(path);
}

static void injected(void *arg, const json_t *result, const struct err *err)
{
	struct machine_job *j = arg;

	j->m->image_busy = false;
	forget_identity(j);
	if (err != NULL && err->code == -ECANCELED) {
		job_next(j, err);
		return;
	}
	/* No filesystem that we can write into: the copy is good all the same. */
	if (err != NULL) {
		machine_tell(j->m, "clone", "%s keeps its source's machine-id and host keys: %s",
			j->name, err->msg);
		log_warn("vm %s: keeps the machine-id and host keys of %s: %s", j->name, j->m->name,
			err->msg);
	}
	job_next(j, NULL);
}

static void inject(struct machine_job *j, const char *disk)
{
	struct machine *m = j->m;
	struct strv args = { 0 };
	struct err err;
	int r;

	strv_add(&args, "inject");
	strv_add(&args, "--disk");
	strv_add(&args, disk);
	if (str_ends(disk, OVERLAY_SUFFIX)) {
		strv_add(&args, "--qcow2");
		strv_add(&args, "--flatten");
		strv_addf(&args, "%s/" MACHINE_DISK, j->tmp);
	}
	strv_add(&args, "--inject");
	strv_addf(&args, "%s/" INJECT, j->tmp);
	m->image = (struct image_sub){ .done = injected, .arg = j };
	list_init(&m->image.entry);
	m->image_busy = true;
	r = args.bad ? err_nomem(&err) : image_job_args(m->d, &args, &m->image, &err);
	strv_finish(&args);
	if (r < 0) {
		m->image_busy = false;
		job_next(j, &err);
	}
}

static void inject_if_disk(struct machine_job *j)
{
	char *disk = machine_find_disk(j->tmp);

	if (!j->warm && !j->memory && disk != NULL) {
		inject(j, disk);
	} else {
		if (!j->warm && !j->memory)
			forget_identity(j);
		job_next(j, NULL);
	}
	free(disk);
}

static void identify(struct machine_job *j)
{
	j->pool_next = inject_if_disk;
	job_pool(j, write_identity);
}

/* ---- it takes its place ---- */

static char *new_dir(const struct machine_job *j)
{
	return str_printf("%s/vm/%s", j->m->d->state_dir, j->name);
}

static int place(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	char *dir = new_dir(j), *parent = str_printf("%s/vm", j->m->d->state_dir);
	int r = dir == NULL || parent == NULL ? err_nomem(err) : file_sync(j->tmp, err);

	/* One that is not empty is not replaced (rename(2)). */
	if (r == 0 && rename(j->tmp, dir) < 0)
		r = err_errno(err, -errno, "rename %s to %s", quote(j->tmp), quote(dir));
	if (r == 0)
		r = file_sync(parent, err);
	free(dir);
	free(parent);
	return r;
}

static void place_folder(struct machine_job *j)
{
	job_pool(j, place);
}

static int write_section(void *arg, struct err *err)
{
	struct machine_job *j = arg;

	return dropin_write(j->m->d->state_dir, j->name, j->text, err);
}

/* It begins with the memory that these disks belong to, unless somebody writes to them before. */
static int set_warm(const struct machine_job *j, struct machine *n, struct err *err)
{
	struct stat st;

	if (!j->warm && !j->memory)
		return 0;
	n->warm_image = j->warm ? strdup(j->dir) : path_join(n->dir, MEMORY_DIR);
	if (n->warm_image == NULL)
		return err_nomem(err);
	if (n->disk_path != NULL && stat(n->disk_path, &st) == 0)
		n->warm_mtime = snapshot_mtime_ns(&st);
	return 0;
}

/* What it is to know before it is in the configuration: it has a disk, and waits to be started. */
static int make_machine(struct machine_job *j, struct err *err)
{
	struct machine *n;
	int r;

	if (machine_find(j->m->d, j->name) != NULL)
		return err_set(err, -EEXIST, "there is a machine %s already", quote(j->name));
	r = machine_create(&n, j->m->d, j->name, err);
	if (r < 0)
		return r;
	j->made = true;
	n->want_known = true;
	n->want_running = false;
	n->disk_path = machine_find_disk(n->dir);
	r = set_warm(j, n, err);
	if (r < 0)
		return r;
	machine_tell(n, "clone", "made from %s", j->m->name);
	return machine_save(n, err);
}

static void record(struct machine_job *j)
{
	struct err err;

	if (make_machine(j, &err) < 0)
		job_next(j, &err);
	else
		job_pool(j, write_section);
}

static void bind_it(struct machine_job *j)
{
	struct err err;

	job_next(j, drover_take_vm(j->m->d, j->name, &err) < 0 ? &err : NULL);
}

/* ---- undone ---- */

static int take_back(void *arg, struct err *err)
{
	struct machine_job *j = arg;
	char *dir = new_dir(j);
	int r = dropin_remove(j->m->d->state_dir, j->name, err);

	/* Whose folder that is, if ours is still where it was, is another question. */
	if (r == 0 && dir != NULL && access(j->tmp, F_OK) < 0 && rename(dir, j->tmp) < 0 &&
		errno != ENOENT)
		r = err_errno(err, -errno, "rename %s", quote(dir));
	free(dir);
	return r;
}

static void undo_place(struct machine_job *j)
{
	struct machine *n = j->made ? machine_find(j->m->d, j->name) : NULL;

	if (n != NULL) {
		machine_flush(n);
		machine_destroy(n);
	}
	j->pool_next = NULL;
	if (j->placed)
		job_pool(j, take_back);
	else
		job_next(j, NULL);
}

static void placed(struct machine_job *j)
{
	j->placed = true;
	job_next(j, NULL);
}

static void keep_place(struct machine_job *j)
{
	j->pool_next = placed;
	place_folder(j);
}

static void record_it(struct machine_job *j)
{
	j->pool_next = NULL;
	record(j);
}

static const struct job_step steps[] = {
	{ "folder", job_folder },
	{ "copy", copy_disks },
	{ "host-keys", make_keys },
	{ "identity", identify },
	{ "place", keep_place },
	{ "record", record_it },
	{ "bind", bind_it },
	{ NULL, NULL },
};

static const struct job_step undo[] = {
	{ "place", undo_place },
	{ "remove", job_remove },
	{ NULL, NULL },
};

static const struct job_kind kind = { "clone", "clone", steps, undo, "clone-begun", "cloned",
	"clone-failed" };

static const char *point(size_t i)
{
	return i < ARRAY_LEN(steps) - 1 ? steps[i].name : NULL;
}
const struct fault_table clone_faults = { "clone", point, FAULT_ALL };

/* ---- whether it can be ---- */

/* Two machines that write to one file would break it. */
static int check_volumes(const struct machine *m, struct err *err)
{
	struct volume v;

	for (size_t i = 0; i < m->cfg->volumes.n; i++) {
		bool shared;

		if (volume_parse(&v, m->cfg->volumes.v[i], err) < 0)
			return err->code;
		shared = v.name == NULL && !v.readonly;
		volume_finish(&v);
		if (shared)
			return err_set(err, -EINVAL,
				"vm %s: two machines cannot both write to its volume %s", m->name,
				quote(m->cfg->volumes.v[i]));
	}
	return 0;
}

static int check_new_name(struct machine *m, const char *name, struct err *err)
{
	char *dir;
	int r = name_check(name, "vm", err);

	if (r < 0)
		return r;
	if (machine_find(m->d, name) != NULL)
		return err_set(err, -EEXIST, "there is a machine %s already", quote(name));
	dir = str_printf("%s/vm/%s", m->d->state_dir, name);
	if (dir == NULL)
		return err_nomem(err);
	if (access(dir, F_OK) == 0)
		r = err_set(err, -EEXIST, "%s is there already", quote(dir));
	free(dir);
	return r;
}

static int check_source(struct machine *m, const char *snapshot, struct err *err)
{
	bool for_run = m->cfg != NULL &&
		       (m->cfg->ephemeral || m->cfg->warm || m->cfg->disk == DISK_RUN);

	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->job != NULL)
		return err_set(
			err, -EBUSY, "vm %s: its last operation is coming to its end", m->name);
	if (m->cfg == NULL)
		return machine_wrong_state(m, "clone", err);
	if (snapshot != NULL || m->cfg->warm)
		return 0;
	if (machine_active(m) || m->state == MACHINE_BACKOFF || m->suspended)
		return err_set(err, -EBADFD,
			"vm %s: only a stopped machine can be copied, and it is %s; stop it, or take "
			"a snapshot and say --from SNAP",
			m->name, m->suspended ? "suspended" : machine_state_name(m->state));
	if (machine_warm_foreign(m))
		return err_set(err, -EBADFD,
			"vm %s: it has not been started since it was made, and is nothing of its "
			"own yet",
			m->name);
	if (m->cfg->rootfs != NULL && (m->disk_path == NULL || access(m->disk_path, F_OK) < 0 ||
					      (for_run && m->disk_stale)))
		return err_set(err, -EBADFD, "vm %s: it has no disk %s", m->name,
			for_run ? "between its runs; take a snapshot and say --from SNAP"
				: "before its first start");
	return 0;
}

static int fill(struct machine_job *j, const char *name, const char *snapshot, struct err *err)
{
	struct machine *m = j->m;
	int r = 0;

	j->name = strdup(name);
	j->tmp = str_printf("%s/clone.%llu.tmp", m->dir, (unsigned long long)clock_mono_ms());
	if (j->name == NULL || j->tmp == NULL)
		return err_nomem(err);
	if (snapshot != NULL) {
		j->dir = machine_snapshot_dir(m, snapshot);
		r = j->dir == NULL ? err_nomem(err)
				   : machine_snapshot_read(m, snapshot, &j->manifest, err);
		if (r == 0 && m->cfg->rootfs != NULL &&
			snapshot_file_of(j->manifest, "disk0") == NULL)
			r = err_set(err, -EINVAL, "vm %s: snapshot %s has no disk", m->name,
				quote(snapshot));
	}
	/* A guest that has no agent could not learn that it is another one: then the disks alone. */
	j->memory = r == 0 && snapshot != NULL && snapshot_has_memory(j->manifest) &&
		    m->cfg->agent && json_arr(j->manifest, "macs") != NULL &&
		    str_eq(m->cfg->hypervisor, json_str(j->manifest, "hypervisor"));
	if (snapshot == NULL && m->cfg->warm) {
		j->warm = true;
		r = warm_find(m, m->cfg, &j->dir, &j->manifest, err);
		if (r == -ENOENT || r == -ESTALE)
			r = err_set(err, -EBADFD,
				"vm %s: it has no warm image (%s); `drover start %s` makes one",
				m->name, err->msg, m->name);
	}
	return r == 0 ? dropin_text(m->cfg, name, &j->text, err) : r;
}

int machine_clone(struct machine *m, const char *name, const char *snapshot, struct operation **op,
	struct err *err)
{
	struct machine_job *j;
	int r = check_source(m, snapshot, err);

	*op = NULL;
	if (r == 0)
		r = check_new_name(m, name, err);
	if (r == 0)
		r = check_volumes(m, err);
	if (r < 0)
		return r;
	j = job_create(m, &kind);
	r = j == NULL ? err_nomem(err) : fill(j, name, snapshot, err);
	if (r < 0) {
		job_destroy(j);
		return r;
	}
	return job_begin(j, op, err);
}
