/* Machines: what they are, and what is asked of them. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/clock.h"
#include "lib/json.h"

void route_vms(void *arg, struct request *rq)
{
	struct drover *d = arg;
	const struct machine *m;
	json_t *array;
	bool all;

	if (!route_flag(rq, "all", &all))
		return;
	array = json_array();
	list_for_each_entry (m, &d->machines, entry) {
		if (all || m->cfg != NULL || machine_active(m))
			json_array_append_new(array, machine_summary(m));
	}
	reply_json(rq, 200, array);
}

void route_vm(void *arg, struct request *rq)
{
	const struct machine *m = route_machine(arg, rq);

	if (m != NULL)
		reply_json(rq, 200, machine_detail(m));
}

void route_vm_why(void *arg, struct request *rq)
{
	const struct machine *m = route_machine(arg, rq);

	if (m != NULL)
		reply_json(rq, 200, machine_why(m));
}

/* ---- actions ---- */

/* There was nothing to do: an operation that never began, and is done. */
static json_t *done_already(const struct machine *m, const char *verb)
{
	json_t *j = json_object();
	char now[32];

	format_time(now, clock_unix_ms());
	json_object_set_new(j, "id", json_null());
	json_put_str(j, "verb", verb);
	json_put_str(j, "vm", m->name);
	json_put_str(j, "state", "done");
	json_put_str(j, "step", NULL);
	json_put_str(j, "error", NULL);
	json_put_str(j, "started", now);
	json_put_str(j, "ended", now);
	return j;
}

typedef int action_fn(struct machine *m, struct operation **op, struct err *err);

static void act(struct drover *d, struct request *rq, const char *verb, action_fn *action)
{
	struct machine *m = route_machine(d, rq);
	struct operation *op = NULL;
	int64_t wait;
	struct err err;

	if (m == NULL)
		return;
	/* Before anything begins: a request that makes no sense changes nothing. */
	if (request_query_int(rq, "wait", 0, &wait, &err) < 0 || action(m, &op, &err) < 0)
		route_machine_err(rq, m, &err);
	else if (op == NULL)
		reply_json(rq, 200, done_already(m, verb));
	else
		route_operation(d, rq, op, false);
}

static int start(struct machine *m, struct operation **op, struct err *err)
{
	return machine_start(m, "a person", true, op, err);
}

static int stop(struct machine *m, struct operation **op, struct err *err)
{
	return machine_stop(m, INTENT_STOP, "a person", true, op, err);
}

static int kill_it(struct machine *m, struct operation **op, struct err *err)
{
	return machine_stop(m, INTENT_KILL, "a person", true, op, err);
}

static int restart(struct machine *m, struct operation **op, struct err *err)
{
	return machine_restart(m, INTENT_RESTART, "a person", op, err);
}

static int rm(struct machine *m, struct operation **op, struct err *err)
{
	return machine_rm(m, false, op, err);
}

static int rm_disks(struct machine *m, struct operation **op, struct err *err)
{
	return machine_rm(m, true, op, err);
}

void route_vm_start(void *arg, struct request *rq)
{
	act(arg, rq, "start", start);
}

void route_vm_stop(void *arg, struct request *rq)
{
	act(arg, rq, "stop", stop);
}

void route_vm_kill(void *arg, struct request *rq)
{
	act(arg, rq, "kill", kill_it);
}

void route_vm_restart(void *arg, struct request *rq)
{
	act(arg, rq, "restart", restart);
}

void route_vm_pause(void *arg, struct request *rq)
{
	act(arg, rq, "pause", machine_pause);
}

void route_vm_resume(void *arg, struct request *rq)
{
	act(arg, rq, "resume", machine_resume);
}

void route_vm_rm(void *arg, struct request *rq)
{
	bool disks;

	if (route_flag(rq, "disks", &disks))
		act(arg, rq, "rm", disks ? rm_disks : rm);
}

/* ---- the monitor's own protocol ---- */

struct qmp_call {
	struct request *rq; /* NULL: the client has gone */
	json_t *id;         /* NULL: the command had none */
	char *command;
};

static void call_free(struct qmp_call *call)
{
	json_decref(call->id);
	free(call->command);
	free(call);
}

static void qmp_gone(void *arg)
{
	struct qmp_call *call = arg;

	call->rq = NULL;
}

/* What QEMU refused is an answer; that it did not answer is an error. */
static bool is_answer(const struct err *err)
{
	return err->code != -ETIMEDOUT && err->code != -EPIPE && err->code != -ECANCELED &&
	       err->code != -ENOTCONN && err->code != -ENOMEM && err->code != -ECONNRESET;
}

/* In QEMU's form and words: what hv puts in front of them for a person is taken off. */
static json_t *refusal(const struct qmp_call *call, const struct err *err)
{
	const char *class = err->code == -ENOTSUP  ? "CommandNotFound"
			    : err->code == -ENOENT ? "DeviceNotFound"
			    : err->code == -EBADFD ? "DeviceNotActive"
						   : "GenericError";
	const char *desc = err->msg;

	if (str_starts(desc, call->command) && str_starts(desc + strlen(call->command), ": "))
		desc += strlen(call->command) + 2;
	return json_pack("{s:{s:s,s:o}}", "error", "class", class, "desc", json_str_new(desc));
}

static void qmp_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct qmp_call *call = arg;
	struct request *rq = call->rq;
	json_t *j;

	if (rq != NULL)
		request_on_gone(rq, NULL, NULL);
	if (rq != NULL && err != NULL && !is_answer(err)) {
		reply_err(rq, err, request_param(rq, "name"), NULL);
	} else if (rq != NULL) {
		if (err == NULL)
			j = json_pack("{s:o}", "return",
				reply != NULL ? json_deep_copy(reply) : json_object());
		else
			j = refusal(call, err);
		if (call->id != NULL)
			json_object_set(j, "id", call->id);
		reply_json(rq, 200, j);
	}
	call_free(call);
}

/* Whoever changes a machine behind the supervisor's back is on record. */
static void audit(struct machine *m, struct request *rq, const char *command)
{
	json_t *more = json_object();

	json_put_str(more, "command", command);
	json_put_int(more, "uid", request_uid(rq));
	json_put_int(more, "pid", request_pid(rq));
	events_emit(m->d->events, "vm", m->name, "qmp", more);
}

static int qmp_check(const struct machine *m, const json_t *command, struct err *err)
{
	if (!m->process || m->hv == NULL || m->up_mono_ms == 0)
		return err_set(err, -EBADFD, "vm %s: it has no monitor while it is %s", m->name,
			machine_state_name(m->state));
	if (json_str(command, "execute") == NULL)
		return err_set(err, -EINVAL,
			"not a QMP command: expected an object like {\"execute\":\"query-status\"}");
	return 0;
}

static int call_create(
	struct qmp_call **out, struct request *rq, const json_t *command, struct err *err)
{
	struct qmp_call *call = calloc(1, sizeof(*call));

	if (call == NULL)
		return err_nomem(err);
	call->rq = rq;
	call->id = json_incref(json_object_get(command, "id"));
	call->command = strdup(json_str(command, "execute"));
	if (call->command == NULL) {
		call_free(call);
		return err_nomem(err);
	}
	*out = call;
	return 0;
}

void route_vm_qmp(void *arg, struct request *rq)
{
	struct machine *m = route_machine(arg, rq);
	struct qmp_call *call = NULL;
	json_t *command = NULL;
	struct err err;
	int r;

	if (m == NULL)
		return;
	r = request_json(rq, &command, &err);
	if (r == 0)
		r = qmp_check(m, command, &err);
	if (r == 0)
		r = call_create(&call, rq, command, &err);
	if (r < 0) {
		route_machine_err(rq, m, &err);
		json_decref(command);
		return;
	}
	audit(m, rq, call->command);
	request_on_gone(rq, qmp_gone, call);
	hv_execute(m->hv, command, 0, qmp_reply, call);
	json_decref(command);
}
