/* lib/util.h - the few macros that every file may use. */
#ifndef DROVER_LIB_UTIL_H
#define DROVER_LIB_UTIL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/param.h> /* MIN, MAX */

#define ARRAY_LEN(a)                    (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))
#define PRINTF(fmt, args)               __attribute__((format(printf, fmt, args)))

#endif
