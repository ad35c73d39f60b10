#include "supervisor/turns.h"

#include <string.h>

#include "lib/log.h"
#include "lib/util.h"

/* At the end of each turn, before the loop sleeps, which is no part of one. */
static void turn_ends(uv_prepare_t *prepare)
{
	struct turns *t = container_of(prepare, struct turns, prepare);
	uint64_t now = uv_hrtime(), idle = uv_metrics_idle_time(prepare->loop);
	uint64_t slept = idle - t->idle, all = now - t->last;

	if (t->last != 0) {
		t->count++;
		t->longest = MAX(t->longest, all > slept ? all - slept : 0);
	}
	t->last = now;
	t->idle = idle;
}

void turns_init(struct turns *t, uv_loop_t *loop)
{
	memset(t, 0, sizeof(*t));
	uv_prepare_init(loop, &t->prepare);
}

void turns_report(struct turns *t)
{
	if (!t->measuring) {
		if (uv_loop_configure(t->prepare.loop, UV_METRICS_IDLE_TIME) < 0)
			return;
		t->measuring = true;
		uv_prepare_start(&t->prepare, turn_ends);
		uv_unref((uv_handle_t *)&t->prepare);
		log_info("loop: its turns are measured from now on");
		return;
	}
	log_info("loop: %llu turns, the longest took %.3f ms", (unsigned long long)t->count,
		(double)t->longest / 1e6);
	/* What the report itself takes is not of the next time. */
	t->count = t->longest = t->last = 0;
}

void turns_close(struct turns *t)
{
	uv_close((uv_handle_t *)&t->prepare, NULL);
}
