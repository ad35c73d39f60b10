/*
 * hv/ch-fd.c - one HTTP request over a Unix socket with a descriptor beside its first byte. libcurl
 * has no way to send one, so this is the little of HTTP/1.1 (RFC 9112) that it takes: a request with
 * Content-Length, an answer with or without one, the connection closed afterwards.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/file.h"

#define ANSWER_MAX (1u << 20)

struct ch_fd_call {
	uv_poll_t poll;
	int sock, fd; /* fd is the caller's, and -1 once it has been sent */
	struct buf out, in;
	ch_answer_fn *done; /* NULL: nobody waits any more */
	void *arg;
};

/* ---- the answer ---- */

static long long content_length(const char *head, const char *end)
{
	static const char name[] = "content-length:";
	const char *line = strstr(head, "\r\n");

	for (; line != NULL && line < end; line = strstr(line + 2, "\r\n"))
		if (strncasecmp(line + 2, name, sizeof(name) - 1) == 0)
			return strtoll(line + 2 + sizeof(name) - 1, NULL, 10);
	return 0;
}

int ch_http_parse(const char *data, size_t len, struct ch_answer *out)
{
	const char *end = len > 0 ? strstr(data, "\r\n\r\n") : NULL;
	long long body;
	int status;

	if (end == NULL)
		return len > ANSWER_MAX ? -EBADMSG : 0;
	if (sscanf(data, "HTTP/%*u.%*u %d", &status) != 1 || status < 100 || status > 599)
		return -EBADMSG;
	body = content_length(data, end);
	if (body < 0 || body > ANSWER_MAX)
		return -EBADMSG;
	end += 4;
	if (len - (size_t)(end - data) < (size_t)body)
		return 0;
	*out = (struct ch_answer){ status, end, (size_t)body };
	return 1;
}

static void poll_closed(uv_handle_t *handle)
{
	struct ch_fd_call *c = container_of((uv_poll_t *)handle, struct ch_fd_call, poll);

	buf_finish(&c->out);
	buf_finish(&c->in);
	free(c);
}

static void close_call(struct ch_fd_call *c)
{
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, poll_closed);
	close(c->sock);
}

void ch_fd_abandon(struct ch_fd_call *c)
{
	if (c != NULL && c->done != NULL) {
		c->done = NULL;
		close_call(c);
	}
}

static void finish(struct ch_fd_call *c, const struct ch_answer *a, const struct err *err)
{
	ch_answer_fn *done = c->done;

	if (done == NULL)
		return;
	c->done = NULL;
	close_call(c);
	done(c->arg, a, err);
}

static void fail(struct ch_fd_call *c, int code, const char *what)
{
	struct err err;

	err_errno(&err, code, "%s", what);
	finish(c, NULL, &err);
}

/* ---- the socket ---- */

static void socket_ready(uv_poll_t *poll, int status, int events);

/* 0, or -errno; -EAGAIN is for later. */
static int write_some(struct ch_fd_call *c)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .space = { 0 } };
	struct iovec iov = { .iov_base = c->out.data, .iov_len = c->out.len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;
	ssize_t n;

	if (c->fd >= 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		cm = CMSG_FIRSTHDR(&msg);
		cm->cmsg_level = SOL_SOCKET;
		cm->cmsg_type = SCM_RIGHTS;
		cm->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cm), &c->fd, sizeof(int));
	}
	n = sendmsg(c->sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	c->fd = -1;
	buf_drop(&c->out, (size_t)n);
	uv_poll_start(&c->poll, UV_READABLE | (c->out.len > 0 ? UV_WRITABLE : 0), socket_ready);
	return 0;
}

static void read_some(struct ch_fd_call *c)
{
	struct ch_answer a;
	char chunk[8192];
	ssize_t n = recv(c->sock, chunk, sizeof(chunk), MSG_DONTWAIT);
	int r;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fail(c, n < 0 ? -errno : -ECONNRESET, "the API");
		return;
	}
	buf_add(&c->in, chunk, (size_t)n);
	r = c->in.bad ? -ENOMEM : ch_http_parse(buf_str(&c->in), c->in.len, &a);
	if (r < 0)
		fail(c, r, "the API's answer");
	else if (r > 0)
		finish(c, &a, NULL);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
	struct ch_fd_call *c = container_of(poll, struct ch_fd_call, poll);
	int r = 0;

	if (status < 0) {
		fail(c, status, "the API");
		return;
	}
	if ((events & UV_WRITABLE) && c->out.len > 0)
		r = write_some(c);
	if (r < 0 && r != -EAGAIN && r != -EINTR)
		fail(c, r, "the API");
	else if (events & UV_READABLE)
		read_some(c);
}

int ch_fd_call(struct ch_fd_call **out, uv_loop_t *loop, const char *socket, const char *method,
	const char *path, const char *body, int fd, ch_answer_fn *done, void *arg, struct err *err)
{
	struct ch_fd_call *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return err_nomem(err);
	c->fd = fd;
	c->done = done;
	c->arg = arg;
	buf_printf(&c->out,
		"%s /api/v1%s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n"
		"Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
		method, path, body != NULL ? strlen(body) : 0, body != NULL ? body : "");
	r = c->out.bad ? err_nomem(err) : unix_connect(socket, &c->sock, err);
	if (r == 0) {
		r = uv_poll_init(loop, &c->poll, c->sock);
		if (r < 0) {
			close(c->sock);
			err_errno(err, r, "the API");
		}
	}
	if (r < 0) {
		buf_finish(&c->out);
		free(c);
		return r;
	}
	uv_poll_start(&c->poll, UV_WRITABLE, socket_ready);
	*out = c;
	return 0;
}
