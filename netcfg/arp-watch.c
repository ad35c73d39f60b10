#include "netcfg/arp-watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/util.h"

#define BATCH 64

struct arp_watch {
	uv_loop_t *loop;
	arp_seen_fn *fn;
	void *arg;
	struct source *source; /* NULL: nothing is watched */
};

/* The handle lives until it is closed, whoever has the watch. */
struct source {
	uv_poll_t poll;
	int fd;
	struct arp_watch *w; /* NULL: it is being closed */
};

/* ---- the filter: of ARP for IPv4 over Ethernet, its sender one of these ---- */

static struct sock_filter load(uint16_t size, size_t at)
{
	return (struct sock_filter)BPF_STMT(BPF_LD | size | BPF_ABS, (uint32_t)at);
}

/* Goes on where it is k, and to the instruction that many further where it is not. */
static struct sock_filter is(uint32_t k, uint8_t else_skip)
{
	return (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, else_skip);
}

static int set_filter(int fd, const uint8_t (*macs)[6], size_t n)
{
	const size_t sha = offsetof(struct ether_arp, arp_sha);
	struct sock_filter *code = calloc(5 * n + 1, sizeof(*code));
	struct sock_fprog program = { .filter = code };
	int r;

	if (code == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		const uint8_t *m = macs[i];

		code[program.len++] = load(BPF_W, sha);
		code[program.len++] = is(
			(uint32_t)m[0] << 24 | (uint32_t)m[1] << 16 | (uint32_t)m[2] << 8 | m[3],
			2 + 1);
		code[program.len++] = load(BPF_H, sha + 4);
		code[program.len++] = is((uint32_t)m[4] << 8 | m[5], 1);
		code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, UINT32_MAX);
	}
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, 0);
	r = setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0 ? -errno
											: 0;
	free(code);
	return r;
}

/* ---- reading ---- */

static void see(struct arp_watch *w, const struct ether_arp *a)
{
	const uint8_t *m = a->arp_sha;
	uint32_t address;
	char mac[18];

	/* RFC 826, "Packet format"; a probe has no address yet (RFC 5227). */
	if (a->arp_hrd != htons(ARPHRD_ETHER) || a->arp_pro != htons(ETH_P_IP) || a->arp_hln != 6 ||
		a->arp_pln != 4)
		return;
	memcpy(&address, a->arp_spa, 4);
	if (address == 0)
		return;
	snprintf(mac, sizeof(mac), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		m[5]);
	w->fn(w->arg, mac, ntohl(address));
}

static void readable(uv_poll_t *poll, int status, int events)
{
	struct source *s = container_of(poll, struct source, poll);
	struct ether_arp arp;
	ssize_t n;

	for (int i = 0; i < BATCH && s->w != NULL; i++) {
		n = recv(s->fd, &arp, sizeof(arp), MSG_DONTWAIT);
		if (n < 0)
			return;
		if ((size_t)n >= sizeof(arp))
			see(s->w, &arp);
	}
}

static void source_closed(uv_handle_t *h)
{
	struct source *s = container_of((uv_poll_t *)h, struct source, poll);

	close(s->fd);
	free(s);
}

static void close_source(struct arp_watch *w)
{
	if (w->source == NULL)
		return;
	w->source->w = NULL;
	uv_close((uv_handle_t *)&w->source->poll, source_closed);
	w->source = NULL;
}

/* Bound only when the filter is there: what came before would be anybody's. */
static int open_source(struct arp_watch *w, const uint8_t (*macs)[6], size_t n, struct source **out,
	struct err *err)
{
	struct sockaddr_ll all = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP) };
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
	return err_errno(err, r, "listen to ARP");
}

int arp_watch_set(struct arp_watch *w, const uint8_t (*macs)[6], size_t n, struct err *err)
{
	struct source *s = NULL;
	int r = 0;

	if (n > 0 && w->source != NULL)
		r = set_filter(w->source->fd, macs, MIN(n, (size_t)ARP_WATCH_MAX)) < 0
			    ? err_set(err, -EIO, "the filter for ARP cannot be changed")
			    : 0;
	else if (n > 0)
		r = open_source(w, macs, MIN(n, (size_t)ARP_WATCH_MAX), &s, err);
	else
		close_source(w);
	if (s != NULL)
		w->source = s;
	return r;
}

int arp_watch_create(
	struct arp_watch **out, uv_loop_t *loop, arp_seen_fn *fn, void *arg, struct err *err)
{
	struct arp_watch *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return err_nomem(err);
	*w = (struct arp_watch){ .loop = loop, .fn = fn, .arg = arg };
	*out = w;
	return 0;
}

void arp_watch_destroy(struct arp_watch *w)
{
	if (w == NULL)
		return;
	close_source(w);
	free(w);
}
