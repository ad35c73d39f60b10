/*
 * oci/sandbox.h - what a process of drover-image gives up before it looks at bytes from outside:
 * capabilities, the host's users, files that are none of its business, system calls that it never
 * needs, memory and time without bounds. One thread; there is no way back.
 */
#ifndef DROVER_OCI_SANDBOX_H
#define DROVER_OCI_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/err.h"

struct sandbox_path {
	const char *path; /* one that is not there is left out */
	bool write;
};

struct sandbox_spec {
	/*
	 * Works on open descriptors alone: no path, program, process or network, but threads. For
	 * what unpacks. Else programs can be run and the paths below (and the system's libraries
	 * and certificates) used.
	 */
	bool closed;
	bool network; /* not with closed */
	/*
	 * For a program that parses what comes from outside: the paths below and the system's
	 * libraries, threads, an empty network; no processes of its own.
	 */
	bool alone;
	const struct sandbox_path *paths;
	size_t n;
	uint64_t memory_bytes; /* of address space; 0: unbounded */
	uint64_t cpu_seconds;  /* 0: unbounded */
	uint64_t file_bytes;   /* of each file that it writes; 0: unbounded */
};

/* What of it this kernel has. no_new_privs, no capabilities and seccomp are there always. */
struct sandbox_state {
	bool user_namespace;
	bool network_namespace; /* an empty one: asked for with closed and alone */
	int landlock;           /* ABI version; 0: the kernel has none that suffices */
};

/* On failure the process must not go on: some of it may be in force. */
int sandbox_enter(const struct sandbox_spec *spec, struct sandbox_state *out, struct err *err);

/* Landlock's ABI version as far as it suffices (2 and above), else 0. */
int sandbox_landlock_abi(void);

/* oci/sandbox-seccomp.c: the filter, last of all. */
int sandbox_filter(const struct sandbox_spec *spec, struct err *err);

#endif
