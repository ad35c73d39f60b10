/* Between the machine and its hypervisor: supervisor/machine.h. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/machine-space.h"
#include "supervisor/machine-steps.h"
#include "supervisor/marker.h"
#include "supervisor/migrate.h"
#include "supervisor/network.h"
#include "supervisor/warm.h"

void machine_set_hint(struct machine *m, enum cause cause, char *text)
{
	/* The first sign tells most: a panic before the reset that it causes. */
	if (m->hint != CAUSE_NONE || text == NULL) {
		free(text);
		return;
	}
	m->hint = cause;
	m->hint_text = text;
	/* Nobody says it a second time: a daemon that comes after us must have it. */
	machine_save_soon(m);
}

static void emit(struct machine *m, const char *event, const struct hv_event *ev)
{
	json_t *more = json_object();

	json_put_str(more, "reason", ev->reason);
	json_put_bool(more, "by_us", ev->by_us);
	if (ev->by != NULL)
		json_put_str(more, "by", ev->by);
	events_emit(m->d->events, "vm", m->name, event, more);
}

/* An operator's end, not the guest's: no policy starts the machine again. */
static void operator_ended(struct machine *m, char *how)
{
	machine_set_hint(m, CAUSE_REQUESTED, how);
	if (m->intent != INTENT_NONE)
		return;
	m->want_known = true;
	m->want_running = false;
}

static void guest_ended(struct machine *m, const struct hv_event *ev)
{
	const char *reason = ev->reason != NULL ? ev->reason : "";

	if (strcmp(reason, "guest-reset") == 0)
		machine_set_hint(
			m, CAUSE_GUEST_REBOOT, strdup("the guest rebooted, and reboot = no"));
	else if (ev->by != NULL)
		operator_ended(
			m, str_printf("the guest shut down: system_powerdown by %s", ev->by));
	else if (strcmp(reason, "guest-panic") == 0)
		machine_set_hint(m, CAUSE_GUEST_PANIC, strdup("the guest's kernel panicked"));
	else
		machine_set_hint(m, CAUSE_GUEST_SHUTDOWN, strdup("the guest shut down"));
	machine_tell(m, "guest-shutdown", "%s", reason);
}

static void host_ended(struct machine *m, const struct hv_event *ev)
{
	if (ev->by_us)
		return;
	machine_tell(m, "host-quit", "%s%s%s", ev->reason != NULL ? ev->reason : "",
		ev->by != NULL ? ": " : "", ev->by != NULL ? ev->by : "");
	if (str_eq(ev->reason, "host-signal"))
		machine_set_hint(m, CAUSE_HOST_SHUTDOWN,
			strdup("somebody sent the hypervisor a signal to end"));
	else if (ev->by != NULL)
		operator_ended(m, str_printf("quit by %s", ev->by));
	else
		machine_set_hint(m, CAUSE_REQUESTED, strdup("somebody sent quit to the monitor"));
}

static void status_changed(struct machine *m, const struct hv_event *ev)
{
	if (ev->by != NULL)
		machine_tell(m, "status", "%s (by %s)", hv_status_name(ev->status), ev->by);
	else
		machine_tell(m, "status", "%s%s", hv_status_name(ev->status),
			ev->by_us ? "" : " (not by us)");
	m->by = ev->by;
	machine_space_status(m);
	switch (ev->status) {
	case HV_STATUS_RUNNING:
		machine_event(m, EV_RESUMED);
		break;
	case HV_STATUS_PAUSED:
	case HV_STATUS_IO_ERROR:
		machine_event(m, EV_PAUSED);
		break;
	case HV_STATUS_PANICKED:
		machine_panic_held(m);
		break;
	case HV_STATUS_BROKEN:
		machine_broken(m);
		break;
	default:
		break;
	}
	m->by = NULL;
}

static void guest_reset(struct machine *m, const struct hv_event *ev)
{
	bool watchdog = m->hint == CAUSE_WATCHDOG;

	m->reboots++;
	machine_tell(m, "guest-reset", watchdog ? "by the watchdog" : "the guest rebooted");
	emit(m, "rebooted", ev);
	machine_save(m, NULL);
	/* The run goes on: how it ends one day is not the watchdog's doing. */
	if (watchdog) {
		m->hint = CAUSE_NONE;
		free(m->hint_text);
		m->hint_text = NULL;
		machine_save_soon(m);
	}
	machine_health_boot(m);
	if (m->panicked && m->process)
		hv_kill(m->hv, SIGKILL);
}

/* reason is what QEMU does now (qapi/run-state.json, WatchdogAction). */
static void watchdog_expired(struct machine *m, const struct hv_event *ev)
{
	machine_tell(m, "watchdog", "it expired: %s", ev->reason != NULL ? ev->reason : "");
	if (!str_eq(ev->reason, "none") && !str_eq(ev->reason, "pause"))
		machine_set_hint(m, CAUSE_WATCHDOG, strdup("the guest's watchdog expired"));
	emit(m, "watchdog", ev);
}

static void tray_moved(struct machine *m, const struct hv_event *ev)
{
	json_t *more = json_object();

	machine_tell(m, "tray", "%s: %s%s%s", ev->reason != NULL ? ev->reason : "a drive",
		ev->open ? "opened" : "closed", ev->by != NULL ? " by " : "",
		ev->by != NULL ? ev->by : "");
	json_put_str(more, "device", ev->reason);
	json_put_bool(more, "open", ev->open);
	/* Else it was the guest, or somebody at a monitor of his own in qemu_args. */
	if (ev->by != NULL)
		json_put_str(more, "by", ev->by);
	events_emit(m->d->events, "vm", m->name, "tray", more);
}

void machine_hv_event(void *arg, const struct hv_event *ev)
{
	struct machine *m = arg;

	switch (ev->kind) {
	case HV_EVENT_STATUS:
		status_changed(m, ev);
		break;
	case HV_EVENT_GUEST_SHUTDOWN:
		guest_ended(m, ev);
		break;
	case HV_EVENT_GUEST_RESET:
		guest_reset(m, ev);
		break;
	case HV_EVENT_HOST_RESET:
		machine_tell(m, "reset", "by %s",
			ev->by_us        ? "drover"
			: ev->by != NULL ? ev->by
					 : "somebody at the monitor");
		emit(m, "reset", ev);
		machine_health_boot(m);
		break;
	case HV_EVENT_HOST_QUIT:
		host_ended(m, ev);
		break;
	case HV_EVENT_PANIC:
		machine_panic_event(m, ev->reason);
		break;
	case HV_EVENT_WATCHDOG:
		watchdog_expired(m, ev);
		break;
	case HV_EVENT_IO_ERROR:
		machine_space_error(m, ev);
		break;
	case HV_EVENT_MONITOR_LOST:
		machine_tell(m, "monitor-lost", "the monitor closed its connection");
		emit(m, "monitor-lost", ev);
		break;
	case HV_EVENT_UNRESPONSIVE:
		machine_tell(m, "unresponsive", "the monitor does not answer in time");
		emit(m, "unresponsive", ev);
		break;
	case HV_EVENT_RESPONSIVE:
		machine_tell(m, "responsive", "the monitor answers again");
		emit(m, "responsive", ev);
		if (m->state == MACHINE_UNKNOWN)
			machine_event(m, hv_status(m->hv) == HV_STATUS_RUNNING ? EV_UP : EV_PAUSED);
		break;
	case HV_EVENT_TRAY:
		tray_moved(m, ev);
		break;
	case HV_EVENT_DRIVES:
		json_decref(m->drives);
		m->drives = json_incref((json_t *)(uintptr_t)ev->data);
		break;
	case HV_EVENT_DEVICE_GONE:
	case HV_EVENT_OTHER:
		break;
	}
}

void machine_hv_exited(void *arg, const struct child_status *status)
{
	struct machine *m = arg;

	m->process = false;
	m->exit_status = *status;
	machine_tell(m, "exited", "the hypervisor %s", child_status_text(status));
	machine_event(m, EV_EXITED);
}

/* ---- console ---- */

static void console_line(void *arg, const char *line)
{
	struct machine *m = arg;

	machine_health_line(m, line);
	machine_panic_line(m, line);
}

static int console_input(void *arg, const char *data, size_t len)
{
	struct machine *m = arg;

	return m->hv != NULL ? hv_console_write(m->hv, data, len) : -ENOTCONN;
}

void machine_hv_console(void *arg, const char *data, size_t len)
{
	struct machine *m = arg;

	if (m->console != NULL)
		console_write(m->console, data, len);
	machine_health_console(m);
}

int machine_console_open(struct machine *m, struct err *err)
{
	char *path = path_join(m->run_dir, "console.sock");
	struct console_opts opts = { .log_dir = m->log_dir,
		.socket_path = path,
		.boot = m->boot,
		.max_bytes = drover_config(m->d)->drover->console_max,
		.input = console_input,
		.line = console_line,
		.arg = m };
	int r = path == NULL ? err_nomem(err) : console_create(&m->console, m->d->loop, &opts, err);

	free(path);
	return r;
}

/* ---- the passthrough ---- */

/* Whoever speaks to a machine behind the supervisor's back is on record. */
void machine_hv_passed(void *arg, const struct hv_passed *p)
{
	struct machine *m = arg;
	json_t *more = json_object();

	/* Of a guest that stands still QEMU makes nothing of it. */
	if (!p->refused && (str_eq(p->command, "stop") || str_eq(p->line, "stop")))
		machine_space_hold(m, true);
	json_put_str(more, "command", p->command);
	if (p->line != NULL)
		json_put_str(more, "line", p->line);
	json_put_int(more, "uid", p->who.uid);
	json_put_int(more, "pid", p->who.pid);
	json_put_bool(more, "write", p->changes);
	json_put_bool(more, "refused", p->refused);
	events_emit(m->d->events, "vm", m->name, "qmp", more);
}

/* Before the command goes out: a daemon that dies now must not find a machine to restart. */
void machine_hv_quitting(void *arg, const char *by, bool undone)
{
	struct machine *m = arg;
	struct err err;

	free(m->quit_by);
	m->quit_by = undone ? NULL : strdup(by);
	if (undone) {
		m->want_known = m->want_before[0];
		m->want_running = m->want_before[1];
	} else {
		m->want_before[0] = m->want_known;
		m->want_before[1] = m->want_running;
		/* A restart or stop that is under way has its own wish. */
		if (m->intent == INTENT_NONE) {
			m->want_known = true;
			m->want_running = false;
		}
	}
	if (machine_save(m, &err) < 0)
		log_error("%s", err.msg);
}

void machine_passthrough_reload(struct machine *m)
{
	/* A guest that migrates is let run by nobody else. */
	if (m->hv != NULL)
		hv_passthrough_write(
			m->hv, m->cfg != NULL && m->cfg->qmp_write && machine_may_run(m));
}

int machine_passthrough_open(struct machine *m, struct err *err)
{
	char *path = path_join(m->run_dir, "qmp.sock");
	int r = path == NULL ? err_nomem(err) : hv_passthrough(m->hv, path, m->d->group, err);

	free(path);
	machine_passthrough_reload(m);
	return r;
}

struct hv_callbacks machine_hv_callbacks(struct machine *m)
{
	return (struct hv_callbacks){ .event = machine_hv_event,
		.exited = machine_hv_exited,
		.console = machine_hv_console,
		.passed = machine_hv_passed,
		.quitting = machine_hv_quitting,
		.arg = m };
}

/* ---- the spec ---- */

/* Without root= the root disk and the console are added (DESIGN, "Start parameters"). */
static int set_cmdline(struct machine *m, struct spec_hold *hold, struct err *err)
{
	struct buf b = { 0 };
	char *text = NULL;
	const char *given = m->run_cfg->cmdline != NULL ? m->run_cfg->cmdline : "";
	bool root;
	int r = machine_expand(m, given, &text, err);

	if (r < 0)
		return err_wrap(err, "cmdline");
	root = str_starts(text, "root=") || strstr(text, " root=") != NULL;
	buf_adds(&b, text);
	free(text);
	/* A unified kernel image brings its own, unless somebody gives another one. */
	if (!root && !(m->is_uki && b.len == 0)) {
		buf_printf(&b, "%s%sconsole=%s", b.len > 0 ? " " : "",
			m->disk_path != NULL ? "root=/dev/vda rw " : "",
			m->run_cfg->arch == ARCH_AARCH64 ? "ttyAMA0" : "ttyS0");
	}
	hold->cmdline = buf_steal(&b);
	return hold->cmdline == NULL ? err_nomem(err) : 0;
}

static const char *program_name(const struct vm_config *cfg)
{
	if (cfg->binary != NULL)
		return cfg->binary;
	if (!str_eq(cfg->hypervisor, "qemu"))
		return "cloud-hypervisor";
	return cfg->arch == ARCH_AARCH64 ? "qemu-system-aarch64" : "qemu-system-x86_64";
}

char *machine_program(const struct vm_config *cfg)
{
	return find_program(program_name(cfg));
}

int machine_binary(const struct machine *m, char **out, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;

	*out = machine_program(cfg);
	/* What runs already needs it no more. */
	if (*out != NULL || m->left.pid != 0)
		return 0;
	return err_set(err, -ENOENT, "%s is not there or not executable%s",
		quote(program_name(cfg)),
		cfg->binary != NULL                ? ""
		: !str_eq(cfg->hypervisor, "qemu") ? " (see https://www.cloudhypervisor.org)"
		: cfg->arch == ARCH_AARCH64        ? " (Debian package qemu-system-arm)"
						   : " (Debian package qemu-system-x86)");
}

static int set_binary(struct machine *m, struct spec_hold *hold, struct err *err)
{
	int r = machine_binary(m, &hold->binary, err);

	if (r < 0 || !m->run_cfg->jail)
		return r;
	hold->jail = path_join(m->d->libexec, "drover-jail");
	return hold->jail == NULL ? err_nomem(err) : 0;
}

static int set_extra(struct machine *m, struct spec_hold *hold, struct err *err)
{
	for (size_t i = 0; i < m->run_cfg->qemu_args.n; i++) {
		char *text = NULL;
		int r = machine_expand(m, m->run_cfg->qemu_args.v[i], &text, err);

		if (r < 0)
			return err_wrap(err, "qemu_args");
		strv_add(&hold->extra, text);
		free(text);
	}
	return hold->extra.bad ? err_nomem(err) : 0;
}

/* In a file that can be kept when it is to be frozen, or, of another one, was. */
static int set_memory(
	struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err)
{
	bool load = m->warm_load && m->load_dir != NULL;

	if (!m->run_cfg->warm && !load)
		return 0;
	/* A copy of a snapshot has its memory in the stream. */
	if (load && !warm_has_ram(m->load_dir))
		return 0;
	hold->memory = load ? path_join(m->load_dir, WARM_RAM) : machine_warm_ram(m);
	spec->memory_file = hold->memory;
	spec->memory_private = load;
	return hold->memory == NULL ? err_nomem(err) : 0;
}

const char *machine_board_name(const struct vm_config *cfg)
{
	static const char *const names[] = { "q35", "pc", "microvm", "virt" };

	return names[cfg->machine];
}

int machine_spec(struct machine *m, struct hv_spec *spec, struct spec_hold *hold, struct err *err)
{
	static const char *const watchdogs[] = { NULL, "i6300esb", "ib700" };
	static const char *const watchdog_actions[] = { "reset", "poweroff", "pause", "none" };
	const struct vm_config *cfg = m->run_cfg;
	size_t nnics = 0;
	int r = set_cmdline(m, hold, err);

	if (r == 0)
		r = set_binary(m, hold, err);
	if (r == 0)
		r = set_extra(m, hold, err);
	if (r == 0) {
		hold->log_path = path_join(m->log_dir, "hypervisor.log");
		hold->marker = marker_make(m->d->run_dir, m->owner, MARKER_HYPERVISOR);
		r = hold->log_path == NULL || hold->marker == NULL ? err_nomem(err) : 0;
	}
	if (r < 0)
		return r;
	for (unsigned i = 0; i < m->nnics; i++) {
		/* A run begins without those; one that is taken up knows them as they are. */
		if (m->nics[i].network == NULL || m->nics[i].stage != NIC_CONFIGURED)
			continue;
		snprintf(hold->nic_ids[i], sizeof(hold->nic_ids[i]), "nic%u", i);
		hold->nics[nnics++] = (struct hv_nic){ .id = hold->nic_ids[i],
			.vhost = machine_vhost(m),
			.mac = m->nics[i].mac,
			.tap_fd = m->nics[i].tap_fd,
			.tap = m->nics[i].macvtap ? NULL : m->nics[i].tap,
			.mtu = network_mtu(m, &m->nics[i]) };
		if (m->nics[i].user && network_user_spec(m, &m->nics[i], &hold->users[i], err) < 0)
			return err->code;
		if (m->nics[i].user)
			hold->nics[nnics - 1].user = &hold->users[i];
	}
	*spec = (struct hv_spec){
		.name = m->name,
		.run_dir = m->run_dir,
		.binary = hold->binary,
		.machine = machine_board_name(cfg),
		.accel = (enum hv_accel)cfg->accel,
		.cpu = cfg->cpu,
		.vcpus = (unsigned)cfg->vcpus,
		.memory_mib = cfg->memory >> 20,
		.kernel = m->kernel_path,
		.initrd = m->initrd_path,
		.cmdline = m->kernel_path != NULL ? hold->cmdline : NULL,
		.nics = hold->nics,
		.nnics = nnics,
		.extra_args = (const char *const *)hold->extra.v,
		.start_paused = cfg->start_paused,
		.restore_dir = m->load_dir,
		.incoming = m->receiving,
		.reboot_is_exit = !cfg->reboot,
		.sandbox = true,
		.agent = cfg->agent,
		.watchdog = watchdogs[cfg->watchdog],
		.watchdog_action = watchdog_actions[cfg->watchdog_action],
		.panic_device = true,
		.panic_is_pause = cfg->stop_on_panic,
		.jail = hold->jail,
		.cgroup = m->cgroup,
		.env = hold->marker,
		.log_path = hold->log_path,
		.ready_timeout_ms = cfg->start_timeout,
	};
	r = set_memory(m, spec, hold, err);
	return r < 0 ? r : machine_spec_hardware(m, spec, hold, err);
}

void spec_hold_finish(struct spec_hold *hold)
{
	free(hold->binary);
	free(hold->memory);
	free(hold->base);
	free(hold->jail);
	free(hold->cmdline);
	free(hold->log_path);
	free(hold->marker);
	strv_finish(&hold->extra);
	for (size_t i = 0; i < NICS_MAX; i++)
		free(hold->users[i].forwards);
	spec_hold_finish_helpers(hold);
	for (size_t i = 0; i < hold->nvolumes; i++)
		volume_finish(&hold->volumes[i]);
}
