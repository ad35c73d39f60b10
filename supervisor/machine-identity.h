/*
 * supervisor/machine-identity.h - what tells a machine from the one that it was copied from, in
 * identity.json of its folder: {machine_id, host_keys: [{name, text}]}. Made once, kept as long as
 * the machine. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_MACHINE_IDENTITY_H
#define DROVER_SUPERVISOR_MACHINE_IDENTITY_H

#include <jansson.h>
#include <uv.h>
#include "lib/err.h"

typedef void machine_identity_done_fn(void *arg, const struct err *err);

/*
 * Makes it in dir unless it is there. done fires exactly once, never before this returns; not when
 * this fails. The host key is an Ed25519 one: others take long, and no client needs them.
 */
int machine_identity_make(uv_loop_t *loop, const char *dir, machine_identity_done_fn *done,
	void *arg, struct err *err);
int machine_identity_read(const char *dir, json_t **out, struct err *err);
/* machine-id(5) as "machine_id". */
int machine_identity_add_id(json_t *to, struct err *err);
/* The same for a machine that is no copy: always the same one for this host and folder. */
int machine_identity_add_derived_id(json_t *to, const char *dir, struct err *err);
/* Adds {name, text} of each of the files ssh_host_* below dir. */
int machine_identity_add_keys(const char *dir, json_t *array, struct err *err);

#endif
