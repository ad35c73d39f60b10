/* Disks: what a clone is made of, and one file for two machines: supervisor/config-priv.h. */
#include <stdlib.h>
#include <string.h>

#include "oci/image.h"
#include "supervisor/config-priv.h"
#include "supervisor/hardware.h"

/* A file that a machine writes to as soon as there is a droverd. */
struct written {
	char *path;
	const struct vm_config *vm;
	size_t at; /* in the file's order */
};

static int by_path(const void *a, const void *b)
{
	const struct written *x = a, *y = b;
	int r = strcmp(x->path, y->path);

	return r != 0 ? r : x->at < y->at ? -1 : x->at > y->at;
}

static size_t add_written(const struct vm_config *vm, struct written *all, size_t n)
{
	for (size_t i = 0; i < vm->volumes.n; i++) {
		struct volume v;

		if (volume_parse(&v, vm->volumes.v[i], NULL) < 0)
			continue;
		if (v.path != NULL && v.name == NULL && !v.readonly) {
			all[n] = (struct written){ v.path, vm, n };
			v.path = NULL;
			n++;
		}
		volume_finish(&v);
	}
	return n;
}

/*
 * Machines that are started by hand may take turns; of two that start by themselves the second
 * never could.
 */
void check_shared_volumes(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_VM];
	struct written *all;
	size_t max = 0, n = 0;

	for (size_t i = 0; i < a->n; i++)
		max += ((const struct vm_config *)a->v[i])->volumes.n;
	all = calloc(max + 1, sizeof(*all));
	if (all == NULL) {
		l->nomem = true;
		return;
	}
	for (size_t i = 0; i < a->n; i++)
		if (((const struct vm_config *)a->v[i])->autostart)
			n = add_written((const void *)a->v[i], all, n);
	qsort(all, n, sizeof(*all), by_path);
	for (size_t i = 1; i < n; i++) {
		struct config_pos at = config_key_pos(&all[i].vm->s, "volume");

		if (strcmp(all[i].path, all[i - 1].path) == 0 && all[i].vm != all[i - 1].vm)
			load_error(l, at.file, at.line,
				"volume: %s is written to by [vm %s] too; let one of the two have it with ro, or start by hand (autostart = no)",
				quote(all[i].path), all[i - 1].vm->s.name);
	}
	for (size_t i = 0; i < n; i++)
		free(all[i].path);
	free(all);
}

void check_clone(struct load *l, const struct vm_config *vm)
{
	enum image_format f = vm->rootfs != NULL ? image_format_of_name(vm->rootfs)
						 : FORMAT_BY_NAME;

	if (vm->clone != CLONE_KEY_OVERLAY || vm->rootfs == NULL || vm->rootfs[0] != '/' ||
		(f != FORMAT_BY_NAME && f != FORMAT_RAW))
		return;
	check_key_error(l, &vm->s, "clone",
		"an overlay cannot lie above %s, which may change: take it into the image store "
		"(rootfs = file:%s), or set auto or copy",
		quote(vm->rootfs), vm->rootfs);
}
