#include "supervisor/network-dns.h"

#include <stdlib.h>

#include "supervisor/network-values.h"

int network_dns_read(struct network_dns *out, const struct network_config *n, struct err *err)
{
	size_t count = 0;

	out->parsed = calloc(n->record.n + 1, sizeof(*out->parsed));
	out->records = calloc(n->record.n + 1, sizeof(*out->records));
	if (out->parsed == NULL || out->records == NULL)
		return err_nomem(err);
	for (size_t i = 0; i < n->record.n; i++) {
		struct record_spec *s = &out->parsed[count];

		if (record_spec_parse(n->record.v[i], s, NULL) < 0)
			continue;
		out->records[count++] = (struct dnsmasq_record){ s->name, s->address };
	}
	for (size_t i = 0; !network_without_dns(n) && i < n->dns.n; i++)
		strv_add(&out->servers, n->dns.v[i]);
	if (out->servers.bad)
		return err_nomem(err);
	out->spec.servers = (const char *const *)out->servers.v;
	out->spec.domain = n->domain;
	out->spec.records = out->records;
	out->spec.nrecords = count;
	out->spec.log = n->dns_log;
	return 0;
}

void network_dns_finish(struct network_dns *dns)
{
	free(dns->parsed);
	free(dns->records);
	strv_finish(&dns->servers);
}
