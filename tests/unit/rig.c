#include "tests/unit/rig.h"

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "lib/file.h"

uv_loop_t *rig_loop(void)
{
	uv_loop_t *loop = calloc(1, sizeof(*loop));

	assert_non_null(loop);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(uv_loop_init(loop), 0);
	return loop;
}

static void expired(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* A timer's callback that sets the flag comes before the poll, which must not wait then. */
static void stop_when_set(uv_prepare_t *prepare)
{
	const bool *flag = prepare->data;

	if (*flag)
		uv_stop(prepare->loop);
}

static void run(uv_loop_t *loop, const bool *flag, unsigned ms, bool must)
{
	uv_timer_t timer;
	uv_prepare_t prepare;
	bool timeout = false;

	uv_prepare_init(loop, &prepare);
	prepare.data = (void *)(flag != NULL ? flag : &timeout);
	uv_prepare_start(&prepare, stop_when_set);

	uv_timer_init(loop, &timer);
	timer.data = &timeout;
	uv_update_time(loop);
	uv_timer_start(&timer, expired, ms, 0);
	while (!timeout && (flag == NULL || !*flag))
		uv_run(loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_close((uv_handle_t *)&prepare, NULL);
	uv_run(loop, UV_RUN_NOWAIT);
	if (must && !*flag)
		fail_msg("the loop ran for %u ms without the awaited event", ms);
}

void rig_run_until(uv_loop_t *loop, const bool *flag)
{
	run(loop, flag, 30000, true);
}

void rig_run_for(uv_loop_t *loop, unsigned ms)
{
	run(loop, NULL, ms, false);
}

static void count_turn(uv_prepare_t *prepare)
{
	++*(unsigned *)prepare->data;
}

unsigned rig_turns(uv_loop_t *loop, unsigned ms)
{
	uv_prepare_t prepare;
	unsigned n = 0;

	uv_prepare_init(loop, &prepare);
	prepare.data = &n;
	uv_prepare_start(&prepare, count_turn);
	rig_run_for(loop, ms);
	uv_close((uv_handle_t *)&prepare, NULL);
	uv_run(loop, UV_RUN_NOWAIT);
	return n;
}

void rig_descriptors(bool any)
{
	static struct rlimit was;
	struct rlimit none;

	if (any) {
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &was), 0);
		return;
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	/* Those that are open stay. */
	none = (struct rlimit){ .rlim_cur = 3, .rlim_max = was.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
}

static void name_handle(uv_handle_t *handle, void *arg)
{
	fprintf(stderr, "left open: %s\n", uv_handle_type_name(handle->type));
}

void rig_loop_finish(uv_loop_t *loop)
{
	bool idle = false;

	/* What the thread pool still does, an fsync for instance, ends by itself. */
	while (loop->active_reqs.count > 0)
		uv_run(loop, UV_RUN_ONCE);
	/* Closing handles need a few turns; a handle that is still active is a leak. */
	for (int i = 0; i < 100 && !idle; i++)
		idle = uv_run(loop, UV_RUN_NOWAIT) == 0;
	if (uv_loop_close(loop) != 0) {
		uv_walk(loop, name_handle, NULL);
		fail_msg("the loop has open handles");
	}
	free(loop);
}

char *rig_tmp(void)
{
	const char *base = getenv("TMPDIR");
	char *dir = str_printf("%s/drover-test.XXXXXX", base != NULL ? base : "/tmp");

	assert_non_null(dir);
	assert_non_null(mkdtemp(dir));
	return dir;
}

void rig_tmp_finish(char *dir)
{
	assert_int_equal(remove_tree(dir, NULL), 0);
	free(dir);
}

unsigned rig_count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}
