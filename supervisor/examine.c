#include "supervisor/examine-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"

#define FILE_MAX ((size_t)16 << 20) /* modules.dep of a distribution's kernel has 1 MiB */

/* ---- below the root ---- */

const char *examine_path(const struct examination *x, const char *fmt, ...)
{
	static char paths[8][PATH_MAX];
	static unsigned turn;
	char *path = paths[turn++ % ARRAY_LEN(paths)];
	size_t n = 0;
	va_list ap;

	if (x->o.root != NULL && !str_eq(x->o.root, "/"))
		n = (size_t)snprintf(path, PATH_MAX, "%s", x->o.root);
	va_start(ap, fmt);
	vsnprintf(path + MIN(n, PATH_MAX - 1), PATH_MAX - MIN(n, PATH_MAX - 1), fmt, ap);
	va_end(ap);
	return path;
}

bool examine_line(const struct examination *x, const char *path, char *line, size_t cap)
{
	return file_read_line(examine_path(x, "%s", path), line, cap, NULL) == 0;
}

bool examine_file(const struct examination *x, const char *path, struct buf *b)
{
	buf_finish(b);
	return file_read(examine_path(x, "%s", path), FILE_MAX, b, NULL) == 0;
}

bool examine_number(const struct examination *x, const char *path, uint64_t *out)
{
	char line[64];

	if (!examine_line(x, path, line, sizeof(line)))
		return false;
	if (strcmp(line, "max") == 0 || strcmp(line, "unlimited") == 0) {
		*out = UINT64_MAX;
		return true;
	}
	return parse_u64(line, 0, UINT64_MAX, out, NULL) == 0;
}

size_t examine_machines(const struct examination *x)
{
	return x->o.config != NULL ? x->o.config->by_kind[SECTION_VM].n : 0;
}

size_t examine_networks(const struct examination *x)
{
	return x->o.config != NULL ? x->o.config->by_kind[SECTION_NETWORK].n : 0;
}

bool examine_has_links(const struct examination *x)
{
	for (size_t i = 0; i < examine_networks(x); i++) {
		const struct network_config *n =
			(const void *)x->o.config->by_kind[SECTION_NETWORK].v[i];

		if (n->kind != NETWORK_USER)
			return true;
	}
	return false;
}

/* ---- what is found ---- */

void found(struct examination *x, const char *group, const char *check, enum finding what,
	const char *fix, const char *fmt, ...)
{
	static const char *const results[] = { "ok", "info", "warn", "fail", "unseen" };
	static const char *const levels[] = { "info", "info", "warning", "error", "info" };
	struct buf text = { 0 };
	json_t *j = json_object();
	va_list ap;
	int r = 0;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	r |= json_put_str(j, "group", group);
	r |= json_put_str(j, "check", check);
	r |= json_put_bool(j, "ok", what == FOUND_OK);
	r |= json_put_str(j, "result", results[what]);
	r |= json_put_str(j, "level", levels[what]);
	r |= json_put_str(j, "message", buf_str(&text));
	r |= json_put_str(j, "fix", what == FOUND_OK ? NULL : fix);
	r |= json_array_append_new(x->checks, j);
	x->bad = x->bad || r != 0 || text.bad;
	buf_finish(&text);
}

/* ---- the whole ---- */

static void find_kernel(struct examination *x)
{
	if (!examine_line(x, "/proc/sys/kernel/osrelease", x->kernel, sizeof(x->kernel)))
		x->kernel[0] = '\0';
}

static void ended(void *arg)
{
	struct examination *x = arg;

	x->done(x->arg, x);
}

void examine_end(struct examination *x)
{
	deadline_close(&x->end, ended);
}

bool examine_leaving(const struct examination *x)
{
	return x->o.leaving != NULL && *x->o.leaving;
}

int examine_start(
	const struct examine_opts *opts, examine_done_fn *done, void *arg, struct err *err)
{
	struct examination *x = calloc(1, sizeof(*x));
	int r;

	if (x == NULL)
		return err_nomem(err);
	*x = (struct examination){ .o = *opts, .done = done, .arg = arg };
	r = deadline_init(&x->end, opts->loop, ended, x);
	if (r < 0) {
		free(x);
		return err_errno(err, r, "timer");
	}
	x->checks = json_array();
	x->changes = json_array();
	x->undo = json_array();
	find_kernel(x);
	examine_kvm(x);
	examine_devices(x);
	examine_limits(x);
	examine_space(x);
	examine_host_net(x);
	examine_security(x);
	examine_undo(x);
	examine_programs(x);
	return 0;
}

int examine_report(struct examination *x, json_t *report, struct err *err)
{
	int r = x->bad ? -1 : 0;

	r |= json_object_set(report, "checks", x->checks);
	r |= json_object_set(report, "changes", x->changes);
	r |= json_object_set(report, "undo", x->undo);
	return r == 0 ? 0 : err_nomem(err);
}

void examine_destroy(struct examination *x)
{
	if (x == NULL)
		return;
	json_decref(x->checks);
	json_decref(x->changes);
	json_decref(x->undo);
	free(x);
}
