#include "supervisor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "hv/hv.h"
#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "netcfg/sysctl.h"
#include "oci/sandbox.h"
#include "supervisor/host-net.h"
#include "supervisor/network-foreign.h"
#include "supervisor/reconcile.h"

#define VERSION_MS 5000
#define SPACE_LOW  ((uint64_t)1 << 30)
#define SPACE_NONE ((uint64_t)100 << 20)

struct doctor {
	struct drover *d;
	json_t *checks, *differences;
	size_t program; /* the next one to be asked */
	char *path;     /* of the one that is being asked */
	doctor_done_fn *done;
	void *arg;
};

enum level {
	LEVEL_INFO,
	LEVEL_WARNING,
	LEVEL_ERROR
};

/* fix: what a person can do about it; NULL: nothing, or nothing is wrong. */
static void add(struct doctor *doc, const char *check, bool ok, enum level level, const char *fix,
	const char *fmt, ...) PRINTF(6, 7);

static void add(struct doctor *doc, const char *check, bool ok, enum level level, const char *fix,
	const char *fmt, ...)
{
	static const char *const levels[] = { "info", "warning", "error" };
	struct buf text = { 0 };
	json_t *j = json_object();
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	json_put_str(j, "check", check);
	json_put_bool(j, "ok", ok);
	json_put_str(j, "level", levels[level]);
	json_put_str(j, "message", buf_str(&text));
	json_put_str(j, "fix", ok ? NULL : fix);
	json_array_append_new(doc->checks, j);
	buf_finish(&text);
}

/* ---- what can be seen at once ---- */

static void check_kvm(struct doctor *doc)
{
	char why[128];
	bool ok = hv_kvm_usable("/dev/kvm", "/proc/cpuinfo", why, sizeof(why));

	add(doc, "kvm", ok, LEVEL_WARNING,
		"enable virtualization in the firmware, or nested virtualization on the host of this "
		"host, and `modprobe kvm_intel` or `modprobe kvm_amd`",
		"%s%s", why, ok ? "" : ": machines are emulated, which is slow");
}

/* The module's parameter is 1 or Y where it is on (Linux, virt/kvm/x86/running-nested-guests.rst). */
static void check_nested(struct doctor *doc)
{
	static const char *const modules[] = { "kvm_intel", "kvm_amd" };
	char path[64], line[16], fix[96];

	for (size_t i = 0; i < ARRAY_LEN(modules); i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/parameters/nested", modules[i]);
		if (file_read_line(path, line, sizeof(line), NULL) < 0)
			continue;
		snprintf(fix, sizeof(fix), "`modprobe -r %s && modprobe %s nested=1`", modules[i],
			modules[i]);
		if (line[0] == 'Y' || line[0] == '1')
			add(doc, "nested", true, LEVEL_INFO, NULL,
				"nested virtualization is on: guests can have KVM, too");
		else
			add(doc, "nested", false, LEVEL_INFO, fix,
				"nested virtualization is off in %s: guests have no KVM",
				modules[i]);
	}
}

static void check_tun(struct doctor *doc)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	add(doc, "tun", fd >= 0, LEVEL_ERROR, "`modprobe tun`, and give droverd access to it",
		"/dev/net/tun%s%s", fd >= 0 ? " opens" : ": ", fd >= 0 ? "" : strerror(errno));
	if (fd >= 0)
		close(fd);
}

static void check_forwarding(struct doctor *doc)
{
	bool needed = host_net_needed(doc->d);
	char value[16];
	struct err err;

	if (sysctl_get("net.ipv4.ip_forward", value, sizeof(value), &err) < 0)
		add(doc, "forwarding", false, LEVEL_ERROR, NULL, "%s", err.msg);
	else if (strcmp(value, "1") == 0)
		add(doc, "forwarding", true, LEVEL_ERROR, NULL, "net.ipv4.ip_forward is on");
	else
		add(doc, "forwarding", !needed, LEVEL_ERROR, "`drover doctor --fix`",
			needed ? "net.ipv4.ip_forward is off, guests are cut off"
			       : "net.ipv4.ip_forward is off; the first machine turns it on");
	if (sysctl_get("net.ipv4.conf.all.rp_filter", value, sizeof(value), NULL) == 0)
		add(doc, "rp-filter", strcmp(value, "0") == 0, LEVEL_INFO,
			"rp_filter = all in the [network]", "net.ipv4.conf.all.rp_filter is %s%s",
			value,
			strcmp(value, "0") == 0
				? ""
				: ": the kernel drops what comes by another way than it would answer");
}

static void check_cgroup(struct doctor *doc)
{
	static const char *const needed[] = { "cpu", "memory", "pids" };
	char line[256], missing[64] = "";
	struct err err;

	if (file_read_line("/sys/fs/cgroup/cgroup.controllers", line, sizeof(line), &err) < 0) {
		add(doc, "cgroup", false, LEVEL_WARNING,
			"boot with systemd.unified_cgroup_hierarchy=1",
			"there is no cgroup v2 at /sys/fs/cgroup: machines run without limits");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		bool found = false;
		char copy[256];

		snprintf(copy, sizeof(copy), "%s", line);
		for (char *save = NULL, *word = strtok_r(copy, " ", &save); word != NULL;
			word = strtok_r(NULL, " ", &save))
			found = found || strcmp(word, needed[i]) == 0;
		if (!found)
			snprintf(missing + strlen(missing), sizeof(missing) - strlen(missing),
				" %s", needed[i]);
	}
	add(doc, "cgroup", missing[0] == '\0', LEVEL_WARNING,
		"delegate these controllers to drover-machines.slice",
		missing[0] == '\0'
			? "cgroup v2 has the controllers for limits%s"
			: "cgroup v2 lacks the controllers%s: those limits are not applied",
		missing);
}

static void check_space(struct doctor *doc)
{
	struct statvfs fs;
	uint64_t free_bytes;

	if (statvfs(doc->d->state_dir, &fs) < 0) {
		add(doc, "space", false, LEVEL_ERROR, NULL, "%s: %s", quote(doc->d->state_dir),
			strerror(errno));
		return;
	}
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	add(doc, "space", free_bytes >= SPACE_LOW,
		free_bytes < SPACE_NONE ? LEVEL_ERROR : LEVEL_WARNING,
		"`drover image rm` what is not needed", "%s are free for %s",
		format_size(free_bytes), quote(doc->d->state_dir));
}

static void check_run_dir(struct doctor *doc)
{
	struct statfs fs;
	bool tmpfs = statfs(doc->d->run_dir, &fs) == 0 && fs.f_type == TMPFS_MAGIC;

	add(doc, "run-dir", tmpfs, LEVEL_INFO, "run_dir on a tmpfs, such as /run/drover",
		tmpfs ? "%s is on a tmpfs" : "%s is on a disk: every small change is written to it",
		quote(doc->d->run_dir));
}

/* Images are fetched and unpacked without it too, kept apart by owner and by what is refused. */
static void check_landlock(struct doctor *doc)
{
	int abi = sandbox_landlock_abi();

	if (abi > 0)
		add(doc, "landlock", true, LEVEL_INFO, NULL,
			"Landlock (ABI %d) keeps image jobs in their folders", abi);
	else
		add(doc, "landlock", false, LEVEL_INFO,
			"a kernel of 5.19 or later, with lsm=landlock",
			"the kernel has no Landlock: image jobs are kept from other files only by "
			"owner and capabilities");
}

static void check_at_once(struct doctor *doc)
{
	check_kvm(doc);
	check_nested(doc);
	check_tun(doc);
	check_forwarding(doc);
	check_cgroup(doc);
	check_space(doc);
	check_run_dir(doc);
	check_landlock(doc);
}

/* ---- programs ---- */

/* What is asked for its version prints it in its first line. */
static const struct program {
	const char *name; /* NULL: the hypervisor of this architecture */
	const char *option;
	const char *package;
	enum level level;
} programs[] = {
	{ NULL, "--version", "qemu-system-x86", LEVEL_ERROR },
	{ "dnsmasq", "--version", "dnsmasq-base", LEVEL_ERROR },
	{ "nft", "--version", "nftables", LEVEL_ERROR },
	{ "docker-registry", "--version", "docker-registry", LEVEL_WARNING },
	{ "ssh", "-V", "openssh-client", LEVEL_WARNING },
	{ "ssh-keygen", NULL, "openssh-client", LEVEL_WARNING },
};

static void next_program(struct doctor *doc);

static const char *program_name(const struct program *p, char *buf, size_t cap)
{
	struct utsname u;

	if (p->name != NULL)
		return p->name;
	uname(&u);
	snprintf(buf, cap, "qemu-system-%s", u.machine);
	return buf;
}

static void answered(void *arg, const struct child_result *res, const struct err *err)
{
	struct doctor *doc = arg;
	const struct program *p = &programs[doc->program++];
	const char *line = res != NULL && res->out_len > 0 ? res->out
			   : res != NULL                   ? res->errout
							   : "";
	char name[96];

	if (err != NULL)
		add(doc, program_name(p, name, sizeof(name)), false, p->level, NULL, "%s: %s",
			doc->path, err->msg);
	else
		add(doc, program_name(p, name, sizeof(name)), true, p->level, NULL, "%s: %.*s",
			doc->path, (int)MIN(strcspn(line, "\n"), (size_t)200), line);
	free(doc->path);
	doc->path = NULL;
	next_program(doc);
}

static void finish(struct doctor *doc)
{
	json_t *report = json_object();
	struct err err;

	json_object_set_new(report, "checks", doc->checks);
	json_object_set_new(report, "differences", doc->differences);
	if (json_object_size(report) == 2) {
		doc->done(doc->arg, report, NULL);
	} else {
		err_nomem(&err);
		doc->done(doc->arg, NULL, &err);
	}
	json_decref(report);
	free(doc);
}

static void foreign_checked(void *arg, const char *warning, const struct err *err)
{
	struct doctor *doc = arg;

	add(doc, "firewall", err == NULL && warning == NULL, LEVEL_WARNING, NULL, "%s",
		err != NULL       ? err->msg
		: warning != NULL ? warning
				  : "no rule of others blocks guests");
	finish(doc);
}

static int ask(struct doctor *doc, const struct program *p)
{
	char *argv[] = { doc->path, (char *)(uintptr_t)p->option, NULL };
	struct child_spec spec = { .file = doc->path, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = { .timeout_ms = VERSION_MS, .max_output = 4096 };

	return child_run(NULL, doc->d->loop, &spec, &opts, answered, doc, NULL);
}

static void next_program(struct doctor *doc)
{
	char name[96], fix[128];
	struct err err;

	for (; doc->program < ARRAY_LEN(programs) && !doc->d->leaving; doc->program++) {
		const struct program *p = &programs[doc->program];
		const char *called = program_name(p, name, sizeof(name));

		doc->path = find_program(called);
		if (doc->path != NULL && p->option != NULL && ask(doc, p) == 0)
			return;
		snprintf(fix, sizeof(fix), "`apt-get install %s`", p->package);
		add(doc, called, doc->path != NULL, p->level, fix, "%s",
			doc->path != NULL ? doc->path : "it is not installed");
		free(doc->path);
		doc->path = NULL;
	}
	if (doc->d->leaving || network_ask_foreign(doc->d, foreign_checked, doc, &err) < 0)
		finish(doc);
}

/* ---- the whole ---- */

static void compared(void *arg, json_t *differences, const struct err *err)
{
	struct doctor *doc = arg;

	if (err != NULL) {
		doc->done(doc->arg, NULL, err);
		json_decref(doc->checks);
		free(doc);
		return;
	}
	doc->differences = json_incref(differences);
	check_at_once(doc);
	next_program(doc);
}

int doctor_run(struct drover *d, bool fix, doctor_done_fn *done, void *arg, struct err *err)
{
	struct doctor *doc = calloc(1, sizeof(*doc));
	int r;

	if (doc == NULL)
		return err_nomem(err);
	*doc = (struct doctor){ .d = d, .checks = json_array(), .done = done, .arg = arg };
	r = reconcile_run(d->reconciler, fix ? RECONCILE_NOW : RECONCILE_LOOK, compared, doc, err);
	if (r < 0) {
		json_decref(doc->checks);
		free(doc);
	}
	return r;
}
