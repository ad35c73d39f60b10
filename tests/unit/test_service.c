/* Supervised helper processes, with shell scripts for dnsmasq and the registry. */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/service.h"

#define OWNER "vm/web"
#define NAME  "dnsmasq-tap0"

static struct world {
	struct drover_rig r;
	struct service *s;
	char *script, *log;
	bool done, keep_down;
	unsigned deaths;
	struct child_status status;
} w;

static bool died(void *arg, const struct child_status *status)
{
	w.deaths++;
	w.status = *status;
	return !w.keep_down;
}

static struct service *create(void)
{
	struct service_spec spec = {
		.kind = "network", .name = NAME, .owner = OWNER, .log_path = w.log
	};
	struct service_callbacks cb = { .died = died };
	struct service *s = NULL;

	assert_int_equal(service_create(&s, &w.r.d, &spec, &cb, NULL), 0);
	return s;
}

static int setup(void **state)
{
	w = (struct world){ 0 };
	drover_rig_init(&w.r, "");
	w.log = path_join(w.r.dir, "service.log");
	w.script = drover_rig_script(&w.r, "service", "echo ready; exec sleep 600");
	w.s = create();
	return 0;
}

static int teardown(void **state)
{
	service_destroy(w.s);
	drover_rig_finish(&w.r);
	free(w.log);
	free(w.script);
	/* No zombie either. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return 0;
}

static void new_script(const char *body)
{
	free(w.script);
	w.script = drover_rig_script(&w.r, "service", body);
}

static int start(struct err *err)
{
	struct strv argv = { 0 };

	strv_add(&argv, w.script);
	strv_add(&argv, "an argument");
	return service_start(w.s, &argv, err);
}

static void must_start(void)
{
	struct err err;

	if (start(&err) < 0)
		fail_msg("%s", err.msg);
}

static void stopped(void *arg)
{
	assert_false(w.done);
	w.done = true;
}

static void stop(void)
{
	w.done = false;
	service_stop(w.s, stopped, NULL);
	assert_false(w.done);
	rig_run_until(w.r.d.loop, &w.done);
}

static struct object *entry(void)
{
	return ledger_find(w.r.d.ledger, OWNER, OBJECT_PROCESS, NAME);
}

static void assert_recorded(void)
{
	const struct object *o = entry();

	assert_non_null(o);
	assert_int_equal(json_int(o->data, "pid", 0), service_pid(w.s));
	assert_int_equal(json_int(o->data, "starttime", 0), proc_starttime(service_pid(w.s)));
}

static bool is_up(void *arg)
{
	return service_up(w.s);
}

static bool has_died(void *arg)
{
	return w.deaths == *(unsigned *)arg;
}

static bool log_has(void *text)
{
	char *log = drover_rig_text(&w.r, "service.log");
	bool has = log != NULL && strstr(log, text) != NULL;

	free(log);
	return has;
}

/* While a process executes another program it has no environment for a moment. */
static bool environment_has(void *text)
{
	struct buf environment = { 0 };
	char path[64];
	bool has;

	snprintf(path, sizeof(path), "/proc/%d/environ", (int)service_pid(w.s));
	has = file_read(path, 1 << 20, &environment, NULL) == 0 &&
	      memmem(environment.data, environment.len, text, strlen(text) + 1) != NULL;
	buf_finish(&environment);
	return has;
}

/* It is written down with pid and start time, bears the marker, and writes into its log. */
static void test_start(void **state)
{
	char text[600];

	new_script("echo \"$1 $DROVER_OWNER\"; echo complaint >&2; exec sleep 600");
	assert_int_equal(service_pid(w.s), 0);
	must_start();
	assert_true(service_up(w.s));
	assert_recorded();
	snprintf(text, sizeof(text), "DROVER_OWNER=%s:" OWNER ":" NAME, w.r.run_dir);
	drover_rig_until(&w.r, environment_has, text);
	snprintf(text, sizeof(text), "an argument %s:" OWNER ":" NAME "\ncomplaint\n", w.r.run_dir);
	drover_rig_until(&w.r, log_has, text);
	assert_int_equal(getsid(service_pid(w.s)), service_pid(w.s));
	assert_string_equal(drover_rig_events(&w.r), "network " NAME " started\n");
	stop();
	assert_null(entry());
	/* A stop is no death. */
	assert_int_equal(w.deaths, 0);
	assert_string_equal(drover_rig_events(&w.r), "network " NAME " started\n");
}

/* Its log is appended to, by each of its lives. */
static void test_descriptor_and_log(void **state)
{
	int p[2];
	char got[8] = "";

	drover_rig_put(&w.r, "service.log", "from before\n");
	new_script("echo hello >&7; echo now; exec sleep 600");
	assert_int_equal(pipe(p), 0);
	service_set_fd(w.s, p[1], 7);
	must_start();
	close(p[1]);
	assert_int_equal(read(p[0], got, 6), 6);
	assert_string_equal(got, "hello\n");
	close(p[0]);
	drover_rig_until(&w.r, log_has, "from before\nnow\n");
	stop();
}

/* Killed: told, and started again after a pause, with the same command. */
static void test_death(void **state)
{
	unsigned one = 1;
	pid_t first;

	must_start();
	first = service_pid(w.s);
	kill(first, SIGKILL);
	drover_rig_until(&w.r, has_died, &one);
	assert_true(w.status.signaled);
	assert_int_equal(w.status.code, SIGKILL);
	assert_false(service_up(w.s));
	assert_int_equal(service_pid(w.s), 0);
	drover_rig_until(&w.r, is_up, NULL);
	assert_int_not_equal(service_pid(w.s), first);
	assert_recorded();
	assert_string_equal(drover_rig_events(&w.r), "network " NAME " started\n"
						     "network " NAME " died\n"
						     "network " NAME " started\n");
	stop();
}

static bool is_another(void *arg)
{
	return service_pid(w.s) != 0 && service_pid(w.s) != *(pid_t *)arg;
}

/* Its owner's own doing is no death; while it is down it does not wait for its turn. */
static void test_restart(void **state)
{
	unsigned one = 1;
	pid_t first;

	w.keep_down = true;
	must_start();
	first = service_pid(w.s);
	service_restart(w.s);
	service_restart(w.s);
	drover_rig_until(&w.r, is_another, &first);
	assert_recorded();
	assert_int_equal(w.deaths, 0);
	assert_string_equal(drover_rig_events(&w.r), "network " NAME " started\n"
						     "network " NAME " started\n");
	kill(service_pid(w.s), SIGKILL);
	drover_rig_until(&w.r, has_died, &one);
	service_restart(w.s);
	drover_rig_until(&w.r, is_up, NULL);
	service_restart(w.s);
	stop();
	assert_null(entry());
}

/* The owner may want to start it in its own way. */
static void test_death_kept_down(void **state)
{
	unsigned one = 1;

	w.keep_down = true;
	must_start();
	kill(service_pid(w.s), SIGTERM);
	drover_rig_until(&w.r, has_died, &one);
	rig_run_for(w.r.d.loop, 500);
	assert_false(service_up(w.s));
	assert_string_equal(
		drover_rig_events(&w.r), "network " NAME " started\nnetwork " NAME " died\n");
	/* What has died is still to be crossed out. */
	assert_non_null(entry());
	stop();
	assert_null(entry());
}

/* A stop during the pause before the next start: it does not come back. */
static void test_stop_in_backoff(void **state)
{
	unsigned one = 1;

	must_start();
	kill(service_pid(w.s), SIGKILL);
	drover_rig_until(&w.r, has_died, &one);
	stop();
	assert_null(entry());
	rig_run_for(w.r.d.loop, 500);
	assert_false(service_up(w.s));
	assert_int_equal(w.deaths, 1);
}

/* Its program is gone for a while: tried until it is back. */
static void test_restart_fails(void **state)
{
	char *away = path_join(w.r.dir, "away");
	unsigned one = 1;

	must_start();
	assert_int_equal(rename(w.script, away), 0);
	kill(service_pid(w.s), SIGKILL);
	drover_rig_until(&w.r, has_died, &one);
	rig_run_for(w.r.d.loop, 300);
	assert_false(service_up(w.s));
	assert_int_equal(rename(away, w.script), 0);
	drover_rig_until(&w.r, is_up, NULL);
	assert_recorded();
	free(away);
	stop();
}

static void test_stop_escalates(void **state)
{
	pid_t pid;

	new_script("trap '' TERM; echo deaf; while :; do sleep 0.1; done");
	must_start();
	pid = service_pid(w.s);
	drover_rig_until(&w.r, log_has, "deaf\n");
	stop();
	assert_int_equal(proc_starttime(pid), 0);
	assert_null(entry());
	/* The sleep that it left behind ends by itself. */
}

static void test_stop_of_nothing(void **state)
{
	stop();
	assert_null(entry());
	assert_string_equal(drover_rig_events(&w.r), "");
}

/* Stopped, then started again: by the next registry with the same object. */
static void test_start_after_stop(void **state)
{
	must_start();
	stop();
	must_start();
	assert_true(service_up(w.s));
	assert_recorded();
	stop();
}

/* The next daemon finds it by the ledger, and sees it die. */
static void test_adoption(void **state)
{
	struct strv argv = { 0 };
	unsigned one = 1;
	pid_t pid;

	must_start();
	pid = service_pid(w.s);
	service_destroy(w.s);
	w.s = create();
	assert_int_not_equal(proc_starttime(pid), 0);
	strv_add(&argv, w.script);
	assert_int_equal(service_adopt(w.s, &argv, NULL), 0);
	assert_null(argv.v);
	assert_int_equal(service_pid(w.s), pid);
	kill(pid, SIGKILL);
	drover_rig_until(&w.r, has_died, &one);
	drover_rig_until(&w.r, is_up, NULL);
	assert_int_not_equal(service_pid(w.s), pid);
	assert_recorded();
	stop();
}

static void test_nothing_to_adopt(void **state)
{
	struct ledger *l = w.r.d.ledger;
	struct strv argv = { 0 };
	struct err err;

	assert_int_equal(service_adopt(w.s, &argv, &err), -ESRCH);
	assert_string_equal(err.msg, NAME ": no process of an earlier daemon is known");
	/* Written down and not spawned: the daemon was killed between the two. */
	assert_int_equal(ledger_add(l, OWNER, OBJECT_PROCESS, NAME, NULL, NULL), 0);
	assert_int_equal(service_adopt(w.s, &argv, NULL), -ESRCH);
	/* Its pid is another's now: this process's, which must not be taken for it. */
	assert_int_equal(
		ledger_add(l, OWNER, OBJECT_PROCESS, NAME,
			json_pack("{s:i,s:i}", "pid", (int)getpid(), "starttime", 1), NULL),
		0);
	assert_int_equal(service_adopt(w.s, &argv, NULL), -ESRCH);
	assert_int_equal(ledger_add(l, OWNER, OBJECT_PROCESS, NAME,
				 json_pack("{s:s,s:b}", "pid", "7", "starttime", 1), NULL),
		0);
	assert_int_equal(service_adopt(w.s, &argv, NULL), -ESRCH);
	assert_false(service_up(w.s));
	stop();
}

static void test_orphan(void **state)
{
	pid_t pid;

	must_start();
	pid = service_pid(w.s);
	service_destroy(w.s);
	w.s = NULL;
	service_stop_orphan(&w.r.d, OWNER, entry(), stopped, NULL);
	assert_false(w.done);
	rig_run_until(w.r.d.loop, &w.done);
	assert_int_equal(proc_starttime(pid), 0);
	assert_null(entry());
}

static void test_orphan_gone(void **state)
{
	assert_int_equal(
		ledger_add(w.r.d.ledger, OWNER, OBJECT_PROCESS, NAME,
			json_pack("{s:i,s:i}", "pid", (int)getpid(), "starttime", 1), NULL),
		0);
	service_stop_orphan(&w.r.d, OWNER, entry(), stopped, NULL);
	assert_false(w.done);
	rig_run_until(w.r.d.loop, &w.done);
	assert_null(entry());
}

/* Let go of: it runs on and stays in the ledger. */
static void test_destroy(void **state)
{
	pid_t pid;

	must_start();
	pid = service_pid(w.s);
	assert_recorded();
	service_destroy(w.s);
	w.s = NULL;
	service_destroy(NULL);
	rig_run_for(w.r.d.loop, 50);
	assert_int_not_equal(proc_starttime(pid), 0);
	assert_non_null(entry());
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void assert_cannot_start(int code, const char *text)
{
	unsigned fds = rig_count_fds();
	struct err err;

	assert_int_equal(start(&err), code);
	if (strstr(err.msg, text) == NULL)
		fail_msg("%s", err.msg);
	assert_true(str_starts(err.msg, NAME ": "));
	assert_false(service_up(w.s));
	assert_int_equal(rig_count_fds(), fds);
	assert_string_equal(drover_rig_events(&w.r), "");
	rig_run_for(w.r.d.loop, 300);
	assert_false(service_up(w.s));
	assert_int_equal(w.deaths, 0);
	stop();
	assert_null(entry());
}

static void test_no_program(void **state)
{
	unlink(w.script);
	assert_cannot_start(-ENOENT, "service': No such file or directory");
}

static void test_no_log(void **state)
{
	assert_int_equal(mkdir(w.log, 0700), 0);
	assert_cannot_start(-EISDIR, "service.log': Is a directory");
}

static void test_no_descriptors(void **state)
{
	struct rlimit old, none = { 3, 0 };
	struct err err;
	int r;

	getrlimit(RLIMIT_NOFILE, &old);
	none.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_NOFILE, &none);
	r = start(&err);
	setrlimit(RLIMIT_NOFILE, &old);
	assert_int_equal(r, -EMFILE);
	assert_false(service_up(w.s));
	must_start();
	stop();
}

/* No room for the first entry: nothing is started. */
static void test_no_room_before(void **state)
{
	struct rlimit old, one = { 1, 0 };
	struct err err;
	int r;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	one.rlim_max = old.rlim_max;
	setrlimit(RLIMIT_FSIZE, &one);
	r = start(&err);
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	assert_int_equal(r, -EFBIG);
	assert_false(service_up(w.s));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	must_start();
	stop();
}

/* What is known of the process does not fit on the disk, though its entry before the spawn did:
 * a process that is not written down does not stay. */
static void test_no_room_after(void **state)
{
	struct rlimit old, limit;
	struct err err;
	char *text;
	int r;

	assert_int_equal(ledger_add(w.r.d.ledger, OWNER, OBJECT_PROCESS, NAME, NULL, NULL), 0);
	text = drover_rig_text(&w.r, "run/ledger/vm:web");
	assert_non_null(text);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit = (struct rlimit){ strlen(text), old.rlim_max };
	setrlimit(RLIMIT_FSIZE, &limit);
	r = start(&err);
	setrlimit(RLIMIT_FSIZE, &old);
	signal(SIGXFSZ, SIG_DFL);
	free(text);
	assert_int_equal(r, -EFBIG);
	/* It is our only child: killed, and reaped by the loop. */
	assert_false(service_up(w.s));
	assert_int_equal(service_pid(w.s), 0);
	rig_run_for(w.r.d.loop, 300);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(w.deaths, 0);
	assert_string_equal(drover_rig_events(&w.r), "");
	must_start();
	assert_recorded();
	stop();
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_start),
		T(test_descriptor_and_log),
		T(test_death),
		T(test_restart),
		T(test_death_kept_down),
		T(test_stop_in_backoff),
		T(test_restart_fails),
		T(test_stop_escalates),
		T(test_stop_of_nothing),
		T(test_start_after_stop),
		T(test_adoption),
		T(test_nothing_to_adopt),
		T(test_orphan),
		T(test_orphan_gone),
		T(test_destroy),
		T(test_no_program),
		T(test_no_log),
		T(test_no_descriptors),
		T(test_no_room_before),
		T(test_no_room_after),
	};

	return cmocka_run_group_tests_name("service", tests, NULL, NULL);
}
