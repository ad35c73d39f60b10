#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "netcfg/link.h"
#include "tests/unit/netns.h"

static struct ip4_prefix net(const char *s)
{
	struct ip4_prefix p;

	assert_int_equal(ip4_prefix_parse(s, true, &p, NULL), 0);
	return p;
}

static struct netlink *open_netlink(void)
{
	struct netlink *nl = NULL;
	struct err err;

	netns_enter();
	assert_int_equal(netlink_create(&nl, &err), 0);
	return nl;
}

static void a_tap_stays_when_its_descriptor_is_closed(void **state)
{
	struct netlink *nl = open_netlink();
	struct ifreq req = { 0 };
	struct err err;
	int fd = -1, index = 0;

	assert_false(link_exists("tap0123456789ab"));
	assert_int_equal(tap_open("tap0123456789ab", 65534, &fd, &err), 0);
	assert_true(link_exists("tap0123456789ab"));
	assert_int_equal(ioctl(fd, TUNGETIFF, &req), 0);
	assert_int_equal(req.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR),
		IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	assert_true(link_exists("tap0123456789ab"));
	sh("ip -d link show tap0123456789ab | grep -q 'tun type tap .*vnet_hdr on persist on user'");
	assert_int_equal(link_index(nl, "tap0123456789ab", &index, &err), 0);
	assert_int_equal(index, if_nametoindex("tap0123456789ab"));

	/* It is the same one that is opened again. */
	assert_int_equal(tap_open("tap0123456789ab", 0, &fd, &err), 0);
	assert_int_equal(index, if_nametoindex("tap0123456789ab"));
	close(fd);

	assert_int_equal(tap_delete(nl, "tap0123456789ab", &err), 0);
	assert_false(link_exists("tap0123456789ab"));
	assert_int_equal(tap_delete(nl, "tap0123456789ab", &err), 0);
	assert_int_equal(link_index(nl, "tap0123456789ab", &index, &err), -ENODEV);
	netlink_destroy(nl);
}

static void a_deleted_tap_is_attached_again(void **state)
{
	struct netlink *nl = open_netlink();
	struct ifreq req = { 0 };
	struct err err;
	int fd = -1, hdr = 0, other;

	assert_int_equal(tap_open("tap0123456789ab", 65534, &fd, &err), 0);
	/* A queue of a TAP that is somewhere is left alone. */
	assert_int_equal(tap_attach(fd, "tap0123456789ab", 65534, 12, &err), -EEXIST);
	assert_non_null(strstr(err.msg, "moved or renamed"));
	assert_int_equal(tap_delete(nl, "tap0123456789ab", &err), 0);
	assert_int_equal(ioctl(fd, TUNGETIFF, &req), -1);
	assert_int_equal(errno, EBADFD);

	assert_int_equal(tap_attach(fd, "tap0123456789ab", 65534, 12, &err), 0);
	sh("ip -d link show tap0123456789ab | grep -q 'tun type tap .*vnet_hdr on persist on user'");
	assert_int_equal(ioctl(fd, TUNGETVNETHDRSZ, &hdr), 0);
	assert_int_equal(hdr, 12);

	/* One that was made meanwhile is taken, unless somebody uses it. */
	assert_int_equal(tap_delete(nl, "tap0123456789ab", &err), 0);
	assert_int_equal(tap_open("tap0123456789ab", 65534, &other, &err), 0);
	assert_int_equal(tap_attach(fd, "tap0123456789ab", 65534, 10, &err), -EBUSY);
	close(other);
	assert_int_equal(tap_attach(fd, "tap0123456789ab", 65534, 10, &err), 0);
	close(fd);
	assert_int_equal(tap_delete(nl, "tap0123456789ab", &err), 0);

	fd = open("/dev/null", O_RDWR);
	assert_int_equal(tap_attach(fd, "tap0123456789ab", 0, 12, &err), -ENOTTY);
	assert_int_equal(tap_attach(fd, "a/b", 0, 12, &err), -EINVAL);
	close(fd);
	netlink_destroy(nl);
}

static void a_taken_name_is_busy(void **state)
{
	struct netlink *nl = open_netlink();
	struct err err;
	int fd = -1, second = -7;

	assert_int_equal(tap_open("tap0", 0, &fd, &err), 0);
	assert_int_equal(tap_open("tap0", 0, &second, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "TAP tap0 is in use by another process"));
	close(fd);

	sh("ip link add name veth0 type veth peer name veth1");
	assert_int_equal(tap_open("veth0", 0, &second, &err), -EBUSY);
	assert_non_null(strstr(err.msg, "the name veth0 is taken"));
	sh("ip tuntap add dev tun0 mode tun");
	assert_int_equal(tap_open("tun0", 0, &second, &err), -EBUSY);
	assert_int_equal(second, -7);

	/* What is no TAP is not deleted either. */
	assert_int_equal(tap_delete(nl, "veth0", &err), -EBUSY);
	assert_int_equal(tap_delete(nl, "tun0", &err), -EBUSY);
	assert_true(link_exists("veth0") && link_exists("tun0"));
	netlink_destroy(nl);
}

static void bad_names_are_refused(void **state)
{
	static const char *const names[] = { "", "0123456789abcdef", "a/b", "a b", "tap%d", "..",
		"a:b" };
	struct err err;
	int fd = -7;

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(tap_open(names[i], 0, &fd, &err), -EINVAL);
	assert_int_equal(fd, -7);
}

/* Runs fn in a child, which may give up privileges and mounts; fn's result is the exit status. */
static void in_child(bool (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fn() ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static bool says(const struct err *err, int code, const char *words)
{
	if (err->code == code && strstr(err->msg, words) != NULL)
		return true;
	fprintf(stderr, "got %d: %s\n", err->code, err->msg);
	return false;
}

static bool without_device(void)
{
	struct err err = { 0 };
	int fd;

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/dev/net", "tmpfs", 0, NULL) < 0)
		return false;
	tap_open("tap0", 0, &fd, &err);
	return says(&err, -ENODEV, "no /dev/net/tun: load the driver with `modprobe tun`");
}

static bool without_capability(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	struct netlink *nl = NULL;
	struct err err = { 0 };
	int fd;

	if (syscall(SYS_capset, &header, data) < 0 || netlink_create(&nl, &err) < 0)
		return false;
	tap_open("tap0", 0, &fd, &err);
	if (!says(&err, -EPERM, "CAP_NET_ADMIN is needed"))
		return false;
	link_up(nl, "lo", &err);
	if (!says(&err, -EPERM, "link lo: bring it up: not permitted, CAP_NET_ADMIN is needed"))
		return false;
	link_add_address(nl, "lo", (struct ip4_prefix){ 0x0a000001, 24 }, &err);
	return says(&err, -EPERM, "link lo: add address 10.0.0.1/24: not permitted");
}

static void what_is_missing_is_named(void **state)
{
	netns_enter();
	in_child(without_device);
	in_child(without_capability);
}

static void a_link_gets_addresses_and_comes_up(void **state)
{
	struct netlink *nl = open_netlink();
	struct err err;

	sh("ip link add name d0 type bridge");
	assert_int_equal(link_set_mac(nl, "d0", "52:01:02:03:04:0a", &err), 0);
	assert_int_equal(link_add_address(nl, "d0", net("172.16.0.1/30"), &err), 0);
	assert_int_equal(link_up(nl, "d0", &err), 0);
	assert_int_equal(link_up(nl, "d0", &err), 0);
	sh("ip link show up dev d0 | grep -q 'link/ether 52:01:02:03:04:0a'");
	sh("ip addr show dev d0 | grep -q 'inet 172.16.0.1/30 '");
	sh("ip route show | grep -q '172.16.0.0/30 dev d0'");

	/* The same again is no error, and nothing is doubled. */
	assert_int_equal(link_add_address(nl, "d0", net("172.16.0.1/30"), &err), 0);
	assert_int_equal(link_add_address(nl, "d0", net("172.16.0.1/24"), &err), 0);
	sh("[ $(ip -4 -o addr show dev d0 | wc -l) = 2 ]");

	assert_int_equal(link_set_mac(nl, "d0", "52:01:02:03:04", &err), -EINVAL);
	assert_int_equal(link_set_mac(nl, "d0", "52:01:02:03:04:+5", &err), -EINVAL);
	assert_int_equal(link_up(nl, "d1", &err), -ENODEV);
	assert_string_equal(err.msg, "link d1: bring it up: No such device");
	assert_int_equal(link_add_address(nl, "d1", net("10.0.0.1/24"), &err), -ENODEV);
	netlink_destroy(nl);
}

static bool starts_with_tap(void *arg, const char *ifname)
{
	(*(unsigned *)arg)++;
	return strncmp(ifname, "tap", 3) == 0;
}

static bool has(const struct ip4_prefix *v, size_t n, const char *s)
{
	struct ip4_prefix p = net(s);

	for (size_t i = 0; i < n; i++) {
		if (v[i].addr == p.addr && v[i].len == p.len)
			return true;
	}
	return false;
}

static void make_host(void)
{
	sh("ip link add name eth0 type bridge && ip addr add 10.0.0.5/24 dev eth0 &&"
	   "ip link set eth0 up && ip route add default via 10.0.0.1 &&"
	   "ip route add 0.0.0.0/1 via 10.0.0.1 && ip route add 128.0.0.0/1 via 10.0.0.1 &&"
	   "ip route add 172.20.0.0/16 via 10.0.0.9 && ip route add blackhole 172.21.0.0/16 &&"
	   "ip route add 172.22.0.0/16 via 10.0.0.8 table 77 &&"
	   "ip route add 172.23.0.0/16 nexthop via 10.0.0.8 nexthop via 10.0.0.9 &&"
	   "ip addr add 192.0.2.1 peer 198.51.100.1/32 dev eth0 && ip addr add 203.0.113.7/32 dev lo &&"
	   "ip link add name tap1 type bridge && ip addr add 172.16.0.1/30 dev tap1 &&"
	   "ip link set tap1 up && ip link add name down0 type bridge &&"
	   "ip addr add 172.30.0.1/16 dev down0");
}

static void the_host_s_networks_are_listed(void **state)
{
	struct netlink *nl = open_netlink();
	struct ip4_prefix *v = NULL;
	unsigned asked = 0;
	struct err err;
	size_t n = 0;

	make_host();
	assert_int_equal(host_prefixes(nl, starts_with_tap, &asked, &v, &n, &err), 0);
	assert_true(asked > 0);
	assert_true(has(v, n, "10.0.0.0/24") && has(v, n, "172.20.0.0/16") &&
		    has(v, n, "172.21.0.0/16") && has(v, n, "172.22.0.0/16") &&
		    has(v, n, "172.23.0.0/16") && has(v, n, "192.0.2.1/32") &&
		    has(v, n, "198.51.100.1/32") && has(v, n, "203.0.113.7/32") &&
		    has(v, n, "172.30.0.0/16"));
	for (size_t i = 0; i < n; i++) {
		assert_true(v[i].len >= 8);
		assert_false(ip4_overlap(v[i], net("127.0.0.0/8")));
		assert_false(ip4_overlap(v[i], net("172.16.0.0/16")));
	}
	free(v);
	assert_int_equal(host_prefixes(nl, NULL, NULL, &v, &n, &err), 0);
	assert_true(has(v, n, "172.16.0.0/30"));
	free(v);
	netlink_destroy(nl);
}

static void an_overlap_is_named(void **state)
{
	static const struct {
		const char *net, *who;
	} rows[] = {
		{ "10.0.0.128/25", "eth0 has 10.0.0.5/24" },
		{ "172.20.5.0/30", "a route 172.20.0.0/16 via 10.0.0.9 on eth0" },
		{ "172.21.0.0/16", "a route that blocks 172.21.0.0/16" },
		{ "172.23.1.0/24", "a route 172.23.0.0/16 on eth0" },
		{ "203.0.113.0/24", "lo has 203.0.113.7/32" },
		{ "192.0.2.0/24", "eth0 has 192.0.2.1/32" },
		{ "172.30.1.0/24", "down0 has 172.30.0.1/16" },
		{ "172.16.0.0/16", "tap1 has 172.16.0.1/30" },
	};
	struct netlink *nl = open_netlink();
	unsigned asked = 0;
	char who[80];

	make_host();
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_true(host_overlap(nl, net(rows[i].net), NULL, NULL, who, sizeof(who)));
		assert_string_equal(who, rows[i].who);
	}
	assert_false(
		host_overlap(nl, net("172.16.0.0/16"), starts_with_tap, &asked, who, sizeof(who)));
	assert_false(host_overlap(nl, net("192.168.0.0/16"), NULL, NULL, who, sizeof(who)));
	/* A buffer that is too small cuts the text, no more. */
	assert_true(host_overlap(nl, net("172.20.5.0/30"), NULL, NULL, who, 24));
	assert_string_equal(who, "a route 172.20.0.0/16 v");
	netlink_destroy(nl);
}

/* An answer of many messages, and nothing left in the socket for the next question. */
static void a_large_host_is_read_whole(void **state)
{
	struct netlink *nl = open_netlink();
	struct ip4_prefix *v = NULL;
	struct err err;
	size_t n = 0;

	sh("ip link add name eth0 type bridge && ip link set eth0 up &&"
	   "for a in 0 1 2 3 4 5 6 7 8 9; do for b in $(seq 200); do"
	   " echo route add 10.$a.$b.0/24 dev eth0; done; done | ip -b -");
	for (int i = 0; i < 3; i++) {
		assert_int_equal(host_prefixes(nl, NULL, NULL, &v, &n, &err), 0);
		assert_int_equal(n, 2000);
		assert_true(has(v, n, "10.9.200.0/24"));
		free(v);
		assert_int_equal(link_up(nl, "eth0", &err), 0);
	}
	netlink_destroy(nl);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tap_stays_when_its_descriptor_is_closed),
		cmocka_unit_test(a_deleted_tap_is_attached_again),
		cmocka_unit_test(a_taken_name_is_busy),
		cmocka_unit_test(bad_names_are_refused),
		cmocka_unit_test(what_is_missing_is_named),
		cmocka_unit_test(a_link_gets_addresses_and_comes_up),
		cmocka_unit_test(the_host_s_networks_are_listed),
		cmocka_unit_test(an_overlap_is_named),
		cmocka_unit_test(a_large_host_is_read_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
