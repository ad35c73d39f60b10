#include "netcfg/alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/str.h"

#define P2P_LEN  30
#define P2P_SIZE 4 /* addresses in a /30 */

static uint32_t mask_of(uint8_t len)
{
	return len == 0 ? 0 : UINT32_MAX << (32 - len);
}

static uint32_t last_of(struct ip4_prefix p)
{
	return p.addr | ~mask_of(p.len);
}

static uint32_t first_of(struct ip4_prefix p)
{
	return p.addr & mask_of(p.len);
}

/* One or two decimal digits without a sign or a leading zero. */
static bool parse_len(const char *s, uint8_t *out)
{
	unsigned len = 0;
	size_t digits = strspn(s, "0123456789");

	if (digits == 0 || digits > 2 || s[digits] != '\0' || (s[0] == '0' && digits > 1))
		return false;
	for (; *s != '\0'; s++)
		len = len * 10 + (unsigned)(*s - '0');
	if (len > 32)
		return false;
	*out = (uint8_t)len;
	return true;
}

int ip4_prefix_parse(const char *s, bool host_ok, struct ip4_prefix *out, struct err *err)
{
	const char *slash = strchr(s, '/');
	char addr[INET_ADDRSTRLEN], nearest[19];
	struct ip4_prefix p;
	struct in_addr in;

	if (slash == NULL)
		return err_set(
			err, -EINVAL, "%s is no network: write it as 172.16.0.0/16", quote(s));
	if ((size_t)(slash - s) >= sizeof(addr))
		return err_set(err, -EINVAL, "%s has no valid IPv4 address", quote(s));
	memcpy(addr, s, (size_t)(slash - s));
	addr[slash - s] = '\0';
	if (inet_pton(AF_INET, addr, &in) != 1)
		return err_set(err, -EINVAL, "%s has no valid IPv4 address", quote(s));
	if (!parse_len(slash + 1, &p.len))
		return err_set(err, -EINVAL, "%s: the length after '/' must be 0 to 32", quote(s));
	p.addr = ntohl(in.s_addr);
	if (!host_ok && p.addr != first_of(p)) {
		ip4_prefix_format((struct ip4_prefix){ first_of(p), p.len }, nearest);
		return err_set(err, -EINVAL, "%s is no network address (did you mean %s?)",
			quote(s), nearest);
	}
	*out = p;
	return 0;
}

bool ip4_parse(const char *s, uint32_t *out)
{
	struct in_addr in;

	if (inet_pton(AF_INET, s, &in) != 1)
		return false;
	*out = ntohl(in.s_addr);
	return true;
}

void ip4_format(uint32_t addr, char out[16])
{
	snprintf(out, 16, "%u.%u.%u.%u", addr >> 24, addr >> 16 & 255, addr >> 8 & 255, addr & 255);
}

void ip4_prefix_format(struct ip4_prefix p, char out[19])
{
	char addr[16];

	ip4_format(p.addr, addr);
	snprintf(out, 19, "%s/%u", addr, MIN(p.len, 32u));
}

bool ip4_overlap(struct ip4_prefix a, struct ip4_prefix b)
{
	uint32_t mask = mask_of(MIN(a.len, b.len));

	return (a.addr & mask) == (b.addr & mask);
}

/*
 * Hashes whole names, each with its terminating NUL, so that ("a", "bc") and ("ab", "c") differ;
 * what keeps subnets, MACs and names apart. The last rounds (those of MurmurHash3's finalizer)
 * spread FNV's weak high bits over all of them.
 */
static uint64_t hash_names(const char *what, const char *run_id, const char *machine, unsigned nic)
{
	unsigned char n[4] = { nic >> 24, nic >> 16, nic >> 8, nic };
	uint64_t h = HASH64_SEED;

	h = hash64(what, strlen(what) + 1, h);
	h = hash64(run_id, strlen(run_id) + 1, h);
	h = hash64(machine, strlen(machine) + 1, h);
	h = hash64(n, sizeof(n), h);
	h ^= h >> 33;
	h *= 0xff51afd7ed558ccdull;
	h ^= h >> 33;
	h *= 0xc4ceb9fe1a85ec53ull;
	return h ^ h >> 33;
}

static const struct ip4_prefix *blocker(
	struct ip4_prefix p, const struct ip4_prefix *list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (ip4_overlap(p, list[i]))
			return &list[i];
	}
	return NULL;
}

/*
 * Slots are numbered from the start of range. What blocks a slot may block many (a /24 of the
 * host): the probe goes on behind its end, so that a full range is found full in few steps.
 */
int alloc_p2p(struct ip4_prefix range, const char *run_id, const char *machine,
	const struct ip4_prefix *used, size_t nused, const struct ip4_prefix *host, size_t nhost,
	struct ip4_prefix *out, unsigned *probes, struct err *err)
{
	uint64_t slots, slot, tried = 0;
	unsigned steps = 0;
	char text[19];

	ip4_prefix_format(range, text);
	if (range.len > P2P_LEN)
		return err_set(err, -EINVAL, "%s is too small: a machine takes a /30", text);
	range.addr = first_of(range);
	slots = 1ull << (P2P_LEN - range.len);
	slot = hash_names("p2p", run_id, machine, 0) % slots;

	while (tried < slots) {
		struct ip4_prefix p = { range.addr + (uint32_t)slot * P2P_SIZE, P2P_LEN };
		const struct ip4_prefix *b = blocker(p, used, nused);
		uint64_t next;

		if (b == NULL)
			b = blocker(p, host, nhost);
		if (b == NULL) {
			*out = p;
			if (probes != NULL)
				*probes = steps;
			return 0;
		}
		next = MIN(((uint64_t)MAX(last_of(*b), p.addr) - range.addr) / P2P_SIZE + 1, slots);
		tried += next - slot;
		slot = next % slots;
		steps++;
	}
	return err_set(err, -EADDRNOTAVAIL,
		"no free /30 in %s: %zu are given to machines, the rest overlaps addresses or routes of "
		"the host",
		text, nused);
}

void alloc_mac(const char *run_id, const char *machine, unsigned nic, char out[18])
{
	uint64_t h = hash_names("mac", run_id, machine, nic);

	/* 0x52: locally administered, unicast. */
	snprintf(out, 18, "52:%02x:%02x:%02x:%02x:%02x", (unsigned)(h >> 32 & 255),
		(unsigned)(h >> 24 & 255), (unsigned)(h >> 16 & 255), (unsigned)(h >> 8 & 255),
		(unsigned)(h & 255));
}

void alloc_tap_name(const char *run_id, const char *machine, unsigned nic, char out[16])
{
	uint64_t h = hash_names("tap", run_id, machine, nic);

	snprintf(out, 16, "tap%012llx", (unsigned long long)(h & 0xffffffffffffull));
}
