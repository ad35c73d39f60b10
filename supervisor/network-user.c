/*
 * Nics of networks of kind user: the network is inside of the hypervisor, which needs no privilege
 * for it (supervisor/network-private.h). Each machine is alone in its own, so that all of them have
 * the same addresses.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hv.h"
#include "supervisor/faults.h"
#include "supervisor/network-private.h"
#include "supervisor/network-values.h"

/* ---- its addresses ---- */

struct addresses {
	struct network4 v4;
	uint32_t guest, dns;
};

static int choose(
	const struct network_config *net, uint32_t fixed, struct addresses *out, struct err *err)
{
	struct network_values v;
	const char *key;
	int r = network_values(net, &v, &key, err);

	if (r < 0)
		return err_wrap(err, "%s", key);
	out->v4 = v.v4;
	/* QEMU's own, which people know. */
	if (v.v4.net.len == 0) {
		out->v4.net = (struct ip4_prefix){ 0x0a000200, 24 };
		out->v4.gateway = 0x0a000202;
		out->guest = fixed != 0 ? fixed : 0x0a00020f;
		out->dns = 0x0a000203;
		return 0;
	}
	out->guest = fixed != 0 ? fixed : v.v4.first + (v.v4.first == v.v4.gateway);
	/* The last one that is free. */
	out->dns = (v.v4.net.addr | (uint32_t)(0xffffffffull >> v.v4.net.len)) - 1;
	while (out->dns == out->guest || out->dns == v.v4.gateway)
		out->dns--;
	return 0;
}

int network_user_spec(
	const struct machine *m, const struct nic *nic, struct hv_user_net *out, struct err *err)
{
	const struct network_config *net = network_of_nic(m, nic);
	const struct strv *forwards = &m->run_cfg->forwards;
	struct forward_spec f;
	struct addresses a;
	int r;

	if (net == NULL)
		return err_set(err, -ENOENT, "network %s is gone", nic->network);
	r = choose(net, nic->fixed, &a, err);
	if (r < 0)
		return r;
	*out = (struct hv_user_net){
		.hostname = m->name, .domain = net->domain, .restricted = !net->nat
	};
	ip4_prefix_format(a.v4.net, out->net);
	ip4_format(a.v4.gateway, out->host);
	ip4_format(a.dns, out->dns);
	ip4_format(a.guest, out->guest);
	if (nic != m->nics || forwards->n == 0)
		return 0;
	out->forwards = calloc(forwards->n, sizeof(*out->forwards));
	if (out->forwards == NULL)
		return err_nomem(err);
	for (size_t i = 0; i < forwards->n; i++)
		if (forward_spec_parse(forwards->v[i], &f, NULL) == 0)
			out->forwards[out->nforwards++] = (struct hv_forward){ f.proto == PROTO_UDP,
				f.port, f.to };
	return 0;
}

bool network_reach(const struct machine *m, unsigned *port, char address[16])
{
	const struct vm_config *cfg = m->run_cfg != NULL ? m->run_cfg : m->cfg;
	struct forward_spec f;
	uint32_t guest;

	if (m->nnics == 0 || !m->nics[0].user) {
		if (m->nnics == 0 || !network_guest_address(&m->nics[0], &guest))
			return false;
		ip4_format(guest, address);
		return true;
	}
	for (size_t i = 0; cfg != NULL && i < cfg->forwards.n; i++) {
		if (forward_spec_parse(cfg->forwards.v[i], &f, NULL) < 0 || f.proto == PROTO_UDP ||
			f.to != *port)
			continue;
		*port = f.port;
		snprintf(address, 16, "127.0.0.1");
		return true;
	}
	return false;
}

/* ---- attaching ---- */

static int choose_address(struct attach *a, struct nic *nic, struct err *err)
{
	struct addresses chosen;
	int r;

	if (str_eq(a->m->run_cfg->hypervisor, "cloud-hypervisor"))
		return err_set(err, -ENOTSUP,
			"it is of kind = user, and cloud-hypervisor has no network of its own");
	r = choose(network_of_nic(a->m, nic), nic->fixed, &chosen, err);

	if (r < 0)
		return r;
	nic->bridge[0] = '\0';
	nic->net = (struct ip4_prefix){ 0 };
	nic->address = chosen.guest;
	nic->user = true;
	return 0;
}

/* The hypervisor will bind it; what it says of a port that is taken nobody would understand. */
static int check_port(const struct forward_spec *f, struct err *err)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_port = htons(f->port) };
	bool udp = f->proto == PROTO_UDP;
	int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0), on = 1, r = 0;

	if (fd < 0)
		return err_errno(err, -errno, "forward");
	/* As QEMU does it (libslirp, socket.c, tcpx_listen()). */
	if (!udp)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || (!udp && listen(fd, 1) < 0))
		r = errno == EADDRINUSE
			    ? err_set(err, -EADDRINUSE,
				      "forward: %s port %u of the host is taken by another program",
				      proto_name(f->proto), f->port)
		    : errno == EACCES
			    ? err_set(err, -EACCES,
				      "forward: port %u of the host is for root alone; choose one from 1024 on",
				      f->port)
			    : err_errno(err, -errno, "forward: port %u", f->port);
	close(fd);
	return r;
}

static int check_ports(struct attach *a, struct nic *nic, struct err *err)
{
	const struct strv *forwards = &a->m->run_cfg->forwards;
	struct forward_spec f;
	int r = 0;

	for (size_t i = 0; r == 0 && nic == a->m->nics && i < forwards->n; i++) {
		r = forward_spec_parse(forwards->v[i], &f, err);
		if (r == 0)
			r = check_port(&f, err);
	}
	return r;
}

static void attached(void *arg)
{
	attach_resume(arg, NULL);
}

/* The hypervisor makes the rest of it. */
static int end(struct attach *a, struct nic *nic, struct err *err)
{
	a->soon.fn = attached;
	deadline_set(&a->soon, 0);
	return 1;
}

static const struct attach_step steps[] = {
	{ "address", choose_address },
	{ "save", attach_save },
	{ "ports", check_ports },
	{ "end", end },
};

static const char *user_point(size_t i)
{
	return i < ARRAY_LEN(steps) ? steps[i].name : NULL;
}
const struct fault_table user_faults = { "user", user_point, FAULT_ALL };

/* ---- what it is like: there is nothing of it on the host ---- */

static int adopt(struct machine *m, struct nic *nic, struct err *err)
{
	return 0;
}

static int set_link(struct machine *m, const struct nic *nic, struct err *err)
{
	return 0;
}

static bool guest_address(const struct nic *nic, uint32_t *out)
{
	*out = nic->address;
	return nic->address != 0;
}

static bool service_down(const struct drover *d, const struct nic *nic)
{
	return false;
}

static bool differs(const struct machine *m, const struct nic *nic, const struct survey *s,
	const struct survey_tap *tap, struct buf *text)
{
	return false;
}

const struct network_ops network_user = {
	.table = "user",
	.steps = steps,
	.nsteps = ARRAY_LEN(steps),
	.adopt = adopt,
	.set_link = set_link,
	.guest_address = guest_address,
	.service_down = service_down,
	.differs = differs,
};
