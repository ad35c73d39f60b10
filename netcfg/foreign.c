/* The part of netcfg/firewall.h that looks for what in the rules of others blocks our guests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/firewall.h"

#define TIMEOUT_MS  10000
#define RULESET_MAX (64 * 1024 * 1024)
#define CHAINS_MAX  256 /* that are followed from one base chain */
#define FIREWALLD_DO                                                                               \
	"firewall-cmd --permanent --zone=trusted --add-interface=tap+ && firewall-cmd --reload"

/* One base chain, and what is known of the chains that it leads to. */
struct view {
	const json_t *objects; /* all of the ruleset */
	const char *family, *table, *chain;
	bool forward;                    /* else input */
	const char *reached[CHAINS_MAX]; /* the base chain and those it jumps to */
	size_t nreached;
	bool in_open, out_open, established; /* rules for our TAPs, for answers */
};

static bool same_table(const struct view *v, const json_t *obj)
{
	return str_eq(json_str(obj, "family"), v->family) &&
	       str_eq(json_str(obj, "table"), v->table);
}

/* "tap*" and what is wider: a rule for a single TAP opens only that one. */
static bool names_taps(const json_t *right)
{
	const char *s = json_string_value(right);
	const json_t *member;
	size_t i, len;

	if (s != NULL) {
		len = strlen(s);
		return len > 0 && s[len - 1] == '*' && strncmp("tap", s, MIN(len - 1, 3)) == 0 &&
		       len - 1 <= 3;
	}
	json_array_foreach (json_arr(right, "set"), i, member) {
		if (names_taps(member))
			return true;
	}
	return false;
}

/* What the expressions of one rule come to, as far as it matters here. */
struct rule {
	bool conditional;
	bool in_taps, out_taps;
	bool any_link; /* no condition on the links */
	bool conntrack;
	bool accept, refuse; /* drop or reject */
	const char *target;  /* of jump or goto */
};

static void read_match(const json_t *match, struct rule *out)
{
	const json_t *left = json_obj(match, "left");
	const char *meta = json_str(json_obj(left, "meta"), "key");
	const char *ct = json_str(json_obj(left, "ct"), "key");
	bool taps;

	out->conditional = true;
	if (str_eq(ct, "state"))
		out->conntrack = true;
	if (meta == NULL)
		return;
	taps = names_taps(json_object_get(match, "right"));
	if (str_eq(json_str(match, "op"), "!="))
		taps = !taps;
	if (str_eq(meta, "iifname") || str_eq(meta, "iif")) {
		out->any_link = false;
		out->in_taps = taps;
	} else if (str_eq(meta, "oifname") || str_eq(meta, "oif")) {
		out->any_link = false;
		out->out_taps = taps;
	}
}

static struct rule read_rule(const json_t *rule)
{
	struct rule out = { .any_link = true };
	const json_t *expr, *value;
	const char *key;
	size_t i;

	json_array_foreach (json_arr(rule, "expr"), i, expr) {
		json_object_foreach ((json_t *)expr, key, value) {
			if (strcmp(key, "match") == 0)
				read_match(value, &out);
			else if (strcmp(key, "accept") == 0)
				out.accept = true;
			else if (strcmp(key, "drop") == 0 || strcmp(key, "reject") == 0)
				out.refuse = true;
			else if (strcmp(key, "jump") == 0 || strcmp(key, "goto") == 0)
				out.target = json_str(value, "target");
			else if (strcmp(key, "counter") != 0 && strcmp(key, "log") != 0)
				out.conditional = true;
			if (strcmp(key, "xt") == 0 && str_eq(json_str(value, "name"), "conntrack"))
				out.conntrack = true;
		}
	}
	return out;
}

static void reach(struct view *v, const char *chain)
{
	for (size_t i = 0; i < v->nreached; i++) {
		if (strcmp(v->reached[i], chain) == 0)
			return;
	}
	if (v->nreached < CHAINS_MAX)
		v->reached[v->nreached++] = chain;
}

/* Whether a chain of this name, or beginning so, is among those that the base chain leads to. */
static bool reaches(const struct view *v, const char *prefix, bool whole)
{
	for (size_t i = 0; i < v->nreached; i++) {
		if (whole ? strcmp(v->reached[i], prefix) == 0 : str_starts(v->reached[i], prefix))
			return true;
	}
	return false;
}

/* Visits the rules of one chain; returns whether its own unconditional rule refuses the rest. */
static bool visit_chain(struct view *v, const char *chain, bool *accepts)
{
	const json_t *obj, *rule;
	size_t i;

	json_array_foreach (v->objects, i, obj) {
		struct rule r;

		rule = json_obj(obj, "rule");
		if (rule == NULL || !same_table(v, rule) || !str_eq(json_str(rule, "chain"), chain))
			continue;
		r = read_rule(rule);
		if (r.target != NULL)
			reach(v, r.target);
		/* A rule that names TAPs, whatever else it asks for, was written with us in mind. */
		if (r.accept || r.target != NULL) {
			v->in_open = v->in_open || r.in_taps;
			v->out_open = v->out_open || r.out_taps;
		}
		if (r.accept && r.any_link && r.conntrack)
			v->established = true;
		if (!r.conditional && (r.accept || r.refuse)) {
			*accepts = r.accept;
			return r.refuse;
		}
	}
	return false;
}

static bool blocks(struct view *v, const char *policy)
{
	bool accepts = false, ignored, refuses;

	reach(v, v->chain);
	refuses = visit_chain(v, v->chain, &accepts);
	for (size_t i = 1; i < v->nreached; i++)
		visit_chain(v, v->reached[i], &ignored);
	if (accepts || (!refuses && !str_eq(policy, "drop")))
		return false;
	/* Answers pass where established connections do. */
	return !v->in_open || (v->forward && !v->out_open && !v->established);
}

static void add_item(struct buf *out, const char *fmt, ...) PRINTF(2, 3);
static void add_item(struct buf *out, const char *fmt, ...)
{
	va_list ap;

	if (out->len > 0)
		buf_adds(out, "; ");
	va_start(ap, fmt);
	buf_vprintf(out, fmt, ap);
	va_end(ap);
}

static const char *what_is_lost(bool forward)
{
	return forward ? "what guests send and get through this host"
		       : "what guests send to this host, DHCP among it";
}

static void add_docker(struct buf *out, const char *program, const char *how)
{
	add_item(out,
		"Docker's chain FORWARD (%s) drops %s: open it with `%s -I DOCKER-USER -i tap+ -j "
		"ACCEPT && %s -I DOCKER-USER -o tap+ -j ACCEPT`",
		how, what_is_lost(true), program, program);
}

static void add_ufw(struct buf *out, bool forward)
{
	add_item(out, "ufw drops %s: open it with `%s`", what_is_lost(forward),
		forward ? "ufw route allow in on tap+ && ufw route allow out on tap+"
			: "ufw allow in on tap+");
}

static void add_iptables(struct buf *out, const char *program, bool forward)
{
	if (forward)
		add_item(out,
			"chain FORWARD of %s drops %s: open it with `%s -I FORWARD -i tap+ -j ACCEPT && "
			"%s -I FORWARD -o tap+ -j ACCEPT`",
			program, what_is_lost(true), program, program);
	else
		add_item(out,
			"chain INPUT of %s drops %s: open it with `%s -I INPUT -i tap+ -j ACCEPT`",
			program, what_is_lost(false), program);
}

static void add_nft(struct buf *out, const struct view *v)
{
	add_item(out, "chain %s of nft table %s %s drops %s: open it with `", v->chain, v->family,
		v->table, what_is_lost(v->forward));
	buf_printf(out, "nft insert rule %s %s %s iifname '\"tap*\"' accept", v->family, v->table,
		v->chain);
	if (v->forward)
		buf_printf(out, " && nft insert rule %s %s %s oifname '\"tap*\"' accept", v->family,
			v->table, v->chain);
	buf_adds(out, "`");
}

static void describe(const struct view *v, bool *firewalld, struct buf *out)
{
	bool iptables = strcmp(v->family, "ip") == 0 && strcmp(v->table, "filter") == 0 &&
			(strcmp(v->chain, "FORWARD") == 0 || strcmp(v->chain, "INPUT") == 0);

	if (strcmp(v->table, "firewalld") == 0) {
		if (!*firewalld)
			add_item(out,
				"firewalld drops what guests send: open it with `" FIREWALLD_DO
				"`");
		*firewalld = true;
	} else if (iptables && v->forward && reaches(v, "DOCKER-USER", true)) {
		add_docker(out, "iptables", "nft table ip filter");
	} else if (iptables && reaches(v, "ufw-", false)) {
		add_ufw(out, v->forward);
	} else if (iptables) {
		add_iptables(out, "iptables", v->forward);
	} else {
		add_nft(out, v);
	}
}

static bool is_ours(const struct view *v)
{
	return strcmp(v->family, "inet") == 0 &&
	       (strcmp(v->table, "drover") == 0 || str_starts(v->table, "drover_"));
}

bool firewall_foreign_text(const char *nft_json, size_t len, struct buf *out)
{
	const json_t *obj, *objects;
	size_t i, before = out->len;
	bool firewalld = false;
	json_t *root = NULL;

	if (json_parse(nft_json, len, &root, NULL) < 0)
		return false;
	objects = json_arr(root, "nftables");
	json_array_foreach (objects, i, obj) {
		const json_t *chain = json_obj(obj, "chain");
		const char *hook = json_str(chain, "hook");
		struct view v = {
			.objects = objects,
			.family = json_str(chain, "family"),
			.table = json_str(chain, "table"),
			.chain = json_str(chain, "name"),
			.forward = str_eq(hook, "forward"),
		};

		if (!str_eq(json_str(chain, "type"), "filter") ||
			(!v.forward && !str_eq(hook, "input")) ||
			(!str_eq(v.family, "ip") && !str_eq(v.family, "inet")) || v.table == NULL ||
			v.chain == NULL || is_ours(&v))
			continue;
		if (blocks(&v, json_str(chain, "policy")))
			describe(&v, &firewalld, out);
	}
	json_decref(root);
	return out->len > before;
}

/* Of `iptables-legacy -S`: "-P CHAIN POLICY", "-N CHAIN", "-A CHAIN CONDITIONS -j TARGET". */
static void legacy_chain(const char *rules, const char *chain, struct buf *out)
{
	bool forward = strcmp(chain, "FORWARD") == 0, in_open, out_open;
	char policy[32], drop[32], reject[32];

	snprintf(policy, sizeof(policy), "-P %s DROP\n", chain);
	snprintf(drop, sizeof(drop), "-A %s -j DROP\n", chain);
	snprintf(reject, sizeof(reject), "-A %s -j REJECT", chain);
	if (strstr(rules, policy) == NULL && strstr(rules, drop) == NULL &&
		strstr(rules, reject) == NULL)
		return;
	in_open = strstr(rules, " -i tap+ ") != NULL;
	out_open = strstr(rules, " -o tap+ ") != NULL;
	if (in_open && (!forward || out_open || strstr(rules, "ESTABLISHED -j ACCEPT") != NULL))
		return;
	if (forward && strstr(rules, "-N DOCKER-USER\n") != NULL)
		add_docker(out, "iptables-legacy", "legacy iptables");
	else if (strstr(rules, "-N ufw-") != NULL)
		add_ufw(out, forward);
	else
		add_iptables(out, "iptables-legacy", forward);
}

bool firewall_foreign_legacy_text(const char *rules, struct buf *out)
{
	size_t before = out->len;

	legacy_chain(rules, "FORWARD", out);
	legacy_chain(rules, "INPUT", out);
	return out->len > before;
}

struct check {
	uv_loop_t *loop;
	struct buf text;
	foreign_done_fn *done;
	void *arg;
};

static void finish(struct check *c, const struct err *err)
{
	struct err nomem;

	if (err == NULL && c->text.bad) {
		err_nomem(&nomem);
		err = &nomem;
	}
	c->done(c->arg, err == NULL && c->text.len > 0 ? c->text.data : NULL, err);
	buf_finish(&c->text);
	free(c);
}

static int run(
	struct check *c, const char *name, char *const *argv, child_done_fn *done, struct err *err)
{
	static char *const envp[] = { "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	char *file = find_program(name);
	struct child_spec spec = { .file = file, .argv = argv, .envp = envp, .die_with_us = true };
	struct child_run_opts opts = {
		.timeout_ms = TIMEOUT_MS, .max_output = RULESET_MAX, .async = true
	};
	int r;

	if (file == NULL)
		return err_set(err, -ENOENT, "%s is not installed", name);
	r = child_run(NULL, c->loop, &spec, &opts, done, c, err);
	free(file);
	return r;
}

static void legacy_listed(void *arg, const struct child_result *res, const struct err *err)
{
	struct check *c = arg;

	if (err == NULL)
		firewall_foreign_legacy_text(res->out, &c->text);
	finish(c, err);
}

/* Listing loads the module, so only where its table is there already. */
static bool legacy_in_use(void)
{
	struct buf names = { 0 };
	bool found;

	if (file_read("/proc/net/ip_tables_names", 4096, &names, NULL) < 0)
		return false;
	found = strstr(buf_str(&names), "filter\n") != NULL;
	buf_finish(&names);
	return found;
}

static void nft_listed(void *arg, const struct child_result *res, const struct err *err)
{
	static char *const argv[] = { "iptables-legacy", "-S", NULL };
	struct check *c = arg;

	if (err == NULL) {
		firewall_foreign_text(res->out, res->out_len, &c->text);
		if (legacy_in_use() && run(c, "iptables-legacy", argv, legacy_listed, NULL) == 0)
			return;
	}
	finish(c, err);
}

int firewall_check_foreign(uv_loop_t *loop, foreign_done_fn *done, void *arg, struct err *err)
{
	/* Without the elements of sets, which may be many and say nothing here. */
	static char *const argv[] = { "nft", "-j", "-t", "list", "ruleset", NULL };
	struct check *c = calloc(1, sizeof(*c));
	int r;

	if (c == NULL)
		return err_nomem(err);
	c->loop = loop;
	c->done = done;
	c->arg = arg;
	r = run(c, "nft", argv, nft_listed, err);
	if (r < 0)
		free(c);
	return r;
}
