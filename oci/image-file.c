#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "oci/digest.h"
#include "oci/image-file.h"

static const char *const format_names[] = {
	[FORMAT_RAW] = "raw",
	[FORMAT_QCOW2] = "qcow2",
	[FORMAT_VMDK] = "vmdk",
	[FORMAT_VHDX] = "vhdx",
	[FORMAT_EFI] = "efi",
};

bool image_is_file(const struct image_ref *r)
{
	return r->source == IMAGE_FILE || r->source == IMAGE_URL;
}

bool image_text_is_file(const char *s)
{
	return s[0] == '/' || str_starts(s, "file:/") || str_starts(s, "https://") ||
	       str_starts(s, "http://");
}

const char *image_format_name(enum image_format f)
{
	return format_names[f];
}

int image_format_parse(const char *s, enum image_format *out, struct err *err)
{
	for (size_t i = FORMAT_RAW; i < ARRAY_LEN(format_names); i++) {
		if (strcmp(s, format_names[i]) == 0) {
			*out = (enum image_format)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "format %s is none of raw, qcow2, vmdk, vhdx, efi", quote(s));
}

enum image_format image_format_of_name(const char *name)
{
	size_t len = strcspn(name, "?");

	for (size_t i = FORMAT_RAW; i < ARRAY_LEN(format_names); i++) {
		size_t n = strlen(format_names[i]);

		if (len > n && name[len - n - 1] == '.' &&
			strncmp(name + len - n, format_names[i], n) == 0)
			return (enum image_format)i;
	}
	return FORMAT_BY_NAME;
}

static int invalid(const char *ref, struct err *err, const char *why)
{
	return err_set(err, -EINVAL, "image reference %s: %s", quote(ref), why);
}

int image_parse_url(const char *s, struct image_ref *out, struct err *err)
{
	const char *host = strstr(s, "://") + 3, *path = strchr(host, '/');

	*out = (struct image_ref){ .source = IMAGE_URL };
	if (strlen(s) >= sizeof(out->path))
		return invalid(s, err, "the URL is longer than 1023 characters");
	for (const char *p = s; *p != '\0'; p++) {
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return invalid(s, err, "the URL has a character that must be escaped by %");
	}
	if (path == NULL || path == host || path[1] == '\0')
		return invalid(s, err, "the URL names no file");
	/* It is shown in lists, logs and errors. */
	if (memchr(host, '@', (size_t)(path - host)) != NULL)
		return invalid(s, err, "a URL with a password in it is not taken");
	strcpy(out->path, s);
	return 0;
}

static int parse_sha256(const char *ref, const char *hex, struct image_ref *r, struct err *err)
{
	char digest[DIGEST_MAX];

	snprintf(digest, sizeof(digest), "sha256:%s", hex);
	if (strlen(hex) != 64 || !digest_valid(digest))
		return invalid(ref, err, "sha256 is not 64 hex digits in lower case");
	strcpy(r->digest, digest);
	return 0;
}

static int add_backing(const char *ref, const char *path, struct image_ref *r, struct err *err)
{
	size_t n = strlen(r->backing), lines = 0;

	for (const char *p = r->backing; *p != '\0'; p++)
		lines += *p == '\n';
	if (path[0] != '/' || strchr(path, '\n') != NULL)
		return invalid(ref, err, "backing is not an absolute path");
	if (lines == IMAGE_BACKING_MAX || n + strlen(path) + 2 > sizeof(r->backing))
		return invalid(ref, err, "it names too many backing files");
	sprintf(r->backing + n, "%s\n", path);
	return 0;
}

int image_parse_options(const char *s, const char *options, struct image_ref *r, struct err *err)
{
	char *copy = strdup(options), *rest = copy, *word;
	int ret = copy != NULL ? 0 : err_nomem(err);

	while (ret == 0 && (word = strsep(&rest, "&")) != NULL) {
		if (str_starts(word, "format="))
			ret = image_format_parse(word + 7, &r->format, err);
		else if (!image_is_file(r))
			ret = invalid(s, err, "behind '#' there may be format=");
		else if (str_starts(word, "sha256="))
			ret = parse_sha256(s, word + 7, r, err);
		else if (str_starts(word, "backing="))
			ret = add_backing(s, word + 8, r, err);
		else
			ret = invalid(s, err, "behind '#' there may be sha256=, format=, backing=");
	}
	free(copy);
	return ret;
}

int image_check_file(const char *s, const struct image_ref *r, struct err *err)
{
	enum image_format f = r->format;

	if (!image_is_file(r))
		return f == FORMAT_EFI ? invalid(s, err, "format=efi is for single files") : 0;
	if (str_starts(r->path, "http://") && r->digest[0] == '\0')
		return invalid(s, err, "over http the content must be known by its sha256");
	if (f == FORMAT_BY_NAME)
		f = image_format_of_name(r->path);
	if (r->backing[0] != '\0' && f != FORMAT_QCOW2)
		return invalid(s, err, "only a qcow2 has backing files");
	return 0;
}

void image_format_options(const struct image_ref *r, struct buf *out)
{
	const char *mark = "#", *p = r->backing;

	if (image_is_file(r) && r->digest[0] != '\0') {
		buf_printf(out, "%ssha256=%s", mark, strchr(r->digest, ':') + 1);
		mark = "&";
	}
	if (r->format != FORMAT_BY_NAME) {
		buf_printf(out, "%sformat=%s", mark, format_names[r->format]);
		mark = "&";
	}
	for (; *p != '\0'; p = strchr(p, '\n') + 1) {
		buf_printf(out, "%sbacking=%.*s", mark, (int)strcspn(p, "\n"), p);
		mark = "&";
	}
}
