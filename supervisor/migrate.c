/* What both sides of a migration share, and what the rest of the supervisor asks: migrate.h. */
#include "supervisor/migrate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

#define SAVE_AGAIN_MS 1000

/* ---- the object ---- */

void migrate_init(struct migrate *g, struct machine *m, deadline_fn *timer, void *arg)
{
	g->m = m;
	g->d = m->d;
	g->fd = -1;
	deadline_init(&g->timer, m->d->loop, timer, arg);
}

void migrate_close_stream(struct migrate *g)
{
	wire_destroy(g->wire);
	g->wire = NULL;
	tunnel_destroy(g->tunnel);
	g->tunnel = NULL;
	if (g->fd >= 0)
		close(g->fd);
	g->fd = -1;
}

static void freed(void *arg)
{
	free(arg);
}

void migrate_release(struct migrate *g)
{
	g->m = NULL;
	migrate_close_stream(g);
	deadline_cancel(&g->timer);
	if (g->pending == 0)
		deadline_close(&g->timer, freed);
}

bool migrate_came_back(struct migrate *g)
{
	g->pending--;
	if (g->m != NULL)
		return true;
	if (g->pending == 0)
		deadline_close(&g->timer, freed);
	return false;
}

/* ---- the record ---- */

/* The machine's own fsync of the file is what makes it outlive the host's crash. */
int migrate_record(struct migrate *g, struct err *err)
{
	struct err mine;

	if (err == NULL)
		err = &mine;
	g->unsaved = true;
	g->saving = machine_save(g->m, err) == 0;
	if (g->saving) {
		g->failed = false;
		return 0;
	}
	/* It is tried again and again; that it is still so is among the machine's conditions. */
	if (!g->failed)
		log_error("%s", err->msg);
	g->failed = true;
	deadline_set(&g->timer, SAVE_AGAIN_MS);
	return err->code;
}

static void is_saved(struct migrate *g)
{
	if (!g->unsaved || !g->saving)
		return;
	g->saving = false;
	/* Two owners could come of a record that the next crash of the host takes away. */
	if (g->m->sync_error < 0) {
		deadline_set(&g->timer, SAVE_AGAIN_MS);
		return;
	}
	g->unsaved = false;
	g->saved(g);
}

void machine_migrate_saved(struct machine *m)
{
	if (m->d->leaving)
		return;
	if (m->out != NULL)
		is_saved(&m->out->g);
	if (m->in != NULL)
		is_saved(&m->in->g);
}

void machine_migrate_save(const struct machine *m, json_t *j)
{
	const struct migrate_out *o = m->out;
	const struct migrate_in *in = m->in;
	json_t *r;

	json_put_str(j, "migrated_to", m->migrated_to);
	json_put_bool(j, "migrated_disks", m->migrated_disks);
	if (o != NULL && o->state != SOURCE_NONE) {
		r = json_object();
		json_put_str(r, "state", handover_source_name(o->state));
		json_put_str(r, "id", o->g.id);
		json_put_str(r, "to", o->url);
		json_put_bool(r, "copied", o->copied);
		json_put_bool(r, "died", o->died);
		json_put_bool(r, "kept", o->kept);
		json_object_set_new(j, "migration_out", r);
	}
	if (in != NULL && in->state != TARGET_NONE) {
		r = json_object();
		json_put_str(r, "state", handover_target_name(in->state));
		json_put_str(r, "id", in->g.id);
		json_put_str(r, "from", in->from);
		json_put_bool(r, "told", in->told);
		json_put_bool(r, "copied", in->copied);
		json_put_bool(r, "ran", in->ran);
		json_put_bool(r, "came_back", in->came_back);
		json_put_int(r, "since", (int64_t)in->since_ms);
		json_object_set_new(j, "migration_in", r);
	}
}

void machine_migrate_load(struct machine *m, const json_t *j)
{
	const json_t *out = json_obj(j, "migration_out"), *in = json_obj(j, "migration_in");
	const char *to = json_str(j, "migrated_to");

	free(m->migrated_to);
	m->migrated_to = to != NULL ? strdup(to) : NULL;
	m->migrated_disks = json_flag(j, "migrated_disks", false);
	if (out != NULL)
		m->out = migrate_out_load(m, out);
	if (in != NULL)
		m->in = migrate_in_load(m, in);
}

/* ---- what the others may ---- */

static bool source_holds(const struct machine *m)
{
	return m->out != NULL && !handover_source_may_run(m->out->state);
}

static bool target_holds(const struct machine *m)
{
	return m->in != NULL && !handover_target_may_run(m->in->state);
}

bool machine_may_run(const struct machine *m)
{
	return !source_holds(m) && !target_holds(m);
}

bool machine_is_given(const struct machine *m)
{
	return m->out != NULL && (m->out->state == SOURCE_GIVING || m->out->state == SOURCE_GONE);
}

bool machine_is_migrating(const struct machine *m)
{
	return !machine_may_run(m) ||
	       (m->out != NULL && m->out->state == SOURCE_KEEPING && !m->out->kept) ||
	       (m->in != NULL && m->in->state == TARGET_TAKEN && !m->in->ran);
}

int machine_check_may_run(const struct machine *m, const char *verb, struct err *err)
{
	if (source_holds(m))
		return err_set(err, -EBUSY, "vm %s: cannot %s it while it migrates to %s (%s)",
			m->name, verb, m->out->url, handover_source_name(m->out->state));
	if (target_holds(m))
		return err_set(err, -EBUSY, "vm %s: cannot %s it while it comes here from %s (%s)",
			m->name, verb, m->in->from, handover_target_name(m->in->state));
	if (m->migrated_to != NULL && m->migrated_disks && !machine_active(m))
		return err_set(err, -EBUSY,
			"vm %s: cannot %s it: it has migrated to %s with copies of its disks, and "
			"what is here is as it was then; `drover rm %s --disks` deletes that",
			m->name, verb, m->migrated_to, m->name);
	if (m->migrated_to != NULL && !machine_active(m))
		return err_set(err, -EBUSY,
			"vm %s: cannot %s it: it has migrated to %s, and its disks are in use there; "
			"`drover start %s --discard` starts it all the same",
			m->name, verb, m->migrated_to, m->name);
	return 0;
}

int machine_check_settled(const struct machine *m, const char *verb, struct err *err)
{
	int r = machine_check_may_run(m, verb, err);

	if (r == 0 && m->out != NULL && m->out->state == SOURCE_KEEPING && !m->out->kept)
		return err_set(err, -EBUSY,
			"vm %s: cannot %s it while %s is told that it stays here", m->name, verb,
			m->out->url);
	return r;
}

char *machine_migrated_text(const struct machine *m)
{
	return str_printf("migrated to %s%s%s%s", m->migrated_to,
		m->migrated_disks ? "; its disks are copies of those here, which nobody uses any "
				    "more: `drover rm "
				  : "",
		m->migrated_disks ? m->name : "",
		m->migrated_disks ? " --disks` deletes them" : "");
}

/* ---- what happens to the machine ---- */

void machine_migrate_restarted(struct machine *m)
{
	if (m->out != NULL)
		migrate_out_event(m->out, SOURCE_RESTARTED);
	if (m->in != NULL)
		migrate_in_event(m->in, TARGET_RESTARTED);
}

void machine_migrate_adopted(struct machine *m)
{
	if (m->out != NULL)
		migrate_out_drive(m->out);
	/* It had arrived in a hypervisor that let go of it when the daemon before us died. */
	if (m->in != NULL && m->in->state == TARGET_ARRIVED && m->hv != NULL &&
		hv_status(m->hv) == HV_STATUS_INCOMING)
		migrate_in_event(m->in, TARGET_LOST);
	else if (m->in != NULL)
		migrate_in_drive(m->in);
}

void machine_migrate_lost(struct machine *m)
{
	if (m->out != NULL) {
		migrate_close_stream(&m->out->g);
		m->out->sending = m->out->resuming = false;
		m->out->died = m->out->died || m->out->state == SOURCE_GIVING;
		migrate_out_event(m->out, SOURCE_NOT_SENT);
	}
	if (m->in != NULL) {
		migrate_close_stream(&m->in->g);
		m->in->loading = m->in->resuming = false;
		m->receiving = false;
		migrate_in_event(m->in, TARGET_LOST);
	}
}

bool machine_migrate_at_rest(struct machine *m)
{
	bool over = m->out == NULL || m->out->state != SOURCE_GIVING;

	if (m->out != NULL)
		migrate_out_drive(m->out);
	if (m->in != NULL)
		migrate_in_drive(m->in);
	return over;
}

void machine_migrate_overruled(struct machine *m)
{
	struct migrate_out *o = m->out;

	if (o == NULL || o->state > SOURCE_SENDING)
		return;
	o->cancelled = true;
	if (o->err.code == 0)
		err_set(&o->err, -ECANCELED, "it was overruled");
	if (o->state == SOURCE_NONE) {
		/* No question is under way when it is over, and only its record is not on disk yet. */
		if (o->http != NULL)
			http_cancel(o->http);
		return;
	}
	if (o->sending && m->hv != NULL)
		hv_job_cancel(m->hv);
	migrate_out_event(o, SOURCE_NOT_SENT);
}

void machine_migrate_release(struct machine *m)
{
	if (m->out != NULL)
		migrate_out_free(m->out);
	if (m->in != NULL)
		migrate_in_free(m->in);
}

void machine_end_migrating(struct machine *m)
{
	if (m->up_mono_ms != 0 || m->out != NULL)
		machine_begin_shutdown(m);
	else
		machine_cancel_start(m);
}

/* ---- for the API ---- */

json_t *machine_migrate_json(const struct machine *m)
{
	json_t *j;

	if ((m->out == NULL || m->out->state == SOURCE_NONE) && m->in == NULL)
		return json_null();
	j = json_object();
	if (m->out != NULL && m->out->state != SOURCE_NONE) {
		json_put_str(j, "role", "source");
		json_put_str(j, "state", handover_source_name(m->out->state));
		json_put_str(j, "peer", m->out->url);
		json_put_bool(j, "doubt", m->out->doubted);
	} else {
		json_put_str(j, "role", "target");
		json_put_str(j, "state", handover_target_name(m->in->state));
		json_put_str(j, "peer", m->in->from);
		json_put_bool(j, "doubt", false);
	}
	return j;
}

static json_t *named(const struct machine *m)
{
	json_t *j = machine_migrate_json(m);

	if (json_is_object(j)) {
		bool source = str_eq(json_str(j, "role"), "source");

		json_put_str(j, "name", m->name);
		json_put_str(j, "id", source ? m->out->g.id : m->in->g.id);
	}
	return j;
}

json_t *migrations_json(struct drover *d)
{
	json_t *array = json_array();
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		json_t *j = named(m);

		if (json_is_object(j))
			json_array_append_new(array, j);
		else
			json_decref(j);
	}
	return array;
}

json_t *migration_json(struct drover *d, const char *id)
{
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		if ((m->out != NULL && str_eq(m->out->g.id, id)) ||
			(m->in != NULL && str_eq(m->in->g.id, id)))
			return named(m);
	}
	return NULL;
}

int machine_migrate_resolve(struct machine *m, bool keep_it, struct err *err)
{
	if (m->out != NULL)
		return migrate_out_resolve(m->out, keep_it, err);
	if (m->in != NULL)
		return migrate_in_resolve(m->in, keep_it, err);
	return err_set(err, -EBADFD, "vm %s: there is no migration in doubt", m->name);
}
