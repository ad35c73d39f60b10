#include "supervisor/network-egress.h"

#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "netcfg/egress.h"
#include "supervisor/host-net.h"
#include "supervisor/network-bridge-private.h"

#define TABLE "inet drover_"

/* Another number than any nic and any bridge has. */
static void table_name(const struct bridge_net *b, char out[24])
{
	char tap[16];

	alloc_tap_name(drover_config(b->d)->drover->run_id, b->name, 0xe96e55, tap);
	snprintf(out, 24, "drover_%s", tap + strlen("tap"));
}

static struct egress_entry *entries(const struct bridge_net *b, size_t *n)
{
	const struct strv *list = &b->cfg->egress;
	struct egress_entry *v = calloc(list->n + 1, sizeof(*v));

	*n = 0;
	for (size_t i = 0; v != NULL && i < list->n; i++)
		*n += egress_parse(list->v[i], &v[*n], NULL) == 0;
	return v;
}

/* What the table was made from; "" when there is none any more. */
static char *wanted(const struct bridge_net *b)
{
	struct buf text = { 0 };
	char *copy;

	for (size_t i = 0; i < b->cfg->egress.n; i++)
		buf_printf(&text, "%s\n", b->cfg->egress.v[i]);
	if (text.bad)
		return NULL;
	copy = strdup(buf_str(&text));
	buf_finish(&text);
	return copy;
}

static struct object *recorded(const struct bridge_net *b)
{
	char name[32] = "inet ";

	table_name(b, name + strlen("inet "));
	return ledger_find(b->d->ledger, b->owner, OBJECT_NFT_TABLE, name);
}

int network_egress_record(struct bridge_net *b, struct err *err)
{
	struct object *o = recorded(b);
	char name[32] = "inet ", *want;
	json_t *data;
	int r = 0;

	if (o == NULL && b->cfg->egress.n == 0)
		return 0;
	want = wanted(b);
	if (want == NULL)
		return err_nomem(err);
	if (o == NULL || !str_eq(json_str(o->data, "egress"), want) ||
		!str_eq(json_str(o->data, "bridge"), b->bridge)) {
		b->egress_anew = true;
		data = json_object();
		json_put_str(data, "egress", want);
		json_put_str(data, "bridge", b->bridge);
		table_name(b, name + strlen("inet "));
		r = ledger_add(b->d->ledger, b->owner, OBJECT_NFT_TABLE, name, data, err);
	}
	free(want);
	return r;
}

static bool spec_of(const struct bridge_net *b, char table[24], struct egress_spec *out)
{
	table_name(b, table);
	*out = (struct egress_spec){ .table = table, .link = b->bridge };
	out->v = entries(b, &out->n);
	return out->v != NULL;
}

int network_egress_args(const struct bridge_net *b, struct strv *argv, struct err *err)
{
	struct egress_spec spec;
	char table[24];

	if (b->cfg->egress.n == 0)
		return 0;
	if (!spec_of(b, table, &spec))
		return err_nomem(err);
	egress_dnsmasq_args(argv, &spec);
	free((void *)(uintptr_t)spec.v);
	return argv->bad ? err_nomem(err) : 0;
}

static void one_text(const struct bridge_net *b, struct buf *text)
{
	struct egress_spec spec;
	char table[24];

	if (b->cfg->egress.n == 0) {
		table_name(b, table);
		egress_delete_text(text, table);
	} else if (spec_of(b, table, &spec)) {
		egress_text(text, &spec, b->egress_anew);
		free((void *)(uintptr_t)spec.v);
	} else {
		text->bad = true;
	}
}

void network_egress_text(struct drover *d, struct buf *text)
{
	struct bridge_net *b;

	list_for_each_entry (b, &d->bridges, entry) {
		if (b->state != BRIDGE_GOING && recorded(b) != NULL)
			one_text(b, text);
	}
}

static void refreshed(void *arg, const struct err *err)
{
	if (err != NULL && err->code != -ECANCELED)
		log_warn("the tables of egress: %s (ignoring)", err->msg);
}

void network_egress_refresh(struct drover *d)
{
	struct buf text = { 0 };
	struct bridge_net *b;

	list_for_each_entry (b, &d->bridges, entry) {
		if (b->state == BRIDGE_UP && b->cfg->egress.n > 0)
			one_text(b, &text);
	}
	if (text.len > 0 && !text.bad)
		firewall_apply(d->firewall, text.data, refreshed, d);
	buf_finish(&text);
}

bool network_egress_delete(const char *name, struct buf *text)
{
	if (!str_starts(name, TABLE))
		return false;
	egress_delete_text(text, name + strlen("inet "));
	return true;
}
