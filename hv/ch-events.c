/* hv/ch-events.c - what the events of cloud-hypervisor's monitor, and its states, mean here. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

void ch_set_status(
	struct ch *c, enum hv_status status, bool by_us, const char *by, const char *word)
{
	struct hv_event ev = { .kind = HV_EVENT_STATUS,
		.status = status,
		.by_us = by_us,
		.by = by_us ? NULL : by,
		.reason = word };

	if (c->hv.status == status)
		return;
	c->hv.status = status;
	/* During a start the first status goes with done. */
	if (c->phase != CH_STARTING)
		ch_emit_event(c, &ev);
}

const char *ch_take_by(struct ch *c, enum ch_effect effect, char out[48])
{
	if (c->by[effect][0] == '\0')
		return NULL;
	snprintf(out, 48, "%s", c->by[effect]);
	c->by[effect][0] = '\0';
	return out;
}

/* ---- states ---- */

/* VmState of the API's description. "Created" is also what a guest that was shut down leaves. */
static enum hv_status status_of(const struct ch *c, const char *word)
{
	if (str_eq(word, "Running"))
		return HV_STATUS_RUNNING;
	if (str_eq(word, "Paused"))
		return c->held ? HV_STATUS_PANICKED : HV_STATUS_PAUSED;
	if (str_eq(word, "BreakPoint"))
		return HV_STATUS_PAUSED;
	if (str_eq(word, "Shutdown"))
		return HV_STATUS_SHUTDOWN;
	if (!str_eq(word, "Created"))
		return HV_STATUS_UNKNOWN;
	return c->hv.status == HV_STATUS_UNKNOWN || c->hv.status == HV_STATUS_CREATED
		       ? HV_STATUS_CREATED
		       : HV_STATUS_SHUTDOWN;
}

void ch_take_info(struct ch *c, const json_t *info)
{
	const char *word = json_str(info, "state");
	enum hv_status status = status_of(c, word);
	bool runs = status == HV_STATUS_RUNNING;

	/* An answer that came too late for its owner may have done it all the same. */
	if (word != NULL && !ch_migrates(c))
		ch_set_status(c, status,
			c->intents.runs == runs &&
				(runs ? c->intents.resume : c->intents.pause) > 0,
			NULL, word);
}

static void info_reply(void *arg, const struct ch_answer *a, const struct err *err)
{
	json_t *info = NULL;
	struct ch *c = arg;

	c->asking = false;
	if (a == NULL)
		return;
	if (err == NULL && json_parse(a->text, a->len, &info, NULL) == 0)
		ch_take_info(c, info);
	else if (a->status == 404 && c->phase == CH_UP)
		ch_set_status(c, c->incoming ? HV_STATUS_INCOMING : HV_STATUS_SHUTDOWN, false, NULL,
			"no guest");
	json_decref(info);
	ch_came_back(c);
}

void ch_ask_status(struct ch *c)
{
	struct ch_request r = { .method = "GET", .path = "/vm.info", .done = info_reply, .arg = c };

	if (c->api == NULL || c->asking)
		return;
	c->asking = true;
	ch_api_send(c->api, &r);
}

/* ---- events ---- */

/*
 * An event of our own doing says what the answer says as well. One that comes so late that we have
 * asked for the opposite meanwhile says nothing any more.
 */
static bool ours(struct ch *c, unsigned *count, bool runs, bool *stale)
{
	if (*count == 0)
		return false;
	--*count;
	*stale = c->intents.runs != runs;
	return true;
}

static void on_paused(struct ch *c, const json_t *event)
{
	bool stale = false, by_us = ours(c, &c->intents.pause, false, &stale);
	char who[48];
	const char *by = by_us ? NULL : ch_take_by(c, CH_EFFECT_PAUSE, who);

	if (stale)
		return;
	/* The last part of a migration. */
	if (ch_migrates(c))
		ch_set_status(c, HV_STATUS_SAVING, true, NULL, "migrating");
	else
		ch_set_status(
			c, c->held ? HV_STATUS_PANICKED : HV_STATUS_PAUSED, by_us, by, "paused");
}

static void runs(struct ch *c, const char *word)
{
	bool stale = false, by_us = ours(c, &c->intents.resume, true, &stale);
	char who[48];
	const char *by = by_us ? NULL : ch_take_by(c, CH_EFFECT_RESUME, who);

	if (stale)
		return;
	c->held = c->ended = false;
	ch_set_status(c, HV_STATUS_RUNNING, by_us || ch_migrates(c), by, word);
}

static void on_resumed(struct ch *c, const json_t *event)
{
	runs(c, "resumed");
}

static void on_booted(struct ch *c, const json_t *event)
{
	runs(c, "booted");
}

/*
 * It reboots by itself, whatever asked for it, and has no option against that. Where a reboot is to
 * be the end it is ended here, before the guest gets anywhere.
 */
static void on_rebooting(struct ch *c, const json_t *event)
{
	struct hv_event ev = { .kind = HV_EVENT_GUEST_SHUTDOWN,
		.status = HV_STATUS_SHUTDOWN,
		.reason = "guest-reset",
		.data = event };

	if (!c->reboot_is_exit || c->intents.reset > 0 || c->by[CH_EFFECT_RESET][0] != '\0' ||
		c->ended)
		return;
	c->ended = true;
	c->hv.status = HV_STATUS_SHUTDOWN;
	if (c->process != NULL)
		process_signal(c->process, SIGKILL);
	ch_emit_event(c, &ev);
}

static void on_rebooted(struct ch *c, const json_t *event)
{
	bool by_us = c->intents.reset > 0;
	char who[48];
	struct hv_event ev = { .kind = HV_EVENT_HOST_RESET,
		.status = HV_STATUS_RUNNING,
		.by_us = by_us,
		.reason = "vm.reboot",
		.data = event };

	if (c->ended)
		return;
	if (by_us)
		c->intents.reset--;
	else
		ev.by = ch_take_by(c, CH_EFFECT_RESET, who);
	if (!by_us && ev.by == NULL) {
		ev.kind = HV_EVENT_GUEST_RESET;
		ev.reason = "guest-reset";
	}
	c->held = false;
	ch_dial_console(c);
	ch_emit_event(c, &ev);
	/* It runs afterwards even if it stood still before. */
	if (ch_alive(c))
		ch_set_status(c, HV_STATUS_RUNNING, by_us, ev.by, "rebooted");
}

/*
 * The same event for the guest's own end, for SIGTERM and for vmm.shutdown, so what was asked for
 * decides (vmm/src/lib.rs, control_loop).
 */
void ch_tell_end(struct ch *c, const json_t *event)
{
	struct hv_event ev = {
		.kind = HV_EVENT_HOST_QUIT, .status = HV_STATUS_SHUTDOWN, .data = event
	};
	char who[48];

	if (c->ended)
		return;
	c->ended = true;
	ev.by = event != NULL ? ch_take_by(c, CH_EFFECT_SHUTDOWN, who) : NULL;
	if (ev.by != NULL) {
		/* The hypervisor stays, without a guest. */
		ch_set_status(c, HV_STATUS_SHUTDOWN, false, ev.by, "vm.shutdown");
		return;
	}
	c->hv.status = HV_STATUS_SHUTDOWN;
	ev.by_us = c->intents.quit || c->intents.signal;
	ev.reason = c->intents.quit ? "host-quit" : "host-signal";
	if (!ev.by_us)
		ev.by = ch_take_by(c, CH_EFFECT_QUIT, who);
	if (ev.by != NULL) {
		ev.reason = "host-quit";
	} else if (!ev.by_us) {
		ev.kind = HV_EVENT_GUEST_SHUTDOWN;
		ev.reason = "guest-shutdown";
		ev.by_us = c->intents.powerdown;
		if (!ev.by_us)
			ev.by = ch_take_by(c, CH_EFFECT_POWERDOWN, who);
	}
	ch_emit_event(c, &ev);
}

static void held(void *arg, const struct err *err)
{
	/* The status tells; a guest that cannot be held goes on. */
}

static void on_panic(struct ch *c, const json_t *event)
{
	const char *what = json_str(json_obj(event, "properties"), "event");
	char reason[128];

	snprintf(reason, sizeof(reason), "%s%s%s", c->panic_is_pause ? "pause" : "run",
		what != NULL ? ": " : "", what != NULL ? what : "");
	hv_clean_text(reason);
	/* Its device only reports: the guest is stopped here. */
	if (c->panic_is_pause && !c->held && c->phase == CH_UP) {
		c->held = true;
		ch_pause(&c->hv, held, NULL);
	}
	ch_emit(c, HV_EVENT_PANIC, false, reason, event);
}

static void on_removed(struct ch *c, const json_t *event)
{
	const char *id = json_str(json_obj(event, "properties"), "id");

	ch_emit(c, HV_EVENT_DEVICE_GONE, false, id, event);
	if (id != NULL && ch_alive(c))
		ch_device_gone(c, id);
}

/* Sources and events: docs/api.md and every event!() of vmm/src. */
static const struct {
	const char *source, *event;
	void (*fn)(struct ch *c, const json_t *event);
} events[] = {
	{ "vm", "paused", on_paused },
	{ "vm", "resumed", on_resumed },
	{ "vm", "booted", on_booted },
	{ "vm", "rebooting", on_rebooting },
	{ "vm", "rebooted", on_rebooted },
	{ "vm", "shutdown", ch_tell_end },
	{ "vm", "device-removed", on_removed },
	{ "guest", "panic", on_panic },
};

void ch_event(void *arg, json_t *event)
{
	const char *source = json_str(event, "source"), *name = json_str(event, "event");
	struct ch *c = arg;
	char text[128];

	if (source == NULL || name == NULL || c->phase == CH_CLOSING || c->phase == CH_FAILED)
		return;
	for (size_t i = 0; i < ARRAY_LEN(events); i++) {
		if (strcmp(source, events[i].source) == 0 && strcmp(name, events[i].event) == 0) {
			events[i].fn(c, event);
			return;
		}
	}
	if (str_starts(name, "migration-"))
		ch_migration_event(c, name);
	/* That it starts and boots is what a start is for. */
	if (c->phase != CH_UP)
		return;
	snprintf(text, sizeof(text), "%s.%s", source, name);
	hv_clean_text(text);
	ch_emit(c, HV_EVENT_OTHER, false, text, event);
}

/* An event that has not come by now was lost. */
void ch_settled(void *arg)
{
	struct ch *c = arg;

	c->intents.pause = c->intents.resume = c->intents.reset = 0;
	memset(c->by[CH_EFFECT_PAUSE], 0, sizeof(c->by[0]));
	memset(c->by[CH_EFFECT_RESUME], 0, sizeof(c->by[0]));
	memset(c->by[CH_EFFECT_RESET], 0, sizeof(c->by[0]));
	memset(c->by[CH_EFFECT_SHUTDOWN], 0, sizeof(c->by[0]));
}
