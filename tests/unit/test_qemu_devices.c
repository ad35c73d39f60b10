/* QEMU's command line for what only some machines have, byte for byte. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu.h"

/* What is in the one with change() and not in the one without: one line an argument. */
static char *added(const struct hv_spec *without, const struct hv_spec *with)
{
	struct hv_command a, b;
	struct buf text = { 0 };
	struct err err;
	size_t k = 0;

	if (hv_qemu.arguments(without, 20, 21, 22, false, &a, &err) < 0 ||
		hv_qemu.arguments(with, 20, 21, 22, false, &b, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < b.argv.n; i++) {
		if (k < a.argv.n && strcmp(a.argv.v[k], b.argv.v[i]) == 0)
			k++;
		else
			buf_printf(&text, "%s\n", b.argv.v[i]);
	}
	/* Nothing of the other is missing. */
	assert_int_equal(k, a.argv.n);
	hv_command_finish(&a);
	hv_command_finish(&b);
	buf_adds(&text, "");
	return buf_steal(&text);
}

static struct hv_spec base(void)
{
	return (struct hv_spec){ .name = "web-1",
		.run_dir = "/run/drover/vm/web-1",
		.binary = "/usr/bin/qemu-system-x86_64",
		.vcpus = 2,
		.memory_mib = 512 };
}

static void check(const struct hv_spec *without, const struct hv_spec *with, const char *want)
{
	char *got = added(without, with);

	assert_string_equal(got, want);
	free(got);
}

/* The arguments behind an option; of the first. */
static void check_option(const struct hv_spec *spec, const char *option, const char *want)
{
	struct hv_command c;
	struct err err;
	size_t i = 0;

	if (hv_qemu.arguments(spec, 20, 21, 22, false, &c, &err) < 0)
		fail_msg("%s", err.msg);
	while (i < c.argv.n && strcmp(c.argv.v[i], option) != 0)
		i++;
	assert_true(i + 1 < c.argv.n);
	assert_string_equal(c.argv.v[i + 1], want);
	hv_command_finish(&c);
}

static void check_refused(const struct hv_spec *spec, const char *want)
{
	struct hv_command c;
	struct err err;

	assert_true(hv_qemu.arguments(spec, 20, 21, 22, false, &c, &err) < 0);
	assert_string_equal(err.msg, want);
}

static void test_firmware(void **state)
{
	struct hv_spec plain = base(), s = base();

	s.firmware = "/fw/OVMF.fd";
	check(&plain, &s, "-bios\n/fw/OVMF.fd\n");
	s.firmware = "/fw/CODE,1.fd";
	s.firmware_vars = "/vm/vars.qcow2";
	check_option(&s, "-machine", "q35,dump-guest-core=off,pflash0=firmware,pflash1=vars");
	check_option(&s, "-blockdev",
		"driver=file,node-name=firmware-file,read-only=on,filename=/fw/CODE,,1.fd");
	s.machine = "virt";
	s.vcpus = 9;
	check_option(&s, "-machine",
		"virt,gic-version=max,dump-guest-core=off,pflash0=firmware,pflash1=vars");
}

static void test_secure_boot(void **state)
{
	struct hv_spec s = base();

	s.firmware = "/fw/CODE.secboot.fd";
	s.firmware_vars = "/vm/vars-secure.fd";
	s.secure_boot = true;
	check_option(
		&s, "-machine", "q35,dump-guest-core=off,smm=on,pflash0=firmware,pflash1=vars");
	check_option(&s, "-global", "driver=cfi.pflash01,property=secure,value=on");
}

static void test_flash_nodes(void **state)
{
	struct hv_spec s = base();
	struct hv_command c;
	struct err err;
	struct buf text = { 0 };

	s.firmware = "/fw/code.fd";
	s.firmware_vars = "/vm/vars.qcow2";
	assert_int_equal(hv_qemu.arguments(&s, 20, 21, 22, false, &c, &err), 0);
	for (size_t i = 0; i + 1 < c.argv.n; i++)
		if (strcmp(c.argv.v[i], "-blockdev") == 0)
			buf_printf(&text, "%s\n", c.argv.v[i + 1]);
	assert_string_equal(buf_str(&text),
		"driver=file,node-name=firmware-file,read-only=on,filename=/fw/code.fd\n"
		"driver=raw,node-name=firmware,read-only=on,file=firmware-file\n"
		"driver=file,node-name=vars-file,filename=/vm/vars.qcow2\n"
		"driver=qcow2,node-name=vars,file=vars-file\n");
	buf_finish(&text);
	hv_command_finish(&c);
}

static void test_size(void **state)
{
	struct hv_spec s = base();

	s.vcpus_max = 8;
	s.sockets = 2;
	s.cores = 2;
	s.threads = 2;
	s.memory_max_mib = 2048;
	check_option(&s, "-smp", "cpus=2,maxcpus=8,sockets=2,cores=2,threads=2");
	check_option(&s, "-m", "size=512M,slots=16,maxmem=2048M");
	s.vcpus_max = 2;
	s.sockets = s.threads = 0;
	s.memory_max_mib = 512;
	check_option(&s, "-smp", "cpus=2,cores=2");
	check_option(&s, "-m", "size=512M");
}

#define BACKEND(kind, id)                                                                          \
	"memory-backend-" kind ",id=" id ",x-use-canonical-path-for-ramblock-id=off,size=512M"

static void test_memory(void **state)
{
	struct hv_spec s = base();

	s.memory_shared = true;
	check_option(&s, "-machine", "q35,dump-guest-core=off,memory-backend=pc.ram");
	check_option(&s, "-object", BACKEND("memfd", "pc.ram") ",share=on");
	s.memory_shared = false;
	s.hugepages = true;
	check_option(&s, "-object", BACKEND("memfd", "pc.ram") ",hugetlb=on,share=off");
	s.hugepages = false;
	s.memory_file = "/m/a,b";
	check_option(&s, "-object", BACKEND("file", "pc.ram") ",mem-path=/m/a,,b,share=on");
	s.memory_private = true;
	s.machine = "microvm";
	check_option(&s, "-object", BACKEND("file", "microvm.ram") ",mem-path=/m/a,,b,share=off");
	s.machine = "virt";
	check_option(&s, "-object", BACKEND("file", "mach-virt.ram") ",mem-path=/m/a,,b,share=off");
}

static void test_cdrom_and_order(void **state)
{
	const struct hv_disk disks[] = { { .path = "/d/root.raw", .boot_index = 2 },
		{ .id = "cdrom0", .path = "/d/cd.iso", .cdrom = true, .boot_index = 1 } };
	const struct hv_nic nic = { .id = "nic0", .tap_fd = 30, .boot_index = 3 };
	struct hv_spec plain = base(), s = base();

	s.disks = disks;
	s.ndisks = 2;
	s.nics = &nic;
	s.nnics = 1;
	check(&plain, &s,
		"-blockdev\ndriver=file,node-name=disk0-file,locking=on,discard=unmap,"
		"filename=/d/root.raw\n"
		"-blockdev\ndriver=raw,node-name=disk0,discard=unmap,file=disk0-file\n"
		"-device\nvirtio-blk-pci,id=disk0,drive=disk0,bootindex=2\n"
		"-blockdev\ndriver=file,node-name=cdrom0-file,locking=on,read-only=on,"
		"filename=/d/cd.iso\n"
		"-blockdev\ndriver=raw,node-name=cdrom0,read-only=on,file=cdrom0-file\n"
		"-device\nide-cd,id=cdrom0,drive=cdrom0,bootindex=1\n"
		"-netdev\ntap,id=nic0-tap,fd=5\n"
		"-device\nvirtio-net-pci,id=nic0,netdev=nic0-tap,bootindex=3\n");
	plain.machine = s.machine = "virt";
	s.disks = &disks[1];
	s.ndisks = 1;
	s.nnics = 0;
	check(&plain, &s,
		"-blockdev\ndriver=file,node-name=cdrom0-file,locking=on,read-only=on,"
		"filename=/d/cd.iso\n"
		"-blockdev\ndriver=raw,node-name=cdrom0,read-only=on,file=cdrom0-file\n"
		"-device\nvirtio-scsi-pci,id=cdrom0-bus\n"
		"-device\nscsi-cd,bus=cdrom0-bus.0,id=cdrom0,drive=cdrom0,bootindex=1\n");
	s.machine = "microvm";
	check_refused(&s, "cdrom: a microvm has no bus for it: use machine = q35");
}

static void test_plugged_in(void **state)
{
	const struct hv_share share = { .tag = "data", .socket = "/r/share0.sock" };
	struct hv_spec plain = base(), s = base();

	s.balloon = true;
	s.vsock_cid = 77;
	s.tpm_socket = "/r/tpm.sock";
	s.vnc = "/r/vnc,sock";
	s.hotplug_slots = 2;
	check(&plain, &s,
		"-vnc\nunix:/r/vnc,,sock\n"
		"-device\nvirtio-balloon-pci,id=balloon0,deflate-on-oom=on\n"
		"-device\nvhost-vsock-pci,id=vsock0,guest-cid=77\n"
		"-chardev\nsocket,id=tpm0-socket,path=/r/tpm.sock\n"
		"-tpmdev\nemulator,id=tpm0-emulator,chardev=tpm0-socket\n"
		"-device\ntpm-crb,id=tpm0,tpmdev=tpm0-emulator\n"
		"-device\nVGA,id=video0\n-device\nvirtio-tablet-pci,id=tablet0\n"
		"-device\npcie-root-port,id=hp0,chassis=1\n"
		"-device\npcie-root-port,id=hp1,chassis=2\n");
	plain.machine = s.machine = "virt";
	s.balloon = false;
	s.vsock_cid = 0;
	s.hotplug_slots = 0;
	check(&plain, &s,
		"-vnc\nunix:/r/vnc,,sock\n"
		"-chardev\nsocket,id=tpm0-socket,path=/r/tpm.sock\n"
		"-tpmdev\nemulator,id=tpm0-emulator,chardev=tpm0-socket\n"
		"-device\ntpm-tis-device,id=tpm0,tpmdev=tpm0-emulator\n"
		"-device\nvirtio-gpu-pci,id=video0\n-device\nvirtio-keyboard-pci,id=keyboard0\n"
		"-device\nvirtio-tablet-pci,id=tablet0\n");

	plain = s = base();
	plain.memory_shared = s.memory_shared = true;
	s.shares = &share;
	s.nshares = 1;
	check(&plain, &s,
		"-chardev\nsocket,id=share0-socket,path=/r/share0.sock\n"
		"-device\nvhost-user-fs-pci,id=share0,chardev=share0-socket,tag=data\n");
	s.memory_shared = false;
	check_refused(&s, "share 'data': the guest's memory is not shared with virtiofsd");
}

static void test_refused(void **state)
{
	struct hv_spec s = base();

	s.machine = "microvm";
	s.tpm_socket = "/r/tpm.sock";
	check_refused(&s, "tpm: a microvm has no bus for it: use machine = q35");
	s.tpm_socket = NULL;
	s.vnc = "/r/vnc.sock";
	check_refused(&s, "display: a microvm has no bus for it: use machine = q35");
	s.vnc = NULL;
	s.hotplug_slots = 1;
	check_refused(&s, "hotplug: a microvm has no PCI Express: use machine = q35");
	s.machine = "pc";
	check_refused(&s, "hotplug: machine = pc has no PCI Express: use machine = q35");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_firmware),
		cmocka_unit_test(test_secure_boot),
		cmocka_unit_test(test_flash_nodes),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_cdrom_and_order),
		cmocka_unit_test(test_plugged_in),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
