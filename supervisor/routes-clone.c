/* Copies of machines. */
#include "supervisor/routes-private.h"

#include <errno.h>

#include "lib/json.h"
#include "supervisor/machine-clone.h"

static int read_body(const json_t *body, const char **name, const char **from, struct err *err)
{
	const char *key;
	json_t *value;

	if (!json_is_object(body))
		return err_set(err, -EINVAL, "the body is no object with a name");
	json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
		if (!str_eq(key, "name") && !str_eq(key, "from"))
			return err_set(err, -EINVAL, "unknown member %s", quote(key));
		if (!json_is_string(value) && !json_is_null(value))
			return err_set(err, -EINVAL, "%s: expected a string", key);
	}
	*name = json_str(body, "name");
	*from = json_str(body, "from");
	return *name != NULL ? 0 : err_set(err, -EINVAL, "the new machine needs a name");
}

void route_vm_clone(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	const char *name = NULL, *from = NULL;
	struct operation *op = NULL;
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
		r = read_body(body, &name, &from, &err);
	if (r == 0)
		r = machine_clone(m, name, from, &op, &err);
	json_decref(body);
	if (r >= 0)
		route_operation(arg, rq, op, false);
	else if (err.code == -ENOENT)
		reply_err(rq, &err, m->name, NULL); /* the snapshot, whatever state it is in */
	else
		route_machine_err(rq, m, &err);
}
