/*
 * oci/ext4.h - writes a fresh ext4 into an empty file, in one pass. Blocks; one thread. Sizes in
 * bytes, blocks of 4096.
 *
 * libext2fs lays the filesystem out and keeps its superblock, groups, bitmaps and journal; inodes,
 * directories, extents and data are written here, each once, in large writes, since libext2fs'
 * own calls for these are far slower (a look-up for each name linked, an inode read for each
 * block). The result depends on the calls and the spec alone: no clock, no chance.
 */
#ifndef DROVER_OCI_EXT4_H
#define DROVER_OCI_EXT4_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "lib/err.h"

#define EXT4_BLOCK    4096
#define EXT4_ROOT     2u
#define EXT4_NAME_LEN 255

struct ext4;

struct ext4_spec {
	uint64_t size_bytes;
	uint32_t bytes_per_inode; /* 0: as mke2fs, 16384, and 4096 below 512 MiB */
	uint8_t uuid[16];
	uint8_t hash_seed[16];
	const char *label; /* NULL: none */
};

struct ext4_xattr {
	const char *name; /* "security.capability"; system.posix_acl_* in the kernel's format */
	const void *value;
	size_t len;
};

struct ext4_meta {
	uint32_t mode; /* type and permissions */
	uint32_t uid, gid;
	int64_t mtime;
	uint32_t mtime_ns;
	uint32_t major, minor; /* of devices */
	const char *target;    /* of symbolic links, 1..4095 bytes */
	const struct ext4_xattr *xattrs;
	size_t nxattrs;
};

struct ext4_dirent {
	const char *name;
	uint8_t name_len;
	uint8_t type; /* EXT2_FT_* by ext4_file_type() */
	uint32_t ino;
};

struct ext4_stats {
	uint64_t used_bytes;
	uint64_t inodes;
	char warning[256]; /* the first attribute that could not be kept; "" */
};

/* fd is an empty file, open for reading and writing; it stays the caller's. */
int ext4_create(struct ext4 **out, int fd, const struct ext4_spec *spec, struct err *err);
/* Without ext4_finish() before, the file's content is undefined. Takes NULL. */
void ext4_destroy(struct ext4 *e);
/* Whether a call failed with -ENOSPC because this filesystem is full, rather than the host's. */
bool ext4_is_full(const struct ext4 *e);

/* A new inode with one link. A regular file's data may follow until the next ext4_add(). */
int ext4_add(struct ext4 *e, const struct ext4_meta *m, uint32_t *out, struct err *err);
/*
 * Data of the file added last, at rising offsets; what is left out, and long runs of zeros, become
 * holes. ext4_end() gives it its size.
 */
int ext4_data(struct ext4 *e, uint64_t offset, const void *data, size_t len, struct err *err);
int ext4_end(struct ext4 *e, uint64_t size, struct err *err);

/* Replaces owner, mode, time and xattrs of a directory. */
int ext4_set_meta(struct ext4 *e, uint32_t ino, const struct ext4_meta *m, struct err *err);
/* One name more (-EMLINK above 65000); one name fewer, the last one frees inode and blocks. */
int ext4_link(struct ext4 *e, uint32_t ino, struct err *err);
int ext4_unlink(struct ext4 *e, uint32_t ino, struct err *err);
/* cap of at least 4096; NUL-terminated. */
int ext4_readlink(struct ext4 *e, uint32_t ino, char *buf, struct err *err);

/* Once for each directory: all its entries but . and .., in any order (they get sorted). */
int ext4_write_dir(struct ext4 *e, uint32_t ino, uint32_t parent, struct ext4_dirent *entries,
	size_t n, struct err *err);

/* Writes what is left. After this only ext4_destroy() may be called. */
int ext4_finish(struct ext4 *e, struct ext4_stats *out, struct err *err);

/* EXT2_FT_* for the type in mode. */
uint8_t ext4_file_type(uint32_t mode);

#endif
