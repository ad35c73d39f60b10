#include "supervisor/operation.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/str.h"

#define KEEP_ENDED 100

struct operation {
	struct list entry;
	struct operations *ops;
	uint64_t id;
	char *verb, *vm;
	const char *step;
	uint64_t progress, total; /* of the step */
	enum operation_state state;
	struct err *err;
	uint64_t started, ended, started_mono;
	operation_cancel_fn *cancel;
	void *arg;
	struct list waiters;
	bool telling; /* it is being told that it has ended: it must stay */
};

struct operations {
	struct list running, ended; /* ended: oldest first */
	unsigned nended;
	uint64_t next_id;
};

int operations_create(struct operations **out, struct err *err)
{
	struct operations *ops = calloc(1, sizeof(*ops));

	if (ops == NULL)
		return err_nomem(err);
	list_init(&ops->running);
	list_init(&ops->ended);
	ops->next_id = 1;
	*out = ops;
	return 0;
}

static void operation_free(struct operation *op)
{
	list_remove(&op->entry);
	free(op->verb);
	free(op->vm);
	free(op->err);
	free(op);
}

void operations_destroy(struct operations *ops)
{
	struct operation *op, *tmp;

	if (ops == NULL)
		return;
	list_for_each_entry_safe (op, tmp, &ops->running, entry)
		operation_free(op);
	list_for_each_entry_safe (op, tmp, &ops->ended, entry)
		operation_free(op);
	free(ops);
}

struct operation *operation_begin(struct operations *ops, const char *verb, const char *vm,
	operation_cancel_fn *cancel, void *arg)
{
	struct operation *op = calloc(1, sizeof(*op));

	if (op == NULL)
		return NULL;
	list_init(&op->entry);
	op->verb = strdup(verb);
	op->vm = strdup(vm != NULL ? vm : "");
	if (op->verb == NULL || op->vm == NULL) {
		operation_free(op);
		return NULL;
	}
	op->ops = ops;
	op->id = ops->next_id++;
	op->started = clock_unix_ms();
	op->started_mono = clock_mono_ms();
	op->cancel = cancel;
	op->arg = arg;
	list_init(&op->waiters);
	list_append(&ops->running, &op->entry);
	return op;
}

void operation_step(struct operation *op, const char *step)
{
	if (op == NULL)
		return;
	op->step = step;
	op->progress = op->total = 0;
}

void operation_progress(struct operation *op, uint64_t done, uint64_t total)
{
	op->progress = done;
	op->total = total;
}

/* Those who are told of one end may cause many others. */
static void forget_oldest(struct operations *ops)
{
	struct operation *op, *tmp;

	list_for_each_entry_safe (op, tmp, &ops->ended, entry) {
		if (ops->nended <= KEEP_ENDED)
			break;
		if (op->telling)
			continue;
		operation_free(op);
		ops->nended--;
	}
}

void operation_end(struct operation *op, const struct err *err)
{
	struct operations *ops = op->ops;
	struct operation_wait *w;
	struct list waiters;

	op->state = err == NULL               ? OPERATION_DONE
		    : err->code == -ECANCELED ? OPERATION_CANCELLED
					      : OPERATION_FAILED;
	if (err != NULL) {
		op->err = malloc(sizeof(*op->err));
		if (op->err != NULL)
			*op->err = *err;
	}
	op->ended = clock_unix_ms();
	op->cancel = NULL;
	list_remove(&op->entry);
	list_append(&ops->ended, &op->entry);
	ops->nended++;
	list_init(&waiters);
	list_splice(&waiters, &op->waiters);
	op->telling = true;
	while ((w = list_first(&waiters, struct operation_wait, entry)) != NULL) {
		list_remove(&w->entry);
		w->ended(w->arg, op);
	}
	op->telling = false;
	forget_oldest(ops);
}

int operation_cancel(struct operation *op, struct err *err)
{
	if (op->state != OPERATION_RUNNING)
		return err_set(
			err, -EBADFD, "operation %llu has ended", (unsigned long long)op->id);
	if (op->cancel == NULL)
		return err_set(err, -ENOTSUP, "%s cannot be cancelled", op->verb);
	return op->cancel(op->arg, err);
}

struct operation *operation_find(struct operations *ops, uint64_t id)
{
	struct operation *op;

	list_for_each_entry (op, &ops->running, entry) {
		if (op->id == id)
			return op;
	}
	list_for_each_entry (op, &ops->ended, entry) {
		if (op->id == id)
			return op;
	}
	return NULL;
}

enum operation_state operation_state(const struct operation *op)
{
	return op->state;
}

const struct err *operation_error(const struct operation *op)
{
	return op->err;
}

const char *operation_verb(const struct operation *op)
{
	return op->verb;
}

uint64_t operation_age_ms(const struct operation *op)
{
	return clock_mono_ms() - op->started_mono;
}

json_t *operation_json(const struct operation *op)
{
	static const char *const states[] = { "running", "done", "failed", "cancelled" };
	json_t *j = json_object();
	char time[32];

	if (j == NULL)
		return NULL;
	json_put_int(j, "id", (int64_t)op->id);
	json_put_str(j, "verb", op->verb);
	json_put_str(j, "vm", op->vm[0] != '\0' ? op->vm : NULL);
	json_put_str(j, "state", states[op->state]);
	json_put_str(j, "step", op->step);
	if (op->state == OPERATION_RUNNING && op->progress > 0)
		json_object_set_new(j, "progress",
			json_pack("{s:I,s:I}", "done", (json_int_t)op->progress, "total",
				(json_int_t)op->total));
	json_put_str(j, "error", op->err != NULL ? op->err->msg : NULL);
	format_time(time, op->started);
	json_put_str(j, "started", time);
	format_time(time, op->ended);
	json_put_str(j, "ended", op->ended != 0 ? time : NULL);
	return j;
}

json_t *operations_json(const struct operations *ops)
{
	json_t *array = json_array();
	struct operation *op;

	list_for_each_entry (op, &ops->ended, entry)
		json_array_append_new(array, operation_json(op));
	list_for_each_entry (op, &ops->running, entry)
		json_array_append_new(array, operation_json(op));
	return array;
}

void operation_wait(struct operation *op, struct operation_wait *wait)
{
	list_append(&op->waiters, &wait->entry);
}

void operation_unwait(struct operation_wait *wait)
{
	list_remove(&wait->entry);
}
