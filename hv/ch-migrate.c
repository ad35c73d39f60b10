/*
 * hv/ch-migrate.c - a running guest to another cloud-hypervisor, and from one.
 *
 * It migrates in one go: the receiver lets the guest run when it reads Complete, and the sender lets
 * it run on when its stream ends before Complete was answered (vmm/src/lib.rs, vm_send_migration(),
 * v50.0 and v51.2; check_migration(), v53.0). Between a Complete that arrives and an answer that does
 * not both would run. So:
 *
 * - Complete is held back by both daemons (hv/ch-relay.h). Its being there says that the guest stands
 *   still at the sender and that the receiver has loaded everything.
 * - The sender's process is stopped then, all its threads (hv/ch-freeze.c), before its
 *   daemon sends Complete on and says that the guest has gone. A process that stands still lets no
 *   guest run, whatever its stream comes to and whoever dies; SIGKILL ends it, and SIGCONT, when the
 *   guest is to stay, lets it find the end of its stream. It and its jail are a session of their own,
 *   so that no orphaned process group of somebody's gets a SIGCONT from the kernel.
 * - The receiver's daemon says that the guest has arrived when Complete has come to it, and
 *   hv_resume() is that Complete. One that died before that leaves a hypervisor that read the end of
 *   its stream, with the guest paused in it: vm.resume does then (vmm/src/lib.rs,
 *   vm_receive_migration(): the error leaves self.vm alone).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/ch.h"
#include "hv/ch-relay.h"
#include "hv/json-scan.h"
#include "lib/file.h"
#include "lib/json.h"

/* As in ch-job.c. */
#define JOB_MS (60 * 60 * 1000)
/* From this version on send-migration answers when the migration has begun. */
#define ASYNC_SEND 53

#define FREEZE_EACH_MS 1
#define FREEZE_MS      5000
#define SETTLE_EACH_MS 20
/* From here on a sender that has not said how it ended is asked what it does. */
#define SETTLE_MS 1000

enum stage {
	MOVING,   /* the guest is under way */
	FREEZING, /* the sender is being stopped */
	GOING,    /* Complete goes on, to the other daemon or to the receiver */
	THERE, /* the caller was told: the sender stands still, or the guest waits at the receiver */
	SETTLING, /* the sender is to go on with its guest */
	OVER,     /* nobody waits for anything any more */
};

struct ch_migration {
	struct ch *c; /* NULL: let go of */
	enum stage stage;
	bool incoming;
	bool pending; /* the API owes an answer */
	bool ended;   /* the sender has said that it is over */
	bool asking, resumed;
	struct ch_relay *relay;
	struct deadline timer;
	uint64_t until_ms;
	struct err err; /* why it is over; code 0: for no reason of ours */
	hv_progress_fn *progress;
	hv_done_fn *done,
		*resume; /* of the migration, and of hv_resume(); NULL: told, or not asked */
	void *arg, *resume_arg;
	unsigned handles;
};

/* ---- the object ---- */

static void part_closed(void *arg)
{
	struct ch_migration *m = arg;
	struct ch *c = m->c;

	if (--m->handles > 0)
		return;
	free(m);
	ch_part_closed(c);
}

static void relay_drop(struct ch_migration *m)
{
	struct ch_relay *relay = m->relay;

	m->relay = NULL;
	if (relay != NULL)
		ch_relay_destroy(relay, part_closed, m);
}

static void release(struct ch_migration *m)
{
	struct ch *c = m->c;

	if (c->migration == m)
		c->migration = NULL;
	relay_drop(m);
	deadline_close(&m->timer, part_closed);
}

/* The two who may wait; either may let go of all. */
static void tell(struct ch_migration *m, const struct err *err)
{
	hv_done_fn *done = m->done;

	m->done = NULL;
	if (done != NULL)
		done(m->arg, err);
}

static void tell_resume(struct ch_migration *m, const struct err *err)
{
	hv_done_fn *done = m->resume;

	m->resume = NULL;
	if (done != NULL)
		done(m->resume_arg, err);
}

/* Nothing is to be done any more but to wait for the API, which is in the way of others until then. */
static void over(struct ch_migration *m)
{
	m->stage = OVER;
	deadline_cancel(&m->timer);
	relay_drop(m);
	if (!m->pending && !m->asking)
		release(m);
}

static bool is_lost(const struct ch_migration *m)
{
	return m->c->phase == CH_CLOSING || m->c->migration != m;
}

bool ch_migrates(const struct ch *c)
{
	return c->migration != NULL && !c->migration->incoming && c->migration->stage != OVER;
}

bool ch_migrating(const struct ch *c)
{
	return c->migration != NULL;
}

/* ---- the sender goes on ---- */

static void settle(struct ch_migration *m);

static void settled(struct ch_migration *m)
{
	struct err err = m->err;
	struct ch *c = m->c;

	m->stage = OVER;
	ch_set_status(c, HV_STATUS_RUNNING, true, NULL, "running");
	if (!is_lost(m))
		tell(m, err.code != 0 ? &err : NULL);
	if (!is_lost(m))
		tell_resume(m, NULL);
	if (!is_lost(m))
		over(m);
}

static void info(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_migration *m = arg;
	json_t *j = NULL;
	bool running, paused;

	m->asking = false;
	if (m->stage == OVER)
		over(m);
	if (m->stage != SETTLING)
		return;
	if (err == NULL && json_parse(a->text, a->len, &j, NULL) < 0)
		j = NULL;
	running = str_eq(json_str(j, "state"), "Running");
	paused = str_eq(json_str(j, "state"), "Paused");
	json_decref(j);
	if (running) {
		settled(m);
		return;
	}
	/* It lets its guest go on by itself, unless something else has failed, too. */
	m->resumed = !paused;
	deadline_set(&m->timer, SETTLE_EACH_MS);
}

static void tried(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_migration *m = arg;

	m->asking = false;
	if (m->stage == OVER)
		over(m);
	else
		settle(m);
}

static void settle(struct ch_migration *m)
{
	struct ch *c = m->c;
	bool try = !m->resumed && m->ended;
	struct ch_request r = { .method = try ? "PUT" : "GET",
		.path = try ? "/vm.resume" : "/vm.info",
		.done = try ? tried : info,
		.arg = m };

	if (m->asking || m->stage != SETTLING || c->api == NULL)
		return;
	/* Until it has said so v53 tells what it was before. */
	if (!m->ended && (m->pending || uv_now(c->hv.loop) < m->until_ms)) {
		deadline_set(&m->timer, SETTLE_EACH_MS);
		return;
	}
	m->ended = true;
	m->asking = true;
	m->resumed = true;
	ch_api_send(c->api, &r);
}

static void keep(struct ch_migration *m)
{
	struct ch *c = m->c;

	m->stage = SETTLING;
	m->resumed = true;
	m->until_ms = uv_now(c->hv.loop) + SETTLE_MS;
	/* Its events are of our doing. */
	c->intents.runs = true;
	c->intents.resume++;
	/* In this order: it never runs while its stream could still end otherwise. */
	relay_drop(m);
	if (c->frozen)
		ch_thaw(c);
	deadline_set(&c->settle, SETTLE_MS + CH_SETTLE_MS);
	settle(m);
}

/* ---- its ends ---- */

static void fail(struct ch_migration *m, const struct err *err)
{
	struct err mine = *err;

	if (m->stage >= THERE)
		return;
	if (!m->incoming) {
		if (m->err.code == 0)
			m->err = mine;
		keep(m);
		return;
	}
	hv_add_last_words(m->c->log_path, m->c->log_offset, &mine);
	m->stage = OVER;
	relay_drop(m);
	tell(m, &mine);
	if (!is_lost(m))
		over(m);
}

/* The receiver could not let the guest run, and has let go of it. */
static void lost_here(struct ch_migration *m, const struct err *err)
{
	struct ch *c = m->c;

	if (c->process != NULL)
		process_signal(c->process, SIGKILL);
	m->stage = OVER;
	tell_resume(m, err);
	if (!is_lost(m))
		over(m);
}

void ch_end_migration(struct ch *c, const struct err *err)
{
	struct ch_migration *m = c->migration;
	struct err mine;

	if (m == NULL)
		return;
	m->pending = m->asking = false;
	c->migration = NULL;
	if (err == NULL) {
		m->done = m->resume = NULL;
	} else if (!m->incoming) {
		err_set(&mine, -EUNATCH, "the migration's end is not known: %s", err->msg);
		err = &mine;
	}
	relay_drop(m);
	if (m->done != NULL)
		tell(m, err);
	if (m->resume != NULL && c->phase != CH_CLOSING)
		tell_resume(m, err);
	release(m);
}

/* ---- the API ---- */

static void runs_here(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_migration *m = arg;
	struct ch *c = m->c;

	m->asking = false;
	ch_set_status(c, HV_STATUS_RUNNING, true, NULL, "running");
	if (!is_lost(m))
		tell_resume(m, NULL);
	if (!is_lost(m))
		over(m);
}

/* Complete was obeyed, and the API answers again. */
static void ask_here(struct ch_migration *m)
{
	struct ch_request r = { .method = "GET", .path = "/vm.info", .done = runs_here, .arg = m };

	m->asking = true;
	ch_api_send(m->c->api, &r);
}

static void answered(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch_migration *m = arg;

	m->pending = false;
	if (m->stage == OVER) {
		over(m);
	} else if (m->stage == SETTLING) {
		m->ended = m->ended || err != NULL || m->c->major < ASYNC_SEND;
		settle(m);
	} else if (err != NULL && (m->stage < THERE || !m->incoming)) {
		m->ended = true;
		fail(m, err);
	} else if (m->incoming && m->stage == THERE && m->relay == NULL) {
		ask_here(m);
	}
}

void ch_migration_event(struct ch *c, const char *name)
{
	struct ch_migration *m = c->migration;
	struct err err;

	if (m == NULL || m->incoming || strcmp(name, "migration-failed") != 0)
		return;
	m->ended = true;
	if (m->stage == SETTLING) {
		settle(m);
		return;
	}
	err_set(&err, -EIO, "the migration failed; the hypervisor's log says why");
	hv_add_last_words(c->log_path, c->log_offset, &err);
	fail(m, &err);
}

/* ---- the stream ---- */

static void moved(void *arg, uint64_t done, uint64_t total)
{
	struct ch_migration *m = arg;
	const struct hv_progress p = { .done = done, .total = total, .step = "memory" };

	if (m->progress != NULL && m->stage == MOVING)
		m->progress(m->arg, &p);
}

/*
 * What the sender says of its files is true at the sender. Beside vm_config there is the state of its
 * memory, with numbers that jansson cannot hold: not a byte of that is touched.
 */
static char *own_config(void *arg, const char *text, size_t len, struct err *err)
{
	struct ch_migration *m = arg;
	struct json_member at;
	struct buf out = { 0 };
	json_t *theirs = NULL;
	char *mine = NULL;

	if (!json_find(text, len, "vm_config", &at)) {
		err_set(err, -EBADMSG, "it has no vm_config");
		return NULL;
	}
	if (json_parse(text + at.value, at.end - at.value, &theirs, err) < 0)
		return NULL;
	if (ch_restore_config(theirs, m->c->own) < 0 || (mine = json_text(theirs)) == NULL)
		out.bad = true;
	else
		json_splice(&out, text, len, "vm_config", mine);
	json_decref(theirs);
	free(mine);
	mine = buf_steal(&out);
	if (mine == NULL)
		err_nomem(err);
	return mine;
}

static void arrived(struct ch_migration *m)
{
	struct ch *c = m->c;

	m->stage = THERE;
	c->incoming = false;
	/* It was made with the configuration (vmm/src/lib.rs, vm_receive_config). */
	ch_dial_console(c);
	ch_set_status(c, HV_STATUS_PAUSED, true, NULL, "arrived");
	if (!is_lost(m))
		tell(m, NULL);
}

static void freezing(void *arg)
{
	struct ch_migration *m = arg;
	struct ch *c = m->c;
	struct err err;

	if (m->stage == SETTLING) {
		settle(m);
		return;
	}
	if (m->stage != FREEZING)
		return;
	if (ch_all_stopped(c->hv.process.pid)) {
		ch_hold(c);
		m->stage = GOING;
		ch_relay_release(m->relay);
	} else if (uv_now(c->hv.loop) < m->until_ms) {
		deadline_set(&m->timer, FREEZE_EACH_MS);
	} else {
		err_set(&err, -ETIMEDOUT, "the hypervisor cannot be stopped: a thread of it waits");
		fail(m, &err);
	}
}

static void held(void *arg)
{
	struct ch_migration *m = arg;
	struct err err;

	if (m->incoming) {
		arrived(m);
		return;
	}
	m->stage = FREEZING;
	m->until_ms = uv_now(m->c->hv.loop) + FREEZE_MS;
	if (ch_freeze(m->c, &err) < 0)
		fail(m, &err);
	else
		freezing(m);
}

static void stream_done(void *arg, const struct err *err)
{
	struct ch_migration *m = arg;
	struct ch *c = m->c;

	if (err != NULL && m->incoming && m->stage == THERE) {
		lost_here(m, err);
	} else if (err != NULL) {
		fail(m, err);
	} else if (m->incoming) {
		relay_drop(m);
		if (!m->pending)
			ask_here(m);
	} else {
		m->stage = THERE;
		c->hv.unresponsive = false;
		ch_set_status(c, HV_STATUS_PAUSED, true, NULL, "given");
		if (!is_lost(m))
			tell(m, NULL);
	}
}

/* ---- starting one ---- */

static int check(const struct ch *c, const struct hv_migration *to, bool incoming, struct err *err)
{
	enum hv_status want = incoming ? HV_STATUS_INCOMING : HV_STATUS_RUNNING;

	if (c->api == NULL || c->phase != CH_UP)
		return err_set(err, -ESRCH, "the hypervisor is gone");
	if (c->job != NULL || c->migration != NULL)
		return err_set(err, -EBUSY, "a snapshot, dump or migration is under way");
	if (to->fd < 0)
		return err_set(
			err, -ENOTSUP, "%s migrates over a connected socket only", c->hv.program);
	if (to->ndisks > 0)
		return err_set(err, -ENOTSUP, "%s cannot copy disks", c->hv.program);
	if (c->hv.status != want)
		return err_set(err, -EBUSY, "the guest is %s, not %s", hv_status_name(c->hv.status),
			hv_status_name(want));
	return 0;
}

static struct ch_migration *create(struct ch *c, bool incoming)
{
	struct ch_migration *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return NULL;
	m->c = c;
	m->incoming = incoming;
	m->handles = 1;
	deadline_init(&m->timer, c->hv.loop, freezing, m);
	c->handles++;
	c->migration = m;
	return m;
}

static int open_relay(struct ch_migration *m, const struct hv_migration *to, struct err *err)
{
	struct ch *c = m->c;
	struct ch_relay_opts o = { .fd = fcntl(to->fd, F_DUPFD_CLOEXEC, 10),
		.path = c->stream_path,
		.receiving = m->incoming,
		.max_bytes = m->incoming ? 0 : to->max_bandwidth,
		.config = m->incoming && c->own != NULL ? own_config : NULL,
		.progress = moved,
		.held = held,
		.done = stream_done,
		.arg = m };
	int r = o.fd < 0 ? err_errno(err, -errno, "the migration's descriptor") : 0;

	if (r == 0)
		r = ch_relay_create(&m->relay, c->hv.loop, &o, err);
	if (r < 0 && o.fd >= 0)
		close(o.fd);
	m->handles += r == 0;
	return r;
}

static void call(struct ch_migration *m, const char *path, json_t *body)
{
	struct ch_request r = { .method = "PUT",
		.path = path,
		.body = body,
		.timeout_ms = m->incoming ? UINT64_MAX : JOB_MS,
		.slow = true,
		.done = answered,
		.arg = m };

	m->pending = true;
	ch_api_send(m->c->api, &r);
}

static json_t *body_of(const struct ch_migration *m, const struct hv_migration *to)
{
	char *url = str_printf("unix:%s", m->c->stream_path);
	json_t *body = NULL;

	if (url != NULL)
		body = json_pack("{s:s}", m->incoming ? "receiver_url" : "destination_url", url);
	free(url);
	if (body != NULL && to->max_downtime_ms > 0 && !m->incoming && m->c->major >= ASYNC_SEND)
		json_put_int(body, "downtime_ms", (int64_t)to->max_downtime_ms);
	return body;
}

static void migrate(struct ch *c, bool incoming, const struct hv_migration *to,
	hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };
	struct ch_migration *m = NULL;
	json_t *body = NULL;
	struct err err;
	int r = check(c, to, incoming, &err);

	if (r == 0 && ((m = create(c, incoming)) == NULL || (body = body_of(m, to)) == NULL))
		r = err_nomem(&err);
	if (r == 0)
		r = open_relay(m, to, &err);
	if (r < 0) {
		if (m != NULL)
			release(m);
		json_decref(body);
		ch_op_later(c, &err, &op);
		return;
	}
	m->progress = progress;
	m->done = done;
	m->arg = arg;
	/* Its console is made where the configuration says. */
	if (incoming)
		unlink(c->serial_path);
	call(m, incoming ? "/vm.receive-migration" : "/vm.send-migration", body);
	json_decref(body);
}

void ch_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg)
{
	migrate(ch_of(hv), false, to, progress, done, arg);
}

void ch_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg)
{
	migrate(ch_of(hv), true, from, NULL, done, arg);
}

bool ch_migrate_cancel(struct ch *c)
{
	struct ch_migration *m = c->migration;
	struct err err;

	if (m == NULL)
		return false;
	err_set(&err, -ECANCELED, "it was cancelled");
	/* What is on its way with the guest standing still is not stopped: it is what it becomes. */
	if (m->stage < GOING)
		fail(m, &err);
	return true;
}

/* ---- hv_resume() ---- */

static bool go_on_here(struct ch *c)
{
	struct ch_migration *m = c->migration;

	c->intents.runs = true;
	c->intents.resume++;
	deadline_set(&c->settle, CH_SETTLE_MS);
	ch_relay_release(m->relay);
	return true;
}

bool ch_migrate_resume(struct ch *c, hv_done_fn *done, void *arg)
{
	struct ch_migration *m = c->migration;
	struct ch_op op = { .done = done, .arg = arg };
	struct err err;

	/* An earlier daemon has stopped it. */
	if (m == NULL && c->frozen && ch_alive(c)) {
		m = create(c, false);
		if (m != NULL)
			m->stage = THERE;
	}
	if (m == NULL && c->frozen)
		err_nomem(&err);
	else if (m == NULL || m->stage == OVER)
		return false;
	else if (m->resume != NULL || m->stage < THERE)
		err_set(&err, -EBUSY, "it migrates");
	else
		err.code = 0;
	if (err.code != 0) {
		ch_op_later(c, &err, &op);
		return true;
	}
	m->resume = done;
	m->resume_arg = arg;
	if (m->incoming)
		return go_on_here(c);
	if (m->stage == THERE)
		keep(m);
	return true;
}

bool ch_migrate_quit(struct ch *c)
{
	struct ch_migration *m = c->migration;

	if (!c->frozen && (m == NULL || !m->incoming || m->stage == OVER))
		return false;
	c->intents.quit = true;
	if (c->process != NULL)
		process_signal(c->process, SIGKILL);
	if (c->frozen)
		ch_let_end(c);
	return true;
}
