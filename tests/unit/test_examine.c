/*
 * What is found in the tree of a host that lacks nothing, and what when it lacks one thing: each row
 * takes something away and names the finding that must tell of it.
 */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/examine.h"
#include "tests/unit/netns.h"

/* Nothing is missing: every finding is "ok", but for those that only a running kernel can tell. */
static const char healthy[] =
	"mkdir -p dev/net proc/self proc/1 proc/sys/kernel proc/sys/fs/inotify "
	"proc/sys/net/ipv4/conf/all proc/sys/net/ipv6/conf/all sys/fs/cgroup etc/modprobe.d "
	"etc/sysctl.d usr/bin usr/sbin usr/share/OVMF usr/share/AAVMF lib/modules/6.1.0 "
	"sys/module/kvm_intel/parameters sys/module/tun sys/module/bridge run/systemd/timesync "
	"var/lib/drover var/log etc/ufw && "
	"echo init >proc/1/comm && echo 6.1.0 >proc/sys/kernel/osrelease && "
	"printf 'processor\\t: 0\\nflags\\t\\t: fpu vmx sse\\n\\n' >proc/cpuinfo && "
	"touch dev/kvm dev/net/tun dev/vhost-net dev/vhost-vsock && "
	"echo Y >sys/module/kvm_intel/parameters/nested && "
	"touch sys/module/kvm_intel/initstate sys/module/tun/initstate sys/module/bridge/initstate && "
	"echo kernel/net/netfilter/nf_tables.ko >lib/modules/6.1.0/modules.builtin && "
	"printf 'kernel/drivers/net/tun.ko.xz:\\nkernel/arch/x86/kvm/kvm-intel.ko: "
	"kernel/arch/x86/kvm/kvm.ko\\nkernel/drivers/vhost/vhost_net.ko:\\n"
	"kernel/drivers/vhost/vhost-vsock.ko.zst:\\nkernel/net/bridge/bridge.ko:\\n' "
	">lib/modules/6.1.0/modules.dep && "
	"echo 'cpuset cpu io memory hugetlb pids' >sys/fs/cgroup/cgroup.controllers && "
	"mkdir -p sys/fs/cgroup/drover.slice/drover-machines.slice/drover-machines.service && "
	"printf 'Limit                     Soft Limit           Hard Limit           Units     \\n"
	"Max open files            1024                 524288               files     \\n' "
	">proc/self/limits && "
	"echo 4194304 >proc/sys/kernel/pid_max && echo 126000 >proc/sys/kernel/threads-max && "
	"echo 128 >proc/sys/fs/inotify/max_user_instances && "
	"printf 'MemTotal:       16384000 kB\\nHugePages_Total:       0\\nHugePages_Free:        0\\n"
	"Hugepagesize:       2048 kB\\n' >proc/meminfo && "
	"touch run/systemd/timesync/synchronized && echo 1 >proc/sys/net/ipv4/ip_forward && "
	"echo 0 >proc/sys/net/ipv4/conf/all/rp_filter && "
	"echo 0 >proc/sys/net/ipv6/conf/all/disable_ipv6 && "
	"for p in qemu-system-$(uname -m) cloud-hypervisor qemu-img dnsmasq nft docker-registry "
	"haproxy kea-dhcp6 radvd swtpm virtiofsd ssh ssh-keygen; do echo >usr/bin/$p && chmod 755 usr/bin/$p; done && "
	"touch usr/share/OVMF/OVMF_CODE_4M.fd usr/share/AAVMF/AAVMF_CODE.fd && "
	"echo 'ENABLED=no' >etc/ufw/ufw.conf";

static struct {
	uv_loop_t *loop;
	char *root, *ini;
	struct config *config;
	json_t *report;
	bool done, daemon, forwarding_needed;
} t;

static int setup(void **state)
{
	t.loop = rig_loop();
	t.root = rig_tmp();
	t.ini = str_printf("%s.ini", t.root);
	t.daemon = t.forwarding_needed = false;
	sh("cd '%s' && %s", t.root, healthy);
	return 0;
}

static int teardown(void **state)
{
	json_decref(t.report);
	t.report = NULL;
	config_destroy(t.config);
	t.config = NULL;
	unlink(t.ini);
	free(t.ini);
	rig_tmp_finish(t.root);
	rig_loop_finish(t.loop);
	return 0;
}

static void configure(const char *text)
{
	struct config_errors errors = { 0 };
	struct config_load_opts opts = { .path = t.ini };
	struct err err;

	config_destroy(t.config);
	t.config = NULL;
	assert_int_equal(file_write_atomic(t.ini, text, strlen(text), 0644, false, NULL), 0);
	if (config_load(&t.config, &opts, &errors, &err) < 0)
		fail_msg("%s", errors.n > 0 ? errors.v[0].message : err.msg);
	config_errors_finish(&errors);
}

static void examined(void *arg, struct examination *x)
{
	assert_false(t.done);
	json_decref(t.report);
	t.report = json_object();
	assert_int_equal(examine_report(x, t.report, NULL), 0);
	examine_destroy(x);
	t.done = true;
}

static void examine(const char *root)
{
	struct examine_opts opts = { .loop = t.loop,
		.root = root,
		.config = t.config,
		.state_dir = "/var/lib/drover",
		.run_dir = "/run/drover",
		.daemon = t.daemon,
		.forwarding_needed = t.forwarding_needed };

	t.done = false;
	assert_int_equal(examine_start(&opts, examined, NULL, NULL), 0);
	assert_false(t.done);
	rig_run_until(t.loop, &t.done);
}

static const json_t *named(const char *list, const char *check)
{
	const json_t *e;
	size_t i;

	json_array_foreach (json_arr(t.report, list), i, e) {
		if (str_eq(json_str(e, "check"), check))
			return e;
	}
	return NULL;
}

static void assert_found(
	const char *check, const char *result, const char *message, const char *fix)
{
	const json_t *e = named("checks", check);

	if (e == NULL)
		fail_msg("there is no %s", check);
	if (!str_eq(json_str(e, "result"), result) ||
		strstr(json_str(e, "message"), message) == NULL)
		fail_msg("%s is %s: %s", check, json_str(e, "result"), json_str(e, "message"));
	if (fix != NULL && (json_str(e, "fix") == NULL || strstr(json_str(e, "fix"), fix) == NULL))
		fail_msg("%s is mended by %s", check, json_str(e, "fix"));
}

/* ---- nothing is wrong ---- */

static void test_healthy(void **state)
{
	static const char *const unseen[] = { "landlock", "run-dir", "firewall" };
	const json_t *e;
	size_t i, n = 0;

	examine(t.root);
	json_array_foreach (json_arr(t.report, "checks"), i, e) {
		const char *check = json_str(e, "check"), *result = json_str(e, "result");
		bool known = false;

		for (size_t k = 0; k < ARRAY_LEN(unseen); k++)
			known = known || strcmp(check, unseen[k]) == 0;
		/* What the folder of the tests lies on is not for the tree to say. */
		if (strcmp(check, "reflink") == 0 || strcmp(check, "space") == 0)
			continue;
		if (!str_eq(result, known ? "unseen" : "ok"))
			fail_msg("%s is %s: %s", check, result, json_str(e, "message"));
		n++;
		assert_int_equal(json_flag(e, "ok", false), !known);
		if (!known)
			assert_null(json_str(e, "fix"));
	}
	assert_true(n > 25);
	assert_int_equal(json_array_size(json_arr(t.report, "changes")), 0);
	assert_int_equal(json_array_size(json_arr(t.report, "undo")), 0);
}

/* ---- one thing is ---- */

#define ROW(...)                                                                                   \
	{                                                                                          \
		.take = __VA_ARGS__                                                                \
	}
static const struct row {
	const char *take; /* shell, in the tree */
	const char *check, *result, *message, *fix;
	const char *config; /* NULL: none */
	bool change;        /* --fix can do something about it */
} rows[] = {
	ROW("sed -i s/vmx/mmx/ proc/cpuinfo", "cpu", "warn", "no vmx or svm", "firmware"),
	ROW("sed -i 's/vmx/mmx hypervisor/' proc/cpuinfo", "cpu", "warn", "a virtual machine",
		"on the host of this machine"),
	ROW("sed -i s/vmx/mmx/ proc/cpuinfo", "kvm", "warn", "guests would hang"),
	ROW("sed -i s/vmx/svm/ proc/cpuinfo", "cpu", "ok", "svm (AMD-V)"),
	ROW("sed -i s/flags/Features/ proc/cpuinfo", "kvm", "ok", "/dev/kvm opens"),
	ROW("rm proc/cpuinfo", "cpu", "unseen", "cannot be read"),
	ROW("rm -r dev/kvm sys/module/kvm_intel", "kvm", "warn",
		"the module kvm_intel is not loaded", "`modprobe kvm_intel`", NULL, true),
	ROW("rm -r dev/kvm sys/module/kvm_intel && sed -i s/vmx/svm/ proc/cpuinfo", "kvm", "warn",
		"the kernel 6.1.0 has no module kvm_amd", "linux-image"),
	ROW("rm dev/kvm", "kvm", "warn", "dmesg"),
	ROW("echo N >sys/module/kvm_intel/parameters/nested", "nested", "info", "off in kvm_intel",
		"`drover doctor --fix`", NULL, true),
	ROW("echo 0 >sys/module/kvm_intel/parameters/nested", "nested", "info", "off in kvm_intel",
		"`drover doctor --fix`", NULL, true),
	ROW("echo N >sys/module/kvm_intel/parameters/nested && "
	    "echo kernel/arch/x86/kvm/kvm-intel.ko >>lib/modules/6.1.0/modules.builtin",
		"nested", "info", "part of the kernel",
		"kvm_intel.nested=1 on the kernel's command"),
	ROW("rm -r sys/module/kvm_intel", "nested", "unseen",
		"when the module kvm_intel is loaded"),
	ROW("mkdir sys/module/vboxdrv", "rival", "warn", "VirtualBox", "`modprobe -r "),

	ROW("rm -r dev/net/tun sys/module/tun", "tun", "fail", "the module tun is not loaded",
		"`modprobe tun`", NULL, true),
	ROW("rm -r dev/net/tun sys/module/tun && sed -i /tun.ko/d lib/modules/*/modules.dep", "tun",
		"fail", "the kernel 6.1.0 has no module tun", "linux-image"),
	ROW("rm dev/net/tun", "tun", "fail", "though tun is there", "give this container"),
	ROW("rm -r dev/net/tun sys/module/tun lib/modules", "tun", "fail", "No such file",
		"`modprobe tun`"),
	ROW("rm dev/vhost-net", "vhost-net", "info", "vhost_net is not loaded",
		"`modprobe vhost_net`", NULL, true),
	ROW("rm dev/vhost-vsock", "vhost-vsock", "info", "can have no vsock",
		"`modprobe vhost_vsock`", NULL, true),
	ROW("rm dev/vhost-vsock", "vhost-vsock", "fail", "can have no vsock",
		"`modprobe vhost_vsock`", "[vm web]\nkernel = /k\nvsock = auto\n", true),
	ROW("rm -r sys/module/bridge", "bridge", "info", "not loaded yet", "`modprobe bridge`",
		NULL, true),
	ROW("rm -r sys/module/bridge && sed -i /bridge/d lib/modules/*/modules.dep", "bridge",
		"fail", "no module bridge"),
	ROW("echo >lib/modules/6.1.0/modules.builtin", "nf_tables", "fail", "no module nf_tables"),
	ROW("rm -r lib/modules", "nf_tables", "unseen", "no /lib/modules/6.1.0"),

	ROW("rm sys/fs/cgroup/cgroup.controllers", "cgroup", "warn", "no cgroup v2",
		"systemd.unified_cgroup_hierarchy=1"),
	ROW("echo 'cpuset io pids memory_x' >sys/fs/cgroup/cgroup.controllers", "cgroup", "warn",
		"lacks the controllers cpu memory:"),
	ROW("rm -r sys/fs/cgroup/drover.slice && mkdir -p run/systemd/system", "cgroup-machines",
		"warn", "does not run", "`systemctl enable --now drover-machines.service`"),
	ROW(":", "cgroup-machines", "warn", "cgroup_root '/sys/fs/cgroup/x' is not there", NULL,
		"[drover]\ncgroup_root = /sys/fs/cgroup/x\n"),
	ROW("sed -i s/524288/200/ proc/self/limits", "open-files", "warn", "200 files",
		"LimitNOFILE=65536"),
	ROW("rm proc/self/limits", "open-files", "unseen", "does not tell"),
	ROW("sed -i s/524288/unlimited/ proc/self/limits", "open-files", "ok", "any number"),
	ROW("echo 1000 >proc/sys/kernel/pid_max", "tasks", "warn", "pid_max allows 1000",
		"`sysctl -w kernel.pid_max="),
	ROW("echo 1000 >proc/sys/kernel/threads-max", "tasks", "warn", "threads-max allows 1000",
		"`sysctl -w kernel.threads-max="),
	ROW("echo 0::/a/b >proc/self/cgroup && mkdir -p sys/fs/cgroup/a/b && "
	    "echo max >sys/fs/cgroup/a/b/pids.max && echo 300 >sys/fs/cgroup/a/pids.max",
		"tasks", "warn", "allows 300 processes", "TasksMax=infinity"),
	ROW("echo 0::/a/b >proc/self/cgroup && mkdir -p sys/fs/cgroup/a/b && "
	    "echo max >sys/fs/cgroup/a/b/pids.max",
		"tasks", "ok", "126000 processes"),
	ROW("echo 8 >proc/sys/fs/inotify/max_user_instances", "inotify", "warn",
		"8 inotify instances", "`sysctl -w fs.inotify.max_user_instances=1024`"),
	ROW(":", "memory", "warn", "may take 64G", NULL,
		"[vm a]\nkernel = /k\nmemory = 32G\n[vm b]\nkernel = /k\nmemory = 32G\n"),
	ROW(":", "memory", "ok", "has 15.6G", NULL,
		"[vm a]\nkernel = /k\nmemory = 32G\nautostart = no\n"),
	ROW(":", "hugepages", "fail", "need 1G", "`sysctl -w vm.nr_hugepages=512`",
		"[vm a]\nkernel = /k\nmemory = 1G\nhugepages = yes\n"),
	ROW("sed -i 's/Total: *0/Total: 600/' proc/meminfo", "hugepages", "ok", "are reserved",
		NULL, "[vm a]\nkernel = /k\nmemory = 1G\nhugepages = yes\n"),
	ROW("sed -i /Huge/d proc/meminfo", "hugepages", "info", "no huge pages"),
	ROW("rm run/systemd/timesync/synchronized", "clock", "unseen", "only the running system"),

	ROW("echo 0 >proc/sys/net/ipv4/ip_forward", "forwarding", "ok", "droverd turns it on"),
	ROW("echo '-net/ipv4/ip_forward = 0' >etc/sysctl.d/10-net.conf", "forwarding-policy",
		"warn", "10-net.conf, line 1, turns forwarding off"),
	ROW("printf '#net.ipv4.ip_forward=0\\nnet.ipv4.ip_forward=0\\n' >etc/sysctl.conf",
		"forwarding-policy", "warn", "sysctl.conf, line 2,"),
	ROW("echo 1 >proc/sys/net/ipv4/conf/all/rp_filter", "rp-filter", "info", "rp_filter is 1",
		"rp_filter = all"),
	ROW("echo 1 >proc/sys/net/ipv6/conf/all/disable_ipv6", "ipv6", "info", "disable_ipv6 is 1",
		"`sysctl -w net.ipv6.conf.all.disable_ipv6=0`"),
	ROW("rm -r proc/sys/net/ipv6", "ipv6", "info", "no IPv6", "ipv6.disable=0"),
	ROW("mkdir proc/sys/net/bridge && echo 1 >proc/sys/net/bridge/bridge-nf-call-iptables",
		"bridge-nf", "info", "FORWARD", "sysctl -w net.bridge"),
	ROW("echo ENABLED=yes >etc/ufw/ufw.conf", "ufw", "warn", "is turned on",
		"`ufw allow in on tap+"),
	ROW("mkdir -p etc/systemd/system/multi-user.target.wants && "
	    "touch etc/systemd/system/multi-user.target.wants/firewalld.service",
		"firewalld", "warn", "is turned on", "`firewall-cmd "),

	ROW("rm usr/bin/dnsmasq", "dnsmasq", "fail", "it is not installed: guests get no addresses",
		"`apt-get install dnsmasq-base`"),
	ROW("rm usr/bin/dnsmasq", "dnsmasq", "warn", "it is not installed", NULL,
		"[vm a]\nkernel = /k\n"),
	ROW("rm usr/bin/dnsmasq", "dnsmasq", "warn", "it is not installed", NULL,
		"[network n]\nkind = user\n"),
	ROW("rm usr/bin/dnsmasq", "dnsmasq", "fail", "it is not installed", NULL,
		"[network n]\ncidr = 172.16.0.0/16\n"),
	ROW("rm usr/bin/nft && echo 'ID=fedora' >etc/os-release", "nft", "fail",
		"it is not installed", "`dnf install nftables`"),
	ROW("rm usr/bin/nft && echo 'ID=arch' >etc/os-release", "nft", "fail",
		"it is not installed", "install what Debian calls nftables"),
	ROW("rm usr/bin/nft && printf 'ID=ubuntu\\nID_LIKE=debian\\n' >etc/os-release", "nft",
		"fail", "it is not installed", "`apt-get install nftables`"),
	ROW("mv usr/bin/nft usr/sbin/", "nft", "ok", "/usr/sbin/nft"),
	ROW("chmod 644 usr/bin/nft", "nft", "fail", "it is not installed"),
	ROW("rm usr/bin/docker-registry", "docker-registry", "info", "no cache of registries"),
	ROW("rm usr/bin/docker-registry", "docker-registry", "fail", "no cache of registries",
		"`apt-get install docker-registry`",
		"[registry r]\nupstream = https://ghcr.io\nlisten = 127.0.0.1:5000\n"),
	ROW("rm usr/bin/swtpm", "swtpm", "info", "no TPM"),
	ROW("rm usr/bin/swtpm", "swtpm", "fail", "no TPM", "`apt-get install swtpm`",
		"[vm a]\nkernel = /k\ntpm = yes\n"),
	ROW("rm usr/bin/virtiofsd", "virtiofsd", "info", "no folder can be shared"),
	ROW("mkdir -p usr/libexec && mv usr/bin/virtiofsd usr/libexec", "virtiofsd", "ok",
		"/usr/libexec/virtiofsd"),
	ROW("rm usr/bin/cloud-hypervisor", "cloud-hypervisor", "info", "do not start", "releases"),
	ROW("rm usr/bin/cloud-hypervisor", "cloud-hypervisor", "fail", "do not start", NULL,
		"[vm a]\nkernel = /k\nhypervisor = cloud-hypervisor\n"),
	ROW("rm usr/bin/qemu-system-*", NULL, "fail", "QEMU's machines do not start",
		"`apt-get install qemu-system-x86`"),
	ROW("rm usr/bin/qemu-system-*", NULL, "info", "QEMU's machines do not start", NULL,
		"[vm a]\nkernel = /k\nhypervisor = cloud-hypervisor\n"),
	ROW("rm usr/bin/haproxy", "haproxy", "info", "no mirrors"),
	ROW("rm usr/bin/kea-dhcp6", "kea-dhcp6", "info", "no prefixes are delegated"),
	ROW("rm usr/bin/radvd", "radvd", "info", "no prefixes are delegated"),
	ROW("rm -r usr/share/OVMF usr/share/AAVMF", "uefi", "info", "no UEFI firmware",
		"`apt-get install "),
	ROW("rm -r usr/share/OVMF usr/share/AAVMF", "uefi", "fail", "no UEFI firmware", NULL,
		"[vm a]\nfirmware = uefi\nkernel = /k\n"),

	ROW("mkdir -p sys/module/apparmor/parameters && echo Y >sys/module/apparmor/parameters/enabled",
		"apparmor", "unseen", "cannot be read"),
	ROW("mkdir -p sys/module/apparmor/parameters sys/kernel/security/apparmor && "
	    "echo Y >sys/module/apparmor/parameters/enabled && printf 'man_filter (enforce)\\n"
	    "/usr/sbin/dnsmasq (complain)\\n' >sys/kernel/security/apparmor/profiles",
		"apparmor", "ok", "confines nothing"),
	ROW("mkdir -p sys/module/apparmor/parameters sys/kernel/security/apparmor && "
	    "echo Y >sys/module/apparmor/parameters/enabled && printf '/usr/sbin/cupsd (enforce)\\n"
	    "/usr/sbin/dnsmasq (enforce)\\nusr.bin.swtpm (enforce)\\n' "
	    ">sys/kernel/security/apparmor/profiles",
		"apparmor", "info", "confines /usr/sbin/dnsmasq, usr.bin.swtpm;"),
	ROW("mkdir -p sys/module/apparmor/parameters && echo Y >sys/module/apparmor/parameters/enabled && "
	    "echo 'Jan 1 h kernel: audit: apparmor=\"DENIED\" operation=\"open\" class=\"file\" "
	    "profile=\"dnsmasq\" name=\"/run/drover/net/x\" pid=7 comm=\"dnsmasq\"' >var/log/kern.log",
		"apparmor", "warn", "kept 'dnsmasq' from 'open' '/run/drover/net/x'",
		"`aa-complain dnsmasq`"),
	ROW("mkdir -p sys/fs/selinux && echo 0 >sys/fs/selinux/enforce", "selinux", "ok",
		"permissive"),
	ROW("mkdir -p sys/fs/selinux && echo 1 >sys/fs/selinux/enforce", "selinux", "unseen",
		"enforces its policy"),
	ROW("mkdir -p sys/fs/selinux var/log/audit && echo 1 >sys/fs/selinux/enforce && "
	    "echo 'avc:  denied  { read } for pid=1 comm=\"httpd\"' >var/log/audit/audit.log",
		"selinux", "ok", "denied nothing of drover's"),
	ROW("mkdir -p sys/fs/selinux var/log/audit && echo 1 >sys/fs/selinux/enforce && "
	    "echo 'type=AVC msg=audit(1.1:1): avc:  denied  { read } for  pid=1 "
	    "comm=\"qemu-system-x86\" path=\"/d/web.raw\" dev=\"sda\" tclass=file' "
	    ">var/log/audit/audit.log",
		"selinux", "warn", "kept 'qemu-system-x86' from 'file' '/d/web.raw'",
		"`ausearch -m avc -c qemu-system-x86 "),
};

static void test_findings(void **state)
{
	struct utsname u;
	char qemu[96];

	uname(&u);
	snprintf(qemu, sizeof(qemu), "qemu-system-%s", u.machine);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		const char *check = r->check != NULL ? r->check : qemu;

		sh("cd '%s' && rm -rf -- * && %s && %s", t.root, healthy, r->take);
		config_destroy(t.config);
		t.config = NULL;
		if (r->config != NULL)
			configure(r->config);
		examine(t.root);
		assert_found(check, r->result, r->message, r->fix);
		if ((named("changes", check) != NULL) != r->change)
			fail_msg("%s: %s", r->take,
				r->change ? "no change is proposed" : "a change is proposed");
	}
}

/* What only the daemon knows. */
static void test_daemon(void **state)
{
	t.daemon = true;
	t.forwarding_needed = true;
	sh("cd '%s' && echo 0 >proc/sys/net/ipv4/ip_forward && sed -i s/524288/64/ proc/self/limits",
		t.root);
	examine(t.root);
	assert_found("forwarding", "fail", "guests are cut off", "`drover doctor --fix`");
	/* It is droverd's to mend. */
	assert_null(named("changes", "forwarding"));
	assert_found("open-files", "fail", "droverd may have 64 files open", NULL);
}

/* ---- changes ---- */

/* "write PATH", "remove PATH", "run WORD WORD [may fail]"; a line each. */
static void steps_text(const json_t *steps, struct buf *out)
{
	const json_t *step, *word;
	size_t i, k, skip = strlen(t.root);

	buf_clear(out);
	json_array_foreach (steps, i, step) {
		const char *path = json_str(step, "path");

		buf_adds(out, json_str(step, "do"));
		if (path != NULL)
			buf_printf(out, " %s", str_starts(path, t.root) ? path + skip : path);
		json_array_foreach (json_arr(step, "argv"), k, word)
			buf_printf(out, " %s", json_string_value(word));
		buf_adds(out, json_flag(step, "may_fail", false) ? " or not\n" : "\n");
	}
}

static void assert_steps(const char *list, const char *check, const char *key, const char *want)
{
	const json_t *change = named(list, check);
	struct buf text = { 0 };

	assert_non_null(change);
	steps_text(json_arr(change, key), &text);
	assert_string_equal(buf_str(&text), want);
	buf_finish(&text);
}

/* Of another tree files are changed, and nothing is run. */
static void test_changes_of_tree(void **state)
{
	sh("cd '%s' && echo N >sys/module/kvm_intel/parameters/nested && rm dev/vhost-net", t.root);
	examine(t.root);
	assert_steps("changes", "nested", "steps", "write /etc/modprobe.d/drover-nested.conf\n");
	assert_steps("changes", "nested", "back", "remove /etc/modprobe.d/drover-nested.conf\n");
	assert_steps("changes", "vhost-net", "steps",
		"write /etc/modules-load.d/drover-vhost_net.conf\n");
	assert_null(json_str(named("changes", "nested"), "refused"));
	assert_string_equal(
		json_str(json_array_get(json_arr(named("changes", "nested"), "steps"), 0), "text"),
		"# Written by `drover doctor --fix`; `drover doctor --undo` removes it.\n"
		"options kvm_intel nested=1\n");
}

/* The last option wins, by the names of the files: what comes behind ours would turn it off again. */
static void test_opposed(void **state)
{
	static const struct {
		const char *file, *text;
		bool refused;
	} cases[] = {
		{ "etc/modprobe.d/kvm.conf", "options kvm_intel nested=0", true },
		{ "etc/modprobe.d/kvm.conf", "# x\\noptions kvm_intel ept=1 nested=N", true },
		{ "lib/modprobe.d/zz.conf", "options kvm_intel nested=n", true },
		{ "etc/modprobe.d/a.conf", "options kvm_intel nested=0", false },
		{ "etc/modprobe.d/kvm.conf", "options kvm_amd nested=0", false },
		{ "etc/modprobe.d/kvm.conf", "options kvm_intel nested=1", false },
		{ "etc/modprobe.d/kvm.conf", "#options kvm_intel nested=0", false },
		{ "etc/modprobe.d/kvm.txt", "options kvm_intel nested=0", false },
		{ "etc/modprobe.d/kvm.conf", "", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *refused;

		sh("cd '%s' && rm -rf -- * && %s && echo N >sys/module/kvm_intel/parameters/nested && "
		   "mkdir -p lib/modprobe.d && printf '%s' >%s",
			t.root, healthy, cases[i].text, cases[i].file);
		examine(t.root);
		refused = json_str(named("changes", "nested"), "refused");
		assert_int_equal(refused != NULL, cases[i].refused);
		if (refused != NULL)
			assert_non_null(strstr(refused, cases[i].file));
	}
}

static void test_undo(void **state)
{
	sh("cd '%s' && mkdir -p etc/modules-load.d && "
	   "echo 'options kvm_intel nested=1' >etc/modprobe.d/drover-nested.conf && "
	   "echo tun >etc/modules-load.d/drover-tun.conf",
		t.root);
	examine(t.root);
	/* Somebody else's, whatever they are called. */
	assert_int_equal(json_array_size(json_arr(t.report, "undo")), 0);
	sh("cd '%s' && for f in etc/modprobe.d/drover-nested.conf etc/modules-load.d/drover-tun.conf; "
	   "do sed -i '1i # Written by `drover doctor --fix`; `drover doctor --undo` removes it.' $f; done",
		t.root);
	examine(t.root);
	assert_steps("undo", "nested", "steps", "remove /etc/modprobe.d/drover-nested.conf\n");
	assert_steps("undo", "tun", "steps", "remove /etc/modules-load.d/drover-tun.conf\n");
	assert_int_equal(json_array_size(json_arr(t.report, "undo")), 2);
}

/* Without a root what runs here is asked; that it ends, and each finding is one. */
static void test_this_host(void **state)
{
	const json_t *e;
	size_t i;

	examine(NULL);
	assert_non_null(named("checks", "firewall"));
	assert_non_null(named("checks", "nft"));
	json_array_foreach (json_arr(t.report, "checks"), i, e) {
		assert_true(json_str(e, "message")[0] != '\0');
		assert_non_null(json_str(e, "group"));
		if (str_eq(json_str(e, "result"), "fail"))
			assert_string_equal(json_str(e, "level"), "error");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_healthy, setup, teardown),
		cmocka_unit_test_setup_teardown(test_findings, setup, teardown),
		cmocka_unit_test_setup_teardown(test_daemon, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_of_tree, setup, teardown),
		cmocka_unit_test_setup_teardown(test_opposed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_undo, setup, teardown),
		cmocka_unit_test_setup_teardown(test_this_host, setup, teardown),
	};

	return cmocka_run_group_tests_name("examine", tests, NULL, NULL);
}
