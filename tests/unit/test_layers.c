/* What layers make of one another, and what becomes of them in the ext4. */
#include "tests/unit/kit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "lib/file.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir, *disk;
};

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

	rig_tmp_finish(f->dir);
	free(f->disk);
	free(f);
	return 0;
}

/* Builds from one tar that must be refused; the message is left in err. */
static int refused(struct fixture *f, struct buf *tar, struct err *err)
{
	struct disk_result res;
	char *layer = kit_layer(f->dir, "refused", tar, NULL);
	int r = kit_build(f->disk, &layer, 1, NULL, &res, err);

	free(layer);
	buf_finish(tar);
	return r;
}

static void keeps_types_owners_modes_times(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 };
	char slow[300];
	struct ext2_inode_large i;
	ext2_filsys fs;

	memset(slow, 'x', sizeof(slow) - 1);
	slow[sizeof(slow) - 1] = '\0';
	kit(&t, "./", .type = '5', .mode = 0711, .uid = 3);
	kit(&t, "etc/", .type = '5', .mode = 01777, .uid = 1, .gid = 2);
	kit(&t, "etc/a", .data = "hello", .len = 5, .mode = 04755, .uid = 70000, .gid = 80000,
		.pax = { { "mtime", "1234567890.123456789" } });
	kit(&t, "etc/empty", .mode = 0400);
	kit(&t, "etc/old", .pax = { { "mtime", "-5" } });
	kit(&t, "etc/future", .pax = { { "mtime", "5000000000.5" } });
	kit(&t, "etc/uid", .pax = { { "uid", "4000000000" }, { "gid", "3000000000" } });
	kit(&t, "fast", .type = '2', .link = "etc/a");
	kit(&t, "slow", .type = '2', .link = slow);
	kit(&t, "dev/null", .type = '3', .mode = 0666, .major = 1, .minor = 3);
	kit(&t, "dev/big", .type = '4', .major = 259, .minor = 1000);
	kit(&t, "fifo", .type = '6');
	kit_disk(f->dir, f->disk, &t, 1);
	fs = kit_open(f->disk);
	i = kit_inode(fs, "/");
	assert_int_equal(i.i_mode, LINUX_S_IFDIR | 0711);
	assert_int_equal(i.i_uid, 3);
	i = kit_inode(fs, "/etc");
	assert_int_equal(i.i_mode, LINUX_S_IFDIR | 01777);
	assert_int_equal(i.i_links_count, 2);
	i = kit_inode(fs, "/etc/a");
	assert_int_equal(i.i_mode, LINUX_S_IFREG | 04755);
	assert_int_equal(i.i_uid | i.osd2.linux2.l_i_uid_high << 16, 70000);
	assert_int_equal(i.i_gid | i.osd2.linux2.l_i_gid_high << 16, 80000);
	assert_int_equal(i.i_mtime, 1234567890);
	assert_int_equal(i.i_mtime_extra, 123456789u << 2);
	kit_assert_text(fs, "/etc/a", "hello");
	kit_assert_text(fs, "/etc/empty", "");
	i = kit_inode(fs, "/etc/old");
	assert_int_equal((int32_t)i.i_mtime, -5);
	assert_int_equal(i.i_mtime_extra, 0);
	i = kit_inode(fs, "/etc/future");
	assert_int_equal(
		(int64_t)(int32_t)i.i_mtime + ((int64_t)(i.i_mtime_extra & 3) << 32), 5000000000);
	assert_int_equal(i.i_mtime_extra >> 2, 500000000);
	i = kit_inode(fs, "/etc/uid");
	assert_true((i.i_uid | (uint32_t)i.osd2.linux2.l_i_uid_high << 16) == 4000000000u);
	kit_assert_text(fs, "/fast", "etc/a");
	assert_int_equal(kit_inode(fs, "/fast").i_mode & LINUX_S_IFMT, LINUX_S_IFLNK);
	kit_assert_text(fs, "/slow", slow);
	assert_int_equal(kit_inode(fs, "/dev/null").i_block[0], 1 << 8 | 3);
	i = kit_inode(fs, "/dev/big");
	assert_int_equal(i.i_mode & LINUX_S_IFMT, LINUX_S_IFBLK);
	assert_int_equal(i.i_block[0], 0);
	assert_int_equal(i.i_block[1], (1000 & 0xff) | 259 << 8 | (1000 & ~0xff) << 12);
	assert_int_equal(kit_inode(fs, "/fifo").i_mode & LINUX_S_IFMT, LINUX_S_IFIFO);
	/* Nobody named /dev. */
	assert_int_equal(kit_inode(fs, "/dev").i_mode, LINUX_S_IFDIR | 0755);
	assert_int_equal(kit_inode(fs, "/dev").i_mtime, 1700000000);
	assert_true(kit_find(fs, "/lost+found") != 0);
	ext2fs_close_free(&fs);
}

static void applies_whiteouts(void **state)
{
	struct fixture *f = *state;
	struct buf t[3] = { 0 };
	ext2_filsys fs;

	kit(&t[0], "gone", .len = 5000);
	kit(&t[0], "dir/a/b/c", .len = 1);
	kit(&t[0], "dir/x", .len = 1);
	kit(&t[0], "opaque/lower", .len = 1);
	kit(&t[0], "opaque/both", .len = 1, .uid = 1);
	kit(&t[0], "opaque/sub/lower", .len = 1);
	kit(&t[0], "opaque/sub/deep/lower", .len = 1);
	kit(&t[0], "late/lower", .len = 1);
	kit(&t[0], "link", .type = '2', .link = "dir");
	kit(&t[0], "again", .len = 1, .uid = 1);
	kit(&t[0], "mixed/lower", .len = 1);
	kit(&t[1], ".wh.gone");
	kit(&t[1], ".wh.never-there");
	kit(&t[1], "no/such/.wh.dir");
	kit(&t[1], "dir/.wh.a");
	/* A whiteout through a symbolic link. */
	kit(&t[1], "link/.wh.x");
	/* Opaque first, then what belongs to this layer. */
	kit(&t[1], "opaque/", .type = '5');
	kit(&t[1], "opaque/.wh..wh..opq");
	kit(&t[1], "opaque/both", .len = 1, .uid = 2);
	kit(&t[1], "opaque/sub/upper", .len = 1);
	/* And the other way round: it hides lower layers only. */
	kit(&t[1], "late/upper", .len = 1);
	kit(&t[1], "late/.wh..wh..opq");
	kit(&t[1], "again", .len = 1, .uid = 2);
	kit(&t[1], ".wh.again");
	kit(&t[1], "mixed/upper", .len = 1);
	kit(&t[1], ".wh.mixed");
	kit(&t[1], ".wh..wh.plnk/1.2", .len = 1);
	kit(&t[1], ".wh..wh.aufs", .len = 1);
	kit(&t[2], "gone", .len = 0, .uid = 9);
	kit_disk(f->dir, f->disk, t, 3);
	fs = kit_open(f->disk);
	assert_int_equal(kit_inode(fs, "/gone").i_uid, 9);
	assert_int_equal(kit_find(fs, "/dir/a"), 0);
	assert_int_equal(kit_find(fs, "/dir/x"), 0);
	assert_true(kit_find(fs, "/dir") != 0);
	assert_int_equal(kit_find(fs, "/opaque/lower"), 0);
	assert_int_equal(kit_inode(fs, "/opaque/both").i_uid, 2);
	assert_int_equal(kit_find(fs, "/opaque/sub/lower"), 0);
	assert_int_equal(kit_find(fs, "/opaque/sub/deep"), 0);
	assert_true(kit_find(fs, "/opaque/sub/upper") != 0);
	assert_int_equal(kit_find(fs, "/late/lower"), 0);
	assert_true(kit_find(fs, "/late/upper") != 0);
	assert_int_equal(kit_inode(fs, "/again").i_uid, 2);
	assert_int_equal(kit_find(fs, "/mixed/lower"), 0);
	assert_true(kit_find(fs, "/mixed/upper") != 0);
	assert_int_equal(kit_find(fs, "/no"), 0);
	assert_int_equal(kit_find(fs, "/.wh..wh.aufs"), 0);
	ext2fs_close_free(&fs);
}

static void links_across_layers(void **state)
{
	struct fixture *f = *state;
	struct buf t[3] = { 0 };
	ext2_filsys fs;

	kit(&t[0], "a", .data = "first", .len = 5);
	kit(&t[0], "b", .type = '1', .link = "a");
	kit(&t[0], "sub/c", .type = '1', .link = "./b");
	kit(&t[0], "s", .type = '2', .link = "a");
	kit(&t[0], "t", .type = '1', .link = "s");
	kit(&t[1], "d", .type = '1', .link = "/sub/c");
	kit(&t[1], "a", .data = "second", .len = 6);
	kit(&t[1], "self", .len = 3);
	kit(&t[1], "self", .type = '1', .link = "self");
	kit(&t[2], ".wh.b");
	/* In the place of a directory. */
	kit(&t[2], "sub", .type = '1', .link = "d");
	kit_disk(f->dir, f->disk, t, 3);
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/a", "second");
	kit_assert_text(fs, "/d", "first");
	assert_int_equal(kit_find(fs, "/sub"), kit_find(fs, "/d"));
	assert_int_equal(kit_inode(fs, "/d").i_links_count, 2);
	assert_int_equal(kit_find(fs, "/s"), kit_find(fs, "/t"));
	assert_int_equal(kit_inode(fs, "/s").i_mode & LINUX_S_IFMT, LINUX_S_IFLNK);
	assert_int_equal(kit_inode(fs, "/self").i_links_count, 1);
	ext2fs_close_free(&fs);
}

static void replaces_one_kind_by_another(void **state)
{
	struct fixture *f = *state;
	struct buf t[2] = { 0 };
	ext2_filsys fs;

	kit(&t[0], "dir/a/b", .len = 1);
	kit(&t[0], "file", .len = 9000);
	kit(&t[0], "twice", .data = "1", .len = 1);
	kit(&t[0], "twice", .data = "22", .len = 2);
	kit(&t[0], "usr/lib/x", .len = 1);
	kit(&t[0], "lib", .type = '2', .link = "usr/lib");
	kit(&t[0], "abs", .type = '2', .link = "/usr/../usr//lib/");
	kit(&t[0], "out", .type = '2', .link = "../../../usr");
	kit(&t[0], "dangling", .type = '2', .link = "made/of/links");
	kit(&t[0], "todir", .type = '2', .link = "usr");
	kit(&t[0], "keep/me", .len = 1);
	kit(&t[1], "dir", .len = 3);
	kit(&t[1], "file/", .type = '5');
	kit(&t[1], "file/in", .len = 1);
	kit(&t[1], "lib/y", .len = 1);
	kit(&t[1], "abs/z", .len = 1);
	kit(&t[1], "out/w", .len = 1);
	kit(&t[1], "dangling/v", .len = 1);
	kit(&t[1], "todir/", .type = '5', .uid = 7);
	kit(&t[1], "keep/", .type = '5', .uid = 8);
	kit_disk(f->dir, f->disk, t, 2);
	fs = kit_open(f->disk);
	assert_int_equal(kit_inode(fs, "/dir").i_size, 3);
	assert_true(kit_find(fs, "/file/in") != 0);
	kit_assert_text(fs, "/twice", "22");
	assert_true(kit_find(fs, "/usr/lib/x") != 0);
	assert_true(kit_find(fs, "/usr/lib/y") != 0);
	assert_true(kit_find(fs, "/usr/lib/z") != 0);
	assert_true(kit_find(fs, "/usr/w") != 0);
	assert_true(kit_find(fs, "/made/of/links/v") != 0);
	assert_int_equal(kit_inode(fs, "/todir").i_mode & LINUX_S_IFMT, LINUX_S_IFDIR);
	assert_int_equal(kit_inode(fs, "/todir").i_uid, 7);
	assert_int_equal(kit_inode(fs, "/keep").i_uid, 8);
	assert_true(kit_find(fs, "/keep/me") != 0);
	ext2fs_close_free(&fs);
}

static void takes_names_as_bytes(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 };
	char longest[256], path[600], list[2000];
	ext2_filsys fs;
	struct buf l;

	memset(longest, 'n', 255);
	longest[255] = '\0';
	snprintf(path, sizeof(path), "%s/%s", longest, longest);
	kit(&t, path, .len = 1);
	kit(&t, "new\nline", .len = 1);
	/* Decomposed and composed, with and without a pax record: four different files. */
	kit(&t, "p-e\xcc\x81", .pax = { { "path", "p-e\xcc\x81" } });
	kit(&t, "p-\xc3\xa9", .pax = { { "path", "p-\xc3\xa9" } });
	kit(&t, "u-e\xcc\x81");
	kit(&t, "u-\xc3\xa9");
	kit(&t, "latin-\xe9\xff");
	kit(&t, "l", .type = '2', .link = "x", .pax = { { "linkpath", "e\xcc\x81" } });
	kit(&t, "/abs//./solute/../name", .len = 1);
	kit(&t, "dots/...", .len = 1);
	kit(&t, "dots/..a", .len = 1);
	kit_disk(f->dir, f->disk, &t, 1);
	fs = kit_open(f->disk);
	snprintf(path, sizeof(path), "/%s/%s", longest, longest);
	assert_true(kit_find(fs, path) != 0);
	assert_true(kit_find(fs, "/new\nline") != 0);
	assert_true(kit_find(fs, "/p-e\xcc\x81") != 0);
	assert_true(kit_find(fs, "/p-\xc3\xa9") != 0);
	assert_true(kit_find(fs, "/u-e\xcc\x81") != 0);
	assert_true(kit_find(fs, "/u-\xc3\xa9") != 0);
	assert_true(kit_find(fs, "/latin-\xe9\xff") != 0);
	kit_assert_text(fs, "/l", "e\xcc\x81");
	assert_true(kit_find(fs, "/abs/name") != 0);
	assert_int_equal(kit_find(fs, "/abs/solute"), 0);
	assert_true(kit_find(fs, "/dots/...") != 0);
	l = kit_list(fs);
	snprintf(list, sizeof(list), "%s", buf_str(&l));
	assert_non_null(strstr(list, "'/dots/..a'"));
	buf_finish(&l);
	ext2fs_close_free(&fs);
}

static void refuses_what_cannot_be(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 };
	struct err err;
	char *path;

	kit(&t, "a/../../etc/passwd", .len = 1);
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	assert_string_equal(err.msg, "layer 1: 'a/../../etc/passwd': the name leaves the image");
	kit(&t, "a", .len = 1);
	kit(&t, "b", .type = '1', .link = "../a");
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	kit(&t, "b", .type = '1', .link = "missing");
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "'missing', which is missing"));
	kit(&t, "d/", .type = '5');
	kit(&t, "b", .type = '1', .link = "d");
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	kit(&t, "a", .len = 1);
	kit(&t, "a/b", .len = 1);
	assert_int_equal(refused(f, &t, &err), -ENOTDIR);
	kit(&t, "x", .type = '2', .link = "y");
	kit(&t, "y", .type = '2', .link = "x");
	kit(&t, "x/z", .len = 1);
	assert_int_equal(refused(f, &t, &err), -ELOOP);
	kit(&t, ".wh...", .len = 0);
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	kit(&t, "d/.wh.", .len = 0);
	kit(&t, "d/", .type = '5');
	kit(&t, "d/.wh.", .len = 0);
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	kit(&t, "/", .len = 1);
	kit(&t, ".", .len = 1);
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	kit(&t, "s", .type = '2', .link = NULL);
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	kit(&t, "a", .pax = { { "uid", "99999999999" } });
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	path = malloc(300);
	memset(path, 'n', 256);
	path[256] = '\0';
	kit(&t, path, .len = 1);
	assert_int_equal(refused(f, &t, &err), -ENAMETOOLONG);
	free(path);
	path = malloc(70001);
	memset(path, 'n', 70000);
	for (size_t i = 1; i < 69999; i += 2)
		path[i] = '/';
	path[70000] = '\0';
	kit(&t, path, .len = 1);
	assert_int_equal(refused(f, &t, &err), -ENAMETOOLONG);
	free(path);
	for (int i = 0; i < 10; i++)
		buf_adds(&t, "this is no tar at all, but long enough that one could begin here");
	assert_int_equal(refused(f, &t, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "layer 1: no tar"));
}

static void takes_deep_trees(void **state)
{
	struct fixture *f = *state;
	struct buf t[2] = { 0 };
	struct disk_result res;
	struct err err;
	char *path = malloc(60001), *layers[2];

	/* 30,000 directories deep; a library's recursion over it would not come back. */
	for (size_t i = 0; i < 60000; i += 2) {
		path[i] = 'd';
		path[i + 1] = '/';
	}
	path[60000] = '\0';
	kit(&t[0], path, .type = '5');
	kit(&t[0], "other", .len = 1);
	kit(&t[1], ".wh.d");
	layers[0] = kit_layer(f->dir, "0", &t[0], NULL);
	layers[1] = kit_layer(f->dir, "1", &t[1], NULL);
	assert_int_equal(kit_build(f->disk, layers, 1,
				 &(struct disk_opts){ .size_bytes = 512 << 20 }, &res, &err),
		0);
	assert_true(res.files > 30000);
	if (kit_build(f->disk, layers, 2, &(struct disk_opts){ .size_bytes = 512 << 20 }, &res,
		    &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(res.files < 100);
	kit_fsck(f->disk);
	free(layers[0]);
	free(layers[1]);
	buf_finish(&t[0]);
	buf_finish(&t[1]);
	free(path);
}

/* As it is on disk: libext2fs' own conversion of access control lists is left out. */
static struct buf xattr(ext2_filsys fs, const char *path, const char *name)
{
	struct ext2_xattr_handle *h;
	struct buf b = { 0 };
	void *value;
	size_t len;

	assert_int_equal(ext2fs_xattrs_open(fs, kit_find(fs, path), &h), 0);
	ext2fs_xattrs_flags(h, &(unsigned){ XATTR_HANDLE_FLAG_RAW }, NULL);
	assert_int_equal(ext2fs_xattrs_read(h), 0);
	if (ext2fs_xattr_get(h, name, &value, &len) == 0) {
		buf_add(&b, value, len);
		ext2fs_free_mem(&value);
	}
	ext2fs_xattrs_close(&h);
	return b;
}

static void assert_xattr(
	ext2_filsys fs, const char *path, const char *name, const void *value, size_t len)
{
	struct buf b = xattr(fs, path, name);

	assert_int_equal(b.len, len);
	assert_memory_equal(b.data, value, len);
	buf_finish(&b);
}

static void keeps_xattrs(void **state)
{
	static const char cap[20] = { 1, 0, 0, 2, 0, 4 };
	/* user::rw-, user:1000:r--, group::r--, mask::r--, other::--- */
	static const char acl[] = "\2\0\0\0"
				  "\1\0\6\0\377\377\377\377"
				  "\2\0\4\0\350\3\0\0"
				  "\4\0\4\0\377\377\377\377"
				  "\20\0\4\0\377\377\377\377"
				  "\40\0\0\0\377\377\377\377";
	static const char disk_acl[] = "\1\0\0\0"
				       "\1\0\6\0"
				       "\2\0\4\0\350\3\0\0"
				       "\4\0\4\0"
				       "\20\0\4\0"
				       "\40\0\0\0";
	struct fixture *f = *state;
	struct buf t[2] = { 0 };
	char big[3000];
	struct disk_result res;
	struct err err;
	ext2_filsys fs;
	char *layer;

	memset(big, 'B', sizeof(big));
	kit(&t[0], "ping", .len = 3, .pax = { { "SCHILY.xattr.security.capability", cap, 20 } });
	kit(&t[0], "big", .len = 3,
		.pax = { { "SCHILY.xattr.user.big", big, sizeof(big) },
			{ "SCHILY.xattr.security.capability", cap, 20 },
			{ "SCHILY.xattr.user.a", "small" }, { "SCHILY.xattr.trusted.t", "x" } });
	kit(&t[0], "acl", .len = 3,
		.pax = { { "SCHILY.xattr.system.posix_acl_access", acl, sizeof(acl) - 1 } });
	kit(&t[0], "dir/", .type = '5', .pax = { { "SCHILY.xattr.user.big", big, sizeof(big) } });
	kit(&t[0], "dir2/", .type = '5', .pax = { { "SCHILY.xattr.user.a", "old" } });
	kit(&t[0], "link", .type = '2', .link = "ping",
		.pax = { { "SCHILY.xattr.trusted.l", "x" } });
	kit(&t[1], "dir/", .type = '5', .uid = 1);
	kit(&t[1], "dir2/", .type = '5', .pax = { { "SCHILY.xattr.user.a", "new" } });
	kit_disk(f->dir, f->disk, t, 2);
	fs = kit_open(f->disk);
	assert_xattr(fs, "/ping", "security.capability", cap, 20);
	assert_int_equal(kit_inode(fs, "/ping").i_file_acl, 0);
	assert_xattr(fs, "/big", "user.big", big, sizeof(big));
	assert_xattr(fs, "/big", "user.a", "small", 5);
	assert_xattr(fs, "/big", "trusted.t", "x", 1);
	assert_xattr(fs, "/big", "security.capability", cap, 20);
	assert_xattr(fs, "/acl", "system.posix_acl_access", disk_acl, sizeof(disk_acl) - 1);
	assert_xattr(fs, "/dir2", "user.a", "new", 3);
	assert_xattr(fs, "/link", "trusted.l", "x", 1);
	assert_int_equal(xattr(fs, "/dir", "user.big").len, 0);
	assert_int_equal(kit_inode(fs, "/dir").i_file_acl, 0);
	ext2fs_close_free(&fs);

	kit(&t[0], "x", .len = 1, .pax = { { "SCHILY.xattr.com.apple.quarantine", "q" } });
	layer = kit_layer(f->dir, "w", &t[0], NULL);
	assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), 0);
	assert_non_null(strstr(res.warning, "'com.apple.quarantine'"));
	kit_fsck(f->disk);
	free(layer);
	kit(&t[0], "y", .len = 1,
		.pax = { { "SCHILY.xattr.user.a", big, sizeof(big) },
			{ "SCHILY.xattr.user.b", big, sizeof(big) } });
	assert_int_equal(refused(f, &t[0], &err), -E2BIG);
}

static void makes_holes(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 }, zeros = { 0 }, all;
	struct ext2_inode_large i;
	char *block = calloc(1, 1 << 20);
	ext2_filsys fs;

	/* 3 MiB of zeros with two letters in them. */
	for (int k = 0; k < 3; k++)
		buf_add(&zeros, block, 1 << 20);
	zeros.data[1500000] = 'x';
	zeros.data[zeros.len - 1] = 'y';
	kit(&t, "zeros", .data = zeros.data, .len = zeros.len);
	/* GNU sparse format 1.0: a map of one block, then the data. */
	memcpy(block, "1\n1048576\n4\n", 12);
	memcpy(block + 512, "data", 4);
	kit(&t, "GNUSparseFile.0/sparse", .data = block, .len = 516,
		.pax = { { "GNU.sparse.major", "1" }, { "GNU.sparse.minor", "0" },
			{ "GNU.sparse.name", "sparse" }, { "GNU.sparse.realsize", "2000000" } });
	/* A map that reaches beyond the size. */
	kit(&t, "GNUSparseFile.0/liar", .data = block, .len = 516,
		.pax = { { "GNU.sparse.major", "1" }, { "GNU.sparse.minor", "0" },
			{ "GNU.sparse.name", "liar" }, { "GNU.sparse.realsize", "1" } });
	kit_disk(f->dir, f->disk, &t, 1);
	fs = kit_open(f->disk);
	all = kit_cat(fs, "/zeros");
	assert_int_equal(all.len, zeros.len);
	assert_memory_equal(all.data, zeros.data, zeros.len);
	buf_finish(&all);
	i = kit_inode(fs, "/zeros");
	assert_true(i.i_blocks <= 16 * 8);
	i = kit_inode(fs, "/sparse");
	assert_int_equal(i.i_size, 2000000);
	assert_int_equal(i.i_blocks, 8);
	all = kit_cat(fs, "/sparse");
	assert_int_equal(all.len, 2000000);
	assert_memory_equal(all.data + 1048576, "data", 4);
	assert_int_equal(all.data[1048575], 0);
	assert_int_equal(all.data[1048580], 0);
	buf_finish(&all);
	ext2fs_close_free(&fs);
	buf_finish(&zeros);
	free(block);
}

static void sample(struct buf *t, unsigned salt)
{
	char name[64];

	kit(t, "usr/", .type = '5');
	for (unsigned i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "usr/file-%u-%u", salt, i);
		kit(t, name, .len = i * 37 % 20000);
	}
	kit(t, "usr/large", .len = 3000000 + salt);
}

static void same_bytes_for_every_compression(void **state)
{
	struct fixture *f = *state;
	static const char *const filters[] = { NULL, "gzip", "zstd" };
	struct disk_opts opts = { .size_bytes = 64 << 20, .seed = "a", .label = "drover" };
	struct buf t = { 0 }, first = { 0 }, img, lower = { 0 };
	struct disk_result res;
	struct err err;
	char *layers[2];

	sample(&t, 1);
	sample(&lower, 2);
	layers[0] = kit_layer(f->dir, "lower", &lower, "gzip");
	for (size_t i = 0; i < 4; i++) {
		layers[1] = kit_layer(f->dir, "layer", &t, filters[i % 3]);
		if (kit_build(f->disk, layers, 2, &opts, &res, &err) < 0)
			fail_msg("%s", err.msg);
		free(layers[1]);
		kit_fsck(f->disk);
		img = kit_read(f->disk);
		if (i == 0) {
			first = img;
			continue;
		}
		assert_int_equal(img.len, first.len);
		assert_true(memcmp(img.data, first.data, first.len) == 0);
		buf_finish(&img);
	}
	assert_memory_equal(first.data + 1024 + 120, "drover", 7);
	/* Another seed gives another UUID (at 104 in the superblock). */
	opts.seed = "b";
	layers[1] = kit_layer(f->dir, "layer", &t, NULL);
	assert_int_equal(kit_build(f->disk, layers, 2, &opts, &res, &err), 0);
	img = kit_read(f->disk);
	assert_true(memcmp(img.data + 1024 + 104, first.data + 1024 + 104, 16) != 0);
	buf_finish(&img);
	buf_finish(&first);
	buf_finish(&t);
	buf_finish(&lower);
	free(layers[0]);
	free(layers[1]);
}

static void joins_gzip_members(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 }, a, b, both = { 0 };
	struct disk_result res;
	struct err err;
	char *one, *two, *layer = path_join(f->dir, "both"), zeros[700] = { 0 };
	ext2_filsys fs;

	/* A member may end anywhere; pad with zeros, as some tools do. */
	kit(&t, "a", .len = 100000);
	both.len = 0;
	kit_write(layer, t.data, 5000);
	assert_int_equal(kit_sh("gzip -c '%s' >'%s/one'", layer, f->dir), 0);
	kit_write(layer, t.data + 5000, t.len - 5000);
	assert_int_equal(kit_sh("gzip -c '%s' >'%s/two'", layer, f->dir), 0);
	one = path_join(f->dir, "one");
	two = path_join(f->dir, "two");
	a = kit_read(one);
	b = kit_read(two);
	buf_add(&both, a.data, a.len);
	buf_add(&both, b.data, b.len);
	buf_add(&both, zeros, sizeof(zeros));
	kit_write(layer, both.data, both.len);
	if (kit_build(f->disk, &layer, 1, NULL, &res, &err) < 0)
		fail_msg("%s", err.msg);
	fs = kit_open(f->disk);
	assert_int_equal(kit_inode(fs, "/a").i_size, 100000);
	ext2fs_close_free(&fs);

	buf_adds(&both, "garbage");
	kit_write(layer, both.data, both.len);
	assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), -EBADMSG);
	buf_finish(&a);
	buf_finish(&b);
	buf_finish(&both);
	buf_finish(&t);
	free(one);
	free(two);
	free(layer);
}

static void sees_damage(void **state)
{
	struct fixture *f = *state;
	static const char *const filters[] = { "gzip", "zstd" };
	struct buf t = { 0 }, whole;
	struct disk_result res;
	struct err err;
	char *layer;

	sample(&t, 1);
	for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
		layer = kit_layer(f->dir, "damaged", &t, filters[i]);
		whole = kit_read(layer);
		/* Cut off: in the middle, and in the last bytes, where only the checksum is. */
		kit_write(layer, whole.data, whole.len / 2);
		assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), -EBADMSG);
		kit_write(layer, whole.data, whole.len - 3);
		assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), -EBADMSG);
		assert_non_null(strstr(err.msg, "cut off"));
		/* A wrong bit. */
		whole.data[whole.len / 2] ^= 4;
		kit_write(layer, whole.data, whole.len);
		if (i == 0)
			assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), -EBADMSG);
		buf_finish(&whole);
		free(layer);
	}
	buf_finish(&t);
}

static void checks_diff_ids(void **state)
{
	struct fixture *f = *state;
	struct layer_src src[2] = { 0 };
	struct buf t = { 0 };
	struct disk_opts opts = { .size_bytes = 64 << 20 };
	struct disk_result res;
	struct err err;
	uint8_t sum[32];
	char id[80] = "sha256:", end[1024] = { 0 };
	int fd;

	sample(&t, 1);
	src[0].path = kit_layer(f->dir, "layer", &t, "gzip");
	buf_add(&t, end, sizeof(end));
	EVP_Digest(t.data, t.len, sum, NULL, EVP_sha256(), NULL);
	for (size_t i = 0; i < 32; i++)
		snprintf(id + 7 + 2 * i, 3, "%02x", sum[i]);
	src[0].diff_id = id;
	src[1] = src[0];
	fd = open(f->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (layers_build_disk(src, 2, &opts, fd, &res, &err) < 0)
		fail_msg("%s", err.msg);
	id[7] = id[7] == '0' ? '1' : '0';
	assert_int_equal(layers_build_disk(src, 2, &opts, fd, &res, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "layer 1: unpacked it has the digest sha256:"));
	src[0].diff_id = src[1].diff_id = "md5:1";
	assert_int_equal(layers_build_disk(src, 2, &opts, fd, &res, &err), -ENOTSUP);
	src[0].media_type = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
	assert_int_equal(layers_build_disk(src, 2, &opts, fd, &res, &err), -ENOTSUP);
	src[0].media_type = src[0].diff_id = NULL;
	src[0].path = "/nonexistent/layer";
	assert_int_equal(layers_build_disk(src, 1, &opts, fd, &res, &err), -ENOENT);
	close(fd);
	free((char *)src[1].path);
	buf_finish(&t);
}

static void reads_descriptors(void **state)
{
	struct fixture *f = *state;
	struct disk_opts opts = { .size_bytes = 64 << 20 };
	struct layer_src src = { 0 };
	struct disk_result res;
	struct buf t = { 0 };
	struct err err;
	char *layer;
	int fd;
	FILE *p;

	sample(&t, 1);
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	snprintf(err.msg, sizeof(err.msg), "cat '%s'", layer);
	p = popen(err.msg, "re");
	src.fd = fileno(p);
	fd = open(f->disk, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (layers_build_disk(&src, 1, &opts, fd, &res, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(res.files > 300);
	assert_int_equal(pclose(p), 0);
	close(fd);
	free(layer);
	buf_finish(&t);
	kit_fsck(f->disk);
}

static void grows_or_says_that_it_is_full(void **state)
{
	struct fixture *f = *state;
	struct disk_opts opts = { .size_bytes = 16 << 20 };
	struct disk_result res;
	struct buf t = { 0 };
	struct err err;
	char *layer, name[32];

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		kit(&t, name, .len = 1 << 20);
	}
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	assert_int_equal(kit_build(f->disk, &layer, 1, &opts, &res, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, "does not fit into a disk of 16 MiB"));
	opts = (struct disk_opts){ .first_bytes = 8 << 20 };
	if (kit_build(f->disk, &layer, 1, &opts, &res, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(res.size_bytes, 32 << 20);
	kit_fsck(f->disk);
	opts.max_bytes = 20 << 20;
	assert_int_equal(kit_build(f->disk, &layer, 1, &opts, &res, &err), -ENOSPC);
	free(layer);
	buf_finish(&t);
	/* Inodes run out as well. */
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		kit(&t, name);
	}
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	opts = (struct disk_opts){ .size_bytes = 8 << 20 };
	assert_int_equal(kit_build(f->disk, &layer, 1, &opts, &res, &err), -ENOSPC);
	assert_non_null(strstr(err.msg, "inodes"));
	opts = (struct disk_opts){ .first_bytes = 8 << 20 };
	assert_int_equal(kit_build(f->disk, &layer, 1, &opts, &res, &err), 0);
	kit_fsck(f->disk);
	free(layer);
	buf_finish(&t);
}

static void gives_room_back(void **state)
{
	struct fixture *f = *state;
	struct buf t[3] = { 0 };
	struct stat st;

	/* Each layer alone fits into the 64 MiB (4 of them journal), all together don't. */
	kit(&t[0], "big", .len = 25 << 20);
	kit(&t[0], "small", .len = 100);
	kit(&t[1], "big", .len = 26 << 20);
	kit(&t[2], "big", .len = 24 << 20);
	kit_disk(f->dir, f->disk, t, 3);
	assert_int_equal(stat(f->disk, &st), 0);
	assert_true((uint64_t)st.st_blocks * 512 < 30 << 20);
	kit(&t[0], "big", .len = 30 << 20);
	kit(&t[0], "small", .len = 1);
	kit(&t[1], ".wh.big");
	kit_disk(f->dir, f->disk, t, 2);
	assert_int_equal(stat(f->disk, &st), 0);
	assert_true(st.st_blocks * 512 < 4 << 20);
}

static void takes_a_raw_disk_as_it_is(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 }, raw, img;
	struct disk_result res;
	struct stat st;
	struct err err;
	char *inner = path_join(f->dir, "inner"), *layer;

	kit(&t, "etc/hello", .len = 5);
	kit(&t, "etc/world", .len = 5);
	kit_disk(f->dir, inner, &t, 1);
	raw = kit_read(inner);
	kit(&t, "disks/", .type = '5');
	kit(&t, "disks/disk.raw", .data = raw.data, .len = raw.len);
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	if (kit_build(f->disk, &layer, 1, NULL, &res, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(res.kind, DISK_RAW);
	assert_int_equal(res.size_bytes, raw.len);
	img = kit_read(f->disk);
	assert_int_equal(img.len, raw.len);
	assert_true(memcmp(img.data, raw.data, raw.len) == 0);
	assert_int_equal(stat(f->disk, &st), 0);
	assert_true(st.st_blocks * 512 < 16 << 20);
	buf_finish(&img);
	free(layer);
	/* A second file, and it is an ordinary image. */
	kit(&t, "README", .len = 10);
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	if (kit_build(f->disk, &layer, 1, &(struct disk_opts){ .size_bytes = 256 << 20 }, &res,
		    &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(res.kind, DISK_BUILT);
	kit_fsck(f->disk);
	free(layer);
	buf_finish(&t);
	/* The only file is a program. */
	kit(&t, "hello", .len = 10000);
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), 0);
	assert_int_equal(res.kind, DISK_BUILT);
	kit_fsck(f->disk);
	free(layer);
	buf_finish(&t);
	/* A disk that lacks its end. */
	kit(&t, "disk.raw", .data = raw.data, .len = raw.len / 2);
	assert_int_equal(refused(f, &t, &err), -EBADMSG);
	buf_finish(&raw);
	free(inner);
}

static void needs_no_files(void **state)
{
	struct fixture *f = *state;
	struct buf t[2] = { 0 };
	struct disk_result res;
	struct err err;
	char *layer = path_join(f->dir, "nothing");
	ext2_filsys fs;

	kit_disk(f->dir, f->disk, t, 2);
	fs = kit_open(f->disk);
	assert_true(kit_find(fs, "/lost+found") != 0);
	ext2fs_close_free(&fs);
	assert_int_equal(kit_build(f->disk, NULL, 0, NULL, &res, &err), 0);
	kit_fsck(f->disk);
	/* A layer of no bytes at all. */
	kit_write(layer, "", 0);
	assert_int_equal(kit_build(f->disk, &layer, 1, NULL, &res, &err), 0);
	kit_fsck(f->disk);
	free(layer);
}

struct seen {
	uint64_t done, total;
	unsigned calls;
};

static void note_progress(void *arg, uint64_t done, uint64_t total)
{
	struct seen *s = arg;

	assert_true(done >= s->done && done <= total);
	s->done = done;
	s->total = total;
	s->calls++;
}

static void reports_progress(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { 0 };
	struct disk_opts opts = { .size_bytes = 64 << 20, .progress = note_progress, .arg = &seen };
	struct buf t = { 0 };
	struct disk_result res;
	struct stat st;
	struct err err;
	char *layer;

	sample(&t, 1);
	layer = kit_layer(f->dir, "layer", &t, "gzip");
	assert_int_equal(stat(layer, &st), 0);
	/* The look for a raw disk comes first; its progress must not go back. */
	assert_int_equal(kit_build(f->disk, &layer, 1, &opts, &res, &err), 0);
	assert_int_equal(seen.total, st.st_size);
	assert_int_equal(seen.done, st.st_size);
	assert_true(seen.calls > 2);
	free(layer);
	buf_finish(&t);
}

/* The kernel's own view: mounts the disk, compares names and data, writes to it, checks again. */
static void mounts(void **state)
{
	struct fixture *f = *state;
	struct buf t = { 0 };
	char name[64];
	int r;

	if (geteuid() != 0 || kit_sh("unshare -m true 2>/dev/null") != 0) {
		print_message("mounting needs root\n");
		skip();
	}
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "many/name-of-file-%d", i);
		kit(&t, name, .len = i % 50);
	}
	kit(&t, "cap", .len = 1,
		.pax = { { "SCHILY.xattr.security.capability",
			"\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20 } });
	kit(&t, "large", .len = 2000000);
	kit_disk(f->dir, f->disk, &t, 1);
	r = kit_sh("mkdir '%s/mnt'; exec unshare -m sh -c '"
		   "mount -o loop \"$1\" \"$2\" 2>/dev/null || exit 77; cd \"$2\" || exit 1; "
		   "[ $(ls many | wc -l) = 3000 ] || exit 2; "
		   "for i in 0 1 17 1500 2999; do [ -e many/name-of-file-$i ] || exit 3; done; "
		   "[ ! -e many/none ] || exit 4; "
		   "[ $(wc -c <large) = 2000000 ] || exit 5; "
		   "for i in $(seq 500); do echo $i >many/added-$i || exit 6; done; "
		   "rm many/name-of-file-1*; "
		   "cd /; umount \"$2\"' sh '%s' '%s/mnt'",
		f->dir, f->disk, f->dir);
	if (r == 77) {
		print_message("loop mounts are not possible here\n");
		skip();
	}
	assert_int_equal(r, 0);
	kit_fsck(f->disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(keeps_types_owners_modes_times, setup, teardown),
		cmocka_unit_test_setup_teardown(applies_whiteouts, setup, teardown),
		cmocka_unit_test_setup_teardown(links_across_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(replaces_one_kind_by_another, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_names_as_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_cannot_be, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_deep_trees, setup, teardown),
		cmocka_unit_test_setup_teardown(keeps_xattrs, setup, teardown),
		cmocka_unit_test_setup_teardown(makes_holes, setup, teardown),
		cmocka_unit_test_setup_teardown(same_bytes_for_every_compression, setup, teardown),
		cmocka_unit_test_setup_teardown(joins_gzip_members, setup, teardown),
		cmocka_unit_test_setup_teardown(sees_damage, setup, teardown),
		cmocka_unit_test_setup_teardown(checks_diff_ids, setup, teardown),
		cmocka_unit_test_setup_teardown(reads_descriptors, setup, teardown),
		cmocka_unit_test_setup_teardown(grows_or_says_that_it_is_full, setup, teardown),
		cmocka_unit_test_setup_teardown(gives_room_back, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_a_raw_disk_as_it_is, setup, teardown),
		cmocka_unit_test_setup_teardown(needs_no_files, setup, teardown),
		cmocka_unit_test_setup_teardown(reports_progress, setup, teardown),
		cmocka_unit_test_setup_teardown(mounts, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
