/* What is asked of a machine's run while it lasts: supervisor/machine.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine-steps.h"

int machine_begin_asking(struct machine *m, const char *verb, enum hv_cap cap,
	struct operation **op, struct err *err)
{
	int r;

	*op = NULL;
	if (m->op != NULL)
		return machine_busy(m, err);
	if (m->state != MACHINE_RUNNING && m->state != MACHINE_PAUSED)
		return machine_wrong_state(m, verb, err);
	r = hv_can(m->hv, cap, err);
	if (r < 0)
		return err_wrap(err, "vm %s", m->name);
	m->asked = verb;
	return machine_begin_op(m, verb, NULL, op, err);
}

int machine_reset(struct machine *m, struct operation **op, struct err *err)
{
	int r = machine_begin_asking(m, "reset", HV_CAP_RESET, op, err);

	if (r < 0)
		return r;
	machine_tell(m, "reset", "asked for by a person");
	hv_reset(m->hv, machine_asked, m);
	return 0;
}

int machine_nmi(struct machine *m, struct operation **op, struct err *err)
{
	int r = machine_begin_asking(m, "nmi", HV_CAP_NMI, op, err);

	if (r < 0)
		return r;
	machine_tell(m, "nmi", "asked for by a person");
	hv_nmi(m->hv, machine_asked, m);
	return 0;
}

/* ---- size ---- */

static void resized(void *arg, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL) {
		/* The cgroup was made for what was asked for. */
		m->run_memory = m->memory_before;
		m->run_vcpus = m->vcpus_before;
	} else {
		machine_tell(m, "resized", "%u vcpus, %s of memory",
			m->run_vcpus != 0 ? m->run_vcpus : (unsigned)m->run_cfg->vcpus,
			format_size(m->run_memory));
	}
	machine_cgroup_apply(m);
	machine_save_soon(m);
	machine_asked(m, err);
}

int machine_resize(
	struct machine *m, unsigned vcpus, uint64_t memory, struct operation **op, struct err *err)
{
	int r;

	*op = NULL;
	if (vcpus == 0 && memory == 0)
		return err_set(
			err, -EINVAL, "vm %s: neither vcpus nor memory is to change", m->name);
	if (memory % (1 << 20) != 0)
		return err_set(err, -EINVAL, "vm %s: memory is counted in whole MiB", m->name);
	r = machine_begin_asking(
		m, "resize", vcpus != 0 ? HV_CAP_RESIZE_CPU : HV_CAP_RESIZE_MEMORY, op, err);
	if (r < 0)
		return r;
	m->memory_before = m->run_memory;
	m->vcpus_before = m->run_vcpus;
	if (vcpus != 0)
		m->run_vcpus = vcpus;
	/* The limit grows before the memory does, and shrinks after it. */
	if (memory > m->run_memory) {
		m->run_memory = memory;
		machine_cgroup_apply(m);
	} else if (memory != 0) {
		m->run_memory = memory;
	}
	hv_resize(m->hv, vcpus, memory >> 20, resized, m);
	return 0;
}

/* ---- disks ---- */

static bool has_id(const json_t *array, const char *id)
{
	const json_t *e;
	size_t i;

	json_array_foreach (array, i, e)
		if (str_eq(json_str(e, "id"), id))
			return true;
	return false;
}

/* The lowest "addedN" that is free. */
static void choose_id(const struct machine *m, char *out, size_t cap)
{
	unsigned n = 0;

	do
		snprintf(out, cap, "added%u", n++);
	while (has_id(m->added, out));
}

static bool id_is_good(const char *id)
{
	size_t len = strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len > 0 && len < 32 && id[len] == '\0' && id[0] >= 'a' && id[0] <= 'z' &&
	       !str_starts(id, "disk") && !str_starts(id, "nic") && !str_starts(id, "hp") &&
	       !str_starts(id, "dimm") && !str_starts(id, "cpu");
}

/* A value of another type must not be taken for none: the disk would be writable, or raw. */
static int check_members(const json_t *disk, struct err *err)
{
	static const char *const strings[] = { "id", "path", "format", "serial" };
	const char *key;
	json_t *value;
	size_t i;

	json_object_foreach ((json_t *)disk, key, value) {
		for (i = 0; i < ARRAY_LEN(strings) && strcmp(key, strings[i]) != 0; i++)
			;
		if (i == ARRAY_LEN(strings) && strcmp(key, "readonly") != 0)
			return err_set(err, -EINVAL, "a disk has no %s", quote(key));
		if (json_is_null(value))
			continue;
		if (i < ARRAY_LEN(strings) && !json_is_string(value))
			return err_set(err, -EINVAL, "\"%s\" is not a string", key);
		if (i == ARRAY_LEN(strings) && !json_is_boolean(value))
			return err_set(err, -EINVAL, "\"%s\" is neither true nor false", key);
	}
	return 0;
}

static int check_disk(const struct machine *m, const json_t *disk, struct err *err)
{
	const char *id = json_str(disk, "id"), *format = json_str(disk, "format");
	const char *serial = json_str(disk, "serial"), *path = json_str(disk, "path");
	int r = check_members(disk, err);

	if (r < 0)
		return r;
	if (id != NULL && !id_is_good(id))
		return err_set(err, -EINVAL,
			"%s cannot be the id of a disk: lower-case letters, digits and - are, up to 31, and not what a device of the machine's own begins with",
			quote(id));
	if (id != NULL && has_id(m->added, id))
		return err_set(err, -EEXIST, "there is a disk %s already", quote(id));
	if (format != NULL && !str_eq(format, "raw") && !str_eq(format, "qcow2"))
		return err_set(err, -EINVAL, "unknown format %s: raw or qcow2", quote(format));
	if (serial != NULL && (*serial == '\0' || strlen(serial) > SERIAL_MAX))
		return err_set(err, -EINVAL, "a serial number has 1 to %d bytes", SERIAL_MAX);
	if (path == NULL || *path != '/')
		return err_set(err, -EINVAL, "a disk needs an absolute \"path\"");
	return machine_check_file(path, err);
}

static void disk_added(void *arg, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL)
		json_array_remove(m->added, json_array_size(m->added) - 1);
	else
		machine_tell(m, "disk-added", "%s",
			json_str(json_array_get(m->added, json_array_size(m->added) - 1), "path"));
	machine_save_soon(m);
	machine_asked(m, err);
}

int machine_add_disk(struct machine *m, const json_t *disk, struct operation **op, struct err *err)
{
	struct hv_disk d = { 0 };
	json_t *mine;
	char id[32];
	int r = check_disk(m, disk, err);

	*op = NULL;
	if (r < 0)
		return err_wrap(err, "vm %s", m->name);
	r = machine_begin_asking(m, "add-disk", HV_CAP_ADD_DISK, op, err);
	if (r < 0)
		return r;
	r = machine_file_free(m, json_str(disk, "path"), json_flag(disk, "readonly", false), err);
	if (r < 0) {
		err_wrap(err, "vm %s", m->name);
		machine_end_op(m, err);
		return r;
	}
	mine = json_deep_copy(disk);
	choose_id(m, id, sizeof(id));
	if (json_str(mine, "id") == NULL)
		json_put_str(mine, "id", id);
	if (json_str(mine, "format") == NULL)
		json_put_str(mine, "format", "raw");
	if (m->added == NULL)
		m->added = json_array();
	/* Written down before it is there: a daemon that comes after us knows of it. */
	if (json_array_append_new(m->added, mine) < 0) {
		r = err_nomem(err);
		machine_end_op(m, err);
		return r;
	}
	machine_save_soon(m);
	d.id = json_str(mine, "id");
	d.path = json_str(mine, "path");
	d.format = str_eq(json_str(mine, "format"), "qcow2") ? HV_DISK_QCOW2 : HV_DISK_RAW;
	d.readonly = json_flag(mine, "readonly", false);
	d.serial = json_str(mine, "serial");
	hv_add_disk(m->hv, &d, disk_added, m);
	return 0;
}

static void disk_removed(void *arg, const struct err *err)
{
	struct machine *m = arg;
	const json_t *e;
	size_t i;

	json_array_foreach (m->added, i, e) {
		if (!json_flag(e, "removing", false))
			continue;
		if (err != NULL) {
			json_object_del((json_t *)e, "removing");
		} else {
			machine_tell(m, "disk-removed", "%s", json_str(e, "path"));
			json_array_remove(m->added, i);
		}
		break;
	}
	machine_save_soon(m);
	machine_asked(m, err);
}

int machine_remove_disk(struct machine *m, const char *id, struct operation **op, struct err *err)
{
	json_t *e;
	size_t i;
	int r;

	*op = NULL;
	if (!has_id(m->added, id))
		return err_set(err, -ENOENT,
			"vm %s: no disk %s was added to this run (`drover disk list %s`)", m->name,
			quote(id), m->name);
	r = machine_begin_asking(m, "remove-disk", HV_CAP_ADD_DISK, op, err);
	if (r < 0)
		return r;
	json_array_foreach (m->added, i, e)
		if (str_eq(json_str(e, "id"), id))
			json_put_bool(e, "removing", true);
	operation_step(m->op, "waiting for the guest to let go of it");
	hv_remove_device(m->hv, id, disk_removed, m);
	return 0;
}

void machine_forget_devices(struct machine *m)
{
	json_decref(m->added);
	m->added = NULL;
	m->run_vcpus = 0;
}
