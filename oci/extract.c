/*
 * Two passes: the first builds the tree of names and remembers which entry each file came with,
 * the second copies the data of the two files that were chosen. Kernel images are small.
 */
#include "oci/extract.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/str.h"
#include "oci/apply.h"
#include "oci/entries.h"
#include "oci/look.h"
#include "oci/path.h"
#include "oci/rawdisk.h"

struct object {
	uint64_t entry;
	char *target; /* of symbolic links */
};

struct scan {
	struct tree *tree;
	struct object *objects; /* by ino - 1 */
	size_t n, cap;
};

static int scan_add(
	void *arg, const struct ext4_meta *m, uint64_t entry, uint32_t *ino, struct err *err)
{
	struct scan *s = arg;
	struct object *o;

	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 1024;

		o = realloc(s->objects, cap * sizeof(*o));
		if (o == NULL)
			return err_nomem(err);
		s->objects = o;
		s->cap = cap;
	}
	o = &s->objects[s->n];
	*o = (struct object){ .entry = entry };
	if (S_ISLNK(m->mode)) {
		if (strlen(m->target) >= 4096)
			return err_set(err, -ENAMETOOLONG, "a symbolic link's target is too long");
		o->target = strdup(m->target);
		if (o->target == NULL)
			return err_nomem(err);
	}
	*ino = ++s->n;
	return 0;
}

static int scan_nothing(void *arg, uint32_t ino, struct err *err)
{
	return 0;
}

static int scan_set_meta(void *arg, uint32_t ino, const struct ext4_meta *m, struct err *err)
{
	return 0;
}

static int scan_readlink(void *arg, uint32_t ino, char *buf, struct err *err)
{
	struct scan *s = arg;

	strcpy(buf, s->objects[ino - 1].target);
	return 0;
}

static const struct apply_sink scan_sink = {
	.add = scan_add,
	.set_meta = scan_set_meta,
	.link = scan_nothing,
	.unlink = scan_nothing,
	.readlink = scan_readlink,
};

static const struct path_ops paths = { .readlink = scan_readlink };

/* The regular file that name in /boot is, links followed; TREE_NONE if it is anything else. */
static int resolve(struct scan *s, uint32_t boot, const char *name, uint32_t *out, struct err *err)
{
	uint32_t id;
	int r = path_walk(s->tree, &paths, s, boot, name, strlen(name), &id, err);

	if (r == -ELOOP)
		id = TREE_NONE;
	else if (r < 0)
		return r;
	*out = id != TREE_NONE && tree_at(s->tree, id)->type == TREE_FILE ? id : TREE_NONE;
	return 0;
}

struct pick {
	const char *name; /* in /boot; NULL: none */
	uint32_t node;    /* the file itself */
};

static int pick_exact(
	struct scan *s, uint32_t boot, const char *name, struct pick *p, struct err *err)
{
	uint32_t id = tree_find(s->tree, boot, name, strlen(name)), file;
	int r;

	if (p->name != NULL || id == TREE_NONE)
		return 0;
	r = resolve(s, boot, name, &file, err);
	if (r == 0 && file != TREE_NONE)
		*p = (struct pick){ .name = tree_name(s->tree, id), .node = file };
	return r;
}

/* "vmlinuz-6.1" is a later choice than "vmlinuz-6.10", and anything.old than both. */
static bool better(const char *a, const char *b)
{
	bool old_a = str_ends(a, ".old"), old_b = str_ends(b, ".old");

	return b == NULL || (old_a != old_b ? old_b : strverscmp(a, b) > 0);
}

/* The highest version; prefixes are alternatives, and do not count for the version. */
static int pick_highest(struct scan *s, uint32_t boot, const char *const prefixes[], size_t n,
	struct pick *p, struct err *err)
{
	const char *version = NULL, *best = NULL;
	uint32_t id, file;
	int r;

	if (p->name != NULL)
		return 0;
	for (id = tree_at(s->tree, boot)->child; id != TREE_NONE; id = tree_at(s->tree, id)->next) {
		const char *name = tree_name(s->tree, id);

		for (size_t i = 0; i < n; i++) {
			if (!str_starts(name, prefixes[i]))
				continue;
			version = name + strlen(prefixes[i]);
			/* Of two prefixes with the same version the first one in the table wins. */
			if (best != NULL && !better(version, best))
				break;
			r = resolve(s, boot, name, &file, err);
			if (r < 0)
				return r;
			if (file != TREE_NONE) {
				best = version;
				*p = (struct pick){ .name = name, .node = file };
			}
			break;
		}
	}
	return 0;
}

static int pick_kernel(struct scan *s, uint32_t boot, struct pick *p, struct err *err)
{
	static const char *const prefixes[] = { "vmlinux-", "vmlinuz-", "vmlinuz" };
	int r = pick_exact(s, boot, "vmlinux", p, err);

	if (r == 0)
		r = pick_exact(s, boot, "vmlinuz", p, err);
	return r < 0 ? r : pick_highest(s, boot, prefixes, ARRAY_LEN(prefixes), p, err);
}

static int pick_initrd(
	struct scan *s, uint32_t boot, const char *kernel, struct pick *p, struct err *err)
{
	static const char *const named[] = { "initrd.img-%s", "initrd-%s", "initramfs-%s.img",
		"initramfs-%s", "initrd-%s.img" };
	static const char *const exact[] = { "initrd", "initrd.img", "initramfs", "initramfs.img" };
	static const char *const prefixes[] = { "initrd.img-", "initramfs-", "initrd-", "initrd",
		"initramfs" };
	const char *version = strchr(kernel, '-');
	char name[300];
	int r = 0;

	for (size_t i = 0; r == 0 && version != NULL && i < ARRAY_LEN(named); i++) {
		snprintf(name, sizeof(name), named[i], version + 1);
		r = pick_exact(s, boot, name, p, err);
	}
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(exact); i++)
		r = pick_exact(s, boot, exact[i], p, err);
	return r < 0 ? r : pick_highest(s, boot, prefixes, ARRAY_LEN(prefixes), p, err);
}

/*
 * Where UKIs lie: kernel-install(8) puts them into /EFI/Linux of the boot partition, which may be
 * at /boot or /efi; images made for nothing else have theirs in /boot.
 */
static int pick_uki(struct scan *s, struct pick *p, struct err *err)
{
	static const char *const folders[] = { "boot", "boot/EFI/Linux", "boot/efi/EFI/Linux",
		"efi/EFI/Linux", "EFI/Linux" };
	uint32_t dir, file;
	int r = 0;

	for (size_t i = 0; r == 0 && p->name == NULL && i < ARRAY_LEN(folders); i++) {
		r = path_walk(
			s->tree, &paths, s, TREE_ROOT, folders[i], strlen(folders[i]), &dir, err);
		if (r < 0 || dir == TREE_NONE || tree_at(s->tree, dir)->type != TREE_DIR)
			continue;
		for (uint32_t id = tree_at(s->tree, dir)->child; r == 0 && id != TREE_NONE;
			id = tree_at(s->tree, id)->next) {
			const char *name = tree_name(s->tree, id);

			if (image_format_of_name(name) != FORMAT_EFI ||
				(p->name != NULL && !better(name, p->name)))
				continue;
			r = resolve(s, dir, name, &file, err);
			if (r == 0 && file != TREE_NONE)
				*p = (struct pick){ .name = name, .node = file };
		}
	}
	return r;
}

static int no_kernel(struct scan *s, uint32_t boot, struct err *err)
{
	struct buf list = { 0 };
	size_t n = 0;

	if (boot == TREE_NONE)
		return err_set(err, -ENOENT, "the image has no /boot, so no kernel to start");
	for (uint32_t id = tree_at(s->tree, boot)->child; id != TREE_NONE;
		id = tree_at(s->tree, id)->next) {
		if (++n <= 10)
			buf_printf(&list, "%s%s", n > 1 ? ", " : "", quote(tree_name(s->tree, id)));
	}
	if (n > 10)
		buf_printf(&list, " and %zu more", n - 10);
	err_set(err, -ENOENT,
		"the image has neither /boot/vmlinux nor /boot/vmlinuz* nor a UKI; /boot holds %s",
		n ? buf_str(&list) : "nothing");
	buf_finish(&list);
	return -ENOENT;
}

static int choose(struct scan *s, struct pick *kernel, struct pick *initrd, struct err *err)
{
	uint32_t boot;
	int r = path_walk(s->tree, &paths, s, TREE_ROOT, "boot", 4, &boot, err);

	if (r < 0)
		return r;
	if (boot != TREE_NONE && tree_at(s->tree, boot)->type != TREE_DIR)
		boot = TREE_NONE;
	if (boot != TREE_NONE)
		r = pick_kernel(s, boot, kernel, err);
	if (r < 0)
		return r;
	if (kernel->name == NULL) {
		/* It has its initrd within. */
		r = pick_uki(s, kernel, err);
		return r < 0 || kernel->name != NULL ? r : no_kernel(s, boot, err);
	}
	return pick_initrd(s, boot, kernel->name, initrd, err);
}

static int copy_entry(
	struct entries *es, struct archive_entry *entry, int fd, const char *name, struct err *err)
{
	const void *data;
	uint64_t offset;
	size_t len;
	int r;

	r = ftruncate(fd, MAX(archive_entry_size(entry), 0)) < 0
		    ? err_errno(err, -errno, "write %s", name)
		    : 0;
	while (r == 0 && (r = entries_data(es, &data, &len, &offset, err)) > 0)
		r = write_sparse(fd, data, len, offset, err);
	return r;
}

/* The second pass. */
static int copy_files(const struct layer_src *layers, size_t n, const int fds[2], uint64_t kernel,
	uint64_t initrd, struct err *err)
{
	unsigned left = initrd == UINT64_MAX ? 1 : 2;
	struct archive_entry *entry;
	struct entries *es;
	uint64_t at = 0;
	size_t layer;
	int r;

	r = entries_open(&es, layers, n, NULL, NULL, err);
	if (r < 0)
		return r;
	while (left > 0 && (r = entries_next(es, &entry, &layer, err)) > 0) {
		if (at == kernel || at == initrd) {
			r = at == kernel ? copy_entry(es, entry, fds[0], "kernel", err)
					 : copy_entry(es, entry, fds[1], "initrd", err);
			if (r < 0) {
				err_wrap(err, "layer %zu", layer + 1);
				break;
			}
			left--;
		}
		at++;
	}
	entries_close(es);
	return MIN(r, 0);
}

static void set_path(struct scan *s, const struct pick *p, char *out, size_t cap)
{
	struct buf path = { 0 };

	if (p->name != NULL)
		tree_path(s->tree, p->node, &path);
	snprintf(out, cap, "%s", buf_str(&path));
	buf_finish(&path);
}

static void scan_finish(struct scan *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->objects[i].target);
	free(s->objects);
	tree_destroy(s->tree);
}

int extract_kernel_to(const struct layer_src *layers, size_t n, int kernel_fd, int initrd_fd,
	layers_progress_fn *progress, void *arg, struct kernel_files *out, struct err *err)
{
	const int fds[] = { kernel_fd, initrd_fd };
	struct pick kernel = { 0 }, initrd = { 0 };
	struct ext4_meta root = { .mode = S_IFDIR | 0755 };
	struct scan s = { 0 };
	uint64_t kernel_entry, initrd_entry = UINT64_MAX;
	uint32_t root_ino;
	int r;

	r = tree_create(&s.tree, err);
	if (r == 0)
		r = scan_add(&s, &root, 0, &root_ino, err);
	if (r == 0)
		r = apply_layers(s.tree, root_ino, layers, n, &scan_sink, &s, progress, arg, err);
	if (r == 0)
		r = choose(&s, &kernel, &initrd, err);
	if (r == 0) {
		kernel_entry = s.objects[tree_at(s.tree, kernel.node)->ino - 1].entry;
		if (initrd.name != NULL)
			initrd_entry = s.objects[tree_at(s.tree, initrd.node)->ino - 1].entry;
		r = copy_files(layers, n, fds, kernel_entry, initrd_entry, err);
	}
	if (r == 0) {
		set_path(&s, &kernel, out->kernel, sizeof(out->kernel));
		set_path(&s, &initrd, out->initrd, sizeof(out->initrd));
	}
	scan_finish(&s);
	return r;
}

static bool is_there(struct scan *s, const char *path)
{
	uint32_t id;

	return path_walk(s->tree, &paths, s, TREE_ROOT, path, strlen(path), &id, NULL) == 0 &&
	       id != TREE_NONE;
}

static void look_for_init(struct scan *s, struct look *out)
{
	/* As the kernel looks for it (Linux, init/main.c). */
	static const char *const inits[] = { "sbin/init", "etc/init", "bin/init", "bin/sh" };

	for (size_t i = 0; i < ARRAY_LEN(inits); i++)
		out->init |= is_there(s, inits[i]);
}

static void look_for_disk(struct scan *s, struct look *out)
{
	uint32_t dir = tree_find(s->tree, TREE_ROOT, "disk", 4), only;
	struct pick p = { .name = "" };

	if (dir == TREE_NONE || tree_at(s->tree, dir)->type != TREE_DIR)
		return;
	only = tree_at(s->tree, dir)->child;
	if (only == TREE_NONE || tree_at(s->tree, only)->next != TREE_NONE ||
		tree_at(s->tree, only)->type != TREE_FILE)
		return;
	p.node = only;
	set_path(s, &p, out->disk, sizeof(out->disk));
}

int look_at(const struct layer_src *layers, size_t n, struct look *out, struct err *err)
{
	struct pick kernel = { 0 }, initrd = { 0 };
	struct ext4_meta root = { .mode = S_IFDIR | 0755 };
	struct scan s = { 0 };
	struct look l = { 0 };
	uint32_t root_ino;
	int r;

	r = tree_create(&s.tree, err);
	if (r == 0)
		r = scan_add(&s, &root, 0, &root_ino, err);
	if (r == 0)
		r = apply_layers(s.tree, root_ino, layers, n, &scan_sink, &s, NULL, NULL, err);
	if (r == 0) {
		r = choose(&s, &kernel, &initrd, err);
		r = r == -ENOENT ? 0 : r;
	}
	if (r == 0) {
		set_path(&s, &kernel, l.kernel, sizeof(l.kernel));
		set_path(&s, &initrd, l.initrd, sizeof(l.initrd));
		look_for_disk(&s, &l);
		look_for_init(&s, &l);
		for (uint32_t id = tree_first(s.tree, TREE_ROOT); id != TREE_NONE;
			id = tree_next(s.tree, id, TREE_ROOT))
			l.files++;
		l.files--; /* the root */
		*out = l;
	}
	scan_finish(&s);
	return r;
}

static int create(int dir_fd, const char *name, int *out, struct err *err)
{
	*out = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	return *out < 0 ? err_errno(err, -errno, "create %s", name) : 0;
}

int extract_create(int dir_fd, int fds[2], struct err *err)
{
	int r = create(dir_fd, "kernel", &fds[0], err);

	if (r < 0)
		return r;
	r = create(dir_fd, "initrd", &fds[1], err);
	if (r < 0)
		close(fds[0]);
	return r;
}

int extract_close(int dir_fd, const int fds[2], bool initrd, int r, struct err *err)
{
	for (int i = 0; i < 2; i++) {
		if (close(fds[i]) < 0 && r == 0)
			r = err_errno(err, -errno, "write %s", i == 0 ? "kernel" : "initrd");
	}
	if (r < 0)
		unlinkat(dir_fd, "kernel", 0);
	if (r < 0 || !initrd)
		unlinkat(dir_fd, "initrd", 0);
	return r;
}

int extract_kernel(const struct layer_src *layers, size_t n, int dir_fd,
	layers_progress_fn *progress, void *arg, struct kernel_files *out, struct err *err)
{
	int fds[2], r = extract_create(dir_fd, fds, err);

	if (r < 0)
		return r;
	r = extract_kernel_to(layers, n, fds[0], fds[1], progress, arg, out, err);
	return extract_close(dir_fd, fds, r == 0 && out->initrd[0] != '\0', r, err);
}
