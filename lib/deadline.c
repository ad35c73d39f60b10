#include "lib/deadline.h"

#include "lib/util.h"

static void expired(uv_timer_t *timer)
{
	struct deadline *d = container_of(timer, struct deadline, timer);

	d->fn(d->arg);
}

int deadline_init(struct deadline *d, uv_loop_t *loop, deadline_fn *fn, void *arg)
{
	int r = uv_timer_init(loop, &d->timer);

	if (r < 0)
		return r;
	d->fn = fn;
	d->arg = arg;
	d->closed = NULL;
	d->open = true;
	return 0;
}

void deadline_set(struct deadline *d, uint64_t timeout_ms)
{
	/* The loop's notion of now is as old as this turn; a long turn would cut the time short. */
	uv_update_time(d->timer.loop);
	uv_timer_start(&d->timer, expired, timeout_ms, 0);
}

void deadline_cancel(struct deadline *d)
{
	if (d->open)
		uv_timer_stop(&d->timer);
}

bool deadline_armed(const struct deadline *d)
{
	return d->open && uv_is_active((const uv_handle_t *)&d->timer);
}

static void closed(uv_handle_t *handle)
{
	struct deadline *d = container_of((uv_timer_t *)handle, struct deadline, timer);

	if (d->closed != NULL)
		d->closed(d->arg);
}

void deadline_close(struct deadline *d, void (*fn)(void *arg))
{
	if (!d->open) {
		if (fn != NULL)
			fn(d->arg);
		return;
	}
	d->open = false;
	d->closed = fn;
	uv_close((uv_handle_t *)&d->timer, closed);
}
