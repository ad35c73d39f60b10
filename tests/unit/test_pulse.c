/* supervisor/pulse: who is asked whether it still lives, and who is left in peace. */
#include "tests/unit/drover-rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/backend.h"
#include "lib/child.h"
#include "supervisor/pulse.h"

#define MANY 300 /* more than are looked at in one turn */

/* A hypervisor of which only its process and its monitor's answer count. */
struct fake {
	struct hv hv;
	unsigned pings;
};

static struct world {
	struct drover_rig r;
	struct pulse *pulse;
	struct machine *m[MANY];
	struct fake f[MANY];
	pid_t running, stopped;
} w;

static void fake_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	assert_true(timeout_ms > 0);
	container_of(hv, struct fake, hv)->pings++;
	reply(arg, NULL, NULL);
}

static const struct hv_ops fake_ops = { .name = "fake", .ping = fake_ping };

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/bin/sleep", "sleep", "600", NULL);
		_exit(99);
	}
	assert_true(pid > 0);
	return pid;
}

static bool is_stopped(void *arg)
{
	return proc_state(*(pid_t *)arg) == 'T';
}

static void end_process(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static int setup(void **state)
{
	w = (struct world){ 0 };
	drover_rig_init(&w.r, "probe_interval = 20ms\n");
	w.running = sleeper();
	w.stopped = sleeper();
	kill(w.stopped, SIGSTOP);
	drover_rig_until(&w.r, is_stopped, &w.stopped);
	return 0;
}

static int teardown(void **state)
{
	pulse_destroy(w.pulse);
	for (unsigned i = 0; i < MANY && w.m[i] != NULL; i++) {
		w.m[i]->hv = NULL;
		w.m[i]->process = false;
		w.m[i]->state = MACHINE_STOPPED;
	}
	end_process(w.running);
	end_process(w.stopped);
	drover_rig_finish(&w.r);
	return 0;
}

static void machine(unsigned i, pid_t pid, enum machine_state s)
{
	char name[16];

	snprintf(name, sizeof(name), "m%u", i);
	w.m[i] = drover_rig_machine(&w.r, name);
	w.f[i].hv = (struct hv){ .ops = &fake_ops, .process = { .pid = pid } };
	w.m[i]->hv = &w.f[i].hv;
	w.m[i]->process = true;
	w.m[i]->state = s;
}

/* Of machine *arg's hypervisor. */
static bool is_asked(void *arg)
{
	return w.f[*(unsigned *)arg].pings >= 2;
}

static void begin(void)
{
	assert_int_equal(pulse_create(&w.pulse, &w.r.d, NULL), 0);
}

static void test_who_is_asked(void **state)
{
	unsigned stuck = 1;

	machine(0, w.running, MACHINE_RUNNING);
	machine(1, w.stopped, MACHINE_RUNNING);
	machine(2, w.stopped, MACHINE_PAUSED);
	machine(3, w.stopped, MACHINE_STARTING); /* it has a deadline of its own */
	machine(4, w.stopped, MACHINE_RUNNING);
	w.f[4].hv.unresponsive = true; /* hv asks it itself */
	machine(5, w.stopped, MACHINE_RUNNING);
	w.m[5]->process = false;
	begin();
	drover_rig_until(&w.r, is_asked, &stuck);
	assert_true(w.f[2].pings > 0);
	for (unsigned i = 0; i < 6; i++)
		assert_true(i == 1 || i == 2 || w.f[i].pings == 0);
}

/* More than fit one turn of the loop: the last is looked at in the same round as the first. */
static void test_many(void **state)
{
	unsigned last = MANY - 1;

	for (unsigned i = 0; i < MANY; i++)
		machine(i, w.stopped, MACHINE_RUNNING);
	begin();
	drover_rig_until(&w.r, is_asked, &last);
	for (unsigned i = 0; i < MANY; i++)
		assert_in_range(w.f[i].pings, w.f[last].pings, w.f[last].pings + 1);
}

/* With nobody up there is nothing to wake up for, until somebody is. */
static void test_rests(void **state)
{
	unsigned one = 0;

	machine(0, w.stopped, MACHINE_STOPPED);
	begin();
	/* It ends by itself: no timer keeps the loop. */
	uv_run(w.r.d.loop, UV_RUN_DEFAULT);
	assert_int_equal(w.f[0].pings, 0);
	w.m[0]->state = MACHINE_RUNNING;
	pulse_wake(w.pulse);
	drover_rig_until(&w.r, is_asked, &one);
}

static void test_never(void **state)
{
	struct config *c = (struct config *)(uintptr_t)drover_config(&w.r.d);

	machine(0, w.stopped, MACHINE_RUNNING);
	begin();
	c->drover->probe_interval = 0;
	pulse_rearm(w.pulse);
	uv_run(w.r.d.loop, UV_RUN_DEFAULT);
	assert_int_equal(w.f[0].pings, 0);
	pulse_wake(NULL);
	pulse_rearm(NULL);
	pulse_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_who_is_asked, setup, teardown),
		cmocka_unit_test_setup_teardown(test_many, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rests, setup, teardown),
		cmocka_unit_test_setup_teardown(test_never, setup, teardown),
	};

	return cmocka_run_group_tests_name("pulse", tests, NULL, NULL);
}
