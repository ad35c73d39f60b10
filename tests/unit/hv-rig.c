#include "tests/unit/hv-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/file.h"

static const char *const kinds[] = {
	[HV_EVENT_STATUS] = "status",
	[HV_EVENT_GUEST_SHUTDOWN] = "guest-shutdown",
	[HV_EVENT_GUEST_RESET] = "guest-reset",
	[HV_EVENT_HOST_RESET] = "host-reset",
	[HV_EVENT_HOST_QUIT] = "host-quit",
	[HV_EVENT_PANIC] = "panic",
	[HV_EVENT_WATCHDOG] = "watchdog",
	[HV_EVENT_IO_ERROR] = "io-error",
	[HV_EVENT_DEVICE_GONE] = "device-gone",
	[HV_EVENT_MONITOR_LOST] = "monitor-lost",
	[HV_EVENT_UNRESPONSIVE] = "unresponsive",
	[HV_EVENT_RESPONSIVE] = "responsive",
	[HV_EVENT_OTHER] = "other",
};

char *hv_rig_program(const char *name)
{
	const char *b = getenv("B");
	char *path = path_join(b != NULL ? b : "build", name), *real;

	assert_non_null(path);
	real = realpath(path, NULL);
	if (real == NULL)
		fail_msg("%s: %s", path, strerror(errno));
	free(path);
	return real;
}

static void gone(void *arg)
{
	struct hv_rig *r = arg;

	r->closed = true;
	uv_stop(r->loop);
}

static void write_down(struct hv_rig *r, const char *word)
{
	buf_printf(&r->diary, "%s ", word);
	/* A timer that fires at the beginning of a turn would else be noticed at its end only. */
	uv_stop(r->loop);
	if (r->want != NULL && strstr(buf_str(&r->diary), r->want) != NULL)
		r->found = true;
	if (r->destroy_at != NULL && r->hv != NULL && str_eq(word, r->destroy_at)) {
		hv_destroy(r->hv, gone, r);
		r->hv = NULL;
	}
}

static void on_event(void *arg, const struct hv_event *ev)
{
	struct hv_rig *r = arg;
	char *word;

	if (ev->kind == HV_EVENT_STATUS)
		word = str_printf(
			"status:%s%s", hv_status_name(ev->status), ev->by_us ? ":us" : "");
	else
		word = str_printf("%s%s%s%s%s", kinds[ev->kind], ev->reason != NULL ? ":" : "",
			ev->reason != NULL ? ev->reason : "", ev->nospace ? ":nospace" : "",
			ev->by_us ? ":us" : "");
	assert_non_null(word);
	assert_false(r->exited);
	write_down(r, word);
	free(word);
}

static void on_exited(void *arg, const struct child_status *status)
{
	struct hv_rig *r = arg;

	assert_false(r->exited);
	r->exited = true;
	r->status = *status;
	write_down(r, "exited");
}

static void on_console(void *arg, const char *data, size_t len)
{
	struct hv_rig *r = arg;

	assert_false(r->exited);
	buf_add(&r->console, data, len);
	if (r->want != NULL && strstr(buf_str(&r->console), r->want) != NULL)
		r->found = true;
}

static bool is_there(pid_t pid, uint64_t starttime)
{
	return pid > 0 && proc_starttime(pid) == starttime;
}

/*
 * A test that fails leaves its function at once: what it had started is ended when the program
 * ends, or it would stay for ever.
 */
static struct hv_process started[256];
static size_t nstarted;

static void end_started(void)
{
	for (size_t i = 0; i < nstarted; i++)
		if (is_there(started[i].pid, started[i].starttime))
			kill(started[i].pid, SIGKILL);
}

static void remember(const struct hv_process *p)
{
	if (nstarted == 0)
		atexit(end_started);
	if (nstarted < ARRAY_LEN(started))
		started[nstarted++] = *p;
}

static void on_spawned(void *arg, const struct hv_process *p)
{
	struct hv_rig *r = arg;

	assert_false(r->spawned);
	assert_false(r->done);
	r->spawned = true;
	r->process = *p;
	remember(p);
	write_down(r, "spawned");
}

static void take_error(struct hv_rig *r, const struct err *err)
{
	r->err = err != NULL ? *err : (struct err){ 0 };
}

static void on_done(void *arg, const struct err *err)
{
	struct hv_rig *r = arg;
	char word[32] = "done";

	assert_false(r->done);
	assert_false(r->exited);
	r->done = true;
	take_error(r, err);
	if (err != NULL)
		snprintf(word, sizeof(word), "done:%d", err->code);
	write_down(r, word);
}

static void on_op(void *arg, const struct err *err)
{
	struct hv_rig *r = arg;

	r->op_done = true;
	r->ops++;
	take_error(r, err);
	write_down(r, "op");
}

static void on_reply(void *arg, const json_t *reply, const struct err *err)
{
	struct hv_rig *r = arg;

	free(r->reply);
	r->reply = reply != NULL ? json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	on_op(arg, err);
}

static void create(struct hv_rig *r)
{
	const struct hv_callbacks cb = {
		.event = on_event, .exited = on_exited, .console = on_console, .arg = r
	};
	struct err err;

	r->spawned = r->done = r->exited = r->closed = false;
	if (hv_create(&r->hv, r->backend, r->loop, &cb, &err) < 0)
		fail_msg("%s", err.msg);
}

void hv_rig_init(struct hv_rig *r, const char *binary)
{
	*r = (struct hv_rig){ 0 };
	r->loop = rig_loop();
	r->backend = &hv_qemu;
	r->dir = rig_tmp();
	r->log_path = path_join(r->dir, "log");
	r->spec = (struct hv_spec){ .name = "web-1",
		.run_dir = r->dir,
		.binary = binary,
		.accel = HV_ACCEL_TCG,
		.vcpus = 1,
		.memory_mib = 16,
		.sandbox = true,
		.log_path = r->log_path };
}

void hv_rig_start(struct hv_rig *r)
{
	create(r);
	hv_start(r->hv, &r->spec, on_spawned, on_done, r);
	assert_false(r->done || r->spawned);
}

void hv_rig_up(struct hv_rig *r)
{
	hv_rig_start(r);
	rig_run_until(r->loop, &r->done);
	if (r->err.code != 0)
		fail_msg("start: %s", r->err.msg);
	assert_true(r->spawned);
}

void hv_rig_destroy(struct hv_rig *r)
{
	if (r->hv != NULL) {
		hv_destroy(r->hv, gone, r);
		r->hv = NULL;
		rig_run_until(r->loop, &r->closed);
	}
}

void hv_rig_adopt(struct hv_rig *r)
{
	hv_rig_destroy(r);
	create(r);
	hv_adopt(r->hv, &r->spec, &r->process, &r->status, on_done, r);
	assert_false(r->done);
	rig_run_until(r->loop, &r->done);
}

bool hv_rig_has(struct hv_rig *r, const char *text)
{
	return strstr(buf_str(&r->diary), text) != NULL;
}

static void until(struct hv_rig *r, const struct buf *where, const char *text)
{
	r->want = text;
	r->found = strstr(buf_str(where), text) != NULL;
	if (!r->found)
		rig_run_until(r->loop, &r->found);
	r->want = NULL;
}

void hv_rig_until(struct hv_rig *r, const char *text)
{
	until(r, &r->diary, text);
}

void hv_rig_until_console(struct hv_rig *r, const char *text)
{
	until(r, &r->console, text);
}

void hv_rig_until_exit(struct hv_rig *r)
{
	if (!r->exited)
		rig_run_until(r->loop, &r->exited);
}

void hv_rig_op_start(struct hv_rig *r, void (*op)(struct hv *, hv_done_fn *, void *))
{
	unsigned before = r->ops;

	r->op_done = false;
	op(r->hv, on_op, r);
	assert_int_equal(r->ops, before);
}

int hv_rig_op(struct hv_rig *r, void (*op)(struct hv *, hv_done_fn *, void *))
{
	hv_rig_op_start(r, op);
	rig_run_until(r->loop, &r->op_done);
	return r->err.code;
}

void hv_rig_execute(struct hv_rig *r, const char *command, uint64_t timeout_ms)
{
	json_t *cmd = json_loads(command, 0, NULL);

	assert_non_null(cmd);
	r->op_done = false;
	hv_execute(r->hv, cmd, timeout_ms, on_reply, r);
	json_decref(cmd);
	assert_false(r->op_done);
	rig_run_until(r->loop, &r->op_done);
}

void hv_rig_finish(struct hv_rig *r)
{
	hv_rig_destroy(r);
	/* What nobody watches any more; a jail still writes into the folder that we remove. */
	if (is_there(r->process.pid, r->process.starttime))
		kill(r->process.pid, SIGKILL);
	while (is_there(r->process.pid, r->process.starttime) ||
		is_there(r->process.jail_pid, r->process.jail_starttime))
		usleep(1000);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	rig_loop_finish(r->loop);
	rig_tmp_finish(r->dir);
	buf_finish(&r->diary);
	buf_finish(&r->console);
	free(r->log_path);
	free(r->reply);
}
