/* hv/ch-boot.c - from the API's first answer to a guest: vmm.ping, vm.create, vm.boot. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

/* The deadline of a start is its owner's. */
static void ask(
	struct ch *c, const char *method, const char *path, const json_t *body, ch_answer_fn *done)
{
	struct ch_request r = { .method = method,
		.path = path,
		.body = body,
		.timeout_ms = UINT64_MAX,
		.slow = true,
		.done = done,
		.arg = c };

	if (c->api != NULL)
		ch_api_send(c->api, &r);
}

int ch_mark_boot(struct ch *c, struct err *err)
{
	int fd;

	unlink(c->marker_path);
	if (c->config == NULL || c->restore_dir != NULL)
		return 0;
	fd = open(c->marker_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, -errno, "create %s", quote(c->marker_path));
	close(fd);
	return 0;
}

static bool is_off(const struct ch *c)
{
	return c->phase != CH_STARTING && !(c->phase == CH_UP && c->adopting);
}

/* Without an answer the socket's end is told elsewhere, or the deadline comes. */
static bool failed(struct ch *c, const char *what, const struct ch_answer *a, const struct err *err)
{
	struct err mine;

	if (err == NULL || a == NULL)
		return err != NULL;
	mine = *err;
	err_wrap(&mine, "%s", what);
	ch_start_failed(c, &mine);
	return true;
}

static void up(struct ch *c, enum hv_status status)
{
	unlink(c->marker_path);
	ch_set_status(c, status, false, NULL, hv_status_name(status));
	ch_answered(c);
}

static void booted(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch *c = arg;

	if (is_off(c) || failed(c, "vm.boot", a, err))
		return;
	up(c, HV_STATUS_RUNNING);
}

static void nic_added(void *arg, const struct ch_answer *a, const struct err *err);

static void boot(struct ch *c)
{
	struct ch_request add = { .method = "PUT",
		.path = "/vm.add-net",
		.timeout_ms = UINT64_MAX,
		.slow = true,
		.done = nic_added,
		.arg = c };

	if (c->api != NULL && ch_next_boot_nic(c, &add))
		return;
	if (c->start_paused)
		up(c, HV_STATUS_CREATED);
	else
		ask(c, "PUT", "/vm.boot", NULL, booted);
}

static void nic_added(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch *c = arg;

	if (!is_off(c) && !failed(c, "vm.add-net", a, err))
		boot(c);
}

static void created(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch *c = arg;

	if (is_off(c) || failed(c, "vm.create", a, err))
		return;
	/*
	 * The console listens from here on (vmm/src/lib.rs, vm_create): with us in its backlog no
	 * byte of the guest's is lost.
	 */
	ch_dial_console(c);
	boot(c);
}

static void restored(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch *c = arg;

	/* What is mapped stays. */
	remove_tree(c->restore_dir, NULL);
	if (is_off(c) || failed(c, "vm.restore", a, err))
		return;
	ch_dial_console(c);
	up(c, HV_STATUS_PAUSED);
}

static void restore(struct ch *c)
{
	char *url = str_printf("file://%s", c->restore_dir);
	json_t *body = url != NULL ? json_pack("{s:s,s:b}", "source_url", url, "resume", 0) : NULL;
	struct err err;

	free(url);
	if (body != NULL) {
		ask(c, "PUT", "/vm.restore", body, restored);
		json_decref(body);
	} else {
		err_nomem(&err);
		ch_start_failed(c, &err);
	}
}

/* There is no guest yet. */
static void make(struct ch *c)
{
	/* A socket that an earlier run has left makes the bind fail (vmm/src/console_devices.rs). */
	unlink(c->serial_path);
	if (c->restore_dir != NULL)
		restore(c);
	else if (c->config != NULL)
		ask(c, "PUT", "/vm.create", c->config, created);
	else
		up(c, HV_STATUS_INCOMING);
}

/* Goes on with the boot that an earlier daemon has left half done. */
static void boot_left(struct ch *c)
{
	if (!c->lacks_nics) {
		boot(c);
		return;
	}
	log_error(
		"cloud-hypervisor %d: its start was interrupted, and the descriptors of its nics are gone with who had them: it is ended",
		(int)c->hv.process.pid);
	process_signal(c->process, SIGKILL);
}

static void take_up(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch *c = arg;
	json_t *info = NULL;
	bool marked;

	if (is_off(c) || a == NULL)
		return;
	marked = access(c->marker_path, F_OK) == 0;
	if (err == NULL && json_parse(a->text, a->len, &info, NULL) == 0) {
		if (marked && str_eq(json_str(info, "state"), "Created") && !c->start_paused) {
			boot_left(c);
		} else {
			ch_take_info(c, info);
			unlink(c->marker_path);
			ch_answered(c);
		}
	} else if (marked && c->config != NULL && !c->lacks_nics) {
		make(c);
	} else if (marked && c->config != NULL) {
		boot_left(c);
	} else {
		ch_set_status(c, HV_STATUS_INCOMING, false, NULL, NULL);
		ch_answered(c);
	}
	json_decref(info);
}

static void note_features(struct ch *c, const json_t *ping)
{
	const json_t *features = json_arr(ping, "features"), *e;
	size_t i;

	/* Coredumps are built with it (vmm/src/api/http/mod.rs). */
	json_array_foreach (features, i, e)
		if (str_eq(json_string_value(e), "guest_debug"))
			c->hv.caps.why_not[HV_CAP_DUMP] = NULL;
}

static void pinged(void *arg, const struct ch_answer *a, const struct err *err)
{
	struct ch *c = arg;
	struct ch_version v;
	json_t *ping = NULL;
	const char *text;

	if (is_off(c) || failed(c, "vmm.ping", a, err))
		return;
	if (json_parse(a->text, a->len, &ping, NULL) < 0)
		ping = NULL;
	text = json_str(ping, "build_version");
	if (text == NULL)
		text = json_str(ping, "version");
	if (text != NULL && ch_version_parse(text, &v) == 0)
		ch_set_program(c, &v);
	note_features(c, ping);
	json_decref(ping);
	if (c->adopting)
		ask(c, "GET", "/vm.info", NULL, take_up);
	else
		make(c);
}

void ch_boot(struct ch *c)
{
	ask(c, "GET", "/vmm.ping", NULL, pinged);
}
