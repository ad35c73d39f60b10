/* drover list, show, why: what is known of machines. */
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/show.h"
#include "ctl/term.h"

/* What programs build on is the machine, not what is being done to it, which `show` has. */
static void print_list(json_t *vms)
{
	json_t *vm;
	size_t i;

	json_array_foreach (vms, i, vm)
		json_object_del(vm, "operation");
	print_json(vms);
}

int verb_list(struct ctl *c)
{
	struct api_call call = { 0 };
	struct buf text = { 0 };
	json_t *vms;
	int ret;

	api_path(&call, "/vms");
	if (ctl_flag(c, "all"))
		api_query(&call, "all", "1");
	ret = api_get(c, &vms, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_list(vms);
	} else {
		show_list(vms, term_colors(), &text);
		print_text(&text);
	}
	json_decref(vms);
	return CTL_OK;
}

/* One name gives an object, several an array of those that there are. */
int verb_show(struct ctl *c)
{
	json_t *all = json_array(), *vm;
	struct buf text = { 0 };
	int ret = CTL_OK;

	for (size_t i = 0; i < c->args.n; i++) {
		struct api_call call = { 0 };
		int one;

		api_path(&call, "/vms/%s", c->args.v[i]);
		one = api_get(c, &vm, &call);
		if (ret == CTL_OK)
			ret = one;
		if (one == CTL_UNREACHABLE)
			break;
		if (one != CTL_OK)
			continue;
		if (text.len > 0)
			buf_adds(&text, "\n");
		show_vm(vm, &text);
		json_array_append_new(all, vm);
	}
	if (!c->json)
		print_text(&text);
	else if (c->args.n > 1)
		print_json(all);
	else if (json_array_size(all) == 1)
		print_json(json_array_get(all, 0));
	buf_finish(&text);
	json_decref(all);
	return ret;
}

int verb_why(struct ctl *c)
{
	struct api_call call = { 0 };
	struct buf text = { 0 };
	json_t *why;
	int ret;

	api_path(&call, "/vms/%s/why", c->args.v[0]);
	ret = api_get(c, &why, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(why);
	} else {
		show_why(why, &text);
		print_text(&text);
	}
	json_decref(why);
	return CTL_OK;
}
