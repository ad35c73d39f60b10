/*
 * oci/look.h - what an image holds, and so how it would be started: the layouts that drover knows.
 * Part of drover-image: blocks.
 */
#ifndef DROVER_OCI_LOOK_H
#define DROVER_OCI_LOOK_H

#include "oci/layers.h"
#include "oci/manifest.h"

struct look {
	uint64_t files;   /* names in the image */
	char kernel[512]; /* in /boot, as extract.h chooses it; "": none */
	char initrd[512];
	char disk[512]; /* the one file in /disk (a KubeVirt containerDisk); "": none */
	bool init;      /* something to start userspace with */
};

/* Reads names, no data. */
int look_at(const struct layer_src *layers, size_t n, struct look *out, struct err *err);

/* The layer that is one part of a FeOS image ("vmlinuz", "initramfs", "rootfs", "squashfs"). */
const struct descriptor *look_feos(const struct manifest *m, const char *part);

#endif
