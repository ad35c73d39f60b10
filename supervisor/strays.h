/*
 * supervisor/strays.h - processes of an earlier daemon that nothing names: spawned, and not yet
 * written down when that daemon was killed. Found by their marker (supervisor/marker.h) when
 * droverd starts, before any machine is taken up, so that no hypervisor ever runs twice. Loop
 * thread.
 */
#ifndef DROVER_SUPERVISOR_STRAYS_H
#define DROVER_SUPERVISOR_STRAYS_H

#include "supervisor/drover.h"

struct known_process {
	pid_t pid;
	uint64_t starttime;
};

/*
 * Ends every process with our marker that is neither in known (copied) nor in the ledger: SIGTERM,
 * a second, SIGKILL; then looks again, until there is none. done exactly once; from within the
 * call when there was none. Never fails: what cannot be ended is logged.
 */
void strays_clear(struct drover *d, const struct known_process *known, size_t n,
	void (*done)(void *arg), void *arg);

#endif
