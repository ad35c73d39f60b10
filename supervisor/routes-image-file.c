/* Images that come and go in files of the host: only who may name those may ask. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <string.h>

#include "lib/json.h"
#include "oci/image.h"
#include "supervisor/image-job.h"
#include "supervisor/image-prune.h"

static int file_path(const json_t *body, bool scheme, const char **out, struct err *err)
{
	const char *file = json_str(body, "file");
	struct image_ref ref;

	if (file == NULL)
		return err_set(err, -EINVAL, "the body has no \"file\"");
	*out = file;
	if (file[0] == '/')
		return 0;
	if (scheme && image_ref_parse(file, &ref, NULL) == 0 && ref.source != IMAGE_REGISTRY &&
		ref.source != IMAGE_URL)
		return 0;
	return err_set(err, -EINVAL, "file %s is no absolute path", quote(file));
}

/* A registry's kind of name, if it is given at all. */
static int check_name(const char *name, bool needed, struct err *err)
{
	struct image_ref ref;

	if (name == NULL)
		return needed ? err_set(err, -EINVAL, "the body has no \"reference\"") : 0;
	return image_ref_parse(name, &ref, err);
}

static void begin_args(const struct drover *d, const char *verb, struct strv *args)
{
	strv_add(args, verb);
	strv_add(args, "--store");
	strv_addf(args, "%s/oci", d->state_dir);
}

void route_image_import(void *arg, struct request *rq)
{
	struct drover *d = arg;
	const char *file = NULL, *name = NULL;
	struct strv args = { 0 };
	json_t *body = NULL;
	struct err err;
	int r = route_owner_only(rq, "take files of the host as images", &err);

	if (r == 0)
		r = request_json(rq, &body, &err);
	if (r == 0)
		r = file_path(body, true, &file, &err);
	if (r == 0) {
		name = json_str(body, "name");
		r = check_name(name, false, &err);
	}
	if (r == 0) {
		begin_args(d, "import", &args);
		strv_add(&args, "--from");
		strv_add(&args, file);
		if (name != NULL) {
			strv_add(&args, "--name");
			strv_add(&args, name);
		}
		image_pull_args(d, &args);
		image_limit_args(d, false, &args);
		image_stream_job(d, rq, file, &args);
	} else {
		reply_err(rq, &err, NULL, NULL);
	}
	strv_finish(&args);
	json_decref(body);
}

void route_image_export(void *arg, struct request *rq)
{
	struct drover *d = arg;
	const char *file = NULL, *reference = NULL;
	struct strv args = { 0 };
	json_t *body = NULL;
	struct err err;
	int r = route_owner_only(rq, "write images into files of the host", &err);

	if (r == 0)
		r = request_json(rq, &body, &err);
	if (r == 0) {
		reference = json_str(body, "reference");
		r = check_name(reference, true, &err);
	}
	if (r == 0)
		r = file_path(body, false, &file, &err);
	if (r == 0) {
		begin_args(d, "export", &args);
		strv_add(&args, "--ref");
		strv_add(&args, reference);
		strv_add(&args, "--to");
		strv_add(&args, file);
		image_stream_job(d, rq, reference, &args);
	} else {
		reply_err(rq, &err, NULL, NULL);
	}
	strv_finish(&args);
	json_decref(body);
}
