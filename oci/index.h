/*
 * oci/index.h - which references the store holds, what they were pinned to when they were pulled,
 * and what was made of them: index.json in the store, replaced whole under index.lock. Part of
 * drover-image: blocks.
 *
 *   {"version":1,"images":{"ghcr.io/org/name:tag":{"digest":D,"manifest":D,"os":..,
 *       "architecture":..,"size":BYTES,"pulled":UNIX_MS,"used":UNIX_MS,"kernel":HEX,"disks":[HEX,...]}}}
 *
 * A reference pulled for another platform than last time replaces its entry.
 */
#ifndef DROVER_OCI_INDEX_H
#define DROVER_OCI_INDEX_H

#include <jansson.h>
#include "oci/manifest.h"
#include "oci/store.h"

struct index_entry {
	char digest[DIGEST_MAX];   /* of what the tag named: an index or the manifest itself */
	char manifest[DIGEST_MAX]; /* of the platform's manifest */
	struct platform platform;
	uint64_t size; /* of the layers, as they are in the registry */
	uint64_t pulled_ms;
};
/* The time of the last use in the index may be behind by this. */
#define INDEX_USED_STEP_MS 300000

/* ref is canonical (image_ref_format). -ENOENT. */
int index_get(struct store *s, const char *ref, struct index_entry *out, struct err *err);
/* It is used now. Writes nothing if that is what is there; keeps what was built if the manifest is
 * the same. */
int index_put(struct store *s, const char *ref, const struct index_entry *e, struct err *err);
/* Remembers a disk or kernel made of the image; a ref that has gone meanwhile is no error. */
int index_add_built(
	struct store *s, const char *ref, enum store_kind kind, const char *key, struct err *err);
/* -ENOENT. */
int index_remove(struct store *s, const char *ref, struct err *err);
/* The object "images"; the caller releases it. */
int index_images(struct store *s, json_t **out, struct err *err);
/* From a member of that object. -EBADMSG. */
int index_entry_parse(const json_t *v, struct index_entry *out, struct err *err);

#endif
