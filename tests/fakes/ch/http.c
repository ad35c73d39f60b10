/*
 * The HTTP server, as micro_http does it: keep-alive, at most ten connections, at most 51,200 bytes
 * of a body, descriptors that come with a request's bytes belong to it, a request that cannot be
 * parsed is a 400 with a text of its own. Nothing else is read while a request is served.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

#define ROOT "/api/v1/"

static struct client {
	int fd;
	char *in;
	size_t len, cap;
	int fds[FDS_MAX];
	size_t nfds;
} clients[CLIENTS_MAX];
static size_t nclients; /* that were ever used */
static struct client *current;

int http_client_fd(size_t i)
{
	return i < nclients ? clients[i].fd : -1;
}

static void drop(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	for (size_t i = 0; i < c->nfds; i++)
		close(c->fds[i]);
	free(c->in);
	*c = (struct client){ .fd = -1 };
}

void http_close_all(void)
{
	for (size_t i = 0; i < nclients; i++)
		drop(&clients[i]);
	if (vm.api_listen >= 0)
		close(vm.api_listen);
	vm.api_listen = -1;
}

void http_close_current(void)
{
	if (current != NULL && current->fd >= 0) {
		close(current->fd);
		current->fd = -1;
	}
}

void http_accept(void)
{
	static const char full[] = "HTTP/1.1 503\r\nServer: Firecracker API\r\n"
				   "Connection: close\r\n"
				   "Content-Length: 40\r\n\r\n"
				   "{ \"error\": \"Too many open connections\" }";
	int fd = accept4(vm.api_listen, NULL, NULL, SOCK_CLOEXEC);
	size_t i;

	if (fd < 0)
		return;
	for (i = 0; i < nclients && clients[i].fd >= 0; i++)
		;
	if (i == CLIENTS_MAX) {
		send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL);
		close(fd);
		return;
	}
	if (i == nclients)
		nclients++;
	clients[i] = (struct client){ .fd = fd };
	current = &clients[i];
	script_fire("connect");
	current = NULL;
	if (clients[i].fd < 0)
		drop(&clients[i]);
}

void http_send(const char *data, size_t len)
{
	struct directive *d = script_find("fragments", NULL);
	long piece = script_number(d, 0), ms = 0;
	char *end;

	if (d != NULL) {
		strtol(d->rest, &end, 0);
		ms = strtol(end, NULL, 0);
	}
	while (len > 0 && current != NULL && current->fd >= 0) {
		size_t n = piece > 0 && (size_t)piece < len ? (size_t)piece : len;
		ssize_t r = send(current->fd, data, n, MSG_NOSIGNAL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return;
		data += r;
		len -= (size_t)r;
		if (ms > 0)
			wait_ms(ms);
	}
}

void http_answer(int status, const char *body, bool has_body)
{
	size_t len = body != NULL ? strlen(body) : 0, cap = len + 256, n;
	char *out = malloc(cap);

	/* micro_http writes no reason, but the blank before it. */
	n = (size_t)snprintf(out, cap,
		"HTTP/1.1 %d \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n",
		status);
	if (has_body || status != 204)
		n += (size_t)snprintf(out + n, cap - n,
			"Content-Type: application/json\r\nContent-Length: %zu\r\n", len);
	n += (size_t)snprintf(out + n, cap - n, "\r\n%s", body != NULL ? body : "");
	http_send(out, n);
	free(out);
}

static void bad_request(struct client *c, const char *why)
{
	char text[512];

	snprintf(text, sizeof(text),
		"{ \"error\": \"%s\nAll previous unanswered requests will be dropped.\" }", why);
	http_answer(400, text, true);
	c->len = 0;
}

/* The value of a header among the lines from head to end; NULL without it. */
static const char *header(const char *head, const char *end, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = strstr(head, "\r\n"); p != NULL && p < end; p = strstr(p, "\r\n")) {
		p += 2;
		if (strncasecmp(p, name, len) == 0 && p[len] == ':')
			return p + len + 1 + strspn(p + len + 1, " ");
	}
	return NULL;
}

/* MAX_PAYLOAD_SIZE of micro_http; what comes after v53 sets its own. */
static size_t body_max(void)
{
	return fake_major() < 54 ? 51200 : (size_t)4 << 20;
}

static bool parse_line(struct client *c, struct request *r)
{
	static const char *const methods[] = { "DELETE", "GET", "PUT", "PATCH" };
	char uri[256] = "", version[16] = "", why[128];
	size_t i;

	if (sscanf(c->in, "%11s %255s %15s", r->method, uri, version) != 3) {
		bad_request(c, "Invalid request.");
		return false;
	}
	/* DELETE is known to micro_http from then on. */
	for (i = fake_major() < 54; i < N(methods) && strcmp(methods[i], r->method) != 0; i++)
		;
	if (i == N(methods)) {
		snprintf(why, sizeof(why), "Invalid HTTP Method: Unsupported HTTP method.");
		bad_request(c, why);
		return false;
	}
	/* An absolute URI is taken by its path. */
	r->under_root = strncmp(uri, ROOT, sizeof(ROOT) - 1) == 0;
	snprintf(r->path, sizeof(r->path), "%s", r->under_root ? uri + sizeof(ROOT) - 1 : uri);
	return true;
}

/* Serves the first request of the input if it is there whole. */
static bool serve_one(struct client *c)
{
	char *end = c->len > 0 ? strstr(c->in, "\r\n\r\n") : NULL;
	struct request r = { 0 };
	const char *value;
	size_t head, len;
	char why[128];

	if (end == NULL)
		return false;
	if (!parse_line(c, &r))
		return false;
	head = (size_t)(end - c->in) + 4;
	value = header(c->in, end, "content-length");
	len = value != NULL ? strtoul(value, NULL, 10) : 0;
	if (len > body_max()) {
		snprintf(why, sizeof(why),
			"Request payload with size %zu is larger than the limit of %zu allowed by server.",
			len, body_max());
		bad_request(c, why);
		return false;
	}
	value = header(c->in, end, "expect");
	if (value != NULL && c->len == head && len > 0)
		http_send("HTTP/1.1 100 \r\nServer: Firecracker API\r\n"
			  "Connection: keep-alive\r\n\r\n",
			68);
	if (c->len < head + len)
		return false;
	r.has_body = len > 0;
	r.body = strndup(c->in + head, len);
	r.body_len = len;
	memcpy(r.fds, c->fds, sizeof(r.fds));
	r.nfds = c->nfds;
	c->nfds = 0;
	memmove(c->in, c->in + head + len, c->len - head - len + 1);
	c->len -= head + len;
	api_handle(&r);
	for (size_t i = 0; i < r.nfds; i++)
		if (r.fds[i] >= 0)
			close(r.fds[i]);
	free((char *)r.body);
	return c->fd >= 0;
}

static void take_fds(struct client *c, struct msghdr *mh)
{
	for (struct cmsghdr *h = CMSG_FIRSTHDR(mh); h != NULL; h = CMSG_NXTHDR(mh, h)) {
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		int fds[FDS_MAX];

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds, CMSG_DATA(h), n * sizeof(int));
		for (size_t i = 0; i < n; i++) {
			if (c->nfds < FDS_MAX)
				c->fds[c->nfds++] = fds[i];
			else
				close(fds[i]);
		}
	}
}

void http_read(size_t i)
{
	struct client *c = &clients[i];
	union {
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr mh = { .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
	struct iovec iov;
	ssize_t n;

	if (c->cap - c->len < 4096) {
		c->cap = c->cap * 2 + 8192;
		c->in = realloc(c->in, c->cap);
	}
	iov = (struct iovec){ c->in + c->len, c->cap - c->len - 1 };
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	n = recvmsg(c->fd, &mh, MSG_CMSG_CLOEXEC);
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		drop(c);
		return;
	}
	take_fds(c, &mh);
	c->len += (size_t)n;
	c->in[c->len] = '\0';
	current = c;
	while (serve_one(c))
		;
	current = NULL;
	if (c->fd < 0)
		drop(c);
}
