#include "oci/path.h"
#include <errno.h>
#include <string.h>

#define PATH_LEN_MAX 65536
#define NAME_MAX_LEN 255
#define LINKS_MAX    255

/*
 * A path on its way through the tree: components of `rest` are taken from the front, targets of
 * links are put there.
 */
struct walk {
	struct tree *tree;
	const struct path_ops *ops;
	void *arg;
	struct buf rest;
	size_t at;
	unsigned links;
	uint32_t node;
};

/* The next component, NULL at the end. Not NUL-terminated. */
static const char *next_component(const char *s, size_t *at, size_t *len)
{
	const char *p;

	while (s[*at] == '/')
		++*at;
	p = s + *at;
	*len = strcspn(p, "/");
	*at += *len;
	return *len > 0 ? p : NULL;
}

static bool is(const char *p, size_t len, const char *s)
{
	return len == strlen(s) && memcmp(p, s, len) == 0;
}

static int too_long(struct err *err)
{
	return err_set(
		err, -ENAMETOOLONG, "a part of the name is longer than %d bytes", NAME_MAX_LEN);
}

int path_clean(const char *path, struct buf *out, struct err *err)
{
	size_t at = 0, len;
	const char *p, *slash;

	buf_clear(out);
	if (strlen(path) > PATH_LEN_MAX)
		return err_set(
			err, -ENAMETOOLONG, "the name is longer than %d bytes", PATH_LEN_MAX);
	while ((p = next_component(path, &at, &len)) != NULL) {
		if (is(p, len, "."))
			continue;
		if (is(p, len, "..")) {
			if (out->len == 0)
				return err_set(err, -EINVAL, "the name leaves the image");
			slash = memrchr(out->data, '/', out->len);
			out->len = slash ? (size_t)(slash - out->data) : 0;
			out->data[out->len] = '\0';
			continue;
		}
		if (len > NAME_MAX_LEN)
			return too_long(err);
		if (out->len > 0)
			buf_add(out, "/", 1);
		buf_add(out, p, len);
	}
	return out->bad ? err_nomem(err) : 0;
}

const char *path_last(const struct buf *path)
{
	const char *slash = memrchr(buf_str(path), '/', path->len);

	return slash ? slash + 1 : buf_str(path);
}

static int follow(struct walk *w, uint32_t link, struct err *err)
{
	char target[4096];
	struct buf rest = { 0 };
	int r;

	if (++w->links > LINKS_MAX)
		return err_set(err, -ELOOP, "too many symbolic links");
	r = w->ops->readlink(w->arg, tree_at(w->tree, link)->ino, target, err);
	if (r < 0)
		return r;
	buf_adds(&rest, target);
	buf_adds(&rest, "/");
	buf_adds(&rest, buf_str(&w->rest) + w->at);
	if (rest.bad || rest.len > PATH_LEN_MAX) {
		buf_finish(&rest);
		return err_set(err, -ENAMETOOLONG, "symbolic links make the path too long");
	}
	buf_finish(&w->rest);
	w->rest = rest;
	w->at = 0;
	if (target[0] == '/')
		w->node = TREE_ROOT;
	return 0;
}

static int missing(struct walk *w, const char *name, size_t len, uint32_t *out, struct err *err)
{
	if (w->ops->mkdir == NULL)
		return 0;
	if (len > NAME_MAX_LEN)
		return too_long(err);
	return w->ops->mkdir(w->arg, w->node, name, len, out, err);
}

static bool at_end(const struct walk *w)
{
	const char *p = buf_str(&w->rest) + w->at;

	return p[strspn(p, "/")] == '\0';
}

/* One component. w->node becomes TREE_NONE when there is no such node. */
static int step(struct walk *w, const char *p, size_t len, struct err *err)
{
	uint32_t id;
	int r = 0;

	if (is(p, len, "."))
		return 0;
	if (is(p, len, "..")) {
		w->node = tree_at(w->tree, w->node)->parent;
		return 0;
	}
	id = tree_find(w->tree, w->node, p, len);
	if (id == TREE_NONE)
		r = missing(w, p, len, &id, err);
	if (r < 0)
		return r;
	if (id != TREE_NONE && tree_at(w->tree, id)->type == TREE_SYMLINK)
		return follow(w, id, err);
	w->node = id;
	if (id == TREE_NONE || tree_at(w->tree, id)->type == TREE_DIR)
		return 0;
	/* In a path of directories alone, its last component has to be one too. */
	if (w->ops->mkdir != NULL)
		return err_set(
			err, -ENOTDIR, "%s in it is no directory", quote(tree_name(w->tree, id)));
	if (!at_end(w))
		w->node = TREE_NONE;
	return 0;
}

int path_walk(struct tree *t, const struct path_ops *ops, void *arg, uint32_t base,
	const char *path, size_t len, uint32_t *out, struct err *err)
{
	struct walk w = { .tree = t, .ops = ops, .arg = arg, .node = base };
	const char *p;
	size_t n;
	int r;

	if (len > 0 && path[0] == '/')
		w.node = TREE_ROOT;
	buf_add(&w.rest, path, len);
	r = w.rest.bad ? err_nomem(err) : 0;
	while (r == 0 && w.node != TREE_NONE &&
		(p = next_component(buf_str(&w.rest), &w.at, &n)) != NULL)
		r = step(&w, p, n, err);
	buf_finish(&w.rest);
	if (r == 0)
		*out = w.node;
	return r;
}
