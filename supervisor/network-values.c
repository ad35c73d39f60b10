#include "supervisor/network-values.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/util.h"

static int parse_address(const char *s, uint32_t *out, struct err *err)
{
	return ip4_parse(s, out) ? 0 : err_set(err, -EINVAL, "%s is not an IPv4 address", quote(s));
}

static uint32_t broadcast_of(struct ip4_prefix p)
{
	return p.addr | (uint32_t)(0xffffffffull >> p.len);
}

static bool is_host_of(struct ip4_prefix p, uint32_t address)
{
	return address > p.addr && address < broadcast_of(p);
}

static int parse_gateway(const char *text, struct network4 *v, struct err *err)
{
	char net[19];
	int r;

	v->gateway = v->net.addr + 1;
	if (text == NULL)
		return 0;
	r = parse_address(text, &v->gateway, err);
	if (r < 0 || is_host_of(v->net, v->gateway))
		return r;
	ip4_prefix_format(v->net, net);
	return err_set(err, -EINVAL, "%s is not an address for hosts in %s", text, net);
}

static int parse_range(const char *text, struct network4 *v, struct err *err)
{
	char first[16], net[19];
	const char *dash;
	size_t n;
	int r;

	v->first = v->net.addr + 2;
	v->last = broadcast_of(v->net) - 1;
	if (text == NULL)
		return 0;
	dash = strchr(text, '-');
	n = strcspn(text, " \t-");
	if (dash == NULL || n >= sizeof(first))
		return err_set(err, -EINVAL, "%s is not FIRST-LAST, such as 10.0.0.10-10.0.0.99",
			quote(text));
	memcpy(first, text, n);
	first[n] = '\0';
	dash++;
	r = parse_address(first, &v->first, err);
	if (r == 0)
		r = parse_address(dash + strspn(dash, " \t"), &v->last, err);
	if (r < 0)
		return r;
	ip4_prefix_format(v->net, net);
	if (!is_host_of(v->net, v->first) || !is_host_of(v->net, v->last))
		return err_set(err, -EINVAL, "%s is not within the addresses for hosts in %s",
			quote(text), net);
	if (v->first > v->last)
		return err_set(err, -EINVAL, "%s ends before it begins", quote(text));
	if (v->first == v->last && v->first == v->gateway)
		return err_set(err, -EINVAL, "%s is the gateway alone", quote(text));
	return 0;
}

int network4_values(
	const struct network_config *n, struct network4 *out, const char **key, struct err *err)
{
	struct network4 v = { 0 };
	int r;

	*key = "cidr";
	if (n->cidr == NULL) {
		*out = v;
		return 0;
	}
	r = ip4_prefix_parse(n->cidr, false, &v.net, err);
	if (r < 0)
		return r;
	if (v.net.len > 30)
		return err_set(
			err, -EINVAL, "%s has no room for a gateway and a machine", quote(n->cidr));
	if (v.net.len < 8)
		return err_set(err, -EINVAL, "%s is too large: at most a /8", quote(n->cidr));
	*key = "gateway";
	r = parse_gateway(n->gateway, &v, err);
	if (r == 0) {
		*key = "range";
		r = parse_range(n->range, &v, err);
	}
	if (r == 0)
		*out = v;
	return r;
}

int network_values(const struct network_config *n, struct network_values *out, const char **key,
	struct err *err)
{
	struct network_values v = { 0 };
	int r = network4_values(n, &v.v4, key, err);

	if (r == 0)
		r = network6_values(n, &v.v6, key, err);
	if (r == 0)
		*out = v;
	return r;
}

bool network4_has(const struct network4 *v4, uint32_t address)
{
	return is_host_of(v4->net, address) && address != v4->gateway;
}

/* ---- nics ---- */

static int parse_mac(const char *text, char out[18], struct err *err)
{
	static const char pattern[] = "hh:hh:hh:hh:hh:hh";
	unsigned first;

	for (size_t i = 0; i <= 17; i++) {
		if (pattern[i] != 'h' ? text[i] != pattern[i]
				      : text[i] == '\0' ||
						strchr("0123456789abcdefABCDEF", text[i]) == NULL)
			return err_set(err, -EINVAL, "%s is not a MAC address, such as %s",
				quote(text), "52:54:00:12:34:56");
	}
	for (size_t i = 0; i < 18; i++)
		out[i] = (char)(text[i] >= 'A' && text[i] <= 'F' ? text[i] - 'A' + 'a' : text[i]);
	if (sscanf(out, "%2x", &first) != 1 || (first & 1) != 0 ||
		strcmp(out, "00:00:00:00:00:00") == 0)
		return err_set(err, -EINVAL, "%s is not the MAC address of one nic", quote(text));
	return 0;
}

static int nic_option(char *word, struct nic_spec *s, struct err *err)
{
	if (strcmp(word, "address=none") == 0) {
		s->none = true;
		return 0;
	}
	if (str_starts(word, "address="))
		return parse_address(word + 8, &s->address, err);
	if (str_starts(word, "address6="))
		return ip6_parse(word + 9, &s->address6) && !ip6_is_zero(&s->address6)
			       ? 0
			       : err_set(err, -EINVAL, "%s is not an IPv6 address",
					 quote(word + 9));
	if (str_starts(word, "mac="))
		return parse_mac(word + 4, s->mac, err);
	if (str_starts(word, "rate=")) {
		s->rated = true;
		return shape_parse(word + 5, &s->rate, err);
	}
	return err_set(err, -EINVAL,
		"%s is not address=ADDRESS, address6=ADDRESS, mac=MAC or rate=RATE", quote(word));
}

int nic_spec_parse(const char *text, struct nic_spec *out, struct err *err)
{
	char *copy = strdup(text), *save = NULL, *word;
	struct nic_spec s = { .address = 0 };
	int r = 0;

	if (copy == NULL)
		return err_nomem(err);
	word = strtok_r(copy, " \t", &save);
	snprintf(s.network, sizeof(s.network), "%s", word != NULL ? word : "");
	while (r == 0 && (word = strtok_r(NULL, " \t", &save)) != NULL)
		r = nic_option(word, &s, err);
	free(copy);
	if (r == 0)
		*out = s;
	return r;
}

bool vm_is_on_network(const struct vm_config *vm, const char *network)
{
	size_t len = strlen(network);

	for (size_t i = 0; i < vm->networks.n; i++) {
		const char *text = vm->networks.v[i];

		if (strcspn(text, " \t") == len && strncmp(text, network, len) == 0)
			return true;
	}
	return false;
}

/* ---- ports ---- */

const char *proto_name(unsigned proto)
{
	return proto == PROTO_UDP ? "udp" : "tcp";
}

static const char *parse_proto(const char *text, unsigned *proto)
{
	*proto = str_starts(text, "udp/") ? PROTO_UDP : PROTO_TCP;
	return str_starts(text, "udp/") || str_starts(text, "tcp/") ? text + 4 : text;
}

static bool parse_port(const char *text, uint16_t *out)
{
	uint64_t port;

	if (parse_u64(text, 1, 65535, &port, NULL) < 0)
		return false;
	*out = (uint16_t)port;
	return true;
}

int port_spec_parse(const char *text, struct port_spec *out, struct err *err)
{
	struct port_spec s = { 0 };
	const char *port = parse_proto(text, &s.proto);

	if (strcmp(text, "ping") == 0)
		s.proto = 0;
	else if (port == text || !parse_port(port, &s.port))
		return err_set(err, -EINVAL, "%s is not tcp/PORT, udp/PORT or ping", quote(text));
	*out = s;
	return 0;
}

int forward_spec_parse(const char *text, struct forward_spec *out, struct err *err)
{
	struct forward_spec s = { 0 };
	const char *ports = parse_proto(text, &s.proto), *colon = strchr(ports, ':');
	char first[8];

	if (colon == NULL || (size_t)(colon - ports) >= sizeof(first))
		goto bad;
	memcpy(first, ports, (size_t)(colon - ports));
	first[colon - ports] = '\0';
	if (!parse_port(first, &s.port) || !parse_port(colon + 1, &s.to))
		goto bad;
	*out = s;
	return 0;
bad:
	return err_set(err, -EINVAL, "%s is not PORT:PORT or udp/PORT:PORT", quote(text));
}

/* ---- names ---- */

void network_bridge_name(const char *run_id, const struct network_config *n, char out[16])
{
	char tap[16];

	if (n->bridge != NULL) {
		snprintf(out, 16, "%s", n->bridge);
		return;
	}
	/* Another number than any nic has, so that it is not the TAP of a machine of this name. */
	alloc_tap_name(run_id, n->s.name, 0xb41d6e, tap);
	snprintf(out, 16, "dbr%s", tap + strlen("tap"));
}

unsigned network_group(const char *run_id, const char *network)
{
	unsigned group;
	char tap[16];

	alloc_tap_name(run_id, network, 0x6c0095, tap);
	return sscanf(tap + strlen("tap"), "%7x", &group) == 1 && group != 0 ? group : 1;
}

bool network_has_bridge(const struct network_config *n)
{
	return n->kind != NETWORK_P2P && n->kind != NETWORK_USER && n->kind != NETWORK_MACVTAP;
}

bool network_without_dns(const struct network_config *n)
{
	return n->dns.n == 1 && strcmp(n->dns.v[0], "none") == 0;
}
