/* droverd: arguments, start, signals, end. */
#include <errno.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <dirent.h>

#include <config.h>
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/args.h"
#include "supervisor/host-net.h"
#include "supervisor/inherit.h"
#include "supervisor/machine.h"
#include "supervisor/marker.h"
#include "supervisor/network.h"
#include "supervisor/notify.h"
#include "supervisor/pulse.h"
#include "supervisor/reconcile.h"
#include "supervisor/registry.h"
#include "supervisor/reload.h"
#include "supervisor/routes.h"
#include "supervisor/strays.h"
#include "supervisor/upgrade.h"
#include "supervisor/faults.h"

struct loaded {
	struct machine *m;
	struct saved_process saved;
};

static struct daemon {
	struct drover d;
	struct args args;
	struct server *server;
	uv_loop_t loop;
	uv_signal_t signals[5];
	unsigned adopting; /* machines whose adoption is under way, and one for the start itself */
	struct inherited given; /* the API's socket and the locks, once we have them our own */
	struct loaded *loaded;  /* until their adoption begins */
	size_t nloaded;
	struct strv leftovers; /* owners in the ledger, at start */
	size_t leftover;       /* the next one */
	bool on_exit_stop, leaving, reexec;
	bool early;                /* leaving before there was a server */
	bool ready, reload_wanted; /* a SIGHUP before we are ready waits */
	char *api_path;            /* of the socket that we listen at */
	char *self;                /* what USR2 executes: the path that we were started by */
	char **argv;
	struct child_run *check; /* of what USR2 is to execute; NULL: none runs */
} g = { .given = { .listen_fd = -1, .lock_fd = -1, .state_lock_fd = -1 } };

/* For what was asked and not yet answered when we re-execute: not for what clients follow. */
#define DRAIN_MS 2000

/* ---- leaving ---- */

static void server_closed(void *arg)
{
	struct drover *d = &g.d;

	d->leaving = true;
	if (g.reexec)
		upgrade_block_signals(true);
	notify_close();
	reconcile_destroy(d->reconciler);
	d->reconciler = NULL;
	pulse_destroy(d->pulse);
	d->pulse = NULL;
	machines_release(d);
	registries_release(d);
	http_client_destroy(d->http, NULL, NULL);
	firewall_destroy(d->firewall, NULL, NULL);
	link_deleter_destroy(d->linkdel, NULL, NULL);
	deadline_close(&d->converge, NULL);
	for (size_t i = 0; i < ARRAY_LEN(g.signals); i++)
		uv_close((uv_handle_t *)&g.signals[i], NULL);
}

/* The socket goes, unless it is the service manager's. */
static void close_api(void)
{
	if (g.given.listen_fd >= 0)
		close(g.given.listen_fd);
	g.given.listen_fd = -1;
	if (g.api_path != NULL && !g.given.activated)
		unlink(g.api_path);
	free(g.api_path);
	g.api_path = NULL;
}

static void leave(void)
{
	struct drover *d = &g.d;

	if (g.leaving)
		return;
	g.leaving = true;
	if (g.check != NULL)
		child_run_cancel(g.check);
	d->stopping = true;
	events_emit(d->events, "drover", NULL, g.reexec ? "re-executing" : "stopping", NULL);
	image_jobs_stop(d);
	/* libmicrohttpd would shut a socket down that another process is to go on with. */
	if (g.server != NULL && !g.reexec)
		server_quiesce(g.server, 0, NULL, NULL);
	if (!g.reexec)
		close_api();
	/* Before the start is over there is none; then the timer says it, not from within a call. */
	g.early = g.server == NULL;
	if (g.early)
		deadline_set(&d->converge, 0);
	server_destroy(g.server, server_closed, NULL);
	g.server = NULL;
}

static void host_is_clean(void *arg)
{
	leave();
}

static void registry_is_down(void *arg)
{
	struct drover *d = &g.d;

	/* One after the other: each has its own folder and process, and there are few. */
	if (!list_empty(&d->registries))
		return;
	network_host_check(d, host_is_clean, NULL);
}

static void stop_registries(struct drover *d)
{
	struct strv names = { 0 };

	registries_names(d, &names);
	if (names.n == 0)
		network_host_check(d, host_is_clean, NULL);
	for (size_t i = 0; i < names.n; i++)
		registry_stop(d, names.v[i], registry_is_down, NULL);
	strv_finish(&names);
}

void drover_machine_rests(struct drover *d)
{
	struct machine *m;

	if (!g.on_exit_stop || g.leaving)
		return;
	list_for_each_entry (m, &d->machines, entry) {
		if (machine_active(m))
			return;
	}
	g.on_exit_stop = false;
	stop_registries(d);
}

static void stop_all(struct drover *d)
{
	struct machine *m;
	struct err err;

	d->stopping = true;
	g.on_exit_stop = true;
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

/* ---- re-execution ---- */

static void answered(void *arg)
{
	if (g.reexec)
		leave();
}

static void refused(const struct child_result *res, const struct err *err)
{
	json_t *more = json_object();
	char *text = res != NULL ? strdup(res->errout) : NULL;

	for (char *save = NULL, *line = text != NULL ? strtok_r(text, "\n", &save) : NULL;
		line != NULL; line = strtok_r(NULL, "\n", &save))
		log_error("%s", line);
	free(text);
	log_error("re-exec: %s; this droverd goes on", err->msg);
	json_put_str(more, "reason", err->msg);
	events_emit(g.d.events, "drover", NULL, "re-exec-refused", more);
}

static void checked(void *arg, const struct child_result *res, const struct err *err)
{
	g.check = NULL;
	if (g.leaving || g.d.stopping)
		return;
	if (err != NULL) {
		refused(res, err);
		return;
	}
	log_info("re-executing %s", g.self);
	g.reexec = true;
	notify_reloading();
	/* Who connects from now on is answered by the new program. */
	server_quiesce(g.server, DRAIN_MS, answered, NULL);
}

static void reexecute(struct drover *d)
{
	struct err err;

	if (!g.ready || g.check != NULL || g.reexec || d->stopping) {
		log_info("re-exec: ignoring the signal: %s",
			!g.ready ? "droverd is starting"
				 : "it is under way, or droverd is leaving");
		return;
	}
	if (g.self == NULL)
		err_set(&err, -ENOENT, "droverd is not where it was started from");
	else if (upgrade_check(&g.check, d->loop, g.self, g.argv, checked, NULL, &err) == 0)
		return;
	refused(NULL, &err);
}

/* ---- signals ---- */

static void reload(struct drover *d)
{
	struct config_errors errors = { 0 };
	struct buf text = { 0 };
	struct plan p = { 0 };
	struct err err;

	log_reopen();
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
	struct drover *d = &g.d;

	switch (sig) {
	case SIGHUP:
		if (g.ready)
			reload(d);
		else
			g.reload_wanted = true;
		break;
	case SIGUSR1:
		log_state(d);
		break;
	case SIGUSR2:
		reexecute(d);
		break;
	default:
		g.reexec = false; /* if it was on its way */
		notify_stopping();
		/* The second one does not wait any more: the machines run on. */
		if (drover_config(d)->drover->on_exit == ON_EXIT_STOP && !d->stopping) {
			log_info(
				"stopping the machines (on_exit = stop); a second signal leaves at once");
			stop_all(d);
		} else {
			log_info("leaving; the machines run on");
			leave();
		}
		break;
	}
}

/* ---- starting ---- */

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
	struct group *gr = c->group != NULL ? getgrnam(c->group) : NULL;
	int r = events == NULL || ledger == NULL ? err_nomem(err) : 0;

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
	free(events);
	free(ledger);
	return r;
}

static int listen_api(struct drover *d, struct err *err)
{
	const struct drover_config *c = drover_config(d)->drover;
	struct server_opts opts = {
		.routes = routes, .nroutes = nroutes, .arg = d, .group = d->group
	};
	char *path = c->listen != NULL ? strdup(c->listen) : path_join(c->run_dir, "api.sock");
	int r;

	if (path == NULL)
		return err_nomem(err);
	r = inherit_listen(&g.given, path, err);
	/* The mode of the service manager's socket is in its unit. */
	if (r == 0 && d->group != (gid_t)-1 && !g.given.activated &&
		chown(path, (uid_t)-1, d->group) < 0)
		log_warn("%s: chown: %s (ignoring)", path, strerror(errno));
	if (r == 0)
		r = server_create(&g.server, d->loop, g.given.listen_fd, &opts, err);
	if (r == 0)
		log_info("droverd %s listens at %s", PACKAGE_VERSION, path);
	if (r == 0)
		g.api_path = path;
	else
		free(path);
	return r;
}

static void ready(struct drover *d)
{
	struct err err;

	if (g.leaving)
		return;
	fault_at("boot", "first-plan", NULL);
	drover_apply_first(d);
	fault_at("boot", "listen", NULL);
	if (listen_api(d, &err) < 0) {
		log_error("%s", err.msg);
		g.args.exit_status = 1;
		leave();
		return;
	}
	events_emit(d->events, "drover", NULL, "started", NULL);
	network_check_foreign(d);
	notify_ready(d);
	g.ready = true;
	if (reconcile_create(&d->reconciler, d, &err) < 0 || pulse_create(&d->pulse, d, &err) < 0)
		log_error("%s", err.msg);
	if (g.reload_wanted)
		reload(d);
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

	while (g.leftover < g.leftovers.n && !g.leaving) {
		const char *owner = g.leftovers.v[g.leftover++];

		if (!is_leftover(d, owner))
			continue;
		log_info("releasing what %s has left", owner);
		objects_release(d, owner, next_leftover, d);
		return;
	}
	strv_finish(&g.leftovers);
	if (!g.leaving)
		network_host_check(d, host_checked, d);
}

/* What machines that no longer run have left, and machines that nobody knows any more. */
static void release_leftovers(struct drover *d)
{
	struct ledger_owner *owner;

	fault_at("boot", "leftovers", NULL);
	list_for_each_entry (owner, ledger_owners(d->ledger), entry)
		strv_add(&g.leftovers, owner->name);
	next_leftover(d);
}

static void adopted(void *arg)
{
	if (--g.adopting == 0 && !g.leaving)
		release_leftovers(&g.d);
}

/* Every folder of state_dir/vm is a machine. */
static size_t load_machines(struct drover *d, struct loaded **out)
{
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
			log_error("%s (its state is taken as unknown; its files stay)", err.msg);
			v[n].saved = (struct saved_process){ .state = MACHINE_STOPPED };
		}
		/* Before any other event takes its number. */
		if (v[n].saved.state == MACHINE_STOPPING)
			machine_announce_end(m);
		n++;
	}
	if (dir != NULL)
		closedir(dir);
	free(dir_path);
	*out = v;
	return n;
}

static void adopt_all(void *arg)
{
	struct drover *d = arg;
	struct loaded *v = g.loaded;
	size_t n = g.nloaded;

	g.loaded = NULL;
	g.adopting = 1;
	if (!g.leaving)
		fault_at("boot", "adopt", NULL);
	for (size_t i = 0; i < n && !g.leaving; i++) {
		g.adopting++;
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

static void start(struct drover *d)
{
	struct known_process *known;

	g.nloaded = load_machines(d, &g.loaded);
	fault_at("boot", "bind", NULL);
	drover_bind_first(d);
	fault_at("boot", "strays", NULL);
	known = calloc(2 * g.nloaded + 1, sizeof(*known));
	if (known == NULL) {
		log_error("no memory to look for processes of ours (ignoring)");
		adopt_all(d);
		return;
	}
	strays_clear(d, known, known_processes(g.loaded, g.nloaded, known), adopt_all, d);
	free(known);
}

static void converge(void *arg)
{
	if (g.early && !g.d.leaving)
		server_closed(NULL);
	else if (!g.leaving)
		drover_converge(arg);
}

static int init(struct drover *d, struct config *c, struct err *err)
{
	static const int sigs[] = { SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2 };
	struct log_opts log = { .level = (enum log_level)c->drover->log_level,
		.format = (enum log_format)c->drover->log_format,
		.path = c->drover->log_file };
	struct rlimit files;
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
	list_init(&d->image_jobs);
	list_init(&d->start_queue);
	list_init(&d->after_queue);
	d->started_ms = clock_unix_ms();
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
		r = inherit_lock(&g.given, c->drover->run_dir, err);
	if (r == 0)
		r = inherit_state_lock(&g.given, c->drover->state_dir, err);
	if (r == 0 && log_setup(&log) < 0)
		r = err_set(err, -EIO, "log_file %s cannot be opened", quote(log.path));
	if (r < 0)
		return r;
	uv_loop_init(&g.loop);
	d->loop = &g.loop;
	deadline_init(&d->converge, d->loop, converge, d);
	for (size_t i = 0; i < ARRAY_LEN(g.signals); i++) {
		uv_signal_init(d->loop, &g.signals[i]);
		uv_signal_start(&g.signals[i], on_signal, sigs[i]);
	}
	upgrade_block_signals(false);
	r = open_parts(d, err);
	if (r == 0)
		notify_open(d);
	return r;
}

static const char *boot_point(size_t i)
{
	static const char *const points[] = { "bind", "strays", "adopt", "leftovers", "first-plan",
		"listen" };

	return i < ARRAY_LEN(points) ? points[i] : NULL;
}
const struct fault_table boot_faults = { "boot", boot_point, 0 };

static int check_config(struct config *c)
{
	struct plan p = { 0 };
	struct err err;

	if (g.args.plan) {
		if (plan_make(&p, c, NULL, 0, &err) < 0) {
			fprintf(stderr, "droverd: %s\n", err.msg);
			return 1;
		}
		args_print_plan(&g.args, &p);
		plan_finish(&p);
		return 0;
	}
	printf("%s: ok: %zu machine%s\n", c->path, c->by_kind[SECTION_VM].n,
		c->by_kind[SECTION_VM].n == 1 ? "" : "s");
	return 0;
}

static void finish(struct drover *d)
{
	uv_loop_close(&g.loop);
	netlink_destroy(d->nl);
	ledger_close(d->ledger);
	operations_destroy(d->ops);
	events_close(d->events);
	config_box_unref(d->box);
	free((void *)(uintptr_t)d->state_dir);
	free((void *)(uintptr_t)d->run_dir);
	free(d->libexec);
}

int main(int argc, char **argv)
{
	struct config_errors errors = { 0 };
	struct buf text = { 0 };
	struct config *c = NULL;
	struct err err;
	int r;

	inherit_take(&g.given);
	notify_take();
	r = args_parse(&g.args, argc, argv);
	if (r >= 0)
		return r;
	g.self = g.given.path != NULL ? g.given.path : upgrade_path(argv[0]);
	g.argv = argv;
	g.d.load = (struct config_load_opts){
		.path = g.args.path, .overrides = g.args.overrides, .noverrides = g.args.noverrides
	};
	if (config_load(&c, &g.d.load, &errors, &err) < 0) {
		config_errors_print(&errors, &text);
		fputs(buf_str(&text), stderr);
		if (errors.n == 0)
			fprintf(stderr, "droverd: %s\n", err.msg);
		buf_finish(&text);
		config_errors_finish(&errors);
		return 1;
	}
	config_errors_finish(&errors);
	if (g.args.check) {
		r = check_config(c);
		config_destroy(c);
		return r;
	}
	if (init(&g.d, c, &err) < 0) {
		fprintf(stderr, "droverd: %s\n", err.msg);
		return 1;
	}
	start(&g.d);
	uv_run(&g.loop, UV_RUN_DEFAULT);
	finish(&g.d);
	if (g.reexec) {
		notify_pass();
		upgrade_exec(g.self, argv, &g.given);
	}
	close_api();
	free(g.self);
	args_finish(&g.args);
	return g.args.exit_status;
}
