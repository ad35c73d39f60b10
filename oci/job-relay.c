/* The verb relay. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/log.h"
#include "oci/cache-prune.h"
#include "oci/job.h"
#include "oci/relay.h"

static int check(const struct job_opts *o, struct err *err)
{
	socklen_t len = sizeof(int);
	int listens = 0;

	if (getsockopt(o->listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) < 0 || !listens)
		return err_set(err, -EINVAL, "descriptor %d is no listening socket", o->listen_fd);
	return 0;
}

/* Ends only by a signal: what it has are unlinked files. */
int job_relay(const struct job_opts *o)
{
	struct relay_opts opts = RELAY_OPTS_DEFAULT;
	struct relay *relay;
	struct err err;
	struct sandbox_path paths[] = { { o->spool, true } };
	int r = check(o, &err);

	if (r == 0)
		r = job_sandbox(paths, 1, true, &err);
	opts.listen_fd = o->listen_fd;
	opts.upstream = o->upstream;
	opts.spool = o->spool;
	opts.count_fd = STDOUT_FILENO;
	if (r == 0)
		r = relay_start(&relay, &opts, &err);
	if (r < 0) {
		log_error("relay: %s", err.msg);
		return r;
	}
	for (;;)
		pause();
}

int job_cache_prune(const struct job_opts *o)
{
	const struct sandbox_path path = { o->storage, true };
	const struct cache_limits limits = { o->prune.budget, o->prune.age_ms };
	struct cache_pruned done;
	struct err err = { 0 };
	int r = job_sandbox(&path, 1, false, &err);

	if (r == 0)
		r = cache_prune(o->storage, &limits, o->dry_run, &done, &err);
	if (r < 0) {
		progress_error(NULL, &err);
		return r;
	}
	progress_event(
		json_pack("{s:s,s:I,s:I,s:I}", "event", "done", "size", (json_int_t)done.bytes,
			"freed", (json_int_t)done.freed, "blobs", (json_int_t)done.blobs));
	return 0;
}
