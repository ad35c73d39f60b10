#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "netcfg/firewall-set.h"
#include "netcfg/foreign.h"
#include "tests/unit/netns.h"

static const struct ip4_prefix net1 = { 0xac100000, 30 }, net2 = { 0xac100004, 30 };

static void the_table_is_exact(void **state)
{
	struct buf b = { 0 };

	firewall_table_text(&b);
	assert_string_equal(buf_str(&b),
		"table inet drover\n"
		"delete table inet drover\n"
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
		"}\n");
	buf_clear(&b);
	firewall_table_delete_text(&b);
	assert_string_equal(buf_str(&b), "table inet drover\ndelete table inet drover\n");
	buf_finish(&b);
}

static void elements_are_exact(void **state)
{
	struct buf b = { 0 };

	firewall_tap_add_text(&b, "tap0123456789ab", net2, true);
	firewall_tap_add_text(&b, "tap1", net2, false);
	firewall_tap_delete_text(&b, "tap0123456789ab", net2, true);
	firewall_tap_delete_text(&b, "tap1", net2, false);
	assert_string_equal(buf_str(&b), "add element inet drover taps { \"tap0123456789ab\" }\n"
					 "add element inet drover nat_guests { 172.16.0.6 }\n"
					 "add element inet drover taps { \"tap1\" }\n"
					 "add element inet drover taps { \"tap0123456789ab\" }\n"
					 "add element inet drover nat_guests { 172.16.0.6 }\n"
					 "delete element inet drover taps { \"tap0123456789ab\" }\n"
					 "delete element inet drover nat_guests { 172.16.0.6 }\n"
					 "add element inet drover taps { \"tap1\" }\n"
					 "delete element inet drover taps { \"tap1\" }\n");
	buf_finish(&b);
}

static void nft_accepts_the_text(void **state)
{
	char *dir = rig_tmp(), *path = path_join(dir, "rules");
	struct buf b = { 0 };

	netns_enter();
	firewall_table_text(&b);
	firewall_tap_add_text(&b, "tap0123456789ab", net1, true);
	firewall_tap_delete_text(&b, "tap0123456789ab", net1, true);
	assert_int_equal(file_write_atomic(path, b.data, b.len, 0600, false, NULL), 0);
	sh("nft -c -f %s", path);
	sh("nft -f %s && nft -f %s", path, path);
	free(path);
	rig_tmp_finish(dir);
	buf_finish(&b);
}

/* An applier whose nft is the real one behind a script that writes one line for each run. */
struct fixture {
	uv_loop_t *loop;
	struct firewall *fw;
	char *dir, *runs, *old_path;
	unsigned done, failed, wanted;
	int codes[64];
	char last[256];
	bool all, closed;
};

static void setup(struct fixture *f)
{
	struct err err;
	char *nft, *path;
	FILE *script;

	memset(f, 0, sizeof(*f));
	netns_enter();
	f->dir = rig_tmp();
	f->runs = path_join(f->dir, "runs");
	nft = path_join(f->dir, "nft");
	script = fopen(nft, "w");
	assert_non_null(script);
	fprintf(script, "#!/bin/sh\necho >>%s\nexec /usr/sbin/nft \"$@\"\n", f->runs);
	fclose(script);
	chmod(nft, 0755);
	free(nft);
	f->old_path = strdup(getenv("PATH"));
	assert_true(asprintf(&path, "%s:%s", f->dir, f->old_path) > 0);
	setenv("PATH", path, 1);
	free(path);
	f->loop = rig_loop();
	assert_int_equal(firewall_create(&f->fw, f->loop, &err), 0);
	setenv("PATH", f->old_path, 1);
}

static void closed(void *arg)
{
	struct fixture *f = arg;

	f->closed = true;
}

static void finish(struct fixture *f)
{
	if (!f->closed) {
		firewall_destroy(f->fw, closed, f);
		rig_run_until(f->loop, &f->closed);
	}
	rig_loop_finish(f->loop);
	rig_tmp_finish(f->dir);
	free(f->runs);
	free(f->old_path);
}

static void done(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	f->codes[f->done] = err != NULL ? err->code : 0;
	if (err != NULL) {
		f->failed++;
		snprintf(f->last, sizeof(f->last), "%s", err->msg);
	}
	f->all = ++f->done == f->wanted;
}

static void await(struct fixture *f, unsigned n)
{
	f->wanted = n;
	f->all = f->done == n;
	rig_run_until(f->loop, &f->all);
}

static void add_tap(struct fixture *f, const char *tap, struct ip4_prefix net, bool nat)
{
	struct buf b = { 0 };
	json_t *guest;

	firewall_tap_add_text(&b, tap, net, nat);
	guest = firewall_p2p_elements(tap, net.addr + 2, 0);
	firewall_elements_add_text(&b, guest);
	json_decref(guest);
	assert_int_equal(firewall_apply(f->fw, buf_str(&b), done, f), 0);
	buf_finish(&b);
}

static void delete_tap(struct fixture *f, const char *tap, struct ip4_prefix net, bool nat)
{
	struct buf b = { 0 };
	json_t *guest;

	firewall_tap_delete_text(&b, tap, net, nat);
	guest = firewall_p2p_elements(tap, net.addr + 2, 0);
	firewall_elements_delete_text(&b, guest);
	json_decref(guest);
	assert_int_equal(firewall_apply(f->fw, buf_str(&b), done, f), 0);
	buf_finish(&b);
}

static void add_table(struct fixture *f)
{
	struct buf b = { 0 };

	firewall_table_text(&b);
	assert_int_equal(firewall_apply(f->fw, buf_str(&b), done, f), 0);
	buf_finish(&b);
}

static unsigned runs(struct fixture *f)
{
	return (unsigned)atoi(sh_output("wc -l <%s", f->runs));
}

static void requests_of_one_turn_are_one_transaction(void **state)
{
	struct fixture f;
	char tap[16];

	setup(&f);
	add_table(&f);
	for (unsigned i = 0; i < 20; i++) {
		snprintf(tap, sizeof(tap), "tap%u", i);
		add_tap(&f, tap, (struct ip4_prefix){ net1.addr + 4 * i, 30 }, true);
	}
	assert_int_equal(f.done, 0);
	await(&f, 21);
	assert_int_equal(f.failed, 0);
	assert_int_equal(runs(&f), 1);
	assert_int_equal(
		atoi(sh_output("nft list set inet drover taps | grep -o tap | wc -l")), 21);
	sh("nft list set inet drover nat_guests | grep -q 172.16.0.78");

	/* The same again, and deletions of what is not there, are no errors. */
	add_tap(&f, "tap0", net1, true);
	delete_tap(&f, "tap77", net1, false);
	await(&f, 23);
	assert_int_equal(f.failed, 0);
	assert_int_equal(runs(&f), 2);

	/* The table is made anew: nothing of the old one is left. */
	add_table(&f);
	await(&f, 24);
	sh("! nft list table inet drover | grep -q elements");
	finish(&f);
}

static void what_comes_while_nft_runs_goes_into_the_next_one(void **state)
{
	struct fixture f;

	setup(&f);
	add_table(&f);
	while (access(f.runs, F_OK) < 0)
		uv_run(f.loop, UV_RUN_NOWAIT);
	add_tap(&f, "tap1", net1, true);
	add_tap(&f, "tap2", net2, true);
	await(&f, 3);
	assert_int_equal(f.failed, 0);
	assert_int_equal(runs(&f), 2);
	sh("nft list set inet drover taps | tr -d ' \\n\\t' | grep -q '\"tap1\",\"tap2\"'");
	finish(&f);
}

static void an_error_reaches_its_own_caller_only(void **state)
{
	struct fixture f;

	setup(&f);
	add_table(&f);
	add_tap(&f, "tap1", net1, true);
	assert_int_equal(firewall_apply(f.fw, "add element inet nonsense\n", done, &f), 0);
	add_tap(&f, "tap2", net2, true);
	await(&f, 4);
	assert_int_equal(f.failed, 1);
	assert_int_equal(f.codes[2], -EIO);
	assert_non_null(strstr(f.last, "nft: syntax error"));
	assert_int_equal(runs(&f), 5);
	sh("nft list set inet drover taps | tr -d ' \\n\\t' | grep -q '\"tap1\",\"tap2\"'");
	finish(&f);
}

static void a_missing_table_is_told(void **state)
{
	struct buf b = { 0 };
	struct fixture f;

	setup(&f);
	add_tap(&f, "tap1", net1, true);
	await(&f, 1);
	assert_int_equal(f.codes[0], -ENOENT);
	assert_non_null(strstr(f.last, "table inet drover is missing"));
	delete_tap(&f, "tap1", net1, true);
	await(&f, 2);
	assert_int_equal(f.codes[1], -ENOENT);

	/* Deleting the table succeeds without one; table and elements come back as one text. */
	firewall_table_delete_text(&b);
	firewall_table_text(&b);
	firewall_tap_add_text(&b, "tap1", net1, true);
	firewall_apply(f.fw, buf_str(&b), done, &f);
	await(&f, 3);
	assert_int_equal(f.codes[2], 0);
	sh("nft list set inet drover taps | grep -q tap1");
	sh("nft flush ruleset");
	firewall_apply(f.fw, buf_str(&b), done, &f);
	await(&f, 4);
	assert_int_equal(f.codes[3], 0);
	buf_finish(&b);
	finish(&f);
}

static void the_end_cancels_what_waits(void **state)
{
	struct fixture f;

	setup(&f);
	add_table(&f);
	while (access(f.runs, F_OK) < 0)
		uv_run(f.loop, UV_RUN_NOWAIT);
	add_tap(&f, "tap1", net1, true);
	firewall_destroy(f.fw, closed, &f);
	rig_run_until(f.loop, &f.closed);
	assert_int_equal(f.done, 2);
	assert_int_equal(f.codes[0], 0);
	assert_int_equal(f.codes[1], -ECANCELED);
	sh("nft list table inet drover >/dev/null");
	finish(&f);

	setup(&f);
	add_table(&f);
	firewall_destroy(f.fw, closed, &f);
	assert_int_equal(f.done, 0);
	rig_run_until(f.loop, &f.closed);
	assert_int_equal(f.codes[0], -ECANCELED);
	finish(&f);
}

/* A guest behind "tap1", this host, and an internet that knows no way back to 172.16/16. */
struct world {
	pid_t guest, internet;
};

static void world_make(struct world *w)
{
	w->guest = netns_peer();
	w->internet = netns_peer();
	sh("ip link add name tap1 type veth peer name nic netns %d && ip addr add 172.16.0.1/30 dev "
	   "tap1 && ip link set tap1 up",
		w->guest);
	sh("ip link add name eth0 type veth peer name nic netns %d && ip addr add 192.0.2.1/24 dev "
	   "eth0 && ip link set eth0 up",
		w->internet);
	sh("nsenter -t %d -n sh -c 'ip addr add 172.16.0.2/30 dev nic && ip link set nic up && "
	   "ip route add default via 172.16.0.1'",
		w->guest);
	sh("nsenter -t %d -n sh -c 'ip addr add 192.0.2.9/24 dev nic && ip link set nic up'",
		w->internet);
	sh("echo 1 >/proc/sys/net/ipv4/ip_forward && echo 0 >/proc/sys/net/ipv4/conf/all/rp_filter");
	/* Both links answer before anything is concluded from silence. */
	sh_await("nsenter -t %d -n busybox ping -c 1 -W 1 172.16.0.1 >/dev/null", w->guest);
	sh_await("busybox ping -c 1 -W 1 192.0.2.9 >/dev/null");
}

static void world_finish(struct world *w)
{
	netns_peer_finish(w->guest);
	netns_peer_finish(w->internet);
}

static bool pings(pid_t from, const char *to)
{
	return sh_status("nsenter -t %d -n busybox ping -c 1 -W 1 %s >/dev/null", from, to) == 0;
}

/* One answer is enough. */
static bool reaches(pid_t from, const char *to)
{
	for (int i = 0; i < 10; i++) {
		if (pings(from, to))
			return true;
	}
	return false;
}

static void guests_with_nat_reach_the_internet(void **state)
{
	struct fixture f;
	struct world w;

	setup(&f);
	world_make(&w);
	add_table(&f);
	add_tap(&f, "tap1", net1, false);
	await(&f, 2);
	assert_false(pings(w.guest, "192.0.2.9"));

	add_tap(&f, "tap1", net1, true);
	await(&f, 3);
	assert_true(reaches(w.guest, "192.0.2.9"));
	assert_true(reaches(w.guest, "172.16.0.1"));
	/* A guest that takes another address has no NAT for it. */
	sh("nsenter -t %d -n ip addr add 172.16.9.9/32 dev nic", w.guest);
	sh("ip route add 172.16.9.9/32 dev tap1");
	sh("! nsenter -t %d -n busybox ping -I 172.16.9.9 -c 1 -W 1 192.0.2.9 >/dev/null", w.guest);

	delete_tap(&f, "tap1", net1, true);
	await(&f, 4);
	assert_int_equal(f.failed, 0);
	assert_false(pings(w.guest, "192.0.2.9"));
	world_finish(&w);
	finish(&f);
}

static void forwarding_is_open_both_ways(void **state)
{
	struct fixture f;
	struct world w;

	setup(&f);
	world_make(&w);
	sh("nsenter -t %d -n ip route add 172.16.0.0/16 via 192.0.2.1", w.internet);
	add_table(&f);
	add_tap(&f, "tap1", net1, false);
	await(&f, 2);
	assert_true(reaches(w.guest, "192.0.2.9"));
	assert_true(reaches(w.internet, "172.16.0.2"));
	/* Without NAT the guest is seen under its own address. */
	sh("nsenter -t %d -n ip route del 172.16.0.0/16", w.internet);
	assert_false(pings(w.guest, "192.0.2.9"));
	world_finish(&w);
	finish(&f);
}

static const char *foreign(const char *rules)
{
	static struct buf out;
	const char *json;

	sh("nft flush ruleset && nft -f - <<'EOF'\n%s\nEOF", rules);
	json = sh_output("nft -j -t list ruleset");
	buf_clear(&out);
	return firewall_foreign_text(json, strlen(json), &out) ? buf_str(&out) : "";
}

#define HOOK(chain, hook, policy)                                                                  \
	"chain " chain " { type filter hook " hook " priority filter; policy " policy "; "
#define IPT_DOCKER                                                                                 \
	"`iptables -I DOCKER-USER -i tap+ -j ACCEPT && iptables -I DOCKER-USER -o tap+ -j ACCEPT`"
#define LOST_FORWARD "drops what guests send and get through this host: open it with "
#define LOST_INPUT   "drops what guests send to this host, DHCP among it: open it with "

static void what_blocks_is_named_with_its_opening(void **state)
{
	static const struct {
		const char *rules, *expected;
	} rows[] = {
		/* Docker */
		{ "table ip filter { chain DOCKER-USER { counter return; }; " HOOK("FORWARD",
			  "forward",
			  "drop") "counter jump DOCKER-USER; oifname docker0 accept; }; }",
			"Docker's chain FORWARD (nft table ip filter) " LOST_FORWARD IPT_DOCKER },
		/* firewalld: policy accept, but the last rule rejects; one line for both hooks */
		{ "table inet firewalld { chain IN_public { reject with icmpx admin-prohibited; }; "
		  "chain ZONES { iifname eth0 goto IN_public; goto IN_public; }; " HOOK(
			  "filter_INPUT", "input",
			  "accept") "ct state { established, related } accept; iifname lo "
				    "accept; jump ZONES; reject with icmpx "
				    "admin-prohibited; }; " HOOK("filter_FORWARD", "forward",
					    "accept") "ct state { established, related } accept; jump "
						      "ZONES; reject with icmpx admin-prohibited; }; }",
			"firewalld drops what guests send: open it with `firewall-cmd --permanent "
			"--zone=trusted --add-interface=tap+ && firewall-cmd --reload`" },
		/* ufw */
		{ "table ip filter { chain ufw-user-input { }; chain ufw-before-forward { ct state "
		  "established accept; }; " HOOK(
			  "INPUT", "input", "drop") "jump ufw-user-input; }; " HOOK("FORWARD",
			  "forward", "drop") "jump ufw-before-forward; }; }",
			"ufw " LOST_INPUT "`ufw allow in on tap+`; ufw " LOST_FORWARD
			"`ufw route allow in on tap+ && ufw route allow out on tap+`" },
		/* An iptables script */
		{ "table ip filter { " HOOK(
			  "INPUT", "input", "accept") "iifname lo accept; counter "
						      "drop; }; }",
			"chain INPUT of iptables " LOST_INPUT
			"`iptables -I INPUT -i tap+ -j ACCEPT`" },
		/* nftables.conf */
		{ "table inet filter { " HOOK("guard", "forward", "drop") "}; }",
			"chain guard of nft table inet filter " LOST_FORWARD
			"`nft insert rule inet filter guard iifname '\"tap*\"' accept && nft insert rule "
			"inet filter guard oifname '\"tap*\"' accept`" },
		/* A rule for one TAP, or for others, is none for all of them. */
		{ "table inet filter { " HOOK(
			  "inp", "input", "drop") "iifname tap1 accept; iifname "
						  "\"eth*\" accept; }; }",
			"chain inp of nft table inet filter " LOST_INPUT
			"`nft insert rule inet filter inp iifname '\"tap*\"' accept`" },
		/* In only: answers would not come back. */
		{ "table inet filter { " HOOK(
			  "guard", "forward", "drop") "iifname \"tap*\" accept; }; }",
			"chain guard of nft table inet filter " LOST_FORWARD
			"`nft insert rule inet filter guard iifname '\"tap*\"' accept && nft insert rule "
			"inet filter guard oifname '\"tap*\"' accept`" },
	};

	netns_enter();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(foreign(rows[i].rules), rows[i].expected);
}

static void what_does_not_block_is_passed_over(void **state)
{
	static const char *const rows[] = {
		"",
		"table inet filter { " HOOK(
			"guard", "forward", "accept") "iifname docker0 drop; }; }",
		"table inet filter { " HOOK("guard", "forward", "drop") "accept; }; }",
		"table inet filter { " HOOK(
			"guard", "forward", "drop") "iifname \"tap*\" accept; oifname "
						    "\"tap*\" accept; }; }",
		"table inet filter { " HOOK(
			"guard", "forward", "drop") "ct state established,related "
						    "accept; iifname { \"tap*\", "
						    "eth0 } accept; }; }",
		"table inet filter { " HOOK("inp", "input", "drop") "iifname != eth0 accept; }; }",
		"table inet filter { " HOOK("inp", "input", "drop") "iifname \"t*\" udp dport 67 "
								    "accept; }; }",
		/* through chains, as firewalld's zones and Docker's user chain do */
		"table inet firewalld { chain trusted { accept; }; chain ZONES { iifname \"tap*\" goto "
		"trusted; }; " HOOK("filter_INPUT", "input", "accept") "jump ZONES; reject; }; }",
		"table ip filter { chain DOCKER-USER { iifname \"tap*\" counter accept; oifname \"tap*\" "
		"counter accept; }; " HOOK("FORWARD", "forward", "drop") "jump DOCKER-USER; }; }",
		/* other hooks, families, types; ours */
		"table inet filter { " HOOK("out", "output", "drop") "}; }",
		"table bridge filter { " HOOK("guard", "forward", "drop") "}; }",
		"table ip6 filter { " HOOK("FORWARD", "forward", "drop") "}; }",
		"table inet drover { " HOOK("forward", "forward", "drop") "}; }",
		/* chains that lead in a circle are refused by nft; a diamond is not */
		"table inet f { chain c { iifname \"tap*\" accept; }; chain a { jump c; }; chain b { "
		"jump c; }; " HOOK("inp", "input", "drop") "jump a; jump b; }; }",
	};
	struct buf out = { 0 };

	netns_enter();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		assert_string_equal(foreign(rows[i]), "");
	assert_false(firewall_foreign_text("{ broken", 8, &out));
	assert_false(firewall_foreign_text("[]", 2, &out));
	assert_false(firewall_foreign_text("{\"nftables\":[{\"chain\":{}},7]}", 29, &out));
}

/* Bridges are opened like TAPs, each by its name. */
static void bridges_are_blocked_too(void **state)
{
	static const char *const links[] = { "tap+", "dbr+", "vm-br0", NULL };
	static const struct {
		const char *rules, *expected;
	} rows[] = {
		{ "table ip filter { chain DOCKER-USER { iifname \"tap*\" accept; oifname \"tap*\" "
		  "accept; }; " HOOK("FORWARD", "forward", "drop") "jump DOCKER-USER; }; }",
			"Docker's chain FORWARD (nft table ip filter) " LOST_FORWARD
			"`iptables -I DOCKER-USER -i dbr+ -j ACCEPT && iptables -I DOCKER-USER -o dbr+ -j "
			"ACCEPT && iptables -I DOCKER-USER -i vm-br0 -j ACCEPT && iptables -I DOCKER-USER "
			"-o vm-br0 -j ACCEPT`" },
		{ "table inet filter { " HOOK(
			  "inp", "input", "drop") "iifname { \"d*\", tap1 } accept; "
						  "iifname vm-br0 accept; }; }",
			"chain inp of nft table inet filter " LOST_INPUT
			"`nft insert rule inet filter inp iifname '\"tap*\"' accept`" },
		{ "table inet filter { " HOOK(
			  "inp", "input", "drop") "iifname dbr0123456789ab accept; "
						  "iifname \"tap*\" accept; }; }",
			"chain inp of nft table inet filter " LOST_INPUT
			"`nft insert rule inet filter inp iifname '\"dbr*\"' accept && nft insert rule "
			"inet filter inp iifname '\"vm-br0\"' accept`" },
		{ "table inet firewalld { " HOOK("filter_INPUT", "input", "accept") "reject; }; }",
			"firewalld drops what guests send: open it with `firewall-cmd --permanent "
			"--zone=trusted --add-interface=tap+ && firewall-cmd --permanent --zone=trusted "
			"--add-interface=dbr+ && firewall-cmd --permanent --zone=trusted "
			"--add-interface=vm-br0 && firewall-cmd --reload`" },
		{ "table inet filter { " HOOK(
			  "inp", "input", "drop") "iifname != eth0 accept; }; }",
			"" },
	};
	struct buf out = { 0 };
	const char *json;

	netns_enter();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		sh("nft flush ruleset && nft -f - <<'EOF'\n%s\nEOF", rows[i].rules);
		json = sh_output("nft -j -t list ruleset");
		buf_clear(&out);
		foreign_text(json, strlen(json), links, &out);
		assert_string_equal(buf_str(&out), rows[i].expected);
	}
	buf_clear(&out);
	assert_true(foreign_legacy_text("-P INPUT DROP\n-P FORWARD ACCEPT\n-N ufw-user-input\n"
					"-A ufw-user-input -i tap+ -j ACCEPT\n"
					"-A ufw-user-input -i vm-br0 -j ACCEPT\n",
		links, &out));
	assert_string_equal(buf_str(&out), "ufw " LOST_INPUT "`ufw allow in on dbr+`");
	buf_finish(&out);
}

static void legacy_rules_are_read(void **state)
{
	struct buf b = { 0 };

	assert_false(firewall_foreign_legacy_text(
		"-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-A FORWARD -i x -j DROP\n", &b));
	assert_true(firewall_foreign_legacy_text(
		"-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n",
		&b));
	assert_string_equal(buf_str(&b),
		"Docker's chain FORWARD (legacy iptables) " LOST_FORWARD
		"`iptables-legacy -I DOCKER-USER -i tap+ -j ACCEPT && iptables-legacy -I DOCKER-USER "
		"-o tap+ -j ACCEPT`");
	buf_clear(&b);
	assert_false(firewall_foreign_legacy_text(
		"-P INPUT ACCEPT\n-P FORWARD DROP\n-N DOCKER-USER\n-A FORWARD -j DOCKER-USER\n"
		"-A DOCKER-USER -i tap+ -j ACCEPT\n-A DOCKER-USER -o tap+ -j ACCEPT\n",
		&b));
	assert_true(firewall_foreign_legacy_text(
		"-P INPUT ACCEPT\n-P FORWARD ACCEPT\n-A INPUT -j REJECT --reject-with x\n", &b));
	assert_string_equal(buf_str(&b), "chain INPUT of iptables-legacy " LOST_INPUT
					 "`iptables-legacy -I INPUT -i tap+ -j ACCEPT`");
	buf_finish(&b);
}

struct verdict {
	bool fired;
	int code;
	char warning[1024];
};

static void checked(void *arg, const char *warning, const struct err *err)
{
	struct verdict *v = arg;

	assert_false(v->fired);
	v->fired = true;
	v->code = err != NULL ? err->code : 0;
	snprintf(v->warning, sizeof(v->warning), "%s", warning != NULL ? warning : "");
}

static const char *check(uv_loop_t *loop)
{
	static struct verdict v;
	struct err err;

	v = (struct verdict){ .fired = false };
	assert_int_equal(firewall_check_foreign(loop, checked, &v, &err), 0);
	assert_false(v.fired);
	rig_run_until(loop, &v.fired);
	assert_int_equal(v.code, 0);
	return v.warning;
}

/* Runs what a warning proposes between its backquotes. */
static void follow(const char *warning)
{
	const char *end, *p = warning;

	while ((p = strchr(p, '`')) != NULL) {
		end = strchr(++p, '`');
		assert_non_null(end);
		sh("%.*s", (int)(end - p), p);
		p = end + 1;
	}
}

/* The whole way: traffic is blocked, the check names it, its line opens it, the check is quiet. */
static void the_proposed_lines_open(void **state)
{
	static const char *const setups[] = {
		"nft 'table inet filter { " HOOK("guard", "forward", "drop") "}; }'",
		"iptables -P FORWARD DROP && iptables -N DOCKER-USER && iptables -A FORWARD -j "
		"DOCKER-USER && iptables -A DOCKER-USER -j RETURN",
		"iptables -P FORWARD DROP",
		"iptables -A FORWARD -j DROP",
		"iptables-legacy -P FORWARD DROP",
		"iptables-legacy -P FORWARD DROP && iptables-legacy -N DOCKER-USER && iptables-legacy "
		"-A FORWARD -j DOCKER-USER",
	};
	char *legacy = find_program("iptables-legacy");
	struct fixture f;
	struct world w;

	for (size_t i = 0; i < ARRAY_LEN(setups); i++) {
		if (strncmp(setups[i], "iptables", 8) == 0 && legacy == NULL)
			continue;
		setup(&f);
		world_make(&w);
		add_table(&f);
		add_tap(&f, "tap1", net1, true);
		await(&f, 2);
		assert_string_equal(check(f.loop), "");
		assert_true(reaches(w.guest, "192.0.2.9"));
		sh("%s", setups[i]);
		assert_false(pings(w.guest, "192.0.2.9"));
		assert_non_null(strstr(check(f.loop), "open it with"));
		follow(check(f.loop));
		assert_string_equal(check(f.loop), "");
		assert_true(reaches(w.guest, "192.0.2.9"));
		world_finish(&w);
		finish(&f);
	}
	free(legacy);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_table_is_exact),
		cmocka_unit_test(elements_are_exact),
		cmocka_unit_test(nft_accepts_the_text),
		cmocka_unit_test(requests_of_one_turn_are_one_transaction),
		cmocka_unit_test(what_comes_while_nft_runs_goes_into_the_next_one),
		cmocka_unit_test(an_error_reaches_its_own_caller_only),
		cmocka_unit_test(a_missing_table_is_told),
		cmocka_unit_test(the_end_cancels_what_waits),
		cmocka_unit_test(guests_with_nat_reach_the_internet),
		cmocka_unit_test(forwarding_is_open_both_ways),
		cmocka_unit_test(what_blocks_is_named_with_its_opening),
		cmocka_unit_test(what_does_not_block_is_passed_over),
		cmocka_unit_test(bridges_are_blocked_too),
		cmocka_unit_test(legacy_rules_are_read),
		cmocka_unit_test(the_proposed_lines_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
