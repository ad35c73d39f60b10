/*
 * The VM: its state, its events, its serial socket, its guest. What the guest is told by the console
 * it does at once: it obeys single letters as the nano guest does, q powers off, r reboots; also p
 * panics, k is killed, c tells how many letters came since it was booted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
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

	vm.console_open = true;
	if (mode == NULL || strcmp(mode, "Socket") != 0 || path == NULL)
		return true;
	free(vm.serial_path);
	vm.serial_path = strdup(path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	vm.serial_listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* A path that is there is in use to it, however old (vmm/src/console_devices.rs). */
	if (bind(vm.serial_listen, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(vm.serial_listen, 128) < 0) {
		snprintf(why, cap, "%s (os error %d)", strerror(errno), errno);
		close(vm.serial_listen);
		vm.serial_listen = -1;
		vm.console_open = false;
		return false;
	}
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

/* Devices */

static void add_node(const char *id, const char *bdf)
{
	json_t *node = json_pack("{s:s,s:[],s:[]}", "id", id, "resources", "children");

	if (bdf != NULL)
		json_object_set_new(node, "pci_bdf", json_string(bdf));
	json_object_set_new(vm.tree, id, node);
}

bool machine_is_id(const char *id)
{
	return json_object_get(vm.tree, id) != NULL;
}

json_t *machine_add_device(const char *kind, json_t *config)
{
	const char *id = json_string_value(json_object_get(config, "id"));
	char name[64], bdf[16];

	for (unsigned i = 0; id == NULL; i++) {
		snprintf(name, sizeof(name), "_%s%u", kind, i);
		if (!machine_is_id(name))
			id = name;
	}
	snprintf(bdf, sizeof(bdf), "0000:00:%02x.0", ++vm.next_slot);
	json_object_set_new(config, "id", json_string(id));
	add_node(json_string_value(json_object_get(config, "id")), bdf);
	return json_pack("{s:O,s:s}", "id", json_object_get(config, "id"), "bdf", bdf);
}

static bool open_tap(const json_t *net, const char *what)
{
	const char *name = json_string_value(json_object_get(net, "tap"));
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd;

	if (name == NULL)
		return true;
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd >= 0 && vm.ntaps < FDS_MAX && ioctl(fd, TUNSETIFF, &ifr) == 0) {
		vm.taps[vm.ntaps++] = fd;
		return true;
	}
	answer_error(what, "Error from device manager", "Cannot open tap", strerror(errno), NULL);
	if (fd >= 0)
		close(fd);
	return false;
}

static bool open_disk(const json_t *disk, const char *what)
{
	const char *path = json_string_value(json_object_get(disk, "path"));
	bool readonly = json_is_true(json_object_get(disk, "readonly"));
	char why[256];
	int fd = path != NULL ? open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC) : -1;

	if (path == NULL || fd >= 0) {
		if (fd >= 0)
			close(fd);
		return true;
	}
	snprintf(why, sizeof(why), "%s (os error %d)", strerror(errno), errno);
	answer_error(what, "Error from device manager", "Cannot open disk path", why, NULL);
	return false;
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

/* As linux-loader: an ELF of 64 bits, else a bzImage. */
static bool load_kernel(const char *what)
{
	const json_t *payload = json_object_get(vm.config, "payload");
	const char *path = json_string_value(json_object_get(payload, "kernel"));
	const char *firmware = json_string_value(json_object_get(payload, "firmware"));
	unsigned char head[0x210] = { 0 };
	char why[256];
	int fd;

	if (path == NULL)
		path = firmware;
	if (path == NULL) {
		answer_error(what, "Failed to validate config",
			"Payload configuration is not bootable",
			"No bootitem provided: neither firmware nor kernel", NULL);
		return false;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		snprintf(why, sizeof(why), "%s (os error %d)", strerror(errno), errno);
		answer_error(what,
			path == firmware ? "Error manipulating firmware file"
					 : "Cannot open kernel file",
			why, NULL);
		return false;
	}
	if (read(fd, head, sizeof(head)) < 0)
		head[0] = 0;
	close(fd);
	if (path == firmware || (memcmp(head, "\177ELF", 4) == 0 && head[4] == 2) ||
		memcmp(head + 0x202, "HdrS", 4) == 0)
		return true;
	answer_error(what, LOAD, BZIMAGE, "Kernel Loader: Invalid bzImage", NULL);
	return false;
}

static bool open_devices(const char *what)
{
	json_t *one;
	size_t i;

	json_decref(vm.tree);
	vm.tree = json_object();
	vm.next_slot = 0;
	add_node("__serial", NULL);
	add_node("__rng", NULL);
	json_array_foreach (json_object_get(vm.config, "disks"), i, one) {
		if (!open_disk(one, what))
			return false;
		json_decref(machine_add_device("disk", one));
	}
	json_array_foreach (json_object_get(vm.config, "net"), i, one) {
		if (!open_tap(one, what))
			return false;
		json_decref(machine_add_device("net", one));
	}
	return true;
}

static void close_taps(void)
{
	while (vm.ntaps > 0)
		close(vm.taps[--vm.ntaps]);
}

bool machine_boot(const char *what)
{
	if (!load_kernel(what) || !open_devices(what)) {
		close_taps();
		return false;
	}
	vm.owned = true;
	vm.state = VM_RUNNING;
	vm.counter = 0;
	say("FAKE-READY\\r\\n");
	return true;
}

void machine_stop(void)
{
	machine_close_console();
	close_taps();
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
	json_decref(vm.config);
	vm.config = NULL;
	machine_close_console();
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
