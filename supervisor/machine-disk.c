/* Kernel, rootfs and disk of a machine: steps of its start. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine-steps.h"

#define BUILT_SIZE (8ull << 30) /* of a built disk unless another one is asked for */

static bool is_path(const char *s)
{
	return s[0] == '/';
}

static bool is_file(const char *path)
{
	struct stat st;

	return path != NULL && stat(path, &st) == 0;
}

static int check_file(const char *path, struct err *err)
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
		r = check_file(cfg->kernel, &err);
		if (r == 0 && cfg->initrd != NULL)
			r = check_file(cfg->initrd, &err);
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
	return is_file(m->disk_path) && !(m->run_cfg->disk == DISK_RUN && m->disk_stale);
}

static void rootfs_done(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;
	struct err mine;

	m->image_busy = false;
	if (err == NULL && (set(&m->rootfs_path, json_str(result, "disk")) < 0 ||
				   set(&m->rootfs_ref, m->run_cfg->rootfs) < 0)) {
		err_nomem(&mine);
		err = &mine;
	}
	if (err == NULL && m->rootfs_path == NULL) {
		err_set(&mine, -EINVAL, "%s gives no disk", quote(m->run_cfg->rootfs));
		err = &mine;
	}
	machine_start_next(m, err);
}

void machine_step_rootfs(struct machine *m)
{
	const struct vm_config *cfg = m->run_cfg;
	struct err err;
	int r = 0;

	if (cfg->rootfs == NULL || disk_is_there(m)) {
		machine_start_next(m, NULL);
		return;
	}
	if (is_path(cfg->rootfs)) {
		r = check_file(cfg->rootfs, &err);
		if (r == 0 && set(&m->rootfs_path, cfg->rootfs) < 0)
			r = err_nomem(&err);
		set(&m->rootfs_ref, NULL);
	} else if (!known(m, cfg->rootfs, m->rootfs_ref, m->rootfs_path)) {
		/* A larger disk is a clone that grew; only a smaller one is built as such. */
		uint64_t size = cfg->disk_size < BUILT_SIZE ? cfg->disk_size : 0;

		subscribe(m, rootfs_done);
		r = image_job_ref(
			m->d, IMAGE_ROOTFS, cfg->rootfs, cfg->pull, size, &m->image, &err);
		if (r == 0)
			return;
		m->image_busy = false;
	}
	machine_start_next(m, r < 0 ? &err : NULL);
}

/* ---- the machine's own disk ---- */

static char *inject_path(const struct machine *m)
{
	return path_join(m->dir, "inject.json");
}

static void remove_inject(const struct machine *m)
{
	char *path = inject_path(m);

	if (path != NULL)
		unlink(path);
	free(path);
}

/* What is put into the clone: hostname and keys. *path stays NULL when there is nothing. */
static int write_inject(struct machine *m, char **path, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	json_t *j, *keys;
	char *text, *hostname = NULL;
	int r = 0;

	/* A disk file of somebody's own is left as it is unless a key was asked for. */
	if (is_path(cfg->rootfs) && cfg->ssh_keys.n == 0)
		return 0;
	j = json_object();
	keys = json_array();
	r = machine_expand(m, cfg->hostname != NULL ? cfg->hostname : m->name, &hostname, err);
	json_put_str(j, "hostname", hostname);
	json_put_str(j, "user", cfg->ssh_user);
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
	text = json_text(j);
	json_decref(j);
	*path = inject_path(m);
	if (r == 0)
		r = text == NULL || *path == NULL
			    ? err_nomem(err)
			    : file_write_atomic(*path, text, strlen(text), 0600, false, err);
	free(text);
	free(hostname);
	return r;
}

static void disk_done(void *arg, const json_t *result, const struct err *err)
{
	struct machine *m = arg;
	char *path;

	m->image_busy = false;
	remove_inject(m);
	if (err == NULL) {
		path = path_join(m->dir, "disk.raw");
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

void machine_step_disk(struct machine *m)
{
	const struct vm_config *cfg = m->run_cfg;
	struct strv args = { 0 };
	char *inject = NULL;
	struct err err;
	int r = 0;

	if (cfg->rootfs == NULL) {
		set(&m->disk_path, NULL);
		machine_start_next(m, NULL);
		return;
	}
	if (disk_is_there(m)) {
		machine_start_next(m, NULL);
		return;
	}
	r = write_inject(m, &inject, &err);
	strv_add(&args, "clone");
	strv_add(&args, "--from");
	strv_add(&args, m->rootfs_path);
	strv_add(&args, "--to");
	strv_addf(&args, "%s/disk.raw", m->dir);
	if (cfg->disk_size != 0) {
		strv_add(&args, "--size");
		strv_addf(&args, "%llu", (unsigned long long)cfg->disk_size);
	}
	if (inject != NULL) {
		strv_add(&args, "--inject");
		strv_add(&args, inject);
	}
	subscribe(m, disk_done);
	if (r == 0)
		r = args.bad ? err_nomem(&err) : image_job_args(m->d, &args, &m->image, &err);
	strv_finish(&args);
	free(inject);
	if (r < 0) {
		m->image_busy = false;
		remove_inject(m);
		machine_start_next(m, &err);
	}
}

int machine_forget_disk(struct machine *m, struct err *err)
{
	if (m->disk_path == NULL)
		return 0;
	if (unlink(m->disk_path) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "vm %s: delete %s", m->name, quote(m->disk_path));
	free(m->disk_path);
	m->disk_path = NULL;
	return 0;
}
