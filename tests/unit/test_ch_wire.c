/* What is read of a migration between two cloud-hypervisors: hv/ch-wire.h. */
#include "tests/unit/rig.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "hv/ch-wire.h"
#include "lib/str.h"

static void add(struct buf *b, unsigned command, uint64_t length)
{
	char header[CH_WIRE_HEADER];

	ch_wire_header(header, (enum ch_wire_command)command, length);
	buf_add(b, header, sizeof(header));
}

static void add_range(struct buf *b, uint64_t address, uint64_t length)
{
	uint64_t both[2] = { htole64(address), htole64(length) };

	buf_add(b, both, sizeof(both));
}

static void fill(struct buf *b, size_t n)
{
	while (n-- > 0)
		buf_add(b, "x", 1);
}

/* The receiver's answer. */
static int answer(struct ch_wire *w, unsigned status, uint64_t length)
{
	char header[CH_WIRE_HEADER];
	size_t pass = 0;
	struct err err;
	int r;

	ch_wire_header(header, (enum ch_wire_command)status, length);
	assert_int_equal(ch_wire_answers(w, header, sizeof(header) - 1, &pass, &err), 0);
	assert_int_equal(pass, 0);
	r = ch_wire_answers(w, header, sizeof(header), &pass, &err);
	assert_int_equal(pass, r == 0 ? sizeof(header) : 0);
	return r;
}

/* All of b in pieces of that size; each request is answered as soon as all of it has gone on. */
static enum ch_wire_stop feed(struct ch_wire *w, const struct buf *b, size_t piece)
{
	enum ch_wire_stop stop = CH_WIRE_NO_STOP;
	size_t at = 0, end = 0, pass;
	struct err err;

	while (stop == CH_WIRE_NO_STOP && (at < b->len || end < b->len)) {
		end = MIN(end + piece, b->len);
		do {
			/* No more than one request is there at once, as the sender waits. */
			size_t n = MIN(end - at, w->payload > 0 ? w->payload : 16);

			if (ch_wire_requests(w, b->data + at, n, &pass, &stop, &err) < 0)
				fail_msg("%zu: %s", at, err.msg);
			at += pass;
			if (w->waits && w->payload == 0 && w->table == 0)
				assert_int_equal(answer(w, 1, 0), 0);
		} while (pass > 0 && stop == CH_WIRE_NO_STOP);
		if (end == b->len && pass == 0)
			break;
	}
	assert_int_equal(at, stop == CH_WIRE_NO_STOP ? b->len : b->len - CH_WIRE_HEADER);
	return stop;
}

static void whole(struct buf *b)
{
	add(b, CH_WIRE_START, 0);
	add(b, CH_WIRE_CONFIG, 5);
	fill(b, 5);
	add(b, CH_WIRE_MEMORY, 48);
	add_range(b, 0, 100);
	add_range(b, 4096, 0);
	add_range(b, UINT64_C(1) << 40, 33);
	fill(b, 133);
	add(b, CH_WIRE_MEMORY, 0);
	add(b, CH_WIRE_MEMORY, 16);
	add_range(b, 0, 7);
	fill(b, 7);
	add(b, CH_WIRE_STATE, 9);
	fill(b, 9);
	add(b, CH_WIRE_COMPLETE, 0);
}

static void in_pieces(void **state)
{
	for (size_t piece = 1; piece < 300; piece++) {
		struct ch_wire w = { 0 };
		struct buf b = { 0 };

		whole(&b);
		assert_int_equal(feed(&w, &b, piece), CH_WIRE_AT_COMPLETE);
		assert_int_equal(w.memory, 140);
		assert_int_equal(w.first, 133);
		assert_int_equal(w.last, CH_WIRE_STATE);
		buf_finish(&b);
	}
}

static void config_apart(void **state)
{
	struct ch_wire w = { .apart = true };
	enum ch_wire_stop stop;
	struct buf b = { 0 };
	size_t pass;
	struct err err;

	add(&b, CH_WIRE_START, 0);
	assert_int_equal(ch_wire_requests(&w, b.data, b.len, &pass, &stop, &err), 0);
	assert_int_equal(pass, 16);
	assert_int_equal(answer(&w, 1, 0), 0);
	buf_clear(&b);
	add(&b, CH_WIRE_CONFIG, 300);
	assert_int_equal(ch_wire_requests(&w, b.data, 15, &pass, &stop, &err), 0);
	assert_int_equal(stop, CH_WIRE_NO_STOP);
	assert_int_equal(ch_wire_requests(&w, b.data, 16, &pass, &stop, &err), 0);
	assert_int_equal(pass, 0);
	assert_int_equal(stop, CH_WIRE_AT_CONFIG);
	assert_int_equal(ch_wire_take(&w, b.data), 316);
	assert_true(w.waits);
	assert_int_equal(w.payload, 0);
	assert_int_equal(answer(&w, 1, 0), 0);
	buf_finish(&b);
}

static const struct bad {
	const char *text; /* requests, each a letter, all but the last good; then */
	unsigned command;
	uint64_t length;
	int code;
	const char *part;
} bad[] = {
	{ "", 0, 0, -EBADMSG, "unknown kind 0" },
	{ "", 9, 16, -EBADMSG, "unknown kind 9" },
	{ "", 0xffff, 0, -EBADMSG, "unknown kind 65535" },
	{ "", CH_WIRE_CONFIG, 5, -EBADMSG, "sends Config after nothing" },
	{ "", CH_WIRE_COMPLETE, 0, -EBADMSG, "sends Complete after nothing" },
	{ "", CH_WIRE_ABANDON, 0, -EBADMSG, "sends Abandon after nothing" },
	{ "", CH_WIRE_START, 1, -EBADMSG, "sends Start of 1 bytes" },
	{ "s", CH_WIRE_START, 0, -EBADMSG, "sends Start after Start" },
	{ "s", CH_WIRE_MEMORY, 16, -EBADMSG, "sends Memory after Start" },
	{ "s", CH_WIRE_MEMORY_FD, 4, -EBADMSG, "as descriptors" },
	{ "s", CH_WIRE_CONFIG, CH_WIRE_CONFIG_MAX + 1, -EBADMSG, "sends Config of 16777217 bytes" },
	{ "s", CH_WIRE_CONFIG, UINT64_MAX, -EBADMSG, "sends Config of 18446744073709551615" },
	{ "sc", CH_WIRE_MEMORY, 17, -EBADMSG, "table of memory of 17 bytes" },
	{ "sc", CH_WIRE_MEMORY, CH_WIRE_TABLE_MAX + 16, -EBADMSG, "sends Memory of" },
	{ "sc", CH_WIRE_COMPLETE, 0, -EBADMSG, "sends Complete after Config" },
	{ "sc", CH_WIRE_STATE, CH_WIRE_STATE_MAX + 1, -EBADMSG, "sends State of" },
	{ "scmt", CH_WIRE_MEMORY, 16, -EBADMSG, "sends Memory after State" },
	{ "scmt", CH_WIRE_COMPLETE, 1, -EBADMSG, "sends Complete of 1 bytes" },
	{ "scmt", CH_WIRE_COMPLETE_PAUSED, 0, -EBADMSG, "was paused" },
};

static void good(struct ch_wire *w, char letter)
{
	struct buf b = { 0 };

	switch (letter) {
	case 's':
		add(&b, CH_WIRE_START, 0);
		break;
	case 'c':
		add(&b, CH_WIRE_CONFIG, 3);
		fill(&b, 3);
		break;
	case 'm':
		add(&b, CH_WIRE_MEMORY, 0);
		break;
	case 't':
		add(&b, CH_WIRE_STATE, 3);
		fill(&b, 3);
		break;
	}
	assert_int_equal(feed(w, &b, 7), CH_WIRE_NO_STOP);
	buf_finish(&b);
}

static void is_refused(struct ch_wire *w, const struct buf *b, int code, const char *part)
{
	enum ch_wire_stop stop;
	size_t pass = 0;
	struct err err;

	assert_int_equal(ch_wire_requests(w, b->data, b->len, &pass, &stop, &err), code);
	if (strstr(err.msg, part) == NULL)
		fail_msg("'%s' lacks '%s'", err.msg, part);
}

static void refused(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct ch_wire w = { 0 };
		struct buf b = { 0 };

		for (const char *p = bad[i].text; *p != '\0'; p++)
			good(&w, *p);
		add(&b, bad[i].command, bad[i].length);
		is_refused(&w, &b, bad[i].code, bad[i].part);
		buf_finish(&b);
	}
}

static void versions(void **state)
{
	struct ch_wire w = { 0 };
	struct buf b = { 0 };

	add(&b, CH_WIRE_START, 0);
	b.data[2] = 1;
	is_refused(&w, &b, -ENOTSUP, "version 1 of its migration protocol");
	b.data[2] = 0;
	b.data[7] = 1;
	is_refused(&w, &b, -EBADMSG, "makes no sense");
	buf_finish(&b);
}

static void too_early(void **state)
{
	struct ch_wire w = { 0 };
	struct buf b = { 0 };

	add(&b, CH_WIRE_START, 0);
	add(&b, CH_WIRE_CONFIG, 0);
	is_refused(&w, &b, -EBADMSG, "Config before Start was answered");
	buf_finish(&b);
}

static void more_after_the_end(void **state)
{
	struct ch_wire w = { 0 };
	struct buf b = { 0 };

	good(&w, 's');
	good(&w, 'c');
	good(&w, 't');
	add(&b, CH_WIRE_COMPLETE, 0);
	fill(&b, 1);
	is_refused(&w, &b, -EBADMSG, "more after Complete");
	buf_finish(&b);
}

static void ranges_that_wrap(void **state)
{
	static const uint64_t rows[][4] = {
		{ UINT64_MAX, 2, 0, 0 },
		{ 0, UINT64_MAX, 1, UINT64_MAX - 1 },
		{ 1, UINT64_MAX, 0, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct ch_wire w = { 0 };
		struct buf b = { 0 };

		good(&w, 's');
		good(&w, 'c');
		add(&b, CH_WIRE_MEMORY, 32);
		add_range(&b, rows[i][0], rows[i][1]);
		add_range(&b, rows[i][2], rows[i][3]);
		is_refused(&w, &b, -EBADMSG, "sends a range of");
		buf_finish(&b);
	}
}

static void answers(void **state)
{
	struct ch_wire w = { 0 };
	enum ch_wire_stop stop;
	struct buf b = { 0 };
	size_t pass;
	struct err err;

	assert_int_equal(answer(&w, 1, 0), -EBADMSG);
	add(&b, CH_WIRE_START, 0);
	assert_int_equal(ch_wire_requests(&w, b.data, b.len, &pass, &stop, &err), 0);
	assert_int_equal(answer(&w, 0, 0), -EBADMSG);
	assert_int_equal(answer(&w, 3, 0), -EBADMSG);
	assert_int_equal(answer(&w, 1, 8), -EBADMSG);
	assert_int_equal(answer(&w, 1, 0), 0);
	assert_int_equal(answer(&w, 1, 0), -EBADMSG);
	buf_clear(&b);
	/* An error may come in the middle of what it cannot use, nothing else. */
	add(&b, CH_WIRE_CONFIG, 9);
	assert_int_equal(ch_wire_requests(&w, b.data, b.len, &pass, &stop, &err), 0);
	assert_int_equal(answer(&w, 1, 0), -EBADMSG);
	assert_int_equal(answer(&w, 2, 0), 0);
	assert_true(w.refused);
	buf_finish(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(in_pieces),
		cmocka_unit_test(config_apart),
		cmocka_unit_test(refused),
		cmocka_unit_test(versions),
		cmocka_unit_test(too_early),
		cmocka_unit_test(more_after_the_end),
		cmocka_unit_test(ranges_that_wrap),
		cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests_name("cloud-hypervisor's migration", tests, NULL, NULL);
}
