#include "supervisor/guest-identity.h"

#include "lib/json.h"

/* ---- the values ---- */

/* Between apostrophes nothing is special to a shell but the apostrophe. */
static void add_value(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s='", name);
	for (const char *p = value != NULL ? value : ""; *p != '\0'; p++)
		buf_adds(out, *p == '\'' ? "'\\''" : (const char[]){ *p, '\0' });
	buf_adds(out, "'\n");
}

static void add_nics(struct buf *out, const struct guest_identity *id)
{
	struct buf text = { 0 };

	for (size_t i = 0; i < id->nnics; i++)
		buf_printf(&text, "%s %s\n", id->nics[i].was, id->nics[i].is);
	add_value(out, "nics", buf_str(&text));
	out->bad |= text.bad;
	buf_finish(&text);
}

static void add_host_keys(struct buf *out, const json_t *keys)
{
	const json_t *key;
	size_t i;

	buf_adds(out, "host_keys() {\n:\n");
	json_array_foreach (keys, i, key) {
		add_value(out, "name", json_str(key, "name"));
		add_value(out, "text", json_str(key, "text"));
		buf_adds(out, "put_key\n");
	}
	buf_adds(out, "}\n");
}

/* ---- what is done with them ---- */

static const char functions[] =
	"PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
	"has() { command -v \"$1\" >/dev/null 2>&1; }\n"
	"put_key() {\n"
	"	mode=600\n"
	"	case $name in *.pub) mode=644 ;; esac\n"
	"	rm -f \"/etc/ssh/$name\"\n"
	"	(umask 077 && printf '%s' \"$text\" >\"/etc/ssh/$name\") && chmod $mode \"/etc/ssh/$name\"\n"
	"}\n";

/*
 * In this order: nobody meets the old keys under the new address, and what a client waits for, the
 * lease, is asked for while the rest is done. Each process counts under emulation, so what the shell
 * can do itself it does.
 */
static const char body[] =
	/* The keys of its SSH server. */
	"if [ -d /etc/ssh ]; then\n"
	"	rm -f /etc/ssh/ssh_host_*\n"
	"	host_keys\n"
	"fi\n"
	"for file in /etc/dropbear/dropbear_*_host_key; do\n"
	"	[ ! -e \"$file\" ] || rm -f \"$file\"\n"
	"done\n"
	"echo \"$seed\" 2>/dev/null >/dev/urandom\n"
	/* The nics, by their old addresses. */
	"changed=\n"
	"while read -r was is; do\n"
	"	[ -n \"$is\" ] || continue\n"
	"	for nic in /sys/class/net/*; do\n"
	"		read -r address 2>/dev/null <\"$nic/address\" || continue\n"
	"		nic=${nic##*/}\n"
	"		case $address in\n"
	"		\"$is\") ;;\n"
	"		\"$was\")\n"
	"			ip link set dev \"$nic\" address \"$is\" 2>/dev/null ||\n"
	"				{ ip link set dev \"$nic\" down && ip link set dev \"$nic\" address \"$is\" &&\n"
	"				ip link set dev \"$nic\" up; } || exit 3 ;;\n"
	"		*) continue ;;\n"
	"		esac\n"
	"		changed=\"$changed $nic\"\n"
	"	done\n"
	"	for file in /etc/netplan/* /run/systemd/network/* /etc/systemd/network/* \\\n"
	"		/etc/network/interfaces /etc/network/interfaces.d/* \\\n"
	"		/etc/udev/rules.d/*persistent-net* /etc/NetworkManager/system-connections/*; do\n"
	"		[ -f \"$file\" ] && grep -qi \"$was\" \"$file\" && sed -i \"s/$was/$is/gI\" \"$file\"\n"
	"	done\n"
	"done <<END\n"
	"$nics\n"
	"END\n"
	/* The leases. */
	"lease() {\n"
	"	if [ -x " GUEST_IDENTITY_HOOK " ]; then\n"
	"		" GUEST_IDENTITY_HOOK " address $changed\n"
	"		return\n"
	"	elif has networkctl && networkctl list; then\n"
	"		networkctl reload\n"
	"		for nic in $changed; do networkctl reconfigure \"$nic\"; done\n"
	"	elif has nmcli && nmcli -t general; then\n"
	"		nmcli connection reload\n"
	"		for nic in $changed; do nmcli device disconnect \"$nic\"; nmcli device connect \"$nic\"; done\n"
	"	elif has ifup; then\n"
	"		for nic in $changed; do ifdown --force \"$nic\"; ifup \"$nic\"; done\n"
	"	elif has dhcpcd; then\n"
	"		for nic in $changed; do dhcpcd -n \"$nic\"; done\n"
	"	fi\n"
	"	return 0\n"
	"}\n"
	"lease >/dev/null 2>&1 </dev/null &\n"
	"leasing=$!\n"
	"date -u -s \"@$now\" >/dev/null 2>&1\n"
	/* The name. */
	"echo \"$hostname\" >/proc/sys/kernel/hostname\n"
	"[ -L /etc/hostname ] || echo \"$hostname\" >/etc/hostname\n"
	"known=\n"
	"while read -r line; do\n"
	"	case $line in *\"$old_hostname\"*) known=yes ;; esac\n"
	"done 2>/dev/null </etc/hosts\n"
	"[ -z \"$known\" ] || sed -i \"s/\\\\([[:blank:]]\\\\)$old_hostname\\\\([[:blank:].]\\\\|\\$\\\\)/"
	"\\\\1$hostname\\\\2/g\" /etc/hosts\n"
	/* machine-id(5); D-Bus has a copy where that is no link. */
	"[ -L /etc/machine-id ] || echo \"$machine_id\" >/etc/machine-id\n"
	"[ ! -f /var/lib/dbus/machine-id ] || [ -L /var/lib/dbus/machine-id ] ||\n"
	"	echo \"$machine_id\" >/var/lib/dbus/machine-id\n"
	/* A server that has its keys in memory reads them anew. */
	"if has systemctl; then\n"
	"	systemctl try-restart ssh.service sshd.service dropbear.service\n"
	"elif [ -s /run/sshd.pid ]; then\n"
	"	kill -HUP \"$(cat /run/sshd.pid)\"\n"
	"fi >/dev/null 2>&1\n"
	"wait $leasing || exit 4\n"
	"exit 0\n";

void guest_identity_script(const struct guest_identity *id, struct buf *out)
{
	buf_adds(out, functions);
	add_host_keys(out, id->host_keys);
	add_nics(out, id);
	add_value(out, "hostname", id->hostname);
	add_value(out, "old_hostname", id->old_hostname);
	add_value(out, "machine_id", id->machine_id);
	add_value(out, "seed", id->seed);
	buf_printf(out, "now=%llu\n", (unsigned long long)id->now_s);
	buf_adds(out, body);
}

/* RFC 4648, 4. */
static void add_base64(struct buf *out, const unsigned char *in, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < len; i += 3) {
		unsigned n = (unsigned)in[i] << 16;
		char four[4];

		if (i + 1 < len)
			n |= (unsigned)in[i + 1] << 8;
		if (i + 2 < len)
			n |= in[i + 2];
		four[0] = digits[n >> 18];
		four[1] = digits[n >> 12 & 63];
		four[2] = i + 1 < len ? digits[n >> 6 & 63] : '=';
		four[3] = i + 2 < len ? digits[n & 63] : '=';
		buf_add(out, four, 4);
	}
}

json_t *guest_exec_command(const char *script, size_t len)
{
	struct buf data = { 0 };
	json_t *cmd;

	add_base64(&data, (const unsigned char *)script, len);
	cmd = data.bad ? NULL
		       : json_pack("{s:s,s:{s:s,s:[s],s:s}}", "execute", "guest-exec", "arguments",
				 "path", "/bin/sh", "arg", "-s", "input-data", buf_str(&data));
	buf_finish(&data);
	return cmd;
}
