#include "lib/door.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/log.h"
#include "lib/util.h"

/* Descriptors come back as connections and files end: nobody is told when. */
#define AGAIN_MS 200

static void knocked(uv_poll_t *poll, int status, int events)
{
	struct door *d = container_of(poll, struct door, poll);
	int fd = accept4(d->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		d->told = false;
		d->came(d->arg, fd);
		return;
	}
	if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
		return;
	/* The connection stays in the queue, and poll would report it at once, for ever. */
	if (!d->told)
		log_warn("a connection has to wait: accept: %s", strerror(errno));
	d->told = true;
	uv_poll_stop(&d->poll);
	deadline_set(&d->again, AGAIN_MS);
}

static void again(void *arg)
{
	door_let_in(arg);
}

int door_open(struct door *d, uv_loop_t *loop, int fd, door_fn *came, void *arg)
{
	int r;

	*d = (struct door){ .fd = -1, .came = came, .arg = arg };
	r = uv_poll_init(loop, &d->poll, fd);
	if (r < 0)
		return r;
	d->fd = fd;
	d->handles = 2;
	d->open = true;
	deadline_init(&d->again, loop, again, d);
	door_let_in(d);
	return 0;
}

void door_hold(struct door *d)
{
	if (!d->open)
		return;
	uv_poll_stop(&d->poll);
	deadline_cancel(&d->again);
}

void door_let_in(struct door *d)
{
	if (d->open)
		uv_poll_start(&d->poll, UV_READABLE, knocked);
}

void door_shut(struct door *d)
{
	int fd;

	if (!d->open)
		return;
	door_hold(d);
	d->open = false;
	shutdown(d->fd, SHUT_RDWR);
	/* Those in the queue of a Unix socket would stay in it as long as anybody has a copy of it. */
	while ((fd = accept4(d->fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
}

static void part_closed(void *arg)
{
	struct door *d = arg;

	if (--d->handles > 0)
		return;
	close(d->fd);
	d->fd = -1;
	if (d->closed != NULL)
		d->closed(d->arg);
}

static void poll_closed(uv_handle_t *handle)
{
	part_closed(container_of((uv_poll_t *)handle, struct door, poll));
}

void door_close(struct door *d, void (*closed)(void *arg), void *arg)
{
	if (d->handles == 0) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	door_shut(d);
	d->closed = closed;
	d->arg = arg;
	uv_close((uv_handle_t *)&d->poll, poll_closed);
	deadline_close(&d->again, part_closed);
}
