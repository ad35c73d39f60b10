#include "netcfg/radvd.h"

#include <inttypes.h>

#include "lib/util.h"

static const char *flag(bool on)
{
	return on ? "on" : "off";
}

static void add_list(
	struct buf *out, const char *word, const char *const *values, uint64_t lifetime)
{
	if (values == NULL || values[0] == NULL)
		return;
	buf_printf(out, "\t%s", word);
	for (size_t i = 0; values[i] != NULL; i++)
		buf_printf(out, " %s", values[i]);
	buf_printf(out, " {\n\t\tAdv%sLifetime %" PRIu64 ";\n\t};\n", word, lifetime);
}

void radvd_config_text(const struct radvd_spec *s, struct buf *out)
{
	char net[IP6_TEXT + 4];
	/* RFC 4861, 6.2.1: a third of the longest time, at least 3 s. */
	uint64_t least = MAX(s->interval / 3, 3);
	/* RFC 8106, 5.1: as long as some advertisements. */
	uint64_t told = 3 * s->interval;

	ip6_prefix_format(&s->net, net);
	buf_printf(out, "interface %s\n{\n\tAdvSendAdvert on;\n", s->link);
	buf_printf(out, "\tMinRtrAdvInterval %" PRIu64 ";\n\tMaxRtrAdvInterval %" PRIu64 ";\n",
		least, s->interval);
	buf_printf(out, "\tAdvDefaultLifetime %" PRIu64 ";\n", s->router_lifetime);
	buf_printf(out, "\tAdvManagedFlag %s;\n\tAdvOtherConfigFlag %s;\n", flag(s->managed),
		flag(s->other));
	if (s->mtu != 0)
		buf_printf(out, "\tAdvLinkMTU %u;\n", s->mtu);
	buf_printf(out, "\tprefix %s {\n\t\tAdvOnLink %s;\n\t\tAdvAutonomous %s;\n", net,
		flag(s->on_link), flag(s->autonomous));
	buf_printf(out,
		"\t\tAdvValidLifetime %" PRIu64 ";\n\t\tAdvPreferredLifetime %" PRIu64 ";\n\t};\n",
		s->lifetime, s->preferred != 0 ? s->preferred : s->lifetime);
	add_list(out, "RDNSS", s->dns, told);
	add_list(out, "DNSSL", s->search, told);
	buf_adds(out, "};\n");
}
