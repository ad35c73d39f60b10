/* The part of supervisor/network.h that looks for what in the rules of others blocks guests. */
#include "supervisor/network-foreign.h"

#include <string.h>

#include "lib/log.h"
#include "supervisor/network.h"
#include "supervisor/network-values.h"

/* TAPs of p2p machines, and the bridges. */
static void our_links(const struct drover *d, struct strv *out)
{
	const struct config_array *a = &drover_config(d)->by_kind[SECTION_NETWORK];
	bool taps = a->n == 0, bridges = false;

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

int network_ask_foreign(struct drover *d, foreign_done_fn *done, void *arg, struct err *err)
{
	struct strv links = { 0 };
	int r;

	our_links(d, &links);
	r = links.bad ? err_nomem(err)
		      : foreign_check(d->loop, (const char *const *)links.v, done, arg, err);
	strv_finish(&links);
	return r;
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
	struct err err;

	if (network_ask_foreign(d, foreign_checked, d, &err) < 0)
		log_warn("the host's firewall cannot be looked at: %s (ignoring)", err.msg);
}
