#include "supervisor/network-seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/hv.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/arp-watch.h"
#include "netcfg/nd-watch.h"
#include "supervisor/config.h"
#include "supervisor/network.h"
#include "supervisor/network6.h"

/* How often the agents are asked while an address is missing, and when none is. */
#define ASK_MIN_MS 2000
#define ASK_MAX_MS 120000

struct network_seen {
	struct drover *d;
	struct arp_watch *arp;
	struct nd_watch *nd;
	struct deadline soon;
	struct deadline ask; /* the agents */
	uint64_t ask_ms;
};

/* Where it is not we who give them, or not to this one. */
static bool is_unaddressed(const struct machine *m, const struct nic *nic)
{
	return machine_active(m) && nic->network != NULL &&
	       (nic->bridge[0] != '\0' || nic->macvtap) && nic->address == 0;
}

/* On a network of ours alone there is nobody else who would give any. */
static bool is_unaddressed6(const struct machine *m, const struct nic *nic)
{
	const struct network_config *n = nic->network != NULL ? network_of_nic(m, nic) : NULL;

	return machine_active(m) && n != NULL && ip6_is_zero(&nic->address6) &&
	       (nic->macvtap ||
		       (nic->bridge[0] != '\0' && (nic->bare || n->kind == NETWORK_BRIDGE)));
}

bool network_known_address6(const struct nic *nic, char out[IP6_TEXT])
{
	if (network6_guest_address(nic, out))
		return true;
	if (ip6_is_zero(&nic->seen6))
		return false;
	ip6_format(&nic->seen6, out);
	return true;
}

/* ---- what was seen ---- */

static void tell(struct machine *m, const struct nic *nic, const char *address)
{
	json_t *more = json_object();

	json_put_str(more, "address", address);
	json_put_str(more, "mac", nic->mac);
	json_put_str(more, "network", nic->network);
	events_emit(m->d->events, "vm", m->name, "address", more);
}

/* What a machine says of itself is believed where it could be true: nobody is asked at 127.0.0.1. */
static bool is_possible(uint32_t address)
{
	return address >> 24 != 0 && address >> 24 != 127 && address >> 28 < 14 &&
	       address >> 16 != 0xa9fe;
}

static void learn(struct machine *m, struct nic *nic, uint32_t address)
{
	char text[16];

	if (!is_unaddressed(m, nic) || !is_possible(address) || nic->seen == address)
		return;
	nic->seen = address;
	ip4_format(address, text);
	tell(m, nic, text);
}

static void learn6(struct machine *m, struct nic *nic, const struct in6_addr *address)
{
	char text[IP6_TEXT];

	if (!is_unaddressed6(m, nic) || ip6_is_zero(address) || IN6_IS_ADDR_LOOPBACK(address) ||
		IN6_IS_ADDR_MULTICAST(address) || IN6_IS_ADDR_V4MAPPED(address) ||
		memcmp(&nic->seen6, address, sizeof(*address)) == 0)
		return;
	nic->seen6 = *address;
	ip6_format(address, text);
	tell(m, nic, text);
}

static void seen(void *arg, const char *mac, uint32_t address)
{
	struct network_seen *s = arg;
	struct machine *m;

	list_for_each_entry (m, &s->d->machines, entry)
		for (unsigned i = 0; i < m->nnics; i++)
			if (strcmp(m->nics[i].mac, mac) == 0)
				learn(m, &m->nics[i], address);
}

/* A guest has several, and uses them in turn: the first one stays until it is gone for good. */
static void seen6(void *arg, const char *mac, const struct in6_addr *address)
{
	struct network_seen *s = arg;
	struct machine *m;

	list_for_each_entry (m, &s->d->machines, entry)
		for (unsigned i = 0; i < m->nnics; i++)
			if (strcmp(m->nics[i].mac, mac) == 0 && ip6_is_zero(&m->nics[i].seen6))
				learn6(m, &m->nics[i], address);
}

/* ---- the agents ---- */

static void agent_told(void *arg, const json_t *reply, const struct err *err)
{
	struct machine *m = container_of((struct nic *)arg, struct machine, nics[0]);
	struct in6_addr address6;
	uint32_t address;

	for (unsigned i = 0; err == NULL && i < m->nnics; i++) {
		network_agent_addresses(reply, m->nics[i].mac, &address, &address6);
		learn(m, &m->nics[i], address);
		learn6(m, &m->nics[i], &address6);
	}
}

/* Whether it has nics of which the agent can tell; *missing: one without any address yet. */
static bool is_worth_asking(const struct machine *m, bool *missing)
{
	bool worth = false;

	if (m->run_cfg == NULL || !m->run_cfg->agent)
		return false;
	for (unsigned i = 0; i < m->nnics; i++) {
		const struct nic *nic = &m->nics[i];

		if (!is_unaddressed(m, nic) && !is_unaddressed6(m, nic))
			continue;
		worth = true;
		*missing = *missing ||
			   (nic->address == 0 && nic->seen == 0 && ip6_is_zero(&nic->seen6));
	}
	return worth;
}

static void ask_agents(void *arg)
{
	struct network_seen *s = arg;
	json_t *cmd = json_pack("{s:s}", "execute", "guest-network-get-interfaces");
	bool missing = false, any = false;
	struct machine *m;

	list_for_each_entry (m, &s->d->machines, entry) {
		if (!is_worth_asking(m, &missing))
			continue;
		any = true;
		if (m->state == MACHINE_RUNNING && m->hv != NULL && m->process && m->op == NULL)
			hv_agent(m->hv, cmd, 0, agent_told, m->nics); /* m is others' */
	}
	json_decref(cmd);
	s->ask_ms = missing ? MIN(s->ask_ms + ASK_MIN_MS, (uint64_t)ASK_MAX_MS) : ASK_MAX_MS;
	if (any)
		deadline_set(&s->ask, s->ask_ms);
}

/* ---- whom to watch ---- */

static bool parse_mac(const char *text, uint8_t out[6])
{
	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &out[0], &out[1], &out[2],
		       &out[3], &out[4], &out[5]) == 6;
}

static size_t list_macs(const struct drover *d,
	bool (*wanted)(const struct machine *m, const struct nic *nic), uint8_t (*macs)[6])
{
	const struct machine *m;
	size_t n = 0;

	list_for_each_entry (m, &d->machines, entry)
		for (unsigned i = 0; i < m->nnics; i++)
			n += wanted(m, &m->nics[i]) && parse_mac(m->nics[i].mac, macs[n]);
	return n;
}

static void look(void *arg)
{
	struct network_seen *s = arg;
	struct machine *m;
	size_t n, max = 0;
	uint8_t(*macs)[6];
	struct err err;

	list_for_each_entry (m, &s->d->machines, entry)
		max += m->nnics;
	macs = calloc(max + 1, sizeof(*macs));
	if (macs == NULL)
		return;
	n = list_macs(s->d, is_unaddressed, macs);
	if (arp_watch_set(s->arp, (const uint8_t(*)[6])macs, n, &err) < 0)
		log_warn("addresses of guests cannot be learned: %s (ignoring)", err.msg);
	n = list_macs(s->d, is_unaddressed6, macs);
	if (nd_watch_set(s->nd, (const uint8_t(*)[6])macs, n, &err) < 0)
		log_warn("addresses of guests cannot be learned: %s (ignoring)", err.msg);
	free(macs);
	s->ask_ms = 0;
	ask_agents(s);
}

static int create(struct drover *d)
{
	struct network_seen *s = calloc(1, sizeof(*s));
	struct err err;

	if (s == NULL)
		return -1;
	s->d = d;
	if (arp_watch_create(&s->arp, d->loop, seen, s, &err) < 0 ||
		nd_watch_create(&s->nd, d->loop, seen6, s, &err) < 0) {
		arp_watch_destroy(s->arp);
		free(s);
		return -1;
	}
	deadline_init(&s->soon, d->loop, look, s);
	deadline_init(&s->ask, d->loop, ask_agents, s);
	d->seen = s;
	return 0;
}

void network_seen_refresh(struct drover *d)
{
	if (d->leaving || (d->seen == NULL && create(d) < 0))
		return;
	if (!deadline_armed(&d->seen->soon))
		deadline_set(&d->seen->soon, 0);
}

static void closed(void *arg)
{
	free(arg);
}

static void ask_closed(void *arg)
{
	struct network_seen *s = arg;

	deadline_close(&s->soon, closed);
}

void network_seen_release(struct drover *d)
{
	struct network_seen *s = d->seen;
	struct machine *m;

	if (s == NULL)
		return;
	d->seen = NULL;
	list_for_each_entry (m, &d->machines, entry)
		if (m->hv != NULL)
			hv_agent_forget(m->hv, m->nics);
	arp_watch_destroy(s->arp);
	nd_watch_destroy(s->nd);
	deadline_close(&s->ask, ask_closed);
}
