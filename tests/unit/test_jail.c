/* drover-jail as a program, and what droverd reads of it. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hv/jail.h"
#include "lib/file.h"
#include "tests/unit/hv-rig.h"

struct run {
	char *dir, *jail;
	pid_t pid;   /* of the jail */
	int status;  /* pipe that tells the pid */
	int keep[2]; /* a pipe whose writing end the program gets as descriptor 9 */
	char line[600];
	pid_t child;
	uint64_t starttime;
};

/* As the worst of parents leaves it, libc's own signals too, which signal() does not touch. */
static void ignore_and_block_all(void)
{
	static const unsigned long ignore[8] = { 1 };
	sigset_t all;

	for (int sig = 1; sig < NSIG; sig++)
		syscall(SYS_rt_sigaction, sig, ignore, NULL, (NSIG - 1) / 8);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Starts a jail around sh -c script, as droverd would, and reads its line. */
static void start(struct run *r, const char *program, const char *script)
{
	int p[2];
	ssize_t n;

	*r = (struct run){ .dir = rig_tmp(), .jail = hv_rig_program("drover-jail") };
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	assert_int_equal(pipe2(r->keep, O_CLOEXEC), 0);
	r->pid = fork();
	if (r->pid == 0) {
		ignore_and_block_all();
		dup2(p[1], 8);
		dup2(r->keep[1], 9);
		execl(r->jail, r->jail, "--run-dir", r->dir, "--status-fd", "8", "--", program,
			"-c", script, "name", NULL);
		_exit(99);
	}
	close(p[1]);
	close(r->keep[1]);
	n = read(p[0], r->line, sizeof(r->line) - 1);
	r->line[n > 0 ? n : 0] = '\0';
	r->line[strcspn(r->line, "\n")] = '\0';
	close(p[0]);
}

static void started(struct run *r)
{
	struct err err;

	if (jail_parse_line(r->line, &r->child, &r->starttime, &err) < 0)
		fail_msg("%s", err.msg);
}

static int wait_for_jail(struct run *r)
{
	int status = -1;

	assert_int_equal(waitpid(r->pid, &status, 0), r->pid);
	return status;
}

static void finish(struct run *r)
{
	close(r->keep[0]);
	free(r->jail);
	rig_tmp_finish(r->dir);
}

static void assert_exit_file(struct run *r, bool signaled, int code)
{
	struct child_status st = { 0 };
	struct err err;

	if (jail_read_exit(r->dir, r->child, r->starttime, &st, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(st.known);
	assert_int_equal(st.signaled, signaled);
	assert_int_equal(st.code, code);
}

/* The first line that it prints when a person calls it. */
static void ask(const char *option, char *line, size_t cap, int *status)
{
	char *jail = hv_rig_program("drover-jail"), command[4096];
	FILE *f;

	snprintf(command, sizeof(command), "%s %s", jail, option);
	f = popen(command, "r");
	assert_non_null(f);
	if (fgets(line, (int)cap, f) == NULL)
		line[0] = '\0';
	*status = pclose(f);
	free(jail);
}

static void test_a_person_asks(void **state)
{
	char line[200];
	int status;

	ask("--help", line, sizeof(line), &status);
	assert_int_equal(status, 0);
	assert_non_null(strstr(line, "usage: drover-jail "));
	ask("--version", line, sizeof(line), &status);
	assert_int_equal(status, 0);
	assert_non_null(strstr(line, "drover-jail 0."));
}

static void test_exit_status(void **state)
{
	struct run r;
	int status;

	start(&r, "/bin/sh", "read x </proc/self/stat; exit 7");
	started(&r);
	status = wait_for_jail(&r);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_exit_file(&r, false, 7);
	/* Of this process, and of no other. */
	assert_int_equal(
		jail_read_exit(r.dir, r.child, r.starttime + 1, &(struct child_status){ 0 }, NULL),
		-ESTALE);
	assert_int_equal(
		jail_read_exit(r.dir, r.child + 1, r.starttime, &(struct child_status){ 0 }, NULL),
		-ESTALE);
	jail_remove_exit(r.dir);
	assert_int_equal(
		jail_read_exit(r.dir, r.child, r.starttime, &(struct child_status){ 0 }, NULL),
		-ENOENT);
	finish(&r);
}

static void test_signal(void **state)
{
	struct run r;
	int status;

	start(&r, "/bin/sh", "kill -9 $$");
	started(&r);
	status = wait_for_jail(&r);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_exit_file(&r, true, SIGKILL);
	finish(&r);
}

/* The line tells the truth; signals that end others leave the jail alone. */
static void test_survives(void **state)
{
	static const int sigs[] = { SIGHUP, SIGINT, SIGQUIT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2 };
	struct run r;

	start(&r, "/bin/sh", "exec sleep 60");
	started(&r);
	assert_int_equal(proc_starttime(r.child), r.starttime);
	for (size_t i = 0; i < ARRAY_LEN(sigs); i++)
		kill(r.pid, sigs[i]);
	assert_int_equal(waitpid(r.pid, NULL, WNOHANG), 0);
	kill(r.child, SIGTERM);
	wait_for_jail(&r);
	assert_exit_file(&r, true, SIGTERM);
	finish(&r);
}

/* What was meant for the hypervisor is not kept open; its pipe ends with it. */
static void test_descriptors(void **state)
{
	struct run r;
	char text[64] = "", path[64];

	start(&r, "/bin/sh",
		"echo hello >&9; exec 9>&-; "
		"exec sleep 60");
	started(&r);
	assert_int_equal(read(r.keep[0], text, 6), 6);
	memset(text, 0, sizeof(text));
	/* EOF comes although sleep lives: the jail has let go. */
	for (size_t n = 0; n < sizeof(text) - 1;) {
		ssize_t got = read(r.keep[0], text + n, sizeof(text) - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	snprintf(path, sizeof(path), "/proc/%d/fd/3", (int)r.pid);
	assert_int_equal(access(path, F_OK), -1);
	kill(r.child, SIGKILL);
	wait_for_jail(&r);
	finish(&r);
}

/* Signals are at their defaults, no new privileges are to be had, and it leads no session. */
static void test_environment(void **state)
{
	struct run r;
	char text[400] = "";
	size_t n = 0;
	ssize_t got;

	/* Whatever we were started with. */
	signal(SIGTTOU, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	start(&r, "/bin/sh", "grep -E '^(Sig(Ign|Blk)|NoNewPrivs)' /proc/self/status >&9");
	started(&r);
	while ((got = read(r.keep[0], text + n, sizeof(text) - 1 - n)) > 0)
		n += (size_t)got;
	assert_non_null(strstr(text, "SigIgn:\t0000000000000000"));
	assert_non_null(strstr(text, "SigBlk:\t0000000000000000"));
	assert_non_null(strstr(text, "NoNewPrivs:\t1"));
	wait_for_jail(&r);
	finish(&r);
}

static void test_no_program(void **state)
{
	struct run r;
	struct err err;

	start(&r, "/nonexistent/hypervisor", "");
	assert_int_equal(jail_parse_line(r.line, &r.child, &r.starttime, &err), -EIO);
	assert_string_equal(
		err.msg, "cannot execute /nonexistent/hypervisor: No such file or directory");
	assert_int_equal(WEXITSTATUS(wait_for_jail(&r)), 127);
	assert_int_equal(jail_read_exit(r.dir, 1, 1, &(struct child_status){ 0 }, NULL), -ENOENT);
	finish(&r);
}

static void test_parse_line(void **state)
{
	static const char *const bad[] = { "", "12", "12 x", "-3 5", "12 34 56", "0 1", "x 1" };
	uint64_t start_time = 0;
	pid_t pid = 0;

	assert_int_equal(jail_parse_line("123 456789012345", &pid, &start_time, NULL), 0);
	assert_int_equal(pid, 123);
	assert_int_equal(start_time, 456789012345);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(jail_parse_line(bad[i], &pid, &start_time, NULL), -EBADMSG);
}

static void test_bad_exit_file(void **state)
{
	static const char *const bad[] = { "", "{", "[]", "{\"pid\":1}",
		"{\"pid\":1,\"starttime\":2,\"status\":\"x\"}",
		"{\"pid\":1,\"starttime\":2,\"status\":-4}" };
	char *dir = rig_tmp(), *path = path_join(dir, "exit");
	struct child_status st;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(
			file_write_atomic(path, bad[i], strlen(bad[i]), 0600, false, NULL), 0);
		assert_int_equal(jail_read_exit(dir, 1, 2, &st, NULL), -EBADMSG);
	}
	free(path);
	rig_tmp_finish(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_person_asks),
		cmocka_unit_test(test_exit_status),
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_survives),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_no_program),
		cmocka_unit_test(test_parse_line),
		cmocka_unit_test(test_bad_exit_file),
	};

	return cmocka_run_group_tests_name("jail", tests, NULL, NULL);
}
