#include "supervisor/network-p2p-names.h"

#include <errno.h>
#include <stdlib.h>

#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/dnsmasq-bridge.h"
#include "supervisor/host-net.h"
#include "supervisor/machine-steps.h"
#include "supervisor/network6.h"

static char *names_folder(struct drover *d, const struct network_config *n)
{
	return str_printf("%s/net/%s", d->run_dir, n->s.name);
}

int p2p_names_read(struct drover *d, const struct network_config *n, const struct nic *nic,
	struct network_dns *out, char **dir, struct err *err)
{
	*dir = names_folder(d, n);
	if (*dir == NULL)
		return err_nomem(err);
	out->spec.names_dir = *dir;
	out->spec.host_dns = true;
	/* Of all machines on it, each of which has a network of its own. */
	if (ip4_prefix_parse(n->cidr, false, &out->spec.net, err) < 0)
		return -EINVAL;
	return network_dns_read(out, n, err);
}

static int write_file(struct machine *m, const struct nic *nic, const struct network_config *n,
	const char *path, struct err *err)
{
	struct buf text = { 0 };
	json_t *data = json_object();
	int r;

	json_put_str(data, "network", n->s.name);
	r = ledger_add(m->d->ledger, m->owner, OBJECT_RESERVATION, path, data, err);
	dnsmasq_names(&text, nic->net.addr + 2, network6_address(nic), m->name, n->domain);
	if (r == 0)
		r = text.bad ? err_nomem(err)
			     : file_write_atomic(path, text.data, text.len, 0644, false, err);
	buf_finish(&text);
	return r;
}

int p2p_names_write(
	struct machine *m, const struct nic *nic, const struct network_config *n, struct err *err)
{
	char *dir, *path;
	int r;

	if (!network_p2p_serves(n))
		return 0;
	dir = names_folder(m->d, n);
	path = dir != NULL ? path_join(dir, nic->tap) : NULL;
	if (path == NULL)
		r = err_nomem(err);
	else
		r = ledger_add(m->d->ledger, HOST_OWNER, OBJECT_DIR, dir, NULL, err);
	if (r == 0)
		r = mkdir_p(dir, 0755, err);
	if (r == 0)
		r = write_file(m, nic, n, path, err);
	free(dir);
	free(path);
	return r;
}
