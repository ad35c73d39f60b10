/* Who may write at a console. */
#include "tests/unit/rig.h"

#include <string.h>

#include "supervisor/console-seats.h"

#define PEOPLE 4

static struct console_seats seats;
static struct console_seat at[PEOPLE];
static unsigned told[PEOPLE];

static void on_changed(void *arg)
{
	told[(struct console_seat *)arg - at]++;
}

static int setup(void **state)
{
	console_seats_init(&seats);
	memset(at, 0, sizeof(at));
	memset(told, 0, sizeof(told));
	for (size_t i = 0; i < PEOPLE; i++) {
		list_init(&at[i].entry);
		at[i].pid = (pid_t)(10 + i);
		at[i].changed = on_changed;
		at[i].arg = &at[i];
	}
	return 0;
}

static void take(size_t i, enum console_mode mode, bool force)
{
	at[i].mode = mode;
	console_seat_take(&seats, &at[i], force);
}

/* "WR..": writes, reads along, is not there. */
static void assert_seats(const char *want)
{
	char got[PEOPLE + 1] = "";

	for (size_t i = 0; i < PEOPLE; i++)
		got[i] = list_empty(&at[i].entry) ? '.' : at[i].writes ? 'W' : 'R';
	assert_string_equal(got, want);
}

static void test_alone(void **state)
{
	take(0, CONSOLE_READS, false);
	assert_seats("R...");
	take(1, CONSOLE_ALONE, false);
	assert_seats("RW..");
	assert_int_equal(told[0], 1);
	take(2, CONSOLE_ALONE, false);
	take(3, CONSOLE_SHARES, false);
	assert_seats("RWRR");
	assert_int_equal(told[1], 0);
	console_seat_leave(&seats, &at[1]);
	assert_seats("R.WR");
	assert_int_equal(told[2], 1);
	assert_int_equal(told[3], 1);
	console_seat_leave(&seats, &at[2]);
	assert_seats("R..W");
	console_seat_leave(&seats, &at[3]);
	assert_seats("R...");
	console_seat_leave(&seats, &at[3]);
}

static void test_share(void **state)
{
	take(0, CONSOLE_SHARES, false);
	take(1, CONSOLE_ALONE, false);
	take(2, CONSOLE_SHARES, false);
	assert_seats("WRW.");
	console_seat_leave(&seats, &at[0]);
	assert_seats(".RW.");
	console_seat_leave(&seats, &at[2]);
	assert_seats(".W..");
	take(2, CONSOLE_SHARES, false);
	take(3, CONSOLE_SHARES, false);
	assert_seats(".WRR");
	console_seat_leave(&seats, &at[1]);
	assert_seats("..WW");
}

static void test_force(void **state)
{
	struct buf who = { 0 };

	take(0, CONSOLE_ALONE, false);
	take(1, CONSOLE_ALONE, false);
	take(2, CONSOLE_ALONE, true);
	assert_seats("RRW.");
	assert_int_equal(told[0], 1);
	console_seats_writers(&seats, &who);
	assert_string_equal(buf_str(&who), "uid 0 (pid 12), for 0s");
	buf_finish(&who);
	/* Who lost the turn waits behind who waited already. */
	console_seat_leave(&seats, &at[2]);
	assert_seats("RW..");
	take(2, CONSOLE_READS, true);
	assert_seats("RWR.");
	/* Sharing takes from nobody who shares. */
	take(3, CONSOLE_SHARES, true);
	assert_seats("RRRW");
	console_seat_leave(&seats, &at[2]);
	take(2, CONSOLE_SHARES, true);
	assert_seats("RRWW");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_alone, setup),
		cmocka_unit_test_setup(test_share, setup),
		cmocka_unit_test_setup(test_force, setup),
	};

	return cmocka_run_group_tests_name("console seats", tests, NULL, NULL);
}
