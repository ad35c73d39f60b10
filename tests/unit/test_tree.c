/* The names of an image in memory, and paths that stay inside it whatever its links say. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "oci/path.h"
#include "oci/tree.h"

/* Targets of symbolic links, by ino. */
static const char *targets[16];
static unsigned ntargets;
static unsigned made;
static int fail_with;

struct fixture {
	struct tree *t;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	ntargets = made = 0;
	fail_with = 0;
	assert_int_equal(tree_create(&f->t, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	tree_destroy(f->t);
	free(f);
	return 0;
}

static uint32_t add(struct fixture *f, uint32_t parent, const char *name, enum tree_type type)
{
	uint32_t id = TREE_NONE;

	assert_int_equal(tree_add(f->t, parent, name, strlen(name), &id, &f->err), 0);
	assert_int_equal(tree_at(f->t, id)->type, TREE_FILE);
	assert_int_equal(tree_at(f->t, id)->ino, 0);
	tree_at(f->t, id)->type = type;
	return id;
}

static uint32_t add_link(struct fixture *f, uint32_t parent, const char *name, const char *target)
{
	uint32_t id = add(f, parent, name, TREE_SYMLINK);

	tree_at(f->t, id)->ino = ntargets;
	targets[ntargets++] = target;
	return id;
}

static uint32_t find(struct fixture *f, uint32_t parent, const char *name)
{
	return tree_find(f->t, parent, name, strlen(name));
}

static void assert_path(struct fixture *f, uint32_t id, const char *path)
{
	struct buf b = { 0 };

	tree_path(f->t, id, &b);
	assert_string_equal(buf_str(&b), path);
	buf_finish(&b);
}

static void names_belong_to_their_folder(void **state)
{
	struct fixture *f = *state;
	uint32_t a = add(f, TREE_ROOT, "a", TREE_DIR), b = add(f, TREE_ROOT, "b", TREE_DIR);
	uint32_t aa = add(f, a, "a", TREE_FILE), ab = add(f, b, "a", TREE_FILE);
	char longest[256];

	assert_int_equal(find(f, TREE_ROOT, "a"), a);
	assert_int_equal(find(f, a, "a"), aa);
	assert_int_equal(find(f, b, "a"), ab);
	assert_int_equal(find(f, aa, "a"), TREE_NONE);
	assert_int_equal(find(f, a, "b"), TREE_NONE);
	/* By length, not by NUL, and a prefix is another name. */
	assert_int_equal(tree_find(f->t, TREE_ROOT, "abc", 1), a);
	assert_int_equal(find(f, TREE_ROOT, "ab"), TREE_NONE);
	assert_int_equal(find(f, TREE_ROOT, ""), TREE_NONE);
	assert_path(f, TREE_ROOT, "/");
	assert_path(f, a, "/a");
	assert_path(f, ab, "/b/a");
	/* The longest there is, and bytes of all kinds. */
	memset(longest, '\xff', 255);
	longest[255] = '\0';
	assert_string_equal(tree_name(f->t, add(f, b, longest, TREE_FILE)), longest);
	assert_true(find(f, b, longest) != TREE_NONE);
}

static void removed_ones_make_room(void **state)
{
	struct fixture *f = *state;
	uint32_t first = add(f, TREE_ROOT, "1", TREE_FILE), mid = add(f, TREE_ROOT, "2", TREE_FILE),
		 last = add(f, TREE_ROOT, "3", TREE_FILE), again;

	tree_remove(f->t, mid);
	assert_int_equal(find(f, TREE_ROOT, "2"), TREE_NONE);
	assert_int_equal(tree_at(f->t, last)->next, first);
	assert_int_equal(tree_at(f->t, first)->prev, last);
	again = add(f, TREE_ROOT, "4", TREE_FILE);
	assert_int_equal(again, mid);
	assert_string_equal(tree_name(f->t, again), "4");
	tree_remove(f->t, again);
	tree_remove(f->t, first);
	tree_remove(f->t, last);
	assert_int_equal(tree_at(f->t, TREE_ROOT)->child, TREE_NONE);
	assert_int_equal(tree_first(f->t, TREE_ROOT), TREE_ROOT);
	assert_int_equal(tree_next(f->t, TREE_ROOT, TREE_ROOT), TREE_NONE);
}

/* More than a chunk of nodes, than a chunk of names, than the table had room for at first. */
static void many_are_found_again(void **state)
{
	struct fixture *f = *state;
	uint32_t n = 30000, *ids = calloc(n, sizeof(*ids)), dirs[10], id, next, left = 0;
	char name[32];

	for (int d = 0; d < 10; d++) {
		snprintf(name, sizeof(name), "dir%d", d);
		dirs[d] = add(f, TREE_ROOT, name, TREE_DIR);
	}
	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "a-name-of-some-length-%u", i / 10);
		ids[i] = add(f, dirs[i % 10], name, TREE_FILE);
	}
	/* Every third goes. */
	for (uint32_t i = 0; i < n; i += 3)
		tree_remove(f->t, ids[i]);
	for (uint32_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "a-name-of-some-length-%u", i / 10);
		assert_int_equal(find(f, dirs[i % 10], name), i % 3 == 0 ? TREE_NONE : ids[i]);
	}
	/* Each node once, children first; and all can be removed on the way. */
	for (id = tree_first(f->t, TREE_ROOT); id != TREE_ROOT; id = next) {
		next = tree_next(f->t, id, TREE_ROOT);
		assert_int_equal(tree_at(f->t, id)->child, TREE_NONE);
		tree_remove(f->t, id);
		left++;
	}
	assert_int_equal(left, n - n / 3 + 10);
	assert_int_equal(tree_at(f->t, TREE_ROOT)->child, TREE_NONE);
	free(ids);
}

static void part_of_it_is_walked(void **state)
{
	struct fixture *f = *state;
	uint32_t a = add(f, TREE_ROOT, "a", TREE_DIR), b = add(f, a, "b", TREE_DIR);
	uint32_t c = add(f, b, "c", TREE_FILE), d = add(f, a, "d", TREE_FILE);

	add(f, TREE_ROOT, "other", TREE_FILE);
	/* The youngest first. */
	assert_int_equal(tree_first(f->t, a), d);
	assert_int_equal(tree_next(f->t, d, a), c);
	assert_int_equal(tree_next(f->t, c, a), b);
	assert_int_equal(tree_next(f->t, b, a), a);
	assert_int_equal(tree_next(f->t, a, a), TREE_NONE);
	assert_int_equal(tree_first(f->t, c), c);
}

/* Paths */

static void names_of_a_tar_are_cleaned(void **state)
{
	static const struct {
		const char *path, *clean, *last;
	} rows[] = {
		{ "usr//./lib/../bin", "usr/bin", "bin" },
		{ "/", "", "" },
		{ "", "", "" },
		{ ".", "", "" },
		{ "./", "", "" },
		{ "///a///", "a", "a" },
		{ "a/..", "", "" },
		{ "a/b/../../c", "c", "c" },
		{ "...", "...", "..." },
		{ "..a/.b/c..", "..a/.b/c..", "c.." },
		{ " ", " ", " " },
		{ "a\\..\\b", "a\\..\\b", "a\\..\\b" },
		{ "new\nline/\xff", "new\nline/\xff", "\xff" },
	};
	struct buf out = { 0 };
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(path_clean(rows[i].path, &out, &err), 0);
		assert_string_equal(buf_str(&out), rows[i].clean);
		assert_string_equal(path_last(&out), rows[i].last);
		assert_int_equal(out.len, strlen(rows[i].clean));
	}
	buf_finish(&out);
}

static void names_that_leave_are_refused(void **state)
{
	static const char *const rows[] = { "..", "../a", "/..", "/../etc/passwd", "a/../..",
		"a/../../a", "./..", "a/b/../../../etc", "//..//" };
	struct buf out = { 0 };
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (path_clean(rows[i], &out, &err) != -EINVAL)
			fail_msg("accepted: %s", rows[i]);
		assert_string_equal(err.msg, "the name leaves the image");
	}
	/* What was in it before does not count. */
	buf_adds(&out, "a/b/c");
	assert_int_equal(path_clean("..", &out, &err), -EINVAL);
	buf_finish(&out);
}

static void names_have_bounds(void **state)
{
	char *path = calloc(1, 70000);
	struct buf out = { 0 };
	struct err err;

	memset(path, 'a', 255);
	assert_int_equal(path_clean(path, &out, &err), 0);
	path[255] = 'a';
	assert_int_equal(path_clean(path, &out, &err), -ENAMETOOLONG);
	/* Also where ".." would take it away again. */
	strcpy(path + 256, "/../b");
	assert_int_equal(path_clean(path, &out, &err), -ENAMETOOLONG);
	memset(path, '/', 65536);
	path[65536] = '\0';
	assert_int_equal(path_clean(path, &out, &err), 0);
	path[65536] = '/';
	assert_int_equal(path_clean(path, &out, &err), -ENAMETOOLONG);
	buf_finish(&out);
	free(path);
}

static int read_target(void *arg, uint32_t ino, char *buf, struct err *err)
{
	if (fail_with != 0)
		return err_set(err, fail_with, "no target");
	strcpy(buf, targets[ino]);
	return 0;
}

static int make_dir(
	void *arg, uint32_t parent, const char *name, size_t len, uint32_t *out, struct err *err)
{
	struct fixture *f = arg;
	int r = tree_add(f->t, parent, name, len, out, err);

	if (r == 0)
		tree_at(f->t, *out)->type = TREE_DIR;
	made++;
	return r;
}

static const struct path_ops looking = { .readlink = read_target };
static const struct path_ops making = { .readlink = read_target, .mkdir = make_dir };

/* The path that is found, "none", or -errno as a number. */
static void assert_walk(
	struct fixture *f, const struct path_ops *ops, const char *path, const char *expected)
{
	uint32_t id = 12345;
	struct buf b = { 0 };
	int r = path_walk(f->t, ops, f, TREE_ROOT, path, strlen(path), &id, &f->err);

	if (r < 0)
		buf_printf(&b, "%d", r);
	else if (id == TREE_NONE)
		buf_adds(&b, "none");
	else
		tree_path(f->t, id, &b);
	if (strcmp(buf_str(&b), expected) != 0)
		fail_msg("%s is %s, not %s", path, buf_str(&b), expected);
	/* Written on success only. */
	assert_true(r == 0 || id == 12345);
	buf_finish(&b);
}

static void make_image(struct fixture *f)
{
	uint32_t usr = add(f, TREE_ROOT, "usr", TREE_DIR), lib = add(f, usr, "lib", TREE_DIR);

	add(f, lib, "x", TREE_FILE);
	add_link(f, TREE_ROOT, "lib", "usr/lib");
	add_link(f, TREE_ROOT, "abs", "/usr/../usr//lib/");
	add_link(f, usr, "out", "../../../../usr/lib");
	add_link(f, lib, "up", "..");
	add_link(f, TREE_ROOT, "chain", "abs");
	add_link(f, TREE_ROOT, "dangling", "made/of/links");
	add_link(f, TREE_ROOT, "self", "self");
	add_link(f, TREE_ROOT, "root", "/");
	add_link(f, TREE_ROOT, "tofile", "usr/lib/x");
}

static void links_lead_nowhere_but_inside(void **state)
{
	struct fixture *f = *state;

	make_image(f);
	assert_walk(f, &looking, "", "/");
	assert_walk(f, &looking, "/", "/");
	assert_walk(f, &looking, "lib/x", "/usr/lib/x");
	assert_walk(f, &looking, "/lib//./x", "/usr/lib/x");
	assert_walk(f, &looking, "abs/x", "/usr/lib/x");
	assert_walk(f, &looking, "usr/out/x", "/usr/lib/x");
	assert_walk(f, &looking, "chain/up/lib/up", "/usr");
	assert_walk(f, &looking, "../../../usr", "/usr");
	/* Not lexically here: of where the link leads to. */
	assert_walk(f, &looking, "lib/..", "/usr");
	assert_walk(f, &looking, "root/root/usr", "/usr");
	assert_walk(f, &looking, "tofile", "/usr/lib/x");
	assert_walk(f, &looking, "self", "-40");
	assert_walk(f, &looking, "none", "none");
	assert_walk(f, &looking, "none/../usr", "none");
	assert_walk(f, &looking, "dangling", "none");
	assert_walk(f, &looking, "usr/lib/x/y", "none");
	assert_walk(f, &looking, "usr/lib/x/", "/usr/lib/x");
	assert_int_equal(made, 0);
	fail_with = -EIO;
	assert_walk(f, &looking, "lib/x", "-5");
	assert_string_equal(f->err.msg, "no target");
}

static void missing_folders_are_made(void **state)
{
	struct fixture *f = *state;
	char longest[300];

	make_image(f);
	assert_walk(f, &making, "a/b/c", "/a/b/c");
	assert_int_equal(made, 3);
	assert_walk(f, &making, "a/b/c", "/a/b/c");
	assert_int_equal(made, 3);
	assert_walk(f, &making, "dangling/v", "/made/of/links/v");
	assert_walk(f, &making, "abs/new", "/usr/lib/new");
	assert_walk(f, &making, "usr/lib/x", "-20");
	assert_string_equal(f->err.msg, "'x' in it is no directory");
	assert_walk(f, &making, "tofile/y", "-20");
	memset(longest, 'n', 256);
	longest[256] = '\0';
	assert_walk(f, &making, longest, "-36");
	/* A folder of that length, by way of a link. */
	add_link(f, TREE_ROOT, "long", longest);
	assert_walk(f, &making, "long/x", "-36");
}

/* Links that double the path each, and such that are followed without end. */
static void links_have_bounds(void **state)
{
	struct fixture *f = *state;
	static char big[4096];

	add_link(f, TREE_ROOT, "x", "y");
	add_link(f, TREE_ROOT, "y", "x");
	assert_walk(f, &looking, "x/z", "-40");
	assert_string_equal(f->err.msg, "too many symbolic links");
	for (int i = 0; i < 4094; i += 2)
		memcpy(big + i, "b/", 2);
	big[4094] = '\0';
	add_link(f, TREE_ROOT, "b", big);
	assert_walk(f, &looking, "b/z", "-36");
	assert_string_equal(f->err.msg, "symbolic links make the path too long");
}

static void bases_and_lengths_count(void **state)
{
	struct fixture *f = *state;
	uint32_t lib, out;

	make_image(f);
	lib = find(f, find(f, TREE_ROOT, "usr"), "lib");
	assert_int_equal(path_walk(f->t, &looking, f, lib, "x", 1, &out, &f->err), 0);
	assert_path(f, out, "/usr/lib/x");
	assert_int_equal(path_walk(f->t, &looking, f, lib, "/usr", 4, &out, &f->err), 0);
	assert_path(f, out, "/usr");
	assert_int_equal(path_walk(f->t, &looking, f, lib, "../xyz", 2, &out, &f->err), 0);
	assert_path(f, out, "/usr");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(names_belong_to_their_folder),
		TEST(removed_ones_make_room),
		TEST(many_are_found_again),
		TEST(part_of_it_is_walked),
		cmocka_unit_test(names_of_a_tar_are_cleaned),
		cmocka_unit_test(names_that_leave_are_refused),
		cmocka_unit_test(names_have_bounds),
		TEST(links_lead_nowhere_but_inside),
		TEST(missing_folders_are_made),
		TEST(links_have_bounds),
		TEST(bases_and_lengths_count),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
