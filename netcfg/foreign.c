/* The part of netcfg/firewall.h that looks for what in the rules of others blocks our guests. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/foreign.h"

#define TIMEOUT_MS  10000
#define RULESET_MAX (64 * 1024 * 1024)
#define CHAINS_MAX  256 /* that are followed from one base chain */

/* One base chain, and what is known of the chains that it leads to. */
struct view {
	const json_t *objects; /* all of the ruleset */
	const char *family, *table, *chain;
	const char *link;                /* of ours, as iptables writes it: "tap+", "vm-br0" */
	bool forward;                    /* else input */
	const char *reached[CHAINS_MAX]; /* the base chain and those it jumps to */
	size_t nreached;
	bool in_open, out_open, established; /* rules for our link, for answers */
};

static bool same_table(const struct view *v, const json_t *obj)
{
	return str_eq(json_str(obj, "family"), v->family) &&
	       str_eq(json_str(obj, "table"), v->table);
}

/* "tap*" and what is wider: a rule for a single TAP opens only that one. */
static bool names_link(const json_t *right, const char *link)
{
	size_t stem = strcspn(link, "+");
	const char *s = json_string_value(right);
	const json_t *member;
	size_t i, len;

	if (s != NULL) {
		len = strlen(s);
		if (len > 0 && s[len - 1] == '*')
			return len - 1 <= stem && strncmp(link, s, len - 1) == 0;
		return link[stem] == '\0' && strcmp(link, s) == 0;
	}
	json_array_foreach (json_arr(right, "set"), i, member) {
		if (names_link(member, link))
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

static void read_match(const json_t *match, const char *link, struct rule *out)
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
	taps = names_link(json_object_get(match, "right"), link);
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

static struct rule read_rule(const json_t *rule, const char *link)
{
	struct rule out = { .any_link = true };
	const json_t *expr, *value;
	const char *key;
	size_t i;

	json_array_foreach (json_arr(rule, "expr"), i, expr) {
		json_object_foreach ((json_t *)expr, key, value) {
			if (strcmp(key, "match") == 0)
				read_match(value, link, &out);
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
		r = read_rule(rule, v->link);
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

/* The links that one chain blocks. */
struct blocked {
	const char *links[FOREIGN_LINKS_MAX];
	size_t n;
};

/* One command for each link and direction, joined by "&&"; each % of fmt is the link. */
static void add_commands(struct buf *out, const struct blocked *b, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
static void add_commands(struct buf *out, const struct blocked *b, const char *fmt, ...)
{
	struct buf command = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&command, fmt, ap);
	va_end(ap);
	for (size_t i = 0; i < b->n; i++) {
		buf_adds(out, i > 0 ? " && " : "`");
		for (const char *p = buf_str(&command); *p != '\0'; p++)
			*p == '@' ? buf_adds(out, b->links[i]) : buf_printf(out, "%c", *p);
	}
	buf_adds(out, "`");
	buf_finish(&command);
}

static void add_docker(
	struct buf *out, const struct blocked *b, const char *program, const char *how)
{
	add_item(out, "Docker's chain FORWARD (%s) drops %s: open it with ", how,
		what_is_lost(true));
	add_commands(out, b, "%s -I DOCKER-USER -i @ -j ACCEPT && %s -I DOCKER-USER -o @ -j ACCEPT",
		program, program);
}

static void add_ufw(struct buf *out, const struct blocked *b, bool forward)
{
	add_item(out, "ufw drops %s: open it with ", what_is_lost(forward));
	add_commands(out, b, "%s",
		forward ? "ufw route allow in on @ && ufw route allow out on @"
			: "ufw allow in on @");
}

static void add_iptables(
	struct buf *out, const struct blocked *b, const char *program, bool forward)
{
	add_item(out, "chain %s of %s drops %s: open it with ", forward ? "FORWARD" : "INPUT",
		program, what_is_lost(forward));
	if (forward)
		add_commands(out, b, "%s -I FORWARD -i @ -j ACCEPT && %s -I FORWARD -o @ -j ACCEPT",
			program, program);
	else
		add_commands(out, b, "%s -I INPUT -i @ -j ACCEPT", program);
}

static void add_nft(struct buf *out, const struct blocked *b, const struct view *v)
{
	add_item(out, "chain %s of nft table %s %s drops %s: open it with `", v->chain, v->family,
		v->table, what_is_lost(v->forward));
	for (size_t i = 0; i < b->n; i++) {
		const char *link = b->links[i];
		int stem = (int)strcspn(link, "+");
		const char *star = link[stem] == '+' ? "*" : "";

		buf_printf(out, "%snft insert rule %s %s %s iifname '\"%.*s%s\"' accept",
			i > 0 ? " && " : "", v->family, v->table, v->chain, stem, link, star);
		if (v->forward)
			buf_printf(out, " && nft insert rule %s %s %s oifname '\"%.*s%s\"' accept",
				v->family, v->table, v->chain, stem, link, star);
	}
	buf_adds(out, "`");
}

static void add_firewalld(struct buf *out, const struct blocked *b)
{
	add_item(out, "firewalld drops what guests send: open it with `");
	for (size_t i = 0; i < b->n; i++)
		buf_printf(out, "firewall-cmd --permanent --zone=trusted --add-interface=%s && ",
			b->links[i]);
	buf_adds(out, "firewall-cmd --reload`");
}

static void describe(
	const struct view *v, const struct blocked *b, bool *firewalld, struct buf *out)
{
	bool iptables = strcmp(v->family, "ip") == 0 && strcmp(v->table, "filter") == 0 &&
			(strcmp(v->chain, "FORWARD") == 0 || strcmp(v->chain, "INPUT") == 0);

	if (strcmp(v->table, "firewalld") == 0) {
		if (!*firewalld)
			add_firewalld(out, b);
		*firewalld = true;
	} else if (iptables && v->forward && reaches(v, "DOCKER-USER", true)) {
		add_docker(out, b, "iptables", "nft table ip filter");
	} else if (iptables && reaches(v, "ufw-", false)) {
		add_ufw(out, b, v->forward);
	} else if (iptables) {
		add_iptables(out, b, "iptables", v->forward);
	} else {
		add_nft(out, b, v);
	}
}

static bool is_ours(const struct view *v)
{
	return strcmp(v->family, "inet") == 0 &&
	       (strcmp(v->table, "drover") == 0 || str_starts(v->table, "drover_"));
}

/* What is known of the chain afterwards is of the last link that it blocks. */
static void look_at(const struct view *chain, const char *policy, const char *const *links,
	bool *firewalld, struct buf *out)
{
	struct blocked b = { .n = 0 };
	struct view last = *chain;

	for (size_t i = 0; links != NULL && links[i] != NULL && b.n < FOREIGN_LINKS_MAX; i++) {
		struct view v = *chain;

		v.link = links[i];
		if (!blocks(&v, policy))
			continue;
		b.links[b.n++] = links[i];
		last = v;
	}
	if (b.n > 0)
		describe(&last, &b, firewalld, out);
}

bool foreign_text(const char *nft_json, size_t len, const char *const *links, struct buf *out)
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
		look_at(&v, json_str(chain, "policy"), links, &firewalld, out);
	}
	json_decref(root);
	return out->len > before;
}

static bool legacy_opens(const char *rules, bool forward, const char *link)
{
	char in[32], way_out[32];

	snprintf(in, sizeof(in), " -i %s ", link);
	snprintf(way_out, sizeof(way_out), " -o %s ", link);
	return strstr(rules, in) != NULL && (!forward || strstr(rules, way_out) != NULL ||
						    strstr(rules, "ESTABLISHED -j ACCEPT") != NULL);
}

/* Of `iptables-legacy -S`: "-P CHAIN POLICY", "-N CHAIN", "-A CHAIN CONDITIONS -j TARGET". */
static void legacy_chain(
	const char *rules, const char *chain, const char *const *links, struct buf *out)
{
	bool forward = strcmp(chain, "FORWARD") == 0;
	char policy[32], drop[32], reject[32];
	struct blocked b = { .n = 0 };

	snprintf(policy, sizeof(policy), "-P %s DROP\n", chain);
	snprintf(drop, sizeof(drop), "-A %s -j DROP\n", chain);
	snprintf(reject, sizeof(reject), "-A %s -j REJECT", chain);
	if (strstr(rules, policy) == NULL && strstr(rules, drop) == NULL &&
		strstr(rules, reject) == NULL)
		return;
	for (size_t i = 0; links != NULL && links[i] != NULL && b.n < FOREIGN_LINKS_MAX; i++) {
		if (!legacy_opens(rules, forward, links[i]))
			b.links[b.n++] = links[i];
	}
	if (b.n == 0)
		return;
	if (forward && strstr(rules, "-N DOCKER-USER\n") != NULL)
		add_docker(out, &b, "iptables-legacy", "legacy iptables");
	else if (strstr(rules, "-N ufw-") != NULL)
		add_ufw(out, &b, forward);
	else
		add_iptables(out, &b, "iptables-legacy", forward);
}

bool foreign_legacy_text(const char *rules, const char *const *links, struct buf *out)
{
	size_t before = out->len;

	legacy_chain(rules, "FORWARD", links, out);
	legacy_chain(rules, "INPUT", links, out);
	return out->len > before;
}

/* ---- TAPs alone ---- */

static const char *const taps[] = { "tap+", NULL };

bool firewall_foreign_text(const char *nft_json, size_t len, struct buf *out)
{
	return foreign_text(nft_json, len, taps, out);
}

bool firewall_foreign_legacy_text(const char *rules, struct buf *out)
{
	return foreign_legacy_text(rules, taps, out);
}

int firewall_check_foreign(uv_loop_t *loop, foreign_done_fn *done, void *arg, struct err *err)
{
	return foreign_check(loop, taps, done, arg, err);
}

/* ---- the host's ---- */

struct check {
	uv_loop_t *loop;
	struct strv links;
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
	strv_finish(&c->links);
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
		foreign_legacy_text(res->out, (const char *const *)c->links.v, &c->text);
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
		foreign_text(res->out, res->out_len, (const char *const *)c->links.v, &c->text);
		if (legacy_in_use() && run(c, "iptables-legacy", argv, legacy_listed, NULL) == 0)
			return;
	}
	finish(c, err);
}

int foreign_check(uv_loop_t *loop, const char *const *links, foreign_done_fn *done, void *arg,
	struct err *err)
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
	for (size_t i = 0; links != NULL && links[i] != NULL; i++)
		strv_add(&c->links, links[i]);
	r = c->links.bad ? err_nomem(err) : run(c, "nft", argv, nft_listed, err);
	if (r < 0) {
		strv_finish(&c->links);
		free(c);
	}
	return r;
}
