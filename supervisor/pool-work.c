#include "supervisor/pool-work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/file.h"
#include "lib/log.h"

struct job {
	uv_work_t work;
	pool_work_fn *fn;
	pool_done_fn *done;
	void *arg;
	int result;
	struct err err;
};

static void run(uv_work_t *work)
{
	struct job *job = container_of(work, struct job, work);

	job->result = job->fn(job->arg, &job->err);
}

static void ran(uv_work_t *work, int status)
{
	struct job *job = container_of(work, struct job, work);

	if (status < 0 && job->result == 0)
		job->result = err_errno(&job->err, status, "the work was not begun");
	if (job->done != NULL)
		job->done(job->arg, job->result < 0 ? &job->err : NULL);
	free(job);
}

int pool_work(uv_loop_t *loop, pool_work_fn *work, pool_done_fn *done, void *arg)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return -ENOMEM;
	job->fn = work;
	job->done = done;
	job->arg = arg;
	if (uv_queue_work(loop, &job->work, run, ran) == 0)
		return 0;
	free(job);
	return -ENOMEM;
}

static int remove_path(void *arg, struct err *err)
{
	return remove_tree(arg, err);
}

static void path_removed(void *arg, const struct err *err)
{
	if (err != NULL)
		log_warn("%s (ignoring)", err->msg);
	free(arg);
}

void pool_remove_tree(uv_loop_t *loop, const char *path)
{
	char *copy = strdup(path);

	if (copy == NULL || pool_work(loop, remove_path, path_removed, copy) < 0) {
		log_warn("%s is not removed yet: no memory", quote(path));
		free(copy);
	}
}
