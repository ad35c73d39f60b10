#include "oci/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "lib/file.h"
#include "lib/util.h"

/* linux/landlock.h as of ABI 6; Debian 12's header has less. Numbers from the kernel's own one. */
struct ruleset_attr {
	uint64_t fs, net, scoped;
};
struct path_attr {
	uint64_t access;
	int32_t fd;
} __attribute__((packed));
#define LL_CREATE_VERSION 1
#define LL_RULE_PATH      1
#define LL_EXECUTE        (1u << 0)
#define LL_READ_FILE      (1u << 2)
#define LL_READ_DIR       (1u << 3)
#define LL_READ           (LL_EXECUTE | LL_READ_FILE | LL_READ_DIR)
#define LL_ABI_1          ((1u << 13) - 1)
#define LL_REFER          (1u << 13) /* ABI 2: without it no rename leaves its folder */
#define LL_TRUNCATE       (1u << 14) /* ABI 3 */
#define LL_IOCTL_DEV      (1u << 15) /* ABI 5 */
/* What a rule for a file, rather than a folder, may say. */
#define LL_FILE    (LL_EXECUTE | LL_READ_FILE | (1u << 1) | LL_TRUNCATE | LL_IOCTL_DEV)
#define LL_NET_TCP 3 /* ABI 4: bind and connect */
#define LL_SCOPED  3 /* ABI 6: abstract sockets, and signals, of others */

/* What libcurl, the resolver, TLS and the programs that are run need of the system. */
static const struct sandbox_path system_paths[] = {
	/* The first PROGRAM_PATHS are all that a program alone gets. */
	{ "/usr", false },
	{ "/lib", false },
	{ "/lib64", false },
	{ "/etc/ld.so.cache", false },
	{ "/bin", false },
	{ "/sbin", false },
	{ "/proc", false },
	{ "/dev/null", true },
	{ "/dev/urandom", false },
	{ "/etc/mtab", false },
	{ "/etc/mke2fs.conf", false },
	{ "/etc/e2fsck.conf", false },
	{ "/etc/localtime", false },
	{ "/etc/ssl", false },
	{ "/etc/pki", false },
	{ "/etc/ca-certificates", false },
	{ "/etc/resolv.conf", false },
	{ "/etc/hosts", false },
	{ "/etc/nsswitch.conf", false },
	{ "/etc/gai.conf", false },
	{ "/etc/host.conf", false },
	{ "/etc/services", false },
	{ "/run/systemd/resolve", false },
	{ "/run/resolvconf", false },
	{ "/run/NetworkManager", false },
};

#define PROGRAM_PATHS 4

static int write_map(const char *path, unsigned id, struct err *err)
{
	char line[32];

	snprintf(line, sizeof(line), "%u %u 1", id, id);
	return file_write_proc(path, line, err);
}

/*
 * A user namespace that knows one user, us: root in it is nobody's superuser. Where the kernel
 * refuses (a sysctl, a container), the capabilities go all the same.
 */
static int enter_namespaces(bool alone, struct sandbox_state *st, struct err *err)
{
	unsigned uid = geteuid(), gid = getegid();
	int flags = alone ? CLONE_NEWNET | CLONE_NEWIPC : 0, r;

	if (unshare(CLONE_NEWUSER | flags) < 0) {
		/* Root can have an empty network without another user namespace. */
		st->network_namespace = alone && unshare(flags) == 0;
		return 0;
	}
	st->user_namespace = true;
	st->network_namespace = alone;
	/* What has no paths, or no more than files of ours, needs no name either. */
	if (alone)
		return 0;
	r = file_write_proc("/proc/self/setgroups", "deny", err);
	if (r == 0)
		r = write_map("/proc/self/gid_map", gid, err);
	if (r == 0)
		r = write_map("/proc/self/uid_map", uid, err);
	return r < 0 ? err_wrap(err, "user namespace") : 0;
}

static int drop_capabilities(struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	/* Fails without CAP_SETPCAP; then there is nothing that no_new_privs would let through. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &head, none) < 0)
		return err_errno(err, -errno, "drop the capabilities");
	return 0;
}

int sandbox_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LL_CREATE_VERSION);

	return abi >= 2 ? (int)abi : 0;
}

static int allow(int ruleset, const struct sandbox_path *p, uint64_t handled, struct err *err)
{
	struct path_attr attr = { .access = p->write ? handled : LL_READ };
	struct stat st;
	int r = 0;

	attr.fd = open(p->path, O_PATH | O_CLOEXEC);
	if (attr.fd < 0)
		return 0;
	if (fstat(attr.fd, &st) == 0 && !S_ISDIR(st.st_mode))
		attr.access &= LL_FILE;
	attr.access &= handled;
	if (syscall(SYS_landlock_add_rule, ruleset, LL_RULE_PATH, &attr, 0) < 0)
		r = err_errno(err, -errno, "landlock: allow %s", p->path);
	close(attr.fd);
	return r;
}

static int enter_landlock(const struct sandbox_spec *spec, int abi, struct err *err)
{
	struct ruleset_attr attr = { .fs = LL_ABI_1 | LL_REFER };
	size_t size = sizeof(attr.fs), system = ARRAY_LEN(system_paths);
	int ruleset, r = 0;

	if (spec->alone)
		system = PROGRAM_PATHS;

	if (abi >= 3)
		attr.fs |= LL_TRUNCATE;
	if (abi >= 5)
		attr.fs |= LL_IOCTL_DEV;
	if (abi >= 4) {
		attr.net = spec->network ? 0 : LL_NET_TCP;
		size = offsetof(struct ruleset_attr, scoped);
	}
	if (abi >= 6) {
		attr.scoped = LL_SCOPED;
		size = sizeof(attr);
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return err_errno(err, -errno, "landlock");
	for (size_t i = 0; r == 0 && !spec->closed && i < system; i++)
		r = allow(ruleset, &system_paths[i], attr.fs, err);
	for (size_t i = 0; r == 0 && !spec->closed && i < spec->n; i++)
		r = allow(ruleset, &spec->paths[i], attr.fs, err);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = err_errno(err, -errno, "landlock");
	close(ruleset);
	return r;
}

static int set_limit(int what, uint64_t value, struct err *err)
{
	struct rlimit l;

	if (getrlimit(what, &l) < 0)
		return err_errno(err, -errno, "resource limit");
	l.rlim_cur = MIN(l.rlim_max, (rlim_t)value);
	/* Processor time: a signal that tells why, and a second later one that is obeyed. */
	l.rlim_max = MIN(l.rlim_max, (rlim_t)value + (what == RLIMIT_CPU ? 1 : 0));
	if (setrlimit(what, &l) < 0)
		return err_errno(err, -errno, "resource limit");
	return 0;
}

static int set_limits(const struct sandbox_spec *spec, struct err *err)
{
	int r = set_limit(RLIMIT_CORE, 0, err);

	/* AddressSanitizer's shadow takes terabytes of address space. */
#if !defined(__SANITIZE_ADDRESS__)
	if (r == 0 && spec->memory_bytes != 0)
		r = set_limit(RLIMIT_AS, spec->memory_bytes, err);
#endif
	if (r == 0 && spec->cpu_seconds != 0)
		r = set_limit(RLIMIT_CPU, spec->cpu_seconds, err);
	if (r == 0 && spec->file_bytes != 0)
		r = set_limit(RLIMIT_FSIZE, spec->file_bytes, err);
	return r;
}

int sandbox_enter(const struct sandbox_spec *spec, struct sandbox_state *out, struct err *err)
{
	struct sandbox_state st = { .landlock = sandbox_landlock_abi() };
	int death = 0, r;

	/* A change of credentials clears it. */
	prctl(PR_GET_PDEATHSIG, &death);
	r = enter_namespaces(spec->closed || spec->alone, &st, err);
	if (r == 0)
		r = drop_capabilities(err);
	if (r == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = err_errno(err, -errno, "no_new_privs");
	if (r == 0 && death != 0 && prctl(PR_SET_PDEATHSIG, death) < 0)
		r = err_errno(err, -errno, "parent death signal");
	if (r == 0 && st.landlock > 0)
		r = enter_landlock(spec, st.landlock, err);
	if (r == 0)
		r = set_limits(spec, err);
	if (r == 0)
		r = sandbox_filter(spec, err);
	if (r < 0)
		return err_wrap(err, "sandbox");
	*out = st;
	return 0;
}
