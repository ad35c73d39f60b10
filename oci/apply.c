#include "oci/apply.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include "oci/entries.h"
#include "oci/path.h"

#define LAYERS_MAX 1000
#define XATTRS_MAX 256

#define WHITEOUT     ".wh."
#define WHITEOUT_OPQ ".wh..wh..opq"
#define WHITEOUT_AUX ".wh..wh." /* what aufs kept for itself */

struct apply {
	struct tree *tree;
	const struct apply_sink *sink;
	void *arg;
	uint16_t layer;
	uint64_t entry;
	struct ext4_xattr xattrs[XATTRS_MAX];
	struct ext4_meta meta; /* of the current entry */
};

static int add_object(struct apply *a, uint32_t parent, const char *name, size_t len,
	const struct ext4_meta *m, uint32_t *out, struct err *err)
{
	struct tree_node *n;
	uint32_t ino, id;
	int r;

	r = a->sink->add(a->arg, m, a->entry, &ino, err);
	if (r == 0)
		r = tree_add(a->tree, parent, name, len, &id, err);
	if (r < 0)
		return r;
	n = tree_at(a->tree, id);
	n->ino = ino;
	n->layer = a->layer;
	n->special = ext4_file_type(m->mode);
	n->type = S_ISDIR(m->mode)   ? TREE_DIR
		  : S_ISLNK(m->mode) ? TREE_SYMLINK
		  : S_ISREG(m->mode) ? TREE_FILE
				     : TREE_OTHER;
	*out = id;
	return 0;
}

/* A directory that no layer names; its time is that of the entry that needs it. */
static int add_missing(
	void *arg, uint32_t parent, const char *name, size_t len, uint32_t *out, struct err *err)
{
	struct apply *a = arg;
	struct ext4_meta m = {
		.mode = S_IFDIR | 0755, .mtime = a->meta.mtime, .mtime_ns = a->meta.mtime_ns
	};

	return add_object(a, parent, name, len, &m, out, err);
}

static int read_link(void *arg, uint32_t ino, char *buf, struct err *err)
{
	struct apply *a = arg;

	return a->sink->readlink(a->arg, ino, buf, err);
}

/*
 * The directory that a cleaned path is in. *dir is TREE_NONE when it is missing and create is not
 * set.
 */
static int find_dir(
	struct apply *a, const struct buf *path, bool create, uint32_t *dir, struct err *err)
{
	const struct path_ops ops = { .readlink = read_link, .mkdir = create ? add_missing : NULL };
	size_t len = path_last(path) - buf_str(path);
	int r;

	r = path_walk(a->tree, &ops, a, TREE_ROOT, buf_str(path), len, dir, err);
	if (r == 0 && *dir != TREE_NONE && tree_at(a->tree, *dir)->type != TREE_DIR)
		*dir = TREE_NONE;
	return r;
}

static int remove_node(struct apply *a, uint32_t id, struct err *err)
{
	int r = a->sink->unlink(a->arg, tree_at(a->tree, id)->ino, err);

	if (r == 0)
		tree_remove(a->tree, id);
	return r;
}

/*
 * Removes what lower layers have put below top. What this layer has named stays, and so does a
 * directory that still holds something; top itself goes with `self` under the same conditions.
 */
static int remove_lower(struct apply *a, uint32_t top, bool self, struct err *err)
{
	uint32_t id, next;
	int r = 0;

	for (id = tree_first(a->tree, top); r == 0 && id != TREE_NONE; id = next) {
		struct tree_node *n = tree_at(a->tree, id);

		next = tree_next(a->tree, id, top);
		if (n->layer != a->layer && n->child == TREE_NONE && (id != top || self))
			r = remove_node(a, id, err);
	}
	return r;
}

static int remove_all(struct apply *a, uint32_t top, struct err *err)
{
	uint32_t id, next;
	int r = 0;

	for (id = tree_first(a->tree, top); r == 0 && id != TREE_NONE; id = next) {
		next = tree_next(a->tree, id, top);
		r = remove_node(a, id, err);
	}
	return r;
}

static int whiteout(struct apply *a, const struct buf *path, struct err *err)
{
	const char *last = path_last(path);
	const char *name = last + strlen(WHITEOUT);
	uint32_t dir, id;
	int r;

	if (strcmp(last, WHITEOUT_OPQ) != 0 &&
		strncmp(last, WHITEOUT_AUX, strlen(WHITEOUT_AUX)) == 0)
		return 0;
	r = find_dir(a, path, false, &dir, err);
	if (r < 0 || dir == TREE_NONE)
		return r;
	if (strcmp(last, WHITEOUT_OPQ) == 0)
		return remove_lower(a, dir, false, err);
	if (*name == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return err_set(err, -EINVAL, "a whiteout of no file");
	id = tree_find(a->tree, dir, name, strlen(name));
	return id == TREE_NONE ? 0 : remove_lower(a, id, true, err);
}

/* The entry's owner, mode and so on, into a->meta; pointers into the entry. */
static int read_meta(struct apply *a, struct archive_entry *entry, struct err *err)
{
	la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
	struct ext4_meta *m = &a->meta;
	const char *name;
	const void *value;
	size_t len;

	if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX)
		return err_set(err, -EINVAL, "owner %lld:%lld is out of range", (long long)uid,
			(long long)gid);
	*m = (struct ext4_meta){
		.mode = archive_entry_filetype(entry) | (archive_entry_perm(entry) & 07777),
		.uid = uid,
		.gid = gid,
		.mtime = archive_entry_mtime(entry),
		.mtime_ns = archive_entry_mtime_nsec(entry),
		.major = archive_entry_rdevmajor(entry),
		.minor = archive_entry_rdevminor(entry),
		.target = archive_entry_symlink(entry),
		.xattrs = a->xattrs,
	};
	archive_entry_xattr_reset(entry);
	while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
		if (m->nxattrs == XATTRS_MAX)
			return err_set(err, -E2BIG, "more than %d extended attributes", XATTRS_MAX);
		a->xattrs[m->nxattrs++] = (struct ext4_xattr){
			.name = name, .value = value, .len = len
		};
	}
	if (S_ISLNK(m->mode) && (m->target == NULL || m->target[0] == '\0'))
		return err_set(err, -EINVAL, "a symbolic link without a target");
	return 0;
}

static int copy_data(
	struct apply *a, struct entries *es, struct archive_entry *entry, struct err *err)
{
	uint64_t offset, size = MAX(archive_entry_size(entry), 0);
	const void *data;
	size_t len;
	int r;

	if (a->sink->data == NULL)
		return 0;
	while ((r = entries_data(es, &data, &len, &offset, err)) > 0) {
		r = a->sink->data(a->arg, offset, data, len, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : a->sink->end(a->arg, size, err);
}

static int hard_link(
	struct apply *a, const char *target, uint32_t dir, const char *name, struct err *err)
{
	struct buf path = { 0 };
	uint32_t from_dir, from = TREE_NONE, to, ino;
	struct tree_node *n;
	uint8_t type, special;
	int r;

	r = path_clean(target, &path, err);
	if (r == 0)
		r = find_dir(a, &path, false, &from_dir, err);
	if (r == 0 && from_dir != TREE_NONE)
		from = tree_find(a->tree, from_dir, path_last(&path), strlen(path_last(&path)));
	buf_finish(&path);
	if (r < 0)
		return err_wrap(err, "hard link to %s", quote(target));
	if (from == TREE_NONE)
		return err_set(err, -EINVAL, "a hard link to %s, which is missing", quote(target));
	n = tree_at(a->tree, from);
	if (n->type == TREE_DIR)
		return err_set(err, -EINVAL, "a hard link to the directory %s", quote(target));
	to = tree_find(a->tree, dir, name, strlen(name));
	if (to == from || (to != TREE_NONE && tree_at(a->tree, to)->ino == n->ino)) {
		tree_at(a->tree, to)->layer = a->layer;
		return 0;
	}
	ino = n->ino;
	type = n->type;
	special = n->special;
	r = a->sink->link(a->arg, ino, err);
	/* A directory in its place cannot hold `from`: the tar would name a file after its end. */
	if (r == 0 && to != TREE_NONE)
		r = remove_all(a, to, err);
	if (r == 0)
		r = tree_add(a->tree, dir, name, strlen(name), &to, err);
	if (r < 0)
		return r;
	n = tree_at(a->tree, to);
	n->ino = ino;
	n->type = type;
	n->special = special;
	n->layer = a->layer;
	return 0;
}

static int apply_dir(struct apply *a, uint32_t dir, const char *name, struct err *err)
{
	uint32_t id = *name ? tree_find(a->tree, dir, name, strlen(name)) : TREE_ROOT;
	struct tree_node *n;
	int r;

	if (id != TREE_NONE && tree_at(a->tree, id)->type == TREE_DIR) {
		n = tree_at(a->tree, id);
		n->layer = a->layer;
		return a->sink->set_meta(a->arg, n->ino, &a->meta, err);
	}
	if (id != TREE_NONE) {
		r = remove_node(a, id, err);
		if (r < 0)
			return r;
	}
	return add_object(a, dir, name, strlen(name), &a->meta, &id, err);
}

static int apply_other(struct apply *a, struct entries *es, struct archive_entry *entry,
	uint32_t dir, const char *name, struct err *err)
{
	uint32_t id = tree_find(a->tree, dir, name, strlen(name));
	int r;

	if (id != TREE_NONE) {
		r = remove_all(a, id, err);
		if (r < 0)
			return r;
	}
	r = add_object(a, dir, name, strlen(name), &a->meta, &id, err);
	if (r == 0 && S_ISREG(a->meta.mode))
		r = copy_data(a, es, entry, err);
	return r;
}

/* At the root of a layer: links that aufs kept track of, and the like. containerd skips them too. */
static bool is_aufs(const struct buf *path)
{
	return str_starts(buf_str(path), WHITEOUT_AUX) && strcmp(buf_str(path), WHITEOUT_OPQ) != 0;
}

static int apply_entry(struct apply *a, struct entries *es, struct archive_entry *entry,
	const char *name, struct buf *path, struct err *err)
{
	const char *last, *target = archive_entry_hardlink(entry);
	uint32_t dir;
	int r;

	r = path_clean(name, path, err);
	if (r < 0)
		return r;
	if (is_aufs(path))
		return 0;
	last = path_last(path);
	if (strncmp(last, WHITEOUT, strlen(WHITEOUT)) == 0)
		return whiteout(a, path, err);
	r = read_meta(a, entry, err);
	if (r == 0)
		r = find_dir(a, path, true, &dir, err);
	if (r < 0)
		return r;
	if (target == NULL && S_ISDIR(a->meta.mode))
		return apply_dir(a, dir, last, err);
	if (*last == '\0')
		return err_set(err, -EINVAL, "the image's root is no directory");
	if (target != NULL)
		return hard_link(a, target, dir, last, err);
	return apply_other(a, es, entry, dir, last, err);
}

int apply_layers(struct tree *tree, uint32_t root, const struct layer_src *layers, size_t n,
	const struct apply_sink *sink, void *arg, layers_progress_fn *progress, void *progress_arg,
	struct err *err)
{
	struct apply *a = calloc(1, sizeof(*a));
	struct archive_entry *entry;
	struct entries *es = NULL;
	struct buf path = { 0 };
	size_t layer;
	int r;

	if (a == NULL)
		return err_nomem(err);
	a->tree = tree;
	a->sink = sink;
	a->arg = arg;
	tree_at(tree, TREE_ROOT)->ino = root;
	if (n > LAYERS_MAX)
		r = err_set(err, -EINVAL, "more than %d layers", LAYERS_MAX);
	else
		r = entries_open(&es, layers, n, progress, progress_arg, err);
	while (r == 0 && (r = entries_next(es, &entry, &layer, err)) > 0) {
		const char *name = archive_entry_pathname(entry);

		/* 0 is what was there before all layers. */
		a->layer = layer + 1;
		r = name == NULL ? err_set(err, -EINVAL, "a name cannot be read")
				 : apply_entry(a, es, entry, name, &path, err);
		if (r < 0)
			err_wrap(err, "layer %zu: %s", layer + 1, name ? quote(name) : "entry");
		a->entry++;
	}
	entries_close(es);
	buf_finish(&path);
	free(a);
	return r;
}
