/* oci/job-convert.h - disks of images that are not raw: part of oci/job-disk.c's work. */
#ifndef DROVER_OCI_JOB_CONVERT_H
#define DROVER_OCI_JOB_CONVERT_H

#include "oci/job.h"

/* Of an image that is one file in another format (oci/source.h): makes the raw disk at path. */
int convert_image(struct image *im, const char *path, struct err *err);
/*
 * Of an image whose layers hold one disk: it was put at path, and its name says that it is in this
 * format. In its place comes the raw disk. key: of the item that is being made.
 */
int convert_extracted(struct image *im, const char *path, enum image_format by_name,
	const char *key, struct err *err);

#endif
