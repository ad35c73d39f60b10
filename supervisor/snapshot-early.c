#include "supervisor/snapshot-early.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/str.h"
#include "lib/util.h"
#include "oci/digest.h"
#include "supervisor/pool-work.h"

#define FILES_MAX 16

struct known {
	char name[64], digest[DIGEST_MAX];
	struct stat st; /* from before it was read */
};

struct snapshot_early {
	char *dir;
	char *skip[SNAPSHOT_DISKS_MAX];
	size_t nskip;
	struct known files[FILES_MAX];
	size_t n;
	bool over, gone;
	void (*done)(void *arg);
	void *arg;
};

static void early_free(struct snapshot_early *e)
{
	while (e->nskip > 0)
		free(e->skip[--e->nskip]);
	free(e->dir);
	free(e);
}

static bool is_skipped(const struct snapshot_early *e, const char *name)
{
	for (size_t i = 0; i < e->nskip; i++)
		if (strcmp(e->skip[i], name) == 0)
			return true;
	return name[0] == '.' || strcmp(name, SNAPSHOT_MANIFEST) == 0;
}

/* What goes wrong here goes wrong once more where it is told. */
static void look(struct snapshot_early *e, const char *name)
{
	struct known *k = &e->files[e->n];
	char *path = path_join(e->dir, name);
	int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	if (fd >= 0 && strlen(name) < sizeof(k->name) && fstat(fd, &k->st) == 0 &&
		S_ISREG(k->st.st_mode)) {
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		snprintf(k->name, sizeof(k->name), "%s", name);
		if (k->st.st_size <= (off_t)SNAPSHOT_DIGEST_MAX &&
			snapshot_digest(path, k->digest, NULL) == 0)
			e->n++;
	}
	if (fd >= 0)
		close(fd);
	free(path);
}

static int look_at_all(void *arg, struct err *err)
{
	struct snapshot_early *e = arg;
	DIR *d = opendir(e->dir);
	struct dirent *entry;

	while (d != NULL && e->n < FILES_MAX && (entry = readdir(d)) != NULL)
		if (!is_skipped(e, entry->d_name))
			look(e, entry->d_name);
	if (d != NULL)
		closedir(d);
	return 0;
}

static void looked(void *arg, const struct err *err)
{
	struct snapshot_early *e = arg;

	e->over = true;
	if (e->gone)
		early_free(e);
	else if (e->done != NULL)
		e->done(e->arg);
}

struct snapshot_early *snapshot_early_begin(
	uv_loop_t *loop, const char *dir, const struct snapshot_disks *disks)
{
	struct snapshot_early *e = calloc(1, sizeof(*e));
	bool bad;

	if (e == NULL)
		return NULL;
	e->dir = strdup(dir);
	bad = e->dir == NULL;
	for (size_t i = 0; i < disks->n && !bad; i++) {
		e->skip[i] = strdup(disks->v[i].id);
		bad = e->skip[i] == NULL;
		e->nskip = i + 1;
	}
	if (!bad && pool_work(loop, look_at_all, looked, e) == 0)
		return e;
	early_free(e);
	return NULL;
}

bool snapshot_early_over(struct snapshot_early *e, void (*done)(void *arg), void *arg)
{
	if (e == NULL || e->over)
		return true;
	e->done = done;
	e->arg = arg;
	return false;
}

const char *snapshot_early_digest(
	const struct snapshot_early *e, const char *name, const struct stat *st)
{
	for (size_t i = 0; e != NULL && i < e->n; i++) {
		const struct known *k = &e->files[i];

		if (strcmp(k->name, name) == 0 && k->st.st_ino == st->st_ino &&
			k->st.st_size == st->st_size &&
			snapshot_mtime_ns(&k->st) == snapshot_mtime_ns(st))
			return k->digest + strlen("sha256:");
	}
	return NULL;
}

void snapshot_early_destroy(struct snapshot_early *e)
{
	if (e == NULL)
		return;
	if (e->over)
		early_free(e);
	else
		e->gone = true;
}
