#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "supervisor/config-priv.h"

struct config_section *section_new(enum section_kind kind, const char *name, struct config_pos pos)
{
	struct config_section *s = calloc(1, section_kind_size(kind));

	if (s == NULL)
		return NULL;
	s->kind = kind;
	s->pos = pos;
	s->name = strdup(name);
	s->key_pos = calloc(config_nkeys, sizeof(*s->key_pos));
	if (kind == SECTION_VM || kind == SECTION_TEMPLATE)
		((struct vm_config *)(void *)s)->guest_id = -1;
	if (s->name == NULL || s->key_pos == NULL) {
		section_free(s);
		return NULL;
	}
	return s;
}

void section_free(struct config_section *s)
{
	size_t i, n;
	const struct config_key *keys;

	if (s == NULL)
		return;
	strv_finish(&s->written);
	keys = section_keys(s->kind, &n);
	for (i = 0; i < n; i++) {
		switch (keys[i].type) {
		case KEY_STRING:
		case KEY_NAME:
		case KEY_PATH:
		case KEY_CIDR:
		case KEY_REF:
		case KEY_IMAGE:
			free(*(char **)key_member(s, &keys[i]));
			break;
		case KEY_LIST:
		case KEY_ARGS:
			strv_finish(key_member(s, &keys[i]));
			break;
		case KEY_BOOL:
		case KEY_INT:
		case KEY_SIZE:
		case KEY_TIME:
		case KEY_ENUM:
			break;
		}
	}
	free(s->key_pos);
	free(s->name);
	free(s);
}

void config_destroy(struct config *c)
{
	struct config_impl *impl = container_of(c, struct config_impl, pub);
	size_t i, k;

	if (c == NULL)
		return;
	for (k = 0; k < SECTION_KINDS; k++) {
		for (i = 0; i < c->by_kind[k].n; i++)
			section_free(c->by_kind[k].v[i]);
		free(c->by_kind[k].v);
		free(impl->by_name[k]);
	}
	strv_finish(&c->files);
	free(c->path);
	free(impl);
}

static int compare(const void *a, const void *b)
{
	const struct by_name *x = a, *y = b;
	int c = strcmp(x->name, y->name);

	return c != 0 ? c : (x->at > y->at) - (x->at < y->at);
}

int config_index(struct config_impl *c)
{
	size_t i, k;

	for (k = 0; k < SECTION_KINDS; k++) {
		const struct config_array *a = &c->pub.by_kind[k];
		struct by_name *v = calloc(a->n + 1, sizeof(*v));

		if (v == NULL)
			return -ENOMEM;
		for (i = 0; i < a->n; i++)
			v[i] = (struct by_name){ a->v[i]->name, i };
		qsort(v, a->n, sizeof(*v), compare);
		c->by_name[k] = v;
	}
	return 0;
}

static int compare_name(const void *name, const void *entry)
{
	return strcmp(name, ((const struct by_name *)entry)->name);
}

ssize_t config_find_at(const struct config_impl *c, enum section_kind kind, const char *name)
{
	const struct by_name *hit = bsearch(
		name, c->by_name[kind], c->pub.by_kind[kind].n, sizeof(*hit), compare_name);

	return hit == NULL ? -1 : (ssize_t)hit->at;
}

const struct config_section *config_find(
	const struct config *c, enum section_kind kind, const char *name)
{
	const struct config_impl *impl = container_of(c, const struct config_impl, pub);
	ssize_t at = config_find_at(impl, kind, name);

	return at < 0 ? NULL : c->by_kind[kind].v[at];
}
