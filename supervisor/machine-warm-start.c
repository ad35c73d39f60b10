/*
 * A machine that begins with a warm image: supervisor/machine.h, supervisor/warm.h.
 *
 * (A copy of a snapshot that has its memory begins in the same way, with what is its own already.)
 * It gets copies of the image's disks and maps its memory copy-on-write. The guest that goes on then
 * is the template still, alone on its TAP. It is told by the guest agent who it is
 * (supervisor/guest-identity.h), and only when it has done as it was told is its start over. Until
 * then m->warm_image is set, and whatever ends the run or us before that, the next start begins with
 * new copies. What cannot be done is a boot instead, with its reason in m->warm_note.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/clone.h"
#include "supervisor/faults.h"
#include "supervisor/guest-identity.h"
#include "supervisor/machine-identity.h"
#include "supervisor/machine-job.h"
#include "supervisor/machine-steps.h"
#include "supervisor/warm.h"

#define WAIT_MS  300000 /* for a template to be frozen, by one who begins with it */
#define AGENT_MS 60000  /* for the guest to have become who it is */
#define ASK_MS   40     /* from one question after that to the next: each costs the guest time */

struct warm_start {
	struct machine *m; /* NULL: it has gone meanwhile */
	bool in_flight;    /* a thread or a child has it */
	bool telling;      /* the guest */
	atomic_bool cancelled;
	char *image;
	json_t *manifest;
	json_int_t pid; /* of the script in the guest */
	uint64_t begun_ms;
};

static const char *const points[] = { "copy", "copied", "tell", "told" };

static const char *point(size_t i)
{
	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
/* Of the last one only the moment counts. */
const struct fault_table warm_faults = { "warm", point, FAULT_BIT(3) - 1 };

static struct warm_start *begin(struct machine *m)
{
	struct warm_start *w = calloc(1, sizeof(*w));

	if (w == NULL)
		return NULL;
	w->m = m;
	w->begun_ms = clock_mono_ms();
	m->warm = w;
	return w;
}

static void destroy(struct warm_start *w)
{
	if (w == NULL)
		return;
	if (w->m != NULL)
		w->m->warm = NULL;
	json_decref(w->manifest);
	free(w->image);
	free(w);
}

/* What was in flight is back: whether somebody still waits for it. */
static bool came_back(struct warm_start *w)
{
	struct machine *m = w->m;

	w->in_flight = false;
	if (m->closing == 0)
		return true;
	destroy(w);
	machine_closed(m);
	return false;
}

static void set_note(struct machine *m, const char *why)
{
	free(m->warm_note);
	m->warm_note = why != NULL ? strdup(why) : NULL;
}

bool machine_warm_foreign(const struct machine *m)
{
	return m->warm_image != NULL;
}

/* The memory of a copy of a snapshot, which is its own, as are the disks. */
static bool is_private(const struct machine *m)
{
	return m->warm_image != NULL && str_starts(m->warm_image, m->dir);
}

static void forget_image(struct machine *m)
{
	if (is_private(m))
		pool_remove_tree(m->d->loop, m->warm_image);
	free(m->warm_image);
	m->warm_image = NULL;
	m->warm_mtime = 0;
}

/* ---- it boots instead ---- */

static void boot(struct machine *m, const char *why)
{
	if (why != NULL) {
		set_note(m, why);
		machine_tell(m, "cold-start", "it boots: %s", why);
		log_msg(LOG_LVL_WARN, m->name, "it boots instead of starting warm: %s", why);
	}
	/* The disk of another one. */
	if (m->warm_image != NULL && !is_private(m))
		machine_throw_disks(m);
	forget_image(m);
	machine_save_soon(m);
	machine_start_next(m, NULL);
}

static int take_disk(const struct warm_start *w, const char *from, const char *to, struct err *err)
{
	char *made = NULL;
	int r = machine_take_disk(w->m->run_cfg, from, to, &w->cancelled, &made, err);

	if (r == 0)
		r = machine_drop_other_disk(made, err);
	free(made);
	return r;
}

/* ---- the disks ---- */

static int copy_file(struct warm_start *w, const json_t *f, struct err *err)
{
	const char *path = json_str(f, "path"), *name = json_str(f, "name"), *base;
	enum clone_method method;
	char *from, *to;
	int r;

	if (path == NULL || name == NULL)
		return 0;
	base = strrchr(path, '/');
	from = path_join(w->image, name);
	to = path_join(w->m->dir, base != NULL ? base + 1 : path);
	r = from == NULL || to == NULL ? err_nomem(err) : 0;
	if (r == 0 && unlink(to) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "delete %s", quote(to));
	if (r == 0)
		r = str_eq(json_str(f, "disk"), "disk0")
			    ? take_disk(w, from, to, err)
			    : clone_file_until(from, to, false, &w->cancelled, &method, err);
	free(from);
	free(to);
	return r;
}

static int copy(void *arg, struct err *err)
{
	struct warm_start *w = arg;
	const json_t *files = json_arr(w->manifest, "files"), *f;
	size_t i;
	int r = 0;

	json_array_foreach (files, i, f) {
		if (r == 0)
			r = copy_file(w, f, err);
	}
	return r == 0 ? machine_link_bases(w->image, files, w->m->dir, err) : r;
}

static int keep(void *arg, struct err *err)
{
	return 0;
}

/* It is not this machine's disk yet, and never was written to. */
static bool is_fresh(const struct machine *m)
{
	struct stat st;

	return m->warm_mtime != 0 && m->disk_path != NULL && stat(m->disk_path, &st) == 0 &&
	       snapshot_mtime_ns(&st) == m->warm_mtime;
}

static int set_disk(struct machine *m, struct err *err)
{
	char *disk = machine_find_disk(m->dir);

	if (disk == NULL)
		return err_nomem(err);
	free(m->disk_path);
	m->disk_path = disk;
	m->disk_stale = false;
	return 0;
}

static void copied(void *arg, const struct err *err)
{
	struct warm_start *w = arg;
	struct machine *m = w->m;
	struct err mine;

	if (!came_back(w))
		return;
	if (err == NULL && fault_at("warm", "copied", &mine) < 0)
		err = &mine;
	if (err == NULL && snapshot_file_of(w->manifest, "disk0") != NULL && set_disk(m, &mine) < 0)
		err = &mine;
	if (err == NULL) {
		m->load_dir = w->image;
		w->image = NULL;
		m->warm_load = true;
		set_note(m, NULL);
		machine_tell(m, "warm", "begins with the memory in %s", m->load_dir);
	}
	destroy(w);
	if (err == NULL || m->cancelled)
		machine_start_next(m, NULL);
	else
		boot(m, err->msg);
}

static void copy_disks(struct warm_start *w)
{
	struct machine *m = w->m;
	struct err err;
	int r = fault_at("warm", "copy", &err);

	w->in_flight = true;
	if (r == 0)
		r = pool_work(m->d->loop, is_fresh(m) ? keep : copy, copied, w);
	if (r == 0)
		return;
	w->in_flight = false;
	if (r == -ENOMEM)
		err_nomem(&err);
	destroy(w);
	boot(m, err.msg);
}

static void keys_made(void *arg, const struct err *err)
{
	struct warm_start *w = arg;
	struct machine *m = w->m;

	if (!came_back(w))
		return;
	if (err == NULL) {
		copy_disks(w);
		return;
	}
	destroy(w);
	if (m->cancelled)
		machine_start_next(m, NULL);
	else
		boot(m, err->msg);
}

/* Takes image and manifest over. */
static void use(struct machine *m, char *image, json_t *manifest)
{
	struct warm_start *w = begin(m);
	struct err err;
	int r = 0;

	if (w == NULL) {
		json_decref(manifest);
		free(image);
		err_nomem(&err);
		machine_start_next(m, &err);
		return;
	}
	w->image = image;
	w->manifest = manifest;
	/* On record before there is a disk that is another one's. */
	if (!str_eq(m->warm_image, image)) {
		free(m->warm_image);
		m->warm_image = strdup(image);
		m->warm_mtime = 0;
		r = m->warm_image == NULL ? err_nomem(&err) : machine_save(m, &err);
	}
	if (r == 0) {
		w->in_flight = true;
		r = machine_identity_make(m->d->loop, m->dir, keys_made, w, &err);
		w->in_flight = r == 0;
	}
	if (r < 0) {
		destroy(w);
		boot(m, err.msg);
	}
}

/* ---- the template ---- */

static void wait_for(struct machine *m, const struct machine *t)
{
	operation_step(m->op, "waiting for the warm template");
	machine_tell(m, "warm", "waits until %s is frozen", t->name);
	list_append(&m->d->warm_queue, &m->queue);
	deadline_set(&m->warm_timer, WAIT_MS);
}

static void boot_for(struct machine *m, const struct machine *t, const char *why)
{
	char *text = str_printf("%s: %s", t != NULL ? t->name : m->run_cfg->from, why);

	boot(m, text != NULL ? text : why);
	free(text);
}

static bool comes(const struct machine *t)
{
	return machine_active(t) || t->state == MACHINE_BACKOFF;
}

static void consider(struct machine *m)
{
	struct machine *t = machine_find(m->d, m->run_cfg->from);
	json_t *manifest = NULL;
	char *image = NULL;
	struct err err;
	int r;

	if (t == NULL || t->cfg == NULL || !t->cfg->warm) {
		boot_for(m, t, "it is no warm template any more");
		return;
	}
	r = warm_find(t, m->run_cfg, &image, &manifest, &err);
	if (r == 0) {
		use(m, image, manifest);
	} else if (r != -ENOENT && r != -ESTALE) {
		boot_for(m, t, err.msg);
	} else if (comes(t) && t->state == MACHINE_RUNNING && t->warm_note != NULL) {
		boot_for(m, t, t->warm_note);
	} else if (comes(t)) {
		wait_for(m, t);
	} else if (m->warm_asked) {
		boot_for(m, t, t->error.code < 0 ? t->error.msg : err.msg);
	} else {
		m->warm_asked = true;
		if (machine_start(t, m->name, false, NULL, &err) < 0)
			boot_for(m, t, err.msg);
		else
			wait_for(m, t);
	}
}

/* A copy that was made with the machine begins with what it was made from, if that is there. */
static bool own_image(struct machine *m, char **image, json_t **manifest)
{
	json_t *j = NULL;
	struct err err;

	if (m->warm_image == NULL || !is_fresh(m) || snapshot_read(m->warm_image, &j, &err) < 0)
		return false;
	*image = strdup(m->warm_image);
	if (*image != NULL && snapshot_check_config(j, m->run_cfg, &err) == 0 &&
		snapshot_check_files(m->warm_image, j, &err) == 0) {
		*manifest = j;
		return true;
	}
	free(*image);
	json_decref(j);
	return false;
}

static bool has_own_disk(const struct machine *m)
{
	bool for_run = m->run_cfg->ephemeral || m->run_cfg->disk == DISK_RUN;

	return m->warm_image == NULL && m->disk_path != NULL && access(m->disk_path, F_OK) == 0 &&
	       !(for_run && m->disk_stale);
}

void machine_step_warm(struct machine *m)
{
	bool cold = m->warm_cold;
	json_t *manifest = NULL;
	char *image = NULL;
	struct err err;

	m->warm_cold = false;
	m->warm_told = false;
	if (m->run_cfg->warm) {
		machine_start_next(m, machine_warm_prepare(m, &err) < 0 ? &err : NULL);
	} else if (m->load_dir != NULL || has_own_disk(m)) {
		machine_start_next(m, NULL);
	} else if (cold) {
		boot(m, NULL);
	} else if (own_image(m, &image, &manifest)) {
		use(m, image, manifest);
	} else if (m->run_cfg->from != NULL) {
		consider(m);
	} else if (m->warm_image != NULL) {
		boot(m, "what it was made from is not there any more");
	} else {
		machine_start_next(m, NULL);
	}
}

void machine_warm_wake(struct drover *d)
{
	struct list waiting;
	struct machine *m;

	list_init(&waiting);
	list_splice(&waiting, &d->warm_queue);
	while ((m = list_first(&waiting, struct machine, queue)) != NULL) {
		list_remove(&m->queue);
		deadline_cancel(&m->warm_timer);
		consider(m);
	}
}

/* ---- it is told who it is ---- */

static void fail(struct warm_start *w, const struct err *err)
{
	struct machine *m = w->m;

	m->warm_told = true;
	m->error = *err;
	err_wrap(&m->error, "vm %s: the guest was not told who it is", m->name);
	machine_tell(m, "warm-failed", "%s", m->error.msg);
	destroy(w);
	hv_kill(m->hv, SIGKILL);
}

static void told(struct warm_start *w)
{
	struct machine *m = w->m;
	struct err err;

	destroy(w);
	forget_image(m);
	machine_tell(m, "identity", "the guest is %s now", m->name);
	events_emit(m->d->events, "vm", m->name, "identity", NULL);
	if (machine_save(m, &err) < 0)
		log_error("%s", err.msg);
	fault_at("warm", "told", NULL);
	machine_health_reload(m);
	machine_end_op(m, NULL);
	warm_sweep(m->d, false);
}

static bool too_late(const struct warm_start *w)
{
	return clock_mono_ms() - w->begun_ms > AGENT_MS;
}

static void answered(void *arg, const json_t *reply, const struct err *err)
{
	struct warm_start *w = arg;
	struct err mine;

	if (err != NULL && too_late(w)) {
		fail(w, err);
	} else if (err != NULL || !json_flag(reply, "exited", false)) {
		deadline_set(&w->m->warm_timer, ASK_MS);
	} else if (json_int(reply, "exitcode", -1) != 0) {
		err_set(&mine, -EIO, "its script ended with status %lld",
			(long long)json_int(reply, "exitcode", -1));
		fail(w, &mine);
	} else {
		told(w);
	}
}

static void ask(struct warm_start *w)
{
	json_t *cmd = json_pack(
		"{s:s,s:{s:I}}", "execute", "guest-exec-status", "arguments", "pid", w->pid);

	hv_agent(w->m->hv, cmd, 0, answered, w);
	json_decref(cmd);
}

static void executed(void *arg, const json_t *reply, const struct err *err)
{
	struct warm_start *w = arg;

	if (err != NULL) {
		fail(w, err);
		return;
	}
	w->pid = json_int(reply, "pid", 0);
	ask(w);
}

/* The guest's random numbers are those of every machine that began with this image. */
static void add_seed(char *out, size_t cap)
{
	unsigned char b[32] = { 0 };

	if (getrandom(b, sizeof(b), 0) < 0)
		b[0] = 1;
	for (size_t i = 0; i < sizeof(b) && 2 * i + 2 < cap; i++)
		snprintf(out + 2 * i, 3, "%02x", b[i]);
}

/* The name and the MACs that the guest has, of the image; those that it is to have. */
static int make_script(struct machine *m, struct buf *out, struct err *err)
{
	struct guest_nic nics[NICS_MAX];
	json_t *manifest = NULL, *own = NULL;
	const json_t *macs;
	char seed[65] = "", *hostname = NULL;
	const char *given = m->run_cfg->hostname != NULL ? m->run_cfg->hostname : m->name;
	struct guest_identity id = { .nics = nics, .seed = seed };
	int r = snapshot_read(m->warm_image, &manifest, err);

	if (r == 0)
		r = machine_identity_read(m->dir, &own, err);
	if (r == 0)
		r = machine_expand(m, given, &hostname, err);
	if (r == 0) {
		const char *was = json_str(json_obj(manifest, "config"), "hostname");

		macs = json_arr(manifest, "macs");
		for (; id.nnics < m->nnics && id.nnics < json_array_size(macs); id.nnics++) {
			nics[id.nnics].was = json_string_value(json_array_get(macs, id.nnics));
			nics[id.nnics].is = m->nics[id.nnics].mac;
		}
		add_seed(seed, sizeof(seed));
		id.hostname = hostname;
		id.old_hostname = was != NULL && was[0] != '\0' ? was : json_str(manifest, "vm");
		id.machine_id = json_str(own, "machine_id");
		id.host_keys = json_arr(own, "host_keys");
		id.now_s = clock_unix_ms() / 1000;
		guest_identity_script(&id, out);
		r = out->bad ? err_nomem(err) : 0;
	}
	free(hostname);
	json_decref(manifest);
	json_decref(own);
	return r;
}

static void tell(struct machine *m)
{
	struct warm_start *w = begin(m);
	struct buf script = { 0 };
	json_t *cmd = NULL;
	struct err err;
	int r;

	if (w == NULL)
		return; /* it stays as it is, and its network closed */
	w->telling = true;
	r = fault_at("warm", "tell", &err);
	if (r == 0)
		r = make_script(m, &script, &err);
	if (r == 0 && (cmd = guest_exec_command(buf_str(&script), script.len)) == NULL)
		r = err_nomem(&err);
	buf_finish(&script);
	operation_step(m->op, "telling the guest who it is");
	if (r == 0)
		hv_agent(m->hv, cmd, AGENT_MS, executed, w);
	else
		fail(w, &err);
	json_decref(cmd);
}

void machine_warm_loaded(struct machine *m)
{
	tell(m);
}

void machine_warm_adopted(struct machine *m)
{
	if (m->warm == NULL && m->process)
		tell(m);
}

bool machine_warm_settle(struct machine *m)
{
	bool wanted = m->intent == INTENT_NONE && m->cfg != NULL && !m->d->stopping &&
		      !m->cancelled;

	if (!m->warm_load || m->warm_image == NULL || m->error.code >= 0 || !wanted)
		return false;
	m->warm_cold = true;
	/* Nobody else is to try it; but a start that failed before says nothing about it. */
	if (m->warm_tried && !m->warm_told)
		warm_drop(m->d, m->warm_image);
	set_note(m, m->error.msg);
	json_decref(m->story);
	m->story = NULL;
	machine_tell(m, "cold-start", "it boots: %s", m->warm_note != NULL ? m->warm_note : "");
	log_msg(LOG_LVL_WARN, m->name, "it boots instead of starting warm: %s",
		m->warm_note != NULL ? m->warm_note : "");
	machine_event(m, EV_AGAIN);
	return true;
}

/* ---- time, and the end ---- */

void machine_warm_timer(void *arg)
{
	struct machine *m = arg;

	if (m->warm != NULL && m->warm->telling) {
		ask(m->warm);
	} else if (!list_empty(&m->queue) && m->state == MACHINE_PREPARING) {
		list_remove(&m->queue);
		boot_for(m, NULL, "it was not frozen in time");
	} else {
		machine_warm_ready(m);
	}
}

void machine_warm_cancel(struct machine *m)
{
	atomic_store(&m->warm->cancelled, true);
}

void machine_warm_lost(struct machine *m)
{
	struct warm_start *w = m->warm;

	deadline_cancel(&m->warm_timer);
	if (w == NULL || !w->telling)
		return;
	if (m->hv != NULL)
		hv_agent_forget(m->hv, w);
	destroy(w);
}

unsigned machine_warm_release(struct machine *m)
{
	struct warm_start *w = m->warm;

	if (w == NULL)
		return 0;
	atomic_store(&w->cancelled, true);
	if (w->in_flight)
		return 1;
	destroy(w);
	return 0;
}
