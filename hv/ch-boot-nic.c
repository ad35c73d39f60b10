/*
 * hv/ch-boot-nic.c - nics whose TAP has no name, but a descriptor: vm.create takes none
 * (vmm/src/api/http/http_endpoint.rs, VmCreate), so that they are added between it and vm.boot, when
 * vm.add-net only adds to the configuration (vmm/src/lib.rs, vm_add_net).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/json.h"

struct ch_boot_nic {
	struct list list;
	json_t *config;
	int fd;
};

static void forget(struct ch_boot_nic *n)
{
	list_remove(&n->list);
	json_decref(n->config);
	if (n->fd >= 0)
		close(n->fd);
	free(n);
}

void ch_forget_boot_nics(struct ch *c)
{
	while (!list_empty(&c->boot_nics))
		forget(list_first(&c->boot_nics, struct ch_boot_nic, list));
}

int ch_keep_boot_nics(struct ch *c, const struct hv_spec *spec, struct err *err)
{
	for (size_t i = 0; i < spec->nnics; i++) {
		const struct hv_nic *nic = &spec->nics[i];
		struct ch_boot_nic *n;

		if (nic->tap != NULL || nic->tap_fd < 0)
			continue;
		/* Whoever receives or restores a machine finds its TAPs by name. */
		if (spec->incoming || spec->restore_dir != NULL)
			return err_set(err, -ENOTSUP,
				"nic %s: it has a descriptor in place of a TAP's name, with which cloud-hypervisor can only boot",
				nic->id);
		n = calloc(1, sizeof(*n));
		if (n == NULL)
			return err_nomem(err);
		n->fd = -1;
		list_append(&c->boot_nics, &n->list);
		n->config = ch_net_config(nic, true);
		if (n->config == NULL)
			return err_nomem(err);
		n->fd = fcntl(nic->tap_fd, F_DUPFD_CLOEXEC, 3);
		if (n->fd < 0)
			return err_errno(err, -errno, "nic %s", nic->id);
	}
	return 0;
}

bool ch_next_boot_nic(struct ch *c, struct ch_request *r)
{
	struct ch_boot_nic *n;

	if (list_empty(&c->boot_nics))
		return false;
	n = list_first(&c->boot_nics, struct ch_boot_nic, list);
	r->body = n->config;
	r->pass_fd = n->fd;
	ch_api_send(c->api, r);
	forget(n); /* the request has copies of both */
	return true;
}
