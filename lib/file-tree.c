/* Folders: made, judged and removed with all that is in them. */
#include "lib/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0 also when it is there already, itself or by a link. */
static int make_dir(const char *path, mode_t mode)
{
	struct stat st;

	if (mkdir(path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int mkdir_p(const char *path, mode_t mode, struct err *err)
{
	char *p;
	int r = 0;

	if (path[0] == '\0')
		return err_errno(err, -ENOENT, "make the folder %s", quote(path));
	p = strdup(path);
	if (p == NULL)
		return err_nomem(err);
	for (char *s = p + 1;; s++) {
		char c = *s;

		if (c != '/' && c != '\0')
			continue;
		*s = '\0';
		r = make_dir(p, c == '\0' ? mode : 0755);
		if (r < 0) {
			err_errno(err, r, "make the folder %s", quote(p));
			break;
		}
		*s = c;
		if (c == '\0')
			break;
	}
	free(p);
	return r;
}

int dir_check_ours(const char *path, struct err *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "look at %s", quote(path));
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return err_set(err, -EPERM,
			"%s belongs to another user (uid %u): take a folder of your own",
			quote(path), (unsigned)st.st_uid);
	if (st.st_mode & S_IWOTH)
		return err_set(err, -EPERM,
			"everybody may write into %s: `chmod o-w` it, or take another",
			quote(path));
	return 0;
}

/* Each level holds a descriptor: what is deeper is moved up below the tree's root first. */
#define LEVELS_MAX 32

struct removal {
	int top; /* the tree's root */
	unsigned moved;
};

static int remove_at(struct removal *rm, int parent, const char *name, unsigned level);

/* All entries once; what was moved to the root meanwhile may be missed. */
static int remove_entries(struct removal *rm, DIR *dir, unsigned level)
{
	struct dirent *e;
	int r = 0;

	while (r == 0 && (e = readdir(dir)) != NULL) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_at(rm, dirfd(dir), e->d_name, level + 1);
	}
	return r;
}

static int move_up(struct removal *rm, int parent, const char *name)
{
	char to[64];

	/* An empty folder of this name may be replaced: it would go as well. */
	do {
		snprintf(to, sizeof(to), ".removed-%u", rm->moved++);
		if (renameat(parent, name, rm->top, to) == 0)
			return 0;
	} while (errno == EEXIST || errno == ENOTEMPTY || errno == ENOTDIR);
	return -errno;
}

static int remove_at(struct removal *rm, int parent, const char *name, unsigned level)
{
	unsigned moved;
	int fd, r = 0;
	DIR *dir;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM && errno != ENOTEMPTY)
		return -errno;
	if (level == LEVELS_MAX)
		return move_up(rm, parent, name);
	fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (dir == NULL) {
		close(fd);
		return -ENOMEM;
	}
	if (level == 0)
		rm->top = fd;
	do {
		moved = rm->moved;
		r = remove_entries(rm, dir, level);
		rewinddir(dir);
	} while (r == 0 && level == 0 && rm->moved != moved);
	closedir(dir);
	if (r == 0 && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		r = -errno;
	return r;
}

int remove_tree(const char *path, struct err *err)
{
	struct removal rm = { .top = -1 };
	int r = remove_at(&rm, AT_FDCWD, path, 0);

	return r < 0 ? err_errno(err, r, "remove %s", quote(path)) : 0;
}
