/* Operations, and requests that wait for the end of one. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/json.h"

#define WAIT_MAX_S 3600

struct waiter {
	struct operation_wait wait;
	struct deadline deadline;
	struct drover *d;
	struct request *rq;
	struct operation *op;
	bool as_resource;
};

static void reply_failed(struct drover *d, struct request *rq, const struct operation *op)
{
	json_t *j = operation_json(op);
	const char *vm = json_str(j, "vm");
	const struct machine *m = vm != NULL ? machine_find(d, vm) : NULL;
	const struct err *why = operation_error(op);
	struct err err;

	if (why == NULL) {
		err_nomem(&err);
		why = &err;
	}
	if (m != NULL)
		route_machine_err(rq, m, why);
	else
		reply_err(rq, why, vm, NULL);
	json_decref(j);
}

static void reply_now(
	struct drover *d, struct request *rq, const struct operation *op, bool as_resource)
{
	enum operation_state state = operation_state(op);

	if (!as_resource && (state == OPERATION_FAILED || state == OPERATION_CANCELLED))
		reply_failed(d, rq, op);
	else
		reply_json(rq, state == OPERATION_RUNNING ? 202 : 200, operation_json(op));
}

static void waiter_free(void *arg)
{
	free(arg);
}

/* Whichever of the three comes first ends the waiting. */
static void waiter_end(struct waiter *w)
{
	operation_unwait(&w->wait);
	deadline_close(&w->deadline, waiter_free);
}

static void waiter_answer(struct waiter *w)
{
	request_on_gone(w->rq, NULL, NULL);
	reply_now(w->d, w->rq, w->op, w->as_resource);
	waiter_end(w);
}

static void on_ended(void *arg, struct operation *op)
{
	waiter_answer(arg);
}

static void on_deadline(void *arg)
{
	waiter_answer(arg);
}

static void on_gone(void *arg)
{
	waiter_end(arg);
}

static void wait_for(struct drover *d, struct request *rq, struct operation *op, bool as_resource,
	uint64_t seconds)
{
	struct waiter *w = calloc(1, sizeof(*w));
	struct err err;

	if (w == NULL || deadline_init(&w->deadline, d->loop, on_deadline, w) < 0) {
		free(w);
		err_nomem(&err);
		reply_err(rq, &err, NULL, NULL);
		return;
	}
	w->d = d;
	w->rq = rq;
	w->op = op;
	w->as_resource = as_resource;
	w->wait = (struct operation_wait){ .ended = on_ended, .arg = w };
	operation_wait(op, &w->wait);
	deadline_set(&w->deadline, seconds * 1000);
	request_on_gone(rq, on_gone, w);
}

void route_operation(struct drover *d, struct request *rq, struct operation *op, bool as_resource)
{
	int64_t seconds = 0;
	struct err err;

	if (request_query_int(rq, "wait", 0, &seconds, &err) < 0)
		reply_err(rq, &err, NULL, NULL);
	else if (seconds <= 0 || operation_state(op) != OPERATION_RUNNING)
		reply_now(d, rq, op, as_resource);
	else
		wait_for(d, rq, op, as_resource, (uint64_t)MIN(seconds, WAIT_MAX_S));
}

void route_operations(void *arg, struct request *rq)
{
	struct drover *d = arg;

	reply_json(rq, 200, operations_json(d->ops));
}

/* NULL: there is none, and the request was answered. */
static struct operation *operation_of(struct drover *d, struct request *rq)
{
	const char *id = request_param(rq, "id");
	struct operation *op;
	uint64_t number;
	struct err err;

	if (parse_u64(id, 0, INT64_MAX, &number, &err) < 0) {
		err_wrap(&err, "operation");
		reply_err(rq, &err, NULL, NULL);
		return NULL;
	}
	op = operation_find(d->ops, number);
	if (op == NULL) {
		err_set(&err, -ENOENT,
			"there is no operation %s (of those that have ended the last 100 are known)",
			id);
		reply_err(rq, &err, NULL, NULL);
	}
	return op;
}

void route_operation_show(void *arg, struct request *rq)
{
	struct operation *op = operation_of(arg, rq);

	if (op != NULL)
		route_operation(arg, rq, op, request_query(rq, "wait") == NULL);
}

void route_operation_cancel(void *arg, struct request *rq)
{
	struct operation *op = operation_of(arg, rq);
	struct err err;

	if (op == NULL)
		return;
	if (operation_cancel(op, &err) < 0)
		reply_err(rq, &err, NULL, NULL);
	else
		route_operation(arg, rq, op, true);
}
