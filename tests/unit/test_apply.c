/*
 * What layers make of one another, told to a sink that writes it down: which calls come, in which
 * order, and what hostile or broken layers may not do.
 */
#include "tests/unit/kit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "lib/file.h"
#include "oci/apply.h"
#include "tests/unit/rig.h"

#define ROOT 7 /* number of the root directory */

struct fixture {
	char *dir;
	struct buf tars[4];
	size_t n;
	struct tree *tree;
	struct buf diary;
	uint32_t next;
	char *targets[64];
	/* The call (by its name) that fails with -EDQUOT. */
	const char *fail;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->n = 1;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(f->tars); i++)
		buf_finish(&f->tars[i]);
	for (size_t i = 0; i < ARRAY_LEN(f->targets); i++)
		free(f->targets[i]);
	tree_destroy(f->tree);
	buf_finish(&f->diary);
	rig_tmp_finish(f->dir);
	free(f);
	return 0;
}

static int failing(struct fixture *f, const char *call, struct err *err)
{
	return str_eq(f->fail, call) ? err_set(err, -EDQUOT, "no %s", call) : 0;
}

static int add(void *arg, const struct ext4_meta *m, uint64_t entry, uint32_t *ino, struct err *err)
{
	struct fixture *f = arg;

	if (failing(f, "add", err) < 0)
		return -EDQUOT;
	*ino = 100 + f->next++;
	buf_printf(
		&f->diary, "add %u %o %u:%u #%u\n", *ino, m->mode, m->uid, m->gid, (unsigned)entry);
	if (S_ISLNK(m->mode))
		free(f->targets[*ino - 100]);
	if (S_ISLNK(m->mode))
		f->targets[*ino - 100] = strdup(m->target);
	for (size_t i = 0; i < m->nxattrs; i++)
		buf_printf(&f->diary, "  %s=%.*s\n", m->xattrs[i].name, (int)m->xattrs[i].len,
			(const char *)m->xattrs[i].value);
	return 0;
}

static int data(void *arg, uint64_t offset, const void *bytes, size_t len, struct err *err)
{
	struct fixture *f = arg;

	buf_printf(&f->diary, "data %u+%zu\n", (unsigned)offset, len);
	return failing(f, "data", err);
}

static int end(void *arg, uint64_t size, struct err *err)
{
	struct fixture *f = arg;

	buf_printf(&f->diary, "end %u\n", (unsigned)size);
	return failing(f, "end", err);
}

static int set_meta(void *arg, uint32_t ino, const struct ext4_meta *m, struct err *err)
{
	struct fixture *f = arg;

	buf_printf(&f->diary, "meta %u %o %u:%u\n", ino, m->mode, m->uid, m->gid);
	return failing(f, "meta", err);
}

static int link_one(void *arg, uint32_t ino, struct err *err)
{
	struct fixture *f = arg;

	buf_printf(&f->diary, "link %u\n", ino);
	return failing(f, "link", err);
}

static int unlink_one(void *arg, uint32_t ino, struct err *err)
{
	struct fixture *f = arg;

	buf_printf(&f->diary, "unlink %u\n", ino);
	return failing(f, "unlink", err);
}

static int read_target(void *arg, uint32_t ino, char *buf, struct err *err)
{
	struct fixture *f = arg;

	if (failing(f, "readlink", err) < 0)
		return -EDQUOT;
	strcpy(buf, f->targets[ino - 100]);
	return 0;
}

static const struct apply_sink full_sink = { add, data, end, set_meta, link_one, unlink_one,
	read_target };
static const struct apply_sink no_data_sink = { add, NULL, NULL, set_meta, link_one, unlink_one,
	read_target };

static int apply_to(struct fixture *f, const struct apply_sink *sink)
{
	struct layer_src src[ARRAY_LEN(f->tars)] = { 0 };
	char name[16];
	int r;

	tree_destroy(f->tree);
	assert_int_equal(tree_create(&f->tree, NULL), 0);
	buf_clear(&f->diary);
	f->next = 0;
	for (size_t i = 0; i < f->n; i++) {
		snprintf(name, sizeof(name), "layer%zu", i);
		src[i].path = kit_layer(f->dir, name, &f->tars[i], NULL);
	}
	r = apply_layers(f->tree, ROOT, src, f->n, sink, f, NULL, NULL, &f->err);
	for (size_t i = 0; i < f->n; i++)
		free((char *)src[i].path);
	return r;
}

static void applies(struct fixture *f, const char *diary)
{
	if (apply_to(f, &full_sink) < 0)
		fail_msg("%s", f->err.msg);
	if (diary != NULL)
		assert_string_equal(buf_str(&f->diary), diary);
}

/* Fails with this message; the tars are emptied for the next case. */
static void refuses(struct fixture *f, int code, const char *message)
{
	assert_int_equal(apply_to(f, &full_sink), code);
	assert_string_equal(f->err.msg, message);
	assert_int_equal(f->err.code, code);
	for (size_t i = 0; i < ARRAY_LEN(f->tars); i++)
		buf_clear(&f->tars[i]);
}

/* All names with their numbers, "/usr=101 /usr/x=102 ", sorted by walk order. */
static void assert_tree(struct fixture *f, const char *expected)
{
	struct buf b = { 0 };

	for (uint32_t id = tree_first(f->tree, TREE_ROOT); id != TREE_ROOT;
		id = tree_next(f->tree, id, TREE_ROOT)) {
		tree_path(f->tree, id, &b);
		buf_printf(&b, "=%u ", tree_at(f->tree, id)->ino);
	}
	assert_string_equal(buf_str(&b), expected);
	buf_finish(&b);
}

static void files_come_in_order(void **state)
{
	struct fixture *f = *state;

	kit(&f->tars[0], "./", .type = '5', .uid = 5);
	kit(&f->tars[0], "d/", .type = '5', .mode = 0700);
	kit(&f->tars[0], "d/f", .data = "hello", .len = 5, .mode = 04755, .uid = 1, .gid = 2,
		.pax = { { "SCHILY.xattr.user.a", "b" } });
	kit(&f->tars[0], "d/empty");
	kit(&f->tars[0], "d/s", .type = '2', .link = "f");
	kit(&f->tars[0], "far/away/fifo", .type = '6', .mode = 0600);
	kit(&f->tars[0], "d/", .type = '5', .mode = 0711, .gid = 9);
	applies(f, "meta 7 40755 5:0\n"
		   "add 100 40700 0:0 #1\n"
		   "add 101 104755 1:2 #2\n"
		   "  user.a=b\n"
		   "data 0+5\n"
		   "end 5\n"
		   "add 102 100644 0:0 #3\n"
		   "end 0\n"
		   "add 103 120644 0:0 #4\n"
		   /* Nobody named these two. */
		   "add 104 40755 0:0 #5\n"
		   "add 105 40755 0:0 #5\n"
		   "add 106 10600 0:0 #5\n"
		   "meta 100 40711 0:9\n");
	assert_tree(f, "/far/away/fifo=106 /far/away=105 /far=104 "
		       "/d/s=103 /d/empty=102 /d/f=101 /d=100 ");
	assert_int_equal(tree_at(f->tree, TREE_ROOT)->ino, ROOT);
}

/* A sink that only looks at names is given no data, and the entry's number to find it by. */
static void a_sink_may_leave_the_data(void **state)
{
	struct fixture *f = *state;

	f->n = 2;
	kit(&f->tars[0], "a", .len = 3000000);
	kit(&f->tars[0], "b", .len = 10);
	kit(&f->tars[1], "c", .len = 10);
	assert_int_equal(apply_to(f, &no_data_sink), 0);
	/* Counted over all layers. */
	assert_string_equal(buf_str(&f->diary),
		"add 100 100644 0:0 #0\nadd 101 100644 0:0 #1\nadd 102 100644 0:0 #2\n");
}

static void sparse_files_leave_holes(void **state)
{
	struct fixture *f = *state;

	kit(&f->tars[0], "sparse", .data = "data", .len = 4,
		.pax = { { "GNU.sparse.map", "1048576,4" }, { "GNU.sparse.size", "2000000" },
			{ "GNU.sparse.numblocks", "1" } });
	applies(f, "add 100 100644 0:0 #0\ndata 1048576+4\nend 2000000\n");
}

static void whiteouts_hide_lower_layers_only(void **state)
{
	struct fixture *f = *state;

	f->n = 2;
	kit(&f->tars[0], "gone");
	kit(&f->tars[0], "o/low");
	kit(&f->tars[0], "o/sub/low");
	kit(&f->tars[1], "gone");
	kit(&f->tars[1], ".wh.gone");
	kit(&f->tars[1], "o/sub/new");
	kit(&f->tars[1], "o/.wh..wh..opq");
	kit(&f->tars[1], ".wh.never");
	kit(&f->tars[1], "no/folder/.wh.x");
	kit(&f->tars[1], "gone/.wh.x");
	applies(f, NULL);
	assert_tree(f, "/gone=105 /o/sub/new=106 /o/sub=103 /o=101 ");
	/* The old one went when it was replaced, the low ones by the opaque folder. */
	assert_non_null(strstr(buf_str(&f->diary), "unlink 100\nadd 105"));
	assert_non_null(strstr(buf_str(&f->diary), "unlink 104\nunlink 102\n"));
}

static void the_root_can_be_opaque(void **state)
{
	struct fixture *f = *state;

	f->n = 2;
	kit(&f->tars[0], "a/b");
	kit(&f->tars[0], "c");
	kit(&f->tars[1], "d");
	kit(&f->tars[1], ".wh..wh..opq");
	applies(f, NULL);
	assert_tree(f, "/d=103 ");
}

/* One in its own folder ends where it is: what a link leads to outside the folder stays. */
static void whiteouts_do_not_follow_their_last_name(void **state)
{
	struct fixture *f = *state;

	f->n = 2;
	kit(&f->tars[0], "target/kept");
	kit(&f->tars[0], "link", .type = '2', .link = "target");
	kit(&f->tars[1], ".wh.link");
	applies(f, NULL);
	assert_tree(f, "/target/kept=101 /target=100 ");
}

/* What aufs kept at the root of a layer is no file of the image, nor is what lies below. */
static void aufs_remains_are_left_out(void **state)
{
	struct fixture *f = *state;

	kit(&f->tars[0], ".wh..wh.aufs", .len = 1);
	kit(&f->tars[0], ".wh..wh.orph/", .type = '5');
	kit(&f->tars[0], ".wh..wh.plnk/", .type = '5');
	kit(&f->tars[0], ".wh..wh.plnk/12.34", .len = 5);
	kit(&f->tars[0], "./.wh..wh.plnk/sub/56.78", .len = 5);
	kit(&f->tars[0], "a");
	applies(f, "add 100 100644 0:0 #5\nend 0\n");
	assert_tree(f, "/a=100 ");
}

static void hard_links_share_a_number(void **state)
{
	struct fixture *f = *state;

	f->n = 2;
	kit(&f->tars[0], "a", .len = 1);
	kit(&f->tars[0], "d/s", .type = '2', .link = "../a");
	kit(&f->tars[1], "b", .type = '1', .link = "/a");
	kit(&f->tars[1], "l", .type = '1', .link = "d/s");
	kit(&f->tars[1], "a", .type = '1', .link = "b");
	/* Over a folder, in which the linked file is itself. */
	kit(&f->tars[1], "d", .type = '1', .link = "d/s");
	applies(f, NULL);
	assert_tree(f, "/d=102 /l=102 /b=100 /a=100 ");
	assert_non_null(strstr(
		buf_str(&f->diary), "link 100\nlink 102\nlink 102\nunlink 102\nunlink 101\n"));
	assert_int_equal(
		tree_at(f->tree, tree_find(f->tree, TREE_ROOT, "l", 1))->type, TREE_SYMLINK);
	/* Named by the second layer, as far as its own whiteouts go. */
	assert_int_equal(tree_at(f->tree, tree_find(f->tree, TREE_ROOT, "a", 1))->layer, 2);
}

static void links_in_the_middle_stay_inside(void **state)
{
	struct fixture *f = *state;

	kit(&f->tars[0], "abs", .type = '2', .link = "/etc");
	kit(&f->tars[0], "up", .type = '2', .link = "../../../../..");
	kit(&f->tars[0], "abs/passwd", .len = 1);
	kit(&f->tars[0], "up/shadow", .len = 1);
	kit(&f->tars[0], "up/abs/../group", .len = 1);
	applies(f, NULL);
	/* The last name is cleaned first, as tar names are: up/group. */
	assert_tree(f, "/group=105 /shadow=104 /etc/passwd=103 /etc=102 /up=101 /abs=100 ");
}

static void a_link_as_last_name_is_replaced(void **state)
{
	struct fixture *f = *state;

	kit(&f->tars[0], "passwd", .type = '2', .link = "/etc/passwd");
	kit(&f->tars[0], "passwd", .len = 1);
	kit(&f->tars[0], "dir", .type = '2', .link = "/etc");
	kit(&f->tars[0], "dir/", .type = '5');
	applies(f, NULL);
	assert_tree(f, "/dir=103 /passwd=101 ");
}

static void hostile_names_are_refused(void **state)
{
	struct fixture *f = *state;
	char name[300];

	kit(&f->tars[0], "../x");
	refuses(f, -EINVAL, "layer 1: '../x': the name leaves the image");
	kit(&f->tars[0], "/a/../../x");
	refuses(f, -EINVAL, "layer 1: '/a/../../x': the name leaves the image");
	kit(&f->tars[0], "../.wh.x");
	refuses(f, -EINVAL, "layer 1: '../.wh.x': the name leaves the image");
	kit(&f->tars[0], "a");
	kit(&f->tars[0], "h", .type = '1', .link = "../a");
	refuses(f, -EINVAL, "layer 1: 'h': hard link to '../a': the name leaves the image");
	f->n = 2;
	kit(&f->tars[1], "h", .type = '1', .link = "/etc/shadow");
	refuses(f, -EINVAL, "layer 2: 'h': a hard link to '/etc/shadow', which is missing");
	f->n = 1;
	kit(&f->tars[0], "h", .type = '1', .link = "/");
	refuses(f, -EINVAL, "layer 1: 'h': a hard link to '/', which is missing");
	kit(&f->tars[0], "d/", .type = '5');
	kit(&f->tars[0], "h", .type = '1', .link = "d");
	refuses(f, -EINVAL, "layer 1: 'h': a hard link to the directory 'd'");
	kit(&f->tars[0], "d/", .type = '5');
	kit(&f->tars[0], "d/.wh...");
	refuses(f, -EINVAL, "layer 1: 'd/.wh...': a whiteout of no file");
	kit(&f->tars[0], "d/", .type = '5');
	kit(&f->tars[0], "d/.wh.");
	refuses(f, -EINVAL, "layer 1: 'd/.wh.': a whiteout of no file");
	memset(name, 'n', 256);
	name[256] = '\0';
	kit(&f->tars[0], name);
	assert_int_equal(apply_to(f, &full_sink), -ENAMETOOLONG);
	assert_non_null(strstr(f->err.msg, "a part of the name is longer than 255 bytes"));
}

static void impossible_entries_are_refused(void **state)
{
	struct fixture *f = *state;
	struct kit_entry many = { .name = "x" };
	struct buf big = { 0 };

	kit(&f->tars[0], ".", .len = 1);
	refuses(f, -EINVAL, "layer 1: '.': the image's root is no directory");
	kit(&f->tars[0], "a");
	kit(&f->tars[0], "./", .type = '1', .link = "a");
	refuses(f, -EINVAL, "layer 1: './': the image's root is no directory");
	kit(&f->tars[0], "s", .type = '2', .link = "");
	refuses(f, -EINVAL, "layer 1: 's': a symbolic link without a target");
	kit(&f->tars[0], "a");
	kit(&f->tars[0], "a/b");
	refuses(f, -ENOTDIR, "layer 1: 'a/b': 'a' in it is no directory");
	kit(&f->tars[0], "a", .pax = { { "uid", "4294967296" } });
	refuses(f, -EINVAL, "layer 1: 'a': owner 4294967296:0 is out of range");
	/* A whiteout below a file hides nothing, but is no error in containerd either. */
	kit(&f->tars[0], "a");
	kit(&f->tars[0], "a/.wh.b");
	applies(f, NULL);
	buf_clear(&f->tars[0]);
	/* More attributes than one file can have; a pax header of them, written by hand. */
	for (int i = 0; i < 257; i++)
		buf_printf(&big, "28 SCHILY.xattr.user.%04d=x\n", i);
	kit(&f->tars[0], "pax", .type = 'x', .data = big.data, .len = big.len);
	kit_add(&f->tars[0], &many);
	refuses(f, -E2BIG, "layer 1: 'x': more than 256 extended attributes");
	buf_finish(&big);
}

static void layers_have_a_bound(void **state)
{
	struct fixture *f = *state;
	struct layer_src *src = calloc(1001, sizeof(*src));
	struct tree *t;

	assert_int_equal(tree_create(&t, NULL), 0);
	assert_int_equal(
		apply_layers(t, ROOT, src, 1001, &full_sink, f, NULL, NULL, &f->err), -EINVAL);
	assert_string_equal(f->err.msg, "more than 1000 layers");
	assert_int_equal(apply_layers(t, ROOT, src, 0, &full_sink, f, NULL, NULL, &f->err), 0);
	tree_destroy(t);
	free(src);
}

/* The sink's word goes up with the name in front, and nothing comes after it. */
static void the_sink_s_errors_go_up(void **state)
{
	static const struct {
		const char *call, *message;
	} rows[] = {
		{ "add", "layer 1: 'a': no add" },
		{ "data", "layer 1: 'a': no data" },
		{ "end", "layer 1: 'a': no end" },
		{ "meta", "layer 2: 'd/': no meta" },
		{ "readlink", "layer 2: 's/x': no readlink" },
		{ "link", "layer 2: 'h': no link" },
		{ "unlink", "layer 2: '.wh.a': no unlink" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		f->n = 2;
		kit(&f->tars[0], "a", .len = 1);
		kit(&f->tars[0], "d/", .type = '5');
		kit(&f->tars[0], "s", .type = '2', .link = "d");
		kit(&f->tars[1], "d/", .type = '5');
		kit(&f->tars[1], "s/x");
		kit(&f->tars[1], "h", .type = '1', .link = "a");
		kit(&f->tars[1], ".wh.a");
		kit(&f->tars[1], "never");
		f->fail = rows[i].call;
		refuses(f, -EDQUOT, rows[i].message);
		assert_int_equal(tree_find(f->tree, TREE_ROOT, "never", 5), TREE_NONE);
	}
}

/* A tar that ends within a file, or in the middle of a header. */
static void a_tar_that_ends_early_is_refused(void **state)
{
	struct fixture *f = *state;
	struct layer_src src = { 0 };
	char *path = path_join(f->dir, "cut");
	size_t cuts[] = { 512 + 100, 512 + 5000, 512 + 10240 + 100 };
	struct tree *t;

	kit(&f->tars[0], "a", .len = 10000);
	kit(&f->tars[0], "b", .len = 10000);
	src.path = path;
	for (size_t i = 0; i < ARRAY_LEN(cuts); i++) {
		kit_write(path, f->tars[0].data, cuts[i]);
		assert_int_equal(tree_create(&t, NULL), 0);
		assert_int_equal(apply_layers(t, ROOT, &src, 1, &full_sink, f, NULL, NULL, &f->err),
			-EINVAL);
		assert_non_null(strstr(f->err.msg, "no tar that can be read"));
		tree_destroy(t);
	}
	free(path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_come_in_order),
		TEST(a_sink_may_leave_the_data),
		TEST(sparse_files_leave_holes),
		TEST(whiteouts_hide_lower_layers_only),
		TEST(the_root_can_be_opaque),
		TEST(whiteouts_do_not_follow_their_last_name),
		TEST(aufs_remains_are_left_out),
		TEST(hard_links_share_a_number),
		TEST(links_in_the_middle_stay_inside),
		TEST(a_link_as_last_name_is_replaced),
		TEST(hostile_names_are_refused),
		TEST(impossible_entries_are_refused),
		TEST(layers_have_a_bound),
		TEST(the_sink_s_errors_go_up),
		TEST(a_tar_that_ends_early_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
