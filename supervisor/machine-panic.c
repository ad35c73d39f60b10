/* A guest whose kernel has panicked, or that is stuck in KVM: supervisor/machine.h. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "supervisor/machine-space.h"
#include "supervisor/migrate.h"

/* A guest that QEMU holds says no more; but what it said may still be on its way to us. */
#define HELD_MS 200

static const char sign[] = "Kernel panic - not syncing";

static bool ends_run(const struct machine *m)
{
	const struct vm_config *cfg = m->cfg != NULL ? m->cfg : m->run_cfg;

	return cfg == NULL || cfg->stop_on_panic;
}

/* What the kernel said tells more than that its device rang. */
static void hint(struct machine *m, const char *words)
{
	const char *io = machine_space_recent(m);
	enum cause cause = io != NULL ? CAUSE_IO_ERROR : CAUSE_GUEST_PANIC;
	char *text = str_printf("%s%sthe guest's kernel panicked%s%s", io != NULL ? io : "",
		io != NULL ? "; then " : "", words != NULL ? ": " : "", words != NULL ? words : "");

	if (words != NULL && text != NULL && m->hint == cause) {
		free(m->hint_text);
		m->hint_text = text;
		machine_save(m, NULL);
		return;
	}
	machine_set_hint(m, cause, text);
}

static void arm(struct machine *m)
{
	enum hv_status status = hv_status(m->hv);
	bool held = status == HV_STATUS_PANICKED || status == HV_STATUS_BROKEN;

	deadline_set(&m->panic_timer, held ? HELD_MS : MACHINE_PANIC_SILENCE_MS);
}

static void resumed(void *arg, const struct err *err)
{
	/* The status tells. */
}

static void panicked(struct machine *m, const char *words, const char *tell)
{
	json_t *more = json_object();

	m->panicked = true;
	machine_tell(m, "panic", "%s", tell);
	json_put_str(more, "reason", tell);
	events_emit(m->d->events, "vm", m->name, "panic", more);
	if (!ends_run(m)) {
		m->panicked = false;
		return;
	}
	hint(m, words);
	machine_save(m, NULL);
	arm(m);
}

void machine_panic_line(struct machine *m, const char *line)
{
	const char *found = strstr(line, sign);

	if (!m->process || !ends_run(m))
		return;
	if (m->panicked) {
		if (found != NULL)
			hint(m, found);
		arm(m);
	} else if (found != NULL) {
		panicked(m, found, found);
	}
}

void machine_panic_event(struct machine *m, const char *reason)
{
	if (!m->panicked)
		panicked(m, NULL, reason != NULL ? reason : "the guest's panic device");
}

void machine_panic_held(struct machine *m)
{
	if (!m->process || !machine_may_run(m))
		return;
	if (!ends_run(m)) {
		/* on_panic was something else when it was started. */
		hv_resume(m->hv, resumed, m);
		return;
	}
	if (!m->panicked)
		panicked(m, NULL, "the hypervisor holds the guest after a panic");
	arm(m);
}

void machine_broken(struct machine *m)
{
	json_t *more = json_object();

	if (!m->process || m->panicked)
		return;
	m->panicked = true;
	machine_tell(m, "internal-error", "the hypervisor cannot go on with the guest");
	json_put_str(more, "reason", "the hypervisor cannot go on with the guest");
	events_emit(m->d->events, "vm", m->name, "internal-error", more);
	/* QEMU writes why, and the registers, to its standard error. */
	machine_set_hint(m, CAUSE_HYPERVISOR_CRASH,
		str_printf("the hypervisor could not go on with the guest: internal error; "
			   "%s/hypervisor.log has more",
			m->log_dir));
	machine_save(m, NULL);
	arm(m);
}

void machine_panic_timer(void *arg)
{
	struct machine *m = arg;

	if (m->process)
		hv_kill(m->hv, SIGKILL);
}
