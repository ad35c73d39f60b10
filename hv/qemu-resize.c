/*
 * hv/qemu-resize.c - processors and memory while QEMU runs: hotpluggable processors, and memory as
 * DIMMs (QEMU, docs/system/cpu-hotplug.rst and docs/memory-hotplug.txt).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hv/qemu-row.h"
#include "lib/json.h"

/* Linux takes memory in blocks of this size on x86 (Documentation/admin-guide/mm/memory-hotplug). */
#define BLOCK_MIB 128

void qemu_resize_caps(struct qemu *q, const struct hv_spec *spec)
{
	const char *microvm = str_eq(spec->machine, "microvm")
				      ? "a microvm has no ACPI to add anything by"
				      : NULL;

	q->hv.caps.why_not[HV_CAP_RESIZE_CPU] =
		microvm != NULL ? microvm
		: spec->vcpus_max > spec->vcpus
			? NULL
			: "its processors have no room to grow: vcpus_max is not above vcpus";
	q->hv.caps.why_not[HV_CAP_RESIZE_MEMORY] =
		microvm != NULL ? microvm
		: spec->memory_max_mib > spec->memory_mib
			? NULL
			: "its memory has no room to grow: memory_max is not above memory";
	q->base_mib = spec->memory_mib;
	q->max_mib = MAX(spec->memory_mib, spec->memory_max_mib);
}

/* "cpu7" of /machine/peripheral/cpu7: one that was added; NULL for one it was started with. */
static const char *added_id(const json_t *cpu)
{
	const char *path = json_str(cpu, "qom-path");

	return path != NULL && str_starts(path, "/machine/peripheral/") ? strrchr(path, '/') + 1
									: NULL;
}

static void add_cpu(struct qemu_row *row, const json_t *cpu, size_t number)
{
	json_t *args = json_deep_copy(json_object_get(cpu, "props"));
	char id[32];

	snprintf(id, sizeof(id), "cpu%zu", number);
	if (args != NULL && json_object_set_new(args, "id", json_string(id)) < 0) {
		json_decref(args);
		args = NULL;
	}
	if (args != NULL)
		json_object_set(args, "driver", json_object_get(cpu, "type"));
	qemu_row_add(row, "device_add", args);
	qemu_row_undo(row, "device_del", json_pack("{s:s}", "id", id));
}

/* The list has the last processor first. */
static int set_cpus(struct qemu_row *row, const json_t *reply, struct err *err)
{
	size_t n = json_array_size(reply), now = 0, added = 0;
	uint64_t want = qemu_row_values(row)[0];

	for (size_t i = 0; i < n; i++) {
		const json_t *cpu = json_array_get(reply, i);

		now += json_str(cpu, "qom-path") != NULL;
		added += added_id(cpu) != NULL;
	}
	if (want > n)
		return err_set(err, -EINVAL, "%llu vcpus are more than vcpus_max, which is %zu",
			(unsigned long long)want, n);
	if (want < now - added)
		return err_set(err, -EINVAL,
			"the machine was started with %zu vcpus: it cannot have fewer",
			now - added);
	for (size_t i = n; i-- > 0 && now < want;) {
		const json_t *cpu = json_array_get(reply, i);

		if (json_str(cpu, "qom-path") != NULL)
			continue;
		add_cpu(row, cpu, n - 1 - i);
		now++;
	}
	for (size_t i = 0; i < n && now > want; i++) {
		const char *id = added_id(json_array_get(reply, i));

		if (id == NULL)
			continue;
		qemu_row_add(row, "device_del", json_pack("{s:s}", "id", id));
		qemu_row_until_gone(row, id);
		now--;
	}
	return 0;
}

static void add_memory(struct qemu_row *row, size_t number, uint64_t mib)
{
	char dimm[32], object[40];

	snprintf(dimm, sizeof(dimm), "dimm%zu", number);
	snprintf(object, sizeof(object), "%s-memory", dimm);
	qemu_row_add(row, "object-add",
		json_pack("{s:s, s:s, s:I}", "qom-type", "memory-backend-ram", "id", object, "size",
			(json_int_t)(mib << 20)));
	qemu_row_undo(row, "object-del", json_pack("{s:s}", "id", object));
	qemu_row_add(row, "device_add",
		json_pack("{s:s, s:s, s:s}", "driver", "pc-dimm", "id", dimm, "memdev", object));
}

static const json_t *dimm_named(const json_t *reply, const char *name)
{
	const json_t *device;
	size_t i;

	json_array_foreach (reply, i, device) {
		const json_t *data = json_obj(device, "data");

		if (str_eq(json_str(data, "id"), name))
			return data;
	}
	return NULL;
}

/* The DIMMs that were added last go first; what they have must be what is to go. */
static int remove_memory(
	struct qemu_row *row, const json_t *reply, uint64_t now, uint64_t want, struct err *err)
{
	for (size_t i = json_array_size(reply); i-- > 0 && now > want;) {
		char dimm[32], object[40];
		const json_t *data;

		snprintf(dimm, sizeof(dimm), "dimm%zu", i);
		snprintf(object, sizeof(object), "%s-memory", dimm);
		data = dimm_named(reply, dimm);
		if (data == NULL)
			continue;
		now -= MIN(now, (uint64_t)json_int(data, "size", 0) >> 20);
		qemu_row_add(row, "device_del", json_pack("{s:s}", "id", dimm));
		qemu_row_until_gone(row, dimm);
		qemu_row_add(row, "object-del", json_pack("{s:s}", "id", object));
	}
	if (now == want)
		return 0;
	return err_set(err, -EINVAL,
		"memory goes back in the steps it was added in: %llu MiB cannot be reached, %llu MiB can",
		(unsigned long long)want, (unsigned long long)now);
}

static int set_memory(struct qemu_row *row, const json_t *reply, struct err *err)
{
	uint64_t want = qemu_row_values(row)[1], base = qemu_row_owner(row)->base_mib, now = base;
	uint64_t max = qemu_row_owner(row)->max_mib;
	const json_t *device;
	size_t i;

	json_array_foreach (reply, i, device)
		now += (uint64_t)json_int(json_obj(device, "data"), "size", 0) >> 20;
	if (want < base)
		return err_set(err, -EINVAL,
			"the machine was started with %llu MiB of memory: it cannot have less",
			(unsigned long long)base);
	if (want > max)
		return err_set(err, -EINVAL,
			"%llu MiB of memory are more than memory_max, which is %llu MiB",
			(unsigned long long)want, (unsigned long long)max);
	if (want < now)
		return remove_memory(row, reply, now, want, err);
	if ((want - now) % BLOCK_MIB != 0)
		return err_set(err, -EINVAL,
			"memory is added in steps of %d MiB: %llu MiB and %llu MiB are possible",
			BLOCK_MIB, (unsigned long long)(want - (want - now) % BLOCK_MIB),
			(unsigned long long)(want - (want - now) % BLOCK_MIB + BLOCK_MIB));
	if (want > now)
		add_memory(row, json_array_size(reply), want - now);
	return 0;
}

void qemu_resize(struct hv *hv, unsigned vcpus, uint64_t memory_mib, hv_done_fn *done, void *arg)
{
	struct qemu_row *row = qemu_row_new(qemu_of(hv), done, arg);
	struct err err;

	if (row == NULL) {
		err_nomem(&err);
		done(arg, &err);
		return;
	}
	qemu_row_values(row)[0] = vcpus;
	qemu_row_values(row)[1] = memory_mib;
	/* Both are looked at before either is changed: the changes come behind both questions. */
	if (vcpus != 0) {
		qemu_row_add(row, "query-hotpluggable-cpus", json_object());
		qemu_row_then(row, set_cpus);
	}
	if (memory_mib != 0) {
		qemu_row_add(row, "query-memory-devices", json_object());
		qemu_row_then(row, set_memory);
	}
	qemu_row_run(row);
}
