/* tests/unit/rig.h - what every unit test with a loop uses. */
#ifndef DROVER_TESTS_UNIT_RIG_H
#define DROVER_TESTS_UNIT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <uv.h>

/* A loop of the test's own. SIGPIPE is ignored, as in the programs. */
uv_loop_t *rig_loop(void);
/* Runs the loop until *flag; fails the test after 30 s. */
void rig_run_until(uv_loop_t *loop, const bool *flag);
/* Runs for some time, to see that nothing happens. */
void rig_run_for(uv_loop_t *loop, unsigned ms);
/* The same, and how often the loop has turned meanwhile. */
unsigned rig_turns(uv_loop_t *loop, unsigned ms);
/* false: no descriptor is left for anybody in this process, until true. */
void rig_descriptors(bool any);
/* Runs what is left to run and closes; fails the test if a handle was left open. */
void rig_loop_finish(uv_loop_t *loop);
/* A fresh folder below TMPDIR, removed (with what is in it) by rig_tmp_finish(). malloc'd. */
char *rig_tmp(void);
void rig_tmp_finish(char *dir);
/* Number of open descriptors of this process. */
unsigned rig_count_fds(void);

#endif
