/* child_run() of lib/child.h: a short-lived child whose output is captured. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/deadline.h"

/* A grandchild may hold the pipes open; what has not come so long after the exit is not for us. */
#define LINGER_MS 1000
#define OUT_MAX   (1024 * 1024)

struct stream {
	uv_pipe_t pipe;
	struct buf data;
	bool open, lines;
};

struct child_run {
	struct child *child;             /* NULL until it is spawned */
	struct child_spawning *spawning; /* by a thread */
	struct stream in, out, errout;   /* `in` is the child's standard input */
	struct deadline deadline;
	uv_write_t write;
	char *input;
	size_t max;
	char *file;
	child_line_fn *line;
	child_done_fn *done;
	void *arg;
	bool exited, timed_out, cancelled, finished;
	struct err failure; /* of the spawning; code 0: none */
	struct child_status status;
	unsigned closing; /* close callbacks to come; the deadline's from the start on */
};

static void run_free(struct child_run *run)
{
	buf_finish(&run->out.data);
	buf_finish(&run->errout.data);
	free(run->input);
	free(run->file);
	free(run);
}

static void closed(struct child_run *run)
{
	if (--run->closing == 0)
		run_free(run);
}

static void pipe_closed(uv_handle_t *handle)
{
	closed(handle->data);
}

static void deadline_closed(void *arg)
{
	closed(arg);
}

static void stream_close(struct child_run *run, struct stream *s)
{
	if (!s->open)
		return;
	s->open = false;
	run->closing++;
	uv_close((uv_handle_t *)&s->pipe, pipe_closed);
}

/* The last non-empty line of the child's complaints, for the message. */
static const char *last_line(struct buf *b)
{
	char *text, *line;

	if (b->data == NULL)
		return NULL;
	text = str_trim(b->data);
	line = strrchr(text, '\n');
	return line != NULL ? line + 1 : *text != '\0' ? text : NULL;
}

static int run_error(struct child_run *run, struct err *err)
{
	const char *words;

	if (run->cancelled)
		return err_set(err, -ECANCELED, "%s was cancelled", run->file);
	if (run->timed_out)
		return err_set(err, -ETIMEDOUT, "%s did not end in time and was killed", run->file);
	if (run->failure.code < 0) {
		*err = run->failure;
		return err->code;
	}
	if (run->status.known && !run->status.signaled && run->status.code == 0)
		return 0;
	words = last_line(&run->errout.data);
	if (words != NULL)
		return err_set(
			err, -EIO, "%s %s: %s", run->file, child_status_text(&run->status), words);
	return err_set(err, -EIO, "%s %s", run->file, child_status_text(&run->status));
}

static void run_finish(struct child_run *run)
{
	struct child_result res;
	struct err err;

	run->finished = true;
	if (run->out.lines && run->out.data.len > 0)
		run->line(run->arg, buf_str(&run->out.data));
	if (run->out.lines)
		buf_clear(&run->out.data);
	res = (struct child_result){
		.status = run->status,
		.out = buf_str(&run->out.data),
		.out_len = run->out.data.len,
		.errout = buf_str(&run->errout.data),
		.errout_len = run->errout.data.len,
	};
	if (run_error(run, &err) < 0)
		run->done(run->arg, &res, &err);
	else
		run->done(run->arg, &res, NULL);
	stream_close(run, &run->in);
	stream_close(run, &run->out);
	stream_close(run, &run->errout);
	child_release(run->child);
	deadline_close(&run->deadline, deadline_closed);
}

static void run_check(struct child_run *run)
{
	if (run->finished || !run->exited)
		return;
	if (!run->out.open && !run->errout.open)
		run_finish(run);
	else
		deadline_set(&run->deadline, LINGER_MS);
}

static void run_exited(void *arg, const struct child_status *status)
{
	struct child_run *run = arg;

	run->exited = true;
	run->status = *status;
	run_check(run);
}

static void run_expired(void *arg)
{
	struct child_run *run = arg;

	if (run->exited) {
		run_finish(run);
		return;
	}
	run->timed_out = true;
	if (run->child != NULL)
		child_signal(run->child, SIGKILL);
}

static void run_spawned(void *arg, struct child *c, const struct err *err)
{
	struct child_run *run = arg;

	run->spawning = NULL;
	run->child = c;
	if (err != NULL) {
		run->failure = *err;
		run_finish(run);
	} else if (run->cancelled || run->timed_out) {
		child_signal(c, SIGKILL);
	}
}

static void give_lines(struct child_run *run, struct buf *b)
{
	char *nl;

	while (b->len > 0 && (nl = memchr(b->data, '\n', b->len)) != NULL) {
		*nl = '\0';
		run->line(run->arg, b->data);
		buf_drop(b, (size_t)(nl - b->data) + 1);
	}
}

static void stream_alloc(uv_handle_t *handle, size_t hint, uv_buf_t *buf)
{
	static char chunk[65536]; /* of the loop's thread: used up before the next read */

	*buf = uv_buf_init(chunk, sizeof(chunk));
}

static void stream_read(uv_stream_t *pipe, ssize_t n, const uv_buf_t *buf)
{
	struct child_run *run = pipe->data;
	struct stream *s = container_of((uv_pipe_t *)pipe, struct stream, pipe);

	if (n < 0) {
		stream_close(run, s);
		run_check(run);
		return;
	}
	if (s->data.len + (size_t)n <= run->max)
		buf_add(&s->data, buf->base, (size_t)n);
	if (s->lines)
		give_lines(run, &s->data);
}

static void input_written(uv_write_t *write, int status)
{
	struct child_run *run = container_of(write, struct child_run, write);

	stream_close(run, &run->in);
}

static int stream_open(struct child_run *run, struct stream *s, uv_loop_t *loop, int fd)
{
	int r = uv_pipe_init(loop, &s->pipe, 0);

	if (r == 0) {
		s->open = true;
		s->pipe.data = run;
		r = uv_pipe_open(&s->pipe, fd);
	}
	if (r < 0)
		close(fd);
	return r;
}

/* Our ends of the pipes; those of the child close when it is spawned. */
struct ends {
	int ours[3], theirs[3];
};

static void ends_close(int fds[3])
{
	for (int i = 0; i < 3; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

static int ends_open(struct ends *e, bool input)
{
	for (int i = 0; i < 3; i++)
		e->ours[i] = e->theirs[i] = -1;
	for (int i = input ? 0 : 1; i < 3; i++) {
		int fds[2];

		if (pipe2(fds, O_CLOEXEC) < 0)
			return -errno;
		e->ours[i] = fds[i == 0 ? 1 : 0];
		e->theirs[i] = fds[i == 0 ? 0 : 1];
	}
	return 0;
}

static int run_spawn(struct child_run *run, uv_loop_t *loop, const struct child_spec *spec,
	bool async, struct ends *e, struct err *err)
{
	struct child_fd fds[spec->nfds + 3];
	struct child_spec mine = *spec;
	size_t n = 0;
	int r;

	for (int i = 0; i < 3; i++) {
		if (e->theirs[i] >= 0)
			fds[n++] = (struct child_fd){ e->theirs[i], i };
	}
	for (size_t i = 0; i < spec->nfds; i++)
		fds[n++] = spec->fds[i];
	mine.fds = fds;
	mine.nfds = n;
	if (async)
		r = child_spawn_async(
			&run->spawning, loop, &mine, run_exited, run_spawned, run, err);
	else
		r = child_spawn(&run->child, loop, &mine, run_exited, run, err);
	ends_close(e->theirs);
	return r;
}

static void run_streams(struct child_run *run, uv_loop_t *loop, struct ends *e, size_t input_len)
{
	uv_buf_t buf = uv_buf_init(run->input, (unsigned)input_len);

	if (e->ours[0] >= 0 && stream_open(run, &run->in, loop, e->ours[0]) == 0 &&
		uv_write(&run->write, (uv_stream_t *)&run->in.pipe, &buf, 1, input_written) < 0)
		stream_close(run, &run->in);
	if (stream_open(run, &run->out, loop, e->ours[1]) == 0)
		uv_read_start((uv_stream_t *)&run->out.pipe, stream_alloc, stream_read);
	if (stream_open(run, &run->errout, loop, e->ours[2]) == 0)
		uv_read_start((uv_stream_t *)&run->errout.pipe, stream_alloc, stream_read);
}

int child_run(struct child_run **out, uv_loop_t *loop, const struct child_spec *spec,
	const struct child_run_opts *opts, child_done_fn *done, void *arg, struct err *err)
{
	static const struct child_run_opts none;
	struct child_run *run = calloc(1, sizeof(*run));
	const char *base = strrchr(spec->file, '/');
	struct ends ends;
	int r;

	if (opts == NULL)
		opts = &none;
	if (run != NULL)
		run->file = strdup(base != NULL ? base + 1 : spec->file);
	if (run != NULL && opts->input != NULL)
		run->input = malloc(opts->input_len + 1);
	if (run == NULL || run->file == NULL || (opts->input != NULL && run->input == NULL)) {
		if (run != NULL)
			run_free(run);
		return err_nomem(err);
	}
	if (opts->input != NULL)
		memcpy(run->input, opts->input, opts->input_len);
	run->done = done;
	run->arg = arg;
	run->line = opts->line;
	run->out.lines = opts->line != NULL;
	run->max = opts->max_output != 0 ? opts->max_output : OUT_MAX;
	r = ends_open(&ends, opts->input != NULL);
	if (r < 0)
		err_errno(err, r, "pipe");
	else
		r = run_spawn(run, loop, spec, opts->async, &ends, err);
	if (r < 0) {
		ends_close(ends.ours);
		ends_close(ends.theirs);
		run_free(run);
		return r;
	}
	deadline_init(&run->deadline, loop, run_expired, run);
	run->closing = 1;
	if (opts->timeout_ms != 0)
		deadline_set(&run->deadline, opts->timeout_ms);
	run_streams(run, loop, &ends, opts->input_len);
	if (out != NULL)
		*out = run;
	return 0;
}

void child_run_cancel(struct child_run *run)
{
	if (run->finished)
		return;
	run->cancelled = true;
	if (run->child == NULL)
		return; /* run_spawned() is on its way */
	child_signal(run->child, SIGKILL);
	/* If it exited just now, run_exited() is on its way or the pipes are being waited for. */
	if (run->exited)
		deadline_set(&run->deadline, 0);
}
