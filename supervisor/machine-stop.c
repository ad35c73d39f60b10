/* The end of a run: escalation, teardown, and what comes after. supervisor/machine.h. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/machine-space.h"
#include "supervisor/migrate.h"
#include "supervisor/network.h"
#include "supervisor/network-tap.h"
#include "supervisor/faults.h"

#define AGENT_PING_MS 2000 /* an agent that takes longer is not waited for */
#define QUIT_MS       5000 /* for the hypervisor to end after quit, and after SIGTERM */
#define KILL_AGAIN_MS 1000 /* until a SIGKILL that could not be sent is tried again */

/* ---- shutdown escalates ---- */

enum shutdown_step {
	STEP_AGENT,
	STEP_GUEST,
	STEP_QUIT,
	STEP_TERM,
	STEP_KILL
};

static const char *const step_names[] = {
	[STEP_AGENT] = "guest agent",
	[STEP_GUEST] = "ACPI power button",
	[STEP_QUIT] = "monitor quit",
	[STEP_TERM] = "SIGTERM",
	[STEP_KILL] = "SIGKILL",
};

static void sent(void *arg, const struct err *err)
{
	struct machine *m = arg;

	/* A command that failed needs no waiting: the next step comes at once. */
	if (err != NULL && m->process && m->state == MACHINE_STOPPING) {
		machine_tell(
			m, "stop-step", "%s failed: %s", step_names[m->shutdown_step], err->msg);
		deadline_set(&m->timer, m->shutdown_step < STEP_KILL ? 0 : KILL_AGAIN_MS);
	}
}

static void quit_sent(void *arg, const struct err *err)
{
	/* A reply to quit may never come: only its deadline counts. */
}

static void resumed_for_stop(void *arg, const struct err *err)
{
	struct machine *m = arg;

	if (m->process && m->shutdown_step == STEP_GUEST)
		hv_powerdown(m->hv, sent, m);
}

/* ---- the guest agent ---- */

static bool at_agent(const struct machine *m)
{
	return m->process && m->state == MACHINE_STOPPING && m->shutdown_step == STEP_AGENT;
}

static void ask_agent(
	struct machine *m, const char *command, uint64_t timeout_ms, hv_reply_fn *reply)
{
	json_t *cmd = json_pack("{s:s}", "execute", command);

	hv_agent(m->hv, cmd, timeout_ms, reply, m);
	json_decref(cmd);
}

static void agent_obeys(void *arg, const json_t *reply, const struct err *err)
{
	/* When it does as it was told there is no answer. */
	if (err != NULL && err->code != -ETIMEDOUT && err->code != -ECONNRESET && at_agent(arg))
		sent(arg, err);
}

static void agent_there(void *arg, const json_t *reply, const struct err *err)
{
	struct machine *m = arg;

	if (!at_agent(m))
		return;
	if (err != NULL)
		sent(m, err);
	else
		ask_agent(m, "guest-shutdown", 0, agent_obeys);
}

static void resumed_for_agent(void *arg, const struct err *err)
{
	struct machine *m = arg;

	if (at_agent(m))
		ask_agent(m, "guest-ping", AGENT_PING_MS, agent_there);
}

/* What is left of the time that the guest may take. */
static uint64_t guest_time(const struct machine *m)
{
	uint64_t all = m->guest_time_given ? m->guest_time_ms
		       : m->cfg != NULL    ? m->cfg->stop_timeout
					   : m->run_cfg->stop_timeout;
	uint64_t spent = clock_mono_ms() - m->shutdown_mono_ms;

	return all > spent ? all - spent : 0;
}

void machine_give_guest_time(struct machine *m, uint64_t ms, bool only_less)
{
	bool shutting_down = m->process && m->state == MACHINE_STOPPING &&
			     m->shutdown_step <= STEP_GUEST;

	/* Of a stop that has gone on to harder steps nothing is left to be given. */
	if (only_less && (!shutting_down || guest_time(m) <= ms))
		return;
	m->guest_time_given = true;
	m->guest_time_ms = ms + (shutting_down ? clock_mono_ms() - m->shutdown_mono_ms : 0);
	if (shutting_down)
		deadline_set(&m->timer, m->shutdown_step == STEP_AGENT ? ms / 2 : ms);
}

/* ---- the steps ---- */

static const char *const words[] = { "agent", "power-button", "quit", "sigterm", "sigkill" };

static const char *stop_point(size_t i)
{
	return i < ARRAY_LEN(words) ? words[i] : NULL;
}
const struct fault_table stop_faults = { "stop", stop_point, FAULT_ALL };

/* A guest whose disk was full may have room now. */
static bool stands_still(const struct machine *m)
{
	enum hv_status status = hv_status(m->hv);

	return status == HV_STATUS_PAUSED || status == HV_STATUS_IO_ERROR;
}

static void run_step(struct machine *m)
{
	json_t *more = json_object();
	struct err err;
	int r;

	r = fault_at("stop", words[m->shutdown_step], &err);
	operation_step(m->op, step_names[m->shutdown_step]);
	machine_tell(m, "stop-step", "%s", step_names[m->shutdown_step]);
	json_object_set_new(more, "step", json_string(words[m->shutdown_step]));
	events_emit(m->d->events, "vm", m->name, "stop-step", more);
	if (r < 0) {
		sent(m, &err);
		return;
	}
	switch ((enum shutdown_step)m->shutdown_step) {
	case STEP_AGENT:
		/* The other half is for the power button, should it come to that. */
		deadline_set(&m->timer, guest_time(m) / 2);
		if (stands_still(m))
			hv_resume(m->hv, resumed_for_agent, m);
		else
			ask_agent(m, "guest-ping", AGENT_PING_MS, agent_there);
		break;
	case STEP_GUEST:
		deadline_set(&m->timer, guest_time(m));
		/* A guest that does not run cannot heed its power button. */
		if (stands_still(m))
			hv_resume(m->hv, resumed_for_stop, m);
		else
			hv_powerdown(m->hv, sent, m);
		break;
	case STEP_QUIT:
		deadline_set(&m->timer, QUIT_MS);
		hv_quit(m->hv, quit_sent, m);
		break;
	case STEP_TERM:
		deadline_set(&m->timer, QUIT_MS);
		hv_kill(m->hv, SIGTERM);
		break;
	case STEP_KILL:
		/* There is no next step: it is only tried again. */
		deadline_cancel(&m->timer);
		r = hv_kill(m->hv, SIGKILL);
		if (r < 0 && r != -ESRCH) {
			err_errno(&err, r, "process %d", (int)hv_process(m->hv)->pid);
			sent(m, &err);
		}
		break;
	}
}

void machine_shutdown_next(struct machine *m)
{
	if (!m->process)
		return;
	if (m->shutdown_step < STEP_KILL)
		m->shutdown_step++;
	run_step(m);
}

void machine_begin_shutdown(struct machine *m)
{
	enum hv_status status;

	if (!m->process)
		return; /* the teardown is under way */
	status = hv_status(m->hv);
	if (m->intent == INTENT_KILL)
		m->shutdown_step = STEP_KILL;
	else if (status == HV_STATUS_CREATED || status == HV_STATUS_PANICKED ||
		 status == HV_STATUS_BROKEN || status == HV_STATUS_SHUTDOWN ||
		 status == HV_STATUS_INCOMING || m->intent == INTENT_SUSPEND ||
		 m->intent == INTENT_RESTORE || m->intent == INTENT_WARM ||
		 m->intent == INTENT_MIGRATE || !machine_may_run(m))
		m->shutdown_step = STEP_QUIT; /* there is no guest that could shut down */
	else
		m->shutdown_step = hv_caps(m->hv)->agent ? STEP_AGENT : STEP_GUEST;
	m->shutdown_mono_ms = clock_mono_ms();
	run_step(m);
}

/* ---- why the run ended ---- */

static void set_cause(struct machine *m, enum cause cause, char *sentence)
{
	m->last_cause = cause;
	free(m->sentence);
	m->sentence = sentence;
}

static const char *intent_text(enum intent intent)
{
	switch (intent) {
	case INTENT_KILL:
		return "killed on request";
	case INTENT_STOP:
		return "stopped on request";
	case INTENT_SUSPEND:
		return "suspended to disk";
	case INTENT_WARM:
		return "frozen: machines begin with its memory";
	case INTENT_RESTORE:
		return "ended for a restore";
	case INTENT_MIGRATE:
		return "its migration did not come to its end";
	default:
		return "restarted on request";
	}
}

static bool stays_down(const struct machine *m)
{
	return m->intent == INTENT_STOP || m->intent == INTENT_KILL ||
	       m->intent == INTENT_SUSPEND || m->intent == INTENT_WARM ||
	       m->intent == INTENT_MIGRATE;
}

static void find_cause(struct machine *m)
{
	const char *status = child_status_text(&m->exit_status);
	bool to_stop = stays_down(m);

	if (m->migrated_to != NULL && m->intent == INTENT_MIGRATE) {
		set_cause(m, CAUSE_MIGRATED, machine_migrated_text(m));
		return;
	}
	/* A panicked guest's hypervisor is killed by us. */
	if (machine_oom_killed(m) && m->intent == INTENT_NONE && !m->panicked) {
		set_cause(m, CAUSE_OOM_KILL, machine_oom_text(m));
		/* A start that is to be done again has failed all the same. */
	} else if (m->error.code == -ECANCELED || (m->error.code < 0 && to_stop)) {
		set_cause(m, CAUSE_REQUESTED, strdup("stopped while it was starting"));
	} else if (m->error.code < 0) {
		set_cause(m, CAUSE_START_FAILURE, strdup(m->error.msg));
	} else if (m->intent == INTENT_RESTART && m->unhealthy != NULL) {
		set_cause(m, CAUSE_UNHEALTHY,
			str_printf("%s; the hypervisor %s after: %s", m->unhealthy, status,
				step_names[m->shutdown_step]));
	} else if (m->intent != INTENT_NONE) {
		set_cause(m, CAUSE_REQUESTED,
			str_printf("%s; the hypervisor %s after: %s", intent_text(m->intent),
				status, step_names[m->shutdown_step]));
	} else if (m->quit_by != NULL && m->hint == CAUSE_NONE &&
		   (!m->exit_status.known ||
			   (!m->exit_status.signaled && m->exit_status.code == 0))) {
		/* Nobody saw the event: an earlier daemon had passed the command on. */
		set_cause(m, CAUSE_REQUESTED, str_printf("quit by %s", m->quit_by));
	} else if (m->hint != CAUSE_NONE) {
		set_cause(m, m->hint, m->hint_text != NULL ? strdup(m->hint_text) : NULL);
	} else if (!m->exit_status.known) {
		set_cause(m, CAUSE_UNKNOWN,
			strdup("the hypervisor is gone; nobody saw with which status"));
	} else if (!m->exit_status.signaled && m->exit_status.code == 0) {
		set_cause(m, CAUSE_GUEST_SHUTDOWN, strdup("the hypervisor exited with status 0"));
	} else {
		set_cause(m, CAUSE_HYPERVISOR_CRASH, str_printf("the hypervisor %s", status));
	}
}

static void keep_console(struct machine *m)
{
	struct strv lines = { 0 };

	json_decref(m->last_console);
	m->last_console = json_array();
	if (m->console != NULL)
		console_tail(m->console, 20, &lines);
	for (size_t i = 0; i < lines.n; i++)
		json_array_append_new(m->last_console, json_str_new(lines.v[i]));
	strv_finish(&lines);
}

static void end_run(struct machine *m)
{
	/* An earlier daemon has seen the end, and more of it than we. */
	if (m->ended)
		return;
	m->run_ended_ms = clock_unix_ms();
	keep_console(m);
	machine_cgroup_end(m);
	find_cause(m);
	machine_tell(m, "ended", "%s: %s", cause_name(m->last_cause),
		m->sentence != NULL ? m->sentence : "");
	m->ended = true;
	m->ended_seq = events_last(m->d->events) + 1;
}

/*
 * The number is in the state file before the event is in the log: whoever is killed between the
 * two, the next daemon sees whether the event is there.
 */
void machine_announce_end(struct machine *m)
{
	json_t *more;

	if (!m->ended || events_last(m->d->events) >= m->ended_seq)
		return;
	more = json_object();
	json_put_str(more, "cause", cause_name(m->last_cause));
	json_put_str(more, "reason", m->sentence);
	json_put_int(more, "boot", m->boot);
	json_put_str(
		more, "status", m->exit_status.known ? child_status_text(&m->exit_status) : NULL);
	events_emit(m->d->events, "vm", m->name, "ended", more);
	log_msg(cause_is_failure(m->last_cause) ? LOG_LVL_WARN : LOG_LVL_INFO, m->name,
		"ended: %s: %s", cause_name(m->last_cause), m->sentence != NULL ? m->sentence : "");
}

/* ---- the one teardown ---- */

static void released(void *arg)
{
	struct machine *m = arg;

	m->tearing_down = false;
	if (m->closing > 0) {
		machine_closed(m);
		return;
	}
	machine_forget_nics(m);
	machine_event(m, EV_CLEAN);
}

static void save_end(struct machine *m)
{
	struct err err;
	int r = fault_at("teardown", "save", &err);

	if (r == 0) {
		machine_save_soon(m);
		machine_flush(m);
	} else {
		log_error("%s", err.msg);
	}
}

static void let_go(struct machine *m)
{
	machine_job_lost(m);
	machine_warm_lost(m);
	machine_migrate_lost(m);
	console_destroy(m->console);
	m->console = NULL;
	hv_destroy(m->hv, NULL, NULL);
	machine_forget_questions(m);
	m->hv = NULL;
	machine_nic_lost(m);
	machine_forget_devices(m);
	machine_space_forget(m);
	m->up_mono_ms = 0;
	machine_leave_slot(m);
	for (unsigned i = 0; i < m->nnics; i++) {
		network_close_tap(&m->nics[i]);
		network_tap_forget(&m->nics[i]);
	}
}

static void release_objects(struct machine *m)
{
	/* It uses no bridge any more, for which a change of one may have waited. */
	for (unsigned i = 0; i < m->nnics; i++)
		m->nics[i].bridge[0] = '\0';
	objects_release(m->d, m->owner, released, m);
}

/* None of them fails the teardown: what cannot be done is logged and left to the reconciler. */
static const struct {
	const char *name;
	void (*fn)(struct machine *m);
} teardown_steps[] = {
	{ "end-run", end_run },
	{ "save", save_end },
	{ "announce", machine_announce_end },
	{ "let-go", let_go },
	{ "objects", release_objects },
};

static const char *teardown_point(size_t i)
{
	return i < ARRAY_LEN(teardown_steps) ? teardown_steps[i].name : NULL;
}
const struct fault_table teardown_faults = { "teardown", teardown_point, FAULT_BIT(1) };

void machine_begin_teardown(struct machine *m)
{
	/* A start that failed after the spawn: the hypervisor is being killed, its exit comes. */
	if (m->process || m->tearing_down || machine_nic_holds(m))
		return;
	m->tearing_down = true;
	m->guest_time_given = false;
	deadline_cancel(&m->timer);
	deadline_cancel(&m->panic_timer);
	for (size_t i = 0; i < ARRAY_LEN(teardown_steps); i++) {
		/* An error of save is injected there. */
		if (teardown_steps[i].fn != save_end)
			fault_at("teardown", teardown_steps[i].name, NULL);
		teardown_steps[i].fn(m);
	}
}

/* ---- what comes after ---- */

static enum restart_verdict decide(struct machine *m, uint64_t *delay_ms)
{
	const struct vm_config *cfg = m->cfg;
	struct restart_rules rules;
	uint32_t random = 20;
	uint64_t ran = 0;

	if (cfg == NULL || m->d->stopping || stays_down(m) || !machine_may_run(m))
		return RESTART_STAY;
	/* By a client of the passthrough: as much a person's wish as a stop. */
	if (m->last_cause == CAUSE_REQUESTED && m->want_known && !m->want_running)
		return RESTART_STAY;
	rules = (struct restart_rules){ .policy = cfg->restart,
		.delay_ms = cfg->restart_delay,
		.max_delay_ms = cfg->restart_max_delay,
		.stable_ms = cfg->restart_reset,
		.limit = cfg->restart_limit };
	if (m->run_ended_ms > m->run_started_ms && m->error.code == 0)
		ran = m->run_ended_ms - m->run_started_ms;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 20;
	return restart_decide(&rules, m->last_cause, ran, &m->failures, random, delay_ms);
}

/* Of a start or restart that did not come to its end; stops have theirs. */
static const struct err *op_result(struct machine *m, struct err *err)
{
	if (m->op != NULL && m->op_cancelled) {
		err_set(err, -ECANCELED, "vm %s: %s was cancelled", m->name, operation_verb(m->op));
		return err;
	}
	if (m->op == NULL || stays_down(m))
		return NULL;
	if (m->error.code < 0)
		return &m->error;
	err_set(err, -EIO, "vm %s: %s", m->name,
		m->sentence != NULL ? m->sentence : "it has ended");
	return err;
}

void machine_settle(struct machine *m)
{
	enum intent intent = m->intent;
	struct err err;
	uint64_t delay_ms = 0;

	machine_throw_away(m);
	machine_warm_forget_run(m);
	if (machine_warm_settle(m))
		return;
	if (m->restore == NULL && (intent == INTENT_RESTART || intent == INTENT_RECREATE) &&
		m->cfg != NULL && !m->d->stopping && machine_may_run(m)) {
		if (intent == INTENT_RECREATE && machine_forget_disk(m, &err) < 0)
			log_error("%s (ignoring: the old disk stays)", err.msg);
		/* The story that follows is the new run's. */
		json_decref(m->story);
		m->story = NULL;
		machine_tell(m, "start", "started again: the run before ended as %s",
			cause_name(m->last_cause));
		machine_event(m, EV_AGAIN);
		return;
	}
	if (m->restore != NULL && !m->d->stopping && machine_restore_settle(m))
		return;
	switch (decide(m, &delay_ms)) {
	case RESTART_STAY:
		m->disk_stale = !m->suspended;
		machine_event(m, EV_REST);
		break;
	case RESTART_AGAIN:
		machine_tell(m, "backoff", "starts again in %llu ms (%u in a row)",
			(unsigned long long)delay_ms, m->failures);
		m->retry_at_ms = clock_unix_ms() + delay_ms;
		deadline_set(&m->timer, delay_ms);
		machine_event(m, EV_WAIT);
		break;
	case RESTART_GIVE_UP:
		m->disk_stale = true;
		machine_event(m, EV_GIVE_UP);
		break;
	}
}

void machine_at_rest(struct machine *m)
{
	struct err err;
	const struct err *result = op_result(m, &err);

	config_box_unref(m->run_box);
	m->run_box = NULL;
	m->run_cfg = NULL;
	m->intent = INTENT_NONE;
	if (machine_migrate_at_rest(m))
		machine_end_op(m, result);
	machine_wake_waiting(m->d);
	machine_warm_wake(m->d);
	machine_adopt_finished(m);
	drover_machine_rests(m->d);
}
