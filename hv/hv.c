#include "hv/hv.h"

#include <errno.h>
#include <stdlib.h>

#include "hv/backend.h"
#include "lib/deadline.h"
#include "lib/log.h"

static const struct hv_ops *const backends[] = { &hv_qemu, &hv_cloud_hypervisor };

static const char *const status_names[] = {
	[HV_STATUS_UNKNOWN] = "unknown",
	[HV_STATUS_CREATED] = "created",
	[HV_STATUS_RUNNING] = "running",
	[HV_STATUS_PAUSED] = "paused",
	[HV_STATUS_IO_ERROR] = "io-error",
	[HV_STATUS_PANICKED] = "panicked",
	[HV_STATUS_BROKEN] = "broken",
	[HV_STATUS_SHUTDOWN] = "shutdown",
	[HV_STATUS_SAVING] = "saving",
	[HV_STATUS_INCOMING] = "incoming",
};

const char *hv_status_name(enum hv_status s)
{
	return (size_t)s < ARRAY_LEN(status_names) ? status_names[s] : "unknown";
}

const struct hv_ops *hv_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(backends); i++)
		if (str_eq(backends[i]->name, name))
			return backends[i];
	return NULL;
}

void hv_command_finish(struct hv_command *c)
{
	strv_finish(&c->argv);
	c->nfds = 0;
}

void hv_clean_text(char *s)
{
	for (; *s != '\0'; s++)
		if ((unsigned char)*s < ' ' || *s == 0x7f)
			*s = ' ';
}

int hv_create(struct hv **out, const struct hv_ops *ops, uv_loop_t *loop,
	const struct hv_callbacks *cb, struct err *err)
{
	int r = ops->create(out, loop, cb, err);

	if (r == 0)
		list_init(&(*out)->refusals);
	return r;
}

void hv_start(struct hv *hv, const struct hv_spec *spec, hv_spawned_fn *spawned, hv_done_fn *done,
	void *arg)
{
	hv->ops->start(hv, spec, spawned, done, arg);
}

void hv_start_cancel(struct hv *hv)
{
	hv->ops->start_cancel(hv);
}

void hv_adopt(struct hv *hv, const struct hv_spec *spec, const struct hv_process *process,
	struct child_status *status, hv_done_fn *done, void *arg)
{
	hv->ops->adopt(hv, spec, process, status, done, arg);
}

enum hv_status hv_status(const struct hv *hv)
{
	return hv->status;
}

bool hv_unresponsive(const struct hv *hv)
{
	return hv->unresponsive;
}

const struct hv_process *hv_process(const struct hv *hv)
{
	return &hv->process;
}

const struct hv_caps *hv_caps(const struct hv *hv)
{
	return &hv->caps;
}

static const char *const cap_names[] = {
	[HV_CAP_PAUSE] = "pause",
	[HV_CAP_POWERDOWN] = "powerdown",
	[HV_CAP_RESET] = "reset",
	[HV_CAP_NMI] = "nmi",
	[HV_CAP_SCREENDUMP] = "screendump",
	[HV_CAP_DUMP] = "dump",
	[HV_CAP_COUNTERS] = "counters",
	[HV_CAP_SNAPSHOT] = "snapshot",
	[HV_CAP_COPY_DISKS] = "copy-disks",
	[HV_CAP_MIGRATE] = "migrate",
	[HV_CAP_MEMORY_CLONE] = "memory-clone",
	[HV_CAP_ADD_DISK] = "add-disk",
	[HV_CAP_ADD_NIC] = "add-nic",
	[HV_CAP_RESIZE_CPU] = "resize-cpu",
	[HV_CAP_RESIZE_MEMORY] = "resize-memory",
	[HV_CAP_PASSTHROUGH] = "passthrough",
};

const char *hv_cap_name(enum hv_cap cap)
{
	return (size_t)cap < ARRAY_LEN(cap_names) ? cap_names[cap] : "unknown";
}

int hv_can(const struct hv *hv, enum hv_cap cap, struct err *err)
{
	const char *why = hv->caps.why_not[cap];

	if (why == NULL)
		return 0;
	return err_set(err, -ENOTSUP, "%s cannot do %s here: %s",
		hv->caps.program != NULL ? hv->caps.program : hv->ops->name, hv_cap_name(cap), why);
}

const char *hv_accel_text(const struct hv *hv)
{
	return hv->accel_text;
}

void hv_pause(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv->ops->pause(hv, done, arg);
}

void hv_resume(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv->ops->resume(hv, done, arg);
}

void hv_powerdown(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv->ops->powerdown(hv, done, arg);
}

void hv_reset(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv->ops->reset(hv, done, arg);
}

void hv_quit(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv->ops->quit(hv, done, arg);
}

int hv_kill(struct hv *hv, int sig)
{
	return hv->ops->kill(hv, sig);
}

void hv_execute(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	hv->ops->execute(hv, cmd, timeout_ms, reply, arg);
}

void hv_execute_text(struct hv *hv, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg)
{
	hv->ops->execute_text(hv, who, text, len, write, reply, arg);
}

int hv_passthrough(struct hv *hv, const char *path, gid_t group, struct err *err)
{
	return hv->ops->passthrough(hv, path, group, err);
}

void hv_passthrough_write(struct hv *hv, bool write)
{
	hv->ops->passthrough_write(hv, write);
}

void hv_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	hv->ops->ping(hv, timeout_ms, reply, arg);
}

void hv_agent(struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	hv->ops->agent(hv, cmd, timeout_ms, reply, arg);
}

void hv_agent_forget(struct hv *hv, const void *arg)
{
	hv->ops->agent_forget(hv, arg);
}

int hv_console_write(struct hv *hv, const char *data, size_t len)
{
	return hv->ops->console_write(hv, data, len);
}

int hv_tap(struct hv *hv, const char *nic_id, hv_tap_fn *done, void *arg, struct err *err)
{
	if (hv->ops->tap == NULL)
		return err_set(err, -ENOTSUP, "this hypervisor cannot be given another TAP");
	return hv->ops->tap(hv, nic_id, done, arg, err);
}

/* ---- what not every backend can ---- */

/* Tells done or reply what hv_can() says, on a later turn of the loop. */
struct refusal {
	struct list node;
	struct deadline later;
	struct err err;
	hv_done_fn *done;
	hv_reply_fn *reply;
	void *arg;
};

static void refusal_free(void *arg)
{
	free(arg);
}

static void refusal_drop(struct refusal *f)
{
	list_remove(&f->node);
	deadline_close(&f->later, refusal_free);
}

static void refusal_tell(void *arg)
{
	struct refusal f = *(struct refusal *)arg;

	refusal_drop(arg);
	if (f.done != NULL)
		f.done(f.arg, &f.err);
	if (f.reply != NULL)
		f.reply(f.arg, NULL, &f.err);
}
static void refuse(struct hv *hv, enum hv_cap cap, hv_done_fn *done, hv_reply_fn *reply, void *arg)
{
	struct refusal *f = calloc(1, sizeof(*f));

	if (f == NULL || deadline_init(&f->later, hv->loop, refusal_tell, f) < 0) {
		free(f);
		log_error("no memory to refuse %s", hv_cap_name(cap));
		return;
	}
	hv_can(hv, cap, &f->err);
	f->done = done;
	f->reply = reply;
	f->arg = arg;
	list_append(&hv->refusals, &f->node);
	deadline_set(&f->later, 0);
}

/* Whether the backend has this operation and its caps allow it; else the caller is told later. */
static bool able(struct hv *hv, bool has, enum hv_cap cap, hv_done_fn *done, void *arg)
{
	if (has && hv->caps.why_not[cap] == NULL)
		return true;
	if (hv->caps.why_not[cap] == NULL)
		hv->caps.why_not[cap] = "drover does not do that with this hypervisor";
	refuse(hv, cap, done, NULL, arg);
	return false;
}

void hv_nmi(struct hv *hv, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->nmi != NULL, HV_CAP_NMI, done, arg))
		hv->ops->nmi(hv, done, arg);
}

void hv_screendump(struct hv *hv, const char *path, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->screendump != NULL, HV_CAP_SCREENDUMP, done, arg))
		hv->ops->screendump(hv, path, done, arg);
}

void hv_dump(struct hv *hv, const char *path, hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->dump != NULL, HV_CAP_DUMP, done, arg))
		hv->ops->dump(hv, path, progress, done, arg);
}

void hv_counters(struct hv *hv, hv_reply_fn *reply, void *arg)
{
	if (hv->ops->counters != NULL && hv->caps.why_not[HV_CAP_COUNTERS] == NULL)
		hv->ops->counters(hv, reply, arg);
	else
		refuse(hv, HV_CAP_COUNTERS, NULL, reply, arg);
}

void hv_save(struct hv *hv, const char *dir, hv_progress_fn *progress, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->save != NULL, HV_CAP_SNAPSHOT, done, arg))
		hv->ops->save(hv, dir, progress, done, arg);
}

void hv_copy_disks(struct hv *hv, const struct hv_disk_copy *copies, size_t n,
	hv_progress_fn *progress, hv_done_fn *begun, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->copy_disks != NULL, HV_CAP_COPY_DISKS, done, arg))
		hv->ops->copy_disks(hv, copies, n, progress, begun, done, arg);
}

void hv_migrate_out(struct hv *hv, const struct hv_migration *to, hv_progress_fn *progress,
	hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->migrate_out != NULL, HV_CAP_MIGRATE, done, arg))
		hv->ops->migrate_out(hv, to, progress, done, arg);
}

void hv_serve_disks(
	struct hv *hv, int fd, const char *const *ids, size_t n, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->serve_disks != NULL, HV_CAP_MIGRATE, done, arg))
		hv->ops->serve_disks(hv, fd, ids, n, done, arg);
}

void hv_migrate_in(struct hv *hv, const struct hv_migration *from, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->migrate_in != NULL, HV_CAP_MIGRATE, done, arg))
		hv->ops->migrate_in(hv, from, done, arg);
}

void hv_job_cancel(struct hv *hv)
{
	if (hv->ops->job_cancel != NULL)
		hv->ops->job_cancel(hv);
}

void hv_add_disk(struct hv *hv, const struct hv_disk *disk, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->add_disk != NULL, HV_CAP_ADD_DISK, done, arg))
		hv->ops->add_disk(hv, disk, done, arg);
}

void hv_add_nic(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->add_nic != NULL, HV_CAP_ADD_NIC, done, arg))
		hv->ops->add_nic(hv, nic, done, arg);
}

void hv_remove_device(struct hv *hv, const char *id, hv_done_fn *done, void *arg)
{
	if (able(hv, hv->ops->remove_device != NULL, HV_CAP_ADD_DISK, done, arg))
		hv->ops->remove_device(hv, id, done, arg);
}

void hv_resize(struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg)
{
	enum hv_cap cap = vcpus != 0 ? HV_CAP_RESIZE_CPU : HV_CAP_RESIZE_MEMORY;

	if (!able(hv, hv->ops->resize != NULL, cap, done, arg))
		return;
	if (memory_mib == 0 || able(hv, true, HV_CAP_RESIZE_MEMORY, done, arg))
		hv->ops->resize(hv, vcpus, memory_mib, done, arg);
}

void hv_destroy(struct hv *hv, void (*closed)(void *arg), void *arg)
{
	if (hv == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	while (!list_empty(&hv->refusals))
		refusal_drop(list_first(&hv->refusals, struct refusal, node));
	hv->ops->destroy(hv, closed, arg);
}
