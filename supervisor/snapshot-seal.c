/* The manifest of a snapshot, and everything onto the disk: supervisor/snapshot.h. */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/str.h"
#include "oci/digest.h"
#include "oci/overlay.h"
#include "supervisor/snapshot-early.h"
#include "supervisor/snapshot.h"

#define FILES_MAX 16 /* of a hypervisor's saved state */

/* ---- writing out, beside other work ---- */

/*
 * The files' pages are set on their way to the disk first: a digest reads the same from the cache
 * meanwhile. The fsyncs come when all is written, one after the other: where one commits a journal,
 * the others find that theirs is in it. Side by side with writing they would be one commit each, for
 * which what is being written has to wait.
 */
struct syncing {
	char *paths[SNAPSHOT_DISKS_MAX + FILES_MAX + 2]; /* the manifest, the folder */
	size_t n, begun;
};

/* An error is the fsync's to tell: nothing that is begun here is waited for. */
static void syncing_begin(struct syncing *s)
{
	for (; s->begun < s->n; s->begun++) {
		int fd = open(s->paths[s->begun], O_RDONLY | O_CLOEXEC);

		if (fd < 0)
			continue;
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
		close(fd);
	}
}

/* Takes path over. */
static int syncing_add(struct syncing *s, char *path, struct err *err)
{
	if (path == NULL)
		return err_nomem(err);
	if (s->n == ARRAY_LEN(s->paths)) {
		free(path);
		return err_set(err, -E2BIG, "the hypervisor has saved too many files");
	}
	s->paths[s->n++] = path;
	return 0;
}

/* r: what the work beside it has come to. */
static int syncing_end(struct syncing *s, int r, struct err *err)
{
	syncing_begin(s);
	for (size_t i = 0; i < s->n && r == 0; i++)
		r = file_sync(s->paths[i], err);
	while (s->n > 0)
		free(s->paths[--s->n]);
	return r;
}

/* ---- the manifest ---- */

/* name NULL: the machine's own file, which stays where it is. */
static int describe(json_t *files, const char *path, const char *name,
	const struct snapshot_disk *disk, const struct snapshot_early *early, struct err *err)
{
	bool shared = name != NULL && overlay_is_base(name);
	json_t *j = json_object();
	const char *known = NULL;
	char digest[DIGEST_MAX];
	struct stat st;
	int r = stat(path, &st) < 0 ? err_errno(err, -errno, "%s", quote(path)) : 0;

	if (r == 0) {
		json_put_str(j, "name", name);
		json_put_int(j, "size", st.st_size);
		/* What others have as well takes no room of its own. */
		json_put_int(j, "allocated", shared ? 0 : (int64_t)st.st_blocks * 512);
		json_put_int(j, "mtime_ns", snapshot_mtime_ns(&st));
		json_put_str(j, "sha256", NULL);
	}
	if (r == 0 && name != NULL && disk == NULL)
		known = snapshot_early_digest(early, name, &st);
	if (known != NULL) {
		json_put_str(j, "sha256", known);
	} else if (r == 0 && name != NULL && !shared && st.st_size <= (off_t)SNAPSHOT_DIGEST_MAX) {
		r = snapshot_digest(path, digest, err);
		if (r == 0)
			json_put_str(j, "sha256", digest + strlen("sha256:"));
	}
	if (r == 0 && disk != NULL) {
		json_put_str(j, "disk", disk->id);
		json_put_str(j, "path", disk->path);
	}
	json_array_append_new(files, j);
	return r;
}

/* Everything in the folder but the manifest: copies of disks, and the hypervisor's. */
static int list_folder(const char *dir, struct syncing *out, struct err *err)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	int r = d == NULL ? err_errno(err, -errno, "open %s", quote(dir)) : 0;

	while (r == 0 && (e = readdir(d)) != NULL) {
		if (e->d_name[0] != '.' && strcmp(e->d_name, SNAPSHOT_MANIFEST) != 0)
			r = syncing_add(out, path_join(dir, e->d_name), err);
	}
	if (d != NULL)
		closedir(d);
	return r;
}

static bool is_copy(const struct snapshot_disks *disks, const char *name)
{
	for (size_t i = 0; i < disks->n; i++) {
		if (strcmp(disks->v[i].id, name) == 0)
			return true;
	}
	return false;
}

/* The disks in their order, then what the hypervisor has saved. */
static int describe_all(const char *dir, const struct syncing *folder, json_t *files,
	const struct snapshot_disks *disks, const struct snapshot_early *early, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < disks->n; i++) {
		const struct snapshot_disk *disk = &disks->v[i];
		char *copy = disk->cloned ? path_join(dir, disk->id) : NULL;

		if (disk->cloned && copy == NULL)
			r = err_nomem(err);
		else
			r = describe(files, copy != NULL ? copy : disk->path,
				copy != NULL ? disk->id : NULL, disk, NULL, err);
		free(copy);
	}
	for (size_t i = 0; r == 0 && i < folder->n; i++) {
		const char *name = strrchr(folder->paths[i], '/') + 1;

		if (!is_copy(disks, name))
			r = describe(files, folder->paths[i], name, NULL, early, err);
	}
	return r;
}

static int write_manifest(const char *dir, const json_t *manifest, struct err *err)
{
	char *path = path_join(dir, SNAPSHOT_MANIFEST),
	     *text = json_dumps(manifest, JSON_INDENT(2));
	int r = text == NULL || path == NULL
			? err_nomem(err)
			: file_write_atomic(path, text, strlen(text), 0600, false, err);

	free(text);
	free(path);
	return r;
}

/* A copy of an overlay is one, and needs what that lies above to stay. */
static int link_bases(const char *dir, const struct snapshot_disks *disks, struct err *err)
{
	int r = 0;

	for (size_t i = 0; i < disks->n && r == 0; i++) {
		const struct snapshot_disk *d = &disks->v[i];

		if (d->cloned && strcmp(d->id, "disk0") == 0 && str_ends(d->path, OVERLAY_SUFFIX))
			r = overlay_link(d->path, dir, err);
	}
	return r;
}

/* Nothing of the folder counts before it gets its name: what comes first to the disk is all one. */
int snapshot_seal(const char *dir, json_t *manifest, const struct snapshot_disks *disks,
	const struct snapshot_early *early, struct err *err)
{
	struct syncing folder = { .n = 0 };
	json_t *files = json_array();
	int r = link_bases(dir, disks, err);

	if (r == 0)
		r = list_folder(dir, &folder, err);
	if (r == 0) {
		syncing_begin(&folder);
		r = describe_all(dir, &folder, files, disks, early, err);
		json_object_set(manifest, "files", files);
	}
	if (r == 0)
		r = write_manifest(dir, manifest, err);
	json_decref(files);
	if (r == 0)
		r = syncing_add(&folder, path_join(dir, SNAPSHOT_MANIFEST), err);
	if (r == 0)
		r = syncing_add(&folder, strdup(dir), err);
	return syncing_end(&folder, r, err);
}
