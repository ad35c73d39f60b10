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
#include "supervisor/image-prune.h"
#include "supervisor/warm.h"
#include "supervisor/faults.h"
#include "supervisor/host-net.h"
#include "supervisor/machine.h"
#include "supervisor/machine-found.h"
#include "supervisor/network-bridge.h"
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
	drover_apply_first(d);
	if (fault_at("boot", "listen", &err) < 0 || daemon_listen(dm, &err) < 0) {
		log_error("%s", err.msg);
		dm->args.exit_status = 1;
		daemon_leave(dm);
		return;
	}
	events_emit(d->events, "drover", NULL, "started", NULL);
	network_check_foreign(d);
	notify_ready(d);
	dm->ready = true;
	if (reconcile_create(&d->reconciler, d, &err) < 0 || pulse_create(&d->pulse, d, &err) < 0 ||
		image_pruner_create(&d->pruner, d, &err) < 0)
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
	if (str_starts(owner, "net/") && bridge_in_use(d, owner))
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
	struct err err;

	if (fault_at("boot", "leftovers", &err) < 0) {
		log_error("what machines have left: %s (ignoring: the reconciler comes to it)",
			err.msg);
		next_leftover(d);
		return;
	}
	list_for_each_entry (owner, ledger_owners(d->ledger), entry)
		strv_add(&dm->leftovers, owner->name);
	next_leftover(d);
}

static void adopted(void *arg)
{
	struct daemon *dm = daemon_of(arg);

	if (--dm->adopting == 0 && !dm->leaving) {
		warm_sweep(&dm->d, true);
		release_leftovers(&dm->d);
	}
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

/*
 * What is in the file is wrong: then the machine is known by its process. Everything else, the lack
 * of descriptors or memory or of a right, says nothing of the machine, which may well be running.
 */
static bool is_corrupt(int code)
{
	return code == -EINVAL || code == -EBADMSG || code == -ENOENT || code == -EFBIG;
}

static int load_machine(struct drover *d, const char *name, struct found *found, struct loaded *out,
	struct err *err)
{
	int r = machine_create(&out->m, d, name, err);

	if (r == 0)
		r = fault_at("boot", "load", err);
	if (r == 0)
		r = machine_load(out->m, &out->saved, err);
	if (r < 0 && is_corrupt(r)) {
		look_for_processes(d, found);
		machine_found(out->m, found->v, found->n, err->msg, &out->saved);
		r = 0;
	}
	/* Before any other event takes its number. */
	if (r == 0 && out->saved.state == MACHINE_STOPPING)
		machine_announce_end(out->m);
	return r;
}

/* Every folder of state_dir/vm is a machine. */
static int load_machines(struct drover *d, struct loaded **out, size_t *n, struct err *err)
{
	struct found found = { 0 };
	char *dir_path = path_join(d->state_dir, "vm");
	DIR *dir = dir_path != NULL ? opendir(dir_path) : NULL;
	struct dirent *e;
	int r = 0;

	if (dir_path == NULL)
		return err_nomem(err);
	if (dir == NULL)
		r = err_errno(err, -errno, "open %s", quote(dir_path));
	while (r == 0 && (errno = 0, e = readdir(dir)) != NULL) {
		struct loaded *more;

		if (e->d_name[0] == '.' || name_check(e->d_name, "machine", NULL) < 0)
			continue;
		more = realloc(*out, (*n + 1) * sizeof(*more));
		if (more == NULL) {
			r = err_nomem(err);
			break;
		}
		*out = more;
		r = load_machine(d, e->d_name, &found, &more[*n], err);
		if (r == 0)
			++*n;
	}
	if (r == 0 && errno != 0)
		r = err_errno(err, -errno, "read %s", quote(dir_path));
	if (dir != NULL)
		closedir(dir);
	free(dir_path);
	marked_free(found.v, found.n);
	return r;
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
	struct err err;

	if (load_machines(d, &dm->loaded, &dm->nloaded, &err) < 0) {
		/* Whoever is not known would be a stray, and killed. */
		log_error("%s: droverd leaves, and the machines run on", err.msg);
		dm->args.exit_status = 1;
		free(dm->loaded);
		dm->loaded = NULL;
		daemon_leave(dm);
		return;
	}
	drover_bind_first(d);
	known = calloc(2 * dm->nloaded + 1, sizeof(*known));
	if (known == NULL)
		err_nomem(&err);
	if (known == NULL || fault_at("boot", "strays", &err) < 0) {
		log_error("looking for processes of ours: %s (ignoring)", err.msg);
		free(known);
		adopt_all(d);
		return;
	}
	strays_clear(d, known, known_processes(dm->loaded, dm->nloaded, known), adopt_all, d);
	free(known);
}

static const char *boot_point(size_t i)
{
	static const char *const points[] = { "load", "bind", "strays", "adopt", "leftovers",
		"first-plan", "listen" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table boot_faults = { "boot", boot_point, FAULT_ALL & ~FAULT_BIT(3) };
