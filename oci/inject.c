#include "oci/inject.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "lib/str.h"
#include "oci/ext4-edit.h"
#include "oci/inject-system.h"

#define MARK_BEGIN "# begin of the keys that drover manages"
#define MARK_END   "# end of the keys that drover manages"

struct user {
	struct edit_owner owner;
	char home[1024];
};

/* "name:x:uid:gid:gecos:home:shell" (passwd(5)); false for another's or a broken line. */
static bool parse_user(char *line, const char *name, struct user *out)
{
	char *f[7] = { 0 };
	uint64_t uid, gid;

	for (size_t i = 0; i < ARRAY_LEN(f); i++)
		f[i] = strsep(&line, ":");
	if (!str_eq(f[0], name) || f[5] == NULL || parse_u64(f[2], 0, UINT32_MAX, &uid, NULL) < 0 ||
		parse_u64(f[3], 0, UINT32_MAX, &gid, NULL) < 0)
		return false;
	out->owner.uid = uid;
	out->owner.gid = gid;
	/* login(1) takes the root directory for an empty home. */
	snprintf(out->home, sizeof(out->home), "%s", f[5][0] == '/' ? f[5] : "/");
	return true;
}

static int find_user(
	ext2_filsys fs, const char *name, struct user *out, bool *found, struct err *err)
{
	struct buf passwd = { 0 };
	char *rest, *line;
	ext2_ino_t ino;
	int r = edit_lookup(fs, EXT2_ROOT_INO, "/etc/passwd", &ino, err);

	*found = false;
	if (r < 0 || ino == 0)
		return r;
	r = edit_read(fs, ino, "/etc/passwd", &passwd, err);
	rest = passwd.data;
	while (r == 0 && !*found && (line = strsep(&rest, "\n")) != NULL)
		*found = parse_user(line, name, out);
	buf_finish(&passwd);
	return r;
}

/* What is in the file without our own block; a block without its end reaches to the file's end. */
static void keep_foreign(const struct buf *old, struct buf *out)
{
	const char *p = buf_str(old), *nl;
	bool ours = false;
	size_t len;

	for (; *p != '\0'; p += len) {
		nl = strchr(p, '\n');
		len = nl ? (size_t)(nl - p) + 1 : strlen(p);
		if (str_starts(p, MARK_BEGIN))
			ours = true;
		if (!ours)
			buf_add(out, p, len);
		if (str_starts(p, MARK_END))
			ours = false;
	}
	if (out->len > 0 && out->data[out->len - 1] != '\n')
		buf_adds(out, "\n");
}

static int write_keys(
	ext2_filsys fs, const struct user *u, const char *const *keys, struct err *err)
{
	struct buf old = { 0 }, text = { 0 };
	ext2_ino_t home, ssh, file;
	int r;

	r = edit_need_path(fs, u->home, &u->owner, 0700, &home, err);
	if (r == 0)
		r = edit_need_dir(fs, home, ".ssh", &u->owner, 0700, &ssh, err);
	if (r == 0)
		r = edit_set_owner(fs, ssh, &u->owner, 0700, ".ssh", err);
	if (r == 0)
		r = edit_lookup(fs, ssh, "authorized_keys", &file, err);
	if (r == 0 && file != 0)
		r = edit_read(fs, file, "authorized_keys", &old, err);
	if (r == 0) {
		keep_foreign(&old, &text);
		buf_adds(&text, MARK_BEGIN "\n");
		for (; *keys != NULL; keys++)
			buf_printf(&text, "%s\n", *keys);
		buf_adds(&text, MARK_END "\n");
		r = text.bad ? err_nomem(err)
			     : edit_write(fs, ssh, "authorized_keys", &text, &u->owner, 0600, err);
	}
	buf_finish(&old);
	buf_finish(&text);
	return r;
}

static int write_hostname(ext2_filsys fs, const char *hostname, struct err *err)
{
	static const struct edit_owner root = { 0 };
	struct buf text = { 0 };
	ext2_ino_t etc;
	int r;

	buf_printf(&text, "%s\n", hostname);
	r = text.bad ? err_nomem(err) : edit_need_path(fs, "/etc", &root, 0755, &etc, err);
	if (r == 0)
		r = edit_write(fs, etc, "hostname", &text, &root, 0644, err);
	buf_finish(&text);
	return r;
}

/* Only what is there is another's and has to change. */
static int replace(
	ext2_filsys fs, const char *folder, const char *name, const char *text, struct err *err)
{
	static const struct edit_owner root = { 0 };
	struct buf data = { 0 };
	ext2_ino_t dir, file = 0;
	int r = edit_lookup(fs, EXT2_ROOT_INO, folder, &dir, err);

	if (r == 0 && dir != 0)
		r = edit_lookup(fs, dir, name, &file, err);
	if (r < 0 || file == 0)
		return r;
	buf_printf(&data, "%s\n", text);
	r = data.bad ? err_nomem(err) : edit_write(fs, dir, name, &data, &root, 0444, err);
	buf_finish(&data);
	return r;
}

static int write_machine_id(ext2_filsys fs, const char *id, struct err *err)
{
	int r = replace(fs, "/etc", "machine-id", id, err);

	/* Mostly a link to the other. */
	return r == 0 ? replace(fs, "/var/lib/dbus", "machine-id", id, err) : r;
}

static int write_host_keys(ext2_filsys fs, const struct inject_file *keys, struct err *err)
{
	static const struct edit_owner root = { 0 };
	ext2_ino_t dir;
	int r = edit_lookup(fs, EXT2_ROOT_INO, "/etc/ssh", &dir, err);

	for (; r == 0 && dir != 0 && keys->name != NULL; keys++) {
		unsigned mode = str_ends(keys->name, ".pub") ? 0644 : 0600;
		struct buf data = { 0 };

		buf_adds(&data, keys->text);
		r = data.bad ? err_nomem(err)
			     : edit_write(fs, dir, keys->name, &data, &root, mode, err);
		buf_finish(&data);
	}
	return r;
}

static int find_sshd(ext2_filsys fs, bool *found, struct err *err)
{
	static const char *const paths[] = { "/usr/sbin/sshd", "/usr/bin/sshd", "/sbin/sshd",
		"/usr/local/sbin/sshd", "/usr/sbin/dropbear", "/usr/bin/dropbear", "/sbin/dropbear",
		"/bin/dropbear", "/usr/local/sbin/dropbear", "/usr/bin/tinysshd",
		"/usr/sbin/tinysshd" };
	ext2_ino_t ino = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && ino == 0 && i < ARRAY_LEN(paths); i++)
		r = edit_lookup(fs, EXT2_ROOT_INO, paths[i], &ino, err);
	*found = ino != 0;
	return r;
}

static int inject(
	ext2_filsys fs, const struct inject_spec *spec, struct inject_result *out, struct err *err)
{
	const char *name = spec->user ? spec->user : "root";
	bool keys = spec->authorized_keys != NULL && spec->authorized_keys[0] != NULL;
	bool user_found = true, sshd_found = true;
	struct user user;
	int r = 0;

	if (spec->hostname != NULL)
		r = write_hostname(fs, spec->hostname, err);
	if (r == 0)
		r = inject_system(fs, spec, err);
	if (r == 0 && spec->machine_id != NULL)
		r = write_machine_id(fs, spec->machine_id, err);
	if (r == 0 && spec->host_keys != NULL)
		r = write_host_keys(fs, spec->host_keys, err);
	if (r == 0 && keys)
		r = find_user(fs, name, &user, &user_found, err);
	if (r == 0 && keys)
		r = find_sshd(fs, &sshd_found, err);
	if (r == 0 && keys && user_found)
		r = write_keys(fs, &user, spec->authorized_keys, err);
	if (r < 0)
		return r;
	*out = (struct inject_result){ .no_user = !user_found, .no_sshd = !sshd_found };
	if (!user_found)
		snprintf(out->warning, sizeof(out->warning),
			"the image's /etc/passwd has no user %s, so no SSH key was written",
			quote(name));
	if (!sshd_found) {
		size_t n = strlen(out->warning);

		snprintf(out->warning + n, sizeof(out->warning) - n,
			"%sthe image has no sshd or dropbear", n ? "; " : "");
	}
	return 0;
}

static int check_text(const char *s, const char *what, struct err *err)
{
	for (const char *p = s; p != NULL && *p != '\0'; p++) {
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 0x7f)
			return err_set(
				err, -EINVAL, "%s %s has a control character", what, quote(s));
	}
	return 0;
}

int inject_ext4(const char *path, const struct inject_spec *spec, struct inject_result *out,
	struct err *err)
{
	ext2_filsys fs = NULL;
	int r;

	r = check_text(spec->hostname, "the host name", err);
	if (r == 0)
		r = check_text(spec->machine_id, "the machine-id", err);
	if (r == 0)
		r = check_text(spec->root_device, "the root device", err);
	for (const struct inject_file *f = spec->host_keys; r == 0 && f != NULL && f->name != NULL;
		f++) {
		if (!str_starts(f->name, "ssh_host_") || strchr(f->name, '/') != NULL)
			r = err_set(err, -EINVAL, "%s is no name of a host key", quote(f->name));
	}
	for (size_t i = 0; r == 0 && spec->authorized_keys && spec->authorized_keys[i] != NULL; i++)
		r = check_text(spec->authorized_keys[i], "the key", err);
	if (r == 0)
		r = edit_open(path, spec->qcow2, &fs, err);
	if (r < 0)
		return r;
	r = inject(fs, spec, out, err);
	if (r < 0) {
		/* What was changed in memory alone is dropped. */
		ext2fs_free(fs);
		return r;
	}
	return edit_close(fs, path, err);
}
