/* Writing with holes, and images that are one raw disk and nothing else. */
#include "tests/unit/kit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/rawdisk.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir, *path;
	int fd;
	struct buf tar;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->path = path_join(f->dir, "disk");
	f->fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	buf_finish(&f->tar);
	rig_tmp_finish(f->dir);
	free(f->path);
	free(f);
	return 0;
}

/* Zeros are left out by whole blocks; all that is no zero arrives, wherever the pieces end. */
static void zeros_become_holes(void **state)
{
	enum {
		SIZE = 300000
	};
	struct fixture *f = *state;
	char *data = calloc(1, SIZE);
	struct buf back;
	struct stat st;
	size_t at = 0, n;

	data[0] = data[4095] = data[8192] = data[100000] = data[SIZE - 1] = 'x';
	memset(data + 204800, 'y', 4096);
	for (unsigned i = 1; at < SIZE; i++, at += n) {
		n = MIN((size_t)SIZE - at, i * 911 % 13000);
		assert_int_equal(write_sparse(f->fd, data + at, n, at, &f->err), 0);
	}
	back = kit_read(f->path);
	assert_int_equal(back.len, SIZE);
	assert_true(memcmp(back.data, data, SIZE) == 0);
	assert_int_equal(fstat(f->fd, &st), 0);
	/* Five blocks; the filesystem may count some of its own. */
	assert_true(st.st_blocks * 512 <= 16 * 4096);
	assert_int_equal(write_sparse(f->fd, data, 0, 0, &f->err), 0);
	buf_finish(&back);
	free(data);
}

static void a_full_disk_is_told(void **state)
{
	struct fixture *f = *state;
	int full = open("/dev/full", O_RDWR | O_CLOEXEC);
	char zeros[8192] = { 0 };

	assert_int_equal(write_sparse(full, "x", 1, 0, &f->err), -ENOSPC);
	/* Nothing is written where there is nothing. */
	assert_int_equal(write_sparse(full, zeros, sizeof(zeros), 0, &f->err), 0);
	close(full);
}

/* The tar as the only layer. Whether it is a raw disk, or -errno. */
static int copy(struct fixture *f, uint64_t *size)
{
	struct layer_src src = { .path = kit_layer(f->dir, "layer", &f->tar, "gzip") };
	enum image_format format;
	bool found = true;
	int r;

	r = raw_disk_copy(&src, 1, f->fd, NULL, NULL, &found, size, &format, &f->err);
	free((char *)src.path);
	buf_clear(&f->tar);
	return r < 0 ? r : found;
}

static void other_images_are_no_disks(void **state)
{
	struct fixture *f = *state;
	uint64_t size;
	char *super = calloc(1, 8192);

	assert_int_equal(copy(f, &size), 0);
	kit(&f->tar, "d/", .type = '5');
	assert_int_equal(copy(f, &size), 0);
	/* Shorter than a superblock; long enough, without its magic. */
	kit(&f->tar, "disk", .len = 2047);
	assert_int_equal(copy(f, &size), 0);
	kit(&f->tar, "disk", .len = 100000);
	assert_int_equal(copy(f, &size), 0);
	kit(&f->tar, "disk", .type = '2', .link = "x");
	assert_int_equal(copy(f, &size), 0);
	kit(&f->tar, ".wh.disk");
	assert_int_equal(copy(f, &size), 0);
	/* A magic, but more blocks than the file has. */
	super[1024 + 56] = 0x53;
	super[1024 + 57] = (char)0xef;
	super[1024 + 4] = 100;
	kit(&f->tar, "disk", .data = super, .len = 8192);
	assert_int_equal(copy(f, &size), -EBADMSG);
	assert_non_null(strstr(f->err.msg, "shorter than its superblock says"));
	/* As many as it has; and then a second name for it. */
	super[1024 + 4] = 8;
	kit(&f->tar, "disk", .data = super, .len = 8192);
	assert_int_equal(copy(f, &size), 1);
	assert_int_equal(size, 8192);
	kit(&f->tar, "disk", .data = super, .len = 8192);
	kit(&f->tar, "same", .type = '1', .link = "disk");
	assert_int_equal(copy(f, &size), 0);
	/* A block size that no ext4 has. */
	super[1024 + 24] = 40;
	kit(&f->tar, "disk", .data = super, .len = 8192);
	assert_int_equal(copy(f, &size), -EBADMSG);
	free(super);
}

static void a_disk_that_does_not_fit_is_told(void **state)
{
	struct layer_src src = { 0 };
	struct rlimit lim, small;
	struct fixture *f = *state;
	enum image_format format;
	uint64_t size;
	bool found;
	int r;

	kit(&f->tar, "disk", .len = 1 << 20);
	src.path = kit_layer(f->dir, "layer", &f->tar, NULL);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &lim), 0);
	small = (struct rlimit){ 256 << 10, lim.rlim_max };
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	r = raw_disk_copy(&src, 1, f->fd, NULL, NULL, &found, &size, &format, &f->err);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
	free((char *)src.path);
	assert_int_equal(r, -EFBIG);
	assert_non_null(strstr(f->err.msg, "layer 1: 'disk': set the size of the disk"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(zeros_become_holes),
		TEST(a_full_disk_is_told),
		TEST(other_images_are_no_disks),
		TEST(a_disk_that_does_not_fit_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
