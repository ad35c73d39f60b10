#include "netcfg/firewall-rules.h"

#include "lib/util.h"
#include "netcfg/firewall.h"

/* clang-format off */
static const struct firewall_rule inet_rules[] = {
	{ "from_link",
		"[{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"state\"}},\"rig"
		"ht\":[\"established\",\"related\"]}},{\"accept\":null}]" },
	{ "from_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@way_out\"}},{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"k"
		"ey\":\"status\"}},\"right\":\"dnat\"}},{\"accept\":null}]" },
	{ "from_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\""
		"right\":\"@links\"}},{\"drop\":null}]" },
	{ "from_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\""
		"right\":\"@taps\"}},{\"drop\":null}]" },
	{ "from_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@way_out\"}},{\"accept\":null}]" },
	{ "from_link",
		"[{\"drop\":null}]" },
	{ "to_link",
		"[{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"state\"}},\"rig"
		"ht\":[\"established\",\"related\"]}},{\"accept\":null}]" },
	{ "to_link",
		"[{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"status\"}},\"ri"
		"ght\":\"dnat\"}},{\"accept\":null}]" },
	{ "to_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@taps\"}},{\"drop\":null}]" },
	{ "to_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"daddr\"}},\"right\":\"@delegated6\"}},{\"accept\":null}]" },
	{ "to_link",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\""
		"right\":\"@way_in\"}},{\"accept\":null}]" },
	{ "to_link",
		"[{\"drop\":null}]" },
	{ "to_host",
		"[{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"state\"}},\"rig"
		"ht\":[\"established\",\"related\"]}},{\"accept\":null}]" },
	{ "to_host",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"meta\":{\"key\":\"l4proto\"}},{\"payload\":{\"protocol\""
		":\"th\",\"field\":\"dport\"}}]},\"right\":\"@open\"}},{\"accept\":null"
		"}]" },
	{ "to_host",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ip\",\"field\":\"daddr\"}},{\""
		"payload\":{\"protocol\":\"tcp\",\"field\":\"dport\"}}]},\"right\":\"@m"
		"irrors\"}},{\"accept\":null}]" },
	{ "to_host",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@pings\"}},{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{"
		"\"protocol\":\"icmp\",\"field\":\"type\"}},\"right\":\"echo-request\"}"
		"},{\"accept\":null}]" },
	{ "to_host",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"icmpv"
		"6\",\"field\":\"type\"}},\"right\":{\"set\":[\"nd-router-solicit\",\"n"
		"d-neighbor-solicit\",\"nd-neighbor-advert\"]}}},{\"accept\":null}]" },
	{ "to_host",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@pings\"}},{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{"
		"\"protocol\":\"icmpv6\",\"field\":\"type\"}},\"right\":\"echo-request\""
		"}},{\"accept\":null}]" },
	{ "to_host",
		"[{\"drop\":null}]" },
	{ "from_tap",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ip\",\"field\":\"saddr\"}}]},"
		"\"right\":\"@tap_guests\"}},{\"accept\":null}]" },
	{ "from_tap",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip\","
		"\"field\":\"saddr\"}},\"right\":\"0.0.0.0\"}},{\"match\":{\"op\":\"==\""
		",\"left\":{\"payload\":{\"protocol\":\"udp\",\"field\":\"sport\"}},\"r"
		"ight\":68}},{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protoco"
		"l\":\"udp\",\"field\":\"dport\"}},\"right\":67}},{\"accept\":null}]" },
	{ "from_tap",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ip6\",\"field\":\"saddr\"}}]}"
		",\"right\":\"@tap_guests6\"}},{\"accept\":null}]" },
	{ "from_tap",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":{\"set\":[\"::\",{\"prefix\":{\"addr\""
		":\"fe80::\",\"len\":10}}]}}},{\"accept\":null}]" },
	{ "from_tap",
		"[{\"drop\":null}]" },
	{ "spoofed",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@taps\"}},{\"jump\":{\"target\":\"from_tap\"}}]" },
	{ "prerouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ip\",\"field\":\"daddr\"}},{\""
		"payload\":{\"protocol\":\"tcp\",\"field\":\"dport\"}}]},\"right\":\"@m"
		"irrors\"}},{\"accept\":null}]" },
	{ "prerouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"fib\":{\"result\":\"type\",\"fl"
		"ags\":[\"daddr\"]}},\"right\":\"local\"}},{\"dnat\":{\"family\":\"ip\""
		",\"addr\":{\"map\":{\"key\":{\"concat\":[{\"meta\":{\"key\":\"l4proto\""
		"}},{\"payload\":{\"protocol\":\"th\",\"field\":\"dport\"}}]},\"data\":"
		"\"@forwards\"}}}}]" },
	{ "output",
		"[{\"match\":{\"op\":\"!=\",\"left\":{\"payload\":{\"protocol\":\"ip\","
		"\"field\":\"daddr\"}},\"right\":{\"prefix\":{\"addr\":\"127.0.0.0\",\""
		"len\":8}}}},{\"match\":{\"op\":\"==\",\"left\":{\"fib\":{\"result\":\""
		"type\",\"flags\":[\"daddr\"]}},\"right\":\"local\"}},{\"dnat\":{\"fami"
		"ly\":\"ip\",\"addr\":{\"map\":{\"key\":{\"concat\":[{\"meta\":{\"key\""
		":\"l4proto\"}},{\"payload\":{\"protocol\":\"th\",\"field\":\"dport\"}}"
		"]},\"data\":\"@forwards\"}}}}]" },
	{ "input",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@taps\"}},{\"accept\":null}]" },
	{ "input",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@links\"}},{\"jump\":{\"target\":\"to_host\"}}]" },
	{ "forward",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"meta\":{\"key\":\"oifname\"}}]},\"right\":\"@same_link\""
		"}},{\"accept\":null}]" },
	{ "forward",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@links\"}},{\"jump\":{\"target\":\"from_link\"}}]" },
	{ "forward",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\""
		"right\":\"@links\"}},{\"jump\":{\"target\":\"to_link\"}}]" },
	{ "forward",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@taps\"}},{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"ke"
		"y\":\"oifname\"}},\"right\":\"@taps\"}},{\"match\":{\"op\":\"!=\",\"le"
		"ft\":{\"concat\":[{\"meta\":{\"key\":\"iifname\"}},{\"meta\":{\"key\":"
		"\"oifgroup\"}}]},\"right\":\"@tap_peers\"}},{\"drop\":null}]" },
	{ "forward",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@taps\"}},{\"accept\":null}]" },
	{ "forward",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\""
		"right\":\"@taps\"}},{\"accept\":null}]" },
	{ "postrouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip\","
		"\"field\":\"saddr\"}},\"right\":\"@nat_guests\"}},{\"match\":{\"op\":\""
		"!=\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\"right\":\"@taps\"}},{"
		"\"masquerade\":null}]" },
	{ "postrouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"nfproto\"}},\""
		"right\":\"ipv4\"}},{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key"
		"\":\"iifname\"}},\"right\":\"@nat_links\"}},{\"match\":{\"op\":\"!=\","
		"\"left\":{\"meta\":{\"key\":\"oifname\"}},\"right\":\"@links\"}},{\"ma"
		"squerade\":null}]" },
	{ "postrouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":\"@delegated6\"}},{\"accept\":null}]" },
	{ "postrouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"nfproto\"}},\""
		"right\":\"ipv6\"}},{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key"
		"\":\"iifname\"}},\"right\":\"@nat6_links\"}},{\"match\":{\"op\":\"!=\""
		",\"left\":{\"meta\":{\"key\":\"oifname\"}},\"right\":\"@links\"}},{\"m"
		"atch\":{\"op\":\"!=\",\"left\":{\"meta\":{\"key\":\"oifname\"}},\"righ"
		"t\":\"@taps\"}},{\"masquerade\":null}]" },
	{ "postrouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"meta\":{\"key\":\"oifname\"}}]},\"right\":\"@same_link\""
		"}},{\"match\":{\"op\":\"in\",\"left\":{\"ct\":{\"key\":\"status\"}},\""
		"right\":\"dnat\"}},{\"masquerade\":null}]" },
};

static const struct firewall_chain inet_chains[] = {
	{ "from_link", NULL, NULL, 0 },
	{ "to_link", NULL, NULL, 0 },
	{ "to_host", NULL, NULL, 0 },
	{ "from_tap", NULL, NULL, 0 },
	{ "spoofed", "filter", "prerouting", -300 },
	{ "prerouting", "nat", "prerouting", -100 },
	{ "output", "nat", "output", -100 },
	{ "input", "filter", "input", 0 },
	{ "forward", "filter", "forward", 0 },
	{ "postrouting", "nat", "postrouting", 100 },
};

static const struct firewall_rule bridge_rules[] = {
	{ "honest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"udp\""
		",\"field\":\"dport\"}},\"right\":68}},{\"drop\":null}]" },
	{ "honest",
		"[{\"accept\":null}]" },
	{ "claims",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"base\":\"th\",\"of"
		"fset\":64,\"len\":128}},\"right\":\"0xfe800000000000000000000000000001"
		"\"}},{\"drop\":null}]" },
	{ "claims",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"base\":\"th\",\"of"
		"fset\":64,\"len\":128}},\"right\":\"@router_targets6\"}},{\"drop\":nul"
		"l}]" },
	{ "claims",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"base\":\"th\",\"of"
		"fset\":64,\"len\":128}},\"right\":\"@local_targets6\"}},{\"match\":{\""
		"op\":\"!=\",\"left\":{\"concat\":[{\"meta\":{\"key\":\"iifname\"}},{\""
		"payload\":{\"base\":\"th\",\"offset\":64,\"len\":128}}]},\"right\":\"@"
		"targets6\"}},{\"drop\":null}]" },
	{ "claims",
		"[{\"match\":{\"op\":\"!=\",\"left\":{\"&\":[{\"payload\":{\"base\":\"t"
		"h\",\"offset\":64,\"len\":16}},65472]},\"right\":65152}},{\"match\":{\""
		"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\"right\":\"@exa"
		"ct6\"}},{\"match\":{\"op\":\"!=\",\"left\":{\"concat\":[{\"meta\":{\"k"
		"ey\":\"iifname\"}},{\"payload\":{\"base\":\"th\",\"offset\":64,\"len\""
		":128}}]},\"right\":\"@targets6\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"!=\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ether\",\"field\":\"saddr\"}}"
		"]},\"right\":\"@macs\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"!=\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"arp\",\"field\":\"saddr ether"
		"\"}}]},\"right\":\"@macs\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"arp\""
		",\"field\":\"saddr ip\"}},\"right\":\"@routers\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ether"
		"\",\"field\":\"type\"}},\"right\":\"arp\"}},{\"match\":{\"op\":\"==\","
		"\"left\":{\"meta\":{\"key\":\"iifname\"}},\"right\":\"@any_address\"}}"
		",{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"arp\",\"field\":\"saddr ether"
		"\"}},{\"payload\":{\"protocol\":\"arp\",\"field\":\"saddr ip\"}}]},\"r"
		"ight\":\"@guests\"}},{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"arp\""
		",\"field\":\"saddr ip\"}},\"right\":\"0.0.0.0\"}},{\"match\":{\"op\":\""
		"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\"iifname\"}},{\"payload"
		"\":{\"protocol\":\"arp\",\"field\":\"saddr ether\"}},{\"payload\":{\"p"
		"rotocol\":\"arp\",\"field\":\"daddr ip\"}}]},\"right\":\"@guests\"}},{"
		"\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ether"
		"\",\"field\":\"type\"}},\"right\":\"ip\"}},{\"match\":{\"op\":\"==\",\""
		"left\":{\"payload\":{\"protocol\":\"udp\",\"field\":\"dport\"}},\"righ"
		"t\":68}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip\","
		"\"field\":\"saddr\"}},\"right\":\"@routers\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ether"
		"\",\"field\":\"type\"}},\"right\":\"ip\"}},{\"match\":{\"op\":\"==\",\""
		"left\":{\"meta\":{\"key\":\"iifname\"}},\"right\":\"@any_address\"}},{"
		"\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip\","
		"\"field\":\"saddr\"}},\"right\":\"0.0.0.0\"}},{\"match\":{\"op\":\"==\""
		",\"left\":{\"payload\":{\"protocol\":\"udp\",\"field\":\"sport\"}},\"r"
		"ight\":68}},{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protoco"
		"l\":\"udp\",\"field\":\"dport\"}},\"right\":67}},{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"icmpv"
		"6\",\"field\":\"type\"}},\"right\":{\"set\":[\"nd-router-advert\",\"nd"
		"-redirect\"]}}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ether"
		"\",\"field\":\"type\"}},\"right\":\"ip6\"}},{\"match\":{\"op\":\"==\","
		"\"left\":{\"payload\":{\"protocol\":\"udp\",\"field\":\"dport\"}},\"ri"
		"ght\":546}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ether"
		"\",\"field\":\"type\"}},\"right\":\"ip6\"}},{\"match\":{\"op\":\"==\","
		"\"left\":{\"meta\":{\"key\":\"iifname\"}},\"right\":\"@any_address6\"}"
		"},{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":\"fe80::1\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":\"@routers6\"}},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"icmpv"
		"6\",\"field\":\"type\"}},\"right\":\"nd-neighbor-advert\"}},{\"jump\":"
		"{\"target\":\"claims\"}}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":\"::\"}},{\"match\":{\"op\":\"==\",\""
		"left\":{\"payload\":{\"protocol\":\"icmpv6\",\"field\":\"type\"}},\"ri"
		"ght\":\"nd-neighbor-solicit\"}},{\"jump\":{\"target\":\"claims\"}}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":\"::\"}},{\"match\":{\"op\":\"==\",\""
		"left\":{\"payload\":{\"protocol\":\"icmpv6\",\"field\":\"type\"}},\"ri"
		"ght\":{\"set\":[\"nd-router-solicit\",\"nd-neighbor-solicit\",\"mld2-l"
		"istener-report\"]}}},{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":\"@locals6\"}},{\"match\":{\"op\":\"!"
		"=\",\"left\":{\"concat\":[{\"meta\":{\"key\":\"iifname\"}},{\"payload\""
		":{\"protocol\":\"ip6\",\"field\":\"saddr\"}}]},\"right\":\"@guests6\"}"
		"},{\"drop\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip6\""
		",\"field\":\"saddr\"}},\"right\":{\"prefix\":{\"addr\":\"fe80::\",\"le"
		"n\":10}}}},{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ip6\",\"field\":\"saddr\"}}]}"
		",\"right\":\"@guests6\"}},{\"accept\":null}]" },
	{ "guest",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ip6\",\"field\":\"saddr\"}}]}"
		",\"right\":\"@prefixes6\"}},{\"accept\":null}]" },
	{ "guest",
		"[{\"drop\":null}]" },
	{ "prerouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"concat\":[{\"meta\":{\"key\":\""
		"iifname\"}},{\"payload\":{\"protocol\":\"ether\",\"field\":\"saddr\"}}"
		",{\"payload\":{\"protocol\":\"ip\",\"field\":\"saddr\"}}]},\"right\":\""
		"@guests\"}},{\"jump\":{\"target\":\"honest\"}}]" },
	{ "prerouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},\""
		"right\":\"@guest_taps\"}},{\"jump\":{\"target\":\"guest\"}}]" },
};

static const struct firewall_chain bridge_chains[] = {
	{ "honest", NULL, NULL, 0 },
	{ "claims", NULL, NULL, 0 },
	{ "guest", NULL, NULL, 0 },
	{ "prerouting", "filter", "prerouting", -200 },
};

const struct firewall_shape firewall_shapes[] = {
	[FIREWALL_INET] = { inet_rules, inet_chains, ARRAY_LEN(inet_rules), ARRAY_LEN(inet_chains) },
	[FIREWALL_BRIDGE] = { bridge_rules, bridge_chains, ARRAY_LEN(bridge_rules),
			      ARRAY_LEN(bridge_chains) },
};
/* clang-format on */
