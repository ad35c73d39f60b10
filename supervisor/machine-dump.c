/* drover dump: a guest's memory as a core, the last few of which are kept (supervisor/machine.h). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/machine.h"
#include "supervisor/pool-work.h"

#define CORES_MAX 3

char *machine_core_path(const struct machine *m)
{
	return str_printf("%s/core-%u.elf", m->dir, m->boot);
}

static void dump_progress(void *arg, const struct hv_progress *p)
{
	struct machine *m = arg;

	if (m->op != NULL)
		operation_step(m->op, "writing the guest's memory");
}

static int newest_first(const void *a, const void *b)
{
	unsigned x = *(const unsigned *)a, y = *(const unsigned *)b;

	return x < y ? 1 : x > y ? -1 : 0;
}

/* "core-7.elf" is of boot 7. */
static bool core_boot(const char *name, unsigned *boot)
{
	int end = 0;

	return sscanf(name, "core-%u.elf%n", boot, &end) == 1 && end > 0 && name[end] == '\0';
}

/* Each is as large as the guest's memory: the older ones go. */
static void keep_last(struct machine *m)
{
	unsigned boots[256], boot, n = 0;
	DIR *dir = opendir(m->dir);
	struct dirent *e;

	while (dir != NULL && n < ARRAY_LEN(boots) && (e = readdir(dir)) != NULL)
		if (core_boot(e->d_name, &boot))
			boots[n++] = boot;
	if (dir != NULL)
		closedir(dir);
	qsort(boots, n, sizeof(boots[0]), newest_first);
	for (unsigned i = CORES_MAX; i < n; i++) {
		char *path = str_printf("%s/core-%u.elf", m->dir, boots[i]);

		/* What is so large can take the filesystem a while. */
		if (path != NULL) {
			machine_tell(
				m, "core-removed", "%s: the last %d are kept", path, CORES_MAX);
			pool_remove_tree(m->d->loop, path);
		}
		free(path);
	}
}

static void dumped(void *arg, const struct err *err)
{
	struct machine *m = arg;
	char *path = machine_core_path(m);

	if (err == NULL) {
		machine_tell(m, "dumped", "the guest's memory is in %s", path != NULL ? path : "");
		keep_last(m);
	} else if (path != NULL) {
		unlink(path);
	}
	free(path);
	machine_asked(m, err);
}

int machine_dump(struct machine *m, struct operation **op, struct err *err)
{
	char *path = machine_core_path(m);
	int fd = -1, r = path == NULL ? err_nomem(err)
				      : machine_begin_asking(m, "dump", HV_CAP_DUMP, op, err);

	if (r == 0) {
		/* What the hypervisor finds there is ours and nobody else's to read. */
		unlink(path);
		fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			r = err_errno(err, -errno, "vm %s: %s", m->name, path);
		if (r < 0)
			machine_end_op(m, err);
	}
	if (r == 0) {
		close(fd);
		hv_dump(m->hv, path, dump_progress, dumped, m);
	}
	free(path);
	return r;
}
