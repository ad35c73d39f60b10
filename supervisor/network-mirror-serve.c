/* The certificates and the haproxy of a network's mirrors: supervisor/network-mirror.h. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/ca.h"
#include "lib/file.h"
#include "supervisor/network-mirror-private.h"
#include "supervisor/pool-work.h"
#include "supervisor/registry-private.h"

/* ---- certificates, made in a thread ---- */

struct issued {
	char *path;
	struct strv names;
	int64_t renew_at;
	char *registry;
};

struct job {
	struct bridge_net *b; /* of the loop: not touched by the thread */
	char *dir;
	struct issued *v;
	size_t n;
	bool changed;
};

/* Two networks may be made at once, and there is one CA. */
static pthread_mutex_t ca_lock = PTHREAD_MUTEX_INITIALIZER;

static int issue(void *arg, struct err *err)
{
	struct job *job = arg;
	int64_t now = time(NULL);
	bool changed;
	int r;

	pthread_mutex_lock(&ca_lock);
	r = ca_ensure(job->dir, now, err);
	for (size_t i = 0; r == 0 && i < job->n; i++) {
		r = ca_issue(job->dir, job->v[i].path, &job->v[i].names, now, &changed,
			&job->v[i].renew_at, err);
		job->changed = job->changed || (r == 0 && changed);
	}
	pthread_mutex_unlock(&ca_lock);
	return r;
}

static void job_free(struct job *job)
{
	for (size_t i = 0; job->v != NULL && i < job->n; i++) {
		free(job->v[i].path);
		free(job->v[i].registry);
		strv_finish(&job->v[i].names);
	}
	free(job->v);
	free(job->dir);
	free(job);
}

static struct job *job_create(struct bridge_net *b)
{
	const struct mirrors *ms = b->mirrors;
	struct job *job = calloc(1, sizeof(*job));
	char address[16];

	if (job == NULL)
		return NULL;
	job->b = b;
	job->dir = path_join(b->d->state_dir, "ca");
	job->v = calloc(ms->n + 1, sizeof(*job->v));
	for (size_t i = 0; job->v != NULL && i < ms->n; i++) {
		const struct mirror *m = &ms->v[i];
		struct issued *is = &job->v[job->n];

		if (m->cert == NULL)
			continue;
		job->n++;
		is->path = strdup(m->cert);
		is->registry = strdup(m->spec.registry);
		strv_copy(&is->names, &m->names);
		ip4_format(m->address, address);
		strv_add(&is->names, address);
		if (is->path == NULL || is->registry == NULL || is->names.bad)
			break;
	}
	if (job->dir != NULL && job->v != NULL &&
		(job->n == 0 ||
			(job->v[job->n - 1].registry != NULL && job->v[job->n - 1].path != NULL &&
				!job->v[job->n - 1].names.bad)))
		return job;
	job_free(job);
	return NULL;
}

/* ---- haproxy ---- */

static int config_text(struct bridge_net *b, struct buf *out, struct err *err)
{
	const struct mirrors *ms = b->mirrors;
	struct mirror_front *fronts = calloc(ms->n + 1, sizeof(*fronts));
	char(*address)[16] = calloc(ms->n + 1, sizeof(*address));
	char *ca = str_printf("%s/ca/ca.pem", b->d->state_dir);
	struct mirror_config config = { .fronts = fronts,
		.n = ms->n,
		.ca = ca,
		.chroot = geteuid() == 0 ? b->names_dir : NULL };
	int r = fronts == NULL || address == NULL || ca == NULL ? err_nomem(err) : 0;

	for (size_t i = 0; r == 0 && i < ms->n; i++) {
		const struct mirror *m = &ms->v[i];

		ip4_format(m->address, address[i]);
		fronts[i] = (struct mirror_front){ .name = m->spec.registry,
			.address = address[i],
			.port = m->spec.port,
			.cert = m->cert,
			.backend = m->backend };
	}
	if (r == 0)
		r = mirror_config_text(&config, out, err);
	free(fronts);
	free(address);
	free(ca);
	return r;
}

/* The same text means the same haproxy. */
static int write_config(struct bridge_net *b, const char *path, bool *changed, struct err *err)
{
	struct buf text = { 0 }, old = { 0 };
	int r = config_text(b, &text, err);

	if (r == 0 && (file_read(path, 1 << 20, &old, NULL) < 0 ||
			      strcmp(buf_str(&old), buf_str(&text)) != 0)) {
		*changed = true;
		r = file_write_atomic(path, text.data, text.len, 0600, false, err);
	}
	buf_finish(&text);
	buf_finish(&old);
	return r;
}

static int make_argv(const char *config, struct strv *argv, struct err *err)
{
	char *program = find_program("haproxy");

	if (program == NULL)
		return err_set(err, -ENOENT,
			"haproxy, which serves its mirrors, is not installed (Debian package haproxy)");
	strv_add(argv, program);
	strv_add(argv, "-db"); /* in the foreground */
	strv_add(argv, "-f");
	strv_add(argv, config);
	free(program);
	return argv->bad ? err_nomem(err) : 0;
}

/* What an earlier daemon started goes on, if it still runs. */
static int make_service(struct bridge_net *b, const struct strv *argv, struct err *err)
{
	struct mirrors *ms = b->mirrors;
	char *log = str_printf("%s/log/network-%s-mirrors.log", b->d->state_dir, b->name);
	struct service_spec spec = { .kind = "network", .owner = b->owner, .log_path = log };
	struct strv copy = { 0 };
	int r = 0;

	spec.name = ms->service_name;
	if (log == NULL || strv_copy(&copy, argv) < 0)
		r = err_nomem(err);
	if (r == 0)
		r = service_create(&ms->service, b->d, &spec, NULL, err);
	if (r == 0)
		service_adopt(ms->service, &copy, err);
	free(log);
	strv_finish(&copy);
	return r;
}

static int check_ports(const struct mirrors *ms, struct err *err)
{
	char address[16], listen[32];
	int r = 0;

	for (size_t i = 0; r == 0 && i < ms->n; i++) {
		const struct mirror *m = &ms->v[i];

		ip4_format(m->address, address);
		snprintf(listen, sizeof(listen), "%s:%u", address, m->spec.port);
		r = registry_address_free(listen, err);
		snprintf(listen, sizeof(listen), "%s:%u", address, MIRROR_CA_PORT);
		if (r == 0 && !m->spec.http)
			r = registry_address_free(listen, err);
	}
	return r < 0 ? err_wrap(err, "mirror") : 0;
}

static int run(struct bridge_net *b, bool changed, struct err *err)
{
	struct mirrors *ms = b->mirrors;
	struct strv argv = { 0 };
	char *path = path_join(b->dir, "mirrors.cfg");
	int r = path == NULL ? err_nomem(err) : write_config(b, path, &changed, err);

	if (r == 0)
		r = make_argv(path, &argv, err);
	if (r == 0 && ms->service == NULL)
		r = make_service(b, &argv, err);
	if (r == 0 && !service_up(ms->service)) {
		r = check_ports(ms, err);
		if (r == 0)
			r = service_start(ms->service, &argv, err);
	} else if (r == 0 && changed) {
		service_set_command(ms->service, &argv);
		service_restart(ms->service);
	}
	strv_finish(&argv);
	free(path);
	return r;
}

/* ---- the step ---- */

static void issued(void *arg, const struct err *failed)
{
	struct job *job = arg;
	struct bridge_net *b = job->b;
	struct mirrors *ms = b->mirrors;
	struct err err;
	bool ended = b->d->leaving || b->release_due;
	int r = 0;

	if (failed != NULL)
		err = *failed;
	for (size_t i = 0; i < job->n; i++)
		for (size_t k = 0; k < ms->n; k++)
			if (strcmp(ms->v[k].spec.registry, job->v[i].registry) == 0)
				ms->v[k].renew_at = job->v[i].renew_at;
	if (failed == NULL && !ended)
		r = run(b, job->changed, &err);
	job_free(job);
	bridge_resume(b, failed != NULL || r < 0 ? &err : NULL);
}

static void service_gone(void *arg)
{
	struct bridge_net *b = arg;

	service_destroy(b->mirrors->service);
	b->mirrors->service = NULL;
	bridge_resume(b, NULL);
}

int mirrors_serve(struct bridge_net *b, struct err *err)
{
	struct mirrors *ms = b->mirrors;
	struct strv none = { 0 };
	struct job *job;
	int r;

	if (ms == NULL)
		return 0;
	if (ms->n == 0 && ms->service == NULL &&
		ledger_find(b->d->ledger, b->owner, OBJECT_PROCESS, ms->service_name) != NULL) {
		r = make_service(b, &none, err);
		if (r < 0)
			return r;
	}
	if (ms->n == 0 && ms->service == NULL)
		return 0;
	if (ms->n == 0) {
		b->rebuilding = true;
		service_stop(ms->service, service_gone, b);
		return 1;
	}
	job = job_create(b);
	if (job == NULL)
		return err_nomem(err);
	if (pool_work(b->d->loop, issue, issued, job) < 0) {
		job_free(job);
		return err_nomem(err);
	}
	b->rebuilding = true;
	return 1;
}
