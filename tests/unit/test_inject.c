/* Names and keys written into an ext4 that is not mounted. */
#include "tests/unit/kit.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/inject.h"
#include "tests/unit/rig.h"

#define BEGIN "# begin of the keys that drover manages\n"
#define END   "# end of the keys that drover manages\n"
#define OURS  "# begin of what drover manages\n"
#define ENDED "# end of what drover manages\n"

static const char *const one_key[] = { "ssh-ed25519 AAAA one", NULL };
static const char *const two_keys[] = { "ssh-ed25519 BBBB two", "ssh-rsa CCCC three", NULL };

struct fixture {
	char *dir, *disk;
	struct buf t;
	struct inject_result res;
	struct err err;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->dir = rig_tmp();
	f->disk = path_join(f->dir, "disk");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	rig_tmp_finish(f->dir);
	free(f->disk);
	free(f);
	return 0;
}

#define file(t, path, text, ...) kit(t, path, .data = text, .len = strlen(text), ##__VA_ARGS__)

static void inject(struct fixture *f, const struct inject_spec *spec)
{
	if (inject_ext4(f->disk, spec, &f->res, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	kit_fsck(f->disk);
}

static void assert_owned(
	ext2_filsys fs, const char *path, unsigned mode, unsigned uid, unsigned gid)
{
	struct ext2_inode_large i = kit_inode(fs, path);

	assert_int_equal(i.i_mode & 07777, mode);
	assert_int_equal(i.i_uid | i.osd2.linux2.l_i_uid_high << 16, uid);
	assert_int_equal(i.i_gid | i.osd2.linux2.l_i_gid_high << 16, gid);
}

static void writes_hostname_and_keys(void **state)
{
	struct fixture *f = *state;
	ext2_filsys fs;

	file(&f->t, "etc/passwd", "# comment\nbroken\nroot:x:0:0:root:/root:/bin/sh\n");
	file(&f->t, "usr/sbin/sshd", "x");
	kit(&f->t, "root/", .type = '5', .mode = 0700);
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &(struct inject_spec){ .hostname = "web-1", .authorized_keys = one_key });
	assert_string_equal(f->res.warning, "");
	assert_false(f->res.no_user);
	assert_false(f->res.no_sshd);
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/hostname", "web-1\n");
	assert_owned(fs, "/etc/hostname", 0644, 0, 0);
	kit_assert_text(fs, "/root/.ssh/authorized_keys", BEGIN "ssh-ed25519 AAAA one\n" END);
	assert_owned(fs, "/root/.ssh", 0700, 0, 0);
	assert_owned(fs, "/root/.ssh/authorized_keys", 0600, 0, 0);
	ext2fs_close_free(&fs);
	/* Again, with other keys: ours are replaced, not added to. */
	inject(f, &(struct inject_spec){
			  .hostname = "a", .user = "root", .authorized_keys = two_keys });
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/hostname", "a\n");
	kit_assert_text(fs, "/root/.ssh/authorized_keys",
		BEGIN "ssh-ed25519 BBBB two\nssh-rsa CCCC three\n" END);
	ext2fs_close_free(&fs);
}

static bool has_file(ext2_filsys fs, const char *path)
{
	ext2_ino_t ino;

	return ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0;
}

/* One disk after another: the tar in f->t is a new one. */
static ext2_filsys with_system(struct fixture *f, const struct inject_spec *spec)
{
	ext2_filsys fs;

	unlink(f->disk);
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, spec);
	/* A second time changes nothing. */
	inject(f, spec);
	fs = kit_open(f->disk);
	buf_clear(&f->t);
	return fs;
}

static void gives_a_container_what_a_machine_has(void **state)
{
	struct inject_spec spec = {
		.hostname = "web-1.example.org", .root_device = "/dev/vda", .hosts = true
	};
	struct fixture *f = *state;
	ext2_filsys fs;

	/* Nothing is there. */
	kit(&f->t, "bin/", .type = '5');
	fs = with_system(f, &spec);
	kit_assert_text(fs, "/etc/fstab", OURS "/dev/vda / ext4 defaults 0 0\n" ENDED);
	kit_assert_text(fs, "/etc/hosts",
		OURS "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
		     "127.0.1.1 web-1.example.org web-1\n" ENDED);
	assert_owned(fs, "/etc/hosts", 0644, 0, 0);
	ext2fs_close_free(&fs);
	/* The same disk under another name. */
	spec.hostname = "web-2";
	inject(f, &spec);
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/hosts",
		OURS "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
		     "127.0.1.1 web-2\n" ENDED);
	ext2fs_close_free(&fs);
	/* What the image says goes before. */
	file(&f->t, "etc/fstab", "# a comment / ext4\nLABEL=x\t/  ext4 ro 0 1\n");
	file(&f->t, "etc/hosts", "127.0.0.1\tlocalhost web-2");
	fs = with_system(f, &spec);
	kit_assert_text(fs, "/etc/fstab", "# a comment / ext4\nLABEL=x\t/  ext4 ro 0 1\n");
	kit_assert_text(fs, "/etc/hosts", "127.0.0.1\tlocalhost web-2\n");
	ext2fs_close_free(&fs);
	/* Only in part; and a comment is none. */
	file(&f->t, "etc/fstab", "# /dev/vda / ext4\ntmpfs /tmp tmpfs\n");
	file(&f->t, "etc/hosts", "127.0.0.1 localhost # web-2\n# 127.0.1.1 web-2\n");
	fs = with_system(f, &spec);
	kit_assert_text(fs, "/etc/fstab",
		"# /dev/vda / ext4\ntmpfs /tmp tmpfs\n" OURS
		"/dev/vda / ext4 defaults 0 0\n" ENDED);
	kit_assert_text(fs, "/etc/hosts",
		"127.0.0.1 localhost # web-2\n# 127.0.1.1 web-2\n" OURS "127.0.1.1 web-2\n" ENDED);
	assert_false(has_file(fs, "/etc/systemd/network"));
	ext2fs_close_free(&fs);
}

static void configures_the_network_that_nobody_has(void **state)
{
	static const char unit[] =
		"/etc/systemd/system/multi-user.target.wants/systemd-networkd.service";
	struct inject_spec spec = { .network = true };
	struct fixture *f = *state;
	ext2_filsys fs;

	/* systemd-networkd, which has to be enabled. */
	file(&f->t, "usr/lib/systemd/systemd-networkd", "x");
	file(&f->t, "usr/lib/systemd/system/systemd-networkd.service", "unit");
	kit(&f->t, "lib", .type = '2', .link = "usr/lib");
	fs = with_system(f, &spec);
	kit_assert_text(fs, "/etc/systemd/network/80-drover.network",
		"[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n");
	kit_assert_text(fs, unit, "/lib/systemd/system/systemd-networkd.service");
	ext2fs_close_free(&fs);
	/* It has a configuration. */
	file(&f->t, "usr/lib/systemd/systemd-networkd", "x");
	file(&f->t, "etc/systemd/network/10-mine.network", "x");
	fs = with_system(f, &spec);
	assert_false(has_file(fs, "/etc/systemd/network/80-drover.network"));
	ext2fs_close_free(&fs);
	/* Another program does it. */
	file(&f->t, "usr/lib/systemd/systemd-networkd", "x");
	file(&f->t, "usr/sbin/NetworkManager", "x");
	fs = with_system(f, &spec);
	assert_false(has_file(fs, "/etc/systemd/network"));
	ext2fs_close_free(&fs);
	/* ifupdown, with what Debian and Alpine ship. */
	file(&f->t, "sbin/ifup", "x");
	file(&f->t, "etc/network/interfaces", "auto lo\niface lo inet loopback\n");
	kit(&f->t, "etc/network/interfaces.d/", .type = '5');
	fs = with_system(f, &spec);
	kit_assert_text(fs, "/etc/network/interfaces",
		"auto lo\niface lo inet loopback\n" OURS "auto eth0\niface eth0 inet dhcp\n" ENDED);
	ext2fs_close_free(&fs);
	file(&f->t, "sbin/ifup", "x");
	file(&f->t, "etc/network/interfaces", "iface ens3 inet static\n");
	fs = with_system(f, &spec);
	kit_assert_text(fs, "/etc/network/interfaces", "iface ens3 inet static\n");
	ext2fs_close_free(&fs);
	/* Nothing that could. */
	kit(&f->t, "etc/", .type = '5');
	fs = with_system(f, &spec);
	assert_false(has_file(fs, "/etc/network"));
	assert_false(has_file(fs, "/etc/systemd"));
	ext2fs_close_free(&fs);
}

static void replaces_who_it_was(void **state)
{
	static const struct inject_file keys[] = { { "ssh_host_ed25519_key", "private\n" },
		{ "ssh_host_ed25519_key.pub", "public\n" }, { NULL, NULL } };
	static const struct inject_file outside[] = { { "ssh_host_/../../shadow", "x" },
		{ NULL, NULL } };
	struct inject_spec spec = { .machine_id = "00112233445566778899aabbccddeeff",
		.host_keys = keys };
	struct fixture *f = *state;
	ext2_filsys fs;
	ext2_ino_t ino;

	file(&f->t, "etc/machine-id", "another one's\n");
	file(&f->t, "etc/ssh/ssh_host_ed25519_key", "another one's, and longer");
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &spec);
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/machine-id", "00112233445566778899aabbccddeeff\n");
	kit_assert_text(fs, "/etc/ssh/ssh_host_ed25519_key", "private\n");
	kit_assert_text(fs, "/etc/ssh/ssh_host_ed25519_key.pub", "public\n");
	assert_owned(fs, "/etc/ssh/ssh_host_ed25519_key", 0600, 0, 0);
	assert_owned(fs, "/etc/ssh/ssh_host_ed25519_key.pub", 0644, 0, 0);
	/* What is not there is not made. */
	assert_int_not_equal(
		ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, "/var/lib/dbus/machine-id", &ino),
		0);
	ext2fs_close_free(&fs);
	spec.host_keys = outside;
	assert_int_equal(inject_ext4(f->disk, &spec, &f->res, &f->err), -EINVAL);
}

static void has_no_identity(void **state)
{
	static const struct inject_file keys[] = { { "ssh_host_rsa_key", "x" }, { NULL, NULL } };
	struct fixture *f = *state;
	ext2_filsys fs;
	ext2_ino_t ino;

	file(&f->t, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &(struct inject_spec){
			  .machine_id = "00112233445566778899aabbccddeeff", .host_keys = keys });
	fs = kit_open(f->disk);
	assert_int_not_equal(
		ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, "/etc/machine-id", &ino), 0);
	assert_int_not_equal(ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, "/etc/ssh", &ino), 0);
	ext2fs_close_free(&fs);
}

static void keeps_foreign_keys_and_fixes_modes(void **state)
{
	struct fixture *f = *state;
	ext2_filsys fs;

	file(&f->t, "etc/passwd",
		"root:x:0:0::/root:\nalice:x:70000:70001:A,B:/home/alice:/bin/sh\n");
	file(&f->t, "etc/hostname", "a-name-that-is-longer-than-the-new-one\n");
	file(&f->t, "usr/sbin/dropbear", "x");
	kit(&f->t, "home/alice/.ssh/", .type = '5', .mode = 0777);
	file(&f->t, "home/alice/.ssh/authorized_keys",
		"ssh-rsa THEIRS\n" BEGIN "stale\n" END "ssh-rsa LAST");
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &(struct inject_spec){
			  .hostname = "h", .user = "alice", .authorized_keys = one_key });
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/hostname", "h\n");
	kit_assert_text(fs, "/home/alice/.ssh/authorized_keys",
		"ssh-rsa THEIRS\nssh-rsa LAST\n" BEGIN "ssh-ed25519 AAAA one\n" END);
	assert_owned(fs, "/home/alice/.ssh", 0700, 70000, 70001);
	assert_owned(fs, "/home/alice/.ssh/authorized_keys", 0600, 70000, 70001);
	ext2fs_close_free(&fs);
}

static void follows_links_inside_the_image(void **state)
{
	struct fixture *f = *state;
	/* So long that link and attribute need a block each. */
	char nowhere[201] = { 0 };
	ext2_filsys fs;

	memset(nowhere, 'n', 200);
	file(&f->t, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
	kit(&f->t, "var/roothome/.ssh/authorized_keys", .type = '2', .link = nowhere,
		.pax = { { "SCHILY.xattr.trusted.t", nowhere } });
	kit(&f->t, "root", .type = '2', .link = "/../../var/roothome");
	kit(&f->t, "var/roothome/", .type = '5');
	kit(&f->t, "etc/hostname", .type = '2', .link = "/run/missing/hostname");
	kit(&f->t, "usr/sbin/sshd", .type = '2', .link = "../bin/dropbearmulti");
	file(&f->t, "usr/bin/dropbearmulti", "x");
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &(struct inject_spec){ .hostname = "h", .authorized_keys = one_key });
	assert_string_equal(f->res.warning, "");
	fs = kit_open(f->disk);
	/* A link that leads nowhere is replaced. */
	kit_assert_text(fs, "/etc/hostname", "h\n");
	kit_assert_text(
		fs, "/var/roothome/.ssh/authorized_keys", BEGIN "ssh-ed25519 AAAA one\n" END);
	ext2fs_close_free(&fs);
	assert_int_equal(access("/var/roothome/.ssh/authorized_keys", F_OK), -1);
	/* A loop is an error or a replaced link, but comes to an end. */
	file(&f->t, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
	kit(&f->t, "root", .type = '2', .link = "loop");
	kit(&f->t, "loop", .type = '2', .link = "root");
	kit_disk(f->dir, f->disk, &f->t, 1);
	assert_true(inject_ext4(f->disk, &(struct inject_spec){ .authorized_keys = one_key },
			    &f->res, &f->err) < 0);
	kit_fsck(f->disk);
}

static void makes_what_is_missing(void **state)
{
	struct fixture *f = *state;
	ext2_filsys fs;

	file(&f->t, "etc/passwd", "bob:x:5:6::/srv/people/bob:/bin/sh\n");
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &(struct inject_spec){ .user = "bob", .authorized_keys = one_key });
	assert_true(f->res.no_sshd);
	assert_string_equal(f->res.warning, "the image has no sshd or dropbear");
	fs = kit_open(f->disk);
	assert_owned(fs, "/srv/people", 0755, 0, 0);
	assert_owned(fs, "/srv/people/bob", 0700, 5, 6);
	assert_owned(fs, "/srv/people/bob/.ssh/authorized_keys", 0600, 5, 6);
	assert_int_equal(kit_find(fs, "/etc/hostname"), 0);
	ext2fs_close_free(&fs);
	/* Not even an /etc. */
	kit_disk(f->dir, f->disk, &f->t, 1);
	inject(f, &(struct inject_spec){ .hostname = "h", .authorized_keys = one_key });
	assert_true(f->res.no_user);
	assert_string_equal(f->res.warning,
		"the image's /etc/passwd has no user 'root', so no SSH key was written; "
		"the image has no sshd or dropbear");
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/hostname", "h\n");
	ext2fs_close_free(&fs);
	/* Nothing asked for, nothing done. */
	inject(f, &(struct inject_spec){ 0 });
	assert_string_equal(f->res.warning, "");
}

static void adds_to_directories_with_an_index(void **state)
{
	struct fixture *f = *state;
	char name[64];
	ext2_filsys fs;

	file(&f->t, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
	for (int i = 0; i < 600; i++) {
		snprintf(name, sizeof(name), "etc/some-configuration-file-%d", i);
		kit(&f->t, name, .len = 1);
		snprintf(name, sizeof(name), "root/some-file-at-home-%d", i);
		kit(&f->t, name, .len = 1);
	}
	kit_disk(f->dir, f->disk, &f->t, 1);
	fs = kit_open(f->disk);
	assert_true(kit_inode(fs, "/etc").i_flags & EXT2_INDEX_FL);
	ext2fs_close_free(&fs);
	inject(f, &(struct inject_spec){ .hostname = "h", .authorized_keys = one_key });
	fs = kit_open(f->disk);
	kit_assert_text(fs, "/etc/hostname", "h\n");
	kit_assert_text(fs, "/root/.ssh/authorized_keys", BEGIN "ssh-ed25519 AAAA one\n" END);
	assert_true(kit_find(fs, "/etc/some-configuration-file-599") != 0);
	ext2fs_close_free(&fs);
}

static void replays_a_journal_first(void **state)
{
	struct fixture *f = *state;
	struct buf b;

	file(&f->t, "etc/passwd", "root:x:0:0::/root:/bin/sh\n");
	kit_disk(f->dir, f->disk, &f->t, 1);
	/* needs_recovery, as a kernel sets it while mounted: s_feature_incompat at 96, bit 2. */
	assert_int_equal(kit_sh("PATH=$PATH:/usr/sbin:/sbin debugfs -w -R "
				"'feature needs_recovery' '%s' >/dev/null 2>&1",
				 f->disk),
		0);
	b = kit_read(f->disk);
	assert_true(b.data[1024 + 96] & 4);
	buf_finish(&b);
	inject(f, &(struct inject_spec){ .hostname = "h" });
}

static void refuses_what_is_no_ext4(void **state)
{
	struct fixture *f = *state;
	static const char *const bad_key[] = { "ssh-rsa A\nssh-rsa B", NULL };
	char *zeros = calloc(1, 1 << 20);

	kit_write(f->disk, zeros, 1 << 20);
	assert_int_equal(
		inject_ext4(f->disk, &(struct inject_spec){ .hostname = "h" }, &f->res, &f->err),
		-EINVAL);
	assert_non_null(strstr(f->err.msg, "is no ext4"));
	kit_write(f->disk, "", 0);
	assert_int_equal(
		inject_ext4(f->disk, &(struct inject_spec){ .hostname = "h" }, &f->res, &f->err),
		-EINVAL);
	assert_int_equal(
		inject_ext4(f->disk, &(struct inject_spec){ .hostname = "h\n" }, &f->res, &f->err),
		-EINVAL);
	assert_int_equal(inject_ext4(f->disk, &(struct inject_spec){ .authorized_keys = bad_key },
				 &f->res, &f->err),
		-EINVAL);
	assert_int_equal(inject_ext4("/nonexistent", &(struct inject_spec){ .hostname = "h" },
				 &f->res, &f->err),
		-ENOENT);
	free(zeros);
	/* A directory where the file should be. */
	kit(&f->t, "etc/hostname/", .type = '5');
	kit_disk(f->dir, f->disk, &f->t, 1);
	assert_int_equal(
		inject_ext4(f->disk, &(struct inject_spec){ .hostname = "h" }, &f->res, &f->err),
		-EINVAL);
	kit_fsck(f->disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(writes_hostname_and_keys, setup, teardown),
		cmocka_unit_test_setup_teardown(
			gives_a_container_what_a_machine_has, setup, teardown),
		cmocka_unit_test_setup_teardown(
			configures_the_network_that_nobody_has, setup, teardown),
		cmocka_unit_test_setup_teardown(replaces_who_it_was, setup, teardown),
		cmocka_unit_test_setup_teardown(has_no_identity, setup, teardown),
		cmocka_unit_test_setup_teardown(
			keeps_foreign_keys_and_fixes_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(follows_links_inside_the_image, setup, teardown),
		cmocka_unit_test_setup_teardown(makes_what_is_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(adds_to_directories_with_an_index, setup, teardown),
		cmocka_unit_test_setup_teardown(replays_a_journal_first, setup, teardown),
		cmocka_unit_test_setup_teardown(refuses_what_is_no_ext4, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
