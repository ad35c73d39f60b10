/* {{...}} in values: what is known when the file is read, and what is when a machine starts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "supervisor/config-priv.h"

enum ref_type {
	REF_GUEST_ID,
	REF_NAME,
	REF_ENV,
	REF_MAC,
	REF_SECTION,
	REF_BAD
};

/* Sections that may be referred to, each with the one field that it has. */
static const struct {
	const char *word;
	enum section_kind kind;
	const char *field;
} ref_sections[] = {
	{ "key", SECTION_KEY, "public" },
	{ "network", SECTION_NETWORK, "bridge" },
	{ "vm", SECTION_VM, "address" },
};

struct ref {
	enum ref_type type;
	enum section_kind kind; /* REF_SECTION */
	char name[256];         /* of the section or the variable */
	const char *word;       /* REF_SECTION: of ref_sections */
	const char *field;      /* the one that the section has */
	char last[64];          /* the one that was asked for */
};

/* One substitution under way. */
struct subst {
	struct load *l;
	const struct config_section *s;
	const struct config_key *k;
	const char *file;
	unsigned line;
};

#define subst_error(x, fmt, ...)                                                                   \
	load_error((x)->l, (x)->file, (x)->line, "%s: " fmt, (x)->k->name, ##__VA_ARGS__)

bool text_is_late(const char *text)
{
	return strstr(text, "{{") != NULL;
}

/*
 * The next {{...}} in text: *start is at its braces, *end behind them, ref (of len bytes) is what
 * is between, trimmed. 0 there is none, 1 there is, -EINVAL the end is missing.
 */
static int next_ref(
	const char *text, const char **start, const char **end, const char **ref, size_t *len)
{
	const char *stop;

	*start = strstr(text, "{{");
	if (*start == NULL)
		return 0;
	*ref = *start + 2;
	stop = strstr(*ref, "}}");
	if (stop == NULL)
		return -EINVAL;
	*end = stop + 2;
	while (*ref < stop && (**ref == ' ' || **ref == '\t'))
		(*ref)++;
	while (stop > *ref && (stop[-1] == ' ' || stop[-1] == '\t'))
		stop--;
	*len = (size_t)(stop - *ref);
	return 1;
}

/* The first and the last part are keywords, all between is the name, which may have dots. */
static struct ref parse_ref(const char *text, size_t len)
{
	static const struct {
		const char *word;
		enum ref_type type;
	} words[] = { { "guestId", REF_GUEST_ID }, { "name", REF_NAME },
		{ "macAddress", REF_MAC } };
	struct ref r = { .type = REF_BAD };
	const char *first, *last;
	size_t i, n;

	for (i = 0; i < ARRAY_LEN(words); i++)
		if (strlen(words[i].word) == len && memcmp(text, words[i].word, len) == 0)
			r.type = words[i].type;
	first = memchr(text, '.', len);
	if (r.type != REF_BAD || first == NULL)
		return r;
	first++;
	if (first - text == 4 && memcmp(text, "env.", 4) == 0) {
		r.type = REF_ENV;
		n = len - 4;
		snprintf(r.name, sizeof(r.name), "%.*s", (int)MIN(n, sizeof(r.name) - 1), first);
		return r;
	}
	last = memrchr(text, '.', len);
	for (i = 0; i < ARRAY_LEN(ref_sections); i++) {
		n = strlen(ref_sections[i].word);
		if ((size_t)(first - 1 - text) != n || memcmp(text, ref_sections[i].word, n) != 0)
			continue;
		r.type = REF_SECTION;
		r.kind = ref_sections[i].kind;
		r.word = ref_sections[i].word;
		r.field = ref_sections[i].field;
		if (last < first) /* {{vm.NAME}} */
			last = text + len;
		n = (size_t)(last - first);
		snprintf(r.name, sizeof(r.name), "%.*s", (int)MIN(n, sizeof(r.name) - 1), first);
		n = last < text + len ? (size_t)(text + len - last - 1) : 0;
		snprintf(r.last, sizeof(r.last), "%.*s", (int)MIN(n, sizeof(r.last) - 1), last + 1);
	}
	return r;
}

static void unknown_ref(struct subst *x, const char *text, size_t len)
{
	static const char *const all[] = { "guestId", "name", "macAddress", "env.NAME",
		"key.NAME.public", "network.NAME.bridge", "vm.NAME.address" };
	static const char *const firsts[] = { "env", "key", "network", "vm" };
	static const char *const forms[] = { "env.NAME", "key.NAME.public", "network.NAME.bridge",
		"vm.NAME.address" };
	const char *dot = memchr(text, '.', len), *near;
	char word[64];
	size_t i, n = dot == NULL ? len : (size_t)(dot - text);

	snprintf(word, sizeof(word), "%.*s", (int)MIN(n, sizeof(word) - 1), text);
	if (dot == NULL) {
		near = str_nearest(word, all, 3);
	} else {
		near = str_nearest(word, firsts, ARRAY_LEN(firsts));
		for (i = 0; near != NULL && i < ARRAY_LEN(firsts); i++)
			if (near == firsts[i])
				near = forms[i];
	}
	subst_error(x, "unknown reference %s%s", quote_n(text, len), did_you_mean(near));
}

static bool put_env(struct subst *x, const struct ref *ref, struct buf *out)
{
	const char *value = getenv(ref->name), *p;

	if (value == NULL) {
		subst_error(x, "the environment variable %s is not set", quote(ref->name));
		return false;
	}
	for (p = value; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 && *p != '\t')
			break;
	if (*p != '\0' || text_is_late(value)) {
		subst_error(x,
			"the environment variable %s has a line end, another control "
			"character or '{{' in it",
			quote(ref->name));
		return false;
	}
	buf_adds(out, value);
	return true;
}

/* What stays in the text must make sense already now. */
static bool check_late(struct subst *x, const struct ref *ref, const char *text, size_t len)
{
	const struct config *c = &x->l->c->pub;

	if (!x->k->late) {
		subst_error(x, "%s is known only when the machine starts and cannot be used here",
			quote_n(text, len));
		return false;
	}
	if (ref->type == REF_MAC)
		return true;
	if (strcmp(ref->last, ref->field) != 0) {
		subst_error(x, "%s: a %s has no field %s; write {{%s.NAME.%s}}", quote_n(text, len),
			ref->word, quote(ref->last), ref->word, ref->field);
		return false;
	}
	if (config_find(c, ref->kind, ref->name) == NULL) {
		subst_error(x, "%s: there is no [%s %.80s]%s", quote_n(text, len),
			section_kind_name(ref->kind), ref->name,
			did_you_mean(config_nearest(c, ref->kind, ref->name)));
		return false;
	}
	return true;
}

static bool is_machine(const struct config_section *s)
{
	return s->kind == SECTION_VM || s->kind == SECTION_TEMPLATE;
}

static bool put_ref(struct subst *x, const char *text, size_t len, struct buf *out)
{
	const struct vm_config *vm = (const void *)x->s;
	struct ref ref = parse_ref(text, len);

	switch (ref.type) {
	case REF_GUEST_ID:
		if (!is_machine(x->s))
			break;
		buf_printf(out, "%lld", (long long)MAX(vm->guest_id, 0));
		return true;
	case REF_NAME:
		if (x->s->kind == SECTION_DROVER)
			break;
		buf_adds(out, x->s->name);
		return true;
	case REF_ENV:
		return put_env(x, &ref, out);
	case REF_MAC:
	case REF_SECTION:
		if (!check_late(x, &ref, text, len))
			return false;
		buf_printf(out, "{{%.*s}}", (int)len, text);
		return true;
	case REF_BAD:
		unknown_ref(x, text, len);
		return false;
	}
	subst_error(
		x, "%s has no meaning in [%s]", quote_n(text, len), section_kind_name(x->s->kind));
	return false;
}

char *subst_text(struct load *l, const struct config_section *s, const struct config_key *k,
	const char *file, unsigned line, const char *text)
{
	struct subst x = { l, s, k, file, line };
	const char *start, *end, *ref;
	struct buf out = { 0 };
	bool good = true;
	size_t len;
	char *copy;
	int rc;

	while ((rc = next_ref(text, &start, &end, &ref, &len)) == 1) {
		buf_add(&out, text, (size_t)(start - text));
		good &= put_ref(&x, ref, len, &out);
		text = end;
	}
	buf_adds(&out, text);
	if (rc < 0)
		subst_error(&x, "'}}' is missing behind %s", quote(start));
	copy = buf_steal(&out);
	if (copy == NULL)
		l->nomem = true;
	if (good && rc == 0)
		return copy;
	free(copy);
	return NULL;
}

char *subst_kept(struct load *l, const char *text)
{
	const char *start, *end, *ref, *value;
	struct buf out = { 0 };
	bool own = false;
	size_t len;
	char *copy;

	while (next_ref(text, &start, &end, &ref, &len) == 1) {
		struct ref r = parse_ref(ref, len);

		buf_add(&out, text, (size_t)(start - text));
		value = r.type == REF_ENV ? getenv(r.name) : NULL;
		if (value != NULL)
			buf_adds(&out, value);
		else
			buf_printf(&out, "{{%.*s}}", (int)len, ref);
		own = own || r.type == REF_NAME || r.type == REF_GUEST_ID;
		text = end;
	}
	buf_adds(&out, text);
	copy = buf_steal(&out);
	if (copy == NULL)
		l->nomem = true;
	if (own)
		return copy;
	free(copy);
	return NULL;
}

int config_expand(
	const char *value, config_lookup_fn *lookup, void *arg, char **out, struct err *err)
{
	const char *start, *end, *ref;
	struct buf b = { 0 };
	char *name, *found;
	size_t len;
	int rc;

	while ((rc = next_ref(value, &start, &end, &ref, &len)) == 1) {
		buf_add(&b, value, (size_t)(start - value));
		name = strndup(ref, len);
		found = name == NULL ? NULL : lookup(arg, name, err);
		if (found == NULL) {
			rc = name == NULL ? err_nomem(err) : err_wrap(err, "%s", quote(name));
			free(name);
			buf_finish(&b);
			return rc;
		}
		buf_adds(&b, found);
		free(found);
		free(name);
		value = end;
	}
	buf_adds(&b, value);
	name = buf_steal(&b);
	if (name == NULL)
		return err_nomem(err);
	*out = name;
	return 0;
}

static void add_references(const char *text, struct strv *out)
{
	const char *start, *end, *ref;
	size_t len;

	while (text != NULL && next_ref(text, &start, &end, &ref, &len) == 1) {
		struct ref r = parse_ref(ref, len);

		if (r.type == REF_SECTION && r.kind == SECTION_VM && !strv_has(out, r.name))
			strv_add(out, r.name);
		text = end;
	}
}

int config_vm_references(const struct vm_config *vm, struct strv *out)
{
	size_t i, j, n;
	const struct config_key *keys = section_keys(SECTION_VM, &n);
	struct strv names = { 0 };

	for (i = 0; i < n; i++) {
		if (!keys[i].late)
			continue;
		if (keys[i].type == KEY_STRING) {
			add_references(*(char **)key_member(&vm->s, &keys[i]), &names);
		} else {
			const struct strv *list = key_member(&vm->s, &keys[i]);

			for (j = 0; j < list->n; j++)
				add_references(list->v[j], &names);
		}
	}
	for (i = 0; i < vm->after.n; i++) {
		if (!strv_has(&names, vm->after.v[i]))
			strv_add(&names, vm->after.v[i]);
	}
	if (vm->from != NULL && !strv_has(&names, vm->from))
		strv_add(&names, vm->from);
	if (names.bad) {
		strv_finish(&names);
		return -ENOMEM;
	}
	*out = names;
	return 0;
}
