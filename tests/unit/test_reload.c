/* From files to actions: what a reload does, and that a file with an error does nothing. */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/json.h"
#include "supervisor/plan.h"
#include "supervisor/reload.h"

static struct drover_rig r;

static int setup(void **state)
{
	drover_rig_init(&r, "[vm a]\nkernel = /boot/k\nautostart = no\n"
			    "[vm b]\nkernel = /boot/k\nautostart = no\n");
	return 0;
}

static int teardown(void **state)
{
	struct machine *m;

	list_for_each_entry (m, &r.d.machines, entry)
		m->state = MACHINE_STOPPED;
	drover_rig_finish(&r);
	return 0;
}

static struct buf errors_text;

static int reload(const char *text, struct plan *plan)
{
	struct config_errors errors = { 0 };
	struct err err;
	int ret;

	if (text != NULL)
		drover_rig_write(&r, text);
	ret = drover_reload(&r.d, plan, &errors, &err);
	buf_clear(&errors_text);
	config_errors_print(&errors, &errors_text);
	config_errors_finish(&errors);
	return ret;
}

/* "op kind name;" for each action */
static void assert_plan(const struct plan *p, const char *want)
{
	struct buf text = { 0 };

	for (size_t i = 0; i < p->n; i++)
		buf_printf(&text, "%s %s %s;", plan_op_name(p->v[i].op),
			section_kind_name(p->v[i].kind), p->v[i].name);
	assert_string_equal(buf_str(&text), want);
	buf_finish(&text);
}

static void must_reload(const char *text, const char *want)
{
	struct plan p = { 0 };

	if (reload(text, &p) < 0)
		fail_msg("%s", buf_str(&errors_text));
	assert_plan(&p, want);
	plan_finish(&p);
}

/* Looks like one that runs from its present section; nothing is there that would. */
static struct machine *pretend_running(const char *name)
{
	struct machine *m = machine_find(&r.d, name);

	m->state = MACHINE_STARTING;
	m->want_known = m->want_running = true;
	json_decref(m->applied);
	m->applied = plan_applied(&m->cfg->s);
	config_box_unref(m->run_box);
	m->run_box = config_box_ref(r.d.box);
	m->run_cfg = m->cfg;
	return m;
}

#define A "[vm a]\nkernel = /boot/k\nautostart = no\n"
#define B "[vm b]\nkernel = /boot/k\nautostart = no\n"

static void test_first(void **state)
{
	struct machine *m;

	drover_bind_first(&r.d);
	m = machine_find(&r.d, "a");
	assert_non_null(m);
	assert_non_null(m->cfg);
	assert_ptr_equal(m->cfg, config_vm(drover_config(&r.d), "a"));
	assert_int_equal(m->state, MACHINE_STOPPED);
	drover_apply_first(&r.d);
	assert_int_equal(m->state, MACHINE_STOPPED);
	assert_non_null(m->applied);
	/* The same file again: nothing to do. */
	must_reload(NULL, "");
	assert_string_equal(drover_rig_events(&r), "drover - reloaded\n");
}

/* One error is enough for nothing to change; each is told with its line. */
static void test_broken(void **state)
{
	struct config_box *before;
	struct plan p = { 0 };
	struct machine *m;

	drover_bind_first(&r.d);
	drover_apply_first(&r.d);
	before = r.d.box;
	m = machine_find(&r.d, "a");
	assert_int_equal(
		reload(A "memroy = 1G\n[vm c]\nkernel = /boot/k\nvcpus = many\n", &p), -EINVAL);
	assert_non_null(strstr(buf_str(&errors_text), "drover.ini:8:"));
	assert_non_null(strstr(buf_str(&errors_text), "memory"));
	assert_non_null(strstr(buf_str(&errors_text), "drover.ini:11:"));
	assert_int_equal(p.n, 0);
	assert_ptr_equal(r.d.box, before);
	assert_ptr_equal(m->cfg, config_vm(before->config, "a"));
	assert_null(machine_find(&r.d, "c"));
	unlink(r.ini);
	assert_true(reload(NULL, &p) < 0);
	assert_ptr_equal(r.d.box, before);
	assert_string_equal(drover_rig_events(&r), "");
	/* Mended. */
	must_reload(A B "[vm c]\nkernel = /boot/k\nautostart = no\n", "add vm c;");
	assert_non_null(machine_find(&r.d, "c"));
}

/* Looking changes nothing. */
static void test_plan(void **state)
{
	struct config_errors errors = { 0 };
	struct plan p = { 0 };
	struct config_box *before;
	struct err err;

	drover_bind_first(&r.d);
	drover_apply_first(&r.d);
	before = r.d.box;
	drover_rig_write(&r, A "[vm c]\nkernel = /boot/k\n");
	assert_int_equal(drover_plan(&r.d, &p, &errors, &err), 0);
	assert_true(p.n >= 1);
	assert_string_equal(p.v[p.n - 1].name, "c");
	assert_int_equal(p.v[p.n - 1].op, PLAN_START);
	plan_finish(&p);
	assert_ptr_equal(r.d.box, before);
	assert_null(machine_find(&r.d, "c"));
	drover_rig_write(&r, "[vm");
	assert_int_equal(drover_plan(&r.d, &p, &errors, &err), -EINVAL);
	assert_true(errors.n > 0);
	config_errors_finish(&errors);
	assert_string_equal(drover_rig_events(&r), "");
}

static void test_removed_and_back(void **state)
{
	struct machine *m;

	drover_bind_first(&r.d);
	drover_apply_first(&r.d);
	m = machine_find(&r.d, "b");
	must_reload(A, "remove vm b;");
	/* Kept, with its files, as removed; nothing more is to be done about it. */
	assert_ptr_equal(machine_find(&r.d, "b"), m);
	assert_null(m->cfg);
	must_reload(NULL, "");
	must_reload(A B, "add vm b;");
	assert_non_null(m->cfg);
}

/* A changed key of a running machine, put off: noted once, and forgotten when it is taken back. */
static void test_deferred(void **state)
{
	struct machine *m;

	drover_bind_first(&r.d);
	must_reload(A B "on_change = defer\n", "add vm a;add vm b;");
	m = pretend_running("b");
	must_reload(A B "on_change = defer\nmemory = 1G\n", "defer vm b;");
	assert_non_null(m->deferred);
	assert_string_equal(json_str(m->deferred, "memory"), "1G");
	assert_int_equal(m->state, MACHINE_STARTING);
	assert_non_null(strstr(drover_rig_events(&r), "vm b restart-pending\n"));
	must_reload(NULL, "");
}

/* The value of a live key counts at once, from the new section. */
static void test_live(void **state)
{
	struct machine *m;

	drover_bind_first(&r.d);
	drover_apply_first(&r.d);
	m = pretend_running("a");
	must_reload(A "stop_timeout = 7s\n" B, "update vm a;");
	assert_int_equal(m->cfg->stop_timeout, 7000);
	/* What it runs from is still there, as long as it runs. */
	assert_int_not_equal(m->run_cfg->stop_timeout, 7000);
	assert_string_equal(json_str(m->applied, "stop_timeout"), "7s");
	must_reload(NULL, "");
}

/* Busy: put off until what keeps it busy has ended, then done by drover_converge(). */
static void test_busy(void **state)
{
	struct machine *m;

	drover_bind_first(&r.d);
	drover_apply_first(&r.d);
	m = pretend_running("a");
	m->op = operation_begin(r.d.ops, "start", "a", NULL, NULL);
	must_reload(A "memory = 1G\n" B, "restart vm a;");
	assert_true(r.d.unconverged);
	assert_int_equal(m->intent, INTENT_NONE);
	drover_converge(&r.d);
	assert_true(r.d.unconverged);
	operation_end(m->op, NULL);
	m->op = NULL;
	drover_converge(&r.d);
	assert_false(r.d.unconverged);
	assert_int_equal(m->intent, INTENT_RESTART);
	assert_non_null(m->op);
}

static void test_stopping(void **state)
{
	struct plan p = { 0 };
	struct config_box *before = r.d.box;

	drover_bind_first(&r.d);
	before = r.d.box;
	r.d.stopping = true;
	assert_int_equal(reload(A, &p), -ECANCELED);
	assert_ptr_equal(r.d.box, before);
	r.d.unconverged = true;
	drover_converge(&r.d);
	assert_true(r.d.unconverged);
}

/* The file went bad while droverd started: the configuration that it started with stays. */
static void test_bad_at_first(void **state)
{
	struct config_box *before = r.d.box;

	drover_rig_write(&r, "[vm a]\nno such key = 1\n");
	drover_bind_first(&r.d);
	assert_ptr_equal(r.d.box, before);
	assert_non_null(machine_find(&r.d, "a"));
	assert_non_null(machine_find(&r.d, "b"));
}

/* A hundred in a row end in the last file. */
static void test_many(void **state)
{
	char text[512];

	drover_bind_first(&r.d);
	drover_apply_first(&r.d);
	for (unsigned i = 1; i <= 100; i++) {
		struct plan p = { 0 };

		snprintf(text, sizeof(text), A "[vm c%u]\nkernel = /boot/k\nautostart = no\n", i);
		assert_int_equal(reload(text, &p), 0);
		plan_finish(&p);
	}
	assert_non_null(machine_find(&r.d, "c100")->cfg);
	assert_null(machine_find(&r.d, "c99")->cfg);
	must_reload(NULL, "");
}

/* ---- {{guestId}} ---- */

#define NUMBERED(name) "[vm " name "]\nkernel = /boot/k\nautostart = no\ncmdline = n={{guestId}}\n"

static const char *cmdline(const char *vm)
{
	return config_vm(drover_config(&r.d), vm)->cmdline;
}

static void test_guest_id(void **state)
{
	struct config_errors errors = { 0 };
	struct plan p = { 0 };

	drover_rig_write(&r, NUMBERED("x") NUMBERED("y"));
	drover_bind_first(&r.d);
	assert_string_equal(cmdline("x"), "n=0");
	assert_string_equal(cmdline("y"), "n=1");
	/* A machine keeps its number, wherever it stands in the file; the next gets a free one. */
	assert_int_equal(reload(NUMBERED("new") NUMBERED("y") NUMBERED("x"), &p), 0);
	plan_finish(&p);
	assert_string_equal(cmdline("x"), "n=0");
	assert_string_equal(cmdline("y"), "n=1");
	assert_string_equal(cmdline("new"), "n=2");
	assert_int_equal(machine_find(&r.d, "new")->guest_id, 2);
	/* A plan that is only looked at gives none away. */
	drover_rig_write(&r, NUMBERED("other") NUMBERED("x") NUMBERED("y"));
	assert_int_equal(drover_plan(&r.d, &p, &errors, NULL), 0);
	plan_finish(&p);
	assert_int_equal(reload(NUMBERED("third") NUMBERED("x") NUMBERED("y"), &p), 0);
	plan_finish(&p);
	assert_string_equal(cmdline("third"), "n=3");
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_first),
		T(test_broken),
		T(test_plan),
		T(test_removed_and_back),
		T(test_deferred),
		T(test_live),
		T(test_busy),
		T(test_stopping),
		T(test_bad_at_first),
		T(test_many),
		T(test_guest_id),
	};

	return cmocka_run_group_tests_name("reload", tests, NULL, NULL);
}
