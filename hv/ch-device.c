/* hv/ch-device.c - cloud-hypervisor's devices, processors and memory while the guest runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

/* How long the guest may take to let go of a device. */
#define REMOVE_MS 30000
/* Opening a disk with many layers, or a device of the host, is done before the answer. */
#define ADD_MS 30000

static void put(struct ch *c, const char *path, json_t *body, int fd, const struct ch_op *op)
{
	struct ch_request r = {
		.method = "PUT", .path = path, .body = body, .pass_fd = fd, .timeout_ms = ADD_MS
	};
	struct err err;

	if (body != NULL) {
		ch_op_send(c, &r, op);
		json_decref(body);
	} else {
		err_nomem(&err);
		ch_op_later(c, &err, op);
	}
}

void ch_add_disk(struct hv *hv, const struct hv_disk *disk, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };
	struct hv_disk mine = *disk;
	json_t *body = NULL;
	struct err err;

	if (mine.id == NULL)
		err_set(&err, -EINVAL, "a disk that is added needs an id");
	if (mine.id == NULL || ch_disk_config(&mine, 0, &body, &err) < 0)
		ch_op_later(ch_of(hv), &err, &op);
	else
		put(ch_of(hv), "/vm.add-disk", body, 0, &op);
}

void ch_add_nic(struct hv *hv, const struct hv_nic *nic, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };

	/* By name it could not open a TAP of one queue that its giver has open. */
	put(ch_of(hv), "/vm.add-net", ch_net_config(nic, nic->tap_fd >= 0), MAX(nic->tap_fd, 0),
		&op);
}

void ch_resize(struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg)
{
	struct ch_op op = { .done = done, .arg = arg };
	json_t *body = json_object();

	if (vcpus != 0)
		json_put_int(body, "desired_vcpus", vcpus);
	if (memory_mib != 0)
		json_put_int(body, "desired_ram", (int64_t)(memory_mib << 20));
	put(ch_of(hv), "/vm.resize", body, 0, &op);
}

/* ---- removal: the answer says that the guest was asked, the event that it has let go ---- */

struct removal {
	struct list list; /* of c->removals until it is told */
	struct ch *c;
	struct deadline timer;
	char *id;
	bool asked, gone;
	hv_done_fn *done;
	void *arg;
	int refs; /* the request's and the timer's */
};

static void unref(struct removal *r)
{
	if (--r->refs > 0)
		return;
	free(r->id);
	free(r);
}

static void timer_closed(void *arg)
{
	unref(arg);
}

/* The only exit; with done NULL it is forgotten. */
static void tell(struct removal *r, const struct err *err)
{
	hv_done_fn *done = r->done;

	if (list_empty(&r->list))
		return;
	list_remove(&r->list);
	r->done = NULL;
	deadline_close(&r->timer, timer_closed);
	if (done != NULL)
		done(r->arg, err);
}

static void too_late(void *arg)
{
	struct removal *r = arg;
	struct err err;

	err_set(&err, -EBUSY, "the guest has not let go of %s within %d s", quote(r->id),
		REMOVE_MS / 1000);
	tell(r, &err);
}

static void removal_answered(void *arg, const struct err *err)
{
	struct removal *r = arg;
	struct ch *c = r->c;

	r->asked = true;
	if (err != NULL)
		tell(r, err);
	else if (r->gone || c->hv.status == HV_STATUS_CREATED)
		tell(r, NULL);
	else if (!list_empty(&r->list))
		deadline_set(&r->timer, REMOVE_MS);
	unref(r);
}

void ch_device_gone(struct ch *c, const char *id)
{
	struct removal *r, *found = NULL;

	list_for_each_entry (r, &c->removals, list)
		if (str_eq(r->id, id))
			found = r;
	if (found == NULL)
		return;
	found->gone = true;
	if (found->asked)
		tell(found, NULL);
}

void ch_remove_device(struct hv *hv, const char *id, hv_done_fn *done, void *arg)
{
	struct removal *r = calloc(1, sizeof(*r));
	struct ch *c = ch_of(hv);
	struct ch_op op = { .done = removal_answered, .arg = r };
	struct err err;

	if (r != NULL)
		r->id = strdup(id);
	if (r == NULL || r->id == NULL) {
		free(r);
		op = (struct ch_op){ .done = done, .arg = arg };
		err_nomem(&err);
		ch_op_later(c, &err, &op);
		return;
	}
	r->c = c;
	r->done = done;
	r->arg = arg;
	r->refs = 2;
	deadline_init(&r->timer, c->hv.loop, too_late, r);
	list_append(&c->removals, &r->list);
	put(c, "/vm.remove-device", json_pack("{s:s}", "id", id), 0, &op);
}

void ch_end_removals(struct ch *c, const struct err *err)
{
	struct removal *r;

	while ((r = list_first(&c->removals, struct removal, list)) != NULL) {
		if (err == NULL) {
			r->done = NULL;
			/* Its request is forgotten with all the others. */
			if (!r->asked)
				r->refs--;
		}
		tell(r, err);
	}
}
