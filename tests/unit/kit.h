/*
 * tests/unit/kit.h - layers made byte by byte (so that hostile ones are possible), and a look into
 * the disks that come of them. Everything here fails the test when it cannot do its work.
 */
#ifndef DROVER_TESTS_UNIT_KIT_H
#define DROVER_TESTS_UNIT_KIT_H

#include <ext2fs/ext2fs.h>
#include "lib/str.h"
#include "oci/layers.h"

struct kit_pax {
	const char *key, *value;
	size_t len; /* 0: strlen(value) */
};

/* One entry of a tar; type '\0' is '0'. Long names and links get pax records by themselves. */
struct kit_entry {
	const char *name;
	char type;
	unsigned mode; /* 0: 0644, and 0755 for directories */
	unsigned uid, gid;
	long mtime; /* 0: 1700000000 */
	const char *link;
	const char *data; /* NULL with len > 0: letters that depend on name */
	size_t len;
	unsigned major, minor;
	struct kit_pax pax[4];
};

void kit_add(struct buf *tar, const struct kit_entry *e);
#define kit(tar, path, ...) kit_add(tar, &(struct kit_entry){ .name = path, ##__VA_ARGS__ })

/* Writes the tar (and its end) to dir/name, through libarchive's filter: "gzip", "zstd" or NULL. */
char *kit_layer(const char *dir, const char *name, const struct buf *tar, const char *filter);
void kit_write(const char *path, const void *data, size_t len);
struct buf kit_read(const char *path);

/* layers_build_disk() into path (made anew). */
int kit_build(const char *path, char *const layers[], size_t n, const struct disk_opts *opts,
	struct disk_result *out, struct err *err);
/* Builds from tars, uncompressed, with 64 MiB unless opts; expects success and a clean e2fsck. */
void kit_disk(const char *dir, const char *path, struct buf *tars, size_t n);
void kit_fsck(const char *path);
/* Runs a shell command; its exit status. */
int kit_sh(const char *fmt, ...) PRINTF(1, 2);

ext2_filsys kit_open(const char *path);
/* 0: there is none. The last component is not followed. */
ext2_ino_t kit_find(ext2_filsys fs, const char *path);
struct ext2_inode_large kit_inode(ext2_filsys fs, const char *path);
/* Content of a file, or target of a symbolic link, as a string. */
struct buf kit_cat(ext2_filsys fs, const char *path);
/* One line a file: path, type and mode, owner, links, size, time, device or target, hash, xattrs. */
struct buf kit_list(ext2_filsys fs);

/* Whether the content of path is text. */
#define kit_assert_text(fs, path, text)                                                            \
	do {                                                                                       \
		struct buf b_ = kit_cat(fs, path);                                                 \
		assert_string_equal(buf_str(&b_), text);                                           \
		buf_finish(&b_);                                                                   \
	} while (0)

#endif
