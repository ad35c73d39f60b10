/* Between a machine and its health checks: supervisor/machine.h, supervisor/health.h. */
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/health.h"
#include "supervisor/machine.h"
#include "supervisor/network.h"

/* For the monitor of a machine that is about to be reset: a slow one is not dead. */
#define MONITOR_MS 5000

static void save(struct machine *m)
{
	struct err err;

	if (machine_save(m, &err) < 0)
		log_error("%s", err.msg);
}

static void emit(struct machine *m, const char *event, const char *action)
{
	json_t *more = json_object();

	if (action != NULL)
		json_put_str(more, "action", action);
	if (health_state(m->health) == HEALTH_UNHEALTHY) {
		json_object_set_new(more, "check", json_str_new(health_failed_check(m->health)));
		json_object_set_new(more, "reason", json_str_new(health_failed_reason(m->health)));
	}
	events_emit(m->d->events, "vm", m->name, event, more);
}

/* ---- what the checks say ---- */

static void became_ready(void *arg)
{
	struct machine *m = arg;

	m->ready = true;
	machine_tell(m, "ready", "all health checks have passed");
	emit(m, "ready", NULL);
	log_msg(LOG_LVL_INFO, m->name, "ready");
	save(m);
	machine_warm_ready(m);
}

static void changed(void *arg, enum health_state state)
{
	struct machine *m = arg;

	if (state == HEALTH_UNHEALTHY) {
		machine_tell(m, "unhealthy", "%s: %s", health_failed_check(m->health),
			health_failed_reason(m->health));
		log_msg(LOG_LVL_WARN, m->name, "unhealthy: %s: %s", health_failed_check(m->health),
			health_failed_reason(m->health));
	} else {
		machine_tell(m, "healthy", "all health checks pass again");
		log_msg(LOG_LVL_INFO, m->name, "healthy again");
	}
	emit(m, health_state_name(state), NULL);
	save(m);
}

/* ---- what is done about it ---- */

static enum health_action action_of(const struct machine *m)
{
	return m->cfg != NULL ? (enum health_action)m->cfg->health_action : HEALTH_ACTION_NONE;
}

/* Only of a machine that nobody else is busy with. */
static bool may_act(const struct machine *m)
{
	return m->health != NULL && health_state(m->health) == HEALTH_UNHEALTHY &&
	       m->state == MACHINE_RUNNING && m->op == NULL && !m->d->stopping &&
	       action_of(m) != HEALTH_ACTION_NONE;
}

static void reset_done(void *arg, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL)
		machine_tell(m, "health-action", "the reset failed: %s", err->msg);
}

static void restart(struct machine *m)
{
	char *why = str_printf("unhealthy: %s: %s", health_failed_check(m->health),
		health_failed_reason(m->health));
	struct err err;

	emit(m, "health-action", "restart");
	if (machine_restart(m, INTENT_RESTART, "the health checks", NULL, &err) < 0) {
		machine_tell(m, "health-action", "not restarted: %s", err.msg);
		free(why);
		return;
	}
	/* The cause of the end that comes. */
	free(m->unhealthy);
	m->unhealthy = why;
	m->restarts++;
}

static void monitor_answered(void *arg, const json_t *reply, const struct err *err)
{
	struct machine *m = arg;

	if (!may_act(m))
		return;
	/* Then the guest does not run, and is not to blame; a reset would hit it when it does. */
	if (err != NULL) {
		machine_tell(m, "health-action", "nothing is done, for the monitor fails too: %s",
			err->msg);
		return;
	}
	if (action_of(m) == HEALTH_ACTION_RESTART) {
		restart(m);
		return;
	}
	machine_tell(m, "health-action", "reset: %s: %s", health_failed_check(m->health),
		health_failed_reason(m->health));
	emit(m, "health-action", "reset");
	hv_reset(m->hv, reset_done, m);
}

static void act(void *arg)
{
	struct machine *m = arg;

	if (may_act(m))
		hv_ping(m->hv, MONITOR_MS, monitor_answered, m);
}

/* ---- what the checks need ---- */

static bool address(void *arg, unsigned *port, char out[64])
{
	const struct machine *m = arg;
	char ip[16];

	if (!network_reach(m, port, ip))
		return false;
	snprintf(out, 64, "%s", ip);
	return true;
}

static void ping(void *arg, uint64_t timeout_ms, hv_reply_fn *reply, void *reply_arg)
{
	struct machine *m = arg;
	json_t *cmd = json_pack("{s:s}", "execute", "guest-ping");

	hv_agent(m->hv, cmd, timeout_ms, reply, reply_arg);
	json_decref(cmd);
}

static void forget(void *arg, const void *reply_arg)
{
	struct machine *m = arg;

	if (m->hv != NULL)
		hv_agent_forget(m->hv, reply_arg);
}

/* ---- when they are done ---- */

static void start(struct machine *m, bool late)
{
	const struct vm_config *cfg = m->cfg;
	struct health_callbacks cb = { .ready = became_ready,
		.changed = changed,
		.act = act,
		.address = address,
		.ping = ping,
		.forget = forget,
		.arg = m };
	struct health_spec spec;
	struct err err;

	/* What another one's guest answers says nothing of this one. */
	if (cfg == NULL || cfg->health.n == 0 || machine_warm_foreign(m))
		return;
	spec = (struct health_spec){ .checks = &cfg->health,
		.interval_ms = cfg->health_interval,
		.timeout_ms = cfg->health_timeout,
		.start_period_ms = cfg->health_start_period,
		.retries = (unsigned)cfg->health_retries,
		.late = late && !m->warm_load,
		.said = m->warm_load,
		.ready = m->ready };
	if (health_create(&m->health, m->d->loop, m->d->http, &spec, &cb, &err) < 0) {
		log_msg(LOG_LVL_ERROR, m->name, "health checks: %s (ignoring)", err.msg);
		return;
	}
	if (late)
		machine_health_console(m);
	if (m->ready)
		machine_warm_ready(m);
}

static void stop(struct machine *m)
{
	health_destroy(m->health);
	m->health = NULL;
}

void machine_health_state(struct machine *m, enum machine_state from)
{
	switch (m->state) {
	case MACHINE_RUNNING:
		if (m->health != NULL)
			health_resume(m->health);
		else
			start(m, from != MACHINE_STARTING);
		break;
	case MACHINE_PAUSED:
	case MACHINE_SAVING:
	case MACHINE_RESTORING:
	case MACHINE_MIGRATING:
		if (m->health != NULL)
			health_pause(m->health);
		break;
	default:
		stop(m);
		break;
	}
}

void machine_health_reload(struct machine *m)
{
	stop(m);
	if (m->state == MACHINE_RUNNING)
		start(m, true);
}

void machine_health_boot(struct machine *m)
{
	m->ready = false;
	if (m->health != NULL)
		health_boot(m->health);
}

/* A prompt has no end of line, so what has been begun counts too. */
void machine_health_console(struct machine *m)
{
	struct strv lines = { 0 };

	if (m->health == NULL || m->console == NULL || !health_wants_console(m->health))
		return;
	console_tail(m->console, 1, &lines);
	if (lines.n > 0)
		health_console(m->health, lines.v[lines.n - 1]);
	strv_finish(&lines);
}

void machine_health_line(struct machine *m, const char *line)
{
	if (m->health != NULL && health_wants_console(m->health))
		health_console(m->health, line);
}
