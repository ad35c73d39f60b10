/* When a machine's state file is written, and what waits for it: supervisor/machine-state.c. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine.h"

struct world {
	struct drover d;
	uv_loop_t *loop;
	char *dir, *state, *run;
	struct machine *m;
	int watch; /* of the machine's folder: a rename for each write */
};

static struct world w;

/* The daemon's (daemon-leave.c), which waits for the last machine at its end. */
void drover_machine_rests(struct drover *d)
{
}

static int setup(void **state)
{
	struct drover *d = &w.d;
	struct err err;

	w = (struct world){ .loop = rig_loop(), .dir = rig_tmp() };
	w.state = path_join(w.dir, "state");
	w.run = path_join(w.dir, "run");
	d->loop = w.loop;
	d->state_dir = w.state;
	d->run_dir = w.run;
	list_init(&d->machines);
	for (size_t i = 0; i < MACHINE_BUCKETS; i++)
		list_init(&d->machine_buckets[i]);
	if (operations_create(&d->ops, &err) < 0 ||
		events_open(&d->events, d->loop, NULL, 1 << 20, &err) < 0 ||
		machine_create(&w.m, d, "m", &err) < 0)
		fail_msg("%s", err.msg);
	w.watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return 0;
}

static int teardown(void **state)
{
	close(w.watch);
	machines_release(&w.d);
	events_close(w.d.events);
	rig_loop_finish(w.loop);
	operations_destroy(w.d.ops);
	rig_tmp_finish(w.dir);
	free(w.state);
	free(w.run);
	return 0;
}

static void watch_writes(void)
{
	assert_int_equal(mkdir_p(w.m->dir, 0700, NULL), 0);
	assert_true(inotify_add_watch(w.watch, w.m->dir, IN_MOVED_TO) >= 0);
}

/* Since the last call. */
static unsigned writes(void)
{
	_Alignas(struct inotify_event) char buf[4096];
	unsigned n = 0;
	ssize_t len;

	while ((len = read(w.watch, buf, sizeof(buf))) > 0) {
		for (char *p = buf; p < buf + len;) {
			const struct inotify_event *e = (void *)p;

			n += strcmp(e->name, "state.json") == 0;
			p += sizeof(*e) + e->len;
		}
	}
	return n;
}

static void assert_saved(const char *wanted)
{
	char *path = path_join(w.m->dir, "state.json");
	json_t *j = NULL;

	if (wanted == NULL) {
		assert_int_not_equal(access(path, F_OK), 0);
	} else {
		assert_int_equal(json_read_file(path, &j, NULL), 0);
		assert_string_equal(json_str(j, "state"), wanted);
	}
	json_decref(j);
	free(path);
}

static void one_write_a_turn(void **state)
{
	watch_writes();
	machine_set_state(w.m, MACHINE_PREPARING);
	machine_set_state(w.m, MACHINE_STARTING);
	machine_set_state(w.m, MACHINE_RUNNING);
	assert_saved(NULL);
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_saved("running");
	assert_int_equal(writes(), 1);
	rig_run_for(w.loop, 50);
	assert_int_equal(writes(), 0);
}

static void at_once_when_asked(void **state)
{
	struct err err;

	watch_writes();
	machine_set_state(w.m, MACHINE_RUNNING);
	machine_flush(w.m);
	assert_saved("running");
	machine_flush(w.m);
	assert_int_equal(writes(), 1);
	machine_set_state(w.m, MACHINE_PAUSED);
	assert_int_equal(machine_save(w.m, &err), 0);
	assert_saved("paused");
	rig_run_for(w.loop, 50);
	assert_int_equal(writes(), 1);
}

static void makes_its_folder(void **state)
{
	struct err err;

	assert_int_equal(machine_save(w.m, &err), 0);
	assert_saved("stopped");
}

static void not_lost_at_the_end(void **state)
{
	char *path = path_join(w.m->dir, "state.json");

	machine_set_state(w.m, MACHINE_RUNNING);
	machine_destroy(w.m);
	assert_int_equal(access(path, F_OK), 0);
	free(path);
}

/* Until what was saved has been synced. */
static void until_synced(void)
{
	for (int i = 0; i < 3000 && (w.m->save != SAVE_NOTHING || w.m->syncing != SAVE_NOTHING);
		i++)
		rig_run_for(w.loop, 10);
	assert_int_equal(w.m->syncing, SAVE_NOTHING);
}

static void assert_in(const char *name, const char *wanted)
{
	char *path = path_join(w.m->dir, name);
	json_t *j = NULL;

	assert_int_equal(json_read_file(path, &j, NULL), 0);
	assert_string_equal(json_str(j, "state"), wanted);
	json_decref(j);
	free(path);
}

static void put(const char *name, const char *text)
{
	char *path = path_join(w.m->dir, name);

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, NULL), 0);
	free(path);
}

static void assert_gone(const char *name)
{
	char *path = path_join(w.m->dir, name);

	assert_int_not_equal(access(path, F_OK), 0);
	free(path);
}

/* The last state that is on the disk for sure stays until the next one is. */
static void the_last_synced_one_stays(void **state)
{
	struct saved_process saved;
	struct err err;

	machine_set_state(w.m, MACHINE_PREPARING);
	assert_int_equal(machine_save(w.m, &err), 0);
	until_synced();
	machine_set_state(w.m, MACHINE_STARTING);
	machine_flush(w.m);
	machine_set_state(w.m, MACHINE_RUNNING);
	machine_flush(w.m);
	assert_saved("running");
	assert_in("state.json.synced", "preparing");
	until_synced();
	machine_set_state(w.m, MACHINE_PAUSED);
	machine_flush(w.m);
	assert_in("state.json.synced", "running");
	until_synced();

	/* The host crashed before the newest was written out; a daemon was killed while it wrote. */
	put("state.json", "");
	put("state.json.tmp.abcdef", "{\"state\"");
	assert_int_equal(machine_load(w.m, &saved, &err), 0);
	assert_int_equal(saved.state, MACHINE_PAUSED);
	assert_gone("state.json.tmp.abcdef");
	/* JSON it may be, and yet tell nothing of a machine: not even that it was stopped. */
	put("state.json", "[]");
	assert_int_equal(machine_load(w.m, &saved, &err), 0);
	assert_int_equal(saved.state, MACHINE_PAUSED);
	put("state.json", "{\"pid\": 1}");
	assert_int_equal(machine_load(w.m, &saved, &err), 0);
	assert_int_equal(saved.state, MACHINE_PAUSED);
	/* Nor is one any good from before the synced one, which was written over and came back. */
	put("state.json", "{\"state\": \"running\", \"saves\": 1}");
	assert_int_equal(machine_load(w.m, &saved, &err), 0);
	assert_int_equal(saved.state, MACHINE_PAUSED);
	put("state.json", "{\"state\": \"running\", \"saves\": 1000}");
	assert_int_equal(machine_load(w.m, &saved, &err), 0);
	assert_int_equal(saved.state, MACHINE_RUNNING);
	assert_int_equal(machine_save(w.m, &err), 0);
	assert_int_equal(w.m->saves, 1001);
	until_synced();
	put("state.json", "{\"pid\": 1}");
	put("state.json.synced", "{}");
	assert_int_equal(machine_load(w.m, &saved, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "is not the state of a machine"));
	put("state.json.synced", "");
	assert_true(machine_load(w.m, &saved, &err) < 0);
	w.m->state = MACHINE_STOPPED;
}

struct ending {
	struct operation_wait wait;
	bool ended;
	unsigned writes;
	enum save syncing;
};

static void op_ended(void *arg, struct operation *op)
{
	struct ending *e = arg;

	e->writes = writes();
	e->syncing = w.m->syncing;
	e->ended = true;
}

static void begin(struct ending *e)
{
	*e = (struct ending){ .wait = { .ended = op_ended, .arg = e } };
	w.m->op = operation_begin(w.d.ops, "start", "m", NULL, NULL);
	assert_non_null(w.m->op);
	operation_wait(w.m->op, &e->wait);
}

static void a_promise_is_waited_for(void **state)
{
	struct ending e;
	struct err err;

	watch_writes();
	begin(&e);
	assert_int_equal(machine_save(w.m, &err), 0);
	machine_end_op(w.m, NULL);
	assert_false(e.ended);
	rig_run_until(w.loop, &e.ended);
	assert_int_equal(e.writes, 1);
	assert_int_equal(e.syncing, SAVE_NOTHING);
}

/* The disk refuses: nobody is told that it is safe; it is tried again, and then all is well. */
static void a_promise_that_is_not_kept(void **state)
{
	char *path = path_join(w.m->dir, "state.json");
	struct operation *op;
	struct ending e;
	struct err err;

	begin(&e);
	op = w.m->op;
	assert_int_equal(machine_save(w.m, &err), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("state.json", path), 0); /* ELOOP */
	machine_end_op(w.m, NULL);
	rig_run_until(w.loop, &e.ended);
	assert_int_equal(operation_error(op)->code, -ELOOP);
	assert_non_null(strstr(operation_error(op)->msg,
		"vm m: start is done, but a crash of the host may lose it"));
	unlink(path);
	while (w.m->sync_error < 0)
		uv_run(w.loop, UV_RUN_ONCE);
	free(path);
	begin(&e);
	op = w.m->op;
	assert_int_equal(machine_save(w.m, &err), 0);
	machine_end_op(w.m, NULL);
	rig_run_until(w.loop, &e.ended);
	assert_null(operation_error(op));
}

static void the_rest_is_written_but_not_waited_for(void **state)
{
	struct ending e;

	watch_writes();
	begin(&e);
	machine_set_state(w.m, MACHINE_RUNNING);
	machine_end_op(w.m, NULL);
	assert_false(e.ended);
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_true(e.ended);
	assert_int_equal(e.writes, 1);
	assert_int_equal(e.syncing, SAVE_NOTHING);
	assert_int_equal(w.m->save, SAVE_WRITTEN);
}

/* Whether a guest stands still is the hypervisor's to tell: the answer does not wait for a file. */
static void a_pause_is_not_waited_for(void **state)
{
	struct ending e;
	struct err err;

	machine_set_state(w.m, MACHINE_RUNNING);
	assert_int_equal(machine_save(w.m, &err), 0);
	until_synced();
	watch_writes();
	begin(&e);
	machine_set_state(w.m, MACHINE_PAUSED);
	machine_end_op(w.m, NULL);
	assert_true(e.ended);
	assert_int_equal(e.writes, 0);
	machine_set_state(w.m, MACHINE_RUNNING);
	machine_set_state(w.m, MACHINE_PAUSED);
	for (int i = 0; i < 3000 && w.m->outdated; i++)
		rig_run_for(w.loop, 10);
	assert_saved("paused");
	assert_int_equal(writes(), 1);
	/* It comes sooner with what is waited for, and before the machine is let go of. */
	machine_set_state(w.m, MACHINE_RUNNING);
	machine_save_soon(w.m);
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_saved("running");
	machine_set_state(w.m, MACHINE_PAUSED);
	machine_save_last(w.m);
	assert_saved("paused");
	until_synced();
	w.m->state = MACHINE_STOPPED;
}

/* What nobody waits for shares one fsync, of the last of it. */
static void one_sync_for_many_writes(void **state)
{
	struct err err;

	assert_int_equal(machine_save(w.m, &err), 0);
	until_synced();
	assert_in("state.json.synced", "stopped");
	machine_set_state(w.m, MACHINE_PREPARING);
	uv_run(w.loop, UV_RUN_NOWAIT);
	machine_set_state(w.m, MACHINE_STARTING);
	uv_run(w.loop, UV_RUN_NOWAIT);
	machine_set_state(w.m, MACHINE_RUNNING);
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_saved("running");
	assert_int_equal(w.m->save, SAVE_WRITTEN);
	until_synced();
	assert_in("state.json.synced", "running");
	w.m->state = MACHINE_STOPPED;
}

/* A promise does not wait for the time of what is only written, and takes it along. */
static void a_promise_is_synced_at_once(void **state)
{
	struct err err;

	machine_set_state(w.m, MACHINE_PREPARING);
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_int_equal(w.m->save, SAVE_WRITTEN);
	assert_int_equal(machine_save(w.m, &err), 0);
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_int_equal(w.m->save, SAVE_NOTHING);
	until_synced();
	assert_in("state.json.synced", "preparing");
	w.m->state = MACHINE_STOPPED;
}

/* A promise made while the fsync of something older is under way is not taken for kept by it. */
static void a_later_promise_has_its_own_sync(void **state)
{
	struct ending e;
	struct err err;

	machine_set_state(w.m, MACHINE_RUNNING);
	machine_flush(w.m);
	w.m->sync_due_ms = 0;
	uv_run(w.loop, UV_RUN_NOWAIT);
	assert_int_equal(w.m->syncing, SAVE_WRITTEN);
	watch_writes();
	begin(&e);
	assert_int_equal(machine_save(w.m, &err), 0);
	machine_end_op(w.m, NULL);
	rig_run_until(w.loop, &e.ended);
	assert_int_equal(w.m->save, SAVE_NOTHING);
	assert_int_equal(e.syncing, SAVE_NOTHING);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(the_last_synced_one_stays),
		T(one_write_a_turn),
		T(at_once_when_asked),
		T(makes_its_folder),
		T(not_lost_at_the_end),
		T(a_promise_is_waited_for),
		T(a_promise_that_is_not_kept),
		T(the_rest_is_written_but_not_waited_for),
		T(a_pause_is_not_waited_for),
		T(one_sync_for_many_writes),
		T(a_promise_is_synced_at_once),
		T(a_later_promise_has_its_own_sync),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
