/*
 * oci/store.h - the store of images: items by content, each complete or not there. Part of
 * drover-image: blocks. Several processes use one store at once.
 *
 *   blobs/ALGORITHM/HEX             layers, manifests and configs as the registry sent them
 *   built/HEX.ext4                  disks; HEX stands for layers, size and builder version
 *   kernels/HEX/{kernel,initrd}     taken out of an image's layers
 *   index.json                      oci/index.h
 *   tmp/NAME.part, tmp/NAME.lock    what is being made; the lock is held by who makes it
 *   lock, index.lock
 *
 * An item is made in tmp/ under its lock, synced and renamed. Its maker's death frees the lock;
 * what is left in tmp/ then is a download to go on with, or rubbish for store_sweep().
 */
#ifndef DROVER_OCI_STORE_H
#define DROVER_OCI_STORE_H

#include <stdbool.h>
#include <stdint.h>
#include "lib/str.h"

enum store_kind {
	STORE_BLOB, /* key: a digest */
	STORE_DISK, /* key: hex digits */
	STORE_KERNEL
};

struct store;
struct store_work;

/*
 * Makes the folders where they are missing. While it is open nothing is removed from the store by
 * others; exclusive asks for the right to remove, and is -EBUSY while others use the store.
 */
int store_open(struct store **out, const char *dir, bool exclusive, struct err *err);
void store_close(struct store *s);
const char *store_dir(const struct store *s);

/* Path of a complete item, malloc'd; NULL without memory. */
char *store_path(const struct store *s, enum store_kind kind, const char *key);
/* size of a blob must be as given, unless it is UINT64_MAX. */
bool store_has(const struct store *s, enum store_kind kind, const char *key, uint64_t size);
/* A small blob that was verified when it came. */
int store_read_blob(
	const struct store *s, const char *digest, size_t max, struct buf *out, struct err *err);

/*
 * The right to make an item: 0, -EEXIST when it is complete, and -EBUSY when another process is
 * making it and wait is false.
 */
int store_claim(struct store *s, enum store_kind kind, const char *key, bool wait,
	struct store_work **out, struct err *err);
/* Where to make it: a file to create, for kernels a folder to create. May be there already. */
const char *store_work_path(const struct store_work *w);
/* Renames what is at the work path into place; its content was synced by the caller. Frees w. */
int store_commit(struct store_work *w, struct err *err);
/* Removes what was made so far. Frees w; takes NULL. */
void store_abandon(struct store_work *w);
/* How far another process is with a blob, in bytes. */
uint64_t store_busy_bytes(const struct store *s, enum store_kind kind, const char *key);

/* Removes from tmp/ what no living process works on. Returns how many bytes that freed. */
uint64_t store_sweep(struct store *s);

typedef int store_each_fn(void *arg, enum store_kind kind, const char *key, uint64_t bytes);
/* Every complete item with the bytes that it occupies; stops at the first return other than 0. */
int store_each(struct store *s, store_each_fn *fn, void *arg, struct err *err);
int store_remove(struct store *s, enum store_kind kind, const char *key, struct err *err);

#endif
