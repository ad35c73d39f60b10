#include "hv/serial.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/str.h"

#define READ_SIZE (64u << 10)

struct serial {
	uv_poll_t poll;
	struct serial_callbacks cb;
	int fd;
	bool lost, closing;
	struct buf queue; /* for the guest */
	void (*closed)(void *arg);
	void *closed_arg;
};

static void socket_ready(uv_poll_t *poll, int status, int events);

static void lose(struct serial *c)
{
	if (c->lost || c->closing)
		return;
	c->lost = true;
	uv_poll_stop(&c->poll);
	buf_finish(&c->queue);
	c->cb.lost(c->cb.arg);
}

/* One read a turn, so that a guest that prints without end leaves room for others; or all. */
static void read_some(struct serial *c, bool all)
{
	/* Of the loop's thread; a callback that reads another console has got its bytes by then. */
	static char chunk[READ_SIZE];
	ssize_t n;

	do {
		n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n > 0)
			c->cb.data(c->cb.arg, chunk, (size_t)n);
		else if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
			lose(c);
	} while (!c->lost && !c->closing && ((n > 0 && all) || (n < 0 && errno == EINTR)));
}

void serial_drain(struct serial *c)
{
	if (!c->lost && !c->closing)
		read_some(c, true);
}

static void flush(struct serial *c)
{
	ssize_t n;

	while (c->queue.len > 0) {
		n = send(c->fd, c->queue.data, c->queue.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		/* When the other end is gone, reading will tell. */
		buf_drop(&c->queue, n < 0 ? c->queue.len : (size_t)n);
	}
	if (c->queue.len == 0)
		buf_finish(&c->queue);
	uv_poll_start(&c->poll, UV_READABLE | (c->queue.len > 0 ? UV_WRITABLE : 0), socket_ready);
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
	struct serial *c = container_of(poll, struct serial, poll);

	if (status < 0) {
		/* The handle is stopped: all that is there must be read now. */
		serial_drain(c);
		lose(c);
		return;
	}
	if (events & UV_READABLE)
		read_some(c, false);
	if ((events & UV_WRITABLE) && !c->lost && !c->closing)
		flush(c);
}

int serial_write(struct serial *c, const char *data, size_t len)
{
	if (c->lost || c->closing)
		return -ENOTCONN;
	if (len > SERIAL_QUEUE_MAX - MIN(c->queue.len, (size_t)SERIAL_QUEUE_MAX))
		return -EAGAIN;
	buf_add(&c->queue, data, len);
	if (c->queue.bad) {
		buf_finish(&c->queue);
		return -ENOMEM;
	}
	flush(c);
	return 0;
}

int serial_create(struct serial **out, uv_loop_t *loop, int fd, const struct serial_callbacks *cb,
	struct err *err)
{
	struct serial *c = calloc(1, sizeof(*c));
	int r = c == NULL ? -ENOMEM : uv_poll_init(loop, &c->poll, fd);

	if (r < 0) {
		free(c);
		close(fd);
		return err_errno(err, r, "serial console");
	}
	c->cb = *cb;
	c->fd = fd;
	uv_poll_start(&c->poll, UV_READABLE, socket_ready);
	*out = c;
	return 0;
}

static void poll_closed(uv_handle_t *handle)
{
	struct serial *c = container_of((uv_poll_t *)handle, struct serial, poll);
	void (*closed)(void *arg) = c->closed;
	void *arg = c->closed_arg;

	free(c);
	if (closed != NULL)
		closed(arg);
}

void serial_destroy(struct serial *c, void (*closed)(void *arg), void *arg)
{
	if (c == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	c->closing = true;
	c->closed = closed;
	c->closed_arg = arg;
	buf_finish(&c->queue);
	uv_poll_stop(&c->poll);
	uv_close((uv_handle_t *)&c->poll, poll_closed);
	close(c->fd);
}
