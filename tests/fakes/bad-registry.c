/*
 * A registry that misbehaves: bad-registry LOG PORT. The repository's name says how (the tables
 * below); each image is one layer of 3 MiB a tar of one file, which is also served as a file by itself,
 * /v2/SCENARIO/files/NAME, with an entity tag. A second port, PORT + 1, is the blob
 * store that redirects go to. A line for each request goes to LOG; one for readiness to stdout.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LAYER_SIZE   (3u << 20)
#define TOKEN        "opensesame"
#define MANIFEST     "application/vnd.oci.image.manifest.v1+json"
#define INDEX        "application/vnd.oci.image.index.v1+json"
#define SCENARIO_MAX 64
#define DATE         "Sat, 01 Jun 2024 10:00:00 GMT"

static unsigned char layer[LAYER_SIZE], wrong[LAYER_SIZE];
static char layer_digest[80], config_digest[80], manifest_digest[80];
static char config[512], manifest[2048];
static int port, log_fd;
static const char *log_path;

struct request {
	int fd;
	int port;
	char method[8], path[512], scenario[SCENARIO_MAX], kind[32], what[160];
	char range[64], if_range[64], if_none_match[64], if_modified_since[64], authorization[256];
	unsigned count; /* how often scenario and kind were asked for, this one included */
};

static void digest(const void *data, size_t len, char out[80])
{
	unsigned char md[SHA256_DIGEST_LENGTH];
	char *p = stpcpy(out, "sha256:");

	SHA256(data, len, md);
	for (size_t i = 0; i < sizeof(md); i++)
		p += sprintf(p, "%02x", md[i]);
}

/* POSIX.1-1988's, of a regular file. */
static void tar_header(unsigned char *h, unsigned size)
{
	unsigned sum = 0;
	char text[16];

	memcpy(h, "data", 4);
	memcpy(h + 100, "0000644", 7);
	memcpy(h + 108, "0000000", 7);
	memcpy(h + 116, "0000000", 7);
	snprintf(text, sizeof(text), "%011o", size);
	memcpy(h + 124, text, 11);
	memcpy(h + 136, "00000000000", 11);
	memset(h + 148, ' ', 8);
	h[156] = '0';
	memcpy(h + 257, "ustar\00000", 8);
	for (int i = 0; i < 512; i++)
		sum += h[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(h + 148, text, 7);
}

static void make_image(void)
{
	unsigned x = 12345;

	for (size_t i = 0; i < LAYER_SIZE; i++) {
		x = x * 1103515245 + 12345;
		layer[i] = (unsigned char)(x >> 16);
	}
	memset(layer, 0, 512);
	memset(layer + LAYER_SIZE - 1024, 0, 1024);
	tar_header(layer, LAYER_SIZE - 512 - 1024);
	memcpy(wrong, layer, LAYER_SIZE);
	wrong[LAYER_SIZE / 2] ^= 1;
	digest(layer, LAYER_SIZE, layer_digest);
	snprintf(config, sizeof(config),
		"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"type\":\"layers\","
		"\"diff_ids\":[\"%s\"]}}",
		layer_digest);
	digest(config, strlen(config), config_digest);
	snprintf(manifest, sizeof(manifest),
		"{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST "\",\"config\":{\"mediaType\":"
		"\"application/vnd.oci.image.config.v1+json\",\"digest\":\"%s\",\"size\":%zu},"
		"\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\","
		"\"digest\":\"%s\",\"size\":%u}]}",
		config_digest, strlen(config), layer_digest, LAYER_SIZE);
	digest(manifest, strlen(manifest), manifest_digest);
}

static bool send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

/* Head of an answer; extra are further header lines, each with \r\n. */
static void head(const struct request *r, int status, const char *extra, size_t length)
{
	char text[2048];
	int n = snprintf(text, sizeof(text),
		"HTTP/1.1 %d x\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n", status,
		length, extra);

	send_all(r->fd, text, (size_t)n);
}

static void answer(const struct request *r, int status, const char *extra, const char *body)
{
	head(r, status, extra, strlen(body));
	send_all(r->fd, body, strlen(body));
}

static void document(const struct request *r, const char *type, const char *body)
{
	char extra[160];

	snprintf(extra, sizeof(extra), "Content-Type: %s\r\n", type);
	answer(r, 200, extra, body);
}

static bool is(const struct request *r, const char *scenario)
{
	return strcmp(r->scenario, scenario) == 0;
}

static bool scenario_begins(const struct request *r, const char *scenario)
{
	return strncmp(r->scenario, scenario, strlen(scenario)) == 0;
}

/* Every blob as it should be, from the byte that the request asks for. */
static void serve_bytes(const struct request *r, const void *data, size_t size)
{
	unsigned long from = 0;
	char extra[128] = "";

	if (sscanf(r->range, "bytes=%lu-", &from) == 1 && from < size) {
		snprintf(extra, sizeof(extra), "Content-Range: bytes %lu-%zu/%zu\r\n", from,
			size - 1, size);
		head(r, 206, extra, size - from);
	} else {
		from = 0;
		head(r, 200, extra, size);
	}
	send_all(r->fd, (const char *)data + from, size - from);
}

static void challenge(const struct request *r)
{
	char extra[256];

	snprintf(extra, sizeof(extra),
		"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"bad\","
		"scope=\"repository:%s:pull\"\r\n",
		port, r->scenario);
	answer(r, 401, extra, "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"no\"}]}");
}

static void stall(const struct request *r)
{
	char c;

	/* Until the client hangs up. */
	while (recv(r->fd, &c, 1, 0) > 0)
		;
}

/* LOG with that behind it; -1: there is none. */
static int open_beside(const char *suffix)
{
	char path[512];

	snprintf(path, sizeof(path), "%s%s", log_path, suffix);
	return open(path, O_RDONLY | O_CLOEXEC);
}

/* Half, and the rest when there is a file LOG.gate. */
static void serve_gated(const struct request *r)
{
	int fd;

	head(r, 200, "", LAYER_SIZE);
	send_all(r->fd, layer, LAYER_SIZE / 2);
	while ((fd = open_beside(".gate")) < 0)
		usleep(20000);
	close(fd);
	send_all(r->fd, layer + LAYER_SIZE / 2, LAYER_SIZE - LAYER_SIZE / 2);
}

static void serve_huge(const struct request *r);

static void serve_layer(const struct request *r)
{
	char extra[256];

	if (is(r, "wrong-digest") || (is(r, "wrong-once") && r->count == 1)) {
		serve_bytes(r, wrong, LAYER_SIZE);
	} else if (is(r, "short")) {
		head(r, 200, "", 1000);
		send_all(r->fd, layer, 1000);
	} else if (is(r, "long")) {
		head(r, 200, "", LAYER_SIZE + 10);
		send_all(r->fd, layer, LAYER_SIZE);
		send_all(r->fd, "0123456789", 10);
	} else if ((is(r, "cut-once") || is(r, "no-range") || is(r, "cut-416")) && r->count == 1) {
		head(r, 200, "", LAYER_SIZE);
		send_all(r->fd, layer, LAYER_SIZE / 2);
	} else if (is(r, "cut-416") && r->count == 2) {
		answer(r, 416, "", "");
	} else if (is(r, "cut-always")) {
		head(r, 200, "", LAYER_SIZE);
		send_all(r->fd, layer, 100000);
	} else if (is(r, "no-range")) {
		head(r, 200, "", LAYER_SIZE);
		send_all(r->fd, layer, LAYER_SIZE);
	} else if (is(r, "other-range") && r->range[0] != '\0') {
		head(r, 206, "Content-Range: bytes 5-6/7\r\n", 2);
		send_all(r->fd, layer, 2);
	} else if (is(r, "other-range")) {
		head(r, 200, "", LAYER_SIZE);
		send_all(r->fd, layer, 1000);
	} else if (is(r, "stall") || (is(r, "stall-once") && r->count == 1)) {
		head(r, 200, "", LAYER_SIZE);
		send_all(r->fd, layer, LAYER_SIZE / 2);
		stall(r);
	} else if (is(r, "gate")) {
		serve_gated(r);
	} else if (is(r, "slow")) {
		/* A MiB and then nothing, for a client that is killed meanwhile. */
		head(r, 200, "", LAYER_SIZE);
		send_all(r->fd, layer, 1u << 20);
		stall(r);
	} else if (is(r, "redirect")) {
		snprintf(extra, sizeof(extra), "Location: http://127.0.0.1:%d/v2/good/blobs/%s\r\n",
			port + 1, layer_digest);
		answer(r, 307, extra, "");
	} else if (is(r, "gone")) {
		answer(r, 404, "", "{\"errors\":[{\"message\":\"blob unknown\"}]}");
	} else {
		serve_bytes(r, layer, LAYER_SIZE);
	}
}

/* Head and bytes from `from` on of one of the two contents, whose tags are "layer" and "wrong". */
static void serve_tagged(
	const struct request *r, const unsigned char *data, size_t from, size_t end)
{
	char extra[160];
	int n = snprintf(
		extra, sizeof(extra), "ETag: \"%s\"\r\n", data == layer ? "layer" : "wrong");

	if (from > 0)
		snprintf(extra + n, sizeof(extra) - (size_t)n, "Content-Range: bytes %zu-%u/%u\r\n",
			from, LAYER_SIZE - 1, LAYER_SIZE);
	head(r, from > 0 ? 206 : 200, extra, LAYER_SIZE - from);
	send_all(r->fd, data + from, end - from);
}

/* The file LOG.given, whatever it is. */
static void serve_given(const struct request *r)
{
	static unsigned char data[16u << 20];
	int fd = open_beside(".given");
	ssize_t n = fd >= 0 ? read(fd, data, sizeof(data)) : -1;

	if (fd >= 0)
		close(fd);
	if (n < 0) {
		answer(r, 404, "", "");
		return;
	}
	head(r, 200, "ETag: \"given\"\r\n", (size_t)n);
	send_all(r->fd, data, (size_t)n);
}

static void serve_file(const struct request *r)
{
	static const char unsized[] = "HTTP/1.1 200 x\r\nConnection: close\r\n\r\n";
	const unsigned char *data = scenario_begins(r, "changes") && r->count > 1 ? wrong : layer;
	unsigned long from = 0;
	char tag[16];

	snprintf(tag, sizeof(tag), "\"%s\"", data == layer ? "layer" : "wrong");
	if (sscanf(r->range, "bytes=%lu-", &from) != 1 || from >= LAYER_SIZE ||
		(r->if_range[0] != '\0' && strcmp(r->if_range, tag) != 0))
		from = 0;
	if (is(r, "whole") && sscanf(r->range, "bytes=%lu-", &from) == 1 && from >= LAYER_SIZE) {
		char extra[64];

		snprintf(extra, sizeof(extra), "Content-Range: bytes */%u\r\n", LAYER_SIZE);
		answer(r, 416, extra, "");
	} else if (is(r, "tagged") && strcmp(r->if_none_match, tag) == 0) {
		answer(r, 304, "", "");
	} else if (is(r, "dated") && strcmp(r->if_modified_since, DATE) == 0) {
		answer(r, 304, "", "");
	} else if (is(r, "dated")) {
		head(r, 200, "Last-Modified: " DATE "\r\n", LAYER_SIZE);
		send_all(r->fd, layer, LAYER_SIZE);
	} else if (is(r, "unsized")) {
		send_all(r->fd, unsized, strlen(unsized));
		send_all(r->fd, layer, LAYER_SIZE);
	} else if (is(r, "given") && strcmp(r->if_none_match, "\"given\"") == 0) {
		answer(r, 304, "", "");
	} else if (is(r, "given")) {
		serve_given(r);
	} else if (is(r, "tagged")) {
		serve_tagged(r, data, from, LAYER_SIZE);
	} else if (scenario_begins(r, "changes") || is(r, "tagged-cut")) {
		serve_tagged(r, data, from, r->count == 1 ? LAYER_SIZE / 2 : LAYER_SIZE);
	} else if (is(r, "limit") && r->count <= 2) {
		answer(r, 429, "Retry-After: 1\r\n", "");
	} else if (is(r, "error-always")) {
		answer(r, 503, "", "");
	} else if (is(r, "to-plain")) {
		char extra[160];

		snprintf(extra, sizeof(extra),
			"Location: http://127.0.0.1:%d/v2/good/files/disk.raw\r\n", port + 1);
		answer(r, 302, extra, "");
	} else if (is(r, "endless")) {
		serve_huge(r);
	} else {
		serve_layer(r);
	}
}

static void serve_blob(const struct request *r)
{
	if (strcmp(r->what, config_digest) == 0)
		serve_bytes(r, config, strlen(config));
	else if (strcmp(r->what, layer_digest) == 0)
		serve_layer(r);
	else
		answer(r, 404, "", "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}");
}

/* A document without end, in chunks. */
static void serve_huge(const struct request *r)
{
	static char chunk[65536 + 16];
	int n = sprintf(chunk, "10000\r\n");

	memset(chunk + n, ' ', 65536);
	memcpy(chunk + n + 65536, "\r\n", 2);
	answer(r, 200, "Transfer-Encoding: chunked\r\nX: y\r\n", "");
	while (send_all(r->fd, chunk, (size_t)n + 65536 + 2))
		;
}

/* 100 MB, as its head says; how much of it was taken goes to the log. */
static void serve_large(const struct request *r)
{
	static char piece[65536];
	size_t size = 100u << 20, sent = 0;

	memset(piece, ' ', sizeof(piece));
	head(r, 200, "Content-Type: " MANIFEST "\r\n", size);
	while (sent < size && send_all(r->fd, piece, sizeof(piece)))
		sent += sizeof(piece);
	dprintf(log_fd, "large sent=%zu\n", sent);
}

static void serve_index(const struct request *r)
{
	char body[1024];

	snprintf(body, sizeof(body),
		"{\"schemaVersion\":2,\"mediaType\":\"" INDEX "\",\"manifests\":["
		"{\"mediaType\":\"" MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,\"platform\":"
		"{\"os\":\"linux\",\"architecture\":\"%s\"}},"
		"{\"mediaType\":\"" MANIFEST "\",\"digest\":\"%s\",\"size\":%zu,\"platform\":"
		"{\"os\":\"unknown\",\"architecture\":\"unknown\"}}]}",
		manifest_digest, strlen(manifest), is(r, "index") ? "amd64" : "riscv64",
		manifest_digest, strlen(manifest));
	document(r, INDEX, body);
}

static void serve_manifest(const struct request *r)
{
	char extra[512];

	if (is(r, "redirect-loop")) {
		snprintf(
			extra, sizeof(extra), "Location: http://127.0.0.1:%d%s\r\n", port, r->path);
		answer(r, 302, extra, "");
	} else if (is(r, "huge")) {
		serve_huge(r);
	} else if ((is(r, "index") || is(r, "index-other")) && strcmp(r->what, "latest") == 0) {
		serve_index(r);
	} else if (is(r, "schema1")) {
		document(r, "application/vnd.docker.distribution.manifest.v1+prettyjws",
			"{\"schemaVersion\":1,\"fsLayers\":[]}");
	} else if (is(r, "garbage")) {
		document(r, MANIFEST, "<html>welcome to the hotel network</html>");
	} else if (is(r, "other-manifest")) {
		snprintf(extra, sizeof(extra),
			"Content-Type: " MANIFEST "\r\nDocker-Content-Digest: %s\r\n",
			layer_digest);
		answer(r, 200, extra, manifest);
	} else if (is(r, "large")) {
		serve_large(r);
	} else if (is(r, "limit") && r->count <= 2) {
		answer(r, 429, "Retry-After: 1\r\n", "");
	} else if (is(r, "limit-date") && r->count == 1) {
		char date[64];
		time_t later = time(NULL) + 3;
		struct tm tm;

		/* RFC 9110, 5.6.7 */
		strftime(date, sizeof(date), "Retry-After: %a, %d %b %Y %H:%M:%S GMT\r\n",
			gmtime_r(&later, &tm));
		answer(r, 503, date, "");
	} else if ((is(r, "error-once") && r->count == 1) || is(r, "error-always")) {
		answer(r, 503, "", "{\"errors\":[{\"message\":\"upstream is\\u001b down\"}]}");
	} else if (is(r, "denied")) {
		answer(r, 403, "", "");
	} else if (is(r, "absent")) {
		answer(r, 404, "", "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\"}]}");
	} else {
		document(r, MANIFEST, manifest);
	}
}

/* Whether the request may go on; else it was answered. */
static bool authorized(const struct request *r)
{
	bool wants_token = is(r, "token") || is(r, "redirect");

	if (r->port != port)
		return true;
	if (is(r, "loop401") || (wants_token && strcmp(r->authorization, "Bearer " TOKEN) != 0)) {
		challenge(r);
		return false;
	}
	/* user:secret */
	if (is(r, "basic") && strcmp(r->authorization, "Basic dXNlcjpzZWNyZXQ=") != 0) {
		answer(r, 401, "WWW-Authenticate: Basic realm=\"bad\"\r\n", "");
		return false;
	}
	return true;
}

static unsigned count(const struct request *r)
{
	static struct {
		char key[SCENARIO_MAX + 40];
		unsigned n;
	} seen[128];
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char key[SCENARIO_MAX + 40];
	unsigned n = 0;

	/* The config is no layer: it has a count of its own. */
	snprintf(key, sizeof(key), "%s/%s%c", r->scenario, r->kind,
		strcmp(r->what, config_digest) == 0 ? 'c' : ' ');
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
		if (seen[i].n == 0)
			strcpy(seen[i].key, key);
		if (strcmp(seen[i].key, key) == 0) {
			n = ++seen[i].n;
			break;
		}
	}
	pthread_mutex_unlock(&lock);
	return n;
}

static bool read_request(struct request *r)
{
	char text[8192];
	size_t len = 0;
	char *save, *line;

	while (len + 1 < sizeof(text)) {
		ssize_t n = recv(r->fd, text + len, sizeof(text) - 1 - len, 0);

		if (n <= 0)
			return false;
		len += (size_t)n;
		text[len] = '\0';
		if (strstr(text, "\r\n\r\n") != NULL)
			break;
	}
	line = strtok_r(text, "\r\n", &save);
	if (line == NULL || sscanf(line, "%7s %511s", r->method, r->path) != 2)
		return false;
	while ((line = strtok_r(NULL, "\r\n", &save)) != NULL) {
		if (strncasecmp(line, "Range: ", 7) == 0)
			snprintf(r->range, sizeof(r->range), "%.63s", line + 7);
		if (strncasecmp(line, "If-Range: ", 10) == 0)
			snprintf(r->if_range, sizeof(r->if_range), "%.63s", line + 10);
		if (strncasecmp(line, "If-None-Match: ", 15) == 0)
			snprintf(r->if_none_match, sizeof(r->if_none_match), "%.63s", line + 15);
		if (strncasecmp(line, "If-Modified-Since: ", 19) == 0)
			snprintf(r->if_modified_since, sizeof(r->if_modified_since), "%.63s",
				line + 19);
		if (strncasecmp(line, "Authorization: ", 15) == 0)
			snprintf(r->authorization, sizeof(r->authorization), "%.255s", line + 15);
	}
	sscanf(r->path, "/v2/%63[^/]/%31[^/]/%159s", r->scenario, r->kind, r->what);
	return true;
}

static void *serve(void *arg)
{
	struct request *r = arg;

	if (read_request(r)) {
		r->count = count(r);
		dprintf(log_fd, "%d %s %s range=%s auth=%s\n", r->port, r->method, r->path,
			r->range, r->authorization);
		if (strncmp(r->path, "/token", 6) == 0)
			document(r, "application/json", "{\"token\":\"" TOKEN "\"}");
		else if (strcmp(r->path, "/v2/") == 0)
			challenge(r);
		else if (strcmp(r->kind, "files") == 0)
			serve_file(r);
		else if (!authorized(r))
			;
		else if (strcmp(r->kind, "manifests") == 0)
			serve_manifest(r);
		else if (strcmp(r->kind, "blobs") == 0)
			serve_blob(r);
		else
			answer(r, 404, "", "");
	}
	shutdown(r->fd, SHUT_WR);
	close(r->fd);
	free(r);
	return NULL;
}

static int listen_on(int p)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)p) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 64) < 0) {
		perror("bad-registry: listen");
		exit(1);
	}
	return fd;
}

struct listener {
	int fd, port;
};

static void *accept_all(void *arg)
{
	struct listener *l = arg;

	for (;;) {
		struct request *r = calloc(1, sizeof(*r));
		pthread_t thread;

		if (r == NULL)
			exit(1);
		r->fd = accept(l->fd, NULL, NULL);
		r->port = l->port;
		if (r->fd < 0 || pthread_create(&thread, NULL, serve, r) != 0)
			exit(1);
		pthread_detach(thread);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct listener first, second;
	pthread_t thread;

	if (argc != 3) {
		fprintf(stderr, "usage: bad-registry LOG PORT\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	log_path = argv[1];
	log_fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	port = atoi(argv[2]);
	make_image();
	first = (struct listener){ listen_on(port), port };
	second = (struct listener){ listen_on(port + 1), port + 1 };
	printf("ready %s\n", layer_digest);
	fflush(stdout);
	if (pthread_create(&thread, NULL, accept_all, &second) != 0)
		return 1;
	accept_all(&first);
	return 0;
}
