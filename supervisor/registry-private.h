/* supervisor/registry-private.h - what the files of supervisor/registry.h share. Loop thread. */
#ifndef DROVER_SUPERVISOR_REGISTRY_PRIVATE_H
#define DROVER_SUPERVISOR_REGISTRY_PRIVATE_H

#include "lib/deadline.h"
#include "supervisor/image-job.h"
#include "supervisor/registry-relay.h"
#include "supervisor/registry.h"
#include "supervisor/service.h"

struct registry_usage;

struct registry {
	struct list entry;
	struct drover *d;
	char *name, *owner, *upstream, *listen, *storage, *log_path;
	struct strv hosts;
	bool offline_wanted;
	json_t *applied;

	struct service *service;
	struct registry_relay *relay; /* runs while there is a proxy section */
	enum registry_state state;
	bool proxy; /* the running one has its proxy section */
	unsigned deaths;
	uint64_t retry_ms;
	struct http_req *probe;
	struct deadline timer; /* the next thing to do: poll, retry, probe */
	void (*timer_fn)(struct registry *r);
	struct deadline wait_timer;
	struct list waiters;
	struct err last_error;
	uint64_t budget, age;
	enum {
		PRUNE_NOT,
		PRUNE_LOOKING,
		PRUNE_STOPPING,
		PRUNE_WORKING
	} pruning;
	struct image_sub prune_sub; /* while it looks or works */
	struct deadline prune_timer;
	struct strv prefetch; /* references */
	size_t prefetch_at;
	bool prefetching;
	uint64_t prefetch_ms; /* monotonic, when it was begun; 0: never */
	struct image_sub prefetch_sub;
	struct registry_usage *usage;
	uint64_t size; /* bytes in its storage when it was last looked at; 0: not yet, or none */
	bool stopping;
	void (*stopped)(void *arg);
	void *stopped_arg;
};

/* NULL when there is none of this name, or when it is being stopped. */
struct registry *registry_find(struct drover *d, const char *name);
void registry_tell_waiters(struct registry *r, const struct err *err);

/* From the upstream's answer on; the service is down. */
void registry_begin(struct registry *r);

/* ---- registry-prune.c ---- */

void registry_prune_due(void *arg); /* of prune_timer */
/* It is down, or going down, for a prune, whose end begins it again: nothing else may. */
bool registry_prune_holds(const struct registry *r);
void registry_prune_up(struct registry *r);
void registry_prune_stop(struct registry *r);

/* ---- registry-prefetch.c ---- */

/* If it is due, and the cache there. */
void registry_prefetch(struct registry *r);
void registry_prefetch_stop(struct registry *r);

/* ---- registry-usage.c ---- */

/* Held once; NULL without memory. */
struct registry_usage *registry_usage_create(const char *state_dir, const char *name);
void registry_usage_release(struct registry_usage *u); /* takes NULL */
/* As of the last registries_count(); null before. */
json_t *registry_usage_json(const struct registry_usage *u);

/* ---- registry-files.c ---- */

/* Writes what docker-registry reads; its command. The relay listens already, if proxy. */
int registry_prepare(struct registry *r, bool proxy, struct strv *argv, struct err *err);
/* Somebody else at our address is found out before, or the cache's death would have to tell. */
int registry_address_free(const char *listen, struct err *err);
/*
 * What the next daemon has to know of a docker-registry: from which section it was made and where
 * its relay listens (0: it has no proxy section). Written before it is started.
 */
int registry_save(const struct registry *r, bool proxy, struct err *err);
/* Whether what is saved was made from the same section. */
bool registry_load(const struct registry *r, uint16_t *relay_port);
void registry_remove_files(const struct registry *r);

#endif
