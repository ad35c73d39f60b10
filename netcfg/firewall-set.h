/*
 * netcfg/firewall-set.h - what is in the sets and maps of our nft tables (netcfg/firewall.h) for
 * links and guests. Pure, tested byte for byte.
 *
 * Elements are kept as JSON, since the ledger keeps them so: {"links": ["br0"], "open": ["br0 . udp .
 * 67"]}, the name of each set and its elements as nft's listing has them, but joined by " . ".
 */
#ifndef DROVER_NETCFG_FIREWALL_SET_H
#define DROVER_NETCFG_FIREWALL_SET_H

#include <jansson.h>
#include "lib/str.h"
#include "netcfg/firewall.h"

/* The rows of both tables; the first two are of struct firewall_tap. */
struct firewall_set {
	const char *name, *type; /* as nft's JSON has it, fields joined by " . " */
	enum firewall_table table;
	unsigned quoted; /* so many fields at its front are names of links */
	bool map;
};
extern const struct firewall_set firewall_sets[];
extern const size_t firewall_nsets;

/* A bridge: which way its network's packets may go. */
struct firewall_link {
	const char *name;
	bool peers;           /* its machines reach one another */
	bool out, in, nat;    /* leave for the world, be reached from there, under our address */
	bool dhcp, dns, ping; /* what of the host they reach */
	const json_t *open;   /* and "tcp . 5000", as strings; or NULL */
	/* Addresses of the host that are there for its guests, "10.0.0.254 . 443"; or NULL. */
	const json_t *mirrors;
};
json_t *firewall_link_elements(const struct firewall_link *link);

/* A nic on a bridge: what it may send. */
struct firewall_guest {
	const char *tap, *mac;
	uint32_t address;       /* 0: any */
	const json_t *forwards; /* "tcp . 8080 : 10.0.0.2 . 80", as strings; or NULL */
};
json_t *firewall_guest_elements(const struct firewall_guest *guest);

/* One more element of a set, for others that make such objects. */
void firewall_put(json_t *elements, const char *set, const char *fmt, ...) PRINTF(3, 4);
/* A nic of kind p2p: its address alone, and the group of the links that it reaches (0: none). */
json_t *firewall_p2p_elements(const char *tap, uint32_t guest, unsigned peers);

/* As firewall_tap_add_text(): adding what is there and deleting what is not are no errors. */
void firewall_elements_add_text(struct buf *out, const json_t *elements);
void firewall_elements_delete_text(struct buf *out, const json_t *elements);

#endif
