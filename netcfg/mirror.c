#include "netcfg/mirror.h"

#include <errno.h>
#include <string.h>

/* In single quotes nothing has a meaning but the quote itself (haproxy, configuration manual, 2.2). */
static void put_quoted(struct buf *out, const char *path)
{
	buf_adds(out, "'");
	for (const char *p = path; *p != '\0'; p++) {
		if (*p == '\'')
			buf_adds(out, "'\\''");
		else
			buf_add(out, p, 1);
	}
	buf_adds(out, "'");
}

static int check_path(const char *path, struct err *err)
{
	for (const char *p = path; p != NULL && *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return err_set(
				err, -EINVAL, "the path %s has a control character", quote(path));
	return 0;
}

static void put_bind(struct buf *out, const char *address, unsigned port)
{
	if (strchr(address, ':') != NULL)
		buf_printf(out, "\tbind [%s]:%u", address, port);
	else
		buf_printf(out, "\tbind %s:%u", address, port);
}

/* A guest has to come by the certificate before it can trust in it. */
static void put_ca(struct buf *out, const struct mirror_config *c, const struct mirror_front *f)
{
	buf_printf(out, "frontend %s-ca\n", f->name);
	put_bind(out, f->address, MIRROR_CA_PORT);
	buf_adds(out,
		"\n\thttp-request return status 200 content-type application/x-pem-file file ");
	put_quoted(out, c->ca);
	buf_adds(out, " if { path /drover-ca.pem }\n");
	if (f->port == 443)
		buf_adds(out, "\thttp-request redirect scheme https code 301\n");
	else
		buf_adds(out, "\thttp-request return status 404\n");
}

static void put_front(struct buf *out, const struct mirror_front *f)
{
	buf_printf(out, "frontend %s\n", f->name);
	put_bind(out, f->address, f->port);
	if (f->cert != NULL) {
		buf_adds(out, " ssl crt ");
		put_quoted(out, f->cert);
		/* By it the cache makes its links. */
		buf_adds(out, "\n\thttp-request set-header X-Forwarded-Proto https");
	}
	buf_adds(out, "\n\thttp-request deny deny_status 405 unless METH_GET\n");
	buf_printf(out, "\tdefault_backend %s\n", f->name);
	buf_printf(out, "backend %s\n\tserver cache %s\n", f->name, f->backend);
}

int mirror_config_text(const struct mirror_config *c, struct buf *out, struct err *err)
{
	int r = check_path(c->ca, err);

	if (r == 0)
		r = check_path(c->chroot, err);
	for (size_t i = 0; r == 0 && i < c->n; i++)
		r = check_path(c->fronts[i].cert, err);
	if (r < 0)
		return r;
	buf_adds(out, "global\n"
		      "\tlog stdout format raw local0 notice\n"
		      "\tmaxconn 1000\n"
		      "\tnbthread 1\n"
		      "\tssl-default-bind-options ssl-min-ver TLSv1.2\n");
	if (c->chroot != NULL) {
		buf_adds(out, "\tuid 65534\n\tgid 65534\n\tchroot ");
		put_quoted(out, c->chroot);
		buf_adds(out, "\n");
	}
	/* A cache that fetches a large layer is silent for a while. */
	buf_adds(out, "defaults\n"
		      "\tmode http\n"
		      "\tlog global\n"
		      "\ttimeout connect 5s\n"
		      "\ttimeout client 300s\n"
		      "\ttimeout server 300s\n"
		      "\ttimeout http-request 30s\n"
		      "\ttimeout http-keep-alive 60s\n");
	for (size_t i = 0; i < c->n; i++) {
		if (c->fronts[i].cert != NULL)
			put_ca(out, c, &c->fronts[i]);
		put_front(out, &c->fronts[i]);
	}
	return out->bad ? err_nomem(err) : 0;
}
