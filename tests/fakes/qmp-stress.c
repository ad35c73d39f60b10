/*
 * qmp-stress - a client of a QMP socket that behaves as badly as it may, and checks every answer:
 *
 *   qmp-stress talk SOCKET SEED ROUNDS   batches of pipelined commands in random pieces: colliding
 *                                        ids of every type and none, commands that fail, that are
 *                                        refused or out of band, JSON that is none, 1 MiB messages;
 *                                        the answers must come in the order of the commands, with
 *                                        their ids; events may come anywhere between them
 *   qmp-stress deaf SOCKET               sends commands for ever and never reads
 *   qmp-stress time SOCKET COUNT         round trips of query-status one by one; prints the median
 *                                        and the mean in microseconds
 *   qmp-stress events SOCKET OTHER CLIENTS COUNT
 *                                        so many clients of a fake-qemu hear so many events; prints
 *                                        the longest time, in milliseconds, in which one at another
 *                                        machine's socket had no answer that the supervisor gives
 *                                        by itself: the longest turn of its loop, at most
 *
 * Exit status 0, or 1 with a line on stderr that says what was wrong.
 */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH   24
#define LARGE   (1u << 20)
#define WAIT_MS 120000

struct text {
	char *data;
	size_t len, cap, off;
};

struct expected {
	bool error;
	json_t *id; /* NULL: none */
};

static unsigned long long state;

static unsigned dice(unsigned n)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(state >> 33) % n;
}

static void die(const char *what, const char *more)
{
	fprintf(stderr, "qmp-stress: %s%s%.300s\n", what, more != NULL ? ": " : "",
		more != NULL ? more : "");
	exit(1);
}

static void add(struct text *t, const char *data, size_t len)
{
	if (t->len + len + 1 > t->cap) {
		t->cap = (t->len + len + 1) * 2;
		t->data = realloc(t->data, t->cap);
		if (t->data == NULL)
			die("out of memory", NULL);
	}
	memcpy(t->data + t->len, data, len);
	t->len += len;
	t->data[t->len] = '\0';
}

static void adds(struct text *t, const char *s)
{
	add(t, s, strlen(s));
}

static int dial(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die(path, strerror(errno));
	return fd;
}

/* The next line, waiting for it; valid until the next call. */
static char *line(int fd, struct text *in)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char *nl = in->len > in->off ? memchr(in->data + in->off, '\n', in->len - in->off)
					     : NULL;
		static char data[65536];
		ssize_t n;

		if (nl != NULL) {
			char *start = in->data + in->off;

			*nl = '\0';
			in->off = (size_t)(nl - in->data) + 1;
			return start;
		}
		if (in->off > 0)
			memmove(in->data, in->data + in->off, in->len - in->off);
		in->len -= in->off;
		in->off = 0;
		if (poll(&p, 1, WAIT_MS) <= 0)
			die("no answer", NULL);
		n = read(fd, data, sizeof(data));
		if (n <= 0)
			die("the connection was closed", NULL);
		add(in, data, (size_t)n);
	}
}

static json_t *parse_line(const char *text)
{
	json_t *j = json_loads(text, 0, NULL);

	if (j == NULL)
		die("this is no JSON", text);
	return j;
}

/* ---- what is sent ---- */

static json_t *make_id(void)
{
	switch (dice(9)) {
	case 0:
		return NULL;
	case 1:
		return json_null();
	case 2:
		return json_integer(dice(3));
	case 3:
		return json_string("same");
	case 4:
		return json_string("with \"quotes\", \\ and {brackets: [");
	case 5:
		return json_pack("[i,s,n]", (int)dice(3), "x");
	case 6:
		return json_pack("{s:{s:i},s:b}", "id", "id", (int)dice(3), "return", 1);
	case 7:
		return json_real(0.5);
	default:
		return json_true();
	}
}

static json_t *large_string(void)
{
	char *s = malloc(LARGE + 1);
	json_t *j;

	memset(s, 'x', LARGE);
	s[LARGE] = '\0';
	j = json_string(s);
	free(s);
	return j;
}

static struct expected add_garbage(struct text *out)
{
	static const char *const words[] = { "{bad}\n", "nonsense\n",
		"[1, {\"execute\": \"quit\"}]", "\"{\"", "{\"execute\": }",
		"{\"execute\":\"query-status\",\"execute\":\"quit\"}" };

	adds(out, words[dice(sizeof(words) / sizeof(words[0]))]);
	return (struct expected){ .error = true };
}

static struct expected add_command(struct text *out)
{
	static const struct {
		const char *text;
		bool error;
	} commands[] = {
		{ "{\"execute\": \"query-status\"}", false },
		{ "{\"execute\": \"query-status\"}", false },
		{ "{\"execute\": \"query-version\", \"arguments\": {}}", false },
		{ "{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/machine\", \"property\": \"type\"}}",
			false },
		{ "{\"execute\": \"qom-get\", \"arguments\": {\"path\": \"/nowhere\", \"property\": \"x\"}}",
			true },
		{ "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"info status\"}}",
			false },
		{ "{\"execute\": \"query-such-a-thing\"}", true },
		{ "{\"execute\": \"quit\"}", true },
		{ "{\"execute\": \"human-monitor-command\", \"arguments\": {\"command-line\": \"quit\"}}",
			true },
		{ "{\"exec-oob\": \"query-status\"}", true },
		{ "{\"execute\": \"qmp_capabilities\"}", true },
		{ "{\"execute\": \"query-status\", \"arguments\": 1}", true },
		{ "{\"what\": 1}", true },
	};
	unsigned i = dice(sizeof(commands) / sizeof(commands[0]));
	json_t *cmd = json_loads(commands[i].text, 0, NULL);
	struct expected e = { .error = commands[i].error };
	char *text;

	e.id = dice(200) == 0 ? large_string() : make_id();
	if (e.id != NULL)
		json_object_set(cmd, "id", e.id);
	text = json_dumps(cmd, dice(2) == 0 ? JSON_COMPACT : JSON_INDENT(1) | JSON_SORT_KEYS);
	adds(out, text);
	free(text);
	json_decref(cmd);
	return e;
}

/* ---- talking ---- */

static void check(const struct expected *e, json_t *got, const char *text)
{
	json_t *id = json_object_get(got, "id");

	if (json_object_get(got, e->error ? "error" : "return") == NULL)
		die(e->error ? "wanted an error, got" : "wanted a result, got", text);
	if ((id == NULL) != (e->id == NULL) || (id != NULL && !json_equal(id, e->id)))
		die("the id is not that of the command", text);
}

static void read_some(int fd, struct text *in)
{
	static char data[65536];
	ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);

	if (n > 0)
		add(in, data, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		die("the connection was closed", NULL);
}

/* In pieces; what comes meanwhile is read, as nobody may wait for one who does not read. */
static void send_pieces(int fd, struct text *in, const struct text *out)
{
	size_t off = 0;

	while (off < out->len) {
		struct pollfd p = { .fd = fd, .events = POLLIN | POLLOUT };
		size_t len = 1 + dice(dice(4) == 0 ? 8 : 200000);
		ssize_t n;

		if (poll(&p, 1, WAIT_MS) <= 0)
			die("nobody reads", NULL);
		if (p.revents & POLLIN)
			read_some(fd, in);
		n = send(fd, out->data + off, len < out->len - off ? len : out->len - off,
			MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			die("send", strerror(errno));
		off += n > 0 ? (size_t)n : 0;
	}
}

static json_t *next_answer(int fd, struct text *in, char **text)
{
	for (;;) {
		json_t *j;

		*text = line(fd, in);
		j = parse_line(*text);
		if (json_object_get(j, "event") == NULL)
			return j;
		json_decref(j);
	}
}

static void greet(int fd, struct text *in)
{
	static const char early[] = "{\"execute\":\"query-status\",\"id\":1}";
	static const char go[] = "{\"execute\":\"qmp_capabilities\",\"id\":{\"a\":null}}";
	struct expected refused = { true, json_integer(1) };
	struct expected fine = { false, json_pack("{s:n}", "a") };
	char *text = line(fd, in);
	json_t *j = parse_line(text);
	json_t *qmp = json_object_get(j, "QMP");

	if (!json_is_object(json_object_get(json_object_get(qmp, "version"), "qemu")) ||
		json_array_size(json_object_get(qmp, "capabilities")) != 0)
		die("not the greeting of such a server", text);
	json_decref(j);
	if (write(fd, early, sizeof(early) - 1) < 0 || write(fd, go, sizeof(go) - 1) < 0)
		die("write", strerror(errno));
	for (int i = 0; i < 2; i++) {
		j = next_answer(fd, in, &text);
		check(i == 0 ? &refused : &fine, j, text);
		json_decref(j);
	}
	json_decref(refused.id);
	json_decref(fine.id);
}

static int talk(const char *path, unsigned rounds)
{
	struct text in = { 0 };
	int fd = dial(path);
	unsigned long n = 0;

	greet(fd, &in);
	for (unsigned r = 0; r < rounds; r++) {
		struct expected e[BATCH];
		struct text out = { 0 };
		unsigned count = 1 + dice(BATCH);

		for (unsigned i = 0; i < count; i++) {
			e[i] = dice(8) == 0 ? add_garbage(&out) : add_command(&out);
			adds(&out, dice(3) == 0 ? "\r\n" : " ");
		}
		send_pieces(fd, &in, &out);
		free(out.data);
		for (unsigned i = 0; i < count; i++, n++) {
			char *text;
			json_t *j = next_answer(fd, &in, &text);

			check(&e[i], j, text);
			json_decref(j);
			json_decref(e[i].id);
		}
	}
	printf("%lu answers\n", n);
	free(in.data);
	close(fd);
	return 0;
}

static int deaf(const char *path)
{
	static const char hello[] = "{\"execute\":\"qmp_capabilities\"}";
	static const char more[] = "{\"execute\":\"query-commands\"}\n";
	int fd = dial(path);

	if (send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL) < 0)
		die("send", strerror(errno));
	while (send(fd, more, sizeof(more) - 1, MSG_NOSIGNAL) > 0)
		;
	return 0; /* cut off, or the server has gone */
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int measure(const char *path, unsigned count)
{
	static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
	static const char ask[] = "{\"execute\":\"query-status\"}\n";
	double *us = calloc(count, sizeof(*us)), sum = 0;
	struct text in = { 0 };
	int fd = dial(path);

	line(fd, &in);
	if (us == NULL || count == 0 || write(fd, hello, sizeof(hello) - 1) < 0)
		die("write", strerror(errno));
	line(fd, &in);
	for (unsigned i = 0; i < count; i++) {
		double from = now_us();

		if (write(fd, ask, sizeof(ask) - 1) < 0)
			die("write", strerror(errno));
		if (strstr(line(fd, &in), "\"status\"") == NULL)
			die("that is no status", NULL);
		us[i] = now_us() - from;
		sum += us[i];
	}
	qsort(us, count, sizeof(*us), by_size);
	printf("%.1f %.1f\n", us[count / 2], sum / count);
	free(us);
	free(in.data);
	return 0;
}

static int greeted(const char *path, struct text *in)
{
	static const char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
	int fd = dial(path);

	line(fd, in);
	if (write(fd, hello, sizeof(hello) - 1) < 0)
		die("write", strerror(errno));
	if (strstr(line(fd, in), "return") == NULL)
		die("no negotiation", NULL);
	return fd;
}

/* A second negotiation is refused without a word to the monitor. Until there is a byte at stop. */
static void probe(const char *path, int stop, int out)
{
	static const char again[] = "{\"execute\":\"qmp_capabilities\"}\n";
	struct text in = { 0 };
	int fd = greeted(path, &in);
	struct pollfd p = { .fd = stop, .events = POLLIN };
	const struct sched_param first = { .sched_priority = 1 };
	double longest = 0;

	/* Behind those who are busy with the events it would measure their time slices. */
	if (sched_setscheduler(0, SCHED_FIFO, &first) < 0)
		die("sched_setscheduler", strerror(errno));
	if (write(out, &longest, sizeof(longest)) < 0)
		_exit(1);
	while (poll(&p, 1, 1) == 0) {
		double from = now_us();

		if (write(fd, again, sizeof(again) - 1) < 0)
			die("write", strerror(errno));
		if (strstr(line(fd, &in), "error") == NULL)
			die("that is no refusal", NULL);
		from = now_us() - from;
		longest = from > longest ? from : longest;
	}
	_exit(write(out, &longest, sizeof(longest)) == sizeof(longest) ? 0 : 1);
}

/* Reads what is there; the number of EVENTs in it. */
static unsigned count_events(int fd, unsigned *depth)
{
	/* In each there is one 'X_BENCH"', whatever the pieces: its last byte counts. */
	static const char word[] = "X_BENCH\"";
	static char data[64 << 10];
	ssize_t n = read(fd, data, sizeof(data));
	unsigned found = 0;

	if (n <= 0)
		die("a client was cut off", n < 0 ? strerror(errno) : NULL);
	for (ssize_t i = 0; i < n; i++) {
		*depth = data[i] == word[*depth] ? *depth + 1 : data[i] == word[0];
		if (*depth == sizeof(word) - 1) {
			*depth = 0;
			found++;
		}
	}
	return found;
}

static void ask_events(int fd, unsigned count)
{
	char text[128];
	int n = snprintf(text, sizeof(text),
		"{\"execute\":\"x-fake\",\"arguments\":{\"script\":\"flood now %u X_BENCH\"}}\n",
		count);

	if (write(fd, text, (size_t)n) != n)
		die("write", strerror(errno));
}

enum {
	HEARERS_MAX = 64
};

static int hear_events(const char *path, const char *other, unsigned clients, unsigned count)
{
	struct pollfd p[HEARERS_MAX];
	unsigned heard[HEARERS_MAX] = { 0 }, depth[HEARERS_MAX] = { 0 }, left = clients;
	struct text in = { 0 };
	int stop[2], out[2];
	double longest;
	pid_t pid;

	if (clients == 0 || clients > HEARERS_MAX || pipe(stop) < 0 || pipe(out) < 0)
		die("so many clients?", NULL);
	for (unsigned i = 0; i < clients; i++)
		p[i] = (struct pollfd){ .fd = greeted(path, &in), .events = POLLIN };
	pid = fork();
	if (pid == 0)
		probe(other, stop[0], out[1]);
	close(out[1]);
	if (pid < 0 || read(out[0], &longest, sizeof(longest)) != sizeof(longest))
		die("no probe", NULL);
	ask_events(p[0].fd, count);
	while (left > 0) {
		if (poll(p, clients, WAIT_MS) <= 0)
			die("the events do not come", NULL);
		for (unsigned i = 0; i < clients; i++) {
			if (p[i].revents == 0)
				continue;
			heard[i] += count_events(p[i].fd, &depth[i]);
			if (heard[i] < count)
				continue;
			left--;
			p[i].fd = -1;
		}
	}
	if (write(stop[1], "", 1) != 1 ||
		read(out[0], &longest, sizeof(longest)) != sizeof(longest))
		die("no probe", NULL);
	waitpid(pid, NULL, 0);
	printf("%.3f\n", longest / 1e3);
	free(in.data);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && strcmp(argv[1], "talk") == 0) {
		state = strtoull(argv[3], NULL, 10);
		return talk(argv[2], (unsigned)atoi(argv[4]));
	}
	if (argc == 3 && strcmp(argv[1], "deaf") == 0)
		return deaf(argv[2]);
	if (argc == 4 && strcmp(argv[1], "time") == 0)
		return measure(argv[2], (unsigned)atoi(argv[3]));
	if (argc == 6 && strcmp(argv[1], "events") == 0)
		return hear_events(
			argv[2], argv[3], (unsigned)atoi(argv[4]), (unsigned)atoi(argv[5]));
	die("usage: qmp-stress talk SOCKET SEED ROUNDS | deaf SOCKET | time SOCKET COUNT | "
	    "events SOCKET OTHER CLIENTS COUNT",
		NULL);
}
