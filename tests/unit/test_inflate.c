/* Layers read ahead by a second thread, and their tar entries: pieces, ends, damage, early stops. */
#include "tests/unit/kit.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/digest.h"
#include "oci/entries.h"
#include "oci/inflate.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir;
	struct buf tar;  /* some files */
	struct buf full; /* with the end that kit_layer() adds */
	struct layer_src src[4];
	char diff_id[DIGEST_MAX];
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char zeros[1024] = { 0 };

	f->dir = rig_tmp();
	kit(&f->tar, "first", .len = 100);
	kit(&f->tar, "large", .len = 3000000);
	kit(&f->tar, "last", .len = 10);
	buf_add(&f->full, f->tar.data, f->tar.len);
	buf_add(&f->full, zeros, sizeof(zeros));
	assert_int_equal(digest_of("sha256:", f->full.data, f->full.len, f->diff_id, &f->err), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(f->src); i++)
		free((char *)f->src[i].path);
	buf_finish(&f->tar);
	buf_finish(&f->full);
	rig_tmp_finish(f->dir);
	free(f);
	return 0;
}

static void layer(struct fixture *f, size_t i, const char *filter)
{
	char name[16];

	snprintf(name, sizeof(name), "layer%zu", i);
	free((char *)f->src[i].path);
	f->src[i].path = kit_layer(f->dir, name, &f->tar, filter);
}

static struct inflate *start(struct fixture *f, size_t n)
{
	struct inflate *in = NULL;

	if (inflate_start(&in, f->src, n, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	return in;
}

/* Reads one layer; its bytes and the lengths of its pieces. */
static int read_layer(struct fixture *f, struct inflate *in, struct buf *out, struct buf *lengths)
{
	const void *data;
	size_t len;
	int r;

	while ((r = inflate_next(in, &data, &len, &f->err)) > 0) {
		buf_add(out, data, len);
		buf_printf(lengths, "%zu ", len);
	}
	return r;
}

static void pieces_do_not_depend_on_the_compression(void **state)
{
	static const char *const filters[] = { NULL, "gzip", "zstd" };
	struct fixture *f = *state;
	struct buf lengths[3] = { { 0 } };
	struct inflate *in;

	for (size_t i = 0; i < 3; i++) {
		layer(f, i, filters[i]);
		f->src[i].diff_id = f->diff_id;
	}
	in = start(f, 3);
	for (size_t i = 0; i < 3; i++) {
		struct buf out = { 0 };

		assert_int_equal(read_layer(f, in, &out, &lengths[i]), 0);
		assert_int_equal(out.len, f->full.len);
		assert_true(memcmp(out.data, f->full.data, out.len) == 0);
		assert_string_equal(buf_str(&lengths[i]), buf_str(&lengths[0]));
		buf_finish(&out);
	}
	assert_true(inflate_total(in) > 0);
	assert_int_equal(inflate_done(in), inflate_total(in));
	inflate_stop(in);
	for (size_t i = 0; i < 3; i++)
		buf_finish(&lengths[i]);
}

/* Wherever the reader leaves, the thread ends and nothing is left open. */
static void stops_anywhere(void **state)
{
	struct fixture *f = *state;
	unsigned fds = rig_count_fds();
	const void *data;
	size_t len;

	layer(f, 0, "gzip");
	layer(f, 1, NULL);
	inflate_stop(NULL);
	for (int pieces = 0; pieces < 30; pieces++) {
		struct inflate *in = start(f, 2);

		for (int i = 0; i < pieces; i++) {
			if (inflate_next(in, &data, &len, &f->err) < 0)
				fail_msg("%s", f->err.msg);
			if (i + 1 < pieces && inflate_done(in) == inflate_total(in) && i > 24)
				break;
		}
		inflate_stop(in);
		assert_int_equal(rig_count_fds(), fds);
	}
}

static void the_rest_of_a_layer_is_drained(void **state)
{
	struct fixture *f = *state;
	struct buf out = { 0 }, lengths = { 0 };
	struct inflate *in;
	const void *data;
	size_t len;

	layer(f, 0, "zstd");
	layer(f, 1, NULL);
	f->src[0].diff_id = f->src[1].diff_id = f->diff_id;
	in = start(f, 2);
	assert_int_equal(inflate_next(in, &data, &len, &f->err), 1);
	/* The digest is right also for what was only drained. */
	assert_int_equal(inflate_drain(in, &f->err), 0);
	assert_int_equal(read_layer(f, in, &out, &lengths), 0);
	assert_int_equal(out.len, f->full.len);
	inflate_stop(in);
	buf_finish(&out);
	buf_finish(&lengths);
}

static void digests_are_checked_at_the_end(void **state)
{
	struct fixture *f = *state;
	char sha512[DIGEST_MAX], wrong[DIGEST_MAX], *message;
	struct inflate *in;
	const void *data;
	size_t len;

	layer(f, 0, "gzip");
	assert_int_equal(digest_of("sha512:", f->full.data, f->full.len, sha512, &f->err), 0);
	f->src[0].diff_id = sha512;
	in = start(f, 1);
	assert_int_equal(inflate_drain(in, &f->err), 0);
	inflate_stop(in);
	strcpy(wrong, f->diff_id);
	wrong[70] = wrong[70] == '0' ? '1' : '0';
	f->src[0].diff_id = wrong;
	in = start(f, 1);
	assert_int_equal(inflate_drain(in, &f->err), -EBADMSG);
	message = str_printf("unpacked it has the digest %s, not '%s'", f->diff_id, wrong);
	assert_string_equal(f->err.msg, message);
	free(message);
	inflate_stop(in);
	f->src[0].diff_id = "md5:00";
	in = start(f, 1);
	assert_int_equal(inflate_next(in, &data, &len, &f->err), -ENOTSUP);
	assert_string_equal(f->err.msg, "diff_id 'md5:00': unknown kind of digest");
	inflate_stop(in);
	f->src[0].diff_id = "no digest";
	in = start(f, 1);
	assert_int_equal(inflate_next(in, &data, &len, &f->err), -ENOTSUP);
	inflate_stop(in);
}

/* A failure stays one, however often it is asked for. */
static void failures_last(void **state)
{
	struct fixture *f = *state;
	struct buf whole;
	struct inflate *in;
	const void *data;
	size_t len;

	f->src[0].path = strdup("/nonexistent/layer");
	in = start(f, 1);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(inflate_next(in, &data, &len, &f->err), -ENOENT);
		assert_string_equal(
			f->err.msg, "open '/nonexistent/layer': No such file or directory");
	}
	assert_int_equal(inflate_drain(in, NULL), -ENOENT);
	inflate_stop(in);
	layer(f, 0, "gzip");
	whole = kit_read(f->src[0].path);
	kit_write(f->src[0].path, whole.data, whole.len - 1);
	buf_finish(&whole);
	in = start(f, 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(inflate_drain(in, &f->err), -EBADMSG);
	assert_string_equal(f->err.msg, "gzip: it is cut off");
	inflate_stop(in);
}

static void descriptors_stay_the_caller_s(void **state)
{
	struct fixture *f = *state;
	struct inflate *in;
	int fd;

	layer(f, 0, "gzip");
	fd = open(f->src[0].path, O_RDONLY | O_CLOEXEC);
	f->src[1] = (struct layer_src){ .fd = fd, .diff_id = f->diff_id };
	assert_int_equal(inflate_start(&in, &f->src[1], 1, &f->err), 0);
	assert_int_equal(inflate_drain(in, &f->err), 0);
	inflate_stop(in);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	/* It was read to its end. */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), lseek(fd, 0, SEEK_END));
	close(fd);
}

/* Entries */

static struct entries *open_entries(struct fixture *f, size_t n)
{
	struct entries *es = NULL;

	if (entries_open(&es, f->src, n, NULL, NULL, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	return es;
}

/* "0:first 0:large ...", or the error's number at the end. */
static void assert_entries(struct fixture *f, size_t n, bool with_data, const char *expected)
{
	struct entries *es = open_entries(f, n);
	struct archive_entry *e;
	struct buf b = { 0 };
	uint64_t offset, sum;
	const void *data;
	size_t at, len;
	int r, d = 0;

	while ((r = entries_next(es, &e, &at, &f->err)) > 0) {
		buf_printf(&b, "%zu:%s ", at, archive_entry_pathname(e));
		for (sum = 0;
			with_data && (d = entries_data(es, &data, &len, &offset, &f->err)) > 0;) {
			assert_int_equal(offset, sum);
			sum += len;
		}
		if (d < 0)
			r = d;
		if (d < 0)
			break;
		assert_true(!with_data || sum == (uint64_t)archive_entry_size(e));
	}
	if (r < 0)
		buf_printf(&b, "%d", r);
	assert_string_equal(buf_str(&b), expected);
	buf_finish(&b);
	entries_close(es);
}

static void entries_of_all_layers_follow(void **state)
{
	struct fixture *f = *state;

	layer(f, 0, "gzip");
	layer(f, 2, "zstd");
	buf_clear(&f->tar);
	layer(f, 1, NULL);
	kit(&f->tar, "own", .len = 5000);
	layer(f, 3, NULL);
	/* Whether anybody looks at the data or not; an empty layer has no entries. */
	assert_entries(f, 4, true, "0:first 0:large 0:last 2:first 2:large 2:last 3:own ");
	assert_entries(f, 4, false, "0:first 0:large 0:last 2:first 2:large 2:last 3:own ");
	assert_entries(f, 0, false, "");
	entries_close(NULL);
}

static void a_layer_of_no_bytes_is_empty(void **state)
{
	struct fixture *f = *state;

	f->src[0].path = path_join(f->dir, "nothing");
	kit_write(f->src[0].path, "", 0);
	layer(f, 1, NULL);
	assert_entries(f, 2, true, "1:first 1:large 1:last ");
}

/* What is wrong behind the tar's end is found too, when the layer is left. */
static void damage_behind_the_end_is_seen(void **state)
{
	struct fixture *f = *state;
	char *zeros = calloc(1, 600000);
	struct buf b;

	buf_add(&f->tar, zeros, 600000);
	free(zeros);
	layer(f, 0, "gzip");
	layer(f, 1, "gzip");
	b = kit_read(f->src[0].path);
	b.data[b.len - 6] ^= 1;
	kit_write(f->src[0].path, b.data, b.len);
	buf_finish(&b);
	assert_entries(f, 2, true, "0:first 0:large 0:last -74");
	assert_string_equal(f->err.msg, "layer 1: gzip: its checksum is wrong");
}

/* A wrong bit that makes the tar nonsense is told as what it is. */
static void damage_comes_before_nonsense(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	layer(f, 1, NULL);
	buf_clear(&f->tar);
	kit(&f->tar, "x", .len = 400000);
	memset(f->tar.data + 512 + 400384 - 512, 'x', 512);
	for (int i = 0; i < 10000; i++)
		buf_adds(&f->tar, "this is no header at all, but text of some length that follows");
	layer(f, 0, "gzip");
	/* The layer as a whole is what it should be: then the tar is at fault. */
	assert_entries(f, 1, true, "0:x -22");
	assert_non_null(strstr(f->err.msg, "layer 1: no tar that can be read: "));
	b = kit_read(f->src[0].path);
	b.data[b.len - 6] ^= 1;
	kit_write(f->src[0].path, b.data, b.len);
	buf_finish(&b);
	assert_entries(f, 1, true, "0:x -74");
	assert_string_equal(f->err.msg, "layer 1: gzip: its checksum is wrong");
}

static void the_wrong_layer_is_named(void **state)
{
	struct fixture *f = *state;

	layer(f, 0, NULL);
	f->src[1].path = path_join(f->dir, "nonsense");
	kit_write(f->src[1].path, "a page of a hotel's network", 27);
	assert_entries(f, 2, false, "0:first 0:large 0:last -22");
	assert_non_null(strstr(f->err.msg, "layer 2: no tar"));
}

struct seen {
	uint64_t done, total;
	unsigned calls;
};

static void note(void *arg, uint64_t done, uint64_t total)
{
	struct seen *s = arg;

	assert_true(done >= s->done && done <= total);
	s->done = done;
	s->total = total;
	s->calls++;
}

static void progress_reaches_the_total(void **state)
{
	struct fixture *f = *state;
	struct seen seen = { 0 };
	struct archive_entry *e;
	struct entries *es;
	size_t at;

	layer(f, 0, "gzip");
	layer(f, 1, "zstd");
	assert_int_equal(entries_open(&es, f->src, 2, note, &seen, &f->err), 0);
	while (entries_next(es, &e, &at, &f->err) > 0)
		;
	entries_close(es);
	assert_int_equal(seen.done, seen.total);
	assert_true(seen.calls > 4);
}

/* The reader's locale is the caller's again, whatever happened in between. */
static void the_locale_is_put_back(void **state)
{
	struct fixture *f = *state;
	locale_t mine = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0), old;
	struct entries *es;

	assert_true(mine != (locale_t)0);
	old = uselocale(mine);
	layer(f, 0, NULL);
	es = open_entries(f, 1);
	assert_true(uselocale((locale_t)0) != mine);
	entries_close(es);
	assert_true(uselocale((locale_t)0) == mine);
	uselocale(old);
	freelocale(mine);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(pieces_do_not_depend_on_the_compression),
		TEST(stops_anywhere),
		TEST(the_rest_of_a_layer_is_drained),
		TEST(digests_are_checked_at_the_end),
		TEST(failures_last),
		TEST(descriptors_stay_the_caller_s),
		TEST(entries_of_all_layers_follow),
		TEST(a_layer_of_no_bytes_is_empty),
		TEST(damage_behind_the_end_is_seen),
		TEST(damage_comes_before_nonsense),
		TEST(the_wrong_layer_is_named),
		TEST(progress_reaches_the_total),
		TEST(the_locale_is_put_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
