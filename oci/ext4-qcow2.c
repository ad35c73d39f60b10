#include "oci/ext4-qcow2.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "oci/qcow2.h"

/* lib/ext2fs/ext2_io.h; channels are told apart by their manager. */
struct channel {
	struct qcow2 *q;
	struct err err;
};

static struct channel *channel_of(io_channel io)
{
	return io->private_data;
}

static errcode_t channel_open(const char *name, int flags, io_channel *out)
{
	struct struct_io_channel *io = calloc(1, sizeof(*io));
	struct channel *c = calloc(1, sizeof(*c));
	int r = io != NULL && c != NULL ? 0 : -ENOMEM;

	if (r == 0)
		io->name = strdup(name);
	if (r == 0 && io->name == NULL)
		r = -ENOMEM;
	if (r == 0)
		r = qcow2_open(&c->q, name, (flags & IO_FLAG_RW) != 0, &c->err);
	if (r < 0) {
		if (io != NULL)
			free(io->name);
		free(io);
		free(c);
		return -r;
	}
	io->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	io->manager = ext4_qcow2_io;
	io->block_size = 1024;
	io->refcount = 1;
	io->private_data = c;
	*out = io;
	return 0;
}

static errcode_t channel_close(io_channel io)
{
	struct channel *c = channel_of(io);

	if (--io->refcount > 0)
		return 0;
	qcow2_close(c->q);
	free(c);
	free(io->name);
	free(io);
	return 0;
}

static errcode_t channel_set_blksize(io_channel io, int size)
{
	io->block_size = size;
	return 0;
}

/* A count below zero is one of bytes. */
static size_t bytes(io_channel io, int count)
{
	return count < 0 ? (size_t)-count : (size_t)count * (size_t)io->block_size;
}

static errcode_t channel_read(io_channel io, unsigned long long block, int count, void *data)
{
	struct channel *c = channel_of(io);
	uint64_t at = block * (uint64_t)io->block_size, size = qcow2_size(c->q);

	if (at > size || bytes(io, count) > size - at)
		return EXT2_ET_SHORT_READ;
	return -qcow2_read(c->q, at, data, bytes(io, count), &c->err);
}

static errcode_t channel_write(io_channel io, unsigned long long block, int count, const void *data)
{
	struct channel *c = channel_of(io);

	return -qcow2_write(
		c->q, block * (uint64_t)io->block_size, data, bytes(io, count), &c->err);
}

static errcode_t channel_read32(io_channel io, unsigned long block, int count, void *data)
{
	return channel_read(io, block, count, data);
}

static errcode_t channel_write32(io_channel io, unsigned long block, int count, const void *data)
{
	return channel_write(io, block, count, data);
}

static errcode_t channel_flush(io_channel io)
{
	return 0;
}

static struct struct_io_manager manager = {
	.magic = EXT2_ET_MAGIC_IO_MANAGER,
	.name = "qcow2",
	.open = channel_open,
	.close = channel_close,
	.set_blksize = channel_set_blksize,
	.read_blk = channel_read32,
	.write_blk = channel_write32,
	.flush = channel_flush,
	.read_blk64 = channel_read,
	.write_blk64 = channel_write,
};
io_manager const ext4_qcow2_io = &manager;

const char *ext4_qcow2_error(ext2_filsys fs)
{
	return fs->io->manager == ext4_qcow2_io ? channel_of(fs->io)->err.msg : "";
}
