#include "hv/hv.h"

#include "hv/backend.h"

static const struct hv_ops *const backends[] = { &hv_qemu };

static const char *const status_names[] = {
	[HV_STATUS_UNKNOWN] = "unknown",
	[HV_STATUS_CREATED] = "created",
	[HV_STATUS_RUNNING] = "running",
	[HV_STATUS_PAUSED] = "paused",
	[HV_STATUS_IO_ERROR] = "io-error",
	[HV_STATUS_PANICKED] = "panicked",
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
	return ops->create(out, loop, cb, err);
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

void hv_destroy(struct hv *hv, void (*closed)(void *arg), void *arg)
{
	if (hv != NULL)
		hv->ops->destroy(hv, closed, arg);
	else if (closed != NULL)
		closed(arg);
}
