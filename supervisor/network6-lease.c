/* Leases of DHCPv6 that are of no use any more: supervisor/network6.h. */
#include <string.h>

#include "lib/file.h"
#include "lib/log.h"
#include "netcfg/dhcp6-release.h"
#include "supervisor/network6-serve.h"
#include "supervisor/network6.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)

/* The lease of the address, and the server's own DUID, from its file. */
static bool find_lease(char *text, const struct in6_addr *address, struct dnsmasq6_lease *lease,
	const char **server)
{
	bool found = false;
	char *line, *save = NULL;

	*server = NULL;
	for (line = strtok_r(text, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		struct dnsmasq6_lease one;

		if (dnsmasq6_server_duid(line) != NULL) {
			*server = dnsmasq6_server_duid(line);
		} else if (dnsmasq6_lease_parse(line, &one) && ip6_equal(&one.address, address)) {
			*lease = one;
			found = true;
		}
	}
	return found && *server != NULL;
}

void network6_forget_lease(struct bridge_net *b, const struct nic *nic)
{
	struct buf text = { 0 }, message = { 0 };
	const struct lease *l;
	struct dnsmasq6_lease lease;
	const char *server;
	struct err err;
	bool held = false;

	if (b->v.v6.kea) {
		network6_release_leases(b, nic);
		return;
	}
	list_for_each_entry (l, &b->leases, entry)
		held = held || (l->address == 0 && ip6_equal(&l->address6, &nic->address6));
	if (!held || ip6_is_zero(&nic->address6))
		return;
	if (file_read(b->lease_file, FILE_MAX_BYTES, &text, NULL) == 0 && text.len > 0 &&
		find_lease(text.data, &nic->address6, &lease, &server) &&
		dhcp6_release_message(&message, &lease, server) &&
		dhcp6_release_send(b->bridge, &message, &err) < 0)
		log_warn("network %s: %s (ignoring)", b->name, err.msg);
	buf_finish(&message);
	buf_finish(&text);
}
