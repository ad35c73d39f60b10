/* What the backends share: look-up by name, the choice of the accelerator. */
#include "tests/unit/rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/backend.h"
#include "lib/file.h"

#define FLAGS "processor\t: 0\nvendor_id\t: X\nflags\t\t: fpu vme %s sse\nbugs\t\t: svm_bug\n"

static void test_find(void **state)
{
	assert_ptr_equal(hv_find("qemu"), &hv_qemu);
	assert_null(hv_find("xen"));
	assert_null(hv_find(NULL));
	assert_string_equal(hv_status_name(HV_STATUS_IO_ERROR), "io-error");
	assert_string_equal(hv_status_name((enum hv_status)99), "unknown");
}

static void test_kvm(void **state)
{
	static const struct {
		const char *flags;
		bool usable;
	} rows[] = { { "vmx", true }, { "svm", true }, { "xsvm svmx", false },
		{ "vmx_x avmx", false }, { "", false } };
	char *dir = rig_tmp(), *dev = path_join(dir, "kvm"), *info = path_join(dir, "cpuinfo");
	char why[128], *text;

	assert_int_equal(file_write_atomic(dev, "", 0, 0600, false, NULL), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		text = str_printf(FLAGS FLAGS, rows[i].flags, rows[i].flags);
		assert_int_equal(file_write_atomic(info, text, strlen(text), 0600, false, NULL), 0);
		assert_int_equal(hv_kvm_usable(dev, info, why, sizeof(why)), rows[i].usable);
		assert_non_null(strstr(why, "vmx or svm"));
		free(text);
	}
	/* A long line of flags, of which the wanted one is the last. */
	text = str_printf("flags\t\t: %05000d svm\n", 1);
	assert_int_equal(file_write_atomic(info, text, strlen(text), 0600, false, NULL), 0);
	assert_true(hv_kvm_usable(dev, info, why, sizeof(why)));
	free(text);
	/* No x86. */
	assert_int_equal(file_write_atomic(info, "Features : fp\n", 14, 0600, false, NULL), 0);
	assert_true(hv_kvm_usable(dev, info, why, sizeof(why)));
	unlink(info);
	assert_false(hv_kvm_usable(dev, info, why, sizeof(why)));
	unlink(dev);
	assert_false(hv_kvm_usable(dev, info, why, sizeof(why)));
	assert_non_null(strstr(why, "No such file"));
	/* A device that cannot be opened read-write. */
	assert_int_equal(mkdir(dev, 0700), 0);
	assert_false(hv_kvm_usable(dev, info, why, sizeof(why)));
	free(dev);
	free(info);
	rig_tmp_finish(dir);
}

static void test_accel(void **state)
{
	struct hv_spec s = { .binary = "/usr/bin/qemu-system-m68k" };
	char text[160];

	assert_false(hv_choose_accel(&s, text, sizeof(text)));
	assert_string_equal(text, "tcg (the host has another architecture)");
	s.accel = HV_ACCEL_KVM;
	assert_true(hv_choose_accel(&s, text, sizeof(text)));
	assert_string_equal(text, "kvm (as configured)");
	s.accel = HV_ACCEL_TCG;
	assert_false(hv_choose_accel(&s, text, sizeof(text)));
	s.accel = HV_ACCEL_AUTO;
	s.binary = "/opt/qemu";
	assert_int_equal(strncmp(text, "tcg (", 5), 0);
	if (hv_choose_accel(&s, text, sizeof(text)))
		assert_int_equal(strncmp(text, "kvm (", 5), 0);
	else
		assert_int_equal(strncmp(text, "tcg (", 5), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_kvm),
		cmocka_unit_test(test_accel),
	};

	return cmocka_run_group_tests_name("hv", tests, NULL, NULL);
}
