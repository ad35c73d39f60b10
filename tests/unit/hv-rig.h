/* tests/unit/hv-rig.h - one machine of a test: a hypervisor process and a diary of its callbacks. */
#ifndef DROVER_TESTS_UNIT_HV_RIG_H
#define DROVER_TESTS_UNIT_HV_RIG_H

#include "tests/unit/rig.h"

#include "hv/hv.h"

struct hv_rig {
	uv_loop_t *loop;
	char *dir, *log_path;
	struct hv *hv;
	const struct hv_ops *backend; /* hv_qemu, unless it is set between init and start */
	struct hv_spec spec;
	struct hv_process process;
	/*
	 * One word a callback, each followed by a blank: spawned done op exited, done:-5,
	 * status:paused, status:paused:us, guest-shutdown:guest-shutdown:us, ...
	 */
	struct buf diary;
	struct buf console;
	struct err err; /* of the last done or op; code 0: none */
	struct child_status status;
	bool spawned, done, exited, closed, op_done;
	unsigned ops;
	char *reply; /* of the last execute, JSON */
	/* Destroy the machine from within the callback that writes this word. */
	const char *destroy_at;
	/* What rig_until() waits for. */
	const char *want;
	bool found;
};

/* What $B holds, e.g. "fakes/fake-qemu": absolute, malloc'd. */
char *hv_rig_program(const char *name);
/* A machine with a folder of its own; spec has name, run_dir, log_path and 16 MiB. */
void hv_rig_init(struct hv_rig *r, const char *binary);
void hv_rig_start(struct hv_rig *r);
/* hv_create() and hv_start(), until done has fired; fails the test with its error. */
void hv_rig_up(struct hv_rig *r);
/* The same process again, as by a new daemon: hv_destroy(), hv_create(), hv_adopt(). */
void hv_rig_adopt(struct hv_rig *r);
/* Runs the loop until text is part of the diary, or of the console. */
void hv_rig_until(struct hv_rig *r, const char *text);
void hv_rig_until_console(struct hv_rig *r, const char *text);
void hv_rig_until_exit(struct hv_rig *r);
bool hv_rig_has(struct hv_rig *r, const char *text);
/* An operation, until it is done; its error's code. */
int hv_rig_op(struct hv_rig *r, void (*op)(struct hv *, hv_done_fn *, void *));
void hv_rig_op_start(struct hv_rig *r, void (*op)(struct hv *, hv_done_fn *, void *));
void hv_rig_execute(struct hv_rig *r, const char *command, uint64_t timeout_ms);
void hv_rig_destroy(struct hv_rig *r);
/* Destroys, kills what still runs, checks that nothing is left. */
void hv_rig_finish(struct hv_rig *r);

#endif
