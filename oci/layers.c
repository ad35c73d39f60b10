#include "oci/layers.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/evp.h>
#include "lib/str.h"
#include "oci/apply.h"
#include "oci/ext4.h"
#include "oci/rawdisk.h"

#define SIZE_DEFAULT (8ull << 30)
#define SIZE_MAX_ALL (1ull << 40)

bool layer_media_type_known(const char *media_type)
{
	static const char *const known[] = {
		"application/vnd.oci.image.layer.v1.tar",
		"application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.layer.v1.tar+zstd",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
		"application/vnd.docker.image.rootfs.diff.tar",
		"application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (strcmp(known[i], media_type) == 0)
			return true;
	}
	return false;
}

/* The sink of apply.h that writes an ext4. */
static int sink_add(
	void *arg, const struct ext4_meta *m, uint64_t entry, uint32_t *ino, struct err *err)
{
	return ext4_add(arg, m, ino, err);
}

static int sink_data(void *arg, uint64_t offset, const void *data, size_t len, struct err *err)
{
	return ext4_data(arg, offset, data, len, err);
}

static int sink_end(void *arg, uint64_t size, struct err *err)
{
	return ext4_end(arg, size, err);
}

static int sink_set_meta(void *arg, uint32_t ino, const struct ext4_meta *m, struct err *err)
{
	return ext4_set_meta(arg, ino, m, err);
}

static int sink_link(void *arg, uint32_t ino, struct err *err)
{
	return ext4_link(arg, ino, err);
}

static int sink_unlink(void *arg, uint32_t ino, struct err *err)
{
	return ext4_unlink(arg, ino, err);
}

static int sink_readlink(void *arg, uint32_t ino, char *buf, struct err *err)
{
	return ext4_readlink(arg, ino, buf, err);
}

static const struct apply_sink ext4_sink = {
	.add = sink_add,
	.data = sink_data,
	.end = sink_end,
	.set_meta = sink_set_meta,
	.link = sink_link,
	.unlink = sink_unlink,
	.readlink = sink_readlink,
};

static int write_dir(struct tree *t, struct ext4 *e, uint32_t id, struct err *err)
{
	const struct tree_node *dir = tree_at(t, id);
	struct ext4_dirent *v;
	size_t n = 0;
	uint32_t c;
	int r;

	for (c = dir->child; c != TREE_NONE; c = tree_at(t, c)->next)
		n++;
	v = calloc(MAX(n, (size_t)1), sizeof(*v));
	if (v == NULL)
		return err_nomem(err);
	n = 0;
	for (c = dir->child; c != TREE_NONE; c = tree_at(t, c)->next) {
		const struct tree_node *node = tree_at(t, c);

		v[n++] = (struct ext4_dirent){
			.name = tree_name(t, c),
			.name_len = node->name_len,
			.type = node->special,
			.ino = node->ino,
		};
	}
	r = ext4_write_dir(e, dir->ino, tree_at(t, dir->parent)->ino, v, n, err);
	free(v);
	return r;
}

/* e2fsck puts what it finds there, and complains of a filesystem without it. */
static int add_lost_found(struct tree *t, struct ext4 *e, struct err *err)
{
	static const char name[] = "lost+found";
	struct ext4_meta m = { .mode = S_IFDIR | 0700 };
	uint32_t ino, id;
	int r;

	if (tree_find(t, TREE_ROOT, name, strlen(name)) != TREE_NONE)
		return 0;
	r = ext4_add(e, &m, &ino, err);
	if (r == 0)
		r = tree_add(t, TREE_ROOT, name, strlen(name), &id, err);
	if (r < 0)
		return r;
	tree_at(t, id)->ino = ino;
	tree_at(t, id)->type = TREE_DIR;
	tree_at(t, id)->special = ext4_file_type(m.mode);
	return 0;
}

static int write_dirs(struct tree *t, struct ext4 *e, struct err *err)
{
	int r = add_lost_found(t, e, err);

	for (uint32_t id = tree_first(t, TREE_ROOT); r == 0 && id != TREE_NONE;
		id = tree_next(t, id, TREE_ROOT)) {
		if (tree_at(t, id)->type == TREE_DIR)
			r = write_dir(t, e, id, err);
	}
	return r;
}

/* UUID and hash seed: two halves of a SHA-256, the UUID with the bits of version 8 (RFC 9562). */
static int set_identity(struct ext4_spec *spec, const char *seed, struct err *err)
{
	uint8_t sum[EVP_MAX_MD_SIZE];

	if (seed == NULL)
		seed = "";
	if (EVP_Digest(seed, strlen(seed), sum, NULL, EVP_sha256(), NULL) != 1)
		return err_nomem(err);
	memcpy(spec->uuid, sum, 16);
	memcpy(spec->hash_seed, sum + 16, 16);
	spec->uuid[6] = (spec->uuid[6] & 0x0f) | 0x80;
	spec->uuid[8] = (spec->uuid[8] & 0x3f) | 0x80;
	return 0;
}

struct build {
	const struct layer_src *layers;
	size_t n;
	const struct disk_opts *opts;
	int fd;
	uint64_t done; /* what progress was last told */
};

/* The layers may be read more than once; what is seen of it only goes forward. */
static void forward_progress(void *arg, uint64_t done, uint64_t total)
{
	struct build *b = arg;

	if (b->opts->progress == NULL || done < b->done)
		return;
	b->done = done;
	b->opts->progress(b->opts->arg, done, total);
}

/* *full: this size is too small. */
static int build_once(struct build *b, const struct ext4_spec *spec, struct disk_result *out,
	bool *full, struct err *err)
{
	struct ext4_stats stats;
	struct tree *t = NULL;
	struct ext4 *e = NULL;
	int r;

	*full = false;
	if (ftruncate(b->fd, 0) < 0)
		return err_errno(err, -errno, "empty the disk");
	r = tree_create(&t, err);
	if (r == 0)
		r = ext4_create(&e, b->fd, spec, err);
	if (r == 0)
		r = apply_layers(
			t, EXT4_ROOT, b->layers, b->n, &ext4_sink, e, forward_progress, b, err);
	if (r == 0)
		r = write_dirs(t, e, err);
	if (r == 0)
		r = ext4_finish(e, &stats, err);
	if (r == 0) {
		out->kind = DISK_BUILT;
		out->size_bytes = spec->size_bytes;
		out->used_bytes = stats.used_bytes;
		out->files = stats.inodes;
		memcpy(out->warning, stats.warning, sizeof(out->warning));
	}
	*full = e != NULL && ext4_is_full(e);
	ext4_destroy(e);
	tree_destroy(t);
	return r;
}

static int build(struct build *b, struct disk_result *out, struct err *err)
{
	struct ext4_spec spec = { .label = b->opts->label };
	uint64_t max = b->opts->max_bytes ? b->opts->max_bytes : SIZE_MAX_ALL;
	bool full;
	int r = set_identity(&spec, b->opts->seed, err);

	if (r < 0)
		return r;
	spec.size_bytes = b->opts->size_bytes;
	if (spec.size_bytes == 0)
		spec.size_bytes = MIN(
			b->opts->first_bytes ? b->opts->first_bytes : SIZE_DEFAULT, max);
	spec.size_bytes -= spec.size_bytes % EXT4_BLOCK;
	for (;;) {
		r = build_once(b, &spec, out, &full, err);
		if (r == 0 || !full || b->opts->size_bytes != 0 || spec.size_bytes >= max)
			return r;
		spec.size_bytes = MIN(2 * spec.size_bytes, max);
	}
}

int layers_build_disk(const struct layer_src *layers, size_t n, const struct disk_opts *opts,
	int out_fd, struct disk_result *out, struct err *err)
{
	struct build b = { .layers = layers, .n = n, .opts = opts, .fd = out_fd };
	struct disk_result result = { .kind = DISK_RAW };
	bool found = false;
	int r = 0;

	for (size_t i = 0; i < n; i++) {
		if (layers[i].media_type != NULL && !layer_media_type_known(layers[i].media_type))
			return err_set(err, -ENOTSUP,
				"layer %zu has the media type %s, which is no layer", i + 1,
				quote(layers[i].media_type));
	}
	/* A pipe can be read only once. */
	if (n > 0 && (layers[0].path != NULL || lseek(layers[0].fd, 0, SEEK_CUR) >= 0))
		r = raw_disk_copy(layers, n, out_fd, forward_progress, &b, &found,
			&result.size_bytes, &result.format, err);
	if (r == 0 && !found)
		r = build(&b, &result, err);
	if (r == 0)
		*out = result;
	return r;
}
