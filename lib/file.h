/*
 * lib/file.h - whole files, directories and paths. Blocking: on the loop only for small files on
 * tmpfs or in the page cache; fsync goes through the thread pool (file_sync_async).
 */
#ifndef DROVER_LIB_FILE_H
#define DROVER_LIB_FILE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/str.h"

/* Reads a regular file (-EINVAL: a FIFO, a device, ...) of at most max bytes (-EFBIG beyond). out
 * is a fresh buf. */
int file_read(const char *path, size_t max, struct buf *out, struct err *err);
/* First line without its newline, for /proc and /sys; cap includes the NUL. */
int file_read_line(const char *path, char *line, size_t cap, struct err *err);
/* Writes to a temporary file beside path and renames; sync also fsyncs file and directory. */
int file_write_atomic(
	const char *path, const void *data, size_t len, mode_t mode, bool sync, struct err *err);
/*
 * The same without sync and without waiting for the disk: ext4 writes the data of a file that
 * replaces another one out before the rename returns (auto_da_alloc), which takes milliseconds on a
 * busy disk. Here the two change places, and the old one stays as spare, a path in the same folder,
 * for the next time: a new inode for each write is what costs most. reuse says that nobody has the
 * spare open; one that has a third name, or does not fit a block, is left alone, and replaced.
 * After a crash of the host the file can be empty, broken off, or what the spare said before: see keep
 * of file_sync_async(), and let the data tell which of two is newer.
 */
int file_swap(const char *path, const char *spare, bool reuse, const void *data, size_t len,
	mode_t mode, struct err *err);
/* All of data at offset, whatever the kernel takes at once. */
int file_write_at(int fd, const void *data, size_t len, uint64_t offset, struct err *err);
/* One write() into an existing file, for /proc and /sys. */
int file_write_proc(const char *path, const char *value, struct err *err);

typedef void file_done_fn(void *arg, const struct err *err);
/* fsync of a file or folder, which takes its time: not on the loop. */
int file_sync(const char *path, struct err *err);
/*
 * fsync of a file and its folder in the thread pool: what file_write_atomic() without sync has
 * written survives a crash of the daemon at once, and of the host when done has fired. keep (may be
 * NULL) is made a second name of what was synced, to fall back on while path is newer. done (may be
 * NULL) fires exactly once, on the loop, never before this returns; err is NULL on success.
 * Returns -ENOMEM (then done does not fire).
 */
int file_sync_async(
	uv_loop_t *loop, const char *path, const char *keep, file_done_fn *done, void *arg);

int mkdir_p(const char *path, mode_t mode, struct err *err);
/*
 * -EPERM unless the folder belongs to us or to root and no other user may write into it: whoever
 * may could put a symbolic link where one of our files is going to be.
 */
int dir_check_ours(const char *path, struct err *err);
/* Removes a tree without following symbolic links; a missing one is no error. */
int remove_tree(const char *path, struct err *err);
/* dir/name, malloc'd; NULL without memory. */
char *path_join(const char *dir, const char *name);
/* Absolute path of the executable `name` by PATH plus the sbin folders (or name itself when it
 * has a slash and is executable); NULL if there is none. malloc'd. */
char *find_program(const char *name);

/* /proc/sys/kernel/random/boot_id, read once; "" where it cannot be read. */
const char *boot_id(void);

/* Unix stream sockets. Paths that do not fit sun_path (108) are refused by name: -ENAMETOOLONG. */
int unix_listen(const char *path, mode_t mode, int backlog, int *out_fd, struct err *err);
int unix_connect(const char *path, int *out_fd, struct err *err);

#endif
