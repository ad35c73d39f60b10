/*
 * oci/image.h - what droverd and drover-image say to one another. drover-image is started for each
 * job, does it, and exits: 0 done, 1 failed (the last line is an error), 2 usage.
 *
 *   drover-image pull   --store DIR --ref REF [--mirror HOST=URL]... [--plain-http HOST]...
 *                       [--platform linux/amd64] [--policy missing|always|never]
 *                       [--auth-file FILE] [--tries N] [--stall TIME]
 *       fetches manifest and layers into the store; FILE is a docker config.json
 *   drover-image kernel --store DIR --ref REF
 *       (pulled before) takes /boot/vmlinux or /boot/vmlinuz*, /boot/initrd* out of it
 *   drover-image rootfs --store DIR --ref REF [--size BYTES]
 *       (pulled before) builds the ext4 disk, or finds it built, by digest
 *   drover-image clone  --from FILE --to FILE [--size BYTES] [--inject FILE] [--no-sync]
 *       copy-on-write clone (reflink, else sparse copy), grown to size; --inject names a JSON file
 *       {"hostname": "...", "authorized_keys": ["..."], "user": "root", "root_device": "/dev/vda",
 *       "hosts": bool, "network": bool}; by temporary file and
 *       rename, so that `to` is complete or missing; with --no-sync only as long as the host does
 *       not crash, for disks that are made anew then
 *   drover-image import --store DIR --from FILE [--name REF]
 *       an archive or folder of the OCI layout, what docker save writes, or a disk, into the store
 *   drover-image export --store DIR --ref REF --to FILE
 *       an image of the store, as an archive of the OCI layout
 *   drover-image list|rm|prune --store DIR [--ref REF]
 *       rm also removes what only that image needed; -EBUSY (prune) while other jobs use the store
 *
 * pull, kernel and rootfs take several --ref and treat them in order; pull runs first by itself
 * where `kernel` or `rootfs` finds the image missing and --policy is not never.
 *
 * Output: JSON lines on standard output, each with "event":
 *   {"event":"start","ref":R,"layers":[{"digest":D,"size":N},...],"cached":N}
 *   {"event":"progress","ref":R,"digest":D,"done":N,"size":N}     at most 10 a second a layer
 *   {"event":"layer","ref":R,"digest":D,"cached":bool}            complete and verified
 *   {"event":"build","ref":R,"done":N,"size":N}                   bytes of layers unpacked
 *   {"event":"warning","message":S}
 *   {"event":"done","ref":R,"digest":D,"kernel":PATH,"initrd":PATH,"disk":PATH,"size":N,
 *       "os":"linux","architecture":"amd64","method":"reflink|copy","name":REF,"file":PATH}
 *       what applies; name is an import's, file an export's; size is the layers' for pull, the disk's for rootfs and clone, the store's for list, and for rm and
 *       prune what was freed
 *   {"event":"image","ref":R,"digest":D,"tag_digest":D,"size":N,"pulled":UNIX_MS,"os":S,
 *       "architecture":S,"kernel":PATH,"disks":[PATH,...]}        list: one for each image; ref is
 *       in canonical form; digest is the manifest's, tag_digest what the tag named when pulled
 *   {"event":"error","ref":R,"code":WORD,"message":S}             WORD as err_word()
 * Everything else (debugging) goes to standard error.
 */
#ifndef DROVER_OCI_IMAGE_H
#define DROVER_OCI_IMAGE_H

#include <stdbool.h>
#include "lib/str.h"

enum image_source {
	IMAGE_REGISTRY,
	IMAGE_OCI_FOLDER,     /* "oci:/DIR[:TAG]", the OCI image layout */
	IMAGE_OCI_ARCHIVE,    /* "oci-archive:/FILE[:TAG]", a tar of it */
	IMAGE_DOCKER_ARCHIVE, /* "docker-archive:/FILE[:TAG]", as `docker save` writes it */
	IMAGE_FILE,           /* "file:/FILE", a disk or a kernel itself */
	IMAGE_URL             /* "https://HOST/FILE", likewise; "http://..." with sha256 */
};

/* Of one file, in the order of their names in oci/image-file.c. */
enum image_format {
	FORMAT_BY_NAME, /* by the ending of the file's name; raw where that says nothing */
	FORMAT_RAW,
	FORMAT_QCOW2,
	FORMAT_VMDK,
	FORMAT_VHDX,
	FORMAT_EFI /* a unified kernel image */
};
#define IMAGE_BACKING_MAX 4
/* Of an image that is one file, and of the disk made of it, in bytes. */
#define IMAGE_MAX_DEFAULT ((uint64_t)256 << 30)

struct image_ref {
	enum image_source source;
	char path[1024]; /* of other sources than a registry, which have no host; of a URL, all */
	char host[256];  /* "docker.io", "127.0.0.1:5000" */
	char repository[256];
	char tag[129];    /* "" with a digest only; "latest" when neither is given */
	char digest[136]; /* "sha256:..." or ""; of a file, what its content must be */
	/* What may follow a '#', KEY=VALUE with '&' between: sha256, format, backing. */
	enum image_format format;
	char backing[1024]; /* files that it lies above, from the top, each ended by \n */
};
/*
 * "ghcr.io/org/name:tag@sha256:...", per the OCI distribution spec's grammar; a name without a
 * host gets docker.io (and library/). Or a file or folder of the host, by its absolute path, or a
 * URL, as above. -EINVAL says what is wrong.
 */
int image_ref_parse(const char *s, struct image_ref *out, struct err *err);
/* The canonical form, with host and tag or digest. */
void image_ref_format(const struct image_ref *r, struct buf *out);

/* The image is one file rather than layers. */
bool image_is_file(const struct image_ref *r);
/* The same of what rootfs = says: such a reference, or an absolute path. */
bool image_text_is_file(const char *s);
/* "qcow2"; NULL for FORMAT_BY_NAME. */
const char *image_format_name(enum image_format f);
/* -EINVAL lists those that there are. */
int image_format_parse(const char *s, enum image_format *out, struct err *err);
/* By the ending of a name or URL alone, never by content: FORMAT_BY_NAME where it says nothing. */
enum image_format image_format_of_name(const char *name);

#endif
