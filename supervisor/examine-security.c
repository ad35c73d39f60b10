/* What of AppArmor and SELinux stands in the way of what drover starts: supervisor/examine.h. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/examine-private.h"

#define GROUP    "security"
#define TAIL_MAX ((size_t)512 << 10) /* of a log; what was denied longer ago is no matter */

/* Our own, and those that distributions bring profiles for. */
static const char *const programs[] = { "droverd", "drover-jail", "drover-image", "dnsmasq",
	"docker-registry", "haproxy", "kea-dhcp6", "radvd", "swtpm", "virtiofsd",
	"cloud-hypervisor", "qemu-system-*" };

static bool is_ours(const char *name, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
		size_t n = strlen(programs[i]);

		if (programs[i][n - 1] == '*'
				? len > n - 1 && strncmp(programs[i], name, n - 1) == 0
				: len == n && strncmp(programs[i], name, n) == 0)
			return true;
		/* The kernel cuts comm to 15 bytes. */
		if (len == 15 && n > 15 && strncmp(programs[i], name, 15) == 0)
			return true;
	}
	return false;
}

/* ---- what was denied ---- */

struct denials {
	bool readable; /* there is a log that would have it */
	size_t n;
	bool apparmor;
	char program[64], what[256]; /* of the last one */
};

/* KEY="VALUE" or KEY=VALUE of a line of the audit log; the length of the value. */
static size_t field(const char *line, size_t len, const char *key, const char **out)
{
	size_t k = strlen(key);

	for (const char *p = line; p + k + 1 < line + len; p++) {
		if ((p != line && p[-1] != ' ') || strncmp(p, key, k) != 0 || p[k] != '=')
			continue;
		p += k + 1;
		*out = *p == '"' ? p + 1 : p;
		return strcspn(*out, *p == '"' ? "\"\n" : " \n");
	}
	return 0;
}

static void read_denial(const char *line, size_t len, struct denials *d)
{
	bool apparmor = memmem(line, len, "apparmor=\"DENIED\"", 17) != NULL;
	const char *comm, *name, *operation;
	size_t ncomm, nname, nop;

	if (!apparmor && memmem(line, len, "avc:  denied", 12) == NULL)
		return;
	ncomm = field(line, len, "comm", &comm);
	if (ncomm == 0 || !is_ours(comm, ncomm))
		return;
	nname = field(line, len, apparmor ? "name" : "path", &name);
	if (nname == 0)
		nname = field(line, len, "name", &name);
	nop = field(line, len, apparmor ? "operation" : "tclass", &operation);
	d->n++;
	d->apparmor = apparmor;
	snprintf(d->program, sizeof(d->program), "%.*s", (int)MIN(ncomm, (size_t)63), comm);
	snprintf(d->what, sizeof(d->what), "%s %s", nop > 0 ? quote_n(operation, nop) : "something",
		nname > 0 ? quote_n(name, nname) : "");
}

static void read_log(const struct examination *x, const char *path, struct denials *d)
{
	int fd = open(examine_path(x, "%s", path), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct buf text = { 0 };
	struct stat st;
	char block[8192];
	off_t at;
	ssize_t n;

	if (fd < 0)
		return;
	d->readable = true;
	at = fstat(fd, &st) == 0 && st.st_size > (off_t)TAIL_MAX ? st.st_size - (off_t)TAIL_MAX : 0;
	for (; text.len < TAIL_MAX && (n = pread(fd, block, sizeof(block), at)) > 0; at += n)
		buf_add(&text, block, (size_t)n);
	close(fd);
	for (const char *s = buf_str(&text); *s != '\0'; s += strspn(s, "\n")) {
		size_t len = strcspn(s, "\n");

		read_denial(s, len, d);
		s += len;
	}
	buf_finish(&text);
}

static struct denials find_denials(const struct examination *x)
{
	static const char *const logs[] = { "/var/log/kern.log", "/var/log/messages",
		"/var/log/syslog", "/var/log/audit/audit.log" };
	struct denials d = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(logs) && d.n == 0; i++)
		read_log(x, logs[i], &d);
	return d;
}

/* ---- who might deny ---- */

/* Profiles that are enforced, by what /sys/kernel/security/apparmor/profiles has of each: "NAME (MODE)". */
static void enforced(const char *profiles, struct buf *out)
{
	for (const char *s = profiles; *s != '\0'; s += strspn(s, "\n")) {
		size_t len = strcspn(s, "\n"), name = strcspn(s, " \n"), base = 0;

		for (size_t i = 0; i < name; i++) {
			if (s[i] == '/' || s[i] == '.')
				base = i + 1;
		}
		if (is_ours(s + base, name - base) && memmem(s, len, "(enforce)", 9) != NULL)
			buf_printf(out, "%s%.*s", out->len > 0 ? ", " : "", (int)name, s);
		s += len;
	}
}

static void check_apparmor(struct examination *x, const struct denials *d)
{
	struct buf text = { 0 }, names = { 0 };
	char line[16], fix[128];

	if (!examine_line(x, "/sys/module/apparmor/parameters/enabled", line, sizeof(line)) ||
		line[0] != 'Y') {
		buf_finish(&text);
		return;
	}
	if (d->n > 0 && d->apparmor) {
		snprintf(fix, sizeof(fix), "`aa-complain %s`", d->program);
		found(x, GROUP, "apparmor", FOUND_WARN, fix,
			"AppArmor has kept %s from %s (the last of %zu denials in the log)",
			quote(d->program), d->what, d->n);
	} else if (!examine_file(x, "/sys/kernel/security/apparmor/profiles", &text)) {
		found(x, GROUP, "apparmor", FOUND_UNSEEN,
			geteuid() != 0 ? "`sudo drover doctor`" : NULL,
			"AppArmor is on; which of its profiles are in force cannot be read");
	} else {
		enforced(buf_str(&text), &names);
		if (names.len > 0)
			found(x, GROUP, "apparmor", FOUND_INFO, NULL,
				"AppArmor confines %s; nothing that was denied is in the log",
				buf_str(&names));
		else
			found(x, GROUP, "apparmor", FOUND_OK, NULL,
				"AppArmor confines nothing that drover starts");
	}
	buf_finish(&text);
	buf_finish(&names);
}

static void check_selinux(struct examination *x, const struct denials *d)
{
	char line[16], fix[160];

	if (!examine_line(x, "/sys/fs/selinux/enforce", line, sizeof(line)))
		return;
	if (line[0] != '1') {
		found(x, GROUP, "selinux", FOUND_OK, NULL, "SELinux is permissive");
	} else if (d->n > 0 && !d->apparmor) {
		snprintf(fix, sizeof(fix),
			"`ausearch -m avc -c %s | audit2allow -M drover && semodule -i drover.pp`",
			d->program);
		found(x, GROUP, "selinux", FOUND_WARN, fix,
			"SELinux has kept %s from %s (the last of %zu denials in the log)",
			quote(d->program), d->what, d->n);
	} else if (!d->readable) {
		found(x, GROUP, "selinux", FOUND_UNSEEN,
			geteuid() != 0 ? "`sudo drover doctor`" : NULL,
			"SELinux enforces its policy; whether it has denied anything cannot be read");
	} else {
		found(x, GROUP, "selinux", FOUND_OK, NULL,
			"SELinux enforces its policy, and has denied nothing of drover's");
	}
}

void examine_security(struct examination *x)
{
	struct denials d = find_denials(x);

	check_apparmor(x, &d);
	check_selinux(x, &d);
}
