/*
 * tests/unit/drover-rig.h - a daemon of a test: configuration, folders, events, ledger and
 * operations are real; it has no network, no API and no reconciler.
 */
#ifndef DROVER_TESTS_UNIT_DROVER_RIG_H
#define DROVER_TESTS_UNIT_DROVER_RIG_H

#include "tests/unit/rig.h"

#include "supervisor/machine.h"

struct drover_rig {
	struct drover d;
	char *dir; /* state_dir is dir/state, run_dir dir/run, libexec dir/libexec */
	char *ini, *state_dir, *run_dir;
};

/* text: the configuration but for [drover]'s folders; it may begin with other keys of [drover]. */
void drover_rig_init(struct drover_rig *r, const char *text);
/* Checks that no handle is left open. */
void drover_rig_finish(struct drover_rig *r);
/* Writes the file anew; nothing reads it yet. */
void drover_rig_write(struct drover_rig *r, const char *text);
/* A machine with its section of the configuration, if there is one. */
struct machine *drover_rig_machine(struct drover_rig *r, const char *name);
/* An executable shell script dir/NAME; its path, malloc'd. */
char *drover_rig_script(struct drover_rig *r, const char *name, const char *body);
/* "kind name event\n" of all events so far; a static buffer. */
const char *drover_rig_events(struct drover_rig *r);
/* Runs the loop until fn(arg); fails the test after 30 s. */
void drover_rig_until(struct drover_rig *r, bool (*fn)(void *arg), void *arg);
/* Content of a file below dir, malloc'd; NULL when it is not there. */
char *drover_rig_text(struct drover_rig *r, const char *path);
void drover_rig_put(struct drover_rig *r, const char *path, const char *text);

#endif
