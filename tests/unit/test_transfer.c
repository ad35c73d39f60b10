/* One GET and what its outcome means: headers, redirects, stalls, ends in mid-body. */
#include "tests/unit/web.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "oci/transfer.h"
#include "tests/unit/netns.h"

struct fixture {
	struct web *web, *other; /* two hosts, as far as libcurl is concerned */
	/* Of the last transfer. */
	struct transfer t;
	struct buf body;
	struct err err;
	int body_error;
};

static char elsewhere[600];

static void answer(struct web_request *rq, void *arg)
{
	char extra[1024], text[6000];

	if (strcmp(rq->path, "/good") == 0) {
		web_answer(rq, 200,
			"Content-Type: application/json; charset=utf-8\r\n"
			"Docker-Content-Digest: sha256:abc\r\n",
			"hello");
	} else if (strcmp(rq->path, "/here") == 0) {
		web_answer(rq, 302, "Location: /good\r\nContent-Type: text/html\r\n", "moved");
	} else if (strcmp(rq->path, "/elsewhere") == 0) {
		snprintf(extra, sizeof(extra), "Location: %s\r\n", elsewhere);
		web_answer(rq, 307, extra, "");
	} else if (strcmp(rq->path, "/loop") == 0) {
		web_answer(rq, 302, "Location: /loop\r\n", "");
	} else if (strcmp(rq->path, "/file") == 0) {
		web_answer(rq, 302, "Location: file:///etc/passwd\r\n", "");
	} else if (strcmp(rq->path, "/range") == 0) {
		web_range(rq, "0123456789", 10);
	} else if (strcmp(rq->path, "/cut") == 0) {
		web_head(rq, 200, "", 1000);
		web_send(rq, "only this", 9);
	} else if (strcmp(rq->path, "/nothing") == 0) {
		return;
	} else if (strcmp(rq->path, "/half-head") == 0) {
		web_send(rq, "HTTP/1.1 200 OK\r\nContent-Le", 27);
	} else if (strcmp(rq->path, "/silent") == 0) {
		web_stall(rq);
	} else if (strcmp(rq->path, "/stall") == 0) {
		web_head(rq, 200, "", 1000);
		web_send(rq, "only this", 9);
		web_stall(rq);
	} else if (strcmp(rq->path, "/crumbs") == 0) {
		static const char all[] = "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n"
					  "Content-Length: 5\r\n\r\nhello";

		for (size_t i = 0; i + 1 < sizeof(all); i++)
			web_send(rq, all + i, 1);
	} else if (strcmp(rq->path, "/chunked") == 0) {
		web_send(rq,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
			74);
	} else if (strcmp(rq->path, "/chunked-cut") == 0) {
		web_send(rq,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			"5\r\nhello\r\n",
			58);
	} else if (strcmp(rq->path, "/401") == 0) {
		web_answer(rq, 401,
			"WWW-Authenticate: Basic realm=\"x\"\r\n"
			"WWW-Authenticate: Bearer realm=\"http://x/t\"\r\n"
			"WWW-Authenticate: Negotiate\r\n",
			"");
	} else if (strcmp(rq->path, "/long-header") == 0) {
		memset(text, 'x', sizeof(text));
		strcpy(text + sizeof(text) - 3, "\r\n");
		memcpy(text, "Docker-Content-Digest: ", 23);
		web_answer(rq, 200, text, "hello");
	} else if (strcmp(rq->path, "/many-words") == 0) {
		memset(text, 'x', sizeof(text));
		text[sizeof(text) - 1] = '\0';
		web_answer(rq, 500, "", text);
	} else if (sscanf(rq->path, "/retry-after/%1000[^\n]", text) == 1) {
		for (char *p = text; *p != '\0'; p++)
			*p = *p == '+' ? ' ' : *p;
		snprintf(extra, sizeof(extra), "Retry-After: %.500s\r\n", text);
		web_answer(rq, 429, extra, "");
	} else {
		snprintf(text, sizeof(text),
			"{\"errors\":[{\"code\":\"C\",\"message\":\"bad \\u001b[31m luck\"}]}");
		web_answer(rq, atoi(rq->path + 1), "", text);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	netns_enter();
	f->web = web_start(NULL, answer, NULL);
	f->other = web_start(NULL, answer, NULL);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	/* Skipped before there was one. */
	if (f == NULL)
		return 0;
	if (f->t.easy != NULL)
		curl_easy_cleanup(transfer_finish(&f->t));
	web_stop(f->web);
	web_stop(f->other);
	buf_finish(&f->body);
	free(f);
	return 0;
}

static int on_body(void *arg, struct transfer *t, const char *data, size_t len, struct err *err)
{
	struct fixture *f = arg;

	if (f->body_error != 0)
		return err_set(err, f->body_error, "the reader has had enough");
	buf_add(&f->body, data, len);
	return 0;
}

static enum transfer_verdict get_spec(struct fixture *f, struct transfer_spec *spec)
{
	CURL *reuse = NULL;

	if (f->t.easy != NULL)
		reuse = transfer_finish(&f->t);
	buf_clear(&f->body);
	spec->body = on_body;
	spec->arg = f;
	if (spec->stall_ms == 0)
		spec->stall_ms = 60000;
	spec->connect_timeout_ms = 30000;
	assert_int_equal(transfer_init(&f->t, reuse, spec, &f->err), 0);
	return transfer_verdict(&f->t, curl_easy_perform(f->t.easy), &f->err);
}

static enum transfer_verdict get(struct fixture *f, const char *path)
{
	char *url = web_url(f->web, path);
	enum transfer_verdict v = get_spec(f, &(struct transfer_spec){ .url = url });

	free(url);
	return v;
}

static void a_good_answer_is_taken_whole(void **state)
{
	static const char *const paths[] = { "/good", "/here", "/crumbs", "/good" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		assert_int_equal(get(f, paths[i]), TRANSFER_OK);
		assert_string_equal(buf_str(&f->body), "hello");
		assert_int_equal(f->t.status, 200);
		assert_string_equal(f->t.content_type, i == 2 ? "a/b" : "application/json");
		assert_string_equal(f->t.content_digest, i == 2 ? "" : "sha256:abc");
		assert_true(f->t.range_start == UINT64_MAX);
		assert_int_equal(f->t.retry_after_ms, 0);
	}
	assert_int_equal(get(f, "/chunked"), TRANSFER_OK);
	assert_string_equal(buf_str(&f->body), "hello world");
	/* A header line without end is passed over. */
	assert_int_equal(get(f, "/long-header"), TRANSFER_OK);
	assert_string_equal(f->t.content_digest, "");
}

static void ranges_are_asked_for(void **state)
{
	struct fixture *f = *state;
	char *url = web_url(f->web, "/range");

	assert_int_equal(
		get_spec(f, &(struct transfer_spec){ .url = url, .from = 7 }), TRANSFER_OK);
	assert_int_equal(f->t.status, 206);
	assert_int_equal(f->t.range_start, 7);
	assert_string_equal(buf_str(&f->body), "789");
	assert_int_equal(get_spec(f, &(struct transfer_spec){ .url = url }), TRANSFER_OK);
	assert_int_equal(f->t.status, 200);
	assert_string_equal(buf_str(&f->body), "0123456789");
	free(url);
}

/* The header is for the host that it was given for, and for no other one it leads to. */
static void authorization_stays_with_its_host(void **state)
{
	struct fixture *f = *state;
	struct transfer_spec spec = { .authorization = "Bearer secret", .accept = "a/b" };
	char *url = web_url(f->web, "/here"), *to = web_url(f->other, "/good");

	spec.url = url;
	assert_int_equal(get_spec(f, &spec), TRANSFER_OK);
	assert_int_equal(web_count(f->web, "GET /here Authorization: Bearer secret"), 1);
	assert_int_equal(web_count(f->web, "GET /good Authorization: Bearer secret"), 1);
	free(url);
	snprintf(elsewhere, sizeof(elsewhere), "%s", to);
	spec.url = url = web_url(f->web, "/elsewhere");
	assert_int_equal(get_spec(f, &spec), TRANSFER_OK);
	assert_int_equal(web_count(f->web, "GET /elsewhere Authorization: Bearer secret"), 1);
	assert_int_equal(web_count(f->other, "GET /good"), 1);
	assert_int_equal(web_count(f->other, "GET /good Authorization"), 0);
	free(to);
	free(url);
}

static void redirects_have_bounds(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(get(f, "/loop"), TRANSFER_FAIL);
	assert_int_equal(f->err.code, -ELOOP);
	assert_string_equal(f->err.msg, "it redirects more than 5 times");
	assert_int_equal(web_count(f->web, "GET /loop"), 6);
	/* Nothing of this machine is read. */
	assert_int_equal(get(f, "/file"), TRANSFER_FAIL);
	assert_int_equal(f->body.len, 0);
}

static void statuses_have_their_verdicts(void **state)
{
	static const struct {
		int status;
		enum transfer_verdict verdict;
		int code;
	} rows[] = {
		{ 401, TRANSFER_AUTH, -EACCES },
		{ 403, TRANSFER_FAIL, -EACCES },
		{ 404, TRANSFER_FAIL, -ENOENT },
		{ 400, TRANSFER_FAIL, -EIO },
		{ 416, TRANSFER_FAIL, -EIO },
		{ 408, TRANSFER_RETRY, -EHOSTUNREACH },
		{ 429, TRANSFER_RETRY, -EHOSTUNREACH },
		{ 500, TRANSFER_RETRY, -EHOSTUNREACH },
		{ 502, TRANSFER_RETRY, -EHOSTUNREACH },
		{ 503, TRANSFER_RETRY, -EHOSTUNREACH },
		{ 504, TRANSFER_RETRY, -EHOSTUNREACH },
		{ 501, TRANSFER_FAIL, -EIO },
	};
	struct fixture *f = *state;
	char path[16], message[100];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(path, sizeof(path), "/%d/", rows[i].status);
		assert_int_equal(get(f, path), rows[i].verdict);
		assert_int_equal(f->err.code, rows[i].code);
		/* The registry's own words, made harmless. */
		snprintf(message, sizeof(message), "it answers %d, it says 'bad \\x1b[31m luck'",
			rows[i].status);
		assert_string_equal(f->err.msg, message);
		assert_int_equal(f->body.len, 0);
	}
	assert_int_equal(get(f, "/401"), TRANSFER_AUTH);
	assert_string_equal(f->t.challenge, "Bearer realm=\"http://x/t\"");
	/* What it says is kept up to a bound, and is no JSON here. */
	assert_int_equal(get(f, "/many-words"), TRANSFER_RETRY);
	assert_int_equal(f->t.error_body.len, 4096);
	assert_string_equal(f->err.msg, "it answers 500");
}

static void retry_after_is_a_number_or_a_date(void **state)
{
	struct fixture *f = *state;
	char path[200], date[100];
	time_t at = time(NULL) + 3600;

	assert_int_equal(get(f, "/retry-after/7"), TRANSFER_RETRY);
	assert_int_equal(f->t.retry_after_ms, 7000);
	strftime(date, sizeof(date), "%a,+%d+%b+%Y+%H:%M:%S+GMT", gmtime(&at));
	snprintf(path, sizeof(path), "/retry-after/%s", date);
	assert_int_equal(get(f, path), TRANSFER_RETRY);
	assert_in_range(f->t.retry_after_ms, 1000, 3600000);
	assert_int_equal(get(f, "/retry-after/Wed,+21+Oct+2015+07:28:00+GMT"), TRANSFER_RETRY);
	assert_int_equal(f->t.retry_after_ms, 0);
	assert_int_equal(get(f, "/retry-after/soon"), TRANSFER_RETRY);
	assert_int_equal(f->t.retry_after_ms, 0);
	assert_int_equal(get(f, "/retry-after/-5"), TRANSFER_RETRY);
	assert_int_equal(f->t.retry_after_ms, 0);
}

static void what_breaks_off_may_go_better(void **state)
{
	static const char *const paths[] = { "/cut", "/nothing", "/half-head", "/chunked-cut" };
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (get(f, paths[i]) != TRANSFER_RETRY)
			fail_msg("%s: %s", paths[i], f->err.msg);
		assert_int_equal(f->err.code, -EPIPE);
		assert_non_null(strstr(f->err.msg, "the connection broke off"));
	}
}

static void silence_ends(void **state)
{
	struct fixture *f = *state;
	char *url = web_url(f->web, "/stall");
	struct transfer_spec spec = { .url = url, .stall_ms = 1000 };

	assert_int_equal(get_spec(f, &spec), TRANSFER_RETRY);
	assert_int_equal(f->err.code, -ETIMEDOUT);
	assert_string_equal(f->err.msg, "it stopped sending (nothing for 1s)");
	assert_string_equal(buf_str(&f->body), "only this");
	free(url);
	spec.url = url = web_url(f->web, "/silent");
	assert_int_equal(get_spec(f, &spec), TRANSFER_RETRY);
	assert_string_equal(f->err.msg, "it does not answer (nothing for 1s)");
	free(url);
}

static void who_is_not_there_is_absent(void **state)
{
	struct fixture *f = *state;
	struct transfer_spec spec = { .url = "http://127.0.0.1:1/x" };

	assert_int_equal(get_spec(f, &spec), TRANSFER_ABSENT);
	assert_int_equal(f->err.code, -ECONNREFUSED);
	assert_string_equal(f->err.msg, "connection refused");
	/* No route out of this namespace. */
	spec.url = "http://192.0.2.1/x";
	assert_int_equal(get_spec(f, &spec), TRANSFER_ABSENT);
	assert_int_equal(f->err.code, -EHOSTUNREACH);
	assert_non_null(strstr(f->err.msg, "cannot connect: "));
	spec.url = "http://no-such-host.invalid/x";
	assert_int_equal(get_spec(f, &spec), TRANSFER_ABSENT);
	assert_string_equal(f->err.msg, "the host's name cannot be resolved");
}

static void a_plain_registry_is_guessed(void **state)
{
	struct fixture *f = *state;
	char *url = str_printf("https://127.0.0.1:%u/x", web_port(f->web));

	assert_int_equal(get_spec(f, &(struct transfer_spec){ .url = url }), TRANSFER_FAIL);
	assert_int_equal(f->err.code, -EPROTO);
	assert_non_null(strstr(f->err.msg, "is it a plain-http registry?"));
	free(url);
}

/* A full disk is not the registry's doing. */
static void the_reader_s_error_comes_first(void **state)
{
	struct fixture *f = *state;

	f->body_error = -ENOSPC;
	assert_int_equal(get(f, "/good"), TRANSFER_FAIL);
	assert_int_equal(f->err.code, -ENOSPC);
	assert_string_equal(f->err.msg, "the reader has had enough");
}

static void the_loopback_needs_no_proxy(void **state)
{
	struct fixture *f = *state;

	setenv("http_proxy", "http://127.0.0.1:1", 1);
	assert_int_equal(get(f, "/good"), TRANSFER_OK);
	unsetenv("http_proxy");
	assert_true(url_is_loopback("http://127.0.0.1:5000/v2"));
	assert_true(url_is_loopback("https://localhost/"));
	assert_true(url_is_loopback("http://[::1]:5000"));
	assert_false(url_is_loopback("http://10.127.0.1/"));
	assert_false(url_is_loopback("https://ghcr.io/127.0.0.1"));
	/* A name that only begins so is another host. */
	assert_false(url_is_loopback("http://localhost.example.org/"));
	assert_false(url_is_loopback("http://127.example.org/"));
	assert_false(url_is_loopback("http://localhost@example.org/"));
	assert_false(url_is_loopback("http://[::1].example.org/"));
	assert_true(url_is_loopback("http://user@localhost:1/"));
	assert_true(url_is_loopback("localhost:5000"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_good_answer_is_taken_whole),
		TEST(ranges_are_asked_for),
		TEST(authorization_stays_with_its_host),
		TEST(redirects_have_bounds),
		TEST(statuses_have_their_verdicts),
		TEST(retry_after_is_a_number_or_a_date),
		TEST(what_breaks_off_may_go_better),
		TEST(silence_ends),
		TEST(who_is_not_there_is_absent),
		TEST(a_plain_registry_is_guessed),
		TEST(the_reader_s_error_comes_first),
		TEST(the_loopback_needs_no_proxy),
	};

	curl_global_init(CURL_GLOBAL_DEFAULT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
