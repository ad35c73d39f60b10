#include "oci/convert.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/json.h"
#include "oci/run-alone.h"

/* QEMU, docs/interop/qcow2.txt: "Header" */
#define QCOW2_BACKING_OFFSET 8
#define QCOW2_INCOMPATIBLE   72
#define QCOW2_DATA_FILE      (1u << 2)

static uint64_t big_endian(const unsigned char *p, int n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

/* last: nothing is below it in the chain. */
static int check_qcow2(const unsigned char *head, bool last, struct err *err)
{
	bool backed = big_endian(head + QCOW2_BACKING_OFFSET, 8) != 0;

	if (big_endian(head + 4, 4) >= 3 &&
		(big_endian(head + QCOW2_INCOMPATIBLE, 8) & QCOW2_DATA_FILE) != 0)
		return err_set(err, -EINVAL, "its data is in another file, which is not taken");
	if (backed && last)
		return err_set(err, -EINVAL,
			"it lies above another file, a backing file, which is taken only if it is named: backing = /PATH");
	if (!backed && !last)
		return err_set(
			err, -EINVAL, "it has no backing file, but backing = names one for it");
	return 0;
}

/* What can be told without qemu-img, which would look for the other files. */
static int check_head(const struct convert_file *f, bool last, struct err *err)
{
	unsigned char head[512] = { 0 };
	int fd = open(f->path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? pread(fd, head, sizeof(head), 0) : -1;

	if (n < 0)
		err_errno(err, -errno, "open %s", quote(f->path));
	if (fd >= 0)
		close(fd);
	if (n < 0)
		return err->code;
	if (f->format == FORMAT_QCOW2 && memcmp(head, "QFI\xfb", 4) == 0)
		return check_qcow2(head, last, err);
	if (f->format == FORMAT_VMDK && memmem(head, sizeof(head), "# Disk Desc", 11) == head)
		return err_set(err, -EINVAL,
			"it is the description of a vmdk whose data is in other files, which are not taken");
	return 0;
}

/* QAPI BlockdevOptions: the whole chain, and an end to it. */
static json_t *node(const struct convert_file *f, size_t n)
{
	json_t *below = n > 1 ? node(f + 1, n - 1) : json_null();
	json_t *v = json_pack("{s:s,s:{s:s,s:s}}", "driver", image_format_name(f->format), "file",
		"driver", "file", "filename", f->path);

	if (v != NULL && (f->format == FORMAT_QCOW2 || f->format == FORMAT_VMDK))
		json_object_set(v, "backing", below);
	json_decref(below);
	return v;
}

/* What check_head() could not see; the sandbox would not have given it either. */
static int check_names(const json_t *info, const struct convert_file *top, struct err *err)
{
	const json_t *data = json_obj(json_obj(info, "format-specific"), "data"), *v;
	const char *name = json_str(data, "data-file");
	size_t i;

	if (top->format == FORMAT_VMDK && name == NULL)
		name = json_str(info, "backing-filename");
	json_array_foreach (json_arr(data, "extents"), i, v) {
		const char *extent = json_str(v, "filename");

		if (name == NULL && !str_eq(extent, top->path))
			name = extent != NULL ? extent : "?";
	}
	if (name != NULL)
		return err_set(err, -EINVAL, "it has data in another file, %s, which is not taken",
			quote(name));
	return 0;
}

/* Of one file of the chain by itself; *out: how large the disk is for its guest. */
static int virtual_size(
	const struct run_alone *how, const struct convert_file *top, uint64_t *out, struct err *err)
{
	struct buf text = { 0 };
	json_t *info = NULL;
	int64_t size;
	int r = run_alone(how, &text, err);

	if (r == 0 && json_parse(buf_str(&text), text.len, &info, NULL) < 0)
		r = err_set(err, -EIO, "qemu-img info says nothing that makes sense");
	buf_finish(&text);
	if (r < 0)
		return r;
	size = json_int(info, "virtual-size", -1);
	r = check_names(info, top, err);
	json_decref(info);
	if (r < 0)
		return r;
	if (size <= 0)
		return err_set(err, -EINVAL, "it is no disk: qemu-img info tells of no size");
	*out = (uint64_t)size;
	return 0;
}

/*
 * qemu-img converts a qcow2 or vmdk that was cut off without a word: what would be behind the end of the
 * file reads as zeros (7.2, 10.0). Its check tells of clusters there. Those that nobody uses are no
 * error. Not every format can be checked.
 */
static int check_whole(const struct run_alone *how, const struct convert_file *f, struct err *err)
{
	struct buf text = { 0 };
	json_t *report = NULL;
	struct err ended = { 0 };
	int r = run_alone(how, &text, &ended);
	int64_t bad = 0;

	if (json_parse(buf_str(&text), text.len, &report, NULL) == 0)
		bad = json_int(report, "corruptions", 0) + json_int(report, "check-errors", 0);
	else if (r == -EIO && strstr(ended.msg, "not support checks") == NULL)
		bad = -1; /* of a vmdk it has no report */
	json_decref(report);
	buf_finish(&text);
	if (bad != 0)
		return err_set(err, -EBADMSG,
			"its %s is damaged or was cut off: qemu-img check finds errors in it",
			image_format_name(f->format));
	if (r < 0 && r != -EIO)
		*err = ended;
	return r == -EIO ? 0 : r;
}

struct percent {
	const struct convert_spec *spec;
	char line[64];
	size_t n;
};

/* "    (12.34/100%)\r" */
static void take_percent(void *arg, const char *data, size_t len)
{
	struct percent *p = arg;
	double done;

	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\r' && p->n + 1 < sizeof(p->line)) {
			p->line[p->n++] = data[i];
			continue;
		}
		p->line[p->n] = '\0';
		p->n = 0;
		if (sscanf(p->line, " (%lf/100%%)", &done) == 1 && done >= 0 && done <= 100 &&
			p->spec->progress != NULL)
			p->spec->progress(p->spec->arg, (uint64_t)(done * 100), 10000);
	}
}

static int make_empty(const char *path, uint64_t size, struct err *err)
{
	int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644), r = 0;

	if (fd < 0)
		return err_errno(err, -errno, "create %s", quote(path));
	if (ftruncate(fd, (off_t)size) < 0)
		r = err_errno(err, -errno, "a disk of %s", format_size(size));
	close(fd);
	return r;
}

/* "json:{...}", malloc'd; NULL without memory. */
static char *node_name(const struct convert_file *files, size_t n)
{
	json_t *v = node(files, n);
	char *text = v != NULL ? json_dumps(v, JSON_COMPACT) : NULL;
	char *name = text != NULL ? str_printf("json:%s", text) : NULL;

	free(text);
	json_decref(v);
	return name;
}

/* Looks at one file, without the others of the chain: its names, whether it is whole, its size. */
static int look_at_file(
	struct run_alone *how, const struct convert_file *f, uint64_t *size, struct err *err)
{
	/* It opens no more than this one, and takes no words on others. */
	char *name = node_name(f, 1);
	char *info[] = { "qemu-img", "info", "--output=json", name, NULL };
	char *check[] = { "qemu-img", "check", "--output=json", name, NULL };
	int r;

	if (name == NULL)
		return err_nomem(err);
	how->file_bytes = 1; /* it writes nothing */
	how->argv = info;
	r = virtual_size(how, f, size, err);
	how->argv = check;
	if (r == 0)
		r = check_whole(how, f, err);
	free(name);
	return r;
}

static int look_at_all(
	const struct convert_spec *spec, struct run_alone *how, uint64_t *size, struct err *err)
{
	uint64_t below;
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->n; i++) {
		if (i > 0 && spec->files[i].format == FORMAT_RAW)
			continue;
		r = look_at_file(how, &spec->files[i], i == 0 ? size : &below, err);
		if (r < 0 && i > 0)
			err_wrap(err, "backing file");
	}
	return r;
}

static int convert_chain(const struct convert_spec *spec, char *chain, char *to, struct err *err)
{
	char *convert[] = { "qemu-img", "convert", "-p", "-n", "--target-is-zero", "-O", "raw",
		chain, to, NULL };
	struct sandbox_path paths[IMAGE_BACKING_MAX + 4] = { { "/dev/null", true },
		{ "/dev/urandom", false } };
	struct percent percent = { .spec = spec };
	struct run_alone how = { .paths = paths, .n = 2, .limits = spec->limits };
	uint64_t size = 0;
	int r;

	for (size_t i = 0; i < spec->n; i++)
		paths[how.n++] = (struct sandbox_path){ spec->files[i].path, false };
	r = look_at_all(spec, &how, &size, err);
	if (r == 0 && size > spec->max_bytes)
		r = err_set(err, -EFBIG, "its disk has %s, and one may have %s (image_max)",
			format_size(size), format_size(spec->max_bytes));
	if (r == 0)
		r = make_empty(to, size, err);
	if (r < 0)
		return r;
	paths[how.n++] = (struct sandbox_path){ to, true };
	how.argv = convert;
	how.file_bytes = size;
	how.said = take_percent;
	how.arg = &percent;
	r = run_alone(&how, NULL, err);
	return r == 0 ? file_sync(to, err) : r;
}

int convert_disk(const struct convert_spec *spec, const char *to, struct err *err)
{
	char *chain = NULL, *target = NULL;
	int r = 0;

	if (spec->n > IMAGE_BACKING_MAX + 1)
		r = err_set(err, -EINVAL, "it has too many backing files");
	for (size_t i = 0; r == 0 && i < spec->n; i++)
		r = check_head(&spec->files[i], i + 1 == spec->n, err);
	if (r < 0)
		return r;
	chain = node_name(spec->files, spec->n);
	target = strdup(to);
	r = chain != NULL && target != NULL ? convert_chain(spec, chain, target, err)
					    : err_nomem(err);
	free(chain);
	free(target);
	return r;
}
