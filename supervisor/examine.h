/*
 * supervisor/examine.h - what a host, or the tree of one, has and lacks for machines: processor and KVM,
 * modules and devices, cgroups, limits, space, programs and their versions, settings of the network, who
 * denies what. Needs no daemon. Loop thread; the files that are read are the kernel's or small, programs
 * are asked for their versions as children, at most 5 s each.
 *
 * With a root nothing of the running host is looked at: /proc, /sys, /dev, /etc and the programs are those
 * below it, none of them is run, and what only a running kernel can tell is "unseen".
 */
#ifndef DROVER_SUPERVISOR_EXAMINE_H
#define DROVER_SUPERVISOR_EXAMINE_H

#include <jansson.h>
#include <uv.h>
#include "supervisor/config.h"

struct examine_opts {
	uv_loop_t *loop;
	const char *root;            /* absolute; NULL: this host */
	const struct config *config; /* NULL: none is known; then everything counts as needed */
	const char *state_dir, *run_dir;
	bool daemon; /* asked by droverd about itself: else the limits are the caller's */
	bool forwarding_needed; /* by what runs now */
	const bool *leaving;    /* when it is true no more programs are started; may be NULL */
};

/*
 * checks: [{group, check, ok, result, level, message, fix|null}]; result is "ok", "info", "warn", "fail",
 * or "unseen" where it could not be found out, level what API clients have always got: "error" for fail,
 * "warning" for warn, else "info".
 * changes: [{check, title, refused|null, steps, back}], what `drover doctor --fix` would do, its steps
 * {do: "write", path, text}, {do: "remove", path}, {do: "run", argv, may_fail} in order, and the steps
 * that take it back; undo: the same of what it has done here before.
 */
struct examination;
typedef void examine_done_fn(void *arg, struct examination *x);
/* opts, and what it points to, must stay until done, which fires once and never before this returns. */
int examine_start(
	const struct examine_opts *opts, examine_done_fn *done, void *arg, struct err *err);
/* Adds the keys checks, changes and undo; -ENOMEM. */
int examine_report(struct examination *x, json_t *report, struct err *err);
/* From done on. */
void examine_destroy(struct examination *x);

enum finding {
	FOUND_OK,
	FOUND_INFO,
	FOUND_WARN,
	FOUND_FAIL,
	FOUND_UNSEEN
};
/* One more finding. fix: the command that mends it, in backquotes, or what to do; NULL: nothing. */
void found(struct examination *x, const char *group, const char *check, enum finding what,
	const char *fix, const char *fmt, ...) PRINTF(6, 7);

#endif
