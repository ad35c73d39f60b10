/* Overlays: what we make and write is what qemu-img reads, and the other way round. */
#include "tests/unit/kit.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/inject.h"
#include "oci/overlay.h"
#include "oci/qcow2.h"
#include "tests/unit/rig.h"

#define MIB (1ull << 20)

struct fixture {
	char *dir, *base, *other, *disk, *flat;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->base = path_join(f->dir, "built.ext4");
	f->other = path_join(f->dir, "other");
	f->disk = path_join(f->dir, "other/disk.qcow2");
	f->flat = path_join(f->dir, "flat");
	assert_int_equal(mkdir(f->other, 0700), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_tmp_finish(f->dir);
	free(f->base);
	free(f->other);
	free(f->disk);
	free(f->flat);
	free(f);
	return 0;
}

static void assert_same(const char *a, const char *b)
{
	struct buf x = kit_read(a), y = kit_read(b);

	assert_int_equal(x.len, y.len);
	assert_true(memcmp(x.data, y.data, x.len) == 0);
	buf_finish(&x);
	buf_finish(&y);
}

/* Random bytes with a hole in the middle. */
static void make_base(const struct fixture *f, size_t len)
{
	char *data = calloc(1, len);

	srandom(7);
	for (size_t i = 0; i < len; i++)
		if (i < len / 3 || i > len / 2)
			data[i] = (char)random();
	kit_write(f->base, data, len);
	free(data);
}

static void make_overlay(const struct fixture *f, uint64_t size)
{
	struct err err;

	if (overlay_create(f->base, f->disk, size, &err) < 0)
		fail_msg("%s", err.msg);
}

static unsigned bases(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	while ((e = readdir(d)) != NULL)
		n += overlay_is_base(e->d_name);
	closedir(d);
	return n;
}

static void assert_checked(const struct fixture *f)
{
	assert_int_equal(kit_sh("qemu-img check -q %s", f->disk), 0);
}

/* What qemu-img makes of it. */
static void assert_shows(const struct fixture *f, const char *want)
{
	assert_checked(f);
	assert_int_equal(kit_sh("qemu-img convert -f qcow2 -O raw %s %s", f->disk, f->flat), 0);
	assert_same(f->flat, want);
}

static void is_what_lies_below(void **state)
{
	struct fixture *f = *state;
	struct qcow2_head head;
	struct stat st, base;
	char *path;
	struct err err;

	make_base(f, 3 * MIB);
	make_overlay(f, 0);
	assert_shows(f, f->base);
	assert_int_equal(qcow2_head(f->disk, &head, &err), 0);
	assert_int_equal(head.size, 3 * MIB);
	assert_true(head.backing_raw);
	assert_int_equal(overlay_base(f->disk, &path, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(stat(f->base, &base), 0);
	assert_int_equal(st.st_ino, base.st_ino);
	assert_int_equal(st.st_nlink, 2);
	free(path);
	assert_int_equal(overlay_create(f->base, f->disk, 0, &err), -EEXIST);
	assert_int_equal(overlay_create(f->base, f->flat, MIB, &err), -EINVAL);
}

/* Behind the end of what is below there are zeros, in whatever way it ends. */
static void is_larger(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	make_base(f, 1000000);
	make_overlay(f, 5 * MIB);
	assert_checked(f);
	assert_int_equal(kit_sh("qemu-img convert -f qcow2 -O raw %s %s", f->disk, f->flat), 0);
	b = kit_read(f->flat);
	assert_int_equal(b.len, 5 * MIB);
	for (size_t i = 1000000; i < b.len; i++)
		assert_int_equal(b.data[i], 0);
	buf_finish(&b);
	assert_int_equal(kit_sh("cmp -n 1000000 %s %s", f->flat, f->base), 0);
}

/* Writes of any size at any place, some by QEMU, some by us, each seen by the other. */
static void writes_as_qemu_does(void **state)
{
	struct fixture *f = *state;
	size_t len = 40 * MIB;
	char *model, *want = calloc(1, len), *piece = malloc(MIB), *got = malloc(len);
	struct buf b;
	struct err err;

	make_base(f, 30 * MIB);
	b = kit_read(f->base);
	memcpy(want, b.data, b.len);
	buf_finish(&b);
	make_overlay(f, len);
	for (int round = 0; round < 6; round++) {
		struct qcow2 *q;

		assert_int_equal(qcow2_open(&q, f->disk, true, &err), 0);
		for (int i = 0; i < 40; i++) {
			size_t n = 1 + (size_t)random() % 200000, at = (size_t)random() % (len - n);

			memset(piece, random(), n);
			memcpy(want + at, piece, n);
			if (qcow2_write(q, at, piece, n, &err) < 0)
				fail_msg("%s", err.msg);
		}
		assert_int_equal(qcow2_read(q, 0, got, len, &err), 0);
		assert_memory_equal(got, want, len);
		assert_int_equal(qcow2_write(q, len - 1, piece, 2, &err), -EINVAL);
		qcow2_close(q);
		assert_checked(f);
		assert_int_equal(
			kit_sh("qemu-io -f qcow2 -c 'write -q -P %d %dM 300k' -c 'write -q -z %dM 2M' %s",
				round + 1, 3 * round + 1, 5 * round + 3, f->disk),
			0);
		memset(want + (3ull * round + 1) * MIB, round + 1, 300 << 10);
		memset(want + (5ull * round + 3) * MIB, 0, 2 * MIB);
	}
	model = path_join(f->dir, "model");
	kit_write(model, want, len);
	assert_shows(f, model);
	free(model);
	free(want);
	free(piece);
	free(got);
}

static void shows_what_was_written(void **state)
{
	struct fixture *f = *state;
	char *model = path_join(f->dir, "model");
	struct qcow2 *q;
	struct err err;

	make_base(f, 8 * MIB);
	assert_int_equal(kit_sh("cp %s %s", f->base, model), 0);
	make_overlay(f, 0);
	assert_int_equal(qcow2_open(&q, f->disk, true, &err), 0);
	assert_int_equal(qcow2_write(q, 3 * MIB - 5, "crossing a border", 17, &err), 0);
	assert_int_equal(qcow2_write(q, 8 * MIB - 3, "end", 3, &err), 0);
	qcow2_close(q);
	assert_int_equal(kit_sh("printf 'crossing a border' | dd of=%s bs=1 seek=%llu conv=notrunc "
				"status=none && printf end | dd of=%s bs=1 seek=%llu conv=notrunc "
				"status=none",
				 model, 3 * MIB - 5, model, 8 * MIB - 3),
		0);
	assert_shows(f, model);
	unlink(f->flat);
	assert_int_equal(overlay_flatten(f->disk, f->flat, &err), 0);
	assert_same(f->flat, model);
	free(model);
}

/* More clusters than one block of refcounts counts. */
static void counts_beyond_a_block(void **state)
{
	struct fixture *f = *state;
	struct qcow2 *q;
	char word[8];
	struct err err;

	make_base(f, 1 * MIB);
	make_overlay(f, 3ull << 30);
	/* Sparse: only the first and the last of them are looked at. */
	assert_int_equal(truncate(f->disk, (2ull << 30) - (1 << 16)), 0);
	assert_int_equal(qcow2_open(&q, f->disk, true, &err), 0);
	for (uint64_t at = 0; at < 3ull << 30; at += 512 * MIB)
		assert_int_equal(qcow2_write(q, at + 12345, "a word", 6, &err), 0);
	assert_int_equal(qcow2_read(q, 512 * MIB + 12345, word, 6, &err), 0);
	assert_memory_equal(word, "a word", 6);
	qcow2_close(q);
	assert_checked(f);
}

static void writes_nothing_that_is_there(void **state)
{
	struct fixture *f = *state;
	struct stat before, after;
	struct qcow2 *q;
	struct err err;
	struct buf b;

	make_base(f, 4 * MIB);
	make_overlay(f, 0);
	assert_int_equal(stat(f->disk, &before), 0);
	b = kit_read(f->base);
	assert_int_equal(qcow2_open(&q, f->disk, true, &err), 0);
	assert_int_equal(qcow2_write(q, 0, b.data, b.len, &err), 0);
	qcow2_close(q);
	buf_finish(&b);
	assert_int_equal(stat(f->disk, &after), 0);
	assert_int_equal(after.st_size, before.st_size);
}

/* ---- what is refused ---- */

static void assert_refused(const struct fixture *f, bool writable, const char *why)
{
	struct qcow2 *q;
	struct err err;

	assert_true(qcow2_open(&q, f->disk, writable, &err) < 0);
	if (strstr(err.msg, why) == NULL)
		fail_msg("%s", err.msg);
}

static void poke(const struct fixture *f, off_t at, const void *data, size_t len)
{
	int fd = open(f->disk, O_WRONLY);

	assert_int_equal(pwrite(fd, data, len, at), (ssize_t)len);
	close(fd);
}

static void refuses_others(void **state)
{
	struct fixture *f = *state;
	char *path = NULL;
	struct err err;

	make_base(f, MIB);
	/* Whoever can write the header chooses no file of the host. */
	assert_int_equal(
		kit_sh("qemu-img create -q -f qcow2 -b %s -F raw %s", f->base, f->disk), 0);
	assert_refused(f, false, "is not in its folder");
	assert_int_equal(overlay_base(f->disk, &path, &err), -EINVAL);
	unlink(f->disk);
	make_overlay(f, 0);
	/* The format of what is below is said, or it is not taken. */
	poke(f, 112, "xyz", 3);
	assert_refused(f, false, "is not said to be raw");
	assert_int_equal(overlay_base(f->disk, &path, &err), -EINVAL);
	poke(f, 112, "raw", 3);
	assert_int_equal(kit_sh("qemu-img snapshot -c one %s", f->disk), 0);
	assert_refused(f, true, "has snapshots in it");
	assert_int_equal(kit_sh("qemu-img snapshot -d one %s", f->disk), 0);
	/* "incompatible features": an external data file. */
	poke(f, 79, "\4", 1);
	assert_refused(f, false, "has features that are not known here");
	poke(f, 79, "\0", 1);
	poke(f, 36, "\0\0\0\0", 4);
	assert_refused(f, false, "its header is broken");
	poke(f, 0, "QFJ", 3);
	assert_refused(f, false, "is no qcow2 image");
}

/* ---- names ---- */

static void keeps_what_is_below(void **state)
{
	struct fixture *f = *state;
	char *copies = path_join(f->dir, "copies"), *copy = path_join(copies, "disk.qcow2");
	struct err err;

	make_base(f, MIB);
	make_overlay(f, 0);
	assert_int_equal(mkdir(copies, 0700), 0);
	assert_int_equal(kit_sh("cp %s %s", f->disk, copy), 0);
	assert_int_equal(overlay_check(copy, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "without which it is nothing"));
	assert_int_equal(overlay_link(f->disk, copies, &err), 0);
	assert_int_equal(overlay_link(f->disk, copies, &err), 0);
	assert_int_equal(overlay_check(copy, &err), 0);
	/* Swept is what no overlay of the folder lies above. */
	overlay_sweep(copies);
	assert_int_equal(bases(copies), 1);
	assert_int_equal(kit_sh("mv %s %s.before", copy, copy), 0);
	overlay_sweep(copies);
	assert_int_equal(bases(copies), 1);
	assert_int_equal(kit_sh("rm %s.before", copy), 0);
	overlay_sweep(copies);
	assert_int_equal(bases(copies), 0);
	/* One that cannot be read may lie above any. */
	kit_write(copy, "broken", 6);
	assert_int_equal(overlay_link(f->disk, copies, &err), 0);
	overlay_sweep(copies);
	assert_int_equal(bases(copies), 1);
	assert_int_equal(bases(f->other), 1);
	free(copies);
	free(copy);
}

/* A name in another filesystem cannot be: who asked takes another way. */
static void is_of_one_filesystem(void **state)
{
	struct fixture *f = *state;
	char dir[] = "/dev/shm/drover-overlay.XXXXXX", *to;
	struct stat a, b;
	struct err err;

	make_base(f, MIB);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(stat(dir, &a), 0);
	assert_int_equal(stat(f->dir, &b), 0);
	to = path_join(dir, "disk.qcow2");
	if (a.st_dev != b.st_dev)
		assert_int_equal(overlay_create(f->base, to, 0, &err), -EOPNOTSUPP);
	assert_int_equal(bases(dir), 0);
	free(to);
	assert_int_equal(remove_tree(dir, NULL), 0);
}

static void is_written_into(void **state)
{
	static const char *const keys[] = { "ssh-ed25519 AAAA one", NULL };
	struct fixture *f = *state;
	struct inject_spec spec = { .hostname = "shop", .authorized_keys = keys, .qcow2 = true };
	struct inject_result result;
	struct buf t = { 0 }, before, after;
	ext2_filsys fs;
	struct err err;

	kit(&t, "etc/passwd", .data = "root:x:0:0:root:/root:/bin/sh\n", .len = 30);
	kit(&t, "usr/sbin/sshd", .len = 10);
	kit(&t, "big", .len = 3000000);
	kit_disk(f->dir, f->base, &t, 1);
	before = kit_read(f->base);
	make_overlay(f, 0);
	if (inject_ext4(f->disk, &spec, &result, &err) < 0)
		fail_msg("%s", err.msg);
	assert_string_equal(result.warning, "");
	assert_checked(f);
	assert_int_equal(overlay_flatten(f->disk, f->flat, &err), 0);
	kit_fsck(f->flat);
	fs = kit_open(f->flat);
	kit_assert_text(fs, "/etc/hostname", "shop\n");
	ext2fs_free(fs);
	after = kit_read(f->base);
	assert_memory_equal(before.data, after.data, before.len);
	buf_finish(&before);
	buf_finish(&after);
	/* It is not told apart by what is in it: a guest may write such bytes into a raw disk. */
	spec.qcow2 = false;
	assert_int_equal(inject_ext4(f->disk, &spec, &result, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		TEST(is_what_lies_below),
		TEST(is_larger),
		TEST(writes_as_qemu_does),
		TEST(shows_what_was_written),
		TEST(counts_beyond_a_block),
		TEST(writes_nothing_that_is_there),
		TEST(refuses_others),
		TEST(keeps_what_is_below),
		TEST(is_of_one_filesystem),
		TEST(is_written_into),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
