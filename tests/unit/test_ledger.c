/* The ledger: order, files byte for byte, what a crash leaves of them, no room. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/ledger.h"

static struct world {
	char *dir, *path;
	struct ledger *l;
} w;

static void open_at(const char *boot)
{
	struct err err;

	ledger_close(w.l);
	w.l = NULL;
	if (ledger_open(&w.l, w.path, boot, &err) < 0)
		fail_msg("%s", err.msg);
}

static int setup(void **state)
{
	w = (struct world){ .dir = rig_tmp() };
	w.path = path_join(w.dir, "run/ledger");
	open_at("b1");
	return 0;
}

static int teardown(void **state)
{
	ledger_close(w.l);
	free(w.path);
	rig_tmp_finish(w.dir);
	return 0;
}

static void add(const char *owner, enum object_kind kind, const char *name, json_t *data)
{
	struct err err;

	if (ledger_add(w.l, owner, kind, name, data, &err) < 0)
		fail_msg("%s", err.msg);
}

/* NULL: the file must not be there. */
static void assert_file(const char *name, const char *text)
{
	char *path = path_join(w.path, name);
	struct buf got = { 0 };
	int r = file_read(path, 1 << 20, &got, NULL);

	if (text == NULL)
		assert_int_equal(r, -ENOENT);
	else
		assert_string_equal(buf_str(&got), text);
	buf_finish(&got);
	free(path);
}

static void put(const char *name, const char *text)
{
	char *path = path_join(w.path, name);

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0600, false, NULL), 0);
	free(path);
}

static void assert_last(const char *owner, const char *name)
{
	const struct object *o = ledger_last(w.l, owner, NULL);

	if (name == NULL)
		assert_null(o);
	else
		assert_string_equal(o->name, name);
}

static void test_kinds(void **state)
{
	for (int k = 0; k < OBJECT_KINDS; k++) {
		char name[16];

		assert_non_null(object_kind_name((enum object_kind)k));
		snprintf(name, sizeof(name), "o%d", k);
		add("vm/web", (enum object_kind)k, name, NULL);
	}
	open_at("b1");
	for (int k = 0; k < OBJECT_KINDS; k++) {
		char name[16];

		snprintf(name, sizeof(name), "o%d", k);
		assert_non_null(ledger_find(w.l, "vm/web", (enum object_kind)k, name));
	}
}

static void test_text(void **state)
{
	add("vm/web.1-x", OBJECT_TAP, "tap0", NULL);
	assert_file("vm:web.1-x",
		"[{\"kind\":\"tap\",\"name\":\"tap0\",\"generation\":1,\"boot\":\"b1\"}]");
	add("vm/web.1-x", OBJECT_PROCESS, "dnsmasq", json_pack("{s:i}", "pid", 7));
	ledger_fail(w.l, "vm/web.1-x", OBJECT_TAP, "tap0");
	assert_file("vm:web.1-x",
		"[{\"kind\":\"tap\",\"name\":\"tap0\",\"generation\":1,\"boot\":\"b1\",\"failed\":true},"
		"{\"kind\":\"process\",\"name\":\"dnsmasq\",\"generation\":2,\"boot\":\"b1\","
		"\"data\":{\"pid\":7}}]");
	ledger_remove(w.l, "vm/web.1-x", OBJECT_TAP, "tap0");
	ledger_remove(w.l, "vm/web.1-x", OBJECT_PROCESS, "dnsmasq");
	assert_file("vm:web.1-x", NULL);
	assert_false(ledger_has(w.l, "vm/web.1-x"));
	assert_true(list_empty(ledger_owners(w.l)));
}

/* What was made last goes first; made anew it keeps its place and gets a new generation. */
static void test_order(void **state)
{
	struct object *o;

	assert_last("vm/web", NULL);
	add("vm/web", OBJECT_DIR, "/run/x", NULL);
	add("vm/web", OBJECT_TAP, "tap0", NULL);
	add("vm/web", OBJECT_PROCESS, "p", NULL);
	add("vm/other", OBJECT_TAP, "tap0", NULL);
	assert_last("vm/web", "p");
	add("vm/web", OBJECT_TAP, "tap0", json_pack("{s:i}", "x", 1));
	assert_last("vm/web", "p");
	o = ledger_find(w.l, "vm/web", OBJECT_TAP, "tap0");
	assert_int_equal(o->generation, 5);
	assert_int_equal(json_int(o->data, "x", 0), 1);
	/* Kind and owner are part of what it is. */
	assert_null(ledger_find(w.l, "vm/web", OBJECT_NFT_TAP, "tap0"));
	assert_null(ledger_find(w.l, "vm/we", OBJECT_TAP, "tap0"));
	ledger_remove(w.l, "vm/web", OBJECT_NFT_TAP, "tap0");
	ledger_remove(w.l, "vm/nobody", OBJECT_TAP, "tap0");
	ledger_remove(w.l, "vm/web", OBJECT_PROCESS, "p");
	assert_last("vm/web", "tap0");
	ledger_remove(w.l, "vm/web", OBJECT_TAP, "tap0");
	assert_last("vm/web", "/run/x");
	assert_last("vm/other", "tap0");
}

static void test_failed(void **state)
{
	add("vm/web", OBJECT_DIR, "/run/x", NULL);
	add("vm/web", OBJECT_TAP, "tap0", NULL);
	ledger_fail(w.l, "vm/web", OBJECT_TAP, "tap0");
	assert_last("vm/web", "/run/x");
	ledger_fail(w.l, "vm/web", OBJECT_DIR, "/run/x");
	assert_last("vm/web", NULL);
	assert_true(ledger_has(w.l, "vm/web"));
	ledger_retry(w.l, "vm/web");
	assert_last("vm/web", "tap0");
	/* Made anew: it is as good as any. */
	ledger_fail(w.l, "vm/web", OBJECT_TAP, "tap0");
	add("vm/web", OBJECT_TAP, "tap0", NULL);
	assert_last("vm/web", "tap0");
	ledger_fail(w.l, "vm/web", OBJECT_TAP, "tap0");
	ledger_fail(w.l, "vm/web", OBJECT_TAP, "another");
	ledger_fail(w.l, "vm/nobody", OBJECT_TAP, "tap0");
	ledger_retry(w.l, "vm/nobody");
	/* The next daemon tries all of them. */
	open_at("b1");
	assert_last("vm/web", "tap0");
}

static void test_next_daemon(void **state)
{
	struct object *o;

	add("registry/ghcr", OBJECT_PROCESS, "ghcr",
		json_pack("{s:i,s:s}", "pid", 7, "text", "\xc3\xa4 \" \\ \n"));
	add("host", OBJECT_SYSCTL, "net.ipv4.ip_forward",
		json_pack("{s:s,s:s}", "ours", "1", "old", "0"));
	open_at("b1");
	o = ledger_find(w.l, "registry/ghcr", OBJECT_PROCESS, "ghcr");
	assert_non_null(o);
	assert_int_equal(json_int(o->data, "pid", 0), 7);
	assert_string_equal(json_str(o->data, "text"), "\xc3\xa4 \" \\ \n");
	o = ledger_find(w.l, "host", OBJECT_SYSCTL, "net.ipv4.ip_forward");
	assert_string_equal(json_str(o->data, "old"), "0");
	/* Generations go on: what was made before the crash is never taken for what came after. */
	add("vm/web", OBJECT_TAP, "tap0", NULL);
	assert_int_equal(ledger_find(w.l, "vm/web", OBJECT_TAP, "tap0")->generation, 3);
}

/* Where the run folder outlives a reboot: folders are still there, the rest died with the boot. */
static void test_other_boot(void **state)
{
	add("vm/a", OBJECT_TAP, "tap0", NULL);
	add("vm/b", OBJECT_DIR, "/run/b", NULL);
	add("vm/b", OBJECT_PROCESS, "p", json_pack("{s:i}", "pid", 7));
	open_at("b2");
	assert_false(ledger_has(w.l, "vm/a"));
	assert_file("vm:a", NULL);
	assert_non_null(ledger_find(w.l, "vm/b", OBJECT_DIR, "/run/b"));
	assert_null(ledger_find(w.l, "vm/b", OBJECT_PROCESS, "p"));
}

/* Half a file, a file of zeros, no JSON, another shape: passed over, the others count. */
static void test_damaged(void **state)
{
	static const char *const texts[] = { "", "[", "[{\"kind\":\"tap\",\"name\":\"ta", "\1\2\3",
		"hello", "[] trailing" };

	add("vm/good", OBJECT_TAP, "tap0", NULL);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		put("vm:bad", texts[i]);
		open_at("b1");
		assert_false(ledger_has(w.l, "vm/bad"));
		assert_true(ledger_has(w.l, "vm/good"));
		/* It can be used again. */
		add("vm/bad", OBJECT_TAP, "tap1", NULL);
		open_at("b1");
		assert_last("vm/bad", "tap1");
		ledger_remove(w.l, "vm/bad", OBJECT_TAP, "tap1");
	}
	put("vm:bad", "{\"kind\":\"tap\",\"name\":\"tap0\"}");
	open_at("b1");
	assert_false(ledger_has(w.l, "vm/bad"));
}

/* Entries of another version's kinds are passed over one by one; members that are not known too. */
static void test_unknown(void **state)
{
	put("vm:web",
		"[{\"kind\":\"unicorn\",\"name\":\"u\"},7,null,{\"kind\":\"tap\"},{\"name\":\"x\"},"
		"{\"kind\":\"tap\",\"name\":\"tap0\",\"generation\":\"x\",\"colour\":\"red\"},"
		"{\"kind\":\"dir\",\"name\":\"/run/x\",\"generation\":41,\"boot\":\"b1\"}]");
	open_at("b1");
	assert_last("vm/web", "/run/x");
	assert_non_null(ledger_find(w.l, "vm/web", OBJECT_TAP, "tap0"));
	add("vm/web", OBJECT_PROCESS, "p", NULL);
	assert_int_equal(ledger_find(w.l, "vm/web", OBJECT_PROCESS, "p")->generation, 42);
}

/* Of a write that a crash cut short: swept away. Hidden files are nobody's. */
static void test_temporary(void **state)
{
	put("vm:web.tmp.123456", "[{\"kind\":\"tap\",\"na");
	put(".hidden", "[");
	open_at("b1");
	assert_true(list_empty(ledger_owners(w.l)));
	assert_file("vm:web.tmp.123456", NULL);
	assert_file(".hidden", "[");
}

/* A full disk: the error is told, and what was on the disk before is there whole. */
static void test_no_room(void **state)
{
	struct rlimit old, limit;
	struct err err;
	int r;

	add("vm/web", OBJECT_TAP, "tap0", NULL);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ 70, old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	r = ledger_add(w.l, "vm/web", OBJECT_PROCESS, "p", json_pack("{s:i}", "pid", 7), &err);
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(r, -EFBIG);
	assert_true(str_starts(err.msg, "ledger: "));
	assert_file("vm:web",
		"[{\"kind\":\"tap\",\"name\":\"tap0\",\"generation\":1,\"boot\":\"b1\"}]");
	/* The entry can be made, or crossed out, when there is room. */
	add("vm/web", OBJECT_PROCESS, "p", NULL);
	ledger_remove(w.l, "vm/web", OBJECT_PROCESS, "p");
	open_at("b1");
	assert_last("vm/web", "tap0");
}

static void test_no_descriptors(void **state)
{
	struct rlimit old, limit;
	struct err err;
	int r;

	getrlimit(RLIMIT_NOFILE, &old);
	limit = (struct rlimit){ 3, old.rlim_max };
	setrlimit(RLIMIT_NOFILE, &limit);
	r = ledger_add(w.l, "vm/web", OBJECT_TAP, "tap0", NULL, &err);
	/* Crossing out warns, and forgets: a release that is done twice is none. */
	ledger_remove(w.l, "vm/web", OBJECT_TAP, "tap0");
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(r, -EMFILE);
	assert_null(ledger_find(w.l, "vm/web", OBJECT_TAP, "tap0"));
}

static void test_no_folder(void **state)
{
	struct ledger *l = NULL;
	char *path = path_join(w.dir, "file");
	char *below = path_join(path, "ledger");
	struct err err;

	assert_int_equal(file_write_atomic(path, "", 0, 0600, false, NULL), 0);
	assert_int_equal(ledger_open(&l, below, "b1", &err), -ENOTDIR);
	assert_null(l);
	free(path);
	free(below);
	ledger_close(NULL);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_kinds),
		T(test_text),
		T(test_order),
		T(test_failed),
		T(test_next_daemon),
		T(test_other_boot),
		T(test_damaged),
		T(test_unknown),
		T(test_temporary),
		T(test_no_room),
		T(test_no_descriptors),
		T(test_no_folder),
	};

	return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
