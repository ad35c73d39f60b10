#include "supervisor/reload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/image-prune.h"
#include "supervisor/machine.h"
#include "supervisor/pulse.h"
#include "supervisor/reconcile.h"
#include "supervisor/network-bridge.h"
#include "supervisor/registry.h"
#include "supervisor/faults.h"

/* Until a plan, or an action of it, that failed is tried again. */
#define CONVERGE_MIN_MS 1000
#define CONVERGE_MAX_MS 60000

/* ---- config boxes ---- */

struct config_box *config_box_create(struct config *c)
{
	struct config_box *box = calloc(1, sizeof(*box));

	if (box != NULL) {
		box->refs = 1;
		box->config = c;
	}
	return box;
}

struct config_box *config_box_ref(struct config_box *box)
{
	box->refs++;
	return box;
}

void config_box_unref(struct config_box *box)
{
	if (box == NULL || --box->refs > 0)
		return;
	config_destroy(box->config);
	free(box);
}

/* ---- {{guestId}} ---- */

/* Numbers given while a file is being read, which become the machines' own if it is applied. */
static struct {
	struct drover *d;
	char **names;
	int64_t *ids;
	size_t n;
} given;

static void given_clear(struct drover *d)
{
	for (size_t i = 0; i < given.n; i++)
		free(given.names[i]);
	free(given.names);
	free(given.ids);
	memset(&given, 0, sizeof(given));
	given.d = d;
}

static bool id_is_free(struct drover *d, int64_t id)
{
	struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		if (m->guest_id == id)
			return false;
	}
	for (size_t i = 0; i < given.n; i++) {
		if (given.ids[i] == id)
			return false;
	}
	return true;
}

int64_t drover_guest_id(void *arg, const char *vm)
{
	struct drover *d = arg;
	struct machine *m = machine_find(d, vm);
	int64_t id = given.n > 0 ? given.ids[given.n - 1] + 1 : 0;
	char **names;
	int64_t *ids;

	if (m != NULL && m->guest_id >= 0)
		return m->guest_id;
	/* Ids given in this reading rise, so the search goes on behind the last one. */
	while (!id_is_free(d, id))
		id++;
	names = realloc(given.names, (given.n + 1) * sizeof(*names));
	if (names != NULL)
		given.names = names;
	ids = realloc(given.ids, (given.n + 1) * sizeof(*ids));
	if (ids != NULL)
		given.ids = ids;
	if (names != NULL && ids != NULL) {
		given.names[given.n] = strdup(vm);
		given.ids[given.n++] = id;
	}
	return id;
}

/* ---- what is ---- */

struct seen {
	struct observed *v;
	size_t n;
	json_t *held; /* `applied` objects that only this holds */
};

static void seen_finish(struct seen *s)
{
	free(s->v);
	json_decref(s->held);
}

/*
 * A machine that has come to rest by itself, and whose policy leaves it there, is not started
 * by a plan; a reboot of the host starts it again.
 */
static bool stays_down(const struct machine *m)
{
	return m->state == MACHINE_FAILED ||
	       (m->state == MACHINE_STOPPED && (m->last_cause == CAUSE_GUEST_SHUTDOWN ||
						       m->last_cause == CAUSE_GUEST_REBOOT));
}

/* One that is on its way down for good is not: what wants it to run must start it afterwards. */
static bool is_active(const struct machine *m)
{
	if (m->state == MACHINE_STOPPING && (m->intent == INTENT_STOP || m->intent == INTENT_KILL))
		return false;
	return machine_active(m) || m->state == MACHINE_BACKOFF;
}

static void see_section(struct seen *s, const struct config_section *section, const json_t *applied)
{
	s->v[s->n++] = (struct observed){
		.kind = section->kind, .name = section->name, .applied = applied, .active = true
	};
}

/* `first`: nothing but machines and registries has been applied yet. */
static int see(struct drover *d, bool first, struct seen *s)
{
	const struct config *c = drover_config(d);
	static const enum section_kind kinds[] = { SECTION_DROVER, SECTION_NETWORK, SECTION_KEY };
	struct machine *m;
	size_t n = 1;

	list_for_each_entry (m, &d->machines, entry)
		n++;
	for (int k = 0; k < SECTION_KINDS; k++)
		n += c->by_kind[k].n;
	s->v = calloc(n + 1, sizeof(*s->v));
	s->held = json_array();
	s->n = 0;
	if (s->v == NULL || s->held == NULL)
		return -ENOMEM;
	list_for_each_entry (m, &d->machines, entry) {
		s->v[s->n++] = (struct observed){ .kind = SECTION_VM,
			.name = m->name,
			.applied = m->applied,
			.deferred = m->deferred,
			.active = is_active(m),
			.failed = stays_down(m),
			.want_known = m->want_known,
			.want_running = m->want_running,
			.removed = m->cfg == NULL && !machine_active(m) &&
				   m->state != MACHINE_BACKOFF };
	}
	for (size_t i = 0; i < c->by_kind[SECTION_REGISTRY].n; i++) {
		const struct config_section *section = c->by_kind[SECTION_REGISTRY].v[i];
		const json_t *applied = registry_applied(d, section->name);

		if (applied != NULL)
			see_section(s, section, applied);
	}
	for (size_t k = 0; !first && k < ARRAY_LEN(kinds); k++) {
		const struct config_section *one[] = { &c->drover->s };
		bool drover = kinds[k] == SECTION_DROVER;
		size_t count = drover ? 1 : c->by_kind[kinds[k]].n;

		for (size_t i = 0; i < count; i++) {
			const struct config_section *section = drover ? one[0]
								      : c->by_kind[kinds[k]].v[i];
			json_t *applied = plan_applied(section);

			json_array_append_new(s->held, applied);
			see_section(s, section, applied);
		}
	}
	return 0;
}

static int make_plan(struct drover *d, const struct config *wanted, bool first, struct plan *out,
	struct err *err)
{
	struct seen s = { 0 };
	int r = see(d, first, &s) < 0 ? err_nomem(err) : 0;

	if (r == 0)
		r = plan_make(out, wanted, s.v, s.n, err);
	seen_finish(&s);
	return r;
}

/* ---- applying ---- */

/* Machines of the new configuration, and where each one's section is now. */
static void bind_machines(struct drover *d)
{
	const struct config *c = drover_config(d);
	const struct config_array *a = &c->by_kind[SECTION_VM];
	struct machine *m;
	struct err err;

	list_for_each_entry (m, &d->machines, entry)
		m->cfg = NULL;
	for (size_t i = 0; i < a->n; i++) {
		const struct vm_config *cfg = (const struct vm_config *)(const void *)a->v[i];

		m = machine_find(d, cfg->s.name);
		if (m == NULL && machine_create(&m, d, cfg->s.name, &err) < 0) {
			log_error("vm %s: %s", cfg->s.name, err.msg);
			continue;
		}
		m->cfg = cfg;
		if (m->guest_id != cfg->guest_id) {
			m->guest_id = cfg->guest_id;
			if (machine_save(m, &err) < 0)
				log_error("%s", err.msg);
		}
	}
	/* Those that are gone from it, too: they are opened to nobody any more. */
	list_for_each_entry (m, &d->machines, entry)
		machine_passthrough_reload(m);
}

static bool checks_changed(const struct plan_action *a)
{
	for (size_t i = 0; i < a->keys.n; i++) {
		if (str_starts(a->keys.v[i], "health"))
			return true;
	}
	return false;
}

static bool limits_changed(const struct plan_action *a)
{
	static const char *const keys[] = { "memory_limit", "memory_overhead", "memory_high",
		"io_read_limit", "io_write_limit", "io_read_ops", "io_write_ops", "cpu_limit",
		"cpu_weight", "io_weight", "pids_limit" };

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		if (strv_has(&a->keys, keys[i]))
			return true;
	}
	return false;
}

static int apply_vm(struct drover *d, const struct plan_action *a, struct err *err)
{
	struct machine *m = machine_find(d, a->name);

	if (m == NULL)
		return 0;
	switch (a->op) {
	case PLAN_START:
		return machine_start(m, "the plan", false, NULL, err);
	case PLAN_STOP:
		return machine_stop(m, INTENT_STOP, "the plan", false, NULL, err);
	case PLAN_RESTART:
		return machine_restart(m, INTENT_RESTART, a->reason, NULL, err);
	case PLAN_RECREATE:
		return machine_restart(m, INTENT_RECREATE, a->reason, NULL, err);
	case PLAN_REMOVE:
		if (machine_active(m) || m->state == MACHINE_BACKOFF)
			return machine_stop(m, INTENT_STOP,
				"the plan: removed from the configuration", false, NULL, err);
		return 0;
	case PLAN_DEFER:
		json_decref(m->deferred);
		m->deferred = m->cfg != NULL ? plan_applied(&m->cfg->s) : NULL;
		events_emit(d->events, "vm", m->name, "restart-pending", NULL);
		return machine_save(m, err);
	case PLAN_UPDATE:
	case PLAN_ADD:
		/* The values of class live are read from m->cfg where they are used. */
		json_decref(m->applied);
		m->applied = m->cfg != NULL ? plan_applied(&m->cfg->s) : NULL;
		if (checks_changed(a))
			machine_health_reload(m);
		if (limits_changed(a))
			machine_cgroup_apply(m);
		return machine_save(m, err);
	}
	return 0;
}

struct registry_restart {
	struct drover *d;
	char *name;
};

static void registry_start_named(struct drover *d, const char *name)
{
	const struct registry_config *cfg = (const struct registry_config *)(const void *)
		config_find(drover_config(d), SECTION_REGISTRY, name);
	struct err err;

	if (cfg != NULL && !d->stopping && registry_start(d, cfg, &err) < 0)
		log_error("%s", err.msg);
}

static void registry_stopped(void *arg)
{
	struct registry_restart *r = arg;

	registry_start_named(r->d, r->name);
	free(r->name);
	free(r);
}

static void apply_registry(struct drover *d, const struct plan_action *a)
{
	struct registry_restart *r;

	switch (a->op) {
	case PLAN_START:
	case PLAN_ADD:
		registry_start_named(d, a->name);
		break;
	case PLAN_REMOVE:
	case PLAN_STOP:
		registry_stop(d, a->name, NULL, NULL);
		break;
	default:
		r = calloc(1, sizeof(*r));
		if (r != NULL && (r->name = strdup(a->name)) != NULL) {
			r->d = d;
			registry_stop(d, a->name, registry_stopped, r);
		} else {
			free(r);
		}
		break;
	}
}

static void apply_log(struct drover *d)
{
	const struct drover_config *c = drover_config(d)->drover;
	struct log_opts opts = {
		.level = (enum log_level)c->log_level,
		.format = (enum log_format)c->log_format,
		.path = c->log_file,
	};
	int r = log_setup(&opts);

	if (r < 0)
		log_error("log_file %s: %s", quote(c->log_file), strerror(-r));
}

/* For want of memory, descriptors or room: more and more rarely, until the next reload. */
static void converge_later(struct drover *d)
{
	d->unconverged = true;
	d->converge_ms = MIN(MAX(d->converge_ms * 2, CONVERGE_MIN_MS), CONVERGE_MAX_MS);
	deadline_set(&d->converge, d->converge_ms);
}

static void apply(struct drover *d, const struct plan *p, bool reload)
{
	bool failed = false;
	struct err err;

	d->unconverged = false;
	for (size_t i = 0; i < p->n; i++) {
		const struct plan_action *a = &p->v[i];
		int r = 0;

		log_info("plan: %s %s %s: %s", plan_op_name(a->op), section_kind_name(a->kind),
			a->name, a->reason);
		if (reload)
			r = fault_at("reload", "action", &err);
		if (r == 0 && a->kind == SECTION_VM)
			r = apply_vm(d, a, &err);
		else if (r == 0 && a->kind == SECTION_REGISTRY)
			apply_registry(d, a);
		else if (r == 0 && a->kind == SECTION_DROVER)
			apply_log(d);
		if (r == -EBUSY)
			d->unconverged = true; /* again when what keeps it busy has ended */
		else if (r < 0)
			log_error("plan: %s", err.msg);
		failed = failed || (r < 0 && r != -EBUSY);
	}
	d->bridges_due = true;
	bridges_converge(d);
	if (failed)
		converge_later(d);
}

/* ---- the doors ---- */

static const char *reload_point(size_t i)
{
	static const char *const points[] = { "read", "plan", "bind", "apply", "action",
		"applied" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table reload_faults = { "reload", reload_point,
	FAULT_BIT(0) | FAULT_BIT(1) | FAULT_BIT(4) };

static int load(
	struct drover *d, struct config_box **out, struct config_errors *errors, struct err *err)
{
	struct config *c = NULL;
	int r;

	given_clear(d);
	r = config_load(&c, &d->load, errors, err);
	if (r < 0)
		return r;
	*out = config_box_create(c);
	if (*out == NULL) {
		config_destroy(c);
		return err_nomem(err);
	}
	return 0;
}

int drover_plan(struct drover *d, struct plan *out, struct config_errors *errors, struct err *err)
{
	struct config_box *box = NULL;
	int r = load(d, &box, errors, err);

	if (r < 0)
		return r;
	r = make_plan(d, box->config, false, out, err);
	config_box_unref(box);
	given_clear(d);
	return r;
}

int drover_reload(struct drover *d, struct plan *out, struct config_errors *errors, struct err *err)
{
	struct config_box *box = NULL, *old = d->box;
	int r;

	if (d->stopping)
		return err_set(err, -ECANCELED, "droverd is stopping");
	r = fault_at("reload", "read", err);
	if (r == 0)
		r = load(d, &box, errors, err);
	if (r == 0)
		r = fault_at("reload", "plan", err);
	if (r == 0)
		r = make_plan(d, box->config, false, out, err);
	if (r < 0) {
		config_box_unref(box);
		given_clear(d);
		return r;
	}
	fault_at("reload", "bind", NULL);
	d->box = box;
	bind_machines(d);
	config_box_unref(old);
	given_clear(d);
	d->converge_ms = 0;
	d->first_plan_due = false;
	fault_at("reload", "apply", NULL);
	apply(d, out, true);
	machine_fill_slots(d);
	fault_at("reload", "applied", NULL);
	reconcile_rearm(d->reconciler);
	pulse_rearm(d->pulse);
	image_pruner_kick(d->pruner);
	events_emit(d->events, "drover", NULL, "reloaded", NULL);
	return 0;
}

static bool is_change(const struct plan_action *a, const char *name)
{
	/* A machine that was to run and does not is no change of the files. */
	return a->op != PLAN_START && !(a->kind == SECTION_VM && strcmp(a->name, name) == 0);
}

int drover_take_vm(struct drover *d, const char *name, struct err *err)
{
	struct config_box *box = NULL, *old = d->box;
	struct plan p = { 0 };
	int r = d->stopping ? err_set(err, -ECANCELED, "droverd is stopping")
			    : load(d, &box, NULL, err);

	if (r == 0)
		r = make_plan(d, box->config, false, &p, err);
	for (size_t i = 0; r == 0 && i < p.n; i++) {
		if (is_change(&p.v[i], name))
			r = err_set(err, -EBUSY,
				"the configuration has changed since it was applied (%s %s: %s); "
				"`drover reload` first",
				section_kind_name(p.v[i].kind), p.v[i].name, p.v[i].reason);
	}
	if (r < 0) {
		plan_finish(&p);
		config_box_unref(box);
		given_clear(d);
		return r;
	}
	d->box = box;
	bind_machines(d);
	config_box_unref(old);
	given_clear(d);
	for (size_t i = 0; i < p.n; i++) {
		if (p.v[i].kind == SECTION_VM && strcmp(p.v[i].name, name) == 0 &&
			apply_vm(d, &p.v[i], err) < 0)
			log_error("plan: %s", err->msg);
	}
	plan_finish(&p);
	return 0;
}

void drover_converge(struct drover *d)
{
	struct plan p = { 0 };
	struct err err;

	if (!d->unconverged || d->stopping)
		return;
	if (make_plan(d, drover_config(d), d->first_plan_due, &p, &err) < 0) {
		log_error("plan: %s", err.msg);
		converge_later(d);
		return;
	}
	d->first_plan_due = false;
	apply(d, &p, false);
	plan_finish(&p);
}

void drover_apply_first(struct drover *d)
{
	struct plan p = { 0 };
	struct err err;

	if (fault_at("boot", "first-plan", &err) < 0 ||
		make_plan(d, drover_config(d), true, &p, &err) < 0) {
		log_error("plan: %s", err.msg);
		d->first_plan_due = true;
		converge_later(d);
		return;
	}
	apply(d, &p, false);
	plan_finish(&p);
}

void drover_bind_first(struct drover *d)
{
	struct config_errors errors = { 0 };
	struct config_box *box = NULL;
	struct err err;

	/* Only now that the machines are known is it known which number each has. */
	d->load.guest_id = drover_guest_id;
	d->load.arg = d;
	if (fault_at("boot", "bind", &err) == 0 && load(d, &box, &errors, &err) == 0) {
		config_box_unref(d->box);
		d->box = box;
	} else {
		log_warn("the configuration changed for the worse while droverd started: %s",
			err.msg);
	}
	config_errors_finish(&errors);
	bind_machines(d);
	given_clear(d);
}
