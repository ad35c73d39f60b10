/*
 * Networks inside of QEMU, by libslirp: the guest's connections are made by QEMU as an ordinary
 * process of the host (QEMU, qapi/net.json, NetdevUserOptions). Its IPv6 is off, since it would be a
 * second address that nobody has asked for.
 */
#include "hv/qemu-args.h"
#include "hv/qemu-row.h"
#include "lib/json.h"

static const char *proto(const struct hv_forward *f)
{
	return f->udp ? "udp" : "tcp";
}

void args_user_net(struct qemu_args *b, const struct hv_nic *n)
{
	const struct hv_user_net *u = n->user;
	struct buf v = { 0 };

	buf_adds(&v, "user,id=");
	args_value(&v, n->id);
	buf_printf(&v, "-tap,ipv6=off,net=%s,host=%s,dns=%s,dhcpstart=%s", u->net, u->host, u->dns,
		u->guest);
	if (u->restricted)
		buf_adds(&v, ",restrict=on");
	if (u->hostname != NULL) {
		buf_adds(&v, ",hostname=");
		args_value(&v, u->hostname);
	}
	if (u->domain != NULL) {
		buf_adds(&v, ",domainname=");
		args_value(&v, u->domain);
	}
	for (size_t i = 0; i < u->nforwards; i++)
		buf_printf(&v, ",hostfwd=%s::%u-%s:%u", proto(&u->forwards[i]), u->forwards[i].port,
			u->guest, u->forwards[i].to);
	args_add_buf(b, "-netdev", &v);
}

json_t *qemu_user_netdev(const struct hv_user_net *u, const char *id)
{
	json_t *j = json_pack("{s:s, s:s, s:b, s:s, s:s, s:s, s:s, s:b}", "type", "user", "id", id,
		"ipv6", 0, "net", u->net, "host", u->host, "dns", u->dns, "dhcpstart", u->guest,
		"restrict", u->restricted);
	json_t *forwards = json_array();

	if (u->hostname != NULL)
		json_put_str(j, "hostname", u->hostname);
	if (u->domain != NULL)
		json_put_str(j, "domainname", u->domain);
	for (size_t i = 0; i < u->nforwards; i++) {
		char text[64];

		snprintf(text, sizeof(text), "%s::%u-%s:%u", proto(&u->forwards[i]),
			u->forwards[i].port, u->guest, u->forwards[i].to);
		json_array_append_new(forwards, json_pack("{s:s}", "str", text));
	}
	if (u->nforwards > 0)
		json_object_set(j, "hostfwd", forwards);
	json_decref(forwards);
	return j;
}
