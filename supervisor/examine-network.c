/* Settings of the network, and what in the firewalls of others blocks guests: supervisor/examine.h. */
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/examine-private.h"
#include "supervisor/network-foreign.h"

#define GROUP      "network"
#define IP_FORWARD "/proc/sys/net/ipv4/ip_forward"
#define CONF_MAX   ((size_t)1 << 20)

/* ---- settings ---- */

/* The line of a file of sysctl.d that turns forwarding off; 0: none. */
static unsigned line_that_stops(char *text)
{
	unsigned n = 0;
	char *next = NULL;

	for (char *s = text; s != NULL; s = next) {
		char *end = strchr(s, '\n'), *value;

		n++;
		next = end != NULL ? end + 1 : NULL;
		if (end != NULL)
			*end = '\0';
		s = str_trim(s);
		s += s[0] == '-';
		value = strchr(s, '=');
		if (value == NULL || s[0] == '#' || s[0] == ';')
			continue;
		*value++ = '\0';
		for (char *c = s; *c != '\0'; c++)
			*c = *c == '/' ? '.' : *c;
		if (strcmp(str_trim(s), "net.ipv4.ip_forward") == 0 &&
			strcmp(str_trim(value), "0") == 0)
			return n;
	}
	return 0;
}

/* droverd turns it on when it needs it, but whoever loads these files again turns it off. */
static void check_policy(struct examination *x)
{
	static const char *const globs[] = { "/etc/sysctl.d/*.conf", "/etc/sysctl.conf",
		"/run/sysctl.d/*.conf", "/usr/lib/sysctl.d/*.conf" };
	struct buf text = { 0 };

	for (size_t i = 0; i < ARRAY_LEN(globs); i++) {
		glob_t g = { 0 };

		if (glob(examine_path(x, "%s", globs[i]), 0, NULL, &g) != 0)
			g.gl_pathc = 0;
		for (size_t f = 0; f < g.gl_pathc; f++) {
			unsigned line = 0;

			buf_finish(&text);
			if (file_read(g.gl_pathv[f], CONF_MAX, &text, NULL) == 0 && text.len > 0)
				line = line_that_stops(text.data);
			if (line > 0)
				found(x, GROUP, "forwarding-policy", FOUND_WARN,
					"take that line out",
					"%s, line %u, turns forwarding off: guests are cut off whenever "
					"`sysctl --system` runs",
					g.gl_pathv[f], line);
		}
		globfree(&g);
	}
	buf_finish(&text);
}

static void check_forwarding(struct examination *x)
{
	char value[16];

	if (!examine_line(x, IP_FORWARD, value, sizeof(value)))
		found(x, GROUP, "forwarding", x->o.root != NULL ? FOUND_UNSEEN : FOUND_FAIL, NULL,
			IP_FORWARD " cannot be read");
	else if (strcmp(value, "0") != 0)
		found(x, GROUP, "forwarding", FOUND_OK, NULL, "net.ipv4.ip_forward is on");
	else if (x->o.forwarding_needed)
		found(x, GROUP, "forwarding", FOUND_FAIL, "`drover doctor --fix`",
			"net.ipv4.ip_forward is off, guests are cut off");
	else
		found(x, GROUP, "forwarding", FOUND_OK, NULL,
			"net.ipv4.ip_forward is off; droverd turns it on with the first machine that "
			"needs it, and puts it back");
	check_policy(x);
}

static void check_settings(struct examination *x)
{
	struct stat st;
	char value[16];

	if (examine_line(x, "/proc/sys/net/ipv4/conf/all/rp_filter", value, sizeof(value))) {
		bool off = strcmp(value, "0") == 0;

		found(x, GROUP, "rp-filter", off ? FOUND_OK : FOUND_INFO,
			"rp_filter = all in the [network]", "net.ipv4.conf.all.rp_filter is %s%s",
			value,
			off ? ""
			    : ": the kernel drops what comes by another way than it would answer");
	}
	if (stat(examine_path(x, "/proc/sys/net"), &st) == 0 &&
		stat(examine_path(x, "/proc/sys/net/ipv6"), &st) < 0)
		found(x, GROUP, "ipv6", FOUND_INFO, "ipv6.disable=0 on the kernel's command line",
			"the kernel has no IPv6, or it is turned off");
	else if (examine_line(x, "/proc/sys/net/ipv6/conf/all/disable_ipv6", value, sizeof(value)))
		found(x, GROUP, "ipv6", strcmp(value, "0") == 0 ? FOUND_OK : FOUND_INFO,
			"`sysctl -w net.ipv6.conf.all.disable_ipv6=0`",
			strcmp(value, "0") == 0 ? "IPv6 is on"
						: "net.ipv6.conf.all.disable_ipv6 is %s: networks "
						  "with IPv6 get no addresses",
			value);
	/* br_netfilter: Linux, Documentation/networking/ip-sysctl.rst, bridge-nf-call-iptables. */
	if (examine_line(x, "/proc/sys/net/bridge/bridge-nf-call-iptables", value, sizeof(value)) &&
		strcmp(value, "0") != 0)
		found(x, GROUP, "bridge-nf", FOUND_INFO,
			"`sysctl -w net.bridge.bridge-nf-call-iptables=0`, unless Docker or Kubernetes "
			"needs it",
			"net.bridge.bridge-nf-call-iptables is on: what machines of one bridge send "
			"each other goes through the host's FORWARD rules, too");
}

void examine_host_net(struct examination *x)
{
	check_forwarding(x);
	check_settings(x);
}

/* ---- firewalls of others ---- */

/* Whoever cannot see the rules can see what is turned on to make some. */
static void check_services(struct examination *x)
{
	static const char line[] = "\nENABLED=yes";
	struct buf text = { 0 };
	struct stat st;

	if (file_read(examine_path(x, "/etc/ufw/ufw.conf"), CONF_MAX, &text, NULL) == 0 &&
		(str_starts(buf_str(&text), line + 1) || strstr(buf_str(&text), line) != NULL))
		found(x, GROUP, "ufw", FOUND_WARN,
			"`ufw allow in on tap+ && ufw route allow in on tap+ && ufw route allow out on "
			"tap+`",
			"ufw is turned on, and drops what guests send unless it is told otherwise");
	buf_finish(&text);
	if (stat(examine_path(x, "/etc/systemd/system/multi-user.target.wants/firewalld.service"),
		    &st) == 0)
		found(x, GROUP, "firewalld", FOUND_WARN,
			"`firewall-cmd --permanent --zone=trusted --add-interface=tap+ && firewall-cmd "
			"--reload`",
			"firewalld is turned on, and drops what guests send unless it is told otherwise");
}

/* One finding for each sentence: "SENTENCE: open it with `LINE`", joined by "; " (netcfg/foreign.h). */
static void tell_blocks(struct examination *x, const char *text)
{
	static const char opener[] = ": open it with `";
	enum finding level = examine_has_links(x) ? FOUND_FAIL : FOUND_WARN;
	const char *next;

	for (const char *s = text; s != NULL; s = next) {
		const char *fix = strstr(s, opener), *end;
		char line[1024];

		end = fix != NULL ? strchr(fix + sizeof(opener) - 1, '`') : NULL;
		next = end != NULL && str_starts(end, "`; ") ? end + 3 : NULL;
		if (end == NULL) {
			found(x, GROUP, "firewall", level, NULL, "%s", s);
			return;
		}
		snprintf(line, sizeof(line), "%.*s", (int)(end + 1 - (fix + sizeof(opener) - 2)),
			fix + sizeof(opener) - 2);
		found(x, GROUP, "firewall", level, line, "%.*s", (int)(fix - s), s);
	}
}

static void foreign_checked(void *arg, const char *warning, const struct err *err)
{
	struct examination *x = arg;

	if (err != NULL) {
		found(x, GROUP, "firewall", FOUND_UNSEEN,
			geteuid() != 0 ? "`sudo drover doctor`" : NULL,
			"the rules of others cannot be looked at: %s", err->msg);
		check_services(x);
	} else if (warning != NULL) {
		tell_blocks(x, warning);
	} else {
		found(x, GROUP, "firewall", FOUND_OK, NULL, "no rule of others blocks guests");
	}
	examine_end(x);
}

void examine_firewall(struct examination *x)
{
	struct strv links = { 0 };
	struct err err;
	int r;

	if (x->o.root != NULL || examine_leaving(x)) {
		found(x, GROUP, "firewall", FOUND_UNSEEN, NULL,
			"the rules of others can only be looked at where they are in force");
		check_services(x);
		examine_end(x);
		return;
	}
	network_foreign_links(x->o.config, &links);
	r = links.bad ? err_nomem(&err)
		      : foreign_check(
				x->o.loop, (const char *const *)links.v, foreign_checked, x, &err);
	strv_finish(&links);
	if (r < 0) {
		found(x, GROUP, "firewall", FOUND_UNSEEN, NULL,
			"the rules of others cannot be looked at: %s", err.msg);
		check_services(x);
		examine_end(x);
	}
}
