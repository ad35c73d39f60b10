#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "netcfg/dnsmasq.h"
#include "netcfg/link.h"
#include "tests/unit/netns.h"

#define MAC "52:00:00:00:00:01"

static const char *const one_dns[] = { "1.1.1.1", NULL };

static struct dnsmasq_p2p_spec spec_of(const char *tap, uint32_t net)
{
	return (struct dnsmasq_p2p_spec){
		.binary = "/usr/sbin/dnsmasq",
		.tap = tap,
		.mac = MAC,
		.host_name = "web-1",
		.net = { net, 30 },
		.dns = one_dns,
	};
}

static void the_command_line_is_exact(void **state)
{
	static const char *const expected[] = {
		"/usr/sbin/dnsmasq",
		"--conf-file=/dev/null",
		"--keep-in-foreground",
		"--log-facility=-",
		"--pid-file=/run/x.pid",
		"--port=0",
		"--no-resolv",
		"--no-hosts",
		"--leasefile-ro",
		"--interface=tap0123456789ab",
		"--bind-dynamic",
		"--no-ping",
		"--dhcp-authoritative",
		"--dhcp-ignore-clid",
		"--dhcp-range=172.16.170.154,static,255.255.255.252,infinite",
		"--dhcp-host=52:00:00:00:00:01,172.16.170.154,infinite",
		"--dhcp-option=option:router,172.16.170.153",
		"--dhcp-option=option:dns-server,1.1.1.1,9.9.9.9",
		"--dhcp-option=12,web-1",
	};
	static const char *const dns[] = { "1.1.1.1", "9.9.9.9", NULL };
	struct dnsmasq_p2p_spec spec = spec_of("tap0123456789ab", 0xac10aa98);
	struct strv args = { 0 };
	struct err err;

	spec.dns = dns;
	spec.pid_file = "/run/x.pid";
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), 0);
	assert_int_equal(args.n, ARRAY_LEN(expected));
	for (size_t i = 0; i < args.n; i++)
		assert_string_equal(args.v[i], expected[i]);
	assert_null(args.v[args.n]);
	strv_finish(&args);
}

static void names_are_served_where_wanted(void **state)
{
	static const char *const six[] = { "fd00::1", NULL };
	struct dnsmasq_dns dns = { .servers = six, .names_dir = "/run/n", .domain = "taps.test" };
	struct dnsmasq_p2p_spec spec = spec_of("tap0123456789ab", 0xac10aa98);
	struct strv args = { 0 };
	struct err err;

	/* It is what the guest asks; its servers are not. */
	spec.dns = six;
	spec.own_dns = &dns;
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), 0);
	assert_true(strv_has(&args, "--dhcp-option=option:dns-server,172.16.170.153"));
	assert_true(strv_has(&args, "--except-interface=lo"));
	assert_true(strv_has(&args, "--server=fd00::1"));
	assert_true(strv_has(&args, "--hostsdir=/run/n"));
	assert_true(strv_has(&args, "--local=/taps.test/"));
	assert_false(strv_has(&args, "--port=0"));
	strv_finish(&args);
}

static void what_is_not_wanted_is_left_out(void **state)
{
	static const char *const names[] = { "ubuntu-6.5", "-a", "a-", "a_b", "",
		"a123456789012345678901234567890123456789012345678901234567890123" };
	static const char *const none[] = { NULL };
	struct dnsmasq_p2p_spec spec = spec_of("tap0", 0xac100000);
	struct strv args = { 0 };

	spec.dns = none;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		spec.host_name = names[i];
		assert_int_equal(dnsmasq_p2p_args(&spec, &args, NULL), 0);
		/* An empty option keeps dnsmasq from offering itself. */
		assert_string_equal(args.v[args.n - 1], "--dhcp-option=option:dns-server");
		assert_true(strv_has(&args, "--pid-file="));
		strv_finish(&args);
		args = (struct strv){ 0 };
	}
}

static void what_would_read_as_something_else_is_refused(void **state)
{
	static const char *const bad_dns[] = { "1.1.1.1,3", NULL };
	struct dnsmasq_p2p_spec spec = spec_of("tap0", 0xac100000);
	struct strv args = { 0 };
	struct err err;

	spec.tap = "tap*";
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), -EINVAL);
	spec.tap = "tap0,lo";
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), -EINVAL);
	spec = spec_of("tap0", 0xac100000);
	spec.mac = "52:00:00:00:00:*";
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), -EINVAL);
	spec.mac = "52:00:00:00:00:1,";
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), -EINVAL);
	spec = spec_of("tap0", 0xac100001);
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), -EINVAL);
	spec = spec_of("tap0", 0xac100000);
	spec.dns = bad_dns;
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, &err), -EINVAL);
	assert_int_equal(args.n, 0);
}

/* dnsmasq with our arguments, its log in a file. */
struct server {
	pid_t pid;
	char log[64];
};

static void server_start(struct server *s, const char *tap, uint32_t net)
{
	struct dnsmasq_p2p_spec spec = spec_of(tap, net);
	char *binary = find_program("dnsmasq");
	struct strv args = { 0 };
	int fd;

	assert_non_null(binary);
	spec.binary = binary;
	assert_int_equal(dnsmasq_p2p_args(&spec, &args, NULL), 0);
	snprintf(s->log, sizeof(s->log), "/tmp/drover-dnsmasq-XXXXXX");
	fd = mkstemp(s->log);
	assert_true(fd >= 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		dup2(fd, 1);
		dup2(fd, 2);
		execv(args.v[0], args.v);
		_exit(127);
	}
	close(fd);
	free(binary);
	strv_finish(&args);
}

static void server_ready(struct server *s)
{
	sh_await("grep -q 'DHCP, sockets bound exclusively' %s", s->log);
}

/* Its exit status, or 0 if it had to be stopped. */
static int server_finish(struct server *s)
{
	int status;

	kill(s->pid, SIGTERM);
	waitpid(s->pid, &status, 0);
	unlink(s->log);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

/* A veth stands for the TAP; its other end is the guest's nic. */
static void make_guest(pid_t guest, const char *tap, uint32_t net, const char *mac)
{
	struct netlink *nl = NULL;
	struct err err;

	assert_int_equal(netlink_create(&nl, &err), 0);
	sh("ip link add name %s type veth peer name nic netns %d", tap, guest);
	sh("nsenter -t %d -n ip link set dev nic address %s up", guest, mac);
	assert_int_equal(link_add_address(nl, tap, (struct ip4_prefix){ net + 1, 30 }, &err), 0);
	assert_int_equal(link_up(nl, tap, &err), 0);
	netlink_destroy(nl);
}

/* What udhcpc's script is told, as lines "ip=...". */
static const char *ask(pid_t guest, const char *options)
{
	return sh_output("d=$(mktemp -d) && printf '#!/bin/sh\\nset\\necho event=$1\\n' >$d/s && "
			 "chmod +x $d/s && nsenter -t %d -n busybox udhcpc -f -q -n -i nic -s $d/s "
			 "-T 1 -A 1 -O hostname %s 2>/dev/null; rm -r $d",
		guest, options);
}

static void assert_offered(const char *said, const char *ip, const char *router)
{
	char line[64];

	snprintf(line, sizeof(line), "\nip='%s'\n", ip);
	assert_non_null(strstr(said, line));
	snprintf(line, sizeof(line), "\nrouter='%s'\n", router);
	assert_non_null(strstr(said, line));
	assert_non_null(strstr(said, "\nsubnet='255.255.255.252'\n"));
	assert_non_null(strstr(said, "\ndns='1.1.1.1'\n"));
	assert_non_null(strstr(said, "\nhostname='web-1'\n"));
	assert_non_null(strstr(said, "\nevent=bound\n"));
}

static void a_guest_gets_its_address(void **state)
{
	struct server s;
	const char *said;
	pid_t guest;

	netns_enter();
	guest = netns_peer();
	make_guest(guest, "tap0", 0xac100000, MAC);
	server_start(&s, "tap0", 0xac100000);
	server_ready(&s);

	assert_offered(ask(guest, "-t 30"), "172.16.0.2", "172.16.0.1");
	/* A clone of the image, or the boot loader before it: another client id, the same MAC. */
	assert_offered(ask(guest, "-t 30 -x 0x3d:0100BEEFC0FFEE"), "172.16.0.2", "172.16.0.1");
	/* Asking for another address does not help. */
	assert_offered(ask(guest, "-t 30 -r 172.16.0.1"), "172.16.0.2", "172.16.0.1");

	sh("nsenter -t %d -n ip link set dev nic address 52:00:00:00:00:02", guest);
	said = ask(guest, "-t 2");
	assert_null(strstr(said, "event=bound"));
	assert_non_null(strstr(said, "event=leasefail"));
	assert_int_equal(server_finish(&s), 0);
	netns_peer_finish(guest);
}

static void many_share_the_port(void **state)
{
	enum {
		N = 4
	};
	struct server s[N];
	pid_t ours[N], guest[N];
	char tap[16], ip[16], router[16], who[80];

	netns_enter();
	for (unsigned i = 0; i < N; i++) {
		snprintf(tap, sizeof(tap), "tap%u", i);
		guest[i] = netns_peer();
		make_guest(guest[i], tap, 0xac100000 + i * 256, MAC);
		assert_false(dhcp_port_taken(ours, i, who, sizeof(who)));
		server_start(&s[i], tap, 0xac100000 + i * 256);
		server_ready(&s[i]);
		ours[i] = s[i].pid;
	}
	for (unsigned i = 0; i < N; i++) {
		snprintf(ip, sizeof(ip), "172.16.%u.2", i);
		snprintf(router, sizeof(router), "172.16.%u.1", i);
		assert_offered(ask(guest[i], "-t 30"), ip, router);
	}
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(server_finish(&s[i]), 0);
		netns_peer_finish(guest[i]);
	}
}

struct holder {
	const char *what;
	bool v6, reuse_addr, reuse_port;
	const char *address, *device;
};

static int hold(const struct holder *h)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(67) };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(67) };
	int fd = socket(h->v6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), on = 1;

	assert_true(fd >= 0);
	if (h->reuse_addr)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
	if (h->reuse_port)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
	if (h->device != NULL)
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, h->device,
					 (socklen_t)strlen(h->device) + 1),
			0);
	if (h->address != NULL)
		assert_int_equal(inet_pton(AF_INET, h->address, &in.sin_addr), 1);
	assert_int_equal(bind(fd, h->v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in,
				 h->v6 ? sizeof(in6) : sizeof(in)),
		0);
	return fd;
}

/* Whoever holds the port and however: we say "taken" exactly when dnsmasq cannot start. */
static void the_preflight_agrees_with_dnsmasq(void **state)
{
	static const struct holder holders[] = {
		{ .what = "a socket for all addresses" },
		{ .what = "one for an address of another link", .address = "10.0.0.1" },
		{ .what = "one bound to another link", .device = "br0" },
		{ .what = "one that shares", .reuse_addr = true },
		{ .what = "one that shares on its link", .reuse_addr = true, .device = "br0" },
		{ .what = "one that shares by reuseport", .reuse_port = true },
		{ .what = "one for IPv6 and IPv4", .v6 = true },
	};
	char who[80], expected[80], comm[32];
	struct server s;
	bool taken;
	int fd;

	netns_enter();
	sh("ip link add name br0 type bridge && ip addr add 10.0.0.1/24 dev br0 &&"
	   "ip link set br0 up && ip link add name tap0 type bridge &&"
	   "ip addr add 172.16.0.1/30 dev tap0 && ip link set tap0 up");
	assert_int_equal(file_read_line("/proc/self/comm", comm, sizeof(comm), NULL), 0);
	snprintf(expected, sizeof(expected), "%s (pid %d)", comm, getpid());
	for (size_t i = 0; i < ARRAY_LEN(holders); i++) {
		fd = hold(&holders[i]);
		taken = dhcp_port_taken(NULL, 0, who, sizeof(who));
		if (taken)
			assert_string_equal(who, expected);
		server_start(&s, "tap0", 0xac100000);
		sh_await("grep -qE 'sockets bound exclusively|failed to bind DHCP server socket: "
			 "Address already in use' %s",
			s.log);
		if (sh_status("grep -q 'failed to bind' %s", s.log) == 0) {
			assert_true(taken);
			assert_int_equal(server_finish(&s), 2);
		} else {
			if (taken)
				fail_msg("dnsmasq starts beside %s", holders[i].what);
			assert_int_equal(server_finish(&s), 0);
		}
		close(fd);
	}
	/* The first row is the one that most hosts have (isc-dhcp-server). */
	fd = hold(&holders[0]);
	assert_true(dhcp_port_taken(NULL, 0, who, sizeof(who)));
	close(fd);
	assert_false(dhcp_port_taken(NULL, 0, who, sizeof(who)));
}

static void ours_are_not_named(void **state)
{
	pid_t self = getpid();
	char who[80];
	int fd;

	netns_enter();
	fd = hold(&(struct holder){ .reuse_addr = false });
	assert_true(dhcp_port_taken(&self, 1, who, sizeof(who)));
	assert_string_equal(who, "another process");
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_command_line_is_exact),
		cmocka_unit_test(names_are_served_where_wanted),
		cmocka_unit_test(what_is_not_wanted_is_left_out),
		cmocka_unit_test(what_would_read_as_something_else_is_refused),
		cmocka_unit_test(a_guest_gets_its_address),
		cmocka_unit_test(many_share_the_port),
		cmocka_unit_test(the_preflight_agrees_with_dnsmasq),
		cmocka_unit_test(ours_are_not_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
