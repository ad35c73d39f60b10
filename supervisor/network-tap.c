#include "supervisor/network-tap.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/clock.h"
#include "supervisor/network.h"
#include "supervisor/service.h"

#define RETRY_MIN_MS 5000
#define RETRY_MAX_MS 300000

/* Of one nic; there from the first loss on, until the run's end. */
struct tap_mend {
	struct machine *m;
	unsigned i;
	bool under_way;
	struct err err;         /* of the last try; code 0: none, or it went well */
	uint64_t next_ms, wait; /* clock_mono_ms(): when it is worth another try */
};

static int make_again(struct machine *m, struct nic *nic, const struct hv_tap *tap, struct err *err)
{
	/* The ledger has it still. */
	int r = tap_attach(tap->fd, nic->tap, geteuid(), tap->vnet_hdr_len, err);

	if (r == 0)
		r = network_mark_tap(m, nic, err);
	if (r == 0)
		r = network_set_link(m, nic, err);
	/* Its sockets are bound to the link that is gone. */
	if (r == 0 && nic->dnsmasq != NULL)
		service_restart(nic->dnsmasq);
	return r;
}

static void ended(struct tap_mend *t, const struct err *err)
{
	struct nic *nic = &t->m->nics[t->i];

	t->under_way = false;
	t->err.code = 0;
	if (err == NULL) {
		t->wait = 0;
		machine_tell(t->m, "network-back", "TAP %s was deleted and is back", nic->tap);
	} else if (err->code == -ESRCH) {
		t->err = *err; /* the run is over */
	} else {
		t->err = *err;
		t->wait = t->wait == 0 ? RETRY_MIN_MS : MIN(t->wait * 2, RETRY_MAX_MS);
		t->next_ms = clock_mono_ms() + t->wait;
		if (!nic->lost)
			machine_tell(
				t->m, "network-lost", "TAP %s was deleted: %s", nic->tap, err->msg);
		nic->lost = true;
	}
	machine_save_soon(t->m); /* its number */
}

static void have_end(void *arg, const struct hv_tap *tap, const struct err *err)
{
	struct tap_mend *t = arg;
	struct err mine;

	if (err == NULL && make_again(t->m, &t->m->nics[t->i], tap, &mine) < 0)
		err = &mine;
	ended(t, err);
}

static int ask(struct tap_mend *t, struct err *err)
{
	char id[8];

	if (t->m->hv == NULL || !t->m->process)
		return err_set(err, -ESRCH, "the hypervisor is gone");
	if (hv_unresponsive(t->m->hv))
		return err_set(err, -EAGAIN, "the hypervisor does not answer");
	if (t->m->nics[t->i].macvtap)
		return err_set(err, -ENOTSUP,
			"the hypervisor's descriptor died with it; only a restart gives it another");
	snprintf(id, sizeof(id), "nic%u", t->i);
	return hv_tap(t->m->hv, id, have_end, t, err);
}

void network_tap_begin(struct machine *m, unsigned i)
{
	struct tap_mend *t = m->nics[i].mend;
	struct err err;

	if (t == NULL)
		t = m->nics[i].mend = calloc(1, sizeof(*t));
	if (t == NULL || t->under_way)
		return;
	t->m = m;
	t->i = i;
	t->under_way = true;
	if (ask(t, &err) < 0)
		ended(t, &err);
}

int network_tap_result(const struct nic *nic, struct err *err)
{
	const struct tap_mend *t = nic->mend;

	if (t == NULL)
		return nic->lost ? err_nomem(err) : 0;
	if (t->under_way)
		return -EINPROGRESS;
	if (t->err.code < 0)
		*err = t->err;
	return t->err.code;
}

bool network_tap_can_wait(const struct nic *nic)
{
	const struct tap_mend *t = nic->mend;

	return t != NULL && (t->under_way || (t->err.code < 0 && clock_mono_ms() < t->next_ms));
}

void network_tap_forget(struct nic *nic)
{
	free(nic->mend);
	nic->mend = NULL;
}
