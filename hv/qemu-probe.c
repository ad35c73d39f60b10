#include "hv/qemu-probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "lib/child.h"
#include "lib/deadline.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/list.h"
#include "lib/log.h"

#define FORMAT     1
#define TIMEOUT_MS 20000 /* a busy host takes its time */
#define OUTPUT_MAX ((size_t)4 << 20)

struct qemu_probe {
	struct list entry; /* in the prober */
	char *binary;
	json_t *key;             /* what the file was when it was asked */
	json_t *sets[QEMU_SETS]; /* objects, used as sets of names */
	char text[32];
	unsigned version;
};

struct asker {
	struct list entry;
	qemu_probe_fn *done;
	void *arg;
};

/* One process that is being asked, or, without a run, an answer that is to be told. */
struct asking {
	struct list entry; /* in the prober */
	struct qemu_prober *q;
	char *binary;
	json_t *key;
	struct list askers;
	struct child_run *run;
	struct deadline soon;
	struct err err;
};

struct qemu_prober {
	uv_loop_t *loop;
	char *path;
	struct list probes, askings;
	char release[sizeof(((struct utsname *)0)->release)];
};

static const char *const set_names[QEMU_SETS] = {
	[QEMU_MACHINES] = "machines",
	[QEMU_DEVICES] = "devices",
	[QEMU_COMMANDS] = "commands",
	[QEMU_CAPABILITIES] = "capabilities",
	[QEMU_OPTIONS] = "options",
};

/* ---- one probe ---- */

bool qemu_probe_has(const struct qemu_probe *p, enum qemu_set set, const char *name)
{
	return json_object_get(p->sets[set], name) != NULL;
}

unsigned qemu_probe_version(const struct qemu_probe *p)
{
	return p->version;
}

const char *qemu_probe_version_text(const struct qemu_probe *p)
{
	return p->text;
}

bool qemu_probe_migrates_to_file(const struct qemu_probe *p)
{
	/* No query tells it: the address is a string (QEMU, docs/devel/migration/main.rst). */
	return p->version >= 80200;
}

static void probe_free(struct qemu_probe *p)
{
	if (p == NULL)
		return;
	list_remove(&p->entry);
	for (size_t i = 0; i < QEMU_SETS; i++)
		json_decref(p->sets[i]);
	json_decref(p->key);
	free(p->binary);
	free(p);
}

static struct qemu_probe *probe_new(const char *binary, json_t *key)
{
	struct qemu_probe *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	list_init(&p->entry);
	p->binary = strdup(binary);
	p->key = json_incref(key);
	if (p->binary != NULL)
		return p;
	probe_free(p);
	return NULL;
}

static int set_version(struct qemu_probe *p, const char *text)
{
	unsigned major, minor, micro = 0;

	if (text == NULL || sscanf(text, "%u.%u.%u", &major, &minor, &micro) < 2)
		return -EBADMSG;
	snprintf(p->text, sizeof(p->text), "%u.%u.%u", major, minor, micro);
	p->version = major * 10000 + minor * 100 + micro;
	return 0;
}

/* ---- what the binary says ---- */

/* In this order; the reply to the nth has the id n. */
static const struct {
	const char *command;
	enum qemu_set set;
	const char *member; /* of each element: its name */
} questions[] = {
	{ "\"query-machines\"", QEMU_MACHINES, "name" },
	{ "\"qom-list-types\",\"arguments\":{\"implements\":\"device\"}", QEMU_DEVICES, "name" },
	{ "\"query-commands\"", QEMU_COMMANDS, "name" },
	{ "\"query-migrate-capabilities\"", QEMU_CAPABILITIES, "capability" },
	{ "\"query-command-line-options\"", QEMU_OPTIONS, "option" },
};

static void add_name(json_t *set, const char *name)
{
	if (name != NULL)
		json_object_set_new(set, name, json_true());
}

static void add_names(json_t *set, const json_t *list, const char *member)
{
	const json_t *e, *param;
	size_t i, k;

	json_array_foreach (list, i, e) {
		const char *name = json_str(e, member);

		add_name(set, name);
		add_name(set, json_str(e, "alias")); /* of a machine */
		json_array_foreach (json_arr(e, "parameters"), k, param) {
			char full[128];

			snprintf(full, sizeof(full), "%s.%s", name != NULL ? name : "",
				json_str(param, "name"));
			add_name(set, full);
		}
	}
}

static void take_line(struct qemu_probe *p, const json_t *line)
{
	const json_t *qemu = json_obj(json_obj(json_obj(line, "QMP"), "version"), "qemu");
	int64_t id = json_int(line, "id", -1);
	const json_t *list = json_arr(line, "return");
	char text[32];

	if (qemu != NULL) {
		snprintf(text, sizeof(text), "%d.%d.%d", (int)json_int(qemu, "major", 0),
			(int)json_int(qemu, "minor", 0), (int)json_int(qemu, "micro", 0));
		set_version(p, text);
	} else if (id >= 0 && id < (int64_t)ARRAY_LEN(questions) && list != NULL) {
		json_t *set = json_object();

		add_names(set, list, questions[id].member);
		json_decref(p->sets[questions[id].set]);
		p->sets[questions[id].set] = set;
	}
}

static bool is_whole(const struct qemu_probe *p)
{
	for (size_t i = 0; i < QEMU_SETS; i++)
		if (p->sets[i] == NULL)
			return false;
	return p->version != 0;
}

static int read_answers(struct qemu_probe *p, const char *out, struct err *err)
{
	for (const char *line = out; *line != '\0'; line += strcspn(line, "\n")) {
		json_t *j = NULL;

		line += *line == '\n';
		if (json_parse(line, strcspn(line, "\n"), &j, NULL) == 0)
			take_line(p, j);
		json_decref(j);
	}
	if (!is_whole(p))
		return err_set(err, -EBADMSG, "%s does not answer as QEMU does", quote(p->binary));
	return 0;
}

/* ---- the file ---- */

static json_t *file_key(const struct qemu_prober *q, const char *binary)
{
	struct stat st;
	json_t *key;

	if (stat(binary, &st) < 0)
		return NULL;
	key = json_object();
	json_put_int(key, "device", (int64_t)st.st_dev);
	json_put_int(key, "inode", (int64_t)st.st_ino);
	json_put_int(key, "ctime", (int64_t)st.st_ctim.tv_sec);
	json_put_int(key, "ctime_ns", (int64_t)st.st_ctim.tv_nsec);
	json_put_str(key, "kernel", q->release);
	return key;
}

static void load_probe(struct qemu_prober *q, const char *binary, const json_t *j)
{
	json_t *key = json_object_get(j, "key");
	struct qemu_probe *p = json_is_object(key) ? probe_new(binary, key) : NULL;

	if (p == NULL)
		return;
	set_version(p, json_str(j, "version"));
	for (size_t i = 0; i < QEMU_SETS; i++) {
		const json_t *names = json_arr(j, set_names[i]), *e;
		size_t k;

		p->sets[i] = names != NULL ? json_object() : NULL;
		json_array_foreach (names, k, e)
			add_name(p->sets[i], json_string_value(e));
	}
	if (is_whole(p))
		list_append(&q->probes, &p->entry);
	else
		probe_free(p);
}

static void load(struct qemu_prober *q)
{
	json_t *file = NULL, *e;
	const char *binary;
	struct err err;

	if (json_read_file(q->path, &file, &err) < 0) {
		if (err.code != -ENOENT)
			log_info("%s (ignoring: QEMU is asked anew)", err.msg);
		return;
	}
	if (json_int(file, "format", 0) == FORMAT) {
		json_object_foreach (json_object_get(file, "binaries"), binary, e)
			load_probe(q, binary, e);
	}
	json_decref(file);
}

static json_t *probe_json(const struct qemu_probe *p)
{
	json_t *j = json_object(), *value;
	const char *name;

	json_object_set(j, "key", p->key);
	json_put_str(j, "version", p->text);
	for (size_t i = 0; i < QEMU_SETS; i++) {
		json_t *names = json_array();

		json_object_foreach (p->sets[i], name, value)
			json_array_append_new(names, json_string(name));
		json_object_set_new(j, set_names[i], names);
	}
	return j;
}

static void save(struct qemu_prober *q)
{
	json_t *file = json_object(), *binaries = json_object();
	struct qemu_probe *p;
	struct err err;
	char *text;

	list_for_each_entry (p, &q->probes, entry)
		json_object_set_new(binaries, p->binary, probe_json(p));
	json_put_int(file, "format", FORMAT);
	json_object_set_new(file, "binaries", binaries);
	text = json_text(file);
	/* Without it the next daemon asks once more: not worth an fsync. */
	if (text == NULL || file_write_atomic(q->path, text, strlen(text), 0644, false, &err) < 0)
		log_info("what QEMU can do is not kept: %s (ignoring)",
			text == NULL ? "no memory" : err.msg);
	free(text);
	json_decref(file);
}

/* ---- asking ---- */

static void asking_free(void *arg)
{
	struct asking *a = arg;

	json_decref(a->key);
	free(a->binary);
	free(a);
}

static struct qemu_probe *find(struct qemu_prober *q, const char *binary)
{
	struct qemu_probe *p;

	list_for_each_entry (p, &q->probes, entry)
		if (strcmp(p->binary, binary) == 0)
			return p;
	return NULL;
}

const struct qemu_probe *qemu_prober_known(struct qemu_prober *q, const char *binary)
{
	struct qemu_probe *p = find(q, binary);
	json_t *key = p != NULL ? file_key(q, binary) : NULL;
	bool same = key != NULL && json_equal(key, p->key);

	json_decref(key);
	return same ? p : NULL;
}

/* The only exit of an asking. */
static void tell(struct asking *a, const struct qemu_probe *p, const struct err *err)
{
	struct asker *asker;

	list_remove(&a->entry);
	while ((asker = list_first(&a->askers, struct asker, entry)) != NULL) {
		list_remove(&asker->entry);
		asker->done(asker->arg, p, err);
		free(asker);
	}
	deadline_close(&a->soon, asking_free);
}

static void tell_soon(void *arg)
{
	struct asking *a = arg;
	const struct qemu_probe *p = a->err.code == 0 ? qemu_prober_known(a->q, a->binary) : NULL;

	if (p == NULL && a->err.code == 0)
		err_set(&a->err, -ENOENT, "%s has changed just now", quote(a->binary));
	tell(a, p, p == NULL ? &a->err : NULL);
}

static void answered(void *arg, const struct child_result *res, const struct err *err)
{
	struct asking *a = arg;
	struct qemu_probe *p = NULL;
	struct err mine;
	int r;

	a->run = NULL;
	if (a->q == NULL) {
		deadline_close(&a->soon, asking_free);
		return;
	}
	if (err == NULL) {
		p = probe_new(a->binary, a->key);
		r = p == NULL ? err_nomem(&mine) : read_answers(p, res->out, &mine);
		err = r < 0 ? &mine : NULL;
	}
	if (err == NULL) {
		probe_free(find(a->q, a->binary));
		list_append(&a->q->probes, &p->entry);
		save(a->q);
		log_debug("%s is QEMU %s", a->binary, p->text);
	} else {
		mine = *err;
		err_wrap(&mine, "what %s can do", quote(a->binary));
		err = &mine;
		probe_free(p);
		p = NULL;
	}
	tell(a, p, err);
}

static int spawn(struct asking *a, struct err *err)
{
	static char *const options[] = { "-machine", "none", "-accel", "tcg", "-nodefaults",
		"-no-user-config", "-display", "none", "-S", "-qmp", "stdio" };
	char *argv[ARRAY_LEN(options) + 2] = { a->binary };
	struct child_spec spec = { .file = a->binary, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = { .timeout_ms = TIMEOUT_MS, .max_output = OUTPUT_MAX };
	struct buf in = { 0 };
	int r;

	memcpy(&argv[1], options, sizeof(options));
	buf_adds(&in, "{\"execute\":\"qmp_capabilities\"}\n");
	for (size_t i = 0; i < ARRAY_LEN(questions); i++)
		buf_printf(&in, "{\"id\":%zu,\"execute\":%s}\n", i, questions[i].command);
	buf_adds(&in, "{\"execute\":\"quit\"}\n");
	opts.input = buf_str(&in);
	opts.input_len = in.len;
	r = in.bad ? err_nomem(err)
		   : child_run(&a->run, a->q->loop, &spec, &opts, answered, a, err);
	buf_finish(&in);
	return r;
}

static struct asking *asking_new(struct qemu_prober *q, const char *binary)
{
	struct asking *a = calloc(1, sizeof(*a));

	if (a == NULL || (a->binary = strdup(binary)) == NULL) {
		free(a);
		return NULL;
	}
	a->q = q;
	list_init(&a->askers);
	deadline_init(&a->soon, q->loop, tell_soon, a);
	list_append(&q->askings, &a->entry);
	if (qemu_prober_known(q, binary) != NULL) {
		deadline_set(&a->soon, 0);
		return a;
	}
	a->key = file_key(q, binary);
	if (a->key == NULL)
		err_errno(&a->err, -errno, "%s", quote(binary));
	else
		spawn(a, &a->err);
	if (a->run == NULL)
		deadline_set(&a->soon, 0);
	return a;
}

void qemu_prober_ask(struct qemu_prober *q, const char *binary, qemu_probe_fn *done, void *arg)
{
	struct asker *asker = calloc(1, sizeof(*asker));
	struct asking *a = NULL, *e;

	list_for_each_entry (e, &q->askings, entry)
		if (strcmp(e->binary, binary) == 0)
			a = e;
	if (a == NULL && asker != NULL)
		a = asking_new(q, binary);
	if (asker == NULL || a == NULL) {
		struct err err;

		/* The one case in which it comes at once: there is nothing left to put it off with. */
		err_nomem(&err);
		free(asker);
		done(arg, NULL, &err);
		return;
	}
	*asker = (struct asker){ .done = done, .arg = arg };
	list_append(&a->askers, &asker->entry);
}

bool qemu_prober_forget(struct qemu_prober *q, const void *arg)
{
	bool any = false;
	struct asker *asker, *next;
	struct asking *a;

	list_for_each_entry (a, &q->askings, entry) {
		list_for_each_entry_safe (asker, next, &a->askers, entry) {
			if (asker->arg != arg)
				continue;
			list_remove(&asker->entry);
			free(asker);
			any = true;
		}
	}
	return any;
}

/* ---- life ---- */

int qemu_prober_create(
	struct qemu_prober **out, uv_loop_t *loop, const char *cache_path, struct err *err)
{
	struct qemu_prober *q = calloc(1, sizeof(*q));
	struct utsname u;

	if (q == NULL || (q->path = strdup(cache_path)) == NULL) {
		free(q);
		return err_nomem(err);
	}
	q->loop = loop;
	list_init(&q->probes);
	list_init(&q->askings);
	uname(&u);
	memcpy(q->release, u.release, sizeof(q->release));
	load(q);
	*out = q;
	return 0;
}

void qemu_prober_destroy(struct qemu_prober *q)
{
	struct qemu_probe *p;
	struct asking *a;

	if (q == NULL)
		return;
	while ((a = list_first(&q->askings, struct asking, entry)) != NULL) {
		struct asker *asker;

		while ((asker = list_first(&a->askers, struct asker, entry)) != NULL) {
			list_remove(&asker->entry);
			free(asker);
		}
		list_remove(&a->entry);
		a->q = NULL;
		if (a->run != NULL)
			child_run_cancel(a->run);
		else
			deadline_close(&a->soon, asking_free);
	}
	while ((p = list_first(&q->probes, struct qemu_probe, entry)) != NULL)
		probe_free(p);
	free(q->path);
	free(q);
}
