#include "tests/unit/kit.h"
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/file.h"
#include "tests/unit/rig.h"

static void pad(struct buf *tar)
{
	static const char zeros[512];

	if (tar->len % 512 != 0)
		buf_add(tar, zeros, 512 - tar->len % 512);
}

static void header(struct buf *tar, const struct kit_entry *e, const char *name, char type,
	const char *link, size_t size)
{
	char h[512] = { 0 };
	unsigned sum = 0, mode = e->mode ? e->mode : e->type == '5' ? 0755 : 0644;

	strncpy(h, name, 100);
	snprintf(h + 100, 8, "%07o", mode);
	snprintf(h + 108, 8, "%07o", e->uid);
	snprintf(h + 116, 8, "%07o", e->gid);
	snprintf(h + 124, 12, "%011lo", (unsigned long)size);
	snprintf(h + 136, 12, "%011lo", e->mtime ? e->mtime : 1700000000);
	h[156] = type;
	if (link != NULL)
		strncpy(h + 157, link, 100);
	memcpy(h + 257, "ustar", 6);
	memcpy(h + 263, "00", 2);
	snprintf(h + 329, 8, "%07o", e->major);
	snprintf(h + 337, 8, "%07o", e->minor);
	memset(h + 148, ' ', 8);
	for (size_t i = 0; i < sizeof(h); i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
	buf_add(tar, h, sizeof(h));
}

/* "LEN key=value\n", where LEN counts itself. */
static void pax_record(struct buf *out, const char *key, const void *value, size_t len)
{
	size_t n = strlen(key) + len + 3, digits = 1;
	char text[32];

	while ((size_t)snprintf(text, sizeof(text), "%zu", n + digits) > digits)
		digits++;
	buf_printf(out, "%zu %s=", n + digits, key);
	buf_add(out, value, len);
	buf_adds(out, "\n");
}

void kit_add(struct buf *tar, const struct kit_entry *e)
{
	struct buf pax = { 0 };
	unsigned seed = 1;

	for (size_t i = 0; i < ARRAY_LEN(e->pax) && e->pax[i].key != NULL; i++)
		pax_record(&pax, e->pax[i].key, e->pax[i].value,
			e->pax[i].len ? e->pax[i].len : strlen(e->pax[i].value));
	if (strlen(e->name) > 100)
		pax_record(&pax, "path", e->name, strlen(e->name));
	if (e->link != NULL && strlen(e->link) > 100)
		pax_record(&pax, "linkpath", e->link, strlen(e->link));
	if (pax.len > 0) {
		header(tar, e, "pax", 'x', NULL, pax.len);
		buf_add(tar, pax.data, pax.len);
		pad(tar);
	}
	buf_finish(&pax);
	header(tar, e, e->name, e->type ? e->type : '0', e->link, e->len);
	if (e->data != NULL)
		buf_add(tar, e->data, e->len);
	for (const char *p = e->name; *p != '\0'; p++)
		seed = seed * 31 + *p;
	for (size_t i = 0; e->data == NULL && i < e->len; i++) {
		char c = 'a' + (seed = seed * 1103515245 + 12345) % 64 / 3;

		buf_add(tar, &c, 1);
	}
	pad(tar);
	assert_false(tar->bad);
}

void kit_write(const char *path, const void *data, size_t len)
{
	FILE *f = fopen(path, "we");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

struct buf kit_read(const char *path)
{
	struct buf b = { 0 };
	struct err err;

	assert_int_equal(file_read(path, 1 << 30, &b, &err), 0);
	return b;
}

char *kit_layer(const char *dir, const char *name, const struct buf *tar, const char *filter)
{
	struct archive *a = archive_write_new();
	struct archive_entry *e = archive_entry_new();
	char *path = path_join(dir, name), end[1024] = { 0 };

	assert_non_null(path);
	if (filter != NULL)
		assert_int_equal(archive_write_add_filter_by_name(a, filter), ARCHIVE_OK);
	archive_write_set_format_raw(a);
	archive_write_set_bytes_in_last_block(a, 1);
	assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
	archive_entry_set_filetype(e, AE_IFREG);
	assert_int_equal(archive_write_header(a, e), ARCHIVE_OK);
	if (tar->len > 0)
		assert_int_equal(archive_write_data(a, tar->data, tar->len), tar->len);
	assert_int_equal(archive_write_data(a, end, sizeof(end)), sizeof(end));
	assert_int_equal(archive_write_close(a), ARCHIVE_OK);
	archive_entry_free(e);
	archive_write_free(a);
	return path;
}

int kit_build(const char *path, char *const layers[], size_t n, const struct disk_opts *opts,
	struct disk_result *out, struct err *err)
{
	static const struct disk_opts defaults = { .size_bytes = 64 << 20, .seed = "sha256:test" };
	struct layer_src src[16] = { 0 };
	int fd, r;

	assert_true(n <= ARRAY_LEN(src));
	for (size_t i = 0; i < n; i++)
		src[i].path = layers[i];
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	r = layers_build_disk(src, n, opts ? opts : &defaults, fd, out, err);
	close(fd);
	return r;
}

void kit_disk(const char *dir, const char *path, struct buf *tars, size_t n)
{
	struct disk_result res;
	struct err err = { 0 };
	char *layers[16] = { 0 }, name[16];

	for (size_t i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "layer%zu", i);
		layers[i] = kit_layer(dir, name, &tars[i], NULL);
	}
	if (kit_build(path, layers, n, NULL, &res, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < n; i++) {
		free(layers[i]);
		buf_finish(&tars[i]);
	}
	kit_fsck(path);
}

int kit_sh(const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;
	int r;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	r = system(buf_str(&b));
	buf_finish(&b);
	return WIFEXITED(r) ? WEXITSTATUS(r) : -1;
}

void kit_fsck(const char *path)
{
	int r = kit_sh("PATH=$PATH:/usr/sbin:/sbin e2fsck -fn '%s' >'%s.fsck' 2>&1", path, path);

	if (r != 0)
		kit_sh("head -n 40 '%s.fsck' >&2", path);
	assert_int_equal(r, 0);
}

ext2_filsys kit_open(const char *path)
{
	ext2_filsys fs;

	assert_int_equal(ext2fs_open(path, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs), 0);
	return fs;
}

ext2_ino_t kit_find(ext2_filsys fs, const char *path)
{
	ext2_ino_t ino = EXT2_ROOT_INO;

	if (strcmp(path, "/") == 0)
		return ino;
	return ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0 ? ino : 0;
}

static struct ext2_inode_large inode_of(ext2_filsys fs, ext2_ino_t ino)
{
	union {
		struct ext2_inode_large i;
		char raw[256];
	} u;

	assert_int_equal(ext2fs_read_inode_full(fs, ino, (void *)u.raw, sizeof(u.raw)), 0);
	return u.i;
}

struct ext2_inode_large kit_inode(ext2_filsys fs, const char *path)
{
	ext2_ino_t ino = kit_find(fs, path);

	if (ino == 0)
		fail_msg("there is no %s", path);
	return inode_of(fs, ino);
}

static struct buf cat(ext2_filsys fs, ext2_ino_t ino)
{
	struct ext2_inode_large i = inode_of(fs, ino);
	struct buf b = { 0 };
	char chunk[65536];
	unsigned got;
	ext2_file_t f;

	if (LINUX_S_ISLNK(i.i_mode) && !(i.i_flags & EXT4_EXTENTS_FL)) {
		buf_add(&b, i.i_block, i.i_size);
		return b;
	}
	assert_int_equal(ext2fs_file_open(fs, ino, 0, &f), 0);
	while (ext2fs_file_read(f, chunk, sizeof(chunk), &got) == 0 && got > 0)
		buf_add(&b, chunk, got);
	ext2fs_file_close(f);
	return b;
}

struct buf kit_cat(ext2_filsys fs, const char *path)
{
	ext2_ino_t ino = kit_find(fs, path);

	if (ino == 0)
		fail_msg("there is no %s", path);
	return cat(fs, ino);
}

struct lister {
	ext2_filsys fs;
	struct strv *lines;
	const char *dir;
};

static int add_xattr(char *name, char *value, size_t len, void *data)
{
	buf_printf(data, " %s=%zu:%016llx", name, len,
		(unsigned long long)hash64(value, len, HASH64_SEED));
	return 0;
}

static void describe(struct lister *l, ext2_ino_t ino, const char *path)
{
	struct ext2_inode_large i = inode_of(l->fs, ino);
	struct ext2_xattr_handle *h;
	struct buf line = { 0 }, data = { 0 };

	buf_printf(&line, "%s %o %u:%u links=%u mtime=%d+%x", quote(path), i.i_mode,
		i.i_uid | i.osd2.linux2.l_i_uid_high << 16,
		i.i_gid | i.osd2.linux2.l_i_gid_high << 16, i.i_links_count, (int)i.i_mtime,
		i.i_mtime_extra);
	if (LINUX_S_ISREG(i.i_mode) || LINUX_S_ISLNK(i.i_mode)) {
		data = cat(l->fs, ino);
		buf_printf(&line, " size=%zu hash=%016llx", data.len,
			(unsigned long long)hash64(data.data, data.len, HASH64_SEED));
		buf_finish(&data);
	} else if (!LINUX_S_ISDIR(i.i_mode)) {
		buf_printf(&line, " device=%x,%x", i.i_block[0], i.i_block[1]);
	}
	assert_int_equal(ext2fs_xattrs_open(l->fs, ino, &h), 0);
	assert_int_equal(ext2fs_xattrs_read(h), 0);
	ext2fs_xattrs_iterate(h, add_xattr, &line);
	ext2fs_xattrs_close(&h);
	strv_add(l->lines, buf_str(&line));
	buf_finish(&line);
}

static int visit(struct ext2_dir_entry *d, int offset, int blocksize, char *buf, void *arg)
{
	struct lister *l = arg, below = *l;
	char *path;

	if (ext2fs_dirent_name_len(d) <= 2 && d->name[0] == '.' &&
		(ext2fs_dirent_name_len(d) == 1 || d->name[1] == '.'))
		return 0;
	path = str_printf("%s/%.*s", l->dir, ext2fs_dirent_name_len(d), d->name);
	describe(l, d->inode, path);
	below.dir = path;
	if (ext2fs_dirent_file_type(d) == EXT2_FT_DIR)
		ext2fs_dir_iterate(l->fs, d->inode, 0, NULL, visit, &below);
	free(path);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct buf kit_list(ext2_filsys fs)
{
	struct strv lines = { 0 };
	struct lister l = { .fs = fs, .lines = &lines, .dir = "" };
	struct buf out = { 0 };

	describe(&l, EXT2_ROOT_INO, "/");
	ext2fs_dir_iterate(fs, EXT2_ROOT_INO, 0, NULL, visit, &l);
	qsort(lines.v, lines.n, sizeof(*lines.v), compare);
	for (size_t i = 0; i < lines.n; i++)
		buf_printf(&out, "%s\n", lines.v[i]);
	strv_finish(&lines);
	return out;
}
