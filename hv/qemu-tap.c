/*
 * hv/qemu-tap.c - QEMU's own descriptor of a nic's TAP, for a TAP that was deleted under it.
 *
 * Which descriptor it is and how long the headers are that QEMU reads and writes there only QEMU
 * knows: it is asked. It must be quick about it: until the TAP is back, its main loop spins on the
 * dead descriptor, and a guest that loads its driver anew makes QEMU abort (net/tap-linux.c,
 * tap_fd_set_vnet_hdr_len).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hv/qemu.h"
#include "lib/json.h"

struct tap_query {
	struct list list; /* in q->taps */
	struct qemu *q;
	char *id;
	hv_tap_fn *done;
	void *arg;
	int number; /* of the descriptor in QEMU */
	bool mmio;  /* the device is virtio itself, without PCI around it */
};

static void query_free(struct tap_query *t)
{
	list_remove(&t->list);
	free(t->id);
	free(t);
}

static void query_end(struct tap_query *t, const struct hv_tap *tap, const struct err *err)
{
	hv_tap_fn *done = t->done;
	void *arg = t->arg;

	query_free(t);
	done(arg, tap, err);
}

/* ---- the descriptor ---- */

static int take_descriptor(struct tap_query *t, int *out, struct err *err)
{
	const struct hv_process *p = &t->q->hv.process;
	int pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0), fd;

	if (pidfd < 0)
		return err_errno(err, -errno, "the hypervisor's process %d", (int)p->pid);
	/* Not the process that has its number now. */
	if (proc_starttime(p->pid) != p->starttime) {
		close(pidfd);
		return err_set(err, -ESRCH, "the hypervisor is gone");
	}
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, t->number, 0);
	if (fd < 0 && (errno == EPERM || errno == EACCES))
		err_set(err, -errno,
			"droverd may not take the hypervisor's descriptor of it (CAP_SYS_PTRACE is needed)");
	else if (fd < 0)
		err_errno(err, -errno, "the hypervisor's descriptor %d", t->number);
	close(pidfd);
	if (fd < 0)
		return err->code;
	*out = fd;
	return 0;
}

/* ---- the headers ---- */

static bool has_feature(const json_t *features, const char *key, const char *name)
{
	const json_t *e;
	size_t i;

	/* "VIRTIO_F_VERSION_1: Device compliant with v1 spec (legacy)" */
	json_array_foreach (json_arr(features, key), i, e) {
		const char *text = json_string_value(e);

		if (text != NULL && str_starts(text, name) && text[strlen(name)] == ':')
			return true;
	}
	return false;
}

/* As QEMU reckons it (hw/net/virtio-net.c, virtio_net_set_mrg_rx_bufs; sizes: virtio 1.2, 5.1.6). */
static int header_length(const json_t *features)
{
	if (has_feature(features, "dev-features", "VIRTIO_NET_F_HASH_REPORT"))
		return 20;
	if (has_feature(features, "transports", "VIRTIO_F_VERSION_1") ||
		has_feature(features, "dev-features", "VIRTIO_NET_F_MRG_RXBUF"))
		return 12;
	/* Without a driver there is nobody to whom it would matter: the next one sets it. */
	return 10;
}

static void ask_virtio(struct tap_query *t);

static void virtio_told(void *arg, const json_t *reply, const struct err *err)
{
	struct tap_query *t = arg;
	struct hv_tap tap = { .fd = -1 };
	struct err mine;

	if (err != NULL && !t->mmio && err->code != -ESRCH && err->code != -ETIMEDOUT) {
		t->mmio = true;
		ask_virtio(t);
		return;
	}
	if (err != NULL) {
		err_set(&mine, err->code, "the hypervisor does not tell how it uses the nic: %s",
			err->msg);
		query_end(t, NULL, &mine);
		return;
	}
	if (json_flag(reply, "vhost-started", false)) {
		err_set(&mine, -ENOTSUP, "the kernel's vhost moves its packets");
		query_end(t, NULL, &mine);
		return;
	}
	tap.vnet_hdr_len = header_length(json_obj(reply, "guest-features"));
	if (take_descriptor(t, &tap.fd, &mine) < 0) {
		query_end(t, NULL, &mine);
		return;
	}
	query_end(t, &tap, NULL);
	close(tap.fd);
}

static void ask_virtio(struct tap_query *t)
{
	char path[96];
	json_t *cmd;

	snprintf(path, sizeof(path), "/machine/peripheral/%s%s", t->id,
		t->mmio ? "" : "/virtio-backend");
	cmd = json_pack(
		"{s:s, s:{s:s}}", "execute", "x-query-virtio-status", "arguments", "path", path);
	qemu_execute(&t->q->hv, cmd, 0, virtio_told, t);
	json_decref(cmd);
}

/* ---- its number ---- */

/* "nic0: index=0,type=nic,...\r\n \ nic0-tap: index=0,type=tap,fd=7\r\n" (net/net.c) */
static int find_number(const char *text, const char *id)
{
	char head[64];
	const char *line, *fd;
	int n = snprintf(head, sizeof(head), " %s-tap: ", id), number, used;

	line = n < (int)sizeof(head) ? strstr(text, head) : NULL;
	if (line == NULL)
		return -1;
	fd = strstr(line, ",fd=");
	if (fd == NULL || fd > line + strcspn(line, "\r\n") ||
		sscanf(fd, ",fd=%d%n", &number, &used) != 1 || number < 0)
		return -1;
	return number;
}

static void network_told(void *arg, const json_t *reply, const struct err *err)
{
	struct tap_query *t = arg;
	const char *text = json_string_value(reply);
	struct err mine;

	if (err != NULL) {
		query_end(t, NULL, err);
		return;
	}
	t->number = text != NULL ? find_number(text, t->id) : -1;
	if (t->number < 0) {
		err_set(&mine, -ENOTSUP, "the hypervisor has no descriptor of a TAP for nic %s",
			quote(t->id));
		query_end(t, NULL, &mine);
		return;
	}
	ask_virtio(t);
}

int qemu_tap(struct hv *hv, const char *nic_id, hv_tap_fn *done, void *arg, struct err *err)
{
	struct tap_query *t = calloc(1, sizeof(*t));
	json_t *cmd = json_pack("{s:s, s:{s:s}}", "execute", "human-monitor-command", "arguments",
		"command-line", "info network");

	if (t != NULL)
		t->id = strdup(nic_id);
	if (cmd == NULL || t == NULL || t->id == NULL) {
		free(t);
		json_decref(cmd);
		return err_nomem(err);
	}
	t->q = qemu_of(hv);
	t->done = done;
	t->arg = arg;
	list_append(&t->q->taps, &t->list);
	qemu_execute(hv, cmd, 0, network_told, t);
	json_decref(cmd);
	return 0;
}

void qemu_forget_taps(struct qemu *q)
{
	while (!list_empty(&q->taps))
		query_free(list_first(&q->taps, struct tap_query, list));
}
