/* A config as text: for people, for the plan, and as the reference file. */
#include <stdio.h>
#include "supervisor/config-priv.h"

void config_number_text(enum key_type type, uint64_t v, struct buf *out)
{
	static const struct {
		enum key_type type;
		uint64_t factor;
		const char *unit;
	} units[] = {
		{ KEY_SIZE, (uint64_t)1 << 40, "T" },
		{ KEY_SIZE, (uint64_t)1 << 30, "G" },
		{ KEY_SIZE, (uint64_t)1 << 20, "M" },
		{ KEY_SIZE, (uint64_t)1 << 10, "K" },
		{ KEY_TIME, 24 * 3600 * 1000, "d" },
		{ KEY_TIME, 3600 * 1000, "h" },
		{ KEY_TIME, 60 * 1000, "m" },
		{ KEY_TIME, 1000, "s" },
		{ KEY_TIME, 1, "ms" },
	};
	size_t i;

	for (i = 0; i < ARRAY_LEN(units) && v != 0; i++) {
		if (units[i].type == type && v % units[i].factor == 0) {
			buf_printf(out, "%llu%s", (unsigned long long)(v / units[i].factor),
				units[i].unit);
			return;
		}
	}
	buf_printf(out, "%llu%s", (unsigned long long)v, type == KEY_TIME ? "s" : "");
}

void config_value_text(const struct config_section *s, const struct config_key *k, struct buf *out)
{
	const void *member = key_member(s, k);
	const struct strv *list = member;
	const char *text;
	size_t i;

	switch (k->type) {
	case KEY_STRING:
	case KEY_NAME:
	case KEY_PATH:
	case KEY_CIDR:
	case KEY_REF:
	case KEY_IMAGE:
		text = *(char *const *)member;
		if (text != NULL)
			buf_adds(out, text);
		break;
	case KEY_BOOL:
		buf_adds(out, *(const bool *)member ? "yes" : "no");
		break;
	case KEY_INT:
	case KEY_SIZE:
	case KEY_TIME:
		config_number_text(k->type, *(const uint64_t *)member, out);
		break;
	case KEY_ENUM:
		buf_adds(out, k->words[*(const int *)member]);
		break;
	case KEY_LIST:
	case KEY_ARGS:
		for (i = 0; i < list->n; i++) {
			if (i > 0)
				buf_adds(out, "\n");
			buf_adds(out, list->v[i]);
		}
		break;
	}
}

/* Whether the reader would take text for something else without quotes. */
static bool needs_quotes(const struct config_key *k, const char *text)
{
	size_t i, n = strlen(text);

	if (n == 0 || text[0] == '"' || text[0] == ';' || strchr(" \t", text[0]) != NULL ||
		strchr(" \t", text[n - 1]) != NULL)
		return true;
	for (i = 0; i < n; i++) {
		bool blank = text[i] == ' ' || text[i] == '\t';

		if (blank && (text[i + 1] == ';' || k->type == KEY_ARGS))
			return true;
	}
	return false;
}

static void print_value(const struct config_key *k, const char *text, struct buf *out)
{
	buf_printf(out, "%s = ", k->name);
	if (!needs_quotes(k, text)) {
		buf_adds(out, text);
	} else {
		buf_adds(out, "\"");
		for (; *text != '\0'; text++) {
			if (*text == '"' || *text == '\\')
				buf_adds(out, "\\");
			buf_add(out, text, 1);
		}
		buf_adds(out, "\"");
	}
	buf_adds(out, "\n");
}

static void print_key(
	const struct config_section *s, const struct config_key *k, bool all, struct buf *out)
{
	bool list = k->type == KEY_LIST || k->type == KEY_ARGS;
	bool set = s->key_pos[k - config_keys].line != 0;
	struct buf text = { 0 };
	size_t i;

	if (k->meta)
		return;
	config_value_text(s, k, &text);
	/* An argument or a variable has no line, but shows in the value. */
	if (!all && !set && strcmp(buf_str(&text), k->def == NULL ? "" : k->def) == 0)
		goto out;
	if (list) {
		const struct strv *v = key_member(s, k);

		for (i = 0; i < v->n; i++)
			print_value(k, v->v[i], out);
	} else if (text.len != 0) {
		print_value(k, buf_str(&text), out);
	}
out:
	out->bad |= text.bad;
	buf_finish(&text);
}

/* Templates have done their work: what they gave is printed with the machines. */
void config_print(const struct config *c, bool all, struct buf *out)
{
	size_t kind, i, j, n;

	for (kind = 0; kind < SECTION_KINDS; kind++) {
		const struct config_key *keys = section_keys((enum section_kind)kind, &n);
		const struct config_array *a = &c->by_kind[kind];

		for (i = 0; i < a->n && kind != SECTION_TEMPLATE; i++) {
			if (out->len != 0)
				buf_adds(out, "\n");
			buf_printf(out, "[%s%s%s]\n", section_kind_name((enum section_kind)kind),
				a->v[i]->name[0] == '\0' ? "" : " ", a->v[i]->name);
			for (j = 0; j < n; j++)
				print_key(a->v[i], &keys[j], all, out);
		}
	}
}

/* Whether it is among those that are not the same for another machine. */
static bool print_written(
	const struct config_section *s, const struct config_key *k, struct buf *out)
{
	size_t len = strlen(k->name);
	bool any = false;

	for (size_t i = 0; i < s->written.n; i++) {
		const char *w = s->written.v[i];

		if (strncmp(w, k->name, len) != 0 || (w[len] != '=' && w[len] != ':'))
			continue;
		any = true;
		if (w[len] == '=')
			print_value(k, w + len + 1, out);
		else
			buf_printf(out, "%s = %s\n", k->name, w + len + 1);
	}
	return any;
}

void config_print_section(const struct config_section *s, const char *name,
	bool (*skip)(const struct config_key *k), struct buf *out)
{
	const struct config_key *keys;
	size_t n;

	keys = section_keys(s->kind, &n);
	buf_printf(out, "[%s %s]\n", section_kind_name(s->kind), name);
	for (size_t i = 0; i < n; i++)
		if (!skip(&keys[i]) && !print_written(s, &keys[i], out))
			print_key(s, &keys[i], false, out);
}

/* As a comment, broken at 96 columns. */
static void print_comment(const char *text, struct buf *out)
{
	size_t col = 0;

	while (*text != '\0') {
		size_t n = strcspn(text, " ");

		if (col != 0 && col + 1 + n > 96) {
			buf_adds(out, "\n");
			col = 0;
		}
		buf_adds(out, col == 0 ? "; " : " ");
		buf_add(out, text, n);
		col += (col == 0 ? 2 : 1) + n;
		text += n + strspn(text + n, " ");
	}
	buf_adds(out, "\n");
}

static void describe_type(const struct config_key *k, struct buf *out)
{
	size_t i;

	switch (k->type) {
	case KEY_BOOL:
		buf_adds(out, "yes or no");
		break;
	case KEY_INT:
		buf_printf(out, "%llu to %llu", (unsigned long long)k->min,
			(unsigned long long)k->max);
		break;
	case KEY_SIZE:
	case KEY_TIME:
		buf_adds(out, k->type == KEY_SIZE ? "size, " : "time, ");
		if (k->min != 0) {
			config_number_text(k->type, k->min, out);
			buf_adds(out, " to ");
		} else {
			buf_adds(out, "at most ");
		}
		config_number_text(k->type, k->max, out);
		break;
	case KEY_ENUM:
		for (i = 0; k->words[i] != NULL; i++)
			buf_printf(out, "%s%s",
				i == 0                    ? ""
				: k->words[i + 1] == NULL ? " or "
							  : ", ",
				k->words[i]);
		break;
	case KEY_NAME:
		buf_adds(out, "name");
		break;
	case KEY_PATH:
		buf_adds(out, "path");
		break;
	case KEY_CIDR:
		buf_adds(out, "IPv4 range");
		break;
	case KEY_REF:
		buf_printf(out, "name of a [%s]", section_kind_name(k->ref));
		break;
	case KEY_IMAGE:
		buf_adds(out, "path or image");
		break;
	case KEY_STRING:
		buf_adds(out, "text");
		break;
	case KEY_ARGS:
	case KEY_LIST:
		if (k->ref != SECTION_DROVER)
			buf_printf(out, "list of names of [%s]", section_kind_name(k->ref));
		else
			buf_adds(out, "list");
		break;
	}
}

static const char *const reload_text[] = {
	[RELOAD_LIVE] = "a change applies at once",
	[RELOAD_RESTART] = "a change needs a restart",
	[RELOAD_RECREATE] = "a change recreates",
};

static void print_key_reference(const struct config_key *k, struct buf *out)
{
	struct buf text = { 0 };

	buf_printf(&text, "%s (", k->help);
	describe_type(k, &text);
	if (k->required)
		buf_adds(&text, "; required");
	if (!k->meta)
		buf_printf(&text, "; %s", reload_text[k->reload]);
	buf_adds(&text, ")");
	buf_adds(out, "\n");
	print_comment(buf_str(&text), out);
	buf_printf(out, ";%s =%s%s\n", k->name, k->def == NULL ? "" : " ",
		k->def == NULL ? "" : k->def);
	out->bad |= text.bad;
	buf_finish(&text);
}

static const char *const reference_head[] = {
	"drover.ini: every section and key, with its default. droverd reads "
	"/etc/drover/drover.ini; `drover check FILE` tells what is wrong with a file.",
	"A line is `key = value`. White space and a semicolon begin a comment; so does a semicolon or "
	"# at the start of a line. A value in double quotes keeps everything between them; in it "
	"\\\" and \\\\ stand for a quote and a backslash. A list is made by repeating the key, or by "
	"going on in indented lines, one value in each; an empty value empties it. Sizes have a unit "
	"K, M, G or T (powers of 1024), times ms, s, m, h or d. A relative path begins at the folder "
	"of the file that has it, ~/ at HOME.",
	"In values, {{name}} is the name of the section, {{guestId}} the number of the machine, "
	"{{env.NAME}} an environment variable. In cmdline and qemu_args there are also "
	"{{macAddress}} (the first nic's), {{key.NAME.public}}, {{network.NAME.bridge}} and "
	"{{vm.NAME.address}}; a machine that another one refers to starts before it.",
	"Arguments of droverd count more than the environment (DROVER_RUN_ID for run_id, and so on "
	"for all keys of [drover]), that more than the files.",
};

void config_print_reference(struct buf *out)
{
	size_t kind, i, n;

	for (i = 0; i < ARRAY_LEN(reference_head); i++) {
		if (i > 0)
			buf_adds(out, ";\n");
		print_comment(reference_head[i], out);
	}
	for (kind = 0; kind < SECTION_KINDS; kind++) {
		const struct config_key *keys = section_keys((enum section_kind)kind, &n);

		/* All but [drover] need a name and other keys, so they stay comments. */
		buf_adds(out, "\n");
		print_comment(section_kind_help((enum section_kind)kind), out);
		buf_printf(out, kind == SECTION_DROVER ? "[%s]\n" : ";[%s NAME]\n",
			section_kind_name((enum section_kind)kind));
		for (i = 0; i < n && kind != SECTION_TEMPLATE; i++)
			print_key_reference(&keys[i], out);
	}
}
