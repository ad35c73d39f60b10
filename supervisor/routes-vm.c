/* Machines: what they are, and what is asked of them. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/json-scan.h"
#include "lib/clock.h"
#include "lib/json-add.h"
#include "lib/json.h"
#include "supervisor/migrate.h"

void route_vms(void *arg, struct request *rq)
{
	struct drover *d = arg;
	const struct machine *m;
	struct buf text = { 0 };
	bool all;

	if (!route_flag(rq, "all", &all))
		return;
	json_add_open(&text, NULL, '[');
	list_for_each_entry (m, &d->machines, entry) {
		if (all || m->cfg != NULL || machine_active(m))
			machine_add_summary(m, &text);
	}
	buf_add(&text, "]", 1);
	reply_json_text(rq, 200, &text);
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

static void answer(struct drover *d, struct request *rq, struct machine *m, const char *verb,
	struct operation *op, int r, const struct err *err)
{
	if (r < 0)
		route_machine_err(rq, m, err);
	else if (op == NULL)
		reply_json(rq, 200, done_already(m, verb));
	else
		route_operation(d, rq, op, false);
}

typedef int action_fn(struct machine *m, struct operation **op, struct err *err);

static void act(struct drover *d, struct request *rq, const char *verb, action_fn *action)
{
	struct machine *m = route_machine(d, rq);
	struct operation *op = NULL;
	int64_t wait;
	struct err err;
	int r;

	if (m == NULL)
		return;
	/* Before anything begins: a request that makes no sense changes nothing. */
	r = request_query_int(rq, "wait", 0, &wait, &err);
	if (r == 0)
		r = action(m, &op, &err);
	answer(d, rq, m, verb, op, r, &err);
}

static int start(struct machine *m, struct operation **op, struct err *err)
{
	return machine_start(m, "a person", true, op, err);
}

/* Boots afresh, whatever was saved of it. */
static int start_discard(struct machine *m, struct operation **op, struct err *err)
{
	if (m->op == NULL && m->suspended && !machine_active(m))
		machine_drop_suspended(m);
	/* Whoever says so knows that it does not run elsewhere. */
	if (m->op == NULL && machine_may_run(m) && !machine_active(m)) {
		free(m->migrated_to);
		m->migrated_to = NULL;
	}
	return start(m, op, err);
}

static int stop(struct machine *m, struct operation **op, struct err *err)
{
	return machine_stop(m, INTENT_STOP, "a person", true, op, err);
}

/* Longer than a guest may take by stop_timeout's bounds. */
#define GUEST_TIME_MAX_S 86400

void route_vm_stop(void *arg, struct request *rq)
{
	struct drover *d = arg;
	struct machine *m;
	struct operation *op = NULL;
	int64_t wait, timeout;
	struct err err;
	int r;

	if (request_query(rq, "timeout") == NULL) {
		act(d, rq, "stop", stop);
		return;
	}
	m = route_machine(d, rq);
	if (m == NULL)
		return;
	r = request_query_int(rq, "wait", 0, &wait, &err);
	if (r == 0)
		r = request_query_int(rq, "timeout", 0, &timeout, &err);
	if (r == 0 && (timeout < 0 || timeout > GUEST_TIME_MAX_S))
		r = err_set(
			&err, -EINVAL, "timeout must be from 0 to %d seconds", GUEST_TIME_MAX_S);
	if (r == 0)
		r = machine_stop_within(m, (uint64_t)timeout * 1000, "a person", &op, &err);
	answer(d, rq, m, "stop", op, r, &err);
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

/* What becomes of a disk that another host may be using is not for everybody to decide. */
static void act_on_disk(struct drover *d, struct request *rq, const char *verb, action_fn *action)
{
	struct machine *m = route_machine(d, rq);
	struct err err;

	if (m == NULL)
		return;
	if (m->migrated_to != NULL &&
		route_owner_only(rq, "decide of a machine that has migrated away", &err) < 0)
		route_machine_err(rq, m, &err);
	else
		act(d, rq, verb, action);
}

void route_vm_start(void *arg, struct request *rq)
{
	bool discard;

	if (!route_flag(rq, "discard", &discard))
		return;
	if (discard)
		act_on_disk(arg, rq, "start", start_discard);
	else
		act(arg, rq, "start", start);
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

void route_vm_suspend(void *arg, struct request *rq)
{
	act(arg, rq, "suspend", machine_suspend);
}

void route_vm_rm(void *arg, struct request *rq)
{
	bool disks;

	if (!route_flag(rq, "disks", &disks))
		return;
	if (disks)
		act_on_disk(arg, rq, "rm", rm_disks);
	else
		act(arg, rq, "rm", rm);
}

/* ---- the monitor's own protocol ---- */

struct qmp_call {
	struct request *rq; /* NULL: the client has gone */
};

static void qmp_gone(void *arg)
{
	struct qmp_call *call = arg;

	call->rq = NULL;
}

static void qmp_reply(void *arg, const char *text, size_t len, const struct err *err)
{
	struct qmp_call *call = arg;
	struct request *rq = call->rq;

	free(call);
	if (rq == NULL)
		return;
	request_on_gone(rq, NULL, NULL);
	if (err != NULL)
		reply_err(rq, err, request_param(rq, "name"), NULL);
	else
		reply_text(rq, 200, "application/json", text, len);
}

typedef int monitor_check(const struct machine *m, const char *text, size_t len, struct err *err);

static int qmp_check(const struct machine *m, const char *text, size_t len, struct err *err)
{
	struct json_member member;

	if (hv_can(m->hv, HV_CAP_PASSTHROUGH, err) < 0)
		return err->code;
	/* The rest is for the monitor to say. */
	if (text[strspn(text, " \t\r\n")] != '{' || !json_find(text, len, "execute", &member))
		return err_set(err, -EINVAL,
			"not a QMP command: expected an object like {\"execute\":\"query-status\"}");
	return 0;
}

static int ch_check(const struct machine *m, const char *text, size_t len, struct err *err)
{
	if (hv_can(m->hv, HV_CAP_PASSTHROUGH, NULL) == 0)
		return err_set(err, -ENOTSUP, "%s speaks QMP and no HTTP: use `drover qmp`",
			hv_caps(m->hv)->program);
	return 0;
}

static void monitor_command(void *arg, struct request *rq, monitor_check *check)
{
	struct machine *m = route_machine(arg, rq);
	struct hv_peer who = { .uid = request_uid(rq), .pid = request_pid(rq) };
	struct qmp_call *call;
	struct err err;
	size_t len;
	const char *text = request_body(rq, &len);
	bool write;

	if (m == NULL || !route_flag(rq, "write", &write))
		return;
	call = calloc(1, sizeof(*call));
	err.code = 0;
	if (call == NULL)
		err_nomem(&err);
	else if (!m->process || m->hv == NULL || m->up_mono_ms == 0)
		err_set(&err, -EBADFD, "vm %s: it has no monitor while it is %s", m->name,
			machine_state_name(m->state));
	/* The monitor opens files as the hypervisor does, who is root. */
	if (err.code == 0 && write)
		machine_check_may_run(m, "change", &err);
	if (err.code == 0 && write && !(m->cfg != NULL && m->cfg->qmp_write))
		route_owner_only(
			rq, "change a machine by its monitor without qmp_write = yes", &err);
	if (err.code != 0 || check(m, text, len, &err) < 0) {
		route_machine_err(rq, m, &err);
		free(call);
		return;
	}
	call->rq = rq;
	request_on_gone(rq, qmp_gone, call);
	hv_execute_text(m->hv, &who, text, len, write, qmp_reply, call);
}

void route_vm_qmp(void *arg, struct request *rq)
{
	monitor_command(arg, rq, qmp_check);
}

void route_vm_ch(void *arg, struct request *rq)
{
	monitor_command(arg, rq, ch_check);
}
