/*
 * hv/ch-restore.c - a snapshot with this machine's own files. A snapshot's folder has the
 * configuration that it was taken with (config.json); disks, TAPs and sockets in it may be another
 * machine's, or may have moved. It is not touched: what is restored is a folder of links to it with a
 * configuration of its own.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/file.h"
#include "lib/json.h"

/* What vmm/src/vm.rs and memory_manager.rs write beside config.json. */
static const char *const links[] = { "state.json", "memory-ranges" };

static json_t *by_id(json_t *array, const char *id)
{
	json_t *e;
	size_t i;

	json_array_foreach (array, i, e)
		if (str_eq(json_str(e, "id"), id))
			return e;
	return NULL;
}

/* What is ours of those devices that are in both. */
static int merge_devices(json_t *theirs, const json_t *ours)
{
	json_t *mine, *e;
	size_t i;

	json_array_foreach (ours, i, mine) {
		e = by_id(theirs, json_str(mine, "id"));
		if (e == NULL)
			continue;
		/* One that was given as a descriptor is taken by its name from here on. */
		json_object_del(e, "fds");
		if (json_object_update(e, mine) < 0)
			return -ENOMEM;
	}
	return 0;
}

int ch_restore_config(json_t *theirs, const json_t *ours)
{
	static const char *const whole[] = { "payload", "serial", "vsock", "tpm" };
	json_t *v;

	if (merge_devices(json_object_get(theirs, "disks"), json_object_get(ours, "disks")) < 0 ||
		merge_devices(json_object_get(theirs, "net"), json_object_get(ours, "net")) < 0)
		return -ENOMEM;
	/* Of the rest the device state depends: processors, memory, what else there is. */
	for (size_t i = 0; i < ARRAY_LEN(whole); i++) {
		json_t *old = json_object_get(theirs, whole[i]);

		v = json_object_get(ours, whole[i]);
		if (json_is_object(old) && v != NULL && json_object_update(old, v) < 0)
			return -ENOMEM;
	}
	return 0;
}

static int write_config(const char *from, const char *to, const json_t *ours, struct err *err)
{
	char *old = path_join(from, "config.json"), *new = path_join(to, "config.json"),
	     *text = NULL;
	json_t *config = NULL;
	int r = old == NULL || new == NULL ? err_nomem(err) : json_read_file(old, &config, err);

	if (r == 0 && (ch_restore_config(config, ours) < 0 || (text = json_text(config)) == NULL))
		r = err_nomem(err);
	if (r == 0)
		r = file_write_atomic(new, text, strlen(text), 0600, false, err);
	json_decref(config);
	free(text);
	free(old);
	free(new);
	return r;
}

static int link_one(const char *from, const char *to, const char *name, struct err *err)
{
	char *target = path_join(from, name), *path = path_join(to, name);
	int r = target == NULL || path == NULL ? err_nomem(err) : 0;

	if (r == 0 && symlink(target, path) < 0)
		r = err_errno(err, -errno, "link %s", quote(path));
	free(target);
	free(path);
	return r;
}

int ch_restore_folder(const char *from, const char *to, const json_t *ours, struct err *err)
{
	int r = remove_tree(to, err);

	if (r == 0)
		r = mkdir_p(to, 0700, err);
	if (r == 0)
		r = write_config(from, to, ours, err);
	for (size_t i = 0; i < ARRAY_LEN(links) && r == 0; i++)
		r = link_one(from, to, links[i], err);
	return r;
}
