#include "netcfg/sysctl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/file.h"
#include "lib/str.h"

#define PATH_CAP  256
#define VALUE_CAP 256

/*
 * As sysctl(8): the first separator of a key says which one separates; the other one is then part
 * of a name, where the file system holds it exchanged.
 */
static int key_path(const char *key, char path[PATH_CAP], struct err *err)
{
	const char *first = strpbrk(key, "./");
	char sep = first != NULL ? *first : '/';
	int n;

	if (strncmp(key, "net", 3) != 0 || first != key + 3 || strlen(key) > PATH_CAP - 16)
		return err_set(err, -EINVAL, "%s is no setting below net", quote(key));
	n = snprintf(path, PATH_CAP, "/proc/sys/%s", key);
	if (sep == '.') {
		for (char *p = path + strlen("/proc/sys/"); *p != '\0'; p++)
			*p = *p == '.' ? '/' : *p == '/' ? '.' : *p;
	}
	if (strstr(path, "//") != NULL || strstr(path, "/../") != NULL || path[n - 1] == '/' ||
		str_ends(path, "/.."))
		return err_set(err, -EINVAL, "%s is no setting below net", quote(key));
	return 0;
}

int sysctl_get(const char *key, char *value, size_t cap, struct err *err)
{
	char path[PATH_CAP];
	int r = key_path(key, path, err);

	if (r == 0)
		r = file_read_line(path, value, cap, err);
	if (r < 0)
		err_wrap(err, "sysctl %s", key);
	return r;
}

int sysctl_set(const char *key, const char *value, struct err *err)
{
	char path[PATH_CAP];
	int r = key_path(key, path, err);

	if (r == 0)
		r = file_write_proc(path, value, err);
	if (r < 0)
		err_wrap(err, "sysctl %s = %s", key, value);
	return r;
}

int sysctl_change(
	const char *key, const char *want, char *old, size_t cap, bool *changed, struct err *err)
{
	int r = sysctl_get(key, old, cap, err);

	if (r < 0)
		return r;
	if (strcmp(old, want) == 0) {
		*changed = false;
		return 0;
	}
	r = sysctl_set(key, want, err);
	if (r < 0)
		return r;
	*changed = true;
	return 0;
}

int sysctl_restore(const char *key, const char *ours, const char *old, struct err *err)
{
	char now[VALUE_CAP];
	struct err why;
	int r = sysctl_get(key, now, sizeof(now), &why);

	/* A setting of a link goes with it. */
	if (r == -ENOENT)
		return 0;
	if (r < 0) {
		if (err != NULL)
			*err = why;
		return r;
	}
	if (strcmp(now, ours) != 0)
		return 0;
	return sysctl_set(key, old, err);
}
