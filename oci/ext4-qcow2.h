/*
 * oci/ext4-qcow2.h - the ext4 in a qcow2, for libext2fs: what it writes goes into the uppermost
 * layer, and the raw disk below is only read. Blocks; any one thread.
 */
#ifndef DROVER_OCI_EXT4_QCOW2_H
#define DROVER_OCI_EXT4_QCOW2_H

#include <ext2fs/ext2fs.h>

/* For ext2fs_open(), with the path of the qcow2. */
extern io_manager const ext4_qcow2_io;
/* The sentence of the last error of an open file system of this kind; "" when there was none. */
const char *ext4_qcow2_error(ext2_filsys fs);

#endif
