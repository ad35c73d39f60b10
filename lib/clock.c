#include "lib/clock.h"

#include <time.h>

static uint64_t now_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t clock_mono_ms(void)
{
	return now_ms(CLOCK_BOOTTIME);
}

uint64_t clock_unix_ms(void)
{
	return now_ms(CLOCK_REALTIME);
}
