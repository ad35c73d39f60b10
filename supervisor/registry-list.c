/* Of all registries: finding one, waiting for one, telling of them. */
#include "supervisor/registry-private.h"

#include <string.h>

#include "lib/json.h"

#define WAIT_MS 60000

struct registry *registry_find(struct drover *d, const char *name)
{
	struct registry *r;

	list_for_each_entry (r, &d->registries, entry) {
		if (strcmp(r->name, name) == 0 && !r->stopping)
			return r;
	}
	return NULL;
}

const json_t *registry_applied(struct drover *d, const char *name)
{
	struct registry *r = registry_find(d, name);

	return r != NULL ? r->applied : NULL;
}

const char *registry_name(const struct registry *r)
{
	return r->name;
}

void registry_tell_waiters(struct registry *r, const struct err *err)
{
	struct registry_wait *w;
	struct list waiters;

	deadline_cancel(&r->wait_timer);
	list_init(&waiters);
	list_splice(&waiters, &r->waiters);
	while ((w = list_first(&waiters, struct registry_wait, entry)) != NULL) {
		list_remove(&w->entry);
		w->ready(w->arg, err);
	}
}

bool registry_wait(struct drover *d, const char *host, struct registry_wait *wait)
{
	struct registry *r;

	list_for_each_entry (r, &d->registries, entry) {
		if (r->stopping || !strv_has(&r->hosts, host) || r->state == REGISTRY_UP)
			continue;
		list_append(&r->waiters, &wait->entry);
		if (!deadline_armed(&r->wait_timer))
			deadline_set(&r->wait_timer, WAIT_MS);
		return true;
	}
	return false;
}

void registry_unwait(struct registry_wait *wait)
{
	list_remove(&wait->entry);
}

void registries_mirror_args(struct drover *d, struct strv *args)
{
	struct registry *r;

	list_for_each_entry (r, &d->registries, entry) {
		for (size_t i = 0; !r->stopping && i < r->hosts.n; i++) {
			strv_add(args, "--mirror");
			strv_addf(args, "%s=http://%s", r->hosts.v[i], r->listen);
		}
	}
}

json_t *registries_json(struct drover *d)
{
	static const char *const states[] = { "down", "starting", "up" };
	json_t *array = json_array();
	struct registry *r;

	list_for_each_entry (r, &d->registries, entry) {
		json_t *j = json_object();

		json_put_str(j, "name", r->name);
		json_put_str(j, "upstream", r->upstream);
		json_put_str(j, "listen", r->listen);
		json_put_str(j, "state", states[r->state]);
		json_put_str(j, "mode", r->proxy ? "proxy" : "offline");
		json_object_set_new(j, "pid",
			service_up(r->service) ? json_integer(service_pid(r->service))
					       : json_null());
		json_object_set_new(
			j, "size", r->size > 0 ? json_integer((json_int_t)r->size) : json_null());
		json_object_set_new(j, "blobs", registry_usage_json(r->usage));
		json_array_append_new(array, j);
	}
	return array;
}

void registries_names(struct drover *d, struct strv *out)
{
	struct registry *r;

	list_for_each_entry (r, &d->registries, entry) {
		if (!r->stopping)
			strv_add(out, r->name);
	}
}
