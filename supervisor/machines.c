/* All the machines: supervisor/machine.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-probe.h"
#include "lib/file.h"
#include "supervisor/health.h"
#include "supervisor/machine.h"
#include "supervisor/machine-space.h"
#include "supervisor/machine-steps.h"
#include "supervisor/migrate.h"
#include "supervisor/network.h"

static struct list *bucket(struct drover *d, const char *name)
{
	return &d->machine_buckets[hash64(name, strlen(name), HASH64_SEED) % MACHINE_BUCKETS];
}

struct machine *machine_find(struct drover *d, const char *name)
{
	struct machine *m;

	list_for_each_entry (m, bucket(d, name), bucket) {
		if (strcmp(m->name, name) == 0)
			return m;
	}
	return NULL;
}

static void machine_free(struct machine *m)
{
	for (unsigned i = 0; i < m->nnics; i++)
		free(m->nics[i].network);
	free(m->nic_job);
	config_box_unref(m->run_box);
	json_decref(m->applied);
	json_decref(m->deferred);
	json_decref(m->added);
	json_decref(m->story);
	json_decref(m->drives);
	json_decref(m->last_console);
	free(m->cgroup);
	free(m->restore);
	free(m->load_dir);
	free(m->warm_image);
	free(m->warm_note);
	free(m->migrated_to);
	free(m->kernel_path);
	free(m->initrd_path);
	free(m->rootfs_path);
	free(m->disk_path);
	free(m->firmware_path);
	free(m->vars_path);
	free(m->kernel_ref);
	free(m->rootfs_ref);
	free(m->hint_text);
	free(m->unhealthy);
	free(m->quit_by);
	free(m->sentence);
	free(m->name);
	free(m->owner);
	free(m->dir);
	free(m->run_dir);
	free(m->log_dir);
	free(m);
}

void machine_closed(struct machine *m)
{
	if (--m->closing == 0)
		machine_free(m);
}

static void timer_closed(void *arg)
{
	machine_closed(arg);
}

int machine_create(struct machine **out, struct drover *d, const char *name, struct err *err)
{
	struct machine *m = calloc(1, sizeof(*m));
	struct list *at, *pos;

	if (m == NULL)
		return err_nomem(err);
	m->d = d;
	m->name = strdup(name);
	m->owner = str_printf("vm/%s", name);
	m->dir = str_printf("%s/vm/%s", d->state_dir, name);
	m->run_dir = str_printf("%s/vm/%s", d->run_dir, name);
	m->log_dir = str_printf("%s/log/%s", d->state_dir, name);
	m->guest_id = -1;
	list_init(&m->queue);
	list_init(&m->questions);
	list_init(&m->image.entry);
	if (m->name == NULL || m->owner == NULL || m->dir == NULL || m->run_dir == NULL ||
		m->log_dir == NULL) {
		machine_free(m);
		return err_nomem(err);
	}
	deadline_init(&m->timer, d->loop, machine_timer, m);
	deadline_init(&m->panic_timer, d->loop, machine_panic_timer, m);
	deadline_init(&m->save_timer, d->loop, machine_save_turn, m);
	deadline_init(&m->warm_timer, d->loop, machine_warm_timer, m);
	list_append(bucket(d, name), &m->bucket);
	/* By name; they mostly come in order, so the search goes from the end. */
	at = &d->machines;
	for (pos = d->machines.prev; pos != &d->machines; pos = pos->prev) {
		if (strcmp(list_entry(pos, struct machine, entry)->name, name) < 0)
			break;
		at = pos;
	}
	list_add_before(at, &m->entry);
	*out = m;
	return 0;
}

static void machine_release(struct machine *m)
{
	struct err stopping = { -ECANCELED, "droverd is stopping" };

	list_remove(&m->entry);
	list_remove(&m->bucket);
	list_remove(&m->queue);
	if (m->image_busy)
		image_unsub(&m->image);
	if (m->op != NULL)
		operation_end(m->op, &stopping);
	m->op = NULL;
	m->op_ending = false;
	network_release(m);
	machine_helpers_release(m);
	if (m->d->prober != NULL && qemu_prober_forget(m->d->prober, m))
		m->attaching = false;
	health_destroy(m->health);
	console_destroy(m->console);
	/* It has the process that is to be written down, and the migration. */
	machine_save_last(m);
	machine_migrate_release(m);
	machine_space_forget(m);
	hv_destroy(m->hv, NULL, NULL);
	machine_forget_questions(m);
	/* And what is under way, whose callback has m. */
	m->closing = 4u + (m->syncing != SAVE_NOTHING) + m->tearing_down + m->attaching +
		     m->removing + machine_job_release(m) + machine_warm_release(m);
	deadline_close(&m->timer, timer_closed);
	deadline_close(&m->panic_timer, timer_closed);
	deadline_close(&m->save_timer, timer_closed);
	deadline_close(&m->warm_timer, timer_closed);
}

void machine_destroy(struct machine *m)
{
	machine_release(m);
}

void machines_release(struct drover *d)
{
	struct machine *m, *tmp;

	list_for_each_entry_safe (m, tmp, &d->machines, entry)
		machine_release(m);
}
