#include "supervisor/network-vlan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/bridge.h"
#include "netcfg/vlan.h"
#include "supervisor/network-private.h"

void network_port_name(const struct network_config *n, const char *port, char out[16])
{
	if (n->vlan == 0)
		snprintf(out, 16, "%s", port);
	else
		snprintf(out, 16, "%.10s.%u", port, (unsigned)n->vlan);
}

/* Of all networks: the first one has found the link as it was. NULL: none is of this link. */
static const struct object *find_other(
	struct drover *d, const char *of, const char *owner, const char *name)
{
	struct ledger_owner *o;
	struct object *object;

	list_for_each_entry (o, ledger_owners(d->ledger), entry) {
		list_for_each_entry (object, &o->objects, entry) {
			if (object->kind == OBJECT_PORT && object->data != NULL &&
				str_eq(json_str(object->data, "of"), of) &&
				!(str_eq(o->name, owner) && strcmp(object->name, name) == 0))
				return object;
		}
	}
	return NULL;
}

static int record(struct bridge_net *b, const char *port, const char *name, struct err *err)
{
	const struct object *other = find_other(b->d, port, b->owner, name);
	struct bridge_info info;
	json_t *data;
	int r;

	/* What an earlier daemon found is what is put back. */
	if (ledger_find(b->d->ledger, b->owner, OBJECT_PORT, name) != NULL)
		return 0;
	r = bridge_get(b->d->nl, port, &info);
	if (r < 0)
		return err_errno(err, r, "port %s", port);
	if (info.master != 0)
		return err_set(err, -EBUSY,
			"%s is a port of a bridge itself, and its VLANs go there", port);
	data = json_object();
	json_put_str(data, "of", port);
	json_put_bool(data, "up", other != NULL ? json_flag(other->data, "up", true) : info.up);
	return ledger_add(b->d->ledger, b->owner, OBJECT_PORT, name, data, err);
}

/* One that is there: ours, made before, or a stranger's. */
static int check(struct bridge_net *b, const char *port, const char *name, struct err *err)
{
	char *alias = network_alias(b->d, b->owner);
	struct vlan_info vlan;
	struct bridge_info info;
	int parent = 0,
	    r = alias == NULL ? err_nomem(err) : link_index(b->d->nl, port, &parent, err);

	if (r == 0 &&
		(bridge_get(b->d->nl, name, &info) < 0 || vlan_get(b->d->nl, name, &vlan) < 0 ||
			vlan.parent != parent || vlan.id != b->cfg->vlan ||
			/* Made, and not marked yet, when an earlier daemon was killed. */
			(info.alias[0] != '\0' && strcmp(info.alias, alias) != 0) ||
			(info.alias[0] == '\0' &&
				ledger_find(b->d->ledger, b->owner, OBJECT_PORT, name) == NULL)))
		r = err_set(err, -EEXIST, "there is a link %s already, which is not ours", name);
	free(alias);
	return r;
}

int bridge_make_vlan(struct bridge_net *b, const char *port, struct err *err)
{
	char *alias = network_alias(b->d, b->owner), name[16];
	int r = alias == NULL ? err_nomem(err) : 0;

	network_port_name(b->cfg, port, name);
	if (r == 0 && link_exists(name))
		r = check(b, port, name, err);
	if (r == 0)
		r = record(b, port, name, err);
	if (r == 0 && !link_exists(name))
		r = vlan_make(b->d->nl, name, port, (unsigned)b->cfg->vlan, err);
	if (r == 0)
		r = link_set_alias(b->d->nl, name, alias, err);
	if (r == 0)
		r = link_up(b->d->nl, port, err);
	free(alias);
	return r;
}

void bridge_released_vlan(struct drover *d, const char *owner, const char *name, const json_t *data)
{
	const char *of = json_str(data, "of");
	struct err err;

	if (json_flag(data, "up", true) || find_other(d, of, owner, name) != NULL ||
		!link_exists(of))
		return;
	if (link_down(d->nl, of, &err) < 0)
		log_warn("%s (ignoring)", err.msg);
}
