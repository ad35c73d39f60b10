/* Snapshots of machines, suspend. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/json.h"
#include "supervisor/snapshot.h"

/* What was not found is the snapshot, whatever state the machine is in. */
static void refuse(struct request *rq, const struct machine *m, const struct err *err)
{
	if (err->code == -ENOENT)
		reply_err(rq, err, m->name, NULL);
	else
		route_machine_err(rq, m, err);
}

void route_snapshots(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	char *dir = m != NULL ? machine_snapshot_dir(m, NULL) : NULL;

	if (m != NULL)
		reply_json(rq, 200, dir != NULL ? snapshot_list(dir) : NULL);
	free(dir);
}

void route_snapshot(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	json_t *manifest = NULL;
	struct err err;

	if (m == NULL)
		return;
	if (machine_snapshot_read(m, request_param(rq, "snapshot"), &manifest, &err) < 0)
		refuse(rq, m, &err);
	else
		reply_json(rq, 200, manifest);
}

static int read_opts(const json_t *body, struct snapshot_opts *o, struct err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(body))
		return err_set(err, -EINVAL, "the body is no object with a name");
	json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
		bool text = str_eq(key, "name") || str_eq(key, "description");
		bool flag = str_eq(key, "disks") || str_eq(key, "crash_consistent");

		if (!text && !flag)
			return err_set(err, -EINVAL, "unknown member %s", quote(key));
		if (text ? !json_is_string(value) && !json_is_null(value) : !json_is_boolean(value))
			return err_set(err, -EINVAL, "%s: expected a %s", key,
				text ? "string" : "boolean");
	}
	o->name = json_str(body, "name");
	o->description = json_str(body, "description");
	o->disks_only = json_flag(body, "disks", false);
	o->crash_consistent = json_flag(body, "crash_consistent", false);
	if (o->name == NULL)
		return err_set(err, -EINVAL, "the snapshot needs a name");
	return 0;
}

void route_snapshot_create(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	struct snapshot_opts o = { 0 };
	json_t *body = NULL;
	struct err err;
	int64_t wait;
	int r;

	if (m == NULL)
		return;
	r = request_query_int(rq, "wait", 0, &wait, &err);
	if (r == 0)
		r = request_json(rq, &body, &err);
	if (r == 0)
		r = read_opts(body, &o, &err);
	if (r == 0)
		r = machine_snapshot(m, &o, &op, &err);
	json_decref(body);
	if (r < 0)
		refuse(rq, m, &err);
	else
		route_operation(arg, rq, op, false);
}

typedef int named_fn(struct machine *m, const char *name, struct operation **op, struct err *err);

static void act(struct drover *d, struct request *rq, named_fn *fn)
{
	struct machine *m = route_machine(d, rq);
	struct operation *op = NULL;
	struct err err;
	int64_t wait;

	if (m == NULL)
		return;
	if (request_query_int(rq, "wait", 0, &wait, &err) < 0 ||
		fn(m, request_param(rq, "snapshot"), &op, &err) < 0)
		refuse(rq, m, &err);
	else
		route_operation(d, rq, op, false);
}

void route_snapshot_restore(void *arg, struct request *rq)
{
	act(arg, rq, machine_restore);
}

void route_snapshot_rm(void *arg, struct request *rq)
{
	act(arg, rq, machine_snapshot_delete);
}
