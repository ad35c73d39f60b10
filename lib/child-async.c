/* Spawning in a thread of the pool: child_spawn_async() of lib/child.h. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/child-private.h"
#include "lib/spawn.h"

struct child_spawning {
	uv_work_t work;
	uv_loop_t *loop;
	struct child_spec spec; /* of our own: all that it points to is below */
	struct strv argv, envp;
	char *file, *env, *cwd, *cgroup;
	struct child_fd *fds;
	pid_t pid;
	int pidfd, result;
	struct err err;
	child_exit_fn *exited;
	child_spawned_fn *done; /* NULL: abandoned */
	void *arg;
};

static void spawning_free(struct child_spawning *s)
{
	for (size_t i = 0; i < s->spec.nfds; i++)
		close(s->fds[i].fd);
	free(s->fds);
	strv_finish(&s->argv);
	strv_finish(&s->envp);
	free(s->file);
	free(s->env);
	free(s->cwd);
	free(s->cgroup);
	free(s);
}

static int copy_text(const char **slot, char **own)
{
	if (*slot == NULL)
		return 0;
	*own = strdup(*slot);
	*slot = *own;
	return *own != NULL ? 0 : -ENOMEM;
}

static int copy_list(char *const **slot, struct strv *own)
{
	if (*slot == NULL)
		return 0;
	for (char *const *v = *slot; *v != NULL; v++)
		strv_add(own, *v);
	*slot = own->v;
	return own->bad ? -ENOMEM : 0;
}

static int copy_fds(struct child_spawning *s, const struct child_spec *spec)
{
	s->spec.nfds = 0;
	s->spec.fds = s->fds = calloc(spec->nfds + 1, sizeof(*s->fds));
	if (s->fds == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < spec->nfds; i++) {
		s->fds[i] = spec->fds[i];
		s->fds[i].fd = fcntl(spec->fds[i].fd, F_DUPFD_CLOEXEC, 3);
		if (s->fds[i].fd < 0)
			return -errno;
		s->spec.nfds++;
	}
	return 0;
}

static void spawn_work(uv_work_t *work)
{
	struct child_spawning *s = container_of(work, struct child_spawning, work);

	s->result = spawn_process(&s->spec, &s->pid, &s->pidfd, &s->err);
}

static void no_matter(void *arg, const struct child_status *status)
{
}

static void spawn_after(uv_work_t *work, int status)
{
	struct child_spawning *s = container_of(work, struct child_spawning, work);
	struct child *c = NULL;

	if (s->result == 0)
		s->result = child_take(&c, s->loop, s->pid, s->pidfd,
			s->done != NULL ? s->exited : no_matter, s->arg, &s->err);
	if (s->done == NULL)
		child_discard(c);
	else
		s->done(s->arg, c, s->result < 0 ? &s->err : NULL);
	spawning_free(s);
}

int child_spawn_async(struct child_spawning **out, uv_loop_t *loop, const struct child_spec *spec,
	child_exit_fn *exited, child_spawned_fn *done, void *arg, struct err *err)
{
	struct child_spawning *s = calloc(1, sizeof(*s));
	int r;

	if (s == NULL)
		return err_nomem(err);
	s->spec = *spec;
	s->loop = loop;
	s->exited = exited;
	s->done = done;
	s->arg = arg;
	r = copy_fds(s, spec);
	if (r == 0)
		r = copy_text(&s->spec.file, &s->file);
	if (r == 0)
		r = copy_text(&s->spec.env, &s->env);
	if (r == 0)
		r = copy_text(&s->spec.cwd, &s->cwd);
	if (r == 0)
		r = copy_text(&s->spec.cgroup, &s->cgroup);
	if (r == 0)
		r = copy_list(&s->spec.argv, &s->argv);
	if (r == 0)
		r = copy_list(&s->spec.envp, &s->envp);
	if (r == 0)
		r = uv_queue_work(loop, &s->work, spawn_work, spawn_after);
	if (r < 0) {
		spawning_free(s);
		return err_errno(err, r, "start %s", quote(spec->file));
	}
	*out = s;
	return 0;
}

void child_spawn_abandon(struct child_spawning *s)
{
	if (s != NULL)
		s->done = NULL;
}
