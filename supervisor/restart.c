#include "supervisor/restart.h"

#include <string.h>

#include "supervisor/config.h"

static const struct {
	const char *name;
	bool failure;
} causes[CAUSES] = {
	[CAUSE_NONE] = { NULL, false },
	[CAUSE_REQUESTED] = { "requested", false },
	[CAUSE_GUEST_SHUTDOWN] = { "guest-shutdown", false },
	[CAUSE_GUEST_REBOOT] = { "guest-reboot", false },
	[CAUSE_GUEST_PANIC] = { "guest-panic", true },
	[CAUSE_HYPERVISOR_CRASH] = { "hypervisor-crash", true },
	[CAUSE_OOM_KILL] = { "oom-kill", true },
	[CAUSE_WATCHDOG] = { "watchdog", true },
	[CAUSE_UNHEALTHY] = { "unhealthy", true },
	[CAUSE_IO_ERROR] = { "io-error", true },
	[CAUSE_START_FAILURE] = { "start-failure", true },
	[CAUSE_HOST_SHUTDOWN] = { "host-shutdown", false },
	[CAUSE_MIGRATED] = { "migrated", false },
	[CAUSE_UNKNOWN] = { "unknown", true },
};

const char *cause_name(enum cause c)
{
	return causes[c].name;
}

enum cause cause_from_name(const char *name)
{
	for (int c = 0; name != NULL && c < CAUSES; c++) {
		if (causes[c].name != NULL && strcmp(causes[c].name, name) == 0)
			return (enum cause)c;
	}
	return CAUSE_NONE;
}

bool cause_is_failure(enum cause c)
{
	return causes[c].failure;
}

/* delay * 2^n, bounded, +-20 %. */
static uint64_t backoff(const struct restart_rules *rules, unsigned n, uint32_t random)
{
	uint64_t delay = rules->delay_ms;

	for (unsigned i = 0; i < n && delay < rules->max_delay_ms; i++)
		delay *= 2;
	if (delay > rules->max_delay_ms)
		delay = rules->max_delay_ms;
	return delay * (80 + random % 41) / 100;
}

enum restart_verdict restart_decide(const struct restart_rules *rules, enum cause cause,
	uint64_t ran_ms, unsigned *failures, uint32_t random, uint64_t *delay_ms)
{
	bool again = rules->policy == RESTART_ALWAYS ||
		     (rules->policy == RESTART_ON_FAILURE && cause_is_failure(cause));

	if (cause == CAUSE_REQUESTED || cause == CAUSE_MIGRATED)
		return RESTART_STAY;
	if (!again)
		return cause_is_failure(cause) ? RESTART_GIVE_UP : RESTART_STAY;
	if (ran_ms >= rules->stable_ms)
		*failures = 0;
	if (rules->limit != 0 && *failures >= rules->limit)
		return RESTART_GIVE_UP;
	*delay_ms = backoff(rules, *failures, random);
	++*failures;
	return RESTART_AGAIN;
}
