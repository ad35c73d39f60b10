#include "supervisor/network-seen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/arp-watch.h"

struct network_seen {
	struct drover *d;
	struct arp_watch *watch;
	struct deadline soon;
};

static bool is_unaddressed(const struct machine *m, const struct nic *nic)
{
	return machine_active(m) && nic->network != NULL && nic->bridge[0] != '\0' &&
	       nic->address == 0;
}

static void seen(void *arg, const char *mac, uint32_t address)
{
	struct network_seen *s = arg;
	struct machine *m;
	char text[16];

	list_for_each_entry (m, &s->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			struct nic *nic = &m->nics[i];
			json_t *more;

			if (!is_unaddressed(m, nic) || strcmp(nic->mac, mac) != 0 ||
				nic->seen == address)
				continue;
			nic->seen = address;
			ip4_format(address, text);
			more = json_object();
			json_put_str(more, "address", text);
			json_put_str(more, "mac", mac);
			json_put_str(more, "network", nic->network);
			events_emit(s->d->events, "vm", m->name, "address", more);
		}
	}
}

static bool parse_mac(const char *text, uint8_t out[6])
{
	return sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", &out[0], &out[1], &out[2],
		       &out[3], &out[4], &out[5]) == 6;
}

static void look(void *arg)
{
	struct network_seen *s = arg;
	struct machine *m;
	size_t n = 0, max = 0;
	uint8_t(*macs)[6];
	struct err err;

	list_for_each_entry (m, &s->d->machines, entry)
		max += m->nnics;
	macs = calloc(max + 1, sizeof(*macs));
	if (macs == NULL)
		return;
	list_for_each_entry (m, &s->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++)
			n += is_unaddressed(m, &m->nics[i]) && parse_mac(m->nics[i].mac, macs[n]);
	}
	if (arp_watch_set(s->watch, (const uint8_t(*)[6])macs, n, &err) < 0)
		log_warn("addresses of guests cannot be learned: %s (ignoring)", err.msg);
	free(macs);
}

static int create(struct drover *d)
{
	struct network_seen *s = calloc(1, sizeof(*s));
	struct err err;

	if (s == NULL)
		return -1;
	s->d = d;
	if (arp_watch_create(&s->watch, d->loop, seen, s, &err) < 0) {
		free(s);
		return -1;
	}
	deadline_init(&s->soon, d->loop, look, s);
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

void network_seen_release(struct drover *d)
{
	struct network_seen *s = d->seen;

	if (s == NULL)
		return;
	d->seen = NULL;
	arp_watch_destroy(s->watch);
	deadline_close(&s->soon, closed);
}
