/* Live migration: a person's request at the source, and the source's at the target. */
#include "supervisor/routes-private.h"

#include <errno.h>

#include "lib/json.h"
#include "supervisor/migrate.h"

static int read_body(
	const json_t *body, struct migrate_opts *o, const char **resolve, struct err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(body))
		return err_set(err, -EINVAL, "the body is no object");
	json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
		bool number = str_eq(key, "max_bandwidth");

		if (str_eq(key, "copy_disks")) {
			if (!json_is_boolean(value) && !json_is_null(value))
				return err_set(err, -EINVAL, "copy_disks: expected true or false");
			continue;
		}

		if (!number && !str_eq(key, "to") && !str_eq(key, "via") && !str_eq(key, "resolve"))
			return err_set(err, -EINVAL, "unknown member %s", quote(key));
		if (!json_is_null(value) && number != json_is_integer(value))
			return err_set(err, -EINVAL, "%s: expected a %s", key,
				number ? "number" : "string");
		if (!json_is_null(value) && !number && !json_is_string(value))
			return err_set(err, -EINVAL, "%s: expected a string", key);
	}
	*o = (struct migrate_opts){ .to = json_str(body, "to"),
		.via = json_str(body, "via"),
		.copy_disks = json_flag(body, "copy_disks", false) };
	if (json_int(body, "max_bandwidth", 0) < 0)
		return err_set(err, -EINVAL, "max_bandwidth: expected bytes a second");
	o->max_bandwidth = (uint64_t)json_int(body, "max_bandwidth", 0);
	*resolve = json_str(body, "resolve");
	if (*resolve != NULL)
		return str_eq(*resolve, "keep") || str_eq(*resolve, "give")
			       ? 0
			       : err_set(err, -EINVAL, "resolve: expected keep or give");
	return o->to != NULL ? 0 : err_set(err, -EINVAL, "it needs to be said where to");
}

void route_vm_migrate(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	struct migrate_opts opts = { 0 };
	const char *resolve = NULL;
	json_t *body = NULL;
	struct err err;
	int64_t wait;
	int r;

	if (m == NULL)
		return;
	/* It sends the guest's memory to whoever listens there. */
	r = route_owner_only(rq, "send a machine to another host", &err);
	if (r == 0)
		r = request_query_int(rq, "wait", 0, &wait, &err);
	if (r == 0)
		r = request_json(rq, &body, &err);
	if (r == 0)
		r = read_body(body, &opts, &resolve, &err);
	if (r == 0 && resolve != NULL)
		r = machine_migrate_resolve(m, str_eq(resolve, "keep"), &err);
	else if (r == 0)
		r = machine_migrate(m, &opts, &op, &err);
	json_decref(body);
	if (r < 0)
		route_machine_err(rq, m, &err);
	else if (op == NULL)
		reply_json(rq, 200, machine_detail(m));
	else
		route_operation(arg, rq, op, false);
}

void route_migration_prepare(void *arg, struct request *rq)
{
	json_t *body = NULL;
	struct err err;
	/* A section can name any file of the host. */
	int r = route_owner_only(rq, "have a machine come here", &err);

	if (r == 0)
		r = request_json(rq, &body, &err);
	if (r < 0)
		reply_err(rq, &err, NULL, NULL);
	else
		migrate_receive(arg, body, rq);
	json_decref(body);
}

static void heard(void *arg, struct request *rq, enum handover_target_event ev)
{
	struct err err;

	if (route_owner_only(rq, "end a migration", &err) < 0)
		reply_err(rq, &err, NULL, NULL);
	else
		migrate_heard(arg, request_param(rq, "migration"), ev, rq);
}

void route_migration_commit(void *arg, struct request *rq)
{
	heard(arg, rq, TARGET_HEARD_COMMIT);
}

void route_migration_abort(void *arg, struct request *rq)
{
	heard(arg, rq, TARGET_HEARD_ABORT);
}

void route_migration_farewell(void *arg, struct request *rq)
{
	heard(arg, rq, TARGET_HEARD_FAREWELL);
}

void route_migrations(void *arg, struct request *rq)
{
	struct err err;

	/* Who knows an id can end it. */
	if (route_owner_only(rq, "see the migrations", &err) < 0)
		reply_err(rq, &err, NULL, NULL);
	else
		reply_json(rq, 200, migrations_json(arg));
}

void route_migration(void *arg, struct request *rq)
{
	struct err err;
	json_t *j;

	if (route_owner_only(rq, "see the migrations", &err) < 0) {
		reply_err(rq, &err, NULL, NULL);
		return;
	}
	j = migration_json(arg, request_param(rq, "migration"));
	if (j != NULL) {
		reply_json(rq, 200, j);
		return;
	}
	err_set(&err, -ENOENT, "there is no migration %s", quote(request_param(rq, "migration")));
	reply_err(rq, &err, NULL, NULL);
}
