/* Programs that drover starts, and their versions: supervisor/examine.h. */
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "supervisor/examine-private.h"

#define GROUP      "programs"
#define VERSION_MS 5000

/* ---- what is needed ---- */

typedef bool uses_fn(const struct vm_config *vm);

static bool any_machine(const struct examination *x, uses_fn *uses)
{
	for (size_t i = 0; i < examine_machines(x); i++) {
		if (uses((const void *)x->o.config->by_kind[SECTION_VM].v[i]))
			return true;
	}
	return false;
}

static bool uses_qemu(const struct vm_config *vm)
{
	return str_eq(vm->hypervisor, "qemu") && vm->binary == NULL;
}
static bool uses_ch(const struct vm_config *vm)
{
	return !str_eq(vm->hypervisor, "qemu") && vm->binary == NULL;
}
static bool uses_tpm(const struct vm_config *vm)
{
	return vm->tpm;
}
static bool uses_shares(const struct vm_config *vm)
{
	return vm->shares.n > 0;
}
static bool uses_uefi(const struct vm_config *vm)
{
	return str_eq(vm->firmware, "uefi") || vm->secure_boot;
}

static bool need_qemu(const struct examination *x)
{
	return examine_machines(x) == 0 || any_machine(x, uses_qemu);
}
static bool need_ch(const struct examination *x)
{
	return any_machine(x, uses_ch);
}
static bool need_networks(const struct examination *x)
{
	return x->o.config == NULL || examine_has_links(x);
}
static bool need_tpm(const struct examination *x)
{
	return any_machine(x, uses_tpm);
}
static bool need_shares(const struct examination *x)
{
	return any_machine(x, uses_shares);
}
static bool need_mirrors(const struct examination *x)
{
	for (size_t i = 0; i < examine_networks(x); i++) {
		const struct network_config *n =
			(const void *)x->o.config->by_kind[SECTION_NETWORK].v[i];

		if (n->mirror.n > 0)
			return true;
	}
	return false;
}
static bool need_kea(const struct examination *x)
{
	for (size_t i = 0; i < examine_networks(x); i++) {
		const struct network_config *n =
			(const void *)x->o.config->by_kind[SECTION_NETWORK].v[i];

		if (n->v6.delegate != NULL || n->v6.preferred != 0 || n->v6.renew != 0 ||
			n->v6.rebind != 0)
			return true;
	}
	return false;
}
static bool need_registry(const struct examination *x)
{
	return x->o.config != NULL && x->o.config->by_kind[SECTION_REGISTRY].n > 0;
}

/* ---- the table ---- */

static const struct program {
	const char *name;   /* NULL: QEMU's of this architecture */
	const char *places; /* where else it is looked for, ":" between; NULL: nowhere */
	const char *option; /* makes it print its version in its first line; NULL: there is none */
	unsigned major, minor;                       /* the oldest; 0: any */
	const char *deb, *rpm;                       /* packages */
	const char *without;                         /* what cannot be had then */
	enum finding missing;                        /* where it is not needed for sure */
	bool (*needed)(const struct examination *x); /* FOUND_FAIL then; NULL: never */
} programs[] = {
	{ NULL, NULL, "--version", 7, 2, "qemu-system-x86", "qemu-kvm",
		"QEMU's machines do not start", FOUND_INFO, need_qemu },
	{ "cloud-hypervisor", NULL, "--version", 50, 0, NULL, NULL,
		"machines with hypervisor = cloud-hypervisor do not start", FOUND_INFO, need_ch },
	{ "qemu-img", NULL, "--version", 7, 2, "qemu-utils", "qemu-img",
		"disks are neither converted nor resized", FOUND_WARN, NULL },
	{ "dnsmasq", NULL, "--version", 2, 80, "dnsmasq-base", "dnsmasq",
		"guests get no addresses and no DNS", FOUND_WARN, need_networks },
	{ "nft", NULL, "--version", 0, 9, "nftables", "nftables",
		"networks are neither translated nor kept apart", FOUND_WARN, need_networks },
	{ "kea-dhcp6", NULL, "-v", 2, 2, "kea-dhcp6-server", "kea", "no prefixes are delegated",
		FOUND_INFO, need_kea },
	{ "radvd", NULL, NULL, 0, 0, "radvd", "radvd", "no prefixes are delegated", FOUND_INFO,
		need_kea },
	{ "docker-registry", NULL, "--version", 2, 7, "docker-registry", "docker-distribution",
		"there is no cache of registries", FOUND_INFO, need_registry },
	{ "haproxy", NULL, "-v", 0, 0, "haproxy", "haproxy",
		"networks can have no mirrors of registries", FOUND_INFO, need_mirrors },
	{ "swtpm", NULL, "--version", 0, 0, "swtpm", "swtpm", "machines can have no TPM",
		FOUND_INFO, need_tpm },
	{ "virtiofsd", "/usr/libexec:/usr/lib:/usr/lib/qemu", "--version", 0, 0, "virtiofsd",
		"virtiofsd", "no folder can be shared with machines", FOUND_INFO, need_shares },
	{ "ssh", NULL, "-V", 0, 0, "openssh-client", "openssh-clients",
		"`drover ssh` does not work", FOUND_WARN, NULL },
	{ "ssh-keygen", NULL, NULL, 0, 0, "openssh-client", "openssh-clients",
		"no keys are made for machines", FOUND_WARN, NULL },
};

static const char *program_name(const struct program *p)
{
	static char name[96];
	struct utsname u;

	if (p->name != NULL)
		return p->name;
	uname(&u);
	snprintf(name, sizeof(name), "qemu-system-%s", u.machine);
	return name;
}

/* ---- how it is installed ---- */

/* How this distribution installs a package; NULL: it is not known. */
static const char *installer(const struct examination *x, bool *rpm)
{
	struct buf text = { 0 };
	const char *out = NULL;

	*rpm = false;
	if (!examine_file(x, "/etc/os-release", &text) ||
		strstr(buf_str(&text), "debian") != NULL) {
		out = "apt-get";
	} else if (strstr(buf_str(&text), "fedora") != NULL ||
		   strstr(buf_str(&text), "rhel") != NULL) {
		*rpm = true;
		out = "dnf";
	}
	buf_finish(&text);
	return out;
}

/* Static buffer; NULL: no package is known. */
static const char *how_to_install(
	const struct examination *x, const char *deb, const char *rpm, const char *more)
{
	static char fix[160];
	bool is_rpm;
	const char *tool = installer(x, &is_rpm);

	if (deb == NULL)
		return NULL;
	if (tool != NULL)
		snprintf(fix, sizeof(fix), "`%s install %s`%s", tool, is_rpm ? rpm : deb, more);
	else
		snprintf(fix, sizeof(fix), "install what Debian calls %s%s", deb, more);
	return fix;
}

static void is_missing(struct examination *x, const struct program *p)
{
	bool needed = p->needed != NULL && p->needed(x);
	const char *fix = how_to_install(x, p->deb, p->rpm, "");

	if (fix == NULL)
		fix = "a static binary of it from its releases, in /usr/local/bin";
	found(x, GROUP, program_name(p), needed ? FOUND_FAIL : p->missing, fix,
		"it is not installed: %s", p->without);
}

/* ---- versions ---- */

/* The first "N.N" of a line. */
static bool version_in(const char *line, unsigned *major, unsigned *minor)
{
	for (const char *p = line; *p != '\0'; p++) {
		bool starts = p == line || p[-1] < '0' || p[-1] > '9';

		if (starts && *p >= '0' && *p <= '9' && sscanf(p, "%u.%u", major, minor) == 2)
			return true;
	}
	return false;
}

/* What one of them has answered, kept until all have: they are told in the table's order. */
struct asked {
	struct examination *x;
	const struct program *p;
	char *path; /* NULL: it is not installed */
	bool answered;
	char line[256], error[256];
};

static void judge(struct examination *x, const struct program *p, const struct asked *a)
{
	unsigned major, minor;
	bool needed = p->needed != NULL && p->needed(x);

	if (p->major + p->minor > 0 && !version_in(a->line, &major, &minor))
		found(x, GROUP, program_name(p), FOUND_UNSEEN, NULL,
			"%s: it does not tell its version", a->path);
	else if (p->major + p->minor > 0 &&
		 (major < p->major || (major == p->major && minor < p->minor)))
		found(x, GROUP, program_name(p), needed ? FOUND_FAIL : FOUND_WARN,
			how_to_install(x, p->deb, p->rpm, ", of a newer release"),
			"%s: %s: too old, drover needs %u.%u", a->path, a->line, p->major,
			p->minor);
	else
		found(x, GROUP, program_name(p), FOUND_OK, NULL, "%s: %s", a->path, a->line);
}

static void tell(struct examination *x, const struct asked *a)
{
	const struct program *p = a->p;

	if (a->path == NULL)
		is_missing(x, p);
	else if (a->error[0] != '\0')
		found(x, GROUP, program_name(p),
			p->needed != NULL && p->needed(x) ? FOUND_FAIL : FOUND_WARN,
			how_to_install(x, p->deb, p->rpm, " again"), "%s does not run: %s", a->path,
			a->error);
	else if (a->answered)
		judge(x, p, a);
	else
		found(x, GROUP, program_name(p), FOUND_OK, NULL, "%s", a->path);
}

/* One less to wait for. */
static void ask_ended(struct examination *x)
{
	if (--x->asking > 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		tell(x, &x->asked[i]);
		free(x->asked[i].path);
	}
	free(x->asked);
	x->asked = NULL;
	examine_firewall(x);
}

static void answered(void *arg, const struct child_result *res, const struct err *err)
{
	struct asked *a = arg;
	const char *line = err != NULL ? "" : res->out_len > 0 ? res->out : res->errout;

	if (err != NULL)
		snprintf(a->error, sizeof(a->error), "%s", err->msg);
	a->answered = err == NULL;
	snprintf(a->line, sizeof(a->line), "%.*s", (int)MIN(strcspn(line, "\r\n"), (size_t)200),
		line);
	ask_ended(a->x);
}

static void ask(struct asked *a)
{
	char *argv[] = { a->path, (char *)(uintptr_t)a->p->option, NULL };
	struct child_spec spec = { .file = a->path, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = {
		.timeout_ms = VERSION_MS, .max_output = 4096, .async = true
	};
	struct err err;

	a->x->asking++;
	if (child_run(NULL, a->x->o.loop, &spec, &opts, answered, a, &err) < 0) {
		snprintf(a->error, sizeof(a->error), "%s", err.msg);
		a->x->asking--;
	}
}

/* In a folder of the list, below the root; malloc'd, NULL: in none. */
static char *find_in(const struct examination *x, const char *folders, const char *name)
{
	char *all = folders != NULL ? strdup(folders) : NULL, *save = NULL, *out = NULL;

	for (char *dir = all != NULL ? strtok_r(all, ":", &save) : NULL; dir != NULL && out == NULL;
		dir = strtok_r(NULL, ":", &save)) {
		const char *path = examine_path(x, "%s/%s", dir, name);

		if (access(path, X_OK) == 0)
			out = strdup(path);
	}
	free(all);
	return out;
}

static char *find(const struct examination *x, const struct program *p)
{
	static const char usual[] = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
	char *path = x->o.root != NULL ? find_in(x, usual, program_name(p))
				       : find_program(program_name(p));

	return path != NULL ? path : find_in(x, p->places, program_name(p));
}

/* ---- files that hypervisors need ---- */

static void check_firmware(struct examination *x)
{
	static const char *const places[] = { "/usr/share/OVMF/OVMF_CODE*.fd",
		"/usr/share/edk2/*/OVMF_CODE*", "/usr/share/qemu/ovmf-x86_64*code.bin" };
	static const char *const arm[] = { "/usr/share/AAVMF/AAVMF_CODE*.fd",
		"/usr/share/edk2/aarch64/QEMU_EFI*" };
	struct utsname u;
	bool is_arm = uname(&u) == 0 && strcmp(u.machine, "aarch64") == 0;
	size_t n = is_arm ? ARRAY_LEN(arm) : ARRAY_LEN(places);

	for (size_t i = 0; i < n; i++) {
		glob_t g = { 0 };
		int r = glob(examine_path(x, "%s", is_arm ? arm[i] : places[i]), 0, NULL, &g);

		if (r == 0)
			found(x, GROUP, "uefi", FOUND_OK, NULL, "%s", g.gl_pathv[0]);
		globfree(&g);
		if (r == 0)
			return;
	}
	found(x, GROUP, "uefi", any_machine(x, uses_uefi) ? FOUND_FAIL : FOUND_INFO,
		how_to_install(x, is_arm ? "qemu-efi-aarch64" : "ovmf",
			is_arm ? "edk2-aarch64" : "edk2-ovmf", ""),
		"there is no UEFI firmware: machines with firmware = uefi do not start");
}

/* All at once: one takes as long as its libraries take to be loaded. */
void examine_programs(struct examination *x)
{
	check_firmware(x);
	x->asked = calloc(ARRAY_LEN(programs), sizeof(*x->asked));
	if (x->asked == NULL) {
		x->bad = true;
		examine_firewall(x);
		return;
	}
	/* Held until all have been started. */
	x->asking = 1;
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		struct asked *a = &x->asked[i];

		*a = (struct asked){ .x = x, .p = &programs[i], .path = find(x, &programs[i]) };
		if (a->path != NULL && x->o.root == NULL && a->p->option != NULL &&
			!examine_leaving(x))
			ask(a);
	}
	ask_ended(x);
}
