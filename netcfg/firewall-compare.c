/* The part of netcfg/firewall.h that compares our table with what it should be. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/firewall-rules.h"
#include "netcfg/firewall-set.h"

#define TIMEOUT_MS 10000
#define LIST_MAX   (16 * 1024 * 1024)

#define SETS_MAX 64

struct comparison {
	struct buf *difference;
	enum firewall_table table;
	const struct firewall_shape *shape;
	size_t rules, chains;
	bool sets[SETS_MAX];      /* by place in firewall_sets: it was listed */
	json_t *wanted[SETS_MAX]; /* objects: element -> null; what is found is taken out */
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

	for (size_t i = 0; i < c->shape->nchains; i++) {
		const struct firewall_chain *want = &c->shape->chains[i];

		if (!str_eq(name, want->name))
			continue;
		c->chains++;
		if (want->type == NULL ? json_str(o, "type") == NULL
				       : str_eq(json_str(o, "type"), want->type) &&
						 str_eq(json_str(o, "hook"), want->hook) &&
						 json_int(o, "prio", -1) == want->prio &&
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

	if (c->rules == c->shape->nrules || !str_eq(chain, c->shape->rules[c->rules].chain))
		return differs(
			c, "the rules of chain %s were changed", quote(chain != NULL ? chain : ""));
	if (json_parse(c->shape->rules[c->rules].expr, strlen(c->shape->rules[c->rules].expr),
		    &want, NULL) < 0)
		return differs(c, "no memory");
	same = json_equal(want, json_object_get(o, "expr")) != 0;
	json_decref(want);
	c->rules++;
	return same || differs(c, "a rule of chain %s was changed", chain);
}

static void put_json(struct buf *out, const json_t *e)
{
	const json_t *part, *parts = json_object_get(e, "concat");
	const json_t *prefix = json_object_get(e, "prefix");
	size_t i;

	if (json_is_string(e))
		buf_adds(out, json_string_value(e));
	else if (json_is_integer(e))
		buf_printf(out, "%lld", (long long)json_integer_value(e));
	else if (prefix != NULL)
		buf_printf(out, "%s/%d",
			json_str(prefix, "addr") != NULL ? json_str(prefix, "addr") : "",
			(int)json_int(prefix, "len", 0));
	json_array_foreach (parts, i, part) {
		if (i > 0)
			buf_adds(out, " . ");
		put_json(out, part);
	}
}

/* As firewall-set.h has it; "" for what is in no set of ours. */
static void put_element(struct buf *out, const json_t *e)
{
	if (!json_is_array(e)) {
		put_json(out, e);
		return;
	}
	put_json(out, json_array_get(e, 0));
	buf_adds(out, " : ");
	put_json(out, json_array_get(e, 1));
}

static bool same_type(const json_t *o, const struct firewall_set *set)
{
	const json_t *type = json_object_get(o, "type"), *field;
	struct buf text = { 0 };
	size_t i;
	bool same;

	if (json_is_string(type))
		buf_adds(&text, json_string_value(type));
	json_array_foreach (type, i, field)
		buf_printf(&text, "%s%s", i > 0 ? " . " : "",
			json_is_string(field) ? json_string_value(field) : "?");
	same = strcmp(buf_str(&text), set->type) == 0;
	buf_finish(&text);
	return same;
}

static bool same_elements(struct comparison *c, const json_t *o, size_t k)
{
	const char *name = firewall_sets[k].name;
	struct buf text = { 0 };
	const json_t *e;
	bool same = true;
	size_t i;

	json_array_foreach (json_arr(o, "elem"), i, e) {
		buf_clear(&text);
		put_element(&text, e);
		if (text.len == 0 || json_object_del(c->wanted[k], buf_str(&text)) < 0) {
			same = differs(c, "%s does not belong into set %s",
				quote(text.len > 0 ? text.data : "an element"), name);
			break;
		}
	}
	buf_finish(&text);
	if (same && json_object_size(c->wanted[k]) > 0)
		return differs(c, "%s is missing in set %s",
			json_object_iter_key(json_object_iter(c->wanted[k])), name);
	return same;
}

static bool same_set(struct comparison *c, const json_t *o, bool map)
{
	const char *name = json_str(o, "name");
	size_t k;

	for (k = 0; k < firewall_nsets; k++)
		if (firewall_sets[k].table == c->table && firewall_sets[k].map == map &&
			str_eq(name, firewall_sets[k].name))
			break;
	if (k == firewall_nsets)
		return differs(
			c, "there is a set %s which is not ours", quote(name != NULL ? name : ""));
	c->sets[k] = true;
	if (!same_type(o, &firewall_sets[k]))
		return differs(c, "set %s was changed", name);
	return same_elements(c, o, k);
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
		return same_set(c, v, false);
	if ((v = json_object_get(o, "map")) != NULL)
		return same_set(c, v, true);
	if (json_object_get(o, "metainfo") != NULL)
		return true;
	return differs(c, "there is an object in it which is not ours");
}

static bool expect_elements(struct comparison *c, const json_t *elements)
{
	const json_t *object, *e;
	size_t i, k, n;

	json_array_foreach (elements, i, object) {
		for (k = 0; k < firewall_nsets; k++) {
			json_array_foreach (json_arr(object, firewall_sets[k].name), n, e) {
				if (json_object_set_new(
					    c->wanted[k], json_string_value(e), json_null()) < 0)
					return false;
			}
		}
	}
	return true;
}

static bool expect(
	struct comparison *c, const struct firewall_tap *taps, size_t n, const json_t *elements)
{
	char guest[16];
	int r = 0;

	for (size_t k = 0; k < firewall_nsets; k++)
		c->wanted[k] = json_object();
	for (size_t i = 0; i < n && r == 0; i++) {
		r = json_object_set_new(c->wanted[0], taps[i].tap, json_null());
		if (r < 0 || !taps[i].nat)
			continue;
		ip4_format(taps[i].net.addr + 2, guest);
		r = json_object_set_new(c->wanted[1], guest, json_null());
	}
	return r == 0 && expect_elements(c, elements);
}

bool firewall_same(enum firewall_table table, const char *nft_json, size_t len,
	const struct firewall_tap *taps, size_t n, const json_t *elements, struct buf *difference)
{
	struct comparison c = {
		.difference = difference, .table = table, .shape = &firewall_shapes[table]
	};
	json_t *doc = NULL;
	const json_t *o;
	bool same = true;
	size_t i;

	if (!expect(&c, taps, n, elements) || json_parse(nft_json, len, &doc, NULL) < 0)
		same = differs(&c, "nft's listing of it cannot be read");
	json_array_foreach (same ? json_arr(doc, "nftables") : NULL, i, o)
		same = same && same_object(&c, o);
	if (same && c.rules < c.shape->nrules)
		same = differs(&c, "a rule of chain %s is missing", c.shape->rules[c.rules].chain);
	if (same && c.chains < c.shape->nchains)
		same = differs(&c, "a chain is missing");
	for (i = 0; i < firewall_nsets; i++) {
		if (same && firewall_sets[i].table == table && !c.sets[i])
			same = differs(&c, "set %s is missing", firewall_sets[i].name);
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

int firewall_list(struct firewall_list **out, uv_loop_t *loop, enum firewall_table table,
	firewall_list_fn *done, void *arg, struct err *err)
{
	char *argv[] = { "nft", "-j", "list", "table", table == FIREWALL_BRIDGE ? "bridge" : "inet",
		"drover", NULL };
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
