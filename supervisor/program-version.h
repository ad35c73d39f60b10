/*
 * supervisor/program-version.h - what a program says with --version, remembered for as long as its
 * file is the same: asking takes a process, and QEMU 30 to 60 ms. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_PROGRAM_VERSION_H
#define DROVER_SUPERVISOR_PROGRAM_VERSION_H

#include <uv.h>
#include "lib/err.h"

/* The first line; NULL: it is not known, or not any more. Good until the next call of this module. */
const char *program_version_known(const char *path);
/* Asks. done fires exactly once, not before this returns 0; line is NULL with err. */
typedef void program_version_fn(void *arg, const char *line, const struct err *err);
int program_version_ask(
	uv_loop_t *loop, const char *path, program_version_fn *done, void *arg, struct err *err);

#endif
