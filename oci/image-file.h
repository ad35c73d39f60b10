/* oci/image-file.h - what references to single files have beside: oci/image.c's other half. */
#ifndef DROVER_OCI_IMAGE_FILE_H
#define DROVER_OCI_IMAGE_FILE_H

#include "oci/image.h"

int image_parse_url(const char *s, struct image_ref *out, struct err *err);
/* options is what follows the '#' of s; into r, which has the rest. */
int image_parse_options(const char *s, const char *options, struct image_ref *r, struct err *err);
/* That a reference has what its source needs, and nothing that is not for it. */
int image_check_file(const char *s, const struct image_ref *r, struct err *err);
/* "#sha256=..." or nothing. */
void image_format_options(const struct image_ref *r, struct buf *out);

#endif
