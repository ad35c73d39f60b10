/* Images: what runs of drover-image over the store tell, as one answer. */
#include "supervisor/routes-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "oci/image.h"
#include "supervisor/image-job.h"
#include "supervisor/image-prune.h"

struct look {
	struct image_sub sub;
	struct request *rq;
	const char *event; /* of the lines that are kept */
	json_t *items;
};

static void look_free(struct look *l)
{
	image_unsub(&l->sub);
	json_decref(l->items);
	free(l);
}

static void look_gone(void *arg)
{
	look_free(arg);
}

static void look_line(void *arg, const char *line)
{
	struct look *l = arg;
	json_t *j = NULL;
	const char *event;

	if (json_parse(line, strlen(line), &j, NULL) == 0 &&
		(event = json_str(j, "event")) != NULL && strstr(l->event, event) != NULL &&
		strcmp(event, "done") != 0)
		json_array_append(l->items, j);
	json_decref(j);
}

static void look_done(void *arg, const json_t *result, const struct err *err)
{
	struct look *l = arg;
	json_t *j;

	request_on_gone(l->rq, NULL, NULL);
	if (err != NULL) {
		reply_err(l->rq, err, NULL, NULL);
	} else {
		j = json_deep_copy(result);
		json_object_del(j, "event");
		if (l->event[0] != '\0')
			json_object_set(j, "items", l->items);
		reply_json(l->rq, 200, j);
	}
	look_free(l);
}

/* event: words of the events that are told one by one, "" for none. */
static void look(struct drover *d, struct request *rq, const char *verb, const char *reference,
	const char *event)
{
	struct look *l = calloc(1, sizeof(*l));
	struct strv args = { 0 };
	struct err err;
	int r;

	strv_add(&args, verb);
	strv_add(&args, "--store");
	strv_addf(&args, "%s/oci", d->state_dir);
	if (reference != NULL) {
		strv_add(&args, "--ref");
		strv_add(&args, reference);
	}
	if (strcmp(verb, "inspect") == 0 || strcmp(verb, "outdated") == 0)
		image_pull_args(d, &args);
	if (strcmp(verb, "prune") == 0 || strcmp(verb, "inspect") == 0)
		image_limit_args(d, strcmp(verb, "prune") == 0, &args);
	if (l == NULL || args.bad || (l->items = json_array()) == NULL) {
		r = err_nomem(&err);
	} else {
		list_init(&l->sub.entry);
		l->rq = rq;
		l->event = event;
		l->sub.line = look_line;
		l->sub.done = look_done;
		l->sub.arg = l;
		r = image_job_args(d, &args, &l->sub, &err);
	}
	strv_finish(&args);
	if (r == 0) {
		request_on_gone(rq, look_gone, l);
		return;
	}
	reply_err(rq, &err, NULL, NULL);
	if (l != NULL)
		json_decref(l->items);
	free(l);
}

void route_image_prune(void *arg, struct request *rq)
{
	look(arg, rq, "prune", NULL, "removed");
}

void route_image_verify(void *arg, struct request *rq)
{
	look(arg, rq, "verify", NULL, "damaged");
}

void route_image_outdated(void *arg, struct request *rq)
{
	look(arg, rq, "outdated", NULL, "moved unknown");
}

void route_image_inspect(void *arg, struct request *rq)
{
	const char *reference = request_query(rq, "reference");
	struct err err;

	if (reference == NULL)
		err_set(&err, -EINVAL, "which image? ?reference= is missing");
	else if (image_reference_allowed(rq, reference, &err) == 0) {
		look(arg, rq, "inspect", reference, "");
		return;
	}
	reply_err(rq, &err, NULL, NULL);
}
