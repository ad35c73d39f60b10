#include "netcfg/ip6.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/str.h"
#include "lib/util.h"

bool ip6_parse(const char *s, struct in6_addr *out)
{
	return inet_pton(AF_INET6, s, out) == 1;
}

void ip6_format(const struct in6_addr *addr, char out[IP6_TEXT])
{
	inet_ntop(AF_INET6, addr, out, IP6_TEXT);
}

void ip6_prefix_format(const struct ip6_prefix *p, char out[IP6_TEXT + 4])
{
	char addr[IP6_TEXT];

	ip6_format(&p->addr, addr);
	snprintf(out, IP6_TEXT + 4, "%s/%u", addr, p->len);
}

void ip6_format_hex(const struct in6_addr *addr, char out[40])
{
	char digits[33], *first = digits;

	for (size_t i = 0; i < 16; i++)
		snprintf(digits + 2 * i, 3, "%02x", addr->s6_addr[i]);
	while (first[0] == '0' && first[1] != '\0')
		first++;
	snprintf(out, 40, "0x%s", first);
}

bool ip6_equal(const struct in6_addr *a, const struct in6_addr *b)
{
	return ip6_compare(a, b) == 0;
}

bool ip6_is_zero(const struct in6_addr *a)
{
	return IN6_IS_ADDR_UNSPECIFIED(a);
}

int ip6_compare(const struct in6_addr *a, const struct in6_addr *b)
{
	return memcmp(a, b, sizeof(*a));
}

/* The address with all bits behind the first len as in fill (0 or 255). */
static struct in6_addr with_rest(const struct in6_addr *a, unsigned len, unsigned fill)
{
	struct in6_addr out;

	for (unsigned i = 0; i < 16; i++) {
		unsigned kept = len <= 8 * i ? 0 : MIN(len - 8 * i, 8u);
		unsigned mask = 0xff00u >> kept & 0xff;

		out.s6_addr[i] = (uint8_t)((a->s6_addr[i] & mask) | (fill & ~mask));
	}
	return out;
}

bool ip6_in(const struct ip6_prefix *p, const struct in6_addr *a)
{
	struct in6_addr net = with_rest(a, p->len, 0);

	return ip6_equal(&net, &p->addr);
}

bool ip6_overlap(const struct ip6_prefix *a, const struct ip6_prefix *b)
{
	return a->len <= b->len ? ip6_in(a, &b->addr) : ip6_in(b, &a->addr);
}

struct in6_addr ip6_last(const struct ip6_prefix *p)
{
	return with_rest(&p->addr, p->len, 255);
}

struct in6_addr ip6_add(const struct in6_addr *a, uint64_t n, unsigned shift)
{
	unsigned __int128 v = 0;
	struct in6_addr out;

	for (unsigned i = 0; i < 16; i++)
		v = v << 8 | a->s6_addr[i];
	v += shift < 128 ? (unsigned __int128)n << shift : 0;
	for (unsigned i = 16; i-- > 0; v >>= 8)
		out.s6_addr[i] = (uint8_t)v;
	return out;
}

uint64_t ip6_distance(const struct in6_addr *first, const struct in6_addr *last)
{
	unsigned __int128 d = 0, from = 0;

	for (unsigned i = 0; i < 16; i++) {
		d = d << 8 | last->s6_addr[i];
		from = from << 8 | first->s6_addr[i];
	}
	d -= from;
	return d > UINT64_MAX ? UINT64_MAX : (uint64_t)d;
}

int ip6_prefix_parse(const char *s, struct ip6_prefix *out, struct err *err)
{
	const char *slash = strchr(s, '/');
	char addr[IP6_TEXT], nearest[IP6_TEXT + 4];
	struct ip6_prefix p;
	uint64_t len;

	if (slash == NULL)
		return err_set(
			err, -EINVAL, "%s is no IPv6 network: write it as fd00:1::/64", quote(s));
	if ((size_t)(slash - s) >= sizeof(addr))
		return err_set(err, -EINVAL, "%s has no valid IPv6 address", quote(s));
	memcpy(addr, s, (size_t)(slash - s));
	addr[slash - s] = '\0';
	if (!ip6_parse(addr, &p.addr))
		return err_set(err, -EINVAL, "%s has no valid IPv6 address", quote(s));
	if (parse_u64(slash + 1, 1, 128, &len, NULL) < 0)
		return err_set(err, -EINVAL, "%s: the length after '/' must be 1 to 128", quote(s));
	p.len = (uint8_t)len;
	if (!ip6_in(&p, &p.addr)) {
		p.addr = with_rest(&p.addr, p.len, 0);
		ip6_prefix_format(&p, nearest);
		return err_set(err, -EINVAL, "%s is no network address (did you mean %s?)",
			quote(s), nearest);
	}
	*out = p;
	return 0;
}

bool ip6_local_of(const char *mac, struct in6_addr *out)
{
	struct in6_addr a = { .s6_addr = { 0xfe, 0x80, [11] = 0xff, 0xfe } };
	uint8_t *b = a.s6_addr;

	if (sscanf(mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &b[8], &b[9], &b[10], &b[13], &b[14],
		    &b[15]) != 6)
		return false;
	b[8] ^= 2;
	*out = a;
	return true;
}
