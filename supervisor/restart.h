/*
 * supervisor/restart.h - how a run ended and whether the machine starts again. Pure.
 */
#ifndef DROVER_SUPERVISOR_RESTART_H
#define DROVER_SUPERVISOR_RESTART_H

#include <stdbool.h>
#include <stdint.h>

/* Why a run ended (DESIGN, "A machine"). */
enum cause {
	CAUSE_NONE,
	CAUSE_REQUESTED,
	CAUSE_GUEST_SHUTDOWN,
	CAUSE_GUEST_REBOOT,
	CAUSE_GUEST_PANIC,
	CAUSE_HYPERVISOR_CRASH,
	CAUSE_OOM_KILL,
	CAUSE_WATCHDOG,
	CAUSE_UNHEALTHY, /* restarted by health_action */
	CAUSE_IO_ERROR,
	CAUSE_START_FAILURE,
	CAUSE_HOST_SHUTDOWN,
	CAUSE_MIGRATED, /* it runs on another host */
	CAUSE_UNKNOWN,
	CAUSES
};
const char *cause_name(enum cause c);         /* "guest-shutdown"; NULL for CAUSE_NONE */
enum cause cause_from_name(const char *name); /* CAUSE_NONE for one that is not known */
bool cause_is_failure(enum cause c);

struct restart_rules {
	int policy;                      /* enum restart_policy */
	uint64_t delay_ms, max_delay_ms; /* first and longest wait */
	uint64_t stable_ms;              /* a run that lasted so long starts the count anew */
	uint64_t limit;                  /* restarts in a row before it is given up; 0: none */
};

enum restart_verdict {
	RESTART_STAY,
	RESTART_AGAIN,
	RESTART_GIVE_UP
};

/*
 * failures is the count of restarts in a row so far, kept by the caller and persisted; it is
 * updated. random: any 32 bits, for the jitter of +-20 %. delay_ms gets the wait.
 */
enum restart_verdict restart_decide(const struct restart_rules *rules, enum cause cause,
	uint64_t ran_ms, unsigned *failures, uint32_t random, uint64_t *delay_ms);

#endif
