#include "tests/unit/rig.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/http.h"

/* A server that keeps what it was sent and answers with whatever a test scripts for a path. */
struct peer {
	uv_loop_t *loop;
	uv_tcp_t tcp;
	uv_pipe_t pipe;
	int port;
	char *dir, *path;
	struct buf seen;      /* all requests, as they came */
	unsigned connections; /* accepted so far */
	struct conn *conns;
};

struct conn {
	union {
		uv_tcp_t tcp;
		uv_pipe_t pipe;
		uv_stream_t stream;
	} h;
	struct peer *peer;
	struct conn *next;
	struct buf in;
	bool closing;
};

struct script {
	const char *path;
	const char *answer; /* NULL: says nothing; "" closes */
};
static const struct script *scripts;
static size_t nscripts;
#define SCRIPT(s) (scripts = (s), nscripts = ARRAY_LEN(s))

static void conn_closed(uv_handle_t *h)
{
	struct conn *c = container_of((uv_stream_t *)h, struct conn, h.stream);

	buf_finish(&c->in);
	for (struct conn **p = &c->peer->conns; *p != NULL; p = &(*p)->next) {
		if (*p == c) {
			*p = c->next;
			break;
		}
	}
	free(c);
}

static void conn_close(struct conn *c)
{
	if (!c->closing)
		uv_close((uv_handle_t *)&c->h.stream, conn_closed);
	c->closing = true;
}

static void written(uv_write_t *w, int status)
{
	free(w->data);
	free(w);
}

static void answer(struct conn *c, const char *path)
{
	for (size_t i = 0; i < nscripts; i++) {
		char text[8192];
		uv_write_t *w;
		uv_buf_t b;

		if (strcmp(scripts[i].path, path) != 0 || scripts[i].answer == NULL)
			continue;
		if (scripts[i].answer[0] == '\0') {
			conn_close(c);
			return;
		}
		/* %d in an answer is the server's port, for redirects. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		snprintf(text, sizeof(text), scripts[i].answer, c->peer->port);
		w = malloc(sizeof(*w));
		w->data = strdup(text);
		b = uv_buf_init(w->data, (unsigned)strlen(w->data));
		uv_write(w, &c->h.stream, &b, 1, written);
		if (strstr(text, "Connection: close") != NULL)
			conn_close(c);
		return;
	}
}

static void on_alloc(uv_handle_t *h, size_t n, uv_buf_t *b)
{
	*b = uv_buf_init(malloc(n), (unsigned)n);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct conn *c = container_of(s, struct conn, h.stream);
	char path[256], *end, *length;
	size_t body;

	if (n > 0) {
		buf_add(&c->in, b->base, (size_t)n);
		buf_add(&c->peer->seen, b->base, (size_t)n);
	}
	free(b->base);
	if (n < 0) {
		conn_close(c);
		return;
	}
	while (!c->closing && c->in.len > 0 && (end = strstr(c->in.data, "\r\n\r\n")) != NULL) {
		length = strcasestr(c->in.data, "content-length:");
		body = length != NULL && length < end ? strtoul(length + 15, NULL, 10) : 0;
		if (c->in.len < (size_t)(end + 4 - c->in.data) + body)
			return;
		assert_int_equal(sscanf(c->in.data, "%*s %255s", path), 1);
		buf_drop(&c->in, (size_t)(end + 4 - c->in.data) + body);
		answer(c, path);
	}
}

static void on_connection(uv_stream_t *server, int status)
{
	struct peer *p = server->data;
	struct conn *c = calloc(1, sizeof(*c));

	assert_non_null(c);
	c->peer = p;
	c->next = p->conns;
	p->conns = c;
	p->connections++;
	if (server->type == UV_TCP)
		uv_tcp_init(p->loop, &c->h.tcp);
	else
		uv_pipe_init(p->loop, &c->h.pipe, 0);
	assert_int_equal(uv_accept(server, &c->h.stream), 0);
	uv_read_start(&c->h.stream, on_alloc, on_read);
}

static void peer_start(struct peer *p, uv_loop_t *loop)
{
	struct sockaddr_in addr;
	int len = sizeof(addr);

	*p = (struct peer){ .loop = loop, .dir = rig_tmp() };
	uv_tcp_init(loop, &p->tcp);
	uv_pipe_init(loop, &p->pipe, 0);
	p->tcp.data = p->pipe.data = p;
	uv_ip4_addr("127.0.0.1", 0, &addr);
	assert_int_equal(uv_tcp_bind(&p->tcp, (struct sockaddr *)&addr, 0), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&p->tcp, 16, on_connection), 0);
	uv_tcp_getsockname(&p->tcp, (struct sockaddr *)&addr, &len);
	p->port = ntohs(addr.sin_port);
	p->path = path_join(p->dir, "sock");
	assert_int_equal(uv_pipe_bind(&p->pipe, p->path), 0);
	assert_int_equal(uv_listen((uv_stream_t *)&p->pipe, 16, on_connection), 0);
}

static void peer_stop(struct peer *p)
{
	for (struct conn *c = p->conns; c != NULL; c = c->next)
		conn_close(c);
	uv_close((uv_handle_t *)&p->tcp, NULL);
	uv_close((uv_handle_t *)&p->pipe, NULL);
	while (p->conns != NULL)
		uv_run(p->loop, UV_RUN_ONCE);
	uv_run(p->loop, UV_RUN_NOWAIT);
	buf_finish(&p->seen);
	rig_tmp_finish(p->dir);
	free(p->path);
}

/* What one request came to. */
struct got {
	unsigned calls;
	bool done;
	int code, status;
	char body[256], msg[ERR_MSG_MAX];
	struct buf heads, data;
	int data_status, data_ret;
	struct http_client *destroy; /* from the first on_data or done */
	struct http_req *cancel;     /* from the first on_data */
	bool closed;
};

static void on_closed(void *arg)
{
	((struct got *)arg)->closed = true;
}

static void on_done(void *arg, const struct http_result *res, const struct err *err)
{
	struct got *g = arg;

	g->calls++;
	g->done = true;
	g->code = err != NULL ? err->code : 0;
	assert_true((res == NULL) == (err != NULL));
	if (err != NULL)
		snprintf(g->msg, sizeof(g->msg), "%s", err->msg);
	if (res != NULL) {
		g->status = res->status;
		snprintf(g->body, sizeof(g->body), "%s", res->body);
		assert_int_equal(strlen(res->body), res->len);
	}
	if (g->destroy != NULL)
		http_client_destroy(g->destroy, on_closed, g);
}

static int on_data(void *arg, int status, const char *data, size_t len)
{
	struct got *g = arg;

	g->data_status = status;
	buf_add(&g->data, data, len);
	if (g->destroy != NULL)
		http_client_destroy(g->destroy, on_closed, g);
	g->destroy = NULL;
	if (g->cancel != NULL)
		http_cancel(g->cancel);
	g->cancel = NULL;
	return g->data_ret;
}

static void on_header(void *arg, const char *name, const char *value)
{
	buf_printf(&((struct got *)arg)->heads, "%s=%s;", name, value);
}

static void got_finish(struct got *g)
{
	assert_int_equal(g->calls, 1);
	buf_finish(&g->heads);
	buf_finish(&g->data);
}

/* Loop, peer and client of one test. */
static struct {
	uv_loop_t *loop;
	struct peer peer;
	struct http_client *client;
	char url[256];
} t;

static int setup(void **state)
{
	struct err err;

	t.loop = rig_loop();
	peer_start(&t.peer, t.loop);
	return http_client_create(&t.client, t.loop, &err);
}

static int teardown(void **state)
{
	struct got g = { 0 };

	if (t.client != NULL) {
		http_client_destroy(t.client, on_closed, &g);
		rig_run_until(t.loop, &g.closed);
	}
	peer_stop(&t.peer);
	rig_loop_finish(t.loop);
	return 0;
}

static const char *url(const char *path)
{
	snprintf(t.url, sizeof(t.url), "http://127.0.0.1:%d%s", t.peer.port, path);
	return t.url;
}

static void begin(struct got *g, const struct http_spec *spec, struct http_req **out)
{
	struct err err = { 0 };

	if (http_request(t.client, spec, on_done, g, out, &err) != 0)
		fail_msg("%s", err.msg);
	assert_int_equal(g->calls, 0);
}

static void await(struct got *g, const struct http_spec *spec)
{
	begin(g, spec, NULL);
	rig_run_until(t.loop, &g->done);
}

static void gets_over_tcp_and_keeps_the_connection(void **state)
{
	static const struct script s[] = {
		{ "/a?b=1", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" },
		{ "/missing", "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno" },
	};
	struct http_spec spec = { .url = url("/a?b=1") };

	SCRIPT(s);
	for (int i = 0; i < 3; i++) {
		struct got g = { 0 };

		await(&g, &spec);
		assert_int_equal(g.code, 0);
		assert_int_equal(g.status, 200);
		assert_string_equal(g.body, "hello");
		got_finish(&g);
	}
	struct got g = { 0 };
	spec.url = url("/missing");
	await(&g, &spec);
	assert_int_equal(g.status, 404);
	assert_string_equal(g.body, "no");
	got_finish(&g);
	assert_int_equal(t.peer.connections, 1);
}

static void puts_over_a_unix_socket(void **state)
{
	static const struct script s[] = { { "/api", "HTTP/1.1 204 No Content\r\n\r\n" } };
	const char *const headers[] = { "Content-Type: application/json", NULL };
	struct http_spec spec = { .url = "http://localhost/api",
		.unix_socket = t.peer.path,
		.method = "PUT",
		.headers = headers,
		.body = "{\"x\":1}",
		.body_len = 7 };
	struct got g = { 0 };

	SCRIPT(s);
	await(&g, &spec);
	assert_int_equal(g.status, 204);
	assert_true(str_starts(buf_str(&t.peer.seen), "PUT /api HTTP/1.1\r\n"));
	assert_non_null(strstr(t.peer.seen.data, "Content-Type: application/json\r\n"));
	assert_null(strstr(t.peer.seen.data, "Expect"));
	assert_non_null(strstr(t.peer.seen.data, "\r\n\r\n{\"x\":1}"));
	got_finish(&g);
}

static void sends_no_body_and_no_type_unless_told(void **state)
{
	static const struct script s[] = { { "/x", "HTTP/1.1 204 No Content\r\n\r\n" } };
	struct http_spec spec = { .url = url("/x"), .method = "POST" };
	struct got g = { 0 }, h = { 0 };

	SCRIPT(s);
	await(&g, &spec);
	assert_non_null(strstr(t.peer.seen.data, "Content-Length: 0\r\n"));
	assert_null(strstr(t.peer.seen.data, "Content-Type"));
	got_finish(&g);
	buf_clear(&t.peer.seen);
	spec.method = "DELETE";
	await(&h, &spec);
	assert_true(str_starts(t.peer.seen.data, "DELETE /x "));
	assert_null(strstr(t.peer.seen.data, "Content-Length"));
	got_finish(&h);
}

static void streams_the_body_and_the_final_head_only(void **state)
{
	static const struct script s[] = {
		{ "/go", "HTTP/1.1 302 Found\r\nX-First: 1\r\nLocation: http://127.0.0.1:%d/end\r\n"
			 "Content-Length: 4\r\n\r\nhere" },
		{ "/end",
			"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 206 Partial\r\nX-Last:  two \r\n"
			"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n" },
	};
	const char *const headers[] = { "Authorization: Bearer secret", NULL };
	struct http_spec spec = { .url = url("/go"),
		.max_redirects = 3,
		.http_only_plain = true,
		.headers = headers,
		.resume_from = 7,
		.on_data = on_data,
		.on_header = on_header };
	struct got g = { 0 };

	SCRIPT(s);
	await(&g, &spec);
	assert_string_equal(g.msg, "");
	assert_int_equal(g.status, 206);
	assert_int_equal(g.data_status, 206);
	assert_string_equal(buf_str(&g.data), "abcde");
	assert_string_equal(g.body, "");
	assert_string_equal(buf_str(&g.heads), "x-last=two;transfer-encoding=chunked;");
	assert_non_null(strstr(t.peer.seen.data, "Range: bytes=7-\r\n"));
	got_finish(&g);
}

static void redirects_follow_the_rules(void **state)
{
	static const struct script s[] = {
		{ "/plain", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:%d/loop\r\n"
			    "Content-Length: 0\r\n\r\n" },
		{ "/loop", "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n" },
		{ "/other", "HTTP/1.1 302 Found\r\nLocation: http://localhost:%d/end\r\n"
			    "Content-Length: 0\r\n\r\n" },
		{ "/end", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" },
	};
	const char *const headers[] = { "Authorization: Bearer secret", NULL };
	struct http_spec spec = { .url = url("/plain") };
	struct got as_is = { 0 }, refused = { 0 }, loop = { 0 }, other = { 0 };
	char *second;

	SCRIPT(s);
	await(&as_is, &spec);
	assert_int_equal(as_is.status, 302);
	got_finish(&as_is);
	/* http:// as a target needs http_only_plain. */
	spec.max_redirects = 4;
	await(&refused, &spec);
	assert_int_equal(refused.code, -EINVAL);
	got_finish(&refused);
	spec.http_only_plain = true;
	await(&loop, &spec);
	assert_int_equal(loop.code, -ELOOP);
	got_finish(&loop);

	buf_clear(&t.peer.seen);
	spec.headers = headers;
	spec.url = url("/other");
	await(&other, &spec);
	assert_int_equal(other.status, 200);
	second = strstr(t.peer.seen.data, "GET /end");
	assert_non_null(second);
	assert_non_null(strstr(t.peer.seen.data, "Bearer secret"));
	assert_null(strstr(second, "secret"));
	got_finish(&other);
}

static void says_what_is_wrong_with_the_connection(void **state)
{
	static const struct script s[] = {
		{ "/close", "" },
		{ "/short",
			"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc" },
	};
	char *gone = str_printf("%s-gone", t.peer.path);
	struct http_spec spec = { .url = "http://localhost/", .unix_socket = gone };
	struct got a = { 0 }, b = { 0 }, c = { 0 }, d = { 0 };

	SCRIPT(s);
	await(&a, &spec);
	assert_int_equal(a.code, -ENOENT);
	assert_string_equal(a.msg, "GET 'http://localhost/': No such file or directory");
	got_finish(&a);
	spec = (struct http_spec){ .url = url("/close") };
	await(&b, &spec);
	assert_int_equal(b.code, -ECONNRESET);
	got_finish(&b);
	spec.url = url("/short");
	await(&c, &spec);
	assert_int_equal(c.code, -ECONNRESET);
	got_finish(&c);
	/* Port 1 has nobody listening; neither password nor query belong into a message. */
	spec.url = "http://user:secret@127.0.0.1:1/x?token=secret";
	await(&d, &spec);
	assert_int_equal(d.code, -ECONNREFUSED);
	assert_null(strstr(d.msg, "secret"));
	assert_non_null(strstr(d.msg, "'http://127.0.0.1:1/x'"));
	got_finish(&d);
	free(gone);
}

static void gives_up_in_time(void **state)
{
	static const struct script s[] = {
		{ "/silent", NULL },
		{ "/stall", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" },
	};
	struct http_spec spec = { .url = url("/silent"), .timeout_ms = 50 };
	struct got a = { 0 }, b = { 0 };

	SCRIPT(s);
	await(&a, &spec);
	assert_int_equal(a.code, -ETIMEDOUT);
	got_finish(&a);
	spec = (struct http_spec){ .url = url("/stall"), .stall_ms = 1 };
	await(&b, &spec);
	assert_int_equal(b.code, -ETIMEDOUT);
	got_finish(&b);
}

static void bounds_the_answer_and_heeds_the_reader(void **state)
{
	static const struct script s[] = {
		{ "/five", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" },
	};
	struct http_spec spec = { .url = url("/five"), .max_body = 4 };
	struct got a = { 0 }, b = { 0 }, c = { .data_ret = -ENOSPC };

	SCRIPT(s);
	await(&a, &spec);
	assert_int_equal(a.code, -EFBIG);
	got_finish(&a);
	spec.max_body = 5;
	await(&b, &spec);
	assert_string_equal(b.body, "hello");
	got_finish(&b);
	spec.on_data = on_data;
	await(&c, &spec);
	assert_int_equal(c.code, -ENOSPC);
	got_finish(&c);
}

static void cancels_at_every_step(void **state)
{
	static const struct script s[] = {
		{ "/silent", NULL },
		{ "/part", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc" },
	};
	struct http_spec spec = { .url = url("/silent") };
	struct got at_once = { 0 }, waiting = { 0 }, reading = { 0 };
	struct http_req *r;

	SCRIPT(s);
	begin(&at_once, &spec, &r);
	http_cancel(r);
	assert_int_equal(at_once.calls, 0);
	rig_run_until(t.loop, &at_once.done);
	assert_int_equal(at_once.code, -ECANCELED);
	got_finish(&at_once);

	begin(&waiting, &spec, &r);
	rig_run_for(t.loop, 20);
	http_cancel(r);
	http_cancel(r);
	assert_int_equal(waiting.calls, 0);
	rig_run_until(t.loop, &waiting.done);
	assert_int_equal(waiting.code, -ECANCELED);
	got_finish(&waiting);

	spec.url = url("/part");
	spec.on_data = on_data;
	begin(&reading, &spec, &reading.cancel);
	rig_run_until(t.loop, &reading.done);
	assert_int_equal(reading.code, -ECANCELED);
	assert_string_equal(buf_str(&reading.data), "abc");
	got_finish(&reading);
}

static void destroy_cancels_what_is_under_way(void **state)
{
	static const struct script s[] = { { "/silent", NULL } };
	struct http_spec spec = { .url = url("/silent") };
	struct got old = { 0 }, fresh = { 0 }, end = { 0 };
	struct err err;

	SCRIPT(s);
	begin(&old, &spec, NULL);
	rig_run_for(t.loop, 20);
	begin(&fresh, &spec, NULL);
	http_client_destroy(t.client, on_closed, &end);
	assert_int_equal(http_request(t.client, &spec, on_done, &end, NULL, &err), -ECANCELED);
	assert_int_equal(old.calls + fresh.calls, 0);
	rig_run_until(t.loop, &end.closed);
	t.client = NULL;
	assert_int_equal(old.code, -ECANCELED);
	assert_int_equal(fresh.code, -ECANCELED);
	got_finish(&old);
	got_finish(&fresh);
	http_client_destroy(NULL, NULL, NULL);
}

static void can_be_destroyed_from_its_callbacks(void **state)
{
	static const struct script s[] = {
		{ "/five", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" },
		{ "/silent", NULL },
	};
	struct http_spec spec = { .url = url("/five") }, silent = spec;
	struct got from_done = { 0 }, other = { 0 }, from_data = { 0 };
	struct err err;

	SCRIPT(s);
	from_done.destroy = t.client;
	await(&from_done, &spec);
	rig_run_until(t.loop, &from_done.closed);
	assert_int_equal(from_done.status, 200);
	got_finish(&from_done);

	assert_int_equal(http_client_create(&t.client, t.loop, &err), 0);
	from_data.destroy = t.client;
	silent.url = strdup(url("/silent"));
	spec.url = url("/five");
	spec.on_data = on_data;
	begin(&other, &silent, NULL);
	begin(&from_data, &spec, NULL);
	rig_run_until(t.loop, &from_data.closed);
	t.client = NULL;
	assert_int_equal(from_data.code, -ECANCELED);
	assert_int_equal(other.code, -ECANCELED);
	got_finish(&from_data);
	got_finish(&other);
	free((char *)silent.url);
}

static void leaks_no_descriptor(void **state)
{
	static const struct script s[] = {
		{ "/five", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" },
	};
	struct http_spec spec = { .url = url("/five"), .fresh = true };
	unsigned before = 0;

	SCRIPT(s);
	for (int i = 0; i < 20; i++) {
		struct got g = { 0 };

		await(&g, &spec);
		assert_int_equal(g.status, 200);
		got_finish(&g);
		while (t.peer.conns != NULL)
			uv_run(t.loop, UV_RUN_ONCE);
		if (i == 2)
			before = rig_count_fds();
	}
	assert_int_equal(t.peer.connections, 20);
	assert_int_equal(rig_count_fds(), before);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(gets_over_tcp_and_keeps_the_connection),
		TEST(puts_over_a_unix_socket),
		TEST(sends_no_body_and_no_type_unless_told),
		TEST(streams_the_body_and_the_final_head_only),
		TEST(redirects_follow_the_rules),
		TEST(says_what_is_wrong_with_the_connection),
		TEST(gives_up_in_time),
		TEST(bounds_the_answer_and_heeds_the_reader),
		TEST(cancels_at_every_step),
		TEST(destroy_cancels_what_is_under_way),
		TEST(can_be_destroyed_from_its_callbacks),
		TEST(leaks_no_descriptor),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
