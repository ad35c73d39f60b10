#include "oci/qcow2-int.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/str.h"

#define L1_MAX         (32u << 20) /* bytes, as QEMU's QCOW_MAX_L1_SIZE */
#define SIZE_MAX_BYTES (64ull << 40)

/* ---- the header ---- */

static void to_host(struct qcow2_header *h)
{
	h->magic = be32toh(h->magic);
	h->version = be32toh(h->version);
	h->backing_offset = be64toh(h->backing_offset);
	h->backing_len = be32toh(h->backing_len);
	h->cluster_bits = be32toh(h->cluster_bits);
	h->size = be64toh(h->size);
	h->crypt = be32toh(h->crypt);
	h->l1_size = be32toh(h->l1_size);
	h->l1_offset = be64toh(h->l1_offset);
	h->refcount_offset = be64toh(h->refcount_offset);
	h->refcount_clusters = be32toh(h->refcount_clusters);
	h->snapshots = be32toh(h->snapshots);
	h->incompatible = be64toh(h->incompatible);
	h->autoclear = be64toh(h->autoclear);
	h->refcount_order = be32toh(h->refcount_order);
	h->header_len = be32toh(h->header_len);
}

/* "Header extensions": the format of the backing file, which is never guessed. */
static bool says_raw(int fd, const struct qcow2_header *h)
{
	uint64_t at = h->header_len;

	for (int i = 0; i < 64 && at < 1 << 16; i++) {
		uint32_t ext[2];
		char text[3];

		if (pread(fd, ext, sizeof(ext), (off_t)at) != sizeof(ext) || ext[0] == 0)
			return false;
		if (be32toh(ext[0]) == QCOW2_EXT_BACKING)
			return be32toh(ext[1]) == sizeof(text) &&
			       pread(fd, text, sizeof(text), (off_t)at + 8) == sizeof(text) &&
			       memcmp(text, "raw", sizeof(text)) == 0;
		at += 8 + ((be32toh(ext[1]) + 7ull) & ~7ull);
	}
	return false;
}

static int read_header(int fd, struct qcow2_header *h, struct qcow2_head *out, struct err *err)
{
	ssize_t n = pread(fd, h, sizeof(*h), 0);

	memset(out, 0, sizeof(*out));
	if (n < 0)
		return err_errno(err, -errno, "read");
	to_host(h);
	if (n != sizeof(*h) || h->magic != QCOW2_MAGIC)
		return err_set(err, -EINVAL, "it is no qcow2 image");
	if (h->version != 3 || h->header_len < QCOW2_HEADER_LEN)
		return err_set(err, -EINVAL, "it is a qcow2 of version %u, and not 3", h->version);
	out->size = h->size;
	if (h->backing_offset == 0)
		return 0;
	if (h->backing_len > QCOW2_NAME_MAX ||
		pread(fd, out->backing, h->backing_len, (off_t)h->backing_offset) !=
			(ssize_t)h->backing_len)
		return err_set(err, -EINVAL, "its header is broken: the name of its backing file");
	out->backing_raw = says_raw(fd, h);
	return 0;
}

int qcow2_head(const char *path, struct qcow2_head *out, struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), r;
	struct qcow2_header h;

	if (fd < 0)
		return err_errno(err, -errno, "open %s", quote(path));
	r = read_header(fd, &h, out, err);
	close(fd);
	return r < 0 ? err_wrap(err, "%s", quote(path)) : 0;
}

/* ---- open ---- */

static int check(const struct qcow2_header *h, bool writable, struct err *err)
{
	if (h->incompatible != 0)
		return err_set(err, -ENOTSUP,
			"its qcow2 has features that are not known here (%#llx)",
			(unsigned long long)h->incompatible);
	if (h->crypt != 0)
		return err_set(err, -ENOTSUP, "its qcow2 is encrypted");
	/* The largest that qcow2_create() makes; no sum below wraps. */
	if (h->size > SIZE_MAX_BYTES || h->cluster_bits < 9 || h->cluster_bits > 21 ||
		h->l1_size > L1_MAX / 8 ||
		h->l1_size < (h->size + (1ull << (2 * h->cluster_bits - 3)) - 1) >>
			(2 * h->cluster_bits - 3))
		return err_set(err, -EINVAL, "its header is broken");
	if (!writable)
		return 0;
	if (h->snapshots != 0)
		return err_set(err, -ENOTSUP, "its qcow2 has snapshots in it");
	/* Bitmaps, which what is written here would make wrong ("autoclear features"). */
	if (h->autoclear != 0)
		return err_set(err, -ENOTSUP, "its qcow2 has bitmaps in it");
	if (h->refcount_order != QCOW2_REFCOUNT_BITS)
		return err_set(
			err, -ENOTSUP, "its qcow2 has refcounts of 2^%u bits", h->refcount_order);
	return 0;
}

static int open_base(struct qcow2 *q, const struct qcow2_head *head, struct err *err)
{
	const char *slash = strrchr(q->path, '/');
	struct stat st;
	char *path;

	if (head->backing[0] == '\0')
		return 0;
	if (!head->backing_raw)
		return err_set(err, -EINVAL, "its backing file %s is not said to be raw",
			quote(head->backing));
	/* Whoever could write the header chooses no other files of the host. */
	if (strchr(head->backing, '/') != NULL)
		return err_set(err, -EINVAL, "its backing file %s is not in its folder",
			quote(head->backing));
	path = slash == NULL
		       ? strdup(head->backing)
		       : str_printf("%.*s/%s", (int)(slash - q->path), q->path, head->backing);
	if (path == NULL)
		return err_nomem(err);
	q->base = open(path, O_RDONLY | O_CLOEXEC);
	if (q->base < 0 || fstat(q->base, &st) < 0)
		err_errno(err, -errno, "its backing file %s", quote(path));
	else
		q->base_size = (uint64_t)st.st_size;
	free(path);
	return q->base < 0 ? err->code : 0;
}

static int read_l1(struct qcow2 *q, struct err *err)
{
	int r = 0;

	q->l1 = calloc(q->l1_size + 1, 8);
	q->cluster = malloc(qcow2_cluster(q));
	if (q->l1 == NULL || q->cluster == NULL)
		return err_nomem(err);
	r = qcow2_read_all(q, q->l1_offset, q->l1, (size_t)q->l1_size * 8, err);
	for (uint32_t i = 0; i < q->l1_size; i++)
		q->l1[i] = be64toh(q->l1[i]);
	return r;
}

static int load(struct qcow2 *q, struct err *err)
{
	struct qcow2_header h;
	struct qcow2_head head;
	struct stat st;
	int r = read_header(q->fd, &h, &head, err);

	if (r == 0)
		r = check(&h, q->writable, err);
	if (r == 0 && fstat(q->fd, &st) < 0)
		r = err_errno(err, -errno, "stat");
	if (r < 0)
		return r;
	q->size = h.size;
	q->bits = h.cluster_bits;
	q->l1_size = h.l1_size;
	q->l1_offset = h.l1_offset;
	q->refcount_offset = h.refcount_offset;
	q->refcounts = (uint64_t)h.refcount_clusters * qcow2_entries(q);
	q->end = ((uint64_t)st.st_size + qcow2_cluster(q) - 1) & ~(qcow2_cluster(q) - 1);
	r = open_base(q, &head, err);
	return r == 0 ? read_l1(q, err) : r;
}

int qcow2_open(struct qcow2 **out, const char *path, bool writable, struct err *err)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	if (q == NULL)
		return err_nomem(err);
	q->base = -1;
	q->writable = writable;
	q->path = strdup(path);
	q->fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
	if (q->fd < 0)
		r = err_errno(err, -errno, "open %s", quote(path));
	else if (q->path == NULL)
		r = err_nomem(err);
	else if ((r = load(q, err)) < 0)
		err_wrap(err, "%s", quote(path));
	if (r < 0) {
		qcow2_close(q);
		return r;
	}
	*out = q;
	return 0;
}

void qcow2_close(struct qcow2 *q)
{
	if (q == NULL)
		return;
	if (q->fd >= 0)
		close(q->fd);
	if (q->base >= 0)
		close(q->base);
	free(q->path);
	free(q->l1);
	free(q->cluster);
	free(q);
}

uint64_t qcow2_size(const struct qcow2 *q)
{
	return q->size;
}

/* ---- reading ---- */

/* zeros: what is behind the file's end is read as zeros, for QEMU does not fill the last cluster. */
static int read_file(int fd, uint64_t at, void *buf, size_t len, bool zeros, struct err *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(at + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, -errno, "read");
		if (n == 0 && !zeros)
			return err_set(err, -EINVAL, "the file is broken off");
		if (n == 0) {
			memset((char *)buf + done, 0, len - done);
			return 0;
		}
		done += (size_t)n;
	}
	return 0;
}

int qcow2_read_all(const struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err)
{
	return read_file(q->fd, at, buf, len, false, err);
}

int qcow2_entry(const struct qcow2 *q, uint64_t at, uint64_t *out, struct err *err)
{
	uint64_t n = at >> q->bits, l2 = q->l1[n / qcow2_entries(q)] & QCOW2_OFFSET;
	int r;

	*out = 0;
	if (l2 == 0)
		return 0;
	r = qcow2_read_all(q, l2 + n % qcow2_entries(q) * 8, out, 8, err);
	*out = be64toh(*out);
	if (r == 0 && (*out & QCOW2_COMPRESSED))
		r = err_set(err, -ENOTSUP, "its qcow2 is compressed");
	return r;
}

static int read_base(const struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err)
{
	size_t have = at >= q->base_size ? 0 : MIN(len, q->base_size - at);

	memset((char *)buf + have, 0, len - have);
	return have > 0 ? read_file(q->base, at, buf, have, false, err) : 0;
}

int qcow2_read_piece(struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err)
{
	uint64_t entry;
	int r = qcow2_entry(q, at, &entry, err);

	if (r < 0)
		return r;
	if (entry & QCOW2_ZERO)
		memset(buf, 0, len);
	else if (entry & QCOW2_OFFSET)
		r = read_file(q->fd, (entry & QCOW2_OFFSET) + (at & (qcow2_cluster(q) - 1)), buf,
			len, true, err);
	else
		r = read_base(q, at, buf, len, err);
	return r;
}

int qcow2_read(struct qcow2 *q, uint64_t at, void *buf, size_t len, struct err *err)
{
	int r = 0;

	if (at > q->size || len > q->size - at)
		return err_set(err, -EINVAL, "a place behind the disk's end");
	while (r == 0 && len > 0) {
		size_t n = MIN(len, qcow2_cluster(q) - (at & (qcow2_cluster(q) - 1)));

		r = qcow2_read_piece(q, at, buf, n, err);
		at += n;
		buf = (char *)buf + n;
		len -= n;
	}
	return r;
}

int qcow2_each(struct qcow2 *q, qcow2_piece_fn *fn, void *arg, struct err *err)
{
	uint64_t at = 0, step = qcow2_cluster(q), entry;
	int r = 0;

	while (r == 0 && at < q->size) {
		size_t n = MIN(step, q->size - at);

		/* A table that is not there stands for all that it would have. */
		if ((q->l1[(at >> q->bits) / qcow2_entries(q)] & QCOW2_OFFSET) == 0) {
			at += step * qcow2_entries(q);
			continue;
		}
		r = qcow2_entry(q, at, &entry, err);
		if (r == 0 && (entry & QCOW2_ZERO))
			r = fn(arg, at, NULL, n, err);
		else if (r == 0 && (entry & QCOW2_OFFSET) != 0 &&
			 (r = read_file(q->fd, entry & QCOW2_OFFSET, q->cluster, n, true, err)) ==
				 0)
			r = fn(arg, at, q->cluster, n, err);
		at += step;
	}
	return r;
}
