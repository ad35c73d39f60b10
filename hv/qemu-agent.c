/* hv/qemu-agent.c - QEMU's side of the guest agent, and the question whether a monitor answers. */
#include <errno.h>

#include "hv/qemu.h"
#include "lib/json.h"

void qemu_ping(struct hv *hv, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	json_t *cmd = json_pack("{s:s}", "execute", "query-status");

	hv->ops->execute(hv, cmd, timeout_ms, reply, arg);
	json_decref(cmd);
}

int qemu_take_agent(struct qemu *q, int fd, struct err *err)
{
	int r = agent_create(&q->agent, q->hv.loop, q->agent_path, fd, err);

	if (r == 0)
		q->handles++;
	return r;
}

void qemu_drop_agent(struct qemu *q)
{
	struct agent *agent = q->agent;

	q->agent = NULL;
	if (agent != NULL)
		agent_destroy(agent, qemu_part_closed, q);
}

void qemu_agent(
	struct hv *hv, const json_t *cmd, uint64_t timeout_ms, hv_reply_fn *reply, void *arg)
{
	struct qemu *q = qemu_of(hv);
	struct err err;

	if ((q->agent != NULL || qemu_take_agent(q, -1, &err) == 0) &&
		agent_command(q->agent, cmd, timeout_ms, reply, arg) == 0) {
		/* The shutdown that follows is not the guest's own idea. */
		if (str_eq(json_str(cmd, "execute"), "guest-shutdown"))
			q->intents.powerdown = true;
		return;
	}
	/* The one case where the answer comes from within the call: nothing can be remembered. */
	err_nomem(&err);
	reply(arg, NULL, &err);
}

void qemu_agent_forget(struct hv *hv, const void *arg)
{
	struct qemu *q = qemu_of(hv);

	if (q->agent != NULL)
		agent_forget(q->agent, arg);
}
