/* Inflating with ISA-L, which is about twice as fast as zlib; zstd with libzstd. */
#include "oci/decode.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#define IN_SIZE (128 * 1024)
/* Windows up to 32 MiB: four times what RFC 8878 asks every decoder for, and a bound on memory. */
#define ZSTD_WINDOW_LOG_MAX 25

struct decode {
	int fd;
	struct feed *feed; /* NULL: fd has all of it */
	const atomic_bool *stop;
	uint64_t offset; /* of a fed one */
	_Atomic uint64_t *taken;
	int (*fill)(struct decode *d, uint8_t *buf, size_t cap, size_t *got, struct err *err);
	bool eof;       /* fd has no more */
	bool in_member; /* within a gzip member or a zstd frame */
	bool in_header; /* of a gzip member, of which this much is known */
	struct isal_gzip_header header;
	bool ended;
	size_t pos, len; /* of what is unread in `in` */
	struct inflate_state *gz;
	ZSTD_DCtx *zstd;
	uint8_t in[IN_SIZE];
};

/* As read(), but of what there is by now of a layer that still comes. */
static int read_fed(struct decode *d, uint8_t *buf, size_t cap, ssize_t *got, struct err *err)
{
	uint64_t have;
	int r = feed_wait(d->feed, d->offset, d->stop, &have, err);

	if (r < 0)
		return r;
	cap = MIN(cap, have - d->offset);
	do {
		*got = pread(d->fd, buf, cap, (off_t)d->offset);
	} while (*got < 0 && errno == EINTR);
	if (*got < 0)
		return err_errno(err, -errno, "read");
	d->offset += (uint64_t)*got;
	if (cap > 0 && *got == 0)
		return err_set(err, -ESTALE, "the layer is shorter than it was");
	return feed_check(d->feed, err);
}

static int read_some(struct decode *d, uint8_t *buf, size_t cap, ssize_t *got, struct err *err)
{
	if (d->feed != NULL)
		return read_fed(d, buf, cap, got, err);
	do {
		*got = read(d->fd, buf, cap);
	} while (*got < 0 && errno == EINTR);
	return *got < 0 ? err_errno(err, -errno, "read") : 0;
}

static int refill(struct decode *d, struct err *err)
{
	ssize_t n;
	int r;

	if (d->pos < d->len || d->eof)
		return 0;
	r = read_some(d, d->in, sizeof(d->in), &n, err);
	if (r < 0)
		return r;
	d->pos = 0;
	d->len = n;
	d->eof = n == 0;
	atomic_fetch_add_explicit(d->taken, n, memory_order_relaxed);
	return 0;
}

static int fill_plain(struct decode *d, uint8_t *buf, size_t cap, size_t *got, struct err *err)
{
	size_t done = 0, n;
	int r;

	while (done < cap) {
		r = refill(d, err);
		if (r < 0)
			return r;
		n = MIN(cap - done, d->len - d->pos);
		if (n == 0)
			break;
		memcpy(buf + done, d->in + d->pos, n);
		d->pos += n;
		done += n;
	}
	*got = done;
	return 0;
}

static const char *gzip_problem(int code)
{
	switch (code) {
	case ISAL_INCORRECT_CHECKSUM:
		return "its checksum is wrong";
	case ISAL_UNSUPPORTED_METHOD:
		return "it uses an unknown method";
	default:
		return "it is damaged";
	}
}

/* Between two members: the next one begins, or the stream ends (zeros may pad it). */
static int gzip_begin(struct decode *d, struct err *err)
{
	int r;

	for (;;) {
		r = refill(d, err);
		if (r < 0)
			return r;
		if (d->pos == d->len) {
			d->ended = true;
			return 0;
		}
		if (d->in[d->pos] != 0)
			break;
		d->pos++;
	}
	if (d->in[d->pos] != 0x1f)
		return err_set(err, -EBADMSG, "gzip: something else follows the compressed data");
	isal_inflate_reset(d->gz);
	isal_gzip_header_init(&d->header);
	d->in_member = d->in_header = true;
	return 0;
}

/*
 * isal_inflate() reads headers too, but keeps what it knows of one on its stack: of one that comes in
 * pieces it forgets which fields follow.
 */
static int read_header(struct decode *d)
{
	int r;

	d->gz->crc_flag = ISAL_GZIP;
	r = isal_read_gzip_header(d->gz, &d->header);
	if (r == ISAL_DECOMP_OK) {
		d->in_header = false;
		d->gz->crc_flag = ISAL_GZIP_NO_HDR_VER;
	}
	return r < 0 ? r : 0;
}

static int fill_gzip(struct decode *d, uint8_t *buf, size_t cap, size_t *got, struct err *err)
{
	struct inflate_state *s = d->gz;
	uint32_t before;
	int r;

	s->next_out = buf;
	s->avail_out = cap;
	while (s->avail_out > 0 && !d->ended) {
		if (!d->in_member) {
			r = gzip_begin(d, err);
			if (r < 0)
				return r;
			continue;
		}
		r = refill(d, err);
		if (r < 0)
			return r;
		before = s->avail_out;
		s->next_in = d->in + d->pos;
		s->avail_in = d->len - d->pos;
		r = d->in_header ? read_header(d) : isal_inflate(s);
		if (r < 0)
			return err_set(err, -EBADMSG, "gzip: %s", gzip_problem(r));
		d->pos = d->len - s->avail_in;
		if (s->block_state == ISAL_BLOCK_FINISH)
			d->in_member = false;
		else if (d->eof && s->avail_out == before)
			return err_set(err, -EBADMSG, "gzip: it is cut off");
	}
	*got = cap - s->avail_out;
	return 0;
}

static int fill_zstd(struct decode *d, uint8_t *buf, size_t cap, size_t *got, struct err *err)
{
	ZSTD_outBuffer out = { .dst = buf, .size = cap };
	size_t before, r;
	int e;

	while (out.pos < out.size && !d->ended) {
		e = refill(d, err);
		if (e < 0)
			return e;
		if (d->eof && !d->in_member) {
			d->ended = true;
			break;
		}
		ZSTD_inBuffer in = { .src = d->in, .size = d->len, .pos = d->pos };

		before = out.pos;
		r = ZSTD_decompressStream(d->zstd, &out, &in);
		if (ZSTD_isError(r))
			return err_set(err, -EBADMSG, "zstd: %s", ZSTD_getErrorName(r));
		d->pos = in.pos;
		d->in_member = r != 0;
		if (d->eof && d->in_member && out.pos == before)
			return err_set(err, -EBADMSG, "zstd: it is cut off");
	}
	*got = out.pos;
	return 0;
}

/* The magics of RFC 1952 and RFC 8878 (a frame, or a skippable one as zstd:chunked has them). */
static int choose(struct decode *d, struct err *err)
{
	static const uint8_t gzip[] = { 0x1f, 0x8b, 0x08 }, zstd[] = { 0x28, 0xb5, 0x2f, 0xfd };
	const uint8_t *p = d->in;
	ssize_t n;
	int r;

	/* A pipe may give less than four bytes at first. */
	while (d->len < 4 && !d->eof) {
		r = read_some(d, d->in + d->len, sizeof(d->in) - d->len, &n, err);
		if (r < 0)
			return r;
		d->len += n;
		d->eof = n == 0;
	}
	atomic_fetch_add_explicit(d->taken, d->len, memory_order_relaxed);
	if (d->len >= sizeof(gzip) && memcmp(p, gzip, sizeof(gzip)) == 0) {
		d->gz = malloc(sizeof(*d->gz));
		if (d->gz == NULL)
			return err_nomem(err);
		isal_inflate_init(d->gz);
		d->fill = fill_gzip;
	} else if (d->len >= 4 &&
		   (memcmp(p, zstd, 4) == 0 ||
			   ((p[0] & 0xf0) == 0x50 && memcmp(p + 1, "\x2a\x4d\x18", 3) == 0))) {
		d->zstd = ZSTD_createDCtx();
		if (d->zstd == NULL)
			return err_nomem(err);
		ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
		d->fill = fill_zstd;
	} else {
		d->fill = fill_plain;
	}
	return 0;
}

int decode_create_fed(struct decode **out, int fd, struct feed *feed, const atomic_bool *stop,
	_Atomic uint64_t *taken, struct err *err)
{
	struct decode *d = calloc(1, sizeof(*d));
	int r;

	if (d == NULL)
		return err_nomem(err);
	d->fd = fd;
	d->feed = feed;
	d->stop = stop;
	d->taken = taken;
	r = choose(d, err);
	if (r < 0) {
		decode_destroy(d);
		return r;
	}
	*out = d;
	return 0;
}

int decode_create(struct decode **out, int fd, _Atomic uint64_t *taken, struct err *err)
{
	return decode_create_fed(out, fd, NULL, NULL, taken, err);
}

int decode_read(struct decode *d, uint8_t *buf, size_t cap, size_t *got, struct err *err)
{
	return d->fill(d, buf, cap, got, err);
}

void decode_destroy(struct decode *d)
{
	if (d == NULL)
		return;
	ZSTD_freeDCtx(d->zstd);
	free(d->gz);
	free(d);
}
