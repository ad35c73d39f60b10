#include "oci/fetch.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/log.h"
#include "oci/transfer.h"

/* Bytes that count as progress: a try that brought so many is not held against the server. */
#define PROGRESS_BYTES ((uint64_t)1 << 20)

struct fetch {
	const struct fetch_spec *spec;
	struct part *part;
	struct transfer transfer;
	uint64_t from; /* of the range that was asked for */
	bool begun;    /* this transfer */
	bool started_over;
	char validator[160]; /* names the content that part has the beginning of */
	uint64_t size;       /* UINT64_MAX: unknown */
};

/* RFC 9110, 13.1.5: a weak tag does not serve for ranges, a date does. */
static void keep_validator(struct fetch *f)
{
	const struct transfer *t = &f->transfer;
	const char *by = t->etag[0] == '"' ? t->etag : t->last_modified;

	snprintf(f->validator, sizeof(f->validator), "%s", by);
}

/* The answer's head is there, its body begins. */
static int begin_body(struct fetch *f, struct transfer *t, struct err *err)
{
	int r = 0;

	if (t->status == 206 && t->range_start != f->from)
		return err_set(err, -EBADMSG, "it sends another range than asked for");
	if (t->status == 200 && part_have(f->part) > 0)
		r = part_restart(f->part, err);
	f->size = t->length;
	f->begun = true;
	keep_validator(f);
	if (r == 0 && f->size != UINT64_MAX && f->size > f->spec->max_bytes)
		r = err_set(err, -EFBIG, "it has %s, and an image may have %s (image_max)",
			format_size(f->size), format_size(f->spec->max_bytes));
	return r == 0 ? f->spec->begin(f->spec->arg, f->size, err) : r;
}

static int take_piece(void *arg, struct transfer *t, const char *data, size_t len, struct err *err)
{
	struct fetch *f = arg;
	int r = f->begun ? 0 : begin_body(f, t, err);

	if (r == 0 && len > f->spec->max_bytes - part_have(f->part))
		r = err_set(err, -EFBIG,
			"it has more than the %s that an image may have (image_max)",
			format_size(f->spec->max_bytes));
	if (r == 0)
		r = part_write(f->part, data, len, err);
	if (r == 0)
		f->spec->progress(f->spec->arg, part_have(f->part));
	return r;
}

static bool asks_by_date(const struct fetch_spec *spec)
{
	return spec->etag[0] == '\0' && spec->modified[0] != '\0';
}

/* One request. Returns its verdict; the transfer is finished, but its head can be read. */
static enum transfer_verdict try(struct fetch *f, CURL **easy, int *r, struct err *err)
{
	const struct registry_conf *c = f->spec->conf;
	/* Without a name for its content, what comes next may be another's. */
	bool joins = part_is_known(f->part) || f->validator[0] != '\0';
	uint64_t have = joins ? part_have(f->part) : 0;
	struct transfer_spec spec = { .url = f->spec->url,
		.from = have,
		.if_range = have > 0 && f->validator[0] != '\0' ? f->validator : NULL,
		/* RFC 9110, 13.1.3: the date counts only where there is no tag. */
		.if_none_match = have == 0 && f->spec->etag[0] != '\0' ? f->spec->etag : NULL,
		.if_modified_since = have == 0 && asks_by_date(f->spec) ? f->spec->modified : NULL,
		.stall_ms = c->stall_ms,
		.connect_timeout_ms = c->connect_timeout_ms,
		.body = take_piece,
		.arg = f };
	enum transfer_verdict v = TRANSFER_FAIL;

	f->from = have;
	f->begun = false;
	*r = transfer_init(&f->transfer, *easy, &spec, err);
	if (*r < 0) {
		*easy = NULL;
		return v;
	}
	v = transfer_verdict(&f->transfer, curl_easy_perform(f->transfer.easy), err);
	if (v != TRANSFER_OK)
		*r = err->code;
	*easy = transfer_finish(&f->transfer);
	return v;
}

/* All came, as far as the server tells. 1: once more. */
static int finish_fetch(struct fetch *f, struct fetch_result *out, struct err *err)
{
	int r = 0;

	/* A file without a byte has no body to begin with. */
	if (!f->begun)
		r = begin_body(f, &f->transfer, err);
	if (r < 0)
		return r;
	if (f->size != UINT64_MAX && part_have(f->part) != f->size)
		return err_set(err, -EPIPE, "it ended after %llu of %llu bytes",
			(unsigned long long)part_have(f->part), (unsigned long long)f->size);
	out->size = part_have(f->part);
	r = part_finish(f->part, out->digest, err);
	/* What another process left, or what was joined by a bare range, may have been damaged. */
	if (r == -EBADMSG && !f->started_over && f->from > 0) {
		f->started_over = true;
		log_debug("%s: %s; trying again from the start", f->spec->url, err->msg);
		f->validator[0] = '\0';
		r = part_restart(f->part, err);
		return r < 0 ? r : 1;
	}
	return r;
}

/* 1: once more, at once. */
static int judge(
	struct fetch *f, enum transfer_verdict v, int r, struct fetch_result *out, struct err *err)
{
	if (v == TRANSFER_OK) {
		snprintf(out->etag, sizeof(out->etag), "%s", f->transfer.etag);
		snprintf(out->modified, sizeof(out->modified), "%s", f->transfer.last_modified);
		return finish_fetch(f, out, err);
	}
	if (f->transfer.status == 304 && f->from == 0 &&
		(f->spec->etag[0] != '\0' || asks_by_date(f->spec))) {
		out->unchanged = true;
		return 0;
	}
	/* There is no more than we have (RFC 9110, 15.5.17): it only was not finished. */
	if (f->transfer.status == 416 && f->from > 0 && f->transfer.length == f->from &&
		!f->started_over) {
		f->begun = true;
		f->size = f->from;
		return finish_fetch(f, out, err);
	}
	/* The rest that was asked for is not there: what we have is no part of it. */
	if (f->transfer.status == 416 && f->from > 0 && !f->started_over) {
		f->started_over = true;
		r = part_restart(f->part, err);
		return r < 0 ? r : 1;
	}
	return r;
}

int fetch_file(
	const struct fetch_spec *spec, struct part *part, struct fetch_result *out, struct err *err)
{
	struct fetch f = { .spec = spec, .part = part };
	unsigned failed = 0;
	uint64_t most = 0;
	CURL *easy = NULL;
	int r;

	*out = (struct fetch_result){ 0 };
	for (;;) {
		enum transfer_verdict v = try(&f, &easy, &r, err);
		bool again = v == TRANSFER_RETRY || (v == TRANSFER_ABSENT && failed == 0);

		r = judge(&f, v, r, out, err);
		if (r > 0)
			continue;
		if (r == 0 || !again)
			break;
		if (part_have(part) >= most + PROGRESS_BYTES) {
			most = part_have(part);
			failed = 0;
		}
		if (++failed >= spec->conf->tries) {
			err_wrap(err, "given up after %u tries", failed);
			break;
		}
		log_debug("%s: %s; trying again", spec->url, err->msg);
		usleep((useconds_t)transfer_backoff_ms(failed, f.transfer.retry_after_ms) * 1000);
	}
	if (easy != NULL)
		curl_easy_cleanup(easy);
	return r;
}
