/* What comes to a running machine and goes from it, on the real QEMU with the nano guest. */
#include "tests/unit/hv-rig.h"
#include "tests/unit/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "netcfg/link.h"

static char *qemu, *nano;

static int setup(void **state)
{
	qemu = find_program("qemu-system-x86_64");
	if (qemu == NULL) {
		print_message("# no qemu-system-x86_64\n");
		return 0;
	}
	if (system("sh tests/e2e/nano/build \"${B:-build}/nano.elf\"") != 0)
		return -1;
	nano = hv_rig_program("nano.elf");
	return 0;
}

static int teardown(void **state)
{
	free(qemu);
	free(nano);
	return 0;
}

static void init(struct hv_rig *r, const char *machine)
{
	static const char *const roomy[] = { "-smp", "cpus=1,maxcpus=3", "-m",
		"size=16M,slots=4,maxmem=1G", NULL };

	if (qemu == NULL)
		skip();
	hv_rig_init(r, qemu);
	r->spec.machine = machine;
	r->spec.kernel = nano;
	r->spec.cmdline = "";
	if (strcmp(machine, "pc") == 0) {
		r->spec.extra_args = roomy;
		r->spec.vcpus_max = 3;
		r->spec.memory_max_mib = 1024;
	}
}

static void up(struct hv_rig *r, const char *machine)
{
	init(r, machine);
	hv_rig_up(r);
	hv_rig_until_console(r, "NANO-READY");
}

static void end(struct hv_rig *r)
{
	hv_rig_op(r, hv_quit);
	hv_rig_until_exit(r);
	hv_rig_finish(r);
}

static void assert_message(const struct hv_rig *r, const char *part)
{
	if (strstr(r->err.msg, part) == NULL)
		fail_msg("'%s' lacks '%s'", r->err.msg, part);
}

/* The operations below take what these hold. */
static struct hv_disk disk;
static struct hv_nic nic;
static const char *id;
static unsigned vcpus;
static uint64_t memory_mib;
static char path[256];

static void add_disk(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_add_disk(hv, &disk, done, arg);
}

static void add_nic(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_add_nic(hv, &nic, done, arg);
}

static void remove_device(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_remove_device(hv, id, done, arg);
}

static void resize(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_resize(hv, vcpus, memory_mib, done, arg);
}

static void screendump(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_screendump(hv, path, done, arg);
}

static void dump(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_dump(hv, path, NULL, done, arg);
}

static void counters_come(void *arg, const json_t *reply, const struct err *err)
{
	struct hv_rig *r = arg;

	free(r->reply);
	r->reply = reply != NULL ? json_dumps(reply, JSON_SORT_KEYS) : NULL;
	r->err.code = 0;
	if (err != NULL)
		r->err = *err;
	r->op_done = true;
	uv_stop(r->loop);
}

static const char *counters(struct hv_rig *r)
{
	r->op_done = false;
	hv_counters(r->hv, counters_come, r);
	rig_run_until(r->loop, &r->op_done);
	return r->reply;
}

static char *make_disk(struct hv_rig *r, const char *name)
{
	char *p = path_join(r->dir, name);

	assert_int_equal(file_write_atomic(p, "", 0, 0600, false, NULL), 0);
	assert_int_equal(truncate(p, 1 << 20), 0);
	return p;
}

static bool has_node(struct hv_rig *r, const char *node)
{
	hv_rig_execute(r, "{\"execute\":\"query-named-block-nodes\"}", 0);
	return strstr(r->reply, node) != NULL;
}

static void test_disk(void **state)
{
	struct hv_rig r;
	char *image;

	up(&r, "pc");
	image = make_disk(&r, "image");
	disk = (struct hv_disk){ .id = "extra", .path = "/nowhere/disk", .format = HV_DISK_RAW };
	assert_int_equal(hv_rig_op(&r, add_disk), -EIO);
	assert_message(&r, "/nowhere/disk");
	/* A file that is no qcow2: the first node was there already, and is taken back. */
	disk.path = image;
	disk.format = HV_DISK_QCOW2;
	assert_int_equal(hv_rig_op(&r, add_disk), -EIO);
	assert_false(has_node(&r, "extra-file"));

	disk.format = HV_DISK_RAW;
	assert_int_equal(hv_rig_op(&r, add_disk), 0);
	assert_true(has_node(&r, "extra-file"));
	assert_non_null(strstr(counters(&r), "\"extra\": {"));
	/* The same again: it is there, and stays. */
	assert_int_equal(hv_rig_op(&r, add_disk), -EIO);
	assert_non_null(strstr(counters(&r), "\"extra\": {"));

	/* A guest without a driver lets go of a device when it is reset. */
	id = "extra";
	hv_rig_op_start(&r, remove_device);
	rig_run_for(r.loop, 100);
	assert_true(has_node(&r, "extra-file"));
	r.op_done = false;
	hv_reset(r.hv, NULL, NULL);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, 0);
	assert_false(has_node(&r, "extra-file"));
	assert_int_equal(hv_rig_op(&r, remove_device), -ENOENT);
	assert_message(&r, "extra");
	end(&r);
	free(image);
}

/* q35 takes devices at its root ports only; without any it says so. */
static void test_ports(void **state)
{
	struct hv_rig r;
	char *images[3];

	init(&r, "q35");
	r.spec.hotplug_slots = 2;
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	for (int i = 0; i < 3; i++) {
		char name[8];

		snprintf(name, sizeof(name), "more%d", i);
		images[i] = make_disk(&r, name);
		disk = (struct hv_disk){ .id = name, .path = images[i], .format = HV_DISK_RAW };
		assert_int_equal(hv_rig_op(&r, add_disk), i < 2 ? 0 : -EIO);
		free(images[i]);
	}
	assert_false(has_node(&r, "more2"));
	end(&r);

	init(&r, "q35");
	hv_rig_up(&r);
	assert_int_equal(hv_can(r.hv, HV_CAP_ADD_DISK, &r.err), -ENOTSUP);
	assert_non_null(strstr(r.err.msg, "it has no slots for devices: hotplug_slots is 0"));
	end(&r);
}

static void test_nic(void **state)
{
	struct hv_rig r;
	int fd;

	netns_enter();
	up(&r, "pc");
	assert_int_equal(tap_open("taptest", getuid(), &fd, NULL), 0);
	nic = (struct hv_nic){ .id = "nic7", .mac = "02:00:00:00:00:07", .tap_fd = fd };
	assert_int_equal(hv_rig_op(&r, add_nic), 0);
	hv_rig_execute(&r, "{\"execute\":\"query-rx-filter\"}", 0);
	assert_non_null(strstr(r.reply, "02:00:00:00:00:07"));
	/* The name in the monitor is free again. */
	nic = (struct hv_nic){ .id = "nic7", .mac = "02:00:00:00:00:08", .tap_fd = fd };
	assert_int_equal(hv_rig_op(&r, add_nic), -EIO);
	hv_rig_execute(&r, "{\"execute\":\"query-rx-filter\"}", 0);
	assert_null(strstr(r.reply, "02:00:00:00:00:08"));
	id = "nic7";
	hv_rig_op_start(&r, remove_device);
	rig_run_for(r.loop, 50);
	hv_reset(r.hv, NULL, NULL);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, 0);
	hv_rig_execute(&r, "{\"execute\":\"query-rx-filter\"}", 0);
	assert_null(strstr(r.reply, "02:00:00:00:00:07"));
	close(fd);
	end(&r);
}

static int count(struct hv_rig *r, const char *command, const char *part)
{
	int n = 0;

	hv_rig_execute(r, command, 0);
	for (const char *p = r->reply; (p = strstr(p, part)) != NULL; p++)
		n++;
	return n;
}

static void test_resize(void **state)
{
	struct hv_rig r;

	up(&r, "pc");
	vcpus = 2;
	memory_mib = 16 + 128;
	assert_int_equal(hv_rig_op(&r, resize), 0);
	assert_int_equal(count(&r, "{\"execute\":\"query-cpus-fast\"}", "\"cpu-index\""), 2);
	assert_int_equal(count(&r, "{\"execute\":\"query-memory-devices\"}", "\"dimm0\""), 1);
	/* What makes no sense changes nothing, neither of the two. */
	vcpus = 3;
	memory_mib = 100;
	assert_int_equal(hv_rig_op(&r, resize), -EINVAL);
	assert_message(&r, "cannot be reached");
	memory_mib = 16 + 128 + 1;
	assert_int_equal(hv_rig_op(&r, resize), -EINVAL);
	assert_message(&r, "steps of 128 MiB");
	assert_int_equal(count(&r, "{\"execute\":\"query-cpus-fast\"}", "\"cpu-index\""), 2);
	vcpus = 4;
	memory_mib = 0;
	assert_int_equal(hv_rig_op(&r, resize), -EINVAL);
	assert_message(&r, "vcpus_max, which is 3");
	vcpus = 3;
	assert_int_equal(hv_rig_op(&r, resize), 0);
	assert_int_equal(count(&r, "{\"execute\":\"query-cpus-fast\"}", "\"cpu-index\""), 3);
	end(&r);
}

static void test_cannot(void **state)
{
	struct hv_rig r;
	struct err err;

	up(&r, "microvm");
	assert_int_equal(hv_can(r.hv, HV_CAP_ADD_DISK, &err), -ENOTSUP);
	assert_int_equal(strncmp(err.msg, "QEMU ", 5), 0);
	assert_non_null(strstr(err.msg, "a microvm has no bus"));
	assert_int_equal(hv_can(r.hv, HV_CAP_PAUSE, &err), 0);
	disk = (struct hv_disk){ .id = "x", .path = "/x" };
	assert_int_equal(hv_rig_op(&r, add_disk), -ENOTSUP);
	assert_string_equal(r.err.msg, (hv_can(r.hv, HV_CAP_ADD_DISK, &err), err.msg));
	assert_int_equal(hv_rig_op(&r, screendump), -ENOTSUP);
	assert_message(&r, "no display");
	vcpus = 2;
	memory_mib = 0;
	assert_int_equal(hv_rig_op(&r, resize), -ENOTSUP);
	/* What was refused and not told yet goes with the machine. */
	hv_rig_op_start(&r, resize);
	hv_rig_finish(&r);
}

static void test_inspect(void **state)
{
	static const char *const display[] = { "-device", "VGA", NULL };
	struct hv_rig r;
	struct stat st;
	struct buf text = { 0 };

	init(&r, "q35");
	r.spec.extra_args = display;
	r.spec.vnc = "unused";
	hv_rig_up(&r);
	hv_rig_until_console(&r, "NANO-READY");
	snprintf(path, sizeof(path), "%s/screen.png", r.dir);
	assert_int_equal(hv_rig_op(&r, screendump), 0);
	assert_int_equal(file_read(path, 1 << 20, &text, NULL), 0);
	assert_memory_equal(buf_str(&text), "\x89PNG", 4);
	buf_finish(&text);
	snprintf(path, sizeof(path), "%s/core", r.dir);
	assert_int_equal(hv_rig_op(&r, dump), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_true(st.st_size > 16 << 20);
	snprintf(path, sizeof(path), "%s/none/core", r.dir);
	assert_int_equal(hv_rig_op(&r, dump), -EIO);
	assert_int_equal(hv_rig_op(&r, hv_nmi), 0);
	end(&r);
}

/* The process goes while the guest is waited for. */
static void test_gone(void **state)
{
	struct hv_rig r;
	char *image;

	up(&r, "pc");
	image = make_disk(&r, "image");
	disk = (struct hv_disk){ .id = "extra", .path = image, .format = HV_DISK_RAW };
	assert_int_equal(hv_rig_op(&r, add_disk), 0);
	id = "extra";
	hv_rig_op_start(&r, remove_device);
	rig_run_for(r.loop, 50);
	hv_kill(r.hv, SIGKILL);
	rig_run_until(r.loop, &r.op_done);
	assert_int_equal(r.err.code, -ESRCH);
	hv_rig_until_exit(&r);
	hv_rig_finish(&r);
	free(image);

	up(&r, "pc");
	image = make_disk(&r, "image");
	disk.path = image;
	assert_int_equal(hv_rig_op(&r, add_disk), 0);
	hv_rig_op_start(&r, remove_device);
	rig_run_for(r.loop, 50);
	/* And what is under way when the owner lets go. */
	hv_rig_finish(&r);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_disk),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_nic),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_cannot),
		cmocka_unit_test(test_inspect),
		cmocka_unit_test(test_gone),
	};

	return cmocka_run_group_tests_name("devices on real QEMU", tests, setup, teardown);
}
