/* Processor, KVM and nested virtualization: supervisor/examine.h. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "hv/hv.h"
#include "lib/file.h"
#include "supervisor/examine-private.h"

#define GROUP       "kvm"
#define SHOWN_MAX   4 /* hypervisors that are named */
#define CONF_MAX    ((size_t)1 << 20)
#define EMULATED    "machines are emulated, which is slow"
#define OPTION_DIRS "/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"

/* ---- who runs ---- */

/* comm may be cut to 15 bytes (proc(5)). */
static bool is_hypervisor(const char *comm)
{
	static const char *const begins[] = { "qemu-", "cloud-hyperviso", "firecracker", "crosvm",
		"VBoxHeadless", "VirtualBoxVM", "vmware-vmx" };

	for (size_t i = 0; i < ARRAY_LEN(begins); i++) {
		if (str_starts(comm, begins[i]))
			/* Tools that run no guest. */
			return !str_starts(comm, "qemu-img") && !str_starts(comm, "qemu-ga") &&
			       !str_starts(comm, "qemu-nbd") && !str_starts(comm, "qemu-io");
	}
	return str_eq(comm, "kvm") || str_eq(comm, "lkvm");
}

/* The kernel counts what has a VM open in the module that serves it. */
static void add_users(const struct examination *x, struct buf *out)
{
	static const char *const files[] = { "/sys/module/kvm_intel/refcnt",
		"/sys/module/kvm_amd/refcnt" };
	uint64_t n;

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		if (out->len == 0 && examine_number(x, files[i], &n) && n > 0)
			buf_printf(
				out, "KVM is in use (%s is %llu)", files[i], (unsigned long long)n);
	}
}

/*
 * By the name of its program, since a hypervisor can call itself as it likes, and QEMU is told to
 * (-name process=). name is how it is shown.
 */
static bool process_is_hypervisor(
	const struct examination *x, const char *pid, char *name, size_t cap)
{
	char path[64], line[256], *slash;

	snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	if (examine_line(x, path, name, cap) && is_hypervisor(name))
		return true;
	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	/* The arguments end with NULs: what is read as a line is the first. */
	if (file_read_line(examine_path(x, "%s", path), line, sizeof(line), NULL) < 0)
		return false;
	slash = strrchr(line, '/');
	snprintf(name, cap, "%s", slash != NULL ? slash + 1 : line);
	return is_hypervisor(name);
}

bool examine_hypervisors(const struct examination *x, struct buf *out)
{
	DIR *dir = opendir(examine_path(x, "/proc"));
	size_t n = 0;
	char name[64];

	buf_clear(out);
	for (const struct dirent *e; dir != NULL && (e = readdir(dir)) != NULL;) {
		if (!isdigit((unsigned char)e->d_name[0]))
			continue;
		if (!process_is_hypervisor(x, e->d_name, name, sizeof(name)))
			continue;
		if (n++ < SHOWN_MAX)
			buf_printf(out, "%s%s (pid %.20s)", n > 1 ? ", " : "", name, e->d_name);
	}
	if (dir != NULL)
		closedir(dir);
	if (n > SHOWN_MAX)
		buf_printf(out, " and %zu more", n - SHOWN_MAX);
	add_users(x, out);
	return out->len > 0;
}

/* ---- the processor ---- */

/* Whether word stands alone among the flags. */
static bool has_flag(const char *cpuinfo, const char *word)
{
	const char *flags = strstr(cpuinfo, "\nflags");
	size_t len = strlen(word), n;

	if (flags == NULL)
		return false;
	n = strcspn(++flags, "\n");
	for (const char *p = flags; (p = strstr(p, word)) != NULL && p < flags + n; p += len) {
		if (strchr(" \t:", p[-1]) != NULL &&
			(p[len] == '\0' || isspace((unsigned char)p[len])))
			return true;
	}
	return false;
}

struct cpu {
	bool x86, vmx, svm, guest;
};

static struct cpu check_cpu(struct examination *x)
{
	struct buf text = { 0 };
	struct cpu c = { 0 };

	if (!examine_file(x, "/proc/cpuinfo", &text)) {
		found(x, GROUP, "cpu", FOUND_UNSEEN, NULL, "/proc/cpuinfo cannot be read");
		buf_finish(&text);
		return c;
	}
	c = (struct cpu){ .x86 = strstr(buf_str(&text), "\nflags") != NULL,
		.vmx = has_flag(buf_str(&text), "vmx"),
		.svm = has_flag(buf_str(&text), "svm"),
		.guest = has_flag(buf_str(&text), "hypervisor") };
	if (!c.x86)
		found(x, GROUP, "cpu", FOUND_OK, NULL,
			"no x86: whether it virtualizes shows in /dev/kvm");
	else if (c.vmx || c.svm)
		found(x, GROUP, "cpu", FOUND_OK, NULL, "the processor has %s",
			c.vmx ? "vmx (Intel VT-x)" : "svm (AMD-V)");
	else if (c.guest)
		found(x, GROUP, "cpu", FOUND_WARN,
			"`drover doctor --fix` on the host of this machine, and cpu = host for it there",
			"this host is a virtual machine, and is given no vmx or svm: " EMULATED);
	else
		found(x, GROUP, "cpu", FOUND_WARN,
			"turn on VT-x, AMD-V or SVM in the firmware's setup, and boot again",
			"the processor shows no vmx or svm: " EMULATED);
	buf_finish(&text);
	return c;
}

/* ---- /dev/kvm ---- */

static const char *kvm_module(const struct cpu *c)
{
	return c->vmx ? "kvm_intel" : "kvm_amd";
}

static void kvm_lacks(struct examination *x, const struct cpu *c, const char *why)
{
	const char *module = kvm_module(c);
	char fix[96];

	if (!c->vmx && !c->svm) {
		found(x, GROUP, "kvm", FOUND_WARN, NULL, "%s: " EMULATED, why);
		return;
	}
	snprintf(fix, sizeof(fix), "`modprobe %s`", module);
	switch (examine_module(x, module)) {
	case MODULE_FOUND:
		found(x, GROUP, "kvm", FOUND_WARN, fix,
			"%s; the module %s is not loaded: " EMULATED, why, module);
		examine_load(x, "kvm", module);
		return;
	case MODULE_ABSENT:
		found(x, GROUP, "kvm", FOUND_WARN,
			"a kernel with it, such as `apt-get install linux-image-amd64`",
			"%s; the kernel %s has no module %s: " EMULATED, why, x->kernel, module);
		return;
	case MODULE_UNKNOWN:
	case MODULE_HERE:
	case MODULE_BUILTIN:
		break;
	}
	found(x, GROUP, "kvm", FOUND_WARN, fix,
		"%s: " EMULATED
		" (`dmesg | grep kvm` tells why, such as that the firmware has turned it off)",
		why);
}

static void kvm_denied(struct examination *x, const char *why)
{
	const struct passwd *pw = getpwuid(geteuid());
	char fix[160];

	if (geteuid() == 0) {
		found(x, GROUP, "kvm", FOUND_WARN,
			"let this container have it, such as by `docker run --device /dev/kvm`",
			"%s, even for root: " EMULATED, why);
		return;
	}
	snprintf(fix, sizeof(fix), "`usermod -aG kvm %s`, and log in again",
		pw != NULL ? pw->pw_name : "USER");
	found(x, GROUP, "kvm", FOUND_WARN, fix,
		"%s, for you: machines that you start yourself are emulated", why);
}

static void check_kvm(struct examination *x, const struct cpu *c)
{
	const char *dev = examine_path(x, "/dev/kvm"), *info = examine_path(x, "/proc/cpuinfo");
	char why[PATH_MAX + 128];
	bool usable = hv_kvm_usable(dev, info, why, sizeof(why));
	int fd = open(dev, O_RDWR | O_CLOEXEC | O_NONBLOCK), error = fd < 0 ? errno : 0;

	if (fd >= 0)
		close(fd);
	if (usable)
		found(x, GROUP, "kvm", FOUND_OK, NULL, "%s", why);
	else if (error == EACCES || error == EPERM)
		kvm_denied(x, why);
	else if (error == 0 && c->x86)
		found(x, GROUP, "kvm", FOUND_WARN, NULL,
			"/dev/kvm opens, but there is no vmx or svm, and guests would hang with it: "
			"accel = auto emulates them");
	else
		kvm_lacks(x, c, why);
}

/* ---- nested ---- */

/* The line of a file of modprobe.d that turns it off; 0: none. */
static unsigned opposing_line(char *text, const char *module)
{
	char prefix[64], *save = NULL;
	unsigned line = 0;

	snprintf(prefix, sizeof(prefix), "options %s ", module);
	for (char *s = text; s != NULL; s = save) {
		char *end = strchr(s, '\n');

		line++;
		save = end != NULL ? end + 1 : NULL;
		if (end != NULL)
			*end = '\0';
		if (str_starts(s, prefix) &&
			(strstr(s, " nested=0") != NULL || strcasestr(s, " nested=n") != NULL))
			return line;
	}
	return 0;
}

/*
 * Whether a file that modprobe reads after ours turns it off again: the last option wins, and the
 * files are read by their names, whatever folder they are in (modprobe.d(5)).
 */
static bool opposed(const struct examination *x, const char *module, char *where, size_t cap)
{
	static const char *const dirs[] = { OPTION_DIRS };
	struct buf text = { 0 };
	unsigned line = 0;

	for (size_t i = 0; i < ARRAY_LEN(dirs) && line == 0; i++) {
		glob_t g = { 0 };

		if (glob(examine_path(x, "%s/*.conf", dirs[i]), 0, NULL, &g) != 0)
			g.gl_pathc = 0;
		for (size_t f = 0; f < g.gl_pathc && line == 0; f++) {
			const char *path = g.gl_pathv[f];

			buf_finish(&text);
			if (strcmp(strrchr(path, '/') + 1, "drover-nested.conf") <= 0 ||
				file_read(path, CONF_MAX, &text, NULL) < 0 || text.len == 0)
				continue;
			line = opposing_line(text.data, module);
			if (line > 0)
				snprintf(where, cap, "%s, line %u,", path, line);
		}
		globfree(&g);
	}
	buf_finish(&text);
	return line > 0;
}

static void nested_off(struct examination *x, const char *module)
{
	struct buf running = { 0 };
	char refused[512] = "", fix[160], where[PATH_MAX + 32];

	if (examine_module(x, module) == MODULE_BUILTIN) {
		snprintf(fix, sizeof(fix), "%s.nested=1 on the kernel's command line", module);
		found(x, GROUP, "nested", FOUND_INFO, fix,
			"nested virtualization is off in %s, which is part of the kernel: guests have no KVM",
			module);
		return;
	}
	if (opposed(x, module, where, sizeof(where)))
		snprintf(refused, sizeof(refused), "%.400s turns it off: take that out", where);
	else if (x->o.root == NULL && examine_hypervisors(x, &running))
		snprintf(refused, sizeof(refused), "machines are running: %.400s; stop them first",
			buf_str(&running));
	found(x, GROUP, "nested", FOUND_INFO, "`drover doctor --fix`",
		"nested virtualization is off in %s: guests have no KVM%s%s%s", module,
		refused[0] != '\0' ? " (" : "", refused, refused[0] != '\0' ? ")" : "");
	examine_nest(x, module, refused[0] != '\0' ? refused : NULL);
	buf_finish(&running);
}

/* The module's parameter is 1 or Y where it is on (Linux, virt/kvm/x86/running-nested-guests.rst). */
static void check_nested(struct examination *x, const struct cpu *c)
{
	static const char *const modules[] = { "kvm_intel", "kvm_amd" };
	char path[64], line[16];

	for (size_t i = 0; i < ARRAY_LEN(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/parameters/nested", modules[i]);
		if (!examine_line(x, path, line, sizeof(line)))
			continue;
		if (line[0] == 'Y' || line[0] == '1')
			found(x, GROUP, "nested", FOUND_OK, NULL,
				"nested virtualization is on: guests can have KVM, too");
		else
			nested_off(x, modules[i]);
		return;
	}
	if (c->vmx || c->svm)
		found(x, GROUP, "nested", FOUND_UNSEEN, NULL,
			"whether guests could have KVM shows when the module %s is loaded",
			kvm_module(c));
}

/* Whoever else has turned VT-x or SVM on keeps KVM from it. */
static void check_rival(struct examination *x)
{
	struct stat st;

	if (stat(examine_path(x, "/sys/module/vboxdrv"), &st) == 0)
		found(x, GROUP, "rival", FOUND_WARN, "`modprobe -r vboxnetflt vboxnetadp vboxdrv`",
			"VirtualBox's module is loaded: while one of its machines runs, KVM has no "
			"processor to run ours on");
}

void examine_kvm(struct examination *x)
{
	struct cpu c = check_cpu(x);

	check_kvm(x, &c);
	check_nested(x, &c);
	check_rival(x);
}
