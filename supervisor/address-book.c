#include "supervisor/address-book.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "supervisor/network-values.h"

struct entry {
	uint32_t address; /* 0: free */
	char tap[16];     /* whose; "": the configuration's */
};

struct address_book {
	struct config_box *box; /* that it was made for */
	struct entry *v;
	size_t n, cap; /* a power of two */
};

/* Open addressing; the multiplier is 2^32 over the golden ratio. */
static struct entry *place(const struct address_book *b, uint32_t address)
{
	size_t i = (address * 2654435769u) & (b->cap - 1);

	while (b->v[i].address != 0 && b->v[i].address != address)
		i = (i + 1) & (b->cap - 1);
	return &b->v[i];
}

static int grow(struct address_book *b)
{
	struct address_book bigger = { .cap = b->cap == 0 ? 256 : b->cap * 2 };

	bigger.v = calloc(bigger.cap, sizeof(*bigger.v));
	if (bigger.v == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < b->cap; i++)
		if (b->v[i].address != 0)
			*place(&bigger, b->v[i].address) = b->v[i];
	free(b->v);
	b->v = bigger.v;
	b->cap = bigger.cap;
	return 0;
}

/* Whoever has it already keeps it. */
static int enter(struct address_book *b, uint32_t address, const char *tap)
{
	struct entry *e;

	if ((b->n + 1) * 2 > b->cap && grow(b) < 0)
		return -ENOMEM;
	e = place(b, address);
	if (e->address == 0) {
		e->address = address;
		snprintf(e->tap, sizeof(e->tap), "%s", tap);
		b->n++;
	}
	return 0;
}

/* By a machine's configuration, which goes before what others kept. */
static int enter_fixed(struct address_book *b, const struct machine *m)
{
	struct nic_spec s;
	int r = 0;

	for (size_t i = 0; r == 0 && m->cfg != NULL && i < m->cfg->networks.n; i++) {
		if (strstr(m->cfg->networks.v[i], "address=") != NULL &&
			nic_spec_parse(m->cfg->networks.v[i], &s, NULL) == 0 && s.address != 0)
			r = enter(b, s.address, "");
	}
	return r;
}

static int fill(struct address_book *b, struct drover *d)
{
	struct machine *m;
	int r = 0;

	list_for_each_entry (m, &d->machines, entry)
		r = r == 0 ? enter_fixed(b, m) : r;
	list_for_each_entry (m, &d->machines, entry) {
		for (unsigned i = 0; r == 0 && i < m->nnics; i++) {
			if (m->nics[i].address != 0)
				r = enter(b, m->nics[i].address, m->nics[i].tap);
		}
	}
	return r;
}

void address_book_drop(struct drover *d)
{
	struct address_book *b = d->addresses;

	if (b == NULL)
		return;
	config_box_unref(b->box);
	free(b->v);
	free(b);
	d->addresses = NULL;
}

static struct address_book *current(struct drover *d)
{
	if (d->addresses != NULL && d->addresses->box == d->box)
		return d->addresses;
	address_book_drop(d);
	d->addresses = calloc(1, sizeof(*d->addresses));
	if (d->addresses == NULL)
		return NULL;
	d->addresses->box = config_box_ref(d->box);
	if (grow(d->addresses) == 0 && fill(d->addresses, d) == 0)
		return d->addresses;
	address_book_drop(d);
	return NULL;
}

int address_is_taken(struct drover *d, const struct nic *nic, uint32_t address)
{
	const struct address_book *b = current(d);
	const struct entry *e;

	if (b == NULL)
		return -ENOMEM;
	e = place(b, address);
	return e->address != 0 && strcmp(e->tap, nic->tap) != 0;
}

int address_take(struct drover *d, const struct nic *nic, uint32_t address)
{
	struct address_book *b = current(d);

	return b == NULL ? -ENOMEM : enter(b, address, nic->tap);
}
