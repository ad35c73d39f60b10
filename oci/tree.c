/*
 * Nodes and names live in chunks that never move; nodes refer to one another by 32-bit numbers.
 * One hash table for all directories finds (parent, name).
 */
#include "oci/tree.h"
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NODES_SHIFT 12 /* nodes in a chunk */
#define NAMES_SHIFT 18 /* bytes in a chunk */
#define TABLE_MIN   4096

struct chunks {
	void **v;
	size_t n, cap;
};

struct tree {
	struct chunks nodes, names;
	uint32_t nnodes;     /* numbers given out, the free ones among them */
	uint32_t free_nodes; /* list through next */
	size_t name_used;    /* in the last chunk of names */
	uint32_t *table;
	uint32_t table_size; /* a power of two */
	uint32_t living;
	uint64_t seed;
};

static void *chunks_grow(struct chunks *c, size_t size)
{
	void **v = c->v;
	void *p;

	if (c->n == c->cap) {
		size_t cap = c->cap ? 2 * c->cap : 16;

		v = realloc(c->v, cap * sizeof(*v));
		if (v == NULL)
			return NULL;
		c->v = v;
		c->cap = cap;
	}
	p = malloc(size);
	if (p != NULL)
		c->v[c->n++] = p;
	return p;
}

static void chunks_finish(struct chunks *c)
{
	for (size_t i = 0; i < c->n; i++)
		free(c->v[i]);
	free(c->v);
}

struct tree_node *tree_at(const struct tree *t, uint32_t id)
{
	struct tree_node *chunk;

	assert(id != TREE_NONE && id < t->nnodes);
	chunk = t->nodes.v[id >> NODES_SHIFT];
	return &chunk[id & ((1u << NODES_SHIFT) - 1)];
}

const char *tree_name(const struct tree *t, uint32_t id)
{
	uint32_t ref = tree_at(t, id)->name;

	return (char *)t->names.v[ref >> NAMES_SHIFT] + (ref & ((1u << NAMES_SHIFT) - 1));
}

static uint32_t name_hash(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
	uint64_t h = hash64(name, len, t->seed ^ ((uint64_t)parent << 20));

	return h ^ (h >> 32);
}

static int node_new(struct tree *t, uint32_t *out)
{
	uint32_t id = t->free_nodes;

	if (id != TREE_NONE) {
		t->free_nodes = tree_at(t, id)->next;
	} else {
		if (t->nnodes == UINT32_MAX)
			return -ENOMEM;
		if (t->nnodes >> NODES_SHIFT == t->nodes.n &&
			chunks_grow(&t->nodes, sizeof(struct tree_node) << NODES_SHIFT) == NULL)
			return -ENOMEM;
		id = t->nnodes++;
	}
	*tree_at(t, id) = (struct tree_node){ .type = TREE_FILE };
	*out = id;
	return 0;
}

static int name_new(struct tree *t, const char *name, size_t len, uint32_t *out)
{
	size_t chunk = (size_t)1 << NAMES_SHIFT;
	char *p;

	if (t->names.n == 0 || chunk - t->name_used < len + 1) {
		if (t->names.n == (size_t)1 << (32 - NAMES_SHIFT) ||
			chunks_grow(&t->names, chunk) == NULL)
			return -ENOMEM;
		t->name_used = 0;
	}
	p = (char *)t->names.v[t->names.n - 1] + t->name_used;
	memcpy(p, name, len);
	p[len] = '\0';
	*out = ((t->names.n - 1) << NAMES_SHIFT) + t->name_used;
	t->name_used += len + 1;
	return 0;
}

static int table_grow(struct tree *t)
{
	uint32_t size = 2 * t->table_size, id, next, *slot;
	uint32_t *table = calloc(size, sizeof(*table));

	if (table == NULL)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->table_size; i++) {
		for (id = t->table[i]; id != TREE_NONE; id = next) {
			next = tree_at(t, id)->hash_next;
			slot = &table[tree_at(t, id)->hash & (size - 1)];
			tree_at(t, id)->hash_next = *slot;
			*slot = id;
		}
	}
	free(t->table);
	t->table = table;
	t->table_size = size;
	return 0;
}

int tree_create(struct tree **out, struct err *err)
{
	struct tree *t = calloc(1, sizeof(*t));
	uint32_t root, name;

	if (t == NULL)
		return err_nomem(err);
	/* A secret seed keeps an image from choosing names that all fall into one chain. */
	if (getrandom(&t->seed, sizeof(t->seed), 0) != sizeof(t->seed))
		t->seed = HASH64_SEED;
	t->table_size = TABLE_MIN;
	t->table = calloc(t->table_size, sizeof(*t->table));
	t->nnodes = TREE_ROOT;
	if (t->table == NULL ||
		chunks_grow(&t->nodes, sizeof(struct tree_node) << NODES_SHIFT) == NULL ||
		node_new(t, &root) < 0 || name_new(t, "", 0, &name) < 0) {
		tree_destroy(t);
		return err_nomem(err);
	}
	assert(root == TREE_ROOT);
	tree_at(t, root)->type = TREE_DIR;
	tree_at(t, root)->parent = root;
	tree_at(t, root)->name = name;
	*out = t;
	return 0;
}

void tree_destroy(struct tree *t)
{
	if (t == NULL)
		return;
	chunks_finish(&t->nodes);
	chunks_finish(&t->names);
	free(t->table);
	free(t);
}

uint32_t tree_find(const struct tree *t, uint32_t parent, const char *name, size_t len)
{
	uint32_t hash = name_hash(t, parent, name, len), id;
	const struct tree_node *n;

	for (id = t->table[hash & (t->table_size - 1)]; id != TREE_NONE; id = n->hash_next) {
		n = tree_at(t, id);
		if (n->hash == hash && n->parent == parent && n->name_len == len &&
			memcmp(tree_name(t, id), name, len) == 0)
			return id;
	}
	return TREE_NONE;
}

int tree_add(struct tree *t, uint32_t parent, const char *name, size_t len, uint32_t *out,
	struct err *err)
{
	struct tree_node *n, *p = tree_at(t, parent);
	uint32_t id, ref, *slot;

	assert(len > 0 && len <= 255);
	if (t->living >= t->table_size && table_grow(t) < 0)
		return err_nomem(err);
	if (name_new(t, name, len, &ref) < 0 || node_new(t, &id) < 0)
		return err_nomem(err);
	n = tree_at(t, id);
	n->name = ref;
	n->name_len = len;
	n->parent = parent;
	n->hash = name_hash(t, parent, name, len);
	slot = &t->table[n->hash & (t->table_size - 1)];
	n->hash_next = *slot;
	*slot = id;
	n->next = p->child;
	if (p->child != TREE_NONE)
		tree_at(t, p->child)->prev = id;
	p->child = id;
	t->living++;
	*out = id;
	return 0;
}

void tree_remove(struct tree *t, uint32_t id)
{
	struct tree_node *n = tree_at(t, id);
	uint32_t *slot = &t->table[n->hash & (t->table_size - 1)];

	assert(id != TREE_ROOT && n->child == TREE_NONE);
	while (*slot != id)
		slot = &tree_at(t, *slot)->hash_next;
	*slot = n->hash_next;
	if (n->next != TREE_NONE)
		tree_at(t, n->next)->prev = n->prev;
	if (n->prev != TREE_NONE)
		tree_at(t, n->prev)->next = n->next;
	else
		tree_at(t, n->parent)->child = n->next;
	n->next = t->free_nodes;
	t->free_nodes = id;
	t->living--;
}

uint32_t tree_first(const struct tree *t, uint32_t top)
{
	while (tree_at(t, top)->child != TREE_NONE)
		top = tree_at(t, top)->child;
	return top;
}

uint32_t tree_next(const struct tree *t, uint32_t id, uint32_t top)
{
	const struct tree_node *n = tree_at(t, id);

	if (id == top)
		return TREE_NONE;
	return n->next != TREE_NONE ? tree_first(t, n->next) : n->parent;
}

void tree_path(const struct tree *t, uint32_t id, struct buf *out)
{
	size_t len = 0, at;
	uint32_t i;
	char *p;

	if (id == TREE_ROOT) {
		buf_adds(out, "/");
		return;
	}
	for (i = id; i != TREE_ROOT; i = tree_at(t, i)->parent)
		len += 1 + tree_at(t, i)->name_len;
	p = malloc(len + 1);
	if (p == NULL) {
		out->bad = true;
		return;
	}
	at = len;
	for (i = id; i != TREE_ROOT; i = tree_at(t, i)->parent) {
		at -= tree_at(t, i)->name_len;
		memcpy(p + at, tree_name(t, i), tree_at(t, i)->name_len);
		p[--at] = '/';
	}
	buf_add(out, p, len);
	free(p);
}
