/* supervisor/daemon-signals.c - what the signals ask for; re-execution in place. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/daemon.h"
#include "supervisor/machine.h"
#include "supervisor/notify.h"
#include "supervisor/reload.h"
#include "supervisor/server.h"
#include "supervisor/upgrade.h"

/* For what was asked and not yet answered when we re-execute: not for what clients follow. */
#define DRAIN_MS 2000

/* Re-execution */

static void answered(void *arg)
{
	struct daemon *dm = arg;

	if (dm->reexec)
		daemon_leave(dm);
}

static void refused(struct daemon *dm, const struct child_result *res, const struct err *err)
{
	json_t *more = json_object();
	char *text = res != NULL ? strdup(res->errout) : NULL;

	for (char *save = NULL, *line = text != NULL ? strtok_r(text, "\n", &save) : NULL;
		line != NULL; line = strtok_r(NULL, "\n", &save))
		log_error("%s", line);
	free(text);
	log_error("re-exec: %s; this droverd goes on", err->msg);
	json_put_str(more, "reason", err->msg);
	events_emit(dm->d.events, "drover", NULL, "re-exec-refused", more);
}

static void checked(void *arg, const struct child_result *res, const struct err *err)
{
	struct daemon *dm = arg;

	dm->check = NULL;
	if (dm->leaving || dm->d.stopping)
		return;
	if (err != NULL) {
		refused(dm, res, err);
		return;
	}
	log_info("re-executing %s", dm->self);
	dm->reexec = true;
	notify_reloading();
	/* Who connects from now on is answered by the new program. */
	server_quiesce(dm->server, DRAIN_MS, answered, dm);
}

static void reexecute(struct daemon *dm)
{
	struct err err;

	if (!dm->ready || dm->check != NULL || dm->reexec || dm->d.stopping) {
		log_info("re-exec: ignoring the signal: %s",
			!dm->ready ? "droverd is starting"
				   : "it is under way, or droverd is leaving");
		return;
	}
	if (dm->self == NULL)
		err_set(&err, -ENOENT, "droverd is not where it was started from");
	else if (upgrade_check(&dm->check, dm->d.loop, dm->self, dm->argv, checked, dm, &err) == 0)
		return;
	refused(dm, NULL, &err);
}

/* Signals */

void daemon_reload(struct drover *d)
{
	struct config_errors errors = { 0 };
	struct buf text = { 0 };
	struct plan p = { 0 };
	struct err err;

	log_reopen();
	daemon_look_after(d);
	notify_reloading();
	if (drover_reload(d, &p, &errors, &err) < 0) {
		config_errors_print(&errors, &text);
		for (char *save = NULL, *line = strtok_r(text.data, "\n", &save); line != NULL;
			line = strtok_r(NULL, "\n", &save))
			log_error("%s", line);
		log_error("reload: %s; nothing was changed", err.msg);
	}
	plan_finish(&p);
	config_errors_finish(&errors);
	buf_finish(&text);
	notify_ready(d);
}

static void log_state(struct drover *d)
{
	struct machine *m;

	list_for_each_entry (m, &d->machines, entry) {
		json_t *j = machine_summary(m);
		char *text = json_text(j);

		log_msg(LOG_LVL_INFO, m->name, "%s", text != NULL ? text : "no memory");
		free(text);
		json_decref(j);
	}
}

static void on_signal(uv_signal_t *handle, int sig)
{
	struct daemon *dm = handle->data;
	struct drover *d = &dm->d;

	switch (sig) {
	case SIGHUP:
		if (dm->ready)
			daemon_reload(d);
		else
			dm->reload_wanted = true;
		break;
	case SIGUSR1:
		log_state(d);
		turns_report(&dm->turns);
		break;
	case SIGUSR2:
		reexecute(dm);
		break;
	default:
		dm->reexec = false; /* if it was on its way */
		notify_stopping();
		/* The second one does not wait any more: the machines run on. */
		if (drover_config(d)->drover->on_exit == ON_EXIT_STOP && !d->stopping) {
			log_info(
				"stopping the machines (on_exit = stop); a second signal leaves at once");
			daemon_stop_all(dm);
		} else {
			log_info("leaving; the machines run on");
			daemon_leave(dm);
		}
		break;
	}
}

void daemon_signals(struct daemon *dm)
{
	static const int sigs[] = { SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2 };

	turns_init(&dm->turns, dm->d.loop);
	for (size_t i = 0; i < ARRAY_LEN(dm->signals); i++) {
		uv_signal_init(dm->d.loop, &dm->signals[i]);
		dm->signals[i].data = dm;
		uv_signal_start(&dm->signals[i], on_signal, sigs[i]);
	}
	upgrade_block_signals(false);
}
