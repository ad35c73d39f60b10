/* drover console: standard input and output on a machine's console socket. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/term.h"
#include "lib/file.h"
#include "lib/json.h"

#define LEAVE     0x1d /* Ctrl-] */
#define IN_CHUNK  512
#define OUT_CHUNK 65536

struct console {
	int fd;
	bool raw, once;
	bool input_open;
	char in[IN_CHUNK]; /* for the machine, not taken yet */
	size_t in_len;
	bool left; /* by Ctrl-] or at the end of standard input */
};

static int open_console(struct ctl *c, int *out)
{
	const char *name = c->args.v[0], *path, *state;
	struct api_call call = { 0 };
	struct err err;
	json_t *vm;
	int ret;

	api_path(&call, "/vms/%s", name);
	ret = api_get(c, &vm, &call);
	if (ret != CTL_OK)
		return ret;
	path = json_str(vm, "console");
	state = json_str(vm, "state");
	if (path == NULL) {
		ctl_fail("vm %s has no console while it is %s", name,
			state != NULL ? state : "unknown");
		ret = CTL_WRONG_STATE;
	} else if (unix_connect(path, out, &err) != 0) {
		ret = ctl_fail("console of vm %s: %s", name, err.msg);
	}
	json_decref(vm);
	return ret;
}

/* True when the console is to be left; what was typed before that still goes out. */
static void take_input(struct console *con)
{
	ssize_t n = read(STDIN_FILENO, con->in, sizeof(con->in));
	char *leave;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		con->input_open = false;
		con->left = con->once;
		return;
	}
	con->in_len = (size_t)n;
	leave = con->raw ? memchr(con->in, LEAVE, con->in_len) : NULL;
	if (leave != NULL) {
		con->in_len = (size_t)(leave - con->in);
		con->left = true;
	}
}

/* 0, or -errno when the console is gone. */
static int give_input(struct console *con)
{
	ssize_t n = write(con->fd, con->in, con->in_len);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	con->in_len -= (size_t)n;
	memmove(con->in, con->in + n, con->in_len);
	return 0;
}

/* 1 at the end of the console. */
static int take_output(struct console *con)
{
	static char chunk[OUT_CHUNK];
	ssize_t n = read(con->fd, chunk, sizeof(chunk));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : 1;
	if (n == 0)
		return 1;
	print_now(chunk, (size_t)n);
	return 0;
}

static int run(struct console *con)
{
	for (;;) {
		struct pollfd p[2] = { { .fd = con->fd, .events = POLLIN },
			{ .fd = STDIN_FILENO, .events = POLLIN } };

		if (con->left && con->in_len == 0)
			return 0;
		if (con->in_len > 0)
			p[0].events |= POLLOUT;
		/* A guest that does not read holds the input back. */
		if (!con->input_open || con->left || con->in_len > 0)
			p[1].fd = -1;
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return -errno;
		if ((p[0].revents & POLLOUT) && give_input(con) != 0)
			return 1;
		if ((p[0].revents & (POLLIN | POLLHUP | POLLERR)) && take_output(con) != 0)
			return 1;
		if (p[1].revents != 0)
			take_input(con);
	}
}

int verb_console(struct ctl *c)
{
	struct console con = { .fd = -1, .input_open = true, .once = ctl_flag(c, "once") };
	int ret = open_console(c, &con.fd);

	if (ret != CTL_OK)
		return ret;
	fcntl(con.fd, F_SETFL, O_NONBLOCK);
	con.raw = term_raw();
	if (con.raw)
		fprintf(stderr, "Connected to %s; Ctrl-] leaves.\r\n", c->args.v[0]);
	ret = run(&con);
	term_restore();
	close(con.fd);
	if (con.raw)
		fprintf(stderr, "\n%s\n", ret == 0 ? "Left." : "The console has closed.");
	return ret < 0 ? ctl_fail("poll: %s", strerror(-ret)) : CTL_OK;
}
