/* supervisor/plan: which action for which difference, and in which order. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/file.h"
#include "supervisor/plan.h"
#include "tests/unit/rig.h"

static char *dir;

static struct config *load(const char *text)
{
	char *path = path_join(dir, "plan.ini");
	struct config_load_opts opts = { .path = path };
	struct config *c = NULL;
	struct err err;

	assert_non_null(path);
	if (file_write_atomic(path, text, strlen(text), 0644, false, &err) < 0 ||
		config_load(&c, &opts, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	free(path);
	return c;
}

/* What is, as if all of a configuration had been applied and were up. */
struct world {
	struct observed v[16];
	json_t *applied[16];
	size_t n;
	struct config *config;
};

static struct world applied(const char *text)
{
	struct world w = { .config = load(text) };
	size_t k, i;

	for (k = 0; k < SECTION_KINDS; k++) {
		const struct config_array *a = &w.config->by_kind[k];

		for (i = 0; i < a->n && k != SECTION_TEMPLATE; i++) {
			assert_true(w.n < ARRAY_LEN(w.v));
			w.applied[w.n] = plan_applied(a->v[i]);
			assert_non_null(w.applied[w.n]);
			w.v[w.n] = (struct observed){ .kind = (enum section_kind)k,
				.name = a->v[i]->name,
				.applied = w.applied[w.n],
				.active = true };
			w.n++;
		}
	}
	return w;
}

static struct observed *of(struct world *w, const char *name)
{
	size_t i;

	for (i = 0; i < w->n; i++)
		if (strcmp(w->v[i].name, name) == 0)
			return &w->v[i];
	fail_msg("nothing is named %s", name);
	return NULL;
}

static void world_finish(struct world *w)
{
	size_t i;

	for (i = 0; i < w->n; i++)
		json_decref(w->applied[i]);
	config_destroy(w->config);
}

/* "op kind name [keys] reason" lines. */
static void expect(const struct world *w, const char *wanted, const char *actions)
{
	struct config *c = load(wanted);
	struct buf b = { 0 };
	struct plan p;
	struct err err;
	size_t i, j;

	assert_int_equal(plan_make(&p, c, w->v, w->n, &err), 0);
	/* A plan lives on without what it was made from. */
	config_destroy(c);
	for (i = 0; i < p.n; i++) {
		buf_printf(&b, "%s %s %s [", plan_op_name(p.v[i].op),
			section_kind_name(p.v[i].kind), p.v[i].name);
		for (j = 0; j < p.v[i].keys.n; j++)
			buf_printf(&b, "%s%s", j == 0 ? "" : " ", p.v[i].keys.v[j]);
		buf_printf(&b, "] %s\n", p.v[i].reason);
	}
	assert_string_equal(buf_str(&b), actions);
	buf_finish(&b);
	plan_finish(&p);
}

#define A "[vm a]\nkernel = /k\n"
#define B "[vm b]\nkernel = /k\n"
#define ABOUT                                                                                      \
	"[network n]\ncidr = 10.0.0.0/8\n[registry r]\nupstream = https://x\n"                     \
	"listen = 127.0.0.1:5000\n[key k]\ngenerate = yes\n"
#define NOTHING ""

static const struct world empty;

static void everything_is_new(void **state)
{
	expect(&empty, B A ABOUT "[vm c]\nkernel = /k\nautostart = no\n",
		"start registry r [] is new\nadd network n [] is new\nadd key k [] is new\n"
		"start vm b [] is new\nstart vm a [] is new\n"
		"add vm c [] is new; autostart = no\n");
	expect(&empty, "", NOTHING);
}

static void nothing_changed(void **state)
{
	struct world w = applied(A B ABOUT);

	expect(&w, B ABOUT A, NOTHING);
	/* A default that is written out is no change. */
	expect(&w, ABOUT B A "memory = 512M\nrestart_reset = 60s\njail = true\n", NOTHING);
	/* Nor is a value that comes from a template now. */
	expect(&w, ABOUT B "[template t]\nkernel = /k\n[vm a]\ntemplate = t\n", NOTHING);
	world_finish(&w);
}

static void classes(void **state)
{
	struct world w = applied(ABOUT A "network = n\n" B);

	expect(&w, ABOUT A "network = n\nmemory = 1G\n" B,
		"restart vm a [memory] memory: 512M -> 1G\n");
	expect(&w, ABOUT A "network = n\nrestart = always\nstop_timeout = 90s\nautostart = no\n" B,
		"update vm a [autostart restart stop_timeout] autostart: yes -> no; "
		"restart: no -> always; stop_timeout: 30s -> 90s\n");
	expect(&w, ABOUT A "network = n\nrestart = always\nvcpus = 2\nrootfs = /r\n" B,
		"recreate vm a [vcpus rootfs restart] vcpus: 1 -> 2; rootfs: (none) -> /r; "
		"restart: no -> always\n");
	expect(&w, ABOUT A "network = n\n  n\n" B, "recreate vm a [network] network: n -> n, n\n");
	expect(&w, ABOUT A B, "recreate vm a [network] network: n -> (none)\n");
	world_finish(&w);
}

static void back_to_the_default(void **state)
{
	struct world w = applied(A "memory = 1G\n");

	expect(&w, A, "restart vm a [memory] memory: 1G -> 512M\n");
	world_finish(&w);
}

static void long_values_are_cut(void **state)
{
	struct world w = applied(A);

	expect(&w, A "cmdline = 012345678901234567890123456789012345678901234567890123456789 x\n",
		"restart vm a [cmdline] cmdline: (none) -> "
		"012345678901234567890123456789012345678901234567890123456789...\n");
	/* Not within a character. */
	expect(&w,
		A
		"cmdline = 01234567890123456789012345678901234567890123456789012345678\xe2\x82\xac\n",
		"restart vm a [cmdline] cmdline: (none) -> "
		"01234567890123456789012345678901234567890123456789012345678...\n");
	world_finish(&w);
}

static void removal(void **state)
{
	struct world w = applied(ABOUT A B);

	expect(&w, A,
		"remove vm b [] no longer in the configuration\n"
		"remove network n [] no longer in the configuration\n"
		"remove registry r [] no longer in the configuration\n"
		"remove key k [] no longer in the configuration\n");
	/* Once: its disks stay, the plan is done with it. */
	of(&w, "b")->active = false;
	of(&w, "b")->removed = true;
	expect(&w, ABOUT A, NOTHING);
	/* It may come back. */
	expect(&w, ABOUT A B, "start vm b [] is new\n");
	of(&w, "b")->want_known = true;
	expect(&w, ABOUT A B, "add vm b [] is new; was stopped by a person\n");
	world_finish(&w);
}

static void a_renamed_machine(void **state)
{
	struct world w = applied(A);

	expect(&w, B, "remove vm a [] no longer in the configuration\nstart vm b [] is new\n");
	world_finish(&w);
}

static void wanted_state(void **state)
{
	struct world w = applied(A);
	struct observed *a = of(&w, "a");

	/* A person's stop beats autostart, and is carried out if it was not. */
	a->want_known = true;
	expect(&w, A, "stop vm a [] was stopped by a person\n");
	a->active = false;
	expect(&w, A, NOTHING);
	/* What changes meanwhile comes with the start. */
	expect(&w, A "memory = 1G\nrootfs = /r\n", NOTHING);
	a->want_running = true;
	expect(&w, A, "start vm a [] is not running\n");
	expect(&w, A "autostart = no\nmemory = 1G\n",
		"start vm a [memory autostart] memory: 512M -> 1G; autostart: yes -> no\n");
	/* A new disk even if there is no run to end. */
	expect(&w, A "rootfs = /r\n", "recreate vm a [rootfs] rootfs: (none) -> /r\n");
	/* Without a person's word autostart decides, but it stops nothing. */
	a->want_known = false;
	expect(&w, A, "start vm a [] is not running\n");
	expect(&w, A "autostart = no\n", NOTHING);
	a->active = true;
	expect(&w, A "autostart = no\n", "update vm a [autostart] autostart: yes -> no\n");
	world_finish(&w);
}

static void failed_machine(void **state)
{
	struct world w = applied(A);
	struct observed *a = of(&w, "a");

	a->active = false;
	a->failed = true;
	expect(&w, A, NOTHING);
	expect(&w, A "memory = 1G\n", "start vm a [memory] memory: 512M -> 1G\n");
	expect(&w, A "restart_limit = 9\n", "start vm a [restart_limit] restart_limit: 5 -> 9\n");
	world_finish(&w);
}

static void known_but_never_applied(void **state)
{
	struct world w = applied(A);
	struct observed *a = of(&w, "a");

	a->applied = NULL;
	a->active = false;
	expect(&w, A, "start vm a [] is new\n");
	a->want_known = true;
	a->want_running = true;
	expect(&w, A "autostart = no\n", "start vm a [] was started by a person\n");
	/* It runs, from nobody knows what: no reason to end it. */
	a->active = true;
	expect(&w, A, NOTHING);
	world_finish(&w);
}

static void services(void **state)
{
	struct world w = applied(ABOUT A "network = n\n" B);

	of(&w, "n")->active = false;
	of(&w, "r")->active = false;
	of(&w, "k")->active = false;
	expect(&w, ABOUT A "network = n\n" B,
		"start registry r [] is not up\nstart network n [] is not up\n");
	of(&w, "n")->active = true;
	of(&w, "r")->failed = true;
	expect(&w, ABOUT A "network = n\n" B, NOTHING);
	world_finish(&w);
}

static void a_network_takes_its_machines_along(void **state)
{
	struct world w = applied(ABOUT A "network = n\n" B);

	expect(&w,
		"[network n]\ncidr = 10.0.0.0/16\n[registry r]\nupstream = https://x\n"
		"listen = 127.0.0.1:5001\n[key k]\ngenerate = yes\n" A
		"network = n\nmemory = 1G\n" B,
		"restart registry r [listen] listen: 127.0.0.1:5000 -> 127.0.0.1:5001\n"
		"recreate network n [cidr] cidr: 10.0.0.0/8 -> 10.0.0.0/16\n"
		"recreate vm a [memory] memory: 512M -> 1G; network 'n': cidr: 10.0.0.0/8 -> "
		"10.0.0.0/16\n");
	expect(&w,
		"[registry r]\nupstream = https://x\nlisten = 127.0.0.1:5000\n[key k]\nfile = /k\n"
		"[network n]\ncidr = 10.0.0.0/8\ndns = 1.1.1.1\n" B A "network = n\n",
		"update network n [dns] dns: (none) -> 1.1.1.1\n"
		"update key k [file generate] file: (none) -> /k; generate: yes -> no\n");
	world_finish(&w);
}

/* Who logs in is written into the disk at a start: another key needs one. */
static void a_key_takes_its_machines_along(void **state)
{
#define KEY(lines) "[key k]\n" lines "[key other]\npublic = ssh-rsa AAAA\n"
	struct world w = applied(KEY("file = /a\n") A "ssh_key = k\n" B "ssh_key = other\n");

	expect(&w, KEY("file = /b\n") A "ssh_key = k\n" B "ssh_key = other\n",
		"update key k [file] file: /a -> /b\n"
		"restart vm a [] key 'k': file: /a -> /b\n");
	expect(&w, KEY("file = /b\n") A "ssh_key = k\non_change = defer\n" B "ssh_key = other\n",
		"update key k [file] file: /a -> /b\n"
		"defer vm a [on_change] on_change: restart -> defer; key 'k': file: /a -> /b\n");
	/* Ours is only for `drover ssh`. */
	expect(&w, KEY("file = /a\nprivate = /p\n") A "ssh_key = k\n" B "ssh_key = other\n",
		"update key k [private] private: (none) -> /p\n");
	world_finish(&w);
#undef KEY
}

static void run_id(void **state)
{
	struct world w = applied("[drover]\nlog_level = warn\n" A B);

	of(&w, "b")->active = false;
	of(&w, "b")->want_known = true;
	expect(&w, "[drover]\nlog_level = debug\n" A B,
		"update drover  [log_level] log_level: warn -> debug\n");
	expect(&w, "[drover]\nlog_level = warn\nrun_id = x\n" A B,
		"recreate drover  [run_id] run_id: default -> x\n"
		"recreate vm a [] run_id: default -> x\n");
	world_finish(&w);
}

static void order(void **state)
{
	struct world w = applied("[network old]\ncidr = 192.168.0.0/24\n"
				 "[vm gone]\nkernel = /k\n[vm halt]\nkernel = /k\n");

	of(&w, "halt")->want_known = true;
	expect(&w,
		"[vm first]\nkernel = /k\ncmdline = {{vm.third.address}}\n[vm halt]\nkernel = /k\n"
		"[vm second]\nkernel = /k\n[vm third]\nkernel = /k\n" ABOUT,
		"remove vm gone [] no longer in the configuration\n"
		"stop vm halt [] was stopped by a person\n"
		"remove network old [] no longer in the configuration\n"
		"start registry r [] is new\nadd network n [] is new\nadd key k [] is new\n"
		"start vm third [] is new\nstart vm first [] is new\nstart vm second [] is new\n");
	world_finish(&w);
}

/* config_load() refuses loops, but a plan does not rest on that. */
static void loop(void **state)
{
	struct config *c = load("[vm a]\nkernel = /k\ncmdline = {{vm.b.address}}\n"
				"[vm b]\nkernel = /k\ncmdline = {{vm.c.address}}\n"
				"[vm c]\nkernel = /k\ncmdline = {{macAddress}}padding\n");
	struct vm_config *last = (void *)c->by_kind[SECTION_VM].v[2];
	struct err err = { 0 };
	struct plan p;

	strcpy(last->cmdline, "{{vm.a.address}}");
	assert_int_equal(plan_make(&p, c, NULL, 0, &err), -ELOOP);
	assert_non_null(strstr(err.msg, "'a' -> 'b' -> 'c' -> 'a'"));
	config_destroy(c);
}

static void json(void **state)
{
	struct world w = applied(A);
	struct config *c = load(A "memory = 1G\n" B);
	struct plan p;
	struct err err;
	json_t *j;
	char *text;

	assert_int_equal(plan_make(&p, c, w.v, w.n, &err), 0);
	j = plan_json(&p);
	text = json_dumps(j, JSON_COMPACT);
	assert_string_equal(text,
		"{\"actions\":[{\"op\":\"restart\",\"kind\":\"vm\",\"name\":\"a\",\"reason\":"
		"\"memory: 512M -> 1G\",\"keys\":[\"memory\"]},{\"op\":\"start\",\"kind\":\"vm\","
		"\"name\":\"b\",\"reason\":\"is new\",\"keys\":[]}]}");
	free(text);
	json_decref(j);
	plan_finish(&p);
	j = plan_json(&p);
	text = json_dumps(j, JSON_COMPACT);
	assert_string_equal(text, "{\"actions\":[]}");
	free(text);
	json_decref(j);
	config_destroy(c);
	world_finish(&w);
}

/* Only what is not a default is kept, so that a new key restarts nothing. */
static void applied_object(void **state)
{
	struct world w = applied(A "memory = 1G\nqemu_args = -a b\n");
	char *text = json_dumps(of(&w, "a")->applied, JSON_COMPACT | JSON_SORT_KEYS);

	assert_string_equal(text, "{\"kernel\":\"/k\",\"memory\":\"1G\",\"qemu_args\":\"-a\\nb\"}");
	free(text);
	world_finish(&w);
}

/* Each of many machines depends on the next one: no recursion, nothing quadratic. */
static void a_long_chain(void **state)
{
	struct buf text = { 0 };
	const int n = 5000;
	struct config *c;
	struct plan p;
	struct err err;
	int i;

	for (i = 0; i < n; i++) {
		buf_printf(&text, "[vm m%d]\nkernel = /k\n", i);
		if (i + 1 < n)
			buf_printf(&text, "cmdline = {{vm.m%d.address}}\n", i + 1);
	}
	c = load(buf_str(&text));
	assert_int_equal(plan_make(&p, c, NULL, 0, &err), 0);
	assert_int_equal(p.n, n);
	assert_string_equal(p.v[0].name, "m4999");
	assert_string_equal(p.v[n - 1].name, "m0");
	plan_finish(&p);
	config_destroy(c);
	buf_finish(&text);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_new),
		cmocka_unit_test(nothing_changed),
		cmocka_unit_test(classes),
		cmocka_unit_test(back_to_the_default),
		cmocka_unit_test(long_values_are_cut),
		cmocka_unit_test(removal),
		cmocka_unit_test(a_renamed_machine),
		cmocka_unit_test(wanted_state),
		cmocka_unit_test(failed_machine),
		cmocka_unit_test(known_but_never_applied),
		cmocka_unit_test(services),
		cmocka_unit_test(a_network_takes_its_machines_along),
		cmocka_unit_test(a_key_takes_its_machines_along),
		cmocka_unit_test(run_id),
		cmocka_unit_test(order),
		cmocka_unit_test(loop),
		cmocka_unit_test(json),
		cmocka_unit_test(applied_object),
		cmocka_unit_test(a_long_chain),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
