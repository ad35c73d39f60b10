/* supervisor/daemon-leave.c - how droverd ends: what on_exit asks for, then one part after another. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "hv/qemu-probe.h"
#include "lib/log.h"
#include "supervisor/daemon.h"
#include "supervisor/image-job.h"
#include "supervisor/image-prune.h"
#include "supervisor/machine.h"
#include "supervisor/network.h"
#include "supervisor/notify.h"
#include "supervisor/pulse.h"
#include "supervisor/reconcile.h"
#include "supervisor/network-bridge.h"
#include "supervisor/network-seen.h"
#include "supervisor/registry.h"
#include "supervisor/server.h"
#include "supervisor/upgrade.h"

static void server_closed(void *arg)
{
	struct daemon *dm = arg;
	struct drover *d = &dm->d;

	d->leaving = true;
	if (dm->reexec)
		upgrade_block_signals(true);
	notify_close();
	reconcile_destroy(d->reconciler);
	d->reconciler = NULL;
	pulse_destroy(d->pulse);
	d->pulse = NULL;
	image_pruner_destroy(d->pruner);
	d->pruner = NULL;
	machines_release(d);
	qemu_prober_destroy(d->prober);
	d->prober = NULL;
	registries_release(d);
	bridges_release(d);
	http_client_destroy(d->http, NULL, NULL);
	firewall_destroy(d->firewall, NULL, NULL);
	network_seen_release(d);
	link_deleter_destroy(d->linkdel, NULL, NULL);
	deadline_close(&d->converge, NULL);
	for (size_t i = 0; i < ARRAY_LEN(dm->signals); i++)
		uv_close((uv_handle_t *)&dm->signals[i], NULL);
	turns_close(&dm->turns);
}

void daemon_leave_early(struct daemon *dm)
{
	server_closed(dm);
}

/* The socket goes, unless it is the service manager's. */
void daemon_close_api(struct daemon *dm)
{
	if (dm->given.listen_fd >= 0)
		close(dm->given.listen_fd);
	dm->given.listen_fd = -1;
	if (dm->api_path != NULL && !dm->given.activated)
		unlink(dm->api_path);
	free(dm->api_path);
	dm->api_path = NULL;
}

void daemon_leave(struct daemon *dm)
{
	struct drover *d = &dm->d;

	if (dm->leaving)
		return;
	dm->leaving = true;
	if (dm->check != NULL)
		child_run_cancel(dm->check);
	d->stopping = true;
	events_emit(d->events, "drover", NULL, dm->reexec ? "re-executing" : "stopping", NULL);
	image_jobs_stop(d);
	/* libmicrohttpd would shut a socket down that another process is to go on with. */
	if (dm->server != NULL && !dm->reexec)
		server_quiesce(dm->server, 0, NULL, NULL);
	if (!dm->reexec)
		daemon_close_api(dm);
	/* Before the start is over there is none; then the timer says it, not from within a call. */
	dm->early = dm->server == NULL;
	if (dm->early)
		deadline_set(&d->converge, 0);
	server_destroy(dm->old_server, NULL, NULL);
	server_destroy(dm->server, server_closed, dm);
	dm->server = dm->old_server = NULL;
}

static void host_is_clean(void *arg);

static void bridges_are_gone(void *arg)
{
	struct daemon *dm = arg;

	network_host_check(&dm->d, host_is_clean, dm);
}

static void host_is_clean(void *arg)
{
	daemon_leave(arg);
}

static void registry_is_down(void *arg)
{
	struct daemon *dm = arg;
	struct drover *d = &dm->d;

	/* One after the other: each has its own folder and process, and there are few. */
	if (!list_empty(&d->registries))
		return;
	bridges_stop(d, bridges_are_gone, dm);
}

static void stop_registries(struct daemon *dm)
{
	struct drover *d = &dm->d;
	struct strv names = { 0 };

	registries_names(d, &names);
	if (names.n == 0)
		bridges_stop(d, bridges_are_gone, dm);
	for (size_t i = 0; i < names.n; i++)
		registry_stop(d, names.v[i], registry_is_down, dm);
	strv_finish(&names);
}

void drover_machine_rests(struct drover *d)
{
	struct daemon *dm = daemon_of(d);
	struct machine *m;

	if (!dm->on_exit_stop || dm->leaving)
		return;
	list_for_each_entry (m, &d->machines, entry) {
		if (machine_active(m))
			return;
	}
	dm->on_exit_stop = false;
	stop_registries(dm);
}

void daemon_stop_all(struct daemon *dm)
{
	struct drover *d = &dm->d;
	struct machine *m;
	struct err err;

	d->stopping = true;
	dm->on_exit_stop = true;
	image_jobs_stop(d);
	list_for_each_entry (m, &d->machines, entry) {
		if (machine_active(m) &&
			machine_stop(m, INTENT_STOP, "droverd, which is stopping (on_exit = stop)",
				false, NULL, &err) < 0 &&
			err.code != -EBUSY)
			log_error("%s", err.msg);
	}
	drover_machine_rests(d);
}
