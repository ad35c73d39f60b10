/* supervisor/reconcile-stray: which processes with our marker are nobody's, and how they end. */
#include "tests/unit/drover-rig.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/backend.h"
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/marker.h"
#include "supervisor/reconcile-private.h"
#include "tests/unit/netns.h"

static struct world {
	struct drover_rig r;
	struct reconciler *rec;
	struct hv hv;
	bool finished;
	struct buf text;
	pid_t pids[16];
	unsigned n;
} w;

static void first_passed(void *arg, json_t *differences, const struct err *err)
{
	*(bool *)arg = true;
}

/* The first pass comes by itself, soon: not into the middle of a test. */
static void first_pass(void)
{
	bool over = false;

	assert_int_equal(reconcile_run(w.rec, RECONCILE_AGED, first_passed, &over, NULL), 0);
	rig_run_until(w.r.d.loop, &over);
}

static int setup(void **state)
{
	netns_enter();
	w = (struct world){ 0 };
	drover_rig_init(&w.r, "[vm web]\nkernel = /boot/k\nautostart = no\n");
	assert_int_equal(netlink_create(&w.r.d.nl, NULL), 0);
	assert_int_equal(reconcile_create(&w.rec, &w.r.d, NULL), 0);
	w.r.d.reconciler = w.rec;
	first_pass();
	return 0;
}

static int teardown(void **state)
{
	struct machine *m;

	list_for_each_entry (m, &w.r.d.machines, entry) {
		m->state = MACHINE_STOPPED;
		m->process = false;
		m->hv = NULL;
	}
	for (unsigned i = 0; i < w.n; i++) {
		if (proc_state(w.pids[i]) != '\0')
			kill(-w.pids[i], SIGKILL);
		waitpid(w.pids[i], NULL, 0);
	}
	reconcile_destroy(w.rec);
	netlink_destroy(w.r.d.nl);
	buf_finish(&w.text);
	drover_rig_finish(&w.r);
	return 0;
}

/* A process with a marker; the script says "x" when it is as it shall be. */
static pid_t spawn(const char *run_dir, const char *owner, const char *script)
{
	char *marker = marker_make(run_dir, owner, "p"), buf[2];
	char *envp[] = { marker, NULL }, *argv[] = { "sh", "-c", (char *)(uintptr_t)script, NULL };
	pid_t pid;
	int p[2];

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		dup2(p[1], 1);
		close(p[0]);
		close(p[1]);
		execve("/bin/sh", argv, envp);
		_exit(99);
	}
	close(p[1]);
	free(marker);
	assert_int_equal(read(p[0], buf, 1), 1);
	close(p[0]);
	w.pids[w.n++] = pid;
	return pid;
}

#define QUIET "echo x; exec >/dev/null; while :; do sleep 100 & wait; done"
#define DEAF  "trap '' TERM; echo x; exec sleep 600"

/* While a process executes another program it has no environment for a moment. */
static bool is_sleep(pid_t pid)
{
	char path[64], comm[32] = "";
	struct buf environment = { 0 };
	bool yes;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	file_read_line(path, comm, sizeof(comm), NULL);
	snprintf(path, sizeof(path), "/proc/%d/environ", (int)pid);
	yes = strcmp(comm, "sleep") == 0 && file_read(path, 1 << 20, &environment, NULL) == 0 &&
	      environment.len > 0;
	buf_finish(&environment);
	return yes;
}

/* script ends in becoming sleep. */
static pid_t spawn_sleep(const char *owner, const char *script)
{
	pid_t pid = spawn(w.r.run_dir, owner, script);

	for (unsigned i = 0; i < 20000 && !is_sleep(pid); i++)
		usleep(1000);
	return pid;
}

static pid_t of(const char *owner)
{
	return spawn_sleep(owner, "echo x; exec sleep 600");
}

static void passed(void *arg, json_t *differences, const struct err *err)
{
	const json_t *e;
	size_t i;

	assert_null(err);
	buf_clear(&w.text);
	json_array_foreach (differences, i, e)
		buf_printf(&w.text, "%s %s %s: %s\n", json_str(e, "kind"), json_str(e, "name"),
			json_str(e, "owner"), json_str(e, "action"));
	w.finished = true;
}

static const char *run(enum reconcile_mode mode)
{
	w.finished = false;
	assert_int_equal(reconcile_run(w.rec, mode, passed, NULL, NULL), 0);
	rig_run_until(w.r.d.loop, &w.finished);
	return buf_str(&w.text);
}

static void assert_stray(pid_t pid, const char *owner, const char *action)
{
	char *line = str_printf("stray %d %s: %s\n", (int)pid, owner, action);

	assert_string_equal(buf_str(&w.text), line);
	free(line);
}

static bool is_dead(void *arg)
{
	/* Whoever saw its end may have reaped it: here it is our child. */
	char s = proc_state(*(pid_t *)arg);

	return s == 'Z' || s == '\0';
}

/* The marker names a machine that there is not, or a registry. */
static void test_nobodys(void **state)
{
	pid_t pid = of("vm/gone");

	run(RECONCILE_LOOK);
	assert_stray(pid, "vm/gone", "would be ended");
	run(RECONCILE_NOW);
	assert_stray(pid, "vm/gone", "ended");
	drover_rig_until(&w.r, is_dead, &pid);
	assert_string_equal(run(RECONCILE_NOW), "");
	pid = of("registry/gone");
	run(RECONCILE_NOW);
	assert_stray(pid, "registry/gone", "ended");
}

/* One that does not heed SIGTERM is killed. */
static void test_deaf(void **state)
{
	pid_t pid = spawn_sleep("vm/gone", DEAF);

	run(RECONCILE_NOW);
	drover_rig_until(&w.r, is_dead, &pid);
}

static void test_others(void **state)
{
	char *other = str_printf("%s-2", w.r.run_dir);

	spawn(other, "vm/gone", "echo x; exec sleep 600");
	of("host");
	of("something/else");
	assert_string_equal(run(RECONCILE_NOW), "");
	free(other);
}

static void test_in_ledger(void **state)
{
	pid_t pid = of("vm/gone");
	json_t *data = json_object();
	uint64_t start = proc_starttime(pid);

	assert_int_not_equal(start, 0);
	json_put_int(data, "pid", pid);
	json_put_int(data, "starttime", (int64_t)start);
	/* The ledger's owner must have a use for it, or all of it would be released. */
	drover_rig_machine(&w.r, "gone")->state = MACHINE_STARTING;
	assert_int_equal(ledger_add(w.r.d.ledger, "vm/gone", OBJECT_PROCESS, "p", data, NULL), 0);
	assert_string_equal(run(RECONCILE_NOW), "");
	assert_int_not_equal(proc_state(pid), 'Z');
	ledger_remove(w.r.d.ledger, "vm/gone", OBJECT_PROCESS, "p");
}

/* Of a machine that runs: its hypervisor and its jail are its own, and no third one is. */
static void test_of_a_machine(void **state)
{
	struct machine *m = drover_rig_machine(&w.r, "web");
	pid_t jail = of("vm/web"), hv = of("vm/web"), third;

	w.hv = (struct hv){ .process = { .pid = hv, .jail_pid = jail } };
	w.hv.process.starttime = proc_starttime(hv);
	w.hv.process.jail_starttime = proc_starttime(jail);
	m->hv = &w.hv;
	m->process = true;
	m->state = MACHINE_RUNNING;
	assert_string_equal(run(RECONCILE_LOOK), "");
	third = of("vm/web");
	run(RECONCILE_LOOK);
	assert_stray(third, "vm/web", "would be ended");
	/* While it starts or stops nobody knows yet whose it is. */
	m->state = MACHINE_STOPPING;
	assert_string_equal(run(RECONCILE_LOOK), "");
}

/* Its helpers have its environment, and go when it goes. */
static void test_children(void **state)
{
	pid_t pid = spawn(w.r.run_dir, "vm/gone", QUIET);

	run(RECONCILE_LOOK);
	assert_stray(pid, "vm/gone", "would be ended");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nobodys, setup, teardown),
		cmocka_unit_test_setup_teardown(test_deaf, setup, teardown),
		cmocka_unit_test_setup_teardown(test_others, setup, teardown),
		cmocka_unit_test_setup_teardown(test_in_ledger, setup, teardown),
		cmocka_unit_test_setup_teardown(test_of_a_machine, setup, teardown),
		cmocka_unit_test_setup_teardown(test_children, setup, teardown),
	};

	return cmocka_run_group_tests_name("stray processes", tests, NULL, NULL);
}
