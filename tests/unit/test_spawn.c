/* What a child gets from us, and what it does not; the errors of each step on the way to exec. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/spawn.h"

#define WAIT_MS 30000

/* Its exit status once it has ended, -1 for a signal; the pidfd is closed. */
static int reap(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	siginfo_t info = { 0 };

	assert_int_equal(poll(&p, 1, WAIT_MS), 1);
	assert_int_equal(waitid((idtype_t)P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
	close(pidfd);
	return info.si_code == CLD_EXITED ? info.si_status : -1;
}

/* Runs a script with spec's other settings; what it says on its standard output. malloc'd. */
static char *say(struct child_spec spec, const char *script)
{
	char *argv[] = { "sh", "-c", (char *)script, NULL };
	struct child_fd fds[8];
	struct buf out = { 0 };
	char chunk[4096];
	int pipefd[2], pidfd;
	struct err err;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	for (size_t i = 0; i < spec.nfds; i++)
		fds[i] = spec.fds[i];
	fds[spec.nfds++] = (struct child_fd){ pipefd[1], 1 };
	spec.fds = fds;
	spec.file = "/bin/sh";
	spec.argv = argv;
	if (spawn_process(&spec, &pid, &pidfd, &err) < 0)
		fail_msg("%s", err.msg);
	close(pipefd[1]);
	while ((n = read(pipefd[0], chunk, sizeof(chunk))) > 0)
		buf_add(&out, chunk, (size_t)n);
	close(pipefd[0]);
	assert_int_equal(reap(pidfd), 0);
	while (out.len > 0 && out.data[out.len - 1] == '\n')
		out.data[--out.len] = '\0';
	return out.data != NULL ? buf_steal(&out) : strdup("");
}

static void assert_says(struct child_spec spec, const char *script, const char *text)
{
	char *out = say(spec, script);

	assert_string_equal(out, text);
	free(out);
}

static void no_spec_means_as_little_as_possible(void **state)
{
	struct child_spec none = { 0 };

	assert_says(none, "pwd -P", "/");
	assert_says(none, "readlink /proc/self/fd/0", "/dev/null");
	assert_says(none, "readlink /proc/$$/fd/2", "/dev/null");
	/* It leads a group, so that one signal reaches what it has started, in our session. */
	assert_says(none,
		"set -- $(cut -d')' -f2 /proc/$$/stat); [ $3 = $$ ] && [ $4 != $$ ] && echo y",
		"y");
}

/* Whatever we, or who started us, have ignored, blocked or caught. */
static void signals_are_as_at_boot(void **state)
{
	static const int ignored[] = { SIGPIPE, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGTSTP,
		SIGTTOU };
	struct sigaction old[ARRAY_LEN(ignored)], ign = { .sa_handler = SIG_IGN };
	sigset_t all, mask, after;

	for (size_t i = 0; i < ARRAY_LEN(ignored); i++)
		assert_int_equal(sigaction(ignored[i], &ign, &old[i]), 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &mask);
	assert_says((struct child_spec){ 0 },
		"grep -E 'Sig(Ign|Blk)' /proc/self/status | tr -s '\\t\\n' '  '",
		"SigBlk: 0000000000000000 SigIgn: 0000000000000000 ");
	/* And ours are as they were. */
	sigprocmask(SIG_SETMASK, &mask, &after);
	assert_true(sigismember(&after, SIGUSR2));
	for (size_t i = 0; i < ARRAY_LEN(ignored); i++) {
		struct sigaction now;

		assert_int_equal(sigaction(ignored[i], &old[i], &now), 0);
		assert_true(now.sa_handler == SIG_IGN);
	}
}

static void a_session_of_its_own(void **state)
{
	assert_says((struct child_spec){ .new_session = true },
		"set -- $(cut -d')' -f2 /proc/$$/stat); [ $3 = $$ ] && [ $4 = $$ ] && echo y", "y");
}

static void the_environment_is_ours_or_as_given(void **state)
{
	char *const given[] = { "A=1", "AB=2", "C=3", NULL };

	setenv("DROVER_TEST_VARIABLE", "here", 1);
	assert_says((struct child_spec){ 0 }, "echo $DROVER_TEST_VARIABLE", "here");
	assert_says((struct child_spec){ .env = "DROVER_TEST_VARIABLE=there=x" },
		"echo \"$DROVER_TEST_VARIABLE$(env | grep -c '^DROVER_TEST_VARIABLE=')\"",
		"there=x1");
	assert_string_equal(getenv("DROVER_TEST_VARIABLE"), "here");
	unsetenv("DROVER_TEST_VARIABLE");
	assert_says((struct child_spec){ .envp = given }, "echo $A$AB$C$HOME", "123");
	/* One that is replaced is one of exactly this name. */
	assert_says((struct child_spec){ .envp = given, .env = "A=x" }, "echo $A$AB$C", "x23");
	assert_says((struct child_spec){ .envp = given, .env = "D=x" }, "echo $A$AB$C$D", "123x");
}

static void the_folder_and_the_limits(void **state)
{
	char *dir = rig_tmp(), *real = realpath(dir, NULL);

	assert_says((struct child_spec){ .cwd = dir }, "pwd -P", real);
	assert_says((struct child_spec){ .rlimit_as = 512u << 20, .rlimit_fsize = 1u << 20 },
		"awk '/Max address space/ { print $4, $5 } /Max file size/ { print $4, $5 }' "
		"/proc/self/limits | sort",
		"1048576 1048576\n536870912 536870912");
	free(real);
	rig_tmp_finish(dir);
}

/* Numbers that are in use by others of the list, by us, or far above. */
static void descriptors_cross_without_harm(void **state)
{
	char *dir = rig_tmp(), *path[3], *out;
	struct child_fd fds[4];
	int fd[3];

	for (int i = 0; i < 3; i++) {
		path[i] = str_printf("%s/%d", dir, i);
		assert_int_equal(
			file_write_atomic(path[i], path[i] + strlen(dir) + 1, 1, 0600, false, NULL),
			0);
		fd[i] = open(path[i], O_RDONLY | O_CLOEXEC);
		assert_true(fd[i] >= 0);
	}
	/* A cycle of three, and one of them a second time as its standard input. */
	for (int i = 0; i < 3; i++)
		fds[i] = (struct child_fd){ fd[i], fd[(i + 1) % 3] };
	fds[3] = (struct child_fd){ fd[1], 0 };
	out = str_printf(
		"for i in %d %d %d 0; do basename $(readlink /proc/$$/fd/$i); done | tr -d '\\n'",
		fd[0], fd[1], fd[2]);
	assert_says((struct child_spec){ .fds = fds, .nfds = 4 }, out, "2011");
	free(out);
	fds[0] = (struct child_fd){ fd[2], 200 };
	assert_says((struct child_spec){ .fds = fds, .nfds = 1 },
		"basename $(readlink /proc/$$/fd/200)", "2");
	/* Ours are open still, and close at an exec still. */
	for (int i = 0; i < 3; i++) {
		assert_int_equal(fcntl(fd[i], F_GETFD), FD_CLOEXEC);
		close(fd[i]);
		free(path[i]);
	}
	rig_tmp_finish(dir);
}

static void nothing_else_is_inherited(void **state)
{
	int leak = open("/dev/null", O_RDONLY), high = fcntl(leak, F_DUPFD, 500);

	/* 0, 1 and 2, the shell's own are closed by its exec. */
	assert_says((struct child_spec){ 0 }, "exec ls /proc/self/fd", "0\n1\n2\n3");
	/* They were only marked in the child's table, not in ours. */
	assert_int_equal(fcntl(leak, F_GETFD), 0);
	assert_int_equal(fcntl(high, F_GETFD), 0);
	close(leak);
	close(high);
}

static void the_user_and_the_group(void **state)
{
	struct child_spec spec = { .uid = 12345, .gid = 23456 };

	if (geteuid() != 0) {
		print_message("changing the user needs root\n");
		skip();
	}
	assert_says(spec,
		"id -u; id -g; id -G; awk '/^Cap(Eff|Prm)/ { print $2 }' /proc/self/status",
		"12345\n23456\n23456\n0000000000000000\n0000000000000000");
	assert_int_equal(geteuid(), 0);
}

/* A helper's parent is killed: the helper too, also after it has changed its user. */
static void some_die_with_us(void **state)
{
	char *argv[] = { "sleep", "100", NULL };
	struct child_spec spec = {
		.file = "/bin/sleep", .argv = argv, .new_session = true, .die_with_us = true
	};
	int ready[2], status;
	pid_t parent, child;
	uint64_t started;

	if (geteuid() == 0)
		spec.uid = 12345;
	assert_int_equal(pipe(ready), 0);
	parent = fork();
	assert_true(parent >= 0);
	if (parent == 0) {
		int pidfd;

		if (spawn_process(&spec, &child, &pidfd, NULL) < 0)
			_exit(1);
		if (write(ready[1], &child, sizeof(child)) < 0)
			_exit(1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &child, sizeof(child)), sizeof(child));
	started = proc_starttime(child);
	assert_true(started > 0);
	kill(parent, SIGKILL);
	assert_int_equal(waitpid(parent, &status, 0), parent);
	for (int i = 0; i < WAIT_MS / 10 && proc_starttime(child) == started; i++)
		poll(NULL, 0, 10);
	assert_true(proc_starttime(child) != started);
	close(ready[0]);
	close(ready[1]);
}

/* Each fails with its message, and leaves neither a process nor a descriptor. */
static void assert_fails(struct child_spec spec, int code, const char *text)
{
	char *argv[] = { "x", NULL };
	unsigned fds = rig_count_fds();
	int pidfd = -7;
	pid_t pid = -7;
	struct err err;

	spec.argv = argv;
	if (spec.file == NULL)
		spec.file = "/bin/true";
	assert_int_equal(spawn_process(&spec, &pid, &pidfd, &err), code);
	assert_string_equal(err.msg, text);
	assert_int_equal(err.code, code);
	/* Outputs are written on success alone. */
	assert_int_equal(pid, -7);
	assert_int_equal(pidfd, -7);
	assert_int_equal(rig_count_fds(), fds);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

static void each_step_says_what_failed(void **state)
{
	struct child_fd closed = { 999, 3 };
	struct rlimit lim, low;
	char *dir = rig_tmp(), *file = path_join(dir, "prog"), *text;
	int next;

	assert_fails((struct child_spec){ .file = "/nonexistent/x" }, -ENOENT,
		"start '/nonexistent/x': No such file or directory");
	assert_fails(
		(struct child_spec){ .file = "/etc" }, -EACCES, "start '/etc': Permission denied");
	assert_int_equal(file_write_atomic(file, "no program", 10, 0755, false, NULL), 0);
	text = str_printf("start '%s': Exec format error", file);
	assert_fails((struct child_spec){ .file = file }, -ENOEXEC, text);
	free(text);
	assert_fails((struct child_spec){ .cwd = "/nonexistent" }, -ENOENT,
		"start '/bin/true': change the working folder: No such file or directory");
	assert_fails((struct child_spec){ .fds = &closed, .nfds = 1 }, -EBADF,
		"start '/bin/true': duplicate a descriptor: Bad file descriptor");
	closed.fd = 0;
	closed.child_fd = 1 << 30;
	assert_fails((struct child_spec){ .fds = &closed, .nfds = 1 }, -EINVAL,
		"start '/bin/true': duplicate a descriptor: Invalid argument");
	/* No descriptor is left for us. */
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &lim), 0);
	free(file);
	rig_tmp_finish(dir);
	next = dup(STDIN_FILENO);
	close(next);
	low = (struct rlimit){ (rlim_t)next, lim.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	{
		struct child_spec spec = { .file = "/bin/true" };
		struct err err;
		int pidfd;
		pid_t pid;

		assert_int_equal(spawn_process(&spec, &pid, &pidfd, &err), -EMFILE);
		assert_string_equal(err.msg, "open /dev/null: Too many open files");
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &lim), 0);
}

/* As one that may not: in a process of its own, which cannot come back. */
static void who_may_not_is_told(void **state)
{
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		print_message("giving root up needs root\n");
		skip();
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char *argv[] = { "true", NULL };
		struct child_spec user = { .file = "/bin/true", .argv = argv, .uid = 1 };
		struct child_spec group = { .file = "/bin/true", .argv = argv, .gid = 1 };
		struct child_spec limit = {
			.file = "/bin/true", .argv = argv, .rlimit_fsize = 1u << 30
		};
		struct rlimit small = { 4096, 4096 };
		struct err err;
		int fd;

		if (setrlimit(RLIMIT_FSIZE, &small) < 0 || setresuid(12345, 12345, 12345) < 0)
			_exit(1);
		if (spawn_process(&user, &pid, &fd, &err) != -EPERM ||
			strstr(err.msg, "change the user: Operation not permitted") == NULL)
			_exit(2);
		if (spawn_process(&group, &pid, &fd, &err) != -EPERM ||
			strstr(err.msg, "change the group: Operation not permitted") == NULL)
			_exit(3);
		if (spawn_process(&limit, &pid, &fd, &err) != -EPERM ||
			strstr(err.msg, "set a resource limit: Operation not permitted") == NULL)
			_exit(4);
		_exit(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD ? 0 : 5);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_spec_means_as_little_as_possible),
		cmocka_unit_test(signals_are_as_at_boot),
		cmocka_unit_test(a_session_of_its_own),
		cmocka_unit_test(the_environment_is_ours_or_as_given),
		cmocka_unit_test(the_folder_and_the_limits),
		cmocka_unit_test(descriptors_cross_without_harm),
		cmocka_unit_test(nothing_else_is_inherited),
		cmocka_unit_test(the_user_and_the_group),
		cmocka_unit_test(some_die_with_us),
		cmocka_unit_test(each_step_says_what_failed),
		cmocka_unit_test(who_may_not_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
