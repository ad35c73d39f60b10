/* Modules and devices of the kernel: supervisor/examine.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oci/sandbox.h"
#include "supervisor/examine-private.h"

#define GROUP "kernel"

/* ---- modules ---- */

/* Whether a list of paths ("kernel/net/x/NAME.ko.xz: ...", a line each) has the module. */
static bool lists_module(const char *list, const char *name)
{
	size_t len = strlen(name);

	for (const char *p = list; p != NULL && *p != '\0'; p = strchr(p, '\n'), p += p != NULL) {
		size_t path = strcspn(p, ":\n"), i, at = 0;

		for (i = 0; i < path; i++) {
			if (p[i] == '/')
				at = i + 1;
		}
		if (path - at < len + 3 || strncmp(p + at + len, ".ko", 3) != 0)
			continue;
		/* The names of files have "-" where those of modules have "_". */
		for (i = 0;
			i < len && (p[at + i] == name[i] || (p[at + i] == '-' && name[i] == '_'));
			i++)
			;
		if (i == len)
			return true;
	}
	return false;
}

enum module examine_module(const struct examination *x, const char *name)
{
	struct buf list = { 0 };
	enum module m = MODULE_UNKNOWN;
	struct stat st;
	char path[256];

	snprintf(path, sizeof(path), "/lib/modules/%s/modules.builtin", x->kernel);
	if (x->kernel[0] != '\0' && examine_file(x, path, &list) &&
		lists_module(buf_str(&list), name)) {
		m = MODULE_BUILTIN;
	} else if (stat(examine_path(x, "/sys/module/%s", name), &st) == 0) {
		/* One with an initstate was loaded (Documentation/ABI/testing/sysfs-module). */
		m = stat(examine_path(x, "/sys/module/%s/initstate", name), &st) == 0
			    ? MODULE_HERE
			    : MODULE_BUILTIN;
	} else {
		snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", x->kernel);
		if (x->kernel[0] != '\0' && examine_file(x, path, &list))
			m = lists_module(buf_str(&list), name) ? MODULE_FOUND : MODULE_ABSENT;
	}
	buf_finish(&list);
	return m;
}

/* ---- devices ---- */

struct device {
	const char *check, *path, *module;
	enum finding missing;
	const char *without; /* what does not work then */
};

static void device_missing(struct examination *x, const struct device *d, int error)
{
	char fix[64];

	snprintf(fix, sizeof(fix), "`modprobe %s`", d->module);
	switch (examine_module(x, d->module)) {
	case MODULE_FOUND:
		found(x, GROUP, d->check, d->missing, fix, "the module %s is not loaded: %s",
			d->module, d->without);
		examine_load(x, d->check, d->module);
		return;
	case MODULE_ABSENT:
		found(x, GROUP, d->check, d->missing,
			"a kernel with it, such as `apt-get install linux-image-amd64`",
			"the kernel %s has no module %s: %s", x->kernel, d->module, d->without);
		return;
	case MODULE_HERE:
	case MODULE_BUILTIN:
		found(x, GROUP, d->check, d->missing, "give this container or namespace the device",
			"%s: %s, though %s is there: %s", d->path, strerror(error), d->module,
			d->without);
		return;
	case MODULE_UNKNOWN:
		break;
	}
	found(x, GROUP, d->check, d->missing, fix, "%s: %s: %s", d->path, strerror(error),
		d->without);
}

static void check_device(struct examination *x, const struct device *d)
{
	const char *path = examine_path(x, "%s", d->path);
	struct stat st;
	char fix[96];
	int fd;

	/* Those of another tree are not opened: a node there may be the running kernel's device. */
	if (x->o.root != NULL) {
		if (stat(path, &st) == 0)
			found(x, GROUP, d->check, FOUND_OK, NULL, "%s is there", d->path);
		else
			device_missing(x, d, errno);
		return;
	}
	/* Opening such a node loads the module, and looking shall change nothing. */
	if (access(path, R_OK | W_OK) == 0 && examine_module(x, d->module) == MODULE_FOUND) {
		found(x, GROUP, d->check, FOUND_OK, NULL,
			"%s is there, and loads %s when it is opened", d->path, d->module);
		return;
	}
	fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0) {
		close(fd);
		found(x, GROUP, d->check, FOUND_OK, NULL, "%s opens", d->path);
	} else if (errno == EACCES || errno == EPERM) {
		snprintf(fix, sizeof(fix),
			geteuid() == 0 ? "give it access to %s" : "`sudo drover doctor`", d->path);
		found(x, GROUP, d->check, geteuid() == 0 ? d->missing : FOUND_UNSEEN, fix,
			"%s is there, but may not be opened by this user", d->path);
	} else {
		device_missing(x, d, errno);
	}
}

static bool uses_vsock(const struct examination *x)
{
	for (size_t i = 0; i < examine_machines(x); i++) {
		const struct vm_config *vm = (const void *)x->o.config->by_kind[SECTION_VM].v[i];

		if (vm->vsock != NULL && strcmp(vm->vsock, "none") != 0)
			return true;
	}
	return false;
}

/* The kernel loads these by itself when droverd asks it for a bridge or a table, if it can. */
static void check_module(struct examination *x, const char *module, const char *without)
{
	char fix[64];

	switch (examine_module(x, module)) {
	case MODULE_HERE:
	case MODULE_BUILTIN:
		found(x, GROUP, module, FOUND_OK, NULL, "the kernel has %s", module);
		return;
	case MODULE_FOUND:
		snprintf(fix, sizeof(fix), "`modprobe %s`", module);
		found(x, GROUP, module, FOUND_INFO, fix,
			"the module %s is not loaded yet; the kernel does it when it is needed, if it may",
			module);
		examine_load(x, module, module);
		return;
	case MODULE_ABSENT:
		found(x, GROUP, module, FOUND_FAIL,
			"a kernel with it, such as `apt-get install linux-image-amd64`",
			"the kernel %s has no module %s: %s", x->kernel, module, without);
		return;
	case MODULE_UNKNOWN:
		/* Where nft lists the rules there is nf_tables, and the firewall's check says so. */
		if (x->o.root == NULL && strcmp(module, "nf_tables") == 0)
			return;
		found(x, GROUP, module, FOUND_UNSEEN, NULL,
			"%s is not among the loaded modules, and there is no /lib/modules/%s that says "
			"whether it is in the kernel",
			module, x->kernel);
		return;
	}
}

/* Images are fetched and unpacked without it too, kept apart by owner and by what is refused. */
static void check_landlock(struct examination *x)
{
	int abi;

	if (x->o.root != NULL) {
		found(x, GROUP, "landlock", FOUND_UNSEEN, NULL,
			"whether there is Landlock tells only the kernel itself");
		return;
	}
	abi = sandbox_landlock_abi();
	if (abi > 0)
		found(x, GROUP, "landlock", FOUND_OK, NULL,
			"Landlock (ABI %d) keeps image jobs in their folders", abi);
	else
		found(x, GROUP, "landlock", FOUND_INFO,
			"a kernel of 5.19 or later, with lsm=landlock",
			"the kernel has no Landlock: image jobs are kept from other files only by "
			"owner and capabilities");
}

void examine_devices(struct examination *x)
{
	const struct device tun = { "tun", "/dev/net/tun", "tun",
		x->o.config == NULL || examine_has_links(x) ? FOUND_FAIL : FOUND_WARN,
		"machines have no network but kind = user" };
	const struct device net = { "vhost-net", "/dev/vhost-net", "vhost_net", FOUND_INFO,
		"the packets of guests go through the hypervisor, which takes longer" };
	const struct device vsock = { "vhost-vsock", "/dev/vhost-vsock", "vhost_vsock",
		uses_vsock(x) ? FOUND_FAIL : FOUND_INFO, "machines can have no vsock" };

	check_device(x, &tun);
	check_device(x, &net);
	check_device(x, &vsock);
	check_module(x, "bridge", "networks can have no bridge");
	check_module(x, "nf_tables", "nothing is translated, opened or kept apart");
	check_landlock(x);
}
