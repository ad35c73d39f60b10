/* hv/qemu-drives.c - what the drives for media hold: clients of the passthrough may change it. */
#include <string.h>

#include "hv/qemu.h"
#include "lib/json.h"

/*
 * As query-block tells it (qapi/block-core.json, BlockInfo): only what has a tray has tray_open, and
 * only what holds a medium has inserted.
 */
static json_t *drives_of(const json_t *reply)
{
	json_t *drives = json_array();
	const json_t *e;
	size_t i;

	json_array_foreach (reply, i, e) {
		const json_t *open = json_object_get(e, "tray_open");
		const char *id = json_str(e, "qdev");
		json_t *drive;

		if (id == NULL || !json_is_boolean(open))
			continue;
		drive = json_object();
		json_put_str(drive, "id", id);
		json_put_bool(drive, "open", json_is_true(open));
		json_put_str(drive, "medium", json_str(json_obj(e, "inserted"), "file"));
		json_array_append_new(drives, drive);
	}
	return drives;
}

static void told(void *arg, const json_t *reply, const struct err *err)
{
	struct qemu *q = arg;
	struct hv_event ev = { .kind = HV_EVENT_DRIVES, .status = q->hv.status };
	json_t *drives;

	if (err != NULL || !qemu_alive(q))
		return;
	drives = drives_of(reply);
	ev.data = drives;
	qemu_emit_event(q, &ev);
	json_decref(drives);
}

void qemu_ask_drives(struct qemu *q)
{
	if (q->qmp != NULL)
		qmp_command(q->qmp, "query-block", NULL, NULL, told, q);
}

/*
 * DEVICE_TRAY_MOVED (qapi/block.json). It comes before the answer to the command that did it, and
 * before `eject` takes the medium out: what is in there is asked, which QEMU does after that.
 */
void qemu_tray_moved(struct qemu *q, const json_t *data, const json_t *event)
{
	const struct qemu_by *by = &q->by[QMP_EFFECT_TRAY];
	struct hv_event ev = { .kind = HV_EVENT_TRAY,
		.status = q->hv.status,
		.open = json_flag(data, "tray-open", false),
		.by = by->who[0] != '\0' ? by->who : NULL,
		.reason = json_str(data, "id"),
		.data = event };

	qemu_ask_drives(q);
	qemu_emit_event(q, &ev);
}
