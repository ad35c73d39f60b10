/* Whole files, folders, programs and Unix sockets; a write is complete or did not happen. */
#include "tests/unit/rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"

static char *dir;

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

/* A path below dir; one of eight static buffers. */
static const char *at(const char *name)
{
	static char bufs[8][512];
	static unsigned next;
	char *p = bufs[next++ % 8];

	snprintf(p, sizeof(bufs[0]), "%s/%s", dir, name);
	return p;
}

static unsigned entries(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

static void assert_content(const char *path, const char *text)
{
	struct buf b = { 0 };

	assert_int_equal(file_read(path, 1 << 20, &b, NULL), 0);
	assert_string_equal(buf_str(&b), text);
	buf_finish(&b);
}

static void reads_up_to_a_bound(void **state)
{
	char data[40000];
	struct buf b = { 0 };
	struct err err;

	memset(data, 'x', sizeof(data));
	data[17] = '\0';
	assert_int_equal(file_write_atomic(at("a"), data, sizeof(data), 0600, false, NULL), 0);
	assert_int_equal(file_read(at("a"), sizeof(data), &b, &err), 0);
	assert_int_equal(b.len, sizeof(data));
	assert_memory_equal(b.data, data, sizeof(data));
	buf_finish(&b);
	assert_int_equal(file_read(at("a"), sizeof(data) - 1, &b, &err), -EFBIG);
	assert_non_null(strstr(err.msg, "is larger than"));
	/* Nothing is written to out by a failure. */
	assert_null(b.data);
	assert_int_equal(file_write_atomic(at("empty"), NULL, 0, 0600, false, NULL), 0);
	assert_int_equal(file_read(at("empty"), 0, &b, &err), 0);
	assert_int_equal(b.len, 0);
	assert_non_null(b.data);
	buf_finish(&b);
	assert_int_equal(file_read(at("none"), 10, &b, &err), -ENOENT);
	assert_int_equal(file_read(dir, 10, &b, &err), -EISDIR);
}

static void reads_first_lines(void **state)
{
	char line[8] = "before";
	struct err err;

	assert_int_equal(file_write_atomic(at("a"), "one\ntwo\n", 8, 0600, false, NULL), 0);
	assert_int_equal(file_read_line(at("a"), line, sizeof(line), &err), 0);
	assert_string_equal(line, "one");
	/* Cut, and still a string. */
	assert_int_equal(file_read_line(at("a"), line, 3, &err), 0);
	assert_string_equal(line, "on");
	assert_int_equal(file_write_atomic(at("a"), "", 0, 0600, false, NULL), 0);
	assert_int_equal(file_read_line(at("a"), line, sizeof(line), &err), 0);
	assert_string_equal(line, "");
	assert_int_equal(file_read_line(at("none"), line, sizeof(line), &err), -ENOENT);
	assert_int_equal(file_read_line(dir, line, sizeof(line), &err), -EISDIR);
}

static void a_write_replaces_as_a_whole(void **state)
{
	unsigned fds = rig_count_fds();
	mode_t old = umask(077);
	char text[10];
	struct stat st;
	struct err err;
	int fd;

	for (int sync = 0; sync < 2; sync++) {
		assert_int_equal(file_write_atomic(at("a"), "first", 5, 0644, sync, &err), 0);
		/* The mode is the one asked for, whatever the umask says. */
		assert_int_equal(stat(at("a"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0644);
		/* Who has it open goes on reading the old one. */
		fd = open(at("a"), O_RDONLY | O_CLOEXEC);
		assert_int_equal(file_write_atomic(at("a"), "the second", 10, 0600, sync, &err), 0);
		assert_int_equal(read(fd, text, sizeof(text)), 5);
		close(fd);
		assert_content(at("a"), "the second");
		assert_int_equal(stat(at("a"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
	umask(old);
	/* A link in its place is replaced, not followed. */
	assert_int_equal(symlink("a", at("link")), 0);
	assert_int_equal(file_write_atomic(at("link"), "b", 1, 0600, true, &err), 0);
	assert_content(at("a"), "the second");
	assert_int_equal(lstat(at("link"), &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(entries(dir), 2);
	assert_int_equal(rig_count_fds(), fds);
}

static void a_failed_write_leaves_what_was(void **state)
{
	struct err err;

	assert_int_equal(file_write_atomic(at("none/a"), "x", 1, 0600, true, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/none/a.tmp."));
	/* A folder of that name: the rename fails, and the temporary file goes. */
	assert_int_equal(mkdir(at("d"), 0700), 0);
	assert_int_equal(file_write_atomic(at("d"), "x", 1, 0600, true, &err), -EISDIR);
	assert_non_null(strstr(err.msg, "write '"));
	assert_int_equal(entries(dir), 1);
}

/* In a mount namespace of its own, which does not outlive the child. */
static int on_full_disk(void)
{
	char text[4096], *big = calloc(1, 1 << 20);
	struct buf b = { 0 };
	struct err err;
	unsigned fds;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", dir, "tmpfs", 0, "size=64k") < 0)
		return 77;
	fds = rig_count_fds();
	memset(text, 'a', sizeof(text));
	if (file_write_atomic(at("state"), text, sizeof(text), 0600, true, &err) < 0)
		return 1;
	if (file_write_atomic(at("state"), big, 1 << 20, 0600, true, &err) != -ENOSPC)
		return 2;
	if (strstr(err.msg, "/state': No space left on device") == NULL)
		return 3;
	/* The old content is there, and the room that the attempt took is free again. */
	if (file_read(at("state"), 1 << 20, &b, &err) < 0 || b.len != sizeof(text) ||
		memcmp(b.data, text, sizeof(text)) != 0 || entries(dir) != 1)
		return 4;
	if (file_write_atomic(at("other"), text, sizeof(text), 0600, true, &err) < 0)
		return 5;
	buf_finish(&b);
	free(big);
	return rig_count_fds() == fds ? 0 : 6;
}

static void a_full_disk_loses_nothing(void **state)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(on_full_disk());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("no mount namespace of our own\n");
		skip();
	}
	assert_int_equal(status, 0);
}

struct synced {
	bool fired;
	unsigned times;
	int code;
};

static void on_synced(void *arg, const struct err *err)
{
	struct synced *s = arg;

	s->fired = true;
	s->times++;
	s->code = err != NULL ? err->code : 0;
}

static void syncs_off_the_loop(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct synced a = { 0 }, gone = { 0 }, bad = { 0 };

	assert_int_equal(file_write_atomic(at("a"), "x", 1, 0600, false, NULL), 0);
	assert_int_equal(file_sync_async(loop, at("a"), NULL, on_synced, &a), 0);
	assert_int_equal(file_sync_async(loop, at("a"), NULL, NULL, NULL), 0);
	/* Removed meanwhile: of no interest. */
	assert_int_equal(file_sync_async(loop, at("none"), NULL, on_synced, &gone), 0);
	assert_int_equal(file_sync_async(loop, at("a/b"), NULL, on_synced, &bad), 0);
	assert_int_equal(a.times + gone.times + bad.times, 0);
	rig_run_until(loop, &a.fired);
	rig_run_until(loop, &gone.fired);
	rig_run_until(loop, &bad.fired);
	assert_int_equal(a.code, 0);
	assert_int_equal(gone.code, 0);
	assert_int_equal(bad.code, -ENOTDIR);
	/* The one without a callback may still be under way. */
	uv_run(loop, UV_RUN_DEFAULT);
	rig_loop_finish(loop);
	assert_int_equal(a.times + gone.times + bad.times, 3);
}

static void writes_settings(void **state)
{
	struct err err;

	assert_int_equal(file_write_proc(at("none"), "1", &err), -ENOENT);
	assert_int_equal(access(at("none"), F_OK), -1);
	assert_int_equal(file_write_proc("/dev/full", "1", &err), -ENOSPC);
	assert_string_equal(err.msg, "write '1' to '/dev/full': No space left on device");
	assert_int_equal(file_write_proc("/dev/null", "1", &err), 0);
}

static void makes_folders(void **state)
{
	mode_t old = umask(022);
	struct stat st;
	struct err err;

	assert_int_equal(mkdir_p(at("a/b//c"), 0700, &err), 0);
	assert_int_equal(stat(at("a/b/c"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	/* Those on the way are for all, the last one as asked for. */
	assert_int_equal(stat(at("a/b"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0755);
	assert_int_equal(mkdir_p(at("a/b/c"), 0700, &err), 0);
	assert_int_equal(mkdir_p(at("a/b/c/"), 0700, &err), 0);
	assert_int_equal(mkdir_p("/", 0700, &err), 0);
	umask(old);
	/* Through a link to a folder. */
	assert_int_equal(symlink("a", at("link")), 0);
	assert_int_equal(mkdir_p(at("link/d"), 0700, &err), 0);
	assert_int_equal(access(at("a/d"), F_OK), 0);
	assert_int_equal(mkdir_p(at("link"), 0700, &err), 0);
}

static void a_file_is_no_folder(void **state)
{
	struct err err;

	assert_int_equal(file_write_atomic(at("file"), "x", 1, 0600, false, NULL), 0);
	assert_int_equal(mkdir_p(at("file/a"), 0700, &err), -ENOTDIR);
	assert_int_equal(mkdir_p(at("file"), 0700, &err), -ENOTDIR);
	assert_non_null(strstr(err.msg, "make the folder '"));
	assert_int_equal(symlink("nowhere", at("dangling")), 0);
	assert_true(mkdir_p(at("dangling"), 0700, &err) < 0);
	assert_int_equal(mkdir_p("", 0700, &err), -ENOENT);
}

static void removes_trees_and_nothing_else(void **state)
{
	char *outside = rig_tmp(), *kept = path_join(outside, "kept");
	struct err err;

	assert_int_equal(remove_tree(at("none"), &err), 0);
	assert_int_equal(remove_tree(at("none/none"), &err), 0);
	assert_int_equal(file_write_atomic(kept, "x", 1, 0600, false, NULL), 0);
	assert_int_equal(mkdir_p(at("t/a/b"), 0700, &err), 0);
	assert_int_equal(mkfifo(at("t/a/fifo"), 0600), 0);
	assert_int_equal(file_write_atomic(at("t/a/b/f"), "x", 1, 0400, false, NULL), 0);
	assert_int_equal(symlink(outside, at("t/a/out")), 0);
	assert_int_equal(symlink("/nowhere", at("t/dangling")), 0);
	assert_int_equal(remove_tree(at("t"), &err), 0);
	assert_int_equal(access(at("t"), F_OK), -1);
	assert_int_equal(access(kept, F_OK), 0);
	/* A link that is named itself goes, what it leads to stays. */
	assert_int_equal(symlink(outside, at("out")), 0);
	assert_int_equal(remove_tree(at("out"), &err), 0);
	assert_int_equal(access(kept, F_OK), 0);
	assert_int_equal(file_write_atomic(at("f"), "x", 1, 0600, false, NULL), 0);
	assert_int_equal(remove_tree(at("f"), &err), 0);
	assert_int_equal(entries(dir), 0);
	assert_int_equal(remove_tree("/proc/self/fd", &err) < 0, 1);
	assert_non_null(strstr(err.msg, "remove '/proc/self/fd'"));
	free(kept);
	rig_tmp_finish(outside);
}

/* A guest's or an image's tree may be deeper than we have descriptors. */
static void removes_deep_tree(void **state)
{
	struct rlimit few, before;
	const char *top = at("deep");
	int fd, r;
	struct err err;

	assert_int_equal(mkdir(top, 0700), 0);
	fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 300; i++) {
		int next;

		assert_int_equal(mkdirat(fd, "d", 0700), 0);
		close(openat(fd, "f", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		next = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(fd);
		fd = next;
	}
	close(fd);
	getrlimit(RLIMIT_NOFILE, &before);
	few = before;
	few.rlim_cur = 100;
	setrlimit(RLIMIT_NOFILE, &few);
	r = remove_tree(top, &err);
	setrlimit(RLIMIT_NOFILE, &before);
	assert_int_equal(r, 0);
	assert_int_equal(access(at("deep"), F_OK), -1);
}

/* Who can put a pipe where a file is expected must not stop the loop with it. */
static void refuses_fifo(void **state)
{
	struct buf b = { 0 };
	char line[32];
	struct err err;

	assert_int_equal(mkfifo(at("fifo"), 0600), 0);
	assert_int_equal(file_read(at("fifo"), 100, &b, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "not a regular file"));
	assert_int_equal(file_read_line(at("fifo"), line, sizeof(line), &err), -EINVAL);
	assert_int_equal(file_read("/dev/zero", 100, &b, &err), -EINVAL);
	assert_int_equal(file_read("/proc/self/stat", 4096, &b, &err), 0);
	buf_finish(&b);
	unlink(at("fifo"));
}

static void joins_paths(void **state)
{
	char *a = path_join("/a", "b"), *b = path_join("/a/", "b"), *c = path_join("/", "b");

	assert_string_equal(a, "/a/b");
	assert_string_equal(b, "/a/b");
	assert_string_equal(c, "/b");
	free(a);
	free(b);
	free(c);
}

static void found(const char *name, const char *path)
{
	char *p = find_program(name);

	if (path == NULL)
		assert_null(p);
	else
		assert_string_equal(p, path);
	free(p);
}

static void finds_programs(void **state)
{
	char *old = strdup(getenv("PATH")), *path;
	char *first = strdup(at("1/prog")), *second = strdup(at("2/prog"));

	assert_int_equal(mkdir_p(at("1"), 0700, NULL), 0);
	assert_int_equal(mkdir_p(at("2/sh"), 0700, NULL), 0);
	assert_int_equal(file_write_atomic(first, "", 0, 0600, false, NULL), 0);
	assert_int_equal(file_write_atomic(second, "", 0, 0700, false, NULL), 0);
	/* What is not executable, a folder, and relative parts of PATH do not count. */
	path = str_printf(".::1:%s:%s", at("1"), at("2"));
	setenv("PATH", path, 1);
	found("prog", second);
	found("no-such-program-here", NULL);
	assert_int_equal(chmod(first, 0700), 0);
	found("prog", first);
	found(second, second);
	found(at("2/sh"), NULL);
	found(at("2/none"), NULL);
	/* The sbin folders, without PATH. */
	unsetenv("PATH");
	found("sh", "/usr/bin/sh");
	path = (free(path), find_program("ip"));
	assert_non_null(path);
	setenv("PATH", old, 1);
	free(path);
	free(old);
	free(first);
	free(second);
}

static void knows_the_boot(void **state)
{
	assert_int_equal(strlen(boot_id()), 36);
	assert_string_equal(boot_id(), boot_id());
}

static void sockets_meet(void **state)
{
	int server = -1, client = -1, other = -1, peer;
	struct stat st;
	struct err err;

	assert_int_equal(unix_connect(at("s"), &client, &err), -ENOENT);
	assert_int_equal(unix_listen(at("s"), 0660, 5, &server, &err), 0);
	assert_int_equal(stat(at("s"), &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0660);
	assert_int_equal(fcntl(server, F_GETFD), FD_CLOEXEC);
	assert_true(fcntl(server, F_GETFL) & O_NONBLOCK);
	assert_int_equal(accept(server, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(unix_connect(at("s"), &client, &err), 0);
	peer = accept(server, NULL, NULL);
	assert_true(peer >= 0);
	close(peer);
	close(client);
	close(server);
	/* What a dead one left: nobody listens, and the next one takes its place. */
	assert_int_equal(unix_connect(at("s"), &client, &err), -ECONNREFUSED);
	assert_int_equal(unix_listen(at("s"), 0600, 5, &other, &err), 0);
	assert_int_equal(unix_connect(at("s"), &client, &err), 0);
	close(client);
	close(other);
}

static void sockets_that_cannot_be(void **state)
{
	unsigned fds = rig_count_fds();
	char path[200];
	struct err err;
	int fd = -1;

	/* 107 bytes are the most that fit. */
	snprintf(path, sizeof(path), "%s/%0*d", dir, (int)(106 - strlen(dir)), 0);
	assert_int_equal(strlen(path), 107);
	assert_int_equal(unix_listen(path, 0600, 1, &fd, &err), 0);
	close(fd);
	fd = -1;
	strcat(path, "0");
	assert_int_equal(unix_listen(path, 0600, 1, &fd, &err), -ENAMETOOLONG);
	assert_non_null(strstr(err.msg, "has 108 bytes, a socket's path can have 107"));
	assert_int_equal(unix_connect(path, &fd, &err), -ENAMETOOLONG);
	assert_int_equal(unix_listen(at("none/s"), 0600, 1, &fd, &err), -ENOENT);
	assert_int_equal(mkdir(at("d"), 0700), 0);
	assert_int_equal(unix_listen(at("d"), 0600, 1, &fd, &err), -EADDRINUSE);
	assert_int_equal(fd, -1);
	assert_int_equal(rig_count_fds(), fds);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static void folders_that_others_rule(void **state)
{
	struct err err;

	assert_int_equal(mkdir(at("mine"), 0755), 0);
	assert_int_equal(dir_check_ours(at("mine"), &err), 0);
	assert_int_equal(dir_check_ours("/", &err), 0);
	assert_int_equal(dir_check_ours(at("none"), &err), -ENOENT);
	assert_int_equal(chmod(at("mine"), 01777), 0);
	assert_int_equal(dir_check_ours(at("mine"), &err), -EPERM);
	assert_non_null(strstr(err.msg, "everybody may write"));
	assert_int_equal(chmod(at("mine"), 0755), 0);
	if (geteuid() != 0)
		return;
	assert_int_equal(chown(at("mine"), 65534, 65534), 0);
	assert_int_equal(dir_check_ours(at("mine"), &err), -EPERM);
	assert_non_null(strstr(err.msg, "another user (uid 65534)"));
}

static void files_and_folders_are_written_out(void **state)
{
	unsigned fds = rig_count_fds();
	struct err err;

	assert_int_equal(file_write_atomic(at("f"), "x", 1, 0600, false, &err), 0);
	assert_int_equal(file_sync(at("f"), &err), 0);
	assert_int_equal(file_sync(dir, &err), 0);
	assert_int_equal(file_sync(at("none"), &err), -ENOENT);
	assert_non_null(strstr(err.msg, "none"));
	assert_int_equal(rig_count_fds(), fds);
}

/* Open, so that its number is not given to another one. */
static int held(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* Lets go of one that is to have kept what it said. */
static void assert_kept(int fd, const char *text)
{
	char got[64] = "";

	assert_int_equal(pread(fd, got, sizeof(got) - 1, 0), strlen(text));
	assert_string_equal(got, text);
	close(fd);
}

static ino_t inode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st.st_ino;
}

static void swap(bool reuse, const char *text)
{
	struct err err;

	assert_int_equal(
		file_swap(at("s"), at("s.spare"), reuse, text, strlen(text), 0600, &err), 0);
	assert_content(at("s"), text);
}

/* Two inodes take turns, whatever the length. */
static void swap_writes_over_the_one_before(void **state)
{
	ino_t first, second;

	swap(true, "first");
	assert_int_equal(entries(dir), 1);
	first = inode_of(at("s"));
	swap(true, "the second");
	assert_content(at("s.spare"), "first");
	second = inode_of(at("s"));
	assert_int_not_equal(first, second);
	swap(true, "3");
	assert_int_equal(inode_of(at("s")), first);
	assert_content(at("s.spare"), "the second");
	swap(true, "the longest of all of them");
	assert_int_equal(inode_of(at("s")), second);
	assert_int_equal(entries(dir), 2);
}

/* One that has another name, or that somebody has open, keeps what it says. */
static void swap_leaves_what_is_kept(void **state)
{
	int fd;

	swap(true, "first");
	assert_int_equal(link(at("s"), at("kept")), 0);
	swap(true, "second");
	swap(true, "third");
	assert_content(at("kept"), "first");
	fd = held(at("s"));
	swap(true, "fourth");
	swap(false, "fifth");
	assert_kept(fd, "third");
}

/* Half of an old and half of a new text must not stand in one file after a crash of the host. */
static void swap_writes_over_no_more_than_a_block(void **state)
{
	char big[20000];
	int fd;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	swap(true, "first");
	fd = held(at("s"));
	swap(true, "second");
	swap(true, big);
	assert_kept(fd, "first");
	swap(true, "third");
	fd = held(at("s.spare"));
	swap(true, "fourth");
	assert_int_equal(lseek(fd, 0, SEEK_END), sizeof(big) - 1);
	close(fd);
}

static void swap_does_not_follow(void **state)
{
	struct err err;

	assert_int_equal(file_write_atomic(at("mine"), "mine", 4, 0600, false, NULL), 0);
	assert_int_equal(symlink(at("mine"), at("s.spare")), 0);
	swap(true, "first");
	swap(true, "second");
	unlink(at("s.spare"));
	assert_int_equal(mkfifo(at("s.spare"), 0600), 0);
	swap(true, "third");
	assert_content(at("mine"), "mine");
	assert_int_equal(
		file_swap(at("no/s"), at("no/s.spare"), true, "x", 1, 0600, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "no/s.spare"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(reads_up_to_a_bound),
		TEST(reads_first_lines),
		TEST(a_write_replaces_as_a_whole),
		TEST(a_failed_write_leaves_what_was),
		TEST(a_full_disk_loses_nothing),
		TEST(swap_writes_over_the_one_before),
		TEST(swap_leaves_what_is_kept),
		TEST(swap_writes_over_no_more_than_a_block),
		TEST(swap_does_not_follow),
		TEST(syncs_off_the_loop),
		TEST(writes_settings),
		TEST(makes_folders),
		TEST(a_file_is_no_folder),
		TEST(removes_trees_and_nothing_else),
		TEST(folders_that_others_rule),
		TEST(files_and_folders_are_written_out),
		TEST(removes_deep_tree),
		TEST(refuses_fifo),
		TEST(joins_paths),
		TEST(finds_programs),
		TEST(knows_the_boot),
		TEST(sockets_meet),
		TEST(sockets_that_cannot_be),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
