#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "oci/digest.h"
#include "oci/image-file.h"
#include "oci/image.h"

#define DEFAULT_HOST "docker.io"

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* host [":" port]: labels of letters, digits and inner hyphens, or an IPv6 address in brackets. */
static bool host_valid(const char *s, size_t n)
{
	const char *end = s + n, *p = s;

	if (n > 0 && *s == '[') {
		for (p = s + 1; p < end && (isxdigit((unsigned char)*p) || *p == ':'); p++)
			;
		if (p == end || *p != ']' || p == s + 1)
			return false;
		p++;
	} else {
		for (; p < end && *p != ':'; p++) {
			bool edge = p == s || p[-1] == '.' || p + 1 == end || p[1] == '.' ||
				    p[1] == ':';

			if (!isalnum((unsigned char)*p) && (edge || (*p != '-' && *p != '.')))
				return false;
		}
		if (p == s)
			return false;
	}
	if (p == end)
		return true;
	if (*p++ != ':' || p == end || end - p > 5)
		return false;
	for (; p < end; p++) {
		if (*p < '0' || *p > '9')
			return false;
	}
	return true;
}

/* Components of [a-z0-9]+ joined by one of . _ __ or any number of hyphens. */
static bool component_valid(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		size_t start = i;

		while (i < n && is_alnum(s[i]))
			i++;
		if (i == start)
			return false;
		if (i == n)
			return true;
		if (s[i] == '.') {
			i++;
		} else if (s[i] == '_') {
			i += i + 1 < n && s[i + 1] == '_' ? 2 : 1;
		} else if (s[i] == '-') {
			while (i < n && s[i] == '-')
				i++;
		} else {
			return false;
		}
	}
	return false;
}

static bool repository_valid(const char *s, size_t n)
{
	const char *end = s + n;

	while (s <= end) {
		const char *slash = memchr(s, '/', (size_t)(end - s));
		const char *stop = slash != NULL ? slash : end;

		if (!component_valid(s, (size_t)(stop - s)))
			return false;
		s = stop + 1;
	}
	return true;
}

static bool tag_valid(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 128 || *s == '.' || *s == '-')
		return false;
	for (; *s != '\0'; s++) {
		if (!isalnum((unsigned char)*s) && strchr("_.-", *s) == NULL)
			return false;
	}
	return true;
}

/* Docker's rule for telling a host from the first component of a path. */
static bool looks_like_host(const char *s, size_t n)
{
	if (n == 9 && memcmp(s, "localhost", 9) == 0)
		return true;
	for (size_t i = 0; i < n; i++) {
		if (s[i] == '.' || s[i] == ':' || (s[i] >= 'A' && s[i] <= 'Z'))
			return true;
	}
	return false;
}

static int invalid(const char *ref, struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "image reference %s: %s", quote(ref), why);
}

/* name is all before tag and digest. */
static int parse_name(
	const char *ref, const char *name, size_t n, struct image_ref *r, struct err *err)
{
	const char *slash = memchr(name, '/', n);
	size_t host_len = slash != NULL ? (size_t)(slash - name) : 0;
	const char *prefix = "";

	if (host_len > 0 && looks_like_host(name, host_len)) {
		if (host_len >= sizeof(r->host) || !host_valid(name, host_len))
			return invalid(ref, err, "the host is not valid");
		for (size_t i = 0; i < host_len; i++)
			r->host[i] = (char)tolower((unsigned char)name[i]);
		/* In its full form, in lower case, it would be taken for a part of the name. */
		if (!looks_like_host(r->host, host_len))
			return invalid(ref, err,
				"a host without a dot needs a port, and a name is in lower case");
		name += host_len + 1;
		n -= host_len + 1;
	}
	if (r->host[0] == '\0' || strcmp(r->host, "index.docker.io") == 0)
		strcpy(r->host, DEFAULT_HOST);
	if (strcmp(r->host, DEFAULT_HOST) == 0 && memchr(name, '/', n) == NULL)
		prefix = "library/";
	if (n == 0)
		return invalid(ref, err, "it names no repository");
	if (strlen(prefix) + n >= sizeof(r->repository))
		return invalid(ref, err, "the repository's name is longer than 255 characters");
	for (size_t i = 0; i < n; i++) {
		if (name[i] >= 'A' && name[i] <= 'Z')
			return invalid(ref, err, "the repository's name must be in lower case");
	}
	if (!repository_valid(name, n))
		return invalid(ref, err, "the repository's name is not valid");
	memcpy(stpcpy(r->repository, prefix), name, n);
	return 0;
}

static const char *const schemes[] = {
	[IMAGE_OCI_FOLDER] = "oci:/",
	[IMAGE_OCI_ARCHIVE] = "oci-archive:/",
	[IMAGE_DOCKER_ARCHIVE] = "docker-archive:/",
	[IMAGE_FILE] = "file:/",
};

/* s begins with the source's scheme. */
static int parse_file(
	const char *s, enum image_source source, struct image_ref *out, struct err *err)
{
	struct image_ref r = { .source = source };
	const char *path = strchr(s, ':') + 1, *tag = strrchr(path, ':');
	size_t n = strlen(path);

	if (source != IMAGE_FILE && tag != NULL && strchr(tag, '/') == NULL) {
		n = (size_t)(tag - path);
		if (strlen(tag + 1) >= sizeof(r.tag) || !tag_valid(tag + 1))
			return invalid(s, err, "the tag is not valid");
		strcpy(r.tag, tag + 1);
	}
	if (n >= sizeof(r.path))
		return invalid(s, err, "the path is too long");
	for (size_t i = 0; i < n; i++) {
		if ((unsigned char)path[i] < 0x20)
			return invalid(s, err, "the path has a control character");
	}
	memcpy(r.path, path, n);
	*out = r;
	return 0;
}

/* Without what follows a '#'. */
static int parse_plain(const char *s, struct image_ref *out, struct err *err)
{
	struct image_ref r = { 0 };
	const char *at = strchr(s, '@');
	size_t n = at != NULL ? (size_t)(at - s) : strlen(s);
	const char *tag = NULL;

	if (*s == '\0')
		return err_set(err, -EINVAL, "image reference: it is empty");
	for (size_t i = IMAGE_OCI_FOLDER; i < ARRAY_LEN(schemes); i++) {
		if (str_starts(s, schemes[i]))
			return parse_file(s, (enum image_source)i, out, err);
	}
	if (str_starts(s, "https://") || str_starts(s, "http://"))
		return image_parse_url(s, out, err);
	if (at != NULL) {
		if (strlen(at + 1) >= sizeof(r.digest) || !digest_valid(at + 1))
			return invalid(s, err, "the digest is not sha256: and 64 hex digits");
		strcpy(r.digest, at + 1);
	}
	/* A colon before the last slash belongs to a port. */
	for (size_t i = n; i > 0 && s[i - 1] != '/'; i--) {
		if (s[i - 1] == ':') {
			tag = s + i;
			break;
		}
	}
	if (tag != NULL) {
		size_t len = (size_t)(s + n - tag);

		if (len >= sizeof(r.tag))
			return invalid(s, err, "the tag is longer than 128 characters");
		memcpy(r.tag, tag, len);
		if (strlen(r.tag) != len || !tag_valid(r.tag))
			return invalid(s, err, "the tag is not valid");
		n = (size_t)(tag - 1 - s);
	} else if (at == NULL) {
		strcpy(r.tag, "latest");
	}
	if (parse_name(s, s, n, &r, err) < 0)
		return -EINVAL;
	*out = r;
	return 0;
}

int image_ref_parse(const char *s, struct image_ref *out, struct err *err)
{
	struct image_ref r;
	const char *mark = strrchr(s, '#');
	char *plain;
	int ret;

	if (mark == NULL) {
		ret = parse_plain(s, &r, err);
	} else {
		plain = strndup(s, (size_t)(mark - s));
		ret = plain != NULL ? parse_plain(plain, &r, err) : err_nomem(err);
		free(plain);
		if (ret == 0)
			ret = image_parse_options(s, mark + 1, &r, err);
	}
	if (ret == 0)
		ret = image_check_file(s, &r, err);
	if (ret == 0)
		*out = r;
	return ret;
}

void image_ref_format(const struct image_ref *r, struct buf *out)
{
	if (r->source == IMAGE_URL)
		buf_adds(out, r->path);
	else if (r->source != IMAGE_REGISTRY)
		buf_printf(out, "%.*s%s", (int)strlen(schemes[r->source]) - 1, schemes[r->source],
			r->path);
	else
		buf_printf(out, "%s/%s", r->host, r->repository);
	if (r->tag[0] != '\0')
		buf_printf(out, ":%s", r->tag);
	if (r->digest[0] != '\0' && !image_is_file(r))
		buf_printf(out, "@%s", r->digest);
	image_format_options(r, out);
}
