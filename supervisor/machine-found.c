#include "supervisor/machine-found.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/machine-steps.h"

const char *machine_of_process(const struct marked *p)
{
	return str_starts(p->owner, "vm/") && strcmp(p->name, MARKER_HYPERVISOR) == 0 ? p->owner + 3
										      : NULL;
}

static bool is_jail(pid_t pid)
{
	static const char jail[] = "/drover-jail";
	char path[64], exe[4096];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
	len = readlink(path, exe, sizeof(exe) - 1);
	if (len < 0)
		return false;
	exe[len] = '\0';
	/* It may have been replaced by an upgrade since: "... (deleted)". */
	return strstr(exe, jail) != NULL;
}

/* The jail has the same marker; helpers of the hypervisor have it too, and are its children. */
static void find_process(
	const struct machine *m, const struct marked *v, size_t n, struct hv_process *out)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(v[i].owner, m->owner) != 0 || machine_of_process(&v[i]) == NULL)
			continue;
		if (is_jail(v[i].pid)) {
			out->jail_pid = v[i].pid;
			out->jail_starttime = v[i].starttime;
		} else if (out->pid == 0 || proc_parent(out->pid) == v[i].pid) {
			out->pid = v[i].pid;
			out->starttime = v[i].starttime;
		}
	}
	if (out->pid == 0 || proc_parent(out->pid) != out->jail_pid)
		out->jail_pid = 0;
}

/* The disk is the machine's as long as it is there: without it the next start would make it anew. */
static void keep_disk(struct machine *m)
{
	char *path = machine_find_disk(m->dir);
	struct stat st;

	if (path == NULL || stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
		free(path);
		return;
	}
	free(m->disk_path);
	m->disk_path = path;
}

/* So that no earlier boot's console is written over. */
static void count_boots(struct machine *m)
{
	DIR *dir = opendir(m->log_dir);
	struct dirent *e;
	unsigned boot;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (sscanf(e->d_name, "%u.", &boot) == 1)
			m->boot = MAX(m->boot, boot);
	}
	if (dir != NULL)
		closedir(dir);
}

static void find_objects(struct machine *m)
{
	struct ledger_owner *owner;
	struct object *o;

	for (unsigned i = 0; i < m->nnics; i++) {
		o = ledger_find(m->d->ledger, m->owner, OBJECT_NFT_TAP, m->nics[i].tap);
		if (o == NULL || json_str(o->data, "net") == NULL ||
			ip4_prefix_parse(json_str(o->data, "net"), false, &m->nics[i].net, NULL) <
				0)
			log_msg(LOG_LVL_WARN, m->name, "the subnet of %s is not known any more",
				m->nics[i].tap);
	}
	list_for_each_entry (owner, ledger_owners(m->d->ledger), entry) {
		if (strcmp(owner->name, m->owner) != 0)
			continue;
		list_for_each_entry (o, &owner->objects, entry) {
			if (o->kind == OBJECT_CGROUP && m->cgroup == NULL)
				m->cgroup = strdup(o->name);
		}
	}
}

static uint64_t started_ms(const struct hv_process *p)
{
	struct timespec ts;
	uint64_t up, since = p->starttime * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);

	clock_gettime(CLOCK_BOOTTIME, &ts);
	up = (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
	return clock_unix_ms() - (up > since ? up - since : 0);
}

void machine_found(struct machine *m, const struct marked *processes, size_t n, const char *why,
	struct saved_process *out)
{
	struct hv_process *p = &out->process;
	struct err err;

	*out = (struct saved_process){ .state = MACHINE_STOPPED };
	keep_disk(m);
	count_boots(m);
	find_process(m, processes, n, p);
	if (p->pid == 0) {
		log_error("%s; no hypervisor of it runs: it is stopped, and its files stay", why);
		return;
	}
	log_error("%s; taking it up from its process %d: counters and story of its runs are lost",
		why, (int)p->pid);
	m->cfg = config_vm(drover_config(m->d), m->name);
	if (m->cfg != NULL && machine_set_nics(m, &err) < 0)
		log_error("%s", err.msg);
	find_objects(m);
	/* Somebody had started it, or it had started by itself. */
	m->want_known = m->want_running = true;
	m->run_started_ms = started_ms(p);
	m->left = *p;
	m->state = out->state = MACHINE_RUNNING;
	out->this_boot = true;
	machine_tell(m, "found", "%s; taken up from its process %d", why, (int)p->pid);
}
