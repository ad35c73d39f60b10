/* Processes that nothing names but their marker: found, told from others, ended. */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/child.h"
#include "supervisor/marker.h"
#include "supervisor/strays.h"

static struct world {
	struct drover_rig r;
	bool done;
} w;

static int setup(void **state)
{
	w = (struct world){ 0 };
	drover_rig_init(&w.r, "");
	return 0;
}

static int teardown(void **state)
{
	drover_rig_finish(&w.r);
	return 0;
}

/* ---- markers ---- */

static void test_make(void **state)
{
	char *text = marker_make("/run/drover", "vm/web-1", "hypervisor");

	assert_string_equal(text, "DROVER_OWNER=/run/drover:vm/web-1:hypervisor");
	free(text);
}

/* environment ends with its NUL unless cut. */
static int parse(const char *environment, size_t len, const char *run_dir)
{
	char *owner = NULL, *name = NULL, *copy = malloc(len + 1);
	int r;

	memcpy(copy, environment, len);
	r = marker_parse(copy, len, run_dir, &owner, &name);
	if (r == 0) {
		assert_string_equal(owner, "vm/web");
		assert_string_equal(name, "dnsmasq-tap0");
	}
	free(owner);
	free(name);
	free(copy);
	return r;
}

#define PARSE(text) parse(text, sizeof(text), "/run/d")

static void test_parse(void **state)
{
	assert_int_equal(PARSE("DROVER_OWNER=/run/d:vm/web:dnsmasq-tap0"), 0);
	assert_int_equal(PARSE("A=1\0DROVER_OWNER=/run/d:vm/web:dnsmasq-tap0\0B=2"), 0);
	assert_int_equal(PARSE(""), -ENOENT);
	assert_int_equal(parse("", 0, "/run/d"), -ENOENT);
	assert_int_equal(PARSE("A=1\0B=2"), -ENOENT);
	/* Another droverd's, one whose folder only begins alike, and one in a folder with a colon. */
	assert_int_equal(PARSE("DROVER_OWNER=/run/other:vm/web:dnsmasq-tap0"), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d2:vm/web:dnsmasq-tap0"), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d:x:vm/web:dnsmasq-tap0"), -ENOENT);
	assert_int_equal(parse("DROVER_OWNER=/run/d:x:vm/web:dnsmasq-tap0",
				 sizeof("DROVER_OWNER=/run/d:x:vm/web:dnsmasq-tap0"), "/run/d:x"),
		0);
	/* Parts are missing, or empty. */
	assert_int_equal(PARSE("DROVER_OWNER="), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d"), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d:"), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d:vm/web"), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d:vm/web:"), -ENOENT);
	assert_int_equal(PARSE("DROVER_OWNER=/run/d::dnsmasq-tap0"), -ENOENT);
	/* Only a variable of this very name, at its beginning. */
	assert_int_equal(PARSE("XDROVER_OWNER=/run/d:vm/web:dnsmasq-tap0"), -ENOENT);
	assert_int_equal(PARSE("X=DROVER_OWNER=/run/d:vm/web:dnsmasq-tap0"), -ENOENT);
	/* Cut off: what it would have been is not known. */
	assert_int_equal(parse("DROVER_OWNER=/run/d:vm/web:dnsmasq-tap0",
				 strlen("DROVER_OWNER=/run/d:vm/web:dnsmasq-tap0"), "/run/d"),
		-ENOENT);
	assert_int_equal(parse("DROVER_OWN", 10, "/run/d"), -ENOENT);
}

/* ---- processes ---- */

/* A process with our marker, as a killed daemon leaves it; owner NULL: without. */
static pid_t spawn(const char *run_dir, const char *owner, const char *name, const char *script)
{
	char *marker = marker_make(run_dir, owner != NULL ? owner : "", name), buf[2];
	char *envp[] = { owner != NULL ? marker : NULL, NULL };
	char *argv[] = { "sh", "-c", (char *)(uintptr_t)script, NULL };
	pid_t pid;
	int p[2];

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], 1);
		close(p[0]);
		close(p[1]);
		execve("/bin/sh", argv, envp);
		_exit(99);
	}
	close(p[1]);
	free(marker);
	/* The script says "x" when it is as it shall be. */
	assert_int_equal(read(p[0], buf, 1), 1);
	close(p[0]);
	return pid;
}

#define SLEEP "echo x; exec sleep 600 >/dev/null"

static void cleared(void *arg)
{
	assert_false(w.done);
	w.done = true;
}

static void clear(const struct known_process *known, size_t n)
{
	w.done = false;
	strays_clear(&w.r.d, known, n, cleared, NULL);
	rig_run_until(w.r.d.loop, &w.done);
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_scan(void **state)
{
	pid_t ours = spawn(w.r.run_dir, "vm/web", "hypervisor", SLEEP);
	pid_t other = spawn("/run/other", "vm/web", "hypervisor", SLEEP);
	pid_t none = spawn(w.r.run_dir, NULL, "", SLEEP);
	struct marked *v = NULL;
	size_t n = 0;

	assert_int_equal(marker_scan(w.r.run_dir, &v, &n, NULL), 0);
	assert_int_equal(n, 1);
	assert_int_equal(v[0].pid, ours);
	assert_int_equal(v[0].starttime, proc_starttime(ours));
	assert_string_equal(v[0].owner, "vm/web");
	assert_string_equal(v[0].name, "hypervisor");
	marked_free(v, n);
	/* A zombie is no living process. */
	kill(ours, SIGKILL);
	while (proc_starttime(ours) != 0)
		usleep(1000);
	assert_int_equal(marker_scan(w.r.run_dir, &v, &n, NULL), 0);
	assert_int_equal(n, 0);
	marked_free(v, n);
	assert_int_equal(waitpid(ours, NULL, 0), ours);
	end(other);
	end(none);
}

/* Nothing to do: done from within the call. */
static void test_none(void **state)
{
	strays_clear(&w.r.d, NULL, 0, cleared, NULL);
	assert_true(w.done);
}

static void test_clear(void **state)
{
	pid_t a = spawn(w.r.run_dir, "vm/web", "hypervisor", SLEEP);
	pid_t b = spawn(w.r.run_dir, "vm/gone", "dnsmasq-tap0", SLEEP);
	pid_t other = spawn("/run/other", "vm/web", "hypervisor", SLEEP);

	clear(NULL, 0);
	assert_int_equal(proc_starttime(a), 0);
	assert_int_equal(proc_starttime(b), 0);
	assert_int_not_equal(proc_starttime(other), 0);
	end(other);
}

/* It does not heed SIGTERM. */
static void test_deaf(void **state)
{
	pid_t pid = spawn(w.r.run_dir, "vm/web", "hypervisor",
		"trap '' TERM; echo x; exec sleep 600 >/dev/null");

	clear(NULL, 0);
	assert_int_equal(proc_starttime(pid), 0);
}

/* What a state file or the ledger names, by pid and start time, is left alone. */
static void test_known(void **state)
{
	pid_t known = spawn(w.r.run_dir, "vm/a", "hypervisor", SLEEP);
	pid_t written = spawn(w.r.run_dir, "vm/b", "dnsmasq-tap0", SLEEP);
	pid_t reused = spawn(w.r.run_dir, "vm/c", "hypervisor", SLEEP);
	pid_t reused_too = spawn(w.r.run_dir, "vm/d", "dnsmasq-tap1", SLEEP);
	pid_t unspawned = spawn(w.r.run_dir, "vm/e", "dnsmasq-tap2", SLEEP);
	struct known_process v[] = {
		{ 2147483646, 1 },
		{ reused, proc_starttime(reused) + 1 },
		{ known, proc_starttime(known) },
		{ 1, 1 },
	};

	assert_int_equal(ledger_add(w.r.d.ledger, "vm/b", OBJECT_PROCESS, "dnsmasq-tap0",
				 json_pack("{s:i,s:I}", "pid", (int)written, "starttime",
					 (json_int_t)proc_starttime(written)),
				 NULL),
		0);
	assert_int_equal(
		ledger_add(w.r.d.ledger, "vm/d", OBJECT_PROCESS, "dnsmasq-tap1",
			json_pack("{s:i,s:i}", "pid", (int)reused_too, "starttime", 1), NULL),
		0);
	assert_int_equal(
		ledger_add(w.r.d.ledger, "vm/e", OBJECT_PROCESS, "dnsmasq-tap2", NULL, NULL), 0);
	clear(v, ARRAY_LEN(v));
	assert_int_not_equal(proc_starttime(known), 0);
	assert_int_not_equal(proc_starttime(written), 0);
	assert_int_equal(proc_starttime(reused), 0);
	assert_int_equal(proc_starttime(reused_too), 0);
	assert_int_equal(proc_starttime(unspawned), 0);
	end(known);
	end(written);
}

/* A jail that is ended starts its hypervisor all the same: found when it is looked again. */
static void test_again(void **state)
{
	pid_t pid = spawn(w.r.run_dir, "vm/web", "hypervisor",
		"trap 'sleep 600 >/dev/null & exit 0' TERM; echo x;"
		" while :; do sleep 0.05; done >/dev/null");
	struct marked *v = NULL;
	size_t n = 0;

	clear(NULL, 0);
	assert_int_equal(proc_starttime(pid), 0);
	assert_int_equal(marker_scan(w.r.run_dir, &v, &n, NULL), 0);
	assert_int_equal(n, 0);
	marked_free(v, n);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_parse),
		T(test_scan),
		T(test_none),
		T(test_clear),
		T(test_deaf),
		T(test_known),
		T(test_again),
	};

	return cmocka_run_group_tests_name("strays", tests, NULL, NULL);
}
