/* What the guest agent says of a guest's addresses: supervisor/network-seen.h. */
#include <strings.h>

#include "lib/json.h"
#include "netcfg/alloc.h"
#include "supervisor/network-seen.h"

static void take(const json_t *a, uint32_t *address, struct in6_addr *address6)
{
	const char *text = json_str(a, "ip-address"), *type = json_str(a, "ip-address-type");
	struct in6_addr six;
	uint32_t four;

	if (text == NULL)
		return;
	/* 169.254.0.0/16 is what a guest has when nobody gives it one (RFC 3927). */
	if (*address == 0 && str_eq(type, "ipv4") && ip4_parse(text, &four) && four >> 16 != 0xa9fe)
		*address = four;
	if (ip6_is_zero(address6) && str_eq(type, "ipv6") && ip6_parse(text, &six) &&
		!IN6_IS_ADDR_LINKLOCAL(&six))
		*address6 = six;
}

void network_agent_addresses(
	const json_t *reply, const char *mac, uint32_t *address, struct in6_addr *address6)
{
	const json_t *interface, *a;
	size_t i, k;

	*address = 0;
	*address6 = (struct in6_addr){ 0 };
	json_array_foreach (reply, i, interface) {
		const char *its = json_str(interface, "hardware-address");

		if (its == NULL || strcasecmp(its, mac) != 0)
			continue;
		json_array_foreach (json_arr(interface, "ip-addresses"), k, a)
			take(a, address, address6);
	}
}
