/*
 * supervisor/operation.h - what somebody asked for and how far it is. Loop thread.
 *
 * An operation completes exactly once; those who wait for it are told then. The last 100 that
 * have ended can still be looked up.
 */
#ifndef DROVER_SUPERVISOR_OPERATION_H
#define DROVER_SUPERVISOR_OPERATION_H

#include <jansson.h>
#include <stdbool.h>
#include "lib/err.h"
#include "lib/list.h"

struct operations;
struct operation;

enum operation_state {
	OPERATION_RUNNING,
	OPERATION_DONE,
	OPERATION_FAILED,
	OPERATION_CANCELLED
};

int operations_create(struct operations **out, struct err *err);
void operations_destroy(struct operations *ops);

/* Begins its end, or says why it cannot. */
typedef int operation_cancel_fn(void *arg, struct err *err);
/* cancel may be NULL: then it cannot be cancelled. NULL without memory. */
struct operation *operation_begin(struct operations *ops, const char *verb, const char *vm,
	operation_cancel_fn *cancel, void *arg);
/* step: a static string, "pulling the kernel image" */
void operation_step(struct operation *op, const char *step);
/* How far the step is; total 0: not known. */
void operation_progress(struct operation *op, uint64_t done, uint64_t total);
/* err NULL: done; -ECANCELED: cancelled; else failed. The operation may be gone afterwards. */
void operation_end(struct operation *op, const struct err *err);
/* -EBADFD when it has ended, -ENOTSUP when it cannot be cancelled, or what cancel says. */
int operation_cancel(struct operation *op, struct err *err);

struct operation *operation_find(struct operations *ops, uint64_t id);
enum operation_state operation_state(const struct operation *op);
const struct err *operation_error(const struct operation *op);
const char *operation_verb(const struct operation *op);
uint64_t operation_age_ms(const struct operation *op);
json_t *operation_json(const struct operation *op);
json_t *operations_json(const struct operations *ops);

/* Embedded by who waits; fires at most once, when the operation ends. */
struct operation_wait {
	struct list entry;
	void (*ended)(void *arg, struct operation *op);
	void *arg;
};
/* The operation must be running. */
void operation_wait(struct operation *op, struct operation_wait *wait);
void operation_unwait(struct operation_wait *wait);

#endif
