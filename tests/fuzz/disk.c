/*
 * A layer made into an ext4. Inputs are tars (or gzip, zstd); the mutator puts the checksums of
 * headers right, without which hardly anything would get past them.
 */
#include <ext2fs/ext2fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/extract.h"
#include "oci/layers.h"

#define BLOCK 512

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t max);

/* What was made must at least be a filesystem that libext2fs can read whole. */
static void check(int fd)
{
	char name[16];
	ext2_filsys fs;
	struct ext2_inode inode;
	ext2_inode_scan scan;
	ext2_ino_t ino;

	snprintf(name, sizeof(name), "%d", fd);
	if (ext2fs_open(name, EXT2_FLAG_64BITS, 0, 0, unixfd_io_manager, &fs) != 0 ||
		ext2fs_read_bitmaps(fs) != 0 || ext2fs_check_directory(fs, EXT2_ROOT_INO) != 0)
		abort();
	/* Reading verifies the checksum of each inode. */
	if (ext2fs_open_inode_scan(fs, 0, &scan) != 0)
		abort();
	do {
		if (ext2fs_get_next_inode(scan, &ino, &inode) != 0)
			abort();
	} while (ino != 0);
	ext2fs_close_inode_scan(scan);
	ext2fs_free(fs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct disk_opts opts = { .size_bytes = 2 << 20, .seed = "fuzz" };
	struct layer_src src = { .fd = memfd_create("layer", 0) };
	int fd = memfd_create("disk", 0), initrd = memfd_create("initrd", 0);
	struct disk_result res;
	struct kernel_files files;
	struct err err;

	if (src.fd < 0 || fd < 0 || initrd < 0 || file_write_at(src.fd, data, len, 0, &err) < 0)
		abort();
	if (layers_build_disk(&src, 1, &opts, fd, &res, &err) == 0 && res.kind == DISK_BUILT)
		check(fd);
	/* The names of a kernel are looked for in every layer. */
	if (ftruncate(fd, 0) == 0 && len % 8 == 0)
		extract_kernel_to(&src, 1, fd, initrd, NULL, NULL, &files, &err);
	close(initrd);
	close(fd);
	close(src.fd);
	return 0;
}

static void put_checksum(uint8_t *header)
{
	unsigned sum = 0;
	char text[8];

	memset(header + 148, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += header[i];
	snprintf(text, sizeof(text), "%06o", sum);
	memcpy(header + 148, text, 7);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t max, unsigned seed)
{
	char size[13];
	size_t at = 0;

	len = LLVMFuzzerMutate(data, len, max);
	while (at + BLOCK <= len) {
		/* Zeros end a tar. */
		if (data[at] == 0)
			break;
		put_checksum(data + at);
		memcpy(size, data + at + 124, 12);
		size[12] = '\0';
		at += BLOCK + (strtoul(size, NULL, 8) + BLOCK - 1) / BLOCK * BLOCK;
	}
	return len;
}
