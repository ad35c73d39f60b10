#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include "oci/digest.h"

static const struct algorithm {
	const char *prefix;
	size_t hex_len;
	const EVP_MD *(*md)(void);
} algorithms[] = {
	{ "sha256:", 64, EVP_sha256 },
	{ "sha512:", 128, EVP_sha512 },
};

struct digest {
	const struct algorithm *algorithm;
	EVP_MD_CTX *ctx;
};

static const struct algorithm *algorithm_of(const char *s)
{
	for (size_t i = 0; i < ARRAY_LEN(algorithms); i++) {
		const struct algorithm *a = &algorithms[i];

		if (strncmp(s, a->prefix, strlen(a->prefix)) == 0)
			return a;
	}
	return NULL;
}

bool digest_valid(const char *s)
{
	const struct algorithm *a = algorithm_of(s);

	if (a == NULL)
		return false;
	s += strlen(a->prefix);
	return strlen(s) == a->hex_len && strspn(s, "0123456789abcdef") == a->hex_len;
}

int digest_create(struct digest **out, const char *like, struct err *err)
{
	const struct algorithm *a = algorithm_of(like);
	struct digest *d;

	if (a == NULL)
		return err_set(err, -EINVAL, "digest %.16s: unknown algorithm", like);
	d = calloc(1, sizeof(*d));
	if (d == NULL)
		return err_nomem(err);
	d->algorithm = a;
	d->ctx = EVP_MD_CTX_new();
	if (d->ctx == NULL || digest_reset(d) < 0) {
		digest_destroy(d);
		return err_nomem(err);
	}
	*out = d;
	return 0;
}

int digest_update(struct digest *d, const void *data, size_t len)
{
	return EVP_DigestUpdate(d->ctx, data, len) == 1 ? 0 : -EIO;
}

int digest_reset(struct digest *d)
{
	return EVP_DigestInit_ex(d->ctx, d->algorithm->md(), NULL) == 1 ? 0 : -ENOMEM;
}

int digest_final(struct digest *d, char out[DIGEST_MAX])
{
	static const char hex[] = "0123456789abcdef";
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int n;
	char *p;

	if (EVP_DigestFinal_ex(d->ctx, md, &n) != 1)
		return -EIO;
	p = stpcpy(out, d->algorithm->prefix);
	for (unsigned int i = 0; i < n; i++) {
		*p++ = hex[md[i] >> 4];
		*p++ = hex[md[i] & 15];
	}
	*p = '\0';
	return 0;
}

void digest_destroy(struct digest *d)
{
	if (d == NULL)
		return;
	EVP_MD_CTX_free(d->ctx);
	free(d);
}

int digest_of(const char *like, const void *data, size_t len, char out[DIGEST_MAX], struct err *err)
{
	struct digest *d;
	int r = digest_create(&d, like, err);

	if (r < 0)
		return r;
	r = digest_update(d, data, len);
	if (r == 0)
		r = digest_final(d, out);
	digest_destroy(d);
	return r < 0 ? err_set(err, r, "hashing failed") : 0;
}
