#include "netcfg/nd-watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/icmp6.h>
#include <netinet/ip6.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

#define BATCH 64

struct nd_watch {
	uv_loop_t *loop;
	nd_seen_fn *fn;
	void *arg;
	struct source *source; /* NULL: nothing is watched */
};

/* The handle lives until it is closed, whoever has the watch. */
struct source {
	uv_poll_t poll;
	int fd;
	struct nd_watch *w; /* NULL: it is being closed */
};

/* ---- the filter: ICMPv6's neighbour solicitations and advertisements from one of these ---- */

#define AT_TYPE   (sizeof(struct ip6_hdr) + offsetof(struct icmp6_hdr, icmp6_type))
#define AT_SOURCE ((uint32_t)SKF_LL_OFF + (uint32_t)offsetof(struct ether_header, ether_shost))

static struct sock_filter load(uint16_t size, uint32_t at)
{
	return (struct sock_filter)BPF_STMT(BPF_LD | size | BPF_ABS, at);
}

/* Goes on where it is k, and to the instruction that many further where it is not. */
static struct sock_filter is(uint32_t k, uint8_t else_skip)
{
	return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, else_skip);
}

static struct sock_filter answer(uint32_t length)
{
	return (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, length);
}

static int set_filter(int fd, const uint8_t (*macs)[6], size_t n)
{
	struct sock_filter *code = calloc(5 * n + 8, sizeof(*code));
	struct sock_fprog program = { .filter = code };
	int r;

	if (code == NULL)
		return -ENOMEM;
	code[program.len++] = load(BPF_B, offsetof(struct ip6_hdr, ip6_nxt));
	code[program.len++] = is(IPPROTO_ICMPV6, 3);
	code[program.len++] = load(BPF_B, AT_TYPE);
	code[program.len++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JEQ | BPF_K, ND_NEIGHBOR_SOLICIT, 2, 0);
	code[program.len++] = (struct sock_filter)BPF_JUMP(
		BPF_JMP | BPF_JEQ | BPF_K, ND_NEIGHBOR_ADVERT, 1, 0);
	code[program.len++] = answer(0);
	for (size_t i = 0; i < n; i++) {
		const uint8_t *m = macs[i];

		code[program.len++] = load(BPF_W, AT_SOURCE);
		code[program.len++] = is(
			(uint32_t)m[0] << 24 | (uint32_t)m[1] << 16 | (uint32_t)m[2] << 8 | m[3],
			2 + 1);
		code[program.len++] = load(BPF_H, AT_SOURCE + 4);
		code[program.len++] = is((uint32_t)m[4] << 8 | m[5], 1);
		code[program.len++] = answer(UINT32_MAX);
	}
	code[program.len++] = answer(0);
	r = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno
											: 0;
	free(code);
	return r;
}

/* ---- reading ---- */

/* Of an advertisement the target (RFC 4861, 4.4), of a solicitation the sender, which while it only
 * asks whether an address is free is :: (4.3; RFC 4862, 5.4.2). */
bool nd_claimed(const uint8_t *packet, size_t len, struct in6_addr *out)
{
	struct ip6_hdr ip;
	struct nd_neighbor_advert nd;

	if (len < sizeof(ip) + sizeof(nd))
		return false;
	memcpy(&ip, packet, sizeof(ip));
	memcpy(&nd, packet + sizeof(ip), sizeof(nd));
	/* A router passes neither of them on. */
	if (ip.ip6_nxt != IPPROTO_ICMPV6 || ip.ip6_hops != 255)
		return false;
	if (nd.nd_na_type == ND_NEIGHBOR_ADVERT)
		*out = nd.nd_na_target;
	else if (nd.nd_na_type == ND_NEIGHBOR_SOLICIT)
		*out = ip.ip6_src;
	else
		return false;
	return !IN6_IS_ADDR_UNSPECIFIED(out) && !IN6_IS_ADDR_LINKLOCAL(out) &&
	       !IN6_IS_ADDR_MULTICAST(out) && !IN6_IS_ADDR_LOOPBACK(out);
}

static void readable(uv_poll_t *poll, int status, int events)
{
	struct source *s = container_of(poll, struct source, poll);
	struct sockaddr_ll from;
	struct in6_addr address;
	uint8_t packet[256];
	char mac[18];
	ssize_t n;

	for (int i = 0; i < BATCH && s->w != NULL; i++) {
		socklen_t len = sizeof(from);

		n = recvfrom(s->fd, packet, sizeof(packet), MSG_DONTWAIT, (struct sockaddr *)&from,
			&len);
		if (n < 0)
			return;
		if (from.sll_halen != 6 || !nd_claimed(packet, (size_t)n, &address))
			continue;
		snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", from.sll_addr[0],
			from.sll_addr[1], from.sll_addr[2], from.sll_addr[3], from.sll_addr[4],
			from.sll_addr[5]);
		s->w->fn(s->w->arg, mac, &address);
	}
}

static void source_closed(uv_handle_t *h)
{
	struct source *s = container_of((uv_poll_t *)h, struct source, poll);

	close(s->fd);
	free(s);
}

static void close_source(struct nd_watch *w)
{
	if (w->source == NULL)
		return;
	w->source->w = NULL;
	uv_close((uv_handle_t *)&w->source->poll, source_closed);
	w->source = NULL;
}

/* Bound only when the filter is there: what came before would be anybody's. */
static int open_source(struct nd_watch *w, const uint8_t (*macs)[6], size_t n, struct source **out,
	struct err *err)
{
	struct sockaddr_ll all = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IPV6) };
	struct source *s = calloc(1, sizeof(*s));
	int r = 0;

	if (s == NULL)
		return err_nomem(err);
	s->w = w;
	s->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s->fd < 0)
		r = -errno;
	if (r == 0)
		r = set_filter(s->fd, macs, n);
	if (r == 0 && bind(s->fd, (struct sockaddr *)&all, sizeof(all)) < 0)
		r = -errno;
	if (r == 0)
		r = uv_poll_init(w->loop, &s->poll, s->fd);
	if (r == 0) {
		uv_poll_start(&s->poll, UV_READABLE, readable);
		*out = s;
		return 0;
	}
	if (s->fd >= 0)
		close(s->fd);
	free(s);
	return err_errno(err, r, "listen to neighbour discovery");
}

int nd_watch_set(struct nd_watch *w, const uint8_t (*macs)[6], size_t n, struct err *err)
{
	n = MIN(n, (size_t)ND_WATCH_MAX);
	if (n == 0) {
		close_source(w);
		return 0;
	}
	if (w->source == NULL)
		return open_source(w, macs, n, &w->source, err);
	return set_filter(w->source->fd, macs, n) < 0
		       ? err_set(err, -EIO, "the filter for neighbour discovery cannot be changed")
		       : 0;
}

int nd_watch_create(
	struct nd_watch **out, uv_loop_t *loop, nd_seen_fn *fn, void *arg, struct err *err)
{
	struct nd_watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return err_nomem(err);
	*w = (struct nd_watch){ .loop = loop, .fn = fn, .arg = arg };
	*out = w;
	return 0;
}

void nd_watch_destroy(struct nd_watch *w)
{
	if (w == NULL)
		return;
	close_source(w);
	free(w);
}
