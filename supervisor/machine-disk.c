/* Kernel, rootfs and disk of a machine: steps of its start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/image.h"
#include "oci/overlay.h"
#include "supervisor/machine-identity.h"
#include "supervisor/machine-steps.h"

#define BUILT_SIZE (8ull << 30) /* of a built disk unless another one is asked for */

static bool is_path(const char *s)
{
	return s[0] == '/';
}

/* malloc'd. */
static char *rootfs_reference(const char *rootfs)
{
	return str_printf("%s%s", is_path(rootfs) ? "file:" : "", rootfs);
}

static bool is_file(const char *path)
{
	struct stat st;

	return path != NULL && stat(path, &st) == 0;
}

int machine_check_file(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "%s", quote(path));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(
			err, -EINVAL, "%s is neither a file nor a block device", quote(path));
	return 0;
}

static int set(char **to, const char *from)
{
	char *copy = from != NULL ? strdup(from) : NULL;

	if (from != NULL && copy == NULL)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

static void image_line(void *arg, const char *line)
{
	struct machine *m = arg;

	operation_step(
		m->op, m->step == 3 ? "pulling the kernel image" : "pulling the rootfs image");
}

static void subscribe(struct machine *m, void (*done)(void *, const json_t *, const struct err *))
{
	m->image = (struct image_sub){ .line = image_line, .done = done, .arg = m };
	list_init(&m->image.entry);
	m->image_busy = true;
}

/* What was found before is good unless the image is to be asked for every time. */
static bool known(const struct machine *m, const char *ref, const char *known_ref, const char *path)
{
	return m->run_cfg->pull != PULL_ALWAYS && str_eq(ref, known_ref) && is_file(path);
}

/* ---- kernel ---- */

static void kernel_done(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	m->image_busy = false;
	if (err == NULL && (set(&m->kernel_path, json_str(result, "kernel")) < 0 ||
				   set(&m->initrd_path, json_str(result, "initrd")) < 0 ||
				   set(&m->kernel_ref, m->run_cfg->kernel) < 0)) {
		err_nomem(&mine);
		err = &mine;
	}
	if (err == NULL && m->kernel_path == NULL) {
		err_set(&mine, -EINVAL, "%s has no kernel", quote(m->run_cfg->kernel));
		err = &mine;
	}
	if (err == NULL && m->run_cfg->initrd != NULL &&
		set(&m->initrd_path, m->run_cfg->initrd) < 0) {
		err_nomem(&mine);
		err = &mine;
	}
	machine_start_next(m, err);
}

void machine_step_kernel(struct machine *m)
{
	const struct vm_config *cfg = m->run_cfg;
	struct err err;
	int r = 0;

	if (cfg->kernel == NULL) {
		set(&m->kernel_path, NULL);
		set(&m->initrd_path, NULL);
	} else if (is_path(cfg->kernel)) {
		r = machine_check_file(cfg->kernel, &err);
		if (r == 0 && cfg->initrd != NULL)
			r = machine_check_file(cfg->initrd, &err);
		if (r == 0 && (set(&m->kernel_path, cfg->kernel) < 0 ||
				      set(&m->initrd_path, cfg->initrd) < 0))
			r = err_nomem(&err);
		set(&m->kernel_ref, NULL);
	} else if (!known(m, cfg->kernel, m->kernel_ref, m->kernel_path) ||
		   (m->initrd_path != NULL && !is_file(m->initrd_path))) {
		subscribe(m, kernel_done);
		r = image_job_ref(m->d, IMAGE_KERNEL, cfg->kernel, cfg->pull, 0, &m->image, &err);
		if (r == 0)
			return;
		m->image_busy = false;
	}
	machine_start_next(m, r < 0 ? &err : NULL);
}

/* ---- rootfs ---- */

static bool disk_is_there(const struct machine *m)
{
	bool for_run = m->run_cfg->disk == DISK_RUN || m->run_cfg->ephemeral || m->run_cfg->warm;

	return is_file(m->disk_path) && !(for_run && m->disk_stale);
}

/*
 * A larger disk is a clone that grew, or an overlay above one of its size: only a smaller one is built
 * as such in any case.
 */
static uint64_t built_size(const struct vm_config *cfg, bool *unshared)
{
	*unshared = cfg->disk_size > BUILT_SIZE;
	return *unshared && !machine_may_overlay(cfg) ? 0 : cfg->disk_size;
}

/* What tells one built disk from another; malloc'd. */
static char *rootfs_key(const struct vm_config *cfg)
{
	bool unshared;
	uint64_t size = built_size(cfg, &unshared);

	return size == 0 ? strdup(cfg->rootfs)
			 : str_printf("%s size=%llu", cfg->rootfs, (unsigned long long)size);
}

static int keep_rootfs(struct machine *m, const char *path, struct err *err)
{
	char *key = rootfs_key(m->run_cfg);
	int r = key == NULL || set(&m->rootfs_path, path) < 0 ? err_nomem(err) : 0;

	if (r < 0) {
		free(key);
		return r;
	}
	free(m->rootfs_ref);
	m->rootfs_ref = key;
	return 0;
}

static void rootfs_done(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	m->image_busy = false;
	if (err == NULL && keep_rootfs(m, json_str(result, "disk"), &mine) < 0)
		err = &mine;
	if (err == NULL && m->rootfs_path == NULL) {
		err_set(&mine, -EINVAL, "%s gives no disk", quote(m->run_cfg->rootfs));
		err = &mine;
	}
	machine_start_next(m, err);
}

static int build_rootfs(struct machine *m, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	char *ref = rootfs_reference(cfg->rootfs);
	bool unshared;
	uint64_t size = built_size(cfg, &unshared);
	/* A path means what is there now, as it does for a raw disk. */
	int pull = is_path(cfg->rootfs) && cfg->pull == PULL_MISSING ? PULL_ALWAYS : cfg->pull;
	int r;

	subscribe(m, rootfs_done);
	r = ref == NULL ? err_nomem(err)
			: image_job_rootfs(m->d, ref, pull, size, unshared, &m->image, err);
	free(ref);
	m->image_busy = r == 0;
	return r;
}

static bool rootfs_known(const struct machine *m)
{
	char *key = rootfs_key(m->run_cfg);
	bool yes = key != NULL && known(m, key, m->rootfs_ref, m->rootfs_path);

	free(key);
	return yes;
}

void machine_step_rootfs(struct machine *m)
{
	const struct vm_config *cfg = m->run_cfg;
	struct err err;
	int r = 0;

	machine_throw_away_stale(m);
	if (cfg->rootfs == NULL || disk_is_there(m)) {
		machine_start_next(m, NULL);
		return;
	}
	if (machine_is_raw_path(cfg->rootfs)) {
		r = machine_check_file(cfg->rootfs, &err);
		if (r == 0 && set(&m->rootfs_path, cfg->rootfs) < 0)
			r = err_nomem(&err);
		set(&m->rootfs_ref, NULL);
	} else if (is_path(cfg->rootfs) || !rootfs_known(m)) {
		r = build_rootfs(m, &err);
		if (r == 0)
			return;
	}
	machine_start_next(m, r < 0 ? &err : NULL);
}

/* ---- the machine's own disk ---- */

/* What is to be written into the disk, and what has been. */
#define INJECT_NEW  "inject.json"
#define INJECT_DONE "injected.json"
#define INJECT_MAX  (1u << 20)

static void remove_inject(const struct machine *m)
{
	char *path = path_join(m->dir, INJECT_NEW);

	if (path != NULL)
		unlink(path);
	free(path);
}

/* The disk has it. If this fails it is written into the disk once more, at the next start. */
static void keep_inject(const struct machine *m)
{
	char *from = path_join(m->dir, INJECT_NEW), *to = path_join(m->dir, INJECT_DONE);

	if (from != NULL && to != NULL && rename(from, to) < 0 && errno != ENOENT)
		log_debug("vm %s: ignoring: rename %s: %s", m->name, quote(from), strerror(errno));
	free(from);
	free(to);
}

/* Whether the disk has this already. */
static bool is_injected(const struct machine *m, const char *text)
{
	char *path = path_join(m->dir, INJECT_DONE);
	struct buf had = { 0 };
	bool same;

	same = path != NULL && file_read(path, INJECT_MAX, &had, NULL) == 0 &&
	       str_eq(buf_str(&had), text);
	buf_finish(&had);
	free(path);
	return same;
}

/* {machine_id, host_keys} of a copy of another one that is to be told apart from it; or NULL. */
static json_t *own_identity(const struct machine *m)
{
	json_t *j = NULL;

	return machine_identity_read(m->dir, &j, NULL) == 0 ? j : NULL;
}

/*
 * A container's filesystem becomes that of a machine: its root disk, names and DHCP, where the image
 * does not have them, and a machine-id instead of the image's. A disk that was made for a machine has
 * its own.
 */
static int put_system(json_t *j, const struct machine *m, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	const char *given = cfg->cmdline != NULL ? cfg->cmdline : "";
	bool root = str_starts(given, "root=") || strstr(given, " root=") != NULL;

	if (image_text_is_file(cfg->rootfs))
		return 0;
	if (cfg->kernel != NULL && !root)
		json_put_str(j, "root_device", "/dev/vda");
	json_object_set_new(j, "hosts", json_true());
	if (cfg->networks.n > 0)
		json_object_set_new(j, "network", json_true());
	if (json_object_get(j, "machine_id") != NULL)
		return 0;
	return machine_identity_add_derived_id(j, m->dir, err);
}

/* Hostname and keys as JSON for drover-image; *out stays NULL when nothing is to be written. */
static int inject_text(struct machine *m, char **out, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	json_t *j, *keys;
	char *hostname = NULL;
	int r;

	j = own_identity(m);
	/* A disk file of somebody's own is left as it is unless a key was asked for. */
	if (j == NULL && image_text_is_file(cfg->rootfs) && cfg->ssh_keys.n == 0)
		return 0;
	if (j == NULL)
		j = json_object();
	keys = json_array();
	r = machine_expand(m, cfg->hostname != NULL ? cfg->hostname : m->name, &hostname, err);
	json_put_str(j, "hostname", hostname);
	json_put_str(j, "user", cfg->ssh_user);
	if (r == 0)
		r = put_system(j, m, err);
	for (size_t i = 0; r == 0 && i < cfg->ssh_keys.n; i++) {
		const struct key_config *key = config_sshkey(
			m->run_box->config, cfg->ssh_keys.v[i]);
		struct buf line = { 0 };

		if (key == NULL)
			continue;
		r = key_public(m->d, key, &line, err);
		json_array_append_new(keys, json_string(buf_str(&line)));
		buf_finish(&line);
	}
	json_object_set_new(j, "authorized_keys", keys);
	if (r == 0 && (*out = json_text(j)) == NULL)
		r = err_nomem(err);
	json_decref(j);
	free(hostname);
	return r;
}

/* Adds --inject FILE to args, the file with this text made. */
static int add_inject(struct machine *m, const char *text, struct strv *args, struct err *err)
{
	char *path = path_join(m->dir, INJECT_NEW);
	int r = path == NULL ? err_nomem(err)
			     : file_write_atomic(path, text, strlen(text), 0600, false, err);

	strv_add(args, "--inject");
	strv_add(args, path);
	free(path);
	return r;
}

static void inject_done(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;

	m->image_busy = false;
	if (err == NULL) {
		keep_inject(m);
		machine_find_flattened(m);
		machine_tell(m, "disk", "has the new name and keys");
	} else {
		/* The machine ran with this disk before, and can again. */
		remove_inject(m);
		machine_tell(m, "disk", "keeps its old name and keys: %s", err->msg);
		log_warn("vm %s: the disk keeps its old name and keys: %s", m->name, err->msg);
	}
	machine_start_next(m, NULL);
}

/* The configuration may ask for other keys than those that the disk was made with. */
static void refresh_disk(struct machine *m)
{
	struct strv args = { 0 };
	char *text = NULL;
	struct err err;
	int r = inject_text(m, &text, &err);

	if (r == 0 && (text == NULL || is_injected(m, text))) {
		free(text);
		machine_start_next(m, NULL);
		return;
	}
	strv_add(&args, "inject");
	strv_add(&args, "--disk");
	strv_add(&args, m->disk_path);
	if (machine_disk_format(m) == HV_DISK_QCOW2) {
		strv_add(&args, "--qcow2");
		strv_add(&args, "--flatten");
		machine_add_other_disk(m->disk_path, &args);
	}
	if (r == 0)
		r = add_inject(m, text, &args, &err);
	subscribe(m, inject_done);
	if (r == 0)
		r = args.bad ? err_nomem(&err) : image_job_args(m->d, &args, &m->image, &err);
	strv_finish(&args);
	free(text);
	if (r < 0) {
		m->image_busy = false;
		remove_inject(m);
		machine_start_next(m, &err);
	}
}

/* What drover-image leaves when it is killed. */
static void remove_part(const struct machine *m)
{
	static const char *const names[] = { MACHINE_DISK ".part", MACHINE_OVERLAY ".part" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		char *path = path_join(m->dir, names[i]);

		if (path != NULL && unlink(path) < 0 && errno != ENOENT)
			log_debug("vm %s: ignoring: unlink %s: %s", m->name, quote(path),
				strerror(errno));
		free(path);
	}
	overlay_sweep(m->dir);
}

static void disk_done(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;
	char *path;

	m->image_busy = false;
	if (err != NULL) {
		remove_inject(m);
		remove_part(m);
	} else {
		keep_inject(m);
		path = path_join(m->dir, str_eq(json_str(result, "method"), "overlay")
						 ? MACHINE_OVERLAY
						 : MACHINE_DISK);
		free(m->disk_path);
		m->disk_path = path;
		m->disk_stale = false;
		machine_tell(m, "disk", "made by %s from %s",
			json_str(result, "method") != NULL ? json_str(result, "method") : "copy",
			m->rootfs_path);
		machine_save(m, NULL);
	}
	machine_start_next(m, err);
}

static void flattened(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;

	m->image_busy = false;
	remove_part(m);
	machine_find_flattened(m);
	if (err != NULL) {
		machine_start_next(m, err);
		return;
	}
	machine_tell(m, "disk", "is one file from now on, as %s has it", m->run_cfg->hypervisor);
	machine_save(m, NULL);
	machine_step_disk(m);
}

static void flatten_disk(struct machine *m)
{
	struct strv args = { 0 };
	struct err err;
	int r;

	machine_flatten_args(m, &args);
	subscribe(m, flattened);
	r = args.bad ? err_nomem(&err) : image_job_args(m->d, &args, &m->image, &err);
	strv_finish(&args);
	if (r < 0) {
		m->image_busy = false;
		machine_start_next(m, &err);
	}
}

void machine_step_disk(struct machine *m)
{
	const struct vm_config *cfg = m->run_cfg;
	struct strv args = { 0 };
	char *text = NULL;
	struct err err;
	int r = 0;

	if (cfg->rootfs == NULL) {
		set(&m->disk_path, NULL);
		machine_start_next(m, NULL);
		return;
	}
	if (disk_is_there(m) && machine_check_overlay(m, &err) < 0) {
		machine_start_next(m, &err);
		return;
	}
	if (disk_is_there(m) && machine_must_flatten(m)) {
		flatten_disk(m);
		return;
	}
	/* A guest that goes on knows its disk as it is. */
	if ((m->load_dir != NULL || m->receiving) && is_file(m->disk_path)) {
		machine_start_next(m, NULL);
		return;
	}
	if (disk_is_there(m)) {
		refresh_disk(m);
		return;
	}
	r = inject_text(m, &text, &err);
	strv_add(&args, "clone");
	strv_add(&args, "--from");
	strv_add(&args, m->rootfs_path);
	strv_add(&args, "--to");
	strv_addf(&args, "%s/" MACHINE_DISK, m->dir);
	if (cfg->disk_size != 0) {
		strv_add(&args, "--size");
		strv_addf(&args, "%llu", (unsigned long long)cfg->disk_size);
	}
	machine_clone_args(m, &args);
	if (r == 0 && text != NULL)
		r = add_inject(m, text, &args, &err);
	subscribe(m, disk_done);
	if (r == 0)
		r = args.bad ? err_nomem(&err) : image_job_args(m->d, &args, &m->image, &err);
	strv_finish(&args);
	free(text);
	if (r < 0) {
		m->image_busy = false;
		remove_inject(m);
		machine_start_next(m, &err);
	}
}

void machine_cancel_image(struct machine *m)
{
	if (m->image.done == disk_done || m->image.done == flattened) {
		/* Nobody else's, and the next start makes it anew: it must have ended before. */
		image_cancel(&m->image);
	} else if (m->image.done != inject_done) {
		/* The job goes on for others, and for the next start. */
		image_unsub(&m->image);
		m->image_busy = false;
		machine_start_next(m, NULL);
	}
	/* A disk that is being written into would be broken: that ends by itself, soon. */
}

int machine_forget_disk(struct machine *m, struct err *err)
{
	if (m->suspended)
		machine_drop_suspended(m);
	if (m->disk_path == NULL)
		return 0;
	if (unlink(m->disk_path) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "vm %s: delete %s", m->name, quote(m->disk_path));
	overlay_sweep(m->dir);
	free(m->disk_path);
	m->disk_path = NULL;
	return 0;
}
