/* Which address is whose: kept ones, those of the configuration, given and given back. */
#include "supervisor/address-book.h"

#include <string.h>
#include "tests/unit/drover-rig.h"

static const char text[] = "[network lab]\nkind = nat\ncidr = 10.0.0.0/16\n"
			   "[template t]\nkernel = /k\n"
			   "[vm a]\ntemplate = t\nnetwork = lab address=10.0.0.9\n"
			   "[vm b]\ntemplate = t\nnetwork = lab\n"
			   "[vm c]\ntemplate = t\nnetwork = lab\n";

#define IP(n) (0x0a000000u + (n))

static struct nic *nic_of(struct machine *m, const char *tap, uint32_t address)
{
	struct nic *nic = &m->nics[0];

	m->nnics = 1;
	nic->tap_fd = -1;
	snprintf(nic->tap, sizeof(nic->tap), "%s", tap);
	nic->address = address;
	return nic;
}

static void who_has_what(void **state)
{
	struct nic *a, *b, *c;
	struct drover_rig r;
	struct drover *d = &r.d;

	drover_rig_init(&r, text);
	a = nic_of(drover_rig_machine(&r, "a"), "tapa", 0);
	b = nic_of(drover_rig_machine(&r, "b"), "tapb", IP(5));
	c = nic_of(drover_rig_machine(&r, "c"), "tapc", IP(5));
	/* One that the configuration has given is nobody else's, kept ones are their nics'. */
	assert_int_equal(address_is_taken(d, b, IP(9)), 1);
	assert_int_equal(address_is_taken(d, b, IP(5)) + address_is_taken(d, c, IP(5)), 1);
	assert_int_equal(address_is_taken(d, a, IP(5)), 1);
	assert_int_equal(address_is_taken(d, a, IP(6)), 0);
	assert_int_equal(address_take(d, a, IP(6)), 0);
	assert_int_equal(address_is_taken(d, a, IP(6)), 0);
	assert_int_equal(address_is_taken(d, b, IP(6)), 1);
	/* What nobody has any more is free after the drop. */
	assert_int_equal(address_is_taken(d, c, IP(6)), 1);
	address_book_drop(d);
	assert_int_equal(address_is_taken(d, c, IP(6)), 0);
	b->address = IP(7);
	c->address = 0;
	address_book_drop(d);
	assert_int_equal(address_is_taken(d, c, IP(5)), 0);
	assert_int_equal(address_is_taken(d, c, IP(7)), 1);
	drover_rig_finish(&r);
}

static void many(void **state)
{
	struct drover_rig r;
	struct drover *d = &r.d;
	struct nic nic = { .address = 0 };

	drover_rig_init(&r, text);
	for (unsigned i = 10; i < 20000; i += 2) {
		snprintf(nic.tap, sizeof(nic.tap), "tap%u", i);
		assert_int_equal(address_take(d, &nic, IP(i)), 0);
	}
	snprintf(nic.tap, sizeof(nic.tap), "another");
	for (unsigned i = 10; i < 20000; i++)
		assert_int_equal(address_is_taken(d, &nic, IP(i)), i % 2 == 0);
	drover_rig_finish(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_has_what),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests_name("address_book", tests, NULL, NULL);
}
