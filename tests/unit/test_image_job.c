/* Shared runs of drover-image, with a shell script in its place. */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/image-job.h"
#include "supervisor/image-prune.h"
#include "supervisor/registry-private.h"

#define REF "ghcr.io/org/thing:1"

struct user {
	struct image_sub sub;
	unsigned lines, times;
	bool done;
	json_t *result;
	struct err err;
	char last[256];
	struct image_sub *victim; /* taken out at the first line */
};

static struct drover_rig r;

static int setup(void **state)
{
	drover_rig_init(&r, "");
	return 0;
}

static int teardown(void **state)
{
	drover_rig_finish(&r);
	return 0;
}

/* Each run of it leaves a line with its arguments in `runs`. */
static void program(const char *body)
{
	char *text = str_printf("echo \"$*\" >>%s/runs\n%s", r.dir, body);

	free(drover_rig_script(&r, "libexec/drover-image", text));
	free(text);
}

static unsigned runs(void)
{
	char *text = drover_rig_text(&r, "runs");
	unsigned n = 0;

	for (const char *p = text; p != NULL && *p != '\0'; p++)
		n += *p == '\n';
	free(text);
	return n;
}

static void line(void *arg, const char *text)
{
	struct user *u = arg;

	assert_int_equal(u->times, 0);
	u->lines++;
	snprintf(u->last, sizeof(u->last), "%s", text);
	if (u->victim != NULL)
		image_unsub(u->victim);
	u->victim = NULL;
}

static void done(void *arg, const json_t *result, const struct err *err)
{
	struct user *u = arg;

	u->times++;
	u->done = true;
	u->err.code = 0;
	if (err != NULL)
		u->err = *err;
	u->result = json_incref((json_t *)(uintptr_t)result);
	assert_true((result == NULL) == (err != NULL));
}

static void init(struct user *u)
{
	*u = (struct user){ .sub = { .line = line, .done = done, .arg = u } };
	list_init(&u->sub.entry);
}

static int ask(struct user *u)
{
	init(u);
	return image_job_ref(&r.d, IMAGE_ROOTFS, REF, PULL_MISSING, 0, &u->sub, &u->err);
}

static void finish(struct user *u)
{
	rig_run_until(r.d.loop, &u->done);
	assert_int_equal(u->times, 1);
}

#define HAPPY                                                                                      \
	"echo '{\"event\":\"progress\",\"done\":1}'\n"                                             \
	"echo '{\"event\":\"done\",\"ref\":\"first\"}'\n"                                          \
	"echo '{\"event\":\"done\",\"disk\":\"/disk\"}'"

static void test_arguments(void **state)
{
	struct user u;
	char *text, *want;

	program(HAPPY);
	init(&u);
	assert_int_equal(image_job_ref(&r.d, IMAGE_KERNEL, REF, PULL_ALWAYS, 123, &u.sub, NULL), 0);
	assert_false(u.done);
	finish(&u);
	text = drover_rig_text(&r, "runs");
	want = str_printf(
		"kernel --store %s/oci --ref " REF " --policy always --size 123\n", r.state_dir);
	assert_string_equal(text, want);
	/* The last result counts. */
	assert_int_equal(u.err.code, 0);
	assert_string_equal(json_str(u.result, "disk"), "/disk");
	assert_int_equal(u.lines, 3);
	json_decref(u.result);
	free(text);
	free(want);
}

/* Two that want the same share one run; one that wants another thing has its own. */
static void test_shared(void **state)
{
	struct user a, b, c;

	program("sleep 0.2\n" HAPPY);
	assert_int_equal(ask(&a), 0);
	assert_int_equal(ask(&b), 0);
	init(&c);
	assert_int_equal(image_job_ref(&r.d, IMAGE_ROOTFS, REF, PULL_NEVER, 0, &c.sub, NULL), 0);
	finish(&a);
	finish(&b);
	finish(&c);
	assert_int_equal(runs(), 2);
	assert_string_equal(json_str(a.result, "disk"), "/disk");
	assert_ptr_equal(a.result, b.result);
	json_decref(a.result);
	json_decref(b.result);
	json_decref(c.result);
	/* What has ended is not joined. */
	assert_int_equal(ask(&a), 0);
	finish(&a);
	assert_int_equal(runs(), 3);
	json_decref(a.result);
}

static void test_not_shared(void **state)
{
	struct user a, b;
	struct strv args = { 0 };

	program(HAPPY);
	strv_add(&args, "list");
	init(&a);
	init(&b);
	assert_int_equal(image_job_args(&r.d, &args, &a.sub, NULL), 0);
	assert_int_equal(image_job_args(&r.d, &args, &b.sub, NULL), 0);
	strv_finish(&args);
	finish(&a);
	finish(&b);
	assert_int_equal(runs(), 2);
	json_decref(a.result);
	json_decref(b.result);
}

static void assert_fails(const char *body, int code, const char *message)
{
	struct user u;

	program(body);
	assert_int_equal(ask(&u), 0);
	finish(&u);
	assert_int_equal(u.err.code, code);
	if (strstr(u.err.msg, message) == NULL)
		fail_msg("%s", u.err.msg);
}

/* What drover-image says of itself beats its status. */
static void test_failures(void **state)
{
	assert_fails(
		"echo '{\"event\":\"error\",\"code\":\"no-space\",\"message\":\"disk full\"}'; exit 1",
		-ENOSPC, "disk full");
	assert_fails("echo '{\"event\":\"error\",\"code\":\"never-heard\"}'; exit 1", -EIO,
		"drover-image failed");
	assert_fails("echo complaint >&2; exit 3", -EIO, "complaint");
	assert_fails("kill -9 $$", -EIO, "SIGKILL");
	assert_fails("exit 0", -EIO, "without a result");
	/* A result, and then a death: it cannot be trusted. */
	assert_fails(HAPPY "; exit 1", -EIO, "exited with status 1");
}

/* No JSON, JSON of another shape, half a line at the end: passed over. */
static void test_garbage(void **state)
{
	struct user u;

	program("echo hello; echo '[1]'; echo '{\"event\":7}'; echo '{\"even'; " HAPPY
		"; printf '{\"event\":\"done\",\"di'");
	assert_int_equal(ask(&u), 0);
	finish(&u);
	assert_int_equal(u.err.code, 0);
	assert_int_equal(u.lines, 3);
	assert_string_equal(json_str(u.result, "disk"), "/disk");
	json_decref(u.result);
}

static void test_no_program(void **state)
{
	struct user u;

	assert_int_equal(ask(&u), 0);
	finish(&u);
	assert_int_equal(u.err.code, -ENOENT);
	assert_non_null(strstr(u.err.msg, "libexec/drover-image"));
	assert_true(list_empty(&r.d.image_jobs));
	assert_int_equal(u.times, 1);
}

static void test_bad_reference(void **state)
{
	struct user u;

	program(HAPPY);
	init(&u);
	assert_int_equal(
		image_job_ref(&r.d, IMAGE_PULL, "UPPER CASE", PULL_MISSING, 0, &u.sub, &u.err),
		-EINVAL);
	assert_int_equal(runs(), 0);
}

static bool no_jobs(void *arg)
{
	return list_empty(&r.d.image_jobs);
}

/* Who leaves hears nothing more; the job goes on for the others, and for nobody. */
static void test_unsub(void **state)
{
	struct user a, b;

	program("sleep 0.2\n" HAPPY);
	assert_int_equal(ask(&a), 0);
	assert_int_equal(ask(&b), 0);
	image_unsub(&a.sub);
	image_unsub(&a.sub);
	finish(&b);
	json_decref(b.result);
	assert_int_equal(a.times, 0);
	assert_int_equal(a.lines, 0);
	assert_int_equal(ask(&a), 0);
	image_unsub(&a.sub);
	drover_rig_until(&r, no_jobs, NULL);
	assert_int_equal(a.times, 0);
	assert_int_equal(runs(), 2);
}

/* A line's listener takes out another one, before or behind it, or itself. */
static void test_unsub_in_line(void **state)
{
	for (size_t victim = 0; victim < 3; victim++) {
		struct user u[3];

		program("sleep 0.2\n" HAPPY);
		for (size_t i = 0; i < 3; i++)
			assert_int_equal(ask(&u[i]), 0);
		u[1].victim = &u[victim].sub;
		for (size_t i = 0; i < 3; i++) {
			if (i != victim)
				finish(&u[i]);
		}
		for (size_t i = 0; i < 3; i++) {
			assert_int_equal(u[i].times, i != victim);
			/* The first line had come to those before the one who did it. */
			assert_int_equal(u[i].lines, i != victim ? 3 : victim <= 1);
			if (i != victim)
				json_decref(u[i].result);
		}
	}
}

static void test_stop(void **state)
{
	struct user a, b;

	program("exec sleep 600");
	assert_int_equal(ask(&a), 0);
	rig_run_for(r.d.loop, 20);
	r.d.stopping = true;
	image_jobs_stop(&r.d);
	finish(&a);
	assert_int_equal(a.err.code, -ECANCELED);
	assert_int_equal(ask(&b), -ECANCELED);
	assert_string_equal(b.err.msg, "droverd is stopping");
}

/* ---- images that come through a registry ---- */

static struct registry reg;

static void add_registry(void)
{
	static char name[] = "ghcr", listen[] = "127.0.0.1:5000";

	reg = (struct registry){
		.d = &r.d, .name = name, .listen = listen, .state = REGISTRY_STARTING
	};
	strv_add(&reg.hosts, "ghcr.io");
	list_init(&reg.waiters);
	deadline_init(&reg.wait_timer, r.d.loop, NULL, NULL);
	list_append(&r.d.registries, &reg.entry);
}

static void remove_registry(void)
{
	list_remove(&reg.entry);
	strv_finish(&reg.hosts);
	deadline_close(&reg.wait_timer, NULL);
}

static void test_waits_for_registry(void **state)
{
	struct user a, b;
	char *text;

	program(HAPPY);
	add_registry();
	assert_int_equal(ask(&a), 0);
	assert_int_equal(ask(&b), 0);
	rig_run_for(r.d.loop, 50);
	assert_int_equal(runs(), 0);
	reg.state = REGISTRY_UP;
	registry_tell_waiters(&reg, NULL);
	finish(&a);
	finish(&b);
	assert_int_equal(runs(), 1);
	text = drover_rig_text(&r, "runs");
	assert_non_null(strstr(text, " --mirror ghcr.io=http://127.0.0.1:5000\n"));
	free(text);
	json_decref(a.result);
	json_decref(b.result);
	remove_registry();
}

static void test_registry_fails(void **state)
{
	struct err no = { -EIO, "the registry is broken" };
	struct user u;

	program(HAPPY);
	add_registry();
	assert_int_equal(ask(&u), 0);
	registry_tell_waiters(&reg, &no);
	assert_int_equal(u.times, 1);
	assert_string_equal(u.err.msg, "the registry is broken");
	/* Up, and then there is nothing to be started. */
	assert_int_equal(ask(&u), 0);
	reg.state = REGISTRY_UP;
	free(r.d.libexec);
	r.d.libexec = strdup("/nonexistent");
	registry_tell_waiters(&reg, NULL);
	finish(&u);
	assert_int_equal(u.times, 1);
	assert_int_equal(u.err.code, -ENOENT);
	remove_registry();
}

static void test_stop_while_waiting(void **state)
{
	struct user u;

	program(HAPPY);
	add_registry();
	assert_int_equal(ask(&u), 0);
	image_jobs_stop(&r.d);
	assert_int_equal(u.times, 1);
	assert_int_equal(u.err.code, -ECANCELED);
	assert_true(list_empty(&reg.waiters));
	assert_int_equal(runs(), 0);
	remove_registry();
}

static bool has_pruned(void *arg)
{
	char *text = drover_rig_text(&r, "runs");
	bool has = text != NULL && strstr(text, "prune --store") != NULL;

	free(text);
	return has;
}

/* The store is nobody's to tidy up while a pull fills it. */
static void test_prune_waits(void **state)
{
	struct user u;
	char *body;

	drover_rig_finish(&r);
	drover_rig_init(&r, "image_budget = 1M\n");
	body = str_printf(
		"if [ $1 = rootfs ]; then while [ ! -e %s/go ]; do sleep 0.02; done; fi\n%s", r.dir,
		HAPPY);
	program(body);
	free(body);
	assert_int_equal(ask(&u), 0);
	assert_int_equal(image_pruner_create(&r.d.pruner, &r.d, NULL), 0);
	/* It is due after a second. */
	rig_run_for(r.d.loop, 1500);
	assert_int_equal(runs(), 1);
	assert_false(has_pruned(NULL));
	drover_rig_put(&r, "go", "");
	finish(&u);
	drover_rig_until(&r, has_pruned, NULL);
	json_decref(u.result);
	image_jobs_stop(&r.d);
	image_pruner_destroy(r.d.pruner);
	r.d.pruner = NULL;
	while (!list_empty(&r.d.image_jobs))
		uv_run(r.d.loop, UV_RUN_ONCE);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_arguments),
		T(test_shared),
		T(test_not_shared),
		T(test_failures),
		T(test_garbage),
		T(test_no_program),
		T(test_bad_reference),
		T(test_unsub),
		T(test_unsub_in_line),
		T(test_stop),
		T(test_waits_for_registry),
		T(test_registry_fails),
		T(test_stop_while_waiting),
		T(test_prune_waits),
	};

	return cmocka_run_group_tests_name("image_job", tests, NULL, NULL);
}
