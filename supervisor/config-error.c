#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "supervisor/config-priv.h"

void config_errors_finish(struct config_errors *e)
{
	size_t i;

	for (i = 0; i < e->n; i++) {
		free(e->v[i].file);
		free(e->v[i].message);
	}
	free(e->v);
	*e = (struct config_errors){ 0 };
}

void config_errors_print(const struct config_errors *e, struct buf *out)
{
	size_t i;

	for (i = 0; i < e->n; i++) {
		if (e->v[i].line == 0)
			buf_printf(out, "%s: %s\n", e->v[i].file, e->v[i].message);
		else
			buf_printf(out, "%s:%u: %s\n", e->v[i].file, e->v[i].line, e->v[i].message);
	}
}

/* The table never gets more than half full; 0 marks a free place. */
static bool seen_grow(struct load *l)
{
	size_t i, cap = l->seen_cap == 0 ? 64 : 2 * l->seen_cap;
	uint64_t *v = calloc(cap, sizeof(*v));

	if (v == NULL)
		return false;
	for (i = 0; i < l->seen_cap; i++) {
		size_t at = l->seen[i] & (cap - 1);

		if (l->seen[i] == 0)
			continue;
		while (v[at] != 0)
			at = (at + 1) & (cap - 1);
		v[at] = l->seen[i];
	}
	free(l->seen);
	l->seen = v;
	l->seen_cap = cap;
	return true;
}

/* True if this mistake was reported before: a template's value is looked at for each machine. */
static bool seen_before(struct load *l, const char *file, unsigned line, const char *msg)
{
	uint64_t h = hash64(msg, strlen(msg), HASH64_SEED);
	size_t at;

	h = hash64(file, strlen(file), h);
	h = hash64(&line, sizeof(line), h) | 1;
	if (2 * l->nseen >= l->seen_cap && !seen_grow(l)) {
		l->nomem = true;
		return true;
	}
	for (at = h & (l->seen_cap - 1); l->seen[at] != 0; at = (at + 1) & (l->seen_cap - 1))
		if (l->seen[at] == h)
			return true;
	l->seen[at] = h;
	l->nseen++;
	return false;
}

void load_error(struct load *l, const char *file, unsigned line, const char *fmt, ...)
{
	struct config_errors *e = &l->errors;
	char msg[ERR_MSG_MAX];
	struct config_error *v = e->v;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (seen_before(l, file, line, msg))
		return;
	if ((e->n & (e->n - 1)) == 0) {
		v = realloc(v, (e->n == 0 ? 1 : 2 * e->n) * sizeof(*v));
		if (v == NULL) {
			l->nomem = true;
			return;
		}
		e->v = v;
	}
	v[e->n] = (struct config_error){ .line = line };
	v[e->n].file = strdup(file);
	v[e->n].message = strdup(msg);
	if (v[e->n].file == NULL || v[e->n].message == NULL)
		l->nomem = true;
	e->n++;
}

const char *did_you_mean(const char *nearest)
{
	static _Thread_local char text[128];

	if (nearest == NULL)
		return "";
	snprintf(text, sizeof(text), "; did you mean '%s'?", nearest);
	return text;
}
