/* The table, and the routes about the daemon as a whole. */
#include "supervisor/routes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The one of the build, not of this folder. */
#include <config.h>
#include "lib/clock.h"
#include "lib/json.h"
#include "supervisor/plan.h"
#include "supervisor/registry.h"
#include "supervisor/reload.h"
#include "supervisor/routes-private.h"

#define API_VERSION 1

static void route_version(void *arg, struct request *rq)
{
	json_t *j = json_object();

	json_put_str(j, "version", PACKAGE_VERSION);
	json_put_int(j, "api", API_VERSION);
	json_put_int(j, "pid", getpid());
	reply_json(rq, 200, j);
}

static void route_health(void *arg, struct request *rq)
{
	struct drover *d = arg;
	json_t *j = json_object();
	const struct machine *m;
	int64_t n = 0;

	list_for_each_entry (m, &d->machines, entry)
		n += m->cfg != NULL || machine_active(m);
	json_put_str(j, "status", "ok");
	json_put_int(j, "machines", n);
	json_put_int(j, "uptime_s", (int64_t)(clock_unix_ms() - d->started_ms) / 1000);
	reply_json(rq, 200, j);
}

static void route_config(void *arg, struct request *rq)
{
	struct drover *d = arg;
	struct buf text = { 0 };
	bool all;

	if (!route_flag(rq, "all", &all))
		return;
	config_print(drover_config(d), all, &text);
	if (text.bad)
		reply_json(rq, 500, NULL);
	else
		reply_text(rq, 200, "text/plain; charset=utf-8", buf_str(&text), text.len);
	buf_finish(&text);
}

struct registries_ask {
	struct drover *d;
	struct request *rq; /* NULL: it has left */
};

static void registries_asker_left(void *arg)
{
	struct registries_ask *ask = arg;

	ask->rq = NULL;
}

static void registries_counted(void *arg)
{
	struct registries_ask *ask = arg;

	if (ask->rq != NULL) {
		request_on_gone(ask->rq, NULL, NULL);
		reply_json(ask->rq, 200, registries_json(ask->d));
	}
	free(ask);
}

static void route_registries(void *arg, struct request *rq)
{
	struct registries_ask *ask = calloc(1, sizeof(*ask));

	if (ask != NULL) {
		*ask = (struct registries_ask){ arg, rq };
		request_on_gone(rq, registries_asker_left, ask);
		if (registries_count(arg, registries_counted, ask) == 0)
			return;
		request_on_gone(rq, NULL, NULL);
		free(ask);
	}
	reply_json(rq, 200, registries_json(arg));
}

/* The mistakes of a file one by one, for who has to mend them. */
static void reply_config_errors(
	struct request *rq, const struct config_errors *errors, const struct err *err)
{
	json_t *array = json_array();

	for (size_t i = 0; i < errors->n; i++) {
		const struct config_error *e = &errors->v[i];
		json_t *j = json_object();

		json_put_str(j, "file", e->file);
		json_put_int(j, "line", e->line);
		json_put_str(j, "message", e->message);
		json_array_append_new(array, j);
	}
	reply_json(rq, 422,
		json_pack("{s:{s:s,s:o,s:n,s:n},s:o}", "error", "code", "config", "message",
			json_str_new(err->msg), "vm", "state", "errors", array));
}

typedef int plan_fn(
	struct drover *d, struct plan *out, struct config_errors *errors, struct err *err);

static void reply_plan(struct drover *d, struct request *rq, plan_fn *fn)
{
	struct config_errors errors = { 0 };
	struct plan plan = { 0 };
	struct err err = { 0 };

	if (fn(d, &plan, &errors, &err) == 0) {
		reply_json(rq, 200, plan_json(&plan));
		plan_finish(&plan);
	} else if (errors.n > 0) {
		reply_config_errors(rq, &errors, &err);
	} else {
		reply_err(rq, &err, NULL, NULL);
	}
	config_errors_finish(&errors);
}

static void route_plan(void *arg, struct request *rq)
{
	reply_plan(arg, rq, drover_plan);
}

static void route_reload(void *arg, struct request *rq)
{
	reply_plan(arg, rq, drover_reload);
}

const struct route routes[] = {
	{ "GET", "/version", route_version },
	{ "GET", "/health", route_health },
	{ "GET", "/vms", route_vms },
	{ "GET", "/vms/{name}", route_vm },
	{ "DELETE", "/vms/{name}", route_vm_rm },
	{ "POST", "/vms/{name}/start", route_vm_start },
	{ "POST", "/vms/{name}/stop", route_vm_stop },
	{ "POST", "/vms/{name}/kill", route_vm_kill },
	{ "POST", "/vms/{name}/restart", route_vm_restart },
	{ "POST", "/vms/{name}/pause", route_vm_pause },
	{ "POST", "/vms/{name}/resume", route_vm_resume },
	{ "POST", "/vms/{name}/reset", route_vm_reset },
	{ "POST", "/vms/{name}/nmi", route_vm_nmi },
	{ "POST", "/vms/{name}/dump", route_vm_dump },
	{ "POST", "/vms/{name}/resize", route_vm_resize },
	{ "POST", "/vms/{name}/disks", route_vm_disk_add },
	{ "DELETE", "/vms/{name}/disks/{id}", route_vm_disk_remove },
	{ "POST", "/vms/{name}/nics", route_vm_nic_add },
	{ "DELETE", "/vms/{name}/nics/{id}", route_vm_nic_remove },
	{ "GET", "/vms/{name}/counters", route_vm_counters },
	{ "GET", "/vms/{name}/screendump", route_vm_screendump },
	{ "POST", "/vms/{name}/suspend", route_vm_suspend },
	{ "POST", "/vms/{name}/clone", route_vm_clone },
	{ "POST", "/vms/{name}/migrate", route_vm_migrate },
	{ "GET", "/vms/{name}/snapshots", route_snapshots },
	{ "POST", "/vms/{name}/snapshots", route_snapshot_create },
	{ "GET", "/vms/{name}/snapshots/{snapshot}", route_snapshot },
	{ "DELETE", "/vms/{name}/snapshots/{snapshot}", route_snapshot_rm },
	{ "POST", "/vms/{name}/snapshots/{snapshot}/restore", route_snapshot_restore },
	{ "GET", "/vms/{name}/why", route_vm_why },
	{ "GET", "/vms/{name}/log", route_vm_log },
	{ "GET", "/vms/{name}/console", route_vm_console },
	{ "POST", "/vms/{name}/console", route_vm_console_type },
	{ "POST", "/vms/{name}/qmp", route_vm_qmp },
	{ "POST", "/vms/{name}/ch", route_vm_ch },
	{ "GET", "/migrations", route_migrations },
	{ "POST", "/migrations", route_migration_prepare },
	{ "GET", "/migrations/{migration}", route_migration },
	{ "POST", "/migrations/{migration}/commit", route_migration_commit },
	{ "POST", "/migrations/{migration}/abort", route_migration_abort },
	{ "POST", "/migrations/{migration}/farewell", route_migration_farewell },
	{ "GET", "/operations", route_operations },
	{ "GET", "/operations/{id}", route_operation_show },
	{ "POST", "/operations/{id}/cancel", route_operation_cancel },
	{ "GET", "/events", route_events },
	{ "GET", "/plan", route_plan },
	{ "POST", "/reload", route_reload },
	{ "GET", "/config", route_config },
	{ "POST", "/images/pull", route_image_pull },
	{ "POST", "/images/import", route_image_import },
	{ "POST", "/images/export", route_image_export },
	{ "POST", "/images/inspect", route_image_inspect },
	{ "POST", "/images/outdated", route_image_outdated },
	{ "POST", "/images/prune", route_image_prune },
	{ "POST", "/images/verify", route_image_verify },
	{ "GET", "/images", route_images },
	{ "DELETE", "/images", route_image_rm },
	{ "GET", "/registries", route_registries },
	{ "GET", "/networks", route_networks },
	{ "GET", "/networks/{name}", route_network },
	{ "GET", "/ca", route_ca },
	{ "GET", "/doctor", route_doctor },
	{ "POST", "/doctor", route_doctor_fix },
};
const size_t nroutes = ARRAY_LEN(routes);

/* ---- what the routes share ---- */

int route_owner_only(const struct request *rq, const char *what, struct err *err)
{
	uid_t uid = request_uid(rq);

	if (uid == 0 || uid == geteuid())
		return 0;
	return err_set(err, -EACCES, "only root may %s", what);
}

static const char *nearest_machine(struct drover *d, const char *name)
{
	const char **names, *found = NULL;
	const struct machine *m;
	size_t n = 0;

	list_for_each_entry (m, &d->machines, entry)
		n++;
	names = calloc(n + 1, sizeof(*names));
	if (names == NULL)
		return NULL;
	n = 0;
	list_for_each_entry (m, &d->machines, entry)
		names[n++] = m->name;
	found = str_nearest(name, names, n);
	free(names);
	return found;
}

int route_no_machine(struct drover *d, const char *name, struct err *err)
{
	const char *nearest = nearest_machine(d, name);

	if (nearest != NULL)
		return err_set(err, -ENOENT, "there is no machine %s; did you mean %s?",
			quote(name), quote(nearest));
	return err_set(err, -ENOENT, "there is no machine %s", quote(name));
}

struct machine *route_machine(struct drover *d, struct request *rq)
{
	const char *name = request_param(rq, "name");
	struct machine *m = machine_find(d, name);
	struct err err;

	if (m != NULL)
		return m;
	route_no_machine(d, name, &err);
	reply_err(rq, &err, name, NULL);
	return NULL;
}

void route_machine_err(struct request *rq, const struct machine *m, const struct err *err)
{
	reply_err(rq, err, m->name,
		m->cfg == NULL && !machine_active(m) ? "removed" : machine_state_name(m->state));
}

bool route_flag(struct request *rq, const char *name, bool *out)
{
	const char *value = request_query(rq, name);
	struct err err;

	*out = false;
	if (value == NULL)
		return true;
	/* "?all" alone is enough. */
	if (value[0] == '\0') {
		*out = true;
		return true;
	}
	if (parse_bool(value, out, &err) == 0)
		return true;
	err_wrap(&err, "%s", name);
	reply_err(rq, &err, NULL, NULL);
	return false;
}
