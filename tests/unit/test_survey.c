/* Requests to the kernel over one netlink socket, and the survey of TAPs and addresses made so. */
#include "tests/unit/netns.h"

#include <errno.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/str.h"
#include "netcfg/netlink.h"
#include "netcfg/survey.h"

static struct netlink *enter(void)
{
	struct netlink *nl = NULL;

	netns_enter();
	assert_int_equal(netlink_create(&nl, NULL), 0);
	return nl;
}

static struct survey take(struct netlink *nl)
{
	struct survey s = { 0 };
	struct err err;

	if (survey_take(nl, &s, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static void an_empty_host_has_nothing(void **state)
{
	struct netlink *nl = enter();
	struct survey s = take(nl);

	assert_int_equal(s.ntaps, 0);
	assert_null(survey_tap(&s, "tap1"));
	/* lo's. */
	assert_int_equal(s.naddresses, 1);
	assert_true(survey_has_address(&s, 1, (struct ip4_prefix){ 0x7f000001, 8 }));
	survey_finish(&s);
	survey_finish(&s);
	assert_null(survey_tap(&s, ""));
	assert_false(survey_has_address(&s, 1, (struct ip4_prefix){ 0x7f000001, 8 }));
	netlink_destroy(nl);
	netlink_destroy(NULL);
}

static void only_taps_are_taps(void **state)
{
	struct netlink *nl = enter();
	struct survey s;

	sh("ip tuntap add dev tap2 mode tap && ip tuntap add dev tun1 mode tun");
	sh("ip tuntap add dev abcdefghijklmno mode tap && ip link set abcdefghijklmno up");
	sh("ip link add br0 type bridge && ip link add v0 type veth peer name v1");
	s = take(nl);
	assert_int_equal(s.ntaps, 2);
	/* By name. */
	assert_string_equal(s.taps[0].name, "abcdefghijklmno");
	assert_true(s.taps[0].up);
	assert_null(s.taps[0].alias);
	assert_false(survey_tap(&s, "tap2")->up);
	assert_int_equal(survey_tap(&s, "tap2")->index, if_nametoindex("tap2"));
	assert_null(survey_tap(&s, "tun1"));
	assert_null(survey_tap(&s, "tap"));
	assert_null(survey_tap(&s, "abcdefghijklmnop"));
	survey_finish(&s);
	netlink_destroy(nl);
}

static void aliases_are_read_whole(void **state)
{
	struct netlink *nl = enter();
	char alias[LINK_ALIAS_MAX + 1];
	struct survey s;
	struct err err;

	memset(alias, 'a', LINK_ALIAS_MAX);
	alias[LINK_ALIAS_MAX] = '\0';
	sh("ip tuntap add dev tap1 mode tap && ip tuntap add dev tap2 mode tap");
	assert_int_equal(link_set_alias(nl, "tap1", alias, &err), 0);
	assert_int_equal(link_set_alias(nl, "tap2", "drover x/y", &err), 0);
	s = take(nl);
	assert_string_equal(survey_tap(&s, "tap1")->alias, alias);
	assert_string_equal(survey_tap(&s, "tap2")->alias, "drover x/y");
	survey_finish(&s);
	netlink_destroy(nl);
}

static void addresses_belong_to_their_links(void **state)
{
	struct netlink *nl = enter();
	struct survey s;
	int one, two;

	sh("ip tuntap add dev tap1 mode tap && ip tuntap add dev tap2 mode tap");
	sh("ip addr add 172.16.0.1/30 dev tap2 && ip addr add 172.16.0.5/30 dev tap1");
	sh("ip addr add 172.16.1.1/24 dev tap1");
	/* With a peer the kernel gives that as the address, and ours as the local one. */
	sh("ip addr add 10.0.0.1 peer 10.0.0.2/32 dev tap1");
	sh("ip -6 addr add fd00::1/64 dev tap1");
	one = (int)if_nametoindex("tap1");
	two = (int)if_nametoindex("tap2");
	s = take(nl);
	assert_int_equal(s.naddresses, 5);
	assert_true(survey_has_address(&s, two, (struct ip4_prefix){ 0xac100001, 30 }));
	assert_false(survey_has_address(&s, one, (struct ip4_prefix){ 0xac100001, 30 }));
	assert_true(survey_has_address(&s, one, (struct ip4_prefix){ 0xac100005, 30 }));
	assert_true(survey_has_address(&s, one, (struct ip4_prefix){ 0xac100101, 24 }));
	assert_true(survey_has_address(&s, one, (struct ip4_prefix){ 0x0a000001, 32 }));
	assert_false(survey_has_address(&s, one, (struct ip4_prefix){ 0x0a000002, 32 }));
	/* Another length is another address. */
	assert_false(survey_has_address(&s, one, (struct ip4_prefix){ 0xac100005, 24 }));
	assert_false(survey_has_address(&s, two + 1, (struct ip4_prefix){ 0xac100001, 30 }));
	survey_finish(&s);
	netlink_destroy(nl);
}

/* More than one message of the kernel, and than the first room for them. */
static void many_are_read(void **state)
{
	struct netlink *nl = enter();
	struct survey s;
	char name[16];

	sh("for i in $(seq 1000 1299); do echo tuntap add dev tap$i mode tap; done | ip -b -");
	sh("for i in $(seq 1000 1299); do "
	   "echo addr add 10.0.$((i / 256)).$((i %% 256))/32 dev tap$i; done | ip -b -");
	s = take(nl);
	assert_int_equal(s.ntaps, 300);
	assert_int_equal(s.naddresses, 301);
	for (int i = 1000; i < 1300; i++) {
		const struct survey_tap *tap;

		snprintf(name, sizeof(name), "tap%d", i);
		tap = survey_tap(&s, name);
		assert_non_null(tap);
		assert_true(survey_has_address(
			&s, tap->index, (struct ip4_prefix){ 0x0a000000 + (uint32_t)i, 32 }));
	}
	survey_finish(&s);
	netlink_destroy(nl);
}

/* Requests */

static void links_are_told_apart(void **state)
{
	struct netlink *nl = enter();
	struct link_info link = { .index = -1 };

	sh("ip tuntap add dev tap1 mode tap && ip tuntap add dev tun1 mode tun");
	sh("ip link add br0 type bridge && ip link set br0 up");
	assert_int_equal(link_get(nl, "none", &link), -ENODEV);
	assert_int_equal(link.index, -1);
	assert_int_equal(link_get(nl, "lo", &link), 0);
	assert_int_equal(link.index, 1);
	assert_int_equal(link.type, ARPHRD_LOOPBACK);
	assert_string_equal(link.kind, "");
	assert_false(link_is_tap(&link));
	assert_int_equal(link_get(nl, "br0", &link), 0);
	assert_string_equal(link.kind, "bridge");
	assert_true(link.flags & IFF_UP);
	assert_false(link_is_tap(&link));
	assert_int_equal(link_get(nl, "tap1", &link), 0);
	assert_true(link_is_tap(&link));
	assert_false(link.flags & IFF_UP);
	assert_int_equal(link_get(nl, "tun1", &link), 0);
	assert_string_equal(link.kind, "tun");
	assert_false(link_is_tap(&link));
	netlink_destroy(nl);
}

static void count_message(void *arg, struct nlmsghdr *hdr)
{
	++*(unsigned *)arg;
}

/* What one request has left in the socket would be taken for the next one's answer. */
static void errors_leave_nothing_behind(void **state)
{
	struct netlink *nl = enter();
	struct link_info link;
	unsigned n = 0;

	for (int i = 0; i < 20; i++) {
		struct nl_msg *dump = link_msg(RTM_GETLINK, NLM_F_DUMP, 0, NULL, 0);

		assert_int_equal(link_get(nl, "none", &link), -ENODEV);
		assert_int_equal(netlink_talk(nl, NULL, NULL, NULL), -ENOMEM);
		/* No such kind of request. */
		assert_int_equal(netlink_talk(nl, link_msg(RTM_MAX + 5, 0, 0, NULL, 0), NULL, NULL),
			-EOPNOTSUPP);
		assert_int_equal(
			netlink_talk(nl, link_msg(RTM_SETLINK, 0, 99999, NULL, IFF_UP), NULL, NULL),
			-ENODEV);
		n = 0;
		assert_int_equal(netlink_talk(nl, dump, count_message, &n), 0);
		assert_int_equal(n, 1);
		assert_int_equal(link_get(nl, "lo", &link), 0);
		assert_int_equal(link.index, 1);
	}
	netlink_destroy(nl);
}

static void who_may_not_is_told_what_he_needs(void **state)
{
	struct netlink *nl = enter();
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		struct netlink *own = NULL;
		struct survey s;
		struct err err;

		/* The survey needs no privilege, a change does. */
		if (setresuid(12345, 12345, 12345) < 0 || netlink_create(&own, &err) < 0)
			_exit(1);
		if (survey_take(own, &s, &err) < 0)
			_exit(2);
		if (link_up(own, "lo", &err) != -EPERM)
			_exit(3);
		_exit(strstr(err.msg, ": not permitted, CAP_NET_ADMIN is needed") != NULL ? 0 : 4);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	netlink_destroy(nl);
}

static void failures_have_one_form(void **state)
{
	struct err err;

	assert_int_equal(netlink_fail(&err, -EPERM, "TAP %s", "x"), -EPERM);
	assert_string_equal(err.msg, "TAP x: not permitted, CAP_NET_ADMIN is needed");
	assert_int_equal(netlink_fail(&err, -EBUSY, "TAP %s", "x"), -EBUSY);
	assert_string_equal(err.msg, "TAP x: Device or resource busy");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_host_has_nothing),
		cmocka_unit_test(only_taps_are_taps),
		cmocka_unit_test(aliases_are_read_whole),
		cmocka_unit_test(addresses_belong_to_their_links),
		cmocka_unit_test(many_are_read),
		cmocka_unit_test(links_are_told_apart),
		cmocka_unit_test(errors_leave_nothing_behind),
		cmocka_unit_test(who_may_not_is_told_what_he_needs),
		cmocka_unit_test(failures_have_one_form),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
