/* Warm templates and what is made from them: supervisor/config-priv.h. */
#include <string.h>
#include "supervisor/config-priv.h"
#include "supervisor/hardware.h"

#define key_error(l, vm, key, fmt, ...)                                                            \
	do {                                                                                       \
		struct config_pos pos_ = config_key_pos(&(vm)->s, key);                            \
		load_error(l, pos_.file, pos_.line, key ": " fmt, ##__VA_ARGS__);                  \
	} while (0)

static const struct raw_key *raw_key(const struct raw_key *raws, const char *name)
{
	size_t n;

	return &raws[config_key_find(SECTION_VM, name) - section_keys(SECTION_VM, &n)];
}

/* A file of somebody's that is written to: its state is not the template's to keep. */
static const char *foreign_volume(const struct vm_config *vm)
{
	for (size_t i = 0; i < vm->volumes.n; i++) {
		struct volume v;
		bool foreign;

		/* A bad one was told of already. */
		if (volume_parse(&v, vm->volumes.v[i], NULL) < 0)
			continue;
		foreign = v.name == NULL && !v.readonly;
		volume_finish(&v);
		if (foreign)
			return vm->volumes.v[i];
	}
	return NULL;
}

static void check_template(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	const char *volume = foreign_volume(vm);

	if (vm->from != NULL)
		key_error(l, vm, "warm", "a machine with `from` is no template");
	if (vm->health.n == 0 && !raw_key(raws, "health")->bad)
		key_error(l, vm, "warm",
			"nothing tells when the machine is ready to be frozen: set health, such "
			"as health = ssh or health = console:REGEX");
	if (!vm->agent)
		key_error(l, vm, "warm",
			"machines made from it learn who they are by the guest agent: set "
			"agent = yes");
	if (vm->disk == DISK_KEEP && raw_key(raws, "disk")->n > 0)
		key_error(l, vm, "warm",
			"disk = keep says that the disk stays, which that of a "
			"warm template does not");
	if (vm->hugepages)
		key_error(l, vm, "warm", "the memory of huge pages cannot be kept in a file");
	if (vm->memory_shared)
		key_error(l, vm, "warm",
			"each machine has its memory to itself: "
			"memory_shared = yes is not possible");
	if (vm->shares.n > 0)
		key_error(l, vm, "warm", "a machine with a share cannot be frozen");
	if (vm->tpm)
		key_error(l, vm, "warm", "the secrets of a TPM are of one machine");
	if (volume != NULL)
		key_error(l, vm, "warm", "two machines cannot both write to the volume %s",
			quote(volume));
}

void check_warm(struct load *l, const struct vm_config *vm, const struct raw_key *raws)
{
	const struct vm_config *from;

	if (vm->warm)
		check_template(l, vm, raws);
	from = vm->from != NULL ? config_vm(&l->c->pub, vm->from) : NULL;
	if (from != NULL && !from->warm && !raw_key(raws, "from")->bad)
		key_error(l, vm, "from", "[vm %s] is no warm template: it needs warm = yes",
			vm->from);
}
