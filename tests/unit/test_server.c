#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/http.h"
#include "lib/json.h"
#include "supervisor/server.h"

/* What the handlers saw and kept. */
static struct {
	unsigned calls, gone, drained;
	bool was_gone, was_drained;
	struct request *deferred;
	struct stream *stream;
	int param_ret;
	int64_t number;
	uid_t uid;
	pid_t pid;
	size_t max_queue;
	bool no_gone;
	unsigned this_turn, most_a_turn; /* calls of busy() */
} h;

static void on_gone(void *arg)
{
	h.gone++;
	h.was_gone = true;
	h.deferred = NULL;
	h.stream = NULL;
}

static void on_drained(void *arg)
{
	h.drained++;
	h.was_drained = true;
}

static void get_vm(void *arg, struct request *rq)
{
	json_t *body = json_object();

	h.calls++;
	h.uid = request_uid(rq);
	h.pid = request_pid(rq);
	json_put_str(body, "name", request_param(rq, "name"));
	json_put_str(body, "action", request_param(rq, "action"));
	json_put_str(body, "q", request_query(rq, "q"));
	json_put_str(body, "agent", request_header(rq, "X-Agent"));
	reply_json(rq, 200, body);
}

static void get_number(void *arg, struct request *rq)
{
	struct err err;

	if (request_query_int(rq, "n", -5, &h.number, &err) != 0)
		reply_err(rq, &err, NULL, NULL);
	else
		reply_text(rq, 200, "text/plain", "ok\n", 3);
}

static void post_body(void *arg, struct request *rq)
{
	struct err err;
	json_t *body;

	h.calls++;
	if (request_json(rq, &body, &err) != 0)
		reply_err(rq, &err, "web", "running");
	else
		reply_json(rq, 202, body != NULL ? body : json_string("nothing"));
}

static void defer(void *arg, struct request *rq)
{
	h.deferred = rq;
	if (!h.no_gone)
		request_on_gone(rq, on_gone, NULL);
}

static void stream(void *arg, struct request *rq)
{
	struct stream_opts opts = { .type = "application/x-ndjson",
		.max_queue = h.max_queue,
		.drained = on_drained,
		.gone = on_gone };

	h.stream = request_stream(rq, &opts);
}

static void fail_with(void *arg, struct request *rq)
{
	struct err err;
	int64_t code = 0;

	request_query_int(rq, "code", 0, &code, NULL);
	err_set(&err, (int)-code, "it went wrong");
	reply_err(rq, &err, "web", "stopped");
}

static void busy(void *arg, struct request *rq)
{
	uint64_t end = uv_hrtime() + 1000000;

	h.calls++;
	h.this_turn++;
	h.most_a_turn = MAX(h.most_a_turn, h.this_turn);
	while (uv_hrtime() < end)
		;
	reply_text(rq, 200, "text/plain", "ok\n", 3);
}

static const struct route table[] = {
	{ "GET", "/busy", busy },
	{ "GET", "/vms/{name}", get_vm },
	{ "DELETE", "/vms/{name}", get_vm },
	{ "POST", "/vms/{name}/{action}", get_vm },
	{ "GET", "/number", get_number },
	{ "POST", "/body", post_body },
	{ "GET", "/defer", defer },
	{ "GET", "/stream", stream },
	{ "GET", "/fail", fail_with },
};

static struct {
	uv_loop_t *loop;
	char *dir, *path;
	struct server *server;
	struct http_client *client;
} t;

static void set_true(void *arg)
{
	*(bool *)arg = true;
}

static void start_server(gid_t group)
{
	struct server_opts opts = { .routes = table, .nroutes = ARRAY_LEN(table), .group = group };
	struct err err = { 0 };
	int fd;

	assert_int_equal(unix_listen(t.path, 0666, 64, &fd, &err), 0);
	assert_int_equal(server_create(&t.server, t.loop, fd, &opts, &err), 0);
}

static void stop_server(void)
{
	bool closed = false;

	server_destroy(t.server, set_true, &closed);
	t.server = NULL;
	rig_run_until(t.loop, &closed);
}

static int setup(void **state)
{
	memset(&h, 0, sizeof(h));
	t.loop = rig_loop();
	t.dir = rig_tmp();
	t.path = path_join(t.dir, "api.sock");
	start_server((gid_t)-1);
	return http_client_create(&t.client, t.loop, NULL);
}

static int teardown(void **state)
{
	bool closed = false;

	if (t.server != NULL)
		stop_server();
	http_client_destroy(t.client, set_true, &closed);
	rig_run_until(t.loop, &closed);
	rig_tmp_finish(t.dir);
	free(t.path);
	rig_loop_finish(t.loop);
	return 0;
}

struct got {
	bool done;
	int status, code;
	char body[1024], type[64], allow[64];
	struct buf data;
};

static void on_done(void *arg, const struct http_result *res, const struct err *err)
{
	struct got *g = arg;

	assert_false(g->done);
	g->done = true;
	g->code = err != NULL ? err->code : 0;
	g->status = res != NULL ? res->status : 0;
	if (res != NULL)
		snprintf(g->body, sizeof(g->body), "%s", res->body);
}

static void on_header(void *arg, const char *name, const char *value)
{
	struct got *g = arg;

	if (strcmp(name, "content-type") == 0)
		snprintf(g->type, sizeof(g->type), "%s", value);
	if (strcmp(name, "allow") == 0)
		snprintf(g->allow, sizeof(g->allow), "%s", value);
}

static int on_data(void *arg, int status, const char *data, size_t len)
{
	struct got *g = arg;

	buf_add(&g->data, data, len);
	return 0;
}

static struct http_req *begin(struct got *g, const char *method, const char *path, const char *body)
{
	const char *const headers[] = { "X-Agent: test", NULL };
	char *url = str_printf("http://localhost%s", path);
	struct http_spec spec = { .method = method,
		.url = url,
		.unix_socket = t.path,
		.headers = headers,
		.body = body,
		.body_len = body != NULL ? strlen(body) : 0,
		.on_header = on_header };
	struct http_req *r;

	memset(g, 0, sizeof(*g));
	if (strcmp(path, "/stream") == 0)
		spec.on_data = on_data;
	assert_int_equal(http_request(t.client, &spec, on_done, g, &r, NULL), 0);
	free(url);
	return r;
}

static void ask(struct got *g, const char *method, const char *path, const char *body)
{
	begin(g, method, path, body);
	rig_run_until(t.loop, &g->done);
}

static bool stream_there(void *arg)
{
	return h.stream != NULL;
}

static bool deferred_there(void *arg)
{
	return h.deferred != NULL;
}

/* Runs the loop until what a callback of the handlers' sets is there. */
static void run_until(bool (*there)(void *arg), void *arg)
{
	for (int i = 0; i < 3000 && !there(arg); i++)
		rig_run_for(t.loop, 10);
	assert_true(there(arg));
}

static void maps_paths_and_queries(void **state)
{
	struct got g;

	ask(&g, "GET", "/vms/a%2Fb%20c?q=x%26y+z&q=2", NULL);
	assert_int_equal(g.status, 200);
	assert_string_equal(g.type, "application/json");
	assert_string_equal(g.body,
		"{\"name\":\"a/b c\",\"action\":null,\"q\":\"x&y z\",\"agent\":\"test\"}\n");
	assert_int_equal(h.uid, getuid());
	assert_int_equal(h.pid, getpid());
	ask(&g, "POST", "/vms/web/start", NULL);
	assert_string_equal(
		g.body, "{\"name\":\"web\",\"action\":\"start\",\"q\":null,\"agent\":\"test\"}\n");
	ask(&g, "GET", "/vms/web?q", NULL);
	assert_non_null(strstr(g.body, "\"q\":\"\""));
	ask(&g, "HEAD", "/vms/web", NULL);
	assert_int_equal(g.status, 200);
	assert_int_equal(h.calls, 4);
}

static void refuses_what_it_does_not_know(void **state)
{
	struct got g;

	ask(&g, "GET", "/nowhere", NULL);
	assert_int_equal(g.status, 404);
	assert_string_equal(g.type, "application/json");
	assert_non_null(strstr(g.body, "{\"error\":{\"code\":\"not-found\",\"message\":"));
	assert_non_null(strstr(g.body, "\"vm\":null,\"state\":null}}"));
	ask(&g, "GET", "/vms", NULL);
	assert_int_equal(g.status, 404);
	ask(&g, "GET", "/vms/a/b/c", NULL);
	assert_int_equal(g.status, 404);
	ask(&g, "PUT", "/vms/web", "{}");
	assert_int_equal(g.status, 405);
	assert_string_equal(g.allow, "GET, DELETE");
	ask(&g, "GET", "/vms/%zz", NULL);
	assert_int_equal(g.status, 400);
	ask(&g, "GET", "/vms/web?q=%00", NULL);
	assert_int_equal(g.status, 400);
	assert_int_equal(h.calls, 0);
}

static void reads_numbers(void **state)
{
	struct got g;

	ask(&g, "GET", "/number", NULL);
	assert_int_equal(h.number, -5);
	ask(&g, "GET", "/number?n=-12", NULL);
	assert_int_equal(h.number, -12);
	assert_string_equal(g.body, "ok\n");
	assert_string_equal(g.type, "text/plain");
	const char *const bad[] = { "", "%201", "1x", "%2B1", "--1", "99999999999999999999", "-" };
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		char *path = str_printf("/number?n=%s", bad[i]);

		ask(&g, "GET", path, NULL);
		assert_int_equal(g.status, 400);
		assert_non_null(strstr(g.body, "n is not a number"));
		free(path);
	}
}

static void takes_bodies(void **state)
{
	char *big = malloc((1 << 20) + 2);
	struct got g;

	ask(&g, "POST", "/body", "[1, 2]");
	assert_int_equal(g.status, 202);
	assert_string_equal(g.body, "[1,2]\n");
	ask(&g, "POST", "/body", NULL);
	assert_string_equal(g.body, "\"nothing\"\n");
	ask(&g, "POST", "/body", "{nonsense");
	assert_int_equal(g.status, 400);
	assert_non_null(strstr(g.body, "\"code\":\"invalid\""));
	assert_non_null(strstr(g.body, "\"vm\":\"web\",\"state\":\"running\""));
	assert_int_equal(h.calls, 3);

	memset(big, ' ', (1 << 20) + 1);
	big[0] = '7';
	big[1 << 20] = '\0';
	ask(&g, "POST", "/body", big);
	assert_int_equal(g.status, 202);
	big[1 << 20] = ' ';
	big[(1 << 20) + 1] = '\0';
	ask(&g, "POST", "/body", big);
	assert_int_equal(g.status, 413);
	assert_int_equal(h.calls, 4);
	free(big);
}

static void gives_each_error_its_status(void **state)
{
	static const struct {
		int code, status;
	} table_of[] = { { ENOENT, 404 }, { EEXIST, 409 }, { EBUSY, 409 }, { EBADFD, 409 },
		{ EINVAL, 400 }, { EACCES, 403 }, { ENOTSUP, 501 }, { ETIMEDOUT, 504 },
		{ EIO, 500 } };
	struct got g;

	for (size_t i = 0; i < ARRAY_LEN(table_of); i++) {
		char *path = str_printf("/fail?code=%d", table_of[i].code);

		ask(&g, "GET", path, NULL);
		assert_int_equal(g.status, table_of[i].status);
		assert_non_null(strstr(g.body, "\"message\":\"it went wrong\",\"vm\":\"web\""));
		free(path);
	}
}

static void answers_later(void **state)
{
	struct got g, other;
	struct err err;

	begin(&g, "GET", "/defer", NULL);
	run_until(deferred_there, NULL);
	/* A request that waits holds up nobody. */
	ask(&other, "GET", "/vms/web", NULL);
	assert_int_equal(other.status, 200);
	assert_false(g.done);
	err_set(&err, -EBUSY, "busy with start");
	reply_err(h.deferred, &err, "web", "starting");
	assert_false(g.done);
	rig_run_until(t.loop, &g.done);
	assert_int_equal(g.status, 409);
	assert_int_equal(h.gone, 0);
}

static void notices_a_client_that_leaves(void **state)
{
	struct got g;

	http_cancel(begin(&g, "GET", "/defer", NULL));
	rig_run_until(t.loop, &g.done);
	assert_int_equal(h.gone, 0);
	struct http_req *r = begin(&g, "GET", "/defer", NULL);
	run_until(deferred_there, NULL);
	http_cancel(r);
	rig_run_until(t.loop, &h.was_gone);
	assert_int_equal(h.gone, 1);
}

static void a_request_without_gone_outlives_its_client(void **state)
{
	struct got g;

	h.no_gone = true;
	struct http_req *r = begin(&g, "GET", "/defer?q=7", NULL);
	run_until(deferred_there, NULL);
	http_cancel(r);
	rig_run_until(t.loop, &g.done);
	rig_run_for(t.loop, 50);
	assert_string_equal(request_query(h.deferred, "q"), "7");
	assert_null(request_header(h.deferred, "X-Agent"));
	reply_text(h.deferred, 200, "text/plain", "late", 4);
	assert_int_equal(h.gone, 0);
}

static int raw_connect(const char *text)
{
	int fd;

	assert_int_equal(unix_connect(t.path, &fd, NULL), 0);
	assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	return fd;
}

static bool readable(void *arg)
{
	struct pollfd p = { .fd = *(int *)arg, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

static void a_half_closed_client_still_gets_its_answer(void **state)
{
	int fd = raw_connect("GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
	char text[512] = "";

	run_until(deferred_there, NULL);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	rig_run_for(t.loop, 50);
	assert_int_equal(h.gone, 0);
	reply_text(h.deferred, 200, "text/plain", "here", 4);
	run_until(readable, &fd);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	assert_non_null(strstr(text, "\r\n\r\nhere"));
	close(fd);

	fd = raw_connect("GET /defer HTTP/1.1\r\nHost: x\r\n\r\n");
	h.deferred = NULL;
	run_until(deferred_there, NULL);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	rig_run_for(t.loop, 50);
	close(fd);
	rig_run_until(t.loop, &h.was_gone);
}

static void serves_pieces_and_pipelines(void **state)
{
	const char one[] = "GET /vms/a HTTP/1.1\r\nHost: x\r\n\r\n";
	char two[256], text[2048] = "";
	size_t got = 0;
	int fd = raw_connect("");

	for (size_t i = 0; i < strlen(one); i++) {
		assert_int_equal(write(fd, one + i, 1), 1);
		if (i % 7 == 0)
			rig_run_for(t.loop, 1);
	}
	snprintf(two, sizeof(two), "%s%s", one, one);
	assert_int_equal(write(fd, two, strlen(two)), strlen(two));
	for (int i = 0; i < 1000 && h.calls < 3; i++)
		rig_run_for(t.loop, 5);
	rig_run_for(t.loop, 20);
	got = (size_t)read(fd, text, sizeof(text) - 1);
	text[got] = '\0';
	char *p = text;
	for (int i = 0; i < 3; i++) {
		p = strstr(p, "\"name\":\"a\"");
		assert_non_null(p);
		p++;
	}
	close(fd);
	fd = raw_connect("no HTTP at all\r\n\r\n");
	run_until(readable, &fd);
	close(fd);
	/* A client that leaves in the middle of its body. */
	fd = raw_connect("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
	rig_run_for(t.loop, 20);
	close(fd);
	rig_run_for(t.loop, 20);
	assert_int_equal(h.calls, 3);
}

static void streams_in_order_and_ends(void **state)
{
	struct got g;
	struct buf want = { 0 };

	begin(&g, "GET", "/stream", NULL);
	run_until(stream_there, NULL);
	rig_run_for(t.loop, 20);
	assert_string_equal(g.type, "application/x-ndjson");
	for (int i = 0; i < 1000; i++) {
		char line[64];
		int n = snprintf(line, sizeof(line), "{\"seq\":%d}\n", i);

		assert_int_equal(stream_write(h.stream, line, (size_t)n), 0);
		buf_add(&want, line, (size_t)n);
		if (i % 100 == 0)
			rig_run_for(t.loop, 1);
	}
	rig_run_until(t.loop, &h.was_drained);
	assert_int_equal(stream_queued(h.stream), 0);
	assert_int_equal(stream_write(h.stream, "end\n", 4), 0);
	buf_adds(&want, "end\n");
	stream_end(h.stream);
	rig_run_until(t.loop, &g.done);
	assert_int_equal(g.code, 0);
	assert_string_equal(buf_str(&g.data), buf_str(&want));
	assert_int_equal(h.gone, 0);
	buf_finish(&want);
	buf_finish(&g.data);
}

static void a_stream_notices_that_its_client_left(void **state)
{
	struct got g;
	struct http_req *r = begin(&g, "GET", "/stream", NULL);

	run_until(stream_there, NULL);
	stream_write(h.stream, "x\n", 2);
	rig_run_for(t.loop, 20);
	http_cancel(r);
	rig_run_until(t.loop, &h.was_gone);
	assert_int_equal(h.gone, 1);
	buf_finish(&g.data);
}

static void cuts_off_a_slow_client(void **state)
{
	char block[4096];
	int fd, ret = 0;
	size_t sent = 0;

	memset(block, 'x', sizeof(block));
	h.max_queue = 65536;
	fd = raw_connect("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	run_until(stream_there, NULL);
	/* The kernel's buffers are filled too before the queue begins to grow. */
	for (int i = 0; i < 10000 && ret == 0; i++) {
		ret = stream_write(h.stream, block, sizeof(block));
		if (ret == 0) {
			sent += sizeof(block);
			assert_true(stream_queued(h.stream) <= h.max_queue);
			uv_run(t.loop, UV_RUN_NOWAIT);
		}
	}
	assert_int_equal(ret, -EPIPE);
	assert_true(sent >= h.max_queue);
	if (h.stream != NULL)
		assert_int_equal(stream_write(h.stream, "y", 1), -EPIPE);
	rig_run_until(t.loop, &h.was_gone);
	assert_int_equal(h.gone, 1);
	close(fd);

	/* One that does not fit at all, before anything was sent. */
	h.was_gone = false;
	fd = raw_connect("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	run_until(stream_there, NULL);
	h.max_queue = 65536;
	for (ret = 0; ret == 0;)
		ret = stream_write(h.stream, block, sizeof(block));
	rig_run_until(t.loop, &h.was_gone);
	assert_int_equal(h.gone, 2);
	close(fd);
}

static void what_is_queued_goes_out_after_the_end(void **state)
{
	struct buf all = { 0 };
	struct got g;

	for (int i = 0; i < 100000; i++)
		buf_printf(&all, "%d,", i);
	h.max_queue = all.len;
	begin(&g, "GET", "/stream", NULL);
	run_until(stream_there, NULL);
	assert_int_equal(stream_write(h.stream, all.data, all.len), 0);
	stream_end(h.stream);
	rig_run_until(t.loop, &g.done);
	assert_int_equal(g.code, 0);
	assert_int_equal(g.data.len, all.len);
	assert_memory_equal(g.data.data, all.data, all.len);
	buf_finish(&g.data);
	buf_finish(&all);
}

static void the_end_answers_what_is_open(void **state)
{
	struct got deferred, streaming;

	begin(&deferred, "GET", "/defer", NULL);
	run_until(deferred_there, NULL);
	begin(&streaming, "GET", "/stream", NULL);
	run_until(stream_there, NULL);
	stream_write(h.stream, "last\n", 5);
	int idle = raw_connect("");
	int half = raw_connect("GET /vms/x HT");
	rig_run_for(t.loop, 20);
	stop_server();
	assert_int_equal(h.gone, 2);
	rig_run_until(t.loop, &deferred.done);
	rig_run_until(t.loop, &streaming.done);
	assert_int_equal(deferred.status, 503);
	assert_non_null(strstr(deferred.body, "stopping"));
	assert_int_equal(streaming.code, 0);
	assert_string_equal(buf_str(&streaming.data), "last\n");
	buf_finish(&streaming.data);
	close(idle);
	close(half);
}

static void an_answer_after_the_end_is_dropped(void **state)
{
	struct got g;

	h.no_gone = true;
	begin(&g, "GET", "/defer", NULL);
	run_until(deferred_there, NULL);
	stop_server();
	rig_run_until(t.loop, &g.done);
	assert_int_equal(g.status, 503);
	reply_json(h.deferred, 200, json_true());
}

/* Asks as another uid and gid with one supplementary group; returns the HTTP status. */
static int status_as(uid_t uid, gid_t gid, gid_t extra)
{
	int pipefd[2], status = 0;
	char text[256];
	ssize_t n = 0;
	pid_t pid;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		int fd;

		if (setgroups(1, &extra) != 0 || setgid(gid) != 0 || setuid(uid) != 0 ||
			unix_connect(t.path, &fd, NULL) != 0 || fcntl(fd, F_SETFL, 0) != 0)
			_exit(1);
		dprintf(fd, "GET /vms/web HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
		n = read(fd, text, sizeof(text) - 1);
		_exit(n > 0 && write(pipefd[1], text, (size_t)n) == n ? 0 : 1);
	}
	close(pipefd[1]);
	fcntl(pipefd[0], F_SETFL, O_NONBLOCK);
	run_until(readable, &pipefd[0]);
	n = read(pipefd[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	sscanf(text, "HTTP/1.1 %d", &status);
	close(pipefd[0]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	return status;
}

static void checks_who_asks(void **state)
{
	if (getuid() != 0) {
		print_message("skip: changing the uid needs root\n");
		skip();
	}
	assert_int_equal(chmod(t.dir, 0755), 0);
	assert_int_equal(status_as(12345, 12345, 12346), 403);
	assert_int_equal(h.calls, 0);
	stop_server();
	start_server(12346);
	assert_int_equal(status_as(12345, 12345, 12345), 403);
	assert_int_equal(status_as(12345, 12345, 12346), 200);
	assert_int_equal(status_as(12345, 12346, 12345), 200);
	assert_int_equal(status_as(0, 0, 0), 200);
}

static void many_requests_leave_nothing(void **state)
{
	unsigned fds = 0;
	struct got g;

	for (int i = 0; i < 2000; i++) {
		ask(&g, "GET", "/vms/web", NULL);
		assert_int_equal(g.status, 200);
		begin(&g, "GET", "/defer", NULL);
		while (h.deferred == NULL)
			uv_run(t.loop, UV_RUN_ONCE);
		struct request *rq = h.deferred;
		h.deferred = NULL;
		reply_text(rq, 200, "text/plain", "x", 1);
		rig_run_until(t.loop, &g.done);
		assert_int_equal(g.status, 200);
		if (i == 10)
			fds = rig_count_fds();
	}
	assert_int_equal(rig_count_fds(), fds);
}

static void turn_begins(uv_prepare_t *prepare)
{
	h.this_turn = 0;
}

static bool all_called(void *arg)
{
	return h.calls == *(unsigned *)arg;
}

/*
 * Many requests that take their time come at once: the loop gets to other things between them, all
 * are answered, and one whose client goes away while it waits is not carried out.
 */
static void shares_the_loop(void **state)
{
	enum {
		MANY = 60,
		GONE = 5
	};
	unsigned expected = MANY - GONE;
	uv_prepare_t prepare;
	char answer[16];
	int fds[MANY];

	uv_prepare_init(t.loop, &prepare);
	uv_prepare_start(&prepare, turn_begins);
	for (int i = 0; i < MANY; i++)
		fds[i] = raw_connect("GET /busy HTTP/1.1\r\nHost: x\r\n\r\n");
	while (h.calls == 0)
		uv_run(t.loop, UV_RUN_NOWAIT);
	/* Not one of those that were taken up at once. */
	for (int i = MANY - GONE; i < MANY; i++)
		close(fds[i]);
	run_until(all_called, &expected);
	rig_run_for(t.loop, 50);
	assert_int_equal(h.calls, expected);
	/* 2 ms are two of them, or three; and those that have waited. */
	assert_in_range(h.most_a_turn, 1, 8);
	for (int i = 0; i < MANY - GONE; i++) {
		assert_true(read(fds[i], answer, 15) == 15);
		assert_memory_equal(answer, "HTTP/1.1 200 OK", 15);
		close(fds[i]);
	}
	uv_close((uv_handle_t *)&prepare, NULL);
	uv_run(t.loop, UV_RUN_NOWAIT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

static bool drained;

static void on_drained_all(void *arg)
{
	assert_false(drained);
	drained = true;
}

static int quiesce(uint64_t timeout_ms)
{
	int fd;

	drained = false;
	fd = server_quiesce(t.server, timeout_ms, on_drained_all, NULL);
	assert_true(fd >= 0);
	assert_false(drained);
	return fd;
}

/* Who has connected is waited for; what a handler owes, and who connects afterwards, is not. */
static void what_was_accepted_is_answered(void **state)
{
	static const char request[] = "GET /vms/web HTTP/1.0\r\n\r\n";
	struct server_opts opts = { .routes = table, .nroutes = ARRAY_LEN(table), .group = -1 };
	char answer[512] = "";
	struct got held, late;
	int fd, silent = -1;

	begin(&held, "GET", "/defer", NULL);
	run_until(deferred_there, NULL);
	assert_int_equal(unix_connect(t.path, &silent, NULL), 0);
	rig_run_for(t.loop, 50); /* it is accepted */
	fd = quiesce(60000);
	begin(&late, "GET", "/vms/late", NULL);
	rig_run_for(t.loop, 100);
	assert_false(drained);
	assert_int_equal(write(silent, request, strlen(request)), strlen(request));
	rig_run_until(t.loop, &drained);
	rig_run_for(t.loop, 10);
	assert_true(read(silent, answer, sizeof(answer) - 1) > 0);
	assert_non_null(strstr(answer, " 200 "));
	close(silent);
	stop_server();
	rig_run_until(t.loop, &held.done);
	assert_int_equal(held.status, 503);
	assert_false(late.done);
	/* The socket is as good as ever for who goes on with it. */
	assert_int_equal(server_create(&t.server, t.loop, fd, &opts, NULL), 0);
	rig_run_until(t.loop, &late.done);
	assert_int_equal(late.status, 200);
}

/* Somebody who says nothing holds nobody up for long. */
static void the_silent_are_given_up(void **state)
{
	int fd, silent = -1;

	assert_int_equal(unix_connect(t.path, &silent, NULL), 0);
	rig_run_for(t.loop, 50);
	fd = quiesce(100);
	rig_run_until(t.loop, &drained);
	stop_server();
	close(silent);
	close(fd);
}

static void nothing_to_wait_for(void **state)
{
	struct got g;
	int fd;

	ask(&g, "GET", "/vms/web", NULL);
	fd = quiesce(60000);
	rig_run_until(t.loop, &drained);
	stop_server();
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(shares_the_loop),
		TEST(maps_paths_and_queries),
		TEST(refuses_what_it_does_not_know),
		TEST(reads_numbers),
		TEST(takes_bodies),
		TEST(gives_each_error_its_status),
		TEST(answers_later),
		TEST(notices_a_client_that_leaves),
		TEST(a_request_without_gone_outlives_its_client),
		TEST(a_half_closed_client_still_gets_its_answer),
		TEST(serves_pieces_and_pipelines),
		TEST(streams_in_order_and_ends),
		TEST(a_stream_notices_that_its_client_left),
		TEST(cuts_off_a_slow_client),
		TEST(what_is_queued_goes_out_after_the_end),
		TEST(the_end_answers_what_is_open),
		TEST(an_answer_after_the_end_is_dropped),
		TEST(checks_who_asks),
		TEST(many_requests_leave_nothing),
		TEST(what_was_accepted_is_answered),
		TEST(the_silent_are_given_up),
		TEST(nothing_to_wait_for),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
