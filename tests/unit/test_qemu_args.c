/* QEMU's command line, byte for byte. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu.h"

/* One line an argument. */
static char *lines(const struct hv_command *c)
{
	struct buf b = { 0 };

	for (size_t i = 0; i < c->argv.n; i++)
		buf_printf(&b, "%s\n", c->argv.v[i]);
	return buf_steal(&b);
}

static void check(const struct hv_spec *spec, bool use_kvm, const char *want)
{
	struct hv_command c;
	struct err err;
	char *got;

	if (hv_qemu.arguments(spec, 20, 21, 22, use_kvm, &c, &err) < 0)
		fail_msg("%s", err.msg);
	got = lines(&c);
	assert_string_equal(got, want);
	assert_int_equal(c.fds[0].fd, 20);
	assert_int_equal(c.fds[0].child_fd, 3);
	assert_int_equal(c.fds[1].fd, 21);
	assert_int_equal(c.fds[1].child_fd, 4);
	free(got);
	hv_command_finish(&c);
}

static struct hv_spec base(void)
{
	return (struct hv_spec){ .name = "web-1",
		.run_dir = "/run/drover/vm/web-1",
		.binary = "/usr/bin/qemu-system-x86_64",
		.vcpus = 2,
		.memory_mib = 512,
		.kernel = "/k/vmlinux",
		.initrd = "/k/initrd",
		.cmdline = "root=/dev/vda rw a=b,c",
		.sandbox = true };
}

#define COMMON                                                                                     \
	"/usr/bin/qemu-system-x86_64\n"                                                            \
	"-name\nguest=web-1,process=drover-web-1,debug-threads=on\n"                               \
	"-no-user-config\n-nodefaults\n-display\nnone\n"                                           \
	"-sandbox\non,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny\n"
#define KERNEL "-kernel\n/k/vmlinux\n-initrd\n/k/initrd\n-append\nroot=/dev/vda rw a=b,c\n"
#define SOCKETS                                                                                    \
	"-chardev\nsocket,id=mon0,fd=3,server=on,wait=off\n-mon\nchardev=mon0,mode=control\n"      \
	"-chardev\nsocket,id=serial0,fd=4,server=on,wait=on\n-serial\nchardev:serial0\n"
#define RNG(dev)                                                                                   \
	"-object\nrng-builtin,id=rng0-source\n-device\nvirtio-rng-" dev ",id=rng0,rng=rng0-source\n"
#define SIZE "-smp\ncpus=2\n-m\nsize=512M\n-rtc\nbase=utc\n"

static void test_q35(void **state)
{
	const struct hv_disk disks[] = {
		{ .path = "/d/root.raw", .serial = "root" },
		{ .path = "/d/data,1.qcow2", .format = HV_DISK_QCOW2 },
		{ .path = "/dev/vg/seed", .readonly = true },
	};
	const struct hv_nic nics[] = {
		{ .id = "nic0", .mac = "02:00:00:00:00:01", .tap_fd = 30 },
		{ .id = "nic1", .mac = "02:00:00:00:00:02", .tap_fd = 31, .vhost = true },
		{ .id = "nic2", .mac = "02:00:00:00:00:03", .tap_fd = -1 },
	};
	const char *const extra[] = { "-device", "pvpanic", NULL };
	struct hv_spec s = base();

	s.disks = disks;
	s.ndisks = 3;
	s.nics = nics;
	s.nnics = 3;
	s.extra_args = extra;
	check(&s, true,
		COMMON
		"-machine\nq35,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE KERNEL SOCKETS RNG(
			"pci") "-blockdev\ndriver=file,node-name=disk0-file,locking=on,discard=unmap,"
			       "filename=/d/root.raw\n"
			       "-blockdev\ndriver=raw,node-name=disk0,discard=unmap,file=disk0-file\n"
			       "-device\nvirtio-blk-pci,id=disk0,drive=disk0,serial=root\n"
			       "-blockdev\ndriver=file,node-name=disk1-file,locking=on,discard=unmap,"
			       "filename=/d/data,,1.qcow2\n"
			       "-blockdev\ndriver=qcow2,node-name=disk1,discard=unmap,file=disk1-file\n"
			       "-device\nvirtio-blk-pci,id=disk1,drive=disk1\n"
			       "-blockdev\ndriver=host_device,node-name=disk2-file,locking=on,read-only=on,"
			       "filename=/dev/vg/seed\n"
			       "-blockdev\ndriver=raw,node-name=disk2,read-only=on,file=disk2-file\n"
			       "-device\nvirtio-blk-pci,id=disk2,drive=disk2\n"
			       "-netdev\ntap,id=nic0-tap,fd=5\n"
			       "-device\nvirtio-net-pci,id=nic0,netdev=nic0-tap,mac=02:00:00:00:00:01,romfile=\n"
			       "-netdev\ntap,id=nic1-tap,fd=6,vhost=on\n"
			       "-device\nvirtio-net-pci,id=nic1,netdev=nic1-tap,mac=02:00:00:00:00:02,romfile=\n"
			       "-device\npvpanic\n");
}

static void test_pc(void **state)
{
	struct hv_spec s = base();

	s.machine = "pc";
	s.cpu = "qemu64,+svm";
	s.uuid = "8e1c0b6e-0000-4000-8000-000000000001";
	s.reboot_is_exit = true;
	s.start_paused = true;
	s.initrd = NULL;
	s.cmdline = NULL;
	s.sandbox = false;
	s.vcpus = 0;
	check(&s, false,
		"/usr/bin/qemu-system-x86_64\n"
		"-name\nguest=web-1,process=drover-web-1,debug-threads=on\n"
		"-uuid\n8e1c0b6e-0000-4000-8000-000000000001\n"
		"-no-user-config\n-nodefaults\n-display\nnone\n"
		"-machine\npc,dump-guest-core=off\n-accel\ntcg\n-cpu\nqemu64,+svm\n"
		"-smp\ncpus=1\n-m\nsize=512M\n-rtc\nbase=utc\n-action\nreboot=shutdown\n-S\n"
		"-kernel\n/k/vmlinux\n-append\n\n" SOCKETS RNG("pci"));
}

static void test_microvm(void **state)
{
	const struct hv_disk disk = { .path = "/d/root.raw" };
	const struct hv_nic nic = { .id = "nic0", .mac = "02:00:00:00:00:01", .tap_fd = 30 };
	struct hv_spec s = base();

	s.machine = "microvm";
	s.disks = &disk;
	s.ndisks = 1;
	s.nics = &nic;
	s.nnics = 1;
	s.tsc_khz = 2596150;
#define MICROVM(accel, cpu) COMMON "-machine\nmicrovm,acpi=on,dump-guest-core=off\n" accel cpu SIZE
#define DEVICES                                                                                    \
	SOCKETS RNG("device") "-blockdev\ndriver=file,node-name=disk0-file,locking=on,"            \
			      "discard=unmap,filename=/d/root.raw\n"                               \
			      "-blockdev\ndriver=raw,node-name=disk0,discard=unmap,"               \
			      "file=disk0-file\n"                                                  \
			      "-device\nvirtio-blk-device,id=disk0,drive=disk0\n"                  \
			      "-netdev\ntap,id=nic0-tap,fd=5\n"                                    \
			      "-device\nvirtio-net-device,id=nic0,netdev=nic0-tap,"                \
			      "mac=02:00:00:00:00:01\n"
	check(&s, false,
		MICROVM("-accel\ntcg\n",
			"-cpu\nmax\n") "-kernel\n/k/vmlinux\n-initrd\n/k/initrd\n"
				       "-append\nroot=/dev/vda rw a=b,c tsc_early_khz=2596150\n" DEVICES);
	/* Under KVM the guest learns it; and what the user says stands. */
	check(&s, true, MICROVM("-accel\nkvm\n", "-cpu\nhost\n") KERNEL DEVICES);
	s.cmdline = "tsc_early_khz=1";
	check(&s, false,
		MICROVM("-accel\ntcg\n",
			"-cpu\nmax\n") "-kernel\n/k/vmlinux\n-initrd\n/k/initrd\n-append\ntsc_early_khz=1\n" DEVICES);
}

/* Networks that QEMU itself is, and what the guest is told of the largest packet. */
static void test_user_net(void **state)
{
	struct hv_forward forwards[] = { { false, 8080, 80 }, { true, 53, 5353 } };
	const struct hv_user_net net = { .net = "10.0.2.0/24",
		.host = "10.0.2.2",
		.dns = "10.0.2.3",
		.guest = "10.0.2.15",
		.hostname = "web-1",
		.domain = "lab.test",
		.forwards = forwards,
		.nforwards = 2 };
	const struct hv_user_net closed = { .net = "10.1.0.0/29",
		.host = "10.1.0.1",
		.dns = "10.1.0.6",
		.guest = "10.1.0.2",
		.restricted = true };
	const struct hv_nic nics[] = {
		{ .id = "nic0", .tap_fd = -1, .user = &net, .mtu = 1400 },
		{ .id = "nic1", .tap_fd = -1, .user = &closed },
		{ .id = "nic2", .tap_fd = 30 },
	};
	struct hv_spec s = base();

	s.nics = nics;
	s.nnics = 3;
	check(&s, true,
		COMMON
		"-machine\nq35,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE KERNEL SOCKETS RNG(
			"pci") "-netdev\nuser,id=nic0-tap,ipv6=off,net=10.0.2.0/24,host=10.0.2.2,dns=10.0.2.3,"
			       "dhcpstart=10.0.2.15,hostname=web-1,domainname=lab.test,"
			       "hostfwd=tcp::8080-10.0.2.15:80,hostfwd=udp::53-10.0.2.15:5353\n"
			       "-device\nvirtio-net-pci,id=nic0,netdev=nic0-tap,host_mtu=1400,romfile=\n"
			       "-netdev\nuser,id=nic1-tap,ipv6=off,net=10.1.0.0/29,host=10.1.0.1,dns=10.1.0.6,"
			       "dhcpstart=10.1.0.2,restrict=on\n"
			       "-device\nvirtio-net-pci,id=nic1,netdev=nic1-tap,romfile=\n"
			       "-netdev\ntap,id=nic2-tap,fd=5\n"
			       "-device\nvirtio-net-pci,id=nic2,netdev=nic2-tap,romfile=\n");
}

static void test_agent(void **state)
{
	const struct hv_nic nic = { .id = "nic0", .mac = "02:00:00:00:00:01", .tap_fd = 30 };
	struct hv_spec s = base();
	struct hv_command c;
	struct err err;

	s.agent = true;
	s.nics = &nic;
	s.nnics = 1;
#define AGENT(dev)                                                                                 \
	"-chardev\nsocket,id=agent0,fd=5,server=on,wait=off\n"                                     \
	"-device\nvirtio-serial-" dev ",id=agent0-bus\n"                                           \
	"-device\nvirtserialport,bus=agent0-bus.0,chardev=agent0,id=agent0-port,"                  \
	"name=org.qemu.guest_agent.0\n"
	check(&s, true,
		COMMON "-machine\nq35,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE KERNEL
			SOCKETS RNG("pci") AGENT("pci") "-netdev\ntap,id=nic0-tap,fd=6\n"
							"-device\nvirtio-net-pci,id=nic0,"
							"netdev=nic0-tap,"
							"mac=02:00:00:00:00:01,romfile=\n");
	assert_int_equal(hv_qemu.arguments(&s, 20, 21, 22, true, &c, &err), 0);
	assert_int_equal(c.nfds, 4);
	assert_int_equal(c.fds[2].fd, 22);
	assert_int_equal(c.fds[2].child_fd, 5);
	assert_int_equal(c.fds[3].fd, 30);
	hv_command_finish(&c);
	s.machine = "microvm";
	s.nnics = 0;
	check(&s, true,
		MICROVM("-accel\nkvm\n", "-cpu\nhost\n") KERNEL SOCKETS RNG("device")
			AGENT("device"));
}

static void test_watchdog(void **state)
{
	struct hv_spec s = base();
	struct hv_command c;
	struct err err;

	s.watchdog = "i6300esb";
	check(&s, true,
		COMMON "-machine\nq35,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE
		       "-action\nwatchdog=reset\n" KERNEL SOCKETS RNG("pci") "-device\ni6300esb,"
									     "id=watchdog0\n");
	s.machine = "pc";
	s.watchdog = "ib700";
	s.watchdog_action = "pause";
	s.reboot_is_exit = true;
	check(&s, true,
		COMMON "-machine\npc,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE
		       "-action\nreboot=shutdown\n-action\nwatchdog=pause\n" KERNEL SOCKETS RNG(
			       "pci") "-device\nib700,id=watchdog0\n");
	s.machine = "microvm";
	assert_int_equal(hv_qemu.arguments(&s, 20, 21, -1, true, &c, &err), -ENOTSUP);
	assert_string_equal(
		err.msg, "a microvm has no bus for the watchdog 'ib700': use machine = q35 or pc");
}

static void test_panic_device(void **state)
{
	struct hv_spec s = base();

	s.panic_device = true;
	check(&s, true,
		COMMON "-machine\nq35,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE
		       "-action\npanic=none\n" KERNEL SOCKETS RNG("pci") "-device\npvpanic,"
									 "id=panic0\n");
	s.machine = "pc";
	s.panic_is_pause = true;
	check(&s, true,
		COMMON "-machine\npc,dump-guest-core=off\n-accel\nkvm\n-cpu\nhost\n" SIZE
		       "-action\npanic=pause\n" KERNEL SOCKETS RNG("pci") "-device\npvpanic,"
									  "id=panic0\n");
	/* It has no ISA bus that its firmware tells of: nothing is promised there. */
	s.machine = "microvm";
	check(&s, true, MICROVM("-accel\nkvm\n", "-cpu\nhost\n") KERNEL SOCKETS RNG("device"));
}

static void test_wants_tsc(void **state)
{
	struct hv_spec s = base();

	assert_false(qemu_wants_tsc(&s));
	s.machine = "microvm";
	assert_true(qemu_wants_tsc(&s));
	s.tsc_khz = 1;
	assert_false(qemu_wants_tsc(&s));
#if defined(__x86_64__)
	unsigned khz = qemu_host_tsc_khz();

	assert_in_range(khz, 100 * 1000, 10 * 1000 * 1000);
	assert_int_equal(qemu_host_tsc_khz(), khz);
#endif
}

static void test_too_many_nics(void **state)
{
	struct hv_nic nics[HV_FDS_MAX];
	struct hv_spec s = base();
	struct hv_command c;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(nics); i++)
		nics[i] = (struct hv_nic){ .id = "nic", .tap_fd = 9 };
	s.nics = nics;
	s.nnics = HV_FDS_MAX - 2;
	assert_int_equal(hv_qemu.arguments(&s, 3, 4, -1, false, &c, &err), 0);
	assert_int_equal(c.nfds, HV_FDS_MAX);
	hv_command_finish(&c);
	s.nnics = HV_FDS_MAX - 1;
	assert_int_equal(hv_qemu.arguments(&s, 3, 4, -1, false, &c, &err), -E2BIG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_q35),
		cmocka_unit_test(test_pc),
		cmocka_unit_test(test_microvm),
		cmocka_unit_test(test_user_net),
		cmocka_unit_test(test_agent),
		cmocka_unit_test(test_watchdog),
		cmocka_unit_test(test_panic_device),
		cmocka_unit_test(test_wants_tsc),
		cmocka_unit_test(test_too_many_nics),
	};

	return cmocka_run_group_tests_name("qemu arguments", tests, NULL, NULL);
}
