/*
 * Calls of the API as the command line makes them, against a server that breaks off or talks
 * nonsense; and the terminal, which is put back however the program ends.
 */
#include "tests/unit/web.h"

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
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/programs.h"
#include "ctl/term.h"
#include "lib/file.h"
#include "lib/json.h"

struct fixture {
	char *dir, *path;
	struct web *web;
	struct ctl ctl;
	struct buf lines;
};

static void answer(struct web_request *rq, void *arg)
{
	if (strcmp(rq->path, "/vms") == 0) {
		web_answer(rq, 200, "", "[1,2]");
	} else if (strcmp(rq->path, "/echo") == 0) {
		char *text = str_printf("{\"method\":\"%s\",\"type\":\"%s\",\"body\":%s}",
			rq->method, web_header(rq, "Content-Type"),
			rq->body.len > 0 ? buf_str(&rq->body) : "null");

		web_answer(rq, 200, "", text);
		free(text);
	} else if (strcmp(rq->path, "/404") == 0) {
		web_answer(rq, 404, "",
			"{\"error\":{\"code\":\"not-found\",\"message\":\"there is no x\"}}");
	} else if (strcmp(rq->path, "/no-image") == 0) {
		web_answer(rq, 404, "",
			"{\"error\":{\"code\":\"not-found\",\"message\":\"no image\","
			"\"state\":\"failed\"}}");
	} else if (strcmp(rq->path, "/busy") == 0) {
		web_answer(rq, 409, "", "{\"error\":{\"code\":\"busy\",\"message\":\"busy\"}}");
	} else if (strcmp(rq->path, "/state") == 0) {
		web_answer(rq, 409, "", "{\"error\":{\"code\":\"wrong-state\",\"message\":\"s\"}}");
	} else if (strcmp(rq->path, "/odd") == 0) {
		web_answer(rq, 500, "", "{\"error\":{\"code\":\"odd\",\"message\":\"odd one\"}}");
	} else if (strcmp(rq->path, "/html") == 0) {
		web_answer(rq, 502, "", "<html>bad gateway</html>");
	} else if (strcmp(rq->path, "/html-200") == 0) {
		web_answer(rq, 200, "", "<html>welcome</html>");
	} else if (strcmp(rq->path, "/cut") == 0) {
		web_head(rq, 200, "", 100);
		web_send(rq, "{\"a\":", 5);
	} else if (strcmp(rq->path, "/silent") == 0) {
		web_stall(rq);
	} else if (strcmp(rq->path, "/lines") == 0) {
		static const char text[] = "one\ntwo\n\nthree without end";

		web_head(rq, 200, "", sizeof(text) - 1);
		for (size_t i = 0; i + 1 < sizeof(text); i++)
			web_send(rq, text + i, 1);
	} else {
		web_answer(rq, 200, "", "\"ok\"");
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->path = path_join(f->dir, "api.sock");
	f->web = web_start(f->path, answer, f);
	f->ctl.socket = f->path;
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	api_close(&f->ctl);
	/* A second time it does no harm. */
	api_close(&f->ctl);
	web_stop(f->web);
	buf_finish(&f->lines);
	rig_tmp_finish(f->dir);
	free(f->path);
	free(f);
	return 0;
}

/* What goes to standard error meanwhile is dropped. */
static int quietly(struct fixture *f, struct api_call *call)
{
	int saved = dup(STDERR_FILENO), null = open("/dev/null", O_WRONLY | O_CLOEXEC), r;

	dup2(null, STDERR_FILENO);
	r = api_run(&f->ctl, call);
	dup2(saved, STDERR_FILENO);
	close(saved);
	close(null);
	return r;
}

static void the_socket_is_found_in_order(void **state)
{
	struct fixture *f = *state;
	struct ctl c = { .socket = "/from/option" };
	char *session = path_join(f->dir, "drover/api.sock"), *folder = path_join(f->dir, "drover");
	char *p;

#define ASSERT_SOCKET(expected)                                                                    \
	do {                                                                                       \
		p = api_socket(&c);                                                                \
		assert_string_equal(p, expected);                                                  \
		free(p);                                                                           \
	} while (0)
	setenv("DROVER_SOCKET", "/from/environment", 1);
	setenv("XDG_RUNTIME_DIR", f->dir, 1);
	ASSERT_SOCKET("/from/option");
	c.socket = NULL;
	ASSERT_SOCKET("/from/environment");
	setenv("DROVER_SOCKET", "", 1);
	/* The session's only where there is one; a file is none. */
	ASSERT_SOCKET("/run/drover/api.sock");
	assert_int_equal(mkdir(folder, 0700), 0);
	assert_int_equal(file_write_atomic(session, "", 0, 0600, false, NULL), 0);
	ASSERT_SOCKET("/run/drover/api.sock");
	unlink(session);
	assert_int_equal(rename(f->path, session), 0);
	ASSERT_SOCKET(session);
	setenv("XDG_RUNTIME_DIR", "relative", 1);
	ASSERT_SOCKET("/run/drover/api.sock");
	unsetenv("DROVER_SOCKET");
	unsetenv("XDG_RUNTIME_DIR");
	ASSERT_SOCKET("/run/drover/api.sock");
	free(session);
	free(folder);
}

static void paths_are_encoded(void **state)
{
	struct api_call call = { 0 };

	api_path(&call, "/vms/%s/%s", "a/../b ?#%", "\xc3\xa4~.-_Z9");
	api_query(&call, "wait", "1&x=2");
	api_query_int(&call, "since", -5);
	assert_string_equal(buf_str(&call.path),
		"/vms/a%2F..%2Fb%20%3F%23%25/%C3%A4~.-_Z9?wait=1%26x%3D2&since=-5");
	api_finish(&call);
}

static void answers_are_json(void **state)
{
	struct fixture *f = *state;
	struct api_call call = { .method = "POST" }, get = { 0 }, html = { 0 };
	json_t *body = json_pack("{s:i}", "n", 7), *out = NULL;
	char *text;

	call.body = body;
	api_path(&call, "/echo");
	assert_int_equal(api_run(&f->ctl, &call), CTL_OK);
	text = json_text(call.json);
	assert_string_equal(
		text, "{\"method\":\"POST\",\"type\":\"application/json\",\"body\":{\"n\":7}}");
	assert_int_equal(call.status, 200);
	free(text);
	api_finish(&call);
	json_decref(body);
	api_path(&get, "/vms");
	assert_int_equal(api_get(&f->ctl, &out, &get), CTL_OK);
	assert_int_equal(json_array_size(out), 2);
	json_decref(out);
	out = NULL;
	api_path(&html, "/html-200");
	assert_int_equal(api_get(&f->ctl, &out, &html), CTL_FAILED);
	assert_null(out);
}

static void failures_have_their_statuses(void **state)
{
	static const struct {
		const char *path;
		int status;
		const char *message;
	} rows[] = {
		{ "/404", CTL_NOT_FOUND, "there is no x" },
		/* The machine is there, and has a state: something else is missing. */
		{ "/no-image", CTL_FAILED, "no image" },
		{ "/busy", CTL_WRONG_STATE, "busy" },
		{ "/state", CTL_WRONG_STATE, "s" },
		{ "/odd", CTL_FAILED, "odd one" },
		{ "/html", CTL_FAILED, "droverd answered with HTTP status 502" },
		{ "/silent", CTL_UNREACHABLE, "droverd did not answer in time" },
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct api_call call = { .timeout_ms = 1000 };

		if (strcmp(rows[i].path, "/silent") != 0)
			call.timeout_ms = 0;
		buf_adds(&call.path, rows[i].path);
		assert_int_equal(quietly(f, &call), rows[i].status);
		assert_string_equal(call.err.msg, rows[i].message);
		api_finish(&call);
	}
}

/* An answer that ends too early is none, whatever its status said. */
static void half_an_answer_is_none(void **state)
{
	struct fixture *f = *state;
	struct api_call call = { 0 };

	api_path(&call, "/cut");
	assert_int_equal(quietly(f, &call), CTL_UNREACHABLE);
	assert_string_equal(call.err.msg, "droverd has closed the connection");
	assert_null(call.json);
	api_finish(&call);
}

static void nobody_is_there(void **state)
{
	struct fixture *f = *state;
	struct api_call none = { 0 }, dead = { 0 };
	char *path = path_join(f->dir, "none"), *message;

	f->ctl.socket = path;
	api_path(&none, "/vms");
	assert_int_equal(quietly(f, &none), CTL_UNREACHABLE);
	message = str_printf(
		"droverd is not reachable: there is no socket '%s'; is it running?", path);
	assert_string_equal(none.err.msg, message);
	free(message);
	api_finish(&none);
	api_close(&f->ctl);
	web_stop(f->web);
	f->web = NULL;
	f->ctl.socket = f->path;
	api_path(&dead, "/vms");
	assert_int_equal(quietly(f, &dead), CTL_UNREACHABLE);
	message = str_printf(
		"droverd is not reachable: nobody listens on '%s'; is it running?", f->path);
	assert_string_equal(dead.err.msg, message);
	free(message);
	api_finish(&dead);
	free(path);
}

static void take_line(void *arg, const char *line, size_t len)
{
	struct fixture *f = arg;

	assert_int_equal(strlen(line), len);
	buf_printf(&f->lines, "[%s]", line);
}

static void lines_come_whole(void **state)
{
	struct fixture *f = *state;
	struct api_call call = { .line = take_line, .arg = f }, error = call;

	api_path(&call, "/lines");
	assert_int_equal(api_run(&f->ctl, &call), CTL_OK);
	assert_string_equal(buf_str(&f->lines), "[one][two][][three without end]");
	api_finish(&call);
	/* An error's body is no line of it. */
	buf_clear(&f->lines);
	api_path(&error, "/404");
	assert_int_equal(quietly(f, &error), CTL_NOT_FOUND);
	assert_int_equal(f->lines.len, 0);
	api_finish(&error);
}

static void several_at_once(void **state)
{
	struct fixture *f = *state;
	struct api_call calls[8] = { { 0 } };

	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		api_path(&calls[i], i % 2 ? "/404" : "/ok");
		assert_int_equal(api_start(&f->ctl, &calls[i]), CTL_OK);
	}
	api_wait(&f->ctl, calls, ARRAY_LEN(calls));
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		assert_true(calls[i].ended);
		assert_int_equal(calls[i].status, i % 2 ? 404 : 200);
		api_finish(&calls[i]);
	}
}

/* The terminal: in a process of its own on a pty. */

static int in_terminal(void (*body)(void), struct buf *out, int sig, bool *echo)
{
	struct winsize ws = { .ws_row = 33, .ws_col = 101 };
	struct termios tio;
	char chunk[256];
	int master, slave, status;
	ssize_t n;
	pid_t pid;

	assert_int_equal(openpty(&master, &slave, NULL, NULL, &ws), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(master);
		for (int i = 0; i < 3; i++)
			dup2(slave, i);
		body();
		_exit(0);
	}
	while (sig != 0 && (n = read(master, chunk, sizeof(chunk))) > 0) {
		buf_add(out, chunk, (size_t)n);
		if (strchr(buf_str(out), '!') != NULL)
			break;
	}
	if (sig != 0)
		kill(pid, sig);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(tcgetattr(slave, &tio), 0);
	*echo = (tio.c_lflag & ECHO) != 0;
	fcntl(master, F_SETFL, O_NONBLOCK);
	while ((n = read(master, chunk, sizeof(chunk))) > 0)
		buf_add(out, chunk, (size_t)n);
	close(master);
	close(slave);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void look_around(void)
{
	unsigned columns, rows;

	unsetenv("NO_COLOR");
	setenv("TERM", "xterm", 1);
	term_size(&columns, &rows);
	if (columns != 101 || rows != 33 || !term_output() || !term_colors())
		_exit(1);
	setenv("NO_COLOR", "1", 1);
	if (term_colors())
		_exit(2);
	/* An empty one is none (no-color.org). */
	setenv("NO_COLOR", "", 1);
	if (!term_colors())
		_exit(3);
	setenv("TERM", "dumb", 1);
	if (term_colors())
		_exit(4);
	dup2(open("/dev/null", O_RDWR), STDOUT_FILENO);
	term_size(&columns, &rows);
	if (columns != 80 || rows != 24 || term_output() || term_colors())
		_exit(5);
	term_hide_cursor();
	dup2(open("/dev/null", O_RDWR), STDIN_FILENO);
	_exit(term_raw() ? 6 : 0);
}

static void go_raw_and_back(void)
{
	struct termios tio;

	term_init();
	if (!term_raw() || tcgetattr(STDIN_FILENO, &tio) != 0 || (tio.c_lflag & ECHO) != 0)
		_exit(1);
	term_hide_cursor();
	term_restore();
	term_restore();
}

static void go_raw_and_wait(void)
{
	term_init();
	if (!term_raw())
		_exit(1);
	term_hide_cursor();
	if (write(STDOUT_FILENO, "!", 1) != 1)
		_exit(2);
	for (;;)
		pause();
}

static void terminals_are_put_back(void **state)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct buf out = { 0 };
	bool echo;

	assert_int_equal(in_terminal(look_around, &out, 0, &echo), 0);
	buf_clear(&out);
	assert_int_equal(in_terminal(go_raw_and_back, &out, 0, &echo), 0);
	assert_true(echo);
	/* The cursor is shown once for each time it was hidden. */
	assert_string_equal(buf_str(&out), "\033[?25l\033[?25h");
	for (size_t i = 0; i < ARRAY_LEN(signals); i++) {
		buf_clear(&out);
		assert_int_equal(
			in_terminal(go_raw_and_wait, &out, signals[i], &echo), 128 + signals[i]);
		assert_true(echo);
		assert_non_null(strstr(buf_str(&out), "\033[?25h"));
	}
	buf_finish(&out);
}

/* What is printed, and what happens when nobody reads it any more. */
static void printing(void **state)
{
	struct buf text = { 0 };
	int p[2], status;
	char got[100];
	json_t *v = json_pack("{s:s}", "a", "b\n");
	pid_t pid;
	ssize_t n;

	assert_int_equal(pipe(p), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		dup2(p[1], STDOUT_FILENO);
		print_json(v);
		buf_adds(&text, "text\n");
		print_text(&text);
		if (text.data != NULL)
			_exit(1);
		print_now("now\n", 4);
		close(p[0]);
		signal(SIGPIPE, SIG_IGN);
		/* Nobody reads: the program ends with 1. */
		dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO);
		print_now("never\n", 6);
		_exit(7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 1);
	n = read(p[0], got, sizeof(got) - 1);
	assert_true(n > 0);
	got[n] = '\0';
	assert_string_equal(got, "{\"a\":\"b\\n\"}\ntext\nnow\n");
	close(p[0]);
	close(p[1]);
	json_decref(v);
}

/* droverd beside the program or in ../sbin of it comes before any by PATH. */
static void what_belongs_together_is_used(void **state)
{
	struct fixture *f = *state;
	char *bin = path_join(f->dir, "bin"), *sbin = path_join(f->dir, "sbin");
	char *self = path_join(bin, "drover"), *beside = path_join(bin, "droverd");
	char *above = path_join(sbin, "droverd"), *path = path_join(f->dir, "path");
	char *by_path = path_join(path, "droverd");
	char *const *const places[] = { &by_path, &above, &beside };

	mkdir(bin, 0700);
	mkdir(sbin, 0700);
	mkdir(path, 0700);
	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		char command[1024], found[512] = "", *real;
		FILE *p;

		assert_int_equal(file_write_atomic(*places[i], "", 0, 0755, false, NULL), 0);
		snprintf(command, sizeof(command),
			"cp -n /proc/%d/exe '%s'; PATH='%s':$PATH '%s' --find-droverd", getpid(),
			self, path, self);
		p = popen(command, "re");
		assert_non_null(fgets(found, sizeof(found), p));
		assert_int_equal(pclose(p), 0);
		found[strcspn(found, "\n")] = '\0';
		real = realpath(found, NULL);
		assert_string_equal(real, *places[i]);
		free(real);
	}
	free(bin), free(sbin), free(self), free(beside), free(above), free(path), free(by_path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(the_socket_is_found_in_order),
		cmocka_unit_test(paths_are_encoded),
		TEST(answers_are_json),
		TEST(failures_have_their_statuses),
		TEST(half_an_answer_is_none),
		TEST(nobody_is_there),
		TEST(lines_come_whole),
		TEST(several_at_once),
		cmocka_unit_test(terminals_are_put_back),
		cmocka_unit_test(printing),
		TEST(what_belongs_together_is_used),
	};

	if (argc == 2 && strcmp(argv[1], "--find-droverd") == 0) {
		char *path = find_droverd();

		puts(path != NULL ? path : "none");
		free(path);
		return 0;
	}
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
