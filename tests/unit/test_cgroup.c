/* Limits as they are written, in a folder that plays the kernel's. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "supervisor/cgroup.h"

static struct {
	char *root, *path;
} t;

static int setup(void **state)
{
	t.root = rig_tmp();
	t.path = path_join(t.root, "vm:default:web");
	setenv("DROVER_CGROUP_FAKE", "1", 1);
	return 0;
}

static int teardown(void **state)
{
	rig_tmp_finish(t.root);
	free(t.path);
	return 0;
}

static void put(const char *file, const char *text)
{
	char *path = path_join(t.path, file);

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0644, false, NULL), 0);
	free(path);
}

static void assert_file(const char *file, const char *text)
{
	char *path = path_join(t.path, file);
	struct buf got = { 0 };
	struct err err;

	if (file_read(path, 4096, &got, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(buf_str(&got), text);
	buf_finish(&got);
	free(path);
}

static void limits_are_written(void **state)
{
	struct cgroup_limits limits = { .memory = (uint64_t)5 << 30,
		.cpu_percent = 250,
		.cpu_weight = 1,
		.io_weight = 10000,
		.memory_high = (uint64_t)4 << 30,
		.io = { 8, 16, .read_bytes = 1000, .write_ops = 7 },
		.pids = 40 };
	struct err err;

	assert_int_equal(cgroup_prepare_root(t.root, &err), 0);
	assert_int_equal(cgroup_make(t.path, &err), 0);
	assert_int_equal(cgroup_set(t.path, &limits, &err), 0);
	assert_file("memory.max", "5368709120");
	assert_file("cpu.max", "250000 100000");
	assert_file("cpu.weight", "1");
	assert_file("io.weight", "default 10000");
	assert_file("memory.high", "4294967296");
	assert_file("io.max", "8:16 rbps=1000 wbps=max riops=max wiops=7");
	assert_file("pids.max", "40");
	/* What is not limited any more gets the kernel's default back. */
	limits = (struct cgroup_limits){ .cpu_percent = 1, .io = { 8, 16 } };
	assert_int_equal(cgroup_set(t.path, &limits, &err), 0);
	assert_file("memory.max", "max");
	assert_file("cpu.max", "1000 100000");
	assert_file("cpu.weight", "100");
	assert_file("io.weight", "default 100");
	assert_file("memory.high", "max");
	assert_file("io.max", "8:16 rbps=max wbps=max riops=max wiops=max");
	/* A limit for a disk that nobody knows is none. */
	limits.io = (struct cgroup_io){ .read_bytes = 1 };
	assert_int_equal(cgroup_set(t.path, &limits, &err), -ENODEV);
	assert_non_null(strstr(err.msg, "io.max"));
	assert_file("pids.max", "max");
}

/* One limit that cannot be set is the error, and the others are set all the same. */
/* io.max is a whole disk's: /sys leads from a partition to its disk. */
static void finds_the_disk(void **state)
{
	char *sys = path_join(t.root, "sys"), *disk, *part, *link, *file;
	unsigned maj = 0, min = 0;
	struct err err;

	disk = str_printf("%s/devices/disk/part", sys);
	link = str_printf("%s/dev/block", sys);
	assert_int_equal(mkdir_p(disk, 0700, &err), 0);
	assert_int_equal(mkdir_p(link, 0700, &err), 0);
	/* Whatever block device there is: a node can be looked at without one behind it. */
	part = path_join(t.root, "node");
	if (mknod(part, S_IFBLK | 0600, makedev(7, 3)) < 0) {
		assert_int_equal(errno, EPERM);
		skip();
	}
	assert_int_equal(cgroup_io_device(sys, part, &maj, &min, &err), 0);
	assert_int_equal(maj, 7);
	assert_int_equal(min, 3);
	/* As a partition. */
	file = str_printf("%s/dev/block/7:3", sys);
	assert_int_equal(symlink("../../devices/disk/part", file), 0);
	free(file);
	file = str_printf("%s/devices/disk/dev", sys);
	assert_int_equal(file_write_atomic(file, "7:0\n", 4, 0600, false, &err), 0);
	free(file);
	assert_int_equal(cgroup_io_device(sys, part, &maj, &min, &err), 0);
	assert_int_equal(min, 3);
	file = path_join(disk, "partition");
	assert_int_equal(file_write_atomic(file, "1\n", 2, 0600, false, &err), 0);
	free(file);
	assert_int_equal(cgroup_io_device(sys, part, &maj, &min, &err), 0);
	assert_int_equal(maj, 7);
	assert_int_equal(min, 0);
	assert_int_equal(cgroup_io_device(sys, "/proc/self/stat", &maj, &min, &err), -ENODEV);
	assert_non_null(strstr(err.msg, "no block device"));
	assert_int_equal(cgroup_io_device(sys, "/nowhere", &maj, &min, &err), -ENOENT);
	unlink(part);
	remove_tree(sys, NULL);
	free(sys);
	free(disk);
	free(part);
	free(link);
}

static void one_failure_keeps_no_other_away(void **state)
{
	struct cgroup_limits limits = { .memory = 1 << 20, .cpu_percent = 10, .pids = 5 };
	char *path = path_join(t.path, "cpu.max");
	struct err err;

	assert_int_equal(cgroup_make(t.path, NULL), 0);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(cgroup_set(t.path, &limits, &err), -EISDIR);
	assert_non_null(strstr(err.msg, "cpu.max"));
	assert_file("memory.max", "1048576");
	assert_file("pids.max", "5");
	free(path);
}

static void only_cgroup2_counts(void **state)
{
	char *missing = path_join(t.root, "missing");
	struct cgroup_limits limits = { .pids = 5 };
	struct err err;

	assert_int_equal(cgroup_prepare_root(missing, &err), -ENOENT);
	unsetenv("DROVER_CGROUP_FAKE");
	assert_int_equal(cgroup_prepare_root(t.root, &err), -ENOTSUP);
	assert_non_null(strstr(err.msg, "is not a folder of cgroup v2"));
	/* A controller's file that is not there is not made, and missed only if it is needed. */
	assert_int_equal(mkdir(t.path, 0700), 0);
	assert_int_equal(cgroup_set(t.path, &limits, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "pids.max"));
	limits.pids = 0;
	limits.memory = 1 << 20;
	assert_int_equal(cgroup_set(t.path, &limits, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "memory.max"));
	limits.memory_if_possible = true;
	assert_int_equal(cgroup_set(t.path, &limits, &err), 0);
	assert_int_equal(rmdir(t.path), 0);
	free(missing);
}

static void processes_are_found(void **state)
{
	assert_int_equal(cgroup_make(t.path, NULL), 0);
	assert_false(cgroup_has(t.path, 12));
	put("cgroup.procs", "123\n1\n45\n");
	assert_true(cgroup_has(t.path, 123));
	assert_true(cgroup_has(t.path, 45));
	assert_false(cgroup_has(t.path, 12));
	assert_false(cgroup_has(t.root, 123));
}

static void memory_events_are_read(void **state)
{
	struct cgroup_memory_events ev;

	cgroup_memory_events(t.path, &ev);
	assert_int_equal(ev.oom_kills + ev.ooms + ev.max, 0);
	assert_int_equal(cgroup_make(t.path, NULL), 0);
	put("memory.max", "max\n");
	put("memory.events",
		"low 0\nhigh 7\nmax 9\noom 3\noom_group_kill 8\noom_kill 2\nsock_throttled 6\n");
	cgroup_memory_events(t.path, &ev);
	assert_int_equal(ev.oom_kills, 2);
	assert_int_equal(ev.ooms, 3);
	assert_int_equal(ev.max, 0);
	put("memory.max", "83886080\n");
	cgroup_memory_events(t.path, &ev);
	assert_int_equal(ev.max, 83886080);
	/* One that is made anew counts from 0. */
	assert_int_equal(cgroup_make(t.path, NULL), 0);
	cgroup_memory_events(t.path, &ev);
	assert_int_equal(ev.oom_kills, 0);
}

struct end {
	bool done;
	int code;
};

static void ended(void *arg, const struct err *err)
{
	struct end *end = arg;

	assert_false(end->done);
	end->done = true;
	end->code = err != NULL ? err->code : 0;
}

static void it_is_removed(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct end end = { 0 };

	assert_int_equal(cgroup_make(t.path, NULL), 0);
	assert_int_equal(cgroup_remove(loop, t.path, ended, &end), 0);
	assert_false(end.done);
	rig_run_until(loop, &end.done);
	assert_int_equal(end.code, 0);
	assert_int_equal(access(t.path, F_OK), -1);
	/* What is gone already is no error. */
	end = (struct end){ 0 };
	assert_int_equal(cgroup_remove(loop, t.path, ended, &end), 0);
	rig_run_until(loop, &end.done);
	assert_int_equal(end.code, 0);
	rig_loop_finish(loop);
}

struct exited {
	bool done;
	struct child_status status;
};

static void child_exited(void *arg, const struct child_status *status)
{
	struct exited *e = arg;

	e->status = *status;
	e->done = true;
}

static pid_t run_in(uv_loop_t *loop, const char *cgroup)
{
	char *argv[] = { "true", NULL };
	struct child_spec spec = { .file = "/bin/true", .argv = argv, .cgroup = cgroup };
	struct exited e = { 0 };
	struct child *c;
	struct err err;
	pid_t pid;

	if (child_spawn(&c, loop, &spec, child_exited, &e, &err) < 0)
		fail_msg("%s", err.msg);
	pid = child_pid(c);
	rig_run_until(loop, &e.done);
	assert_true(e.status.known && !e.status.signaled);
	assert_int_equal(e.status.code, 0);
	child_release(c);
	return pid;
}

static void a_child_enters(void **state)
{
	uv_loop_t *loop = rig_loop();
	unsigned fds;
	pid_t pid;

	assert_int_equal(cgroup_make(t.path, NULL), 0);
	fds = rig_count_fds();
	pid = run_in(loop, t.path);
	assert_true(cgroup_has(t.path, pid));
	/* Without the cgroup it runs all the same. */
	pid = run_in(loop, "/no/such/folder");
	assert_false(cgroup_has(t.path, pid));
	rig_run_for(loop, 1);
	assert_int_equal(rig_count_fds(), fds);
	rig_loop_finish(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(limits_are_written, setup, teardown),
		cmocka_unit_test_setup_teardown(one_failure_keeps_no_other_away, setup, teardown),
		cmocka_unit_test_setup_teardown(finds_the_disk, setup, teardown),
		cmocka_unit_test_setup_teardown(only_cgroup2_counts, setup, teardown),
		cmocka_unit_test_setup_teardown(processes_are_found, setup, teardown),
		cmocka_unit_test_setup_teardown(memory_events_are_read, setup, teardown),
		cmocka_unit_test_setup_teardown(it_is_removed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_child_enters, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
