#include "netcfg/dnsmasq-dns.h"

#include <string.h>

/* name is domain, or below it. */
static bool is_within(const char *name, const char *domain)
{
	size_t n = strlen(name), d = domain != NULL ? strlen(domain) : 0;

	return d > 0 && n >= d && strcmp(name + n - d, domain) == 0 &&
	       (n == d || name[n - d - 1] == '.');
}

static bool is_first(const struct dnsmasq_dns *s, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(s->records[k].name, s->records[i].name) == 0)
			return false;
	return true;
}

static void add_records(struct strv *v, const struct dnsmasq_dns *s)
{
	for (size_t i = 0; i < s->nrecords; i++) {
		const struct dnsmasq_record *r = &s->records[i];

		strv_addf(v, "--host-record=%s,%s", r->name, r->address);
		/* What has no dot, and what is in the domain, is asked of nobody else anyhow. */
		if (!is_first(s, i) || strchr(r->name, '.') == NULL ||
			is_within(r->name, s->domain))
			continue;
		strv_addf(v, "--local=/%s/", r->name);
		strv_addf(v, "--server=/*.%s/#", r->name);
	}
}

void dnsmasq_dns_args(struct strv *v, const struct dnsmasq_dns *s)
{
	bool own = s->servers != NULL && s->servers[0] != NULL;
	char net[19];

	if (own || !s->host_dns)
		strv_add(v, "--no-resolv");
	for (size_t i = 0; own && s->servers[i] != NULL; i++)
		strv_addf(v, "--server=%s", s->servers[i]);
	if (s->names_dir != NULL)
		strv_addf(v, "--hostsdir=%s", s->names_dir);
	/* A machine's name alone, and the addresses of this network, are nobody else's business. */
	strv_add(v, "--domain-needed");
	if (s->net.len != 0) {
		ip4_prefix_format(s->net, net);
		strv_addf(v, "--rev-server=%s", net);
	}
	if (s->domain != NULL) {
		strv_addf(v, "--domain=%s", s->domain);
		strv_addf(v, "--local=/%s/", s->domain);
	}
	add_records(v, s);
	if (s->log)
		strv_add(v, "--log-queries=extra");
}
