#include "supervisor/wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/deadline.h"
#include "lib/door.h"
#include "lib/str.h"
#include "lib/util.h"

#define ID_MAX   64
#define GUESTS   8     /* who has connected and not said the id yet; the others wait */
#define HELLO_MS 10000 /* for saying it */

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* One socket in the loop. */
struct end {
	uv_poll_t poll;
	struct deadline deadline;
	struct wire *wire;
	int fd;
	bool used, polling, closing;
	unsigned handles; /* to be closed before it can be used again */
	char said[ID_MAX];
	size_t nsaid;
};

struct wire {
	uv_loop_t *loop;
	struct end caller; /* the one that connects */
	struct door door;  /* or where they come */
	struct end guests[GUESTS];
	char id[ID_MAX], more_id[ID_MAX];
	wire_more_fn *more; /* NULL: nobody else is listened to */
	bool met;           /* done has fired, and more go on */
	char *path;         /* of a listening Unix socket: ours to remove */
	wire_done_fn *done;
	void *arg;
	unsigned open; /* handles to be closed */
	bool gone;
};

/* ---- addresses ---- */

static int parse_port(const char *text, const char *address, in_port_t *out, struct err *err)
{
	uint64_t port;

	if (parse_u64(text, 0, 65535, &port, err) < 0)
		return err_wrap(err, "%s: port", quote(address));
	*out = htons((uint16_t)port);
	return 0;
}

static int parse_tcp(const char *address, union address *out, socklen_t *len, struct err *err)
{
	char host[INET6_ADDRSTRLEN + 2];
	const char *p = address + 4, *colon = strrchr(p, ':');
	size_t n = colon != NULL ? (size_t)(colon - p) : 0;
	bool brackets = n > 2 && p[0] == '[' && p[n - 1] == ']';

	if (n == 0 || n >= sizeof(host))
		return err_set(err, -EINVAL, "%s is not like tcp:ADDRESS:PORT", quote(address));
	snprintf(host, sizeof(host), "%.*s", (int)(brackets ? n - 2 : n), brackets ? p + 1 : p);
	if (brackets && inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1) {
		out->sa.sa_family = AF_INET6;
		*len = sizeof(out->in6);
		return parse_port(colon + 1, address, &out->in6.sin6_port, err);
	}
	if (!brackets && inet_pton(AF_INET, host, &out->in.sin_addr) == 1) {
		out->sa.sa_family = AF_INET;
		*len = sizeof(out->in);
		return parse_port(colon + 1, address, &out->in.sin_port, err);
	}
	return err_set(err, -EINVAL, "%s: %s is no IP address (names are not looked up)",
		quote(address), quote(host));
}

static int parse(const char *address, union address *out, socklen_t *len, struct err *err)
{
	*out = (union address){ 0 };
	if (str_starts(address, "tcp:"))
		return parse_tcp(address, out, len, err);
	if (!str_starts(address, "unix:/"))
		return err_set(err, -EINVAL, "%s is neither tcp:ADDRESS:PORT nor unix:/PATH",
			quote(address));
	if (strlen(address + 5) >= sizeof(out->un.sun_path))
		return err_set(err, -ENAMETOOLONG, "%s: the path is too long for a socket",
			quote(address));
	out->un.sun_family = AF_UNIX;
	snprintf(out->un.sun_path, sizeof(out->un.sun_path), "%s", address + 5);
	*len = sizeof(out->un);
	return 0;
}

int wire_check(const char *address, struct err *err)
{
	union address a;
	socklen_t len;

	return parse(address, &a, &len, err);
}

/* ---- ends ---- */

static void wire_closed(struct wire *w)
{
	if (--w->open > 0 || !w->gone)
		return;
	free(w->path);
	free(w);
}

static void handle_closed(struct end *e)
{
	struct wire *w = e->wire;

	/* There is room for one more. */
	if (--e->handles == 0) {
		e->used = false;
		door_let_in(&w->door);
	}
	wire_closed(w);
}

static void door_closed(void *arg)
{
	wire_closed(arg);
}

static void poll_closed(uv_handle_t *handle)
{
	handle_closed(container_of((uv_poll_t *)handle, struct end, poll));
}

static void deadline_closed(void *arg)
{
	handle_closed(arg);
}

static void end_stop(struct end *e)
{
	if (e->polling)
		uv_poll_stop(&e->poll);
	e->polling = false;
	deadline_cancel(&e->deadline);
	if (e->fd >= 0)
		close(e->fd);
	e->fd = -1;
}

static int end_open(struct wire *w, struct end *e, int fd, deadline_fn *late)
{
	int r = uv_poll_init(w->loop, &e->poll, fd);

	if (r < 0)
		return r;
	e->wire = w;
	e->used = true;
	e->fd = fd;
	e->nsaid = 0;
	deadline_init(&e->deadline, w->loop, late, e);
	e->handles = 2;
	e->closing = false;
	w->open += 2;
	return 0;
}

static void end_close(struct end *e)
{
	if (!e->used || e->closing)
		return;
	e->closing = true;
	end_stop(e);
	uv_close((uv_handle_t *)&e->poll, poll_closed);
	deadline_close(&e->deadline, deadline_closed);
}

void wire_destroy(struct wire *w)
{
	if (w == NULL || w->gone)
		return;
	w->gone = true;
	w->open += 2;
	if (w->path != NULL)
		unlink(w->path);
	end_close(&w->caller);
	door_close(&w->door, door_closed, w);
	for (size_t i = 0; i < GUESTS; i++)
		end_close(&w->guests[i]);
	wire_closed(w);
}

/* The only exit but wire_destroy(). */
static void finish(struct wire *w, int fd, const struct err *err)
{
	wire_done_fn *done = w->done;
	void *arg = w->arg;

	wire_destroy(w);
	done(arg, fd, err);
}

/* e goes on with those that may come yet. */
static void hand_one(struct end *e, int fd, bool more)
{
	struct wire *w = e->wire;

	end_close(e);
	if (more) {
		w->more(w->arg, fd);
		return;
	}
	w->met = true;
	w->done(w->arg, fd, NULL);
}

static void hand_over(struct end *e, bool more)
{
	int fd = e->fd;
	int on = 1;

	uv_poll_stop(&e->poll);
	e->polling = false;
	e->fd = -1;
	/* A host that has gone without a word is noticed; on a Unix socket these mean nothing. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &(int){ 10 }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &(int){ 5 }, sizeof(int));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &(int){ 6 }, sizeof(int));
	if (e->wire->more != NULL)
		hand_one(e, fd, more);
	else
		finish(e->wire, fd, NULL);
}

/* ---- the receiver ---- */

static void guest_readable(uv_poll_t *poll, int status, int events)
{
	struct end *e = container_of(poll, struct end, poll);
	size_t want = strlen(e->wire->id) + 1;
	ssize_t n = recv(e->fd, e->said + e->nsaid, want - e->nsaid, 0);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		end_close(e);
		return;
	}
	e->nsaid += (size_t)n;
	if (e->nsaid < want)
		return;
	if (e->said[want - 1] != '\n')
		end_close(e);
	else if (e->wire->more != NULL && memcmp(e->said, e->wire->more_id, want - 1) == 0)
		hand_over(e, true);
	else if (!e->wire->met && memcmp(e->said, e->wire->id, want - 1) == 0)
		hand_over(e, false);
	else
		end_close(e);
}

static void guest_late(void *arg)
{
	end_close(arg);
}

static struct end *free_place(struct wire *w)
{
	for (size_t i = 0; i < GUESTS; i++)
		if (!w->guests[i].used)
			return &w->guests[i];
	return NULL;
}

static void knocked(void *arg, int fd)
{
	struct wire *w = arg;
	struct end *e = free_place(w);

	if (e == NULL || end_open(w, e, fd, guest_late) < 0) {
		close(fd);
		return;
	}
	e->polling = true;
	deadline_set(&e->deadline, HELLO_MS);
	uv_poll_start(&e->poll, UV_READABLE, guest_readable);
	if (free_place(w) == NULL)
		door_hold(&w->door);
}

static int name_of(int fd, const char *address, char **out, struct err *err)
{
	union address a = { 0 };
	socklen_t len = sizeof(a);
	char host[INET6_ADDRSTRLEN] = "";

	if (getsockname(fd, &a.sa, &len) < 0)
		return err_errno(err, -errno, "%s", quote(address));
	if (a.sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a.in.sin_addr, host, sizeof(host));
		*out = str_printf("tcp:%s:%u", host, ntohs(a.in.sin_port));
	} else if (a.sa.sa_family == AF_INET6) {
		inet_ntop(AF_INET6, &a.in6.sin6_addr, host, sizeof(host));
		*out = str_printf("tcp:[%s]:%u", host, ntohs(a.in6.sin6_port));
	} else {
		*out = strdup(address);
	}
	return *out != NULL ? 0 : err_nomem(err);
}

static int wire_new(struct wire **out, uv_loop_t *loop, const char *id, wire_done_fn *done,
	void *arg, struct err *err)
{
	struct wire *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return err_nomem(err);
	w->loop = loop;
	snprintf(w->id, sizeof(w->id), "%s", id);
	w->done = done;
	w->arg = arg;
	w->caller.fd = -1;
	for (size_t i = 0; i < GUESTS; i++)
		w->guests[i].fd = -1;
	*out = w;
	return 0;
}

/* Of one who listened there before. What is no socket stays, and bind() says that it is there. */
static void remove_socket(const char *path)
{
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
}

static int listen_at(const char *address, struct err *err)
{
	union address a;
	socklen_t len;
	int r = parse(address, &a, &len, err), fd, on = 1;

	if (r < 0)
		return r;
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, -errno, "%s", quote(address));
	if (a.sa.sa_family == AF_UNIX)
		remove_socket(a.un.sun_path);
	else
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* On a full queue of a Unix socket connect() fails: one for each disk may come at once. */
	if (bind(fd, &a.sa, len) < 0 || listen(fd, SOMAXCONN) < 0) {
		r = err_errno(err, -errno, "listen at %s", quote(address));
		close(fd);
		return r;
	}
	if (a.sa.sa_family == AF_UNIX)
		chmod(a.un.sun_path, 0600);
	return fd;
}

int wire_listen(struct wire **out, uv_loop_t *loop, const char *address, const char *id,
	char **actual, wire_done_fn *done, void *arg, struct err *err)
{
	struct wire *w = NULL;
	int fd = listen_at(address, err), r;

	if (fd < 0)
		return fd;
	r = wire_new(&w, loop, id, done, arg, err);
	if (r == 0 && str_starts(address, "unix:") && (w->path = strdup(address + 5)) == NULL)
		r = err_nomem(err);
	if (r == 0)
		r = name_of(fd, address, actual, err);
	if (r == 0) {
		r = door_open(&w->door, loop, fd, knocked, w);
		if (r < 0)
			err_errno(err, r, "listen at %s", quote(address));
		else
			fd = -1;
	}
	if (r < 0) {
		if (fd >= 0)
			close(fd);
		wire_destroy(w);
		return r;
	}
	*out = w;
	return 0;
}

void wire_more(struct wire *w, const char *id, wire_more_fn *more)
{
	snprintf(w->more_id, sizeof(w->more_id), "%s", id);
	w->more = more;
}

/* ---- the sender ---- */

static void failed(struct wire *w, int code)
{
	struct err err;

	err_errno(&err, code, "connect");
	finish(w, -1, &err);
}

static void connect_late(void *arg)
{
	failed(((struct end *)arg)->wire, -ETIMEDOUT);
}

/* The socket's buffer is empty: the id fits. */
static void connected(uv_poll_t *poll, int status, int events)
{
	struct end *e = container_of(poll, struct end, poll);
	char hello[ID_MAX + 2];
	int code = 0, n = snprintf(hello, sizeof(hello), "%s\n", e->wire->id);
	socklen_t len = sizeof(code);

	if (getsockopt(e->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0)
		code = errno;
	if (code == 0 && send(e->fd, hello, (size_t)n, MSG_NOSIGNAL) != n)
		code = errno != 0 ? errno : EIO;
	if (code != 0)
		failed(e->wire, -code);
	else
		hand_over(e, false);
}

int wire_connect(struct wire **out, uv_loop_t *loop, const char *address, const char *id,
	uint64_t timeout_ms, wire_done_fn *done, void *arg, struct err *err)
{
	struct wire *w;
	union address a;
	socklen_t len;
	int r = parse(address, &a, &len, err), fd;

	if (r < 0)
		return r;
	fd = socket(a.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(err, -errno, "%s", quote(address));
	if (connect(fd, &a.sa, len) < 0 && errno != EINPROGRESS) {
		r = err_errno(err, -errno, "connect to %s", quote(address));
		close(fd);
		return r;
	}
	r = wire_new(&w, loop, id, done, arg, err);
	if (r < 0) {
		close(fd);
		return r;
	}
	r = end_open(w, &w->caller, fd, connect_late);
	if (r < 0) {
		close(fd);
		wire_destroy(w);
		return err_errno(err, r, "connect to %s", quote(address));
	}
	w->caller.polling = true;
	deadline_set(&w->caller.deadline, timeout_ms);
	uv_poll_start(&w->caller.poll, UV_WRITABLE, connected);
	*out = w;
	return 0;
}
