#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"
#include "supervisor/plan.h"

#include "supervisor/network-values.h"

const char *plan_op_name(enum plan_op op)
{
	static const char *const names[] = {
		[PLAN_START] = "start",
		[PLAN_STOP] = "stop",
		[PLAN_RESTART] = "restart",
		[PLAN_RECREATE] = "recreate",
		[PLAN_UPDATE] = "update",
		[PLAN_REMOVE] = "remove",
		[PLAN_DEFER] = "defer",
		[PLAN_ADD] = "add",
	};

	return names[op];
}

/* The plan in the making. */
struct maker {
	struct plan plan;
	const struct config *wanted;
	const struct observed **sorted; /* by kind and name */
	size_t nobserved;
	struct buf text;    /* scratch for values */
	struct buf *causes; /* of each network: why it is recreated, or empty */
	bool renamed;       /* run_id differs */
	struct buf rename_cause;
	bool nomem;
};

/* How a section differs from what was applied. */
struct change {
	struct strv keys;
	struct buf reason;
	enum reload_class class; /* the gravest */
};

static void change_finish(struct change *c)
{
	strv_finish(&c->keys);
	buf_finish(&c->reason);
}

static int compare_observed(const struct observed *a, const struct observed *b)
{
	return a->kind != b->kind ? (int)a->kind - (int)b->kind : strcmp(a->name, b->name);
}

static int compare_pointers(const void *a, const void *b)
{
	return compare_observed(
		*(const struct observed *const *)a, *(const struct observed *const *)b);
}

static const struct observed *find_observed(
	const struct maker *m, enum section_kind kind, const char *name)
{
	const struct observed key = { .kind = kind, .name = name }, *k = &key, **hit;

	hit = bsearch(&k, m->sorted, m->nobserved, sizeof(*m->sorted), compare_pointers);
	return hit == NULL ? NULL : *hit;
}

/* Takes over c's keys; reason is copied. */
static void add_action(struct maker *m, enum plan_op op, enum section_kind kind, const char *name,
	const char *reason, struct change *c)
{
	struct plan *p = &m->plan;
	struct plan_action *a;

	if ((p->n & (p->n - 1)) == 0) {
		a = realloc(p->v, (p->n == 0 ? 1 : 2 * p->n) * sizeof(*a));
		if (a == NULL) {
			m->nomem = true;
			return;
		}
		p->v = a;
	}
	a = &p->v[p->n++];
	*a = (struct plan_action){ .op = op, .kind = kind };
	/* Owned by the plan, which may outlive config and observed. */
	a->name = strdup(name);
	a->reason = strdup(reason);
	if (c != NULL) {
		a->keys = c->keys;
		c->keys = (struct strv){ 0 };
	}
	m->nomem |= a->name == NULL || a->reason == NULL || a->keys.bad;
}

/* A value within a sentence: lists with commas, long ones cut. */
static void add_value(struct buf *out, const char *text)
{
	size_t i, n = strlen(text), max = 60;

	if (n == 0) {
		buf_adds(out, "(none)");
		return;
	}
	if (n > max) {
		/* Not within a UTF-8 sequence. */
		for (n = max; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
			n--;
	}
	for (i = 0; i < n; i++) {
		if (text[i] == '\n')
			buf_adds(out, ", ");
		else
			buf_add(out, &text[i], 1);
	}
	if (text[n] != '\0')
		buf_adds(out, "...");
}

static void add_change(
	struct change *c, const struct config_key *k, const char *from, const char *to)
{
	if (c->keys.n > 0)
		buf_adds(&c->reason, "; ");
	buf_printf(&c->reason, "%s: ", k->name);
	add_value(&c->reason, from);
	buf_adds(&c->reason, " -> ");
	add_value(&c->reason, to);
	strv_add(&c->keys, k->name);
	if (c->keys.n == 1 || k->reload > c->class)
		c->class = k->reload;
}

/* NULL applied: nothing is known to differ. */
static void compare(
	struct maker *m, const struct config_section *s, const json_t *applied, struct change *out)
{
	size_t i;

	*out = (struct change){ 0 };
	if (applied == NULL)
		return;
	for (i = 0; i < config_nkeys; i++) {
		const struct config_key *k = &config_keys[i];
		const char *was, *now;

		if (k->section != s->kind || k->meta)
			continue;
		was = json_str(applied, k->name);
		if (was == NULL)
			was = k->def == NULL ? "" : k->def;
		buf_clear(&m->text);
		config_value_text(s, k, &m->text);
		now = buf_str(&m->text);
		if (strcmp(was, now) != 0)
			add_change(out, k, was, now);
	}
	m->nomem |= out->keys.bad || out->reason.bad || m->text.bad;
}

static enum plan_op op_of(enum reload_class class)
{
	return class == RELOAD_LIVE      ? PLAN_UPDATE
	       : class == RELOAD_RESTART ? PLAN_RESTART
					 : PLAN_RECREATE;
}

static const char gone[] = "no longer in the configuration";

static void plan_removals(
	struct maker *m, enum section_kind kind, const struct observed *v, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (v[i].kind == kind && !v[i].removed &&
			config_find(m->wanted, kind, v[i].name) == NULL)
			add_action(m, PLAN_REMOVE, kind, v[i].name, gone, NULL);
}

static void plan_stops(struct maker *m)
{
	const struct config_array *a = &m->wanted->by_kind[SECTION_VM];
	size_t i;

	for (i = 0; i < a->n; i++) {
		const struct observed *o = find_observed(m, SECTION_VM, a->v[i]->name);

		if (o != NULL && o->active && o->want_known && !o->want_running)
			add_action(
				m, PLAN_STOP, SECTION_VM, o->name, "was stopped by a person", NULL);
	}
}

static void plan_drover(struct maker *m)
{
	const struct config_section *s = &m->wanted->drover->s;
	const struct observed *o = find_observed(m, SECTION_DROVER, "");
	struct change c;

	if (o == NULL)
		return;
	compare(m, s, o->applied, &c);
	if (strv_has(&c.keys, "run_id")) {
		const char *was = json_str(o->applied, "run_id");

		m->renamed = true;
		buf_printf(&m->rename_cause, "run_id: %s -> %s", was == NULL ? "default" : was,
			m->wanted->drover->run_id);
		m->nomem |= m->rename_cause.bad;
	}
	if (c.keys.n > 0)
		add_action(m, op_of(c.class), SECTION_DROVER, "", buf_str(&c.reason), &c);
	change_finish(&c);
}

static void plan_service(struct maker *m, const struct config_section *s, struct buf *cause)
{
	const struct observed *o = find_observed(m, s->kind, s->name);
	bool starts = s->kind == SECTION_REGISTRY;
	struct change c;

	if (o == NULL || o->applied == NULL || o->removed) {
		/* What is up although nothing is known to be applied is left alone. */
		if (o == NULL || !o->active || o->removed)
			add_action(m, starts ? PLAN_START : PLAN_ADD, s->kind, s->name, "is new",
				NULL);
		return;
	}
	compare(m, s, o->applied, &c);
	if (c.keys.n > 0) {
		if (c.class == RELOAD_RECREATE && cause != NULL)
			buf_printf(cause, "network '%s': %s", s->name, buf_str(&c.reason));
		add_action(m, op_of(c.class), s->kind, s->name, buf_str(&c.reason), &c);
	} else if (!o->active && !o->failed && s->kind != SECTION_KEY) {
		add_action(m, PLAN_START, s->kind, s->name, "is not up", NULL);
	}
	change_finish(&c);
}

static void plan_services(struct maker *m)
{
	static const enum section_kind order[] = { SECTION_REGISTRY, SECTION_NETWORK, SECTION_KEY };
	size_t i, k;

	for (k = 0; k < ARRAY_LEN(order); k++) {
		const struct config_array *a = &m->wanted->by_kind[order[k]];

		for (i = 0; i < a->n; i++)
			plan_service(
				m, a->v[i], order[k] == SECTION_NETWORK ? &m->causes[i] : NULL);
	}
}

/*
 * A public key is written into the machine's disk at its start. Our own half, `private`, is not.
 */
static void add_key_causes(struct maker *m, const struct vm_config *vm, struct change *c)
{
	for (size_t i = 0; i < vm->ssh_keys.n; i++) {
		const char *name = vm->ssh_keys.v[i];
		const struct observed *o = find_observed(m, SECTION_KEY, name);
		const struct config_section *s = config_find(m->wanted, SECTION_KEY, name);
		struct change key;

		if (o == NULL || o->applied == NULL || o->removed || s == NULL)
			continue;
		compare(m, s, o->applied, &key);
		if (key.keys.n > 0 && !(key.keys.n == 1 && strv_has(&key.keys, "private"))) {
			buf_printf(&c->reason, "%skey '%s': %s", c->reason.len == 0 ? "" : "; ",
				name, buf_str(&key.reason));
			c->class = MAX(c->class, RELOAD_RESTART);
		}
		change_finish(&key);
	}
}

/* What restarts or recreates a machine although none of its own keys changed. */
static void add_outer_causes(struct maker *m, const struct vm_config *vm, struct change *c)
{
	const struct config_array *a = &m->wanted->by_kind[SECTION_NETWORK];
	size_t i;

	if (m->renamed) {
		buf_printf(&c->reason, "%s%s", c->reason.len == 0 ? "" : "; ",
			buf_str(&m->rename_cause));
		c->class = RELOAD_RECREATE;
	}
	for (i = 0; i < a->n; i++) {
		if (m->causes[i].len == 0 || !vm_is_on_network(vm, a->v[i]->name))
			continue;
		buf_printf(
			&c->reason, "%s%s", c->reason.len == 0 ? "" : "; ", buf_str(&m->causes[i]));
		c->class = RELOAD_RECREATE;
	}
	add_key_causes(m, vm, c);
	m->nomem |= c->reason.bad;
}

static void plan_new_machine(struct maker *m, const struct vm_config *vm, const struct observed *o)
{
	bool known = o != NULL && o->want_known;
	const char *reason;

	/* It runs, but nobody knows from what: better left alone than restarted. */
	if (o != NULL && o->active && !o->removed)
		return;
	if (known ? o->want_running : vm->autostart) {
		add_action(m, PLAN_START, SECTION_VM, vm->s.name,
			known ? "was started by a person" : "is new", NULL);
		return;
	}
	reason = known ? "is new; was stopped by a person" : "is new; autostart = no";
	add_action(m, PLAN_ADD, SECTION_VM, vm->s.name, reason, NULL);
}

/* A change that was put off is not put off again. */
static bool already_deferred(struct maker *m, const struct vm_config *vm, const struct observed *o)
{
	json_t *now;
	bool same;

	if (o->deferred == NULL)
		return false;
	now = plan_applied(&vm->s);
	m->nomem |= now == NULL;
	same = json_equal(now, o->deferred);
	json_decref(now);
	return same;
}

static void plan_machine(struct maker *m, const struct vm_config *vm)
{
	const struct observed *o = find_observed(m, SECTION_VM, vm->s.name);
	struct change c;

	if (o == NULL || o->removed || o->applied == NULL) {
		plan_new_machine(m, vm, o);
		return;
	}
	if (o->want_known ? !o->want_running : !o->active && !vm->autostart)
		return;
	compare(m, &vm->s, o->applied, &c);
	add_outer_causes(m, vm, &c);
	if (c.reason.len == 0) {
		if (!o->active && !o->failed)
			add_action(m, PLAN_START, SECTION_VM, vm->s.name, "is not running", NULL);
	} else {
		/* Without a run a change needs no restart, but a new disk all the same. */
		enum plan_op op = o->active || c.class == RELOAD_RECREATE ? op_of(c.class)
									  : PLAN_START;

		if (o->active && op != PLAN_UPDATE && vm->on_change == ON_CHANGE_DEFER)
			op = PLAN_DEFER;
		if (op != PLAN_DEFER || !already_deferred(m, vm, o))
			add_action(m, op, SECTION_VM, vm->s.name, buf_str(&c.reason), &c);
	}
	change_finish(&c);
}

static void first_loop(void *arg, size_t at, const char *path)
{
	struct err *err = arg;

	if (err->code == 0)
		err_set(err, -ELOOP, "machines refer to one another in a loop: %s", path);
}

static int plan_machines(struct maker *m, struct err *err)
{
	const struct config_array *a = &m->wanted->by_kind[SECTION_VM];
	size_t i, *order = calloc(a->n + 1, sizeof(*order));
	struct err loop = { 0 };
	int rc = 0;

	if (order == NULL || config_vm_order(m->wanted, order, first_loop, &loop) < 0) {
		rc = err_nomem(err);
	} else if (loop.code < 0) {
		rc = err_set(err, loop.code, "%s", loop.msg);
	} else {
		for (i = 0; i < a->n; i++)
			plan_machine(m, (const void *)a->v[order[i]]);
	}
	free(order);
	return rc;
}

int plan_make(struct plan *out, const struct config *wanted, const struct observed *observed,
	size_t nobserved, struct err *err)
{
	struct maker m = { .wanted = wanted, .nobserved = nobserved };
	size_t i, nnetworks = wanted->by_kind[SECTION_NETWORK].n;
	int rc;

	m.sorted = calloc(nobserved + 1, sizeof(*m.sorted));
	m.causes = calloc(nnetworks + 1, sizeof(*m.causes));
	if (m.sorted == NULL || m.causes == NULL) {
		rc = err_nomem(err);
		goto out;
	}
	for (i = 0; i < nobserved; i++)
		m.sorted[i] = &observed[i];
	qsort(m.sorted, nobserved, sizeof(*m.sorted), compare_pointers);
	/* What machines use goes after them. */
	plan_removals(&m, SECTION_VM, observed, nobserved);
	plan_stops(&m);
	plan_removals(&m, SECTION_NETWORK, observed, nobserved);
	plan_removals(&m, SECTION_REGISTRY, observed, nobserved);
	plan_removals(&m, SECTION_KEY, observed, nobserved);
	plan_drover(&m);
	plan_services(&m);
	rc = plan_machines(&m, err);
	if (rc == 0 && m.nomem)
		rc = err_nomem(err);
out:
	for (i = 0; m.causes != NULL && i < nnetworks; i++)
		buf_finish(&m.causes[i]);
	free(m.causes);
	free(m.sorted);
	buf_finish(&m.text);
	buf_finish(&m.rename_cause);
	if (rc < 0)
		plan_finish(&m.plan);
	else
		*out = m.plan;
	return rc;
}

void plan_finish(struct plan *p)
{
	size_t i;

	for (i = 0; i < p->n; i++) {
		free((void *)(uintptr_t)p->v[i].name);
		free(p->v[i].reason);
		strv_finish(&p->v[i].keys);
	}
	free(p->v);
	*p = (struct plan){ 0 };
}

static json_t *action_json(const struct plan_action *a)
{
	json_t *o = json_object(), *keys = json_array();
	size_t i;
	int rc = 0;

	rc |= json_put_str(o, "op", plan_op_name(a->op));
	rc |= json_put_str(o, "kind", section_kind_name(a->kind));
	rc |= json_put_str(o, "name", a->name);
	rc |= json_put_str(o, "reason", a->reason);
	for (i = 0; i < a->keys.n; i++)
		rc |= json_array_append_new(keys, json_string(a->keys.v[i]));
	rc |= json_object_set_new(o, "keys", keys);
	if (rc != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *plan_json(const struct plan *p)
{
	json_t *o = json_object(), *actions = json_array();
	size_t i;
	int rc = 0;

	for (i = 0; i < p->n && rc == 0; i++)
		rc = json_array_append_new(actions, action_json(&p->v[i]));
	if (json_object_set_new(o, "actions", actions) < 0 || rc < 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

json_t *plan_applied(const struct config_section *s)
{
	json_t *o = json_object();
	struct buf text = { 0 };
	size_t i;
	int rc = 0;

	for (i = 0; i < config_nkeys && rc == 0; i++) {
		const struct config_key *k = &config_keys[i];

		if (k->section != s->kind || k->meta)
			continue;
		buf_clear(&text);
		config_value_text(s, k, &text);
		if (strcmp(buf_str(&text), k->def == NULL ? "" : k->def) != 0)
			rc = json_put_str(o, k->name, buf_str(&text));
	}
	if (rc < 0 || text.bad) {
		json_decref(o);
		o = NULL;
	}
	buf_finish(&text);
	return o;
}
