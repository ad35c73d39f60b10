/* The routes of networks: supervisor/routes.h. */
#include <errno.h>

#include "supervisor/network-bridge.h"
#include "supervisor/routes-private.h"

void route_networks(void *arg, struct request *rq)
{
	reply_json(rq, 200, networks_json(arg));
}

void route_network(void *arg, struct request *rq)
{
	const char *name = request_param(rq, "name");
	json_t *j = network_json(arg, name);
	struct err err;

	if (j != NULL) {
		reply_json(rq, 200, j);
		return;
	}
	err_set(&err, -ENOENT, "there is no network %s", quote(name));
	reply_err(rq, &err, NULL, NULL);
}
