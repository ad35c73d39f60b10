/* The frequency of the host's TSC, for microvm under TCG: hv/qemu.h. */
#include <time.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <x86intrin.h>
#endif

#include "hv/qemu.h"

bool qemu_wants_tsc(const struct hv_spec *spec)
{
	return str_eq(spec->machine, "microvm") && spec->kernel != NULL && spec->tsc_khz == 0;
}

#if defined(__x86_64__)

/* The frequency from the processor (leaf 15h) or from the hypervisor under us (40000010h). */
static unsigned cpuid_khz(void)
{
	unsigned a, b, c, d, max = __get_cpuid_max(0, NULL);

	if (max >= 0x15) {
		__cpuid(0x15, a, b, c, d);
		if (a != 0 && b != 0 && c != 0)
			return (unsigned)((uint64_t)c * b / a / 1000);
	}
	__cpuid(1, a, b, c, d);
	if (c & (1u << 31)) {
		__cpuid(0x40000000, max, b, c, d);
		if (max >= 0x40000010) {
			__cpuid(0x40000010, a, b, c, d);
			return a;
		}
	}
	return 0;
}

static uint64_t raw_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

unsigned qemu_host_tsc_khz(void)
{
	static unsigned khz;
	uint64_t ns, tsc;

	if (khz == 0)
		khz = cpuid_khz();
	if (khz == 0) {
		/* Two milliseconds, once for the program, give it to about 0.01 per cent. */
		ns = raw_ns();
		tsc = __rdtsc();
		while (raw_ns() - ns < 2000000)
			;
		tsc = __rdtsc() - tsc;
		ns = raw_ns() - ns;
		khz = (unsigned)(tsc * 1000000 / ns);
	}
	return khz;
}

#else

unsigned qemu_host_tsc_khz(void)
{
	return 0;
}

#endif
