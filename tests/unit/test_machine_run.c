/* A machine's life in the daemon, on a fake hypervisor that is a real process. */
#include "tests/unit/drover-rig.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/dropin.h"
#include "supervisor/plan.h"
#include "supervisor/reload.h"
#include "tests/unit/hv-rig.h"

static struct world {
	struct drover_rig r;
	char *fake;
	bool no_work; /* the thread pool takes nothing */
	bool done;
} w;

/* The library's calls come by here. */
int uv_queue_work(uv_loop_t *loop, uv_work_t *req, uv_work_cb work, uv_after_work_cb after)
{
	static int (*real)(uv_loop_t *, uv_work_t *, uv_work_cb, uv_after_work_cb);

	if (w.no_work)
		return UV_ENOMEM;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "uv_queue_work");
	return real(loop, req, work, after);
}

static int setup(void **state)
{
	w = (struct world){ .fake = hv_rig_program("fakes/fake-qemu") };
	return 0;
}

/* [drover] goes on with head; machines use the template `fake`. */
static char *config(const char *head, const char *rest)
{
	return str_printf("%s[template fake]\nkernel = %s\nbinary = %s\njail = no\nmemory = 16M\n"
			  "accel = tcg\nautostart = no\nrestart = no\n%s",
		head, w.fake, w.fake, rest);
}

static void begin(const char *head, const char *rest)
{
	char *text = config(head, rest);

	drover_rig_init(&w.r, text);
	free(text);
}

static int teardown(void **state)
{
	struct machine *m;

	/* Only a test that has failed leaves one behind. */
	list_for_each_entry (m, &w.r.d.machines, entry) {
		if (m->process && hv_process(m->hv)->pid > 0)
			kill(hv_process(m->hv)->pid, SIGKILL);
	}
	drover_rig_finish(&w.r);
	free(w.fake);
	return 0;
}

static void start(struct machine *m)
{
	struct err err;

	if (machine_start(m, "a test", true, NULL, &err) < 0)
		fail_msg("%s", err.msg);
}

struct awaited {
	struct machine *m;
	enum machine_state state;
};

static bool is_in_state(void *arg)
{
	const struct awaited *a = arg;

	return a->m->state == a->state && a->m->op == NULL;
}

static void await(struct machine *m, enum machine_state state)
{
	struct awaited a = { m, state };

	drover_rig_until(&w.r, is_in_state, &a);
}

static void kill_machine(struct machine *m)
{
	struct err err;

	if (machine_stop(m, INTENT_KILL, "a test", true, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	await(m, MACHINE_STOPPED);
}

static unsigned count_events(const char *line)
{
	const char *text = drover_rig_events(&w.r);
	unsigned n = 0;

	for (const char *p = text; (p = strstr(p, line)) != NULL; p++)
		n++;
	return n;
}

/* ---- runs and their ends ---- */

static void test_start_and_kill(void **state)
{
	struct machine *m;
	char *text;
	json_t *j = NULL;

	begin("", "[vm web]\ntemplate = fake\n");
	m = drover_rig_machine(&w.r, "web");
	start(m);
	await(m, MACHINE_RUNNING);
	assert_true(m->process);
	assert_int_equal(w.r.d.starting, 0);
	text = drover_rig_text(&w.r, "state/vm/web/state.json");
	assert_int_equal(json_parse(text, strlen(text), &j, NULL), 0);
	assert_string_equal(json_str(j, "state"), "running");
	assert_string_equal(json_str(j, "wanted"), "running");
	assert_int_equal(json_int(j, "pid", 0), hv_process(m->hv)->pid);
	json_decref(j);
	free(text);
	kill_machine(m);
	assert_int_equal(m->last_cause, CAUSE_REQUESTED);
	assert_int_equal(count_events("vm web ended"), 1);
	assert_false(ledger_has(w.r.d.ledger, "vm/web"));
}

/* Somebody else kills it: explained, and the policy's business. */
static void test_crash_and_policy(void **state)
{
	struct machine *m;

	begin("", "[vm web]\ntemplate = fake\nrestart = on-failure\nrestart_delay = 10ms\n"
		  "restart_limit = 2\nrestart_reset = 1h\n");
	m = drover_rig_machine(&w.r, "web");
	start(m);
	for (unsigned i = 1; i <= 2; i++) {
		await(m, MACHINE_RUNNING);
		kill(hv_process(m->hv)->pid, SIGKILL);
		await(m, MACHINE_BACKOFF);
		assert_int_equal(m->last_cause, CAUSE_HYPERVISOR_CRASH);
		assert_string_equal(m->sentence, "the hypervisor was killed by SIGKILL");
		assert_int_equal(m->failures, i);
	}
	await(m, MACHINE_RUNNING);
	assert_int_equal(m->restarts, 2);
	kill(hv_process(m->hv)->pid, SIGKILL);
	await(m, MACHINE_FAILED);
	assert_int_equal(count_events("vm web ended"), 3);
	/* A person's start counts anew. */
	start(m);
	await(m, MACHINE_RUNNING);
	assert_int_equal(m->failures, 0);
	kill_machine(m);
}

static void test_start_failure(void **state)
{
	struct machine *m;
	struct operation *op = NULL;
	uint64_t id;
	json_t *j;

	begin("", "[vm web]\ntemplate = fake\nbinary = /nonexistent/qemu\n");
	m = drover_rig_machine(&w.r, "web");
	assert_int_equal(machine_start(m, "a test", true, &op, NULL), 0);
	j = operation_json(op);
	id = (uint64_t)json_int(j, "id", 0);
	json_decref(j);
	await(m, MACHINE_FAILED);
	assert_int_equal(m->last_cause, CAUSE_START_FAILURE);
	op = operation_find(w.r.d.ops, id);
	assert_int_equal(operation_state(op), OPERATION_FAILED);
	assert_non_null(strstr(operation_error(op)->msg, "vm web: "));
	assert_non_null(strstr(operation_error(op)->msg, "/nonexistent/qemu"));
	assert_false(ledger_has(w.r.d.ledger, "vm/web"));
	assert_int_equal(w.r.d.starting, 0);
}

/* ---- what the next daemon makes of it ---- */

static void adopted(void *arg)
{
	assert_false(w.done);
	w.done = true;
}

/* state.json of this boot, as an earlier daemon left it. */
static struct machine *left_behind(const char *state, const char *wanted, int intent)
{
	char *text = str_printf(
		"{\"version\":1,\"name\":\"web\",\"state\":\"%s\",\"wanted\":\"%s\","
		"\"boot_id\":\"%s\",\"intent\":%d,\"boot\":3,\"failures\":2}",
		state, wanted, boot_id(), intent);
	char *dir = path_join(w.r.dir, "state/vm/web");
	struct saved_process saved;
	struct machine *m;

	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	drover_rig_put(&w.r, "state/vm/web/state.json", text);
	m = drover_rig_machine(&w.r, "web");
	assert_int_equal(machine_load(m, &saved, NULL), 0);
	machine_adopt(m, &saved, adopted, NULL);
	free(text);
	free(dir);
	return m;
}

static bool told(const struct machine *m, const char *event, const char *text)
{
	const json_t *e;
	size_t i;

	json_array_foreach (m->story, i, e) {
		if (str_eq(json_str(e, "event"), event) && strstr(json_str(e, "text"), text))
			return true;
	}
	return false;
}

struct last_ended {
	char cause[32], reason[256];
	unsigned n;
};

static void look_for_end(void *arg, uint64_t seq, const char *line, size_t len)
{
	struct last_ended *e = arg;
	json_t *j = NULL;

	assert_int_equal(json_parse(line, len, &j, NULL), 0);
	if (str_eq(json_str(j, "event"), "ended")) {
		e->n++;
		snprintf(e->cause, sizeof(e->cause), "%s", json_str(j, "cause"));
		snprintf(e->reason, sizeof(e->reason), "%s", json_str(j, "reason"));
	}
	json_decref(j);
}

static void assert_ended(const char *cause, const char *reason)
{
	struct last_ended e = { 0 };

	assert_int_equal(events_replay(w.r.d.events, 0, look_for_end, &e, NULL), 0);
	assert_int_equal(e.n, 1);
	assert_string_equal(e.cause, cause);
	assert_string_equal(e.reason, reason);
}

/* The daemon ended in the middle of a start: that was no request of anybody's, and the start is
 * done again. */
static void test_adopt_start_cut_short(void **state)
{
	static const char *const states[] = { "preparing", "starting" };

	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		struct machine *m;

		w.done = false;
		begin("", "[vm web]\ntemplate = fake\n");
		m = left_behind(states[i], "running", INTENT_NONE);
		rig_run_until(w.r.d.loop, &w.done);
		assert_ended(
			"start-failure", "vm web: droverd ended while the machine was starting");
		await(m, MACHINE_RUNNING);
		assert_true(told(m, "start", "start-failure"));
		assert_int_equal(m->boot, 4);
		/* Nothing that the machine did. */
		assert_int_equal(m->failures, 2);
		kill_machine(m);
		if (i + 1 < ARRAY_LEN(states))
			drover_rig_finish(&w.r);
	}
}

/* A stop was asked for in the meantime, as the wanted state tells. */
static void test_adopt_start_not_wanted(void **state)
{
	struct machine *m;

	begin("", "[vm web]\ntemplate = fake\nrestart = always\n");
	m = left_behind("preparing", "stopped", INTENT_NONE);
	rig_run_until(w.r.d.loop, &w.done);
	await(m, MACHINE_STOPPED);
	assert_ended("requested", "stopped while it was starting");
}

/* A stop that cancelled a start goes on to its end. */
static void test_adopt_cancelled_start(void **state)
{
	struct machine *m;

	begin("", "[vm web]\ntemplate = fake\nrestart = always\n");
	m = left_behind("stopping", "stopped", INTENT_STOP);
	rig_run_until(w.r.d.loop, &w.done);
	await(m, MACHINE_STOPPED);
	assert_int_equal(count_events("vm web ended"), 1);
}

/* Of a machine that was removed from the configuration meanwhile. */
static void test_adopt_removed(void **state)
{
	struct machine *m;

	begin("", "");
	m = left_behind("preparing", "running", INTENT_NONE);
	rig_run_until(w.r.d.loop, &w.done);
	await(m, MACHINE_STOPPED);
	assert_ended("start-failure", "vm web: droverd ended while the machine was starting");
}

/* Its process is there: taken up with its pid; dead: explained as far as can be known. */
static void test_adopt_running(void **state)
{
	struct machine *m;
	struct saved_process saved;
	pid_t pid;

	begin("", "[vm web]\ntemplate = fake\n");
	m = drover_rig_machine(&w.r, "web");
	start(m);
	await(m, MACHINE_RUNNING);
	pid = hv_process(m->hv)->pid;
	rig_run_for(w.r.d.loop, 50);
	machine_destroy(m);
	rig_run_for(w.r.d.loop, 50);
	assert_int_not_equal(proc_starttime(pid), 0);
	m = drover_rig_machine(&w.r, "web");
	assert_int_equal(machine_load(m, &saved, NULL), 0);
	assert_int_equal(saved.state, MACHINE_RUNNING);
	/* Whoever saves it before it is adopted loses nothing of it. */
	assert_int_equal(machine_save(m, NULL), 0);
	assert_int_equal(machine_load(m, &saved, NULL), 0);
	assert_int_equal(saved.state, MACHINE_RUNNING);
	assert_int_equal(saved.process.pid, pid);
	machine_adopt(m, &saved, adopted, NULL);
	rig_run_until(w.r.d.loop, &w.done);
	await(m, MACHINE_RUNNING);
	assert_int_equal(hv_process(m->hv)->pid, pid);
	assert_int_equal(count_events("vm web ended"), 0);
	kill_machine(m);
	assert_int_equal(m->last_cause, CAUSE_REQUESTED);
}

static void test_adopt_other_boot(void **state)
{
	struct machine *m;
	struct saved_process saved;
	char *dir;

	begin("", "[vm web]\ntemplate = fake\n");
	dir = path_join(w.r.dir, "state/vm/web");
	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	free(dir);
	drover_rig_put(&w.r, "state/vm/web/state.json",
		"{\"state\":\"running\",\"wanted\":\"running\",\"boot_id\":\"another\",\"pid\":1,"
		"\"starttime\":1,\"unknown\":[]}");
	m = drover_rig_machine(&w.r, "web");
	assert_int_equal(machine_load(m, &saved, NULL), 0);
	assert_false(saved.this_boot);
	machine_adopt(m, &saved, adopted, NULL);
	rig_run_until(w.r.d.loop, &w.done);
	assert_int_equal(m->state, MACHINE_STOPPED);
	assert_int_equal(m->last_cause, CAUSE_HOST_SHUTDOWN);
}

/* ---- how many start at once ---- */

static const char four[] = "[template slow]\ntemplate = fake\n"
			   "qemu_args = -fake\nqemu_args = \"stop start\"\n"
			   "[vm a]\ntemplate = slow\n[vm b]\ntemplate = slow\n"
			   "[vm c]\ntemplate = slow\n[vm d]\ntemplate = slow\n";

static unsigned starting(void)
{
	struct machine *m;
	unsigned n = 0;

	list_for_each_entry (m, &w.r.d.machines, entry)
		n += m->state == MACHINE_STARTING;
	return n;
}

static unsigned queued(void)
{
	struct machine *m;
	unsigned n = 0;

	list_for_each_entry (m, &w.r.d.start_queue, queue)
		n++;
	return n;
}

struct slots {
	unsigned starting, queued;
};

static bool slots_are(void *arg)
{
	const struct slots *s = arg;

	return starting() == s->starting && queued() == s->queued;
}

static void await_slots(unsigned n, unsigned waiting)
{
	struct slots s = { n, waiting };

	drover_rig_until(&w.r, slots_are, &s);
	assert_int_equal(w.r.d.starting, n);
}

static void reload(const char *head)
{
	struct config_errors errors = { 0 };
	char *text = config(head, four);
	struct plan plan = { 0 };
	struct err err;

	drover_rig_write(&w.r, text);
	if (drover_reload(&w.r.d, &plan, &errors, &err) < 0)
		fail_msg("%s", err.msg);
	plan_finish(&plan);
	free(text);
}

static void test_slots(void **state)
{
	struct machine *m[4];

	begin("max_starts = 1\n", four);
	for (size_t i = 0; i < 4; i++)
		m[i] = drover_rig_machine(&w.r, (const char *[]){ "a", "b", "c", "d" }[i]);
	for (size_t i = 0; i < 4; i++)
		start(m[i]);
	await_slots(1, 3);
	assert_int_equal(m[0]->state, MACHINE_STARTING);
	/* One that waits is cancelled: nobody moves up but in the queue. */
	kill_machine(m[1]);
	await_slots(1, 2);
	start(m[1]);
	await_slots(1, 3);
	/* The slot goes to the one that has waited longest. */
	kill_machine(m[0]);
	await_slots(1, 2);
	assert_int_equal(m[2]->state, MACHINE_STARTING);
	start(m[0]);
	await_slots(1, 3);
	/* More of them: all are filled at once. */
	reload("max_starts = 3\n");
	await_slots(3, 1);
	assert_int_equal(m[0]->state, MACHINE_PREPARING);
	/* Fewer: nothing is taken from anybody, and nobody new gets one. */
	reload("max_starts = 2\n");
	await_slots(3, 1);
	kill_machine(m[2]);
	await_slots(2, 1);
	kill_machine(m[3]);
	await_slots(2, 0);
	kill_machine(m[1]);
	kill_machine(m[0]);
	assert_int_equal(w.r.d.starting, 0);
}

/* ---- removal ---- */

static bool is_removed(void *arg)
{
	return machine_find(&w.r.d, "web") == NULL;
}

static void test_rm(void **state)
{
	struct operation *op = NULL;
	struct machine *m;
	struct err err;

	begin("", "");
	m = left_behind("stopped", "stopped", INTENT_NONE);
	drover_rig_put(&w.r, "state/vm/web/disk.raw", "disk");
	m->disk_path = path_join(m->dir, "disk.raw");
	/* A section that the daemon has not read yet. */
	assert_int_equal(dropin_write(w.r.d.state_dir, "web", "[vm web]\n", NULL), 0);
	assert_int_equal(machine_rm(m, false, &op, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "drover rm web --disks"));
	assert_null(op);
	assert_int_equal(machine_rm(m, true, &op, &err), 0);
	assert_int_equal(machine_rm(m, true, &op, &err), -EBUSY);
	drover_rig_until(&w.r, is_removed, NULL);
	assert_null(drover_rig_text(&w.r, "state/vm/web/disk.raw"));
	assert_null(drover_rig_text(&w.r, "state/" DROPIN_DIR "/vm-web.ini"));
	assert_int_equal(count_events("vm web removed"), 1);
}

/* The thread pool takes no work: the removal is refused, and the machine is free for the next. */
static void test_rm_fails(void **state)
{
	struct operation *op = NULL;
	struct machine *m;
	struct err err = { 0 };

	begin("", "");
	m = left_behind("stopped", "stopped", INTENT_NONE);
	w.no_work = true;
	assert_int_equal(machine_rm(m, true, &op, &err), -ENOMEM);
	w.no_work = false;
	assert_null(op);
	assert_null(m->op);
	assert_false(m->removing);
	assert_true(str_starts(err.msg, "vm web: "));
	free(drover_rig_text(&w.r, "state/vm/web/state.json"));
	assert_int_equal(machine_rm(m, true, &op, &err), 0);
	drover_rig_until(&w.r, is_removed, NULL);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_start_and_kill),
		T(test_crash_and_policy),
		T(test_start_failure),
		T(test_adopt_start_cut_short),
		T(test_adopt_start_not_wanted),
		T(test_adopt_cancelled_start),
		T(test_adopt_removed),
		T(test_adopt_running),
		T(test_adopt_other_boot),
		T(test_slots),
		T(test_rm),
		T(test_rm_fails),
	};

	return cmocka_run_group_tests_name("machine_run", tests, NULL, NULL);
}
