/* lib/clock.h - the two clocks. Any thread. */
#ifndef DROVER_LIB_CLOCK_H
#define DROVER_LIB_CLOCK_H

#include <stdint.h>

/* CLOCK_BOOTTIME in ms: for durations and deadlines. */
uint64_t clock_mono_ms(void);
/* CLOCK_REALTIME in ms since 1970. */
uint64_t clock_unix_ms(void);

#endif
