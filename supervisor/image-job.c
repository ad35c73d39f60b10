#include "supervisor/image-job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/image.h"
#include "oci/unpack.h"
#include "supervisor/image-prune.h"
#include "supervisor/registry.h"

struct image_job {
	struct list entry;
	struct drover *d;
	char *key; /* its arguments, joined */
	struct strv args;
	struct registry_wait wait;
	struct child_run *run;
	struct list subs;
	json_t *last; /* the last "done" object */
	struct err err;
	bool failed; /* an "error" line came */
	bool pulls;
};

static void job_free(struct image_job *job)
{
	list_remove(&job->entry);
	registry_unwait(&job->wait);
	strv_finish(&job->args);
	json_decref(job->last);
	free(job->key);
	free(job);
}

static void job_end(struct image_job *job, const struct err *err)
{
	struct image_sub *sub;
	struct list subs;

	if (job->pulls)
		image_pruner_kick(job->d->pruner);
	/* Out of the list first: who is told now may ask for the same again. */
	list_remove(&job->entry);
	list_init(&subs);
	list_splice(&subs, &job->subs);
	while ((sub = list_first(&subs, struct image_sub, entry)) != NULL) {
		list_remove(&sub->entry);
		sub->done(sub->arg, err == NULL ? job->last : NULL, err);
	}
	job_free(job);
}

static void job_line(void *arg, const char *line)
{
	struct image_job *job = arg;
	struct image_sub *sub;
	struct list subs;
	json_t *j = NULL;
	const char *event;

	if (json_parse(line, strlen(line), &j, NULL) < 0 ||
		(event = json_str(j, "event")) == NULL) {
		log_warn("drover-image: ignoring a line that makes no sense: %s", quote(line));
		json_decref(j);
		return;
	}
	if (strcmp(event, "done") == 0) {
		json_decref(job->last);
		job->last = json_incref(j);
	} else if (strcmp(event, "error") == 0) {
		const char *word = json_str(j, "code"), *message = json_str(j, "message");

		job->failed = true;
		err_set(&job->err, err_from_word(word != NULL ? word : "failed"), "%s",
			message != NULL ? message : "drover-image failed");
	} else if (strcmp(event, "warning") == 0) {
		const char *message = json_str(j, "message");

		log_warn("image: %s", message != NULL ? message : "");
	}
	json_decref(j);
	/* Each may take any of them out, itself too. */
	list_init(&subs);
	list_splice(&subs, &job->subs);
	while ((sub = list_first(&subs, struct image_sub, entry)) != NULL) {
		list_remove(&sub->entry);
		list_append(&job->subs, &sub->entry);
		if (sub->line != NULL)
			sub->line(sub->arg, line);
	}
}

static void job_done(void *arg, const struct child_result *res, const struct err *err)
{
	struct image_job *job = arg;
	struct err none;

	job->run = NULL;
	if (err != NULL && job->failed && err->code != -ECANCELED)
		err = &job->err;
	if (err == NULL && job->last == NULL) {
		err_set(&none, -EIO, "drover-image ended without a result");
		err = &none;
	}
	job_end(job, err);
}

static int job_spawn(struct image_job *job, struct err *err)
{
	struct child_run_opts opts = { .line = job_line, .async = true };
	/* Not in our session, which goes before others: this is work. */
	struct child_spec spec = { .die_with_us = true, .new_session = true };
	char *program = path_join(job->d->libexec, "drover-image");
	struct strv argv = { 0 };
	int r;

	strv_add(&argv, "drover-image");
	for (size_t i = 0; i < job->args.n; i++)
		strv_add(&argv, job->args.v[i]);
	if (program == NULL || argv.bad) {
		r = err_nomem(err);
	} else {
		spec.file = program;
		spec.argv = argv.v;
		r = child_run(&job->run, job->d->loop, &spec, &opts, job_done, job, err);
	}
	free(program);
	strv_finish(&argv);
	return r;
}

static void registry_is_ready(void *arg, const struct err *err)
{
	struct image_job *job = arg;
	struct err mine;

	if (err == NULL && job_spawn(job, &mine) < 0)
		err = &mine;
	if (err != NULL)
		job_end(job, err);
}

static struct image_job *job_find(struct drover *d, const char *key)
{
	struct image_job *job;

	list_for_each_entry (job, &d->image_jobs, entry) {
		if (strcmp(job->key, key) == 0)
			return job;
	}
	return NULL;
}

static int job_create(struct image_job **out, struct drover *d, const struct strv *args, char *key,
	struct err *err)
{
	struct image_job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return err_nomem(err);
	list_init(&job->subs);
	list_init(&job->entry);
	list_init(&job->wait.entry);
	job->d = d;
	if (strv_copy(&job->args, args) < 0) {
		job_free(job);
		return err_nomem(err);
	}
	job->key = key;
	list_append(&d->image_jobs, &job->entry);
	*out = job;
	return 0;
}

/* What is no pull by its name. */
static bool fills_store(const char *verb)
{
	return strcmp(verb, "import") == 0 || strcmp(verb, "inspect") == 0;
}

/* host: whose registry must be up first; NULL: none, and the job is not shared. */
static int job_join(struct drover *d, const struct strv *args, const char *host,
	struct image_sub *sub, struct err *err)
{
	struct buf key = { 0 };
	struct image_job *job;
	char *text;
	int r;

	if (d->stopping)
		return err_set(err, -ECANCELED, "droverd is stopping");
	for (size_t i = 0; i < args->n; i++)
		buf_printf(&key, "%s\n", args->v[i]);
	text = buf_steal(&key);
	if (text == NULL)
		return err_nomem(err);
	/* Who joins has missed what was said: right for progress, not for a list. */
	job = host != NULL ? job_find(d, text) : NULL;
	if (job != NULL) {
		free(text);
		list_append(&job->subs, &sub->entry);
		sub->job = job;
		return 0;
	}
	r = job_create(&job, d, args, text, err);
	if (r < 0) {
		free(text);
		return r;
	}
	job->pulls = host != NULL || fills_store(args->v[0]);
	job->wait.ready = registry_is_ready;
	job->wait.arg = job;
	if (host == NULL || !registry_wait(d, host, &job->wait)) {
		r = job_spawn(job, err);
		if (r < 0) {
			job_free(job);
			return r;
		}
	}
	list_append(&job->subs, &sub->entry);
	sub->job = job;
	return 0;
}

int image_job_args(
	struct drover *d, const struct strv *args, struct image_sub *sub, struct err *err)
{
	return job_join(d, args, NULL, sub, err);
}

void image_pull_args(struct drover *d, struct strv *args)
{
	static const struct unpack_limits defaults = UNPACK_LIMITS_DEFAULT;
	const struct config *config = drover_config(d);
	const struct drover_config *c = config != NULL ? config->drover : NULL;

	registries_mirror_args(d, args);
	if (c != NULL && c->image_auth != NULL) {
		strv_add(args, "--auth-file");
		strv_add(args, c->image_auth);
	}
	for (size_t i = 0; c != NULL && i < c->image_plain_http.n; i++) {
		strv_add(args, "--plain-http");
		strv_add(args, c->image_plain_http.v[i]);
	}
	if (c != NULL && c->image_memory != 0 && c->image_memory != defaults.memory_bytes) {
		strv_add(args, "--memory-limit");
		strv_addf(args, "%llu", (unsigned long long)c->image_memory);
	}
	if (c != NULL && c->image_max != 0 && c->image_max != IMAGE_MAX_DEFAULT) {
		strv_add(args, "--image-max");
		strv_addf(args, "%llu", (unsigned long long)c->image_max);
	}
	if (c != NULL && c->image_time != 0 && c->image_time != defaults.time_ms) {
		strv_add(args, "--time-limit");
		strv_addf(args, "%llums", (unsigned long long)c->image_time);
	}
}

static int job_ref(struct drover *d, enum image_verb verb, const char *ref, int policy,
	const char *size_name, uint64_t size, struct image_sub *sub, struct err *err)
{
	static const char *const verbs[] = { "pull", "kernel", "rootfs" };
	static const char *const policies[] = { "missing", "always", "never" };
	struct image_ref parsed;
	struct strv args = { 0 };
	int r = image_ref_parse(ref, &parsed, err);

	if (r < 0)
		return r;
	strv_add(&args, verbs[verb]);
	strv_add(&args, "--store");
	strv_addf(&args, "%s/oci", d->state_dir);
	strv_add(&args, "--ref");
	strv_add(&args, ref);
	strv_add(&args, "--policy");
	strv_add(&args, policies[policy]);
	if (size != 0) {
		strv_add(&args, size_name);
		strv_addf(&args, "%llu", (unsigned long long)size);
	}
	image_pull_args(d, &args);
	image_limit_args(d, false, &args);
	r = args.bad ? err_nomem(err) : job_join(d, &args, parsed.host, sub, err);
	strv_finish(&args);
	return r;
}

int image_job_ref(struct drover *d, enum image_verb verb, const char *ref, int policy,
	uint64_t size, struct image_sub *sub, struct err *err)
{
	return job_ref(d, verb, ref, policy, "--size", size, sub, err);
}

int image_job_rootfs(struct drover *d, const char *ref, int policy, uint64_t size, bool unshared,
	struct image_sub *sub, struct err *err)
{
	return job_ref(d, IMAGE_ROOTFS, ref, policy, unshared ? "--unshared-size" : "--size", size,
		sub, err);
}

void image_unsub(struct image_sub *sub)
{
	list_remove(&sub->entry);
}

void image_cancel(struct image_sub *sub)
{
	if (sub->job->run != NULL)
		child_run_cancel(sub->job->run);
}

void image_jobs_stop(struct drover *d)
{
	struct err cancelled = { -ECANCELED, "droverd is stopping" };
	struct list jobs;
	struct image_job *job;

	list_init(&jobs);
	list_splice(&jobs, &d->image_jobs);
	while ((job = list_first(&jobs, struct image_job, entry)) != NULL) {
		list_remove(&job->entry);
		if (job->run != NULL)
			child_run_cancel(job->run);
		else
			job_end(job, &cancelled);
	}
}
