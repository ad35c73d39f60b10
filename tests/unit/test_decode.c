/* Compressed streams as they come: in crumbs, in pieces, cut off, damaged, followed by rubbish. */
#include "tests/unit/kit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/decode.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir;
	struct buf plain, gzip, zstd;
};

static struct buf filtered(struct fixture *f, const char *name, const char *command)
{
	char *in = path_join(f->dir, "plain"), *out = path_join(f->dir, name);
	struct buf b;

	kit_write(in, f->plain.data, f->plain.len);
	assert_int_equal(kit_sh("%s <'%s' >'%s'", command, in, out), 0);
	b = kit_read(out);
	free(in);
	free(out);
	return b;
}

/* Letters that compress somewhat; len of them. */
static void letters(struct buf *b, size_t len)
{
	unsigned x = 1;

	while (b->len < len) {
		x = x * 1103515245 + 12345;
		buf_printf(b, "%x,", x >> 16);
	}
	b->len = len;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	letters(&f->plain, 3000);
	f->gzip = filtered(f, "gz", "gzip -nc");
	f->zstd = filtered(f, "zst", "zstd -qc --check");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	buf_finish(&f->plain);
	buf_finish(&f->gzip);
	buf_finish(&f->zstd);
	rig_tmp_finish(f->dir);
	free(f);
	return 0;
}

/* Feeds a pipe, step bytes at a time. */
struct feeder {
	int fd;
	const struct buf *data;
	size_t step;
	pthread_t thread;
};

static void *feed(void *arg)
{
	struct feeder *f = arg;

	for (size_t at = 0; at < f->data->len;) {
		ssize_t n = write(f->fd, f->data->data + at, MIN(f->step, f->data->len - at));

		if (n < 0)
			break;
		at += (size_t)n;
	}
	close(f->fd);
	return NULL;
}

/* Decodes what fd gives with reads of cap bytes into out. */
static int decode_fd(int fd, size_t cap, struct buf *out, uint64_t *bytes, struct err *err)
{
	_Atomic uint64_t taken = 0;
	uint8_t *buf = malloc(cap);
	struct decode *d = NULL;
	size_t got = 1;
	int r = decode_create(&d, fd, &taken, err);

	while (r == 0 && got > 0) {
		r = decode_read(d, buf, cap, &got, err);
		assert_true(got <= cap);
		if (r == 0)
			buf_add(out, buf, got);
		/* Less than was asked for is the end, and the end stays. */
		if (r == 0 && got < cap) {
			assert_int_equal(decode_read(d, buf, cap, &got, err), 0);
			assert_int_equal(got, 0);
		}
	}
	decode_destroy(d);
	free(buf);
	*bytes = taken;
	return r;
}

static int decode_by(
	const struct buf *in, size_t step, size_t cap, struct buf *out, struct err *err)
{
	struct feeder f = { .data = in, .step = step };
	uint64_t taken;
	int p[2], r;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	f.fd = p[1];
	assert_int_equal(pthread_create(&f.thread, NULL, feed, &f), 0);
	r = decode_fd(p[0], cap, out, &taken, err);
	close(p[0]);
	pthread_join(f.thread, NULL);
	if (r == 0)
		assert_int_equal(taken, in->len);
	return r;
}

static void assert_decodes(
	const struct buf *in, size_t step, size_t cap, const struct buf *expected)
{
	struct buf out = { 0 };
	struct err err;

	if (decode_by(in, step, cap, &out, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(out.len, expected->len);
	assert_true(out.len == 0 || memcmp(out.data, expected->data, out.len) == 0);
	buf_finish(&out);
}

static void every_size_of_crumb(void **state)
{
	struct fixture *f = *state;
	static const size_t sizes[] = { 1, 2, 3, 7, 1000, 1 << 20 };

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
			assert_decodes(&f->plain, sizes[i], sizes[k], &f->plain);
			assert_decodes(&f->gzip, sizes[i], sizes[k], &f->plain);
			assert_decodes(&f->zstd, sizes[i], sizes[k], &f->plain);
		}
	}
}

static void next_to_nothing(void **state)
{
	/* The magics, cut: too little to be either, so it is what it is. */
	static const char *const texts[] = { "", "a", "ab", "abc", "\x1f", "\x1f\x8b",
		"\x28\xb5\x2f" };
	struct fixture *f = *state;
	struct buf in = { 0 }, empty = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		buf_clear(&in);
		buf_adds(&in, texts[i]);
		assert_decodes(&in, 1, 100, &in);
	}
	buf_finish(&in);
	/* Nothing at all, well packed. */
	buf_clear(&f->plain);
	in = filtered(f, "gz", "gzip -c");
	assert_decodes(&in, 1, 100, &empty);
	buf_finish(&in);
	in = filtered(f, "zst", "zstd -qc");
	assert_decodes(&in, 1, 100, &empty);
	buf_finish(&in);
}

/* Of one and the same size as what is read at once: the checksum comes with the next read. */
static void an_end_at_the_buffer_s_end(void **state)
{
	struct fixture *f = *state;
	struct buf out = { 0 };
	struct err err;

	assert_decodes(&f->gzip, 1, f->plain.len, &f->plain);
	assert_decodes(&f->zstd, 1, f->plain.len, &f->plain);
	f->gzip.data[f->gzip.len - 5] ^= 1;
	assert_int_equal(decode_by(&f->gzip, 1, f->plain.len, &out, &err), -EBADMSG);
	assert_string_equal(err.msg, "gzip: its checksum is wrong");
	buf_finish(&out);
}

/* Cut anywhere: an error, never a shorter layer that passes for whole. */
static void every_cut_is_seen(void **state)
{
	struct fixture *f = *state;
	struct buf *const streams[] = { &f->gzip, &f->zstd };

	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		for (size_t len = 4; len < streams[i]->len; len++) {
			struct buf cut = *streams[i], out = { 0 };
			struct err err;

			cut.len = len;
			if (decode_by(&cut, 100000, 64, &out, &err) != -EBADMSG)
				fail_msg("cut to %zu bytes of %zu it passes", len, streams[i]->len);
			buf_finish(&out);
		}
	}
}

/* A wrong byte anywhere: an error, or (in a header's time, name and so on) the right content. */
static void every_wrong_byte_is_seen(void **state)
{
	struct fixture *f = *state;
	struct buf *const streams[] = { &f->gzip, &f->zstd };
	unsigned passed = 0;

	for (size_t i = 0; i < ARRAY_LEN(streams); i++) {
		/* From the magic on it would be another kind of stream. */
		for (size_t at = 4; at < streams[i]->len; at++) {
			struct buf out = { 0 };
			struct err err;
			int r;

			streams[i]->data[at] ^= 0x41;
			r = decode_by(streams[i], 100000, 4096, &out, &err);
			streams[i]->data[at] ^= 0x41;
			if (r == 0) {
				passed++;
				if (out.len != f->plain.len ||
					memcmp(out.data, f->plain.data, out.len) != 0)
					fail_msg("a wrong byte at %zu passes", at);
			} else {
				assert_int_equal(r, -EBADMSG);
			}
			buf_finish(&out);
		}
	}
	assert_true(passed < 20);
}

static void members_and_frames_are_joined(void **state)
{
	struct fixture *f = *state;
	struct buf both = { 0 }, out = { 0 }, twice = { 0 };
	static const char skippable[] = "\x53\x2a\x4d\x18\x05\x00\x00\x00hello";
	struct err err;
	char zeros[1000] = { 0 };

	buf_add(&twice, f->plain.data, f->plain.len);
	buf_add(&twice, f->plain.data, f->plain.len);
	buf_add(&both, f->gzip.data, f->gzip.len);
	/* Zeros between and behind them, as tapes and some tools have them. */
	buf_add(&both, zeros, 7);
	buf_add(&both, f->gzip.data, f->gzip.len);
	buf_add(&both, zeros, sizeof(zeros));
	assert_decodes(&both, 1, 1000, &twice);
	assert_decodes(&both, 100000, 1 << 20, &twice);
	buf_adds(&both, "x");
	assert_int_equal(decode_by(&both, 100000, 1000, &out, &err), -EBADMSG);
	assert_string_equal(err.msg, "gzip: something else follows the compressed data");
	buf_clear(&out);
	/* A skippable frame may come first, between and last. */
	buf_clear(&both);
	for (int i = 0; i < 2; i++) {
		buf_add(&both, skippable, sizeof(skippable) - 1);
		buf_add(&both, f->zstd.data, f->zstd.len);
	}
	buf_add(&both, skippable, sizeof(skippable) - 1);
	assert_decodes(&both, 1, 1000, &twice);
	assert_decodes(&both, 100000, 1 << 20, &twice);
	buf_adds(&both, "something else");
	assert_int_equal(decode_by(&both, 100000, 1000, &out, &err), -EBADMSG);
	buf_finish(&out);
	buf_finish(&both);
	buf_finish(&twice);
}

/* Name, comment and so on in a gzip header, which igzip has to skip in crumbs too. */
static void headers_have_many_parts(void **state)
{
	struct fixture *f = *state;
	struct buf in = { 0 };
	char name[400];

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	/* FEXTRA, FNAME, FCOMMENT; then deflate's data as gzip -n has it behind its ten bytes. */
	buf_add(&in, "\x1f\x8b\x08\x1c\0\0\0\0\0\x03", 10);
	buf_add(&in, "\x04\0abcd", 6);
	buf_add(&in, name, sizeof(name));
	buf_add(&in, "comment", 8);
	buf_add(&in, f->gzip.data + 10, f->gzip.len - 10);
	assert_decodes(&in, 1, 1000, &f->plain);
	assert_decodes(&in, 100000, 1000, &f->plain);
	buf_finish(&in);
}

static void unknown_methods_are_refused(void **state)
{
	struct fixture *f = *state;
	struct buf in = { 0 }, out = { 0 };
	struct err err;

	/* The second member uses one: the first byte behind the magic. */
	buf_add(&in, f->gzip.data, f->gzip.len);
	buf_add(&in, f->gzip.data, f->gzip.len);
	in.data[f->gzip.len + 2] = 7;
	assert_int_equal(decode_by(&in, 100000, 1 << 20, &out, &err), -EBADMSG);
	buf_finish(&in);
	buf_finish(&out);
}

/* A frame that wants more memory than we give. */
static void windows_have_a_bound(void **state)
{
	struct fixture *f = *state;
	struct buf out = { 0 };
	struct err err;

	buf_finish(&f->zstd);
	f->plain.len = 0;
	letters(&f->plain, 300000);
	f->zstd = filtered(f, "wide", "zstd -qc --ultra --long=25");
	assert_decodes(&f->zstd, 100000, 100000, &f->plain);
	buf_finish(&f->zstd);
	f->zstd = filtered(f, "wide", "zstd -qc --long=27");
	assert_int_equal(decode_by(&f->zstd, 100000, 100000, &out, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "zstd: "));
	buf_finish(&out);
}

/* Zeros without end come in pieces of the size that is asked for. */
static void a_bomb_fills_no_memory(void **state)
{
	struct fixture *f = *state;
	_Atomic uint64_t taken = 0;
	char *path = path_join(f->dir, "bomb");
	uint8_t *buf = malloc(1 << 20);
	struct decode *d;
	struct err err;
	uint64_t sum = 0;
	size_t got;
	int fd;

	assert_int_equal(kit_sh("head -c 64M /dev/zero | zstd -qc >'%s'", path), 0);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(decode_create(&d, fd, &taken, &err), 0);
	do {
		assert_int_equal(decode_read(d, buf, 1 << 20, &got, &err), 0);
		assert_true(got <= 1 << 20);
		sum += got;
	} while (got > 0);
	assert_int_equal(sum, 64 << 20);
	decode_destroy(d);
	close(fd);
	free(buf);
	free(path);
}

static void a_read_error_is_told(void **state)
{
	struct fixture *f = *state;
	struct buf out = { 0 };
	uint64_t taken;
	struct err err;
	int fd = open(f->dir, O_RDONLY | O_CLOEXEC);

	assert_int_equal(decode_fd(fd, 100, &out, &taken, &err), -EISDIR);
	close(fd);
	decode_destroy(NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_size_of_crumb),
		TEST(next_to_nothing),
		TEST(an_end_at_the_buffer_s_end),
		TEST(every_cut_is_seen),
		TEST(every_wrong_byte_is_seen),
		TEST(members_and_frames_are_joined),
		TEST(headers_have_many_parts),
		TEST(unknown_methods_are_refused),
		TEST(windows_have_a_bound),
		TEST(a_bomb_fills_no_memory),
		TEST(a_read_error_is_told),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
