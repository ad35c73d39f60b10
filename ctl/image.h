/* ctl/image.h - what the verbs for images share. */
#ifndef DROVER_CTL_IMAGE_H
#define DROVER_CTL_IMAGE_H

#include <jansson.h>
#include "ctl/ctl.h"

/*
 * A call that is answered by lines of progress (oci/image.h): bars, plain lines or JSON. Takes body
 * over. Returns an enum ctl_exit.
 */
int image_follow(struct ctl *c, const char *path, json_t *body);

#endif
