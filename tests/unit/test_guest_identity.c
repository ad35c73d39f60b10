/* The script that tells a guest who it is, run by a shell in a folder in place of the guest's root. */
#include "tests/unit/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/guest-identity.h"

static char root[] = "/tmp/test_guest_identity.XXXXXX";

static void run(const char *fmt, const char *arg)
{
	char *command = str_printf(fmt, root, arg);

	assert_non_null(command);
	assert_int_equal(system(command), 0);
	free(command);
}

static void put(const char *name, const char *text, mode_t mode)
{
	char *path = path_join(root, name), *dir = strdup(path);
	struct err err;

	*strrchr(dir, '/') = '\0';
	assert_int_equal(mkdir_p(dir, 0755, &err), 0);
	assert_int_equal(file_write_atomic(path, text, strlen(text), mode, false, &err), 0);
	free(dir);
	free(path);
}

static void assert_file(const char *name, const char *wanted)
{
	char *path = path_join(root, name);
	struct buf text = { 0 };
	struct err err;

	assert_int_equal(file_read(path, 65536, &text, &err), 0);
	assert_string_equal(buf_str(&text), wanted);
	buf_finish(&text);
	free(path);
}

/* Every path that it names is put below root, programs that would change the host are scripts. */
static char *below_root(const char *script)
{
	static const char *const tops[] = { "/etc/", "/sys/", "/proc/", "/var/", "/run/",
		"/dev/u" };
	struct buf out = { 0 };

	for (const char *p = script; *p != '\0'; p++) {
		bool first = p == script || strchr(" \n\t\"<>(", p[-1]) != NULL;

		for (size_t i = 0; i < ARRAY_LEN(tops) && first; i++)
			if (str_starts(p, tops[i]))
				buf_adds(&out, root);
		if (str_starts(p, "PATH=/usr")) {
			buf_printf(&out, "PATH=%s/bin:/usr/bin:/bin", root);
			p += strcspn(p, "\n");
		}
		buf_add(&out, p, 1);
	}
	return buf_steal(&out);
}

static const char stub[] = "#!/bin/sh\necho \"${0##*/} $*\" >>\"${0%/bin/*}/log\"\n";

static void make_guest(void)
{
	static const char *const programs[] = { "date", "ip", "systemctl", "networkctl", "nmcli",
		"ifup", "ifdown", "dhcpcd", "hostname" };
	char name[64];

	run("rm -rf %s/*", NULL);
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		snprintf(name, sizeof(name), "bin/%s", programs[i]);
		put(name, stub, 0755);
	}
	put("etc/hostname", "base\n", 0644);
	put("etc/hosts", "127.0.0.1 localhost\n127.0.1.1\tbase.example base\n1.2.3.4 database\n",
		0644);
	put("etc/machine-id", "11111111111111111111111111111111\n", 0444);
	put("etc/ssh/ssh_host_rsa_key", "old", 0600);
	put("etc/dropbear/dropbear_rsa_host_key", "old", 0600);
	put("etc/netplan/50.yaml", "macaddress: 52:00:00:00:00:0A\n", 0600);
	put("proc/sys/kernel/hostname", "base\n", 0644);
	put("dev/urandom", "", 0644);
	put("sys/class/net/lo/address", "00:00:00:00:00:00\n", 0644);
	put("sys/class/net/eth0/address", "52:00:00:00:00:0a\n", 0644);
}

static void run_script(const char *shell, const struct guest_identity *id)
{
	struct buf script = { 0 };
	char *text;

	guest_identity_script(id, &script);
	assert_false(script.bad);
	text = below_root(buf_str(&script));
	put("script", text, 0644);
	run("%2$s -s <%1$s/script", shell);
	free(text);
	buf_finish(&script);
}

static void is_another_one(const char *shell)
{
	static const struct guest_nic nics[] = { { "52:00:00:00:00:0a", "52:00:00:00:00:0b" } };
	json_t *keys = json_pack("[{s:s,s:s},{s:s,s:s}]", "name", "ssh_host_ed25519_key", "text",
		"it's $HOME `id`\nEND\n", "name", "ssh_host_ed25519_key.pub", "text", "public\n");
	struct guest_identity id = { .hostname = "one",
		.old_hostname = "base",
		.machine_id = "22222222222222222222222222222222",
		.seed = "a'b$c",
		.now_s = 1700000000,
		.host_keys = keys,
		.nics = nics,
		.nnics = 1 };
	char *path = path_join(root, "etc/ssh/ssh_host_ed25519_key");
	struct stat st;

	make_guest();
	put("etc/drover/identity", "#!/bin/sh\necho \"hook $*\" >>\"${0%/etc/*}/log\"\n", 0755);
	run_script(shell, &id);
	assert_file("etc/hostname", "one\n");
	assert_file("proc/sys/kernel/hostname", "one\n");
	assert_file(
		"etc/hosts", "127.0.0.1 localhost\n127.0.1.1\tone.example one\n1.2.3.4 database\n");
	assert_file("etc/machine-id", "22222222222222222222222222222222\n");
	assert_file("etc/ssh/ssh_host_ed25519_key", "it's $HOME `id`\nEND\n");
	assert_file("etc/ssh/ssh_host_ed25519_key.pub", "public\n");
	assert_file("etc/netplan/50.yaml", "macaddress: 52:00:00:00:00:0b\n");
	assert_file("dev/urandom", "a'b$c\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	run("test ! -e %1$s/etc/ssh/ssh_host_rsa_key -a ! -e %1$s/etc/dropbear/dropbear_rsa_host_key",
		NULL);
	run("grep -qx 'ip link set dev eth0 address 52:00:00:00:00:0b' %s/log", NULL);
	run("grep -qx 'hook address eth0' %s/log", NULL);
	run("grep -qx 'date -u -s @1700000000' %s/log", NULL);
	run("! grep -q networkctl %s/log", NULL);
	free(path);
	json_decref(keys);
}

static void without_a_hook(const char *shell)
{
	static const struct guest_nic nics[] = { { "52:00:00:00:00:0a", "52:00:00:00:00:0b" } };
	struct guest_identity id = { .hostname = "one",
		.old_hostname = "base",
		.machine_id = "2",
		.seed = "",
		.nics = nics,
		.nnics = 1 };

	make_guest();
	run_script(shell, &id);
	run("grep -qx 'networkctl reconfigure eth0' %s/log", NULL);
	run("grep -q '^systemctl try-restart' %s/log", NULL);
}

static void with_sh(void **state)
{
	is_another_one("sh");
	without_a_hook("sh");
}

static void with_bash(void **state)
{
	is_another_one("bash");
	without_a_hook("bash");
}

static void assert_data(const char *in, const char *wanted)
{
	json_t *cmd = guest_exec_command(in, strlen(in));
	const json_t *args;

	assert_non_null(cmd);
	args = json_obj(cmd, "arguments");
	assert_string_equal(json_str(args, "input-data"), wanted);
	assert_string_equal(json_str(args, "path"), "/bin/sh");
	json_decref(cmd);
}

/* RFC 4648, 10. */
static void the_command(void **state)
{
	assert_data("", "");
	assert_data("f", "Zg==");
	assert_data("fo", "Zm8=");
	assert_data("foo", "Zm9v");
	assert_data("foobar", "Zm9vYmFy");
}

static int make_root(void **state)
{
	return mkdtemp(root) == NULL;
}

static int remove_root(void **state)
{
	struct err err;

	return remove_tree(root, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_sh),
		cmocka_unit_test(with_bash),
		cmocka_unit_test(the_command),
	};

	return cmocka_run_group_tests(tests, make_root, remove_root);
}
