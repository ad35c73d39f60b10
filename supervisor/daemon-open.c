/* supervisor/daemon-open.c - what droverd is made of: folders, locks, log, loop and parts. */
#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/qemu-probe.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/priority.h"
#include "supervisor/address-book.h"
#include "supervisor/daemon.h"
#include "supervisor/machine.h"
#include "supervisor/marker.h"
#include "supervisor/network.h"
#include "supervisor/notify.h"
#include "supervisor/reload.h"

static int make_dirs(const struct drover_config *c, struct err *err)
{
	static const char *const below_state[] = { "vm", "log", "oci", "keys" };
	int r = mkdir_p(c->state_dir, 0755, err);

	if (r == 0)
		r = dir_check_ours(c->state_dir, err);
	for (size_t i = 0; r == 0 && i < ARRAY_LEN(below_state); i++) {
		char *path = path_join(c->state_dir, below_state[i]);

		r = path == NULL ? err_nomem(err) : mkdir_p(path, 0750, err);
		free(path);
	}
	if (r == 0)
		r = mkdir_p(c->run_dir, 0755, err);
	if (r == 0)
		r = dir_check_ours(c->run_dir, err);
	if (r == 0) {
		char *path = path_join(c->run_dir, "vm");

		r = path == NULL ? err_nomem(err) : mkdir_p(path, 0711, err);
		free(path);
	}
	return r;
}

/* drover-jail and drover-image: beside droverd in a build folder, else where install puts them. */
static char *find_libexec(void)
{
	char self[4096];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *env = getenv("DROVER_LIBEXEC");
	char *dir, *probe, *found = NULL;

	if (env != NULL)
		return strdup(env);
	if (n < 0)
		return NULL;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	dir = strdup(self);
	for (int i = 0; dir != NULL && found == NULL && i < 2; i++) {
		probe = path_join(dir, "drover-jail");
		if (probe != NULL && access(probe, X_OK) == 0)
			found = strdup(dir);
		free(probe);
		free(dir);
		dir = i == 0 ? str_printf("%s/../libexec/drover", self) : NULL;
	}
	free(dir);
	return found;
}

static int open_parts(struct drover *d, struct err *err)
{
	const struct drover_config *c = drover_config(d)->drover;
	char *events = path_join(c->state_dir, "events.jsonl");
	char *ledger = path_join(c->run_dir, "ledger");
	char *probes = path_join(c->state_dir, "qemu-probe.json");
	struct group *gr = c->group != NULL ? getgrnam(c->group) : NULL;
	int r = events == NULL || ledger == NULL || probes == NULL ? err_nomem(err) : 0;

	d->group = gr != NULL ? gr->gr_gid : (gid_t)-1;
	if (r == 0)
		r = events_open(&d->events, d->loop, events, c->events_max, err);
	if (r == 0)
		d->first_event = events_last(d->events) + 1;
	if (r == 0)
		r = operations_create(&d->ops, err);
	if (r == 0)
		r = ledger_open(&d->ledger, ledger, boot_id(), err);
	if (r == 0)
		r = http_client_create(&d->http, d->loop, err);
	if (r == 0)
		r = firewall_create(&d->firewall, d->loop, err);
	if (r == 0)
		r = link_deleter_create(&d->linkdel, d->loop, err);
	if (r == 0)
		r = netlink_create(&d->nl, err);
	if (r == 0)
		r = qemu_prober_create(&d->prober, d->loop, probes, err);
	free(events);
	free(ledger);
	free(probes);
	return r;
}

static void converge(void *arg)
{
	struct daemon *dm = daemon_of(arg);

	if (dm->early && !dm->d.leaving)
		daemon_leave_early(dm);
	else if (!dm->leaving)
		drover_converge(arg);
}

int daemon_open(struct daemon *dm, struct config *c, struct err *err)
{
	struct drover *d = &dm->d;
	struct log_opts log = { .level = (enum log_level)c->drover->log_level,
		.format = (enum log_format)c->drover->log_format,
		.path = c->drover->log_file };
	struct rlimit files;
	struct err priority;
	int r;

	signal(SIGPIPE, SIG_IGN);
	/* Ignored by whoever started us, it would take the status of our children from us. */
	signal(SIGCHLD, SIG_DFL);
	umask(022);
	/* One that we were started with is not our children's. */
	unsetenv(MARKER_VARIABLE);
	/* A few descriptors for each machine: the soft limit of 1024 would end at some 200. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = MIN(files.rlim_max, 65536);
		setrlimit(RLIMIT_NOFILE, &files);
	}
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
	d->started_ms = clock_unix_ms();
	d->look_after = daemon_look_after;
	d->state_dir = strdup(c->drover->state_dir);
	d->run_dir = strdup(c->drover->run_dir);
	d->libexec = find_libexec();
	d->box = config_box_create(c);
	if (d->state_dir == NULL || d->run_dir == NULL || d->box == NULL)
		return err_nomem(err);
	if (d->libexec == NULL)
		return err_set(err, -ENOENT,
			"drover-jail is neither beside droverd nor in ../libexec/drover");
	r = make_dirs(c->drover, err);
	if (r == 0)
		r = inherit_lock(&dm->given, c->drover->run_dir, err);
	if (r == 0)
		r = inherit_state_lock(&dm->given, c->drover->state_dir, err);
	if (r == 0 && log_setup(&log) < 0)
		r = err_set(err, -EIO, "log_file %s cannot be opened", quote(log.path));
	if (r < 0)
		return r;
	/* Before there is any other thread: those of the pool are not to have it. */
	if (priority_raise(&priority) < 0)
		log_info(
			"the events of the machines have no priority: %s (ignoring)", priority.msg);
	uv_loop_init(&dm->loop);
	d->loop = &dm->loop;
	deadline_init(&d->converge, d->loop, converge, d);
	daemon_signals(dm);
	r = open_parts(d, err);
	if (r == 0)
		notify_open(d);
	return r;
}

void daemon_finish(struct daemon *dm)
{
	struct drover *d = &dm->d;

	uv_loop_close(&dm->loop);
	netlink_destroy(d->nl);
	ledger_close(d->ledger);
	operations_destroy(d->ops);
	events_close(d->events);
	address_book_drop(d);
	config_box_unref(d->box);
	free((void *)(uintptr_t)d->state_dir);
	free((void *)(uintptr_t)d->run_dir);
	free(d->libexec);
}
