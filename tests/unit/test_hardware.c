/* Values of the keys for a machine's hardware. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <string.h>

#include "supervisor/hardware.h"

static void volume_is(const char *text, const char *name, const char *path, uint64_t size,
	enum hv_disk_format format, bool readonly, const char *serial)
{
	struct volume v;
	struct err err;

	if (volume_parse(&v, text, &err) < 0)
		fail_msg("%s: %s", text, err.msg);
	assert_true(str_eq(v.name, name));
	assert_true(str_eq(v.path, path));
	assert_true(v.size == size);
	assert_int_equal(v.format, format);
	assert_int_equal(v.readonly, readonly);
	assert_string_equal(v.serial, serial);
	volume_finish(&v);
}

static void volume_fails(const char *text, const char *why)
{
	struct volume v;
	struct err err;

	assert_true(volume_parse(&v, text, &err) < 0);
	assert_string_equal(err.msg, why);
}

static void volumes(void **state)
{
	volume_is("data size=10G", "data", NULL, UINT64_C(10) << 30, HV_DISK_RAW, false, "data");
	volume_is("data format=qcow2 \t size=1M serial=x-1", "data", NULL, 1 << 20, HV_DISK_QCOW2,
		false, "x-1");
	volume_is("a-name-of-20-letters size=1M", "a-name-of-20-letters", NULL, 1 << 20,
		HV_DISK_RAW, false, "a-name-of-20-letters");
	volume_is("a-name-of-more-letters size=1M", "a-name-of-more-letters", NULL, 1 << 20,
		HV_DISK_RAW, false, "");
}

static void volumes_of_files(void **state)
{
	volume_is("/d/x.qcow2", NULL, "/d/x.qcow2", 0, HV_DISK_QCOW2, false, "");
	volume_is("/d/x.qcow2 format=raw ro", NULL, "/d/x.qcow2", 0, HV_DISK_RAW, true, "");
	volume_is("/dev/vg/lv serial=lv", NULL, "/dev/vg/lv", 0, HV_DISK_RAW, false, "lv");
}

static void volumes_that_are_wrong(void **state)
{
	volume_fails("", "a value is missing");
	volume_fails("data", "'data': size= is missing (a path begins with '/')");
	volume_fails("./data size=1M", "'./data' is neither a name nor an absolute path");
	volume_fails("data size=1K", "size: '1K' is less than 1M or not whole sectors");
	volume_fails(
		"data size=1M ro", "'data': an empty disk that cannot be written to is of no use");
	volume_fails("/d/x size=1M", "'/d/x': a disk that is there has its size");
	volume_fails("/d/x format=vmdk", "format: 'vmdk' is neither raw nor qcow2");
	volume_fails("/d/x serial=", "serial: '' does not have 1 to 20 bytes");
	volume_fails("/d/x serial=123456789012345678901",
		"serial: '123456789012345678901' does not have 1 to 20 bytes");
	volume_fails("data sise=1M", "'sise=1M' is none of size=, format=, ro, serial=");
}

static void shares(void **state)
{
	struct share s;
	struct err err;

	assert_int_equal(share_parse(&s, "data /srv/data ro", &err), 0);
	assert_string_equal(s.tag, "data");
	assert_string_equal(s.path, "/srv/data");
	assert_true(s.readonly);
	share_finish(&s);
	assert_int_equal(share_parse(&s, "d,a /srv", &err), -EINVAL);
	assert_string_equal(err.msg, "'d,a': a tag has no such character");
	for (size_t i = 0; i < 4; i++) {
		static const char *const bad[] = { "data", "data srv", "data /srv rw",
			"data /srv ro x" };

		assert_int_equal(share_parse(&s, bad[i], &err), -EINVAL);
		assert_string_equal(err.msg, "must be TAG /PATH or TAG /PATH ro");
	}
	assert_int_equal(
		share_parse(&s, "1234567890123456789012345678901234567 /srv", &err), -EINVAL);
	assert_string_equal(err.msg, "a tag has at most 36 bytes");
}

static void boot_orders(void **state)
{
	struct boot_order o;
	struct err err;

	assert_int_equal(boot_order_parse(&o, "network,disk , cdrom", &err), 0);
	assert_int_equal(o.n, 3);
	assert_int_equal(o.v[0], BOOT_NETWORK);
	assert_int_equal(o.v[1], BOOT_DISK);
	assert_int_equal(o.v[2], BOOT_CDROM);
	assert_int_equal(boot_order_parse(&o, "disk", &err), 0);
	assert_true(boot_order_has(&o, BOOT_DISK));
	assert_false(boot_order_has(&o, BOOT_CDROM));
	assert_int_equal(boot_order_parse(&o, "disk disk", &err), -EINVAL);
	assert_string_equal(err.msg, "'disk' is there a second time");
	assert_int_equal(boot_order_parse(&o, "floppy", &err), -EINVAL);
	assert_string_equal(err.msg, "'floppy' is not one of: disk, cdrom, network");
	assert_int_equal(boot_order_parse(&o, " , ", &err), -EINVAL);
	assert_string_equal(err.msg, "a device is missing");
}

static void vsocks(void **state)
{
	struct err err;
	uint32_t cid;
	bool any;

	assert_int_equal(vsock_parse("none", &any, &cid, &err), 0);
	assert_false(any);
	assert_int_equal(cid, 0);
	assert_int_equal(vsock_parse("auto", &any, &cid, &err), 0);
	assert_true(any);
	assert_int_equal(vsock_parse("4294967294", &any, &cid, &err), 0);
	assert_true(cid == UINT32_C(4294967294));
	assert_int_equal(vsock_parse("2", &any, &cid, &err), -EINVAL);
	assert_string_equal(err.msg, "'2' is not none, auto or a number from 3 to 4294967294");
	assert_int_equal(vsock_parse("4294967295", &any, &cid, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(volumes),
		cmocka_unit_test(volumes_of_files),
		cmocka_unit_test(volumes_that_are_wrong),
		cmocka_unit_test(shares),
		cmocka_unit_test(boot_orders),
		cmocka_unit_test(vsocks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
