/* ctl/show.h - machines and events as text for people. Pure. */
#ifndef DROVER_CTL_SHOW_H
#define DROVER_CTL_SHOW_H

#include <jansson.h>
#include "lib/str.h"

/* The table of `drover list`; vms is the API's array. */
void show_list(const json_t *vms, bool colors, struct buf *out);
/* "key: value" lines of `drover show`. */
void show_vm(const json_t *vm, struct buf *out);
/* "TIME NAME EVENT details", one line. */
void show_event(const json_t *event, struct buf *out);
/* The story of `drover why`. */
void show_why(const json_t *why, struct buf *out);
/* "restart vm web: memory: 512M -> 1G" for each action, or "nothing to do". */
void show_actions(const json_t *plan, struct buf *out);

#endif
