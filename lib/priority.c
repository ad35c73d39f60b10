#include "lib/priority.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/util.h"

#define NICE (-10)
/*
 * Whoever wants the processor for so short a time gets it before those who want it for long: from
 * Linux 6.12 on sched_runtime is the time slice of an ordinary thread, 0.1 to 100 ms
 * (kernel/sched/syscalls.c, __setparam_fair); before that it is ignored.
 */
#define SLICE_NS 100000

/* SCHED_FLAG_RESET_ON_FORK of sched(7): whoever we start has nice 0 and ordinary slices. */
#define RESET_ON_FORK 1

/* The kernel's struct sched_attr, version 0: its header and libc's sched.h exclude one another. */
struct attr {
	uint32_t size, sched_policy;
	uint64_t sched_flags;
	int32_t sched_nice;
	uint32_t sched_priority;
	uint64_t sched_runtime, sched_deadline, sched_period;
};

static int set(int nice)
{
	struct attr attr = { .size = sizeof(attr),
		.sched_policy = SCHED_OTHER,
		.sched_flags = RESET_ON_FORK,
		.sched_nice = nice,
		.sched_runtime = SLICE_NS };

	return syscall(SYS_sched_setattr, 0, &attr, 0) < 0 ? -errno : 0;
}

/*
 * Where sched_autogroup_enabled is 1 and no cgroup has a share of the processors, the sessions
 * share them, and a nice value counts inside of its session alone (sched(7), "The autogroup
 * feature"). Ours if we lead it: a shell's belongs to others, too. Who of our children calls
 * setsid() is in a group of its own and has none of this.
 */
static void raise_session(void)
{
	char text[8];

	if (getsid(0) != getpid())
		return;
	snprintf(text, sizeof(text), "%d", NICE);
	file_write_proc("/proc/self/autogroup", text, NULL); /* where there is such a thing */
}

int priority_raise(struct err *err)
{
	int now, r;

	errno = 0;
	now = getpriority(PRIO_PROCESS, 0);
	/* Another policy (CPUSchedulingPolicy= of systemd) is somebody's decision, too. */
	if (errno != 0 || now > 0 || (sched_getscheduler(0) & ~SCHED_RESET_ON_FORK) != SCHED_OTHER)
		return 0;
	r = set(MIN(now, NICE));
	if (r < 0)
		set(now);
	else
		raise_session();
	return r < 0 ? err_errno(err, r, "nice %d", NICE) : 0;
}
