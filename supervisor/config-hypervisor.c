/* What a machine's hypervisor cannot do, said when the file is read: supervisor/config.h. */
#include <string.h>

#include "supervisor/config-priv.h"

static const char *const hypervisors[] = { "qemu", "cloud-hypervisor" };

struct limit {
	const char *key;
	const char *value; /* that it cannot; NULL: every one but the default's */
	const char *why;
};

/* Of cloud-hypervisor. */
static const struct limit limits[] = {
	{ "machine", "pc", "cloud-hypervisor has one machine of its own, with PCIe like q35" },
	{ "machine", "microvm", "cloud-hypervisor has one machine of its own, with PCIe like q35" },
	{ "accel", "tcg", "cloud-hypervisor runs guests by KVM alone and emulates no processor" },
	{ "cpu", NULL,
		"cloud-hypervisor gives the guest the host's processor and knows no models" },
	{ "clone", "overlay",
		"cloud-hypervisor is given whole disks alone, and none that lies above another" },
	{ "agent", NULL, "cloud-hypervisor has no port for the QEMU guest agent" },
	{ "secure_boot", "yes", "cloud-hypervisor has no firmware that checks signatures" },
	{ "vhost", "yes", "cloud-hypervisor moves the packets of its nics by itself" },
	{ "watchdog", NULL, "cloud-hypervisor has none of these watchdog devices" },
	{ "qemu_args", NULL,
		"these are arguments for QEMU, and this machine's hypervisor is "
		"cloud-hypervisor" },
};

static void mistake(
	struct load *l, const struct config_section *s, const char *key, const char *text)
{
	size_t i = (size_t)(config_key_find(s->kind, key) - config_keys);
	const struct config_pos *at = s->key_pos[i].line != 0 ? &s->key_pos[i] : &s->pos;

	load_error(l, at->file, at->line, "%s: %s", key, text);
}

static void check_limit(struct load *l, const struct vm_config *vm, const struct limit *limit)
{
	const struct config_key *k = config_key_find(SECTION_VM, limit->key);
	struct buf text = { 0 };
	bool bad;

	config_value_text(&vm->s, k, &text);
	if (limit->value != NULL)
		bad = str_eq(buf_str(&text), limit->value);
	else
		bad = text.len > 0 && !str_eq(buf_str(&text), k->def);
	l->nomem |= text.bad;
	buf_finish(&text);
	if (bad)
		mistake(l, &vm->s, limit->key, limit->why);
}

void check_hypervisor(struct load *l, const struct vm_config *vm)
{
	const char *name = vm->hypervisor != NULL ? vm->hypervisor : hypervisors[0];
	struct buf text = { 0 };

	if (strcmp(name, "qemu") == 0)
		return;
	if (strcmp(name, "cloud-hypervisor") != 0) {
		buf_printf(&text, "%s is neither 'qemu' nor 'cloud-hypervisor'%s", quote(name),
			did_you_mean(str_nearest(name, hypervisors, ARRAY_LEN(hypervisors))));
		mistake(l, &vm->s, "hypervisor", buf_str(&text));
		buf_finish(&text);
		return;
	}
	/* A template is spoken of at its machines, which may set other values. */
	for (size_t i = 0; i < ARRAY_LEN(limits) && vm->s.kind == SECTION_VM; i++)
		check_limit(l, vm, &limits[i]);
}
