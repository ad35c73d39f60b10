/*
 * supervisor/registry.h - the [registry] sections: each a docker-registry as pull-through cache,
 * supervised. Loop thread.
 *
 * docker-registry 2.8 panics at start when its upstream cannot be reached (FACTS). So the upstream
 * is asked first; while it is gone, and with offline = yes, the same storage is served without
 * the proxy section, and the proxy comes back with the upstream (asked every 30 s).
 */
#ifndef DROVER_SUPERVISOR_REGISTRY_H
#define DROVER_SUPERVISOR_REGISTRY_H

#include <jansson.h>
#include "supervisor/drover.h"

struct registry;

enum registry_state {
	REGISTRY_DOWN,
	REGISTRY_STARTING,
	REGISTRY_UP
};

/* Starts (or finds again) the registry of a section. */
int registry_start(struct drover *d, const struct registry_config *cfg, struct err *err);
/* done may be NULL; a registry that is not there is done at once. */
void registry_stop(struct drover *d, const char *name, void (*done)(void *arg), void *arg);
/* The `applied` object it was started with, NULL when there is none of this name. */
const json_t *registry_applied(struct drover *d, const char *name);
const char *registry_name(const struct registry *r);
/* Lets go; the processes live on. */
void registries_release(struct drover *d);

/* Embedded by who waits until images of a host can be pulled. */
struct registry_wait {
	struct list entry;
	void (*ready)(void *arg, const struct err *err);
	void *arg;
};
/* false: nothing to wait for, ready does not fire. It fires at the latest after 60 s. */
bool registry_wait(struct drover *d, const char *host, struct registry_wait *wait);
void registry_unwait(struct registry_wait *wait);

/* --mirror HOST=URL for each. */
void registries_mirror_args(struct drover *d, struct strv *args);
/*
 * Counts what was asked of the caches until now, in the thread pool, for registries_json(). done (may
 * be NULL) fires once, not before this returns. -ENOMEM: it does not.
 */
int registries_count(struct drover *d, void (*done)(void *arg), void *arg);
json_t *registries_json(struct drover *d);
void registries_names(struct drover *d, struct strv *out);

#endif
