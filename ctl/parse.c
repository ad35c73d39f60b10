#include "ctl/ctl.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "lib/err.h"

const char *ctl_opt(const struct ctl *c, const char *name)
{
	for (size_t i = 0; i < CTL_OPTS_MAX && c->verb->opts[i].name != NULL; i++) {
		if (strcmp(c->verb->opts[i].name, name) == 0)
			return c->values[i];
	}
	assert(!"an option that the verb does not have");
	return NULL;
}

bool ctl_flag(const struct ctl *c, const char *name)
{
	return ctl_opt(c, name) != NULL;
}

static void complain(const char *fmt, va_list ap)
{
	fputs("drover: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

void verb_usage(const struct verb *v, struct buf *out)
{
	buf_printf(out, "drover %s", v->name);
	for (size_t i = 0; i < CTL_OPTS_MAX && v->opts[i].name != NULL; i++) {
		const struct opt *o = &v->opts[i];

		buf_printf(out, " [--%s%s%s]", o->name, o->arg != NULL ? " " : "",
			o->arg != NULL ? o->arg : "");
	}
	buf_printf(out, "%s%s", v->args[0] != '\0' ? " " : "", v->args);
}

int ctl_usage(const struct ctl *c, const char *fmt, ...)
{
	struct buf usage = { 0 };
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	if (c->verb != NULL)
		verb_usage(c->verb, &usage);
	else
		buf_adds(&usage,
			"drover [--socket PATH] [-o json] VERB ...; `drover help` lists the verbs");
	fprintf(stderr, "usage: %s\n", buf_str(&usage));
	buf_finish(&usage);
	return CTL_USAGE;
}

int ctl_fail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	complain(fmt, ap);
	va_end(ap);
	return CTL_FAILED;
}

int ctl_seconds(const struct ctl *c, const char *name, uint64_t def, uint64_t *out)
{
	const char *text = ctl_opt(c, name);
	struct err err;
	uint64_t ms;

	*out = def;
	if (text == NULL)
		return CTL_OK;
	if (parse_duration_ms(text, &ms, &err) != 0)
		return ctl_usage(c, "--%s: %s", name, err.msg);
	*out = (ms + 999) / 1000;
	return CTL_OK;
}

int ctl_number(const struct ctl *c, const char *name)
{
	const char *text = ctl_opt(c, name);
	struct err err;
	uint64_t n;

	if (text == NULL || parse_u64(text + (text[0] == '-'), 0, INT64_MAX, &n, &err) == 0)
		return CTL_OK;
	return ctl_usage(c, "--%s: %s is not a whole number", name, quote(text));
}

/* One word of a verb's name, and whether the whole name is in words. */
static size_t words_fit(const char *name, const char *const *words, size_t n)
{
	const char *space = strchr(name, ' ');
	size_t len = space != NULL ? (size_t)(space - name) : strlen(name);

	if (n == 0 || strlen(words[0]) != len || memcmp(name, words[0], len) != 0)
		return 0;
	if (space == NULL)
		return 1;
	return n > 1 && strcmp(space + 1, words[1]) == 0 ? 2 : 0;
}

const struct verb *verb_find(const char *const *words, size_t n, size_t *used)
{
	for (size_t i = 0; i < nverbs; i++) {
		*used = words_fit(verbs[i].name, words, n);
		if (*used > 0)
			return &verbs[i];
	}
	return NULL;
}

/* `drover image` alone, or with a second word that there is not. */
static int half_verb(const struct ctl *c, const char *const *words, size_t n)
{
	struct buf list = { 0 };
	size_t len = strlen(words[0]);
	int ret;

	for (size_t i = 0; i < nverbs; i++) {
		if (strncmp(verbs[i].name, words[0], len) == 0 && verbs[i].name[len] == ' ')
			buf_printf(
				&list, "%s`drover %s`", list.len > 0 ? " or " : "", verbs[i].name);
	}
	if (list.len == 0)
		ret = -1;
	else if (n > 1)
		ret = ctl_usage(c, "there is no verb %s %s, only %s", words[0], quote(words[1]),
			buf_str(&list));
	else
		ret = ctl_usage(c, "what of %s? %s", words[0], buf_str(&list));
	buf_finish(&list);
	return ret;
}

static int no_verb(const struct ctl *c, const char *const *words, size_t n)
{
	const char *names[64], *nearest;
	int ret = half_verb(c, words, n);

	if (ret >= 0)
		return ret;
	assert(nverbs <= ARRAY_LEN(names));
	for (size_t i = 0; i < nverbs; i++)
		names[i] = verbs[i].name;
	nearest = str_nearest(words[0], names, nverbs);
	if (nearest != NULL)
		return ctl_usage(c, "there is no verb %s; did you mean %s?", quote(words[0]),
			quote(nearest));
	return ctl_usage(c, "there is no verb %s", quote(words[0]));
}

/* An option, as it stands in argv. */
struct given {
	const char *text;  /* for messages */
	size_t name_len;   /* of a long one */
	const char *value; /* behind its '=', or behind the letter */
	bool is_long;
};

static bool opt_fits(const struct opt *o, const struct given *g)
{
	if (!g->is_long)
		return o->letter != 0 && o->letter == g->text[1];
	return strlen(o->name) == g->name_len && memcmp(o->name, g->text + 2, g->name_len) == 0;
}

static const struct opt global_opts[] = {
	{ "socket", 0, "PATH", NULL },
	{ "output", 'o', "json", NULL },
	{ "help", 'h', NULL, NULL },
	{ "version", 'V', NULL, NULL },
};

struct parse {
	struct ctl *c;
	char **argv;
	int argc, i;
	const char *words[2];
	size_t nwords;
	bool help, version;
};

/* *value is written when the option takes one: its own, or the next argument. */
static int opt_value(
	struct parse *p, const struct opt *o, const struct given *g, const char **value)
{
	if (o->arg == NULL) {
		*value = "";
		if (g->value != NULL)
			return ctl_usage(p->c, "--%s takes no value", o->name);
		return CTL_OK;
	}
	*value = g->value;
	if (*value == NULL && p->i + 1 < p->argc)
		*value = p->argv[++p->i];
	if (*value == NULL)
		return ctl_usage(p->c, "a value is missing after %s: %s", g->text, o->arg);
	return CTL_OK;
}

static int global_opt(struct parse *p, const struct opt *o, const char *value)
{
	switch (o - global_opts) {
	case 0:
		p->c->socket = value;
		return CTL_OK;
	case 1:
		if (strcmp(value, "json") != 0 && strcmp(value, "text") != 0)
			return ctl_usage(p->c, "-o %s: only json and text are known", quote(value));
		p->c->json = strcmp(value, "json") == 0;
		return CTL_OK;
	case 2:
		p->help = true;
		return CTL_OK;
	default:
		p->version = true;
		return CTL_OK;
	}
}

static int unknown_opt(struct parse *p, const struct given *g)
{
	const char *names[CTL_OPTS_MAX + ARRAY_LEN(global_opts)], *nearest = NULL;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_LEN(global_opts); i++)
		names[n++] = global_opts[i].name;
	for (size_t i = 0; p->c->verb != NULL && i < CTL_OPTS_MAX && p->c->verb->opts[i].name; i++)
		names[n++] = p->c->verb->opts[i].name;
	if (g->is_long)
		nearest = str_nearest(g->text + 2, names, n);
	if (nearest != NULL)
		return ctl_usage(
			p->c, "there is no option %s; did you mean --%s?", quote(g->text), nearest);
	return ctl_usage(p->c, "there is no option %s", quote(g->text));
}

static int one_opt(struct parse *p)
{
	const char *text = p->argv[p->i], *value;
	struct given g = { .text = text, .is_long = text[1] == '-' };
	const char *eq = strchr(text, '=');
	int ret;

	if (g.is_long) {
		g.name_len = eq != NULL ? (size_t)(eq - text) - 2 : strlen(text) - 2;
		g.value = eq != NULL ? eq + 1 : NULL;
	} else if (text[2] != '\0') {
		g.value = text + 2;
	}
	for (size_t i = 0; p->c->verb != NULL && i < CTL_OPTS_MAX && p->c->verb->opts[i].name;
		i++) {
		if (!opt_fits(&p->c->verb->opts[i], &g))
			continue;
		ret = opt_value(p, &p->c->verb->opts[i], &g, &value);
		if (ret == CTL_OK)
			p->c->values[i] = value;
		return ret;
	}
	for (size_t i = 0; i < ARRAY_LEN(global_opts); i++) {
		if (!opt_fits(&global_opts[i], &g))
			continue;
		ret = opt_value(p, &global_opts[i], &g, &value);
		return ret == CTL_OK ? global_opt(p, &global_opts[i], value) : ret;
	}
	return unknown_opt(p, &g);
}

/* The verb's words come before anything else but global options. */
static int one_word(struct parse *p)
{
	struct ctl *c = p->c;
	size_t used;

	if (c->verb != NULL) {
		strv_add(&c->args, p->argv[p->i]);
		return CTL_OK;
	}
	p->words[p->nwords++] = p->argv[p->i];
	c->verb = verb_find(p->words, p->nwords, &used);
	if (c->verb != NULL)
		return CTL_OK;
	/* The first of two words is no mistake yet. */
	if (p->nwords == 1) {
		size_t len = strlen(p->words[0]);

		for (size_t i = 0; i < nverbs; i++) {
			if (strncmp(verbs[i].name, p->words[0], len) == 0 &&
				verbs[i].name[len] == ' ')
				return CTL_OK;
		}
	}
	return no_verb(c, p->words, p->nwords);
}

static int check_counts(const struct ctl *c)
{
	const struct verb *v = c->verb;

	if (c->args.bad)
		return ctl_fail("out of memory");
	if (c->args.n < v->min)
		return ctl_usage(c, "%s needs %s", v->name, v->args);
	if (c->args.n > v->max && v->max == 0)
		return ctl_usage(
			c, "%s takes no argument, but there is %s", v->name, quote(c->args.v[0]));
	if (c->args.n > v->max)
		return ctl_usage(
			c, "%s: %s is one argument too many", v->name, quote(c->args.v[v->max]));
	return CTL_OK;
}

/* What is for another program is not looked at; the first "--" before it is ours. */
static void take_rest(struct parse *p)
{
	if (p->i < p->argc && strcmp(p->argv[p->i], "--") == 0)
		p->i++;
	for (; p->i < p->argc; p->i++)
		strv_add(&p->c->args, p->argv[p->i]);
}

int ctl_parse(struct ctl *c, int argc, char **argv)
{
	struct parse p = { .c = c, .argv = argv, .argc = argc };
	bool only_words = false;

	for (p.i = 1; p.i < argc; p.i++) {
		const char *a = argv[p.i];
		/* "-1" and "-" are arguments. */
		bool is_opt = !only_words && a[0] == '-' && a[1] != '\0' &&
			      !(a[1] >= '0' && a[1] <= '9');
		int ret = CTL_OK;

		if (c->verb != NULL && c->verb->rest && c->args.n > 0 &&
			(!is_opt || strcmp(a, "--") == 0)) {
			take_rest(&p);
			break;
		}
		if (is_opt && strcmp(a, "--") == 0)
			only_words = true;
		else
			ret = is_opt ? one_opt(&p) : one_word(&p);
		if (ret != CTL_OK)
			return ret;
	}
	if (p.help) {
		c->group = c->verb == NULL && p.nwords > 0 ? p.words[0] : NULL;
		return -1;
	}
	if (p.version) {
		size_t used;

		c->verb = verb_find((const char *const[]){ "version" }, 1, &used);
		return CTL_OK;
	}
	if (c->verb == NULL)
		return p.nwords > 0 ? half_verb(c, p.words, p.nwords)
				    : ctl_usage(c, "what shall be done?");
	return check_counts(c);
}
