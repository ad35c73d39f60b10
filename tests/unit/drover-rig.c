#include "tests/unit/drover-rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/address-book.h"
#include "supervisor/reload.h"

/* The daemon's, which no test program has; those that want to know define it themselves. */
__attribute__((weak)) void drover_machine_rests(struct drover *d)
{
}

void drover_rig_write(struct drover_rig *r, const char *text)
{
	char *all = str_printf("[drover]\nrun_id = t\nstate_dir = %s\nrun_dir = %s\n%s",
		r->state_dir, r->run_dir, text);

	assert_int_equal(file_write_atomic(r->ini, all, strlen(all), 0600, false, NULL), 0);
	free(all);
}

static struct config *load(struct drover_rig *r)
{
	struct config_errors errors = { 0 };
	struct config *config = NULL;
	struct err err;

	if (config_load(&config, &r->d.load, &errors, &err) < 0)
		fail_msg("%s: %s", err.msg, errors.n > 0 ? errors.v[0].message : "");
	return config;
}

void drover_rig_init(struct drover_rig *r, const char *text)
{
	struct drover *d = &r->d;
	char *ledger;

	*r = (struct drover_rig){ .dir = rig_tmp() };
	r->ini = path_join(r->dir, "drover.ini");
	d->state_dir = r->state_dir = path_join(r->dir, "state");
	d->run_dir = r->run_dir = path_join(r->dir, "run");
	d->libexec = path_join(r->dir, "libexec");
	assert_int_equal(mkdir_p(d->state_dir, 0700, NULL), 0);
	assert_int_equal(mkdir_p(d->run_dir, 0700, NULL), 0);
	assert_int_equal(mkdir_p(d->libexec, 0700, NULL), 0);
	drover_rig_write(r, text);
	d->load.path = r->ini;
	d->loop = rig_loop();
	d->box = config_box_create(load(r));
	assert_non_null(d->box);
	list_init(&d->machines);
	for (size_t i = 0; i < MACHINE_BUCKETS; i++)
		list_init(&d->machine_buckets[i]);
	list_init(&d->registries);
	list_init(&d->bridges);
	list_init(&d->image_jobs);
	list_init(&d->after_queue);
	list_init(&d->warm_queue);
	list_init(&d->begin_queue);
	list_init(&d->start_queue);
	assert_int_equal(events_open(&d->events, d->loop, NULL, 1 << 20, NULL), 0);
	assert_int_equal(operations_create(&d->ops, NULL), 0);
	ledger = path_join(d->run_dir, "ledger");
	assert_int_equal(ledger_open(&d->ledger, ledger, "this-boot", NULL), 0);
	free(ledger);
}

void drover_rig_finish(struct drover_rig *r)
{
	struct drover *d = &r->d;

	d->stopping = d->leaving = true;
	machines_release(d);
	/* What is under way in the thread pool comes to its end; a handle that stays is a leak. */
	for (unsigned i = 0; i < 3000 && uv_loop_alive(d->loop); i++) {
		uv_run(d->loop, UV_RUN_NOWAIT);
		usleep(i < 10 ? 100 : 10000);
	}
	rig_loop_finish(d->loop);
	events_close(d->events);
	operations_destroy(d->ops);
	ledger_close(d->ledger);
	address_book_drop(d);
	config_box_unref(d->box);
	free(d->libexec);
	free(r->ini);
	free(r->state_dir);
	free(r->run_dir);
	rig_tmp_finish(r->dir);
}

struct machine *drover_rig_machine(struct drover_rig *r, const char *name)
{
	struct machine *m = NULL;

	assert_int_equal(machine_create(&m, &r->d, name, NULL), 0);
	m->cfg = config_vm(drover_config(&r->d), name);
	return m;
}

char *drover_rig_script(struct drover_rig *r, const char *name, const char *body)
{
	char *path = path_join(r->dir, name), *text = str_printf("#!/bin/sh\n%s\n", body);

	assert_int_equal(file_write_atomic(path, text, strlen(text), 0700, false, NULL), 0);
	free(text);
	return path;
}

static void one_event(void *arg, uint64_t seq, const char *line, size_t len)
{
	json_t *j = NULL;
	const char *name;

	assert_int_equal(json_parse(line, len, &j, NULL), 0);
	name = json_str(j, "name");
	buf_printf(arg, "%s %s %s\n", json_str(j, "kind"), name != NULL ? name : "-",
		json_str(j, "event"));
	json_decref(j);
}

const char *drover_rig_events(struct drover_rig *r)
{
	static struct buf text;

	buf_clear(&text);
	assert_int_equal(events_replay(r->d.events, 0, one_event, &text, NULL), 0);
	return buf_str(&text);
}

struct until {
	uv_prepare_t prepare;
	uv_timer_t tick;
	bool (*fn)(void *arg);
	void *arg;
	bool flag;
};

static void look(uv_prepare_t *prepare)
{
	struct until *u = prepare->data;

	u->flag = u->flag || u->fn(u->arg);
	/* The rig's own look at the flag may have been before this one: no waiting now. */
	if (u->flag)
		uv_stop(prepare->loop);
}

static void tick(uv_timer_t *timer)
{
}

void drover_rig_until(struct drover_rig *r, bool (*fn)(void *arg), void *arg)
{
	struct until u = { .fn = fn, .arg = arg };

	u.flag = fn(arg);
	uv_prepare_init(r->d.loop, &u.prepare);
	u.prepare.data = &u;
	uv_prepare_start(&u.prepare, look);
	/* What is waited for may happen outside of the loop, in a file or another process. */
	uv_timer_init(r->d.loop, &u.tick);
	uv_timer_start(&u.tick, tick, 10, 10);
	rig_run_until(r->d.loop, &u.flag);
	uv_close((uv_handle_t *)&u.prepare, NULL);
	uv_close((uv_handle_t *)&u.tick, NULL);
	uv_run(r->d.loop, UV_RUN_NOWAIT);
}

char *drover_rig_text(struct drover_rig *r, const char *path)
{
	char *full = path_join(r->dir, path);
	struct buf text = { 0 };
	int ret = file_read(full, 1 << 20, &text, NULL);

	free(full);
	if (ret < 0)
		return NULL;
	if (text.data == NULL)
		return strdup("");
	return buf_steal(&text);
}

void drover_rig_put(struct drover_rig *r, const char *path, const char *text)
{
	char *full = path_join(r->dir, path);

	assert_int_equal(file_write_atomic(full, text, strlen(text), 0600, false, NULL), 0);
	free(full);
}
