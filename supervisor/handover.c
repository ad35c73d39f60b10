/* The two tables of supervisor/handover.h. */
#include "supervisor/handover.h"

#include "lib/str.h"
#include "lib/util.h"

struct cell {
	bool valid; /* else the event changes nothing */
	int next, action;
};

#define TO(state, action)                                                                          \
	{                                                                                          \
		true, state, action                                                                \
	}

/* clang-format off */
static const struct cell source[SOURCE_STATES][SOURCE_EVENTS] = {
	[SOURCE_NONE] = {
		[SOURCE_BEGIN]		= TO(SOURCE_SENDING, SOURCE_DO_SEND),
	},
	[SOURCE_SENDING] = {
		[SOURCE_SENT]		= TO(SOURCE_GIVING, SOURCE_DO_COMMIT),
		[SOURCE_NOT_SENT]	= TO(SOURCE_KEEPING, SOURCE_DO_KEEP),
		[SOURCE_RESTARTED]	= TO(SOURCE_KEEPING, SOURCE_DO_KEEP),
	},
	[SOURCE_GIVING] = {
		[SOURCE_RESTARTED]	= TO(SOURCE_GIVING, SOURCE_DO_COMMIT),
		[SOURCE_AGAIN]		= TO(SOURCE_GIVING, SOURCE_DO_COMMIT),
		[SOURCE_HEARD_TAKEN]	= TO(SOURCE_GONE, SOURCE_DO_END),
		[SOURCE_HEARD_DROPPED]	= TO(SOURCE_KEEPING, SOURCE_DO_KEEP),
		[SOURCE_HEARD_UNKNOWN]	= TO(SOURCE_GIVING, SOURCE_DO_DOUBT),
	},
	[SOURCE_KEEPING] = {
		[SOURCE_RESTARTED]	= TO(SOURCE_KEEPING, SOURCE_DO_KEEP),
		[SOURCE_AGAIN]		= TO(SOURCE_KEEPING, SOURCE_DO_KEEP),
		[SOURCE_HEARD_UNKNOWN]	= TO(SOURCE_NONE, SOURCE_DO_NOTHING),
	},
	[SOURCE_GONE] = {
		[SOURCE_RESTARTED]	= TO(SOURCE_GONE, SOURCE_DO_END),
		[SOURCE_AGAIN]		= TO(SOURCE_GONE, SOURCE_DO_END),
		[SOURCE_HEARD_UNKNOWN]	= TO(SOURCE_NONE, SOURCE_DO_NOTHING),
	},
};

static const struct cell target[TARGET_STATES][TARGET_EVENTS] = {
	[TARGET_NONE] = {
		[TARGET_HEARD_PREPARE]	= TO(TARGET_RECEIVING, TARGET_DO_RECEIVE),
	},
	[TARGET_RECEIVING] = {
		[TARGET_GUEST_ARRIVED]	= TO(TARGET_ARRIVED, TARGET_DO_NOTHING),
		[TARGET_LOST]		= TO(TARGET_DROPPED, TARGET_DO_END),
		[TARGET_RESTARTED]	= TO(TARGET_DROPPED, TARGET_DO_END),
		[TARGET_HEARD_ABORT]	= TO(TARGET_DROPPED, TARGET_DO_END),
	},
	[TARGET_ARRIVED] = {
		[TARGET_LOST]		= TO(TARGET_DROPPED, TARGET_DO_END),
		[TARGET_HEARD_COMMIT]	= TO(TARGET_TAKEN, TARGET_DO_RUN),
		[TARGET_HEARD_ABORT]	= TO(TARGET_DROPPED, TARGET_DO_END),
	},
	[TARGET_TAKEN] = {
		[TARGET_RESTARTED]	= TO(TARGET_TAKEN, TARGET_DO_RUN),
		[TARGET_HEARD_FAREWELL]	= TO(TARGET_NONE, TARGET_DO_NOTHING),
	},
	[TARGET_DROPPED] = {
		[TARGET_RESTARTED]	= TO(TARGET_DROPPED, TARGET_DO_END),
		[TARGET_HEARD_ABORT]	= TO(TARGET_NONE, TARGET_DO_NOTHING),
	},
};
/* clang-format on */

static struct handover_step follow(const struct cell *c, int state)
{
	if (!c->valid)
		return (struct handover_step){ .next = state };
	return (struct handover_step){ .next = c->next, .action = c->action };
}

struct handover_step handover_source_step(enum handover_source s, enum handover_source_event ev)
{
	return follow(&source[s][ev], (int)s);
}

struct handover_step handover_target_step(enum handover_target s, enum handover_target_event ev)
{
	return follow(&target[s][ev], (int)s);
}

enum handover_answer handover_target_answer(enum handover_target s, bool busy)
{
	static const enum handover_answer answers[TARGET_STATES] = {
		[TARGET_NONE] = ANSWER_UNKNOWN,
		[TARGET_RECEIVING] = ANSWER_NOT_YET,
		[TARGET_ARRIVED] = ANSWER_NOT_YET,
		[TARGET_TAKEN] = ANSWER_TAKEN,
		[TARGET_DROPPED] = ANSWER_DROPPED,
	};

	return busy ? ANSWER_NOT_YET : answers[s];
}

enum handover_source_event handover_heard(enum handover_answer a)
{
	static const enum handover_source_event events[] = {
		[ANSWER_UNKNOWN] = SOURCE_HEARD_UNKNOWN,
		[ANSWER_NOT_YET] = SOURCE_HEARD_NOT_YET,
		[ANSWER_TAKEN] = SOURCE_HEARD_TAKEN,
		[ANSWER_DROPPED] = SOURCE_HEARD_DROPPED,
	};

	return events[a];
}

bool handover_source_may_run(enum handover_source s)
{
	return s == SOURCE_NONE || s == SOURCE_KEEPING;
}

bool handover_target_may_run(enum handover_target s)
{
	return s == TARGET_NONE || s == TARGET_TAKEN;
}

/* ---- names ---- */

static const char *const source_names[SOURCE_STATES] = { "none", "sending", "giving", "keeping",
	"gone" };
static const char *const target_names[TARGET_STATES] = { "none", "receiving", "arrived", "taken",
	"dropped" };
static const char *const answer_names[] = { "unknown", "not-yet", "taken", "dropped" };

static int find_name(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(names[i], name))
			return (int)i;
	return -1;
}

const char *handover_source_name(enum handover_source s)
{
	return source_names[s];
}

bool handover_source_from_name(const char *name, enum handover_source *out)
{
	int i = find_name(source_names, ARRAY_LEN(source_names), name);

	if (i >= 0)
		*out = (enum handover_source)i;
	return i >= 0;
}

const char *handover_target_name(enum handover_target s)
{
	return target_names[s];
}

bool handover_target_from_name(const char *name, enum handover_target *out)
{
	int i = find_name(target_names, ARRAY_LEN(target_names), name);

	if (i >= 0)
		*out = (enum handover_target)i;
	return i >= 0;
}

const char *handover_answer_name(enum handover_answer a)
{
	return answer_names[a];
}

bool handover_answer_from_name(const char *name, enum handover_answer *out)
{
	int i = find_name(answer_names, ARRAY_LEN(answer_names), name);

	if (i >= 0)
		*out = (enum handover_answer)i;
	return i >= 0;
}
