/*
 * supervisor/marker.h - the sign by which a process is known as ours although nothing says so: each
 * child that outlives droverd has DROVER_OWNER=RUN_DIR:OWNER:NAME in its environment. A child that
 * was spawned but not yet written down when droverd was killed is found by it. Reads /proc: any
 * thread, some microseconds for each process of the host.
 */
#ifndef DROVER_SUPERVISOR_MARKER_H
#define DROVER_SUPERVISOR_MARKER_H

#include <stdint.h>
#include <sys/types.h>
#include "lib/str.h"

#define MARKER_VARIABLE   "DROVER_OWNER"
#define MARKER_HYPERVISOR "hypervisor" /* the name of a hypervisor's and its jail's process */

/* "DROVER_OWNER=/run/drover:vm/web-1:dnsmasq-tap0123456789ab"; malloc'd, NULL without memory. */
char *marker_make(const char *run_dir, const char *owner, const char *name);

struct marked {
	pid_t pid;
	uint64_t starttime;
	char *owner, *name;
};

/*
 * Whether the environment (NUL-separated, as /proc/PID/environ) has a marker of run_dir; then
 * owner and name are malloc'd. -ENOENT: it has none.
 */
int marker_parse(
	const char *environment, size_t len, const char *run_dir, char **owner, char **name);

/*
 * The living processes with a marker of run_dir, in the order of their pids. This process and
 * those of another pid namespace (a container with a droverd of its own sees the same path) do
 * not count, nor do those whose environment we may not read (CAP_SYS_PTRACE is needed for those
 * of other users).
 */
int marker_scan(const char *run_dir, struct marked **out, size_t *n, struct err *err);
void marked_free(struct marked *v, size_t n);

#endif
