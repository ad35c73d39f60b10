/* Templates: a section's keys go before its template's, that one's before its own template's. */
#include <stdlib.h>
#include <string.h>
#include "supervisor/config-priv.h"

enum state {
	UNSEEN,
	OPEN, /* on the way from a section to the end of its chain */
	DONE
};

struct chain {
	struct load *l;
	size_t ntemplates, nkeys, template_key;
	unsigned char *state, *length; /* of each template; length counts the ones behind it too */
	const char *path[CONFIG_DEPTH_MAX + 2];
};

static void loop_error(struct chain *c, const struct raw_key *key, unsigned depth)
{
	struct buf b = { 0 };
	unsigned i = 0;

	while (i < depth && strcmp(c->path[i], key->v[0].text) != 0)
		i++;
	for (; i < depth; i++)
		buf_printf(&b, "'%s' -> ", c->path[i]);
	load_error(c->l, key->file, key->line, "the templates %s'%s' are a loop", buf_str(&b),
		key->v[0].text);
	buf_finish(&b);
}

static void too_long(struct chain *c, const struct raw_key *key)
{
	load_error(c->l, key->file, key->line, "more than %d templates in a row", CONFIG_DEPTH_MAX);
}

/* Fills what the section leaves open from its template; returns the length of the chain behind. */
static unsigned inherit(struct chain *c, enum section_kind kind, size_t at, unsigned depth)
{
	const struct raw_section *raw = &c->l->raw[kind][at], *from;
	const struct raw_key *key = &raw->keys[c->template_key];
	const struct config *config = &c->l->c->pub;
	const char *name;
	ssize_t t;
	size_t i;

	if (key->n == 0 || key->v[0].text[0] == '\0')
		return 0;
	name = key->v[0].text;
	t = config_find_at(c->l->c, SECTION_TEMPLATE, name);
	if (t < 0) {
		load_error(c->l, key->file, key->line, "template: there is no [template %.80s]%s",
			name, did_you_mean(config_nearest(config, SECTION_TEMPLATE, name)));
		return 0;
	}
	if (c->state[t] == OPEN) {
		loop_error(c, key, depth);
		return 0;
	}
	if (depth > CONFIG_DEPTH_MAX) {
		too_long(c, key);
		return 0;
	}
	if (c->state[t] == UNSEEN) {
		c->state[t] = OPEN;
		c->path[depth] = config->by_kind[SECTION_TEMPLATE].v[t]->name;
		c->length[t] = (unsigned char)(1 +
					       inherit(c, SECTION_TEMPLATE, (size_t)t, depth + 1));
		c->state[t] = DONE;
	}
	if (c->length[t] > CONFIG_DEPTH_MAX) {
		too_long(c, key);
		return 0;
	}
	from = &c->l->raw[SECTION_TEMPLATE][t];
	for (i = 0; i < c->nkeys; i++)
		if (raw->keys[i].n == 0 && i != c->template_key)
			raw->keys[i] = from->keys[i];
	return c->length[t];
}

/* What a machine does not have from the one that it begins as. */
static bool is_own(const struct config_key *key)
{
	static const char *const names[] = { "template", "warm", "from", "hostname", "autostart" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(key->name, names[i]) == 0)
			return true;
	}
	return false;
}

/* Behind the templates: a machine has the keys of the warm one, which has its own templates'. */
static void inherit_from(struct load *l, const struct config_key *keys, size_t nkeys)
{
	const struct config_array *vms = &l->c->pub.by_kind[SECTION_VM];
	size_t from_key = (size_t)(config_key_find(SECTION_VM, "from") - keys);

	for (size_t i = 0; i < vms->n; i++) {
		struct raw_section *raw = &l->raw[SECTION_VM][i];
		const struct raw_key *key = &raw->keys[from_key];
		const char *name = key->n > 0 ? key->v[0].text : "";
		ssize_t at = config_find_at(l->c, SECTION_VM, name);

		if (at < 0 && name[0] != '\0')
			load_error(l, key->file, key->line, "from: there is no [vm %.80s]%s", name,
				did_you_mean(config_nearest(&l->c->pub, SECTION_VM, name)));
		if (at < 0 || l->raw[SECTION_VM][at].keys[from_key].n > 0)
			continue;
		for (size_t k = 0; k < nkeys; k++)
			if (raw->keys[k].n == 0 && !is_own(&keys[k]))
				raw->keys[k] = l->raw[SECTION_VM][at].keys[k];
	}
}

void load_templates(struct load *l)
{
	const struct config *config = &l->c->pub;
	struct chain c = { .l = l, .ntemplates = config->by_kind[SECTION_TEMPLATE].n };
	const struct config_key *keys = section_keys(SECTION_VM, &c.nkeys);
	size_t i;

	c.template_key = (size_t)(config_key_find(SECTION_VM, "template") - keys);
	c.state = calloc(2 * c.ntemplates + 1, 1);
	if (c.state == NULL) {
		l->nomem = true;
		return;
	}
	c.length = c.state + c.ntemplates;
	for (i = 0; i < c.ntemplates; i++) {
		if (c.state[i] != UNSEEN)
			continue;
		c.state[i] = OPEN;
		c.path[0] = config->by_kind[SECTION_TEMPLATE].v[i]->name;
		c.length[i] = (unsigned char)(1 + inherit(&c, SECTION_TEMPLATE, i, 1));
		c.state[i] = DONE;
	}
	for (i = 0; i < config->by_kind[SECTION_VM].n; i++)
		inherit(&c, SECTION_VM, i, 0);
	inherit_from(l, keys, c.nkeys);
	free(c.state);
}
