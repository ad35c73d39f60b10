/* The transitions of supervisor/machine.h: state x event -> next state and action. */
#include "supervisor/machine.h"
#include "supervisor/migrate.h"

static const char *const state_names[MACHINE_STATES] = {
	[MACHINE_STOPPED] = "stopped",
	[MACHINE_PREPARING] = "preparing",
	[MACHINE_STARTING] = "starting",
	[MACHINE_RUNNING] = "running",
	[MACHINE_PAUSED] = "paused",
	[MACHINE_SAVING] = "saving",
	[MACHINE_RESTORING] = "restoring",
	[MACHINE_MIGRATING] = "migrating",
	[MACHINE_STOPPING] = "stopping",
	[MACHINE_BACKOFF] = "backoff",
	[MACHINE_FAILED] = "failed",
	[MACHINE_UNKNOWN] = "unknown",
};

const char *machine_state_name(enum machine_state s)
{
	return state_names[s];
}

#define TO(state, action)                                                                          \
	{                                                                                          \
		true, MACHINE_##state, action                                                      \
	}

/* clang-format off */
static const struct transition table[MACHINE_STATES][MACHINE_EVENTS] = {
	[MACHINE_STOPPED] = {
		[EV_START]	  = TO(PREPARING, machine_begin_prepare),
	},
	[MACHINE_PREPARING] = {
		[EV_PREPARED]	  = TO(STARTING, machine_begin_spawn),
		[EV_MIGRATE]	  = TO(MIGRATING, machine_begin_spawn),
		[EV_LOAD]	  = TO(RESTORING, machine_begin_spawn),
		[EV_START_FAILED] = TO(STOPPING, machine_begin_teardown),
		[EV_STOP]	  = TO(STOPPING, machine_cancel_start),
	},
	[MACHINE_STARTING] = {
		[EV_UP]		  = TO(RUNNING, machine_now_up),
		[EV_START_FAILED] = TO(STOPPING, machine_begin_teardown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
		[EV_STOP]	  = TO(STOPPING, machine_cancel_start),
	},
	[MACHINE_RESTORING] = {
		[EV_UP]		  = TO(PAUSED, machine_now_loaded),
		[EV_START_FAILED] = TO(STOPPING, machine_begin_teardown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
		[EV_STOP]	  = TO(STOPPING, machine_cancel_start),
	},
	[MACHINE_MIGRATING] = {
		[EV_UP]		  = TO(MIGRATING, machine_now_waiting),
		[EV_RESUMED]	  = TO(RUNNING, NULL),
		[EV_START_FAILED] = TO(STOPPING, machine_begin_teardown),
		[EV_STOP]	  = TO(STOPPING, machine_end_migrating),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
	},
	[MACHINE_SAVING] = {
		[EV_RESUMED]	  = TO(RUNNING, NULL),
		[EV_SAVED]	  = TO(PAUSED, NULL),
		[EV_STOP]	  = TO(STOPPING, machine_begin_shutdown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
	},
	[MACHINE_RUNNING] = {
		[EV_PAUSED]	  = TO(PAUSED, NULL),
		[EV_SAVE]	  = TO(SAVING, NULL),
		[EV_MIGRATE]	  = TO(MIGRATING, NULL),
		[EV_STOP]	  = TO(STOPPING, machine_begin_shutdown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
	},
	[MACHINE_PAUSED] = {
		[EV_SAVE]	  = TO(SAVING, NULL),
		[EV_RESUMED]	  = TO(RUNNING, NULL),
		[EV_STOP]	  = TO(STOPPING, machine_begin_shutdown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
	},
	[MACHINE_UNKNOWN] = {
		[EV_UP]		  = TO(RUNNING, NULL),
		[EV_RESUMED]	  = TO(RUNNING, NULL),
		[EV_PAUSED]	  = TO(PAUSED, NULL),
		[EV_MIGRATE]	  = TO(MIGRATING, NULL),
		[EV_STOP]	  = TO(STOPPING, machine_begin_shutdown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
	},
	[MACHINE_STOPPING] = {
		[EV_START_FAILED] = TO(STOPPING, machine_begin_teardown),
		[EV_EXITED]	  = TO(STOPPING, machine_begin_teardown),
		[EV_STOP]	  = TO(STOPPING, machine_begin_shutdown), /* kill during a stop */
		[EV_CLEAN]	  = TO(STOPPING, machine_settle),
		[EV_REST]	  = TO(STOPPED, machine_at_rest),
		[EV_WAIT]	  = TO(BACKOFF, machine_at_rest),
		[EV_GIVE_UP]	  = TO(FAILED, machine_at_rest),
		[EV_AGAIN]	  = TO(PREPARING, machine_begin_prepare),
	},
	[MACHINE_BACKOFF] = {
		[EV_START]	  = TO(PREPARING, machine_begin_prepare),
		[EV_STOP]	  = TO(STOPPED, machine_leave_rest),
	},
	[MACHINE_FAILED] = {
		[EV_START]	  = TO(PREPARING, machine_begin_prepare),
		[EV_STOP]	  = TO(STOPPED, machine_leave_rest),
	},
};
/* clang-format on */

const struct transition *machine_transition(enum machine_state s, enum machine_event ev)
{
	return &table[s][ev];
}
