#include "supervisor/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/deadline.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/marker.h"
#include "supervisor/faults.h"

#define RESTART_MIN_MS 200
#define RESTART_MAX_MS 30000
#define STABLE_MS      10000

struct service {
	struct drover *d;
	char *kind, *name, *owner, *log_path;
	struct service_callbacks cb;
	struct strv argv;
	struct child_fd fd; /* beside its output; fd.fd < 0: none */
	struct child *child;
	struct deadline timer; /* for the next start, or for done of a stop */
	uint64_t started_ms, delay_ms;
	bool stopping, restarting;
	void (*stopped)(void *arg);
	void *stopped_arg;
};

static void service_free(void *arg)
{
	struct service *s = arg;

	strv_finish(&s->argv);
	free(s->kind);
	free(s->name);
	free(s->owner);
	free(s->log_path);
	free(s);
}

static const char *service_point(size_t i)
{
	static const char *const points[] = { "record", "spawned" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table service_faults = { "service", service_point, FAULT_BIT(0) };

static int service_spawn(struct service *s, struct err *err);

static void service_timer(void *arg)
{
	struct service *s = arg;
	struct err err;

	if (s->stopping) {
		ledger_remove(s->d->ledger, s->owner, OBJECT_PROCESS, s->name);
		s->stopped(s->stopped_arg);
		return;
	}
	if (service_spawn(s, &err) < 0) {
		log_msg(LOG_LVL_ERROR, s->name, "%s", err.msg);
		s->delay_ms = MIN(s->delay_ms * 2, RESTART_MAX_MS);
		deadline_set(&s->timer, s->delay_ms);
	}
}

/*
 * The event's number is in the ledger before the event is in the log: a daemon that comes after us
 * sees by it whether this death was told.
 */
static void tell_death(struct service *s, const char *how)
{
	struct object *o = ledger_find(s->d->ledger, s->owner, OBJECT_PROCESS, s->name);
	json_t *data = o != NULL ? json_copy(o->data) : NULL, *more;
	int64_t pid = json_int(data, "pid", 0);
	struct err err;

	if (data != NULL) {
		json_put_int(data, "died_seq", (int64_t)events_last(s->d->events) + 1);
		if (ledger_add(s->d->ledger, s->owner, OBJECT_PROCESS, s->name, data, &err) < 0)
			log_msg(LOG_LVL_WARN, s->name, "%s (ignoring)", err.msg);
	}
	log_msg(LOG_LVL_WARN, s->name, "%s; its output is in %s", how, s->log_path);
	more = json_object();
	json_put_int(more, "pid", pid);
	json_put_str(more, "reason", how);
	events_emit(s->d->events, s->kind, s->name, "died", more);
}

static void service_exited(void *arg, const struct child_status *status)
{
	struct service *s = arg;

	child_release(s->child);
	s->child = NULL;
	if (s->stopping) {
		service_timer(s);
		return;
	}
	if (s->restarting) {
		s->restarting = false;
		deadline_set(&s->timer, 0);
		return;
	}
	if (s->cb.ended != NULL && s->cb.ended(s->cb.arg, status))
		return;
	tell_death(s, child_status_text(status));
	if (s->cb.died != NULL && !s->cb.died(s->cb.arg, status))
		return;
	if (clock_mono_ms() - s->started_ms >= STABLE_MS)
		s->delay_ms = RESTART_MIN_MS;
	deadline_set(&s->timer, s->delay_ms);
	s->delay_ms = MIN(s->delay_ms * 2, RESTART_MAX_MS);
}

static json_t *process_data(struct child *c)
{
	json_t *data = json_object();

	json_put_int(data, "pid", child_pid(c));
	json_put_int(data, "starttime", (int64_t)child_starttime(c));
	return data;
}

static int service_spawn(struct service *s, struct err *err)
{
	struct child_fd fds[3] = { [2] = s->fd };
	struct child_spec spec = { .file = s->argv.v[0],
		.argv = s->argv.v,
		.fds = fds,
		.nfds = s->fd.fd >= 0 ? 3 : 2,
		.new_session = true };
	char *marker;
	json_t *more;
	int r, log;

	r = fault_at("service", "record", err);
	if (r == 0)
		r = ledger_add(s->d->ledger, s->owner, OBJECT_PROCESS, s->name, NULL, err);
	if (r < 0)
		return r;
	log = open(s->log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
	if (log < 0)
		return err_errno(err, -errno, "open %s", quote(s->log_path));
	fds[0] = (struct child_fd){ log, 1 };
	fds[1] = (struct child_fd){ log, 2 };
	spec.env = marker = marker_make(s->d->run_dir, s->owner, s->name);
	r = marker == NULL ? err_nomem(err)
			   : child_spawn(&s->child, s->d->loop, &spec, service_exited, s, err);
	free(marker);
	close(log);
	fault_at("service", "spawned", NULL);
	if (r < 0)
		return r;
	s->started_ms = clock_mono_ms();
	r = ledger_add(
		s->d->ledger, s->owner, OBJECT_PROCESS, s->name, process_data(s->child), err);
	if (r < 0) {
		/* The next daemon could not know of it. */
		child_discard(s->child);
		s->child = NULL;
		return r;
	}
	more = json_object();
	json_put_int(more, "pid", child_pid(s->child));
	events_emit(s->d->events, s->kind, s->name, "started", more);
	return 0;
}

int service_create(struct service **out, struct drover *d, const struct service_spec *spec,
	const struct service_callbacks *cb, struct err *err)
{
	struct service *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return err_nomem(err);
	s->kind = strdup(spec->kind);
	s->name = strdup(spec->name);
	s->owner = strdup(spec->owner);
	s->log_path = strdup(spec->log_path);
	if (s->kind == NULL || s->name == NULL || s->owner == NULL || s->log_path == NULL) {
		service_free(s);
		return err_nomem(err);
	}
	s->d = d;
	if (cb != NULL)
		s->cb = *cb;
	s->fd.fd = -1;
	s->delay_ms = RESTART_MIN_MS;
	deadline_init(&s->timer, d->loop, service_timer, s);
	*out = s;
	return 0;
}

void service_set_fd(struct service *s, int fd, int child_fd)
{
	s->fd = (struct child_fd){ fd, child_fd };
}

static void take_argv(struct service *s, struct strv *argv)
{
	strv_finish(&s->argv);
	s->argv = *argv;
	*argv = (struct strv){ 0 };
}

void service_set_command(struct service *s, struct strv *argv)
{
	take_argv(s, argv);
}

int service_start(struct service *s, struct strv *argv, struct err *err)
{
	int r;

	take_argv(s, argv);
	deadline_cancel(&s->timer); /* of a restart */
	s->stopping = false;
	r = service_spawn(s, err);
	return r < 0 ? err_wrap(err, "%s", s->name) : 0;
}

/* -ESRCH: it died; *told: and an event has said so. */
static int adopt_child(struct service *s, bool *told, struct err *err)
{
	struct object *o = ledger_find(s->d->ledger, s->owner, OBJECT_PROCESS, s->name);
	uint64_t died;

	*told = true;
	if (o == NULL || o->data == NULL)
		return err_set(
			err, -ESRCH, "%s: no process of an earlier daemon is known", s->name);
	died = (uint64_t)json_int(o->data, "died_seq", 0);
	*told = died != 0 && died < s->d->first_event;
	s->started_ms = clock_mono_ms();
	return child_adopt(&s->child, s->d->loop, (pid_t)json_int(o->data, "pid", 0),
		(uint64_t)json_int(o->data, "starttime", 0), service_exited, s, err);
}

int service_adopt(struct service *s, struct strv *argv, struct err *err)
{
	bool told;
	int r;

	take_argv(s, argv);
	r = adopt_child(s, &told, err);
	if (r == -ESRCH && !told)
		tell_death(s, "ended while no droverd watched");
	return r;
}

bool service_up(const struct service *s)
{
	return s->child != NULL;
}

bool service_waits(const struct service *s)
{
	return s->child == NULL && deadline_armed(&s->timer);
}

pid_t service_pid(const struct service *s)
{
	return s->child != NULL ? child_pid(s->child) : 0;
}

static const struct child_stop_step stop_steps[] = { { SIGTERM, 2000 } };

void service_restart(struct service *s)
{
	if (s->stopping || s->restarting)
		return;
	s->restarting = s->child != NULL;
	if (s->child != NULL)
		child_stop(s->child, stop_steps, 1);
	else
		deadline_set(&s->timer, 0);
}

void service_stop(struct service *s, void (*done)(void *arg), void *arg)
{
	s->stopping = true;
	s->stopped = done;
	s->stopped_arg = arg;
	if (s->child != NULL)
		child_stop(s->child, stop_steps, 1);
	else
		deadline_set(&s->timer, 0);
}

void service_destroy(struct service *s)
{
	if (s == NULL)
		return;
	child_release(s->child);
	deadline_close(&s->timer, service_free);
}

struct orphan {
	struct service *service;
	void (*done)(void *arg);
	void *arg;
};

static void orphan_stopped(void *arg)
{
	struct orphan *o = arg;

	service_destroy(o->service);
	o->done(o->arg);
	free(o);
}

void service_stop_orphan(struct drover *d, const char *owner, const struct object *object,
	void (*done)(void *arg), void *arg)
{
	struct service_spec spec = {
		.kind = "drover", .name = object->name, .owner = owner, .log_path = "/dev/null"
	};
	struct orphan *o = calloc(1, sizeof(*o));
	struct err err;
	bool told;

	if (o == NULL || service_create(&o->service, d, &spec, NULL, &err) < 0) {
		log_error("%s: cannot be stopped: no memory", object->name);
		free(o);
		done(arg);
		return;
	}
	o->done = done;
	o->arg = arg;
	adopt_child(o->service, &told, &err);
	service_stop(o->service, orphan_stopped, o);
}
