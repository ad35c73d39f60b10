/* Files and what they include, to raw sections: which text stands where for which key. */
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "lib/file.h"
#include "supervisor/config-priv.h"
#include "supervisor/dropin.h"

static void read_file(
	struct load *l, const char *name, const char *from, unsigned from_line, unsigned depth);

struct where {
	struct load *l;
	const char *file;
};

static void syntax_mistake(void *arg, unsigned line, const char *message)
{
	struct where *w = arg;

	load_error(w->l, w->file, line, "%s", message);
}

/* NULL when there is no memory. */
static struct raw_section *add_section(
	struct load *l, enum section_kind kind, const char *name, const char *file, unsigned line)
{
	struct config_array *a = &l->c->pub.by_kind[kind];
	size_t n;

	(void)section_keys(kind, &n);
	if (a->n == l->cap[kind]) {
		size_t cap = a->n == 0 ? 8 : 2 * a->n;
		void *v = realloc(a->v, cap * sizeof(*a->v)), *raw;

		if (v == NULL)
			goto nomem;
		a->v = v;
		raw = realloc(l->raw[kind], cap * sizeof(*l->raw[kind]));
		if (raw == NULL)
			goto nomem;
		l->raw[kind] = raw;
		l->cap[kind] = cap;
	}
	l->raw[kind][a->n] = (struct raw_section){ .keys = calloc(n, sizeof(struct raw_key)) };
	a->v[a->n] = section_new(kind, name, (struct config_pos){ file, line });
	if (a->v[a->n] == NULL || l->raw[kind][a->n].keys == NULL) {
		section_free(a->v[a->n]);
		free(l->raw[kind][a->n].keys);
		goto nomem;
	}
	return &l->raw[kind][a->n++];
nomem:
	l->nomem = true;
	return NULL;
}

/* An indented line that looks like a key or a heading is most likely meant as one. */
static bool check_continued(
	struct load *l, const char *file, enum section_kind kind, const struct ini_key *key)
{
	bool good = true;
	size_t i;

	for (i = 0; i < key->n; i++) {
		const struct ini_value *v = &key->v[i];
		size_t len = strcspn(v->text, "= \t");
		char word[INI_KEY_MAX + 1];
		enum section_kind found;

		if (!v->continued || v->quoted || len > INI_KEY_MAX)
			continue;
		memcpy(word, v->text, len);
		word[len] = '\0';
		if (len > 1 && word[len - 1] == ']')
			word[len - 1] = '\0';
		if (v->text[len + strspn(v->text + len, " \t")] == '=' &&
			config_key_find(kind, word) != NULL) {
			load_error(l, file, v->line,
				"this indented line goes on with '%s'; if '%s' is meant as a key, "
				"do not indent it, else put the value in double quotes",
				key->name, word);
			good = false;
		} else if (word[0] == '[' && strchr(v->text, ']') != NULL &&
			   section_kind_find(word + 1, &found)) {
			load_error(l, file, v->line,
				"this indented line goes on with '%s'; do not indent the heading "
				"of a section",
				key->name);
			good = false;
		}
	}
	return good;
}

static void add_key(struct load *l, struct raw_section *raw, enum section_kind kind,
	const char *file, struct ini_key *key)
{
	const struct config_key *k = config_key_find(kind, key->name);
	struct raw_key *rk;
	bool list;
	size_t n;

	if (k == NULL) {
		load_error(l, file, key->line, "unknown key %s in [%s]%s", quote(key->name),
			section_kind_name(kind), did_you_mean(config_key_nearest(kind, key->name)));
		return;
	}
	list = k->type == KEY_LIST || k->type == KEY_ARGS;
	rk = &raw->keys[k - section_keys(kind, &n)];
	if (key->n == 0 || !check_continued(l, file, kind, key)) {
		rk->bad = true;
		return;
	}
	if (rk->n != 0 && !list) {
		load_error(l, file, key->line, "'%s' is set a second time; the first is in %s:%u",
			k->name, rk->file, rk->line);
		return;
	}
	if (key->n > 1 && !list) {
		load_error(l, file, key->v[1].line,
			"'%s' takes one value, but this indented line goes on with it", k->name);
		rk->bad = true;
		return;
	}
	if (rk->n == 0) {
		*rk = (struct raw_key){
			.v = key->v, .n = key->n, .file = file, .line = key->line, .key = key
		};
		return;
	}
	/* Each file's includes are read with it, so they stay with it. */
	if (k->meta && rk->file != file)
		return;
	/* A repeated list key: its values join the first one's. */
	if (ini_key_append(rk->key, key) < 0)
		l->nomem = true;
	rk->v = rk->key->v;
	rk->n = rk->key->n;
}

static const char *nearest_kind(const char *kind)
{
	const char *names[SECTION_KINDS];
	size_t i;

	for (i = 0; i < SECTION_KINDS; i++)
		names[i] = section_kind_name((enum section_kind)i);
	return str_nearest(kind, names, SECTION_KINDS);
}

static void take_section(struct load *l, const char *file, struct ini_section *sec)
{
	struct raw_section *raw;
	enum section_kind kind;
	struct err err;
	size_t i;

	if (!section_kind_find(sec->kind, &kind)) {
		load_error(l, file, sec->line, "unknown section [%.64s]%s", sec->kind,
			did_you_mean(nearest_kind(sec->kind)));
		return;
	}
	if (kind == SECTION_DROVER) {
		if (sec->name[0] != '\0')
			load_error(l, file, sec->line, "[drover] has no name");
		raw = &l->raw[SECTION_DROVER][0];
	} else {
		bool named = sec->name[0] != '\0';
		bool fits = named && name_check(sec->name, section_kind_name(kind), &err) == 0;

		if (!named)
			load_error(l, file, sec->line, "the section needs a name: [%s NAME]",
				section_kind_name(kind));
		else if (!fits)
			load_error(l, file, sec->line, "%s", err.msg);
		raw = add_section(l, kind, sec->name, file, sec->line);
		if (raw != NULL)
			raw->misnamed = !fits;
	}
	for (i = 0; raw != NULL && i < sec->nkeys; i++)
		add_key(l, raw, kind, file, &sec->keys[i]);
}

/* Relative to the folder of file, and as relative as that is: messages name it as the user did. */
static char *include_pattern(struct load *l, const char *file, unsigned line, const char *text)
{
	const char *slash = strrchr(file, '/');
	char *out;

	if (text[0] == '/' || text[0] == '~')
		return path_resolve(l, file, line, "include", text);
	out = str_printf("%.*s%s", slash == NULL ? 0 : (int)(slash - file + 1), file, text);
	if (out == NULL)
		l->nomem = true;
	return out;
}

static int compare_paths(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Reads what one `include` value names: a glob that matches nothing is fine, a plain path is not. */
static void include(struct load *l, const char *file, const struct ini_value *v, unsigned depth)
{
	char *text = subst_text(l, l->c->pub.by_kind[SECTION_DROVER].v[0],
		config_key_find(SECTION_DROVER, "include"), file, v->line, v->text);
	char *pattern = text == NULL ? NULL : include_pattern(l, file, v->line, text);
	glob_t g = { 0 };
	size_t i;
	int rc;

	free(text);
	if (pattern == NULL)
		return;
	/* Sorted bytewise: the locale's order would change with the caller. */
	rc = glob(pattern, GLOB_NOMAGIC | GLOB_NOSORT, NULL, &g);
	if (rc == GLOB_NOSPACE)
		l->nomem = true;
	else if (rc != 0 && rc != GLOB_NOMATCH)
		load_error(
			l, file, v->line, "include: cannot read the folder of %s", quote(pattern));
	if (rc == 0) {
		qsort(g.gl_pathv, g.gl_pathc, sizeof(*g.gl_pathv), compare_paths);
		for (i = 0; i < g.gl_pathc && !l->nomem; i++)
			read_file(l, g.gl_pathv[i], file, v->line, depth + 1);
	}
	globfree(&g);
	free(pattern);
}

static void includes(struct load *l, const char *file, const struct ini *ini, unsigned depth)
{
	size_t i, j, n;

	for (i = 0; i < ini->n; i++) {
		const struct ini_section *sec = &ini->v[i];

		for (j = 0; j < sec->nkeys && strcmp(sec->kind, "drover") == 0; j++) {
			const struct ini_key *key = &sec->keys[j];

			for (n = 0; n < key->n && strcmp(key->name, "include") == 0; n++)
				include(l, file, &key->v[n], depth);
		}
	}
}

/* True if the file may be read: it is one, and it was not read yet. */
static bool check_file(struct load *l, const char *name, const char *from, unsigned from_line,
	unsigned depth, struct stat *st)
{
	const char *at = from == NULL ? name : from;
	size_t i;

	if (stat(name, st) < 0) {
		load_error(l, at, from_line, "open %s: %s", quote(name), strerror(errno));
		return false;
	}
	if (!S_ISREG(st->st_mode)) {
		load_error(l, at, from_line, "%s is not a regular file", quote(name));
		return false;
	}
	for (i = 0; i < l->nsources; i++) {
		const struct source *s = &l->sources[i];

		if (s->dev != st->st_dev || s->ino != st->st_ino)
			continue;
		if (s->from == NULL)
			load_error(l, at, from_line, "include: %s is being read already: a loop",
				quote(name));
		else
			load_error(l, at, from_line,
				"include: %s is included already by %s, line %u", quote(name),
				s->from, s->from_line);
		return false;
	}
	if (depth > CONFIG_DEPTH_MAX) {
		load_error(l, at, from_line, "include: more than %d files deep", CONFIG_DEPTH_MAX);
		return false;
	}
	return true;
}

static void read_file(
	struct load *l, const char *name, const char *from, unsigned from_line, unsigned depth)
{
	const char *at = from == NULL ? name : from, *file;
	struct strv *files = &l->c->pub.files;
	struct source *sources;
	struct buf text = { 0 };
	struct ini ini = { 0 };
	struct where where;
	struct stat st;
	struct err err;
	size_t i;

	if (!check_file(l, name, from, from_line, depth, &st))
		return;
	if (file_read(name, CONFIG_FILE_MAX, &text, &err) < 0) {
		if (err.code == -ENOMEM)
			l->nomem = true;
		else
			load_error(l, at, from_line, "%s", err.msg);
		return;
	}
	strv_add(files, name);
	sources = realloc(l->sources, (l->nsources + 1) * sizeof(*sources));
	if (sources != NULL)
		l->sources = sources;
	if (files->bad || sources == NULL) {
		l->nomem = true;
		buf_finish(&text);
		return;
	}
	file = files->v[files->n - 1];
	where = (struct where){ l, file };
	if (ini_read(&ini, buf_str(&text), text.len, syntax_mistake, &where, &err) < 0)
		l->nomem = true;
	buf_finish(&text);
	sources[l->nsources++] = (struct source){ file, st.st_dev, st.st_ino, from, from_line,
		ini };
	for (i = 0; i < ini.n && !l->nomem; i++)
		take_section(l, file, &ini.v[i]);
	includes(l, file, &ini, depth);
}

void load_files(struct load *l)
{
	/* [drover] exists even if no file has it, and all files share it. */
	if (add_section(l, SECTION_DROVER, "", NULL, 0) == NULL)
		return;
	l->c->pub.drover = (struct drover_config *)(void *)l->c->pub.by_kind[SECTION_DROVER].v[0];
	read_file(l, l->opts->path, NULL, 0, 0);
}

void load_dropins(struct load *l)
{
	struct drover_config *d = l->c->pub.drover;
	const struct config_key *key = config_key_find(SECTION_DROVER, "state_dir");
	char *pattern = NULL;
	glob_t g = { 0 };
	size_t n;

	if (!l->opts->dropins || d == NULL || l->nomem)
		return;
	/* Before its time: the rest of [drover] is read with all the other values. */
	value_set(l, &d->s, key,
		&l->raw[SECTION_DROVER][0].keys[key - section_keys(key->section, &n)]);
	if (d->state_dir != NULL &&
		(pattern = str_printf("%s/" DROPIN_DIR "/vm-*.ini", d->state_dir)) == NULL)
		l->nomem = true;
	free(d->state_dir);
	d->state_dir = NULL;
	if (pattern != NULL && glob(pattern, GLOB_NOSORT, NULL, &g) == 0) {
		qsort(g.gl_pathv, g.gl_pathc, sizeof(*g.gl_pathv), compare_paths);
		for (size_t i = 0; i < g.gl_pathc && !l->nomem; i++)
			read_file(l, g.gl_pathv[i], NULL, 0, 0);
	}
	globfree(&g);
	free(pattern);
}

void load_free_sources(struct load *l)
{
	size_t i, j;

	for (i = 0; i < l->nsources; i++)
		ini_finish(&l->sources[i].ini);
	free(l->sources);
	for (i = 0; i < SECTION_KINDS; i++) {
		for (j = 0; j < l->c->pub.by_kind[i].n; j++)
			free(l->raw[i][j].keys);
		free(l->raw[i]);
	}
}
