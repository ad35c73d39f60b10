#include "netcfg/firewall.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/child.h"
#include "lib/deadline.h"
#include "lib/file.h"
#include "lib/list.h"

#define TABLE          "inet drover"
#define NFT_TIMEOUT_MS 10000

/* Creating the table first makes the deletion succeed where there was none. */
#define DROP_TABLE  "table " TABLE "\ndelete table " TABLE "\n"
#define DROP_BRIDGE "table bridge drover\ndelete table bridge drover\n"

static const char table_text[] = DROP_TABLE
	"table inet drover {\n"
	"\tset taps {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset nat_guests {\n"
	"\t\ttype ipv4_addr\n"
	"\t}\n"
	"\tset tap_guests {\n"
	"\t\ttype ifname . ipv4_addr\n"
	"\t}\n"
	"\tset tap_guests6 {\n"
	"\t\ttype ifname . ipv6_addr\n"
	"\t\tflags interval\n"
	"\t}\n"
	"\tset tap_peers {\n"
	"\t\ttype ifname . devgroup\n"
	"\t}\n"
	"\tset links {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset same_link {\n"
	"\t\ttype ifname . ifname\n"
	"\t}\n"
	"\tset way_out {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset way_in {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset nat_links {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset nat6_links {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset delegated6 {\n"
	"\t\ttype ipv6_addr\n"
	"\t\tflags interval\n"
	"\t}\n"
	"\tset open {\n"
	"\t\ttype ifname . inet_proto . inet_service\n"
	"\t}\n"
	"\tset pings {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset mirrors {\n"
	"\t\ttype ifname . ipv4_addr . inet_service\n"
	"\t}\n"
	"\tmap forwards {\n"
	"\t\ttype inet_proto . inet_service : ipv4_addr . inet_service\n"
	"\t}\n"
	"\tchain from_link {\n"
	"\t\tct state established,related accept\n"
	"\t\tiifname @way_out ct status dnat accept\n"
	"\t\toifname @links drop\n"
	"\t\toifname @taps drop\n"
	"\t\tiifname @way_out accept\n"
	"\t\tdrop\n"
	"\t}\n"
	"\tchain to_link {\n"
	"\t\tct state established,related accept\n"
	"\t\tct status dnat accept\n"
	"\t\tiifname @taps drop\n"
	"\t\tip6 daddr @delegated6 accept\n"
	"\t\toifname @way_in accept\n"
	"\t\tdrop\n"
	"\t}\n"
	"\tchain to_host {\n"
	"\t\tct state established,related accept\n"
	"\t\tiifname . meta l4proto . th dport @open accept\n"
	"\t\tiifname . ip daddr . tcp dport @mirrors accept\n"
	"\t\tiifname @pings icmp type echo-request accept\n"
	"\t\ticmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept\n"
	"\t\tiifname @pings icmpv6 type echo-request accept\n"
	"\t\tdrop\n"
	"\t}\n"
	"\tchain from_tap {\n"
	"\t\tiifname . ip saddr @tap_guests accept\n"
	"\t\tip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
	"\t\tiifname . ip6 saddr @tap_guests6 accept\n"
	"\t\tip6 saddr { ::, fe80::/10 } accept\n"
	"\t\tdrop\n"
	"\t}\n"
	"\tchain spoofed {\n"
	"\t\ttype filter hook prerouting priority raw; policy accept;\n"
	"\t\tiifname @taps jump from_tap\n"
	"\t}\n"
	"\tchain prerouting {\n"
	"\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
	"\t\tiifname . ip daddr . tcp dport @mirrors accept\n"
	"\t\tfib daddr type local dnat ip to meta l4proto . th dport map @forwards\n"
	"\t}\n"
	"\tchain output {\n"
	"\t\ttype nat hook output priority -100; policy accept;\n"
	"\t\tip daddr != 127.0.0.0/8 fib daddr type local dnat ip to meta l4proto . th dport map @forwards\n"
	"\t}\n"
	"\tchain input {\n"
	"\t\ttype filter hook input priority filter; policy accept;\n"
	"\t\tiifname @taps accept\n"
	"\t\tiifname @links jump to_host\n"
	"\t}\n"
	"\tchain forward {\n"
	"\t\ttype filter hook forward priority filter; policy accept;\n"
	"\t\tiifname . oifname @same_link accept\n"
	"\t\tiifname @links jump from_link\n"
	"\t\toifname @links jump to_link\n"
	"\t\tiifname @taps oifname @taps iifname . meta oifgroup != @tap_peers drop\n"
	"\t\tiifname @taps accept\n"
	"\t\toifname @taps accept\n"
	"\t}\n"
	"\tchain postrouting {\n"
	"\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
	"\t\tip saddr @nat_guests oifname != @taps masquerade\n"
	"\t\tmeta nfproto ipv4 iifname @nat_links oifname != @links masquerade\n"
	"\t\tip6 saddr @delegated6 accept\n"
	"\t\tmeta nfproto ipv6 iifname @nat6_links oifname != @links oifname != @taps masquerade\n"
	"\t\tiifname . oifname @same_link ct status dnat masquerade\n"
	"\t}\n"
	"}\n";

/* What nearly every frame is takes one look-up: half of what the packet rate loses to the rules. */
static const char bridge_text[] = DROP_BRIDGE
	"table bridge drover {\n"
	"\tset guest_taps {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset macs {\n"
	"\t\ttype ifname . ether_addr\n"
	"\t}\n"
	"\tset guests {\n"
	"\t\ttype ifname . ether_addr . ipv4_addr\n"
	"\t}\n"
	"\tset any_address {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset any_address6 {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset guests6 {\n"
	"\t\ttype ifname . ipv6_addr\n"
	"\t}\n"
	"\tset prefixes6 {\n"
	"\t\ttype ifname . ipv6_addr\n"
	"\t\tflags interval\n"
	"\t}\n"
	"\tset exact6 {\n"
	"\t\ttype ifname\n"
	"\t}\n"
	"\tset targets6 {\n"
	"\t\ttypeof iifname . @th,64,128\n"
	"\t}\n"
	"\tset locals6 {\n"
	"\t\ttype ipv6_addr\n"
	"\t}\n"
	"\tset local_targets6 {\n"
	"\t\ttypeof @th,64,128\n"
	"\t}\n"
	"\tset routers6 {\n"
	"\t\ttype ipv6_addr\n"
	"\t}\n"
	"\tset router_targets6 {\n"
	"\t\ttypeof @th,64,128\n"
	"\t}\n"
	"\tchain honest {\n"
	"\t\tudp dport 68 drop\n"
	"\t\taccept\n"
	"\t}\n"
	"\tset routers {\n"
	"\t\ttype ipv4_addr\n"
	"\t}\n"
	"\tchain claims {\n"
	"\t\t@th,64,128 0xfe800000000000000000000000000001 drop\n"
	"\t\t@th,64,128 @router_targets6 drop\n"
	"\t\t@th,64,128 @local_targets6 iifname . @th,64,128 != @targets6 drop\n"
	"\t\t@th,64,10 != 0x3fa iifname @exact6 iifname . @th,64,128 != @targets6 drop\n"
	"\t}\n"
	"\tchain guest {\n"
	"\t\tiifname . ether saddr != @macs drop\n"
	"\t\tether type arp iifname . arp saddr ether != @macs drop\n"
	"\t\tether type arp arp saddr ip @routers drop\n"
	"\t\tether type arp iifname @any_address accept\n"
	"\t\tether type arp iifname . arp saddr ether . arp saddr ip @guests accept\n"
	"\t\tether type arp arp saddr ip 0.0.0.0 iifname . arp saddr ether . arp daddr ip @guests accept\n"
	"\t\tether type ip udp dport 68 drop\n"
	"\t\tether type ip ip saddr @routers drop\n"
	"\t\tether type ip iifname @any_address accept\n"
	"\t\tether type ip ip saddr 0.0.0.0 udp sport 68 udp dport 67 accept\n"
	"\t\tether type ip6 icmpv6 type { nd-router-advert, nd-redirect } drop\n"
	"\t\tether type ip6 udp dport 546 drop\n"
	"\t\tether type ip6 iifname @any_address6 accept\n"
	"\t\tether type ip6 ip6 saddr fe80::1 drop\n"
	"\t\tether type ip6 ip6 saddr @routers6 drop\n"
	"\t\ticmpv6 type nd-neighbor-advert jump claims\n"
	"\t\tether type ip6 ip6 saddr :: icmpv6 type nd-neighbor-solicit jump claims\n"
	"\t\tether type ip6 ip6 saddr :: icmpv6 type { nd-router-solicit, nd-neighbor-solicit, mld2-listener-report } accept\n"
	"\t\tether type ip6 ip6 saddr @locals6 iifname . ip6 saddr != @guests6 drop\n"
	"\t\tether type ip6 ip6 saddr fe80::/10 accept\n"
	"\t\tether type ip6 iifname . ip6 saddr @guests6 accept\n"
	"\t\tether type ip6 iifname . ip6 saddr @prefixes6 accept\n"
	"\t\tdrop\n"
	"\t}\n"
	"\tchain prerouting {\n"
	"\t\ttype filter hook prerouting priority filter; policy accept;\n"
	"\t\tether type ip iifname . ether saddr . ip saddr @guests jump honest\n"
	"\t\tiifname @guest_taps jump guest\n"
	"\t}\n"
	"}\n";

void firewall_table_text(struct buf *out)
{
	buf_adds(out, table_text);
}

void firewall_bridge_text(struct buf *out)
{
	buf_adds(out, bridge_text);
}

void firewall_table_delete_text(struct buf *out)
{
	buf_adds(out, DROP_TABLE);
}

void firewall_bridge_delete_text(struct buf *out)
{
	buf_adds(out, DROP_BRIDGE);
}

static void elements(
	struct buf *out, const char *verb, const char *tap, struct ip4_prefix net, bool nat)
{
	char guest[16];

	buf_printf(out, "%s element " TABLE " taps { \"%s\" }\n", verb, tap);
	if (!nat)
		return;
	ip4_format(net.addr + 2, guest);
	buf_printf(out, "%s element " TABLE " nat_guests { %s }\n", verb, guest);
}

void firewall_tap_add_text(struct buf *out, const char *tap, struct ip4_prefix net, bool nat)
{
	elements(out, "add", tap, net, nat);
}

void firewall_tap_delete_text(struct buf *out, const char *tap, struct ip4_prefix net, bool nat)
{
	/* nft 1.0.6 has no "destroy": what was just added can be deleted, there or not before. */
	elements(out, "add", tap, net, nat);
	elements(out, "delete", tap, net, nat);
}

struct request {
	struct list entry;
	char *text;
	firewall_done_fn *done;
	void *arg;
};

struct firewall {
	uv_loop_t *loop;
	char *nft;
	struct list waiting, batch;
	uint64_t requests;
	size_t alone; /* so many at the front of waiting failed together and go one by one */
	struct deadline kick;
	bool running, destroyed;
	void (*closed)(void *arg);
	void *closed_arg;
};

static void next_batch(void *arg);

int firewall_create(struct firewall **out, uv_loop_t *loop, struct err *err)
{
	struct firewall *fw = calloc(1, sizeof(*fw));
	int r;

	if (fw == NULL)
		return err_nomem(err);
	fw->loop = loop;
	list_init(&fw->waiting);
	list_init(&fw->batch);
	fw->nft = find_program("nft");
	if (fw->nft == NULL) {
		free(fw);
		return err_set(err, -ENOENT, "nft is missing: install the package nftables");
	}
	r = deadline_init(&fw->kick, loop, next_batch, fw);
	if (r < 0) {
		free(fw->nft);
		free(fw);
		return err_set(err, r, "timer: %s", uv_strerror(r));
	}
	*out = fw;
	return 0;
}

static void complete(struct request *req, const struct err *err)
{
	list_remove(&req->entry);
	req->done(req->arg, err);
	free(req->text);
	free(req);
}

static void complete_all(struct list *list, const struct err *err)
{
	struct list ready;

	list_init(&ready);
	list_splice(&ready, list);
	while (!list_empty(&ready))
		complete(list_first(&ready, struct request, entry), err);
}

/*
 * nft says "FILE:LINE:COLUMNS: Error: what" and below it the command with carets; what failed is
 * told by the words alone, its exit status is 1 for all.
 */
static void explain(const struct child_result *res, struct err *err)
{
	const char *what = strstr(res->errout, "Error: ");
	int len;

	if (err->code != -EIO || what == NULL)
		return;
	what += strlen("Error: ");
	len = (int)strcspn(what, "\n");
	if (strncmp(what, "No such file or directory", 25) == 0)
		err_set(err, -ENOENT, "nft: table " TABLE " is missing or not whole: %.*s", len,
			what);
	else if (strstr(what, "Operation not permitted") != NULL)
		err_set(err, -EPERM, "nft: not permitted, CAP_NET_ADMIN is needed");
	else
		err_set(err, -EIO, "nft: %.*s", len, what);
}

static bool single(const struct list *l)
{
	return !list_empty(l) && l->next == l->prev;
}

static void applied(void *arg, const struct child_result *res, const struct err *failure)
{
	struct firewall *fw = arg;
	struct err err;

	fw->running = false;
	if (failure == NULL) {
		complete_all(&fw->batch, NULL);
	} else {
		err = *failure;
		explain(res, &err);
		if (single(&fw->batch) || err.code == -ETIMEDOUT || fw->destroyed) {
			complete_all(&fw->batch, &err);
		} else {
			struct request *req;

			list_for_each_entry (req, &fw->batch, entry)
				fw->alone++;
			list_splice(&fw->batch, &fw->waiting);
			list_splice(&fw->waiting, &fw->batch);
		}
	}
	next_batch(fw);
}

static void take(struct firewall *fw)
{
	if (fw->alone > 0) {
		struct request *req = list_first(&fw->waiting, struct request, entry);

		fw->alone--;
		list_remove(&req->entry);
		list_append(&fw->batch, &req->entry);
	} else {
		list_splice(&fw->batch, &fw->waiting);
	}
}

static int run_nft(struct firewall *fw, struct err *err)
{
	static char *const argv[] = { "nft", "-f", "-", NULL };
	static char *const envp[] = { "LC_ALL=C", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	struct child_spec spec = {
		.file = fw->nft, .argv = argv, .envp = envp, .die_with_us = true
	};
	struct child_run_opts opts = { .timeout_ms = NFT_TIMEOUT_MS, .async = true };
	struct buf text = { 0 };
	struct request *req;
	int r;

	list_for_each_entry (req, &fw->batch, entry)
		buf_adds(&text, req->text);
	if (text.bad) {
		buf_finish(&text);
		return err_nomem(err);
	}
	opts.input = buf_str(&text);
	opts.input_len = text.len;
	r = child_run(NULL, fw->loop, &spec, &opts, applied, fw, err);
	buf_finish(&text);
	return r < 0 ? err_wrap(err, "nft") : 0;
}

static void kick_closed(void *arg)
{
	struct firewall *fw = arg;

	if (fw->closed != NULL)
		fw->closed(fw->closed_arg);
	free(fw->nft);
	free(fw);
}

static void next_batch(void *arg)
{
	struct firewall *fw = arg;
	struct err err;

	if (fw->destroyed) {
		err_set(&err, -ECANCELED, "nft: cancelled");
		complete_all(&fw->waiting, &err);
		if (!fw->running)
			deadline_close(&fw->kick, kick_closed);
		return;
	}
	while (!fw->running && !list_empty(&fw->waiting)) {
		take(fw);
		/* Before the call, since a callback on failure may come back here. */
		fw->running = true;
		if (run_nft(fw, &err) == 0)
			return;
		fw->running = false;
		complete_all(&fw->batch, &err);
	}
}

int firewall_apply(struct firewall *fw, const char *text, firewall_done_fn *done, void *arg)
{
	struct request *req = calloc(1, sizeof(*req));

	if (req == NULL)
		return -ENOMEM;
	req->text = strdup(text);
	if (req->text == NULL) {
		free(req);
		return -ENOMEM;
	}
	req->done = done;
	req->arg = arg;
	fw->requests++;
	list_append(&fw->waiting, &req->entry);
	if (!fw->running && !deadline_armed(&fw->kick))
		deadline_set(&fw->kick, 0);
	return 0;
}

bool firewall_idle(const struct firewall *fw)
{
	return !fw->running && list_empty(&fw->waiting);
}

uint64_t firewall_requests(const struct firewall *fw)
{
	return fw->requests;
}

void firewall_destroy(struct firewall *fw, void (*closed)(void *arg), void *arg)
{
	if (fw == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	fw->destroyed = true;
	fw->closed = closed;
	fw->closed_arg = arg;
	if (!fw->running)
		deadline_set(&fw->kick, 0);
}
