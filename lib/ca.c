#include "lib/ca.h"

#include <arpa/inet.h>
#include <errno.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"

#define DAY         INT64_C(86400)
#define CA_LIFE     (3652 * DAY)
#define CA_LEFT     (730 * DAY)
#define SERVER_LIFE (90 * DAY)
#define SERVER_LEFT (30 * DAY)
#define FILE_MAX    65536

struct authority {
	EVP_PKEY *key;
	X509 *cert;
};

static void authority_finish(struct authority *a)
{
	EVP_PKEY_free(a->key);
	X509_free(a->cert);
}

static int crypto_error(struct err *err, const char *what)
{
	const char *reason = ERR_reason_error_string(ERR_get_error());

	ERR_clear_error();
	return err_set(err, -EIO, "%s: %s", what, reason != NULL ? reason : "failed");
}

/* ---- reading ---- */

/* A key is asked for no password: what is encrypted cannot be read. */
static int no_password(char *buf, int size, int rwflag, void *arg)
{
	return -1;
}

static BIO *text_bio(const struct buf *text)
{
	return BIO_new_mem_buf(buf_str(text), (int)text->len);
}

static X509 *parse_cert(const struct buf *text)
{
	BIO *bio = text_bio(text);
	X509 *cert = bio != NULL ? PEM_read_bio_X509(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return cert;
}

static EVP_PKEY *parse_key(const struct buf *text)
{
	BIO *bio = text_bio(text);
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;

	BIO_free(bio);
	ERR_clear_error();
	return key;
}

static int64_t unix_time(const ASN1_TIME *t)
{
	int days = 0, seconds = 0;
	ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);

	if (epoch != NULL)
		ASN1_TIME_diff(&days, &seconds, epoch, t);
	ASN1_TIME_free(epoch);
	return days * DAY + seconds;
}

static bool is_good(X509 *cert, int64_t now, int64_t left)
{
	return unix_time(X509_get0_notBefore(cert)) <= now &&
	       unix_time(X509_get0_notAfter(cert)) - left > now;
}

/* ---- writing ---- */

static int write_pem(const char *path, EVP_PKEY *key, X509 *cert, struct err *err)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data;
	long len;
	int r = 0;

	if (bio == NULL || (cert != NULL && PEM_write_bio_X509(bio, cert) != 1) ||
		(key != NULL &&
			PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)) {
		r = crypto_error(err, "a certificate");
	} else {
		len = BIO_get_mem_data(bio, &data);
		r = file_write_atomic(
			path, data, (size_t)len, key != NULL ? 0600 : 0644, true, err);
	}
	BIO_free(bio);
	return r;
}

static bool add_extension(X509 *cert, X509V3_CTX *ctx, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, ctx, nid, value);
	bool ok = e != NULL && X509_add_ext(cert, e, -1) == 1;

	X509_EXTENSION_free(e);
	return ok;
}

static bool set_serial(X509 *cert)
{
	unsigned char bytes[16];
	BIGNUM *n = NULL;
	bool ok = RAND_bytes(bytes, sizeof(bytes)) == 1;

	/* Positive, and never zero (RFC 5280, section 4.1.2.2). */
	bytes[0] = (unsigned char)((bytes[0] & 0x7f) | 0x40);
	n = ok ? BN_bin2bn(bytes, sizeof(bytes), NULL) : NULL;
	ok = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(cert)) != NULL;
	BN_free(n);
	return ok;
}

/* A day back, for guests whose clocks are behind. */
static bool set_times(X509 *cert, int64_t now, int64_t life)
{
	return ASN1_TIME_set(X509_getm_notBefore(cert), (time_t)(now - DAY)) != NULL &&
	       ASN1_TIME_set(X509_getm_notAfter(cert), (time_t)(now + life)) != NULL;
}

static X509 *new_cert(EVP_PKEY *key, const char *name, int64_t now, int64_t life)
{
	X509 *cert = X509_new();
	X509_NAME *subject = cert != NULL ? X509_get_subject_name(cert) : NULL;

	if (cert != NULL && X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
		set_times(cert, now, life) && X509_set_pubkey(cert, key) == 1 &&
		X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
			(const unsigned char *)name, -1, -1, 0) == 1)
		return cert;
	X509_free(cert);
	return NULL;
}

/* ---- the authority ---- */

static char *ca_path(const char *dir, const char *name)
{
	return path_join(dir, name);
}

static int read_file(const char *dir, const char *name, struct buf *out, struct err *err)
{
	char *path = ca_path(dir, name);
	int r = path == NULL ? err_nomem(err) : file_read(path, FILE_MAX, out, err);

	free(path);
	return r;
}

/* -ENOENT: there is none. A key that is there and cannot be read is no reason for another one, which
 * no guest knows. */
static int load_key(const char *dir, EVP_PKEY **out, struct err *err)
{
	struct buf text = { 0 };
	int r = read_file(dir, "ca.key", &text, err);

	if (r == 0)
		*out = parse_key(&text);
	if (r == 0 && *out == NULL)
		r = err_set(
			err, -EINVAL, "%s/ca.key is no private key; remove it for a new CA", dir);
	if (text.data != NULL)
		OPENSSL_cleanse(text.data, text.len);
	buf_finish(&text);
	return r;
}

static int make_key(const char *dir, EVP_PKEY **out, struct err *err)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	char *path = ca_path(dir, "ca.key");
	int r = path == NULL ? err_nomem(err) : 0;

	if (r == 0)
		r = key == NULL ? crypto_error(err, "a key") : write_pem(path, key, NULL, err);
	free(path);
	if (r == 0)
		*out = key;
	else
		EVP_PKEY_free(key);
	return r;
}

static X509 *sign_authority(EVP_PKEY *key, int64_t now)
{
	char host[64] = "", name[96];
	X509 *cert;
	X509V3_CTX ctx;

	gethostname(host, sizeof(host) - 1);
	/* A name has at most 64 characters (RFC 5280, appendix A.1: ub-common-name). */
	snprintf(name, sizeof(name), "drover CA of %.48s", host);
	cert = new_cert(key, name, now, CA_LIFE);
	if (cert == NULL)
		return NULL;
	X509V3_set_ctx(&ctx, cert, cert, NULL, NULL, 0);
	if (X509_set_issuer_name(cert, X509_get_subject_name(cert)) == 1 &&
		add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
		add_extension(cert, &ctx, NID_key_usage, "critical,keyCertSign,cRLSign") &&
		add_extension(cert, &ctx, NID_subject_key_identifier, "hash") &&
		X509_sign(cert, key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static bool is_of(X509 *cert, EVP_PKEY *key)
{
	return cert != NULL && X509_check_private_key(cert, key) == 1;
}

/* The same name again, or what was signed before would have another issuer. */
static X509 *renew_authority(X509 *old, EVP_PKEY *key, int64_t now)
{
	X509 *cert = sign_authority(key, now);

	if (cert != NULL && X509_set_subject_name(cert, X509_get_subject_name(old)) == 1 &&
		X509_set_issuer_name(cert, X509_get_subject_name(old)) == 1 &&
		X509_sign(cert, key, EVP_sha256()) > 0)
		return cert;
	X509_free(cert);
	return NULL;
}

static int load_authority(const char *dir, struct authority *out, struct err *err)
{
	struct authority a = { 0 };
	struct buf text = { 0 };
	int r = load_key(dir, &a.key, err);

	if (r == 0 && read_file(dir, "ca.pem", &text, NULL) == 0)
		a.cert = parse_cert(&text);
	buf_finish(&text);
	if (r == 0 && !is_of(a.cert, a.key)) {
		X509_free(a.cert);
		a.cert = NULL;
	}
	ERR_clear_error();
	*out = a;
	return r;
}

int ca_ensure(const char *dir, int64_t now, struct err *err)
{
	struct authority a = { 0 };
	char *path = ca_path(dir, "ca.pem");
	X509 *cert = NULL;
	int r = path == NULL ? err_nomem(err) : mkdir_p(dir, 0755, err);

	if (r == 0)
		r = load_authority(dir, &a, err);
	if (r == -ENOENT)
		r = make_key(dir, &a.key, err);
	if (r == 0 && (a.cert == NULL || !is_good(a.cert, now, CA_LEFT))) {
		cert = a.cert != NULL ? renew_authority(a.cert, a.key, now)
				      : sign_authority(a.key, now);
		r = cert == NULL ? crypto_error(err, "the CA's certificate")
				 : write_pem(path, NULL, cert, err);
	}
	X509_free(cert);
	authority_finish(&a);
	free(path);
	return r < 0 ? err_wrap(err, "drover's CA") : 0;
}

/* ---- servers ---- */

static bool is_address(const char *name)
{
	unsigned char in[16];

	return inet_pton(AF_INET, name, in) == 1 || inet_pton(AF_INET6, name, in) == 1;
}

static void names_text(const struct strv *names, struct buf *out)
{
	for (size_t i = 0; i < names->n; i++)
		buf_printf(out, "%s%s:%s", i > 0 ? "," : "", is_address(names->v[i]) ? "IP" : "DNS",
			names->v[i]);
}

static bool has_name(X509 *cert, const char *name)
{
	return is_address(name)
		       ? X509_check_ip_asc(cert, name, 0) == 1
		       : X509_check_host(cert, name, 0, X509_CHECK_FLAG_NO_WILDCARDS, NULL) == 1;
}

static bool has_names(X509 *cert, const struct strv *names)
{
	GENERAL_NAMES *all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	bool same = all != NULL && (size_t)sk_GENERAL_NAME_num(all) == names->n;

	for (size_t i = 0; same && i < names->n; i++)
		same = has_name(cert, names->v[i]);
	GENERAL_NAMES_free(all);
	return same;
}

/* What is there, if it still does. */
static bool is_current(const struct authority *a, const char *path, const struct strv *names,
	int64_t now, int64_t *until)
{
	struct buf text = { 0 };
	X509 *cert = NULL;
	EVP_PKEY *key = NULL;
	bool ok = false;

	if (file_read(path, FILE_MAX, &text, NULL) == 0) {
		cert = parse_cert(&text);
		key = parse_key(&text);
		ok = cert != NULL && key != NULL && is_of(cert, key) &&
		     X509_verify(cert, a->key) == 1 && is_good(cert, now, SERVER_LEFT) &&
		     has_names(cert, names);
		if (ok)
			*until = unix_time(X509_get0_notAfter(cert));
	}
	ERR_clear_error();
	if (text.data != NULL)
		OPENSSL_cleanse(text.data, text.len);
	buf_finish(&text);
	X509_free(cert);
	EVP_PKEY_free(key);
	return ok;
}

static X509 *sign_server(
	const struct authority *a, EVP_PKEY *key, const struct strv *names, int64_t now)
{
	struct buf text = { 0 };
	X509 *cert = new_cert(key, "drover mirror", now, SERVER_LIFE);
	X509V3_CTX ctx;
	bool ok = cert != NULL;

	names_text(names, &text);
	if (ok) {
		X509V3_set_ctx(&ctx, a->cert, cert, NULL, NULL, 0);
		ok = !text.bad && X509_set_issuer_name(cert, X509_get_subject_name(a->cert)) == 1 &&
		     add_extension(cert, &ctx, NID_basic_constraints, "critical,CA:FALSE") &&
		     add_extension(cert, &ctx, NID_key_usage, "critical,digitalSignature") &&
		     add_extension(cert, &ctx, NID_ext_key_usage, "serverAuth") &&
		     add_extension(cert, &ctx, NID_subject_key_identifier, "hash") &&
		     add_extension(cert, &ctx, NID_authority_key_identifier, "keyid:always") &&
		     add_extension(cert, &ctx, NID_subject_alt_name, buf_str(&text)) &&
		     X509_sign(cert, a->key, EVP_sha256()) > 0;
	}
	buf_finish(&text);
	if (ok)
		return cert;
	X509_free(cert);
	return NULL;
}

int ca_issue(const char *dir, const char *path, const struct strv *names, int64_t now,
	bool *changed, int64_t *renew_at, struct err *err)
{
	struct authority a = { 0 };
	EVP_PKEY *key = NULL;
	X509 *cert = NULL;
	int64_t until = now + SERVER_LIFE;
	int r = load_authority(dir, &a, err);

	if (r == 0 && a.cert == NULL)
		r = err_set(err, -ENOENT, "%s/ca.pem is missing", dir);
	*changed = r == 0 && !is_current(&a, path, names, now, &until);
	if (*changed) {
		key = EVP_EC_gen("P-256");
		cert = key != NULL ? sign_server(&a, key, names, now) : NULL;
		r = cert == NULL ? crypto_error(err, "a server's certificate")
				 : write_pem(path, key, cert, err);
	}
	X509_free(cert);
	EVP_PKEY_free(key);
	authority_finish(&a);
	if (r < 0)
		return err_wrap(err, "drover's CA");
	*renew_at = until - SERVER_LEFT;
	return 0;
}

int ca_info(const char *pem, struct ca_info *out, struct err *err)
{
	struct buf text = { .data = (char *)(uintptr_t)pem, .len = strlen(pem) };
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned n = 0;
	X509 *cert = parse_cert(&text);

	if (cert == NULL || X509_digest(cert, EVP_sha256(), sum, &n) != 1 ||
		n * 3 > sizeof(out->fingerprint)) {
		X509_free(cert);
		ERR_clear_error();
		return err_set(err, -EINVAL, "that is no certificate");
	}
	out->fingerprint[0] = '\0';
	for (unsigned i = 0; i < n; i++)
		snprintf(out->fingerprint + 3 * i - (i > 0), 4, "%s%02X", i > 0 ? ":" : "", sum[i]);
	out->from = unix_time(X509_get0_notBefore(cert));
	out->until = unix_time(X509_get0_notAfter(cert));
	X509_free(cert);
	return 0;
}
