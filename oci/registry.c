#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/log.h"
#include "oci/auth-helper.h"
#include "oci/auth.h"
#include "oci/manifest.h"
#include "oci/registry.h"

#define TOKEN_MAX ((size_t)256 << 10)
/* Nobody listens there: worth waiting for a registry that is just starting, not for more. */
#define ABSENT_TRIES 3

struct registry {
	const struct registry_conf *conf;
	char *url;
	char repository[256];
	char *basic;         /* "Basic ..." or NULL */
	char *authorization; /* what is sent now, or NULL */
	unsigned generation; /* counts changes of authorization */
	CURL *idle;          /* keeps a connection for the next small request */
};

int registry_mirror_check(const char *mirror, struct err *err)
{
	const char *eq = strchr(mirror, '=');

	if (eq == NULL || eq == mirror ||
		(!str_starts(eq + 1, "http://") && !str_starts(eq + 1, "https://")))
		return err_set(err, -EINVAL,
			"mirror %s: must be HOST=URL, the URL one of http or https", quote(mirror));
	return 0;
}

/* Without the slashes at its end. */
static char *base_url(const struct registry_conf *conf, const char *host)
{
	size_t n = strlen(host);
	const char *url;
	int len;

	for (size_t i = 0; i < conf->mirrors.n; i++) {
		if (strncmp(conf->mirrors.v[i], host, n) != 0 || conf->mirrors.v[i][n] != '=')
			continue;
		url = conf->mirrors.v[i] + n + 1;
		for (len = (int)strlen(url); len > 0 && url[len - 1] == '/'; len--)
			;
		return str_printf("%.*s", len, url);
	}
	if (strcmp(host, "docker.io") == 0)
		return strdup("https://registry-1.docker.io");
	return str_printf("http%s://%s",
		url_is_loopback(host) || strv_has(&conf->plain_http, host) ? "" : "s", host);
}

/*
 * Credentials belong to the host that is asked: the mirror's, not those of the host it mirrors.
 * Docker's hub is asked by another name than the one it has.
 */
static void asked_host(const char *url, const char *host, char *out, size_t cap)
{
	const char *at = strstr(url, "://") + 3;

	snprintf(out, cap, "%.*s", (int)strcspn(at, "/"), at);
	if (strcmp(out, "registry-1.docker.io") == 0)
		snprintf(out, cap, "%s", host);
}

static int find_credentials(struct registry *r, const char *host, struct err *err)
{
	struct buf basic = { 0 };
	char asked[300];
	size_t n;
	int ret = 0;

	if (r->conf->auth_file == NULL)
		return 0;
	asked_host(r->url, host, asked, sizeof(asked));
	n = strlen(asked);
	for (size_t i = 0; i < r->conf->basic.n && basic.len == 0; i++) {
		if (strncmp(r->conf->basic.v[i], asked, n) == 0 && r->conf->basic.v[i][n] == ' ')
			buf_adds(&basic, r->conf->basic.v[i] + n + 1);
	}
	if (basic.len == 0)
		ret = auth_file_basic(r->conf->auth_file, asked, &basic, err);
	if (ret == 0 && basic.len > 0) {
		r->basic = buf_steal(&basic);
		if (r->basic == NULL)
			ret = err_nomem(err);
	}
	buf_finish(&basic);
	return ret;
}

static int ask_helper(struct registry_conf *conf, const struct image_ref *ref, struct err *err)
{
	char *url = base_url(conf, ref->host), asked[300];
	struct buf basic = { 0 };
	int r;

	if (url == NULL)
		return err_nomem(err);
	asked_host(url, ref->host, asked, sizeof(asked));
	free(url);
	r = auth_helper_basic(conf->auth_file, asked, &basic, err);
	if (r == 0 && basic.len > 0)
		strv_addf(&conf->basic, "%s %s", asked, basic.data);
	if (basic.data != NULL)
		explicit_bzero(basic.data, basic.len);
	buf_finish(&basic);
	return r == 0 && conf->basic.bad ? err_nomem(err) : r;
}

int registry_ask_helpers(struct registry_conf *conf, const struct strv *refs, struct err *err)
{
	struct image_ref ref;
	int r = 0;

	for (size_t i = 0; r == 0 && conf->auth_file != NULL && i < refs->n; i++) {
		if (image_ref_parse(refs->v[i], &ref, NULL) == 0 && ref.source == IMAGE_REGISTRY)
			r = ask_helper(conf, &ref, err);
	}
	return r;
}

void registry_forget_helpers(struct registry_conf *conf)
{
	for (size_t i = 0; i < conf->basic.n; i++)
		explicit_bzero(conf->basic.v[i], strlen(conf->basic.v[i]));
	strv_finish(&conf->basic);
}

int registry_open(struct registry **out, const struct registry_conf *conf,
	const struct image_ref *ref, struct err *err)
{
	struct registry *r = calloc(1, sizeof(*r));
	int ret;

	if (r == NULL)
		return err_nomem(err);
	r->conf = conf;
	strcpy(r->repository, ref->repository);
	r->url = base_url(conf, ref->host);
	ret = r->url != NULL ? find_credentials(r, ref->host, err) : err_nomem(err);
	if (ret < 0) {
		registry_close(r);
		return ret;
	}
	*out = r;
	return 0;
}

static void forget(char *secret)
{
	if (secret != NULL)
		explicit_bzero(secret, strlen(secret));
	free(secret);
}

void registry_close(struct registry *r)
{
	if (r == NULL)
		return;
	curl_easy_cleanup(r->idle);
	free(r->url);
	forget(r->basic);
	forget(r->authorization);
	free(r);
}

const char *registry_url(const struct registry *r)
{
	return r->url;
}

void registry_answer_finish(struct registry_answer *a)
{
	buf_finish(&a->body);
}

/* A request whose answer is collected. */
struct collect {
	struct buf *body;
	size_t max;
};

static int collect_body(
	void *arg, struct transfer *t, const char *data, size_t len, struct err *err)
{
	struct collect *c = arg;

	if (len > c->max - c->body->len)
		return err_set(err, -EFBIG, "its answer is larger than %s", format_size(c->max));
	buf_add(c->body, data, len);
	return c->body->bad ? err_nomem(err) : 0;
}

static void start_spec(const struct registry *r, struct transfer_spec *spec)
{
	spec->stall_ms = r->conf->stall_ms;
	spec->connect_timeout_ms = r->conf->connect_timeout_ms;
	spec->authorization = r->authorization;
}

static int get(struct registry *r, const char *url, const char *accept, size_t max,
	struct registry_answer *out, struct err *err)
{
	struct registry_attempts attempts = { 0 };
	struct registry_answer a = { 0 };
	struct collect collect = { &a.body, max };
	uint64_t wait_ms;
	int ret;

	do {
		struct transfer_spec spec = {
			.url = url, .accept = accept, .body = collect_body, .arg = &collect
		};
		struct transfer t;
		CURLcode code;

		start_spec(r, &spec);
		buf_clear(&a.body);
		attempts.generation = r->generation;
		ret = transfer_init(&t, r->idle, &spec, err);
		r->idle = NULL;
		if (ret < 0)
			break;
		code = curl_easy_perform(t.easy);
		ret = registry_after(r, &t, code, &attempts, &wait_ms, err);
		strcpy(a.content_type, t.content_type);
		strcpy(a.content_digest, t.content_digest);
		curl_easy_cleanup(r->idle);
		r->idle = transfer_finish(&t);
		if (ret == 1)
			usleep((useconds_t)wait_ms * 1000);
	} while (ret == 1);
	if (ret < 0)
		registry_answer_finish(&a);
	else
		*out = a;
	return ret;
}

int registry_get_manifest(struct registry *r, const char *tag_or_digest, size_t max,
	struct registry_answer *out, struct err *err)
{
	char *url = str_printf("%s/v2/%s/manifests/%s", r->url, r->repository, tag_or_digest);
	int ret = url != NULL ? get(r, url, MANIFEST_ACCEPT, max, out, err) : err_nomem(err);

	free(url);
	return ret;
}

int registry_get_blob(struct registry *r, const char *digest, size_t max,
	struct registry_answer *out, struct err *err)
{
	char *url = str_printf("%s/v2/%s/blobs/%s", r->url, r->repository, digest);
	int ret = url != NULL ? get(r, url, NULL, max, out, err) : err_nomem(err);

	free(url);
	return ret;
}

int registry_blob_transfer(struct registry *r, const char *digest, uint64_t from,
	transfer_body_fn *body, void *arg, struct registry_attempts *attempts, struct transfer *out,
	struct err *err)
{
	struct transfer_spec spec = { .from = from, .body = body, .arg = arg };
	char *url = str_printf("%s/v2/%s/blobs/%s", r->url, r->repository, digest);
	int ret;

	start_spec(r, &spec);
	attempts->generation = r->generation;
	spec.url = url;
	ret = url != NULL ? transfer_init(out, NULL, &spec, err) : err_nomem(err);
	free(url);
	return ret;
}

static int set_authorization(struct registry *r, char *value, struct err *err)
{
	if (value == NULL)
		return err_nomem(err);
	free(r->authorization);
	r->authorization = value;
	r->generation++;
	return 0;
}

static int fetch_token(struct registry *r, const struct auth_challenge *c, struct err *err)
{
	/* The token service is asked like a registry of its own, with a password at most. */
	struct registry service = { .conf = r->conf, .url = (char *)c->realm, .basic = r->basic };
	struct registry_answer answer = { 0 };
	struct buf url = { 0 }, token = { 0 };
	int ret;

	/* A password that came by TLS so far does not leave it. */
	if (str_starts(c->realm, "https://") || str_starts(r->url, "http://"))
		service.authorization = r->basic;
	ret = auth_token_url(c, r->repository, &url, err);
	if (ret == 0)
		ret = get(&service, buf_str(&url), NULL, TOKEN_MAX, &answer, err);
	curl_easy_cleanup(service.idle);
	if (ret == 0)
		ret = auth_token_parse(buf_str(&answer.body), answer.body.len, &token, err);
	if (ret == 0)
		ret = set_authorization(r, buf_steal(&token), err);
	registry_answer_finish(&answer);
	buf_finish(&url);
	buf_finish(&token);
	return ret;
}

static int unauthorized(const struct registry *r, struct err *err)
{
	return err_set(err, -EACCES, "unauthorized: registry %s %s", r->url,
		r->basic != NULL ? "refuses the credentials" : "wants credentials");
}

/* After a 401. */
static int authenticate(struct registry *r, const char *challenge,
	struct registry_attempts *attempts, struct err *err)
{
	struct auth_challenge c;
	int ret;

	/* Another transfer has got new credentials since this one was sent. */
	if (attempts->generation < r->generation)
		return 0;
	/* What was fetched for this request a moment ago is not good enough for it. */
	if (attempts->auth++ > 0 || r->repository[0] == '\0')
		return unauthorized(r, err);
	ret = auth_challenge_parse(challenge, &c, err);
	if (ret < 0)
		return err_wrap(err, "registry %s", r->url);
	if (c.scheme == AUTH_BASIC) {
		if (r->basic == NULL)
			return unauthorized(r, err);
		return set_authorization(r, strdup(r->basic), err);
	}
	return fetch_token(r, &c, err);
}

int registry_after(struct registry *r, struct transfer *t, CURLcode code,
	struct registry_attempts *attempts, uint64_t *wait_ms, struct err *err)
{
	int ret;

	*wait_ms = 0;
	switch (transfer_verdict(t, code, err)) {
	case TRANSFER_OK:
		return 0;
	case TRANSFER_AUTH:
		ret = authenticate(r, t->challenge, attempts, err);
		return ret < 0 ? ret : 1;
	case TRANSFER_ABSENT:
		if (++attempts->absent < MIN(ABSENT_TRIES, r->conf->tries)) {
			*wait_ms = transfer_backoff_ms(attempts->absent, 0);
			return 1;
		}
		break;
	case TRANSFER_RETRY:
		if (++attempts->failed < r->conf->tries) {
			*wait_ms = transfer_backoff_ms(attempts->failed, t->retry_after_ms);
			log_debug("registry %s: %s, trying again in %llu ms", r->url, err->msg,
				(unsigned long long)*wait_ms);
			return 1;
		}
		err_wrap(err, "registry %s: given up after %u tries", r->url, attempts->failed);
		return err->code;
	case TRANSFER_FAIL:
		/* Not the registry's doing, e.g. a full disk. */
		if (t->body_err.code != 0 && t->body_err.code != -EFBIG)
			return err->code;
		break;
	}
	return err_wrap(err, "registry %s", r->url);
}
