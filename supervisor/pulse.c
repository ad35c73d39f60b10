#include "supervisor/pulse.h"

#include <stdlib.h>
#include <string.h>

#include "supervisor/machine.h"

#define ANSWER_MS 3000
/* Machines that are looked at in one turn of the loop, at some 10 us each. */
#define SLICE 128

struct pulse {
	struct drover *d;
	struct deadline timer;
	unsigned at; /* the next machine of a round that took more than one turn */
	bool up;     /* this round has met a machine that is up */
};

static void answered(void *arg, const json_t *reply, const struct err *err)
{
	/* Whether it came in time is for hv to say. */
}

static bool is_up(const struct machine *m)
{
	return m->process && m->hv != NULL &&
	       (m->state == MACHINE_RUNNING || m->state == MACHINE_PAUSED);
}

/* Stopped, traced, or waiting for storage: the last is usual, and then the answer comes at once. */
static void look_at(struct machine *m)
{
	char state = proc_state(hv_process(m->hv)->pid);

	/* What is known to be silent hv asks again by itself. */
	if (!hv_unresponsive(m->hv) && state != '\0' && strchr("TtD", state) != NULL)
		hv_ping(m->hv, ANSWER_MS, answered, NULL);
}

static void look(void *arg)
{
	struct pulse *p = arg;
	uint64_t interval = drover_config(p->d)->drover->probe_interval;
	unsigned i = 0, end = p->at + SLICE;
	struct machine *m;

	if (interval == 0)
		return;
	list_for_each_entry (m, &p->d->machines, entry) {
		if (i == end) {
			p->at = end;
			deadline_set(&p->timer, 0);
			return;
		}
		if (i++ < p->at || !is_up(m))
			continue;
		p->up = true;
		look_at(m);
	}
	if (p->up)
		deadline_set(&p->timer, interval);
	p->at = 0;
	p->up = false;
}

void pulse_wake(struct pulse *p)
{
	uint64_t interval = p != NULL ? drover_config(p->d)->drover->probe_interval : 0;

	if (interval > 0 && !deadline_armed(&p->timer))
		deadline_set(&p->timer, interval);
}

void pulse_rearm(struct pulse *p)
{
	if (p == NULL)
		return;
	deadline_cancel(&p->timer);
	p->at = 0;
	pulse_wake(p);
}

int pulse_create(struct pulse **out, struct drover *d, struct err *err)
{
	struct pulse *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return err_nomem(err);
	p->d = d;
	deadline_init(&p->timer, d->loop, look, p);
	*out = p;
	/* For those that were adopted. */
	pulse_wake(p);
	return 0;
}

static void closed(void *arg)
{
	free(arg);
}

void pulse_destroy(struct pulse *p)
{
	if (p != NULL)
		deadline_close(&p->timer, closed);
}
