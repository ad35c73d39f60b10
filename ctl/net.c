/* drover net list, show, leases, check. */
#include <stdio.h>
#include <time.h>
#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/json.h"

/* All of them as an array, or the one that is named in it. */
static int fetch(struct ctl *c, json_t **out)
{
	struct api_call call = { 0 };
	json_t *j;
	int ret;

	api_path(&call, "/networks");
	if (c->args.n > 0)
		api_path(&call, "/%s", c->args.v[0]);
	ret = api_get(c, &j, &call);
	if (ret != CTL_OK)
		return ret;
	*out = c->args.n > 0 ? json_pack("[o]", j) : j;
	return CTL_OK;
}

static void put_rows(struct table *t, const json_t *all)
{
	const json_t *n;
	size_t i;

	json_array_foreach (all, i, n) {
		table_cell(t, json_str(n, "name"));
		table_cell(t, json_str(n, "kind"));
		table_cell(t, json_str(n, "state"));
		table_cell(t, json_str(n, "cidr"));
		table_cell(t, json_str(n, "bridge"));
		table_cellf(t, "%zu", json_array_size(json_arr(n, "nics")));
		table_cellf(t, "%zu", json_array_size(json_arr(n, "leases")));
	}
}

int verb_net_list(struct ctl *c)
{
	static const char *const heads[] = { "NAME", "KIND", "STATE", "CIDR", "BRIDGE", "NICS",
		"LEASES" };
	struct table t = { .columns = ARRAY_LEN(heads) };
	struct buf text = { 0 };
	json_t *all;
	int ret = fetch(c, &all);

	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(all);
	} else {
		for (size_t i = 0; i < ARRAY_LEN(heads); i++)
			table_cell(&t, heads[i]);
		put_rows(&t, all);
		table_format(&t, &text);
		print_text(&text);
	}
	json_decref(all);
	return CTL_OK;
}

static void show_nics(const json_t *n, struct buf *out)
{
	static const char *const heads[] = { "MACHINE", "NIC", "ADDRESS", "MAC", "TAP", "RUNS" };
	struct table t = { .columns = ARRAY_LEN(heads) };
	const json_t *nic;
	size_t i;

	if (json_array_size(json_arr(n, "nics")) == 0)
		return;
	buf_adds(out, "\n");
	for (i = 0; i < ARRAY_LEN(heads); i++)
		table_cell(&t, heads[i]);
	json_array_foreach (json_arr(n, "nics"), i, nic) {
		table_cell(&t, json_str(nic, "vm"));
		table_cellf(&t, "nic%lld", (long long)json_int(nic, "nic", 0));
		if (json_str(nic, "address") != NULL && json_str(nic, "address6") != NULL)
			table_cellf(
				&t, "%s,%s", json_str(nic, "address"), json_str(nic, "address6"));
		else
			table_cell(&t, json_str(nic, "address"));
		table_cell(&t, json_str(nic, "mac"));
		table_cell(&t, json_str(nic, "tap"));
		table_cell(&t, json_flag(nic, "running", false) ? "yes" : "no");
	}
	table_format(&t, out);
}

static void show_mirrors(const json_t *n, struct buf *out)
{
	static const char *const heads[] = { "MIRROR", "ADDRESS", "PORT", "TLS", "HOSTS" };
	struct table t = { .columns = ARRAY_LEN(heads) };
	const json_t *m, *host;
	size_t i, k;

	if (json_array_size(json_arr(n, "mirrors")) == 0)
		return;
	buf_adds(out, "\n");
	for (i = 0; i < ARRAY_LEN(heads); i++)
		table_cell(&t, heads[i]);
	json_array_foreach (json_arr(n, "mirrors"), i, m) {
		struct buf hosts = { 0 };

		json_array_foreach (json_arr(m, "hosts"), k, host)
			buf_printf(&hosts, "%s%s", k > 0 ? " " : "", json_string_value(host));
		table_cell(&t, json_str(m, "registry"));
		table_cell(&t, json_str(m, "address"));
		table_cellf(&t, "%lld", (long long)json_int(m, "port", 0));
		table_cell(&t, json_flag(m, "tls", false) ? "yes" : "no");
		table_cell(&t, buf_str(&hosts));
		buf_finish(&hosts);
	}
	table_format(&t, out);
}

int verb_net_show(struct ctl *c)
{
	static const char *const keys[] = { "name", "kind", "state", "problem", "cidr", "cidr6",
		"gateway", "domain", "bridge" };
	struct table t = { .columns = 2 };
	struct buf text = { 0 };
	const json_t *n;
	json_t *all;
	int ret = fetch(c, &all);

	if (ret != CTL_OK)
		return ret;
	n = json_array_get(all, 0);
	if (c->json) {
		print_json(n);
	} else {
		for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
			table_cellf(&t, "%s:", keys[i]);
			table_cell(&t, json_str(n, keys[i]));
		}
		table_format(&t, &text);
		show_nics(n, &text);
		show_mirrors(n, &text);
		print_text(&text);
	}
	json_decref(all);
	return CTL_OK;
}

static void put_lease(struct table *t, const char *network, const json_t *l)
{
	time_t expires = (time_t)json_int(l, "expires", 0);
	char when[32] = "never";
	struct tm tm;

	if (expires != 0 && gmtime_r(&expires, &tm) != NULL)
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	table_cell(t, network);
	table_cell(t, json_str(l, "address"));
	table_cell(t, json_str(l, "mac"));
	table_cell(t, json_str(l, "vm"));
	table_cell(t, when);
}

int verb_net_leases(struct ctl *c)
{
	static const char *const heads[] = { "NETWORK", "ADDRESS", "MAC", "MACHINE", "UNTIL" };
	struct table t = { .columns = ARRAY_LEN(heads) };
	json_t *all, *out = json_array();
	struct buf text = { 0 };
	int ret = fetch(c, &all);
	const json_t *n, *l;
	size_t i, k;

	for (i = 0; i < ARRAY_LEN(heads); i++)
		table_cell(&t, heads[i]);
	json_array_foreach (ret == CTL_OK ? all : NULL, i, n) {
		json_array_foreach (json_arr(n, "leases"), k, l) {
			json_t *copy = json_copy((json_t *)(uintptr_t)l);

			put_lease(&t, json_str(n, "name"), l);
			json_put_str(copy, "network", json_str(n, "name"));
			json_array_append_new(out, copy);
		}
	}
	table_format(&t, &text);
	if (ret == CTL_OK && c->json)
		print_json(out);
	else if (ret == CTL_OK)
		print_text(&text);
	else
		buf_finish(&text);
	if (ret == CTL_OK && c->json)
		buf_finish(&text);
	json_decref(out);
	if (ret == CTL_OK)
		json_decref(all);
	return ret;
}

int verb_net_check(struct ctl *c)
{
	json_t *all, *out = json_array();
	int ret = fetch(c, &all);
	const json_t *n;
	size_t i;

	if (ret != CTL_OK) {
		json_decref(out);
		return ret;
	}
	json_array_foreach (all, i, n) {
		const char *problem = json_str(n, "problem");

		if (problem == NULL)
			continue;
		json_array_append_new(out, json_pack("{s:s, s:s}", "network", json_str(n, "name"),
						   "problem", problem));
		if (!c->json)
			printf("network %s: %s\n", json_str(n, "name"), problem);
	}
	if (c->json)
		print_json(out);
	else if (json_array_size(out) == 0)
		printf("The networks are as configured.\n");
	ret = json_array_size(out) > 0 ? CTL_FAILED : CTL_OK;
	json_decref(out);
	json_decref(all);
	return ret;
}
