/*
 * supervisor/dropin.h - sections of machines that were made over the API: state_dir/conf.d/vm-NAME.ini,
 * which config_load() reads behind the user's files. Any thread; functions marked "pool" may take long.
 */
#ifndef DROVER_SUPERVISOR_DROPIN_H
#define DROVER_SUPERVISOR_DROPIN_H

#include <stdbool.h>
#include "lib/err.h"

struct vm_config;

#define DROPIN_DIR "conf.d"

/*
 * The section of a machine that is like cfg, with a name and a vsock address of its own, malloc'd.
 */
int dropin_text(const struct vm_config *cfg, const char *name, char **out, struct err *err);
/* pool: whole or not there, and on disk. */
int dropin_write(const char *state_dir, const char *name, const char *text, struct err *err);
/* Well, too, if there is none. */
int dropin_remove(const char *state_dir, const char *name, struct err *err);
/* Whether the section comes from one. */
bool dropin_has(const char *state_dir, const struct vm_config *cfg);

#endif
