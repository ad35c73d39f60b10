/* Whether a snapshot fits the machine that it shall become: supervisor/snapshot.h. */
#include "supervisor/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/json.h"
#include "lib/str.h"
#include "supervisor/config.h"
#include "supervisor/plan.h"

/*
 * Keys that need a restart, but do not shape what the memory of a guest depends on: what is read at
 * boot only, or concerns our side of the process. Every other key does, the ones to come too.
 */
static const char *const shapeless[] = { "binary", "kernel", "initrd", "rootfs", "cmdline", "disk",
	"disk_size", "ssh_key", "ssh_user", "hostname", "jail", "start_paused", "reboot", "accel",
	"warm" };

static bool has_shape(const struct config_key *key)
{
	if (key->section != SECTION_VM || key->meta || key->reload == RELOAD_LIVE)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(shapeless); i++) {
		if (strcmp(key->name, shapeless[i]) == 0)
			return false;
	}
	return true;
}

static const char *value_of(const json_t *config, const struct config_key *key)
{
	const char *value = json_str(config, key->name);

	return value != NULL ? value : key->def != NULL ? key->def : "";
}

static int check_keys(const json_t *was, const json_t *is, struct err *err)
{
	for (size_t i = 0; i < config_nkeys; i++) {
		const struct config_key *key = &config_keys[i];
		const char *a, *b;

		if (!has_shape(key))
			continue;
		a = value_of(was, key);
		b = value_of(is, key);
		if (strcmp(a, b) != 0)
			return err_set(err, -EINVAL, "%s was %s then and is %s now", key->name,
				a[0] != '\0' ? quote(a) : "not set",
				b[0] != '\0' ? quote(b) : "not set");
	}
	return 0;
}

int snapshot_check_config(const json_t *manifest, const struct vm_config *cfg, struct err *err)
{
	const char *accel = json_str(manifest, "accel"), *cpu = json_str(manifest, "host_cpu");
	json_t *now = plan_applied(&cfg->s);
	int r = now == NULL ? err_nomem(err) : 0;

	/* Its disks fit every machine. */
	if (r == 0 && snapshot_has_memory(manifest))
		r = check_keys(json_obj(manifest, "config"), now, err);
	json_decref(now);
	if (r == 0 && snapshot_has_memory(manifest) && accel != NULL && str_starts(accel, "kvm") &&
		(cfg->cpu == NULL || strcmp(cfg->cpu, "host") == 0) && cpu != NULL &&
		strcmp(cpu, snapshot_host_cpu()) != 0)
		r = err_set(err, -EINVAL,
			"the guest had this host's processor, %s, which is %s now", quote(cpu),
			quote(snapshot_host_cpu()));
	return r;
}

/* "QEMU emulator version 7.2.22 (Debian ...)" or "cloud-hypervisor v50.0": major and minor. */
static bool version_of(const char *text, unsigned *major, unsigned *minor)
{
	const char *p = text + strcspn(text, "0123456789");

	return sscanf(p, "%u.%u", major, minor) == 2;
}

int snapshot_check_version(const json_t *manifest, const char *line, struct err *err)
{
	const char *was = json_str(manifest, "hypervisor_version");
	unsigned a[2], b[2];

	if (was == NULL || !version_of(was, &a[0], &a[1]))
		return err_set(err, -EINVAL, "its manifest does not tell the hypervisor's version");
	if (!version_of(line, &b[0], &b[1]))
		return err_set(
			err, -EINVAL, "the hypervisor does not tell its version: %s", quote(line));
	if (a[0] != b[0] || a[1] != b[1])
		return err_set(err, -EINVAL, "it was made by %s, and the hypervisor here is %s",
			was, quote(line));
	return 0;
}

const char *snapshot_host_cpu(void)
{
	static char name[128], line[256];
	FILE *f;

	if (name[0] != '\0')
		return name;
	f = fopen("/proc/cpuinfo", "re");
	while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
		char *colon = strchr(line, ':');

		if (!str_starts(line, "model name") || colon == NULL)
			continue;
		snprintf(name, sizeof(name), "%s", str_trim(colon + 1));
		break;
	}
	if (f != NULL)
		fclose(f);
	return name;
}
