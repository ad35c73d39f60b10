/* A machine's state file: when and how it is written, and what waits for it (supervisor/machine.h). */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/faults.h"
#include "supervisor/machine.h"
#include "supervisor/migrate.h"

#define STATE_FILE   "state.json"
#define STATE_SYNCED "state.json.synced" /* an earlier one, which is on the disk for sure */
#define STATE_SPARE  "state.json.spare"  /* the one before, to be written over */
#define STATE_TMP    "state.json.tmp."   /* and six letters: left by an older version */

#define AGAIN_MS 1000 /* until one that could not be written is tried again */
/*
 * Nobody waits for the fsync of what is only written: our own crash loses nothing of it, and a
 * start alone writes three of them. They share one. When the host crashes, the last state that was
 * synced counts, so no more than this is lost of it.
 */
#define SYNC_DELAY_MS 1000
/* Of a write that nobody waits for: pauses and resumes in a row share it. */
#define LATER_MS 100

static void end_op_now(struct machine *m)
{
	struct operation *op = m->op;
	struct err err = m->op_error;

	/* What it did is done, but it must not promise that it lasts. */
	if (err.code == 0 && m->sync_error < 0)
		err_set(&err, m->sync_error,
			"vm %s: %s is done, but a crash of the host may lose it: its state file "
			"could not be written out: %s",
			m->name, operation_verb(op), strerror(-m->sync_error));
	m->op = NULL;
	m->op_ending = false;
	operation_end(op, err.code < 0 ? &err : NULL);
	if (m->d->unconverged)
		deadline_set(&m->d->converge, 0);
}

/* Whether what an operation's end promises is not on disk yet. */
static bool unsettled(const struct machine *m)
{
	return m->unsaved || m->save == SAVE_PROMISED || m->syncing == SAVE_PROMISED;
}

/* Another fsync may say that all is well where pages were dropped: it is to be written again. */
static void sync_failed(struct machine *m, enum save how, int code)
{
	if (how == SAVE_PROMISED)
		m->sync_error = code;
	m->save_failed = true;
	if (m->closing == 0)
		deadline_set(&m->save_timer, AGAIN_MS);
}

static void synced(void *arg, const struct err *err)
{
	struct machine *m = arg;
	enum save how = m->syncing;

	m->syncing = SAVE_NOTHING;
	if (err != NULL) {
		log_msg(LOG_LVL_WARN, m->name, "%s (trying again)", err->msg);
		sync_failed(m, how, err->code);
	} else {
		m->sync_error = 0;
	}
	if (m->closing > 0)
		machine_closed(m);
	else
		machine_save_turn(m);
}

static void sync_state(struct machine *m)
{
	char *path, *keep;
	int r;

	if (m->syncing != SAVE_NOTHING)
		return; /* synced() comes here again */
	path = path_join(m->dir, STATE_FILE);
	keep = path_join(m->dir, STATE_SYNCED);
	r = path == NULL || keep == NULL ? -ENOMEM
					 : file_sync_async(m->d->loop, path, keep, synced, m);
	if (r < 0)
		sync_failed(m, m->save, r);
	else
		m->syncing = m->save;
	m->save = SAVE_NOTHING;
	free(path);
	free(keep);
}

void machine_end_op(struct machine *m, const struct err *err)
{
	if (m->op == NULL || m->op_ending)
		return;
	m->op_error.code = 0;
	if (err != NULL)
		m->op_error = *err;
	if (unsettled(m))
		m->op_ending = true;
	else
		end_op_now(m);
}

/*
 * Safe against our own crash now. Against the host's it is when the fsync has come back; until then
 * the last one that is lies beside it. The folder is there but for the first time: only a failure
 * makes it worth a look.
 */
static int write_state(struct machine *m, const char *text, struct err *err)
{
	char *path = path_join(m->dir, STATE_FILE), *spare = path_join(m->dir, STATE_SPARE);
	/* The thread that syncs may have any of them open, and is about to keep it. */
	bool reuse = m->syncing == SAVE_NOTHING;
	int r = path == NULL || spare == NULL ? err_nomem(err) : 0;

	if (r == 0)
		r = file_swap(path, spare, reuse, text, strlen(text), 0600, err);
	if (r == -ENOENT) {
		r = mkdir_p(m->dir, 0700, err);
		if (r == 0)
			r = file_swap(path, spare, reuse, text, strlen(text), 0600, err);
	}
	free(path);
	free(spare);
	return r;
}

static int save(struct machine *m, enum save how, struct err *err)
{
	json_t *j;
	char *text;
	int r;

	m->saves++;
	j = machine_state_json(m);
	text = json_text(j);

	json_decref(j);
	m->unsaved = m->outdated = m->save_failed = false;
	r = text == NULL ? err_nomem(err) : 0;
	/* The first that names the process: without it the next daemon would take it for a stray. */
	if (r == 0 && m->process && m->state == MACHINE_STARTING)
		r = fault_at("run", "record", err);
	if (r == 0)
		r = write_state(m, text, err);
	if (r == 0) {
		if (m->save == SAVE_NOTHING)
			m->sync_due_ms = clock_mono_ms() + SYNC_DELAY_MS;
		m->save = MAX(m->save, how);
		deadline_set(&m->save_timer, 0);
	} else {
		/* Nobody waits for it: whoever does learns of the failure now. */
		m->save_failed = true;
		deadline_set(&m->save_timer, AGAIN_MS);
	}
	free(text);
	return r < 0 ? err_wrap(err, "vm %s: state file", m->name) : 0;
}

int machine_save(struct machine *m, struct err *err)
{
	return save(m, SAVE_PROMISED, err);
}

void machine_flush(struct machine *m)
{
	struct err err;

	if ((m->unsaved || m->outdated) && save(m, SAVE_WRITTEN, &err) < 0)
		log_error("%s", err.msg);
}

void machine_save_turn(void *arg)
{
	struct machine *m = arg;
	uint64_t now;

	m->unsaved = m->unsaved || m->save_failed;
	machine_flush(m);
	now = clock_mono_ms();
	if (m->save == SAVE_PROMISED || (m->save == SAVE_WRITTEN && now >= m->sync_due_ms))
		sync_state(m);
	else if (m->save == SAVE_WRITTEN)
		deadline_set(&m->save_timer, m->sync_due_ms - now);
	if (m->op_ending && !unsettled(m))
		end_op_now(m);
	if (!unsettled(m))
		machine_migrate_saved(m);
}

void machine_save_last(struct machine *m)
{
	machine_flush(m);
	m->sync_due_ms = 0;
	machine_save_turn(m);
}

void machine_save_soon(struct machine *m)
{
	m->unsaved = true;
	deadline_set(&m->save_timer, 0);
}

void machine_save_later(struct machine *m)
{
	bool soon = m->unsaved || m->outdated || m->save_failed || m->save == SAVE_PROMISED;

	m->outdated = true;
	/* The timer may be the fsync's, which is farther off. */
	if (!soon)
		deadline_set(&m->save_timer, LATER_MS);
}

/* What a daemon that was killed while it wrote has left. */
static void remove_unfinished(const struct machine *m)
{
	DIR *dir = opendir(m->dir);
	struct dirent *e;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (str_starts(e->d_name, STATE_TMP))
			unlinkat(dirfd(dir), e->d_name, 0);
	}
	if (dir != NULL)
		closedir(dir);
}

/* Whoever lacks "state" lacks the boot, too, and would be taken for one of before a reboot. */
static int read_state(const char *path, json_t **out, struct err *err)
{
	json_t *j = NULL;
	int r = json_read_file(path, &j, err);

	if (r < 0)
		return r;
	if (json_str(j, "state") == NULL) {
		json_decref(j);
		return err_set(err, -EINVAL, "%s is not the state of a machine", quote(path));
	}
	*out = j;
	return 0;
}

/*
 * Of two the one that was written later. Without a crash of the host that is state.json, always. But
 * a crash may leave its name with a text from before the synced one, if that is what stood in the
 * spare that was written over: the name was on the disk, its new text was not.
 */
static void take_later(const struct machine *m, const char *synced, json_t **out)
{
	json_t *other = NULL;

	if (read_state(synced, &other, NULL) < 0)
		return;
	if (json_int(other, "saves", 0) > json_int(*out, "saves", 0)) {
		log_msg(LOG_LVL_WARN, m->name,
			"state file: older than the one that was synced; "
			"taking that");
		json_decref(*out);
		*out = other;
		return;
	}
	json_decref(other);
}

int machine_read_file(const struct machine *m, json_t **out, struct err *err)
{
	char *path = path_join(m->dir, STATE_FILE), *synced = path_join(m->dir, STATE_SYNCED);
	int r;

	remove_unfinished(m);
	if (path == NULL || synced == NULL) {
		r = err_nomem(err);
	} else {
		r = read_state(path, out, err);
		/* The host may have crashed before the file was on its disk. */
		if (r < 0 && read_state(synced, out, NULL) == 0) {
			log_msg(LOG_LVL_WARN, m->name, "state file: %s; taking the one before it",
				err->msg);
			r = 0;
		} else if (r == 0) {
			take_later(m, synced, out);
		}
	}
	free(path);
	free(synced);
	return r;
}
