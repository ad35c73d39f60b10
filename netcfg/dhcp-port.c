/* dhcp_port_taken() of netcfg/dnsmasq.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/file.h"
#include "netcfg/dnsmasq.h"

#define DHCP_PORT   67
#define DHCP6_PORT  547
#define DNS_PORT    53
#define HOLDERS_MAX 2048

struct holders {
	unsigned wanted; /* the port */
	unsigned long inode[HOLDERS_MAX];
	size_t n;
};

/* As dnsmasq does it with --bind-dynamic; it binds to its link only after this. */
static bool bind_fails(uint32_t address, unsigned port)
{
	struct sockaddr_in any = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(address) };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	bool fails;

	if (fd < 0)
		return false;
	/* Those that have DNS's port to themselves do not share it. */
	if (port == DHCP_PORT)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	/* An address that the host does not have yet is as good as one that it has. */
	setsockopt(fd, IPPROTO_IP, IP_FREEBIND, &on, sizeof(on));
	fails = bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 && errno == EADDRINUSE;
	close(fd);
	return fails;
}

/* Lines are "sl local:PORT remote:PORT st queues timer retrnsmt uid timeout inode ...", in hex. */
static void read_udp(const char *path, struct holders *h)
{
	FILE *f = fopen(path, "re");
	char line[512];
	unsigned port;
	unsigned long inode;

	if (f == NULL)
		return;
	while (fgets(line, sizeof(line), f) != NULL && h->n < HOLDERS_MAX) {
		if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*s %*s %*s %*s %*s %*s %*s %lu", &port,
			    &inode) == 2 &&
			port == h->wanted)
			h->inode[h->n++] = inode;
	}
	fclose(f);
}

static bool has_socket(const char *pid, const struct holders *h)
{
	char path[300], target[64];
	struct dirent *e;
	bool found = false;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%s/fd", pid);
	dir = opendir(path);
	if (dir == NULL)
		return false;
	while (!found && (e = readdir(dir)) != NULL) {
		ssize_t len = readlinkat(dirfd(dir), e->d_name, target, sizeof(target) - 1);
		unsigned long inode;

		if (len < 0)
			continue;
		target[len] = '\0';
		if (sscanf(target, "socket:[%lu]", &inode) != 1)
			continue;
		for (size_t i = 0; i < h->n; i++)
			found = found || h->inode[i] == inode;
	}
	closedir(dir);
	return found;
}

static bool is_ours(pid_t pid, const pid_t *ours, size_t nours)
{
	for (size_t i = 0; i < nours; i++) {
		if (ours[i] == pid)
			return true;
	}
	return false;
}

static void name_holder(
	const struct holders *h, const pid_t *ours, size_t nours, char *who, size_t cap)
{
	DIR *proc = opendir("/proc");
	char path[300], comm[64];
	struct dirent *e;

	snprintf(who, cap, "another process");
	while (proc != NULL && (e = readdir(proc)) != NULL) {
		if (!isdigit((unsigned char)e->d_name[0]) ||
			is_ours((pid_t)atol(e->d_name), ours, nours) || !has_socket(e->d_name, h))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		if (file_read_line(path, comm, sizeof(comm), NULL) < 0)
			continue;
		for (char *c = comm; *c != '\0'; c++)
			*c = isprint((unsigned char)*c) ? *c : '?';
		snprintf(who, cap, "%s (pid %s)", comm, e->d_name);
		break;
	}
	if (proc != NULL)
		closedir(proc);
}

static bool port_taken(
	uint32_t address, unsigned port, const pid_t *ours, size_t nours, char *who, size_t cap)
{
	struct holders h = { .wanted = port };

	if (!bind_fails(address, port))
		return false;
	read_udp("/proc/net/udp", &h);
	/* A socket for IPv6 takes the port for IPv4 too, unless it says otherwise. */
	read_udp("/proc/net/udp6", &h);
	name_holder(&h, ours, nours, who, cap);
	return true;
}

bool dhcp_port_taken(const pid_t *ours, size_t nours, char *who, size_t cap)
{
	return port_taken(INADDR_ANY, DHCP_PORT, ours, nours, who, cap);
}

bool dns_port_taken(uint32_t address, char *who, size_t cap)
{
	return port_taken(address, DNS_PORT, NULL, 0, who, cap);
}

/* As dnsmasq does it for all links, and kea for one: both share with their like. */
static bool bind6_fails(unsigned port)
{
	struct sockaddr_in6 any = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port) };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;
	bool fails;

	if (fd < 0)
		return false;
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	fails = bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 && errno == EADDRINUSE;
	close(fd);
	return fails;
}

bool dhcp6_port_taken(char *who, size_t cap)
{
	struct holders h = { .wanted = DHCP6_PORT };

	if (!bind6_fails(DHCP6_PORT))
		return false;
	read_udp("/proc/net/udp6", &h);
	name_holder(&h, NULL, 0, who, cap);
	return true;
}
