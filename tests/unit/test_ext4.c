/* The ext4 writer alone: directories of every size, extent trees, limits. */
#include "tests/unit/kit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/ext4.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir, *disk;
	int fd;
	struct ext4 *e;
	struct err err;
};

static void start(struct fixture *f, uint64_t size)
{
	struct ext4_spec spec = { .size_bytes = size, .label = "test" };

	f->fd = open(f->disk, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(f->fd >= 0);
	if (ext4_create(&f->e, f->fd, &spec, &f->err) < 0)
		fail_msg("%s", f->err.msg);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->disk = path_join(f->dir, "disk");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	ext4_destroy(f->e);
	close(f->fd);
	rig_tmp_finish(f->dir);
	free(f->disk);
	free(f);
	return 0;
}

static uint32_t add(struct fixture *f, uint32_t mode)
{
	struct ext4_meta m = { .mode = mode };
	uint32_t ino;

	if (ext4_add(f->e, &m, &ino, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	return ino;
}

/* lost+found, which must be there, and whatever is given, below the root. */
static struct ext4_stats finish(struct fixture *f, struct ext4_dirent *more, size_t n)
{
	struct ext4_dirent *v = calloc(n + 1, sizeof(*v));
	struct ext4_stats stats;
	int r;

	v[0] = (struct ext4_dirent){ "lost+found", 10, EXT2_FT_DIR, add(f, S_IFDIR | 0700) };
	if (n > 0)
		memcpy(v + 1, more, n * sizeof(*v));
	r = ext4_write_dir(f->e, v[0].ino, EXT4_ROOT, NULL, 0, &f->err);
	if (r == 0)
		r = ext4_write_dir(f->e, EXT4_ROOT, EXT4_ROOT, v, n + 1, &f->err);
	if (r == 0)
		r = ext4_finish(f->e, &stats, &f->err);
	free(v);
	if (r < 0)
		fail_msg("%s", f->err.msg);
	kit_fsck(f->disk);
	return stats;
}

/* A directory of n files with names of about this length; every name must be found again. */
static void directory_of(struct fixture *f, size_t n, int name_len)
{
	struct ext4_dirent *v = calloc(n + 1, sizeof(*v)), d = { "d", 1, EXT2_FT_DIR, 0 };
	uint32_t file = 0;
	char path[300];
	ext2_filsys fs;

	start(f, 64 << 20);
	d.ino = add(f, S_IFDIR | 0755);
	/* One file for all of them, by hard links, as far as these reach. */
	for (size_t i = 0; i < n; i++) {
		char *name = malloc(256);

		snprintf(name, 256, "%0*zu", name_len, i * 7919);
		v[i] = (struct ext4_dirent){ name, strlen(name), EXT2_FT_REG_FILE, 0 };
		if (i % 60000 == 0)
			file = add(f, S_IFREG | 0644);
		else
			assert_int_equal(ext4_link(f->e, file, &f->err), 0);
		v[i].ino = file;
	}
	if (ext4_write_dir(f->e, d.ino, EXT4_ROOT, v, n, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	finish(f, &d, 1);
	fs = kit_open(f->disk);
	assert_int_equal(
		!!(kit_inode(fs, "/d").i_flags & EXT2_INDEX_FL), n * (8 + name_len) > 4060);
	for (size_t i = 0; i < n; i += 1 + n / 50) {
		snprintf(path, sizeof(path), "/d/%s", v[i].name);
		assert_int_equal(kit_find(fs, path), v[i].ino);
	}
	ext2fs_close_free(&fs);
	for (size_t i = 0; i < n; i++)
		free((char *)v[i].name);
	free(v);
	ext4_destroy(f->e);
	f->e = NULL;
	close(f->fd);
}

static void writes_directories_of_every_size(void **state)
{
	struct fixture *f = *state;
	/* Around the borders: one block, two, and where the index needs a second level. */
	static const struct {
		size_t n;
		int len;
	} cases[] = { { 0, 8 }, { 1, 255 }, { 253, 8 }, { 254, 8 }, { 255, 8 }, { 600, 8 },
		{ 15 * 507, 255 }, { 15 * 507 + 1, 255 }, { 15 * 510 + 20, 250 }, { 20000, 20 } };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		directory_of(f, cases[i].n, cases[i].len);
	f->fd = -1;
}

/* The kernel's look-up goes by the hash tree alone, so it sees a wrong one. */
static void kernel_finds_every_name(void **state)
{
	struct fixture *f = *state;
	int r;

	if (geteuid() != 0 || kit_sh("unshare -m true 2>/dev/null") != 0) {
		print_message("mounting needs root\n");
		skip();
	}
	directory_of(f, 9000, 250);
	f->fd = -1;
	r = kit_sh(
		"mkdir '%s/mnt'; exec unshare -m sh -c '"
		"mount -o loop,ro \"$1\" \"$2\" 2>/dev/null || exit 77; cd \"$2/d\" || exit 1; "
		"[ $(ls -f | wc -l) = 9002 ] || exit 2; "
		"ls -f | xargs stat -c %%n >/dev/null || exit 3; cd /; umount \"$2\"' sh '%s' '%s/mnt'",
		f->dir, f->disk, f->dir);
	if (r == 77) {
		print_message("loop mounts are not possible here\n");
		skip();
	}
	assert_int_equal(r, 0);
}

/* Every other block a hole: one extent for each, more than an index block of 340 x 4 holds. */
static uint32_t add_combed(struct fixture *f, uint32_t blocks)
{
	uint32_t ino = add(f, S_IFREG | 0644);
	char block[EXT4_BLOCK];

	for (uint32_t i = 0; i < blocks; i++) {
		memset(block, 1 + i % 200, sizeof(block));
		if (ext4_data(f->e, (uint64_t)i * 2 * EXT4_BLOCK, block, sizeof(block), &f->err) <
			0)
			fail_msg("%s", f->err.msg);
	}
	assert_int_equal(ext4_end(f->e, (uint64_t)blocks * 2 * EXT4_BLOCK, &f->err), 0);
	return ino;
}

static void grows_extent_trees_and_frees_them(void **state)
{
	static const uint32_t sizes[] = { 0, 1, 4, 5, 340, 341, 1360, 1361, 3000 };
	struct fixture *f = *state;
	struct ext4_dirent v[ARRAY_LEN(sizes)];
	char names[ARRAY_LEN(sizes)][16], path[32];
	struct ext4_stats before, after;
	struct buf b;
	ext2_filsys fs;
	struct stat st;

	start(f, 64 << 20);
	before = finish(f, NULL, 0);
	ext4_destroy(f->e);
	close(f->fd);

	start(f, 64 << 20);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(names[i], sizeof(names[i]), "%u", sizes[i]);
		v[i] = (struct ext4_dirent){ names[i], strlen(names[i]), EXT2_FT_REG_FILE,
			add_combed(f, sizes[i]) };
	}
	finish(f, v, ARRAY_LEN(sizes));
	fs = kit_open(f->disk);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		snprintf(path, sizeof(path), "/%s", names[i]);
		b = kit_cat(fs, path);
		assert_int_equal(b.len, sizes[i] * 2 * EXT4_BLOCK);
		for (uint32_t k = 0; k < sizes[i]; k++) {
			assert_int_equal((uint8_t)b.data[k * 2 * EXT4_BLOCK + 77], 1 + k % 200);
			assert_int_equal(b.data[(k * 2 + 1) * EXT4_BLOCK], 0);
		}
		buf_finish(&b);
	}
	ext2fs_close_free(&fs);
	ext4_destroy(f->e);
	close(f->fd);

	start(f, 64 << 20);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		assert_int_equal(ext4_unlink(f->e, add_combed(f, sizes[i]), &f->err), 0);
	after = finish(f, NULL, 0);
	assert_int_equal(after.used_bytes, before.used_bytes);
	assert_int_equal(after.inodes, before.inodes);
	assert_int_equal(stat(f->disk, &st), 0);
	assert_true(st.st_blocks * 512 < 1 << 20);
}

static void writes_unaligned_pieces(void **state)
{
	struct fixture *f = *state;
	struct ext4_dirent d = { "f", 1, EXT2_FT_REG_FILE, 0 };
	char *all = malloc(300000);
	size_t at = 0, n;
	struct buf b;
	ext2_filsys fs;

	for (size_t i = 0; i < 300000; i++)
		all[i] = i * 31 + i / 4096;
	memset(all + 50000, 0, 9000);
	start(f, 64 << 20);
	d.ino = add(f, S_IFREG | 0644);
	for (unsigned i = 1; at < 300000; i++, at += n) {
		n = MIN((size_t)300000 - at, i * 911 % 13000);
		assert_int_equal(ext4_data(f->e, at, all + at, n, &f->err), 0);
	}
	assert_int_equal(ext4_end(f->e, 300000, &f->err), 0);
	finish(f, &d, 1);
	fs = kit_open(f->disk);
	b = kit_cat(fs, "/f");
	assert_int_equal(b.len, 300000);
	assert_true(memcmp(b.data, all, 300000) == 0);
	buf_finish(&b);
	ext2fs_close_free(&fs);
	free(all);
}

static void knows_its_limits(void **state)
{
	struct fixture *f = *state;
	struct ext4_meta m = { .mode = S_IFSOCK << 1 };
	uint32_t ino;
	char *target = malloc(5000);

	start(f, 64 << 20);
	ino = add(f, S_IFREG | 0644);
	for (int i = 1; i < 65000; i++)
		assert_int_equal(ext4_link(f->e, ino, &f->err), 0);
	assert_int_equal(ext4_link(f->e, ino, &f->err), -EMLINK);
	assert_int_equal(ext4_data(f->e, 1ull << 44, "x", 1, &f->err), -EFBIG);
	memset(target, 'x', 4999);
	target[4999] = '\0';
	m.mode = S_IFLNK | 0777;
	m.target = target;
	assert_int_equal(ext4_add(f->e, &m, &ino, &f->err), -ENAMETOOLONG);
	target[4095] = '\0';
	assert_int_equal(ext4_add(f->e, &m, &ino, &f->err), 0);
	assert_int_equal(ext4_readlink(f->e, ino, target, &f->err), 0);
	assert_int_equal(strlen(target), 4095);
	assert_false(ext4_is_full(f->e));
	free(target);
}

/* A host without room is another matter than a filesystem without room. */
static void says_when_the_host_is_full(void **state)
{
	struct fixture *f = *state;
	char *mb = malloc(1 << 20);
	uint32_t ino;
	int r = 0;

	start(f, 64 << 20);
	close(f->fd);
	ino = add(f, S_IFREG | 0644);
	assert_true(ino > 0);
	/* /dev/full answers every write with ENOSPC; the writer keeps the number of its descriptor. */
	assert_int_equal(open("/dev/full", O_RDWR | O_CLOEXEC), f->fd);
	memset(mb, 'x', 1 << 20);
	for (int i = 0; r == 0 && i < 4; i++)
		r = ext4_data(f->e, (uint64_t)i << 20, mb, 1 << 20, &f->err);
	assert_int_equal(r, -ENOSPC);
	assert_false(ext4_is_full(f->e));
	free(mb);
}

static void holds_large_filesystems_cheaply(void **state)
{
	static const uint64_t sizes[] = { 1ull << 20, 5ull << 20, 600ull << 20, 8ull << 30,
		1ull << 40 };
	struct fixture *f = *state;
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		start(f, sizes[i]);
		finish(f, NULL, 0);
		assert_int_equal(stat(f->disk, &st), 0);
		assert_int_equal(st.st_size, sizes[i]);
		/* The room for group descriptors of a larger size, and the copies of those in use. */
		assert_true((uint64_t)st.st_blocks * 512 < (6 << 20) + sizes[i] / 8192);
		ext4_destroy(f->e);
		f->e = NULL;
		close(f->fd);
	}
	f->fd = -1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_directories_of_every_size, setup, teardown),
		cmocka_unit_test_setup_teardown(kernel_finds_every_name, setup, teardown),
		cmocka_unit_test_setup_teardown(grows_extent_trees_and_frees_them, setup, teardown),
		cmocka_unit_test_setup_teardown(writes_unaligned_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(knows_its_limits, setup, teardown),
		cmocka_unit_test_setup_teardown(says_when_the_host_is_full, setup, teardown),
		cmocka_unit_test_setup_teardown(holds_large_filesystems_cheaply, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
