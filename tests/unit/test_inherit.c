/* Descriptors that come from systemd or from ourselves before a re-exec. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/inherit.h"

static struct {
	char *dir, *path;
	int third, fourth; /* what the descriptors 3 and 4 were before */
} t;

static int setup(void **state)
{
	t.dir = rig_tmp();
	t.path = path_join(t.dir, "api.sock");
	t.third = fcntl(3, F_DUPFD_CLOEXEC, 20);
	t.fourth = fcntl(4, F_DUPFD_CLOEXEC, 20);
	return 0;
}

static void put_back(int saved, int fd)
{
	if (saved >= 0)
		dup2(saved, fd);
	else
		close(fd);
	if (saved >= 0)
		close(saved);
}

static int teardown(void **state)
{
	put_back(t.third, 3);
	put_back(t.fourth, 4);
	rig_tmp_finish(t.dir);
	free(t.path);
	return 0;
}

/* Out of the way of the numbers that are given. */
static int listener(void)
{
	int fd = -1, high;

	assert_int_equal(unix_listen(t.path, 0600, 4, &fd, NULL), 0);
	high = fcntl(fd, F_DUPFD_CLOEXEC, 20);
	close(fd);
	return high;
}

static void environment(int pid, const char *fds)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	setenv("LISTEN_PID", text, 1);
	setenv("LISTEN_FDS", fds, 1);
	setenv("LISTEN_FDNAMES", "x", 1);
}

static void assert_taken_out(void)
{
	assert_null(getenv("LISTEN_PID"));
	assert_null(getenv("LISTEN_FDS"));
	assert_null(getenv("LISTEN_FDNAMES"));
	assert_null(getenv("DROVER_REEXEC"));
}

static void of_the_service_manager(void **state)
{
	struct inherited in;
	struct err err;
	int fd = listener(), null;

	/* The first is none of ours, the second is. */
	null = open("/dev/null", O_RDONLY);
	assert_int_equal(dup2(null, 3), 3);
	if (null != 3)
		close(null);
	assert_int_equal(dup2(fd, 4), 4);
	close(fd);
	fcntl(4, F_SETFL, 0);
	environment((int)getpid(), "2");
	inherit_take(&in);
	assert_taken_out();
	assert_int_equal(in.listen_fd, 4);
	assert_true(in.activated);
	assert_false(in.reexec);
	assert_true(fcntl(4, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(4, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fcntl(3, F_GETFD), -1);
	/* It is listened at, whatever the configuration says. */
	assert_int_equal(inherit_listen(&in, "/elsewhere/api.sock", &err), 0);
	assert_int_equal(in.listen_fd, 4);
	assert_int_equal(access(t.path, F_OK), 0);
}

static void of_nobody(void **state)
{
	static const char *const wrong[] = { "", "0", "x", "-1" };
	struct inherited in;
	int fd = listener();

	assert_int_equal(dup2(fd, 3), 3);
	close(fd);
	environment((int)getpid() + 1, "1");
	inherit_take(&in);
	assert_int_equal(in.listen_fd, -1);
	assert_false(in.activated);
	assert_taken_out();
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		environment((int)getpid(), wrong[i]);
		inherit_take(&in);
		assert_int_equal(in.listen_fd, -1);
	}
	setenv("DROVER_REEXEC", "1 3 -1 -1 0 /x", 1);
	inherit_take(&in);
	assert_false(in.reexec);
	assert_null(in.path);
	assert_taken_out();
	assert_int_equal(fcntl(3, F_GETFD), 0);
}

static void of_ourselves(void **state)
{
	struct inherited in = { .listen_fd = listener(), .lock_fd = -1, .state_lock_fd = -1 }, out;
	int listen_fd = in.listen_fd, lock_fd;
	struct stat before, after;
	struct err err;

	assert_int_equal(inherit_lock(&in, t.dir, &err), 0);
	lock_fd = in.lock_fd;
	stat(t.path, &before);
	assert_int_equal(inherit_pass(&in, "/opt/my drover/droverd"), 0);
	assert_int_equal(fcntl(listen_fd, F_GETFD), 0);
	assert_int_equal(fcntl(lock_fd, F_GETFD), 0);
	/* Here the exec would be. */
	inherit_take(&out);
	assert_taken_out();
	assert_true(out.reexec);
	assert_int_equal(out.listen_fd, listen_fd);
	assert_int_equal(out.lock_fd, lock_fd);
	assert_string_equal(out.path, "/opt/my drover/droverd");
	assert_true(fcntl(listen_fd, F_GETFD) & FD_CLOEXEC);
	assert_true(fcntl(lock_fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(inherit_lock(&out, t.dir, &err), 0);
	assert_int_equal(inherit_listen(&out, t.path, &err), 0);
	assert_int_equal(out.listen_fd, listen_fd);
	stat(t.path, &after);
	assert_int_equal(before.st_ino, after.st_ino);
	free(out.path);
	close(out.listen_fd);
	close(out.lock_fd);
}

/* listen and run_dir have another value in the new file. */
static void places_may_have_changed(void **state)
{
	struct inherited in = { .listen_fd = listener(), .lock_fd = -1, .state_lock_fd = -1 },
			 other = in;
	char *run_dir = path_join(t.dir, "run"), *path = path_join(t.dir, "b.sock");
	struct err err;

	assert_int_equal(mkdir(run_dir, 0700), 0);
	assert_int_equal(inherit_lock(&in, t.dir, &err), 0);
	assert_int_equal(inherit_listen(&in, path, &err), 0);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(access(t.path, F_OK), -1);
	assert_int_equal(inherit_lock(&in, run_dir, &err), 0);
	/* The old lock is free, the new one is not. */
	assert_int_equal(inherit_lock(&other, t.dir, &err), 0);
	close(other.lock_fd);
	other.lock_fd = -1;
	assert_int_equal(inherit_lock(&other, run_dir, &err), -EBUSY);
	close(in.listen_fd);
	close(in.lock_fd);
	free(run_dir);
	free(path);
}

/* Two daemons over one state_dir would each start its machines, whatever their run_dir is. */
static void a_state_dir_has_one_daemon(void **state)
{
	struct inherited in = { .listen_fd = -1, .lock_fd = -1, .state_lock_fd = -1 };
	struct inherited other = in, out;
	char *state_dir = path_join(t.dir, "state");
	char *link = path_join(state_dir, "droverd.lock");
	struct err err;

	assert_int_equal(mkdir(state_dir, 0700), 0);
	/* What a link leads to is not ours to empty. */
	assert_int_equal(symlink("../victim", link), 0);
	assert_int_equal(inherit_state_lock(&in, state_dir, &err), -ELOOP);
	assert_int_equal(unlink(link), 0);
	assert_int_equal(inherit_state_lock(&in, state_dir, &err), 0);
	assert_int_equal(inherit_state_lock(&other, state_dir, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "another droverd"));
	assert_non_null(strstr(err.msg, state_dir));
	/* It goes through a re-exec as the other one does. */
	assert_int_equal(inherit_pass(&in, "/x"), 0);
	inherit_take(&out);
	assert_int_equal(out.state_lock_fd, in.state_lock_fd);
	assert_true(fcntl(out.state_lock_fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(inherit_state_lock(&out, state_dir, &err), 0);
	assert_int_equal(inherit_state_lock(&other, state_dir, &err), -EBUSY);
	close(out.state_lock_fd);
	free(out.path);
	free(link);
	free(state_dir);
}

static void a_removed_socket_is_made_again(void **state)
{
	struct inherited in = { .listen_fd = listener(), .lock_fd = -1, .state_lock_fd = -1 };
	struct err err;

	assert_int_equal(unlink(t.path), 0);
	assert_int_equal(inherit_listen(&in, t.path, &err), 0);
	assert_int_equal(access(t.path, F_OK), 0);
	close(in.listen_fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(of_the_service_manager, setup, teardown),
		cmocka_unit_test_setup_teardown(of_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(of_ourselves, setup, teardown),
		cmocka_unit_test_setup_teardown(places_may_have_changed, setup, teardown),
		cmocka_unit_test_setup_teardown(a_state_dir_has_one_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(a_removed_socket_is_made_again, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
