#include "supervisor/machine-space.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lib/clock.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/migrate.h"

#define LOOK_MIN_MS 1000
#define LOOK_MAX_MS 30000
#define STABLE_MS   60000 /* a guest that ran so long has got over it */
#define ROOM        ((uint64_t)4 << 20)
#define RECENT_MS   30000

struct space {
	struct machine *m; /* NULL: forgotten */
	struct deadline timer;
	uv_fs_t look;
	unsigned handles; /* the timer, and the look that is under way */
	bool looking;
	bool full_seen;      /* an ENOSPC has come since the guest ran */
	bool full;           /* the condition */
	bool hold;           /* by a person */
	unsigned tries;      /* in a row */
	uint64_t resumed_ms; /* clock_mono_ms(); 0: not since it was full */
	char *error;         /* the last that was no ENOSPC */
	uint64_t error_ms;
};

static void handle_closed(struct space *s)
{
	if (--s->handles > 0)
		return;
	free(s->error);
	free(s);
}

static void timer_closed(void *arg)
{
	handle_closed(arg);
}

static void look(void *arg);

static struct space *space_of(struct machine *m)
{
	struct space *s = m->space;

	if (s != NULL)
		return s;
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		log_msg(LOG_LVL_ERROR, m->name, "no memory to remember an I/O error");
		return NULL;
	}
	s->m = m;
	s->handles = 1;
	deadline_init(&s->timer, m->d->loop, look, s);
	return m->space = s;
}

/* ---- looking for room ---- */

static void arm(struct space *s)
{
	uint64_t delay = LOOK_MIN_MS;
	uint32_t random = 20;

	for (unsigned i = 0; i < s->tries && delay < LOOK_MAX_MS; i++)
		delay *= 2;
	if (delay > LOOK_MAX_MS)
		delay = LOOK_MAX_MS;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 20;
	deadline_set(&s->timer, delay * (80 + random % 41) / 100);
}

static void again(struct space *s)
{
	s->tries++;
	machine_save_soon(s->m);
	arm(s);
}

static bool stands_still(const struct space *s)
{
	return s->full && s->m->state == MACHINE_PAUSED &&
	       hv_status(s->m->hv) == HV_STATUS_IO_ERROR;
}

static void resumed(void *arg, const struct err *err)
{
	struct space *s = arg;

	/* When it went well the event has come already, and perhaps the next ENOSPC. */
	if (err == NULL || s->m == NULL || !stands_still(s))
		return;
	log_msg(LOG_LVL_WARN, s->m->name, "there is room, but it cannot go on: %s", err->msg);
	again(s);
}

static void looked(uv_fs_t *req)
{
	struct space *s = container_of(req, struct space, look);
	const uv_statfs_t *st = req->ptr;
	/* Where it cannot be told the hypervisor shall try. */
	bool room = req->result < 0 || st == NULL || st->f_bavail * st->f_bsize >= ROOM;

	uv_fs_req_cleanup(req);
	s->looking = false;
	if (s->m != NULL && stands_still(s)) {
		if (s->hold || s->m->op != NULL || !machine_may_run(s->m)) {
			arm(s);
		} else if (!room) {
			again(s);
		} else {
			/* Should it be full again at once, the next look comes later. */
			s->tries++;
			machine_tell(s->m, "resume", "there is room again");
			hv_resume(s->m->hv, resumed, s);
		}
	}
	handle_closed(s);
}

static void look(void *arg)
{
	struct space *s = arg;
	struct machine *m = s->m;

	if (!stands_still(s) || s->looking)
		return;
	if (m->disk_path == NULL || hv_unresponsive(m->hv) ||
		uv_fs_statfs(m->d->loop, &s->look, m->disk_path, looked) < 0) {
		arm(s);
		return;
	}
	s->looking = true;
	s->handles++;
}

/* ---- what happens ---- */

static void tell(struct machine *m, const char *event, const char *reason)
{
	json_t *more = json_object();

	json_put_str(more, "reason", reason);
	events_emit(m->d->events, "vm", m->name, event, more);
}

void machine_space_error(struct machine *m, const struct hv_event *ev)
{
	const char *reason = ev->reason != NULL ? ev->reason : "I/O error";
	struct space *s = space_of(m);

	if (s == NULL)
		return;
	if (!ev->nospace) {
		machine_tell(m, "io-error", "%s", reason);
		tell(m, "io-error", reason);
		free(s->error);
		s->error = strdup(reason);
		s->error_ms = clock_mono_ms();
		return;
	}
	/* Each of the guest's requests has its own. */
	if (!s->full_seen) {
		machine_tell(m, "nospace", "%s", reason);
		tell(m, "nospace", reason);
	}
	s->full_seen = true;
	/* It comes before the guest is stopped, or after that when a daemon has just come. */
	if (hv_status(m->hv) == HV_STATUS_IO_ERROR)
		machine_space_status(m);
}

void machine_space_status(struct machine *m)
{
	struct space *s = m->space;
	enum hv_status status = m->process ? hv_status(m->hv) : HV_STATUS_UNKNOWN;

	if (s == NULL)
		return;
	if (status == HV_STATUS_IO_ERROR && s->full_seen && !deadline_armed(&s->timer) &&
		!s->looking) {
		if (s->resumed_ms != 0 && clock_mono_ms() - s->resumed_ms >= STABLE_MS)
			s->tries = 0;
		s->full = true;
		machine_save_soon(m);
		arm(s);
	} else if (status == HV_STATUS_RUNNING && (s->full || s->full_seen)) {
		if (s->full)
			tell(m, "nospace-over", NULL);
		s->full = s->full_seen = s->hold = false;
		s->resumed_ms = clock_mono_ms();
		deadline_cancel(&s->timer);
		machine_save_soon(m);
	}
}

void machine_space_hold(struct machine *m, bool hold)
{
	struct space *s = m->space;

	if (s == NULL || !s->full || s->hold == hold)
		return;
	s->hold = hold;
	machine_tell(m, hold ? "pause" : "resume",
		hold ? "it stays as it is when there is room" : "it goes on when there is room");
	machine_save_soon(m);
}

bool machine_space_full(const struct machine *m)
{
	return m->process && m->space != NULL && m->space->full;
}

bool machine_space_failed(const struct machine *m)
{
	return m->process && m->hv != NULL && hv_status(m->hv) == HV_STATUS_IO_ERROR &&
	       !machine_space_full(m);
}

const char *machine_space_recent(const struct machine *m)
{
	const struct space *s = m->space;

	return s != NULL && s->error != NULL && clock_mono_ms() - s->error_ms < RECENT_MS ? s->error
											  : NULL;
}

/* ---- beyond the daemon ---- */

void machine_space_save(const struct machine *m, json_t *j)
{
	const struct space *s = m->space;

	if (s == NULL || !s->full)
		return;
	json_put_bool(j, "nospace", true);
	json_put_bool(j, "nospace_hold", s->hold);
	json_put_int(j, "nospace_tries", s->tries);
}

void machine_space_load(struct machine *m, const json_t *j)
{
	struct space *s = json_flag(j, "nospace", false) ? space_of(m) : NULL;

	if (s == NULL)
		return;
	s->full = s->full_seen = true;
	s->hold = json_flag(j, "nospace_hold", false);
	s->tries = (unsigned)json_int(j, "nospace_tries", 0);
}

void machine_space_forget(struct machine *m)
{
	struct space *s = m->space;

	if (s == NULL)
		return;
	m->space = NULL;
	s->m = NULL;
	deadline_close(&s->timer, timer_closed);
}
