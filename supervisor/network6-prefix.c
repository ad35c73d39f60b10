/* The prefixes that are kept for machines' nics: supervisor/network6.h. */
#include <errno.h>
#include <stdlib.h>

#include "supervisor/network6.h"

static int compare_prefixes(const void *a, const void *b)
{
	return ip6_compare(a, b);
}

/* Those that others have, sorted: machines that do not run keep theirs. */
static struct in6_addr *used_prefixes(struct drover *d, const struct nic *but, size_t *n)
{
	struct machine *m;
	size_t count = 0;
	struct in6_addr *v;

	list_for_each_entry (m, &d->machines, entry)
		count += m->nnics;
	v = calloc(count + 1, sizeof(*v));
	count = 0;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; v != NULL && i < m->nnics; i++)
			if (&m->nics[i] != but && m->nics[i].prefix6.len != 0)
				v[count++] = m->nics[i].prefix6.addr;
	}
	if (v != NULL)
		qsort(v, count, sizeof(*v), compare_prefixes);
	*n = count;
	return v;
}

static bool is_used(const struct in6_addr *a, const struct in6_addr *used, size_t n)
{
	return bsearch(a, used, n, sizeof(*used), compare_prefixes) != NULL;
}

/* Of n + 1 in a row one is free, if the pool has so many. */
static struct ip6_prefix first_free(
	const struct network6 *v6, uint64_t start, const struct in6_addr *used, size_t n)
{
	uint64_t count = network6_ndelegated(v6);

	for (uint64_t i = 0; i < count && i <= n; i++) {
		struct ip6_prefix p = network6_delegated(v6, (start + i) % count);

		if (!is_used(&p.addr, used, n))
			return p;
	}
	return (struct ip6_prefix){ .len = 0 };
}

int network6_choose_prefix(
	struct drover *d, const struct network6 *v6, struct nic *nic, struct err *err)
{
	struct in6_addr *used;
	size_t n;

	if (v6->pool.len == 0 || nic->bare) {
		nic->prefix6 = (struct ip6_prefix){ .len = 0 };
		return 0;
	}
	used = used_prefixes(d, nic, &n);
	if (used == NULL)
		return err_nomem(err);
	/* What it was given before it keeps. */
	if (nic->prefix6.len != v6->delegated || !ip6_in(&v6->pool, &nic->prefix6.addr) ||
		is_used(&nic->prefix6.addr, used, n))
		nic->prefix6 = first_free(v6, strtoull(nic->tap + 3, NULL, 16), used, n);
	free(used);
	return nic->prefix6.len != 0
		       ? 0
		       : err_set(err, -EADDRNOTAVAIL,
				 "all prefixes of its delegate are given to machines");
}

bool network6_guest_prefix(const struct nic *nic, char out[IP6_TEXT + 4])
{
	if (nic->prefix6.len != 0)
		ip6_prefix_format(&nic->prefix6, out);
	return nic->prefix6.len != 0;
}
