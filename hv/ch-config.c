/* hv/ch-config.c - a machine in cloud-hypervisor's words: its command line, its API's VmConfig. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/ch.h"
#include "lib/json.h"

/* Numbers of the descriptors in cloud-hypervisor. */
#define FD_API    3
#define FD_EVENTS 4

int ch_arguments(const struct hv_spec *spec, int monitor_fd, int serial_fd, int agent_fd,
	bool use_kvm, struct hv_command *out, struct err *err)
{
	struct hv_command cmd = { 0 };

	cmd.fds[cmd.nfds++] = (struct child_fd){ monitor_fd, FD_API };
	cmd.fds[cmd.nfds++] = (struct child_fd){ serial_fd, FD_EVENTS };
	strv_add(&cmd.argv, spec->binary);
	strv_add(&cmd.argv, "--api-socket");
	strv_addf(&cmd.argv, "fd=%d", FD_API);
	strv_add(&cmd.argv, "--event-monitor");
	strv_addf(&cmd.argv, "fd=%d", FD_EVENTS);
	/* Every thread has its own filter; that is the default, which somebody may change one day. */
	strv_add(&cmd.argv, "--seccomp");
	strv_add(&cmd.argv, spec->sandbox ? "true" : "false");
	for (size_t i = 0; spec->extra_args != NULL && spec->extra_args[i] != NULL; i++)
		strv_add(&cmd.argv, spec->extra_args[i]);
	if (cmd.argv.bad) {
		hv_command_finish(&cmd);
		return err_nomem(err);
	}
	*out = cmd;
	return 0;
}

/* Sets key to value, whose reference it takes; a failure shows in *bad. */
static void put(json_t *obj, const char *key, json_t *value, bool *bad)
{
	if (json_object_set_new(obj, key, value) < 0)
		*bad = true;
}

static void put_str(json_t *obj, const char *key, const char *value, bool *bad)
{
	if (value != NULL)
		put(obj, key, json_string(value), bad);
}

static void put_int(json_t *obj, const char *key, uint64_t value, bool *bad)
{
	put(obj, key, json_integer((json_int_t)value), bad);
}

static int finish(json_t *j, bool bad, json_t **out, struct err *err)
{
	if (j == NULL || bad) {
		json_decref(j);
		return err_set(err, -EINVAL,
			"no memory for its configuration, or a path in it that is no UTF-8");
	}
	*out = j;
	return 0;
}

/* What has no counterpart there. */
static int check(const struct hv_spec *s, struct err *err)
{
	const char *what = s->agent                 ? "guest agent's port"
			   : s->watchdog != NULL    ? "such watchdog device"
			   : s->vnc != NULL         ? "display"
			   : s->memory_file != NULL ? "way to put its memory into a given file"
			   : s->cpu != NULL         ? "choice of CPU models"
						    : NULL;

	if (what != NULL)
		return err_set(err, -ENOTSUP, "cloud-hypervisor has no %s", what);
	if (s->kernel == NULL && s->firmware == NULL)
		return err_set(err, -ENOTSUP,
			"cloud-hypervisor has no BIOS of its own: it needs a kernel or a firmware");
	if (s->firmware_vars != NULL)
		return err_set(err, -ENOTSUP,
			"cloud-hypervisor's firmware keeps no variables: there is no file for them");
	return 0;
}

static json_t *cpus(const struct hv_spec *s, bool *bad)
{
	unsigned max = MAX(s->vcpus_max, MAX(s->vcpus, 1u));
	json_t *j = json_object(), *t;

	put_int(j, "boot_vcpus", MAX(s->vcpus, 1u), bad);
	put_int(j, "max_vcpus", max, bad);
	if (s->sockets > 0 && s->cores > 0 && s->threads > 0) {
		t = json_object();
		put_int(t, "threads_per_core", s->threads, bad);
		put_int(t, "cores_per_die", s->cores, bad);
		put_int(t, "dies_per_package", 1, bad);
		put_int(t, "packages", s->sockets, bad);
		put(j, "topology", t, bad);
	}
	return j;
}

static json_t *memory(const struct hv_spec *s, bool *bad)
{
	json_t *j = json_object();

	put_int(j, "size", s->memory_mib << 20, bad);
	/* By ACPI (the default): virtio-mem would need its driver in the guest. */
	if (s->memory_max_mib > s->memory_mib)
		put_int(j, "hotplug_size", (s->memory_max_mib - s->memory_mib) << 20, bad);
	/* virtiofsd maps the guest's memory. */
	if (s->memory_shared || s->nshares > 0)
		put(j, "shared", json_true(), bad);
	if (s->hugepages)
		put(j, "hugepages", json_true(), bad);
	return j;
}

static json_t *payload(const struct hv_spec *s, bool *bad)
{
	json_t *j = json_object();

	if (s->kernel != NULL) {
		put_str(j, "kernel", s->kernel, bad);
		put_str(j, "initramfs", s->initrd, bad);
		put_str(j, "cmdline", s->cmdline, bad);
	} else {
		put_str(j, "firmware", s->firmware, bad);
	}
	return j;
}

int ch_disk_config(const struct hv_disk *d, size_t i, json_t **out, struct err *err)
{
	json_t *j = json_object();
	bool bad = false;
	char id[32];

	snprintf(id, sizeof(id), "disk%zu", i);
	put_str(j, "id", d->id != NULL ? d->id : id, &bad);
	put_str(j, "path", d->path, &bad);
	if (d->readonly || d->cdrom)
		put(j, "readonly", json_true(), &bad);
	/* Said, never guessed from what the guest may have written into a raw disk. */
	put_str(j, "image_type", d->format == HV_DISK_QCOW2 ? "Qcow2" : "Raw", &bad);
	if (d->format == HV_DISK_QCOW2)
		put(j, "backing_files", json_true(), &bad);
	put_str(j, "serial", d->serial, &bad);
	return finish(j, bad, out, err);
}

json_t *ch_net_config(const struct hv_nic *n, bool fd)
{
	json_t *j = json_object();
	bool bad = false;

	put_str(j, "id", n->id, &bad);
	put_str(j, "mac", n->mac, &bad);
	/* The TAP is there already and stays as it is: one queue for each direction. */
	if (!fd)
		put_str(j, "tap", n->tap, &bad);
	if (bad) {
		json_decref(j);
		return NULL;
	}
	return j;
}

static int add_disks(json_t *j, const struct hv_spec *s, bool *bad, struct err *err)
{
	json_t *array, *d;

	if (s->ndisks == 0)
		return 0;
	array = json_array();
	put(j, "disks", array, bad);
	for (size_t i = 0; i < s->ndisks; i++) {
		int r = ch_disk_config(&s->disks[i], i, &d, err);

		if (r < 0)
			return r;
		if (json_array_append_new(array, d) < 0)
			*bad = true;
	}
	return 0;
}

static void add_nics(json_t *j, const struct hv_spec *s, bool *bad)
{
	json_t *array = NULL;

	for (size_t i = 0; i < s->nnics; i++) {
		/* What has a descriptor alone is added later (ch-boot-nic.c). */
		if (s->nics[i].tap == NULL)
			continue;
		if (array == NULL) {
			array = json_array();
			put(j, "net", array, bad);
		}
		if (json_array_append_new(array, ch_net_config(&s->nics[i], false)) < 0)
			*bad = true;
	}
}

static void add_shares(json_t *j, const struct hv_spec *s, bool *bad)
{
	json_t *array = json_array(), *f;

	for (size_t i = 0; i < s->nshares; i++) {
		f = json_object();
		put_str(f, "tag", s->shares[i].tag, bad);
		put_str(f, "socket", s->shares[i].socket, bad);
		put_int(f, "num_queues", 1, bad);
		put_int(f, "queue_size", 1024, bad);
		if (json_array_append_new(array, f) < 0)
			*bad = true;
	}
	put(j, "fs", array, bad);
}

/*
 * The paths of its own sockets are relative to its working directory, run_dir: so they are right
 * wherever this configuration goes with a migration or a snapshot.
 */
static void add_devices(json_t *j, const struct hv_spec *s, bool *bad)
{
	json_t *e = json_object();

	put_str(e, "src", "/dev/urandom", bad);
	put(j, "rng", e, bad);
	e = json_object();
	put_str(e, "mode", "Socket", bad);
	put_str(e, "socket", "serial.sock", bad);
	put(j, "serial", e, bad);
	/* The virtio console has no socket, and nobody would read its terminal. */
	e = json_object();
	put_str(e, "mode", "Off", bad);
	put(j, "console", e, bad);
	if (s->panic_device)
		put(j, "pvpanic", json_true(), bad);
	if (s->balloon) {
		e = json_object();
		put_int(e, "size", 0, bad);
		put(e, "deflate_on_oom", json_true(), bad);
		put(e, "free_page_reporting", json_true(), bad);
		put(j, "balloon", e, bad);
	}
	if (s->vsock_cid != 0) {
		e = json_object();
		put_int(e, "cid", s->vsock_cid, bad);
		put_str(e, "socket", "vsock.sock", bad);
		put(j, "vsock", e, bad);
	}
	if (s->tpm_socket != NULL) {
		e = json_object();
		put_str(e, "socket", s->tpm_socket, bad);
		put(j, "tpm", e, bad);
	}
	if (s->uuid != NULL) {
		e = json_object();
		/* The name that all releases know: later ones call it system_uuid as well. */
		put_str(e, "uuid", s->uuid, bad);
		put(j, "platform", e, bad);
	}
}

int ch_vm_config(const struct hv_spec *spec, json_t **out, struct err *err)
{
	json_t *j;
	bool bad = false;
	int r = check(spec, err);

	if (r < 0)
		return r;
	j = json_object();
	put(j, "cpus", cpus(spec, &bad), &bad);
	put(j, "memory", memory(spec, &bad), &bad);
	put(j, "payload", payload(spec, &bad), &bad);
	r = add_disks(j, spec, &bad, err);
	if (r < 0) {
		json_decref(j);
		return r;
	}
	add_nics(j, spec, &bad);
	if (spec->nshares > 0)
		add_shares(j, spec, &bad);
	add_devices(j, spec, &bad);
	return finish(j, bad, out, err);
}
