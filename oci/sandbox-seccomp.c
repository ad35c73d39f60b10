/*
 * Two seccomp filters. What unpacks gets a list of the calls that it may make: anything else kills
 * it, but for those by which libraries look for files, which fail. What fetches, or runs programs,
 * uses libraries whose calls change from version to version: it may make all but those that reach
 * into the kernel or other processes, without a network those for sockets, and alone those that
 * make processes.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include "lib/util.h"
#include "oci/sandbox.h"

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#else
#error "the seccomp filter does not know this architecture"
#endif
/* x86_64's second numbering of system calls (x32). */
#define X32_BIT 0x40000000

static const int unpack_allowed[] = {
	SYS_read,
	SYS_write,
	SYS_readv,
	SYS_writev,
	SYS_pread64,
	SYS_pwrite64,
	SYS_lseek,
	SYS_close,
	SYS_fstat,
	SYS_newfstatat,
	SYS_ftruncate,
	SYS_fallocate,
	SYS_fsync,
	SYS_fdatasync,
	SYS_sync_file_range,
	SYS_fadvise64,
	SYS_copy_file_range,
	SYS_fcntl,
	SYS_mmap,
	SYS_munmap,
	SYS_mremap,
	SYS_mprotect,
	SYS_madvise,
	SYS_brk,
	SYS_futex,
	SYS_set_robust_list,
	SYS_rseq,
	SYS_gettid,
	SYS_getuid,
	SYS_geteuid,
	SYS_getgid,
	SYS_getegid,
	SYS_umask,
	SYS_getpid,
	SYS_exit,
	SYS_exit_group,
	SYS_rt_sigprocmask,
	SYS_rt_sigaction,
	SYS_rt_sigreturn,
	SYS_sched_yield,
	SYS_sched_getaffinity,
	SYS_clock_gettime,
	SYS_clock_nanosleep,
	SYS_nanosleep,
	SYS_gettimeofday,
	SYS_getrandom,
	SYS_restart_syscall,
};

/* "There is none" is an answer that libc's, libcrypto's and libarchive's look-ups cope with. */
static const int unpack_absent[] = {
#if defined(__x86_64__)
	SYS_open,
	SYS_stat,
	SYS_lstat,
	SYS_access,
	SYS_readlink,
#endif
	SYS_openat,
	SYS_faccessat,
	SYS_faccessat2,
	SYS_readlinkat,
	SYS_statx,
};
static const int unpack_refused[] = {
	SYS_statfs,
	SYS_fstatfs,
	SYS_ioctl,
	SYS_prctl,
	SYS_getrusage,
	SYS_times,
	SYS_prlimit64,
	SYS_sysinfo,
	SYS_uname,
};

static const int kernel_calls[] = {
	SYS_ptrace,
	SYS_process_vm_readv,
	SYS_process_vm_writev,
	SYS_mount,
	SYS_umount2,
	SYS_pivot_root,
	SYS_chroot,
	SYS_setns,
	SYS_open_tree,
	SYS_move_mount,
	SYS_fsopen,
	SYS_fsconfig,
	SYS_fsmount,
	SYS_fspick,
	SYS_mount_setattr,
	SYS_swapon,
	SYS_swapoff,
	SYS_reboot,
	SYS_kexec_load,
	SYS_kexec_file_load,
	SYS_init_module,
	SYS_finit_module,
	SYS_delete_module,
	SYS_bpf,
	SYS_perf_event_open,
	SYS_userfaultfd,
	SYS_io_uring_setup,
	SYS_io_uring_enter,
	SYS_io_uring_register,
	SYS_add_key,
	SYS_request_key,
	SYS_keyctl,
	SYS_quotactl,
	SYS_acct,
	SYS_settimeofday,
	SYS_clock_settime,
	SYS_adjtimex,
	SYS_clock_adjtime,
	SYS_open_by_handle_at,
	SYS_name_to_handle_at,
	SYS_syslog,
	SYS_personality,
	SYS_fanotify_init,
	SYS_pidfd_getfd,
	SYS_kcmp,
	SYS_sethostname,
	SYS_setdomainname,
	SYS_vhangup,
	SYS_mknodat,
#if defined(__x86_64__)
	SYS_iopl,
	SYS_ioperm,
	SYS_mknod,
	SYS_modify_ldt,
#endif
};

static const int socket_calls[] = {
	SYS_socket,
	SYS_connect,
	SYS_bind,
	SYS_listen,
	SYS_accept,
	SYS_accept4,
};

/* Landlock says nothing of a file's mode and owner, nor, before its ABI 6, of signals. */
static const int alone_refused[] = {
	SYS_fchmod,
	SYS_fchmodat,
	SYS_fchown,
	SYS_fchownat,
	SYS_setxattr,
	SYS_lsetxattr,
	SYS_fsetxattr,
	SYS_removexattr,
	SYS_lremovexattr,
	SYS_fremovexattr,
	SYS_kill,
	SYS_tkill,
	SYS_pidfd_send_signal,
	SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo,
	452, /* fchmodat2, which the headers may not have yet */
#if defined(__x86_64__)
	SYS_chmod,
	SYS_chown,
	SYS_lchown,
#endif
};

#define FILTER_MAX 256

struct program {
	struct sock_filter code[FILTER_MAX];
	unsigned short n;
};

static void put(struct program *p, struct sock_filter f)
{
	if (p->n < FILTER_MAX)
		p->code[p->n] = f;
	p->n++;
}

static void load(struct program *p, size_t offset)
{
	put(p, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offset));
}

static void end(struct program *p, unsigned action)
{
	put(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

static void calls(struct program *p, const int *v, size_t n, unsigned action)
{
	for (size_t i = 0; i < n; i++) {
		put(p, (struct sock_filter)BPF_JUMP(
			       BPF_JMP | BPF_JEQ | BPF_K, (unsigned)v[i], 0, 1));
		end(p, action);
	}
}

/* Only what pthread_create() asks for; clone3, whose flags cannot be seen, is not there at all. */
static void threads_only(struct program *p)
{
	const int clone3[] = { SYS_clone3 };

	calls(p, clone3, 1, SECCOMP_RET_ERRNO | ENOSYS);
	put(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 0, 4));
	load(p, offsetof(struct seccomp_data, args[0])); /* the lower half: little-endian */
	put(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 0, 1));
	end(p, SECCOMP_RET_ALLOW);
	end(p, SECCOMP_RET_KILL_PROCESS);
	load(p, offsetof(struct seccomp_data, nr));
}

int sandbox_filter(const struct sandbox_spec *spec, struct err *err)
{
	bool closed = spec->closed, network = spec->network;
	struct program p = { .n = 0 };
	struct sock_fprog prog = { .filter = p.code };

	load(&p, offsetof(struct seccomp_data, arch));
	put(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0));
	end(&p, SECCOMP_RET_KILL_PROCESS);
	load(&p, offsetof(struct seccomp_data, nr));
	put(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
	end(&p, SECCOMP_RET_KILL_PROCESS);
	/* A sanitizer's runtime makes calls of its own, at its end even a process. */
#if defined(__SANITIZE_ADDRESS__)
	if (closed)
		network = closed = false;
#endif
	if (closed) {
		calls(&p, unpack_allowed, ARRAY_LEN(unpack_allowed), SECCOMP_RET_ALLOW);
		calls(&p, unpack_absent, ARRAY_LEN(unpack_absent), SECCOMP_RET_ERRNO | ENOENT);
		calls(&p, unpack_refused, ARRAY_LEN(unpack_refused), SECCOMP_RET_ERRNO | EPERM);
		threads_only(&p);
		end(&p, SECCOMP_RET_KILL_PROCESS);
	} else {
		calls(&p, kernel_calls, ARRAY_LEN(kernel_calls), SECCOMP_RET_ERRNO | EPERM);
		if (!network)
			calls(&p, socket_calls, ARRAY_LEN(socket_calls), SECCOMP_RET_ERRNO | EPERM);
		if (spec->alone) {
			calls(&p, alone_refused, ARRAY_LEN(alone_refused),
				SECCOMP_RET_ERRNO | EPERM);
			threads_only(&p);
		}
		end(&p, SECCOMP_RET_ALLOW);
	}
	if (p.n > FILTER_MAX)
		return err_set(err, -E2BIG, "seccomp: the filter has %u instructions", p.n);
	prog.len = p.n;
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0) < 0)
		return err_errno(err, -errno, "seccomp");
	return 0;
}
