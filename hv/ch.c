/* hv/ch.c - a machine on cloud-hypervisor: start, adoption, end of a run. */
#include "hv/ch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"

#define BACKLOG       16
#define ADOPT_MS      5000 /* then a silent API is called unresponsive */
#define LOST_START_MS 1000 /* from the API's EOF to the exit of a start that fails */

static void forget_spec(struct ch *c)
{
	hv_command_finish(&c->command);
	free(c->binary);
	free(c->jail);
	free(c->cgroup);
	free(c->env);
	c->binary = c->jail = c->cgroup = c->env = NULL;
	if (c->listener >= 0)
		close(c->listener);
	if (c->events_out >= 0)
		close(c->events_out);
	if (c->log_fd >= 0)
		close(c->log_fd);
	c->listener = c->events_out = c->log_fd = -1;
}

void ch_part_closed(void *arg)
{
	struct ch *c = arg;
	void (*closed)(void *arg) = c->closed;
	void *closed_arg = c->closed_arg;

	if (--c->handles > 0)
		return;
	forget_spec(c);
	ch_forget_boot_nics(c);
	ch_stream_finish(&c->stream);
	json_decref(c->config);
	json_decref(c->own);
	free(c->run_dir);
	free(c->api_path);
	free(c->serial_path);
	free(c->events_path);
	free(c->marker_path);
	free(c->stream_path);
	free(c->frozen_path);
	free(c->freezer_path);
	free(c->log_path);
	free(c->restore_dir);
	free(c);
	if (closed != NULL)
		closed(closed_arg);
}

/* ---- the ends of a start ---- */

/* The only exit of a start or an adoption. */
static void finish_start(struct ch *c, enum ch_phase phase, const struct err *err)
{
	hv_done_fn *done = c->done;

	c->phase = phase;
	c->done = NULL;
	deadline_cancel(&c->ready);
	if (done != NULL)
		done(c->arg, err);
}

/* Kills the process; done is told now or, while it is not known whether there is one, then. */
static void fail_start(struct ch *c)
{
	c->failing = true;
	if (c->process != NULL)
		process_signal(c->process, SIGKILL);
	else
		deadline_set(&c->later, 0);
	if (c->is_spawned)
		finish_start(c, CH_FAILED, &c->start_err);
}

void ch_answered(struct ch *c)
{
	c->answered = true;
	if (c->phase == CH_STARTING && c->is_spawned && !c->failing)
		finish_start(c, CH_UP, NULL);
}

void ch_start_failed(struct ch *c, const struct err *err)
{
	if (c->phase != CH_STARTING || c->failing)
		return;
	c->start_err = *err;
	hv_add_last_words(c->log_path, c->log_offset, &c->start_err);
	fail_start(c);
}

void ch_start_lost(struct ch *c, const struct err *err)
{
	if (c->failing)
		return;
	c->start_err = *err;
	/* The process is most likely about to exit, and its status and words say more. */
	deadline_set(&c->ready, LOST_START_MS);
}

static void ready_timeout(void *arg)
{
	struct ch *c = arg;

	if (c->phase != CH_STARTING)
		return;
	if (!c->adopting) {
		struct err err = c->start_err;

		if (err.code == 0)
			err_set(&err, -ETIMEDOUT, "the API did not answer in time");
		ch_start_failed(c, &err);
		return;
	}
	/* It lives, and that is all that adoption asks for. */
	if (c->frozen)
		c->hv.status = HV_STATUS_PAUSED;
	finish_start(c, CH_UP, NULL);
	if (c->phase != CH_UP || c->frozen)
		return;
	c->hv.unresponsive = true;
	ch_emit(c, HV_EVENT_UNRESPONSIVE, false, NULL, NULL);
	if (c->phase == CH_UP)
		ch_retry(c);
}

/* ---- the process ---- */

static void process_spawned(void *arg, const struct hv_process *p)
{
	struct ch *c = arg;

	c->hv.process = *p;
	c->is_spawned = true;
	if (c->spawned != NULL)
		c->spawned(c->arg, p);
	if (c->phase == CH_STARTING && c->failing)
		finish_start(c, CH_FAILED, &c->start_err);
	else if (c->phase == CH_STARTING)
		/* Not before the caller has closed its TAPs: one opens them by name. */
		ch_boot(c);
}

static void let_go(struct ch *c)
{
	struct process *p = c->process;

	c->process = NULL;
	if (p != NULL)
		process_release(p, ch_part_closed, c);
	ch_probe_abandon(c->probe);
	c->probe = NULL;
	ch_drop_api(c);
	ch_drop_events(c);
	ch_drop_console(c);
	deadline_cancel(&c->retry);
	deadline_cancel(&c->dial);
	deadline_cancel(&c->ready);
}

static void process_failed(void *arg, const struct err *err)
{
	struct ch *c = arg;
	struct err e = c->failing ? c->start_err : *err;

	let_go(c);
	finish_start(c, CH_GONE, &e);
}

static void process_exited(void *arg, const struct child_status *status)
{
	struct child_status st = *status;
	struct ch *c = arg;
	bool starting = c->phase == CH_STARTING;
	struct err gone;

	/* From here on a closed socket is no news; what came before it is. */
	if (!starting && c->phase != CH_FAILED)
		c->phase = CH_GONE;
	if (c->frozen)
		ch_let_end(c);
	ch_drain(c);
	/*
	 * The thread that writes the events is not waited for at the end: the last ones may be lost
	 * (vmm/src/lib.rs, start_event_monitor_thread).
	 */
	if (c->phase == CH_GONE && st.known && !st.signaled && st.code == 0)
		ch_tell_end(c, NULL);
	if (c->phase == CH_CLOSING)
		return;
	let_go(c);
	if (starting && c->adopting) {
		finish_start(c, CH_GONE, NULL);
	} else if (starting) {
		if (!c->failing) {
			err_set(&c->start_err, -EIO, "the hypervisor %s", child_status_text(&st));
			hv_add_last_words(c->log_path, c->log_offset, &c->start_err);
		}
		finish_start(c, CH_GONE, &c->start_err);
	}
	err_set(&gone, -ESRCH, "the hypervisor is gone");
	if (c->phase != CH_CLOSING) {
		c->phase = CH_GONE;
		ch_end_job(c, &gone);
	}
	if (c->phase != CH_CLOSING)
		ch_end_migration(c, &gone);
	if (c->phase != CH_CLOSING)
		ch_end_removals(c, &gone);
	if (c->phase != CH_CLOSING)
		ch_fail_ops(c);
	if (c->phase != CH_CLOSING && c->hv.cb.exited != NULL)
		c->hv.cb.exited(c->hv.cb.arg, &st);
}

/* ---- starting ---- */

static char *copy(const char *s, bool *bad)
{
	char *r = s != NULL ? strdup(s) : NULL;

	if (s != NULL && r == NULL)
		*bad = true;
	return r;
}

static int set_paths(struct ch *c, const struct hv_spec *spec, struct err *err)
{
	bool bad = false;

	c->run_dir = copy(spec->run_dir, &bad);
	c->api_path = path_join(spec->run_dir, "ch.sock");
	c->serial_path = path_join(spec->run_dir, "serial.sock");
	c->events_path = path_join(spec->run_dir, "ch.events");
	c->marker_path = path_join(spec->run_dir, "ch.boot");
	c->stream_path = path_join(spec->run_dir, "ch.stream");
	c->frozen_path = path_join(spec->run_dir, "ch.frozen");
	if (spec->cgroup != NULL)
		c->freezer_path = path_join(spec->cgroup, "cgroup.freeze");
	c->log_path = copy(spec->log_path, &bad);
	c->restore_dir = spec->restore_dir != NULL ? path_join(spec->run_dir, "ch.restore") : NULL;
	bad = bad || (spec->restore_dir != NULL && c->restore_dir == NULL);
	if (bad || c->api_path == NULL || c->serial_path == NULL || c->events_path == NULL ||
		c->marker_path == NULL || c->stream_path == NULL || c->frozen_path == NULL ||
		(spec->cgroup != NULL && c->freezer_path == NULL))
		return err_nomem(err);
	c->reboot_is_exit = spec->reboot_is_exit;
	c->panic_is_pause = spec->panic_is_pause;
	c->start_paused = spec->start_paused;
	c->incoming = spec->incoming;
	return 0;
}

/* What outlives the call: the start goes on once the version is known. */
static int keep_spec(struct ch *c, const struct hv_spec *spec, struct err *err)
{
	bool bad = false;
	int r = ch_arguments(spec, c->listener, c->events_out, -1, true, &c->command, err);

	if (r < 0)
		return r;
	c->binary = copy(spec->binary, &bad);
	c->jail = copy(spec->jail, &bad);
	c->cgroup = copy(spec->cgroup, &bad);
	c->env = copy(spec->env, &bad);
	return bad ? err_nomem(err) : 0;
}

static int spawn(struct ch *c, struct err *err)
{
	const struct process_callbacks cb = { .spawned = process_spawned,
		.failed = process_failed,
		.exited = process_exited,
		.arg = c };
	struct process_spec ps = { .command = &c->command,
		.run_dir = c->run_dir,
		.jail = c->jail,
		.cgroup = c->cgroup,
		.env = c->env,
		.cwd = c->run_dir,
		.log_fd = c->log_fd };
	int r = process_spawn(&c->process, c->hv.loop, &ps, &cb, err);

	if (r == 0)
		c->handles++;
	/* Our copy of the listening socket goes: a connect must fail once the process is gone. */
	forget_spec(c);
	return r;
}

/* Nothing runs, and nothing will. */
static void start_is_off(struct ch *c, const struct err *err)
{
	struct err e = *err;

	let_go(c);
	forget_spec(c);
	finish_start(c, CH_GONE, &e);
}

void ch_set_program(struct ch *c, const struct ch_version *v)
{
	c->major = v->major;
	snprintf(c->hv.program, sizeof(c->hv.program), "cloud-hypervisor %s", v->text);
}

static void probed(void *arg, const struct ch_version *v, const struct err *err)
{
	struct ch *c = arg;
	struct err mine;

	c->probe = NULL;
	if (c->phase != CH_STARTING || c->failing)
		return;
	if (err == NULL && ch_version_check(v, c->binary, &mine) < 0)
		err = &mine;
	if (err == NULL) {
		ch_set_program(c, v);
		if (spawn(c, &mine) < 0)
			err = &mine;
	}
	if (err != NULL)
		start_is_off(c, err);
}

static int start_now(struct ch *c, const struct hv_spec *spec, struct err *err)
{
	int r = set_paths(c, spec, err);

	if (r == 0)
		r = ch_vm_config(spec, spec->incoming ? &c->own : &c->config, err);
	if (r == 0)
		unlink(c->frozen_path);
	if (r == 0 && spec->restore_dir != NULL)
		r = ch_restore_folder(spec->restore_dir, c->restore_dir, c->config, err);
	if (r == 0)
		r = ch_keep_boot_nics(c, spec, err);
	if (r == 0)
		r = hv_log_open(c->log_path, &c->log_fd, &c->log_offset, err);
	if (r == 0)
		r = unix_listen(c->api_path, 0600, BACKLOG, &c->listener, err);
	if (r == 0)
		r = ch_make_events(c, &c->events_out, err);
	if (r == 0)
		r = ch_open_api(c, err);
	if (r == 0)
		r = keep_spec(c, spec, err);
	if (r == 0)
		r = ch_mark_boot(c, err);
	if (r == 0)
		r = ch_probe(&c->probe, c->hv.loop, spec->binary, probed, c, err);
	return r;
}

static void ch_start(struct hv *hv, const struct hv_spec *spec, hv_spawned_fn *spawned,
	hv_done_fn *done, void *arg)
{
	struct ch *c = ch_of(hv);
	char why[128];

	c->phase = CH_STARTING;
	c->spawned = spawned;
	c->done = done;
	c->arg = arg;
	hv_kvm_usable("/dev/kvm", "/proc/cpuinfo", why, sizeof(why));
	snprintf(hv->accel_text, sizeof(hv->accel_text), "kvm (it has nothing else; %s)", why);
	if (start_now(c, spec, &c->start_err) < 0) {
		deadline_set(&c->later, 0);
		return;
	}
	c->start_err.code = 0;
	deadline_set(&c->ready,
		spec->ready_timeout_ms > 0 ? spec->ready_timeout_ms : HV_READY_TIMEOUT_MS);
}

static void ch_start_cancel(struct hv *hv)
{
	struct ch *c = ch_of(hv);

	if (c->phase != CH_STARTING || c->adopting || c->failing)
		return;
	err_set(&c->start_err, -ECANCELED, "the start was cancelled");
	c->failing = true;
	if (c->process != NULL)
		process_signal(c->process, SIGKILL);
	deadline_set(&c->later, 0);
}

static bool is_stopped(pid_t pid)
{
	char state = proc_state(pid);

	return state == 'T' || state == 't';
}

/* What has been made to stand still does so until it is known whose the guest is. */
static bool was_frozen(struct ch *c)
{
	c->frozen = access(c->frozen_path, F_OK) == 0;
	/* The freezer first: there is no moment in which a SIGCONT of before could let it run. */
	if (c->frozen) {
		ch_hold(c);
		process_signal(c->process, SIGSTOP);
	}
	return c->frozen;
}

static void ch_adopt(struct hv *hv, const struct hv_spec *spec, const struct hv_process *id,
	struct child_status *status, hv_done_fn *done, void *arg)
{
	const struct process_callbacks cb = { .spawned = process_spawned,
		.failed = process_failed,
		.exited = process_exited,
		.arg = hv };
	struct ch *c = ch_of(hv);
	int r;

	c->phase = CH_STARTING;
	c->adopting = true;
	c->is_spawned = true;
	c->done = done;
	c->arg = arg;
	hv->process = *id;
	snprintf(hv->accel_text, sizeof(hv->accel_text), "kvm (it has nothing else)");
	*status = (struct child_status){ 0 };
	r = set_paths(c, spec, &c->start_err);
	if (r == 0)
		r = process_adopt(
			&c->process, hv->loop, spec->run_dir, id, status, &cb, &c->start_err);
	if (r < 0) {
		c->failing = true;
		deadline_set(&c->later, 0);
		return;
	}
	c->handles++;
	/* For a start that an earlier daemon has left half done. */
	for (size_t i = 0; i < spec->nnics; i++)
		c->lacks_nics = c->lacks_nics || spec->nics[i].tap == NULL;
	if (ch_vm_config(spec, &c->config, NULL) < 0)
		c->config = NULL;
	c->start_err.code = 0;
	/* What happened meanwhile is in the FIFO, and comes before what is asked now. */
	ch_open_events(c, NULL);
	r = ch_open_api(c, NULL);
	if (r == 0) {
		ch_dial_console(c);
		ch_boot(c);
	}
	/*
	 * There is nothing to wait for of a process that somebody has stopped, and the others shall
	 * not wait for it.
	 */
	deadline_set(&c->ready, r == 0 && !was_frozen(c) && !is_stopped(id->pid) ? ADOPT_MS : 0);
}

/* What must not be told from within a call. */
static void tell_later(void *arg)
{
	struct ch *c = arg;

	if (c->phase == CH_STARTING && c->process == NULL)
		start_is_off(c, &c->start_err);
	else if (c->phase == CH_STARTING && c->failing && c->is_spawned)
		finish_start(c, CH_FAILED, &c->start_err);
	if (c->phase != CH_CLOSING)
		ch_fail_ops(c);
}

/* ---- life ---- */

static void ch_destroy(struct hv *hv, void (*closed)(void *arg), void *arg)
{
	struct ch *c = ch_of(hv);

	c->phase = CH_CLOSING;
	c->closed = closed;
	c->closed_arg = arg;
	ch_end_job(c, NULL);
	ch_end_migration(c, NULL);
	ch_end_removals(c, NULL);
	ch_forget_ops(c);
	let_go(c);
	deadline_close(&c->ready, ch_part_closed);
	deadline_close(&c->later, ch_part_closed);
	deadline_close(&c->retry, ch_part_closed);
	deadline_close(&c->dial, ch_part_closed);
	deadline_close(&c->settle, ch_part_closed);
}

/* What it cannot; that of a dump is known when it has told its features. */
static const char *const why_not[HV_NCAPS] = {
	[HV_CAP_SCREENDUMP] = "it has no display",
	[HV_CAP_DUMP] = "it was built without the feature guest_debug",
	[HV_CAP_COPY_DISKS] = "its API has no way to copy a disk while the guest runs",
	[HV_CAP_MEMORY_CLONE] =
		"it restores memory by copying it, and cannot share it between machines",
	[HV_CAP_PASSTHROUGH] = "its monitor is an HTTP API and not QMP; `drover ch` speaks to it",
};

static int ch_create(
	struct hv **out, uv_loop_t *loop, const struct hv_callbacks *cb, struct err *err)
{
	struct ch *c = calloc(1, sizeof(*c));

	if (c == NULL)
		return err_nomem(err);
	c->hv.ops = &hv_cloud_hypervisor;
	c->hv.loop = loop;
	c->hv.cb = *cb;
	snprintf(c->hv.program, sizeof(c->hv.program), "cloud-hypervisor");
	c->hv.caps.program = c->hv.program;
	for (size_t i = 0; i < HV_NCAPS; i++)
		c->hv.caps.why_not[i] = why_not[i];
	list_init(&c->ops);
	list_init(&c->boot_nics);
	list_init(&c->removals);
	c->listener = c->events_out = c->log_fd = c->events_fd = -1;
	c->handles = 5;
	deadline_init(&c->ready, loop, ready_timeout, c);
	deadline_init(&c->later, loop, tell_later, c);
	deadline_init(&c->retry, loop, ch_retry, c);
	deadline_init(&c->dial, loop, ch_dial, c);
	deadline_init(&c->settle, loop, ch_settled, c);
	*out = &c->hv;
	return 0;
}

const struct hv_ops hv_cloud_hypervisor = {
	.name = "cloud-hypervisor",
	.arguments = ch_arguments,
	.create = ch_create,
	.start = ch_start,
	.start_cancel = ch_start_cancel,
	.adopt = ch_adopt,
	.pause = ch_pause,
	.resume = ch_resume,
	.powerdown = ch_powerdown,
	.reset = ch_reset,
	.quit = ch_quit,
	.kill = ch_kill,
	.execute = ch_execute,
	.execute_text = ch_execute_text,
	.passthrough = ch_passthrough,
	.passthrough_write = ch_passthrough_write,
	.ping = ch_ping,
	.agent = ch_agent,
	.agent_forget = ch_agent_forget,
	.console_write = ch_console_write,
	.nmi = ch_nmi,
	.dump = ch_dump,
	.counters = ch_counters,
	.save = ch_save,
	.migrate_out = ch_migrate_out,
	.migrate_in = ch_migrate_in,
	.job_cancel = ch_job_cancel,
	.add_disk = ch_add_disk,
	.add_nic = ch_add_nic,
	.remove_device = ch_remove_device,
	.resize = ch_resize,
	.destroy = ch_destroy,
};
