/*
 * tests/bench/net.c - the clock of the benchmarks of networks.
 *
 *   net offer SOCKET NAME      starts machine NAME, whose hypervisor is fake-qemu, and asks for an address
 *                              through its TAP; prints the time until there is an offer
 *   net blast FROM TO COUNT MAC ADDRESS
 *                              sends so many frames into the TAP FROM and takes them out of the TAP TO,
 *                              ports of one bridge; prints nanoseconds for each
 *   net stream FROM TO ADDRESS MB
 *                              sends so much by TCP from network namespace FROM to ADDRESS in TO; prints the
 *                              processor's milliseconds
 *
 * Times are milliseconds but where it says so. Exit 1 when something fails.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/client.h"

#define HDR 10 /* of virtio, before each frame */

static double cpu_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void put16(unsigned char *p, unsigned v)
{
	p[0] = (unsigned char)(v >> 8);
	p[1] = (unsigned char)v;
}

static void read_mac(const char *text, unsigned char mac[6])
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &mac[0], &mac[1], &mac[2], &mac[3],
		    &mac[4], &mac[5]) != 6)
		die("MAC");
}

/* An Ethernet, IPv4 and UDP header; the rest of the frame is there already. */
static void head(unsigned char *f, size_t payload, const unsigned char to[6],
	const unsigned char from[6], uint32_t saddr, uint32_t daddr, unsigned sport, unsigned dport)
{
	unsigned char *ip = f + 14, *udp = ip + 20;
	uint32_t sum = 0;

	memcpy(f, to, 6);
	memcpy(f + 6, from, 6);
	put16(f + 12, 0x0800);
	memset(ip, 0, 28);
	ip[0] = 0x45;
	put16(ip + 2, (unsigned)(28 + payload));
	ip[8] = 64;
	ip[9] = 17;
	memcpy(ip + 12, &saddr, 4);
	memcpy(ip + 16, &daddr, 4);
	for (int i = 0; i < 20; i += 2)
		sum += (uint32_t)ip[i] << 8 | ip[i + 1];
	sum = (sum & 65535) + (sum >> 16);
	put16(ip + 10, ~(sum + (sum >> 16)) & 65535);
	put16(udp, sport);
	put16(udp + 2, dport);
	put16(udp + 4, (unsigned)(8 + payload));
}

/* ---- an offer ---- */

static void ask(const char *socket_path, const char *path, char *out, size_t cap)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char request[512];
	size_t n = 0;
	ssize_t r;
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(at.sun_path, sizeof at.sun_path, "%s", socket_path);
	snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n",
		path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) < 0 ||
		write(fd, request, strlen(request)) < 0)
		die("ask");
	while (n + 1 < cap && (r = read(fd, out + n, cap - 1 - n)) > 0)
		n += (size_t)r;
	out[n] = '\0';
	close(fd);
}

static const char *member(const char *json, const char *key, char *out, size_t cap)
{
	const char *p = strstr(json, key);
	size_t n;

	if (p == NULL)
		die(key);
	p += strlen(key);
	n = strcspn(p, "\",}");
	snprintf(out, cap, "%.*s", (int)n, p);
	return out;
}

static int take_tap(pid_t pid, const char *tap)
{
	char path[64], text[512], want[64];
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	snprintf(want, sizeof want, "iff:\t%s\n", tap);
	for (int i = 3; i < 256; i++) {
		ssize_t n;
		int info;

		snprintf(path, sizeof path, "/proc/%d/fdinfo/%d", pid, i);
		info = open(path, O_RDONLY);
		if (info < 0)
			continue;
		n = read(info, text, sizeof text - 1);
		close(info);
		text[n > 0 ? n : 0] = '\0';
		if (strstr(text, want) != NULL)
			return (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
	}
	die("no TAP");
	return -1;
}

static size_t discover(unsigned char *f, const unsigned char mac[6])
{
	static const unsigned char all[6] = { 255, 255, 255, 255, 255, 255 };
	static const unsigned char options[] = { 0x63, 0x82, 0x53, 0x63, 53, 1, 1, 255 };
	unsigned char *body = f + HDR + 42;
	size_t payload = 236 + 64;

	memset(f, 0, HDR + 42 + payload);
	body[0] = body[1] = 1;
	body[2] = 6;
	memcpy(body + 4, "drov", 4);
	body[10] = 0x80; /* the answer by broadcast */
	memcpy(body + 28, mac, 6);
	memcpy(body + 236, options, sizeof options);
	head(f + HDR, payload, all, mac, 0, 0xffffffff, 68, 67);
	return HDR + 42 + payload;
}

/* A frame from port 67, of which nobody but its dnsmasq has any. */
static bool offered(int fd)
{
	unsigned char f[2048];
	ssize_t n;

	while ((n = read(fd, f, sizeof f)) > 0) {
		if (n > HDR + 42 && f[HDR + 12] == 8 && f[HDR + 13] == 0 && f[HDR + 23] == 17 &&
			f[HDR + 34] == 0 && f[HDR + 35] == 67)
			return true;
	}
	return false;
}

static void offer(const char *socket_path, const char *name)
{
	char path[128], json[65536], text[64], tap[32];
	char *paths[] = { path };
	double begin = now_ms();
	unsigned char frame[1024], mac[6];
	struct calls c;
	size_t len;
	int fd;

	snprintf(path, sizeof path, "/vms/%s/start?wait=60", name);
	send_all(&c, socket_path, "POST", paths, 1);
	finish_all(&c);
	snprintf(path, sizeof path, "/vms/%s", name);
	ask(socket_path, path, json, sizeof json);
	read_mac(member(json, "\"mac\":\"", text, sizeof text), mac);
	member(json, "\"tap\":\"", tap, sizeof tap);
	fd = take_tap(atoi(member(json, "\"pid\":", text, sizeof text)), tap);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	len = discover(frame, mac);
	while (!offered(fd)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (now_ms() - begin > 10000)
			die("no offer");
		if (write(fd, frame, len) < 0 && errno != EAGAIN)
			die("send");
		poll(&p, 1, 1);
	}
	printf("%.3f\n", now_ms() - begin);
}

/* ---- frames ---- */

static int open_tap(const char *name)
{
	struct ifreq req = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	snprintf(req.ifr_name, sizeof req.ifr_name, "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &req) < 0)
		die(name);
	return fd;
}

static void blast(
	const char *from, const char *to, long count, const char *mac_text, const char *ip)
{
	static const unsigned char there[6] = { 0x52, 0, 0, 0, 0, 0xbb };
	unsigned char frame[1600] = { 0 }, got[2048], mac[6];
	int in = open_tap(from), out = open_tap(to);
	size_t len = HDR + 42 + 1400;
	struct pollfd wait = { .fd = out, .events = POLLIN };
	long came = 0;
	double begin;

	read_mac(mac_text, mac);
	head(frame + HDR, 1400, there, mac, inet_addr(ip), inet_addr("10.0.255.254"), 1000, 2000);
	/* The bridge hears a moment later that its ports have carrier. */
	for (int i = 0; i < 500 && read(out, got, sizeof got) <= 0; i++) {
		if (write(in, frame, len) < 0 && errno != EIO)
			die("send");
		poll(&wait, 1, 10);
	}
	while (poll(&wait, 1, 100) > 0 && read(out, got, sizeof got) > 0)
		;
	begin = cpu_ns();
	for (long i = 0; i < count; i++) {
		if (write(in, frame, len) < 0)
			die("send");
		/* Its queue holds 500. */
		do {
			while (read(out, got, sizeof got) > 0)
				came += got[HDR + 12] == 8;
		} while (i + 1 - came > 200 && poll(&wait, 1, 1000) > 0);
		if (i + 1 - came > 200)
			die("frames are lost");
	}
	begin = (cpu_ns() - begin) / (double)count;
	printf("%.1f\n", begin);
}

/* ---- a stream ---- */

static void enter(const char *netns)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "/run/netns/%s", netns);
	fd = open(path, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET) < 0)
		die(netns);
	close(fd);
}

struct sender {
	int fd;
	size_t bytes;
};

static void *send_all_of_it(void *arg)
{
	static char data[256 * 1024];
	struct sender *s = arg;
	ssize_t n;

	for (size_t left = s->bytes; left > 0; left -= (size_t)n) {
		n = write(s->fd, data, left < sizeof data ? left : sizeof data);
		if (n <= 0)
			die("send");
	}
	shutdown(s->fd, SHUT_WR);
	return NULL;
}

/* A socket stays in the namespace that it was made in. */
static void stream(const char *from, const char *to, const char *ip, size_t mb)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(5201) };
	static char data[256 * 1024];
	struct sender s = { .bytes = mb << 20 };
	pthread_t thread;
	int listener, fd, on = 1;
	double begin;

	at.sin_addr.s_addr = inet_addr(ip);
	enter(to);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 1) < 0)
		die("listen");
	enter(from);
	s.fd = socket(AF_INET, SOCK_STREAM, 0);
	if (connect(s.fd, (struct sockaddr *)&at, sizeof at) < 0)
		die("connect");
	fd = accept(listener, NULL, NULL);
	begin = cpu_ns();
	if (pthread_create(&thread, NULL, send_all_of_it, &s) != 0)
		die("thread");
	while (read(fd, data, sizeof data) > 0)
		;
	pthread_join(thread, NULL);
	printf("%.3f\n", (cpu_ns() - begin) / 1e6);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[1], "offer") == 0)
		offer(argv[2], argv[3]);
	else if (argc == 7 && strcmp(argv[1], "blast") == 0)
		blast(argv[2], argv[3], atol(argv[4]), argv[5], argv[6]);
	else if (argc == 6 && strcmp(argv[1], "stream") == 0)
		stream(argv[2], argv[3], argv[4], (size_t)atol(argv[5]));
	else
		die("usage");
	return 0;
}
