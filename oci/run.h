/* oci/run.h - a helper program of the system, run to its end. Blocks; not for the loop. */
#ifndef DROVER_OCI_RUN_H
#define DROVER_OCI_RUN_H

#include "lib/err.h"

/*
 * argv[0] is found by PATH and the sbin folders. Its input is /dev/null, its environment LC_ALL=C.
 * A status above ok_status is an error with the last line it said; after timeout_ms it is killed
 * (-ETIMEDOUT). -ENOENT: it is not installed.
 */
int run_program(char *const argv[], unsigned timeout_ms, int ok_status, struct err *err);

#endif
