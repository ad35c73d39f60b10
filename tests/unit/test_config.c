/* supervisor/config: precedence, printing, references, the reference file, sizes, odd input. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "supervisor/config.h"
#include "tests/unit/rig.h"

static char *dir;

static char *put_file(const char *name, const char *text, size_t len)
{
	char *path = path_join(dir, name);
	struct err err;

	assert_non_null(path);
	if (file_write_atomic(path, text, len, 0644, false, &err) < 0)
		fail_msg("%s", err.msg);
	return path;
}

static int load_with(struct config **out, const char *text, size_t len,
	const struct config_override *overrides, size_t n, struct buf *said)
{
	char *path = put_file("test.ini", text, len);
	struct config_load_opts opts = { .path = path, .overrides = overrides, .noverrides = n };
	struct config_errors errors = { 0 };
	struct err err;
	int rc = config_load(out, &opts, &errors, &err);

	assert_true((rc == 0) == (errors.n == 0));
	if (said != NULL)
		config_errors_print(&errors, said);
	config_errors_finish(&errors);
	free(path);
	return rc;
}

static struct config *load(const char *text)
{
	struct buf said = { 0 };
	struct config *c = NULL;

	if (load_with(&c, text, strlen(text), NULL, 0, &said) < 0)
		fail_msg("%s", buf_str(&said));
	buf_finish(&said);
	return c;
}

static void precedence(void **state)
{
	static const char text[] = "[drover]\nrun_id = file\ngroup = file\nlog_level = debug\n";
	const struct config_override args[] = {
		{ "run_id", "argument", "--run-id" },
		{ "log_level", "warn", "--log-level" },
	};
	struct config *c = NULL;

	setenv("DROVER_RUN_ID", "variable", 1);
	setenv("DROVER_GROUP", "variable", 1);
	setenv("DROVER_RUN_DIR", "/tmp/variable", 1);
	setenv("DROVER_ON_EXIT", "", 1);
	setenv("DROVER_INCLUDE", "nothing.ini", 1);
	assert_int_equal(load_with(&c, text, strlen(text), args, 2, NULL), 0);
	assert_string_equal(c->drover->run_id, "argument");
	assert_string_equal(c->drover->group, "variable");
	assert_string_equal(c->drover->run_dir, "/tmp/variable");
	assert_string_equal(c->drover->listen, "/tmp/variable/api.sock");
	assert_string_equal(c->drover->state_dir, "/var/lib/drover");
	assert_int_equal(c->drover->log_level, LOG_LVL_WARN);
	assert_int_equal(c->drover->on_exit, ON_EXIT_KEEP);
	config_destroy(c);
	unsetenv("DROVER_RUN_ID");
	unsetenv("DROVER_GROUP");
	unsetenv("DROVER_RUN_DIR");
	unsetenv("DROVER_ON_EXIT");
	unsetenv("DROVER_INCLUDE");
}

static void wrong_overrides(void **state)
{
	const struct config_override args[] = {
		{ "run_idd", "x", "--run-idd" },
		{ "on_exit", "leave", "--on-exit" },
	};
	struct buf said = { 0 };
	struct config *c = NULL;

	setenv("DROVER_MAX_STARTS", "many", 1);
	assert_int_equal(load_with(&c, "", 0, args, 2, &said), -EINVAL);
	unsetenv("DROVER_MAX_STARTS");
	assert_null(c);
	assert_non_null(
		strstr(buf_str(&said), "--run-idd: [drover] has no key 'run_idd'; did you"));
	assert_non_null(strstr(buf_str(&said), "--on-exit: on_exit: 'leave' is not one of"));
	assert_non_null(strstr(buf_str(&said), "DROVER_MAX_STARTS: max_starts: 'many' is not"));
	buf_finish(&said);
}

static void missing_file(void **state)
{
	struct config_load_opts opts = { .path = "/nonexistent/drover.ini" };
	struct config_errors errors;
	struct buf said = { 0 };
	struct config *c = NULL;
	struct err err;

	assert_int_equal(config_load(&c, &opts, &errors, &err), -EINVAL);
	config_errors_print(&errors, &said);
	assert_string_equal(buf_str(&said),
		"/nonexistent/drover.ini: open "
		"'/nonexistent/drover.ini': No such file or directory\n");
	assert_non_null(strstr(err.msg, "No such file"));
	config_errors_finish(&errors);
	buf_finish(&said);
}

static void counts_what_is_wrong(void **state)
{
	char *path = put_file("test.ini", "[vm a]\nx = 1\ny = 2\n", 19);
	struct config_load_opts opts = { .path = path };
	struct config *c = NULL;
	struct err err;

	assert_int_equal(config_load(&c, &opts, NULL, &err), -EINVAL);
	assert_true(str_ends(err.msg,
		"test.ini:1: [vm a] needs 'kernel', or what it is to boot from: a rootfs that is a file, "
		"volume, cdrom (and 2 more)"));
	free(path);
}

static void relative_paths(void **state)
{
	struct config *c = load("[drover]\nstate_dir = ./state\nlog_file = logs/a\n"
				"[vm a]\nkernel = ./k\nrootfs = ghcr.io/org/image\n");
	char *state_dir = path_join(dir, "state"), *logs = path_join(dir, "logs/a"),
	     *kernel = path_join(dir, "k");

	assert_string_equal(c->drover->state_dir, state_dir);
	assert_string_equal(c->drover->log_file, logs);
	assert_string_equal(config_vm(c, "a")->kernel, kernel);
	assert_string_equal(config_vm(c, "a")->rootfs, "ghcr.io/org/image");
	free(state_dir);
	free(logs);
	free(kernel);
	config_destroy(c);
}

static void positions(void **state)
{
	struct config *c = load("[template t]\nkernel = /k\n\n[vm a]\ntemplate = t\nvcpus = 2\n");
	const struct vm_config *vm = config_vm(c, "a");
	size_t i;

	assert_int_equal(vm->s.pos.line, 4);
	assert_true(str_ends(vm->s.pos.file, "/test.ini"));
	for (i = 0; i < config_nkeys; i++) {
		unsigned line = vm->s.key_pos[i].line;

		if (config_keys[i].section != SECTION_VM)
			continue;
		if (strcmp(config_keys[i].name, "kernel") == 0)
			assert_int_equal(line, 2);
		else if (strcmp(config_keys[i].name, "template") == 0)
			assert_int_equal(line, 5);
		else if (strcmp(config_keys[i].name, "vcpus") == 0)
			assert_int_equal(line, 6);
		else
			assert_int_equal(line, 0);
	}
	assert_int_equal(vm->guest_id, -1);
	assert_string_equal(vm->template_name, "t");
	assert_null(config_vm(c, "t"));
	assert_null(config_find(c, SECTION_NETWORK, "a"));
	assert_int_equal(c->files.n, 1);
	config_destroy(c);
}

/* Values that a table's row cannot have wrong without a parser noticing only much later. */
static void the_table_is_sound(void **state)
{
	enum section_kind kind = SECTION_DROVER;
	struct config *c = load("[vm v]\nkernel = /k\n[network n]\ncidr = 10.0.0.0/8\n"
				"[registry r]\nupstream = https://x\nlisten = 127.0.0.1:1\n"
				"[key k]\nfile = /k\n[image i]\nsource = /i\n");
	static const char *const names[] = { "", "n", "r", "k", "i", "", "v" };
	size_t i, j;

	for (i = 0; i < config_nkeys; i++) {
		const struct config_key *k = &config_keys[i];
		const struct config_section *s = config_find(c, k->section, names[k->section]);
		struct buf text = { 0 };

		assert_non_null(s);
		/* Rows of one section stand together. */
		assert_true(k->section >= kind || k->section == SECTION_REGISTRY);
		kind = k->section;
		for (j = 0; j < i; j++)
			assert_false(config_keys[j].section == k->section &&
				     strcmp(config_keys[j].name, k->name) == 0);
		assert_true(str_ends(k->help, ".") && strchr(k->help, '\n') == NULL);
		assert_true((k->type == KEY_ENUM) == (k->words != NULL));
		assert_true(k->type != KEY_INT || k->max > k->min);
		/* A default is written as it is printed, or the plan would see a change. */
		config_value_text(s, k, &text);
		if (k->def != NULL && s->key_pos[i].line == 0)
			assert_string_equal(buf_str(&text), k->def);
		buf_finish(&text);
	}
	config_destroy(c);
}

static void reference_file_is_current(void **state)
{
	struct buf want = { 0 }, have = { 0 };
	struct err err;

	config_print_reference(&want);
	assert_int_equal(file_read("etc/drover.ini", 1 << 20, &have, &err), 0);
	if (strcmp(buf_str(&want), buf_str(&have)) != 0) {
		assert_int_equal(file_write_atomic("build/drover.ini", want.data, want.len, 0644,
					 false, &err),
			0);
		fail_msg("etc/drover.ini is not what the table says; take build/drover.ini");
	}
	buf_finish(&want);
	buf_finish(&have);
}

static void prints_what_is_set(void **state)
{
	struct config *c = load("[drover]\nrun_id = default\n[template t]\nkernel = /k\n"
				"[vm a]\ntemplate = t\nmemory = 1024M\nqemu_args = \"a b\" \n"
				"  -c d\ncmdline = \"x ; y \\\"z\\\"\"\n");
	struct buf b = { 0 };

	config_print(c, false, &b);
	assert_string_equal(buf_str(&b), "[drover]\nrun_id = default\n"
					 "listen = /run/drover/api.sock\n\n"
					 "[vm a]\nmemory = 1G\nkernel = /k\n"
					 "cmdline = \"x ; y \\\"z\\\"\"\n"
					 "qemu_args = \"a b\"\nqemu_args = -c\nqemu_args = d\n");
	buf_clear(&b);
	config_print(c, true, &b);
	assert_non_null(strstr(buf_str(&b), "\nrestart_reset = 1m\n"));
	assert_null(strstr(buf_str(&b), "template"));
	buf_finish(&b);
	config_destroy(c);
}

static char *lookup(void *arg, const char *ref, struct err *err)
{
	strv_add(arg, ref);
	if (strcmp(ref, "vm.gone.address") == 0) {
		err_set(err, -ENOENT, "it has none");
		return NULL;
	}
	return str_printf("<%s>", ref);
}

static void expands(void **state)
{
	struct strv asked = { 0 };
	struct err err = { 0 };
	char *out = NULL;

	assert_int_equal(config_expand("a {{vm.ubuntu-6.5.address}}b{{ macAddress }}", lookup,
				 &asked, &out, &err),
		0);
	assert_string_equal(out, "a <vm.ubuntu-6.5.address>b<macAddress>");
	assert_int_equal(asked.n, 2);
	free(out);
	assert_int_equal(config_expand("nothing {here}", lookup, &asked, &out, &err), 0);
	assert_string_equal(out, "nothing {here}");
	free(out);
	out = NULL;
	assert_int_equal(config_expand("{{vm.gone.address}}", lookup, &asked, &out, &err), -ENOENT);
	assert_null(out);
	assert_string_equal(err.msg, "'vm.gone.address': it has none");
	strv_finish(&asked);
}

static void references_make_the_order(void **state)
{
	struct config *c = load("[vm a]\nkernel = /k\ncmdline = {{vm.c.address}}{{vm.c.address}}\n"
				"qemu_args = x {{vm.d.e.address}}\n"
				"[vm b]\nkernel = /k\n"
				"[vm c]\nkernel = /k\ncmdline = {{vm.d.e.address}}\n"
				"[vm d.e]\nkernel = /k\n");
	struct strv refs = { 0 };
	size_t order[4];

	assert_int_equal(config_vm_references(config_vm(c, "a"), &refs), 0);
	assert_int_equal(refs.n, 2);
	assert_string_equal(refs.v[0], "c");
	assert_string_equal(refs.v[1], "d.e");
	strv_finish(&refs);
	assert_int_equal(config_vm_references(config_vm(c, "b"), &refs), 0);
	assert_int_equal(refs.n, 0);
	assert_int_equal(config_vm_order(c, order, NULL, NULL), 0);
	assert_int_equal(order[0], 3);
	assert_int_equal(order[1], 2);
	assert_int_equal(order[2], 0);
	assert_int_equal(order[3], 1);
	config_destroy(c);
}

static int64_t number(void *arg, const char *vm)
{
	(*(int *)arg)++;
	return strcmp(vm, "a") == 0 ? 41 : 42;
}

static void guest_ids(void **state)
{
	static const char good[] = "[vm b]\nkernel = /k{{guestId}}\n[vm a]\nkernel = /k\n";
	char *path = put_file("test.ini", good, strlen(good));
	int calls = 0;
	struct config_load_opts opts = { .path = path, .guest_id = number, .arg = &calls };
	struct config *c = NULL;
	struct err err;

	assert_int_equal(config_load(&c, &opts, NULL, &err), 0);
	assert_string_equal(config_vm(c, "b")->kernel, "/k42");
	assert_int_equal(config_vm(c, "a")->guest_id, 41);
	assert_int_equal(calls, 2);
	config_destroy(c);
	free(path);
	/* No numbers for the machines of a file that is refused. */
	opts.path = path = put_file("test.ini", "[vm a]\nx = y\n", 13);
	assert_int_equal(config_load(&c, &opts, NULL, &err), -EINVAL);
	assert_int_equal(calls, 2);
	free(path);
}

static void large(void **state)
{
	struct buf text = { 0 };
	char *value = malloc(65537);
	struct config *c;
	int i;

	assert_non_null(value);
	memset(value, 'v', 65536);
	value[65536] = '\0';
	buf_printf(&text, "[vm big]\nkernel = /k\ncmdline = %s\nqemu_args = %s\n  %s\n", value,
		value, value);
	for (i = 0; i < 1000; i++)
		buf_printf(&text, "[vm m%d]\nkernel = /k\nmemory = %dM\n", i, i + 4);
	c = load(buf_str(&text));
	assert_int_equal(c->by_kind[SECTION_VM].n, 1001);
	assert_string_equal(config_vm(c, "big")->cmdline, value);
	assert_int_equal(config_vm(c, "big")->qemu_args.n, 2);
	assert_string_equal(config_vm(c, "big")->qemu_args.v[1], value);
	assert_int_equal(config_vm(c, "m999")->memory, 1003ull << 20);
	config_destroy(c);
	buf_finish(&text);
	free(value);
}

static void file_too_large(void **state)
{
	size_t len = (16 << 20) + 1;
	char *text = malloc(len);
	struct buf said = { 0 };
	struct config *c = NULL;

	assert_non_null(text);
	memset(text, '\n', len);
	assert_int_equal(load_with(&c, text, len, NULL, 0, &said), -EINVAL);
	assert_non_null(strstr(buf_str(&said), "is larger than 16M"));
	assert_int_equal(load_with(&c, text, len - 1, NULL, 0, NULL), 0);
	config_destroy(c);
	buf_finish(&said);
	free(text);
}

/* A thousand mistakes are a thousand messages. */
static void many_mistakes(void **state)
{
	struct buf text = { 0 }, said = { 0 };
	struct config *c = NULL;
	unsigned i, lines = 0;
	const char *p;

	buf_adds(&text, "[vm a]\nkernel = /k\n");
	for (i = 0; i < 1000; i++)
		buf_printf(&text, "key%u = 1\n", i);
	assert_int_equal(load_with(&c, text.data, text.len, NULL, 0, &said), -EINVAL);
	for (p = buf_str(&said); (p = strchr(p, '\n')) != NULL; p++)
		lines++;
	assert_int_equal(lines, 1000);
	buf_finish(&text);
	buf_finish(&said);
}

static const char *const seeds[] = {
	"\xef\xbb\xbf[drover]\r\nrun_id = x ; c\r\ninclude = none*.ini\r\n",
	"[template t]\nkernel = ./k\nqemu_args = \"a \\\" ; b\" ; c\n  -d {{name}} {{vm.a.address}}\n"
	"[vm b]\ntemplate = t\nmemory = 1G\nnetwork = n\n  n\ncmdline = {{guestId}}{{macAddress}}\n"
	"[vm a]\ntemplate = t\nqemu_args =\n",
	"[network n]\ncidr = 10.0.0.0/8\ndns = 1.1.1.1\n[registry r]\nupstream = https://x\n"
	"listen = 127.0.0.1:5000\nhosts = a\nhosts = b\n[key k]\npublic = ssh-rsa AAAA x\n",
};

static void try_text(const char *text, size_t len)
{
	struct config *c = NULL;
	struct buf b = { 0 };

	if (load_with(&c, text, len, NULL, 0, NULL) == 0) {
		config_print(c, true, &b);
		buf_finish(&b);
		config_destroy(c);
	}
}

/* Whatever comes in, it is taken or refused with at least one message. */
static void odd_input(void **state)
{
	uint64_t x = 88172645463325252ull;
	char text[512];
	size_t i, n, len;
	int round;

	for (i = 0; i < ARRAY_LEN(seeds); i++) {
		len = strlen(seeds[i]);
		assert_true(len < sizeof(text));
		for (n = 0; n <= len; n++)
			try_text(seeds[i], n);
		for (round = 0; round < 500; round++) {
			memcpy(text, seeds[i], len);
			for (n = 0; n < 4; n++) {
				static const char odd[] = "\0\n\r\t ;#\"\\[]={}.:/ab9\xff\xc3";

				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				text[x % len] = odd[(x >> 32) % (sizeof(odd) - 1)];
			}
			try_text(text, len);
		}
	}
}

static int setup(void **state)
{
	dir = rig_tmp();
	return 0;
}

static int teardown(void **state)
{
	rig_tmp_finish(dir);
	return 0;
}

static bool nothing(const struct config_key *k)
{
	return false;
}

/* The section of a copy has the copy's name where this one has its own. */
static void for_another_one(void **state)
{
	static const char text[] =
		"[vm one]\nkernel = ./kernels/{{name}}\n"
		"cmdline = host={{ name }} id={{guestId}} user={{env.WARM_USER}}\n"
		"volume = /srv/{{name}}.raw ro\n\t/srv/all.raw ro\n"
		"qemu_args = -name {{name}}\n\t\"-a b\"\nhostname = fixed\n";
	struct buf out = { 0 }, wanted = { 0 };
	struct config *c;

	setenv("WARM_USER", "me", 1);
	c = load(text);
	assert_string_equal(config_vm(c, "one")->cmdline, "host=one id=0 user=me");
	config_print_section(&config_vm(c, "one")->s, "two", nothing, &out);
	buf_printf(&wanted,
		"[vm two]\nkernel = %s/kernels/{{name}}\ncmdline = host={{name}} id={{guestId}} "
		"user=me\nvolume = /srv/{{name}}.raw ro\nvolume = /srv/all.raw ro\nhostname = fixed\n"
		"qemu_args = -name {{name}}\nqemu_args = \"-a b\"\n",
		dir);
	assert_string_equal(buf_str(&out), buf_str(&wanted));
	buf_finish(&out);
	buf_finish(&wanted);
	config_destroy(c);
	unsetenv("WARM_USER");
}

/* What a machine does not set is the warm template's, and that one's templates'. */
static void from_a_warm_one(void **state)
{
	struct config *c = load("[template t]\nmemory = 64M\nagent = yes\n"
				"[vm base]\ntemplate = t\nwarm = yes\nkernel = /k\nhealth = agent\n"
				"hostname = shop\ncmdline = is={{name}}\nautostart = no\n"
				"[vm one]\nfrom = base\nvcpus = 2\n");
	const struct vm_config *one = config_vm(c, "one");

	assert_string_equal(one->from, "base");
	assert_string_equal(one->kernel, "/k");
	assert_string_equal(one->cmdline, "is=one");
	assert_int_equal(one->memory, 64 << 20);
	assert_int_equal(one->vcpus, 2);
	assert_true(one->agent);
	assert_false(one->warm);
	assert_true(one->autostart);
	assert_null(one->hostname);
	config_destroy(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(for_another_one),
		cmocka_unit_test(from_a_warm_one),
		cmocka_unit_test(precedence),
		cmocka_unit_test(wrong_overrides),
		cmocka_unit_test(missing_file),
		cmocka_unit_test(counts_what_is_wrong),
		cmocka_unit_test(relative_paths),
		cmocka_unit_test(positions),
		cmocka_unit_test(the_table_is_sound),
		cmocka_unit_test(reference_file_is_current),
		cmocka_unit_test(prints_what_is_set),
		cmocka_unit_test(expands),
		cmocka_unit_test(references_make_the_order),
		cmocka_unit_test(guest_ids),
		cmocka_unit_test(large),
		cmocka_unit_test(file_too_large),
		cmocka_unit_test(many_mistakes),
		cmocka_unit_test(odd_input),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
