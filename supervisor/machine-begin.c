/* How many starts begin in one turn of the loop: supervisor/machine-steps.h. */
#include <stdlib.h>
#include <uv.h>

#include "supervisor/machine-steps.h"

/*
 * A plan can begin hundreds of starts, a client fifty: what they do at once, in one turn, would
 * keep the death of a hypervisor from being seen for as long.
 */
#define TURN_NS 1000000

struct begins {
	uv_idle_t idle;
	struct drover *d;
};

static void begins_closed(uv_handle_t *handle)
{
	free(container_of((uv_idle_t *)handle, struct begins, idle));
}

/* At least one, whatever it takes. */
static void begin_some(uv_idle_t *idle)
{
	struct begins *b = container_of(idle, struct begins, idle);
	uint64_t end = uv_hrtime() + TURN_NS;
	struct machine *m;

	do {
		m = list_first(&b->d->begin_queue, struct machine, queue);
		if (m == NULL)
			break;
		list_remove(&m->queue);
		machine_start_next(m, NULL);
	} while (uv_hrtime() < end);
	if (!list_empty(&b->d->begin_queue))
		return;
	b->d->begins = NULL;
	uv_close((uv_handle_t *)&b->idle, begins_closed);
}

void machine_begin_steps(struct machine *m)
{
	struct drover *d = m->d;

	if (d->begins == NULL) {
		d->begins = calloc(1, sizeof(*d->begins));
		if (d->begins == NULL) {
			machine_start_next(m, NULL);
			return;
		}
		d->begins->d = d;
		uv_idle_init(d->loop, &d->begins->idle);
		uv_idle_start(&d->begins->idle, begin_some);
	}
	list_append(&d->begin_queue, &m->queue);
}
