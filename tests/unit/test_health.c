/* Health checks against servers, an agent and a console that this test plays itself. */
#include "tests/unit/rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/json.h"
#include "supervisor/health-check.h"
#include "supervisor/health.h"
#include "supervisor/probe.h"

/* ---- a server that says one thing to everybody ---- */

struct client {
	uv_poll_t poll;
	int fd;
	struct server *s;
};

struct server {
	uv_poll_t poll;
	int fd;
	unsigned port, accepted;
	const char *says; /* NULL: it keeps silent */
	bool waits;       /* until it has heard something; then it says it and hangs up */
	struct client clients[64];
};

static void heard(uv_poll_t *poll, int status, int events)
{
	struct client *c = container_of(poll, struct client, poll);
	char request[4096];

	recv(c->fd, request, sizeof(request), MSG_DONTWAIT);
	send(c->fd, c->s->says, strlen(c->s->says), MSG_NOSIGNAL);
	shutdown(c->fd, SHUT_WR);
	uv_poll_stop(poll);
}

static void accepted(uv_poll_t *poll, int status, int events)
{
	struct server *s = container_of(poll, struct server, poll);
	struct client *c = &s->clients[s->accepted];

	assert_true(s->accepted < ARRAY_LEN(s->clients));
	c->s = s;
	c->fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(c->fd >= 0);
	s->accepted++;
	uv_poll_init(poll->loop, &c->poll, c->fd);
	if (s->waits)
		uv_poll_start(&c->poll, UV_READABLE, heard);
	else if (s->says != NULL)
		send(c->fd, s->says, strlen(s->says), MSG_NOSIGNAL);
}

static void server_start(struct server *s, uv_loop_t *loop, const char *says, bool waits)
{
	struct sockaddr_in in = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);

	*s = (struct server){ .says = says, .waits = waits };
	s->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s->fd, (struct sockaddr *)&in, sizeof(in)), 0);
	assert_int_equal(listen(s->fd, 16), 0);
	assert_int_equal(getsockname(s->fd, (struct sockaddr *)&in, &len), 0);
	s->port = ntohs(in.sin_port);
	assert_int_equal(uv_poll_init(loop, &s->poll, s->fd), 0);
	uv_poll_start(&s->poll, UV_READABLE, accepted);
}

static void server_stop(struct server *s, uv_loop_t *loop)
{
	for (unsigned i = 0; i < s->accepted; i++) {
		uv_close((uv_handle_t *)&s->clients[i].poll, NULL);
		close(s->clients[i].fd);
	}
	uv_close((uv_handle_t *)&s->poll, NULL);
	close(s->fd);
	uv_run(loop, UV_RUN_NOWAIT);
}

/* ---- probes ---- */

static void test_parse(void **state)
{
	static const char *const good[] = { "tcp:1", "tcp:65535", "ssh", "agent",
		"console:login:", "http://:80/", "http://:8080/healthz?x=1", "http://host/x",
		"http://[::1]:80/x", "http:///x", "console:^(a|b){2}$" };
	static const char *const bad[] = { "", "tcp", "tcp:", "tcp:0", "tcp:65536", "tcp:22x",
		"ssh:22", "http:/x", "https://x/", "http://:x/", "http://:0/", "http://a b/",
		"http://u@h/", "http://h?x", "http://:123456789/", "console:", "console:(", "Agent",
		"console:a{2,1}" };
	struct health_check c;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		if (health_check_parse(&c, good[i], &err) < 0)
			fail_msg("%s: %s", good[i], err.msg);
		health_check_finish(&c);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (health_check_parse(&c, bad[i], &err) != -EINVAL)
			fail_msg("%s was taken", bad[i]);
	}
}

struct answer {
	bool come;
	struct err err;
};

static void answered(void *arg, const struct err *err)
{
	struct answer *a = arg;

	assert_false(a->come);
	a->come = true;
	a->err = err != NULL ? *err : (struct err){ 0 };
}

static int probe(uv_loop_t *loop, struct http_client *http, const char *address, const char *text,
	struct err *err)
{
	struct probe_target t = {
		.loop = loop, .http = http, .address = address, .timeout_ms = 20000
	};
	struct answer a = { 0 };
	struct health_check c;
	struct probe *p;
	int r;

	assert_int_equal(health_check_parse(&c, text, NULL), 0);
	r = probe_start(&p, &c, &t, answered, &a, err);
	assert_false(a.come);
	if (r == 0) {
		rig_run_until(loop, &a.come);
		*err = a.err;
		r = a.err.code;
	}
	health_check_finish(&c);
	return r;
}

static void test_probes(void **state)
{
	uv_loop_t *loop = rig_loop();
	struct server s;
	struct http_client *http;
	char text[64];
	struct err err;

	assert_int_equal(http_client_create(&http, loop, &err), 0);
	server_start(&s, loop, NULL, false);
	snprintf(text, sizeof(text), "tcp:%u", s.port);
	assert_int_equal(probe(loop, http, "127.0.0.1", text, &err), 0);
	assert_int_equal(probe(loop, http, NULL, text, &err), -EADDRNOTAVAIL);
	assert_int_equal(probe(loop, http, "nonsense", text, &err), -EINVAL);
	server_stop(&s, loop);
	assert_int_equal(probe(loop, http, "127.0.0.1", text, &err), -ECONNREFUSED);
	assert_non_null(strstr(err.msg, "connect to 127.0.0.1 port "));
	assert_int_equal(probe(loop, http, "::1", text, &err) < 0, true);
	assert_int_equal(probe(loop, http, "127.0.0.1", "agent", &err), -ENOTSUP);

	server_start(&s, loop, "HTTP/1.1 204 No Content\r\n\r\n", true);
	snprintf(text, sizeof(text), "http://:%u/healthz", s.port);
	setenv("http_proxy", "http://127.0.0.1:1", 1);
	assert_int_equal(probe(loop, http, "127.0.0.1", text, &err), 0);
	unsetenv("http_proxy");
	s.says = "HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n";
	assert_int_equal(probe(loop, http, "127.0.0.1", text, &err), 0);
	s.says = "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
	assert_int_equal(probe(loop, http, "127.0.0.1", text, &err), -EIO);
	assert_string_equal(err.msg, "the answer is HTTP status 503");
	snprintf(text, sizeof(text), "http://127.0.0.1:%u", s.port);
	s.says = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nwell";
	assert_int_equal(probe(loop, http, NULL, text, &err), 0);
	server_stop(&s, loop);
	assert_int_equal(probe(loop, http, NULL, text, &err), -ECONNREFUSED);
	http_client_destroy(http, NULL, NULL);
	rig_loop_finish(loop);
}

/* ssh is the one check whose port is fixed, so its probe is made by hand. */
static void test_ssh(void **state)
{
	static const struct {
		const char *says;
		int code;
	} rows[] = {
		{ "SSH-2.0-dropbear\r\n", 0 },
		{ "Welcome\r\nto this\nSSH-2.0-x\n", 0 },
		{ "HTTP/1.1 400 Bad\r\n", -ECONNRESET },
		{ "SSH-2.0 without an end", -ECONNRESET },
		{ "", -ECONNRESET },
	};
	uv_loop_t *loop = rig_loop();
	struct probe_target t = { .loop = loop, .address = "127.0.0.1" };
	struct health_check c = { .kind = HEALTH_SSH };
	struct server s;
	struct probe *p;
	struct err err;
	char big[8192];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct answer a = { 0 };

		server_start(&s, loop, rows[i].says, false);
		c.port = s.port;
		assert_int_equal(probe_start(&p, &c, &t, answered, &a, &err), 0);
		while (s.accepted == 0)
			rig_run_for(loop, 1);
		shutdown(s.clients[0].fd, SHUT_WR);
		rig_run_until(loop, &a.come);
		assert_int_equal(a.err.code, rows[i].code);
		server_stop(&s, loop);
	}
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	server_start(&s, loop, big, false);
	c.port = s.port;
	{
		struct answer a = { 0 };

		assert_int_equal(probe_start(&p, &c, &t, answered, &a, &err), 0);
		rig_run_until(loop, &a.come);
		assert_int_equal(a.err.code, -EPROTO);
	}
	server_stop(&s, loop);
	rig_loop_finish(loop);
}

static void test_cancel(void **state)
{
	static const char *const texts[] = { "tcp:%u", "http://:%u/x" };
	uv_loop_t *loop = rig_loop();
	struct http_client *http;
	struct server s;
	struct err err;
	char text[64];

	assert_int_equal(http_client_create(&http, loop, &err), 0);
	server_start(&s, loop, NULL, false);
	for (int wait = 0; wait < 2; wait++) {
		for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
			struct probe_target t = { .loop = loop,
				.http = http,
				.address = "127.0.0.1",
				.timeout_ms = 20000 };
			struct answer a = { 0 };
			struct health_check c;
			struct probe *p;

			snprintf(text, sizeof(text), texts[i], s.port);
			assert_int_equal(health_check_parse(&c, text, NULL), 0);
			assert_int_equal(probe_start(&p, &c, &t, answered, &a, &err), 0);
			if (wait == 1 && i == 1)
				rig_run_for(loop, 20);
			probe_cancel(p);
			rig_run_for(loop, 20);
			assert_false(a.come);
			health_check_finish(&c);
		}
	}
	server_stop(&s, loop);
	http_client_destroy(http, NULL, NULL);
	rig_loop_finish(loop);
}

/* ---- the checks of a machine ---- */

struct rig {
	uv_loop_t *loop;
	struct http_client *http;
	struct health *h;
	struct strv checks;
	struct health_spec spec;
	struct buf diary;
	bool no_address;
	/* The agent: NULL: it keeps silent. */
	hv_reply_fn *reply;
	void *reply_arg;
	unsigned pings, forgotten;
	int agent; /* 0 answers, -1 is silent, else the error */
	const char *destroy_at;
};

static void write_down(struct rig *r, const char *word)
{
	buf_printf(&r->diary, "%s ", word);
	if (r->destroy_at != NULL && strcmp(r->destroy_at, word) == 0) {
		health_destroy(r->h);
		r->h = NULL;
	}
}

static void on_ready(void *arg)
{
	write_down(arg, "ready");
}

static void on_changed(void *arg, enum health_state state)
{
	struct rig *r = arg;

	assert_int_equal(health_state(r->h), state);
	write_down(r, health_state_name(state));
}

static void on_act(void *arg)
{
	write_down(arg, "act");
}

static bool on_address(void *arg, unsigned *port, char out[64])
{
	strcpy(out, "127.0.0.1");
	return !((struct rig *)arg)->no_address;
}

static void on_ping(void *arg, uint64_t timeout_ms, hv_reply_fn *reply, void *reply_arg)
{
	struct rig *r = arg;

	assert_null(r->reply);
	r->pings++;
	r->reply = reply;
	r->reply_arg = reply_arg;
}

static void on_forget(void *arg, const void *reply_arg)
{
	struct rig *r = arg;

	assert_ptr_equal(r->reply_arg, reply_arg);
	r->reply = NULL;
	r->forgotten++;
}

static void init(struct rig *r, const char *const *checks)
{
	struct err err;

	*r = (struct rig){ 0 };
	r->loop = rig_loop();
	assert_int_equal(http_client_create(&r->http, r->loop, &err), 0);
	for (; *checks != NULL; checks++)
		strv_add(&r->checks, *checks);
	r->spec = (struct health_spec){
		.checks = &r->checks, .interval_ms = 5, .timeout_ms = 20000, .retries = 3
	};
}

static void start(struct rig *r)
{
	struct health_callbacks cb = { .ready = on_ready,
		.changed = on_changed,
		.act = on_act,
		.address = on_address,
		.ping = on_ping,
		.forget = on_forget,
		.arg = r };
	struct err err;

	if (health_create(&r->h, r->loop, r->http, &r->spec, &cb, &err) < 0)
		fail_msg("%s", err.msg);
}

static void finish(struct rig *r)
{
	health_destroy(r->h);
	http_client_destroy(r->http, NULL, NULL);
	rig_loop_finish(r->loop);
	strv_finish(&r->checks);
	buf_finish(&r->diary);
}

/* Lets the agent answer the ping that comes next. */
static void pong(struct rig *r, int code)
{
	struct err err;
	hv_reply_fn *reply;

	for (int i = 0; i < 20000 && r->reply == NULL; i++)
		rig_run_for(r->loop, 1);
	assert_non_null(r->reply);
	reply = r->reply;
	r->reply = NULL;
	if (code < 0)
		err_set(&err, code, "no agent");
	reply(r->reply_arg, NULL, code < 0 ? &err : NULL);
}

static void until(struct rig *r, const char *text)
{
	for (int i = 0; i < 20000 && strstr(buf_str(&r->diary), text) == NULL; i++)
		rig_run_for(r->loop, 1);
	if (strstr(buf_str(&r->diary), text) == NULL)
		fail_msg("'%s' lacks '%s'", buf_str(&r->diary), text);
}

static void diary_is(struct rig *r, const char *text)
{
	assert_string_equal(buf_str(&r->diary), text);
}

static void test_rounds(void **state)
{
	static const char *const checks[] = { "agent", NULL };
	struct rig r;
	char *text;
	json_t *j;

	init(&r, checks);
	start(&r);
	assert_int_equal(health_state(r.h), HEALTH_STARTING);
	j = health_json(r.h);
	text = json_text(j);
	assert_string_equal(text,
		"{\"state\":\"starting\",\"ready\":false,\"checks\":[{\"check\":\"agent\","
		"\"ok\":null,\"error\":null,\"last\":null}]}");
	free(text);
	json_decref(j);
	pong(&r, 0);
	diary_is(&r, "ready ");
	assert_int_equal(health_state(r.h), HEALTH_HEALTHY);
	/* Two failures are none; three are. */
	pong(&r, -EIO);
	pong(&r, -EIO);
	pong(&r, 0);
	pong(&r, -EIO);
	pong(&r, -EIO);
	diary_is(&r, "ready ");
	pong(&r, -EIO);
	diary_is(&r, "ready unhealthy act ");
	assert_string_equal(health_failed_check(r.h), "agent");
	assert_string_equal(health_failed_reason(r.h), "no agent");
	j = health_json(r.h);
	assert_string_equal(json_str(j, "state"), "unhealthy");
	assert_string_equal(
		json_str(json_array_get(json_arr(j, "checks"), 0), "error"), "no agent");
	assert_true(json_is_false(json_object_get(json_array_get(json_arr(j, "checks"), 0), "ok")));
	json_decref(j);
	/* It is told once; what is to be done is asked for again after as many more. */
	pong(&r, -EIO);
	pong(&r, -EIO);
	diary_is(&r, "ready unhealthy act ");
	pong(&r, -EIO);
	diary_is(&r, "ready unhealthy act act ");
	pong(&r, 0);
	diary_is(&r, "ready unhealthy act act healthy ");
	assert_true(health_ready(r.h));
	finish(&r);
}

static void test_start_period(void **state)
{
	static const char *const checks[] = { "agent", NULL };
	struct rig r;

	init(&r, checks);
	r.spec.start_period_ms = 3600000;
	r.spec.retries = 1;
	start(&r);
	for (int i = 0; i < 5; i++)
		pong(&r, -EIO);
	diary_is(&r, "");
	assert_int_equal(health_state(r.h), HEALTH_STARTING);
	/* Once it was ready the period is over. */
	pong(&r, 0);
	pong(&r, -EIO);
	diary_is(&r, "ready unhealthy act ");
	/* The guest boots anew: all from the beginning. */
	health_boot(r.h);
	assert_int_equal(health_state(r.h), HEALTH_STARTING);
	assert_false(health_ready(r.h));
	buf_clear(&r.diary);
	for (int i = 0; i < 5; i++)
		pong(&r, -EIO);
	diary_is(&r, "");
	pong(&r, 0);
	diary_is(&r, "ready ");
	finish(&r);
}

/* Never ready: unhealthy when the period is over, and ready and healthy at once later. */
static void test_never_ready(void **state)
{
	static const char *const checks[] = { "agent", NULL };
	struct rig r;

	init(&r, checks);
	r.spec.start_period_ms = 1;
	r.spec.retries = 2;
	start(&r);
	pong(&r, -EIO);
	pong(&r, -EIO);
	diary_is(&r, "unhealthy act ");
	pong(&r, 0);
	diary_is(&r, "unhealthy act ready healthy ");
	finish(&r);
}

static void test_timeout(void **state)
{
	char text[32];
	const char *checks[] = { "agent", text, "ssh", NULL };
	struct server s;
	struct rig r;

	init(&r, (const char *const[]){ NULL });
	server_start(&s, r.loop, NULL, false);
	snprintf(text, sizeof(text), "http://:%u/", s.port);
	for (size_t i = 0; i < 2; i++)
		strv_add(&r.checks, checks[i]);
	r.spec.timeout_ms = 50;
	r.spec.retries = 1;
	start(&r);
	/* Neither answers: both are forgotten at the deadline. */
	until(&r, "act");
	assert_string_equal(health_failed_check(r.h), "agent");
	assert_string_equal(health_failed_reason(r.h), "no answer in 50 ms");
	assert_true(r.forgotten >= 1);
	diary_is(&r, "unhealthy act ");
	server_stop(&s, r.loop);
	finish(&r);
}

static void test_pause(void **state)
{
	static const char *const checks[] = { "agent", NULL };
	unsigned pings;
	struct rig r;

	init(&r, checks);
	r.spec.retries = 2;
	start(&r);
	pong(&r, 0);
	pong(&r, -EIO);
	while (r.reply == NULL)
		rig_run_for(r.loop, 1);
	/* With a probe under way. */
	health_pause(r.h);
	assert_int_equal(r.forgotten, 1);
	pings = r.pings;
	rig_run_for(r.loop, 50);
	assert_int_equal(r.pings, pings);
	health_boot(r.h);
	rig_run_for(r.loop, 50);
	assert_int_equal(r.pings, pings);
	health_resume(r.h);
	health_resume(r.h);
	/* The failure before the pause does not count. */
	pong(&r, -EIO);
	diary_is(&r, "ready ");
	pong(&r, -EIO);
	diary_is(&r, "ready unhealthy act ");
	finish(&r);
}

static void test_console(void **state)
{
	static const char *const checks[] = { "console:^login: $", "console:READY", NULL };
	struct rig r;

	init(&r, checks);
	r.spec.start_period_ms = 3600000;
	start(&r);
	assert_true(health_wants_console(r.h));
	rig_run_for(r.loop, 30);
	health_console(r.h, "GETTING READY");
	health_console(r.h, "login: root");
	rig_run_for(r.loop, 30);
	diary_is(&r, "");
	health_console(r.h, "login: ");
	assert_false(health_wants_console(r.h));
	diary_is(&r, ""); /* not from within the call */
	until(&r, "ready");
	/* Nothing is left to be asked: no timer keeps the loop awake. */
	assert_int_equal(uv_backend_timeout(r.loop), uv_loop_alive(r.loop) ? -1 : 0);
	health_boot(r.h);
	assert_true(health_wants_console(r.h));
	health_console(r.h, "READY");
	health_console(r.h, "login: ");
	until(&r, "ready ready");
	finish(&r);
}

static void test_console_missing(void **state)
{
	static const char *const checks[] = { "console:READY", NULL };
	struct rig r;

	init(&r, checks);
	r.spec.start_period_ms = 20;
	start(&r);
	until(&r, "act");
	diary_is(&r, "unhealthy act ");
	assert_string_equal(health_failed_reason(r.h), "not seen on the console");
	finish(&r);

	/* One that may have come before we looked is no failure, and no readiness. */
	init(&r, checks);
	r.spec.late = true;
	start(&r);
	rig_run_for(r.loop, 60);
	diary_is(&r, "");
	assert_int_equal(health_state(r.h), HEALTH_HEALTHY);
	assert_false(health_ready(r.h));
	health_console(r.h, "READY");
	until(&r, "ready");
	finish(&r);

	/* One that had been ready still is. */
	init(&r, checks);
	r.spec.late = r.spec.ready = true;
	start(&r);
	assert_false(health_wants_console(r.h));
	rig_run_for(r.loop, 30);
	diary_is(&r, "");
	assert_int_equal(health_state(r.h), HEALTH_HEALTHY);
	assert_true(health_ready(r.h));
	finish(&r);
}

static void test_no_address(void **state)
{
	static const char *const checks[] = { "tcp:22", NULL };
	struct rig r;

	init(&r, checks);
	r.no_address = true;
	start(&r);
	until(&r, "act");
	assert_string_equal(health_failed_reason(r.h), "the machine's address is not known");
	finish(&r);
}

static void test_destroy(void **state)
{
	static const char *const checks[] = { "agent", "console:x", NULL };
	static const char *const at[] = { "ready", "unhealthy", "act", "healthy" };
	struct rig r;

	for (size_t i = 0; i < ARRAY_LEN(at); i++) {
		init(&r, checks);
		r.spec.retries = 1;
		r.destroy_at = at[i];
		start(&r);
		health_console(r.h, "x");
		for (int k = 0; k < 3 && r.h != NULL; k++)
			pong(&r, k == 1 ? -EIO : 0);
		assert_null(r.h);
		finish(&r);
	}
	/* With a probe under way. */
	init(&r, checks);
	start(&r);
	while (r.reply == NULL)
		rig_run_for(r.loop, 1);
	finish(&r);
	assert_int_equal(r.forgotten, 1);
	health_destroy(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_probes),
		cmocka_unit_test(test_ssh),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_start_period),
		cmocka_unit_test(test_never_ready),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_console_missing),
		cmocka_unit_test(test_no_address),
		cmocka_unit_test(test_destroy),
	};

	return cmocka_run_group_tests_name("health", tests, NULL, NULL);
}
