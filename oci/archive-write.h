/*
 * oci/archive-write.h - an image of the store as one file, a tar of the OCI image layout
 * ("oci-archive:"). The same image gives the same bytes. Part of drover-image: blocks.
 */
#ifndef DROVER_OCI_ARCHIVE_WRITE_H
#define DROVER_OCI_ARCHIVE_WRITE_H

#include "oci/job.h"

/* im was resolved. Every blob's digest is checked on its way; fd is not synced. */
int archive_write_image(struct image *im, int fd, struct err *err);

#endif
