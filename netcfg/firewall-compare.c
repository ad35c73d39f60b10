/* The part of netcfg/firewall.h that compares our table with what it should be. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/firewall.h"

#define TIMEOUT_MS 10000
#define LIST_MAX   (16 * 1024 * 1024)

/* The rules of firewall_table_text() as nft shows them in JSON, in the order of each chain. */
static const struct {
	const char *chain, *expr;
} rules[] = {
	{ "input", "[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},"
		   "\"right\":\"@taps\"}},{\"accept\":null}]" },
	{ "forward", "[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"iifname\"}},"
		     "\"right\":\"@taps\"}},{\"accept\":null}]" },
	{ "forward", "[{\"match\":{\"op\":\"==\",\"left\":{\"meta\":{\"key\":\"oifname\"}},"
		     "\"right\":\"@taps\"}},{\"accept\":null}]" },
	{ "postrouting",
		"[{\"match\":{\"op\":\"==\",\"left\":{\"payload\":{\"protocol\":\"ip\","
		"\"field\":\"saddr\"}},\"right\":\"@nat_guests\"}},{\"match\":{\"op\":\"!=\","
		"\"left\":{\"meta\":{\"key\":\"oifname\"}},\"right\":\"@taps\"}},"
		"{\"masquerade\":null}]" },
};

static const struct {
	const char *name, *type, *hook;
	int prio;
} chains[] = {
	{ "input", "filter", "input", 0 },
	{ "forward", "filter", "forward", 0 },
	{ "postrouting", "nat", "postrouting", 100 },
};

static const struct {
	const char *name, *type;
} sets[] = { { "taps", "ifname" }, { "nat_guests", "ipv4_addr" } };

struct comparison {
	struct buf *difference;
	size_t rules, chains;
	bool sets[ARRAY_LEN(sets)];
	json_t *wanted[ARRAY_LEN(sets)]; /* objects: element -> null; what is found is taken out */
};

static bool differs(struct comparison *c, const char *fmt, ...) PRINTF(2, 3);

/* Only the first difference is told. */
static bool differs(struct comparison *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (c->difference->len == 0)
		buf_vprintf(c->difference, fmt, ap);
	va_end(ap);
	return false;
}

static bool same_chain(struct comparison *c, const json_t *o)
{
	const char *name = json_str(o, "name");

	for (size_t i = 0; i < ARRAY_LEN(chains); i++) {
		if (!str_eq(name, chains[i].name))
			continue;
		c->chains++;
		if (str_eq(json_str(o, "type"), chains[i].type) &&
			str_eq(json_str(o, "hook"), chains[i].hook) &&
			json_int(o, "prio", -1) == chains[i].prio &&
			str_eq(json_str(o, "policy"), "accept"))
			return true;
		return differs(c, "chain %s was changed", name);
	}
	return differs(c, "there is a chain %s which is not ours", quote(name != NULL ? name : ""));
}

/* nft lists the rules of a chain in their order, chain by chain in the order of their making. */
static bool same_rule(struct comparison *c, const json_t *o)
{
	const char *chain = json_str(o, "chain");
	json_t *want = NULL;
	bool same;

	if (c->rules == ARRAY_LEN(rules) || !str_eq(chain, rules[c->rules].chain))
		return differs(
			c, "the rules of chain %s were changed", quote(chain != NULL ? chain : ""));
	if (json_parse(rules[c->rules].expr, strlen(rules[c->rules].expr), &want, NULL) < 0)
		return differs(c, "no memory");
	same = json_equal(want, json_object_get(o, "expr")) != 0;
	json_decref(want);
	c->rules++;
	return same || differs(c, "a rule of chain %s was changed", chain);
}

static bool same_set(struct comparison *c, const json_t *o)
{
	const char *name = json_str(o, "name");
	const json_t *e;
	size_t i, k;

	for (k = 0; k < ARRAY_LEN(sets) && !str_eq(name, sets[k].name); k++)
		;
	if (k == ARRAY_LEN(sets))
		return differs(
			c, "there is a set %s which is not ours", quote(name != NULL ? name : ""));
	c->sets[k] = true;
	if (!str_eq(json_str(o, "type"), sets[k].type))
		return differs(c, "set %s was changed", name);
	json_array_foreach (json_arr(o, "elem"), i, e) {
		const char *text = json_string_value(e);

		if (text == NULL || json_object_del(c->wanted[k], text) < 0)
			return differs(c, "%s does not belong into set %s",
				quote(text != NULL ? text : "an element"), name);
	}
	if (json_object_size(c->wanted[k]) > 0)
		return differs(c, "%s is missing in set %s",
			json_object_iter_key(json_object_iter(c->wanted[k])), name);
	return true;
}

static bool same_object(struct comparison *c, const json_t *o)
{
	const json_t *v;

	if ((v = json_object_get(o, "table")) != NULL)
		return json_object_get(v, "flags") == NULL ||
		       differs(c, "the table has flags (dormant?)");
	if ((v = json_object_get(o, "chain")) != NULL)
		return same_chain(c, v);
	if ((v = json_object_get(o, "rule")) != NULL)
		return same_rule(c, v);
	if ((v = json_object_get(o, "set")) != NULL)
		return same_set(c, v);
	if (json_object_get(o, "metainfo") != NULL)
		return true;
	return differs(c, "there is an object in it which is not ours");
}

static bool expect(struct comparison *c, const struct firewall_tap *taps, size_t n)
{
	char guest[16];
	int r = 0;

	for (size_t k = 0; k < ARRAY_LEN(sets); k++)
		c->wanted[k] = json_object();
	for (size_t i = 0; i < n && r == 0; i++) {
		r = json_object_set_new(c->wanted[0], taps[i].tap, json_null());
		if (r < 0 || !taps[i].nat)
			continue;
		ip4_format(taps[i].net.addr + 2, guest);
		r = json_object_set_new(c->wanted[1], guest, json_null());
	}
	return r == 0;
}

bool firewall_same(const char *nft_json, size_t len, const struct firewall_tap *taps, size_t n,
	struct buf *difference)
{
	struct comparison c = { .difference = difference };
	json_t *doc = NULL;
	const json_t *o;
	bool same = true;
	size_t i;

	if (!expect(&c, taps, n) || json_parse(nft_json, len, &doc, NULL) < 0)
		same = differs(&c, "nft's listing of it cannot be read");
	json_array_foreach (same ? json_arr(doc, "nftables") : NULL, i, o)
		same = same && same_object(&c, o);
	if (same && c.rules < ARRAY_LEN(rules))
		same = differs(&c, "a rule of chain %s is missing", rules[c.rules].chain);
	if (same && c.chains < ARRAY_LEN(chains))
		same = differs(&c, "a chain is missing");
	for (i = 0; i < ARRAY_LEN(sets); i++) {
		if (same && !c.sets[i])
			same = differs(&c, "set %s is missing", sets[i].name);
		json_decref(c.wanted[i]);
	}
	json_decref(doc);
	return same;
}

/* ---- nft ---- */

struct firewall_list {
	struct child_run *run;
	firewall_list_fn *done;
	void *arg;
};

static void listed(void *arg, const struct child_result *res, const struct err *err)
{
	struct firewall_list *list = arg;
	struct err mine;

	if (err == NULL) {
		list->done(list->arg, res->out, res->out_len, NULL);
	} else if (err->code == -EIO && strstr(res->errout, "No such file or directory") != NULL) {
		list->done(list->arg, NULL, 0, NULL);
	} else {
		mine = *err;
		err_wrap(&mine, "nft");
		list->done(list->arg, NULL, 0, &mine);
	}
	free(list);
}

int firewall_list(struct firewall_list **out, uv_loop_t *loop, firewall_list_fn *done, void *arg,
	struct err *err)
{
	static char *const argv[] = { "nft", "-j", "list", "table", "inet", "drover", NULL };
	static char *const envp[] = { "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct child_spec spec = { .argv = argv, .envp = envp, .die_with_us = true };
	struct child_run_opts opts = {
		.timeout_ms = TIMEOUT_MS, .max_output = LIST_MAX, .async = true
	};
	struct firewall_list *list = calloc(1, sizeof(*list));
	char *nft = find_program("nft");
	int r;

	if (list == NULL) {
		r = err_nomem(err);
	} else if (nft == NULL) {
		r = err_set(err, -ENOENT, "nft is missing: install the package nftables");
	} else {
		list->done = done;
		list->arg = arg;
		spec.file = nft;
		r = child_run(&list->run, loop, &spec, &opts, listed, list, err);
	}
	free(nft);
	if (r < 0) {
		free(list);
		return r;
	}
	*out = list;
	return 0;
}

void firewall_list_cancel(struct firewall_list *list)
{
	child_run_cancel(list->run);
}
