/* The command line as a child process, against a server that serves canned answers. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/server.h"

static struct {
	uv_loop_t *loop;
	char *dir, *path, *drover;
	bool has_console, cuts_off;
	struct server *server;
	struct buf asked; /* "METHOD PATH?QUERY BODY\n", as far as handlers note it */
	struct stream *stream;
	struct request *held;
	int last_since;
} t;

static void answer(struct request *rq, int status, const char *text)
{
	json_t *v = NULL;

	assert_int_equal(json_parse(text, strlen(text), &v, NULL), 0);
	reply_json(rq, status, v);
}

static void refuse(struct request *rq, int code, const char *msg, const char *state)
{
	struct err err;

	err_set(&err, code, "%s", msg);
	reply_err(rq, &err, request_param(rq, "name"), state);
}

static void list(void *arg, struct request *rq)
{
	answer(rq, 200,
		request_query(rq, "all") != NULL
			? "[]"
			: "[{\"name\":\"web\",\"state\":\"running\",\"restarts\":2}]");
}

static void show(void *arg, struct request *rq)
{
	const char *name = request_param(rq, "name");
	char *text;

	if (strcmp(name, "web") != 0 && strcmp(name, "off") != 0) {
		refuse(rq, -ENOENT, "there is no machine 'x'", NULL);
		return;
	}
	text = str_printf(
		"{\"name\":\"%s\",\"state\":\"%s\",\"console\":null,"
		"\"ssh\":{\"user\":\"me\",\"identity\":\"/key\",\"address\":\"127.0.0.9\"}}",
		name, strcmp(name, "web") == 0 ? "running" : "stopped");
	answer(rq, 200, text);
	free(text);
}

/* The name says what is to happen. */
static void act(void *arg, struct request *rq)
{
	const char *name = request_param(rq, "name"), *wait = request_query(rq, "wait");

	buf_printf(&t.asked, "%s %s wait=%s disks=%s\n",
		request_param(rq, "action") != NULL ? request_param(rq, "action") : "DELETE", name,
		wait != NULL ? wait : "none",
		request_query(rq, "disks") != NULL ? request_query(rq, "disks") : "none");
	if (strcmp(name, "missing") == 0)
		refuse(rq, -ENOENT, "there is no machine 'missing'", NULL);
	else if (strcmp(name, "no-kernel") == 0)
		refuse(rq, -ENOENT, "vm no-kernel: kernel: no such file", "failed");
	else if (strcmp(name, "paused") == 0)
		refuse(rq, -EBADFD, "vm paused: cannot do that while it is paused", "paused");
	else if (strcmp(name, "busy") == 0)
		refuse(rq, -EBUSY, "vm busy: busy with start", "starting");
	else if (strcmp(name, "broken") == 0)
		refuse(rq, -EIO, "vm broken: it broke", "failed");
	else if (strcmp(name, "hold") == 0)
		t.held = rq;
	else
		answer(rq, strcmp(name, "slow") == 0 || wait == NULL ? 202 : 200,
			"{\"id\":7,\"verb\":\"start\",\"state\":\"running\",\"step\":\"boot\"}");
}

static void qmp(void *arg, struct request *rq)
{
	json_t *body = NULL;
	char *text;

	assert_int_equal(request_json(rq, &body, NULL), 0);
	text = json_text(body);
	buf_printf(&t.asked, "%s%s\n", request_query(rq, "write") != NULL ? "write " : "", text);
	free(text);
	if (str_eq(json_str(body, "execute"), "nonsense"))
		answer(rq, 200, "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"}}");
	else if (str_eq(json_str(body, "execute"), "human-monitor-command"))
		answer(rq, 200, "{\"return\":\"line 1\\r\\nline 2\\r\\n\"}");
	else
		answer(rq, 200, "{\"return\":{\"status\":\"running\"}}");
	json_decref(body);
}

static void log_text(void *arg, struct request *rq)
{
	buf_printf(&t.asked, "boot=%s follow=%s\n",
		request_query(rq, "boot") != NULL ? request_query(rq, "boot") : "none",
		request_query(rq, "follow") != NULL ? request_query(rq, "follow") : "none");
	reply_text(rq, 200, "text/plain", "line 1\r\nline 2 without end", 26);
}

static void stream_gone(void *arg)
{
	t.stream = NULL;
}

static void events(void *arg, struct request *rq)
{
	static const char one[] = "{\"seq\":9,\"time\":\"T\",\"kind\":\"vm\",\"name\":\"web\","
				  "\"event\":\"state\",\"from\":\"a\",\"to\":\"b\"}\n";
	struct stream_opts opts = { .type = "application/x-ndjson", .gone = stream_gone };
	int64_t since = 0;

	request_query_int(rq, "since", 0, &since, NULL);
	t.last_since = (int)since;
	if (request_query(rq, "follow") == NULL) {
		reply_text(rq, 200, "application/x-ndjson", one, strlen(one));
		return;
	}
	t.stream = request_stream(rq, &opts);
	stream_write(t.stream, one, strlen(one));
}

static const char *query(struct request *rq, const char *name)
{
	const char *value = request_query(rq, name);

	return value != NULL ? value : "none";
}

/* A console that greets, gives back what it gets in capitals, and ends after "q". */
static void console(void *arg, struct request *rq)
{
	static const char hello[] = "j 66\n{\"attached\":5,\"boot\":1,\"position\":0,\"now\":6,"
				    "\"writes\":true,\"a\":\"b\"}o 6\nhello\n";
	struct stream_opts opts = { .type = "application/vnd.drover.console", .gone = stream_gone };

	if (strcmp(request_param(rq, "name"), "web") != 0) {
		refuse(rq, -ENOENT, "there is no machine 'x'", NULL);
		return;
	}
	if (!t.has_console) {
		refuse(rq, -EBADFD, "no console", "stopped");
		return;
	}
	buf_printf(&t.asked, "%s replay=%s force=%s from=%s\n", query(rq, "write"),
		query(rq, "replay"), query(rq, "force"), query(rq, "from"));
	t.stream = request_stream(rq, &opts);
	stream_write(t.stream, hello, strlen(hello));
	if (t.cuts_off) {
		stream_end(t.stream);
		t.stream = NULL;
	}
	t.cuts_off = false;
}

static void typed(void *arg, struct request *rq)
{
	size_t len;
	const char *data = request_body(rq, &len);
	struct buf echo = { 0 };

	if (t.stream == NULL) {
		refuse(rq, -EBADFD, "you are not at its console any more", "running");
		return;
	}
	buf_printf(&echo, "o %zu\n", len);
	for (size_t i = 0; i < len; i++) {
		char c = data[i] >= 'a' && data[i] <= 'z' ? (char)(data[i] - 32) : data[i];

		/* As a guest's terminal shows Ctrl-C. */
		buf_add(&echo, c == 3 ? "~" : &c, 1);
	}
	stream_write(t.stream, echo.data, echo.len);
	buf_finish(&echo);
	reply_text(rq, 204, "text/plain", "", 0);
	if (memchr(data, 'q', len) == NULL)
		return;
	stream_write(t.stream, "j 12\n{\"end\":true}", 17);
	stream_end(t.stream);
}

static void plan(void *arg, struct request *rq)
{
	answer(rq, 200,
		"{\"actions\":[{\"op\":\"restart\",\"kind\":\"vm\",\"name\":\"web\",\"reason\":"
		"\"memory: 512M -> 1G\",\"keys\":[\"memory\"]}]}");
}

static void reload(void *arg, struct request *rq)
{
	answer(rq, 422,
		"{\"error\":{\"code\":\"config\",\"message\":\"2 mistakes\",\"vm\":null,\"state\":"
		"null},\"errors\":[{\"file\":\"/a.ini\",\"line\":3,\"message\":\"bad key\"},"
		"{\"file\":\"/b.ini\",\"line\":0,\"message\":\"gone\"}]}");
}

static void pull(void *arg, struct request *rq)
{
	static const char ok[] =
		"{\"event\":\"start\",\"ref\":\"r/i:1\",\"cached\":0,\"layers\":[{\"digest\":"
		"\"sha256:abcdefabcdefabcdef\",\"size\":1024}]}\n"
		"{\"event\":\"layer\",\"ref\":\"r/i:1\",\"digest\":\"sha256:abcdefabcdefabcdef\","
		"\"cached\":false}\n{\"event\":\"done\",\"ref\":\"r/i:1\"}\n";
	static const char bad[] =
		"{\"event\":\"error\",\"ref\":\"r/none:1\",\"code\":\"not-found\","
		"\"message\":\"r/none:1: no such manifest\"}\n";
	json_t *body = NULL;
	const char *text;

	assert_int_equal(request_json(rq, &body, NULL), 0);
	text = str_eq(json_str(body, "reference"), "r/i:1") ? ok : bad;
	json_decref(body);
	reply_text(rq, 200, "application/x-ndjson", text, strlen(text));
}

static void version(void *arg, struct request *rq)
{
	answer(rq, 200, "{\"version\":\"9.8.7\",\"api\":1,\"pid\":1}");
}

static const struct route routes_of_test[] = {
	{ "GET", "/vms", list },
	{ "GET", "/vms/{name}", show },
	{ "DELETE", "/vms/{name}", act },
	{ "GET", "/vms/{name}/log", log_text },
	{ "POST", "/vms/{name}/qmp", qmp },
	{ "GET", "/vms/{name}/console", console },
	{ "POST", "/vms/{name}/console", typed },
	{ "POST", "/vms/{name}/{action}", act },
	{ "GET", "/events", events },
	{ "GET", "/plan", plan },
	{ "POST", "/reload", reload },
	{ "POST", "/images/pull", pull },
	{ "GET", "/version", version },
};

static void set_true(void *arg)
{
	*(bool *)arg = true;
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
	struct server_opts opts = {
		.routes = routes_of_test, .nroutes = ARRAY_LEN(routes_of_test), .group = (gid_t)-1
	};
	const char *b = getenv("B");
	char cwd[1024];
	int fd;

	memset(&t, 0, sizeof(t));
	t.loop = rig_loop();
	t.dir = rig_tmp();
	t.path = path_join(t.dir, "api.sock");
	assert_non_null(getcwd(cwd, sizeof(cwd)));
	t.drover = b != NULL && b[0] == '/'
			   ? str_printf("%s/drover", b)
			   : str_printf("%s/%s/drover", cwd, b != NULL ? b : "build");
	assert_int_equal(unix_listen(t.path, 0600, 64, &fd, NULL), 0);
	assert_int_equal(setenv("DROVER_SOCKET", t.path, 1), 0);
	return server_create(&t.server, t.loop, fd, &opts, NULL);
}

static int teardown(void **state)
{
	if (t.server != NULL)
		stop_server();
	unsetenv("DROVER_SOCKET");
	buf_finish(&t.asked);
	rig_tmp_finish(t.dir);
	free(t.path);
	free(t.drover);
	rig_loop_finish(t.loop);
	return 0;
}

static struct {
	bool done;
	int status;
	char out[4096], err[4096];
} r;

static void ran(void *arg, const struct child_result *res, const struct err *err)
{
	r.done = true;
	assert_non_null(res);
	r.status = res->status.signaled ? 1000 + res->status.code : res->status.code;
	snprintf(r.out, sizeof(r.out), "%s", res->out);
	/* The last newline of messages is cut off by child_run(). */
	snprintf(r.err, sizeof(r.err), "%s%s", res->errout, res->errout_len > 0 ? "\n" : "");
}

static struct child_run *begin(const char *const *args, const char *input)
{
	struct strv argv = { 0 };
	struct child_spec spec = { .file = t.drover };
	struct child_run_opts opts = {
		.input = input, .input_len = input != NULL ? strlen(input) : 0, .timeout_ms = 30000
	};
	struct child_run *run;
	struct err err = { 0 };

	strv_add(&argv, "drover");
	for (; *args != NULL; args++)
		strv_add(&argv, *args);
	spec.argv = argv.v;
	memset(&r, 0, sizeof(r));
	if (child_run(&run, t.loop, &spec, &opts, ran, NULL, &err) != 0)
		fail_msg("%s", err.msg);
	strv_finish(&argv);
	return run;
}

/* Runs drover; its status, output and messages are in r. */
#define DROVER(...)                                                                                \
	(begin((const char *const[]){ __VA_ARGS__, NULL }, NULL), rig_run_until(t.loop, &r.done),  \
		r.status)

static void lists_and_shows(void **state)
{
	assert_int_equal(DROVER("list"), 0);
	assert_true(str_starts(r.out, "NAME  STATE    ADDRESS"));
	assert_non_null(strstr(r.out, "\nweb   running  -"));
	assert_null(strchr(r.out, '\033'));
	assert_int_equal(DROVER("list", "-o", "json"), 0);
	assert_string_equal(r.out, "[{\"name\":\"web\",\"state\":\"running\",\"restarts\":2}]\n");
	assert_int_equal(DROVER("list", "--all", "-ojson"), 0);
	assert_string_equal(r.out, "[]\n");
	assert_int_equal(DROVER("show", "web", "-o", "json"), 0);
	assert_true(str_starts(r.out, "{\"name\":\"web\""));
	/* In a path these would be another one: that of all machines, or of something above. */
	for (size_t i = 0; i < 3; i++) {
		static const char *const names[] = { "", ".", ".." };

		assert_int_equal(DROVER("show", names[i]), 3);
		assert_true(str_starts(r.err, "drover: there is no machine '"));
		assert_int_equal(DROVER("stop", names[i]), 3);
		assert_int_equal(DROVER("rm", names[i]), 3);
		assert_int_equal(DROVER("why", names[i]), 3);
		assert_int_equal(DROVER("log", names[i]), 3);
		assert_int_equal(DROVER("console", names[i]), 3);
		assert_int_equal(DROVER("ssh", names[i]), 3);
		assert_int_equal(DROVER("qmp", names[i], "query-status"), 3);
	}
	assert_int_equal(DROVER("show", "nope", "web"), 3);
	assert_string_equal(r.err, "drover: there is no machine 'x'\n");
	assert_non_null(strstr(r.out, "name:     web\n"));
	assert_int_equal(DROVER("show", "web", "off", "-o", "json"), 0);
	assert_true(str_starts(r.out, "[{\"name\":\"web\""));
}

static const char *last_in(const char *text, const char *what)
{
	const char *at = NULL;

	while ((text = strstr(text, what)) != NULL)
		at = text++;
	return at;
}

static void statuses_tell_programs_apart(void **state)
{
	assert_int_equal(DROVER("start", "web"), 0);
	assert_string_equal(r.out, "web started\n");
	assert_int_equal(DROVER("start", "missing"), 3);
	assert_string_equal(r.err, "drover: there is no machine 'missing'\n");
	assert_string_equal(r.out, "");
	assert_int_equal(DROVER("start", "no-kernel"), 1);
	assert_int_equal(DROVER("pause", "paused"), 4);
	assert_int_equal(DROVER("stop", "busy"), 4);
	assert_int_equal(DROVER("kill", "broken"), 1);
	assert_string_equal(r.err, "drover: vm broken: it broke\n");
	assert_int_equal(DROVER("frobnicate"), 2);
	assert_int_equal(DROVER("strat", "web"), 2);
	assert_string_equal(r.err,
		"drover: there is no verb 'strat'; did you mean 'start'?\n"
		"usage: drover [--socket PATH] [-o json] VERB ...; `drover help` lists the verbs\n");
	assert_int_equal(DROVER("start"), 2);
	assert_string_equal(r.err,
		"drover: start needs NAME...\n"
		"usage: drover start [--discard] [--wait] [--no-wait] [--timeout SECONDS] NAME...\n");
	assert_int_equal(DROVER("start", "--timeout", "soon", "web"), 2);
	assert_int_equal(DROVER("start", "broken", "web", "missing"), 1);
	assert_string_equal(r.out, "web started\n");
	assert_int_equal(DROVER("events", "--since", "soon"), 2);
	assert_true(str_starts(r.err, "drover: --since: 'soon' is not a whole number\nusage: "));
	assert_int_equal(DROVER("log", "--boot", "x", "web"), 2);
	assert_int_equal(DROVER("help"), 0);
	/* One heading for each group. */
	assert_ptr_equal(strstr(r.out, "\nWhat happened\n"), last_in(r.out, "\nWhat happened\n"));
	assert_non_null(strstr(r.out, "\nWhat happened\n"));
	assert_int_equal(DROVER("help", "start"), 0);
	/* Of what is only the first word of verbs: those, and no others. */
	assert_int_equal(DROVER("image", "--help"), 0);
	assert_true(str_starts(r.out, "usage: drover image VERB"));
	assert_non_null(strstr(r.out, "\n  image list "));
	assert_null(strstr(r.out, "start"));
	assert_int_equal(DROVER("help", "image"), 0);
	assert_true(str_starts(r.out, "usage: drover image VERB"));
	assert_int_equal(DROVER("help", "nonsense"), 2);
}

static void waits_unless_told_not_to(void **state)
{
	assert_int_equal(DROVER("start", "web"), 0);
	assert_int_equal(DROVER("restart", "--timeout", "2m", "web"), 0);
	assert_int_equal(DROVER("stop", "--no-wait", "web"), 0);
	assert_string_equal(r.out, "web is being stopped\n");
	assert_int_equal(DROVER("rm", "web", "--disks", "--timeout=5"), 0);
	assert_string_equal(buf_str(&t.asked), "start web wait=3600 disks=none\n"
					       "restart web wait=120 disks=none\n"
					       "stop web wait=none disks=none\n"
					       "DELETE web wait=5 disks=1\n");
	assert_int_equal(DROVER("start", "slow", "-t", "3"), 1);
	assert_string_equal(
		r.err, "drover: vm slow: not yet started after 3 s (operation 7, at boot)\n");
	assert_int_equal(DROVER("resume", "web", "-o", "json"), 0);
	assert_true(str_starts(r.out, "{\"id\":7,"));
	assert_int_equal(DROVER("resume", "web", "web", "-o", "json"), 0);
	assert_true(str_starts(r.out, "[{\"id\":7,"));
}

/* All requests are under way at once: the first's answer comes only when the second was asked. */
static void several_names_go_together(void **state)
{
	begin((const char *const[]){ "start", "hold", "web", NULL }, NULL);
	for (int i = 0; i < 3000 && strstr(buf_str(&t.asked), "start web") == NULL; i++)
		rig_run_for(t.loop, 10);
	assert_non_null(t.held);
	assert_false(r.done);
	answer(t.held, 200, "{\"id\":1}");
	rig_run_until(t.loop, &r.done);
	assert_int_equal(r.status, 0);
	assert_string_equal(r.out, "hold started\nweb started\n");
}

static void says_that_the_daemon_is_gone(void **state)
{
	char *gone = str_printf("%s/gone.sock", t.dir);

	assert_int_equal(DROVER("--socket", gone, "list"), 5);
	assert_non_null(strstr(r.err, "drover: droverd is not reachable: there is no socket"));
	assert_non_null(strstr(r.err, gone));
	assert_int_equal(DROVER("--socket", gone, "start", "a", "b", "c"), 5);
	assert_null(strchr(strchr(r.err, '\n') + 1, '\n')); /* said once */
	assert_int_equal(DROVER("--socket", gone, "pull", "a", "b"), 5);
	assert_int_equal(DROVER("--socket", gone, "version"), 0);
	stop_server();
	assert_int_equal(DROVER("list"), 5);
	assert_int_equal(DROVER("events"), 5);
	free(gone);
}

static void finds_the_socket(void **state)
{
	char *dir = path_join(t.dir, "drover"), *path = path_join(dir, "api.sock");

	assert_int_equal(mkdir(dir, 0700), 0);
	assert_int_equal(symlink("../api.sock", path), 0);
	unsetenv("DROVER_SOCKET");
	setenv("XDG_RUNTIME_DIR", t.dir, 1);
	assert_int_equal(DROVER("list"), 0);
	/* The variable comes before the session's, the option before both. */
	setenv("DROVER_SOCKET", "/nonexistent/a", 1);
	assert_int_equal(DROVER("list"), 5);
	assert_non_null(strstr(r.err, "/nonexistent/a"));
	assert_int_equal(DROVER("list", "--socket", t.path), 0);
	unsetenv("DROVER_SOCKET");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(DROVER("list"), 5);
	assert_non_null(strstr(r.err, "'/run/drover/api.sock'"));
	unsetenv("XDG_RUNTIME_DIR");
	free(path);
	free(dir);
}

static void speaks_to_the_monitor(void **state)
{
	assert_int_equal(DROVER("qmp", "web", "{\"execute\":\"query-status\"}"), 0);
	assert_string_equal(r.out, "{\"return\":{\"status\":\"running\"}}\n");
	assert_int_equal(DROVER("qmp", "web", "stop", "nonsense", "cont"), 1);
	assert_string_equal(r.out, "{\"return\":{\"status\":\"running\"}}\n"
				   "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"no\"}}\n");
	assert_string_equal(buf_str(&t.asked),
		"{\"execute\":\"query-status\"}\n"
		"{\"execute\":\"stop\"}\n{\"execute\":\"nonsense\"}\n");
	assert_int_equal(DROVER("qmp", "web", "{broken"), 2);
	assert_int_equal(DROVER("qmp", "web", "x {broken"), 2);
	buf_clear(&t.asked);
	assert_int_equal(DROVER("qmp", "--write", "web", "eject {\"force\": true}"), 0);
	assert_int_equal(DROVER("hmp", "-w", "web", "info", "block"), 0);
	assert_string_equal(r.out, "line 1\nline 2\n");
	assert_string_equal(buf_str(&t.asked),
		"write {\"execute\":\"eject\",\"arguments\":{\"force\":true}}\n"
		"write {\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"info block\"}}\n");
	assert_int_equal(DROVER("hmp", "web", "x"), 0);
}

static void prints_logs_and_events(void **state)
{
	assert_int_equal(DROVER("log", "web", "--boot", "-1", "-f"), 0);
	assert_string_equal(r.out, "line 1\r\nline 2 without end");
	assert_string_equal(buf_str(&t.asked), "boot=-1 follow=1\n");
	assert_int_equal(DROVER("events", "--since", "4"), 0);
	assert_int_equal(t.last_since, 4);
	assert_string_equal(r.out, "T web state a -> b\n");
	assert_int_equal(DROVER("events", "-o", "json"), 0);
	assert_true(str_starts(r.out, "{\"seq\":9,\"time\":\"T\""));
}

static void follows_events_and_ends_by_ctrl_c(void **state)
{
	int p[2], status = 0;
	char text[256] = "";
	pid_t pid;

	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		execl(t.drover, "drover", "events", "--follow", NULL);
		_exit(99);
	}
	close(p[1]);
	fcntl(p[0], F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 3000 && read(p[0], text, sizeof(text) - 1) <= 0; i++)
		rig_run_for(t.loop, 10);
	/* What is written is there at once, though standard output is a pipe. */
	assert_string_equal(text, "T web state a -> b\n");
	/* Without --since it begins behind the last one. */
	assert_int_equal(t.last_since, 9);
	assert_int_equal(kill(pid, SIGINT), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 130);
	for (int i = 0; i < 3000 && t.stream != NULL; i++)
		rig_run_for(t.loop, 10);
	assert_null(t.stream);
	close(p[0]);
}

static void plans_and_reloads(void **state)
{
	assert_int_equal(DROVER("plan"), 0);
	assert_string_equal(r.out, "restart vm web: memory: 512M -> 1G\n");
	assert_int_equal(DROVER("plan", "-o", "json"), 0);
	assert_true(str_starts(r.out, "{\"actions\":[{\"op\":\"restart\""));
	assert_int_equal(DROVER("reload"), 1);
	assert_string_equal(r.out, "");
	assert_string_equal(r.err, "/a.ini:3: bad key\n/b.ini: gone\ndrover: 2 mistakes\n");
}

static void pulls(void **state)
{
	assert_int_equal(DROVER("pull", "r/i:1"), 0);
	assert_string_equal(r.out, "r/i:1: 1 layer, 1K\nr/i:1: abcdefabcdef done\nr/i:1: done\n");
	assert_int_equal(DROVER("pull", "r/none:1", "r/i:1", "-o", "json"), 3);
	assert_string_equal(r.err, "drover: r/none:1: no such manifest\n");
	assert_true(str_starts(r.out, "{\"event\":\"error\""));
	assert_non_null(strstr(r.out, "{\"event\":\"done\""));
}

static void tells_versions(void **state)
{
	assert_int_equal(DROVER("version"), 0);
	assert_non_null(strstr(r.out, "droverd 9.8.7\n"));
	assert_int_equal(DROVER("--version", "-o", "json"), 0);
	assert_non_null(strstr(r.out, "\"droverd\":{\"version\":\"9.8.7\""));
}

static void connects_to_the_console(void **state)
{
	assert_int_equal(DROVER("console", "web"), 4);
	assert_int_equal(DROVER("console", "nope"), 3);
	t.has_console = true;
	/* The input has a q: the run ends, and drover with it. */
	begin((const char *const[]){ "console", "web", NULL }, "abc\nq");
	rig_run_until(t.loop, &r.done);
	assert_int_equal(r.status, 0);
	assert_string_equal(r.out, "hello\nABC\nQ");
	assert_string_equal(buf_str(&t.asked), "alone replay=none force=none from=none\n");
	/* --once leaves at the end of the input although the console goes on. */
	buf_clear(&t.asked);
	begin((const char *const[]){ "console", "--once", "--share", "--force", "--no-replay",
		      "web", NULL },
		"abc");
	rig_run_until(t.loop, &r.done);
	assert_int_equal(r.status, 0);
	assert_string_equal(buf_str(&t.asked), "share replay=0 force=1 from=none\n");
	assert_int_equal(DROVER("console", "--read-only", "--force", "web"), 2);
}

/* Cut off in the middle: it comes again, for what is behind the six bytes that it has. */
static void comes_back_to_the_console(void **state)
{
	t.has_console = t.cuts_off = true;
	begin((const char *const[]){ "console", "web", NULL }, "xq");
	rig_run_until(t.loop, &r.done);
	assert_int_equal(r.status, 0);
	assert_string_equal(r.out, "hello\nhello\nXQ");
	assert_string_equal(buf_str(&t.asked), "alone replay=none force=none from=none\n"
					       "alone replay=none force=none from=6\n");
	assert_non_null(strstr(r.err, "the connection to droverd is lost"));
	assert_non_null(strstr(r.err, "connected again"));
}

static pid_t on_terminal(int *master, int *slave, const char *const *args)
{
	pid_t pid;

	assert_int_equal(openpty(master, slave, NULL, NULL, NULL), 0);
	assert_int_equal(fcntl(*master, F_SETFL, O_NONBLOCK), 0);
	pid = fork();
	if (pid == 0) {
		setsid();
		ioctl(*slave, TIOCSCTTY, 0);
		for (int fd = 0; fd < 3; fd++)
			dup2(*slave, fd);
		execv(t.drover, (char *const *)args);
		_exit(99);
	}
	return pid;
}

static void read_until(int fd, struct buf *text, const char *what)
{
	char chunk[256];

	for (int i = 0; i < 3000 && strstr(buf_str(text), what) == NULL; i++) {
		ssize_t n = read(fd, chunk, sizeof(chunk));

		if (n > 0)
			buf_add(text, chunk, (size_t)n);
		rig_run_for(t.loop, 10);
	}
	assert_non_null(strstr(buf_str(text), what));
}

static int await_exit(pid_t pid)
{
	int status = 0;
	pid_t got = 0;

	for (int i = 0; i < 3000 && got == 0; i++) {
		got = waitpid(pid, &status, WNOHANG);
		rig_run_for(t.loop, 10);
	}
	assert_int_equal(got, pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void puts_the_terminal_back(void **state)
{
	const char *const args[] = { "drover", "console", "web", NULL };
	static const int ends[] = { 0, SIGTERM };

	t.has_console = true;
	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		struct termios raw, after;
		struct buf text = { 0 };
		int master, slave;
		pid_t pid = on_terminal(&master, &slave, args);

		read_until(master, &text, "hello");
		assert_int_equal(tcgetattr(slave, &raw), 0);
		assert_int_equal(raw.c_lflag & (ICANON | ECHO | ISIG), 0);
		/* Ctrl-C is the guest's. */
		assert_int_equal(write(master, "ab\003", 3), 3);
		read_until(master, &text, "AB~");
		if (ends[i] == 0)
			assert_int_equal(write(master, "\035", 1), 1);
		else
			assert_int_equal(kill(pid, ends[i]), 0);
		assert_int_equal(await_exit(pid), ends[i] == 0 ? 0 : 128 + ends[i]);
		assert_int_equal(tcgetattr(slave, &after), 0);
		assert_int_equal(after.c_lflag & (ICANON | ECHO | ISIG), ICANON | ECHO | ISIG);
		close(master);
		close(slave);
		buf_finish(&text);
	}
}

static void runs_ssh_in_its_place(void **state)
{
	char *ssh = path_join(t.dir, "ssh"), *old = strdup(getenv("PATH"));
	char *path = str_printf("%s:%s", t.dir, old);
	static const char script[] = "#!/bin/sh\nprintf '[%s]' \"$@\"\nexit 7\n";

	assert_int_equal(file_write_atomic(ssh, script, strlen(script), 0755, false, NULL), 0);
	setenv("PATH", path, 1);
	assert_int_equal(DROVER("ssh", "web", "--", "ls", "-l", "a b"), 7);
	assert_string_equal(r.out,
		"[-o][StrictHostKeyChecking=no][-o][UserKnownHostsFile=/dev/null]"
		"[-o][LogLevel=ERROR][-i][/key][-o][IdentitiesOnly=yes][-l][me]"
		"[--][127.0.0.9][ls][-l][a b]");
	assert_int_equal(DROVER("ssh", "off"), 4);
	assert_int_equal(DROVER("ssh", "nope"), 3);
	/* Nobody listens on port 22 of this address. */
	assert_int_equal(DROVER("ssh", "--wait", "1", "web"), 1);
	assert_non_null(strstr(r.err, "does not answer on port 22 of 127.0.0.9"));
	setenv("PATH", old, 1);
	free(path);
	free(old);
	free(ssh);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(lists_and_shows),
		TEST(statuses_tell_programs_apart),
		TEST(waits_unless_told_not_to),
		TEST(several_names_go_together),
		TEST(says_that_the_daemon_is_gone),
		TEST(finds_the_socket),
		TEST(speaks_to_the_monitor),
		TEST(prints_logs_and_events),
		TEST(follows_events_and_ends_by_ctrl_c),
		TEST(plans_and_reloads),
		TEST(pulls),
		TEST(tells_versions),
		TEST(connects_to_the_console),
		TEST(comes_back_to_the_console),
		TEST(puts_the_terminal_back),
		TEST(runs_ssh_in_its_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
