#include "supervisor/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/door.h"
#include "lib/str.h"
#include "lib/util.h"

#define BUFFER (256 * 1024)

struct pair;

struct pair_end {
	uv_poll_t poll;
	struct pair *pair;
	int fd;
	char *buf; /* what was read here and not written there */
	size_t at, n;
};

enum {
	NEAR, /* the hypervisor's */
	FAR   /* the other host's */
};

struct pair {
	struct pair_end ends[2];
	struct tunnel *tunnel;
	unsigned handles;
	bool closing;
};

struct tunnel {
	uv_loop_t *loop;
	struct pair *pairs[TUNNEL_MAX]; /* that are not closed */
	int offered[TUNNEL_MAX];
	size_t noffered;
	tunnel_broken_fn *broken; /* NULL: nobody asks */
	void *arg;
	struct door door;
	char *path; /* of its socket; NULL: there is none any more */
};

/* ---- one connection ---- */

static void pair_free(struct pair *p)
{
	for (size_t i = 0; i < 2; i++) {
		if (p->ends[i].fd >= 0)
			close(p->ends[i].fd);
		free(p->ends[i].buf);
	}
	free(p);
}

static void pair_closed(uv_handle_t *handle)
{
	struct pair *p = container_of((uv_poll_t *)handle, struct pair_end, poll)->pair;

	if (--p->handles == 0)
		pair_free(p);
}

static void pair_close(struct pair *p)
{
	struct tunnel *t = p->tunnel;

	if (p->closing)
		return;
	p->closing = true;
	for (size_t i = 0; i < TUNNEL_MAX; i++)
		if (t->pairs[i] == p)
			t->pairs[i] = NULL;
	for (size_t i = 0; i < 2; i++) {
		uv_poll_stop(&p->ends[i].poll);
		/* Those who hold it, too, are to hear of it now. */
		shutdown(p->ends[i].fd, SHUT_RDWR);
		uv_close((uv_handle_t *)&p->ends[i].poll, pair_closed);
	}
}

/* The other host's end has gone first. */
static void pair_broken(struct pair *p)
{
	struct tunnel *t = p->tunnel;

	pair_close(p);
	if (t->broken != NULL)
		t->broken(t->arg);
}

static struct pair_end *other(struct pair_end *e)
{
	return e == &e->pair->ends[0] ? &e->pair->ends[1] : &e->pair->ends[0];
}

static bool would_block(int code)
{
	return code == EAGAIN || code == EWOULDBLOCK || code == EINTR;
}

/* What was read at e goes out at the other end. NULL, or the end that is over. */
static struct pair_end *pass_on(struct pair_end *e)
{
	while (e->n > 0) {
		ssize_t n = send(other(e)->fd, e->buf + e->at, e->n, MSG_NOSIGNAL);

		if (n < 0)
			return would_block(errno) ? NULL : other(e);
		e->at += (size_t)n;
		e->n -= (size_t)n;
	}
	return NULL;
}

static struct pair_end *take_in(struct pair_end *e)
{
	ssize_t n = recv(e->fd, e->buf, BUFFER, 0);

	if (n < 0)
		return would_block(errno) ? NULL : e;
	e->at = 0;
	e->n = (size_t)n;
	return n > 0 ? pass_on(e) : e;
}

static void pair_ready(uv_poll_t *poll, int status, int events);

static void watch(struct pair_end *e)
{
	int events = (e->n == 0 ? UV_READABLE : 0) | (other(e)->n > 0 ? UV_WRITABLE : 0);

	if (events == 0)
		uv_poll_stop(&e->poll);
	else
		uv_poll_start(&e->poll, events, pair_ready);
}

static void pair_ready(uv_poll_t *poll, int status, int events)
{
	struct pair_end *e = container_of(poll, struct pair_end, poll);
	struct pair_end *over = status < 0 ? e : NULL;

	if (over == NULL && (events & UV_WRITABLE) != 0)
		over = pass_on(other(e));
	if (over == NULL && (events & UV_READABLE) != 0 && e->n == 0)
		over = take_in(e);
	if (over != NULL) {
		if (over == &e->pair->ends[FAR])
			pair_broken(e->pair);
		else
			pair_close(e->pair);
		return;
	}
	watch(e);
	watch(other(e));
}

/* Takes both over. */
static int join(struct tunnel *t, int near, int far, struct err *err)
{
	struct pair *p = calloc(1, sizeof(*p));
	size_t place = 0;
	int r = 0;

	while (place < TUNNEL_MAX && t->pairs[place] != NULL)
		place++;
	if (p == NULL || place == TUNNEL_MAX) {
		free(p);
		close(near);
		close(far);
		return place == TUNNEL_MAX ? err_set(err, -EMFILE, "too many connections")
					   : err_nomem(err);
	}
	p->tunnel = t;
	for (size_t i = 0; i < 2; i++) {
		p->ends[i] = (struct pair_end){
			.pair = p, .fd = i == NEAR ? near : far, .buf = malloc(BUFFER)
		};
		if (p->ends[i].buf == NULL)
			r = err_nomem(err);
	}
	for (size_t i = 0; i < 2 && r == 0; i++) {
		r = uv_poll_init(t->loop, &p->ends[i].poll, p->ends[i].fd);
		if (r < 0)
			err_errno(err, r, "watch a connection");
		else
			p->handles++;
	}
	if (r < 0) {
		if (p->handles > 0)
			uv_close((uv_handle_t *)&p->ends[0].poll, pair_closed);
		else
			pair_free(p);
		return r;
	}
	t->pairs[place] = p;
	watch(&p->ends[0]);
	watch(&p->ends[1]);
	return 0;
}

/* ---- sockets ---- */

static int address(const char *path, struct sockaddr_un *out, struct err *err)
{
	*out = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(out->sun_path))
		return err_set(
			err, -ENAMETOOLONG, "%s: the path is too long for a socket", quote(path));
	snprintf(out->sun_path, sizeof(out->sun_path), "%s", path);
	return 0;
}

int tunnel_socket(const char *path, struct err *err)
{
	struct sockaddr_un un;
	int r = address(path, &un, err), fd;

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, -errno, "%s", quote(path));
	unlink(path);
	if (bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || chmod(path, 0600) < 0 ||
		listen(fd, TUNNEL_MAX) < 0) {
		r = err_errno(err, -errno, "listen at %s", quote(path));
		close(fd);
		return r;
	}
	return fd;
}

static void door_closed(void *arg)
{
	free(arg);
}

static void shut_door(struct tunnel *t)
{
	door_shut(&t->door);
	if (t->path != NULL)
		unlink(t->path);
	free(t->path);
	t->path = NULL;
}

static void knocked(void *arg, int fd)
{
	struct tunnel *t = arg;
	/* The first that was offered: they are all the same. */
	int far = t->offered[0];
	struct err err;

	t->noffered--;
	memmove(t->offered, t->offered + 1, t->noffered * sizeof(t->offered[0]));
	/* Who has connected hears of a failure by the end of it. */
	join(t, fd, far, &err);
	if (t->noffered == 0)
		shut_door(t);
}

int tunnel_listen(struct tunnel *t, const char *path, struct err *err)
{
	int fd = tunnel_socket(path, err), r;

	if (fd < 0)
		return fd;
	t->path = strdup(path);
	r = t->path != NULL ? door_open(&t->door, t->loop, fd, knocked, t) : -ENOMEM;
	if (r < 0) {
		close(fd);
		unlink(path);
		free(t->path);
		t->path = NULL;
		return err_errno(err, r, "listen at %s", quote(path));
	}
	return 0;
}

int tunnel_offer(struct tunnel *t, int fd, struct err *err)
{
	if (t->noffered == TUNNEL_MAX) {
		close(fd);
		return err_set(err, -EMFILE, "too many connections");
	}
	t->offered[t->noffered++] = fd;
	return 0;
}

int tunnel_join(struct tunnel *t, int fd, const char *path, struct err *err)
{
	struct sockaddr_un un;
	int r = address(path, &un, err), near = -1;

	if (r == 0) {
		near = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (near < 0 || connect(near, (struct sockaddr *)&un, sizeof(un)) < 0)
			r = err_errno(err, -errno, "connect to %s", quote(path));
	}
	if (r == 0)
		return join(t, near, fd, err);
	if (near >= 0)
		close(near);
	close(fd);
	return r;
}

void tunnel_on_broken(struct tunnel *t, tunnel_broken_fn *broken, void *arg)
{
	t->broken = broken;
	t->arg = arg;
}

int tunnel_create(struct tunnel **out, uv_loop_t *loop, struct err *err)
{
	struct tunnel *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return err_nomem(err);
	t->loop = loop;
	*out = t;
	return 0;
}

void tunnel_destroy(struct tunnel *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < TUNNEL_MAX; i++)
		if (t->pairs[i] != NULL)
			pair_close(t->pairs[i]);
	while (t->noffered > 0)
		close(t->offered[--t->noffered]);
	shut_door(t);
	door_close(&t->door, door_closed, t);
}
