#include "oci/part.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "oci/rawdisk.h"

#define PIECE ((size_t)256 << 10)

struct part {
	struct store *store;
	struct store_work *work;
	struct digest *digest;
	char key[DIGEST_MAX];
	bool known; /* the key is its digest */
	uint64_t have;
	int fd;
};

static int part_error(const struct part *p, int code, const char *what, struct err *err)
{
	if (code == -ENOSPC || code == -EDQUOT)
		return err_errno(err, -ENOSPC, "the image store %s: write an image of %s or more",
			quote(store_dir(p->store)), format_size(p->have));
	return err_errno(err, code, "%s %s", what, quote(store_work_path(p->work)));
}

/* Reads what is there already, for the digest. */
static int take_up_part(struct part *p, struct err *err)
{
	char *piece = malloc(PIECE);
	ssize_t n;
	int r = piece != NULL ? 0 : err_nomem(err);

	while (r == 0 && (n = pread(p->fd, piece, PIECE, (off_t)p->have)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 || digest_update(p->digest, piece, (size_t)n) < 0)
			r = part_error(p, n < 0 ? -errno : -EIO, "read", err);
		else
			p->have += (uint64_t)n;
	}
	free(piece);
	return r;
}

/* No content has the digest of this text, which is none: it is a name to wait by. */
static int key_of_place(const char *where, char key[DIGEST_MAX], struct err *err)
{
	char *text = str_printf("drover: what is at\n%s", where);
	int r = text != NULL ? digest_of("sha256:", text, strlen(text), key, err) : err_nomem(err);

	free(text);
	return r;
}

int part_open(
	struct part **out, struct store *s, const char *digest, const char *where, struct err *err)
{
	struct part *p = calloc(1, sizeof(*p));
	int r = 0;

	if (p == NULL)
		return err_nomem(err);
	p->fd = -1;
	p->store = s;
	p->known = digest != NULL;
	if (p->known)
		snprintf(p->key, sizeof(p->key), "%s", digest);
	else
		r = key_of_place(where, p->key, err);
	if (r == 0)
		r = store_claim(s, STORE_BLOB, p->key, true, &p->work, err);
	if (r == 0)
		r = digest_create(&p->digest, p->key, err);
	if (r == 0) {
		p->fd = open(
			store_work_path(p->work), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
		if (p->fd < 0)
			r = part_error(p, -errno, "create", err);
		else
			r = p->known ? take_up_part(p, err) : part_restart(p, err);
	}
	if (r < 0) {
		part_close(p);
		return r;
	}
	*out = p;
	return 0;
}

uint64_t part_have(const struct part *p)
{
	return p->have;
}

bool part_is_known(const struct part *p)
{
	return p->known;
}

int part_write(struct part *p, const void *data, size_t len, struct err *err)
{
	int r;

	if (digest_update(p->digest, data, len) < 0)
		return err_set(err, -EIO, "its digest cannot be computed");
	r = write_sparse(p->fd, data, len, p->have, err);
	if (r < 0)
		return part_error(p, r, "write", err);
	p->have += len;
	return 0;
}

int part_restart(struct part *p, struct err *err)
{
	if (digest_reset(p->digest) < 0)
		return err_nomem(err);
	if (ftruncate(p->fd, 0) < 0)
		return part_error(p, -errno, "truncate", err);
	p->have = 0;
	return 0;
}

/* By the name of what it is, now that this is known. */
static int commit_as(struct part *p, const char *digest, struct err *err)
{
	struct store_work *w;
	int r = store_claim(p->store, STORE_BLOB, digest, true, &w, err);

	if (r == -EEXIST)
		return 0;
	if (r < 0)
		return r;
	if (rename(store_work_path(p->work), store_work_path(w)) < 0) {
		r = err_errno(err, -errno, "rename %s", quote(store_work_path(p->work)));
		store_abandon(w);
		return r;
	}
	return store_commit(w, err);
}

int part_finish(struct part *p, char got[DIGEST_MAX], struct err *err)
{
	struct store_work *w = p->work;

	if (digest_final(p->digest, got) < 0)
		return err_set(err, -EIO, "its digest cannot be computed");
	if (p->known && strcmp(got, p->key) != 0)
		return err_set(err, -EBADMSG, "wrong content: its sha256 is %s, not %s",
			strchr(got, ':') + 1, strchr(p->key, ':') + 1);
	/* Zeros at its end are a hole. */
	if (ftruncate(p->fd, (off_t)p->have) < 0)
		return part_error(p, -errno, "write", err);
	if (fsync(p->fd) < 0)
		return part_error(p, -errno, "sync", err);
	if (!p->known)
		return commit_as(p, got, err);
	p->work = NULL;
	return store_commit(w, err);
}

void part_close(struct part *p)
{
	if (p == NULL)
		return;
	if (p->fd >= 0)
		close(p->fd);
	store_abandon(p->work);
	digest_destroy(p->digest);
	free(p);
}
