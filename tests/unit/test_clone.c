/* Copies are equal, as sparse as the original, and grow with the filesystem in them. */
#include "tests/unit/kit.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/clone.h"
#include "oci/run.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir, *disk, *copy;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->disk = path_join(f->dir, "disk");
	f->copy = path_join(f->dir, "copy");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_tmp_finish(f->dir);
	free(f->disk);
	free(f->copy);
	free(f);
	return 0;
}

static void make_disk(struct fixture *f)
{
	struct buf t = { 0 };

	kit(&t, "etc/file", .len = 100000);
	kit(&t, "etc/other", .len = 10);
	kit_disk(f->dir, f->disk, &t, 1);
}

static void assert_same(const char *a, const char *b)
{
	struct buf x = kit_read(a), y = kit_read(b);

	assert_int_equal(x.len, y.len);
	assert_true(memcmp(x.data, y.data, x.len) == 0);
	buf_finish(&x);
	buf_finish(&y);
}

static void clones_sparsely(void **state)
{
	struct fixture *f = *state;
	enum clone_method m;
	struct stat from, to;
	struct err err;

	make_disk(f);
	if (clone_file(f->disk, f->copy, 0, &m, &err) < 0)
		fail_msg("%s", err.msg);
	assert_same(f->disk, f->copy);
	assert_int_equal(stat(f->disk, &from), 0);
	assert_int_equal(stat(f->copy, &to), 0);
	assert_true(to.st_blocks * 512 < from.st_blocks * 512 + (1 << 20));
	assert_int_equal(to.st_mode & 0777, 0600);
	/* Never over what is there already. */
	assert_int_equal(clone_file(f->disk, f->copy, 0, &m, &err), -EEXIST);
}

static void handles_all_shapes_of_files(void **state)
{
	struct fixture *f = *state;
	enum clone_method m;
	struct err err;
	char *mb = malloc(1 << 20);
	int fd;

	kit_write(f->disk, "", 0);
	assert_int_equal(clone_file(f->disk, f->copy, 0, &m, &err), 0);
	assert_same(f->disk, f->copy);
	unlink(f->copy);
	/* Only a hole; data then a hole; a hole then data that ends within a block. */
	assert_int_equal(truncate(f->disk, 3 << 20), 0);
	assert_int_equal(clone_file(f->disk, f->copy, 0, &m, &err), 0);
	assert_same(f->disk, f->copy);
	unlink(f->copy);
	memset(mb, 'x', 1 << 20);
	fd = open(f->disk, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, mb, 1 << 20, 0), 1 << 20);
	assert_int_equal(clone_file(f->disk, f->copy, 0, &m, &err), 0);
	assert_same(f->disk, f->copy);
	unlink(f->copy);
	assert_int_equal(pwrite(fd, mb, 777, 5000001), 777);
	assert_int_equal(clone_file(f->disk, f->copy, 0, &m, &err), 0);
	assert_same(f->disk, f->copy);
	close(fd);
	free(mb);
}

static void grows_but_never_shrinks(void **state)
{
	struct fixture *f = *state;
	enum clone_method m;
	struct stat st;
	struct err err;
	ext2_filsys fs;

	make_disk(f);
	if (clone_file(f->disk, f->copy, 300 << 20, &m, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(stat(f->copy, &st), 0);
	assert_int_equal(st.st_size, 300 << 20);
	kit_fsck(f->copy);
	fs = kit_open(f->copy);
	assert_int_equal(ext2fs_blocks_count(fs->super), (300 << 20) / 4096);
	assert_int_equal(kit_inode(fs, "/etc/file").i_size, 100000);
	ext2fs_close_free(&fs);
	unlink(f->copy);
	assert_int_equal(clone_file(f->disk, f->copy, 32 << 20, &m, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "disks are not shrunk"));
	assert_int_equal(access(f->copy, F_OK), -1);
	/* The same size again is no change. */
	assert_int_equal(clone_file(f->disk, f->copy, 64 << 20, &m, &err), 0);
	assert_same(f->disk, f->copy);
}

static void leaves_other_content_alone(void **state)
{
	struct fixture *f = *state;
	enum clone_method m;
	struct stat st;
	struct err err;

	kit_write(f->disk, "no filesystem", 13);
	assert_int_equal(clone_file(f->disk, f->copy, 1 << 20, &m, &err), 0);
	assert_int_equal(stat(f->copy, &st), 0);
	assert_int_equal(st.st_size, 1 << 20);
}

static void fails_with_nothing_left(void **state)
{
	struct fixture *f = *state;
	enum clone_method m;
	struct err err;
	struct buf b;

	assert_int_equal(clone_file(f->disk, f->copy, 0, &m, &err), -ENOENT);
	assert_int_equal(clone_file(f->dir, f->copy, 0, &m, &err), -EINVAL);
	assert_int_equal(access(f->copy, F_OK), -1);
	/* A superblock that resize2fs refuses. */
	make_disk(f);
	b = kit_read(f->disk);
	memset(b.data + 1024 + 92, 0xff, 12);
	kit_write(f->disk, b.data, b.len);
	buf_finish(&b);
	assert_int_equal(clone_file(f->disk, f->copy, 128 << 20, &m, &err), -EIO);
	assert_non_null(strstr(err.msg, "resize2fs failed"));
	assert_int_equal(access(f->copy, F_OK), -1);
}

static void runs_programs(void **state)
{
	struct err err;
	char *missing[] = { "no-such-program-here", NULL };
	char *fails[] = { "sh", "-c", "echo first; echo last; exit 2", NULL };
	char *hangs[] = { "sleep", "60", NULL };

	assert_int_equal(run_program(missing, 1000, 0, &err), -ENOENT);
	assert_int_equal(run_program(fails, 10000, 0, &err), -EIO);
	assert_string_equal(err.msg, "sh failed: 'last'");
	assert_int_equal(run_program(fails, 10000, 2, &err), 0);
	assert_int_equal(run_program(hangs, 50, 0, &err), -ETIMEDOUT);
}

/* On a filesystem that has reflinks, in a mount namespace of its own. */
static int on_reflinks(const char *mnt)
{
	char *disk = path_join(mnt, "disk"), *copy = path_join(mnt, "copy");
	char *other = path_join("/dev/shm", "drover-test-no-reflink");
	char *data = calloc(1, 8 << 20);
	struct statvfs before, after;
	enum clone_method m = CLONE_COPY;
	struct buf a, b;
	struct err err;
	int fd;

	for (size_t i = 0; i < 8 << 20; i++)
		data[i] = (char)(i * 31 + i / 4096);
	kit_write(disk, data, 8 << 20);
	if (truncate(disk, 20 << 20) < 0)
		return 1;
	sync();
	if (statvfs(mnt, &before) < 0 || clone_file(disk, copy, 0, &m, &err) < 0)
		return 2;
	if (m != CLONE_REFLINK || statvfs(mnt, &after) < 0)
		return 3;
	/* It costs next to nothing. */
	if (before.f_bfree > after.f_bfree &&
		(before.f_bfree - after.f_bfree) * before.f_bsize > 1 << 20)
		return 4;
	assert_same(disk, copy);
	/* Two disks: what is written to one is not seen in the other. */
	fd = open(copy, O_WRONLY | O_CLOEXEC);
	if (pwrite(fd, "changed", 7, 4096) != 7)
		return 5;
	close(fd);
	a = kit_read(disk);
	b = kit_read(copy);
	if (memcmp(a.data, data, 8 << 20) != 0 || memcmp(b.data + 4096, "changed", 7) != 0)
		return 6;
	unlink(copy);
	/* Grown in the same step; no ext4 is in it. */
	if (clone_file(disk, copy, 30 << 20, &m, &err) < 0 || m != CLONE_REFLINK)
		return 7;
	buf_finish(&b);
	b = kit_read(copy);
	if (b.len != 30 << 20 || memcmp(a.data, b.data, a.len) != 0)
		return 8;
	/* Onto another filesystem it is a copy. */
	unlink(other);
	if (clone_file(disk, other, 0, &m, &err) < 0 || m != CLONE_COPY)
		return 9;
	assert_same(disk, other);
	unlink(other);
	return 0;
}

static void shares_blocks_where_it_can(void **state)
{
	struct fixture *f = *state;
	char *mnt = path_join(f->dir, "mnt");
	int r, status;
	pid_t pid;

	assert_int_equal(mkdir(mnt, 0700), 0);
	r = kit_sh("truncate -s 400M '%s' && PATH=$PATH:/usr/sbin:/sbin && "
		   "{ mkfs.xfs -q -m reflink=1 '%s' || mkfs.btrfs -q '%s'; } 2>/dev/null",
		f->disk, f->disk, f->disk);
	if (r != 0) {
		print_message("neither mkfs.xfs nor mkfs.btrfs: no reflinks to try\n");
		skip();
	}
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		if (unshare(CLONE_NEWNS) < 0 ||
			mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
			mount("none", "/dev/shm", "tmpfs", 0, NULL) < 0 ||
			kit_sh("mount -o loop '%s' '%s' 2>/dev/null", f->disk, mnt) != 0)
			_exit(77);
		r = on_reflinks(mnt);
		if (umount(mnt) < 0)
			r = r != 0 ? r : 10;
		_exit(r);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		print_message("loop mounts are not possible here: no reflinks to try\n");
		skip();
	}
	assert_int_equal(status, 0);
	free(mnt);
}

static void names_its_methods(void **state)
{
	assert_string_equal(clone_method_name(CLONE_REFLINK), "reflink");
	assert_string_equal(clone_method_name(CLONE_COPY), "copy");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(clones_sparsely, setup, teardown),
		cmocka_unit_test_setup_teardown(handles_all_shapes_of_files, setup, teardown),
		cmocka_unit_test_setup_teardown(grows_but_never_shrinks, setup, teardown),
		cmocka_unit_test_setup_teardown(leaves_other_content_alone, setup, teardown),
		cmocka_unit_test_setup_teardown(fails_with_nothing_left, setup, teardown),
		cmocka_unit_test_setup_teardown(shares_blocks_where_it_can, setup, teardown),
		cmocka_unit_test(names_its_methods),
		cmocka_unit_test(runs_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
