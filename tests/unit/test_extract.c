/* Which kernel and initrd are found, and that they are the right bytes. */
#include "tests/unit/kit.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/extract.h"
#include "tests/unit/rig.h"

struct fixture {
	char *dir;
	struct buf t[3];
	struct kernel_files out;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_tmp_finish(f->dir);
	free(f);
	return 0;
}

static int extract(struct fixture *f, size_t n)
{
	struct layer_src src[3] = { 0 };
	char name[16], *dir = path_join(f->dir, "out");
	int fd, r;

	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "layer%zu", i);
		src[i].path = kit_layer(f->dir, name, &f->t[i], "gzip");
		buf_finish(&f->t[i]);
	}
	assert_int_equal(remove_tree(dir, &f->err), 0);
	assert_int_equal(mkdir_p(dir, 0755, &f->err), 0);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	memset(&f->out, 0, sizeof(f->out));
	r = extract_kernel(src, n, fd, NULL, NULL, &f->out, &f->err);
	close(fd);
	for (size_t i = 0; i < n; i++)
		free((char *)src[i].path);
	free(dir);
	return r;
}

static void assert_file(struct fixture *f, const char *name, const char *text)
{
	char *path = str_printf("%s/out/%s", f->dir, name);

	if (text == NULL) {
		assert_int_equal(access(path, F_OK), -1);
	} else {
		struct buf b = kit_read(path);

		assert_string_equal(buf_str(&b), text);
		buf_finish(&b);
	}
	free(path);
}

#define file(t, path, text) kit(t, path, .data = text, .len = strlen(text))

static void expect(struct fixture *f, size_t n, const char *kernel, const char *initrd)
{
	if (extract(f, n) < 0)
		fail_msg("%s", f->err.msg);
	assert_string_equal(f->out.kernel, kernel);
	assert_string_equal(f->out.initrd, initrd);
}

static void takes_the_plain_names(void **state)
{
	struct fixture *f = *state;

	file(&f->t[0], "boot/vmlinux", "kernel");
	file(&f->t[0], "boot/initrd", "initrd");
	file(&f->t[0], "boot/vmlinuz-9", "other");
	expect(f, 1, "/boot/vmlinux", "/boot/initrd");
	assert_file(f, "kernel", "kernel");
	assert_file(f, "initrd", "initrd");
	file(&f->t[0], "./boot/vmlinuz", "kernel");
	expect(f, 1, "/boot/vmlinuz", "");
	assert_file(f, "initrd", NULL);
}

static void takes_the_highest_version(void **state)
{
	struct fixture *f = *state;

	file(&f->t[0], "boot/vmlinuz-6.9.1", "9");
	file(&f->t[0], "boot/vmlinuz-6.10.2-amd64", "10");
	file(&f->t[0], "boot/vmlinuz-6.1.99", "1");
	file(&f->t[0], "boot/vmlinuz-7.0.old", "old");
	kit(&f->t[0], "boot/vmlinuz-8/", .type = '5');
	file(&f->t[0], "boot/initrd.img-6.9.1", "i9");
	file(&f->t[0], "boot/initrd.img-6.10.2-amd64", "i10");
	file(&f->t[0], "boot/initrd.img-6.11", "i11");
	expect(f, 1, "/boot/vmlinuz-6.10.2-amd64", "/boot/initrd.img-6.10.2-amd64");
	assert_file(f, "kernel", "10");
	assert_file(f, "initrd", "i10");
	/* Fedora's names. */
	file(&f->t[0], "boot/vmlinuz-6.5.6-300.fc39.x86_64", "k");
	file(&f->t[0], "boot/initramfs-6.5.6-300.fc39.x86_64.img", "i");
	file(&f->t[0], "boot/vmlinuz-0-rescue-1234", "r");
	expect(f, 1, "/boot/vmlinuz-6.5.6-300.fc39.x86_64",
		"/boot/initramfs-6.5.6-300.fc39.x86_64.img");
	/* Alpine's. */
	file(&f->t[0], "boot/vmlinuz-virt", "k");
	file(&f->t[0], "boot/initramfs-virt", "i");
	expect(f, 1, "/boot/vmlinuz-virt", "/boot/initramfs-virt");
	/* Only an old one. */
	file(&f->t[0], "boot/vmlinuz.old", "k");
	expect(f, 1, "/boot/vmlinuz.old", "");
}

static void follows_links_inside_the_image(void **state)
{
	struct fixture *f = *state;

	file(&f->t[0], "boot/vmlinuz-6.1", "six");
	kit(&f->t[0], "boot/vmlinuz", .type = '2', .link = "vmlinuz-6.1");
	kit(&f->t[0], "boot/initrd.img", .type = '2', .link = "../../../usr/lib/initrd");
	file(&f->t[0], "usr/lib/initrd", "far");
	expect(f, 1, "/boot/vmlinuz-6.1", "/usr/lib/initrd");
	assert_file(f, "kernel", "six");
	assert_file(f, "initrd", "far");
	/* Links that lead nowhere, and /boot itself as one; hard links across layers. */
	kit(&f->t[0], "boot", .type = '2', .link = "/efi");
	kit(&f->t[0], "efi/vmlinux", .type = '2', .link = "/etc/passwd");
	kit(&f->t[0], "efi/initrd", .type = '2', .link = "initrd");
	file(&f->t[0], "lib/kernel", "hard");
	kit(&f->t[1], "efi/vmlinuz", .type = '1', .link = "lib/kernel");
	kit(&f->t[2], "lib/.wh.kernel");
	expect(f, 3, "/efi/vmlinuz", "");
	assert_file(f, "kernel", "hard");
}

static void honours_later_layers(void **state)
{
	struct fixture *f = *state;

	file(&f->t[0], "boot/vmlinux", "one");
	file(&f->t[0], "boot/initrd", "one");
	file(&f->t[1], "boot/vmlinux", "two");
	kit(&f->t[2], "boot/.wh.initrd");
	expect(f, 3, "/boot/vmlinux", "");
	assert_file(f, "kernel", "two");
	file(&f->t[0], "boot/vmlinux", "one");
	kit(&f->t[1], ".wh.boot");
	assert_int_equal(extract(f, 2), -ENOENT);
	assert_string_equal(f->err.msg, "the image has no /boot, so no kernel to start");
}

static void says_what_is_there_instead(void **state)
{
	struct fixture *f = *state;
	char name[32];

	file(&f->t[0], "boot/grub.cfg", "x");
	assert_int_equal(extract(f, 1), -ENOENT);
	assert_string_equal(f->err.msg,
		"the image has neither /boot/vmlinux nor /boot/vmlinuz* nor a UKI; /boot holds 'grub.cfg'");
	kit(&f->t[0], "boot/", .type = '5');
	assert_int_equal(extract(f, 1), -ENOENT);
	assert_non_null(strstr(f->err.msg, "/boot holds nothing"));
	for (int i = 0; i < 30; i++) {
		snprintf(name, sizeof(name), "boot/%d", i);
		file(&f->t[0], name, "x");
	}
	assert_int_equal(extract(f, 1), -ENOENT);
	assert_non_null(strstr(f->err.msg, "and 20 more"));
	buf_adds(&f->t[0], "garbage that is no tar");
	assert_int_equal(extract(f, 1), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(takes_the_plain_names, setup, teardown),
		cmocka_unit_test_setup_teardown(takes_the_highest_version, setup, teardown),
		cmocka_unit_test_setup_teardown(follows_links_inside_the_image, setup, teardown),
		cmocka_unit_test_setup_teardown(honours_later_layers, setup, teardown),
		cmocka_unit_test_setup_teardown(says_what_is_there_instead, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
