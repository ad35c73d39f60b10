/* Leases as dnsmasq writes them down: supervisor/network-bridge.h. By inotify, no polling. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/dnsmasq-bridge.h"
#include "supervisor/network6-serve.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)
/* dnsmasq writes the file over, in some writes: it is read when it has been quiet for so long. */
#define QUIET_MS 5

const struct list *bridge_leases(const struct bridge_net *b)
{
	return &b->leases;
}

void lease_address(const struct lease *l, char out[IP6_TEXT + 4])
{
	struct ip6_prefix prefix = { l->address6, l->prefix_len };

	if (l->prefix_len != 0)
		ip6_prefix_format(&prefix, out);
	else if (l->address != 0)
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
	char text[IP6_TEXT + 4];

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
static struct nic *nic_of6(struct bridge_net *b, const struct in6_addr *address, uint8_t prefix_len,
	struct machine **out)
{
	struct machine *m;

	list_for_each_entry (m, &b->d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++) {
			struct nic *nic = &m->nics[i];

			if (!str_eq(nic->network, b->name))
				continue;
			if (prefix_len != 0 ? nic->prefix6.len == prefix_len &&
						      ip6_equal(&nic->prefix6.addr, address)
					    : ip6_equal(&nic->address6, address)) {
				*out = m;
				return nic;
			}
		}
	}
	return NULL;
}

/* prefix_len 0: an address. */
static void see6(
	struct bridge_net *b, const struct in6_addr *address, uint8_t prefix_len, uint64_t expires)
{
	struct machine *m = NULL;
	struct lease *l;
	struct nic *nic;

	list_for_each_entry (l, &b->leases, entry) {
		if (l->address == 0 && l->prefix_len == prefix_len &&
			ip6_equal(&l->address6, address)) {
			l->expires = expires;
			l->seen = true;
			return;
		}
	}
	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return;
	*l = (struct lease){
		.expires = expires, .address6 = *address, .prefix_len = prefix_len, .seen = true
	};
	list_append(&b->leases, &l->entry);
	nic = nic_of6(b, address, prefix_len, &m);
	if (nic != NULL) {
		memcpy(l->mac, nic->mac, sizeof(l->mac));
		l->vm = strdup(m->name);
	}
	tell(b, l, "new");
}

static void see_kea(struct bridge_net *b, const struct kea6_lease *l)
{
	see6(b, &l->what.addr, l->prefix ? l->what.len : 0, l->expires);
}

/* Time goes by without a word in a file. */
static void await_end(struct bridge_net *b, uint64_t next)
{
	uint64_t now = (uint64_t)time(NULL);

	if (next != 0)
		deadline_set(&b->lease_timer, (MIN(next - MIN(now, next), 86400) + 1) * 1000);
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
	uint64_t next;

	b->lease_quiet = false;
	/* Kea's may be there before dnsmasq's. */
	if (file_read(b->lease_file, FILE_MAX_BYTES, &text, NULL) < 0 && !b->v.v6.kea) {
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
			see6(b, &six.address, 0, six.expires);
	if (network6_read_leases(b, see_kea, &next) < 0)
		goto later;
	list_for_each_entry_safe (l, tmp, &b->leases, entry) {
		if (l->seen)
			continue;
		nic = l->address != 0 ? nic_of(b, l->mac, &m) : NULL;
		if (nic != NULL)
			nic->leased = false;
		tell(b, l, "gone");
		lease_free(l);
	}
	network6_delegate(b);
later:
	buf_finish(&text);
	await_end(b, next);
}

static void file_changed(uv_fs_event_t *watch, const char *filename, int events, int status)
{
	struct bridge_net *b = watch->data;

	if (b != NULL &&
		(filename == NULL || str_ends(b->lease_file, filename) ||
			network6_is_lease_file(b, filename)) &&
		!b->lease_quiet) {
		/* Once: a guest that never is quiet shall not keep others' leases from being seen. */
		b->lease_quiet = true;
		deadline_set(&b->lease_timer, QUIET_MS);
	}
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

	network6_forget_routes(b);
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
