/* Control groups, limits of the kernel and of processes, memory: supervisor/examine.h. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/cgroup.h"
#include "supervisor/examine-private.h"

#define GROUP "limits"
/* Estimates from above, of what one running machine takes. */
#define MACHINE_FILES 16 /* of droverd's descriptors: monitor, console, pidfd, logs, clients */
#define DAEMON_FILES  256
#define MACHINE_TASKS 32 /* threads of its hypervisor and helpers, beside its vcpus */
#define DAEMON_TASKS  1024

/* ---- cgroups ---- */

static bool has_word_in(const char *line, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = line; (p = strstr(p, word)) != NULL; p += len) {
		if ((p == line || p[-1] == ' ') && (p[len] == ' ' || p[len] == '\0'))
			return true;
	}
	return false;
}

static bool has_systemd(const struct examination *x)
{
	struct stat st;

	/* sd_booted(3) */
	return stat(examine_path(x, "/run/systemd/system"), &st) == 0;
}

/* What the machines' unit has been given. */
static void check_machines_group(struct examination *x)
{
	const struct config *c = x->o.config;
	const char *root = c != NULL && c->drover->cgroup_root != NULL ? c->drover->cgroup_root
								       : CGROUP_DEFAULT_ROOT;
	struct stat st;

	if (stat(examine_path(x, "%s", root), &st) == 0)
		found(x, GROUP, "cgroup-machines", FOUND_OK, NULL,
			"machines get their cgroups in %s", quote(root));
	else if (strcmp(root, CGROUP_DEFAULT_ROOT) != 0)
		found(x, GROUP, "cgroup-machines", FOUND_WARN, NULL,
			"cgroup_root %s is not there: machines run without limits", quote(root));
	else if (has_systemd(x))
		found(x, GROUP, "cgroup-machines", FOUND_WARN,
			"`systemctl enable --now drover-machines.service`",
			"drover-machines.service, which is given the machines' cgroup, does not run: "
			"they run without limits");
}

static void check_cgroup(struct examination *x)
{
	static const char *const needed[] = { "cpu", "memory", "pids", "io" };
	char line[256], missing[64] = "";

	if (!examine_line(x, "/sys/fs/cgroup/cgroup.controllers", line, sizeof(line))) {
		found(x, GROUP, "cgroup", FOUND_WARN,
			"systemd.unified_cgroup_hierarchy=1 on the kernel's command line",
			"there is no cgroup v2 at /sys/fs/cgroup: machines run without limits");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		if (!has_word_in(line, needed[i]))
			snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing),
				" %s", needed[i]);
	}
	if (missing[0] != '\0')
		found(x, GROUP, "cgroup", FOUND_WARN,
			"cgroup_no_v1=all on the kernel's command line, or give this container them",
			"cgroup v2 lacks the controllers%s: those limits are not applied", missing);
	else
		found(x, GROUP, "cgroup", FOUND_OK, NULL,
			"cgroup v2 has the controllers for limits");
	check_machines_group(x);
}

/* ---- processes ---- */

/* Of "/proc/self/limits": "Max open files            1024                 524288   files". */
static bool hard_limit(const struct examination *x, const char *name, uint64_t *out)
{
	struct buf text = { 0 };
	char soft[32], hard[32];
	const char *p;
	bool ok;

	ok = examine_file(x, "/proc/self/limits", &text) &&
	     (p = strstr(buf_str(&text), name)) != NULL &&
	     sscanf(p + strlen(name), " %31s %31s", soft, hard) == 2;
	buf_finish(&text);
	if (!ok)
		return false;
	if (strcmp(hard, "unlimited") == 0) {
		*out = UINT64_MAX;
		return true;
	}
	return parse_u64(hard, 0, UINT64_MAX, out, NULL) == 0;
}

/* Of the daemon those of its own process; else those that a droverd started from here would have. */
static void check_files(struct examination *x)
{
	uint64_t need = DAEMON_FILES + MACHINE_FILES * (uint64_t)examine_machines(x), hard;
	const char *whose = x->o.daemon ? "droverd" : "a droverd started from here";

	if (!hard_limit(x, "Max open files", &hard)) {
		found(x, GROUP, "open-files", FOUND_UNSEEN, NULL,
			"/proc/self/limits does not tell how many files may be open");
		return;
	}
	if (hard < need)
		found(x, GROUP, "open-files", x->o.daemon ? FOUND_FAIL : FOUND_WARN,
			"LimitNOFILE=65536 by `systemctl edit droverd`, or `ulimit -Hn 65536`",
			"%s may have %llu files open, and %zu machines may need %llu", whose,
			(unsigned long long)hard, examine_machines(x), (unsigned long long)need);
	else if (hard == UINT64_MAX)
		found(x, GROUP, "open-files", FOUND_OK, NULL,
			"%s may have any number of files open", whose);
	else
		found(x, GROUP, "open-files", FOUND_OK, NULL, "%s may have %llu files open", whose,
			(unsigned long long)hard);
}

/* The smallest pids.max of the cgroups that this process is in. */
static uint64_t group_pids(const struct examination *x)
{
	char line[PATH_MAX], path[PATH_MAX + 64];
	uint64_t min = UINT64_MAX, n;

	if (!examine_line(x, "/proc/self/cgroup", line, sizeof(line)) || !str_starts(line, "0::/"))
		return min;
	for (char *slash; line[3] != '\0'; *slash = '\0') {
		snprintf(path, sizeof(path), "/sys/fs/cgroup%s/pids.max", line + 3);
		if (examine_number(x, path, &n))
			min = MIN(min, n);
		slash = strrchr(line + 3, '/');
		if (slash == line + 3)
			break;
	}
	return min;
}

static uint64_t tasks_needed(const struct examination *x)
{
	uint64_t n = DAEMON_TASKS;

	for (size_t i = 0; i < examine_machines(x); i++) {
		const struct vm_config *vm = (const void *)x->o.config->by_kind[SECTION_VM].v[i];

		n += MACHINE_TASKS + vm->vcpus;
	}
	return n;
}

static void check_tasks(struct examination *x)
{
	static const char *const files[] = { "/proc/sys/kernel/pid_max",
		"/proc/sys/kernel/threads-max" };
	static const char *const fixes[] = { "`sysctl -w kernel.pid_max=4194304`",
		"`sysctl -w kernel.threads-max=1000000`" };
	uint64_t need = tasks_needed(x), n, min = UINT64_MAX, group;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (!examine_number(x, files[i], &n))
			continue;
		min = MIN(min, n);
		if (n < need) {
			found(x, GROUP, "tasks", FOUND_WARN, fixes[i],
				"%s allows %llu processes and threads, and %zu machines may need %llu",
				files[i], (unsigned long long)n, examine_machines(x),
				(unsigned long long)need);
			return;
		}
	}
	group = group_pids(x);
	if (min == UINT64_MAX)
		found(x, GROUP, "tasks", FOUND_UNSEEN, NULL,
			"/proc/sys/kernel/pid_max cannot be read");
	else if (group < need)
		found(x, GROUP, "tasks", FOUND_WARN,
			"TasksMax=infinity by `systemctl edit droverd`",
			"the cgroup of %s allows %llu processes and threads, and %zu machines may need %llu",
			x->o.daemon ? "droverd" : "this shell", (unsigned long long)group,
			examine_machines(x), (unsigned long long)need);
	else
		found(x, GROUP, "tasks", FOUND_OK, NULL, "%llu processes and threads may run",
			(unsigned long long)MIN(min, group));
}

/* Each dnsmasq takes an instance (dnsmasq's inotify.c), and all of them run as one user. */
static void check_inotify(struct examination *x)
{
	uint64_t need = 16 + examine_machines(x) + examine_networks(x), n;

	if (!examine_number(x, "/proc/sys/fs/inotify/max_user_instances", &n))
		found(x, GROUP, "inotify", FOUND_UNSEEN, NULL,
			"/proc/sys/fs/inotify/max_user_instances cannot be read");
	else if (n < need)
		found(x, GROUP, "inotify", FOUND_WARN,
			"`sysctl -w fs.inotify.max_user_instances=1024`, and the same line in "
			"/etc/sysctl.d",
			"a user may have %llu inotify instances, and the dnsmasqs of this "
			"configuration may need %llu",
			(unsigned long long)n, (unsigned long long)need);
	else
		found(x, GROUP, "inotify", FOUND_OK, NULL, "a user may have %llu inotify instances",
			(unsigned long long)n);
}

/* ---- memory ---- */

/* A line "NAME:  NUMBER[ kB]" of /proc/meminfo. */
static bool meminfo(const char *text, const char *name, uint64_t *out)
{
	const char *p = strstr(text, name);
	unsigned long long n;

	if (p == NULL || sscanf(p + strlen(name), ": %llu", &n) != 1)
		return false;
	*out = n;
	return true;
}

static void memory_wanted(const struct examination *x, uint64_t *all, uint64_t *huge)
{
	*all = *huge = 0;
	for (size_t i = 0; i < examine_machines(x); i++) {
		const struct vm_config *vm = (const void *)x->o.config->by_kind[SECTION_VM].v[i];

		if (vm->autostart && vm->hugepages)
			*huge += vm->memory;
		else if (vm->autostart)
			*all += vm->memory;
	}
}

static void check_hugepages(struct examination *x, const char *info, uint64_t wanted)
{
	uint64_t total, unused, size;
	char fix[96];

	if (!meminfo(info, "HugePages_Total", &total) || !meminfo(info, "Hugepagesize", &size) ||
		!meminfo(info, "HugePages_Free", &unused) || size == 0) {
		found(x, GROUP, "hugepages", wanted > 0 ? FOUND_FAIL : FOUND_INFO,
			wanted > 0 ? "a kernel with hugetlbfs" : NULL,
			"the kernel has no huge pages");
		return;
	}
	size *= 1024;
	snprintf(fix, sizeof(fix), "`sysctl -w vm.nr_hugepages=%llu`",
		(unsigned long long)((wanted + size - 1) / size));
	if (total * size < wanted)
		found(x, GROUP, "hugepages", FOUND_FAIL, fix,
			"there are %s of huge pages, and machines with hugepages = yes need %s",
			format_size(total * size), format_size(wanted));
	else
		found(x, GROUP, "hugepages", FOUND_OK, NULL,
			total == 0 ? "none are reserved, and none needed"
				   : "%s of huge pages are reserved, %s of them free",
			format_size(total * size), format_size(unused * size));
}

static void check_memory(struct examination *x)
{
	struct buf info = { 0 };
	uint64_t total, wanted, huge;

	memory_wanted(x, &wanted, &huge);
	if (!examine_file(x, "/proc/meminfo", &info) ||
		!meminfo(buf_str(&info), "MemTotal", &total)) {
		found(x, GROUP, "memory", FOUND_UNSEEN, NULL, "/proc/meminfo cannot be read");
		buf_finish(&info);
		return;
	}
	total *= 1024;
	if (wanted > total)
		found(x, GROUP, "memory", FOUND_WARN, "less memory for machines, or autostart = no",
			"the host has %s, and the machines that start by themselves may take %s",
			format_size(total), format_size(wanted));
	else
		found(x, GROUP, "memory", FOUND_OK, NULL, "the host has %s of memory",
			format_size(total));
	check_hugepages(x, buf_str(&info), huge);
	buf_finish(&info);
}

void examine_limits(struct examination *x)
{
	check_cgroup(x);
	check_files(x);
	check_tasks(x);
	check_inotify(x);
	check_memory(x);
}
