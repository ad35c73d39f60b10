/*
 * hv/jail.h - how droverd speaks with drover-jail (hv/jail-main.c): its command line, the line it
 * answers with, and the file that it leaves. Any thread.
 */
#ifndef DROVER_HV_JAIL_H
#define DROVER_HV_JAIL_H

#include "hv/hv.h"

/* argv for the jail around cmd; status_fd is the descriptor's number in the jail. */
int jail_arguments(const char *jail, const char *run_dir, int status_fd,
	const struct hv_command *cmd, struct strv *out, struct err *err);

/* The line, without its newline: "PID STARTTIME" or "error: ...". */
int jail_parse_line(const char *line, pid_t *pid, uint64_t *starttime, struct err *err);

/*
 * Reads run_dir/exit. -ENOENT without one, -ESTALE when it is of another process, -EBADMSG when
 * it is not what a jail writes.
 */
int jail_read_exit(const char *run_dir, pid_t pid, uint64_t starttime, struct child_status *out,
	struct err *err);
/* Removes what an earlier run left. */
void jail_remove_exit(const char *run_dir);

#endif
