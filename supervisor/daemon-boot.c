/*
 * supervisor/daemon-boot.c - from the state files to service: machines are loaded, strays cleared,
 * what runs is adopted, what is left over released, the first plan applied, and the API opened.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <config.h>
#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/daemon.h"
#include "supervisor/faults.h"
#include "supervisor/host-net.h"
#include "supervisor/machine.h"
#include "supervisor/machine-found.h"
#include "supervisor/network.h"
#include "supervisor/notify.h"
#include "supervisor/pulse.h"
#include "supervisor/reconcile.h"
#include "supervisor/reload.h"
#include "supervisor/strays.h"

struct loaded {
	struct machine *m;
	struct saved_process saved;
};

static void ready(struct drover *d)
{
	struct daemon *dm = daemon_of(d);
	struct err err;

	if (dm->leaving)
		return;
	fault_at("boot", "first-plan", NULL);
	drover_apply_first(d);
	fault_at("boot", "listen", NULL);
	if (daemon_listen(dm, &err) < 0) {
		log_error("%s", err.msg);
		dm->args.exit_status = 1;
		daemon_leave(dm);
		return;
	}
	events_emit(d->events, "drover", NULL, "started", NULL);
	network_check_foreign(d);
	notify_ready(d);
	dm->ready = true;
	if (reconcile_create(&d->reconciler, d, &err) < 0 || pulse_create(&d->pulse, d, &err) < 0)
		log_error("%s", err.msg);
	if (dm->reload_wanted)
		daemon_reload(d);
}

static void host_checked(void *arg)
{
	ready(arg);
}

/* Of a machine that runs, of a registry that is to run; the host's own are looked at last. */
static bool is_leftover(struct drover *d, const char *owner)
{
	const struct machine *m = str_starts(owner, "vm/") ? machine_find(d, owner + 3) : NULL;

	if (str_starts(owner, "registry/") &&
		config_find(drover_config(d), SECTION_REGISTRY, owner + 9) != NULL)
		return false;
	return strcmp(owner, HOST_OWNER) != 0 && (m == NULL || !machine_active(m));
}

/* Each owner once: what cannot be released stays in the ledger for the reconciler. */
static void next_leftover(void *arg)
{
	struct drover *d = arg;
	struct daemon *dm = daemon_of(d);

	while (dm->leftover < dm->leftovers.n && !dm->leaving) {
		const char *owner = dm->leftovers.v[dm->leftover++];

		if (!is_leftover(d, owner))
			continue;
		log_info("releasing what %s has left", owner);
		objects_release(d, owner, next_leftover, d);
		return;
	}
	strv_finish(&dm->leftovers);
	if (!dm->leaving)
		network_host_check(d, host_checked, d);
}

/* What machines that no longer run have left, and machines that nobody knows any more. */
static void release_leftovers(struct drover *d)
{
	struct daemon *dm = daemon_of(d);
	struct ledger_owner *owner;

	fault_at("boot", "leftovers", NULL);
	list_for_each_entry (owner, ledger_owners(d->ledger), entry)
		strv_add(&dm->leftovers, owner->name);
	next_leftover(d);
}

static void adopted(void *arg)
{
	struct daemon *dm = daemon_of(arg);

	if (--dm->adopting == 0 && !dm->leaving)
		release_leftovers(&dm->d);
}

/* The marked processes are looked for when the first machine is met that needs it. */
struct found {
	bool looked;
	struct marked *v;
	size_t n;
};

static void look_for_processes(struct drover *d, struct found *f)
{
	struct err err;

	if (!f->looked && marker_scan(d->run_dir, &f->v, &f->n, &err) < 0)
		log_error("looking for processes of ours: %s", err.msg);
	f->looked = true;
}

/* Every folder of state_dir/vm is a machine. */
static size_t load_machines(struct drover *d, struct loaded **out)
{
	struct found found = { 0 };
	char *dir_path = path_join(d->state_dir, "vm");
	DIR *dir = dir_path != NULL ? opendir(dir_path) : NULL;
	struct loaded *v = NULL;
	struct dirent *e;
	struct err err;
	size_t n = 0;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		struct loaded *more;
		struct machine *m;

		if (e->d_name[0] == '.' || name_check(e->d_name, "machine", NULL) < 0)
			continue;
		more = realloc(v, (n + 1) * sizeof(*v));
		if (more == NULL || machine_create(&m, d, e->d_name, &err) < 0) {
			v = more != NULL ? more : v;
			break;
		}
		v = more;
		v[n].m = m;
		if (machine_load(m, &v[n].saved, &err) < 0) {
			look_for_processes(d, &found);
			machine_found(m, found.v, found.n, err.msg, &v[n].saved);
		}
		/* Before any other event takes its number. */
		if (v[n].saved.state == MACHINE_STOPPING)
			machine_announce_end(m);
		n++;
	}
	if (dir != NULL)
		closedir(dir);
	free(dir_path);
	marked_free(found.v, found.n);
	*out = v;
	return n;
}

static void adopt_all(void *arg)
{
	struct drover *d = arg;
	struct daemon *dm = daemon_of(d);
	struct loaded *v = dm->loaded;
	size_t n = dm->nloaded;

	dm->loaded = NULL;
	dm->adopting = 1;
	if (!dm->leaving)
		fault_at("boot", "adopt", NULL);
	for (size_t i = 0; i < n && !dm->leaving; i++) {
		dm->adopting++;
		machine_adopt(v[i].m, &v[i].saved, adopted, d);
	}
	free(v);
	adopted(d);
}

/* The processes that the machines' state files name: those are taken up, all others are strays. */
static size_t known_processes(const struct loaded *v, size_t n, struct known_process *out)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++) {
		const struct hv_process *p = &v[i].saved.process;

		if (!v[i].saved.this_boot)
			continue;
		if (p->pid > 0)
			out[count++] = (struct known_process){ p->pid, p->starttime };
		if (p->jail_pid > 0)
			out[count++] = (struct known_process){ p->jail_pid, p->jail_starttime };
	}
	return count;
}

void daemon_start(struct daemon *dm)
{
	struct drover *d = &dm->d;
	struct known_process *known;

	dm->nloaded = load_machines(d, &dm->loaded);
	fault_at("boot", "bind", NULL);
	drover_bind_first(d);
	fault_at("boot", "strays", NULL);
	known = calloc(2 * dm->nloaded + 1, sizeof(*known));
	if (known == NULL) {
		log_error("no memory to look for processes of ours (ignoring)");
		adopt_all(d);
		return;
	}
	strays_clear(d, known, known_processes(dm->loaded, dm->nloaded, known), adopt_all, d);
	free(known);
}

static const char *boot_point(size_t i)
{
	static const char *const points[] = { "bind", "strays", "adopt", "leftovers", "first-plan",
		"listen" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table boot_faults = { "boot", boot_point, 0 };
