/* Leases as dnsmasq writes them down: supervisor/network-bridge.h. By inotify, no polling. */
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/dnsmasq-bridge.h"
#include "supervisor/network-bridge-private.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)
/* dnsmasq writes the file over, in some writes: it is read when it has been quiet for so long. */
#define QUIET_MS 5

const struct list *bridge_leases(const struct bridge_net *b)
{
	return &b->leases;
}

void lease_address(const struct lease *l, char out[IP6_TEXT])
{
	if (l->address != 0)
		ip4_format(l->address, out);
	else
		ip6_format(&l->address6, out);
}

static void lease_free(struct lease *l)
{
	list_remove(&l->entry);
	free(l->vm);
	free(l);
}

static struct nic *nic_of(struct bridge_net *b, const char *mac, struct machine **out)
{
	struct machine *m;

	list_for_each_entry (m, &b->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			if (str_eq(m->nics[i].network, b->name) &&
				strcmp(m->nics[i].mac, mac) == 0) {
				*out = m;
				return &m->nics[i];
			}
		}
	}
	return NULL;
}

static void tell(struct bridge_net *b, const struct lease *l, const char *action)
{
	json_t *more = json_object();
	char text[IP6_TEXT];

	lease_address(l, text);
	json_put_str(more, "action", action);
	json_put_str(more, "address", text);
	json_put_str(more, "mac", l->mac);
	json_put_str(more, "vm", l->vm);
	json_put_int(more, "expires", (int64_t)l->expires);
	events_emit(b->d->events, "network", b->name, "lease", more);
}

static struct lease *find(struct bridge_net *b, const char *mac)
{
	struct lease *l;

	list_for_each_entry (l, &b->leases, entry) {
		if (l->address != 0 && strcmp(l->mac, mac) == 0)
			return l;
	}
	return NULL;
}

/* A renewal is no news. */
static void see(struct bridge_net *b, const struct dnsmasq_lease *d)
{
	struct lease *l = find(b, d->mac);
	const char *action = l == NULL ? "new" : l->address != d->address ? "changed" : NULL;
	struct machine *m = NULL;
	struct nic *nic;

	if (l == NULL) {
		l = calloc(1, sizeof(*l));
		if (l == NULL)
			return;
		memcpy(l->mac, d->mac, sizeof(l->mac));
		list_append(&b->leases, &l->entry);
	}
	l->expires = d->expires;
	l->address = d->address;
	l->seen = true;
	if (action == NULL)
		return;
	nic = nic_of(b, l->mac, &m);
	if (nic != NULL)
		nic->leased = true;
	free(l->vm);
	l->vm = m != NULL ? strdup(m->name) : NULL;
	tell(b, l, action);
}

/* By DHCPv6 an address is leased to a DUID: whose it is, is whom it is reserved for. */
static struct nic *nic_of6(
	struct bridge_net *b, const struct in6_addr *address, struct machine **out)
{
	struct machine *m;

	list_for_each_entry (m, &b->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			if (str_eq(m->nics[i].network, b->name) &&
				ip6_equal(&m->nics[i].address6, address)) {
				*out = m;
				return &m->nics[i];
			}
		}
	}
	return NULL;
}

static void see6(struct bridge_net *b, const struct dnsmasq6_lease *d)
{
	struct machine *m = NULL;
	struct lease *l;
	struct nic *nic;

	list_for_each_entry (l, &b->leases, entry) {
		if (l->address == 0 && ip6_equal(&l->address6, &d->address)) {
			l->expires = d->expires;
			l->seen = true;
			return;
		}
	}
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return;
	*l = (struct lease){ .expires = d->expires, .address6 = d->address, .seen = true };
	list_append(&b->leases, &l->entry);
	nic = nic_of6(b, &d->address, &m);
	if (nic != NULL) {
		memcpy(l->mac, nic->mac, sizeof(l->mac));
		l->vm = strdup(m->name);
	}
	tell(b, l, "new");
}

static void read_leases(void *arg)
{
	struct bridge_net *b = arg;
	struct dnsmasq_lease one;
	struct dnsmasq6_lease six;
	struct buf text = { 0 };
	struct lease *l, *tmp;
	struct machine *m;
	struct nic *nic;
	char *line, *save = NULL;

	if (file_read(b->lease_file, FILE_MAX_BYTES, &text, NULL) < 0) {
		buf_finish(&text);
		return;
	}
	list_for_each_entry (l, &b->leases, entry)
		l->seen = false;
	for (line = text.len > 0 ? strtok_r(text.data, "\n", &save) : NULL; line != NULL;
		line = strtok_r(NULL, "\n", &save))
		if (dnsmasq_lease_parse(line, &one))
			see(b, &one);
		else if (dnsmasq6_lease_parse(line, &six))
			see6(b, &six);
	list_for_each_entry_safe (l, tmp, &b->leases, entry) {
		if (l->seen)
			continue;
		nic = l->address != 0 ? nic_of(b, l->mac, &m) : NULL;
		if (nic != NULL)
			nic->leased = false;
		tell(b, l, "gone");
		lease_free(l);
	}
	buf_finish(&text);
}

static void file_changed(uv_fs_event_t *watch, const char *filename, int events, int status)
{
	struct bridge_net *b = watch->data;

	if (b != NULL && (filename == NULL || str_ends(b->lease_file, filename)))
		deadline_set(&b->lease_timer, QUIET_MS);
}

static void watch_closed(uv_handle_t *h)
{
	free(h);
}

/* The folder rather than the file, which dnsmasq makes when it has started. */
void bridge_watch_leases(struct bridge_net *b)
{
	char *dir = path_join(b->d->state_dir, "net");
	int r = -ENOMEM;

	if (b->watch != NULL || dir == NULL) {
		free(dir);
		return;
	}
	if (!b->lease_timer.open)
		deadline_init(&b->lease_timer, b->d->loop, read_leases, b);
	b->watch = calloc(1, sizeof(*b->watch));
	if (b->watch != NULL) {
		uv_fs_event_init(b->d->loop, b->watch);
		b->watch->data = b;
		r = uv_fs_event_start(b->watch, file_changed, dir, 0);
	}
	if (r < 0)
		log_error("network %s: its leases cannot be followed: %s", b->name, uv_strerror(r));
	free(dir);
	deadline_set(&b->lease_timer, 0);
}

void bridge_unwatch_leases(struct bridge_net *b)
{
	struct lease *l, *tmp;

	if (b->lease_timer.open)
		deadline_cancel(&b->lease_timer);
	if (b->watch != NULL) {
		b->watch->data = NULL;
		uv_close((uv_handle_t *)b->watch, watch_closed);
	}
	b->watch = NULL;
	list_for_each_entry_safe (l, tmp, &b->leases, entry)
		lease_free(l);
}
