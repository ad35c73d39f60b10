#include <errno.h>
#include <string.h>
#include "oci/cache.h"

/* A YAML double-quoted scalar (YAML 1.2, section 7.3.1). */
static int put_quoted(struct buf *out, const char *what, const char *value, struct err *err)
{
	if (value == NULL || *value == '\0')
		return err_set(err, -EINVAL, "registry: %s is empty", what);
	buf_adds(out, "\"");
	for (const char *p = value; *p != '\0'; p++) {
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(err, -EINVAL, "registry: %s %s has a control character",
				what, quote(value));
		if (*p == '"' || *p == '\\')
			buf_adds(out, "\\");
		buf_add(out, p, 1);
	}
	buf_adds(out, "\"\n");
	return 0;
}

static int put_config(const struct cache_spec *spec, struct buf *out, struct err *err)
{
	int r;

	/*
	 * The access log goes to standard output whatever the level; the level is for the rest,
	 * which at "info" repeats each access.
	 */
	buf_adds(out, "version: 0.1\n"
		      "log:\n"
		      "  level: warn\n"
		      "  formatter: text\n"
		      "storage:\n"
		      "  filesystem:\n"
		      "    rootdirectory: ");
	r = put_quoted(out, "storage", spec->storage, err);
	if (r < 0)
		return r;
	buf_adds(out, "  cache:\n"
		      "    blobdescriptor: inmemory\n"
		      "  delete:\n"
		      "    enabled: false\n");
	/*
	 * Nor may the proxy itself delete: on the seventh day after a blob came it would, however
	 * often it was used since, and whether its upstream is there or not (OnBlobExpire in
	 * proxyregistry.go of 2.8).
	 */
	/* Without its upstream it would be a registry that any guest could push into. */
	if (spec->upstream == NULL)
		buf_adds(out, "  maintenance:\n"
			      "    readonly:\n"
			      "      enabled: true\n");
	buf_adds(out, "http:\n"
		      "  addr: ");
	r = put_quoted(out, "listen", spec->listen, err);
	if (r < 0)
		return r;
	buf_adds(out, "  headers:\n"
		      "    X-Content-Type-Options: [nosniff]\n");
	if (spec->upstream != NULL) {
		if (!str_starts(spec->upstream, "http://") &&
			!str_starts(spec->upstream, "https://"))
			return err_set(err, -EINVAL,
				"registry: upstream %s must begin with https:// or http://",
				quote(spec->upstream));
		buf_adds(out, "proxy:\n"
			      "  remoteurl: ");
		r = put_quoted(out, "upstream", spec->upstream, err);
		if (r < 0)
			return r;
	}
	/* Its probe writes nothing but stats the storage every 10 s for ever: an idle host idles. */
	buf_adds(out, "health:\n"
		      "  storagedriver:\n"
		      "    enabled: false\n");
	return 0;
}

int cache_config_text(const struct cache_spec *spec, struct buf *out, struct err *err)
{
	struct buf text = { 0 };
	int r = put_config(spec, &text, err);

	if (r == 0)
		buf_add(out, buf_str(&text), text.len);
	if (r == 0 && (text.bad || out->bad))
		r = err_nomem(err);
	buf_finish(&text);
	return r;
}
