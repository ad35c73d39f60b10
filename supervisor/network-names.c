#include "supervisor/network-names.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/str.h"
#include "netcfg/alloc.h"
#include "supervisor/network-values.h"

static bool is_address(const char *s, int *family)
{
	unsigned char in[16];

	*family = inet_pton(AF_INET, s, in) == 1    ? AF_INET
		  : inet_pton(AF_INET6, s, in) == 1 ? AF_INET6
						    : 0;
	return *family != 0;
}

/* Labels of letters, digits and hyphens (RFC 1123, section 2.1; with _ as it is in use). */
static bool is_name(const char *s)
{
	size_t n = strlen(s), label;

	if (n == 0 || n > 253)
		return false;
	for (const char *p = s;; p += label + 1) {
		label = strcspn(p, ".");
		if (label == 0 || label > 63 || p[0] == '-' || p[label - 1] == '-' ||
			strspn(p, "abcdefghijklmnopqrstuvwxyz0123456789-_.") < label)
			return false;
		if (p[label] == '\0')
			return true;
	}
}

int record_spec_parse(const char *text, struct record_spec *out, struct err *err)
{
	const char *sign = strchr(text, '=');
	size_t n = sign != NULL ? (size_t)(sign - text) : 0;
	struct record_spec s = { 0 };
	int family;

	if (sign == NULL || n >= sizeof(s.name))
		return err_set(err, -EINVAL, "%s is not NAME=ADDRESS, such as ghcr.io=10.0.0.5",
			quote(text));
	for (size_t i = 0; i < n; i++)
		s.name[i] = (char)tolower((unsigned char)text[i]);
	s.name[n - (n > 0 && (s.name[n - 1] == ' ' || s.name[n - 1] == '\t'))] = '\0';
	if (!is_name(s.name) || is_address(s.name, &family))
		return err_set(err, -EINVAL, "%s is not a name in the DNS", quote_n(text, n));
	sign += 1 + strspn(sign + 1, " \t");
	if (!is_address(sign, &s.family))
		return err_set(err, -EINVAL, "%s is not an IPv4 or IPv6 address", quote(sign));
	snprintf(s.address, sizeof(s.address), "%s", sign);
	*out = s;
	return 0;
}

static int mirror_option(const char *word, struct mirror_spec *s, struct err *err)
{
	uint64_t port;

	if (strcmp(word, "http") == 0) {
		s->http = true;
	} else if (str_starts(word, "address=")) {
		if (!ip4_parse(word + 8, &s->address) || s->address == 0)
			return err_set(err, -EINVAL, "%s is not an IPv4 address", quote(word + 8));
	} else if (str_starts(word, "port=")) {
		if (parse_u64(word + 5, 1, 65535, &port, NULL) < 0)
			return err_set(err, -EINVAL, "%s is not a port", quote(word + 5));
		s->port = (uint16_t)port;
	} else {
		return err_set(
			err, -EINVAL, "%s is not address=ADDRESS, http or port=PORT", quote(word));
	}
	return 0;
}

int mirror_spec_parse(const char *text, struct mirror_spec *out, struct err *err)
{
	char *copy = strdup(text), *save = NULL, *word;
	struct mirror_spec s = { 0 };
	int r = 0;

	if (copy == NULL)
		return err_nomem(err);
	word = strtok_r(copy, " \t", &save);
	snprintf(s.registry, sizeof(s.registry), "%s", word != NULL ? word : "");
	while (r == 0 && (word = strtok_r(NULL, " \t", &save)) != NULL)
		r = mirror_option(word, &s, err);
	free(copy);
	if (r == 0 && s.port == 80 && !s.http)
		r = err_set(err, -EINVAL,
			"port=80 is where the CA's certificate is given out; did you mean http?");
	if (s.port == 0)
		s.port = s.http ? 80 : 443;
	if (r == 0)
		*out = s;
	return r;
}

unsigned network_mirrors_in(const struct network_config *n, uint32_t first, uint32_t last)
{
	struct mirror_spec s;
	unsigned count = 0;

	for (size_t i = 0; i < n->mirror.n; i++)
		if (mirror_spec_parse(n->mirror.v[i], &s, NULL) == 0)
			count += s.address == 0 || (s.address >= first && s.address <= last);
	return count;
}

/* ---- registries ---- */

int registry_hosts(const struct registry_config *r, struct strv *out)
{
	const char *host = strstr(r->upstream, "://");

	if (r->hosts.n > 0)
		return strv_copy(out, &r->hosts);
	host = host != NULL ? host + 3 : r->upstream;
	strv_addf(out, "%.*s", (int)strcspn(host, "/"), host);
	/* Docker Hub's images are named by one host and served by another. */
	if (strv_has(out, "registry-1.docker.io"))
		strv_add(out, "docker.io");
	return out->bad ? -ENOMEM : 0;
}

int registry_redirected(const struct registry_config *r, struct strv *out)
{
	static const char *const hub[] = { "docker.io", "registry-1.docker.io", "index.docker.io" };
	struct strv hosts = { 0 };
	bool is_hub = false;
	int ret = registry_hosts(r, &hosts), family;

	for (size_t i = 0; ret == 0 && i < hosts.n; i++) {
		const char *host = hosts.v[i];
		bool of_hub = false;

		for (size_t k = 0; k < ARRAY_LEN(hub); k++)
			of_hub = of_hub || strcmp(host, hub[k]) == 0;
		is_hub = is_hub || of_hub;
		if (!of_hub && is_name(host) && !is_address(host, &family))
			strv_add(out, host);
	}
	for (size_t k = 0; is_hub && k < ARRAY_LEN(hub); k++)
		strv_add(out, hub[k]);
	strv_finish(&hosts);
	return ret < 0 || out->bad ? -ENOMEM : 0;
}

/* ---- p2p ---- */

bool network_p2p_serves(const struct network_config *n)
{
	bool serves = n->domain != NULL || n->record.n > 0 || n->dns_log;

	/* DHCP of IPv4 has no option for a server of IPv6: the host asks it (RFC 2132, 3.8). */
	for (size_t i = 0; i < n->dns.n; i++)
		serves = serves || strchr(n->dns.v[i], ':') != NULL;
	return serves && !network_without_dns(n);
}
