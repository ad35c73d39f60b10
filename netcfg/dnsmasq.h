/*
 * netcfg/dnsmasq.h - the command line of a dnsmasq for one link. Pure. The process itself is run
 * by the supervisor's services.
 */
#ifndef DROVER_NETCFG_DNSMASQ_H
#define DROVER_NETCFG_DNSMASQ_H

#include <stdbool.h>
#include <sys/types.h>
#include "lib/str.h"
#include "netcfg/alloc.h"
#include "netcfg/dnsmasq-dns.h"
#include "netcfg/dnsmasq6.h"

struct dnsmasq_p2p_spec {
	const char *binary;
	const char *tap;
	const char *mac;        /* the only client; client ids are ignored */
	const char *host_name;  /* the machine's name, offered when it is a valid DNS label */
	struct ip4_prefix net;  /* the /30: router network + 1, client network + 2 */
	const char *const *dns; /* DNS servers offered, NULL-terminated; empty: none */
	const char *pid_file;   /* NULL: none */
	/* IPv6 beside it, and the machine's address there; may be NULL. */
	const struct dnsmasq6_spec *v6;
	struct in6_addr address6;
	/* It serves names itself, at the router's address, which is offered; dns is ignored. May be
	 * NULL. */
	const struct dnsmasq_dns *own_dns;
};

/*
 * DHCP, and no DNS of its own (port 0) unless own_dns is set: address, router, DNS, for ever (a guest that asks again
 * after a reboot gets the same). It stays in the foreground and logs to stderr. -EINVAL: a name,
 * MAC or address that would read as something else on a command line.
 *
 * Facts: --no-ping or the first offer takes 3 s. With --bind-dynamic several dnsmasqs share port
 * 67, and each binds its socket to its link if that has its address when dnsmasq starts (up and
 * carrier may come later): so make the TAP and add the address first. A TAP that is made anew
 * needs a new dnsmasq.
 */
int dnsmasq_p2p_args(const struct dnsmasq_p2p_spec *spec, struct strv *out, struct err *err);

/*
 * Whether UDP port 67 is held in this network namespace so that a dnsmasq cannot bind it: tried
 * with a socket like dnsmasq's, so that those who share the port (other dnsmasqs with
 * --bind-dynamic or --bind-interfaces, ours among them) do not count, and one bound to any link
 * without sharing does. Then who says "dhcpd (pid 1234)", from /proc/net/udp and the owners'
 * /proc/PID/fd; processes in ours (may be NULL) are not named.
 */
bool dhcp_port_taken(const pid_t *ours, size_t nours, char *who, size_t cap);
/* The same for UDP port 547, of IPv6. */
bool dhcp6_port_taken(char *who, size_t cap);
/* The same for UDP port 53 of an address of the host, which nobody shares. */
bool dns_port_taken(uint32_t address, char *who, size_t cap);

#endif
