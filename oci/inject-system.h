/*
 * oci/inject-system.h - what a container's filesystem lacks to be a machine's: fstab, hosts, and the
 * configuration of its network. What the image says itself goes before; what drover writes stands
 * between two marker lines, or in a file of its own. Part of oci/inject.h's work.
 */
#ifndef DROVER_OCI_INJECT_SYSTEM_H
#define DROVER_OCI_INJECT_SYSTEM_H

#include <ext2fs/ext2fs.h>
#include "oci/inject.h"

int inject_system(ext2_filsys fs, const struct inject_spec *spec, struct err *err);

#endif
