/* Snapshots, and migration to another fake. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

#define SNAPSHOT "The VM could not be snapshotted"
#define RESTORE  "The VM could not be restored"
#define RECEIVE  "Error receiving migration"
#define SEND     "Error dispatching the migration worker"

static void os_error(char *out, size_t cap)
{
	snprintf(out, cap, "%s (os error %d)", strerror(errno), errno);
}

static const char *file_url(const json_t *args, const char *key)
{
	const char *url = json_string_value(json_object_get(args, key));

	return strncmp(url, "file://", 7) == 0 ? url + 7 : NULL;
}

static bool write_file(const char *dir, const char *name, const char *text, size_t len)
{
	char *path;
	bool ok;
	int fd;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return false;
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
	ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
	if (fd >= 0)
		close(fd);
	free(path);
	return ok;
}

/* The guest's memory, all of which is its counter. */
static bool write_memory(const char *dir)
{
	char memory[4096] = { 0 };

	snprintf(memory, sizeof(memory), "FAKE-MEMORY %lu\n", vm.counter);
	return write_file(dir, "memory-ranges", memory, sizeof(memory));
}

static json_t *device_state(void)
{
	return json_pack("{s:s,s:O,s:i}", "id", "fake", "device_tree", vm.tree, "next_slot",
		(int)vm.next_slot);
}

/* Vm::snapshot() and Vm::send() of vmm/src/vm.rs. */
void state_snapshot(const json_t *args)
{
	const char *dir = file_url(args, "destination_url");
	char *config, *state, why[256];
	json_t *v;
	bool ok;

	event("vm", "snapshotting", NULL);
	if (vm.state != VM_PAUSED) {
		answer_error(SNAPSHOT, "Cannot snapshot VM",
			"Failed to snapshot migratable component",
			"Trying to snapshot while VM is running", NULL);
		return;
	}
	event("vm", "snapshotted", NULL);
	config = json_dumps(vm.config, JSON_COMPACT);
	v = device_state();
	state = json_dumps(v, JSON_COMPACT);
	json_decref(v);
	ok = dir != NULL && write_file(dir, "config.json", config, strlen(config)) &&
	     write_memory(dir) && write_file(dir, "state.json", state, strlen(state));
	os_error(why, sizeof(why));
	free(config);
	free(state);
	if (ok)
		answer_empty(204);
	else
		answer_error(SNAPSHOT, "Cannot send VM snapshot",
			"Failed to send migratable component snapshot",
			"Error creating VM config snapshot file", why, NULL);
}

/* Restore */

static json_t *read_json(const char *dir, const char *name)
{
	char *path;
	json_t *v;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return NULL;
	errno = 0;
	v = json_load_file(path, 0, NULL);
	free(path);
	return v;
}

static bool read_memory(const char *dir)
{
	char *path;
	FILE *f;
	bool ok;

	if (asprintf(&path, "%s/memory-ranges", dir) < 0)
		return false;
	f = fopen(path, "r");
	ok = f != NULL && fscanf(f, "FAKE-MEMORY %lu", &vm.counter) == 1;
	if (f != NULL)
		fclose(f);
	free(path);
	return ok;
}

/* The VM of another process goes on here, standing still. */
static bool take_up(json_t *config, const json_t *state, unsigned long counter, const char *what)
{
	char why[256];

	vm.config = json_incref(config);
	if (!machine_open_console(why, sizeof(why))) {
		answer_error(what, "Error creating console devices",
			"Error creating console device", why, NULL);
		return false;
	}
	event("vm", "restoring", NULL);
	vm.owned = true;
	vm.state = VM_PAUSED;
	vm.counter = counter;
	json_decref(vm.tree);
	vm.tree = json_deep_copy(json_object_get(state, "device_tree"));
	vm.next_slot = (unsigned)json_integer_value(json_object_get(state, "next_slot"));
	event("vm", "restored", NULL);
	return true;
}

/* recv_vm_config() and url_to_path() of vmm/src/migration/. */
static bool is_snapshot(const char *url, const char *dir)
{
	char name[512], why[256], path[512];
	struct stat st;

	if (dir == NULL) {
		snprintf(name, sizeof(name), "Could not extract path from URL: %s", url);
	} else if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode)) {
		snprintf(name, sizeof(name), "Destination is not a directory: \"%s\"", dir);
	} else {
		snprintf(path, sizeof(path), "%s/config.json", dir);
		if (access(path, R_OK) == 0)
			return true;
		os_error(why, sizeof(why));
		snprintf(name, sizeof(name), "Error opening VM config snapshot file \"%s\"", path);
		answer_error(RESTORE, "Cannot restore VM",
			"Failed to receive migratable component snapshot", name, why, NULL);
		return false;
	}
	answer_error(RESTORE, "Cannot restore VM", "Failed to send migratable component snapshot",
		name, NULL);
	return false;
}

/* As at a boot; the devices themselves are in the saved state. */
static bool open_devices(const json_t *config)
{
	const json_t *one;
	size_t i;

	json_array_foreach (json_object_get(config, "disks"), i, one) {
		if (!machine_open_device("disk", one, RESTORE))
			return false;
	}
	json_array_foreach (json_object_get(config, "net"), i, one) {
		if (!machine_open_device("net", one, RESTORE))
			return false;
	}
	return true;
}

void state_restore(struct request *r)
{
	const char *dir = file_url(r->json, "source_url");
	json_t *config, *state;

	if (!is_snapshot(json_string_value(json_object_get(r->json, "source_url")), dir))
		return;
	config = read_json(dir, "config.json");
	state = read_json(dir, "state.json");
	if (config == NULL || state == NULL || !read_memory(dir)) {
		answer_error(RESTORE, "Cannot restore VM",
			"Failed to receive migratable component snapshot",
			"Error opening VM state snapshot file", NULL);
	} else if (open_devices(config) && take_up(config, state, vm.counter, RESTORE)) {
		if (json_is_true(json_object_get(r->json, "resume"))) {
			event("vm", "resuming", NULL);
			vm.state = VM_RUNNING;
			event("vm", "resumed", NULL);
		}
		answer_empty(204);
	}
	json_decref(config);
	json_decref(state);
}

/*
 * Migration. Between two fakes it is one JSON line with all of the VM and one line "ok" back; the
 * real protocol (vm-migration/src/protocol.rs) is nobody's business but theirs.
 */

static struct {
	int fd;
	enum vm_state before;
	uint64_t due;
} out = { .fd = -1 };

static int unix_socket(const char *path, bool listening)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if ((listening ? bind(fd, (struct sockaddr *)&addr, sizeof(addr))
		       : connect(fd, (struct sockaddr *)&addr, sizeof(addr))) < 0 ||
		(listening && listen(fd, 1) < 0)) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static const char *unix_path(const char *url)
{
	return strncmp(url, "unix:", 5) == 0 && url[5] != '\0' ? url + 5 : NULL;
}

/* A line of any length, without its end; malloc'd, NULL at EOF. */
static char *read_line(int fd)
{
	size_t len = 0, cap = 0;
	char *line = NULL;

	for (;;) {
		ssize_t n;

		if (cap - len < 2)
			line = realloc(line, cap = cap * 2 + 4096);
		n = read(fd, line + len, 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			free(line);
			return NULL;
		}
		if (line[len] == '\n') {
			line[len] = '\0';
			return line;
		}
		len++;
	}
}

static void receive_from(int fd)
{
	char *line = read_line(fd);
	json_t *v = line != NULL ? json_loads(line, 0, NULL) : NULL;
	bool ok = v != NULL &&
		  take_up(json_object_get(v, "config"), json_object_get(v, "state"),
			  (unsigned long)json_integer_value(json_object_get(v, "counter")),
			  RECEIVE);

	if (line == NULL) {
		answer_error(RECEIVE, "Socket error", "failed to fill whole buffer", NULL);
		return;
	}
	free(line);
	if (ok && json_is_true(json_object_get(v, "running"))) {
		event("vm", "resuming", NULL);
		vm.state = VM_RUNNING;
		event("vm", "resumed", NULL);
	}
	json_decref(v);
	if (ok && write(fd, "ok\n", 3) == 3) {
		event("vm", "migration-receive-finished", NULL);
		answer_empty(204);
		return;
	}
	event("vm", "migration-receive-failed", NULL);
	answer_error(RECEIVE, "Failed to complete migration for migratable component",
		"Migration was aborted", NULL);
}

void state_receive(const json_t *args)
{
	const char *path = unix_path(json_string_value(json_object_get(args, "receiver_url")));
	char why[256];
	int listener, fd;

	if (vm.owned || vm.migrating) {
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			vm.migrating ? "There is already an ongoing migration"
				     : "Can't receive a migration when a VM is already created",
			NULL);
		return;
	}
	if (path == NULL) {
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			"Invalid receive migration configuration",
			fake_major() < 54 ? "Error validating receive migration parameters: "
					    "receiver_url must use tcp:<host>:<port> or "
					    "unix:<path>."
					  : "Expected receiver_url to either use `tcp` or `unix` "
					    "prefix",
			NULL);
		return;
	}
	listener = unix_socket(path, true);
	if (listener < 0) {
		os_error(why, sizeof(why));
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			"Error binding to UNIX socket", why, NULL);
		return;
	}
	event("vm", "migration-receive-ready", NULL);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	/* Its path is left where it is. */
	close(listener);
	event("vm", "migration-receive-started", NULL);
	receive_from(fd);
	close(fd);
}

static void migration_over(bool ok)
{
	close(out.fd);
	out.fd = -1;
	vm.migrating = false;
	json_decref(vm.frozen);
	vm.frozen = NULL;
	event("vm", ok ? "migration-finished" : "migration-failed", NULL);
	if (ok) {
		/* check_migration(): the process goes with its VM, without an event of that. */
		machine_stop();
		machine_quit(0);
	}
	vm.state = out.before;
}

void state_send(const json_t *args)
{
	const char *path = unix_path(json_string_value(json_object_get(args, "destination_url")));
	const char *cause = vm.migrating ? "There is already an ongoing migration"
			    : !vm.owned  ? "VM is not running"
					 : NULL;

	if (cause != NULL) {
		answer_error(SEND, "Failed to send migratable component snapshot", cause, NULL);
		return;
	}
	if (path == NULL) {
		answer_error(SEND, "Failed to send migratable component snapshot",
			"Invalid send migration configuration",
			"Error validating send migration parameters: destination_url must use "
			"tcp:<host>:<port> or unix:<path>.",
			NULL);
		return;
	}
	vm.frozen = machine_info();
	vm.migrating = true;
	out.before = vm.state;
	/* From v53 on it is a thread's work, and only events tell of it. */
	answer_empty(204);
	event("vm", "migration-started", NULL);
	out.fd = unix_socket(path, false);
	if (out.fd < 0) {
		migration_over(false);
		return;
	}
	out.due = now_ms() + (uint64_t)script_number(script_find("migration", NULL), 0);
}

int state_migration_fd(void)
{
	return out.due == 0 ? out.fd : -1;
}

int state_migration_timeout(void)
{
	uint64_t now = now_ms();

	if (out.fd < 0 || out.due == 0)
		return -1;
	return out.due > now ? (int)(out.due - now) : 0;
}

static void hand_over(void)
{
	json_t *v = json_pack("{s:O,s:o,s:I,s:b}", "config", vm.config, "state", device_state(),
		"counter", (json_int_t)vm.counter, "running", out.before == VM_RUNNING);
	char *text = json_dumps(v, JSON_COMPACT);
	size_t len = strlen(text), done = 0;

	json_decref(v);
	event("vm", "migration-memory-iteration", "id", "0", NULL);
	if (out.before == VM_RUNNING) {
		event("vm", "pausing", NULL);
		vm.state = VM_PAUSED;
		event("vm", "paused", NULL);
	}
	event("vm", "snapshotting", NULL);
	event("vm", "snapshotted", NULL);
	text[len++] = '\n';
	out.due = 0;
	while (done < len) {
		ssize_t n = send(out.fd, text + done, len - done, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		done += (size_t)n;
	}
	free(text);
}

void state_migration_ready(void)
{
	char *line;

	if (out.fd < 0)
		return;
	if (out.due != 0) {
		if (now_ms() >= out.due)
			hand_over();
		return;
	}
	line = read_line(out.fd);
	migration_over(line != NULL);
	free(line);
}
