#include <errno.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "lib/json.h"
#include "oci/auth.h"

static const char *skip_space(const char *p)
{
	return p + strspn(p, " \t");
}

/* A token or a quoted string; returns what is behind it, NULL when it is malformed or too long. */
static const char *parse_value(const char *p, char *out, size_t cap)
{
	size_t n = 0;

	if (*p != '"') {
		n = strcspn(p, ", \t");
		if (n >= cap)
			return NULL;
		memcpy(out, p, n);
		out[n] = '\0';
		return p + n;
	}
	for (p++; *p != '\0' && *p != '"'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		if (n + 1 >= cap)
			return NULL;
		out[n++] = *p;
	}
	out[n] = '\0';
	return *p == '"' ? p + 1 : NULL;
}

static bool parse_params(const char *p, struct auth_challenge *c)
{
	for (;;) {
		char name[32], value[1024];
		size_t n;

		p += strspn(p, ", \t");
		if (*p == '\0')
			return true;
		n = strcspn(p, "= \t,");
		if (n == 0 || n >= sizeof(name))
			return false;
		memcpy(name, p, n);
		name[n] = '\0';
		p = skip_space(p + n);
		if (*p != '=')
			return false;
		p = parse_value(skip_space(p + 1), value, sizeof(value));
		if (p == NULL)
			return false;
		if (strcasecmp(name, "realm") == 0)
			snprintf(c->realm, sizeof(c->realm), "%s", value);
		else if (strcasecmp(name, "service") == 0)
			snprintf(c->service, sizeof(c->service), "%.255s", value);
		else if (strcasecmp(name, "scope") == 0)
			snprintf(c->scope, sizeof(c->scope), "%.511s", value);
	}
}

int auth_challenge_parse(const char *value, struct auth_challenge *out, struct err *err)
{
	struct auth_challenge c = { 0 };
	const char *p = skip_space(value);

	if (*p == '\0')
		return err_set(err, -EACCES, "it wants credentials without saying how");
	if (strncasecmp(p, "basic", 5) == 0 && (p[5] == ' ' || p[5] == '\0')) {
		c.scheme = AUTH_BASIC;
		*out = c;
		return 0;
	}
	if (strncasecmp(p, "bearer ", 7) != 0)
		return err_set(err, -ENOTSUP, "it wants authentication of a kind not known: %s",
			quote(value));
	c.scheme = AUTH_BEARER;
	if (!parse_params(p + 7, &c) ||
		(!str_starts(c.realm, "https://") && !str_starts(c.realm, "http://")))
		return err_set(err, -EBADMSG, "its authentication challenge %s is malformed",
			quote(value));
	*out = c;
	return 0;
}

static void add_escaped(struct buf *out, const char *s)
{
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			strchr("-._~", c) != NULL)
			buf_add(out, s, 1);
		else
			buf_printf(out, "%%%02X", c);
	}
}

int auth_token_url(
	const struct auth_challenge *c, const char *repository, struct buf *out, struct err *err)
{
	buf_printf(out, "%s%c", c->realm, strchr(c->realm, '?') != NULL ? '&' : '?');
	if (c->service[0] != '\0') {
		buf_adds(out, "service=");
		add_escaped(out, c->service);
		buf_adds(out, "&");
	}
	buf_adds(out, "scope=");
	if (c->scope[0] != '\0') {
		add_escaped(out, c->scope);
	} else {
		buf_adds(out, "repository%3A");
		add_escaped(out, repository);
		buf_adds(out, "%3Apull");
	}
	return out->bad ? err_nomem(err) : 0;
}

int auth_token_parse(const char *data, size_t len, struct buf *out, struct err *err)
{
	json_t *doc;
	const char *token;
	int r = json_parse(data, len, &doc, err);

	if (r < 0)
		return err_wrap(err, "token service");
	token = json_str(doc, "token");
	if (token == NULL)
		token = json_str(doc, "access_token");
	if (token == NULL || *token == '\0' || strpbrk(token, "\r\n") != NULL)
		r = err_set(err, -EBADMSG, "token service: its answer has no token");
	else
		buf_printf(out, "Bearer %s", token);
	json_decref(doc);
	return r;
}

/* Docker writes hosts bare and as URLs, and its own hub by an old name. */
static const json_t *find_host(const json_t *auths, const char *host)
{
	static const char *const before[] = { "", "https://", "http://" };
	static const char *const behind[] = { "", "/", "/v1/", "/v2/" };
	const char *names[] = { host, strcmp(host, "docker.io") == 0 ? "index.docker.io" : host };
	char key[512];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		for (size_t j = 0; j < ARRAY_LEN(before) * ARRAY_LEN(behind); j++) {
			const json_t *v;

			snprintf(key, sizeof(key), "%s%s%s", before[j / ARRAY_LEN(behind)],
				names[i], behind[j % ARRAY_LEN(behind)]);
			v = json_obj(auths, key);
			if (v != NULL)
				return v;
		}
	}
	return NULL;
}

int auth_basic(const char *user, const char *password, struct buf *out, struct err *err)
{
	struct buf plain = { 0 };
	unsigned char *text;

	buf_printf(&plain, "%s:%s", user, password);
	text = malloc(plain.len * 4 / 3 + 8);
	if (plain.bad || text == NULL) {
		buf_finish(&plain);
		free(text);
		return err_nomem(err);
	}
	EVP_EncodeBlock(text, (const unsigned char *)plain.data, (int)plain.len);
	buf_printf(out, "Basic %s", (char *)text);
	buf_finish(&plain);
	free(text);
	return 0;
}

int auth_file_basic(const char *path, const char *host, struct buf *out, struct err *err)
{
	static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				     "0123456789+/=";
	const json_t *entry;
	const char *auth, *user, *password;
	json_t *doc;
	int r = json_read_file(path, &doc, err);

	if (r < 0)
		return r;
	entry = find_host(json_obj(doc, "auths"), host);
	auth = json_str(entry, "auth");
	user = json_str(entry, "username");
	password = json_str(entry, "password");
	if (auth != NULL && *auth != '\0') {
		if (strspn(auth, base64) != strlen(auth))
			r = err_set(err, -EINVAL, "%s: the auth of %s is not base64", quote(path),
				quote(host));
		else
			buf_printf(out, "Basic %s", auth);
	} else if (user != NULL && password != NULL) {
		r = auth_basic(user, password, out, err);
	}
	json_decref(doc);
	return r;
}
