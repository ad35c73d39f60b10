#include "oci/inject-system.h"
#include <errno.h>
#include <string.h>
#include <et/com_err.h>
#include "lib/str.h"
#include "oci/ext4-edit.h"

#define BLOCK_BEGIN "# begin of what drover manages"
#define BLOCK_END   "# end of what drover manages"

static const struct edit_owner root_user = { 0 };

/* ---- a part of a file of others ---- */

/* The lines outside of our own block; a block without its end reaches to the file's end. */
static void others_lines(const struct buf *old, struct buf *out)
{
	const char *p = buf_str(old), *nl;
	bool ours = false;
	size_t len;

	for (; *p != '\0'; p += len) {
		nl = strchr(p, '\n');
		len = nl != NULL ? (size_t)(nl - p) + 1 : strlen(p);
		if (str_starts(p, BLOCK_BEGIN))
			ours = true;
		if (!ours)
			buf_add(out, p, len);
		if (str_starts(p, BLOCK_END))
			ours = false;
	}
	if (out->len > 0 && out->data[out->len - 1] != '\n')
		buf_adds(out, "\n");
}

/* What the block says, given what others say; nothing: no block. */
typedef void block_fn(const struct inject_spec *spec, const char *others, struct buf *out);

static int put_block(ext2_filsys fs, const char *folder, const char *name, block_fn *fn,
	const struct inject_spec *spec, struct err *err)
{
	struct buf old = { 0 }, text = { 0 }, block = { 0 };
	ext2_ino_t dir, file = 0;
	int r = edit_need_path(fs, folder, &root_user, 0755, &dir, err);

	if (r == 0)
		r = edit_lookup(fs, dir, name, &file, err);
	if (r == 0 && file != 0)
		r = edit_read(fs, file, name, &old, err);
	if (r == 0) {
		others_lines(&old, &text);
		fn(spec, buf_str(&text), &block);
		if (block.len > 0)
			buf_printf(&text, BLOCK_BEGIN "\n%s" BLOCK_END "\n", buf_str(&block));
		if (text.bad || block.bad)
			r = err_nomem(err);
		else if (strcmp(buf_str(&text), buf_str(&old)) != 0)
			r = edit_write(fs, dir, name, &text, &root_user, 0644, err);
	}
	buf_finish(&old);
	buf_finish(&text);
	buf_finish(&block);
	return r;
}

/* Field number n (from 0) of the line at s; *len is 0 when it has none. hosts(5), fstab(5). */
static const char *field(const char *s, unsigned n, size_t *len)
{
	for (;; n--) {
		s += strspn(s, " \t");
		*len = *s == '#' ? 0 : strcspn(s, " \t\r\n#");
		if (n == 0 || *len == 0)
			return s;
		s += *len;
	}
}

static bool field_is(const char *line, unsigned n, const char *word)
{
	size_t len;
	const char *s = field(line, n, &len);

	return len == strlen(word) && memcmp(s, word, len) == 0;
}

static const char *next_line(const char *s)
{
	const char *nl = strchr(s, '\n');

	return nl != NULL ? nl + 1 : s + strlen(s);
}

static void fstab_block(const struct inject_spec *spec, const char *others, struct buf *out)
{
	for (const char *p = others; *p != '\0'; p = next_line(p)) {
		if (field_is(p, 1, "/"))
			return;
	}
	/* Never checked at boot: its journal is replayed by who mounts it. */
	buf_printf(out, "%s / ext4 defaults 0 0\n", spec->root_device);
}

static bool names_host(const char *others, const char *name)
{
	size_t len;

	for (const char *p = others; *p != '\0'; p = next_line(p)) {
		const char *s = field(p, 0, &len);

		/* One after the other: a line may be as long as the file. */
		while (len > 0) {
			s = field(s + len, 0, &len);
			if (len == strlen(name) && memcmp(s, name, len) == 0)
				return true;
		}
	}
	return false;
}

/* As Debian's installer has it: the name leads to this machine, whatever its network is. */
static void hosts_block(const struct inject_spec *spec, const char *others, struct buf *out)
{
	const char *name = spec->hostname;
	size_t shortened = name != NULL ? strcspn(name, ".") : 0;

	if (!names_host(others, "localhost"))
		buf_adds(out, "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n");
	if (name == NULL || strcmp(name, "localhost") == 0 || names_host(others, name))
		return;
	buf_printf(out, "127.0.1.1 %s", name);
	if (name[shortened] == '.')
		buf_printf(out, " %.*s", (int)shortened, name);
	buf_adds(out, "\n");
}

/* ---- the network ---- */

static int is_in_image(ext2_filsys fs, const char *path, bool *out, struct err *err)
{
	ext2_ino_t ino;
	int r = edit_lookup(fs, EXT2_ROOT_INO, path, &ino, err);

	*out = r == 0 && ino != 0;
	return r;
}

static int any_of(ext2_filsys fs, const char *const paths[], bool *out, struct err *err)
{
	int r = 0;

	*out = false;
	for (size_t i = 0; r == 0 && !*out && paths[i] != NULL; i++)
		r = is_in_image(fs, paths[i], out, err);
	return r;
}

struct listing {
	const char *ours;
	bool others;
};

static int see_name(ext2_ino_t dir, int entry, struct ext2_dir_entry *e, int offset, int blocksize,
	char *buf, void *arg)
{
	struct listing *l = arg;
	int len = ext2fs_dirent_name_len(e);

	if (entry != DIRENT_OTHER_FILE || len == 0 || e->name[0] == '.')
		return 0;
	if ((int)strlen(l->ours) != len || memcmp(e->name, l->ours, (size_t)len) != 0)
		l->others = true;
	return 0;
}

/* Whether somebody else has put a file into the folder. */
static int has_others(
	ext2_filsys fs, const char *folder, const char *ours, bool *out, struct err *err)
{
	struct listing l = { .ours = ours };
	ext2_ino_t dir;
	int r = edit_lookup(fs, EXT2_ROOT_INO, folder, &dir, err);
	errcode_t c = r == 0 && dir != 0 ? ext2fs_check_directory(fs, dir) : 0;

	if (r == 0 && dir != 0 && c == 0)
		c = ext2fs_dir_iterate2(fs, dir, 0, NULL, see_name, &l);
	if (c == EXT2_ET_NO_DIRECTORY)
		c = 0;
	if (c != 0)
		return err_set(
			err, -EIO, "list %s in the image: %s", quote(folder), error_message(c));
	*out = l.others;
	return r;
}

#define NETWORKD_FILE "80-drover.network"

/* interfaces(5) beyond the loopback, but for what drover wrote. */
static int has_interfaces(ext2_filsys fs, bool *out, struct err *err)
{
	struct buf text = { 0 }, others = { 0 };
	ext2_ino_t file;
	int r = edit_lookup(fs, EXT2_ROOT_INO, "/etc/network/interfaces", &file, err);

	*out = false;
	if (r == 0 && file != 0)
		r = edit_read(fs, file, "/etc/network/interfaces", &text, err);
	if (r == 0)
		others_lines(&text, &others);
	for (const char *p = buf_str(&others); r == 0 && *p != '\0'; p = next_line(p)) {
		if (field_is(p, 0, "iface") && !field_is(p, 1, "lo"))
			*out = true;
	}
	buf_finish(&text);
	buf_finish(&others);
	return r;
}

static int is_configured(ext2_filsys fs, bool *out, struct err *err)
{
	static const char *const folders[] = { "/etc/netplan", "/etc/systemd/network",
		"/etc/network/interfaces.d", "/etc/NetworkManager/system-connections" };
	/* These do DHCP by themselves. */
	static const char *const programs[] = { "/usr/sbin/NetworkManager", "/usr/bin/dhcpcd",
		"/usr/sbin/connmand", "/usr/bin/cloud-init", NULL };
	int r = any_of(fs, programs, out, err);

	for (size_t i = 0; r == 0 && !*out && i < ARRAY_LEN(folders); i++)
		r = has_others(fs, folders[i], NETWORKD_FILE, out, err);
	if (r == 0 && !*out)
		r = has_interfaces(fs, out, err);
	return r;
}

static int enable_networkd(ext2_filsys fs, struct err *err)
{
	static const char name[] = "systemd-networkd.service";
	ext2_ino_t dir, ino;
	int r = edit_need_path(
		fs, "/etc/systemd/system/multi-user.target.wants", &root_user, 0755, &dir, err);
	errcode_t c;

	if (r < 0)
		return r;
	/* The link itself: what it leads to need not be there. */
	if (ext2fs_lookup(fs, dir, name, (int)strlen(name), NULL, &ino) == 0)
		return 0;
	c = ext2fs_symlink(fs, dir, 0, name, "/lib/systemd/system/systemd-networkd.service");
	if (c == EXT2_ET_DIR_NO_SPACE) {
		c = ext2fs_expand_dir(fs, dir);
		if (c == 0)
			c = ext2fs_symlink(
				fs, dir, 0, name, "/lib/systemd/system/systemd-networkd.service");
	}
	return c == 0 ? 0
		      : err_set(err, -EIO, "enable systemd-networkd in the image: %s",
				error_message(c));
}

static int put_networkd(ext2_filsys fs, struct err *err)
{
	static const char config[] = "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n";
	struct buf text = { 0 };
	ext2_ino_t dir;
	int r = edit_need_path(fs, "/etc/systemd/network", &root_user, 0755, &dir, err);

	buf_adds(&text, config);
	if (r == 0)
		r = text.bad ? err_nomem(err)
			     : edit_write(fs, dir, NETWORKD_FILE, &text, &root_user, 0644, err);
	buf_finish(&text);
	return r == 0 ? enable_networkd(fs, err) : r;
}

static void interfaces_block(const struct inject_spec *spec, const char *others, struct buf *out)
{
	bool lo = false;

	for (const char *p = others; *p != '\0'; p = next_line(p))
		lo |= field_is(p, 0, "iface") && field_is(p, 1, "lo");
	if (!lo)
		buf_adds(out, "auto lo\niface lo inet loopback\n");
	buf_adds(out, "auto eth0\niface eth0 inet dhcp\n");
}

/* DHCP, by what the image has that can do it, unless the image says how. */
static int inject_network(ext2_filsys fs, const struct inject_spec *spec, struct err *err)
{
	static const char *const networkd[] = { "/usr/lib/systemd/systemd-networkd",
		"/lib/systemd/systemd-networkd", NULL };
	static const char *const ifup[] = { "/sbin/ifup", "/usr/sbin/ifup", NULL };
	bool has;
	int r = is_configured(fs, &has, err);

	if (r < 0 || has)
		return r;
	r = any_of(fs, networkd, &has, err);
	if (r < 0 || has)
		return r < 0 ? r : put_networkd(fs, err);
	r = any_of(fs, ifup, &has, err);
	if (r < 0 || !has)
		return r;
	return put_block(fs, "/etc/network", "interfaces", interfaces_block, spec, err);
}

int inject_system(ext2_filsys fs, const struct inject_spec *spec, struct err *err)
{
	int r = 0;

	if (spec->root_device != NULL)
		r = put_block(fs, "/etc", "fstab", fstab_block, spec, err);
	if (r == 0 && spec->hosts)
		r = put_block(fs, "/etc", "hosts", hosts_block, spec, err);
	if (r == 0 && spec->network)
		r = inject_network(fs, spec, err);
	return r;
}
