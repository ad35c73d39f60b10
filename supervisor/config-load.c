/* The whole way from files, arguments and environment to a config. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "supervisor/config-priv.h"

/* DROVER_RUN_ID for run_id; NULL if it is not in the environment. */
static const char *from_environment(const struct config_key *k, char *name, size_t cap)
{
	size_t i, n = (size_t)snprintf(name, cap, "DROVER_%s", k->name);

	for (i = 7; i < n && i < cap; i++)
		name[i] = (char)toupper((unsigned char)name[i]);
	return getenv(name);
}

/* True for text that override() made; the other has an owner. */
static bool is_override(const struct raw_key *raw)
{
	return raw->n != 0 && raw->key == NULL;
}

static void free_override(struct raw_key *raw)
{
	if (!is_override(raw))
		return;
	free(raw->v[0].text);
	free((void *)(uintptr_t)raw->v);
	*raw = (struct raw_key){ 0 };
}

/* The source comes into messages in place of a file. */
static void override(struct load *l, struct raw_key *raw, const char *source, const char *value)
{
	struct ini_value *v = calloc(1, sizeof(*v));

	if (v == NULL || (v->text = strdup(value)) == NULL) {
		free(v);
		l->nomem = true;
		return;
	}
	free_override(raw);
	*raw = (struct raw_key){ .v = v, .n = 1, .file = source };
}

#define NAME_CAP 64 /* of an environment variable */

/* names keeps the variables' names for as long as messages may need them. */
static void load_overrides(struct load *l, char (*names)[NAME_CAP])
{
	const struct config_load_opts *o = l->opts;
	struct raw_key *raw = l->raw[SECTION_DROVER][0].keys;
	size_t i, n;
	const struct config_key *keys = section_keys(SECTION_DROVER, &n);

	for (i = 0; i < n; i++) {
		const char *value = from_environment(&keys[i], names[i], NAME_CAP);

		if (value != NULL && value[0] != '\0' && !keys[i].meta)
			override(l, &raw[i], names[i], value);
	}
	for (i = 0; i < o->noverrides; i++) {
		const struct config_override *ov = &o->overrides[i];
		const struct config_key *k = config_key_find(SECTION_DROVER, ov->key);

		if (k == NULL || k->meta)
			load_error(l, ov->source, 0, "[drover] has no key %s%s", quote(ov->key),
				did_you_mean(config_key_nearest(SECTION_DROVER, ov->key)));
		else
			override(l, &raw[k - keys], ov->source, ov->value);
	}
}

static void load_values(struct load *l)
{
	size_t k, i, j, n;

	for (k = 0; k < SECTION_KINDS; k++) {
		const struct config_key *keys = section_keys((enum section_kind)k, &n);

		for (i = 0; i < l->c->pub.by_kind[k].n && !l->nomem; i++) {
			struct config_section *s = l->c->pub.by_kind[k].v[i];

			/* Numbers are not given to machines of a file that is refused anyway. */
			if (k == SECTION_VM && l->opts->guest_id != NULL && l->errors.n == 0)
				((struct vm_config *)(void *)s)->guest_id = l->opts->guest_id(
					l->opts->arg, s->name);
			for (j = 0; j < n; j++)
				value_set(l, s, &keys[j], &l->raw[k][i].keys[j]);
		}
	}
}

static int compare_errors(const void *a, const void *b)
{
	const struct config_error *x = a, *y = b;

	return (x->line > y->line) - (x->line < y->line);
}

/* Messages of one file in the order of its lines; the files stay in theirs. */
static void sort_errors(struct load *l)
{
	struct config_errors *e = &l->errors;
	size_t i, j, done = 0;

	for (i = 0; i <= l->nsources; i++) {
		size_t first = done;

		for (j = first; j < e->n && i < l->nsources; j++) {
			if (strcmp(e->v[j].file, l->sources[i].name) == 0) {
				struct config_error tmp = e->v[j];

				e->v[j] = e->v[done];
				e->v[done++] = tmp;
			}
		}
		qsort(e->v + first, done - first, sizeof(*e->v), compare_errors);
	}
}

static int refuse(struct load *l, struct err *err)
{
	const struct config_error *e = l->errors.v;

	if (l->nomem)
		return err_nomem(err);
	sort_errors(l);
	e = l->errors.v;
	if (e->line == 0)
		err_set(err, -EINVAL, "%s: %s", e->file, e->message);
	else
		err_set(err, -EINVAL, "%s:%u: %s", e->file, e->line, e->message);
	if (err != NULL && l->errors.n > 1) {
		size_t n = strlen(err->msg);

		snprintf(err->msg + n, sizeof(err->msg) - n, " (and %zu more)", l->errors.n - 1);
	}
	return -EINVAL;
}

int config_load(struct config **out, const struct config_load_opts *opts,
	struct config_errors *errors, struct err *err)
{
	struct config_impl *c = calloc(1, sizeof(*c));
	struct load l = { .c = c, .opts = opts };
	char names[32][NAME_CAP];
	size_t i, n;
	int rc = 0;

	(void)section_keys(SECTION_DROVER, &n);
	if (c == NULL || (c->pub.path = strdup(opts->path)) == NULL) {
		free(c);
		return err_nomem(err);
	}
	load_files(&l);
	if (!l.nomem)
		load_overrides(&l, names);
	load_dropins(&l);
	if (!l.nomem && config_index(c) < 0)
		l.nomem = true;
	if (!l.nomem) {
		load_templates(&l);
		load_values(&l);
	}
	if (!l.nomem)
		check_config(&l);
	if (l.nomem || l.errors.n > 0)
		rc = refuse(&l, err);
	for (i = 0; i < n && c->pub.drover != NULL; i++)
		free_override(&l.raw[SECTION_DROVER][0].keys[i]);
	load_free_sources(&l);
	free(l.seen);
	if (errors != NULL)
		*errors = l.errors;
	else
		config_errors_finish(&l.errors);
	if (rc < 0)
		config_destroy(&c->pub);
	else
		*out = &c->pub;
	return rc;
}
