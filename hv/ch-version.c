/* hv/ch-version.c - which release of cloud-hypervisor a binary is. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "hv/ch.h"

#define PROBE_MS    10000
#define CACHE_SLOTS 8

int ch_version_parse(const char *text, struct ch_version *out)
{
	static const char name[] = "cloud-hypervisor ";
	struct ch_version v = { 0 };
	size_t len;
	char end;
	int n;

	if (str_starts(text, name))
		text += sizeof(name) - 1;
	len = strcspn(text, " \t\r\n");
	n = sscanf(text, text[0] == 'v' ? "v%u.%u%c" : "%u.%u%c", &v.major, &v.minor, &end);
	if (n < 2 || v.major > 9999 || len >= sizeof(v.text) - 1)
		return -EBADMSG;
	snprintf(v.text, sizeof(v.text), "%s%.*s", text[0] == 'v' ? "" : "v", (int)len, text);
	hv_clean_text(v.text);
	*out = v;
	return 0;
}

int ch_version_check(const struct ch_version *v, const char *binary, struct err *err)
{
	if (v->major >= CH_OLDEST)
		return 0;
	return err_set(err, -ENOTSUP,
		"%s is cloud-hypervisor %s, which is too old: drover needs v%d.0 or later",
		quote(binary), v->text, CH_OLDEST);
}

/* What was found out; the oldest entry makes room. Of the loop's thread. */
static struct {
	char *path;
	ino_t ino;
	struct timespec ctime;
	struct ch_version version;
} cache[CACHE_SLOTS];
static size_t cache_next;

struct ch_probe {
	char *binary;
	struct stat st;
	struct child_run *run;
	struct deadline later; /* for what is known already */
	struct ch_version known;
	ch_probed_fn *done; /* NULL: nobody waits any more */
	void *arg;
};

static const struct ch_version *find(const char *path, const struct stat *st)
{
	for (size_t i = 0; i < CACHE_SLOTS; i++)
		if (str_eq(cache[i].path, path) && cache[i].ino == st->st_ino &&
			cache[i].ctime.tv_sec == st->st_ctim.tv_sec &&
			cache[i].ctime.tv_nsec == st->st_ctim.tv_nsec)
			return &cache[i].version;
	return NULL;
}

static void keep(const char *path, const struct stat *st, const struct ch_version *v)
{
	char *copy = strdup(path);

	if (copy == NULL)
		return;
	free(cache[cache_next].path);
	cache[cache_next].path = copy;
	cache[cache_next].ino = st->st_ino;
	cache[cache_next].ctime = st->st_ctim;
	cache[cache_next].version = *v;
	cache_next = (cache_next + 1) % CACHE_SLOTS;
}

static void probe_closed(void *arg)
{
	struct ch_probe *p = arg;

	free(p->binary);
	free(p);
}

/* The only exit. */
static void finish(struct ch_probe *p, const struct ch_version *v, const struct err *err)
{
	ch_probed_fn *done = p->done;

	p->done = NULL;
	if (done != NULL)
		done(p->arg, v, err);
	free(p->binary);
	p->binary = NULL;
	deadline_close(&p->later, probe_closed);
}

static void known(void *arg)
{
	struct ch_probe *p = arg;

	finish(p, &p->known, NULL);
}

static void ran(void *arg, const struct child_result *res, const struct err *err)
{
	struct ch_probe *p = arg;
	struct ch_version v;
	struct err mine;

	p->run = NULL;
	if (err != NULL) {
		mine = *err;
		err_wrap(&mine, "%s --version", quote(p->binary));
		finish(p, NULL, &mine);
		return;
	}
	if (ch_version_parse(res->out, &v) < 0) {
		err_set(&mine, -ENOTSUP, "%s is no cloud-hypervisor: --version says %s",
			quote(p->binary), quote_n(res->out, strcspn(res->out, "\r\n")));
		finish(p, NULL, &mine);
		return;
	}
	keep(p->binary, &p->st, &v);
	finish(p, &v, NULL);
}

int ch_probe(struct ch_probe **out, uv_loop_t *loop, const char *binary, ch_probed_fn *done,
	void *arg, struct err *err)
{
	struct ch_probe *p = calloc(1, sizeof(*p));
	char *argv[] = { (char *)binary, (char *)"--version", NULL };
	struct child_spec spec = { .file = binary, .argv = argv };
	struct child_run_opts opts = { .timeout_ms = PROBE_MS, .max_output = 4096 };
	const struct ch_version *v;
	int r = 0;

	if (p != NULL)
		p->binary = strdup(binary);
	if (p == NULL || p->binary == NULL) {
		free(p);
		return err_nomem(err);
	}
	p->done = done;
	p->arg = arg;
	deadline_init(&p->later, loop, known, p);
	if (stat(binary, &p->st) < 0)
		r = err_errno(err, -errno, "%s", quote(binary));
	v = r == 0 ? find(binary, &p->st) : NULL;
	if (v != NULL) {
		p->known = *v;
		deadline_set(&p->later, 0);
	} else if (r == 0) {
		r = child_run(&p->run, loop, &spec, &opts, ran, p, err);
	}
	if (r < 0) {
		deadline_close(&p->later, probe_closed);
		return r;
	}
	*out = p;
	return 0;
}

void ch_probe_abandon(struct ch_probe *p)
{
	if (p == NULL)
		return;
	p->done = NULL;
	if (p->run != NULL)
		child_run_cancel(p->run); /* ran() follows, and frees it */
	else
		finish(p, NULL, NULL);
}
