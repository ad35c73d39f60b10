/* Text to members and back. */
#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "netcfg/alloc.h"
#include "oci/image.h"
#include "supervisor/config-priv.h"

/* One value on its way from text to member, and where it stands. */
struct value {
	struct load *l;
	const struct config_section *s;
	const struct config_key *k;
	const char *file;
	unsigned line;
};

#define value_error(v, fmt, ...)                                                                   \
	load_error((v)->l, (v)->file, (v)->line, "%s: " fmt, (v)->k->name, ##__VA_ARGS__)

const char *config_nearest(const struct config *c, enum section_kind kind, const char *name)
{
	const struct config_array *a = &c->by_kind[kind];
	const char **names = calloc(a->n + 1, sizeof(*names)), *nearest;
	size_t i;

	if (names == NULL)
		return NULL;
	for (i = 0; i < a->n; i++)
		names[i] = a->v[i]->name;
	nearest = str_nearest(name, names, a->n);
	free(names);
	return nearest;
}

/* The folder of a file as an absolute path; the current one for what is not from a file. */
static char *folder_of(const char *file)
{
	char *copy = strdup(file), *cwd = NULL, *out = NULL;
	const char *dir;

	if (copy == NULL)
		return NULL;
	dir = dirname(copy);
	if (dir[0] == '/') {
		out = strdup(dir);
	} else {
		cwd = getcwd(NULL, 0);
		if (cwd != NULL && strcmp(dir, ".") == 0)
			out = strdup(cwd);
		else if (cwd != NULL)
			out = str_printf("%s/%s", strcmp(cwd, "/") == 0 ? "" : cwd, dir);
	}
	free(cwd);
	free(copy);
	return out;
}

char *path_resolve(
	struct load *l, const char *file, unsigned line, const char *key, const char *path)
{
	const char *home = getenv("HOME");
	char *folder, *out = NULL;

	if (path[0] == '/') {
		out = strdup(path);
	} else if (path[0] == '~' && (path[1] == '/' || path[1] == '\0')) {
		if (home == NULL || home[0] != '/') {
			load_error(l, file, line, "%s: HOME is not set; write the path without '~'",
				quote(path));
			return NULL;
		}
		out = str_printf("%s%s", home, path + 1);
	} else if (path[0] == '~') {
		load_error(l, file, line,
			"%s: %s: only '~/' is known; write other users' folders in full", key,
			quote(path));
		return NULL;
	} else {
		while (str_starts(path, "./"))
			path += 2 + strspn(path + 2, "/");
		folder = folder_of(file);
		if (folder != NULL)
			out = str_printf("%s/%s", strcmp(folder, "/") == 0 ? "" : folder, path);
		free(folder);
	}
	if (out == NULL)
		l->nomem = true;
	return out;
}

static void set_string(struct value *v, char **member, const char *text)
{
	*member = strdup(text);
	if (*member == NULL)
		v->l->nomem = true;
}

static void set_number(struct value *v, uint64_t *member, const char *text)
{
	struct err err;
	uint64_t n;
	int rc;

	if (v->k->type == KEY_INT)
		rc = parse_u64(text, v->k->min, v->k->max, &n, &err);
	else if (v->k->type == KEY_SIZE)
		rc = parse_size(text, &n, &err);
	else
		rc = parse_duration_ms(text, &n, &err);
	if (rc < 0) {
		value_error(v, "%s", err.msg);
	} else if (n < v->k->min || n > v->k->max) {
		struct buf b = { 0 };

		config_number_text(v->k->type, n < v->k->min ? v->k->min : v->k->max, &b);
		value_error(v, "%s is %s than %s", quote(text), n < v->k->min ? "less" : "more",
			buf_str(&b));
		buf_finish(&b);
	} else {
		*member = n;
	}
}

static void set_enum(struct value *v, int *member, const char *text)
{
	const char *const *words = v->k->words;
	struct buf b = { 0 };
	size_t i;

	for (i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], text) == 0) {
			*member = (int)i;
			return;
		}
	}
	for (i = 0; words[i] != NULL; i++)
		buf_printf(&b, "%s%s", i == 0 ? "" : ", ", words[i]);
	value_error(v, "%s is not one of: %s%s", quote(text), buf_str(&b),
		did_you_mean(str_nearest(text, words, i)));
	buf_finish(&b);
}

static void set_cidr(struct value *v, char **member, const char *text)
{
	struct ip4_prefix prefix;
	struct err err;

	if (ip4_prefix_parse(text, false, &prefix, &err) < 0)
		value_error(v, "%s", err.msg);
	else
		set_string(v, member, text);
}

/* What the section stands for: whether that is right is told of there, in check_image(). */
static void image_expand(struct value *v, char **member, const char *name)
{
	const struct config_section *s = config_find(&v->l->c->pub, SECTION_IMAGE, name);
	struct buf out = { 0 };

	config_image_reference((const void *)s, &out);
	*member = buf_steal(&out);
	v->l->nomem |= *member == NULL;
}

static void set_image(struct value *v, char **member, const char *text)
{
	struct image_ref ref;
	struct err err;

	if (v->k->section == SECTION_VM && config_find(&v->l->c->pub, SECTION_IMAGE, text) != NULL)
		image_expand(v, member, text);
	else if (text[0] == '/' || text[0] == '.' || text[0] == '~')
		*member = path_resolve(v->l, v->file, v->line, v->k->name, text);
	else if (v->k->section == SECTION_IMAGE)
		/* Only together with the section's other keys is it right or wrong: check_image(). */
		set_string(v, member, text);
	else if (image_ref_parse(text, &ref, &err) < 0)
		value_error(v, "%s (a path begins with '/' or './')", err.msg);
	else
		set_string(v, member, text);
}

/* What a list's value refers to must be there. */
static bool check_ref(struct value *v, const char *name)
{
	const struct config *c = &v->l->c->pub;

	if (config_find(c, v->k->ref, name) != NULL)
		return true;
	value_error(v, "there is no [%s %.80s]%s", section_kind_name(v->k->ref), name,
		did_you_mean(config_nearest(c, v->k->ref, name)));
	return false;
}

/* Behind a network's name may be what its nic is like, and behind a registry's what its mirror is. */
static bool check_list_ref(struct value *v, const char *text)
{
	char *name;
	bool ok;

	if (v->k->ref != SECTION_NETWORK && v->k->ref != SECTION_REGISTRY)
		return check_ref(v, text);
	name = strndup(text, strcspn(text, " \t"));
	ok = name != NULL && check_ref(v, name);
	v->l->nomem = v->l->nomem || name == NULL;
	free(name);
	return ok;
}

static void set_single(struct value *v, const char *text)
{
	void *member = key_member(v->s, v->k);
	struct err err;

	switch (v->k->type) {
	case KEY_STRING:
		set_string(v, member, text);
		break;
	case KEY_BOOL:
		if (parse_bool(text, member, &err) < 0)
			value_error(v, "%s", err.msg);
		break;
	case KEY_INT:
	case KEY_SIZE:
	case KEY_TIME:
		set_number(v, member, text);
		break;
	case KEY_ENUM:
		set_enum(v, member, text);
		break;
	case KEY_NAME:
		if (name_check(text, v->k->name, &err) < 0)
			value_error(v, "%s", err.msg);
		else
			set_string(v, member, text);
		break;
	case KEY_PATH:
		*(char **)member = path_resolve(v->l, v->file, v->line, v->k->name, text);
		break;
	case KEY_CIDR:
		set_cidr(v, member, text);
		break;
	case KEY_REF:
		/* load_templates() has checked it. */
		set_string(v, member, text);
		break;
	case KEY_IMAGE:
		set_image(v, member, text);
		break;
	case KEY_LIST:
	case KEY_ARGS:
		break;
	}
}

/* Words of a command line; what is in quotes in the file is one word. */
static void add_words(struct strv *list, char *text)
{
	char *save, *word;

	for (word = strtok_r(text, " \t", &save); word != NULL; word = strtok_r(NULL, " \t", &save))
		strv_add(list, word);
}

/* The mark of several words of a command line, which quotes would make one. */
static char mark_of(const struct config_key *k, bool quoted)
{
	return k->type == KEY_ARGS && !quoted ? ':' : '=';
}

static void keep_single(struct load *l, struct config_section *s, const struct config_key *k,
	const struct raw_key *raw)
{
	char *kept = k->meta ? NULL : subst_kept(l, raw->v[0].text), *path;
	bool is_path = kept != NULL && (k->type == KEY_PATH || k->type == KEY_IMAGE);

	/* It means the same in another file. */
	if (is_path && (k->type == KEY_PATH || kept[0] == '.' || kept[0] == '~')) {
		path = path_resolve(l, raw->file, raw->line, k->name, kept);
		free(kept);
		kept = path;
	}
	if (kept != NULL)
		strv_addf(&s->written, "%s=%s", k->name, kept);
	l->nomem |= s->written.bad;
	free(kept);
}

static void keep_list(struct load *l, struct config_section *s, const struct config_key *k,
	const struct raw_key *raw)
{
	bool any = false;

	for (size_t i = 0; i < raw->n && !any; i++) {
		char *kept = subst_kept(l, raw->v[i].text);

		any = kept != NULL;
		free(kept);
	}
	for (size_t i = 0; i < raw->n && any; i++) {
		char *kept = subst_kept(l, raw->v[i].text);

		strv_addf(&s->written, "%s%c%s", k->name, mark_of(k, raw->v[i].quoted),
			kept != NULL ? kept : raw->v[i].text);
		free(kept);
	}
	l->nomem |= s->written.bad;
}

static void set_list(struct value *v, const struct raw_key *raw)
{
	struct strv *list = key_member(v->s, v->k);
	size_t i;

	/* `key =` alone empties the list, e.g. a template's. */
	if (raw->n == 1 && raw->v[0].text[0] == '\0')
		return;
	for (i = 0; i < raw->n; i++) {
		const struct ini_value *item = &raw->v[i];
		char *text;

		v->line = item->line;
		if (item->text[0] == '\0' && !item->quoted) {
			value_error(v, "an empty value among others");
			continue;
		}
		text = subst_text(v->l, v->s, v->k, v->file, v->line, item->text);
		if (text == NULL)
			continue;
		if (v->k->type == KEY_ARGS && !item->quoted)
			add_words(list, text);
		else if (v->k->ref == SECTION_DROVER || check_list_ref(v, text))
			strv_add(list, text);
		free(text);
	}
	if (list->bad)
		v->l->nomem = true;
}

void value_set(struct load *l, struct config_section *s, const struct config_key *k,
	const struct raw_key *raw)
{
	struct value v = { l, s, k, raw->file, raw->line };
	char *text;

	if (raw->line != 0)
		s->key_pos[k - config_keys] = (struct config_pos){ raw->file, raw->line };
	if (raw->n == 0) {
		v.file = "default";
		if (k->def != NULL)
			set_single(&v, k->def);
		return;
	}
	if (k->type == KEY_LIST || k->type == KEY_ARGS) {
		set_list(&v, raw);
		if (s->kind == SECTION_VM)
			keep_list(l, s, k, raw);
		return;
	}
	if (raw->v[0].text[0] == '\0') {
		if (k->def != NULL)
			value_error(&v, "a value is missing behind '='");
		return;
	}
	text = k->meta ? strdup(raw->v[0].text)
		       : subst_text(l, s, k, v.file, v.line, raw->v[0].text);
	if (text != NULL)
		set_single(&v, text);
	if (text != NULL && s->kind == SECTION_VM)
		keep_single(l, s, k, raw);
	free(text);
}
