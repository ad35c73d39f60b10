#include "supervisor/network-mirror.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/bridge.h"
#include "netcfg/link.h"
#include "supervisor/network-mirror-private.h"
#include "supervisor/network-names.h"
#include "supervisor/network-private.h"

/* ---- what is wanted ---- */

static const struct registry_config *registry_of(const struct config *c, const char *name)
{
	return (const void *)config_find(c, SECTION_REGISTRY, name);
}

char *mirrors_wanted(
	const struct bridge_net *b, const struct network_config *cfg, const struct config *config)
{
	struct buf text = { 0 };
	struct strv names = { 0 };

	for (size_t i = 0; i < cfg->mirror.n; i++) {
		const struct registry_config *r;
		struct mirror_spec s;

		if (mirror_spec_parse(cfg->mirror.v[i], &s, NULL) < 0)
			continue;
		r = registry_of(config, s.registry);
		if (r == NULL || registry_redirected(r, &names) < 0)
			continue;
		buf_printf(&text, "%s %s", cfg->mirror.v[i], r->listen);
		for (size_t k = 0; k < names.n; k++)
			buf_printf(&text, " %s", names.v[k]);
		buf_adds(&text, "\n");
		strv_finish(&names);
	}
	buf_adds(&text, "");
	return buf_steal(&text);
}

/* The cache listens on every address: on which of them it is found. */
static char *backend_of(const char *listen)
{
	if (str_starts(listen, "0.0.0.0:"))
		return str_printf("127.0.0.1:%s", listen + strlen("0.0.0.0:"));
	if (str_starts(listen, "[::]:"))
		return str_printf("[::1]:%s", listen + strlen("[::]:"));
	return strdup(listen);
}

static void mirror_finish(struct mirror *m)
{
	strv_finish(&m->names);
	free(m->backend);
	free(m->cert);
}

static void drop_all(struct mirrors *ms)
{
	for (size_t i = 0; i < ms->n; i++)
		mirror_finish(&ms->v[i]);
	free(ms->v);
	ms->v = NULL;
	ms->n = 0;
}

static int set_mirror(struct bridge_net *b, struct mirror *m, const struct registry_config *r)
{
	m->backend = backend_of(r->listen);
	m->cert = m->spec.http ? NULL : str_printf("%s/%s.pem", b->dir, m->spec.registry);
	if (m->backend == NULL || (m->cert == NULL && !m->spec.http) ||
		registry_redirected(r, &m->names) < 0)
		return -ENOMEM;
	return 0;
}

/* As the sections are now, still without addresses. */
static int read_wanted(struct bridge_net *b, struct mirrors *ms, struct err *err)
{
	const struct strv *wanted = &b->cfg->mirror;

	drop_all(ms);
	ms->v = calloc(wanted->n + 1, sizeof(*ms->v));
	if (ms->v == NULL)
		return err_nomem(err);
	for (size_t i = 0; i < wanted->n; i++) {
		struct mirror *m = &ms->v[ms->n];
		const struct registry_config *r;

		if (mirror_spec_parse(wanted->v[i], &m->spec, NULL) < 0)
			continue;
		r = registry_of(b->box->config, m->spec.registry);
		if (r == NULL)
			continue;
		ms->n++;
		if (set_mirror(b, m, r) < 0)
			return err_nomem(err);
	}
	return 0;
}

/* ---- addresses ---- */

static bool is_machines(const struct drover *d, uint32_t address)
{
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; i < m->nnics; i++)
			if (m->nics[i].address == address || m->nics[i].fixed == address)
				return true;
		for (size_t i = 0; m->cfg != NULL && i < m->cfg->networks.n; i++) {
			struct nic_spec s;

			if (nic_spec_parse(m->cfg->networks.v[i], &s, NULL) == 0 &&
				s.address == address)
				return true;
		}
	}
	return false;
}

static bool is_mirrors(const struct mirrors *ms, uint32_t address)
{
	for (size_t i = 0; i < ms->n; i++)
		if (ms->v[i].address == address || ms->v[i].spec.address == address)
			return true;
	return false;
}

static bool is_free(const struct bridge_net *b, uint32_t address)
{
	return network4_has(&b->v.v4, address) && !is_mirrors(b->mirrors, address) &&
	       !is_machines(b->d, address);
}

static bool is_of_this(const struct bridge_net *b, const struct object *o)
{
	return o->kind == OBJECT_MIRROR && str_eq(json_str(o->data, "bridge"), b->bridge);
}

static struct ledger_owner *our_objects(const struct bridge_net *b)
{
	struct ledger_owner *owner;

	list_for_each_entry (owner, ledger_owners(b->d->ledger), entry) {
		if (strcmp(owner->name, b->owner) == 0)
			return owner;
	}
	return NULL;
}

/* The one that it has had since the boot; 0: none. */
static uint32_t old_address(const struct bridge_net *b, const char *registry)
{
	struct ledger_owner *owner = our_objects(b);
	struct object *o;
	uint32_t address;

	if (owner == NULL)
		return 0;
	list_for_each_entry (o, &owner->objects, entry) {
		if (is_of_this(b, o) && str_eq(json_str(o->data, "registry"), registry) &&
			ip4_parse(o->name, &address))
			return address;
	}
	return 0;
}

static int choose(struct bridge_net *b, struct mirror *m, struct err *err)
{
	uint32_t old = old_address(b, m->spec.registry);

	m->address = m->spec.address;
	if (m->address == 0 && old != 0 && is_free(b, old))
		m->address = old;
	/* From the end, since machines begin anywhere. */
	for (uint32_t a = b->v.v4.last; m->address == 0 && a >= b->v.v4.first; a--)
		if (is_free(b, a))
			m->address = a;
	return m->address != 0 ? 0
			       : err_set(err, -EADDRNOTAVAIL,
					 "no address of its range is left for the mirror %s",
					 m->spec.registry);
}

/* Of mirrors that are no more, or elsewhere. */
static struct object *next_old(const struct bridge_net *b)
{
	struct ledger_owner *owner = our_objects(b);
	struct object *o;
	uint32_t address;

	if (owner == NULL)
		return NULL;
	list_for_each_entry (o, &owner->objects, entry) {
		if (o->kind == OBJECT_MIRROR &&
			!(is_of_this(b, o) && ip4_parse(o->name, &address) &&
				is_mirrors(b->mirrors, address)))
			return o;
	}
	return NULL;
}

static int drop_old(struct bridge_net *b, struct err *err)
{
	struct object *o;
	int r = 0;

	/* With its last object an owner goes, too. */
	while (r == 0 && (o = next_old(b)) != NULL) {
		r = mirror_release_address(b->d, o->name, o->data, err);
		if (r == 0)
			ledger_remove(b->d->ledger, b->owner, OBJECT_MIRROR, o->name);
	}
	return r;
}

static int set_address(struct bridge_net *b, const struct mirror *m, struct err *err)
{
	struct ip4_prefix address = { m->address, 32 };
	json_t *data = json_object();
	char text[16];
	int r;

	ip4_format(m->address, text);
	json_put_str(data, "bridge", b->bridge);
	json_put_str(data, "registry", m->spec.registry);
	r = ledger_add(b->d->ledger, b->owner, OBJECT_MIRROR, text, data, err);
	return r == 0 ? link_add_address(b->d->nl, b->bridge, address, err) : r;
}

/* An earlier daemon was told of mirrors, and we are not. */
static bool has_left(const struct bridge_net *b)
{
	struct ledger_owner *owner = our_objects(b);
	struct object *o;

	if (owner == NULL)
		return false;
	list_for_each_entry (o, &owner->objects, entry) {
		if (o->kind == OBJECT_MIRROR ||
			(o->kind == OBJECT_PROCESS && strcmp(o->name, b->name) != 0))
			return true;
	}
	return false;
}

int mirrors_addresses(struct bridge_net *b, struct err *err)
{
	struct mirrors *ms = b->mirrors;
	int r;

	if (ms == NULL && b->cfg->mirror.n == 0 && !has_left(b))
		return 0;
	if (ms == NULL) {
		ms = calloc(1, sizeof(*ms));
		if (ms == NULL)
			return err_nomem(err);
		b->mirrors = ms;
		ms->service_name = str_printf("%s-mirrors", b->name);
		if (ms->service_name == NULL)
			return err_nomem(err);
	}
	r = read_wanted(b, ms, err);
	for (size_t i = 0; r == 0 && i < ms->n; i++)
		r = choose(b, &ms->v[i], err);
	if (r == 0)
		r = drop_old(b, err);
	for (size_t i = 0; r == 0 && i < ms->n; i++)
		r = set_address(b, &ms->v[i], err);
	return r;
}

int mirror_release_address(
	struct drover *d, const char *address, const json_t *data, struct err *err)
{
	const char *bridge = json_str(data, "bridge");
	struct ip4_prefix p = { .len = 32 };

	if (bridge == NULL || !ip4_parse(address, &p.addr))
		return 0;
	return link_drop_address(d->nl, bridge, p, err);
}

/* ---- what others ask ---- */

bool mirrors_have(const struct bridge_net *b, uint32_t address)
{
	return b->mirrors != NULL && is_mirrors(b->mirrors, address);
}

static void put_port(json_t *array, uint32_t address, unsigned port)
{
	char text[32], host[16];

	ip4_format(address, host);
	snprintf(text, sizeof(text), "%s . %u", host, port);
	json_array_append_new(array, json_string(text));
}

json_t *mirrors_ports(const struct bridge_net *b)
{
	json_t *array = json_array();

	for (size_t i = 0; b->mirrors != NULL && i < b->mirrors->n; i++) {
		const struct mirror *m = &b->mirrors->v[i];

		put_port(array, m->address, m->spec.port);
		if (!m->spec.http)
			put_port(array, m->address, MIRROR_CA_PORT);
	}
	return array;
}

int mirrors_records(const struct bridge_net *b, struct dnsmasq_record **v, size_t *n)
{
	for (size_t i = 0; b->mirrors != NULL && i < b->mirrors->n; i++) {
		struct mirror *m = &b->mirrors->v[i];
		struct dnsmasq_record *more = reallocarray(*v, *n + m->names.n + 1, sizeof(**v));

		if (more == NULL)
			return -ENOMEM;
		*v = more;
		ip4_format(m->address, m->text);
		for (size_t k = 0; k < m->names.n; k++)
			more[(*n)++] = (struct dnsmasq_record){ m->names.v[k], m->text };
	}
	return 0;
}

void mirrors_differ(const struct bridge_net *b, const struct survey *s, struct buf *text)
{
	const struct mirrors *ms = b->mirrors;
	char address[16];

	for (size_t i = 0; ms != NULL && text->len == 0 && i < ms->n; i++) {
		const struct mirror *m = &ms->v[i];
		struct ip4_prefix p = { m->address, 32 };

		ip4_format(m->address, address);
		if (!survey_has_address(s, b->index, p))
			buf_printf(text, "address %s of its mirror %s is missing", address,
				m->spec.registry);
		else if (m->cert != NULL && time(NULL) >= m->renew_at)
			buf_printf(text, "the certificate of its mirror %s ends soon",
				m->spec.registry);
	}
	if (ms != NULL && ms->n > 0 && text->len == 0 && ms->service != NULL &&
		!service_up(ms->service) && !service_waits(ms->service))
		buf_adds(text, "its mirrors' haproxy does not run");
}

struct service **mirrors_service(struct bridge_net *b, const char *name)
{
	return b->mirrors != NULL && b->mirrors->service != NULL &&
			       str_eq(name, b->mirrors->service_name)
		       ? &b->mirrors->service
		       : NULL;
}

json_t *mirrors_json(const struct bridge_net *b)
{
	json_t *array = json_array();

	for (size_t i = 0; b != NULL && b->mirrors != NULL && i < b->mirrors->n; i++) {
		const struct mirror *m = &b->mirrors->v[i];
		json_t *j = json_object(), *names = json_array();
		char address[16];

		ip4_format(m->address, address);
		json_put_str(j, "registry", m->spec.registry);
		json_put_str(j, "address", m->address != 0 ? address : NULL);
		json_put_int(j, "port", m->spec.port);
		json_put_bool(j, "tls", !m->spec.http);
		for (size_t k = 0; k < m->names.n; k++)
			json_array_append_new(names, json_str_new(m->names.v[k]));
		json_object_set_new(j, "hosts", names);
		json_array_append_new(array, j);
	}
	return array;
}

void mirrors_destroy(struct bridge_net *b)
{
	struct mirrors *ms = b->mirrors;

	b->mirrors = NULL;
	if (ms == NULL)
		return;
	service_destroy(ms->service);
	drop_all(ms);
	free(ms->service_name);
	free(ms);
}
