/* The route of drover's CA: supervisor/routes.h. */
#include <errno.h>
#include <stdlib.h>

#include "lib/ca.h"
#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/routes-private.h"

static json_t *ca_json(const char *path, const char *pem, const struct ca_info *info)
{
	json_t *j = json_object();

	json_put_str(j, "path", path);
	json_put_str(j, "fingerprint", info->fingerprint);
	json_put_int(j, "from", info->from);
	json_put_int(j, "until", info->until);
	json_put_str(j, "certificate", pem);
	return j;
}

void route_ca(void *arg, struct request *rq)
{
	struct drover *d = arg;
	char *path = str_printf("%s/ca/ca.pem", d->state_dir);
	struct buf pem = { 0 };
	struct ca_info info;
	struct err err;
	int r = path == NULL ? err_nomem(&err) : file_read(path, 65536, &pem, &err);

	if (r == -ENOENT)
		err_set(&err, r,
			"there is no CA yet: it is made for the first mirror of a network");
	if (r == 0)
		r = ca_info(buf_str(&pem), &info, &err);
	if (r == 0)
		reply_json(rq, 200, ca_json(path, buf_str(&pem), &info));
	else
		reply_err(rq, &err, NULL, NULL);
	buf_finish(&pem);
	free(path);
}
