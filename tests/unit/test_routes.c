/*
 * The routes without a server: requests are values of the test, so that a client can come, wait,
 * and leave at any point. supervisor/server.c has its own test.
 */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine.h"
#include "supervisor/routes.h"

/* ---- requests ---- */

struct stream {
	struct stream_opts opts;
	struct buf text;
	bool ended;
};

struct request {
	char param[64], query[128]; /* query: "a=1&b=2" */
	const char *body;
	bool answered;
	int status;
	json_t *json;
	struct buf text;
	struct stream st;
	bool is_stream;
	void (*gone)(void *arg);
	void *gone_arg;
	char values[4][128]; /* of the query, decoded */
	unsigned nvalues;
};

const char *request_param(const struct request *rq, const char *name)
{
	return rq->param;
}

const char *request_query(const struct request *rq, const char *name)
{
	struct request *w = (struct request *)(uintptr_t)rq; /* only for the values */
	size_t n = strlen(name);
	const char *p = rq->query;

	for (; *p != '\0'; p += strcspn(p, "&"), p += *p == '&') {
		if (strncmp(p, name, n) != 0 || (p[n] != '=' && p[n] != '&' && p[n] != '\0'))
			continue;
		p += n + (p[n] == '=');
		assert_true(w->nvalues < ARRAY_LEN(w->values));
		snprintf(w->values[w->nvalues], sizeof(w->values[0]), "%.*s", (int)strcspn(p, "&"),
			p);
		return w->values[w->nvalues++];
	}
	return NULL;
}

int request_query_int(
	const struct request *rq, const char *name, int64_t def, int64_t *out, struct err *err)
{
	const char *value = request_query(rq, name);
	char *end;

	*out = def;
	if (value == NULL)
		return 0;
	*out = strtoll(value, &end, 10);
	return *end == '\0' ? 0 : err_set(err, -EINVAL, "%s is no number", name);
}

int request_json(const struct request *rq, json_t **out, struct err *err)
{
	*out = NULL;
	return rq->body == NULL ? 0 : json_parse(rq->body, strlen(rq->body), out, err);
}

const char *request_body(const struct request *rq, size_t *len)
{
	const char *body = rq->body != NULL ? rq->body : "";

	*len = strlen(body);
	return body;
}

uid_t request_uid(const struct request *rq)
{
	return 7;
}

pid_t request_pid(const struct request *rq)
{
	return 8;
}

void request_on_gone(struct request *rq, void (*gone)(void *arg), void *arg)
{
	assert_false(rq->answered);
	rq->gone = gone;
	rq->gone_arg = arg;
}

static void answered(struct request *rq, int status)
{
	assert_false(rq->answered);
	rq->answered = true;
	rq->status = status;
	rq->gone = NULL;
}

void reply_json(struct request *rq, int status, json_t *body)
{
	assert_non_null(body);
	answered(rq, status);
	rq->json = body;
}

void reply_json_text(struct request *rq, int status, struct buf *text)
{
	json_t *body = NULL;

	assert_int_equal(json_parse(buf_str(text), text->len, &body, NULL), 0);
	buf_finish(text);
	reply_json(rq, status, body);
}

void reply_text(struct request *rq, int status, const char *type, const char *body, size_t len)
{
	answered(rq, status);
	buf_add(&rq->text, body, len);
}

void reply_err(struct request *rq, const struct err *err, const char *vm, const char *state)
{
	answered(rq, err->code);
	rq->json = json_pack("{s:s,s:s?,s:s?}", "message", err->msg, "vm", vm, "state", state);
}

struct stream *request_stream(struct request *rq, const struct stream_opts *opts)
{
	answered(rq, 200);
	rq->is_stream = true;
	rq->st.opts = *opts;
	return &rq->st;
}

int stream_write(struct stream *st, const char *data, size_t len)
{
	assert_false(st->ended);
	buf_add(&st->text, data, len);
	assert_true(st->text.len <= st->opts.max_queue || st->opts.max_queue == 0);
	return 0;
}

void stream_end(struct stream *st)
{
	assert_false(st->ended);
	st->ended = true;
}

/* The client leaves. */
static void leave(struct request *rq)
{
	if (rq->is_stream && !rq->st.ended) {
		rq->st.ended = true;
		rq->st.opts.gone(rq->st.opts.arg);
	} else if (rq->gone != NULL) {
		rq->answered = true;
		rq->gone(rq->gone_arg);
	}
}

static void rq_finish(struct request *rq)
{
	json_decref(rq->json);
	buf_finish(&rq->text);
	buf_finish(&rq->st.text);
}

/* ---- the daemon ---- */

void drover_machine_rests(struct drover *d)
{
}

static struct world {
	struct drover d;
	uv_loop_t *loop;
	char *dir, *state, *run;
} w;

static const char ini[] = "[vm web-1]\n"
			  "kernel = /nonexistent/vmlinux\n"
			  "rootfs = ghcr.io/org/web-image:1\n"
			  "autostart = no\n"
			  "[vm web-2]\n"
			  "kernel = /nonexistent/vmlinux\n"
			  "initrd = ghcr.io/org/initrd:1\n"
			  "[vm web-3]\n"
			  "kernel = docker.io/library/db\n";

/* Stands in for drover-image. */
static const char image_script[] =
	"#!/bin/sh\n"
	"case $1 in\n"
	"list)\n"
	"echo '{\"event\":\"image\",\"ref\":\"ghcr.io/org/web-image:1\",\"digest\":\"sha256:1\","
	"\"size\":10,\"pulled\":1700000000000,\"os\":\"linux\",\"architecture\":\"amd64\"}'\n"
	"echo '{\"event\":\"image\",\"ref\":\"docker.io/library/other:2\",\"digest\":\"sha256:2\","
	"\"size\":20}'\n"
	"echo '{\"event\":\"done\",\"size\":30}' ;;\n"
	"rm) echo '{\"event\":\"done\",\"size\":77}' ;;\n"
	"pull)\n"
	"echo '{\"event\":\"start\",\"layers\":[]}'\n"
	"case $5 in\n"
	"*broken*) echo '{\"event\":\"error\",\"code\":\"not-found\",\"message\":\"no such image\"}'\n"
	"exit 1 ;;\n"
	"*silent*) exit 3 ;;\n"
	"esac\n"
	"echo '{\"event\":\"done\",\"digest\":\"sha256:1\"}' ;;\n"
	"esac\n";

static void add_machines(struct drover *d)
{
	const struct config_array *vms = &drover_config(d)->by_kind[SECTION_VM];
	struct machine *m;
	struct err err;

	for (size_t i = 0; i < vms->n; i++) {
		if (machine_create(&m, d, vms->v[i]->name, &err) < 0)
			fail_msg("%s", err.msg);
		m->cfg = (const struct vm_config *)(const void *)vms->v[i];
	}
	/* One that the file no longer has. */
	machine_create(&m, d, "old", &err);
}

static int setup(void **state)
{
	struct drover *d = &w.d;
	struct config_load_opts opts = { 0 };
	struct config_errors errors = { 0 };
	struct config *config = NULL;
	char *path, *program, *ledger;
	struct err err;

	w = (struct world){ .loop = rig_loop(), .dir = rig_tmp() };
	w.state = path_join(w.dir, "state");
	w.run = path_join(w.dir, "run");
	path = path_join(w.dir, "drover.ini");
	program = path_join(w.dir, "drover-image");
	assert_int_equal(file_write_atomic(path, ini, strlen(ini), 0600, false, NULL), 0);
	assert_int_equal(
		file_write_atomic(program, image_script, strlen(image_script), 0755, false, NULL),
		0);
	opts.path = path;
	if (config_load(&config, &opts, &errors, &err) < 0)
		fail_msg("%s: %s", err.msg, errors.n > 0 ? errors.v[0].message : "");
	d->loop = w.loop;
	d->box = config_box_create(config);
	d->state_dir = w.state;
	d->run_dir = w.run;
	d->libexec = w.dir;
	list_init(&d->machines);
	for (size_t i = 0; i < MACHINE_BUCKETS; i++)
		list_init(&d->machine_buckets[i]);
	list_init(&d->registries);
	list_init(&d->bridges);
	list_init(&d->image_jobs);
	list_init(&d->begin_queue);
	list_init(&d->start_queue);
	list_init(&d->after_queue);
	list_init(&d->warm_queue);
	ledger = path_join(w.dir, "ledger");
	if (operations_create(&d->ops, &err) < 0 ||
		ledger_open(&d->ledger, ledger, boot_id(), &err) < 0 ||
		events_open(&d->events, d->loop, NULL, 1 << 20, &err) < 0)
		fail_msg("%s", err.msg);
	free(path);
	free(program);
	free(ledger);
	add_machines(d);
	return 0;
}

static int teardown(void **state)
{
	const struct machine *m;

	/* State files on their way to the disk. */
	list_for_each_entry (m, &w.d.machines, entry) {
		for (int i = 0; i < 3000 && m->syncing != SAVE_NOTHING; i++)
			rig_run_for(w.loop, 10);
	}
	machines_release(&w.d);
	events_close(w.d.events);
	ledger_close(w.d.ledger);
	rig_loop_finish(w.loop);
	operations_destroy(w.d.ops);
	config_box_unref(w.d.box);
	rig_tmp_finish(w.dir);
	free(w.state);
	free(w.run);
	return 0;
}

static struct machine *vm(const char *name)
{
	struct machine *m = machine_find(&w.d, name);

	assert_non_null(m);
	return m;
}

/* Sends a request to the route of method and path, as the table has it. */
static void send_to(struct request *rq, const char *method, const char *path)
{
	for (size_t i = 0; i < nroutes; i++) {
		if (strcmp(routes[i].method, method) == 0 && strcmp(routes[i].path, path) == 0) {
			routes[i].fn(&w.d, rq);
			return;
		}
	}
	fail_msg("there is no route %s %s", method, path);
}

#define REQUEST(name, ...) struct request name = { __VA_ARGS__ }

static void assert_err(const struct request *rq, int code, const char *message)
{
	assert_true(rq->answered);
	assert_string_equal(json_str(rq->json, "message"), message);
	assert_int_equal(rq->status, code);
}

static void run_until_answered(struct request *rq)
{
	for (int i = 0; i < 1000 && !rq->answered; i++)
		rig_run_for(w.loop, 10);
	assert_true(rq->answered);
}

static void run_until_ended(struct request *rq)
{
	for (int i = 0; i < 1000 && !rq->st.ended; i++)
		rig_run_for(w.loop, 10);
	assert_true(rq->st.ended);
}

/* ---- tests ---- */

static void test_daemon(void **state)
{
	REQUEST(version);
	REQUEST(health);
	REQUEST(config);
	REQUEST(all, .query = "all=1");

	send_to(&version, "GET", "/version");
	assert_int_equal(json_int(version.json, "api", 0), 1);
	assert_int_equal(json_int(version.json, "pid", 0), getpid());
	send_to(&health, "GET", "/health");
	assert_string_equal(json_str(health.json, "status"), "ok");
	assert_int_equal(json_int(health.json, "machines", 0), 3);
	send_to(&config, "GET", "/config");
	assert_non_null(strstr(buf_str(&config.text), "[vm web-2]"));
	send_to(&all, "GET", "/config");
	assert_true(all.text.len > config.text.len);
	rq_finish(&version);
	rq_finish(&health);
	rq_finish(&config);
	rq_finish(&all);
}

static void test_lists(void **state)
{
	REQUEST(list);
	REQUEST(all, .query = "all=1");
	REQUEST(wrong, .query = "all=maybe");
	REQUEST(typo, .param = "web-11");
	REQUEST(other, .param = "zzz");

	send_to(&list, "GET", "/vms");
	assert_int_equal(json_array_size(list.json), 3);
	assert_string_equal(json_str(json_array_get(list.json, 1), "name"), "web-2");
	send_to(&all, "GET", "/vms");
	assert_int_equal(json_array_size(all.json), 4);
	assert_string_equal(json_str(json_array_get(all.json, 0), "name"), "old");
	assert_string_equal(json_str(json_array_get(all.json, 0), "state"), "removed");
	send_to(&wrong, "GET", "/vms");
	assert_int_equal(wrong.status, -EINVAL);
	send_to(&typo, "GET", "/vms/{name}");
	assert_err(&typo, -ENOENT, "there is no machine 'web-11'; did you mean 'web-1'?");
	assert_string_equal(json_str(typo.json, "vm"), "web-11");
	send_to(&other, "GET", "/vms/{name}/why");
	assert_err(&other, -ENOENT, "there is no machine 'zzz'");
	rq_finish(&list);
	rq_finish(&all);
	rq_finish(&wrong);
	rq_finish(&typo);
	rq_finish(&other);
}

static void test_actions(void **state)
{
	REQUEST(stop, .param = "web-2", .query = "wait=5");
	REQUEST(pause, .param = "web-2");
	REQUEST(start_old, .param = "old");
	REQUEST(wrong, .param = "web-2", .query = "wait=soon");
	REQUEST(start, .param = "web-2", .query = "wait=30");
	REQUEST(why, .param = "web-2");

	/* Nothing to do is done. */
	send_to(&stop, "POST", "/vms/{name}/stop");
	assert_int_equal(stop.status, 200);
	assert_true(json_is_null(json_object_get(stop.json, "id")));
	assert_string_equal(json_str(stop.json, "verb"), "stop");
	assert_string_equal(json_str(stop.json, "state"), "done");
	send_to(&pause, "POST", "/vms/{name}/pause");
	assert_err(&pause, -EBADFD, "vm web-2: cannot pause a machine that is stopped");
	assert_string_equal(json_str(pause.json, "state"), "stopped");
	send_to(&start_old, "POST", "/vms/{name}/start");
	assert_int_equal(start_old.status, -EBADFD);
	assert_string_equal(json_str(start_old.json, "state"), "removed");
	/* A request that makes no sense begins nothing. */
	send_to(&wrong, "POST", "/vms/{name}/start");
	assert_err(&wrong, -EINVAL, "wait is no number");
	assert_int_equal(vm("web-2")->state, MACHINE_STOPPED);
	assert_false(vm("web-2")->want_running);
	send_to(&why, "GET", "/vms/{name}/why");
	assert_string_equal(json_str(why.json, "sentence"), "it has not run yet");
	/* One that fails answers with its error when it has. */
	send_to(&start, "POST", "/vms/{name}/start");
	run_until_answered(&start);
	assert_int_equal(start.status, -ENOENT);
	assert_string_equal(json_str(start.json, "vm"), "web-2");
	assert_string_equal(json_str(start.json, "state"), "failed");
	assert_true(vm("web-2")->want_running);
	rq_finish(&stop);
	rq_finish(&pause);
	rq_finish(&start_old);
	rq_finish(&wrong);
	rq_finish(&start);
	rq_finish(&why);
}

static bool cancelled;

static int cancel(void *arg, struct err *err)
{
	cancelled = true;
	return 0;
}

static void test_waiting(void **state)
{
	struct operation *op = operation_begin(w.d.ops, "start", "web-1", cancel, NULL);
	struct operation *second = operation_begin(w.d.ops, "stop", "web-2", NULL, NULL);
	struct err why = { -EIO, "vm web-2: it broke" };
	REQUEST(now, .param = "1");
	REQUEST(some, .param = "1", .query = "wait=1");
	REQUEST(end, .param = "1", .query = "wait=3600");
	REQUEST(left, .param = "1", .query = "wait=3600");
	REQUEST(fails, .param = "2", .query = "wait=9999999");
	REQUEST(shown, .param = "2");
	REQUEST(cancel_it, .param = "1");
	REQUEST(cannot, .param = "2");
	REQUEST(unknown, .param = "17");
	REQUEST(nonsense, .param = "x");
	REQUEST(list);

	send_to(&now, "GET", "/operations/{id}");
	assert_int_equal(now.status, 202);
	assert_string_equal(json_str(now.json, "state"), "running");
	send_to(&some, "GET", "/operations/{id}");
	send_to(&end, "GET", "/operations/{id}");
	send_to(&left, "GET", "/operations/{id}");
	send_to(&fails, "GET", "/operations/{id}");
	assert_false(some.answered);
	leave(&left);
	run_until_answered(&some);
	assert_int_equal(some.status, 202);
	assert_false(end.answered);

	send_to(&cancel_it, "POST", "/operations/{id}/cancel");
	assert_int_equal(cancel_it.status, 202);
	assert_true(cancelled);
	send_to(&cannot, "POST", "/operations/{id}/cancel");
	assert_err(&cannot, -ENOTSUP, "stop cannot be cancelled");

	operation_end(op, NULL);
	assert_int_equal(end.status, 200);
	assert_string_equal(json_str(end.json, "state"), "done");
	operation_end(second, &why);
	assert_err(&fails, -EIO, "vm web-2: it broke");
	assert_string_equal(json_str(fails.json, "vm"), "web-2");
	assert_string_equal(json_str(fails.json, "state"), "stopped");
	send_to(&shown, "GET", "/operations/{id}");
	assert_int_equal(shown.status, 200);
	assert_string_equal(json_str(shown.json, "error"), "vm web-2: it broke");

	send_to(&unknown, "GET", "/operations/{id}");
	assert_int_equal(unknown.status, -ENOENT);
	send_to(&nonsense, "GET", "/operations/{id}");
	assert_int_equal(nonsense.status, -EINVAL);
	send_to(&list, "GET", "/operations");
	assert_int_equal(json_array_size(list.json), 2);

	struct request *all[] = { &now, &some, &end, &left, &fails, &shown, &cancel_it, &cannot,
		&unknown, &nonsense, &list };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		rq_finish(all[i]);
}

static void open_console(struct machine *m, unsigned boot)
{
	char *path = path_join(w.dir, "c");
	struct console_opts opts = {
		.log_dir = m->log_dir, .socket_path = path, .boot = boot, .max_bytes = 1 << 20
	};

	m->boot = boot;
	assert_int_equal(console_create(&m->console, w.loop, &opts, NULL), 0);
	free(path);
}

static void close_console(struct machine *m)
{
	console_destroy(m->console);
	m->console = NULL;
}

static void test_log(void **state)
{
	struct machine *m = vm("web-1");
	REQUEST(none, .param = "web-1");
	REQUEST(last, .param = "web-1", .query = "follow=1");
	REQUEST(before, .param = "web-1", .query = "boot=-1");
	REQUEST(follow, .param = "web-1", .query = "follow=1");
	REQUEST(left, .param = "web-1", .query = "follow=1");
	REQUEST(early, .param = "web-1", .query = "follow=1");
	REQUEST(never, .param = "web-1", .query = "follow=1");

	send_to(&none, "GET", "/vms/{name}/log");
	assert_err(&none, -ENOENT, "vm web-1: there is no console log yet");
	open_console(m, 1);
	console_write(m->console, "one\n", 4);
	close_console(m);

	/* What does not run is not waited for. */
	send_to(&last, "GET", "/vms/{name}/log");
	assert_string_equal(buf_str(&last.text), "one\n");
	assert_false(last.is_stream);

	m->state = MACHINE_RUNNING;
	open_console(m, 2);
	console_write(m->console, "two", 3);
	send_to(&follow, "GET", "/vms/{name}/log");
	send_to(&left, "GET", "/vms/{name}/log");
	assert_string_equal(buf_str(&follow.st.text), "two");
	console_write(m->console, "!", 1);
	leave(&left);
	console_write(m->console, "\n", 1);
	assert_string_equal(buf_str(&follow.st.text), "two!\n");
	assert_string_equal(buf_str(&left.st.text), "two!");
	assert_false(follow.st.ended);
	close_console(m);
	assert_true(follow.st.ended);
	send_to(&before, "GET", "/vms/{name}/log");
	assert_string_equal(buf_str(&before.text), "one\n");

	/* Asked for before there is a console. */
	m->state = MACHINE_PREPARING;
	m->boot = 3;
	send_to(&early, "GET", "/vms/{name}/log");
	rig_run_for(w.loop, 50);
	assert_false(early.st.ended);
	open_console(m, 3);
	console_write(m->console, "three\n", 6);
	for (int i = 0; i < 1000 && early.st.text.len == 0; i++)
		rig_run_for(w.loop, 10);
	assert_string_equal(buf_str(&early.st.text), "three\n");
	close_console(m);
	assert_true(early.st.ended);
	m->boot = 4;
	send_to(&never, "GET", "/vms/{name}/log");
	m->state = MACHINE_FAILED;
	run_until_ended(&never);
	assert_int_equal(never.st.text.len, 0);
	m->state = MACHINE_STOPPED;

	struct request *all[] = { &none, &last, &before, &follow, &left, &early, &never };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		rq_finish(all[i]);
}

/* "1 3 4 " for a text of events with these numbers. */
static const char *numbers(const struct buf *text)
{
	static char out[256];
	const char *p = buf_str(text);

	out[0] = '\0';
	while (*p != '\0') {
		size_t n = strcspn(p, "\n");
		json_t *j = NULL;

		assert_int_equal(json_parse(p, n, &j, NULL), 0);
		snprintf(out + strlen(out), sizeof(out) - strlen(out), "%d ",
			(int)json_int(j, "seq", -1));
		json_decref(j);
		assert_int_equal(p[n], '\n');
		p += n + 1;
	}
	return out;
}

static void test_events(void **state)
{
	REQUEST(all);
	REQUEST(since, .query = "since=1");
	REQUEST(last, .query = "since=-1");
	REQUEST(of, .query = "vm=web-1");
	REQUEST(follow, .query = "since=2&follow=1");
	REQUEST(follow_of, .query = "vm=web-1&follow=1");
	REQUEST(wrong, .query = "since=yesterday");

	events_emit(w.d.events, "vm", "web-1", "state", NULL);
	events_emit(w.d.events, "vm", "web-11", "state", json_pack("{s:s}", "note", "web-1"));
	events_emit(w.d.events, "network", "web-1", "up", NULL);
	send_to(&all, "GET", "/events");
	assert_string_equal(numbers(&all.text), "1 2 3 ");
	send_to(&since, "GET", "/events");
	assert_string_equal(numbers(&since.text), "2 3 ");
	send_to(&last, "GET", "/events");
	assert_string_equal(numbers(&last.text), "3 ");
	send_to(&of, "GET", "/events");
	assert_string_equal(numbers(&of.text), "1 ");
	send_to(&wrong, "GET", "/events");
	assert_int_equal(wrong.status, -EINVAL);

	send_to(&follow, "GET", "/events");
	send_to(&follow_of, "GET", "/events");
	events_emit(w.d.events, "vm", "web-1", "state", NULL);
	assert_string_equal(numbers(&follow.st.text), "3 4 ");
	leave(&follow);
	events_emit(w.d.events, "vm", "web-2", "state", NULL);
	events_emit(w.d.events, "vm", "web-1", "state", NULL);
	assert_string_equal(numbers(&follow.st.text), "3 4 ");
	assert_string_equal(numbers(&follow_of.st.text), "1 4 6 ");
	leave(&follow_of);

	struct request *each[] = { &all, &since, &last, &of, &follow, &follow_of, &wrong };

	for (size_t i = 0; i < ARRAY_LEN(each); i++)
		rq_finish(each[i]);
}

static void test_images(void **state)
{
	REQUEST(list);
	REQUEST(left);
	REQUEST(used, .query = "reference=ghcr.io/org/web-image:1");
	REQUEST(initrd, .query = "reference=ghcr.io/org/initrd:1");
	REQUEST(short_form, .query = "reference=db:latest");
	REQUEST(unused, .query = "reference=docker.io/library/other:2");
	REQUEST(missing);
	const json_t *first;

	send_to(&list, "GET", "/images");
	send_to(&left, "GET", "/images");
	leave(&left);
	run_until_answered(&list);
	assert_int_equal(json_array_size(list.json), 2);
	first = json_array_get(list.json, 0);
	assert_string_equal(json_str(first, "reference"), "ghcr.io/org/web-image:1");
	assert_int_equal(json_int(first, "size", 0), 10);
	assert_string_equal(json_str(first, "created"), "2023-11-14T22:13:20.000Z");
	assert_int_equal(json_array_size(json_arr(first, "used_by")), 1);
	assert_int_equal(json_array_size(json_arr(json_array_get(list.json, 1), "used_by")), 0);

	send_to(&used, "DELETE", "/images");
	assert_err(&used, -EBUSY, "image 'ghcr.io/org/web-image:1' is in use by vm web-1");
	send_to(&initrd, "DELETE", "/images");
	assert_err(&initrd, -EBUSY, "image 'ghcr.io/org/initrd:1' is in use by vm web-2");
	/* The same image under another name of it. */
	send_to(&short_form, "DELETE", "/images");
	assert_err(&short_form, -EBUSY, "image 'db:latest' is in use by vm web-3");
	send_to(&missing, "DELETE", "/images");
	assert_int_equal(missing.status, -EINVAL);
	send_to(&unused, "DELETE", "/images");
	run_until_answered(&unused);
	assert_int_equal(json_int(unused.json, "freed", 0), 77);

	struct request *all[] = { &list, &left, &used, &initrd, &short_form, &unused, &missing };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		rq_finish(all[i]);
}

static void test_pull(void **state)
{
	REQUEST(ok, .body = "{\"reference\":\"ghcr.io/org/a\",\"policy\":\"always\"}");
	REQUEST(broken, .body = "{\"reference\":\"ghcr.io/org/broken\"}");
	REQUEST(silent, .body = "{\"reference\":\"ghcr.io/org/silent\"}");
	REQUEST(left, .body = "{\"reference\":\"ghcr.io/org/left\"}");
	REQUEST(policy, .body = "{\"reference\":\"ghcr.io/org/a\",\"policy\":\"often\"}");
	REQUEST(reference, .body = "{\"reference\":\"UPPER\"}");
	REQUEST(empty);
	REQUEST(garbage, .body = "{");

	send_to(&ok, "POST", "/images/pull");
	send_to(&broken, "POST", "/images/pull");
	send_to(&silent, "POST", "/images/pull");
	send_to(&left, "POST", "/images/pull");
	leave(&left);
	run_until_ended(&ok);
	run_until_ended(&broken);
	run_until_ended(&silent);
	assert_string_equal(buf_str(&ok.st.text), "{\"event\":\"start\",\"layers\":[]}\n"
						  "{\"event\":\"done\",\"digest\":\"sha256:1\"}\n");
	assert_string_equal(buf_str(&broken.st.text),
		"{\"event\":\"start\",\"layers\":[]}\n"
		"{\"event\":\"error\",\"code\":\"not-found\",\"message\":\"no such image\"}\n");
	/* A program that dies without a word: the stream still ends with an error. */
	assert_non_null(strstr(buf_str(&silent.st.text), "\n{\"event\":\"error\","));

	send_to(&policy, "POST", "/images/pull");
	assert_err(&policy, -EINVAL, "policy 'often' is none of missing, always, never");
	send_to(&reference, "POST", "/images/pull");
	assert_int_equal(reference.status, -EINVAL);
	send_to(&empty, "POST", "/images/pull");
	assert_err(&empty, -EINVAL, "the body has no \"reference\"");
	send_to(&garbage, "POST", "/images/pull");
	assert_int_equal(garbage.status, -EINVAL);
	for (int i = 0; i < 1000 && !list_empty(&w.d.image_jobs); i++)
		rig_run_for(w.loop, 10);

	struct request *all[] = { &ok, &broken, &silent, &left, &policy, &reference, &empty,
		&garbage };

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		rq_finish(all[i]);
}

static void test_qmp(void **state)
{
	REQUEST(stopped, .param = "web-1", .body = "{\"execute\":\"query-status\"}");

	send_to(&stopped, "POST", "/vms/{name}/qmp");
	assert_err(&stopped, -EBADFD, "vm web-1: it has no monitor while it is stopped");
	assert_int_equal(events_last(w.d.events), 0);
	rq_finish(&stopped);
}

/* The document has every route, and no other. */
static void test_openapi(void **state)
{
	json_t *doc = NULL;
	const json_t *paths, *item;
	const char *path, *method;
	size_t count = 0;
	struct err err;

	if (json_read_file("contrib/openapi.json", &doc, &err) < 0)
		fail_msg("%s", err.msg);
	paths = json_obj(doc, "paths");
	for (size_t i = 0; i < nroutes; i++) {
		char lower[8] = "";

		for (size_t k = 0; routes[i].method[k] != '\0'; k++)
			lower[k] = (char)(routes[i].method[k] | 0x20);
		if (json_obj(json_obj(paths, routes[i].path), lower) == NULL)
			fail_msg("the document lacks %s %s", routes[i].method, routes[i].path);
	}
	json_object_foreach ((json_t *)(uintptr_t)paths, path, item) {
		const json_t *operation;

		json_object_foreach ((json_t *)(uintptr_t)item, method, operation)
			count += operation != NULL;
	}
	assert_int_equal(count, nroutes);
	json_decref(doc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lists, setup, teardown),
		cmocka_unit_test_setup_teardown(test_actions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_waiting, setup, teardown),
		cmocka_unit_test_setup_teardown(test_log, setup, teardown),
		cmocka_unit_test_setup_teardown(test_events, setup, teardown),
		cmocka_unit_test_setup_teardown(test_images, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pull, setup, teardown),
		cmocka_unit_test_setup_teardown(test_qmp, setup, teardown),
		cmocka_unit_test(test_openapi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
