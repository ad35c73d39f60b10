/* Images: what drover-image does for the API. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "oci/image.h"

/* ---- references ---- */

/* In its full form, so that two ways to write one reference are equal; NULL: a path, or nothing. */
static char *canonical(const char *text)
{
	enum image_format f;
	struct image_ref ref;
	struct buf out = { 0 };

	if (text != NULL && text[0] == '/') {
		/* Only what has to be made raw is in the store. */
		f = image_format_of_name(text);
		return f == FORMAT_BY_NAME || f == FORMAT_RAW ? NULL : str_printf("file:%s", text);
	}
	if (text == NULL || text[0] == '.' || image_ref_parse(text, &ref, NULL) < 0)
		return NULL;
	image_ref_format(&ref, &out);
	return buf_steal(&out);
}

static bool is_image(const char *text, const char *ref)
{
	char *full = canonical(text);
	bool is = full != NULL && strcmp(full, ref) == 0;

	free(full);
	return is;
}

static bool config_uses(const struct vm_config *cfg, const char *ref)
{
	return cfg != NULL && (is_image(cfg->kernel, ref) || is_image(cfg->initrd, ref) ||
				      is_image(cfg->rootfs, ref));
}

/* Names of the machines whose kernel, initrd or disk is made from the image. */
static json_t *used_by(struct drover *d, const char *reference)
{
	json_t *array = json_array();
	char *ref = canonical(reference);
	const struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		if (ref != NULL && (config_uses(m->cfg, ref) || config_uses(m->run_cfg, ref)))
			json_array_append_new(array, json_string(m->name));
	}
	free(ref);
	return array;
}

/* ---- list and rm: one job, one answer ---- */

struct image_call {
	struct image_sub sub;
	struct drover *d;
	struct request *rq;
	json_t *items; /* of a list */
};

static void call_free(struct image_call *c)
{
	image_unsub(&c->sub);
	json_decref(c->items);
	free(c);
}

static void call_gone(void *arg)
{
	call_free(arg);
}

static json_t *image_item(struct drover *d, const json_t *line)
{
	const char *reference = json_str(line, "ref");
	int64_t pulled = json_int(line, "pulled", 0);
	json_t *j = json_object();
	char time[32];

	format_time(time, (uint64_t)pulled);
	json_put_str(j, "reference", reference);
	json_put_str(j, "digest", json_str(line, "digest"));
	json_put_int(j, "size", json_int(line, "size", 0));
	json_put_str(j, "created", pulled > 0 ? time : NULL);
	json_put_str(j, "os", json_str(line, "os"));
	json_put_str(j, "architecture", json_str(line, "architecture"));
	json_put_int(j, "disks_in_use", json_int(line, "in_use", 0));
	json_object_set_new(j, "used_by", used_by(d, reference));
	return j;
}

static void call_line(void *arg, const char *line)
{
	struct image_call *c = arg;
	json_t *j = NULL;

	if (json_parse(line, strlen(line), &j, NULL) == 0 &&
		str_eq(json_str(j, "event"), "image") && json_str(j, "ref") != NULL)
		json_array_append_new(c->items, image_item(c->d, j));
	json_decref(j);
}

static void list_done(void *arg, const json_t *result, const struct err *err)
{
	struct image_call *c = arg;

	request_on_gone(c->rq, NULL, NULL);
	if (err != NULL)
		reply_err(c->rq, err, NULL, NULL);
	else
		reply_json(c->rq, 200, json_incref(c->items));
	call_free(c);
}

static void rm_done(void *arg, const json_t *result, const struct err *err)
{
	struct image_call *c = arg;

	request_on_gone(c->rq, NULL, NULL);
	if (err != NULL)
		reply_err(c->rq, err, NULL, NULL);
	else
		reply_json(c->rq, 200,
			json_pack("{s:I,s:I}", "freed", (json_int_t)json_int(result, "size", 0),
				"in_use", (json_int_t)json_int(result, "in_use", 0)));
	call_free(c);
}

static void call(struct drover *d, struct request *rq, struct strv *args,
	void (*done)(void *arg, const json_t *result, const struct err *err))
{
	struct image_call *c = calloc(1, sizeof(*c));
	struct err err;
	int r;

	if (c == NULL || args->bad || (c->items = json_array()) == NULL) {
		r = err_nomem(&err);
	} else {
		list_init(&c->sub.entry);
		c->d = d;
		c->rq = rq;
		c->sub.line = call_line;
		c->sub.done = done;
		c->sub.arg = c;
		r = image_job_args(d, args, &c->sub, &err);
	}
	strv_finish(args);
	if (r == 0) {
		request_on_gone(rq, call_gone, c);
		return;
	}
	reply_err(rq, &err, NULL, NULL);
	if (c != NULL)
		json_decref(c->items);
	free(c);
}

static void store_args(const struct drover *d, const char *verb, struct strv *args)
{
	strv_add(args, verb);
	strv_add(args, "--store");
	strv_addf(args, "%s/oci", d->state_dir);
}

void route_images(void *arg, struct request *rq)
{
	struct drover *d = arg;
	struct strv args = { 0 };

	store_args(d, "list", &args);
	call(d, rq, &args, list_done);
}

static int rm_check(struct drover *d, const char *reference, struct err *err)
{
	struct image_ref ref;
	struct buf names = { 0 };
	json_t *users;
	const json_t *name;
	size_t i;
	int r = 0;

	if (reference == NULL)
		return err_set(err, -EINVAL, "which image? ?reference= is missing");
	r = image_ref_parse(reference, &ref, err);
	if (r < 0)
		return r;
	users = used_by(d, reference);
	json_array_foreach (users, i, name)
		buf_printf(&names, "%s%s", i > 0 ? ", " : "", json_string_value(name));
	if (names.len > 0)
		r = err_set(err, -EBUSY, "image %s is in use by vm %s", quote(reference),
			buf_str(&names));
	buf_finish(&names);
	json_decref(users);
	return r;
}

void route_image_rm(void *arg, struct request *rq)
{
	struct drover *d = arg;
	const char *reference = request_query(rq, "reference");
	struct strv args = { 0 };
	struct err err;

	if (rm_check(d, reference, &err) < 0) {
		reply_err(rq, &err, NULL, NULL);
		return;
	}
	store_args(d, "rm", &args);
	strv_add(&args, "--ref");
	strv_add(&args, reference);
	call(d, rq, &args, rm_done);
}

/* ---- pull: a stream of lines ---- */

struct pull {
	struct image_sub sub;
	struct stream *st;
	char *reference;
	bool told; /* the last line was written */
};

static void pull_free(struct pull *p)
{
	free(p->reference);
	free(p);
}

static void pull_line(void *arg, const char *line)
{
	struct pull *p = arg;
	json_t *j = NULL;
	const char *event;

	if (json_parse(line, strlen(line), &j, NULL) == 0) {
		event = json_str(j, "event");
		p->told |= str_eq(event, "done") || str_eq(event, "error");
	}
	json_decref(j);
	stream_write(p->st, line, strlen(line));
	stream_write(p->st, "\n", 1);
}

static void pull_done(void *arg, const json_t *result, const struct err *err)
{
	struct pull *p = arg;
	char *text;
	json_t *j;

	/* Its program may have ended without a word. */
	if (!p->told && err != NULL) {
		j = json_pack("{s:s,s:o,s:s,s:o}", "event", "error", "ref",
			json_str_new(p->reference), "code", err_word(err->code), "message",
			json_str_new(err->msg));
		text = json_text(j);
		json_decref(j);
		if (text != NULL) {
			stream_write(p->st, text, strlen(text));
			stream_write(p->st, "\n", 1);
		}
		free(text);
	}
	stream_end(p->st);
	pull_free(p);
}

/* The pull goes on: another client may have joined it, and the next one finds it done. */
static void pull_gone(void *arg)
{
	struct pull *p = arg;

	image_unsub(&p->sub);
	pull_free(p);
}

int image_reference_allowed(const struct request *rq, const char *reference, struct err *err)
{
	struct image_ref ref;

	if (image_ref_parse(reference, &ref, NULL) < 0 || ref.source == IMAGE_REGISTRY ||
		(ref.source == IMAGE_URL && ref.backing[0] == '\0'))
		return 0;
	return route_owner_only(rq, "name files of the host as an image", err);
}

static int parse_policy(const char *text, int *out, struct err *err)
{
	static const char *const names[] = { "missing", "always", "never" };

	*out = PULL_MISSING;
	if (text == NULL)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(text, names[i]) == 0) {
			*out = (int)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "policy %s is none of missing, always, never", quote(text));
}

static int pull_begin(struct drover *d, const struct request *rq, struct pull *p,
	const json_t *body, struct err *err)
{
	const char *reference = json_str(body, "reference");
	int policy;

	if (reference == NULL)
		return err_set(err, -EINVAL, "the body has no \"reference\"");
	if (image_reference_allowed(rq, reference, err) < 0)
		return err->code;
	if (parse_policy(json_str(body, "policy"), &policy, err) < 0)
		return err->code;
	p->reference = strdup(reference);
	if (p->reference == NULL)
		return err_nomem(err);
	p->sub = (struct image_sub){ .line = pull_line, .done = pull_done, .arg = p };
	return image_job_ref(d, IMAGE_PULL, reference, policy, 0, &p->sub, err);
}

void route_image_pull(void *arg, struct request *rq)
{
	struct stream_opts opts = { .type = "application/x-ndjson", .gone = pull_gone };
	struct pull *p = calloc(1, sizeof(*p));
	json_t *body = NULL;
	struct err err;
	int r = p == NULL ? err_nomem(&err) : request_json(rq, &body, &err);

	if (r == 0)
		r = pull_begin(arg, rq, p, body, &err);
	json_decref(body);
	if (r == 0) {
		opts.arg = p;
		p->st = request_stream(rq, &opts);
		if (p->st == NULL)
			pull_gone(p);
		return;
	}
	reply_err(rq, &err, NULL, NULL);
	if (p != NULL)
		pull_free(p);
}

void image_stream_job(
	struct drover *d, struct request *rq, const char *what, const struct strv *args)
{
	struct stream_opts opts = { .type = "application/x-ndjson", .gone = pull_gone };
	struct pull *p = calloc(1, sizeof(*p));
	struct err err;
	int r = p == NULL || args->bad ? err_nomem(&err) : 0;

	if (r == 0) {
		p->reference = strdup(what);
		p->sub = (struct image_sub){ .line = pull_line, .done = pull_done, .arg = p };
		r = p->reference != NULL ? image_job_args(d, args, &p->sub, &err) : err_nomem(&err);
	}
	if (r == 0) {
		opts.arg = p;
		p->st = request_stream(rq, &opts);
		if (p->st == NULL)
			pull_gone(p);
		return;
	}
	reply_err(rq, &err, NULL, NULL);
	if (p != NULL)
		pull_free(p);
}
