/*
 * oci/tree.h - the names of a filesystem in memory, compact: about 40 bytes a name beside the name
 * itself, so that a million files stay well below 100 MB. Any one thread.
 *
 * Nodes are numbers; the root is TREE_ROOT and TREE_NONE is no node. What a node means beyond its
 * name belongs to the user: ino, type and layer are only kept here.
 */
#ifndef DROVER_OCI_TREE_H
#define DROVER_OCI_TREE_H

#include <stddef.h>
#include <stdint.h>
#include "lib/str.h"

#define TREE_NONE 0u
#define TREE_ROOT 1u

enum tree_type {
	TREE_DIR,
	TREE_FILE,
	TREE_SYMLINK,
	TREE_OTHER /* devices, pipes */
};

struct tree_node {
	uint32_t ino;    /* the user's; several names may have one */
	uint16_t layer;  /* the last one that named it */
	uint8_t type;    /* enum tree_type */
	uint8_t special; /* the user's, e.g. a directory entry's file type */
	uint8_t name_len;
	/* Read these freely, change them through the functions below. */
	uint32_t parent, child; /* child: the youngest of a directory */
	uint32_t next, prev;    /* siblings: next is the next older */
	uint32_t name, hash, hash_next;
};

struct tree;

int tree_create(struct tree **out, struct err *err);
void tree_destroy(struct tree *t);

/* Valid until the node is removed. id must be a living node. */
struct tree_node *tree_at(const struct tree *t, uint32_t id);
/* NUL-terminated. */
const char *tree_name(const struct tree *t, uint32_t id);
/* The node of that name in parent, or TREE_NONE. */
uint32_t tree_find(const struct tree *t, uint32_t parent, const char *name, size_t len);
/* len is 1..255 and the name must not be there yet. The new node is a file with ino 0. */
int tree_add(struct tree *t, uint32_t parent, const char *name, size_t len, uint32_t *out,
	struct err *err);
/* id must have no children and not be the root. */
void tree_remove(struct tree *t, uint32_t id);

/*
 * All nodes below top, children before their parents, then top itself:
 *   for (id = tree_first(t, top); id != TREE_NONE; id = next) {
 *           next = tree_next(t, id, top);   before id is removed
 */
uint32_t tree_first(const struct tree *t, uint32_t top);
uint32_t tree_next(const struct tree *t, uint32_t id, uint32_t top);

/* "/usr/bin/env"; "/" for the root. */
void tree_path(const struct tree *t, uint32_t id, struct buf *out);

#endif
