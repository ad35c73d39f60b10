/* The verb relay. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>
#include "lib/log.h"
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
	if (r == 0)
		r = relay_start(&relay, &opts, &err);
	if (r < 0) {
		log_error("relay: %s", err.msg);
		return r;
	}
	for (;;)
		pause();
}
