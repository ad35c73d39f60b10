/*
 * drover console: standard input and output at a machine's console, by the API: what the guest says
 * comes as a stream, what is typed goes in requests, one at a time. A stream that breaks off is
 * asked for again, from where it broke off.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ctl/api.h"
#include "ctl/console-frames.h"
#include "ctl/guest-screen.h"
#include "ctl/guest-text.h"
#include "ctl/print.h"
#include "ctl/term.h"
#include "lib/json.h"

#define LEAVE       0x1d /* Ctrl-] */
#define IN_CHUNK    4096
#define AGAIN_MS    250
#define GIVE_UP_MS  60000
#define NO_ROOM_MS  100
#define TYPE_MAX_MS 30000

struct console {
	struct ctl *c;
	const char *name;
	bool raw, once, plain; /* plain: the output goes as it is */

	/* The stream. */
	struct api_call stream;
	bool streaming;
	struct console_frames frames;
	int64_t attached, boot;
	int64_t wrote;     /* whom droverd knew us as when it went, if we wrote then */
	uint64_t position; /* of the next byte */
	uint64_t now;      /* what is before that was there when we came */
	bool known;        /* boot and position are */
	bool was_there;    /* we have been at the console once */
	bool ended;        /* the run has */
	json_t *turn;      /* who writes, to be told */
	bool writes, told; /* as it was told last */
	uint64_t lost_ms;  /* since when there is no stream; 0: there is one */
	uv_timer_t again;

	/* The input. */
	uv_poll_t input;
	uv_idle_t file; /* in its place: a file is always ready */
	bool is_file, input_open;
	char in[IN_CHUNK];
	size_t in_len, typed_len; /* of them typed_len are on their way */
	struct api_call typed;
	bool typing;
	uv_timer_t retry;
	bool left; /* by Ctrl-] or at the end of standard input */

	struct guest_text old_text;
	struct guest_screen screen;
	bool over;
	int ret;
};

static void attach(struct console *con);
static void watch_input(struct console *con);

static void notice(const struct console *con, const char *text)
{
	if (con->raw)
		fprintf(stderr, "\r\n[drover: %s]\r\n", text);
	else
		fprintf(stderr, "drover: %s\n", text);
}

static void finish(struct console *con, int ret)
{
	if (con->over)
		return;
	con->over = true;
	con->ret = ret;
}

/* ---- what comes ---- */

static void show(struct console *con, const char *data, size_t len, bool old)
{
	struct buf text = { 0 };

	if (con->plain) {
		print_now(data, len);
		return;
	}
	/* What asks the terminal something has had its answer long ago. */
	if (old)
		guest_text_add(&con->old_text, data, len, &text);
	else
		guest_screen_add(&con->screen, data, len, &text);
	if (text.len > 0)
		print_now(buf_str(&text), text.len);
	buf_finish(&text);
}

/* Below what there was before, where it is seen. */
static void tell_turn(struct console *con)
{
	bool had = con->writes, writes = json_flag(con->turn, "writes", false);
	const char *who = json_str(con->turn, "writers");
	char text[512];

	if (con->turn == NULL || con->position < con->now)
		return;
	con->writes = writes;
	if (writes && !had && con->told) {
		notice(con, "you write now");
	} else if (!writes && !ctl_flag(con->c, "read-only") && who != NULL) {
		snprintf(text, sizeof(text),
			"you read along: %s writes; --force takes over, --share shares with who shares",
			who);
		notice(con, text);
	}
	con->told = true;
	json_decref(con->turn);
	con->turn = NULL;
}

static void on_output(void *arg, const char *data, size_t len)
{
	struct console *con = arg;
	size_t old = 0;

	if (con->position < con->now)
		old = (size_t)MIN(con->now - con->position, (uint64_t)len);
	if (old > 0)
		show(con, data, old, true);
	if (len > old)
		show(con, data + old, len - old, false);
	con->position += len;
	tell_turn(con);
	if (con->left)
		watch_input(con);
}

static void take_turn(struct console *con, json_t *j)
{
	json_decref(con->turn);
	con->turn = json_incref(j);
	tell_turn(con);
}

static void hello(struct console *con, json_t *j)
{
	uint64_t start = (uint64_t)json_int(j, "position", 0);
	bool same = con->known && con->boot == json_int(j, "boot", 0);
	char text[128];

	con->attached = json_int(j, "attached", 0);
	con->boot = json_int(j, "boot", 0);
	con->now = (uint64_t)json_int(j, "now", 0);
	if (!con->was_there)
		con->raw = term_raw();
	if (!con->was_there && con->raw)
		fprintf(stderr, "Connected to %s; Ctrl-] leaves.\r\n", con->name);
	else if (con->was_there)
		notice(con, same ? "connected again" : "a new run of the machine");
	if (same && start > con->position) {
		snprintf(text, sizeof(text), "%llu bytes between are not kept any more",
			(unsigned long long)(start - con->position));
		notice(con, text);
	}
	con->position = start;
	con->known = true;
	con->ended = false;
	con->lost_ms = 0;
	take_turn(con, j);
	con->was_there = true;
	watch_input(con);
}

static void on_object(void *arg, const char *text, size_t len)
{
	struct console *con = arg;
	json_t *j = NULL;

	if (json_parse(text, len, &j, NULL) < 0)
		return;
	if (json_flag(j, "end", false))
		con->ended = true;
	else if (json_int(j, "attached", 0) != 0)
		hello(con, j);
	else
		take_turn(con, j);
	json_decref(j);
}

static void on_data(void *arg, const char *data, size_t len)
{
	struct console *con = arg;
	const struct console_frames_to to = { on_output, on_object, con };

	if (con->over || console_frames_add(&con->frames, data, len, &to) == 0)
		return;
	finish(con, ctl_fail("droverd's console stream makes no sense"));
}

/* ---- gone, and there again ---- */

/* A machine that will have another run by itself, or of which droverd knows nothing yet. */
static bool is_between(const struct api_call *call)
{
	static const char *const states[] = { "preparing", "starting", "restoring", "stopping",
		"backoff", "unknown", "saving", "migrating", "running", "paused" };
	const char *state = json_str(json_obj(call->json, "error"), "state");

	for (size_t i = 0; i < ARRAY_LEN(states); i++) {
		if (str_eq(state, states[i]))
			return true;
	}
	return false;
}

static void on_again(uv_timer_t *timer)
{
	attach(timer->data);
}

static void later(struct console *con, const char *text)
{
	if (con->lost_ms == 0) {
		con->lost_ms = uv_now(api_loop(con->c));
		notice(con, text);
	}
	uv_timer_start(&con->again, on_again, AGAIN_MS, 0);
}

static bool waits_too_long(const struct console *con)
{
	return con->lost_ms != 0 && uv_now(api_loop(con->c)) - con->lost_ms > GIVE_UP_MS;
}

static void on_stream_end(struct api_call *call)
{
	struct console *con = call->arg;
	bool unanswered = call->status == 0, refused = call->status >= 400;
	bool broken = unanswered || !refused;

	con->streaming = false;
	if (con->attached != 0)
		con->wrote = con->writes ? con->attached : 0;
	con->attached = 0;
	if (con->over || con->left)
		return;
	if (!con->was_there) {
		finish(con, api_report(call));
	} else if (con->ended && (!con->raw || con->once)) {
		finish(con, CTL_OK);
	} else if (con->ended && !refused) {
		later(con, "the run is over; waiting for another one, Ctrl-] leaves");
	} else if (refused && con->ended && !is_between(call)) {
		finish(con, CTL_OK);
	} else if (refused && !con->ended && !is_between(call)) {
		finish(con, api_report(call));
	} else if (broken && waits_too_long(con)) {
		finish(con, api_report(call) != CTL_OK ? CTL_UNREACHABLE : CTL_FAILED);
	} else {
		later(con,
			con->raw ? "the connection to droverd is lost; trying again, Ctrl-] leaves"
				 : "the connection to droverd is lost; trying again");
	}
}

static void attach(struct console *con)
{
	const char *mode = ctl_flag(con->c, "read-only") ? "none"
			   : ctl_flag(con->c, "share")   ? "share"
							 : "alone";

	api_finish(&con->stream);
	buf_finish(&con->frames.held);
	con->frames = (struct console_frames){ 0 };
	con->stream = (struct api_call){ .data = on_data, .done = on_stream_end, .arg = con };
	api_path(&con->stream, "/vms/%s/console", con->name);
	api_query(&con->stream, "write", mode);
	/* Whoever has taken over from us meanwhile keeps it. */
	if (ctl_flag(con->c, "force") && !con->was_there)
		api_query(&con->stream, "force", "1");
	if (ctl_flag(con->c, "no-replay") && !con->was_there)
		api_query(&con->stream, "replay", "0");
	if (con->wrote != 0)
		api_query_int(&con->stream, "wrote", con->wrote);
	if (con->known) {
		api_query_int(&con->stream, "boot", con->boot);
		api_query_int(&con->stream, "from", (int64_t)con->position);
	}
	con->streaming = true;
	if (api_start(con->c, &con->stream) != CTL_OK)
		finish(con, CTL_FAILED);
}

/* ---- what is typed ---- */

static void type(struct console *con);

static void on_retry(uv_timer_t *timer)
{
	type(timer->data);
}

static void on_typed(struct api_call *call)
{
	struct console *con = call->arg;
	int code = call->err.code;
	bool lost = call->status == 0;

	con->typing = false;
	api_finish(call);
	if (con->over)
		return;
	/* A person who typed it would not know when it comes; a program that sends it waits. */
	if (con->raw ? code == -EAGAIN && !con->left : code == -EAGAIN || code == -EBADFD || lost) {
		uv_timer_start(&con->retry, on_retry, NO_ROOM_MS, 0);
		return;
	}
	con->in_len -= con->typed_len;
	memmove(con->in, con->in + con->typed_len, con->in_len);
	watch_input(con);
	type(con);
}

static void type(struct console *con)
{
	if (con->typing || con->in_len == 0)
		return;
	if (con->attached == 0) {
		/* Until there is a console again. */
		uv_timer_start(&con->retry, on_retry, NO_ROOM_MS, 0);
		return;
	}
	con->typed = (struct api_call){ .method = "POST",
		.body_data = con->in,
		.body_len = con->in_len,
		.timeout_ms = TYPE_MAX_MS,
		.done = on_typed,
		.arg = con };
	api_path(&con->typed, "/vms/%s/console", con->name);
	api_query_int(&con->typed, "attached", con->attached);
	con->typing = true;
	con->typed_len = con->in_len;
	if (api_start(con->c, &con->typed) != CTL_OK)
		finish(con, CTL_FAILED);
}

static void end_of_input(struct console *con)
{
	con->input_open = false;
	con->left = con->once;
}

/* Of a terminal all is read, whether or not there is room: Ctrl-] may be among it. */
static void take_input(struct console *con)
{
	size_t room = sizeof(con->in) - con->in_len, len;
	char chunk[IN_CHUNK], *leave;
	ssize_t n = read(STDIN_FILENO, chunk, con->raw ? sizeof(chunk) : room);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		end_of_input(con);
		watch_input(con);
		return;
	}
	leave = con->raw ? memchr(chunk, LEAVE, (size_t)n) : NULL;
	con->left = leave != NULL;
	len = leave != NULL ? (size_t)(leave - chunk) : (size_t)n;
	/* A terminal's goes nowhere while there is no one to take it. */
	len = con->raw && con->attached == 0 ? 0 : MIN(len, room);
	memcpy(con->in + con->in_len, chunk, len);
	con->in_len += len;
	watch_input(con);
	type(con);
}

static void on_input(uv_poll_t *poll, int status, int events)
{
	take_input(poll->data);
}

static void on_file(uv_idle_t *idle)
{
	take_input(idle->data);
}

/* What was typed before has gone out; and one who only looks has seen what there was. */
static bool has_left(const struct console *con)
{
	if (!con->left)
		return false;
	if (con->raw)
		return con->in_len == 0 || con->attached == 0;
	return con->in_len == 0 && con->position >= con->now;
}

/* A guest that does not read holds the input of a program back. */
static void watch_input(struct console *con)
{
	bool wanted = con->input_open && !con->left &&
		      (con->raw || (con->attached != 0 && con->in_len < sizeof(con->in)));

	if (has_left(con))
		finish(con, CTL_OK);
	if (con->is_file && wanted)
		uv_idle_start(&con->file, on_file);
	else if (con->is_file)
		uv_idle_stop(&con->file);
	else if (wanted)
		uv_poll_start(&con->input, UV_READABLE, on_input);
	else
		uv_poll_stop(&con->input);
}

/* ---- the verb ---- */

static int open_input(struct console *con)
{
	uv_loop_t *loop = api_loop(con->c);

	uv_timer_init(loop, &con->again);
	uv_timer_init(loop, &con->retry);
	uv_idle_init(loop, &con->file);
	con->is_file = uv_poll_init(loop, &con->input, STDIN_FILENO) < 0;
	con->input.data = con->file.data = con->again.data = con->retry.data = con;
	con->input_open = true;
	return CTL_OK;
}

static void close_all(struct console *con)
{
	uv_loop_t *loop = api_loop(con->c);

	api_cancel(&con->stream);
	if (con->typing)
		api_cancel(&con->typed);
	while (con->streaming || con->typing)
		uv_run(loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&con->again, NULL);
	uv_close((uv_handle_t *)&con->retry, NULL);
	uv_close((uv_handle_t *)&con->file, NULL);
	if (!con->is_file)
		uv_close((uv_handle_t *)&con->input, NULL);
	uv_run(loop, UV_RUN_NOWAIT);
	api_finish(&con->stream);
	buf_finish(&con->frames.held);
	json_decref(con->turn);
}

static void say_goodbye(struct console *con)
{
	struct buf text = { 0 };

	if (!con->plain && con->was_there)
		guest_screen_end(&con->screen, &text);
	if (text.len > 0)
		print_now(buf_str(&text), text.len);
	buf_finish(&text);
	term_restore();
	if (con->raw)
		fprintf(stderr, "\n%s\n",
			con->left    ? "Left."
			: con->ended ? "The run is over; `drover why` tells more."
				     : "The console has closed.");
}

int verb_console(struct ctl *c)
{
	struct console con = { .c = c, .name = c->args.v[0], .once = ctl_flag(c, "once") };

	if (ctl_flag(c, "read-only") && (ctl_flag(c, "share") || ctl_flag(c, "force")))
		return ctl_usage(c, "--read-only does not go with --share or --force");
	con.plain = ctl_flag(c, "raw") || !term_output();
	attach(&con);
	if (con.over) {
		api_finish(&con.stream);
		return con.ret;
	}
	open_input(&con);
	while (!con.over)
		uv_run(api_loop(c), UV_RUN_ONCE);
	close_all(&con);
	say_goodbye(&con);
	return con.ret;
}
