#include "supervisor/network-address.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "netcfg/link6.h"
#include "netcfg/survey.h"

/* Written down by an earlier daemon, it is ours though it is there. */
static int record(struct bridge_net *b, const char *text, bool there, struct err *err)
{
	json_t *data;

	if (!b->foreign || there ||
		ledger_find(b->d->ledger, b->owner, OBJECT_ADDRESS, text) != NULL)
		return 0;
	data = json_object();
	json_put_str(data, "link", b->bridge);
	return ledger_add(b->d->ledger, b->owner, OBJECT_ADDRESS, text, data, err);
}

int bridge_give_address(struct bridge_net *b, struct ip4_prefix address, struct err *err)
{
	struct survey s = { 0 };
	char text[19];
	int r = b->foreign ? survey_take(b->d->nl, &s, err) : 0;

	ip4_prefix_format(address, text);
	if (r == 0)
		r = record(b, text, b->foreign && survey_has_address(&s, b->index, address), err);
	survey_finish(&s);
	return r == 0 ? link_add_address(b->d->nl, b->bridge, address, err) : r;
}

int bridge_give_address6(struct bridge_net *b, const struct ip6_prefix *address, struct err *err)
{
	char text[IP6_TEXT + 4];
	int r;

	ip6_prefix_format(address, text);
	r = record(b, text, link6_has_address(b->index, &address->addr, address->len), err);
	return r == 0 ? link6_add_address(b->d->nl, b->bridge, &address->addr, address->len, err)
		      : r;
}

int bridge_take_address(struct drover *d, const char *address, const json_t *data, struct err *err)
{
	const char *link = json_str(data, "link"), *slash = strchr(address, '/');
	struct ip4_prefix p4;
	struct in6_addr addr;
	char host[IP6_TEXT];

	if (link == NULL || slash == NULL)
		return 0;
	if (ip4_prefix_parse(address, true, &p4, NULL) == 0)
		return link_drop_address(d->nl, link, p4, err);
	snprintf(host, sizeof(host), "%.*s", (int)(slash - address), address);
	if (!ip6_parse(host, &addr))
		return 0;
	return link6_drop_address(d->nl, link, &addr, (uint8_t)strtoul(slash + 1, NULL, 10), err);
}
