/* The order of the machines: what is referred to comes first. */
#include <errno.h>
#include <stdlib.h>
#include "supervisor/config-priv.h"

enum mark {
	NEW,
	OPEN,
	DONE
};

/* A machine on the way down through references; no recursion, because chains may be long. */
struct step {
	size_t at;
	size_t next; /* which of refs to look at */
	struct strv refs;
};

struct walk {
	const struct config *c;
	const struct config_impl *impl;
	unsigned char *mark;
	struct step *stack;
	size_t depth;
	config_loop_fn *loop;
	void *arg;
};

static const char *name_at(const struct walk *w, size_t at)
{
	return w->c->by_kind[SECTION_VM].v[at]->name;
}

static int push(struct walk *w, size_t at)
{
	const struct vm_config *vm = (const void *)w->c->by_kind[SECTION_VM].v[at];
	struct step *s = &w->stack[w->depth];

	*s = (struct step){ .at = at };
	if (config_vm_references(vm, &s->refs) < 0)
		return -ENOMEM;
	w->mark[at] = OPEN;
	w->depth++;
	return 0;
}

static int report_loop(struct walk *w, size_t at)
{
	struct buf b = { 0 };
	size_t i = w->depth;

	while (w->stack[i - 1].at != at)
		i--;
	for (; i <= w->depth; i++)
		buf_printf(&b, "'%s' -> ", name_at(w, w->stack[i - 1].at));
	buf_printf(&b, "'%s'", name_at(w, at));
	if (!b.bad)
		w->loop(w->arg, at, buf_str(&b));
	buf_finish(&b);
	return b.bad ? -ENOMEM : 0;
}

static int visit(struct walk *w, size_t at, size_t *order, size_t *n)
{
	if (w->mark[at] != NEW)
		return 0;
	if (push(w, at) < 0)
		return -ENOMEM;
	while (w->depth > 0) {
		struct step *s = &w->stack[w->depth - 1];
		ssize_t ref;

		if (s->next == s->refs.n) {
			w->mark[s->at] = DONE;
			order[(*n)++] = s->at;
			strv_finish(&s->refs);
			w->depth--;
			continue;
		}
		ref = config_find_at(w->impl, SECTION_VM, s->refs.v[s->next++]);
		if (ref < 0 || w->mark[ref] == DONE)
			continue;
		if (w->mark[ref] == OPEN ? report_loop(w, (size_t)ref) < 0
					 : push(w, (size_t)ref) < 0)
			return -ENOMEM;
	}
	return 0;
}

int config_vm_order(const struct config *c, size_t *order, config_loop_fn *loop, void *arg)
{
	size_t i, n = 0, count = c->by_kind[SECTION_VM].n;
	struct walk w = { .c = c, .loop = loop, .arg = arg };
	int rc = 0;

	w.impl = container_of(c, const struct config_impl, pub);
	w.mark = calloc(count + 1, 1);
	w.stack = calloc(count + 1, sizeof(*w.stack));
	if (w.mark == NULL || w.stack == NULL)
		rc = -ENOMEM;
	for (i = 0; i < count && rc == 0; i++)
		rc = visit(&w, i, order, &n);
	while (w.depth > 0)
		strv_finish(&w.stack[--w.depth].refs);
	free(w.stack);
	free(w.mark);
	return rc;
}
