/* hv/qemu.c - a machine on QEMU: start, adoption, end of a run. */
#include "hv/qemu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/jail.h"
#include "lib/file.h"
#include "lib/json.h"

#define BACKLOG       16
#define ADOPT_MS      5000 /* then a silent monitor is called unresponsive */
#define LOST_START_MS 1000 /* from the monitor's EOF to the exit of a start that fails */

void qemu_part_closed(void *arg)
{
	struct qemu *q = arg;
	void (*closed)(void *arg) = q->closed;
	void *closed_arg = q->closed_arg;

	if (--q->handles > 0)
		return;
	free(q->run_dir);
	free(q->mon_path);
	free(q->serial_path);
	free(q->agent_path);
	free(q->log_path);
	free(q);
	if (closed != NULL)
		closed(closed_arg);
}

/* Starting */

/* The only exit of a start or an adoption. */
static void finish_start(struct qemu *q, enum qemu_phase phase, const struct err *err)
{
	hv_done_fn *done = q->done;

	q->phase = phase;
	q->done = NULL;
	deadline_cancel(&q->ready);
	if (done != NULL)
		done(q->arg, err);
}

/* Kills the process; done is told now or, while it is not known whether there is one, then. */
static void fail_start(struct qemu *q)
{
	q->failing = true;
	if (q->process != NULL)
		process_signal(q->process, SIGKILL);
	if (q->is_spawned)
		finish_start(q, QEMU_FAILED, &q->start_err);
}

void qemu_answered(struct qemu *q)
{
	q->answered = true;
	if (q->phase != QEMU_STARTING || q->failing)
		return;
	if (q->restore_fd >= 0)
		qemu_restore(q);
	else if (q->is_spawned)
		finish_start(q, QEMU_UP, NULL);
}

void qemu_start_lost(struct qemu *q, const struct err *err)
{
	if (q->failing)
		return;
	q->start_err = *err;
	/* After EOF the process is most likely about to exit, and its status and words say more. */
	deadline_set(&q->ready, err->code == -ECONNRESET || q->adopting ? LOST_START_MS : 0);
}

static void ready_timeout(void *arg)
{
	struct qemu *q = arg;

	if (q->phase != QEMU_STARTING)
		return;
	if (!q->adopting) {
		if (q->start_err.code == 0)
			err_set(&q->start_err, -ETIMEDOUT, "the monitor did not answer in time");
		hv_add_last_words(q->log_path, q->log_offset, &q->start_err);
		fail_start(q);
		return;
	}
	/* It lives, and that is all that adoption asks for. */
	finish_start(q, QEMU_UP, NULL);
	if (q->phase != QEMU_UP)
		return;
	if (q->qmp == NULL)
		qemu_retry(q);
	else
		qemu_set_unresponsive(q, NULL);
}

static void process_spawned(void *arg, const struct hv_process *p)
{
	struct qemu *q = arg;

	q->hv.process = *p;
	q->is_spawned = true;
	if (q->spawned != NULL)
		q->spawned(q->arg, p);
	if (q->phase == QEMU_STARTING && q->failing)
		finish_start(q, QEMU_FAILED, &q->start_err);
	else if (q->answered)
		qemu_answered(q);
}

static void let_go(struct qemu *q)
{
	struct process *p = q->process;

	q->process = NULL;
	if (p != NULL)
		process_release(p, qemu_part_closed, q);
	qemu_drop_monitor(q);
	qemu_drop_console(q);
	deadline_cancel(&q->retry);
	deadline_cancel(&q->ready);
}

static void process_failed(void *arg, const struct err *err)
{
	struct qemu *q = arg;
	struct err e = q->failing ? q->start_err : *err;

	let_go(q);
	finish_start(q, QEMU_GONE, &e);
}

static void process_exited(void *arg, const struct child_status *status)
{
	struct child_status st = *status;
	struct qemu *q = arg;
	bool starting = q->phase == QEMU_STARTING;

	/* From here on EOF is no news; what came before it is. */
	if (!starting && q->phase != QEMU_FAILED)
		q->phase = QEMU_GONE;
	qemu_drain(q);
	if (q->phase == QEMU_CLOSING)
		return;
	let_go(q);
	if (starting && q->adopting) {
		finish_start(q, QEMU_GONE, NULL);
	} else if (starting) {
		if (!q->failing) {
			err_set(&q->start_err, -EIO, "the hypervisor %s", child_status_text(&st));
			hv_add_last_words(q->log_path, q->log_offset, &q->start_err);
		}
		finish_start(q, QEMU_GONE, &q->start_err);
	}
	if (q->phase != QEMU_CLOSING) {
		q->phase = QEMU_GONE;
		qemu_fail_ops(q);
	}
	if (q->phase != QEMU_CLOSING)
		qemu_save_lost(q);
	if (q->phase != QEMU_CLOSING && q->hv.cb.exited != NULL)
		q->hv.cb.exited(q->hv.cb.arg, &st);
}

static int set_paths(struct qemu *q, const struct hv_spec *spec, struct err *err)
{
	q->run_dir = strdup(spec->run_dir);
	q->mon_path = path_join(spec->run_dir, "mon.sock");
	q->serial_path = path_join(spec->run_dir, "serial.sock");
	q->agent_path = path_join(spec->run_dir, "agent.sock");
	q->restore_file = spec->memory_file != NULL;
	q->memory_file = spec->memory_file != NULL && !spec->memory_private;
	q->log_path = spec->log_path != NULL ? strdup(spec->log_path) : NULL;
	if (q->run_dir == NULL || q->mon_path == NULL || q->serial_path == NULL ||
		q->agent_path == NULL || (spec->log_path != NULL && q->log_path == NULL))
		return err_nomem(err);
	q->reboot_is_exit = spec->reboot_is_exit;
	return 0;
}

/* A socket that listens for the hypervisor, with us in its backlog: it has a client at once. */
static int make_socket(const char *path, int *listener, int *client, struct err *err)
{
	int r = unix_listen(path, 0600, BACKLOG, listener, err);

	return r < 0 ? r : unix_connect(path, client, err);
}

static int spawn(struct qemu *q, const struct hv_spec *spec, const int *listeners, int log_fd,
	struct err *err)
{
	const struct process_callbacks cb = { .spawned = process_spawned,
		.failed = process_failed,
		.exited = process_exited,
		.arg = q };
	bool use_kvm = hv_choose_accel(spec, q->hv.accel_text, sizeof(q->hv.accel_text));
	struct hv_spec full = *spec;
	struct hv_command cmd = { 0 };
	struct process_spec ps = { .command = &cmd,
		.run_dir = spec->run_dir,
		.jail = spec->jail,
		.cgroup = spec->cgroup,
		.env = spec->env,
		.log_fd = log_fd };
	int r;

	if (!use_kvm && qemu_wants_tsc(spec))
		full.tsc_khz = qemu_host_tsc_khz();
	r = qemu_arguments(&full, listeners[0], listeners[1], listeners[2], use_kvm, &cmd, err);
	if (r == 0)
		r = process_spawn(&q->process, q->hv.loop, &ps, &cb, err);
	hv_command_finish(&cmd);
	if (r == 0)
		q->handles++;
	return r;
}

static int start_now(struct qemu *q, const struct hv_spec *spec, struct err *err)
{
	int listeners[3] = { -1, -1, -1 }, clients[3] = { -1, -1, -1 }, log_fd = -1;
	int r = set_paths(q, spec, err);

	if (r == 0)
		r = qemu_restore_open(q, spec, err);
	if (r == 0)
		r = hv_log_open(q->log_path, &log_fd, &q->log_offset, err);
	if (r == 0)
		r = make_socket(q->mon_path, &listeners[0], &clients[0], err);
	if (r == 0)
		r = make_socket(q->serial_path, &listeners[1], &clients[1], err);
	if (r == 0 && spec->agent)
		r = make_socket(q->agent_path, &listeners[2], &clients[2], err);
	if (r == 0) {
		r = qemu_take_monitor(q, clients[0], err);
		clients[0] = -1;
	}
	if (r == 0) {
		r = qemu_take_console(q, clients[1], err);
		clients[1] = -1;
	}
	if (r == 0 && spec->agent) {
		r = qemu_take_agent(q, clients[2], err);
		clients[2] = -1;
	}
	if (r == 0)
		r = spawn(q, spec, listeners, log_fd, err);
	if (r < 0)
		let_go(q);
	/* Our copies of the listening sockets go: a connect must fail once the process is gone. */
	for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
		if (listeners[i] >= 0)
			close(listeners[i]);
		if (clients[i] >= 0)
			close(clients[i]);
	}
	if (log_fd >= 0)
		close(log_fd);
	return r;
}

static void set_caps(struct qemu *q, const struct hv_spec *spec)
{
	qemu_device_caps(q, spec);
	qemu_resize_caps(q, spec);
	qemu_inspect_caps(q, spec);
}

static void qemu_start(struct hv *hv, const struct hv_spec *spec, hv_spawned_fn *spawned,
	hv_done_fn *done, void *arg)
{
	struct qemu *q = qemu_of(hv);

	q->phase = QEMU_STARTING;
	hv->caps.agent = spec->agent;
	set_caps(q, spec);
	q->spawned = spawned;
	q->done = done;
	q->arg = arg;
	if (start_now(q, spec, &q->start_err) < 0) {
		deadline_set(&q->later, 0);
		return;
	}
	q->start_err.code = 0;
	deadline_set(&q->ready,
		spec->ready_timeout_ms > 0 ? spec->ready_timeout_ms : HV_READY_TIMEOUT_MS);
}

static void qemu_start_cancel(struct hv *hv)
{
	struct qemu *q = qemu_of(hv);

	if (q->phase != QEMU_STARTING || q->adopting || q->failing || q->process == NULL)
		return;
	err_set(&q->start_err, -ECANCELED, "the start was cancelled");
	q->failing = true;
	process_signal(q->process, SIGKILL);
	deadline_set(&q->later, 0);
}

static bool is_stopped(pid_t pid)
{
	char state = proc_state(pid);

	return state == 'T' || state == 't';
}

static void qemu_adopt(struct hv *hv, const struct hv_spec *spec, const struct hv_process *id,
	struct child_status *status, hv_done_fn *done, void *arg)
{
	const struct process_callbacks cb = { .spawned = process_spawned,
		.failed = process_failed,
		.exited = process_exited,
		.arg = hv };
	struct qemu *q = qemu_of(hv);
	int r;

	q->phase = QEMU_STARTING;
	q->adopting = true;
	q->is_spawned = true;
	q->done = done;
	q->arg = arg;
	hv->process = *id;
	*status = (struct child_status){ 0 };
	r = set_paths(q, spec, &q->start_err);
	if (r == 0)
		r = process_adopt(
			&q->process, hv->loop, spec->run_dir, id, status, &cb, &q->start_err);
	if (r < 0) {
		q->failing = true;
		deadline_set(&q->later, 0);
		return;
	}
	q->handles++;
	/* What this process has, not what it would get today. */
	hv->caps.agent = access(q->agent_path, F_OK) == 0;
	set_caps(q, spec);
	q->start_err.code = 0;
	r = qemu_connect(q, NULL);
	/*
	 * Without a connection there is nothing to wait for: done, lost, and tried again. Nor is
	 * there of a process that somebody has stopped, and the others shall not wait for it.
	 */
	deadline_set(&q->ready, r == 0 && !is_stopped(id->pid) ? ADOPT_MS : 0);
}

/* What must not be told from within a call. */
static void tell_later(void *arg)
{
	struct qemu *q = arg;

	if (q->phase == QEMU_STARTING && q->process == NULL)
		finish_start(q, QEMU_GONE, &q->start_err);
	else if (q->phase == QEMU_STARTING && q->failing && q->is_spawned)
		finish_start(q, QEMU_FAILED, &q->start_err);
	if (q->phase != QEMU_CLOSING)
		qemu_fail_ops(q);
}

/* Life */

static void qemu_destroy(struct hv *hv, void (*closed)(void *arg), void *arg)
{
	struct qemu *q = qemu_of(hv);

	q->phase = QEMU_CLOSING;
	q->closed = closed;
	q->closed_arg = arg;
	qemu_forget_ops(q);
	qemu_forget_taps(q);
	qemu_mirror_drop(q);
	qemu_copy_drop(q);
	qemu_save_drop(q);
	qemu_migrate_drop(q);
	let_go(q);
	qemu_drop_agent(q);
	deadline_close(&q->ready, qemu_part_closed);
	deadline_close(&q->later, qemu_part_closed);
	deadline_close(&q->retry, qemu_part_closed);
	deadline_close(&q->settle, qemu_part_closed);
	deadline_close(&q->stream.poll, qemu_part_closed);
	qmp_mux_destroy(q->mux, qemu_part_closed, q);
}

static int qemu_create(
	struct hv **out, uv_loop_t *loop, const struct hv_callbacks *cb, struct err *err)
{
	struct qemu *q = calloc(1, sizeof(*q));

	if (q == NULL)
		return err_nomem(err);
	q->hv.ops = &hv_qemu;
	q->hv.loop = loop;
	q->hv.cb = *cb;
	snprintf(q->hv.program, sizeof(q->hv.program), "QEMU");
	q->hv.caps.program = q->hv.program;
	list_init(&q->ops);
	list_init(&q->rows);
	list_init(&q->counters);
	list_init(&q->taps);
	list_init(&q->migrations);
	if (qemu_make_mux(q, err) < 0) {
		free(q);
		return -ENOMEM;
	}
	q->handles = 6;
	q->restore_fd = q->stream.fd = -1;
	/* uv_timer_init() cannot fail. */
	deadline_init(&q->ready, loop, ready_timeout, q);
	deadline_init(&q->later, loop, tell_later, q);
	deadline_init(&q->retry, loop, qemu_retry, q);
	deadline_init(&q->settle, loop, qemu_reset_settled, q);
	deadline_init(&q->stream.poll, loop, qemu_stream_poll, q);
	*out = &q->hv;
	return 0;
}

const struct hv_ops hv_qemu = {
	.name = "qemu",
	.arguments = qemu_arguments,
	.create = qemu_create,
	.start = qemu_start,
	.start_cancel = qemu_start_cancel,
	.adopt = qemu_adopt,
	.pause = qemu_pause,
	.resume = qemu_resume,
	.powerdown = qemu_powerdown,
	.reset = qemu_reset,
	.quit = qemu_quit,
	.kill = qemu_kill,
	.execute = qemu_execute,
	.execute_text = qemu_execute_text,
	.passthrough = qemu_passthrough,
	.passthrough_write = qemu_passthrough_write,
	.ping = qemu_ping,
	.agent = qemu_agent,
	.agent_forget = qemu_agent_forget,
	.console_write = qemu_console_write,
	.nmi = qemu_nmi,
	.screendump = qemu_screendump,
	.dump = qemu_dump,
	.counters = qemu_counters,
	.add_disk = qemu_add_disk,
	.add_nic = qemu_add_nic,
	.remove_device = qemu_remove_device,
	.resize = qemu_resize,
	.tap = qemu_tap,
	.save = qemu_save,
	.copy_disks = qemu_copy_disks,
	.migrate_out = qemu_migrate_out,
	.serve_disks = qemu_serve_disks,
	.migrate_in = qemu_migrate_in,
	.job_cancel = qemu_job_cancel,
	.destroy = qemu_destroy,
};
