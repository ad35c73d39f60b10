#include "oci/entries.h"
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include "lib/str.h"
#include "oci/inflate.h"

struct entries {
	struct inflate *in;
	struct archive *a; /* of the current layer; NULL between two */
	size_t layer, n;
	bool ended; /* the current layer's stream was read to its end */
	layers_progress_fn *progress;
	void *arg;
	struct err err; /* why reading failed */
	locale_t c_locale, old_locale;
};

int entries_open(struct entries **out, const struct layer_src *layers, size_t n,
	layers_progress_fn *progress, void *arg, struct err *err)
{
	struct entries *es = calloc(1, sizeof(*es));
	int r;

	if (es == NULL)
		return err_nomem(err);
	es->n = n;
	es->progress = progress;
	es->arg = arg;
	es->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	if (es->c_locale == (locale_t)0) {
		free(es);
		return err_nomem(err);
	}
	r = inflate_start(&es->in, layers, n, err);
	if (r < 0) {
		freelocale(es->c_locale);
		free(es);
		return r;
	}
	es->old_locale = uselocale(es->c_locale);
	*out = es;
	return 0;
}

void entries_close(struct entries *es)
{
	if (es == NULL)
		return;
	archive_read_free(es->a);
	inflate_stop(es->in);
	uselocale(es->old_locale);
	freelocale(es->c_locale);
	free(es);
}

static la_ssize_t read_piece(struct archive *a, void *arg, const void **data)
{
	struct entries *es = arg;
	size_t len;
	int r;

	if (es->ended)
		return 0;
	r = inflate_next(es->in, data, &len, &es->err);
	if (r < 0) {
		archive_set_error(a, -r, "%s", es->err.msg);
		return ARCHIVE_FATAL;
	}
	if (es->progress != NULL)
		es->progress(es->arg, inflate_done(es->in), inflate_total(es->in));
	if (r == 0) {
		es->ended = true;
		return 0;
	}
	return len;
}

/*
 * Either reading failed, and says so itself, or the tar makes no sense. The latter is often only
 * the first sign of a damaged stream, whose checksum then tells at its end.
 */
static int failed(struct entries *es, struct err *err)
{
	const char *msg = archive_error_string(es->a);
	int code = archive_errno(es->a);

	if (es->err.code == 0 && code != ENOMEM && !es->ended) {
		es->ended = true;
		inflate_drain(es->in, &es->err);
	}
	if (es->err.code < 0)
		return err_set(err, es->err.code, "%s", es->err.msg);
	if (code == ENOMEM)
		return err_nomem(err);
	return err_set(err, -EINVAL, "no tar that can be read: %s", msg ? msg : "unknown reason");
}

static int open_layer(struct entries *es, struct err *err)
{
	es->ended = false;
	es->a = archive_read_new();
	if (es->a == NULL)
		return err_nomem(err);
	/* An empty layer is a tar as well, of no entries. */
	if (archive_read_support_format_tar(es->a) != ARCHIVE_OK ||
		archive_read_support_format_empty(es->a) != ARCHIVE_OK ||
		archive_read_open(es->a, es, NULL, read_piece, NULL) != ARCHIVE_OK)
		return failed(es, err);
	return 0;
}

/* What is behind the tar's end belongs to the layer's digest. */
static int close_layer(struct entries *es, struct err *err)
{
	int r = es->ended ? 0 : inflate_drain(es->in, &es->err);

	if (r < 0)
		return failed(es, err);
	archive_read_free(es->a);
	es->a = NULL;
	es->layer++;
	return 0;
}

static int next(struct entries *es, struct archive_entry **out, size_t *layer, struct err *err)
{
	int r;

	while (es->layer < es->n) {
		if (es->a == NULL) {
			r = open_layer(es, err);
			if (r < 0)
				return r;
		}
		r = archive_read_next_header(es->a, out);
		*layer = es->layer;
		/* A warning is what libarchive says of every name that is not ASCII. */
		if (r == ARCHIVE_OK || r == ARCHIVE_WARN)
			return 1;
		if (r != ARCHIVE_EOF)
			return failed(es, err);
		r = close_layer(es, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int entries_next(struct entries *es, struct archive_entry **out, size_t *layer, struct err *err)
{
	int r = next(es, out, layer, err);

	return r < 0 ? err_wrap(err, "layer %zu", es->layer + 1) : r;
}

int entries_data(
	struct entries *es, const void **data, size_t *len, uint64_t *offset, struct err *err)
{
	la_int64_t at;
	int r = archive_read_data_block(es->a, data, len, &at);

	if (r == ARCHIVE_EOF)
		return 0;
	if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
		return failed(es, err);
	*offset = at;
	return 1;
}
