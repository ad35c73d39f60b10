/*
 * The endpoints, as vmm/src/api/http/ and vmm/src/lib.rs have them (v53.0): what each does in which
 * state, and what it answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

static const char MIGRATING[] = "VM is currently migrating and can't be modified";
static const char NOT_RUNNING[] = "VM is not running";
static const char NOT_CREATED[] = "VM is not created";

/* For what needs a VM that is here: false when that was refused. */
static bool need_vm(const char *what, const char *else_cause)
{
	if (vm.migrating)
		answer_error(what, MIGRATING, NULL);
	else if (!vm.owned)
		answer_error(what, else_cause, NULL);
	return vm.owned && !vm.migrating;
}

static bool need_config(const char *what)
{
	if (vm.config == NULL)
		answer_error(what, NOT_CREATED, NULL);
	return vm.config != NULL;
}

static void vmm_ping(struct request *r)
{
	json_t *features = json_pack("[s,s]", "io_uring", "kvm");

	if (script_has("features"))
		json_array_append_new(features, json_string(script_find("features", NULL)->rest));
	answer_json(200, json_pack("{s:s,s:s,s:i,s:o}", "build_version", fake_version(), "version",
				 fake_crate_version(), "pid", (int)getpid(), "features", features));
}

static void vmm_shutdown(struct request *r)
{
	if (vm.migrating)
		answer_error("The VMM could not shutdown", MIGRATING, NULL);
	else
		answer_empty(200);
}

static void vm_info(struct request *r)
{
	if (vm.migrating)
		answer_json(200, json_incref(vm.frozen));
	else if (need_config("The VM info is not available"))
		answer_json(200, machine_info());
}

static void vm_counters(struct request *r)
{
	json_t *counters, *one;
	size_t i;

	/* The action has no error of its own and borrows that of vm.info (vmm/src/api/mod.rs). */
	if (!need_vm("The VM info is not available", NOT_RUNNING))
		return;
	counters = json_object();
	json_array_foreach (json_object_get(vm.config, "disks"), i, one)
		json_object_set_new(counters, json_string_value(json_object_get(one, "id")),
			json_pack("{s:i,s:i,s:i,s:i}", "read_bytes", 4096, "write_bytes", 512,
				"read_ops", 8, "write_ops", 1));
	json_array_foreach (json_object_get(vm.config, "net"), i, one)
		json_object_set_new(counters, json_string_value(json_object_get(one, "id")),
			json_pack("{s:i,s:i,s:i,s:i}", "rx_bytes", 100, "rx_frames", 2, "tx_bytes",
				200, "tx_frames", 3));
	answer_json(200, counters);
}

static void vm_create(struct request *r)
{
	char why[256];

	if (vm.migrating) {
		answer_error("The VM could not be created", MIGRATING, NULL);
	} else if (vm.config != NULL) {
		answer_error("The VM could not be created", "VM is already created", NULL);
	} else {
		vm.config = json_incref(r->json);
		/* The configuration stays, though this fails (vm_create()). */
		if (machine_open_console(why, sizeof(why)))
			answer_empty(204);
		else
			answer_error("The VM could not be created",
				"Error creating console devices", "Error creating console device",
				why, NULL);
	}
}

static void vm_delete(struct request *r)
{
	if (vm.migrating) {
		answer_error("The VM could not be deleted", MIGRATING, NULL);
		return;
	}
	machine_delete();
	answer_empty(204);
}

static void vm_boot(struct request *r)
{
	static const char what[] = "The VM could not boot";
	char why[256];

	if (vm.owned || vm.migrating) {
		answer_error(what, vm.owned ? "VM is already created" : MIGRATING, NULL);
		return;
	}
	event("vm", "booting", NULL);
	if (vm.config == NULL) {
		answer_error(what, "VM config is missing", NULL);
		return;
	}
	if (!vm.console_open && !machine_open_console(why, sizeof(why))) {
		answer_error(what, "Error creating console devices",
			"Error creating console device", why, NULL);
		return;
	}
	if (!machine_boot(what))
		return;
	event("vm", "booted", NULL);
	answer_empty(204);
}

static void transition(const char *what, const char *cause, const char *component, enum vm_state to,
	const char *before, const char *after)
{
	static const char *const names[] = { "Created", "Running", "Shutdown", "Paused" };
	char text[96];

	event("vm", before, NULL);
	if (vm.state == to) {
		snprintf(text, sizeof(text), "Invalid transition: InvalidStateTransition(%s, %s)",
			names[vm.state], names[to]);
		answer_error(what, cause, component, text, NULL);
		return;
	}
	vm.state = to;
	event("vm", after, NULL);
	answer_empty(204);
}

static void vm_pause(struct request *r)
{
	if (need_vm("The VM could not be paused", NOT_RUNNING))
		transition("The VM could not be paused", "Cannot pause VM",
			"Failed to pause migratable component", VM_PAUSED, "pausing", "paused");
}

static void vm_resume(struct request *r)
{
	if (need_vm("The VM could not resume", NOT_RUNNING))
		transition("The VM could not resume", "Cannot resume VM",
			"Failed to resume migratable component", VM_RUNNING, "resuming", "resumed");
}

static void vm_shutdown(struct request *r)
{
	if (!need_vm("The VM could not shutdown", NOT_RUNNING))
		return;
	machine_stop();
	event("vm", "shutdown", NULL);
	answer_empty(204);
}

static void vm_reboot(struct request *r)
{
	static const char what[] = "The VM could not reboot";
	char why[256];

	event("vm", "rebooting", NULL);
	if (!need_vm(what, NOT_CREATED))
		return;
	machine_stop();
	if (!machine_open_console(why, sizeof(why))) {
		answer_error(what, "Error creating console devices",
			"Error creating console device", why, NULL);
		return;
	}
	if (!machine_boot(what))
		return;
	event("vm", "rebooted", NULL);
	answer_empty(204);
}

static void vm_power_button(struct request *r)
{
	if (need_vm("Error triggering power button", NOT_RUNNING))
		answer_empty(204);
}

static void vm_nmi(struct request *r)
{
	if (need_vm("Error triggering NMI", NOT_RUNNING))
		answer_empty(204);
}

static void set_number(const char *object, const char *key, const json_t *value)
{
	json_t *o = json_object_get(vm.config, object);

	if (value == NULL || json_is_null(value))
		return;
	if (o == NULL) {
		o = json_object();
		json_object_set_new(vm.config, object, o);
	}
	json_object_set(o, key, (json_t *)value);
}

static void vm_resize(struct request *r)
{
	static const char what[] = "The VM could not be resized";
	const json_t *vcpus = json_object_get(r->json, "desired_vcpus");
	const json_t *ram = json_object_get(r->json, "desired_ram");
	const json_t *max;

	if (!need_config(what))
		return;
	if (vm.migrating) {
		answer_error(what, MIGRATING, NULL);
		return;
	}
	if (vm.owned) {
		event("vm", "resizing", NULL);
		max = json_object_get(json_object_get(vm.config, "cpus"), "max_vcpus");
		if (vcpus != NULL &&
			json_integer_value(vcpus) > (max != NULL ? json_integer_value(max) : 1)) {
			answer_error(what, "Error from CPU manager",
				"Requested vCPUs exceed maximum", NULL);
			return;
		}
	}
	set_number("cpus", "boot_vcpus", vcpus);
	set_number("memory", "size", ram);
	if (vm.owned)
		event("vm", "resized", NULL);
	answer_empty(204);
}

static void vm_resize_disk(struct request *r)
{
	static const char what[] = "The disk could not be resized";
	const char *id = json_string_value(json_object_get(r->json, "id"));
	char text[160];
	json_t *one;
	size_t i;

	if (!need_config(what) || !need_vm(what, "Failed resizing a disk image"))
		return;
	json_array_foreach (json_object_get(vm.config, "disks"), i, one) {
		const char *name = json_string_value(json_object_get(one, "id"));

		if (name == NULL || strcmp(name, id) != 0)
			continue;
		if (truncate(json_string_value(json_object_get(one, "path")),
			    json_integer_value(json_object_get(r->json, "desired_size"))) < 0)
			break;
		answer_empty(204);
		return;
	}
	snprintf(text, sizeof(text),
		"Failed to find device corresponding to the given identifier: %s", id);
	answer_error(what, "Error from device manager", text, NULL);
}

static void vm_resize_zone(struct request *r)
{
	static const char what[] = "The memory zone could not be resized";

	if (need_config(what))
		answer_error(what, "Failed resizing a memory zone", NULL);
}

/* Hot-plug */

static void add_device(struct request *r, const char *what, const char *list, const char *kind)
{
	json_t *all, *info = NULL, *config = json_deep_copy(r->json);

	if (!need_config(what) ||
		!machine_unique(what, json_string_value(json_object_get(config, "id")), 0))
		goto out;
	if (vm.migrating) {
		answer_error(what, MIGRATING, NULL);
		goto out;
	}
	if (vm.owned) {
		info = machine_add_device(kind, config);
		if (!machine_open_device(kind, config, what)) {
			machine_remove_node(json_string_value(json_object_get(info, "id")));
			json_decref(info);
			goto out;
		}
	}
	all = json_object_get(vm.config, list);
	if (all == NULL) {
		all = json_array();
		json_object_set_new(vm.config, list, all);
	}
	json_array_append(all, config);
	if (info != NULL)
		answer_json(200, info);
	else
		answer_empty(204);
out:
	json_decref(config);
}

static void vm_add_disk(struct request *r)
{
	add_device(r, "The disk could not be added to the VM", "disks", "disk");
}

/* The descriptors that came with the request are the device's from now on. */
static void vm_add_net(struct request *r)
{
	const char *id = json_string_value(json_object_get(r->json, "id"));

	for (size_t i = 0; vm.config != NULL && i < r->nfds; i++)
		if (machine_hold(r->fds[i], id != NULL ? id : "net"))
			r->fds[i] = -1;
	add_device(r, "The network device could not be added to the VM", "net", "net");
}

static void vm_add_fs(struct request *r)
{
	add_device(r, "The fs could not be added to the VM", "fs", "fs");
}

static void vm_add_pmem(struct request *r)
{
	add_device(r, "The pmem device could not be added to the VM", "pmem", "pmem");
}

static void vm_add_device(struct request *r)
{
	add_device(r, "The device could not be added to the VM", "devices", "vfio");
}

static void vm_add_user_device(struct request *r)
{
	add_device(r, "The user device could not be added to the VM", "user_devices", "vfio_user");
}

static void vm_add_vdpa(struct request *r)
{
	add_device(r, "The vDPA device could not be added to the VM", "vdpa", "vdpa");
}

static void vm_add_generic(struct request *r)
{
	add_device(r, "The generic vhost-user device could not be added to the VM",
		"generic_vhost_user", "generic_vhost_user");
}

static void vm_add_vsock(struct request *r)
{
	static const char what[] = "The vsock device could not be added to the VM";

	if (!need_config(what))
		return;
	if (json_object_get(vm.config, "vsock") != NULL) {
		answer_error(what, "Too many virtio-vsock devices", NULL);
		return;
	}
	json_object_set(vm.config, "vsock", r->json);
	if (vm.owned)
		answer_json(200, machine_add_device("vsock", r->json));
	else
		answer_empty(204);
}

/* Out of the configuration; false when it is not there. */
static bool forget_device(const char *id)
{
	static const char *const lists[] = { "disks", "net", "fs", "pmem", "devices",
		"user_devices", "vdpa", "generic_vhost_user" };

	for (size_t k = 0; k < N(lists); k++) {
		json_t *all = json_object_get(vm.config, lists[k]), *one;
		size_t i;

		json_array_foreach (all, i, one) {
			const char *name = json_string_value(json_object_get(one, "id"));

			if (name != NULL && strcmp(name, id) == 0) {
				json_array_remove(all, i);
				return true;
			}
		}
	}
	return false;
}

static void vm_remove_device(struct request *r)
{
	static const char what[] = "The device could not be removed from the VM";
	const char *id = json_string_value(json_object_get(r->json, "id"));
	const char *bdf;
	char text[160];

	if (vm.migrating || (!vm.owned && vm.config == NULL)) {
		answer_error(what, vm.migrating ? MIGRATING : NOT_CREATED, NULL);
		return;
	}
	if (!vm.owned) {
		snprintf(text, sizeof(text), "No device with id \"%s\" to remove", id);
		if (forget_device(id))
			answer_empty(204);
		else
			answer_error(what, text, NULL);
		return;
	}
	if (!machine_is_id(id)) {
		snprintf(text, sizeof(text),
			"Failed to find device corresponding to the given identifier: %s", id);
		answer_error(what, "Error from device manager", text, NULL);
		return;
	}
	forget_device(id);
	answer_empty(204);
	/* The guest lets go of it when it likes to. */
	if (script_has("no-unplug"))
		return;
	bdf = json_string_value(json_object_get(json_object_get(vm.tree, id), "pci_bdf"));
	event("vm", "device-removed", "id", id, "bdf", bdf != NULL ? bdf : "", NULL);
	machine_let_go(id);
	machine_remove_node(id);
}

static void vm_snapshot(struct request *r)
{
	if (need_vm("The VM could not be snapshotted", NOT_RUNNING))
		state_snapshot(r->json);
}

static void vm_restore(struct request *r)
{
	if (vm.owned || vm.migrating || vm.config != NULL)
		answer_error("The VM could not be restored",
			vm.migrating ? MIGRATING : "VM is already created", NULL);
	else
		state_restore(r);
}

static void vm_receive_migration(struct request *r)
{
	migrate_receive(r->json);
}

static void vm_send_migration(struct request *r)
{
	migrate_send(r->json);
}

static void vm_coredump(struct request *r)
{
	static const char what[] = "The VM could not be coredumped";
	const char *url = json_string_value(json_object_get(r->json, "destination_url"));
	FILE *f;

	if (!need_vm(what, NOT_RUNNING))
		return;
	event("vm", "coredumping", NULL);
	if (vm.state != VM_PAUSED || strncmp(url, "file://", 7) != 0 ||
		(f = fopen(url + 7, "wx")) == NULL) {
		answer_error(what, "Error coredumping VM", "Cannot coredump", NULL);
		return;
	}
	fwrite("\177ELF\2\1\1", 1, 7, f);
	fclose(f);
	answer_empty(204);
}

/* {"script": ...}: adds directives; their STEP `now` is at once. */
static void x_fake(struct request *r)
{
	script_add(json_string_value(json_object_get(r->json, "script")));
	answer_empty(204);
}

static const struct {
	const char *path;
	void (*fn)(struct request *r);
} endpoints[] = {
	{ "vmm.ping", vmm_ping },
	{ "vmm.shutdown", vmm_shutdown },
	{ "vm.info", vm_info },
	{ "vm.counters", vm_counters },
	{ "vm.create", vm_create },
	{ "vm.delete", vm_delete },
	{ "vm.boot", vm_boot },
	{ "vm.pause", vm_pause },
	{ "vm.resume", vm_resume },
	{ "vm.shutdown", vm_shutdown },
	{ "vm.reboot", vm_reboot },
	{ "vm.power-button", vm_power_button },
	{ "vm.nmi", vm_nmi },
	{ "vm.resize", vm_resize },
	{ "vm.resize-disk", vm_resize_disk },
	{ "vm.resize-zone", vm_resize_zone },
	{ "vm.add-device", vm_add_device },
	{ "vm.add-user-device", vm_add_user_device },
	{ "vm.add-disk", vm_add_disk },
	{ "vm.add-fs", vm_add_fs },
	{ "vm.add-pmem", vm_add_pmem },
	{ "vm.add-net", vm_add_net },
	{ "vm.add-vdpa", vm_add_vdpa },
	{ "vm.add-vsock", vm_add_vsock },
	{ "vm.add-generic-vhost-user", vm_add_generic },
	{ "vm.remove-device", vm_remove_device },
	{ "vm.snapshot", vm_snapshot },
	{ "vm.restore", vm_restore },
	{ "vm.coredump", vm_coredump },
	{ "vm.receive-migration", vm_receive_migration },
	{ "vm.send-migration", vm_send_migration },
	{ "x-fake", x_fake },
};

/* What an endpoint brings about after its answer. */
static void aftermath(const char *path)
{
	if (strcmp(path, "vmm.shutdown") == 0 && !vm.migrating)
		machine_quit(0);
	if (strcmp(path, "vm.power-button") == 0 && vm.owned && vm.state == VM_RUNNING &&
		!vm.migrating && !script_has("no-acpi"))
		machine_power_off();
	if (strcmp(path, "x-fake") == 0)
		script_fire("now");
}

/* false when it has been answered. */
static bool body_fits(struct request *r, const struct schema_route *route)
{
	char why[640];

	if (route->body == NULL) {
		if (r->has_body && strcmp(r->path, "vmm.shutdown") != 0 &&
			strcmp(r->method, "PUT") == 0) {
			answer_chain(400, "Bad Request", NULL);
			return false;
		}
		return true;
	}
	if (!r->has_body) {
		/* vm.create answers that itself, without a word. */
		if (strcmp(r->path, "vm.create") == 0)
			answer_empty(400);
		else
			answer_chain(400, "Bad Request", NULL);
		return false;
	}
	r->json = json_loadb(r->body, r->body_len, JSON_DECODE_ANY, NULL);
	if (r->json == NULL)
		schema_syntax(r->body, r->body_len, why, sizeof(why));
	else if (schema_check(route->body, r->json, r->body, why, sizeof(why)))
		return true;
	answer_chain(400, "Failed to deserialize JSON", why, NULL);
	return false;
}

static bool scripted_answer(const char *path)
{
	struct directive *d = script_find("error", path);
	char *text;
	size_t n;

	if (d != NULL) {
		/* [STATUS] then an array as it is, or one text. */
		int status = (int)script_number(d, 0);
		const char *rest = d->rest + strcspn(d->rest, " ");

		rest = status > 0 ? rest + strspn(rest, " ") : d->rest;
		if (*rest == '[' || *rest == '{')
			http_answer(status > 0 ? status : 500, rest, true);
		else
			answer_chain(status > 0 ? status : 500, "Error from API",
				*rest != '\0' ? rest : "no", NULL);
		return true;
	}
	d = script_find("big", path);
	if (d != NULL) {
		n = (size_t)script_number(d, 0);
		text = malloc(n + 3);
		memset(text, 'x', n + 2);
		text[0] = text[n + 1] = '"';
		text[n + 2] = '\0';
		http_answer(200, text, true);
		free(text);
		return true;
	}
	if (script_find("cut", path) != NULL) {
		http_send("HTTP/1.1 200 \r\nServer: Cloud Hyp", 33);
		http_close_current();
		return true;
	}
	return script_find("ignore", path) != NULL;
}

static bool route_of(struct request *r, struct schema_route *route)
{
	bool found = r->under_root;

	schema_route(r->path, route);
	if (strcmp(r->path, "x-fake") == 0)
		*route = (struct schema_route){ .known = true, .method = "PUT" };
	/* Only built in with the feature guest_debug. */
	if (strcmp(r->path, "vm.coredump") == 0 && !script_has("features"))
		found = false;
	found = found && route->known;
	if (!found)
		answer_chain(404, "Not Found", NULL);
	else if (strcmp(r->method, "PUT") != 0 && strcmp(r->method, "GET") != 0 &&
		 strcmp(route->method, r->method) != 0 && strncmp(r->path, "vmm.", 4) != 0 &&
		 strcmp(r->path, "vm.info") != 0 && strcmp(r->path, "vm.create") != 0)
		answer_empty(400);
	else if (strcmp(route->method, r->method) != 0)
		answer_chain(400, "Bad Request", NULL);
	else
		return true;
	return false;
}

void api_handle(struct request *r)
{
	struct schema_route route;
	struct directive *d;
	char after[80];
	size_t i;

	script_fire(r->path);
	d = script_find("late", r->path);
	if (d != NULL)
		wait_ms(script_number(d, 0));
	if (scripted_answer(r->path) || !route_of(r, &route))
		return;
	if (strcmp(r->path, "x-fake") == 0)
		r->json = json_loadb(r->body, r->body_len, 0, NULL);
	else if (!body_fits(r, &route))
		goto out;
	for (i = 0; i < N(endpoints); i++)
		if (strcmp(endpoints[i].path, r->path) == 0)
			endpoints[i].fn(r);
	snprintf(after, sizeof(after), "%s+", r->path);
	script_fire(after);
	aftermath(r->path);
out:
	json_decref(r->json);
	r->json = NULL;
}
