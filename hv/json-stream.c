#include "hv/json-stream.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/json-scan.h"
#include "lib/str.h"

/* Some hundred events: with many clients who want each of them more would be a long turn. */
#define READ_SIZE     (8u << 10)
#define READS_A_TURN  1    /* the rest in the next turn of the loop: others wait, too */
#define KEEP_BUFFER   4096 /* a larger one goes back when it is empty */
#define FDS_A_MESSAGE 16
#define QUOTED        80 /* bytes of what is no JSON that a message shows */

struct json_stream {
	uv_poll_t poll;
	struct json_stream_callbacks cb;
	int fd;
	bool ended; /* broken has fired, or it is closed */
	bool wants_room;
	bool paused;
	bool eof;               /* nothing more will come */
	int fds[FDS_A_MESSAGE]; /* that nobody has taken yet */
	size_t nfds;
	struct buf in;
	struct json_scan scan;
	void (*closed)(void *arg);
	void *closed_arg;
};

static void socket_ready(uv_poll_t *poll, int status, int events);

static void PRINTF(3, 4) fail(struct json_stream *s, int code, const char *fmt, ...)
{
	char msg[512];
	struct err err;
	va_list ap;

	if (s->ended)
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	err_set(&err, code, "%s", msg);
	s->ended = true;
	uv_poll_stop(&s->poll);
	s->cb.broken(s->cb.arg, &err);
}

/* Reading */

static void close_fds(struct json_stream *s)
{
	while (s->nfds > 0)
		close(s->fds[--s->nfds]);
}

static void keep_received(struct json_stream *s, struct msghdr *mh)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c != NULL; c = CMSG_NXTHDR(mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		close_fds(s);
		s->nfds = MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), (size_t)FDS_A_MESSAGE);
		memcpy(s->fds, CMSG_DATA(c), s->nfds * sizeof(int));
	}
	if (!s->cb.keep_fds)
		close_fds(s);
}

int json_stream_take_fd(struct json_stream *s)
{
	int fd = -1;

	if (s->nfds > 0) {
		fd = s->fds[0];
		s->fds[0] = s->fds[--s->nfds];
	}
	close_fds(s);
	return fd;
}

/* One read; as recv(). */
static ssize_t receive(struct json_stream *s, char *data, size_t cap)
{
	union {
		char buf[CMSG_SPACE(FDS_A_MESSAGE * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = cap };
	struct msghdr mh = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf) };
	ssize_t n;

	do
		n = recvmsg(s->fd, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		keep_received(s, &mh);
	return n;
}

static bool within(const struct json_stream *s)
{
	return s->scan.depth > 0 || s->scan.in_string || s->scan.bare;
}

/* Takes the whole messages out of the buffer. */
static void dispatch(struct json_stream *s)
{
	size_t used = 0, len;
	int r;

	while ((r = json_scan(&s->scan, s->in.data, s->in.len)) == 1) {
		len = s->scan.pos - s->scan.start;
		if (len > JSON_STREAM_MAX)
			break;
		used = s->scan.pos;
		s->cb.message(s->cb.arg, s->in.data + s->scan.start, len);
		if (s->ended)
			return;
	}
	if (r < 0) {
		fail(s, -EBADMSG, "garbage: %s",
			quote_n(s->in.data + s->scan.pos,
				MIN(s->in.len - s->scan.pos, (size_t)QUOTED)));
		return;
	}
	/* Between messages nothing is worth keeping, not even the line's end. */
	if (!within(s) && r == 0)
		used = s->in.len;
	if (r == 1 || (within(s) && s->in.len - s->scan.start > JSON_STREAM_MAX)) {
		fail(s, -EMSGSIZE, "a message is longer than %u MiB", JSON_STREAM_MAX >> 20);
		return;
	}
	json_scan_dropped(&s->scan, used);
	if (used == s->in.len && s->in.cap > KEEP_BUFFER)
		buf_finish(&s->in);
	else
		buf_drop(&s->in, used);
}

static void watch(struct json_stream *s);

/* Whether the other end, which does not write any more, still reads. */
static bool half_closed(const struct json_stream *s)
{
	struct pollfd p = { .fd = s->fd };

	return s->cb.eof != NULL && poll(&p, 1, 0) >= 0 && (p.revents & (POLLHUP | POLLERR)) == 0;
}

static void end_of_input(struct json_stream *s)
{
	if (half_closed(s)) {
		s->eof = true;
		watch(s);
		s->cb.eof(s->cb.arg);
		return;
	}
	fail(s, -ECONNRESET, "the connection was closed%s",
		within(s) ? " in the middle of a message" : "");
}

/* Reads a bounded amount, the rest in the next turn of the loop; or `all` there is. */
static void read_some(struct json_stream *s, bool all)
{
	/* Of the loop's thread, and not held across a callback: what was read is copied first. */
	static char chunk[READ_SIZE];

	for (unsigned turns = 0; !s->ended && !s->eof && (all || turns < READS_A_TURN); turns++) {
		ssize_t n = -1;

		if (s->paused && !all)
			return;
		n = receive(s, chunk, sizeof(chunk));

		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		if (n <= 0) {
			end_of_input(s);
			return;
		}
		buf_add(&s->in, chunk, (size_t)n);
		if (s->in.bad) {
			fail(s, -ENOMEM, "out of memory");
			return;
		}
		dispatch(s);
		if ((size_t)n < sizeof(chunk) && !all)
			return;
	}
}

void json_stream_drain(struct json_stream *s)
{
	read_some(s, true);
}

/* Writing */

static ssize_t transmit(int fd, const char *data, size_t len, int pass_fd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (pass_fd >= 0) {
		struct cmsghdr *c;

		mh.msg_control = control.buf;
		mh.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &pass_fd, sizeof(int));
	}
	do
		n = sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	return n;
}

static void watch(struct json_stream *s)
{
	bool reads = !s->paused && !s->eof;
	int events = (reads ? UV_READABLE : 0) | (s->wants_room ? UV_WRITABLE : 0);

	if (events == 0)
		uv_poll_stop(&s->poll);
	else
		uv_poll_start(&s->poll, events, socket_ready);
}

void json_stream_pause(struct json_stream *s, bool pause)
{
	if (s->paused == pause || s->ended)
		return;
	s->paused = pause;
	watch(s);
}

static void want_room(struct json_stream *s, bool wants)
{
	if (s->wants_room == wants)
		return;
	s->wants_room = wants;
	watch(s);
}

ssize_t json_stream_write(struct json_stream *s, const char *data, size_t len, int pass_fd)
{
	ssize_t n = -1;

	if (s->ended)
		return -EPIPE;
	n = transmit(s->fd, data, len, pass_fd);
	if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
		return -errno;
	want_room(s, n < (ssize_t)len);
	return MAX(n, 0);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
	struct json_stream *s = container_of(poll, struct json_stream, poll);

	if (status < 0) {
		/* The handle is stopped: all that is there must be read now. */
		json_stream_drain(s);
		fail(s, -ECONNRESET, "%s", uv_strerror(status));
		return;
	}
	if (events & UV_READABLE)
		read_some(s, false);
	if ((events & UV_WRITABLE) && !s->ended) {
		want_room(s, false);
		s->cb.writable(s->cb.arg);
	}
}

/* Life */

int json_stream_create(struct json_stream **out, uv_loop_t *loop, int fd,
	const struct json_stream_callbacks *cb, struct err *err)
{
	struct json_stream *s = calloc(1, sizeof(*s));
	int r = s == NULL ? -ENOMEM : uv_poll_init(loop, &s->poll, fd);

	if (r < 0) {
		free(s);
		close(fd);
		return err_errno(err, r, "watch a socket");
	}
	s->cb = *cb;
	s->scan.lenient = cb->lenient;
	s->fd = fd;
	uv_poll_start(&s->poll, UV_READABLE, socket_ready);
	*out = s;
	return 0;
}

static void poll_closed(uv_handle_t *handle)
{
	struct json_stream *s = container_of((uv_poll_t *)handle, struct json_stream, poll);
	void (*closed)(void *arg) = s->closed;
	void *arg = s->closed_arg;

	buf_finish(&s->in);
	free(s);
	if (closed != NULL)
		closed(arg);
}

void json_stream_close(struct json_stream *s, void (*closed)(void *arg), void *arg)
{
	if (s == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	s->ended = true;
	close_fds(s);
	s->closed = closed;
	s->closed_arg = arg;
	/* In this order: the handle lets go of the descriptor while it still has its number. */
	uv_poll_stop(&s->poll);
	uv_close((uv_handle_t *)&s->poll, poll_closed);
	close(s->fd);
}
