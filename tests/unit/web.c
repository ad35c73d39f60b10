#include "tests/unit/web.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/file.h"

#define KEYS_MAX 256

struct web {
	int fd;
	unsigned port;
	web_fn *fn;
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool stopping, open;
	unsigned running, at_once, most;
	struct buf log;
	struct {
		char *key;
		unsigned n;
	} seen[KEYS_MAX];
};

static bool stopping(struct web *w)
{
	bool s;

	pthread_mutex_lock(&w->lock);
	s = w->stopping;
	pthread_mutex_unlock(&w->lock);
	return s;
}

/* False when the server is to stop before anything comes. */
static bool await_input(struct web *w, int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (!stopping(w)) {
		if (poll(&p, 1, 20) > 0)
			return true;
	}
	return false;
}

static bool read_request(struct web_request *rq)
{
	size_t len = 0, want;
	char chunk[4096];
	char *end;

	do {
		ssize_t n;

		if (len + 1 == sizeof(rq->head) || !await_input(rq->web, rq->fd))
			return false;
		n = recv(rq->fd, rq->head + len, sizeof(rq->head) - 1 - len, 0);
		if (n <= 0)
			return false;
		len += (size_t)n;
		rq->head[len] = '\0';
		/* TLS, say. */
		if (rq->head[0] < 'A' || rq->head[0] > 'Z') {
			web_send(rq, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
			return false;
		}
	} while ((end = strstr(rq->head, "\r\n\r\n")) == NULL);
	end += 4;
	buf_add(&rq->body, end, (size_t)(rq->head + len - end));
	*end = '\0';
	want = strtoul(web_header(rq, "Content-Length"), NULL, 10);
	while (rq->body.len < want) {
		ssize_t n;

		if (!await_input(rq->web, rq->fd))
			return false;
		n = recv(rq->fd, chunk, sizeof(chunk), 0);
		if (n <= 0)
			return false;
		buf_add(&rq->body, chunk, (size_t)n);
	}
	return sscanf(rq->head, "%15s %511s", rq->method, rq->path) == 2;
}

static void note(struct web_request *rq)
{
	struct web *w = rq->web;
	const char *auth = web_header(rq, "Authorization"), *range = web_header(rq, "Range");
	char *key = str_printf("%s %s", rq->method, rq->path);
	size_t i;

	pthread_mutex_lock(&w->lock);
	buf_printf(&w->log, "%s", key);
	if (auth[0] != '\0')
		buf_printf(&w->log, " Authorization: %s", auth);
	if (range[0] != '\0')
		buf_printf(&w->log, " Range: %s", range);
	buf_adds(&w->log, "\n");
	for (i = 0; i < KEYS_MAX && w->seen[i].key != NULL; i++) {
		if (strcmp(w->seen[i].key, key) == 0)
			break;
	}
	if (i < KEYS_MAX) {
		if (w->seen[i].key == NULL)
			w->seen[i].key = strdup(key);
		rq->count = ++w->seen[i].n;
	}
	pthread_mutex_unlock(&w->lock);
	free(key);
}

static void count_out(struct web_request *rq)
{
	pthread_mutex_lock(&rq->web->lock);
	rq->web->at_once -= rq->counted;
	rq->counted = false;
	pthread_mutex_unlock(&rq->web->lock);
}

static void *serve(void *arg)
{
	struct web_request *rq = arg;
	struct web *w = rq->web;

	if (read_request(rq)) {
		note(rq);
		w->fn(rq, w->arg);
	}
	count_out(rq);
	close(rq->fd);
	buf_finish(&rq->body);
	free(rq);
	pthread_mutex_lock(&w->lock);
	w->running--;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void *accept_all(void *arg)
{
	struct web *w = arg;
	pthread_t thread;

	while (await_input(w, w->fd)) {
		struct web_request *rq = calloc(1, sizeof(*rq));

		if (rq == NULL)
			abort();
		rq->web = w;
		rq->fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC);
		if (rq->fd < 0) {
			free(rq);
			continue;
		}
		pthread_mutex_lock(&w->lock);
		w->running++;
		w->at_once++;
		w->most = MAX(w->most, w->at_once);
		rq->counted = true;
		pthread_mutex_unlock(&w->lock);
		if (pthread_create(&thread, NULL, serve, rq) != 0)
			abort();
		pthread_detach(thread);
	}
	return NULL;
}

struct web *web_start(const char *path, web_fn *fn, void *arg)
{
	struct sockaddr_in sa = { .sin_family = AF_INET };
	struct web *w = calloc(1, sizeof(*w));
	socklen_t len = sizeof(sa);
	struct err err;

	assert_non_null(w);
	w->fn = fn;
	w->arg = arg;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->changed, NULL);
	if (path != NULL) {
		if (unix_listen(path, 0600, 64, &w->fd, &err) < 0)
			fail_msg("%s", err.msg);
	} else {
		sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(w->fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
		assert_int_equal(listen(w->fd, 64), 0);
		assert_int_equal(getsockname(w->fd, (struct sockaddr *)&sa, &len), 0);
		w->port = ntohs(sa.sin_port);
	}
	assert_int_equal(pthread_create(&w->thread, NULL, accept_all, w), 0);
	return w;
}

void web_stop(struct web *w)
{
	if (w == NULL)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = w->open = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_mutex_lock(&w->lock);
	while (w->running > 0)
		pthread_cond_wait(&w->changed, &w->lock);
	pthread_mutex_unlock(&w->lock);
	close(w->fd);
	for (size_t i = 0; i < KEYS_MAX; i++)
		free(w->seen[i].key);
	buf_finish(&w->log);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

unsigned web_port(const struct web *w)
{
	return w->port;
}

char *web_url(const struct web *w, const char *path)
{
	return str_printf("http://127.0.0.1:%u%s", w->port, path);
}

char *web_log(struct web *w)
{
	char *text;

	pthread_mutex_lock(&w->lock);
	text = strdup(buf_str(&w->log));
	pthread_mutex_unlock(&w->lock);
	return text;
}

unsigned web_count(struct web *w, const char *begin)
{
	char *log = web_log(w), *save = NULL;
	unsigned n = 0;

	for (char *line = strtok_r(log, "\n", &save); line != NULL;
		line = strtok_r(NULL, "\n", &save))
		n += str_starts(line, begin);
	free(log);
	return n;
}

unsigned web_most(struct web *w)
{
	unsigned n;

	pthread_mutex_lock(&w->lock);
	n = w->most;
	pthread_mutex_unlock(&w->lock);
	return n;
}

/* ---- answering ---- */

const char *web_header(const struct web_request *rq, const char *name)
{
	static _Thread_local char values[8][1024];
	static _Thread_local unsigned next;
	char *value = values[next++ % 8];
	size_t len = strlen(name);

	value[0] = '\0';
	for (const char *p = rq->head; (p = strstr(p, "\r\n")) != NULL;) {
		p += 2;
		if (strncasecmp(p, name, len) == 0 && p[len] == ':') {
			p += len + 1;
			p += strspn(p, " ");
			snprintf(value, sizeof(values[0]), "%.*s", (int)strcspn(p, "\r"), p);
			break;
		}
	}
	return value;
}

void web_send(struct web_request *rq, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		struct pollfd pfd = { .fd = rq->fd, .events = POLLOUT };
		ssize_t n;

		if (poll(&pfd, 1, 20) == 0) {
			if (stopping(rq->web))
				return;
			continue;
		}
		n = send(rq->fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return;
		p += n;
		len -= (size_t)n;
	}
}

void web_head(struct web_request *rq, int status, const char *extra, size_t length)
{
	char *text = str_printf(
		"HTTP/1.1 %d Reason\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status,
		length, extra);

	web_send(rq, text, strlen(text));
	free(text);
}

void web_answer(struct web_request *rq, int status, const char *extra, const char *body)
{
	web_head(rq, status, extra, strlen(body));
	if (strcmp(rq->method, "HEAD") != 0)
		web_send(rq, body, strlen(body));
}

void web_range(struct web_request *rq, const void *data, size_t len)
{
	unsigned long from = 0;
	char extra[128];

	if (sscanf(web_header(rq, "Range"), "bytes=%lu-", &from) == 1 && from < len) {
		snprintf(extra, sizeof(extra), "Content-Range: bytes %lu-%zu/%zu\r\n", from,
			len - 1, len);
		web_head(rq, 206, extra, len - from);
	} else {
		from = 0;
		web_head(rq, 200, "", len);
	}
	if (strcmp(rq->method, "HEAD") == 0 || len == 0)
		return;
	web_send(rq, (const char *)data + from, len - from - 1);
	count_out(rq);
	web_send(rq, (const char *)data + len - 1, 1);
}

void web_stall(struct web_request *rq)
{
	char c;

	while (await_input(rq->web, rq->fd) && recv(rq->fd, &c, 1, 0) > 0)
		;
}

void web_wait_open(struct web_request *rq)
{
	struct web *w = rq->web;

	pthread_mutex_lock(&w->lock);
	while (!w->open)
		pthread_cond_wait(&w->changed, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void web_open(struct web *w)
{
	pthread_mutex_lock(&w->lock);
	w->open = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

/* ---- asking ---- */

struct buf web_ask(unsigned port, const char *request)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct buf out = { 0 };
	char chunk[16384];
	ssize_t n;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ||
		send(fd, request, strlen(request), MSG_NOSIGNAL) < 0) {
		close(fd);
		return out;
	}
	while ((n = recv(fd, chunk, sizeof(chunk), 0)) > 0)
		buf_add(&out, chunk, (size_t)n);
	close(fd);
	return out;
}

struct buf web_get(unsigned port, const char *path, const char *extra)
{
	char *text = str_printf(
		"GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s\r\n", path, extra);
	struct buf out = web_ask(port, text);

	free(text);
	return out;
}

int web_status(const struct buf *answer)
{
	int status = 0;

	sscanf(buf_str(answer), "HTTP/1.%*d %d", &status);
	return status;
}

const char *web_body(const struct buf *answer)
{
	const char *end = strstr(buf_str(answer), "\r\n\r\n");

	return end != NULL ? end + 4 : "";
}
