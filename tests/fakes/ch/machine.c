/*
 * The VM: its state, its events, its serial socket, its guest. What the guest is told by the console
 * it does at once: it obeys single letters as the nano guest does, q powers off, r reboots; also p
 * panics, k is killed, c tells how many letters came since it was booted.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

#define CONSOLE_ERROR "Error creating console devices"

/* Events */

void event_text(const char *text)
{
	if (vm.event_fd < 0 || script_has("no-events"))
		return;
	/* The descriptor is non-blocking and what does not fit is lost (event_monitor/src/lib.rs). */
	if (write(vm.event_fd, text, strlen(text)) < 0)
		return;
}

void event(const char *source, const char *name, const char *key, ...)
{
	uint64_t ms = now_ms() - vm.started;
	json_t *props = key != NULL ? json_object() : json_null(), *ev;
	char *text;
	va_list ap;

	va_start(ap, key);
	for (; key != NULL; key = va_arg(ap, const char *)) {
		const char *value = va_arg(ap, const char *);

		json_object_set_new(props, key, json_string(value));
	}
	va_end(ap);
	ev = json_pack("{s:{s:I,s:I},s:s,s:s,s:o}", "timestamp", "secs", (json_int_t)(ms / 1000),
		"nanos", (json_int_t)(ms % 1000 * 1000000), "source", source, "event", name,
		"properties", props);
	text = json_dumps(ev, JSON_INDENT(2));
	text = realloc(text, strlen(text) + 3);
	strcat(text, "\n\n");
	event_text(text);
	free(text);
	json_decref(ev);
}

/* The serial console */

static void drop_client(void)
{
	if (vm.serial >= 0)
		close(vm.serial);
	vm.serial = -1;
}

void machine_close_console(void)
{
	drop_client();
	if (vm.serial_listen >= 0) {
		close(vm.serial_listen);
		/* vmm/src/serial_manager.rs removes the socket when it is dropped. */
		unlink(vm.serial_path);
	}
	vm.serial_listen = -1;
	vm.console_open = false;
}

bool machine_open_console(char *why, size_t cap)
{
	const json_t *serial = json_object_get(vm.config, "serial");
	const char *mode = json_string_value(json_object_get(serial, "mode"));
	const char *path = json_string_value(json_object_get(serial, "socket"));
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	if (mode == NULL || strcmp(mode, "Socket") != 0 || path == NULL) {
		vm.console_open = true;
		return true;
	}
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* A path that is there is in use to it, however old (vmm/src/console_devices.rs). */
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 128) < 0) {
		snprintf(why, cap, "%s (os error %d)", strerror(errno), errno);
		close(fd);
		return false;
	}
	if (vm.serial_listen >= 0)
		close(vm.serial_listen);
	vm.serial_listen = fd;
	free(vm.serial_path);
	vm.serial_path = strdup(path);
	vm.console_open = true;
	return true;
}

void machine_print(const char *text)
{
	for (const char *p = text; *p != '\0' && vm.serial >= 0; p++) {
		char c = *p;

		if (c == '\\' && (p[1] == 'n' || p[1] == 'r'))
			c = *++p == 'n' ? '\n' : '\r';
		if (send(vm.serial, &c, 1, MSG_NOSIGNAL) < 0)
			return;
	}
}

/* Output from before the first client is kept for it (vmm/src/serial_manager.rs, v51). */
static char early[256];

static void say(const char *text)
{
	if (vm.serial >= 0)
		machine_print(text);
	else
		snprintf(early + strlen(early), sizeof(early) - strlen(early), "%s", text);
}

/* One client; the newest wins. */
void machine_serial_accept(void)
{
	int fd = accept4(vm.serial_listen, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	drop_client();
	vm.serial = fd;
	if (vm.owned) {
		machine_print(early);
		*early = '\0';
	}
}

static void guest_key(char c)
{
	char text[64];

	vm.counter++;
	switch (c) {
	case 'q':
		machine_power_off();
		break;
	case 'r':
		machine_reset();
		break;
	case 'p':
		machine_panic();
		break;
	case 'k':
		machine_die(SIGKILL);
	case 'c':
		snprintf(text, sizeof(text), "COUNTER %lu\\r\\n", vm.counter);
		machine_print(text);
		break;
	default:
		send(vm.serial, &c, 1, MSG_NOSIGNAL);
	}
}

void machine_serial_read(void)
{
	char data[4096];
	ssize_t n = recv(vm.serial, data, sizeof(data), 0);

	if (n <= 0) {
		if (n == 0 || errno != EINTR)
			drop_client();
		return;
	}
	for (ssize_t i = 0; i < n; i++)
		if (vm.owned && vm.state == VM_RUNNING && !vm.migrating)
			guest_key(data[i]);
}

/* The life of the VM */

const char *machine_state(void)
{
	static const char *const names[] = { "Created", "Running", "Shutdown", "Paused" };

	return names[vm.owned ? vm.state : VM_CREATED];
}

static const char LOAD[] = "Cannot load the kernel into memory";
static const char BZIMAGE[] = "Kernel Loader: failed to load bzImage kernel image: "
			      "Kernel Loader: Invalid bzImage";

static bool cannot_open(const char *what, const char *name)
{
	char why[256];

	snprintf(why, sizeof(why), "%s (os error %d)", strerror(errno), errno);
	answer_error(what, name, why, NULL);
	return false;
}

/* As linux-loader: an ELF of 64 bits, else a bzImage. */
static bool load_kernel(const char *what)
{
	const json_t *payload = json_object_get(vm.config, "payload");
	const char *path = json_string_value(json_object_get(payload, "kernel"));
	const char *firmware = json_string_value(json_object_get(payload, "firmware"));
	unsigned char head[0x210] = { 0 };
	int fd = open(path != NULL ? path : firmware, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return cannot_open(what, path == NULL ? "Error manipulating firmware file"
						      : "Cannot open kernel file");
	if (read(fd, head, sizeof(head)) < 0)
		head[0] = 0;
	close(fd);
	if (path == NULL || (memcmp(head, "\177ELF", 4) == 0 && head[4] == 2) ||
		memcmp(head + 0x202, "HdrS", 4) == 0)
		return true;
	answer_error(what, LOAD, BZIMAGE, "Kernel Loader: Invalid bzImage", NULL);
	return false;
}

/* VmConfig::validate() of vmm/src/config.rs, what of it is of use here. */
static bool validate(const char *what)
{
	const json_t *payload = json_object_get(vm.config, "payload"), *cpus, *max;
	json_int_t boot;
	char text[128];
	json_t *one;
	size_t i;

	if (json_object_get(payload, "kernel") == NULL &&
		json_object_get(payload, "firmware") == NULL) {
		answer_error(what, "Failed to validate config",
			"Payload configuration is not bootable",
			"No bootitem provided: neither firmware nor kernel", NULL);
		return false;
	}
	cpus = json_object_get(vm.config, "cpus");
	max = json_object_get(cpus, "max_vcpus");
	boot = json_integer_value(json_object_get(cpus, "boot_vcpus"));
	if (max != NULL && json_integer_value(max) < boot) {
		snprintf(text, sizeof(text), "Max CPUs (%lld) lower than boot CPUs (%lld)",
			(long long)json_integer_value(max), (long long)boot);
		answer_error(what, "Failed to validate config", text, NULL);
		return false;
	}
	json_array_foreach (json_object_get(vm.config, "disks"), i, one)
		if (!machine_unique(what, json_string_value(json_object_get(one, "id")), 1))
			return false;
	return true;
}

static bool open_devices(const char *what)
{
	const char *path = json_string_value(
		json_object_get(json_object_get(vm.config, "payload"), "initramfs"));
	json_t *one;
	size_t i;

	if (path != NULL && access(path, R_OK) < 0)
		return cannot_open(what, "Cannot open initramfs file");
	json_decref(vm.tree);
	vm.tree = json_object();
	vm.next_slot = 0;
	machine_add_node("__serial", NULL);
	machine_add_node("__rng", NULL);
	json_array_foreach (json_object_get(vm.config, "disks"), i, one) {
		json_decref(machine_add_device("disk", one));
		if (!machine_open_device("disk", one, what))
			return false;
	}
	json_array_foreach (json_object_get(vm.config, "net"), i, one) {
		json_decref(machine_add_device("net", one));
		if (!machine_open_device("net", one, what))
			return false;
	}
	return true;
}

/*
 * What fails before the kernel is looked at leaves no VM; after that there is one that was not
 * started (vm_boot() of vmm/src/lib.rs): only vm.shutdown and vm.delete help it.
 */
bool machine_boot(const char *what)
{
	if (!validate(what))
		return false;
	if (!open_devices(what)) {
		machine_let_go(NULL);
		machine_close_console();
		return false;
	}
	vm.owned = true;
	vm.state = VM_CREATED;
	if (!load_kernel(what))
		return false;
	vm.state = VM_RUNNING;
	vm.counter = 0;
	say("FAKE-READY\\r\\n");
	return true;
}

void machine_stop(void)
{
	machine_close_console();
	machine_let_go(NULL);
	*early = '\0';
	vm.owned = false;
	vm.state = VM_CREATED;
	json_decref(vm.tree);
	vm.tree = NULL;
}

void machine_delete(void)
{
	if (vm.config == NULL)
		return;
	if (vm.owned) {
		machine_stop();
		event("vm", "shutdown", NULL);
	}
	/* The console of a VM that never was stays open, and its socket in its place. */
	json_decref(vm.config);
	vm.config = NULL;
	event("vm", "deleted", NULL);
}

void machine_die(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
	_exit(128 + sig);
}

void machine_quit(int status)
{
	long ms = script_number(script_find("linger", NULL), 0);

	machine_delete();
	event("vmm", "shutdown", NULL);
	http_close_all();
	if (vm.api_path != NULL)
		unlink(vm.api_path);
	if (ms > 0) {
		close(vm.event_fd);
		wait_ms(ms);
	}
	_exit(status);
}

void machine_power_off(void)
{
	machine_print("FAKE-BYE\\r\\n");
	machine_quit(0);
}

/* vm_reboot() of vmm/src/lib.rs: the VM is made anew from its configuration, its sockets too. */
void machine_reset(void)
{
	char why[256];

	event("vm", "rebooting", NULL);
	if (!vm.owned)
		return;
	machine_stop();
	if (!machine_open_console(why, sizeof(why)) || !machine_boot("The VM could not reboot"))
		return;
	event("vm", "rebooted", NULL);
}

void machine_panic(void)
{
	event("guest", "panic", "event", "panicked", NULL);
}

static void add_defaults(json_t *config)
{
	json_t *one;
	size_t i;

	schema_fill("VmConfig", config);
	json_array_foreach (json_object_get(config, "disks"), i, one)
		schema_fill("DiskConfig", one);
	json_array_foreach (json_object_get(config, "net"), i, one)
		schema_fill("NetConfig", one);
	if (json_object_get(config, "vsock") != NULL)
		schema_fill("VsockConfig", json_object_get(config, "vsock"));
}

json_t *machine_info(void)
{
	json_t *config = json_deep_copy(vm.config), *info;

	add_defaults(config);
	info = json_pack("{s:O,s:s,s:O}", "config", config, "state", machine_state(),
		"memory_actual_size", json_object_get(json_object_get(config, "memory"), "size"));
	if (vm.owned && vm.tree != NULL)
		json_object_set(info, "device_tree", vm.tree);
	json_decref(config);
	return info;
}
