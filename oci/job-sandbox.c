/* The sandbox of drover-image's processes, and the verb that tells what this kernel has of it. */
#include <stdlib.h>
#include <string.h>
#include "lib/file.h"
#include "lib/log.h"
#include "oci/job.h"

int job_sandbox(const struct sandbox_path *paths, size_t n, bool network, struct err *err)
{
	struct sandbox_spec spec = { .network = network, .paths = paths, .n = n };
	struct sandbox_state st;
	int r = sandbox_enter(&spec, &st, err);

	if (r == 0 && st.landlock == 0)
		log_debug("the kernel has no Landlock: files are kept apart by owner alone");
	if (r == 0 && !st.user_namespace)
		log_debug("the kernel gives no user namespace: only the capabilities are dropped");
	return r;
}

/* The files of the host that a reference names; at most 1 + IMAGE_BACKING_MAX. */
static size_t add_files(const struct image_ref *ref, struct sandbox_path *paths, struct strv *keep)
{
	const char *p = ref->backing;
	size_t n = 0;

	if (ref->source != IMAGE_REGISTRY && ref->source != IMAGE_URL)
		paths[n++] = (struct sandbox_path){ ref->path, false };
	for (; *p != '\0'; p = strchr(p, '\n') + 1) {
		strv_addf(keep, "%.*s", (int)strcspn(p, "\n"), p);
		if (!keep->bad)
			paths[n++] = (struct sandbox_path){ keep->v[keep->n - 1], false };
	}
	return n;
}

int job_sandbox_store(const struct job_opts *o, bool network, struct err *err)
{
	struct sandbox_path *paths = calloc(
		(1 + IMAGE_BACKING_MAX) * o->refs.n + 2, sizeof(*paths));
	struct image_ref *refs = calloc(o->refs.n + 1, sizeof(*refs));
	struct strv keep = { 0 };
	bool needed = false;
	size_t n = 0;
	int r = paths != NULL && refs != NULL ? mkdir_p(o->store, 0755, err) : err_nomem(err);

	if (r == 0)
		paths[n++] = (struct sandbox_path){ o->store, true };
	if (r == 0 && o->registry.auth_file != NULL)
		paths[n++] = (struct sandbox_path){ o->registry.auth_file, false };
	for (size_t i = 0; r == 0 && i < o->refs.n; i++) {
		/* One that is not valid is told of where it is used. */
		if (image_ref_parse(o->refs.v[i], &refs[i], NULL) == 0)
			n += add_files(&refs[i], paths + n, &keep);
		needed |= refs[i].source == IMAGE_REGISTRY || refs[i].source == IMAGE_URL;
	}
	if (r == 0 && keep.bad)
		r = err_nomem(err);
	if (r == 0)
		r = job_sandbox(paths, n, network && needed, err);
	strv_finish(&keep);
	free(paths);
	free(refs);
	return r;
}

static int nothing(void *arg, struct err *err)
{
	return 0;
}

/* Tried in earnest: entering it is the last thing that this process does. */
int job_sandbox_report(const struct job_opts *o)
{
	struct sandbox_spec spec = { .network = true };
	struct sandbox_state st;
	struct err err;
	int r = unpack_run(&o->limits, NULL, 0, nothing, NULL, &err);

	if (r == 0)
		r = sandbox_enter(&spec, &st, &err);
	if (r < 0) {
		progress_error(NULL, &err);
		return r;
	}
	progress_event(json_pack("{s:s,s:b,s:i,s:b}", "event", "done", "user_namespace",
		st.user_namespace, "landlock", st.landlock, "seccomp", 1));
	return 0;
}
