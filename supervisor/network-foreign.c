/* The part of supervisor/network.h that looks for what in the rules of others blocks guests. */
#include "supervisor/network-foreign.h"

#include <string.h>

#include "lib/log.h"
#include "supervisor/drover.h"
#include "supervisor/network.h"
#include "supervisor/network-values.h"

void network_foreign_links(const struct config *c, struct strv *out)
{
	static const struct config_array none;
	const struct config_array *a = c != NULL ? &c->by_kind[SECTION_NETWORK] : &none;
	bool taps = a->n == 0, bridges = c == NULL;

	for (size_t i = 0; i < a->n; i++) {
		const struct network_config *n = (const void *)a->v[i];

		taps = taps || n->kind == NETWORK_P2P;
		bridges = bridges || (network_has_bridge(n) && n->bridge == NULL);
	}
	if (taps)
		strv_add(out, "tap+");
	if (bridges)
		strv_add(out, "dbr+");
	for (size_t i = 0; i < a->n; i++) {
		const struct network_config *n = (const void *)a->v[i];

		if (network_has_bridge(n) && n->bridge != NULL)
			strv_add(out, n->bridge);
	}
}

static void foreign_checked(void *arg, const char *warning, const struct err *err)
{
	if (err != NULL)
		log_warn("the host's firewall cannot be looked at: %s (ignoring)", err->msg);
	else if (warning != NULL)
		log_warn("%s", warning);
}

void network_check_foreign(struct drover *d)
{
	struct strv links = { 0 };
	struct err err;
	int r;

	network_foreign_links(drover_config(d), &links);
	r = links.bad ? err_nomem(&err)
		      : foreign_check(
				d->loop, (const char *const *)links.v, foreign_checked, d, &err);
	strv_finish(&links);
	if (r < 0)
		log_warn("the host's firewall cannot be looked at: %s (ignoring)", err.msg);
}
