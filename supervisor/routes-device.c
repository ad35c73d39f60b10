/* What is asked of a machine's run while it lasts. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/routes-private.h"

#define SCREEN_MAX (64 << 20)

static void answer(struct drover *d, struct request *rq, struct machine *m, int r,
	struct operation *op, const struct err *err)
{
	if (r < 0)
		route_machine_err(rq, m, err);
	else
		route_operation(d, rq, op, false);
}

static bool wait_is_good(struct request *rq, struct machine *m)
{
	struct err err;
	int64_t wait;

	if (request_query_int(rq, "wait", 0, &wait, &err) == 0)
		return true;
	route_machine_err(rq, m, &err);
	return false;
}

static void act(struct drover *d, struct request *rq,
	int (*action)(struct machine *m, struct operation **op, struct err *err))
{
	struct machine *m = route_machine(d, rq);
	struct operation *op = NULL;
	struct err err;
	int r;

	if (m == NULL || !wait_is_good(rq, m))
		return;
	r = action(m, &op, &err);
	answer(d, rq, m, r, op, &err);
}

void route_vm_reset(void *arg, struct request *rq)
{
	act(arg, rq, machine_reset);
}

void route_vm_nmi(void *arg, struct request *rq)
{
	act(arg, rq, machine_nmi);
}

void route_vm_dump(void *arg, struct request *rq)
{
	act(arg, rq, machine_dump);
}

/* The body, if it is an object. */
static json_t *object_body(struct request *rq, struct machine *m)
{
	json_t *body = NULL;
	struct err err;

	if (request_json(rq, &body, &err) == 0) {
		if (json_is_object(body))
			return body;
		json_decref(body);
		err_set(&err, -EINVAL, "the body is not an object");
	}
	route_machine_err(rq, m, &err);
	return NULL;
}

/* A number that is there, whole and positive. */
static int positive(const json_t *body, const char *key, int64_t max, int64_t *out, struct err *err)
{
	const json_t *value = json_object_get(body, key);

	*out = 0;
	if (value == NULL)
		return 0;
	if (!json_is_integer(value) || json_integer_value(value) <= 0 ||
		json_integer_value(value) > max)
		return err_set(err, -EINVAL, "\"%s\" is not a whole number from 1 to %lld", key,
			(long long)max);
	*out = json_integer_value(value);
	return 0;
}

static int only_known(const json_t *body, struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach ((json_t *)(uintptr_t)body, key, value) {
		if (!str_eq(key, "vcpus") && !str_eq(key, "memory"))
			return err_set(err, -EINVAL, "unknown member %s", quote(key));
	}
	return 0;
}

void route_vm_resize(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	int64_t vcpus, memory;
	struct err err;
	json_t *body;
	int r;

	if (m == NULL || !wait_is_good(rq, m))
		return;
	body = object_body(rq, m);
	if (body == NULL)
		return;
	r = only_known(body, &err);
	if (r == 0)
		r = positive(body, "vcpus", 255, &vcpus, &err);
	if (r == 0)
		r = positive(body, "memory", INT64_MAX, &memory, &err);
	if (r == 0)
		r = machine_resize(m, (unsigned)vcpus, (uint64_t)memory, &op, &err);
	json_decref(body);
	answer(arg, rq, m, r, op, &err);
}

void route_vm_disk_add(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	struct err err;
	json_t *body;
	int r;

	if (m == NULL || !wait_is_good(rq, m))
		return;
	body = object_body(rq, m);
	if (body == NULL)
		return;
	r = route_owner_only(rq, "add a file of the host to a machine", &err);
	if (r == 0)
		r = machine_add_disk(m, body, &op, &err);
	json_decref(body);
	answer(arg, rq, m, r, op, &err);
}

void route_vm_disk_remove(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	struct err err;
	int r;

	if (m == NULL || !wait_is_good(rq, m))
		return;
	r = machine_remove_disk(m, request_param(rq, "id"), &op, &err);
	answer(arg, rq, m, r, op, &err);
}

void route_vm_nic_add(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	struct err err;
	json_t *body;
	int r;

	if (m == NULL || !wait_is_good(rq, m))
		return;
	body = object_body(rq, m);
	if (body == NULL)
		return;
	r = machine_add_nic(m, body, &op, &err);
	json_decref(body);
	answer(arg, rq, m, r, op, &err);
}

void route_vm_nic_remove(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct operation *op = NULL;
	struct err err;
	int r;

	if (m == NULL || !wait_is_good(rq, m))
		return;
	r = machine_remove_nic(m, request_param(rq, "id"), &op, &err);
	answer(arg, rq, m, r, op, &err);
}

/* ---- what is answered by the hypervisor ---- */

struct asked {
	struct list entry;  /* in m->questions */
	struct request *rq; /* NULL: the client has gone */
	char *path;
};

static void client_gone(void *arg)
{
	struct asked *a = arg;

	a->rq = NULL;
}

static struct asked *ask(struct machine *m, struct request *rq)
{
	struct asked *a = calloc(1, sizeof(*a));

	if (a != NULL) {
		a->rq = rq;
		request_on_gone(rq, client_gone, a);
		list_append(&m->questions, &a->entry);
	}
	return a;
}

static void asked_free(struct asked *a)
{
	list_remove(&a->entry);
	if (a->path != NULL)
		unlink(a->path);
	free(a->path);
	free(a);
}

/* The request that is still to be answered, or NULL. */
static struct request *answered(struct asked *a)
{
	struct request *rq = a->rq;

	if (rq != NULL)
		request_on_gone(rq, NULL, NULL);
	return rq;
}

void machine_forget_questions(struct machine *m)
{
	while (!list_empty(&m->questions)) {
		struct asked *a = list_first(&m->questions, struct asked, entry);
		struct request *rq = answered(a);
		struct err err;

		asked_free(a);
		err_set(&err, -ESRCH, "vm %s: the hypervisor is gone", m->name);
		if (rq != NULL)
			reply_err(rq, &err, m->name, NULL);
	}
}

static int is_up(const struct machine *m, enum hv_cap cap, struct err *err)
{
	if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
		return machine_wrong_state(m, "look into", err);
	return hv_can(m->hv, cap, err);
}

static void counters_come(void *arg, const json_t *reply, const struct err *err)
{
	struct asked *a = arg;
	struct request *rq = answered(a);

	asked_free(a);
	if (rq == NULL)
		return;
	if (err != NULL)
		reply_err(rq, err, request_param(rq, "name"), NULL);
	else
		reply_json(rq, 200, json_deep_copy(reply));
}

void route_vm_counters(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct asked *a = NULL;
	struct err err;
	int r;

	if (m == NULL)
		return;
	r = is_up(m, HV_CAP_COUNTERS, &err);
	if (r == 0 && (a = ask(m, rq)) == NULL)
		r = err_nomem(&err);
	if (r < 0)
		route_machine_err(rq, m, &err);
	else
		hv_counters(m->hv, counters_come, a);
}

static void screen_done(void *arg, const struct err *err)
{
	struct asked *a = arg;
	struct request *rq = answered(a);
	struct buf picture = { 0 };
	struct err mine;

	if (err != NULL)
		mine = *err;
	/* Small, and on a tmpfs: no disk is waited for. */
	else if (file_read(a->path, SCREEN_MAX, &picture, &mine) < 0)
		err = &mine;
	if (rq != NULL && err != NULL)
		reply_err(rq, &mine, request_param(rq, "name"), NULL);
	else if (rq != NULL)
		reply_text(rq, 200, "image/png", picture.data, picture.len);
	buf_finish(&picture);
	asked_free(a);
}

void route_vm_screendump(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	static unsigned number;
	struct asked *a = NULL;
	struct err err;
	int r;

	if (m == NULL)
		return;
	r = is_up(m, HV_CAP_SCREENDUMP, &err);
	if (r == 0) {
		a = ask(m, rq);
		if (a != NULL)
			a->path = str_printf("%s/screen-%u.png", m->run_dir, number++);
		if (a == NULL || a->path == NULL)
			r = err_nomem(&err);
	}
	if (r < 0) {
		if (a != NULL) {
			request_on_gone(rq, NULL, NULL);
			asked_free(a);
		}
		route_machine_err(rq, m, &err);
		return;
	}
	hv_screendump(m->hv, a->path, screen_done, a);
}
