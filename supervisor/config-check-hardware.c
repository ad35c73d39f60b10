/* What the keys of a machine's hardware say about one another: supervisor/config-priv.h. */
#include <stdlib.h>
#include "oci/image.h"
#include "supervisor/config-priv.h"
#include "supervisor/hardware.h"

#define MIB ((uint64_t)1 << 20)

#define key_error(l, vm, key, fmt, ...)                                                            \
	do {                                                                                       \
		struct config_pos pos_ = config_key_pos(&(vm)->s, key);                            \
		load_error(l, pos_.file, pos_.line, key ": " fmt, ##__VA_ARGS__);                  \
	} while (0)

static const struct raw_key *raw_key(
	const struct vm_config *vm, const struct raw_key *raws, const char *name)
{
	size_t n;

	return &raws[config_key_find(SECTION_VM, name) - section_keys(SECTION_VM, &n)];
}

/* Where the ith value of a list stands. */
static struct config_pos value_pos(const struct vm_config *vm, const struct raw_key *raws,
	const char *name, size_t i, size_t n)
{
	const struct raw_key *raw = raw_key(vm, raws, name);
	struct config_pos at = config_key_pos(&vm->s, name);

	/* Unless a value was left out as a mistake, each has its own line. */
	if (raw->n == n && raw->v[i].line != 0)
		at.line = raw->v[i].line;
	return at;
}

/* ---- values ---- */

static void check_volumes(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	struct volume all[VOLUMES_MAX];
	size_t n = 0;

	if (vm->volumes.n > VOLUMES_MAX) {
		key_error(l, vm, "volume", "a machine has at most %d, not %zu", VOLUMES_MAX,
			vm->volumes.n);
		return;
	}
	for (size_t i = 0; i < vm->volumes.n; i++) {
		struct config_pos at = value_pos(vm, raws, "volume", i, vm->volumes.n);
		struct err err;

		if (volume_parse(&all[n], vm->volumes.v[i], &err) < 0) {
			load_error(l, at.file, at.line, "volume: %s", err.msg);
			continue;
		}
		for (size_t k = 0; k < n; k++)
			if ((all[n].name != NULL && str_eq(all[n].name, all[k].name)) ||
				(all[n].path != NULL && str_eq(all[n].path, all[k].path)))
				load_error(l, at.file, at.line, "volume: %s is there a second time",
					vm->volumes.v[i]);
		n++;
	}
	while (n > 0)
		volume_finish(&all[--n]);
}

static void check_shares(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	struct share all[SHARES_MAX];
	size_t n = 0;

	if (vm->shares.n > SHARES_MAX) {
		key_error(l, vm, "share", "a machine has at most %d, not %zu", SHARES_MAX,
			vm->shares.n);
		return;
	}
	for (size_t i = 0; i < vm->shares.n; i++) {
		struct config_pos at = value_pos(vm, raws, "share", i, vm->shares.n);
		struct err err;

		if (share_parse(&all[n], vm->shares.v[i], &err) < 0) {
			load_error(l, at.file, at.line, "share: %s", err.msg);
			continue;
		}
		for (size_t k = 0; k < n; k++)
			if (strcmp(all[n].tag, all[k].tag) == 0)
				load_error(l, at.file, at.line,
					"share: the tag %s is there a second time", all[n].tag);
		n++;
	}
	while (n > 0)
		share_finish(&all[--n]);
}

static void check_single(struct load *l, const struct vm_config *vm)
{
	const char *f = vm->firmware;
	struct boot_order order;
	struct err err;
	uint32_t cid;
	bool any;

	if (f != NULL && f[0] != '/' && strcmp(f, "bios") != 0 && strcmp(f, "uefi") != 0)
		key_error(l, vm, "firmware", "%s is not bios, uefi or an absolute path", quote(f));
	if (vm->boot != NULL && boot_order_parse(&order, vm->boot, &err) < 0)
		key_error(l, vm, "boot", "%s", err.msg);
	if (vm->vsock != NULL && vsock_parse(vm->vsock, &any, &cid, &err) < 0)
		key_error(l, vm, "vsock", "%s", err.msg);
	if (vm->memory_max % MIB != 0)
		key_error(l, vm, "memory_max", "must be whole MiB");
}

/* ---- one against another ---- */

static void check_topology(struct load *l, const struct vm_config *vm)
{
	uint64_t all = vm->vcpus_max != 0 ? vm->vcpus_max : vm->vcpus;
	uint64_t given = MAX(vm->sockets, 1) * MAX(vm->cores, 1) * MAX(vm->threads, 1);
	bool whole = vm->sockets != 0 && vm->cores != 0 && vm->threads != 0;
	const char *key = vm->sockets != 0 ? "sockets" : vm->cores != 0 ? "cores" : "threads";

	if (vm->vcpus_max != 0 && vm->vcpus_max < vm->vcpus)
		key_error(l, vm, "vcpus_max", "is less than vcpus");
	else if (whole ? given != all : all % given != 0) {
		struct config_pos at = config_key_pos(&vm->s, key);

		load_error(l, at.file, at.line,
			"%s: sockets, cores and threads multiply to %llu, which %s the %llu of %s",
			key, (unsigned long long)given, whole ? "is not" : "does not divide",
			(unsigned long long)all, vm->vcpus_max != 0 ? "vcpus_max" : "vcpus");
	}
	if (vm->memory_max != 0 && vm->memory_max < vm->memory)
		key_error(l, vm, "memory_max", "is less than memory");
}

static const char *word(const struct vm_config *vm, const char *key, int value)
{
	return config_key_find(vm->s.kind, key)->words[value];
}

static bool is_foreign(const struct vm_config *vm)
{
	const struct config_key *key = config_key_find(SECTION_VM, "arch");

	return strcmp(key->words[vm->arch], key->def) != 0;
}

static void check_arch(struct load *l, const struct vm_config *vm)
{
	if ((vm->arch == ARCH_AARCH64) != (vm->machine == BOARD_VIRT))
		key_error(l, vm, "machine", "%s is not for arch = %s",
			word(vm, "machine", vm->machine), word(vm, "arch", vm->arch));
	if (vm->accel == HV_ACCEL_KVM && is_foreign(vm))
		key_error(l, vm, "accel", "kvm cannot run arch = %s on this host",
			word(vm, "arch", vm->arch));
	if (vm->arch != ARCH_AARCH64)
		return;
	if (str_eq(vm->firmware, "bios"))
		key_error(l, vm, "firmware", "an aarch64 machine has no bios");
	if (vm->watchdog != 0 && str_eq(word(vm, "watchdog", vm->watchdog), "ib700"))
		key_error(l, vm, "watchdog", "ib700 is on ISA, which machine = virt does not have");
}

/* What a board has no place for. */
static void check_board(struct load *l, const struct vm_config *vm)
{
	bool microvm = vm->machine == BOARD_MICROVM;

	if (microvm && vm->cdrom != NULL)
		key_error(l, vm, "cdrom", "a microvm has no bus for a CD-ROM drive");
	if (microvm && vm->tpm)
		key_error(l, vm, "tpm", "a microvm has no bus for a TPM");
	if (microvm && vm->display != DISPLAY_NONE)
		key_error(l, vm, "display", "a microvm has no bus for a screen");
	if (microvm && vm->firmware != NULL && strcmp(vm->firmware, "bios") != 0)
		key_error(l, vm, "firmware", "a microvm boots a kernel by its own firmware only");
	if (microvm && vm->memory_max > vm->memory)
		key_error(l, vm, "memory_max", "a microvm cannot be given more memory");
	if (microvm && vm->vcpus_max > vm->vcpus)
		key_error(l, vm, "vcpus_max", "a microvm cannot be given more CPUs");
	if (vm->hotplug_slots > 0 && (microvm || vm->machine == BOARD_PC))
		key_error(l, vm, "hotplug_slots", "%s has no PCI Express",
			microvm ? "a microvm" : "machine = pc");
}

static void check_secure_boot(struct load *l, const struct vm_config *vm)
{
	if (!vm->secure_boot)
		return;
	if (vm->machine != BOARD_Q35)
		key_error(l, vm, "secure_boot",
			"needs machine = q35, which has the system management mode that guards the keys");
	else if (vm->firmware == NULL || strcmp(vm->firmware, "bios") == 0)
		key_error(l, vm, "secure_boot", "needs firmware = uefi");
}

static void check_boot(struct load *l, const struct vm_config *vm)
{
	struct boot_order order;

	if (vm->boot == NULL || boot_order_parse(&order, vm->boot, NULL) < 0)
		return;
	if (vm->kernel != NULL)
		key_error(l, vm, "boot", "a machine with a kernel boots that");
	if (boot_order_has(&order, BOOT_DISK) && vm->rootfs == NULL && vm->volumes.n == 0)
		key_error(l, vm, "boot", "there is no disk: rootfs or volume is missing");
	if (boot_order_has(&order, BOOT_CDROM) && vm->cdrom == NULL)
		key_error(l, vm, "boot", "cdrom is missing");
	if (boot_order_has(&order, BOOT_NETWORK) && vm->networks.n == 0)
		key_error(l, vm, "boot", "network is missing");
}

static bool has_to_boot_from(const struct vm_config *vm)
{
	/* An OCI image becomes a filesystem without a boot loader, unless somebody knows better. */
	return vm->cdrom != NULL || vm->volumes.n > 0 || vm->firmware != NULL || vm->boot != NULL ||
	       (vm->rootfs != NULL && image_text_is_file(vm->rootfs));
}

void check_has_kernel(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	const struct raw_key *raw;

	if (vm->kernel != NULL)
		return;
	raw = raw_key(vm, raws, "kernel");
	if (raw->bad || (raw->n > 0 && raw->v[0].text[0] != '\0'))
		return;
	if (vm->machine == BOARD_MICROVM)
		load_error(l, vm->s.pos.file, vm->s.pos.line,
			"[vm %.80s] needs 'kernel': a microvm boots nothing else", vm->s.name);
	else if (!has_to_boot_from(vm))
		load_error(l, vm->s.pos.file, vm->s.pos.line,
			"[vm %.80s] needs 'kernel', or what it is to boot from: a rootfs that is "
			"a file, volume, cdrom",
			vm->s.name);
}

void check_hardware(struct load *l, struct vm_config *vm, const struct raw_key *raws)
{
	check_volumes(l, vm, raws);
	check_shares(l, vm, raws);
	check_single(l, vm);
	if (vm->s.kind != SECTION_VM)
		return;
	if ((vm->arch == ARCH_AARCH64) != (vm->machine == BOARD_VIRT) &&
		raw_key(vm, raws, "machine")->n == 0)
		vm->machine = vm->arch == ARCH_AARCH64 ? BOARD_VIRT : BOARD_Q35;
	check_topology(l, vm);
	check_arch(l, vm);
	check_board(l, vm);
	check_boot(l, vm);
	check_secure_boot(l, vm);
}

/* There are few that name a CID themselves, so each is held against each. */
void check_vsocks(struct load *l)
{
	const struct config_array *a = &l->c->pub.by_kind[SECTION_VM];

	for (size_t i = 0; i < a->n; i++) {
		const struct vm_config *x = (const void *)a->v[i];
		uint32_t cid, other;
		bool any;

		if (x->vsock == NULL || vsock_parse(x->vsock, &any, &cid, NULL) < 0 || cid == 0)
			continue;
		for (size_t k = 0; k < i; k++) {
			const struct vm_config *y = (const void *)a->v[k];
			struct config_pos at = config_key_pos(&y->s, "vsock");

			if (y->vsock != NULL && vsock_parse(y->vsock, &any, &other, NULL) == 0 &&
				other == cid)
				key_error(l, x, "vsock", "%u is that of [vm %s], %s:%u", cid,
					y->s.name, at.file, at.line);
		}
	}
}
