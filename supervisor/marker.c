#include "supervisor/marker.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"

/* The kernel takes at most this much for one string of an environment. */
#define ENVIRON_MAX (4 * 1024 * 1024)

char *marker_make(const char *run_dir, const char *owner, const char *name)
{
	return str_printf(MARKER_VARIABLE "=%s:%s:%s", run_dir, owner, name);
}

/* "OWNER:NAME": neither holds a colon, but run_dir may. */
static int parse_value(const char *value, const char *run_dir, char **owner, char **name)
{
	size_t dir = strlen(run_dir);
	const char *colon;

	if (strncmp(value, run_dir, dir) != 0 || value[dir] != ':')
		return -ENOENT;
	value += dir + 1;
	colon = strchr(value, ':');
	if (colon == NULL || colon == value || colon[1] == '\0' || strchr(colon + 1, ':') != NULL)
		return -ENOENT;
	*owner = strndup(value, (size_t)(colon - value));
	*name = strdup(colon + 1);
	if (*owner != NULL && *name != NULL)
		return 0;
	free(*owner);
	free(*name);
	return -ENOMEM;
}

int marker_parse(
	const char *environment, size_t len, const char *run_dir, char **owner, char **name)
{
	static const char prefix[] = MARKER_VARIABLE "=";

	for (size_t at = 0; at < len; at += strnlen(environment + at, len - at) + 1) {
		const char *s = environment + at;

		if (len - at < sizeof(prefix) || strncmp(s, prefix, sizeof(prefix) - 1) != 0)
			continue;
		/* One that was cut off at the end is none. */
		if (memchr(s, '\0', len - at) == NULL)
			return -ENOENT;
		return parse_value(s + sizeof(prefix) - 1, run_dir, owner, name);
	}
	return -ENOENT;
}

static bool same_pid_namespace(pid_t pid)
{
	char path[64], ours[64] = "", theirs[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)pid);
	return readlink("/proc/self/ns/pid", ours, sizeof(ours) - 1) > 0 &&
	       readlink(path, theirs, sizeof(theirs) - 1) > 0 && strcmp(ours, theirs) == 0;
}

/* 1: it is marked, and *out is filled; 0: it is not; -ENOMEM. */
static int look_at(pid_t pid, const char *run_dir, struct marked *out)
{
	struct marked found = { .pid = pid, .starttime = proc_starttime(pid) };
	struct buf environment = { 0 };
	char path[64];
	int r;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	if (found.starttime == 0 || file_read(path, ENVIRON_MAX, &environment, NULL) < 0)
		return 0;
	r = marker_parse(
		buf_str(&environment), environment.len, run_dir, &found.owner, &found.name);
	buf_finish(&environment);
	if (r < 0)
		return r == -ENOMEM ? r : 0;
	if (!same_pid_namespace(pid)) {
		free(found.owner);
		free(found.name);
		return 0;
	}
	*out = found;
	return 1;
}

static int by_pid(const void *a, const void *b)
{
	const struct marked *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

int marker_scan(const char *run_dir, struct marked **out, size_t *n, struct err *err)
{
	struct marked *v = NULL;
	size_t count = 0, cap = 0;
	struct dirent *e;
	DIR *dir = opendir("/proc");
	int r = 0;

	if (dir == NULL)
		return err_errno(err, -errno, "open /proc");
	while (r == 0 && (e = readdir(dir)) != NULL) {
		pid_t pid = atoi(e->d_name);

		if (pid <= 0 || pid == getpid())
			continue;
		if (count == cap) {
			struct marked *more = reallocarray(v, cap + 16, sizeof(*v));

			if (more == NULL) {
				r = -ENOMEM;
				break;
			}
			v = more;
			cap += 16;
		}
		r = look_at(pid, run_dir, &v[count]);
		if (r > 0) {
			count++;
			r = 0;
		}
	}
	closedir(dir);
	if (r < 0) {
		marked_free(v, count);
		return err_nomem(err);
	}
	if (count > 0)
		qsort(v, count, sizeof(*v), by_pid);
	*out = v;
	*n = count;
	return 0;
}

void marked_free(struct marked *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		free(v[i].owner);
		free(v[i].name);
	}
	free(v);
}
