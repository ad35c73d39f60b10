#include "netcfg/dhcp6-release.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* RFC 8415: 7.3 (messages), 24 (options), 7.2 (ports). */
enum {
	MESSAGE_RELEASE = 8,
	OPTION_CLIENTID = 1,
	OPTION_SERVERID = 2,
	OPTION_IA_NA = 3,
	OPTION_IAADDR = 5,
	OPTION_ELAPSED_TIME = 8,
	OPTION_IA_PD = 25,
	OPTION_IAPREFIX = 26,
	SERVER_PORT = 547,
};

static void put16(struct buf *b, unsigned v)
{
	const char bytes[] = { (char)(v >> 8), (char)v };

	buf_add(b, bytes, sizeof(bytes));
}

static void put32(struct buf *b, uint32_t v)
{
	put16(b, v >> 16);
	put16(b, v & 0xffff);
}

/* "00:01:ab.." */
static bool put_duid(struct buf *out, unsigned option, const char *text)
{
	size_t n = (strlen(text) + 1) / 3;

	put16(out, option);
	put16(out, (unsigned)n);
	for (size_t i = 0; i < n; i++) {
		unsigned byte;
		char c;

		if (sscanf(text + 3 * i, "%2x", &byte) != 1)
			return false;
		c = (char)byte;
		buf_add(out, &c, 1);
	}
	return n > 0;
}

bool dhcp6_release_held(struct buf *out, const struct dhcp6_held *held, const char *server_duid)
{
	/* Its number says nothing: no answer is waited for. */
	static const char head[] = { MESSAGE_RELEASE, 'd', 'r', 'v' };
	unsigned len = held->prefix ? 25 : 24;
	char prefix_len = (char)held->what.len;

	buf_add(out, head, sizeof(head));
	if (!put_duid(out, OPTION_CLIENTID, held->duid) ||
		!put_duid(out, OPTION_SERVERID, server_duid))
		return false;
	put16(out, OPTION_ELAPSED_TIME);
	put16(out, 2);
	put16(out, 0);
	put16(out, held->prefix ? OPTION_IA_PD : OPTION_IA_NA);
	put16(out, 12 + 4 + len);
	put32(out, held->iaid);
	put32(out, 0); /* T1, T2 */
	put32(out, 0);
	put16(out, held->prefix ? OPTION_IAPREFIX : OPTION_IAADDR);
	put16(out, len);
	if (!held->prefix)
		buf_add(out, &held->what.addr, 16);
	put32(out, 0); /* preferred and valid lifetime */
	put32(out, 0);
	if (held->prefix) {
		buf_add(out, &prefix_len, 1);
		buf_add(out, &held->what.addr, 16);
	}
	return !out->bad;
}

bool dhcp6_release_message(
	struct buf *out, const struct dnsmasq6_lease *lease, const char *server_duid)
{
	struct dhcp6_held held = { lease->iaid, { lease->address, 128 }, false, lease->duid };

	return dhcp6_release_held(out, &held, server_duid);
}

int dhcp6_release_send(const char *link, const struct buf *message, struct err *err)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(SERVER_PORT) };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), r = 0;

	/* All servers and relays: the host's own hears it, too. */
	inet_pton(AF_INET6, "ff02::1:2", &to.sin6_addr);
	to.sin6_scope_id = if_nametoindex(link);
	if (fd < 0 || sendto(fd, message->data, message->len, 0, (const struct sockaddr *)&to,
			      sizeof(to)) < 0)
		r = err_errno(err, -errno, "DHCPv6 on %s", link);
	if (fd >= 0)
		close(fd);
	return r;
}
