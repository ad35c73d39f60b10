/* Snapshots. */
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

void os_error(char *out, size_t cap)
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

json_t *state_devices(void)
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
	v = state_devices();
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
bool state_take_up(json_t *config, const json_t *state, unsigned long counter, const char *what)
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
	} else if (open_devices(config) && state_take_up(config, state, vm.counter, RESTORE)) {
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
