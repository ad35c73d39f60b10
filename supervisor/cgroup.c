#include "supervisor/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lib/deadline.h"
#include "lib/file.h"

#define CPU_PERIOD_US 100000
#define PROCS_MAX     (1 << 20)
#define REMOVE_TRIES  60 /* processes that were killed take their time to go */
#define REMOVE_MS     50

static const char *const controllers[] = { "cpu", "io", "memory", "pids" };

static bool is_cgroup2(const char *path)
{
	struct statfs st;

	return statfs(path, &st) == 0 && (uint32_t)st.f_type == CGROUP2_SUPER_MAGIC;
}

static bool is_fake(const char *path)
{
	return str_eq(getenv("DROVER_CGROUP_FAKE"), "1") && !is_cgroup2(path);
}

static int write_value(const char *dir, const char *file, const char *value, struct err *err)
{
	char *path = path_join(dir, file);
	int fd, r = 0;

	if (path == NULL)
		return err_nomem(err);
	fd = open(path, O_WRONLY | O_CLOEXEC | (is_fake(dir) ? O_CREAT | O_TRUNC : 0), 0644);
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		r = err_errno(err, -errno, "write '%s' to %s", value, quote(path));
	if (fd >= 0)
		close(fd);
	free(path);
	return r;
}

static int read_value(const char *dir, const char *file, struct buf *out)
{
	char *path = path_join(dir, file);
	int r = path == NULL ? -ENOMEM : file_read(path, PROCS_MAX, out, NULL);

	free(path);
	return r;
}

static bool has_word(const char *text, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = text; (at = strstr(at, word)) != NULL; at += len) {
		if ((at == text || at[-1] == ' ') && strchr(" \n", at[len]) != NULL)
			return true;
	}
	return false;
}

/* Each by itself: one that is refused shall not keep the others away. */
static void hand_down(const char *root)
{
	struct buf there = { 0 }, given = { 0 };
	char text[16];

	read_value(root, "cgroup.controllers", &there);
	read_value(root, "cgroup.subtree_control", &given);
	for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
		if (!has_word(buf_str(&there), controllers[i]) ||
			has_word(buf_str(&given), controllers[i]))
			continue;
		snprintf(text, sizeof(text), "+%s", controllers[i]);
		write_value(root, "cgroup.subtree_control", text, NULL);
	}
	buf_finish(&there);
	buf_finish(&given);
}

int cgroup_prepare_root(const char *root, struct err *err)
{
	if (access(root, F_OK) < 0)
		return err_errno(err, -errno, "%s", quote(root));
	if (!is_cgroup2(root) && !is_fake(root))
		return err_set(err, -ENOTSUP, "%s is not a folder of cgroup v2", quote(root));
	if (access(root, W_OK) < 0)
		return err_errno(err, -errno, "%s", quote(root));
	if (!is_fake(root))
		hand_down(root);
	return 0;
}

/* 0, or -EBUSY while there are processes in it. */
static int remove_once(const char *path, struct err *err)
{
	if (is_fake(path))
		return remove_tree(path, err);
	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	return err_errno(err, -errno, "remove the cgroup %s", quote(path));
}

int cgroup_make(const char *path, struct err *err)
{
	remove_once(path, NULL);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "make the cgroup %s", quote(path));
	return is_fake(path) ? write_value(path, "cgroup.procs", "", err) : 0;
}

/* What is not limited needs no file; what was limited before gets its default back. */
static void set_one(
	const char *path, const char *file, bool limited, const char *value, struct err *first)
{
	struct err err;
	int r = write_value(path, file, value, &err);

	if (r < 0 && first->code == 0 && (limited || r != -ENOENT))
		*first = err;
}

static void number_or(char *out, size_t cap, uint64_t value, const char *none)
{
	if (value != 0)
		snprintf(out, cap, "%" PRIu64, value);
	else
		snprintf(out, cap, "%s", none);
}

/* The kernel takes whole disks only, not partitions. */
static void set_io(const char *path, const struct cgroup_io *io, struct err *first)
{
	bool limited = io->read_bytes != 0 || io->write_bytes != 0 || io->read_ops != 0 ||
		       io->write_ops != 0;
	char rbps[24], wbps[24], riops[24], wiops[24], text[160];

	if (io->major == 0) {
		if (limited && first->code == 0)
			err_set(first, -ENODEV,
				"io.max: no block device is known for the machine's disk");
		return;
	}
	number_or(rbps, sizeof(rbps), io->read_bytes, "max");
	number_or(wbps, sizeof(wbps), io->write_bytes, "max");
	number_or(riops, sizeof(riops), io->read_ops, "max");
	number_or(wiops, sizeof(wiops), io->write_ops, "max");
	snprintf(text, sizeof(text), "%u:%u rbps=%s wbps=%s riops=%s wiops=%s", io->major,
		io->minor, rbps, wbps, riops, wiops);
	if (limited)
		set_one(path, "io.max", true, text, first);
	else
		write_value(path, "io.max", text, NULL); /* there may never have been one */
}

int cgroup_set(const char *path, const struct cgroup_limits *l, struct err *err)
{
	struct err first = { 0 };
	char text[64], quota[32];

	number_or(text, sizeof(text), l->memory, "max");
	set_one(path, "memory.max", l->memory != 0 && !l->memory_if_possible, text, &first);
	number_or(text, sizeof(text), l->memory_high, "max");
	set_one(path, "memory.high", l->memory_high != 0, text, &first);
	number_or(quota, sizeof(quota), l->cpu_percent * (CPU_PERIOD_US / 100), "max");
	snprintf(text, sizeof(text), "%s %d", quota, CPU_PERIOD_US);
	set_one(path, "cpu.max", l->cpu_percent != 0, text, &first);
	number_or(text, sizeof(text), l->cpu_weight, "100");
	set_one(path, "cpu.weight", l->cpu_weight != 0, text, &first);
	snprintf(text, sizeof(text), "default %" PRIu64, l->io_weight != 0 ? l->io_weight : 100);
	set_one(path, "io.weight", l->io_weight != 0, text, &first);
	set_io(path, &l->io, &first);
	number_or(text, sizeof(text), l->pids, "max");
	set_one(path, "pids.max", l->pids != 0, text, &first);
	if (first.code == 0)
		return 0;
	*err = first;
	return first.code;
}

bool cgroup_has(const char *path, pid_t pid)
{
	struct buf procs = { 0 };
	bool found = false;

	read_value(path, "cgroup.procs", &procs);
	for (char *save = NULL,
		  *line = procs.data != NULL ? strtok_r(procs.data, "\n", &save) : NULL;
		line != NULL && !found; line = strtok_r(NULL, "\n", &save))
		found = atoi(line) == pid;
	buf_finish(&procs);
	return found;
}

/* "KEY NUMBER" lines. */
static uint64_t flat_key(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return strtoull(line + len, NULL, 10);
	}
	return 0;
}

void cgroup_memory_events(const char *path, struct cgroup_memory_events *out)
{
	struct buf text = { 0 };

	*out = (struct cgroup_memory_events){ 0 };
	if (read_value(path, "memory.events", &text) == 0) {
		out->oom_kills = flat_key(buf_str(&text), "oom_kill");
		out->ooms = flat_key(buf_str(&text), "oom");
	}
	buf_finish(&text);
	if (read_value(path, "memory.max", &text) == 0)
		out->max = strtoull(buf_str(&text), NULL, 10); /* of "max": 0 */
	buf_finish(&text);
}

uint64_t cgroup_pids_refused(const char *path)
{
	struct buf text = { 0 };
	uint64_t n = 0;

	if (read_value(path, "pids.events", &text) == 0)
		n = flat_key(buf_str(&text), "max");
	buf_finish(&text);
	return n;
}

/* ---- removal ---- */

struct removal {
	struct deadline timer;
	char *path;
	unsigned tries;
	void (*done)(void *arg, const struct err *err);
	void *arg;
};

static void removal_free(void *arg)
{
	struct removal *rm = arg;

	free(rm->path);
	free(rm);
}

static void removal_try(void *arg)
{
	struct removal *rm = arg;
	struct err err;
	int r = remove_once(rm->path, &err);

	if (r == -EBUSY && rm->tries++ < REMOVE_TRIES) {
		write_value(rm->path, "cgroup.kill", "1", NULL);
		deadline_set(&rm->timer, REMOVE_MS);
		return;
	}
	rm->done(rm->arg, r < 0 ? &err : NULL);
	deadline_close(&rm->timer, removal_free);
}

int cgroup_remove(uv_loop_t *loop, const char *path, void (*done)(void *arg, const struct err *err),
	void *arg)
{
	struct removal *rm = calloc(1, sizeof(*rm));

	if (rm != NULL)
		rm->path = strdup(path);
	if (rm == NULL || rm->path == NULL) {
		free(rm);
		return -ENOMEM;
	}
	rm->done = done;
	rm->arg = arg;
	deadline_init(&rm->timer, loop, removal_try, rm);
	deadline_set(&rm->timer, 0);
	return 0;
}
