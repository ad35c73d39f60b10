/* What a machine boots by: supervisor/machine-steps.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/machine-steps.h"

/* Where distributions put UEFI firmware: code, and the variables that a machine begins with. */
struct uefi {
	enum vm_arch arch;
	const char *code, *vars;
};
static const struct uefi known[] = {
	{ ARCH_X86_64, "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd" },
	{ ARCH_X86_64, "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd" },
	{ ARCH_X86_64, "/usr/share/edk2/ovmf/OVMF_CODE_4M.qcow2",
		"/usr/share/edk2/ovmf/OVMF_VARS_4M.qcow2" },
	{ ARCH_X86_64, "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd" },
	{ ARCH_X86_64, "/usr/share/edk2/x64/OVMF_CODE.4m.fd",
		"/usr/share/edk2/x64/OVMF_VARS.4m.fd" },
	{ ARCH_X86_64, "/usr/share/qemu/ovmf-x86_64-4m-code.bin",
		"/usr/share/qemu/ovmf-x86_64-4m-vars.bin" },
	{ ARCH_AARCH64, "/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd" },
	{ ARCH_AARCH64, "/usr/share/edk2/aarch64/QEMU_EFI-pflash.qcow2",
		"/usr/share/edk2/aarch64/vars-template-pflash.qcow2" },
	{ ARCH_AARCH64, "/usr/share/edk2/aarch64/QEMU_EFI-pflash.raw",
		"/usr/share/edk2/aarch64/vars-template-pflash.raw" },
};

/* The same whose code needs signatures, with Microsoft's keys among the variables. */
static const struct uefi known_secure[] = {
	{ ARCH_X86_64, "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
		"/usr/share/OVMF/OVMF_VARS_4M.ms.fd" },
	{ ARCH_X86_64, "/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd" },
	{ ARCH_X86_64, "/usr/share/edk2/ovmf/OVMF_CODE_4M.secboot.qcow2",
		"/usr/share/edk2/ovmf/OVMF_VARS_4M.secboot.qcow2" },
	{ ARCH_X86_64, "/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd",
		"/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd" },
	{ ARCH_X86_64, "/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin",
		"/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin" },
};

static int set_string(char **to, char *value, struct err *err)
{
	free(*to);
	*to = value;
	return value == NULL ? err_nomem(err) : 0;
}

static void forget(struct machine *m)
{
	free(m->firmware_path);
	free(m->vars_path);
	m->firmware_path = m->vars_path = NULL;
}

/* "/x/OVMF_CODE.fd" has "/x/OVMF_VARS.fd" beside it, if that is there; malloc'd or NULL. */
static char *vars_beside(const char *code)
{
	const char *slash = strrchr(code, '/'), *word = strstr(slash, "CODE");
	char *path;

	if (word == NULL)
		return NULL;
	path = str_printf("%.*sVARS%s", (int)(word - code), code, word + 4);
	if (path != NULL && access(path, R_OK) == 0)
		return path;
	free(path);
	return NULL;
}

/* 1: there is none. */
static int find_among(
	struct machine *m, const struct uefi *list, size_t n, char **template, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if ((int)list[i].arch != m->run_cfg->arch || access(list[i].code, R_OK) < 0 ||
			access(list[i].vars, R_OK) < 0)
			continue;
		if (set_string(&m->firmware_path, strdup(list[i].code), err) < 0)
			return -ENOMEM;
		return set_string(template, strdup(list[i].vars), err);
	}
	return 1;
}

static int find_uefi(struct machine *m, char **template, struct err *err)
{
	bool arm = m->run_cfg->arch == ARCH_AARCH64, secure = m->run_cfg->secure_boot;
	int r = secure ? find_among(m, known_secure, ARRAY_LEN(known_secure), template, err)
		       : find_among(m, known, ARRAY_LEN(known), template, err);

	if (r <= 0)
		return r;
	if (secure)
		return err_set(err, -ENOENT,
			"no UEFI firmware with Secure Boot is installed: %s and %s, or their like (Debian package ovmf)",
			known_secure[0].code, known_secure[0].vars);
	return err_set(err, -ENOENT, "no UEFI firmware is installed (Debian package %s)",
		arm ? "qemu-efi-aarch64" : "ovmf");
}

/* *template: what the machine's variables begin as; NULL: the image is all in one. */
static int find_firmware(struct machine *m, char **template, struct err *err)
{
	const struct vm_config *cfg = m->run_cfg;
	const char *f = cfg->firmware;

	if (f == NULL && cfg->arch == ARCH_AARCH64 && cfg->kernel == NULL)
		f = "uefi";
	if (f == NULL || strcmp(f, "bios") == 0)
		return 0;
	if (strcmp(f, "uefi") == 0)
		return find_uefi(m, template, err);
	if (machine_check_file(f, err) < 0)
		return err->code;
	*template = vars_beside(f);
	return set_string(&m->firmware_path, strdup(f), err);
}

/* ---- a unified kernel image ---- */

static unsigned le(const unsigned char *p, unsigned n)
{
	return n == 0 ? 0 : p[0] | le(p + 1, n - 1) << 8;
}

/*
 * A PE file with a section .linux (UAPI group specifications, "Unified Kernel Image"). Section
 * headers have 40 bytes and stand behind the optional header (PE format, "COFF file header").
 */
static bool is_uki(const char *path)
{
	unsigned char head[4096] = { 0 };
	size_t at, end;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? pread(fd, head, sizeof(head), 0) : -1;

	if (fd >= 0)
		close(fd);
	if (n < 0x40 || memcmp(head, "MZ", 2) != 0)
		return false;
	at = le(head + 0x3c, 4);
	if (at > sizeof(head) - 24 || memcmp(head + at, "PE\0\0", 4) != 0)
		return false;
	end = le(head + at + 6, 2);
	at += 24 + le(head + at + 20, 2);
	for (end = at + end * 40; at < end && at <= sizeof(head) - 40; at += 40)
		if (memcmp(head + at, ".linux\0", 8) == 0)
			return true;
	return false;
}

/* ---- the step ---- */

static void copied(struct machine *m, const struct err *err)
{
	if (err == NULL)
		machine_tell(m, "firmware", "its variables were made: %s", m->vars_path);
	machine_start_next(m, err);
}

/* The variables of another firmware would not fit: kept aside, and made anew. */
static int keep_or_part(struct machine *m, const char *template, bool *keep, struct err *err)
{
	struct stat have, want;
	char *old;
	int r = 0;

	*keep = false;
	if (stat(template, &want) < 0)
		return err_errno(err, -errno, "%s", quote(template));
	if (stat(m->vars_path, &have) < 0)
		return errno == ENOENT ? 0 : err_errno(err, -errno, "%s", quote(m->vars_path));
	*keep = have.st_size == want.st_size || str_ends(m->vars_path, ".qcow2");
	if (*keep)
		return 0;
	old = str_printf("%s.old", m->vars_path);
	if (old == NULL)
		return err_nomem(err);
	machine_tell(m, "firmware", "its variables are of another firmware: kept as %s", old);
	if (rename(m->vars_path, old) < 0)
		r = err_errno(err, -errno, "rename %s", quote(m->vars_path));
	free(old);
	return r;
}

/*
 * 1: they are being copied. Those without keys would turn Secure Boot off, and the other way round:
 * each has its own.
 */
static int need_vars(struct machine *m, const char *template, struct err *err)
{
	bool keep = false;
	int r = set_string(&m->vars_path,
		str_printf("%s/vars%s.%s", m->dir, m->run_cfg->secure_boot ? "-secure" : "",
			str_ends(template, ".qcow2") ? "qcow2" : "fd"),
		err);

	if (r == 0)
		r = keep_or_part(m, template, &keep, err);
	if (r < 0 || keep)
		return r;
	r = machine_publish(m, template, m->vars_path, copied, err);
	return r < 0 ? r : 1;
}

void machine_step_firmware(struct machine *m)
{
	char *template = NULL;
	struct err err;
	int r;

	forget(m);
	r = find_firmware(m, &template, &err);
	m->is_uki = m->kernel_path != NULL && is_uki(m->kernel_path);
	if (r == 0 && m->is_uki && m->firmware_path == NULL)
		r = err_set(&err, -EINVAL,
			"%s is a unified kernel image, which only firmware = uefi boots",
			quote(m->kernel_path));
	if (r == 0 && template != NULL)
		r = need_vars(m, template, &err);
	free(template);
	if (r <= 0)
		machine_start_next(m, r < 0 ? &err : NULL);
}
