#include "supervisor/probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A server may say other lines before its version (RFC 4253, 4.2), but not without end. */
#define BANNER_MAX 4096

struct probe {
	enum health_kind kind;
	unsigned port;
	char *address; /* for messages */
	probe_done_fn *done;
	void *arg;
	/* tcp, ssh */
	uv_poll_t poll;
	int fd;
	bool connected;
	struct buf banner;
	/* http */
	struct http_req *req;
	/* agent */
	bool asking;
	void (*forget)(void *arg, const void *reply_arg);
	void *forget_arg;
};

static void probe_free(struct probe *p)
{
	buf_finish(&p->banner);
	free(p->address);
	free(p);
}

static void poll_closed(uv_handle_t *handle)
{
	probe_free(container_of((uv_poll_t *)handle, struct probe, poll));
}

static void close_socket(struct probe *p)
{
	uv_poll_stop(&p->poll);
	uv_close((uv_handle_t *)&p->poll, poll_closed);
	close(p->fd);
}

/* ---- tcp and ssh ---- */

static void finish_socket(struct probe *p, const struct err *err)
{
	probe_done_fn *done = p->done;
	void *arg = p->arg;

	close_socket(p);
	done(arg, err);
}

static int connect_error(const struct probe *p, int code, struct err *err)
{
	return err_errno(err, code, "connect to %s port %u", p->address, p->port);
}

/* 1: it is an SSH server, 0: more is needed, else -errno. */
static int read_banner(struct probe *p, struct err *err)
{
	char chunk[512], *line, *end;
	ssize_t n = recv(p->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n < 0)
		return err_errno(err, -errno, "read from %s port %u", p->address, p->port);
	if (n == 0)
		return err_set(err, -ECONNRESET,
			"%s port %u was closed before it said that it is an SSH server", p->address,
			p->port);
	buf_add(&p->banner, chunk, (size_t)n);
	if (p->banner.bad)
		return err_nomem(err);
	while ((end = memchr(p->banner.data, '\n', p->banner.len)) != NULL) {
		line = p->banner.data;
		if (str_starts(line, "SSH-"))
			return 1;
		buf_drop(&p->banner, (size_t)(end + 1 - line));
		if (p->banner.len == 0)
			break;
	}
	if (p->banner.len > BANNER_MAX)
		return err_set(err, -EPROTO, "what answers on %s port %u is no SSH server: %s",
			p->address, p->port, quote_n(p->banner.data, 40));
	return 0;
}

static void socket_ready(uv_poll_t *poll, int status, int events)
{
	struct probe *p = container_of(poll, struct probe, poll);
	socklen_t len = sizeof(int);
	struct err err;
	int r = 0;

	if (!p->connected) {
		if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &r, &len) < 0)
			r = errno;
		if (r != 0) {
			connect_error(p, -r, &err);
			finish_socket(p, &err);
			return;
		}
		p->connected = true;
		if (p->kind == HEALTH_TCP)
			finish_socket(p, NULL);
		else
			uv_poll_start(&p->poll, UV_READABLE, socket_ready);
		return;
	}
	r = read_banner(p, &err);
	if (r != 0)
		finish_socket(p, r < 0 ? &err : NULL);
}

static int set_address(const struct probe *p, struct sockaddr_storage *ss, socklen_t *len)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*ss));
	if (inet_pton(AF_INET, p->address, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)p->port);
		*len = sizeof(*in);
		return 0;
	}
	if (inet_pton(AF_INET6, p->address, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)p->port);
		*len = sizeof(*in6);
		return 0;
	}
	return -EINVAL;
}

static int start_socket(struct probe *p, uv_loop_t *loop, struct err *err)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int r = set_address(p, &ss, &len);

	if (r == 0)
		p->fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (r == 0 && p->fd < 0)
		r = -errno;
	if (r == 0 && connect(p->fd, (struct sockaddr *)&ss, len) < 0 && errno != EINPROGRESS)
		r = -errno;
	if (r == 0)
		r = uv_poll_init(loop, &p->poll, p->fd);
	if (r < 0) {
		if (p->fd >= 0)
			close(p->fd);
		return connect_error(p, r, err);
	}
	/* A connection that stands already is writable at the next turn. */
	uv_poll_start(&p->poll, UV_WRITABLE, socket_ready);
	return 0;
}

/* ---- http ---- */

static int drop_body(void *arg, int status, const char *data, size_t len)
{
	return 0;
}

static void http_done(void *arg, const struct http_result *res, const struct err *err)
{
	struct probe *p = arg;
	probe_done_fn *done = p->done;
	void *done_arg = p->arg;
	struct err mine;

	if (err == NULL && (res->status < 200 || res->status >= 400)) {
		err_set(&mine, -EIO, "the answer is HTTP status %d", res->status);
		err = &mine;
	}
	probe_free(p);
	if (done != NULL)
		done(done_arg, err);
}

static int start_http(struct probe *p, const struct health_check *check,
	const struct probe_target *t, struct err *err)
{
	bool local = health_check_needs_address(check);
	bool v6 = local && strchr(p->address, ':') != NULL;
	char port[8] = "", *url;
	struct http_spec spec = { .timeout_ms = t->timeout_ms,
		.connect_timeout_ms = t->timeout_ms,
		.fresh = true,
		.no_proxy = true,
		.on_data = drop_body };
	int r;

	if (local && t->port != 0)
		snprintf(port, sizeof(port), ":%u", t->port);
	url = str_printf("http://%s%s%s%s%s", v6 ? "[" : "", local ? p->address : "", v6 ? "]" : "",
		port, check->url + (port[0] != '\0' ? strcspn(check->url, "/") : 0));
	spec.url = url;
	r = url == NULL ? err_nomem(err) : http_request(t->http, &spec, http_done, p, &p->req, err);

	free(url);
	return r;
}

/* ---- agent ---- */

static void agent_replied(void *arg, const json_t *reply, const struct err *err)
{
	struct probe *p = arg;
	probe_done_fn *done = p->done;
	void *done_arg = p->arg;

	/* Without memory the answer comes from within the call. */
	if (p->asking) {
		p->asking = false;
		return;
	}
	probe_free(p);
	done(done_arg, err);
}

static int start_agent(struct probe *p, const struct probe_target *t, struct err *err)
{
	if (t->ping == NULL)
		return err_set(err, -ENOTSUP, "there is no guest agent here");
	p->forget = t->forget;
	p->forget_arg = t->arg;
	p->asking = true;
	t->ping(t->arg, t->timeout_ms, agent_replied, p);
	if (!p->asking)
		return err_nomem(err);
	p->asking = false;
	return 0;
}

/* ---- all of them ---- */

int probe_start(struct probe **out, const struct health_check *check, const struct probe_target *t,
	probe_done_fn *done, void *arg, struct err *err)
{
	struct probe *p;
	int r;

	if (t->address == NULL && health_check_needs_address(check))
		return err_set(err, -EADDRNOTAVAIL, "the machine's address is not known");
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return err_nomem(err);
	*p = (struct probe){ .kind = check->kind,
		.port = t->port != 0 ? t->port : check->port,
		.done = done,
		.arg = arg,
		.fd = -1 };
	p->address = t->address != NULL ? strdup(t->address) : NULL;
	if (t->address != NULL && p->address == NULL)
		r = err_nomem(err);
	else if (p->kind == HEALTH_HTTP)
		r = start_http(p, check, t, err);
	else if (p->kind == HEALTH_AGENT)
		r = start_agent(p, t, err);
	else
		r = start_socket(p, t->loop, err);
	if (r < 0)
		probe_free(p);
	else
		*out = p;
	return r;
}

void probe_cancel(struct probe *p)
{
	switch (p->kind) {
	case HEALTH_HTTP:
		p->done = NULL;
		http_cancel(p->req);
		break;
	case HEALTH_AGENT:
		p->forget(p->forget_arg, p);
		probe_free(p);
		break;
	default:
		close_socket(p);
		break;
	}
}
