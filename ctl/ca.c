/* drover ca show. */
#include "ctl/api.h"
#include "ctl/print.h"
#include "lib/json.h"

int verb_ca_show(struct ctl *c)
{
	struct api_call call = { 0 };
	json_t *j;
	int ret;

	api_path(&call, "/ca");
	ret = api_get(c, &j, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(j);
	} else {
		struct buf text = { 0 };

		buf_adds(&text, json_str(j, "certificate"));
		print_text(&text);
	}
	json_decref(j);
	return CTL_OK;
}
