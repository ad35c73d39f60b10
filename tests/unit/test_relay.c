/*
 * The relay before an upstream that is slow, breaks off, refuses: one fetch for all who ask, and
 * nothing of it for who may not have it.
 */
#include "tests/unit/web.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/log.h"
#include "oci/relay-fetch.h"
#include "oci/relay-share.h"
#include "oci/relay.h"
#include "tests/unit/netns.h"

#define HEX  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde"
#define D(n) "sha256:" HEX #n
#define BLOB "/v2/a/b/blobs/"
#define SIZE ((size_t)2000000)

struct fixture {
	struct web *web;
	char *dir;
	char data[SIZE];
	struct fetcher *fetcher;
	struct relay *relay;
	unsigned port; /* the relay's */
	struct err err;
};

/* The last character of the path says what happens. */
static void answer(struct web_request *rq, void *arg)
{
	struct fixture *f = arg;
	char extra[200], last = rq->path[strlen(rq->path) - 1];

	switch (last) {
	case '1': /* half of it, the rest when the gate is opened */
		web_head(rq, 200, "Content-Type: a/b\r\nX-Own: 1\r\nSet-Cookie: c\r\n", SIZE);
		if (strcmp(rq->method, "HEAD") == 0)
			break;
		web_send(rq, f->data, SIZE / 2);
		web_wait_open(rq);
		web_send(rq, f->data + SIZE / 2, SIZE - SIZE / 2);
		break;
	case '2': /* cut off */
		web_head(rq, 200, "", SIZE);
		web_send(rq, f->data, 5000);
		break;
	case '3': /* for one user only */
		if (strcmp(web_header(rq, "Authorization"), "Bearer one") == 0)
			web_range(rq, f->data, SIZE);
		else
			web_answer(rq, 401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "no");
		break;
	case '4':
		web_answer(rq, 404, "", "{\"errors\":[]}");
		break;
	case '5': /* moved */
		snprintf(extra, sizeof(extra), "Location: http://127.0.0.1:%u%s\r\n",
			web_port(f->web), BLOB D(6));
		web_answer(rq, 307, extra, "");
		break;
	case '7':
		web_head(rq, 200, "", SIZE);
		web_send(rq, f->data, 5000);
		web_stall(rq);
		break;
	case '8':
		web_stall(rq);
		break;
	case '9':
		web_answer(rq, 204, "", "");
		break;
	default:
		web_range(rq, f->data, SIZE);
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	unsigned x = 1;

	netns_enter();
	f->dir = rig_tmp();
	f->web = web_start(NULL, answer, f);
	for (size_t i = 0; i < SIZE; i++)
		f->data[i] = (char)('a' + ((x = x * 1103515245 + 12345) >> 16) % 26);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f == NULL)
		return 0;
	relay_stop(f->relay);
	if (f->fetcher != NULL)
		fetcher_stop(f->fetcher);
	fetcher_destroy(f->fetcher);
	web_stop(f->web);
	rig_tmp_finish(f->dir);
	free(f);
	return 0;
}

/* ---- fetches ---- */

static struct fetch *fetch_of(
	struct fixture *f, uint64_t stall_ms, const char *path, bool head, const char *header)
{
	struct strv headers = { 0 };
	char *url = web_url(f->web, path);
	struct fetch_spec spec = {
		.url = url, .what = path, .headers = &headers, .head = head, .follow = true
	};
	struct fetch *fetch = NULL;

	if (f->fetcher == NULL)
		assert_int_equal(fetcher_create(&f->fetcher, f->dir, stall_ms, &f->err), 0);
	if (header != NULL)
		strv_add(&headers, header);
	if (fetch_start(&fetch, f->fetcher, &spec, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	strv_finish(&headers);
	free(url);
	return fetch;
}

/* All from pos on; the end's result, 0 or -errno. */
static ssize_t read_all(struct fetch *fetch, uint64_t pos, struct buf *out)
{
	char chunk[50000];
	ssize_t n;

	while ((n = fetch_read(fetch, pos, chunk, sizeof(chunk))) > 0) {
		buf_add(out, chunk, (size_t)n);
		pos += (uint64_t)n;
	}
	return n;
}

static void assert_data(struct fixture *f, const struct buf *b, size_t from, size_t len)
{
	assert_int_equal(b->len, len);
	assert_true(len == 0 || memcmp(b->data, f->data + from, len) == 0);
}

static void readers_follow_what_grows(void **state)
{
	struct fixture *f = *state;
	struct fetch *fetch = fetch_of(f, 60000, BLOB D(1), false, "Authorization: x");
	const struct fetch_answer *a;
	struct buf whole = { 0 }, part = { 0 };
	uint64_t bytes;
	char c[10];
	int status;

	assert_int_equal(fetch_answer(fetch, &a, &f->err), 0);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->length, SIZE);
	assert_null(a->location);
	/* Those of one connection, and cookies, are not for others. */
	assert_true(strv_has(&a->headers, "Content-Type: a/b"));
	assert_true(strv_has(&a->headers, "X-Own: 1"));
	assert_int_equal(a->headers.n, 2);
	assert_int_equal(web_count(f->web, "GET " BLOB D(1) " Authorization: x"), 1);
	/* What has come can be read before the rest is there. */
	assert_int_equal(fetch_read(fetch, SIZE / 2 - 5, c, sizeof(c)), 5);
	assert_int_equal(fetch_state(fetch, &status, &bytes), FETCH_BODY);
	assert_int_equal(status, 200);
	assert_int_equal(bytes, SIZE / 2);
	web_open(f->web);
	assert_int_equal(read_all(fetch, 0, &whole), 0);
	assert_data(f, &whole, 0, SIZE);
	assert_int_equal(read_all(fetch, SIZE - 7, &part), 0);
	assert_data(f, &part, SIZE - 7, 7);
	assert_int_equal(fetch_state(fetch, NULL, NULL), FETCH_DONE);
	assert_int_equal(fetch_read(fetch, SIZE, c, sizeof(c)), 0);
	fetch_release(fetch);
	buf_finish(&whole);
	buf_finish(&part);
}

static void a_fetch_that_breaks_off_is_cut_for_all(void **state)
{
	struct fixture *f = *state;
	struct fetch *fetch = fetch_of(f, 60000, BLOB D(2), false, NULL);
	const struct fetch_answer *a;
	struct buf b = { 0 };

	assert_int_equal(fetch_answer(fetch, &a, &f->err), 0);
	/* What came is there, but it is no end. */
	assert_int_equal(read_all(fetch, 0, &b), -EPIPE);
	assert_data(f, &b, 0, 5000);
	assert_int_equal(fetch_state(fetch, NULL, NULL), FETCH_FAILED);
	assert_int_equal(fetch_answer(fetch, &a, &f->err), 0);
	fetch_release(fetch);
	buf_finish(&b);
}

static void no_answer_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct strv none = { 0 };
	struct fetch_spec spec = {
		.url = "http://127.0.0.1:1/", .what = "GET nothing", .headers = &none
	};
	const struct fetch_answer *a;
	struct fetch *fetch;
	char c;

	assert_int_equal(fetcher_create(&f->fetcher, f->dir, 60000, &f->err), 0);
	assert_int_equal(fetch_start(&fetch, f->fetcher, &spec, &f->err), 0);
	assert_int_equal(fetch_answer(fetch, &a, &f->err), -EHOSTUNREACH);
	assert_int_equal(fetch_read(fetch, 0, &c, 1), -EPIPE);
	fetch_release(fetch);
	fetch_release(NULL);
}

static void silence_cuts_it_off(void **state)
{
	struct fixture *f = *state;
	struct fetch *silent = fetch_of(f, 1000, BLOB D(8), false, NULL);
	struct fetch *stalled = fetch_of(f, 1000, BLOB D(7), false, NULL);
	const struct fetch_answer *a;
	struct buf b = { 0 };

	assert_int_equal(fetch_answer(silent, &a, &f->err), -ETIMEDOUT);
	assert_string_equal(f->err.msg, "nothing came for 1s");
	assert_int_equal(read_all(stalled, 0, &b), -EPIPE);
	assert_data(f, &b, 0, 5000);
	fetch_release(silent);
	fetch_release(stalled);
	buf_finish(&b);
}

/* Nobody waits for it any more: the upstream is let go. */
static void the_last_holder_cuts_it_off(void **state)
{
	struct fixture *f = *state;
	struct fetch *fetch = fetch_of(f, 600000, BLOB D(7), false, NULL);
	const struct fetch_answer *a;

	assert_int_equal(fetch_answer(fetch, &a, &f->err), 0);
	fetch_hold(fetch);
	fetch_release(fetch);
	assert_int_equal(fetch_state(fetch, NULL, NULL), FETCH_BODY);
	fetch_release(fetch);
	/* Waits for the thread; without the cut that would take ten minutes. */
	fetcher_stop(f->fetcher);
	fetcher_destroy(f->fetcher);
	f->fetcher = NULL;
}

static void a_stopped_fetcher_takes_no_more(void **state)
{
	struct fixture *f = *state;
	struct fetch *fetch = fetch_of(f, 600000, BLOB D(7), false, NULL), *more = NULL;
	struct strv none = { 0 };
	struct fetch_spec spec = { .url = "http://127.0.0.1:1/", .what = "x", .headers = &none };
	struct buf b = { 0 };

	fetcher_stop(f->fetcher);
	assert_int_equal(fetch_start(&more, f->fetcher, &spec, &f->err), -ECANCELED);
	assert_null(more);
	assert_int_equal(read_all(fetch, 0, &b), -EPIPE);
	fetch_release(fetch);
	buf_finish(&b);
}

static void a_spool_without_room_is_an_error(void **state)
{
	struct fixture *f = *state;
	struct fetch *fetch;
	char *none = path_join(f->dir, "none");
	struct buf b = { 0 };

	assert_int_equal(fetcher_create(&f->fetcher, none, 60000, &f->err), 0);
	fetch = fetch_of(f, 0, BLOB D(0), false, NULL);
	assert_int_equal(read_all(fetch, 0, &b), -EPIPE);
	assert_int_equal(b.len, 0);
	fetch_release(fetch);
	free(none);
}

static void heads_and_empty_bodies(void **state)
{
	struct fixture *f = *state;
	struct fetch *head = fetch_of(f, 60000, BLOB D(0), true, NULL);
	struct fetch *empty = fetch_of(f, 60000, BLOB D(9), false, NULL);
	const struct fetch_answer *a;
	char c;

	assert_int_equal(fetch_answer(head, &a, &f->err), 0);
	assert_int_equal(a->status, 200);
	assert_int_equal(a->length, SIZE);
	assert_int_equal(fetch_read(head, 0, &c, 1), 0);
	assert_int_equal(fetch_answer(empty, &a, &f->err), 0);
	assert_int_equal(a->status, 204);
	assert_int_equal(fetch_read(empty, 0, &c, 1), 0);
	fetch_release(head);
	fetch_release(empty);
	/* Nothing of all that can be seen in the folder. */
	assert_int_equal(rmdir(f->dir), 0);
	assert_int_equal(mkdir_p(f->dir, 0700, NULL), 0);
}

/* ---- sharing ---- */

struct joiner {
	struct fixture *f;
	struct shares *t;
};

static struct share *join(struct joiner *j, const char *digest, const char *path,
	const char *authorization, enum share_role expected)
{
	char *url = web_url(j->f->web, path);
	struct strv none = { 0 };
	struct fetch_spec fetch = { .url = url, .what = path, .headers = &none, .follow = true };
	struct share_spec spec = { .digest = digest,
		.path = path,
		.authorization = authorization,
		.fetcher = j->f->fetcher,
		.fetch = &fetch };
	enum share_role role;
	struct share *s = NULL;

	if (shares_join(&s, &role, j->t, &spec, &j->f->err) < 0)
		fail_msg("%s", j->f->err.msg);
	assert_int_equal(role, expected);
	free(url);
	return s;
}

static void start_sharing(struct fixture *f, struct joiner *j, uint64_t keep_ms, uint64_t bytes)
{
	*j = (struct joiner){ .f = f };
	assert_int_equal(fetcher_create(&f->fetcher, f->dir, 60000, &f->err), 0);
	assert_int_equal(shares_create(&j->t, keep_ms, bytes, &f->err), 0);
}

static void roles_are_told(void **state)
{
	struct fixture *f = *state;
	struct share *first, *same, *other, *elsewhere, *anonymous;
	struct joiner j;

	start_sharing(f, &j, 600000, SIZE);
	first = join(&j, D(1), BLOB D(1), "a", SHARE_FIRST);
	same = join(&j, D(1), BLOB D(1), "a", SHARE_SAME);
	other = join(&j, D(1), BLOB D(1), "b", SHARE_OTHER);
	anonymous = join(&j, D(1), BLOB D(1), NULL, SHARE_OTHER);
	elsewhere = join(&j, D(1), "/v2/other/blobs/" D(1), "a", SHARE_OTHER);
	assert_ptr_equal(share_fetch(first), share_fetch(elsewhere));
	shares_leave(j.t, first);
	shares_leave(j.t, same);
	shares_leave(j.t, other);
	shares_leave(j.t, anonymous);
	/* The last one leaves before it is whole: whoever comes has to begin again. */
	shares_leave(j.t, elsewhere);
	first = join(&j, D(1), BLOB D(1), NULL, SHARE_FIRST);
	same = join(&j, D(1), BLOB D(1), NULL, SHARE_SAME);
	shares_leave(j.t, first);
	shares_leave(j.t, same);
	shares_destroy(j.t);
	shares_destroy(NULL);
}

static void finish_reading(struct share *s)
{
	struct buf b = { 0 };

	read_all(share_fetch(s), 0, &b);
	buf_finish(&b);
}

static void whole_ones_stay_within_bounds(void **state)
{
	struct fixture *f = *state;
	struct share *a, *b;
	struct joiner j;

	/* Room for one. */
	start_sharing(f, &j, 600000, SIZE + SIZE / 2);
	a = join(&j, D(0), BLOB D(0), NULL, SHARE_FIRST);
	finish_reading(a);
	shares_leave(j.t, a);
	a = join(&j, D(0), BLOB D(0), NULL, SHARE_SAME);
	b = join(&j, D(6), BLOB D(6), NULL, SHARE_FIRST);
	finish_reading(b);
	shares_leave(j.t, a);
	shares_leave(j.t, b);
	/* The one left longer ago went. */
	b = join(&j, D(6), BLOB D(6), NULL, SHARE_SAME);
	a = join(&j, D(0), BLOB D(0), NULL, SHARE_FIRST);
	shares_leave(j.t, a);
	shares_leave(j.t, b);
	shares_destroy(j.t);
}

/* A reader that knows the length leaves with the last byte, before the fetch has noticed its end. */
static void the_last_byte_makes_it_whole(void **state)
{
	struct fixture *f = *state;
	struct share *s;
	struct joiner j;
	char *data = malloc(SIZE);

	start_sharing(f, &j, 600000, 1000 * SIZE);
	for (int i = 0; i < 50; i++) {
		/* Another blob each time, as far as the table knows. */
		char *path = str_printf(BLOB "%d/" D(0), i);
		uint64_t pos = 0;

		s = join(&j, path, path, NULL, SHARE_FIRST);
		while (pos < SIZE) {
			ssize_t n = fetch_read(share_fetch(s), pos, data, SIZE);

			assert_true(n > 0);
			pos += (uint64_t)n;
		}
		shares_leave(j.t, s);
		s = join(&j, path, path, NULL, SHARE_SAME);
		shares_leave(j.t, s);
		free(path);
	}
	shares_destroy(j.t);
	free(data);
}

static void kept_ones_expire(void **state)
{
	struct timespec nap = { .tv_sec = 1, .tv_nsec = 300 * 1000 * 1000 };
	struct fixture *f = *state;
	struct joiner j;
	unsigned tries = 0;

	start_sharing(f, &j, 1, 100 * SIZE);
	for (struct share *s; web_count(f->web, "GET") < 2; tries++) {
		char *url = web_url(f->web, BLOB D(0));
		struct strv none = { 0 };
		struct fetch_spec fetch = { .url = url, .what = "x", .headers = &none };
		struct share_spec spec = {
			.digest = D(0), .path = "x", .fetcher = f->fetcher, .fetch = &fetch
		};
		enum share_role role;

		assert_int_equal(shares_join(&s, &role, j.t, &spec, &f->err), 0);
		finish_reading(s);
		shares_leave(j.t, s);
		free(url);
		assert_true(tries < 20);
		nanosleep(&nap, NULL);
	}
	shares_destroy(j.t);
}

static void failed_ones_are_not_shared(void **state)
{
	static const char *const digests[] = { D(2), D(4) };
	struct fixture *f = *state;
	struct share *failed, *again;
	struct joiner j;

	start_sharing(f, &j, 600000, 100 * SIZE);
	for (size_t i = 0; i < ARRAY_LEN(digests); i++) {
		char *path = str_printf(BLOB "%s", digests[i]);

		failed = join(&j, digests[i], path, NULL, SHARE_FIRST);
		finish_reading(failed);
		/* Although its reader is still there. */
		again = join(&j, digests[i], path, NULL, SHARE_FIRST);
		assert_ptr_not_equal(share_fetch(failed), share_fetch(again));
		finish_reading(again);
		shares_leave(j.t, failed);
		shares_leave(j.t, again);
		free(path);
	}
	shares_destroy(j.t);
}

/* ---- the server ---- */

static void start_relay(struct fixture *f, uint64_t stall_ms)
{
	struct relay_opts opts = RELAY_OPTS_DEFAULT;
	struct sockaddr_in sa = { .sin_family = AF_INET };
	char *upstream = web_url(f->web, "//");
	socklen_t len = sizeof(sa);

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	opts.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(opts.listen_fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(opts.listen_fd, 64), 0);
	assert_int_equal(getsockname(opts.listen_fd, (struct sockaddr *)&sa, &len), 0);
	f->port = ntohs(sa.sin_port);
	opts.upstream = upstream;
	opts.spool = f->dir;
	if (stall_ms != 0)
		opts.stall_ms = stall_ms;
	if (relay_start(&f->relay, &opts, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	free(upstream);
}

struct client {
	struct fixture *f;
	const char *path, *extra;
	pthread_t thread;
	struct buf answer;
};

static void *ask(void *arg)
{
	struct client *c = arg;

	c->answer = web_get(c->f->port, c->path, c->extra);
	return NULL;
}

static void begin_client(struct client *c, struct fixture *f, const char *path, const char *extra)
{
	*c = (struct client){ .f = f, .path = path, .extra = extra };
	assert_int_equal(pthread_create(&c->thread, NULL, ask, c), 0);
}

static void assert_answer(
	struct fixture *f, unsigned status, const char *path, const char *extra, size_t len)
{
	struct buf b = web_get(f->port, path, extra);

	assert_int_equal(web_status(&b), status);
	if (status == 200) {
		assert_int_equal(strlen(web_body(&b)), len);
		assert_true(memcmp(web_body(&b), f->data, len) == 0);
	}
	buf_finish(&b);
}

static void one_fetch_serves_all(void **state)
{
	struct fixture *f = *state;
	struct client c[5];

	start_relay(f, 0);
	for (size_t i = 0; i < ARRAY_LEN(c); i++)
		begin_client(&c[i], f, BLOB D(1),
			"Authorization: Bearer t\r\nAccept-Encoding: gzip\r\n");
	/* All of them are served from what has come once the gate opens. */
	while (web_count(f->web, "GET") == 0)
		sched_yield();
	web_open(f->web);
	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(web_status(&c[i].answer), 200);
		assert_int_equal(strlen(web_body(&c[i].answer)), SIZE);
		assert_true(memcmp(web_body(&c[i].answer), f->data, SIZE) == 0);
		assert_non_null(strstr(c[i].answer.data, "Content-Type: a/b\r\n"));
		buf_finish(&c[i].answer);
	}
	assert_int_equal(web_count(f->web, "GET"), 1);
	/* And who comes a little late. */
	assert_answer(f, 200, BLOB D(1), "Authorization: Bearer t\r\n", SIZE);
	assert_int_equal(web_count(f->web, "GET"), 1);
}

/* Another user has it only if the upstream says so. */
static void who_may_not_have_it_is_refused(void **state)
{
	struct fixture *f = *state;

	start_relay(f, 0);
	assert_answer(f, 200, BLOB D(3), "Authorization: Bearer one\r\n", SIZE);
	assert_answer(f, 401, BLOB D(3), "Authorization: Bearer two\r\n", 0);
	assert_answer(f, 401, BLOB D(3), "", 0);
	assert_int_equal(web_count(f->web, "HEAD " BLOB D(3) " Authorization: Bearer two"), 1);
	assert_answer(f, 200, BLOB D(3), "Authorization: Bearer one\r\n", SIZE);
	assert_int_equal(web_count(f->web, "GET " BLOB D(3) " Authorization: Bearer one"), 1);
	/* A blob for all: asked by HEAD, then read from the same fetch. */
	assert_answer(f, 200, BLOB D(0), "Authorization: Bearer one\r\n", SIZE);
	assert_answer(f, 200, BLOB D(0), "Authorization: Bearer two\r\n", SIZE);
	assert_int_equal(web_count(f->web, "GET " BLOB D(0)), 1);
	assert_int_equal(web_count(f->web, "HEAD " BLOB D(0)), 1);
}

static void what_is_no_whole_blob_is_not_shared(void **state)
{
	struct fixture *f = *state;

	start_relay(f, 0);
	for (int i = 0; i < 2; i++) {
		struct buf b = web_get(f->port, BLOB D(0), "Range: bytes=10-\r\n");

		assert_int_equal(web_status(&b), 206);
		assert_int_equal(strlen(web_body(&b)), SIZE - 10);
		assert_non_null(strstr(b.data, "Content-Range: bytes 10-"));
		buf_finish(&b);
		assert_answer(f, 404, BLOB D(4), "", 0);
		assert_answer(f, 200, "/v2/a/b/manifests/latest", "", SIZE);
		assert_answer(f, 200, "/v2/a/b/blobs/sha256:short", "", SIZE);
	}
	assert_int_equal(web_count(f->web, "GET " BLOB D(0) " Range: bytes=10-"), 2);
	assert_int_equal(web_count(f->web, "GET " BLOB D(4)), 2);
	assert_int_equal(web_count(f->web, "GET /v2/a/b/manifests/latest"), 2);
	assert_int_equal(web_count(f->web, "GET /v2/a/b/blobs/sha256:short"), 2);
}

static void redirects(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	start_relay(f, 0);
	/* Followed for a blob, so that it is shared; to the upstream itself it leads through us. */
	assert_answer(f, 200, BLOB D(5), "", SIZE);
	b = web_get(f->port, "/v2/a/b/manifests/5", "");
	assert_int_equal(web_status(&b), 307);
	assert_non_null(strstr(b.data, "Location: " BLOB D(6) "\r\n"));
	buf_finish(&b);
}

/* A body that is shorter than was said: the client must see that. */
static void an_end_in_mid_body_is_passed_on(void **state)
{
	struct fixture *f = *state;

	start_relay(f, 1000);
	for (char last = '2'; last <= '7'; last += 5) {
		char path[] = BLOB D(x);
		struct buf b;

		path[strlen(path) - 1] = last;
		b = web_get(f->port, path, "");
		assert_int_equal(web_status(&b), 200);
		assert_non_null(strstr(b.data, "Content-Length: 2000000\r\n"));
		assert_true(strlen(web_body(&b)) <= 5000);
		buf_finish(&b);
	}
	/* It is asked for anew. */
	assert_answer(f, 502, BLOB D(8), "", 0);
}

static void no_upstream_is_a_bad_gateway(void **state)
{
	struct fixture *f = *state;
	struct web *gone = f->web;
	struct buf b;

	start_relay(f, 0);
	f->web = web_start(NULL, answer, f);
	web_stop(gone);
	b = web_get(f->port, BLOB D(0), "");
	assert_int_equal(web_status(&b), 502);
	assert_non_null(strstr(b.data, "{\"errors\":[{\"code\":\"UNAVAILABLE\","));
	buf_finish(&b);
}

static void only_what_a_cache_asks_for(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	start_relay(f, 0);
	assert_answer(f, 404, "/", "", 0);
	assert_answer(f, 404, "/v1/x", "", 0);
	assert_answer(f, 404, "http://example.org/v2/", "", 0);
	b = web_ask(f->port, "POST /v2/a/b/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n"
			     "Connection: close\r\nContent-Length: 5\r\n\r\nhello");
	assert_int_equal(web_status(&b), 405);
	assert_non_null(strstr(b.data, "Allow: GET, HEAD\r\n"));
	buf_finish(&b);
	b = web_ask(f->port, "HEAD " BLOB D(0) " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
	assert_int_equal(web_status(&b), 200);
	assert_non_null(strstr(b.data, "Content-Length: 2000000\r\n"));
	assert_string_equal(web_body(&b), "");
	buf_finish(&b);
	assert_int_equal(web_count(f->web, "GET"), 0);
	/* As it came, not decoded. */
	b = web_get(f->port, "/v2/a%2Fb/tags/list?n=1&last=%40", "");
	assert_int_equal(web_count(f->web, "GET /v2/a%2Fb/tags/list?n=1&last=%40"), 1);
	buf_finish(&b);
}

static void stopping_cuts_everybody_off(void **state)
{
	struct fixture *f = *state;
	struct client c[3];

	start_relay(f, 600000);
	begin_client(&c[0], f, BLOB D(7), "");
	begin_client(&c[1], f, BLOB D(7), "");
	begin_client(&c[2], f, BLOB D(8), "");
	while (web_count(f->web, "GET") < 2)
		sched_yield();
	relay_stop(f->relay);
	f->relay = NULL;
	for (size_t i = 0; i < ARRAY_LEN(c); i++) {
		pthread_join(c[i].thread, NULL);
		assert_true(strlen(web_body(&c[i].answer)) <= 5000);
		buf_finish(&c[i].answer);
	}
	relay_stop(NULL);
}

static void a_descriptor_that_does_not_listen(void **state)
{
	struct fixture *f = *state;
	struct relay_opts opts = RELAY_OPTS_DEFAULT;
	struct relay *r = NULL;

	opts.listen_fd = 999;
	opts.upstream = "http://127.0.0.1:1";
	opts.spool = f->dir;
	assert_int_equal(relay_start(&r, &opts, &f->err), -EINVAL);
	assert_string_equal(f->err.msg, "descriptor 999 is no listening socket");
	/* Neither is a file, nor a socket that was only made. They stay the caller's. */
	opts.listen_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(relay_start(&r, &opts, &f->err), -EINVAL);
	assert_int_equal(close(opts.listen_fd), 0);
	opts.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(relay_start(&r, &opts, &f->err), -EINVAL);
	assert_int_equal(close(opts.listen_fd), 0);
	assert_null(r);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(readers_follow_what_grows),
		TEST(a_fetch_that_breaks_off_is_cut_for_all),
		TEST(no_answer_is_an_error),
		TEST(silence_cuts_it_off),
		TEST(the_last_holder_cuts_it_off),
		TEST(a_stopped_fetcher_takes_no_more),
		TEST(a_spool_without_room_is_an_error),
		TEST(heads_and_empty_bodies),
		TEST(roles_are_told),
		TEST(whole_ones_stay_within_bounds),
		TEST(the_last_byte_makes_it_whole),
		TEST(kept_ones_expire),
		TEST(failed_ones_are_not_shared),
		TEST(one_fetch_serves_all),
		TEST(who_may_not_have_it_is_refused),
		TEST(what_is_no_whole_blob_is_not_shared),
		TEST(redirects),
		TEST(an_end_in_mid_body_is_passed_on),
		TEST(no_upstream_is_a_bad_gateway),
		TEST(only_what_a_cache_asks_for),
		TEST(stopping_cuts_everybody_off),
		TEST(a_descriptor_that_does_not_listen),
	};

	/* Fetches that fail on purpose need not be told of. */
	log_setup(&(struct log_opts){ .level = LOG_LVL_ERROR });
	curl_global_init(CURL_GLOBAL_DEFAULT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
