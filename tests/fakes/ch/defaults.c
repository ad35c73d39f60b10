/* What vm.info shows of members that were not given, as v53.0 does (vmm/src/vm_config.rs). */
#include <string.h>
#include "tests/fakes/ch/fake.h"

static const struct {
	const char *name, *json;
} defaults[] = {
	{ "VmConfig",
		"{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":1,\"kvm_hyperv\":false,"
		"\"max_phys_bits\":46,\"features\":{\"amx\":false},\"nested\":true,"
		"\"core_scheduling\":\"Vm\",\"profile\":\"Host\"},"
		"\"memory\":{\"size\":536870912,\"mergeable\":false,\"hotplug_method\":\"Acpi\","
		"\"shared\":false,\"hugepages\":false,\"prefault\":false,\"reserve\":false,"
		"\"thp\":true},"
		"\"rng\":{\"pci_segment\":0,\"src\":\"/dev/urandom\"},"
		"\"serial\":{\"mode\":\"Null\"},\"console\":{\"mode\":\"Tty\",\"pci_segment\":0},"
		"\"debug_console\":{\"mode\":\"Off\",\"iobase\":233},\"pvpanic\":false,"
		"\"iommu\":false,\"watchdog\":false,\"landlock_enable\":false}" },
	{ "DiskConfig", "{\"pci_segment\":0,\"readonly\":false,\"direct\":false,\"num_queues\":1,"
			"\"queue_size\":128,\"vhost_user\":false,\"disable_io_uring\":false,"
			"\"disable_aio\":false,\"backing_files\":false,\"sparse\":true,"
			"\"lock_granularity\":\"ByteRange\"}" },
	{ "NetConfig",
		"{\"pci_segment\":0,\"num_queues\":2,\"queue_size\":256,\"vhost_user\":false,"
		"\"vhost_mode\":\"Client\",\"offload_tso\":true,\"offload_ufo\":true,"
		"\"offload_csum\":true}" },
	{ "VsockConfig", "{\"pci_segment\":0}" },
};

static void merge(json_t *v, const json_t *from)
{
	json_t *value;
	const char *key;

	json_object_foreach ((json_t *)from, key, value) {
		json_t *own = json_object_get(v, key);

		if (own == NULL)
			json_object_set_new(v, key, json_deep_copy(value));
		else if (json_is_object(own) && json_is_object(value))
			merge(own, value);
	}
}

void schema_fill(const char *name, json_t *v)
{
	for (size_t i = 0; i < N(defaults); i++) {
		json_t *d;

		if (strcmp(defaults[i].name, name) != 0)
			continue;
		d = json_loads(defaults[i].json, 0, NULL);
		merge(v, d);
		json_decref(d);
	}
}
