/* hv/ch-wire.c - the protocol of cloud-hypervisor's migration: hv/ch-wire.h. */
#include "hv/ch-wire.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "lib/util.h"

/* The one that all releases from v50 to v53 speak, and that older ones called none. */
#define VERSION 0

enum {
	STATUS_OK = 1,
	STATUS_ERROR = 2
};

struct header {
	unsigned word; /* command or status */
	unsigned version;
	bool padded; /* with anything but zeros */
	uint64_t length;
};

static const char *const names[] = {
	[CH_WIRE_START] = "Start",
	[CH_WIRE_CONFIG] = "Config",
	[CH_WIRE_STATE] = "State",
	[CH_WIRE_MEMORY] = "Memory",
	[CH_WIRE_COMPLETE] = "Complete",
	[CH_WIRE_ABANDON] = "Abandon",
	[CH_WIRE_MEMORY_FD] = "MemoryFd",
	[CH_WIRE_COMPLETE_PAUSED] = "CompletePaused",
};

const char *ch_wire_name(enum ch_wire_command command)
{
	size_t i = (size_t)command;

	return i < ARRAY_LEN(names) && names[i] != NULL ? names[i] : "nothing";
}

static uint64_t u64(const char *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static unsigned u16(const char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

static struct header read_header(const char *p)
{
	static const char zeros[6];

	return (struct header){ .word = u16(p),
		.version = u16(p + 2),
		.padded = memcmp(p + 2, zeros, sizeof(zeros)) != 0,
		.length = u64(p + 8) };
}

void ch_wire_header(char out[CH_WIRE_HEADER], enum ch_wire_command command, uint64_t length)
{
	uint16_t word = htole16((uint16_t)command);
	uint64_t n = htole64(length);

	memset(out, 0, CH_WIRE_HEADER);
	memcpy(out, &word, sizeof(word));
	memcpy(out + 8, &n, sizeof(n));
}

/* ---- requests ---- */

/* Which may follow which: a bit for each command, 1 for nothing. */
static bool in_order(enum ch_wire_command last, unsigned command)
{
	static const unsigned after[] = {
		[CH_WIRE_START] = 1u << 0,
		[CH_WIRE_CONFIG] = 1u << CH_WIRE_START,
		[CH_WIRE_MEMORY] = 1u << CH_WIRE_CONFIG | 1u << CH_WIRE_MEMORY,
		[CH_WIRE_STATE] = 1u << CH_WIRE_CONFIG | 1u << CH_WIRE_MEMORY,
		[CH_WIRE_COMPLETE] = 1u << CH_WIRE_STATE,
		[CH_WIRE_ABANDON] = ~(1u << 0 | 1u << CH_WIRE_ABANDON),
	};

	return command < ARRAY_LEN(after) && (after[command] & 1u << last) != 0;
}

static uint64_t longest(unsigned command)
{
	switch (command) {
	case CH_WIRE_CONFIG:
		return CH_WIRE_CONFIG_MAX;
	case CH_WIRE_STATE:
		return CH_WIRE_STATE_MAX;
	case CH_WIRE_MEMORY:
		return CH_WIRE_TABLE_MAX;
	default:
		return 0;
	}
}

static int check(const struct ch_wire *w, const struct header *h, struct err *err)
{
	const char *name = ch_wire_name((enum ch_wire_command)h->word);

	if (h->word == 0 || h->word >= ARRAY_LEN(names))
		return err_set(err, -EBADMSG, "sends a request of the unknown kind %u", h->word);
	if (h->word == CH_WIRE_START && h->version != VERSION)
		return err_set(err, -ENOTSUP,
			"speaks version %u of its migration protocol, of which drover knows version %d",
			h->version, VERSION);
	if (h->padded)
		return err_set(err, -EBADMSG, "sends a header of %s that makes no sense", name);
	if (h->word == CH_WIRE_MEMORY_FD)
		return err_set(err, -EBADMSG,
			"passes its memory as descriptors, which do not leave the host");
	if (h->word == CH_WIRE_COMPLETE_PAUSED)
		return err_set(err, -EBADMSG, "sends a guest that was paused");
	if (w->waits)
		return err_set(err, -EBADMSG, "sends %s before %s was answered", name,
			ch_wire_name(w->last));
	if (!in_order(w->last, h->word))
		return err_set(err, -EBADMSG, "sends %s after %s", name, ch_wire_name(w->last));
	if (h->length > longest(h->word))
		return err_set(err, -EBADMSG, "sends %s of %llu bytes", name,
			(unsigned long long)h->length);
	if (h->word == CH_WIRE_MEMORY && h->length % 16 != 0)
		return err_set(err, -EBADMSG, "sends a table of memory of %llu bytes",
			(unsigned long long)h->length);
	return 0;
}

static void enter(struct ch_wire *w, const struct header *h)
{
	w->last = (enum ch_wire_command)h->word;
	w->waits = true;
	w->ranges = 0;
	w->table = w->last == CH_WIRE_MEMORY ? h->length : 0;
	w->payload = w->last == CH_WIRE_MEMORY ? 0 : h->length;
}

static int read_range(struct ch_wire *w, const char *p, struct err *err)
{
	uint64_t address = u64(p), length = u64(p + 8), end, sum;

	if (__builtin_add_overflow(address, length, &end) ||
		__builtin_add_overflow(w->ranges, length, &sum))
		return err_set(err, -EBADMSG, "sends a range of %llu bytes of memory at %#llx",
			(unsigned long long)length, (unsigned long long)address);
	w->ranges = sum;
	w->table -= 16;
	if (w->table > 0)
		return 0;
	w->payload = w->ranges;
	if (w->first == 0)
		w->first = w->ranges;
	return 0;
}

size_t ch_wire_take(struct ch_wire *w, const char *header)
{
	struct header h = read_header(header);

	enter(w, &h);
	w->payload = 0;
	return CH_WIRE_HEADER + (size_t)h.length;
}

/* At a header, of which all is there. */
static int one_header(
	struct ch_wire *w, const char *p, size_t len, enum ch_wire_stop *stop, struct err *err)
{
	struct header h = read_header(p);

	int r = check(w, &h, err);

	if (r < 0)
		return r;
	if (h.word == CH_WIRE_COMPLETE && len > CH_WIRE_HEADER)
		return err_set(err, -EBADMSG, "sends more after Complete");
	if (h.word == CH_WIRE_COMPLETE)
		*stop = CH_WIRE_AT_COMPLETE;
	else if (h.word == CH_WIRE_CONFIG && w->apart)
		*stop = CH_WIRE_AT_CONFIG;
	else
		enter(w, &h);
	return 0;
}

int ch_wire_requests(struct ch_wire *w, const char *data, size_t len, size_t *pass,
	enum ch_wire_stop *stop, struct err *err)
{
	size_t at = 0;
	int r = 0;

	*stop = CH_WIRE_NO_STOP;
	while (r == 0) {
		size_t n = len - at;

		if (w->payload > 0) {
			n = (size_t)MIN((uint64_t)n, w->payload);
			w->payload -= n;
			if (w->last == CH_WIRE_MEMORY)
				w->memory += n;
		} else if (n >= 16 && w->table > 0) {
			r = read_range(w, data + at, err);
			n = 16;
		} else if (n >= CH_WIRE_HEADER) {
			r = one_header(w, data + at, n, stop, err);
			n = *stop == CH_WIRE_NO_STOP ? CH_WIRE_HEADER : 0;
		} else {
			n = 0;
		}
		if (r < 0)
			return r;
		if (n == 0)
			break;
		at += n;
	}
	*pass = at;
	return 0;
}

/* ---- answers ---- */

static int one_answer(struct ch_wire *w, const char *p, struct err *err)
{
	struct header h = read_header(p);

	/* It may give up in the middle of what it cannot use. */
	bool early = (w->payload > 0 || w->table > 0) && h.word != STATUS_ERROR;

	if (!w->waits || early)
		return err_set(err, -EBADMSG, "answers what was not asked");
	if ((h.word != STATUS_OK && h.word != STATUS_ERROR) || h.padded || h.length != 0)
		return err_set(err, -EBADMSG, "gives an answer to %s that makes no sense",
			ch_wire_name(w->last));
	w->waits = false;
	w->refused = w->refused || h.word == STATUS_ERROR;
	return 0;
}

int ch_wire_answers(struct ch_wire *w, const char *data, size_t len, size_t *pass, struct err *err)
{
	size_t at = 0;
	int r = 0;

	for (; r == 0 && len - at >= CH_WIRE_HEADER; at += CH_WIRE_HEADER)
		r = one_answer(w, data + at, err);
	if (r == 0)
		*pass = at;
	return r;
}
