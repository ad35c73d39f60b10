/* A file read while it is written: order, end, a writer that begins again, a reader that stops. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/util.h"
#include "oci/decode.h"
#include "tests/unit/rig.h"

#define SIZE (700 * 1000)

struct fixture {
	struct feed feed;
	int fd;
	atomic_bool stop;
	_Atomic uint64_t taken;
	struct err err;
	unsigned char want[SIZE], got[SIZE + 1];
	size_t len;
	int result;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -1;
	/* No magic of gzip or zstd. */
	for (size_t i = 0; i < SIZE; i++)
		f->want[i] = (unsigned char)(i * 7 + i / 251);
	f->fd = memfd_create("layer", MFD_CLOEXEC);
	feed_init(&f->feed, SIZE);
	*state = f;
	return f->fd < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	free(f);
	return 0;
}

static void *reader(void *arg)
{
	struct fixture *f = arg;
	struct decode *d = NULL;
	size_t got = 0;

	f->result = decode_create_fed(&d, f->fd, &f->feed, &f->stop, &f->taken, &f->err);
	if (f->result == 0)
		f->result = decode_read(d, f->got, sizeof(f->got), &got, &f->err);
	f->len = got;
	decode_destroy(d);
	return NULL;
}

static void append(struct fixture *f, size_t from, size_t to)
{
	assert_int_equal(pwrite(f->fd, f->want + from, to - from, (off_t)from), to - from);
	feed_more(&f->feed, to);
}

static void reads_what_comes(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	assert_int_equal(pthread_create(&t, NULL, reader, f), 0);
	for (size_t at = 0, step = 1; at < SIZE; step = step * 3 + 1) {
		size_t to = MIN(at + step, (size_t)SIZE);

		assert_false(feed_whole(&f->feed));
		append(f, at, to);
		at = to;
		usleep(500);
	}
	pthread_join(t, NULL);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->len, SIZE);
	assert_memory_equal(f->got, f->want, SIZE);
	assert_int_equal(f->taken, SIZE);
	assert_true(feed_whole(&f->feed));
}

/* What is in the file beyond what was told of is not looked at. */
static void waits_for_being_told(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	assert_int_equal(pwrite(f->fd, f->got, SIZE, 0), SIZE);
	append(f, 0, 1000);
	assert_int_equal(pthread_create(&t, NULL, reader, f), 0);
	while (f->taken < 1000)
		usleep(500);
	append(f, 1000, SIZE);
	pthread_join(t, NULL);
	assert_int_equal(f->len, SIZE);
	assert_memory_equal(f->got, f->want, SIZE);
}

static void ends_when_the_writer_begins_again(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	append(f, 0, 300000);
	assert_int_equal(pthread_create(&t, NULL, reader, f), 0);
	while (f->taken < 300000)
		usleep(500);
	feed_break(&f->feed);
	pthread_join(t, NULL);
	assert_int_equal(f->result, -ESTALE);

	/* Also when all of it had been told of. */
	feed_init(&f->feed, SIZE);
	append(f, 0, SIZE);
	feed_break(&f->feed);
	reader(f);
	assert_int_equal(f->result, -ESTALE);

	/* And when the file was cut off before that was told. */
	feed_init(&f->feed, SIZE);
	feed_more(&f->feed, SIZE);
	assert_int_equal(ftruncate(f->fd, 1000), 0);
	reader(f);
	assert_int_equal(f->result, -ESTALE);
}

static void stops_while_it_waits(void **state)
{
	struct fixture *f = *state;
	pthread_t t;

	append(f, 0, 5000);
	assert_int_equal(pthread_create(&t, NULL, reader, f), 0);
	while (f->taken < 5000)
		usleep(500);
	f->stop = true;
	feed_wake(&f->feed);
	pthread_join(t, NULL);
	assert_int_equal(f->result, -ECANCELED);
}

static void an_empty_layer_ends_at_once(void **state)
{
	struct fixture *f = *state;

	feed_init(&f->feed, 0);
	reader(f);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->len, 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(reads_what_comes),
		T(waits_for_being_told),
		T(ends_when_the_writer_begins_again),
		T(stops_while_it_waits),
		T(an_empty_layer_ends_at_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
