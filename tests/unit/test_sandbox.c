/* What a process of drover-image can no longer do, each tried in earnest in a child. */
#include "tests/unit/rig.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/sandbox.h"
#include "oci/unpack.h"

/* ---- what unpacks ---- */

static int in_closed(unpack_fn *fn, void *arg, struct err *err)
{
	const struct unpack_limits limits = UNPACK_LIMITS_DEFAULT;

	return unpack_run(&limits, NULL, 0, fn, arg, err);
}

/* A sanitizer's runtime needs more calls: there a filter is used that does not kill. */
#if !defined(__SANITIZE_ADDRESS__)
static int opens(void *arg, struct err *err)
{
	static const char *const paths[] = { "/etc/passwd", "/", ".", "/proc/self/mem",
		"/dev/null" };

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (open(paths[i], O_RDONLY) >= 0 || open(paths[i], O_PATH) >= 0)
			return err_set(err, -EEXIST, "it opened %s", paths[i]);
	}
	return open("/tmp/x", O_WRONLY | O_CREAT, 0600) >= 0 ? -EEXIST : 0;
}

static void opens_nothing(void **state)
{
	struct err err = { 0 };

	if (in_closed(opens, NULL, &err) != 0)
		fail_msg("%s", err.msg);
}

static int makes_socket(void *arg, struct err *err)
{
	return socket(*(int *)arg, SOCK_STREAM, 0) < 0;
}

static int signals(void *arg, struct err *err)
{
	kill(getppid(), 0);
	return 0;
}

static int forks(void *arg, struct err *err)
{
	if (fork() == 0)
		_exit(0);
	return 0;
}

static int execs(void *arg, struct err *err)
{
	return execl("/bin/true", "true", NULL);
}

static int traces(void *arg, struct err *err)
{
	return (int)syscall(SYS_ptrace, 0, 0, 0, 0);
}

static int unshares(void *arg, struct err *err)
{
	return unshare(CLONE_NEWUSER);
}

static int mounts(void *arg, struct err *err)
{
	return mount("none", "/", NULL, MS_REMOUNT, NULL);
}

static void is_killed_for_calls_it_has_no_use_for(void **state)
{
	int families[] = { AF_INET, AF_UNIX, AF_NETLINK, AF_VSOCK };
	unpack_fn *const fns[] = { signals, forks, execs, traces, unshares, mounts };
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(families); i++) {
		assert_int_equal(in_closed(makes_socket, &families[i], &err), -EIO);
		assert_non_null(strstr(err.msg, "a system call that it has no use for"));
	}
	for (size_t i = 0; i < ARRAY_LEN(fns); i++) {
		assert_int_equal(in_closed(fns[i], NULL, &err), -EIO);
		assert_non_null(strstr(err.msg, "a system call that it has no use for"));
	}
}

static int takes_memory(void *arg, struct err *err)
{
	void *volatile p = malloc(*(size_t *)arg);

	return p == NULL ? -ENOMEM : 0;
}

static void has_bounded_memory(void **state)
{
	struct unpack_limits limits = UNPACK_LIMITS_DEFAULT;
	size_t size = (size_t)512 << 20;
	struct err err;

	assert_int_equal(unpack_run(&limits, NULL, 0, takes_memory, &size, &err), 0);
	limits.memory_bytes = (uint64_t)400 << 20;
	assert_int_equal(unpack_run(&limits, NULL, 0, takes_memory, &size, &err), -ENOMEM);
}
#endif

static int spins(void *arg, struct err *err)
{
	for (;;)
		sched_yield();
	return 0;
}

static void has_bounded_time(void **state)
{
	struct unpack_limits limits = UNPACK_LIMITS_DEFAULT;
	struct err err;

	limits.time_ms = 200;
	assert_int_equal(unpack_run(&limits, NULL, 0, spins, NULL, &err), -ETIMEDOUT);
	assert_non_null(strstr(err.msg, "unpacking took more than"));
}

static int kept, closed_fd;

static int looks_at_descriptors(void *arg, struct err *err)
{
	if (fcntl(kept, F_GETFD) < 0 || write(kept, "x", 1) != 1)
		return err_set(err, -EBADF, "the descriptor that it needs is gone");
	for (int fd = 0; fd < 1024; fd++) {
		/* Its own pipe is there too; nothing else that was open before. */
		if (fd == closed_fd && fcntl(fd, F_GETFD) >= 0)
			return err_set(err, -EEXIST, "descriptor %d is still open", fd);
	}
	return fcntl(0, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0 ? -EEXIST : 0;
}

static void keeps_only_its_descriptors(void **state)
{
	const struct unpack_limits limits = UNPACK_LIMITS_DEFAULT;
	char *dir = rig_tmp(), *path = path_join(dir, "f");
	struct err err = { 0 };
	struct stat st;

	kept = open(path, O_RDWR | O_CREAT, 0600);
	closed_fd = open("/etc/passwd", O_RDONLY);
	if (unpack_run(&limits, &kept, 1, looks_at_descriptors, NULL, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(fstat(kept, &st), 0);
	assert_int_equal(st.st_size, 1);
	close(kept);
	close(closed_fd);
	free(path);
	rig_tmp_finish(dir);
}

static void *thread(void *arg)
{
	*(int *)arg = 1;
	return NULL;
}

static int starts_thread(void *arg, struct err *err)
{
	pthread_t t;
	int ran = 0;

	return pthread_create(&t, NULL, thread, &ran) != 0 || pthread_join(t, NULL) != 0 || !ran
		       ? -ECHILD
		       : 0;
}

static int crashes(void *arg, struct err *err)
{
	signal(SIGSEGV, SIG_DFL);
	*(volatile int *)arg = 0;
	return 0;
}

static int leaves(void *arg, struct err *err)
{
	_exit(0);
}

static int says_why(void *arg, struct err *err)
{
	return err_set(err, -EBADMSG, "the layer is damaged");
}

static void works_and_its_end_is_told(void **state)
{
	struct err err;

	assert_int_equal(in_closed(starts_thread, NULL, &err), 0);
	assert_int_equal(in_closed(says_why, NULL, &err), -EBADMSG);
	assert_string_equal(err.msg, "the layer is damaged");
	assert_int_equal(in_closed(leaves, NULL, &err), -EIO);
	assert_string_equal(err.msg, "unpacking ended without a result");
	assert_int_equal(in_closed(crashes, NULL, &err), -EIO);
}

/* ---- what fetches ---- */

struct open_case {
	struct sandbox_spec spec;
	int (*fn)(void *arg); /* 0, or the line of the check that failed */
	void *arg;
	bool old_kernel;
};

#define CHECK(x)                                                                                   \
	do {                                                                                       \
		if (!(x))                                                                          \
			return __LINE__;                                                           \
	} while (0)

/* As a kernel without Landlock, in a container that allows no user namespaces. */
static void pretend_old_kernel(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_landlock_create_ruleset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_unshare, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = ARRAY_LEN(code), .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0)
		_exit(201);
}

/* Exit status of a child that enters the sandbox and runs fn; the line is told by a pipe. */
static void in_open(const struct open_case *c, struct sandbox_state *st)
{
	struct result {
		int line;
		struct sandbox_state st;
		struct err err;
	} res = { .line = -1 };
	int fds[2];
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		if (c->old_kernel)
			pretend_old_kernel();
		if (sandbox_enter(&c->spec, &res.st, &res.err) == 0)
			res.line = c->fn(c->arg);
		if (write(fds[1], &res, sizeof(res)) < 0)
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	assert_int_equal(read(fds[0], &res, sizeof(res)), sizeof(res));
	close(fds[0]);
	waitpid(pid, NULL, 0);
	if (res.line != 0)
		fail_msg("line %d: %s", res.line, res.err.msg);
	*st = res.st;
}

static int status_says(const char *line)
{
	struct buf text = { 0 };
	int found;

	if (file_read("/proc/self/status", 1 << 16, &text, NULL) < 0)
		return 0;
	found = strstr(buf_str(&text), line) != NULL;
	buf_finish(&text);
	return found;
}

static int is_nobody(void *arg)
{
	CHECK(status_says("\nCapEff:\t0000000000000000"));
	CHECK(status_says("\nCapPrm:\t0000000000000000"));
	CHECK(status_says("\nNoNewPrivs:\t1"));
	CHECK(status_says("\nSeccomp:\t2"));
	CHECK(mount("none", "/", NULL, MS_REMOUNT, NULL) < 0 && errno == EPERM);
	CHECK(setns(0, 0) < 0 && errno == EPERM);
	CHECK(syscall(SYS_ptrace, 0, 0, 0, 0) < 0 && errno == EPERM);
	CHECK(syscall(SYS_bpf, 0, NULL, 0) < 0 && errno == EPERM);
	return 0;
}

static int stays_in_folder(void *arg)
{
	const char *dir = arg;
	char *own = path_join(dir, "own/a/f"), *moved = path_join(dir, "own/b/f"),
	     *other = path_join(dir, "other/f"), *seen = path_join(dir, "seen/f");

	CHECK(file_write_atomic(own, "x", 1, 0600, false, NULL) == 0);
	CHECK(rename(own, moved) == 0);
	CHECK(open(other, O_RDONLY) < 0 && errno == EACCES);
	CHECK(unlink(other) < 0);
	CHECK(rename(moved, other) < 0);
	CHECK(open(seen, O_RDONLY) >= 0);
	CHECK(open(seen, O_WRONLY) < 0 && errno == EACCES);
	CHECK(truncate(seen, 0) < 0 || sandbox_landlock_abi() < 3);
	CHECK(open("/etc/shadow", O_RDONLY) < 0 && errno == EACCES);
	CHECK(open("/etc/ssl", O_RDONLY) >= 0);
	return 0;
}

static int has_no_sockets(void *arg)
{
	CHECK(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == EPERM);
	CHECK(socket(AF_UNIX, SOCK_STREAM, 0) < 0 && errno == EPERM);
	return 0;
}

static int has_sockets(void *arg)
{
	CHECK(socket(AF_INET, SOCK_STREAM, 0) >= 0);
	return 0;
}

static void fetching_is_unprivileged(void **state)
{
	struct sandbox_state st;

	in_open(&(struct open_case){ .spec = { .network = true }, .fn = is_nobody }, &st);
	in_open(&(struct open_case){ .spec = { .network = true }, .fn = has_sockets }, &st);
	in_open(&(struct open_case){ .fn = has_no_sockets }, &st);
}

static void fetching_stays_in_its_folders(void **state)
{
	char *dir = rig_tmp(), *own = path_join(dir, "own"), *seen = path_join(dir, "seen");
	static const char *const made[] = { "own/a", "own/b", "other", "seen" };
	struct sandbox_path paths[] = { { own, true }, { seen, false }, { "/no/such/path", true } };
	struct sandbox_state st;

	for (size_t i = 0; i < ARRAY_LEN(made); i++) {
		char *path = path_join(dir, made[i]), *file = path_join(path, "f");

		assert_int_equal(mkdir_p(path, 0755, NULL), 0);
		if (i >= 2)
			assert_int_equal(file_write_atomic(file, "y", 1, 0644, false, NULL), 0);
		free(path);
		free(file);
	}
	if (sandbox_landlock_abi() > 0) {
		in_open(&(struct open_case){ .spec = { .paths = paths, .n = ARRAY_LEN(paths) },
				.fn = stays_in_folder,
				.arg = dir },
			&st);
		assert_true(st.landlock >= 2);
	} else {
		print_message("# the kernel has no Landlock\n");
		skip();
	}
	free(own);
	free(seen);
	rig_tmp_finish(dir);
}

static void an_old_kernel_is_told_of(void **state)
{
	struct sandbox_state st;

	in_open(
		&(struct open_case){
			.spec = { .network = true }, .fn = is_nobody, .old_kernel = true },
		&st);
	assert_int_equal(st.landlock, 0);
	assert_false(st.user_namespace);
	in_open(&(struct open_case){ .fn = has_no_sockets, .old_kernel = true }, &st);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#if !defined(__SANITIZE_ADDRESS__)
		cmocka_unit_test(opens_nothing),
		cmocka_unit_test(is_killed_for_calls_it_has_no_use_for),
		cmocka_unit_test(has_bounded_memory),
#endif
		cmocka_unit_test(has_bounded_time),
		cmocka_unit_test(keeps_only_its_descriptors),
		cmocka_unit_test(works_and_its_end_is_told),
		cmocka_unit_test(fetching_is_unprivileged),
		cmocka_unit_test(fetching_stays_in_its_folders),
		cmocka_unit_test(an_old_kernel_is_told_of),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
