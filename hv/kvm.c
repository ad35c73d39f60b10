/* hv/kvm.c - which accelerator a machine gets, and why. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "hv/backend.h"

#define DEV_KVM "/dev/kvm"
#define CPUINFO "/proc/cpuinfo"

/* Whether word stands alone in a line of words. */
static bool has_word(const char *line, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = line; (p = strstr(p, word)) != NULL; p += len)
		if ((p == line || strchr(" \t:", p[-1]) != NULL) &&
			(p[len] == '\0' || strchr(" \t\n", p[len]) != NULL))
			return true;
	return false;
}

enum cpu {
	CPU_UNREADABLE,
	CPU_OTHER, /* no "flags" line: not an x86 */
	CPU_WITHOUT,
	CPU_WITH
};

/* What the first processor's flags say about vmx and svm. */
static enum cpu cpu_virtualization(const char *cpuinfo)
{
	/* The flags of one processor have about 1500 bytes; the others repeat them. */
	char line[8192];
	FILE *f = fopen(cpuinfo, "re");
	enum cpu r = CPU_OTHER;

	if (f == NULL)
		return CPU_UNREADABLE;
	while (r == CPU_OTHER && fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, "flags", 5) == 0 && strchr("\t :", line[5]) != NULL)
			r = has_word(line, "vmx") || has_word(line, "svm") ? CPU_WITH : CPU_WITHOUT;
	}
	fclose(f);
	return r;
}

bool hv_kvm_usable(const char *dev_kvm, const char *cpuinfo, char *why, size_t cap)
{
	int fd = open(dev_kvm, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0) {
		snprintf(why, cap, "%s: %s", dev_kvm, strerror(errno));
		return false;
	}
	close(fd);
	switch (cpu_virtualization(cpuinfo)) {
	case CPU_WITH:
		snprintf(why, cap, "%s opens and the CPU has vmx or svm", dev_kvm);
		return true;
	case CPU_OTHER:
		snprintf(why, cap, "%s opens", dev_kvm);
		return true;
	case CPU_WITHOUT:
		/* A paravirtual KVM that is no use to us: an ordinary guest would spin for ever. */
		snprintf(why, cap, "no vmx or svm among the CPU flags");
		return false;
	case CPU_UNREADABLE:
		break;
	}
	snprintf(why, cap, "%s cannot be read", cpuinfo);
	return false;
}

/* A qemu-system-ARCH of another architecture than the host's can only emulate. */
static bool native(const char *binary)
{
	static const char prefix[] = "qemu-system-";
	const char *base = strrchr(binary, '/');
	struct utsname u;

	base = base != NULL ? base + 1 : binary;
	if (!str_starts(base, prefix) || uname(&u) < 0)
		return true;
	return strcmp(base + sizeof(prefix) - 1, u.machine) == 0;
}

bool hv_choose_accel(const struct hv_spec *spec, char *text, size_t cap)
{
	char why[128];
	bool kvm;

	if (spec->accel != HV_ACCEL_AUTO) {
		kvm = spec->accel == HV_ACCEL_KVM;
		snprintf(text, cap, "%s (as configured)", kvm ? "kvm" : "tcg");
		return kvm;
	}
	if (!native(spec->binary)) {
		snprintf(text, cap, "tcg (the host has another architecture)");
		return false;
	}
	kvm = hv_kvm_usable(DEV_KVM, CPUINFO, why, sizeof(why));
	snprintf(text, cap, "%s (%s)", kvm ? "kvm" : "tcg", why);
	return kvm;
}
