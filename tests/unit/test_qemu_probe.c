/* What a QEMU binary can do: asked of a stand-in that counts how often, and of the real one. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/qemu-probe.h"
#include "lib/file.h"

#define GREETING                                                                                   \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 1, \"minor\": 2, \"major\": %d}}, "        \
	"\"capabilities\": []}}\r"

struct fixture {
	uv_loop_t *loop;
	char *dir, *cache, *binary, *count;
	struct qemu_prober *q;
};

struct answer {
	bool done;
	unsigned version;
	int code;
	char msg[300];
};

static void answered(void *arg, const struct qemu_probe *p, const struct err *err)
{
	struct answer *a = arg;

	assert_false(a->done);
	a->done = true;
	a->version = p != NULL ? qemu_probe_version(p) : 0;
	a->code = err != NULL ? err->code : 0;
	snprintf(a->msg, sizeof(a->msg), "%s", err != NULL ? err->msg : "");
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err err;

	f->loop = rig_loop();
	f->dir = rig_tmp();
	f->cache = path_join(f->dir, "probe.json");
	f->binary = path_join(f->dir, "qemu");
	f->count = path_join(f->dir, "count");
	assert_int_equal(qemu_prober_create(&f->q, f->loop, f->cache, &err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	qemu_prober_destroy(f->q);
	rig_loop_finish(f->loop);
	rig_tmp_finish(f->dir);
	free(f->cache);
	free(f->binary);
	free(f->count);
	free(f);
	return 0;
}

/* A program that answers as QEMU does, with this major version; each run adds a byte to count. */
static void stand_in(const struct fixture *f, int major, const char *devices)
{
	char *tmp = path_join(f->dir, "new");
	FILE *out = fopen(tmp, "w");

	assert_non_null(out);
	fprintf(out, "#!/bin/sh\nprintf x >>%s\ncat >/dev/null\ncat <<'END'\n", f->count);
	fprintf(out, GREETING "\n{\"return\": {}}\r\n", major);
	fprintf(out,
		"{\"return\": [{\"name\": \"pc-q35-7.2\", \"alias\": \"q35\"}], \"id\": 0}\r\n");
	fprintf(out, "{\"return\": [%s], \"id\": 1}\r\n", devices);
	fprintf(out, "{\"timestamp\": {}, \"event\": \"STOP\"}\r\n");
	fprintf(out, "{\"return\": [{\"name\": \"snapshot-save\"}], \"id\": 2}\r\n");
	fprintf(out,
		"{\"return\": [{\"capability\": \"mapped-ram\", \"state\": false}], \"id\": 3}\r\n");
	fprintf(out,
		"{\"return\": [{\"option\": \"run-with\", \"parameters\": [{\"name\": \"chroot\"}]}],"
		" \"id\": 4}\r\nEND\n");
	fclose(out);
	assert_int_equal(chmod(tmp, 0755), 0);
	assert_int_equal(rename(tmp, f->binary), 0);
	free(tmp);
}

static long runs(const struct fixture *f)
{
	struct stat st;

	return stat(f->count, &st) == 0 ? (long)st.st_size : 0;
}

static void test_asked_once(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 }, b = { 0 }, c = { 0 };
	const struct qemu_probe *p;

	stand_in(f, 9, "{\"name\": \"tpm-crb\"}");
	assert_null(qemu_prober_known(f->q, f->binary));
	qemu_prober_ask(f->q, f->binary, answered, &a);
	qemu_prober_ask(f->q, f->binary, answered, &b);
	assert_false(a.done);
	rig_run_until(f->loop, &b.done);
	assert_true(a.done);
	assert_int_equal(a.version, 90201);
	assert_int_equal(b.version, 90201);
	assert_int_equal(runs(f), 1);
	qemu_prober_ask(f->q, f->binary, answered, &c);
	assert_false(c.done);
	rig_run_until(f->loop, &c.done);
	assert_int_equal(c.version, 90201);
	assert_int_equal(runs(f), 1);

	p = qemu_prober_known(f->q, f->binary);
	assert_non_null(p);
	assert_string_equal(qemu_probe_version_text(p), "9.2.1");
	assert_true(qemu_probe_migrates_to_file(p));
	assert_true(qemu_probe_has(p, QEMU_MACHINES, "q35"));
	assert_true(qemu_probe_has(p, QEMU_MACHINES, "pc-q35-7.2"));
	assert_false(qemu_probe_has(p, QEMU_MACHINES, "microvm"));
	assert_true(qemu_probe_has(p, QEMU_DEVICES, "tpm-crb"));
	assert_false(qemu_probe_has(p, QEMU_DEVICES, "tpm-tis"));
	assert_true(qemu_probe_has(p, QEMU_COMMANDS, "snapshot-save"));
	assert_true(qemu_probe_has(p, QEMU_CAPABILITIES, "mapped-ram"));
	assert_true(qemu_probe_has(p, QEMU_OPTIONS, "run-with.chroot"));
	assert_false(qemu_probe_has(p, QEMU_OPTIONS, "run-with.user"));
}

static void again(struct fixture *f)
{
	struct err err;

	qemu_prober_destroy(f->q);
	assert_int_equal(qemu_prober_create(&f->q, f->loop, f->cache, &err), 0);
}

static void test_kept_in_a_file(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 }, b = { 0 };
	const struct qemu_probe *p;
	struct err err;

	stand_in(f, 9, "{\"name\": \"tpm-crb\"}");
	qemu_prober_ask(f->q, f->binary, answered, &a);
	rig_run_until(f->loop, &a.done);
	again(f);
	p = qemu_prober_known(f->q, f->binary);
	assert_non_null(p);
	assert_int_equal(qemu_probe_version(p), 90201);
	assert_true(qemu_probe_has(p, QEMU_DEVICES, "tpm-crb"));

	/* Another program in its place is not known. */
	stand_in(f, 10, "");
	assert_null(qemu_prober_known(f->q, f->binary));
	qemu_prober_ask(f->q, f->binary, answered, &b);
	rig_run_until(f->loop, &b.done);
	assert_int_equal(b.version, 100201);
	assert_int_equal(runs(f), 2);
	again(f);
	p = qemu_prober_known(f->q, f->binary);
	assert_non_null(p);
	assert_false(qemu_probe_has(p, QEMU_DEVICES, "tpm-crb"));

	/* A file that was cut is none. */
	assert_int_equal(file_write_atomic(f->cache, "{\"format\":1,", 12, 0644, false, &err), 0);
	again(f);
	assert_null(qemu_prober_known(f->q, f->binary));
}

static void test_no_qemu(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 }, b = { 0 }, c = { 0 };

	qemu_prober_ask(f->q, "/bin/true", answered, &a);
	rig_run_until(f->loop, &a.done);
	assert_int_equal(a.code, -EBADMSG);
	assert_non_null(strstr(a.msg, "does not answer as QEMU does"));
	qemu_prober_ask(f->q, "/bin/false", answered, &b);
	rig_run_until(f->loop, &b.done);
	assert_int_equal(b.code, -EIO);
	qemu_prober_ask(f->q, f->binary, answered, &c);
	assert_false(c.done);
	rig_run_until(f->loop, &c.done);
	assert_int_equal(c.code, -ENOENT);
	assert_null(qemu_prober_known(f->q, "/bin/true"));
}

static void test_forgotten(void **state)
{
	struct fixture *f = *state;
	struct answer a = { 0 }, b = { 0 }, c = { 0 };

	stand_in(f, 9, "");
	qemu_prober_ask(f->q, f->binary, answered, &a);
	qemu_prober_ask(f->q, f->binary, answered, &b);
	qemu_prober_forget(f->q, &a);
	rig_run_until(f->loop, &b.done);
	assert_false(a.done);
	/* Destroyed while one is being asked: teardown sees that nothing is left open. */
	stand_in(f, 8, "");
	qemu_prober_ask(f->q, f->binary, answered, &c);
	qemu_prober_destroy(f->q);
	f->q = NULL;
	rig_run_for(f->loop, 50);
	assert_false(c.done);
}

static void test_the_real_one(void **state)
{
	struct fixture *f = *state;
	char *binary = find_program("qemu-system-x86_64");
	const struct qemu_probe *p;
	struct answer a = { 0 };

	if (binary == NULL) {
		print_message("qemu-system-x86_64 is not installed\n");
		skip();
	}
	qemu_prober_ask(f->q, binary, answered, &a);
	rig_run_until(f->loop, &a.done);
	assert_string_equal(a.msg, "");
	assert_true(a.version >= 60000);
	p = qemu_prober_known(f->q, binary);
	assert_non_null(p);
	assert_true(qemu_probe_has(p, QEMU_MACHINES, "q35"));
	assert_true(qemu_probe_has(p, QEMU_DEVICES, "virtio-blk-pci"));
	assert_true(qemu_probe_has(p, QEMU_COMMANDS, "query-status"));
	assert_true(qemu_probe_has(p, QEMU_CAPABILITIES, "events"));
	assert_true(qemu_probe_has(p, QEMU_OPTIONS, "smp-opts") ||
		    qemu_probe_has(p, QEMU_OPTIONS, "machine"));
	assert_int_equal(qemu_probe_has(p, QEMU_CAPABILITIES, "mapped-ram"), a.version >= 90000);
	free(binary);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_asked_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_kept_in_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_qemu, setup, teardown),
		cmocka_unit_test_setup_teardown(test_forgotten, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_real_one, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
