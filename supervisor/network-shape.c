#include "supervisor/network-shape.h"

#include "netcfg/shape.h"
#include "supervisor/drover.h"
#include "supervisor/network-private.h"
#include "supervisor/network-values.h"

/* The nic's own, or its network's. */
static struct shape shape_of(const struct machine *m, const struct nic *nic)
{
	const struct vm_config *vm = m->run_cfg != NULL ? m->run_cfg : m->cfg;
	const struct network_config *net = network_of_nic(m, nic);
	size_t i = (size_t)(nic - m->nics);
	struct shape shape = { 0 };
	struct nic_spec spec;

	if (vm != NULL && i < vm->networks.n &&
		nic_spec_parse(vm->networks.v[i], &spec, NULL) == 0 &&
		str_eq(spec.network, nic->network) && spec.rated)
		return spec.rate;
	if (net != NULL && net->rate != NULL)
		shape_parse(net->rate, &shape, NULL);
	return shape;
}

int network_shape_set(struct machine *m, const struct nic *nic, struct err *err)
{
	struct shape shape = shape_of(m, nic);
	int r = 0;

	if (shape.up == 0 && shape.down == 0)
		return 0;
	if (shape.up != 0)
		r = ledger_add(m->d->ledger, m->owner, OBJECT_IFB, nic->tap, NULL, err);
	return r == 0 ? shape_set(m->d->nl, nic->tap, &shape, err) : r;
}

bool network_shape_differs(const struct machine *m, const struct nic *nic, struct buf *text)
{
	struct shape shape = shape_of(m, nic);

	if ((shape.up == 0 && shape.down == 0) || !shape_differs(m->d->nl, nic->tap, &shape))
		return false;
	buf_adds(text, "its rate is not limited any more");
	return true;
}
