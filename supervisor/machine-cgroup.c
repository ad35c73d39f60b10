/* A machine's cgroup and its limits: supervisor/machine.h. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/log.h"
#include "supervisor/machine-steps.h"

#define MIB ((uint64_t)1 << 20)

/*
 * With memory_limit = auto: nobody shall lose a machine for a limit that he did not ask for. TCG
 * keeps up to 1 GiB of translated code (tb-size, QEMU's docs/devel/multi-thread-tcg).
 */
#define AUTO_TCG   (1024 * MIB)
#define AUTO_SHARE 8 /* of the guest's memory */

static bool asks_for_io(const struct vm_config *cfg)
{
	return cfg->io_read_limit != 0 || cfg->io_write_limit != 0 || cfg->io_read_ops != 0 ||
	       cfg->io_write_ops != 0;
}

static bool asks_for_limits(const struct vm_config *cfg)
{
	return cfg->memory_limit == MEMORY_LIMIT_YES || cfg->memory_high != 0 ||
	       cfg->cpu_limit != 0 || cfg->cpu_weight != 0 || cfg->io_weight != 0 ||
	       asks_for_io(cfg) || cfg->pids_limit != 0;
}

static uint64_t memory_max(const struct machine *m, const struct vm_config *cfg)
{
	uint64_t all = m->run_memory + cfg->memory_overhead;

	if (cfg->memory_limit == MEMORY_LIMIT_NO)
		return 0;
	if (cfg->memory_limit == MEMORY_LIMIT_AUTO)
		all += m->run_memory / AUTO_SHARE + (cfg->accel == HV_ACCEL_KVM ? 0 : AUTO_TCG);
	return all;
}

/* The memory that the run has; all else as it is wanted now. */
static struct cgroup_limits wanted_limits(const struct machine *m)
{
	const struct vm_config *cfg = m->cfg != NULL ? m->cfg : m->run_cfg;

	return (struct cgroup_limits){
		.memory = memory_max(m, cfg),
		.memory_if_possible = cfg->memory_limit == MEMORY_LIMIT_AUTO,
		.memory_high = cfg->memory_high,
		.cpu_percent = cfg->cpu_limit,
		.cpu_weight = cfg->cpu_weight,
		.io_weight = cfg->io_weight,
		.pids = cfg->pids_limit,
		.io = { .read_bytes = cfg->io_read_limit,
			.write_bytes = cfg->io_write_limit,
			.read_ops = cfg->io_read_ops,
			.write_ops = cfg->io_write_ops },
	};
}

/* It runs all the same; the condition no-cgroup shows it. */
static void go_without(struct machine *m, const struct err *err)
{
	const struct vm_config *cfg = m->cfg != NULL ? m->cfg : m->run_cfg;

	if (!asks_for_limits(cfg))
		return;
	m->no_cgroup = true;
	machine_tell(m, "no-cgroup", "its limits are not enforced: %s", err->msg);
	log_msg(m->d->no_cgroup_said ? LOG_LVL_DEBUG : LOG_LVL_WARN, m->name,
		"limits are not enforced: %s (said once; machines show the condition no-cgroup)",
		err->msg);
	m->d->no_cgroup_said = true;
}

static void set_limits(struct machine *m)
{
	const struct vm_config *cfg = m->cfg != NULL ? m->cfg : m->run_cfg;
	struct cgroup_limits limits = wanted_limits(m);
	struct err err;

	/* Of the machine's own disk; what others have in its cgroup stays as it is. */
	if (m->disk_path != NULL &&
		cgroup_io_device("/sys", m->disk_path, &limits.io.major, &limits.io.minor, &err) <
			0 &&
		asks_for_io(cfg)) {
		go_without(m, &err);
		limits.io = (struct cgroup_io){ 0 };
	}
	if (cgroup_set(m->cgroup, &limits, &err) < 0)
		go_without(m, &err);
}

/* "vm:RUN_ID:NAME": ':' is in no name, and no file of the kernel's is called so. */
static int find_path(struct machine *m, char **out, struct err *err)
{
	const struct drover_config *c = drover_config(m->d)->drover;
	const char *root = c->cgroup_root;
	int r;

	if (root == NULL && access(CGROUP_DEFAULT_ROOT, F_OK) < 0)
		return err_set(err, -ENOENT,
			"there is no delegated cgroup: start drover-machines.service or set "
			"cgroup_root");
	if (root == NULL)
		root = CGROUP_DEFAULT_ROOT;
	r = cgroup_prepare_root(root, err);
	if (r < 0)
		return r;
	*out = str_printf("%s/vm:%s:%s", root, c->run_id, m->name);
	return *out == NULL ? err_nomem(err) : 0;
}

static void forget(struct machine *m)
{
	free(m->cgroup);
	m->cgroup = NULL;
	m->no_cgroup = false;
	m->memory_events = (struct cgroup_memory_events){ 0 };
}

void machine_step_cgroup(struct machine *m)
{
	struct err err;
	char *path;
	int r;

	forget(m);
	m->run_memory = m->run_cfg->memory;
	if (find_path(m, &path, &err) < 0) {
		go_without(m, &err);
		machine_start_next(m, NULL);
		return;
	}
	r = ledger_add(m->d->ledger, m->owner, OBJECT_CGROUP, path, NULL, &err);
	if (r < 0) {
		free(path);
		machine_start_next(m, &err);
		return;
	}
	if (cgroup_make(path, &err) < 0) {
		free(path);
		go_without(m, &err);
	} else {
		m->cgroup = path;
		set_limits(m);
	}
	machine_start_next(m, NULL);
}

/* Without a jail it is the hypervisor that entered; a fake tree knows only who did. */
static bool is_inside(const struct machine *m)
{
	const struct hv_process *p = hv_process(m->hv);

	return cgroup_has(m->cgroup, p->pid) ||
	       (p->jail_pid != 0 && cgroup_has(m->cgroup, p->jail_pid));
}

void machine_cgroup_check(struct machine *m)
{
	struct err err;

	if (m->cgroup == NULL || is_inside(m))
		return;
	err_set(&err, -EIO, "the hypervisor could not enter %s", quote(m->cgroup));
	go_without(m, &err);
}

void machine_cgroup_apply(struct machine *m)
{
	struct err err;

	m->no_cgroup = false;
	if (!m->process || m->run_cfg == NULL)
		return;
	if (m->cgroup == NULL) {
		err_set(&err, -ENOENT, "it was started without a cgroup");
		go_without(m, &err);
		return;
	}
	set_limits(m);
	machine_cgroup_check(m);
}

void machine_cgroup_end(struct machine *m)
{
	uint64_t refused;

	if (m->cgroup == NULL)
		return;
	cgroup_memory_events(m->cgroup, &m->memory_events);
	refused = cgroup_pids_refused(m->cgroup);
	if (refused > 0)
		machine_tell(m, "pids-limit",
			"the hypervisor could not make a thread (%" PRIu64
			" times): pids_limit is too small",
			refused);
}

void machine_cgroup_blame(struct machine *m, struct err *err)
{
	struct err was = *err;
	char *text;

	if (m->cgroup == NULL || err->code == -ECANCELED)
		return;
	cgroup_memory_events(m->cgroup, &m->memory_events);
	if (m->memory_events.oom_kills > 0) {
		text = machine_oom_text(m);
		if (text != NULL)
			err_set(err, -ENOMEM, "%s", text);
		free(text);
	} else if (cgroup_pids_refused(m->cgroup) > 0) {
		err_set(err, was.code, "%s (pids_limit is too small)", was.msg);
	}
}

bool machine_oom_killed(const struct machine *m)
{
	const struct child_status *st = &m->exit_status;

	/* Where nobody saw the status the kernel's count has to do. */
	return m->memory_events.oom_kills > 0 &&
	       (!st->known || (st->signaled && st->code == SIGKILL));
}

char *machine_oom_text(const struct machine *m)
{
	const struct cgroup_memory_events *ev = &m->memory_events;

	if (ev->ooms == 0 || ev->max == 0)
		return strdup("the kernel killed the hypervisor because the host was out of "
			      "memory");
	return str_printf("the kernel killed the hypervisor, which needed more than its %" PRIu64
			  " MiB (memory and memory_overhead)",
		ev->max / MIB);
}
