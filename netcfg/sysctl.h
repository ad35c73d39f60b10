/*
 * netcfg/sysctl.h - host settings that are changed for guests and put back. Loop thread; reads and
 * writes of /proc/sys/net.
 */
#ifndef DROVER_NETCFG_SYSCTL_H
#define DROVER_NETCFG_SYSCTL_H

#include <stdbool.h>
#include "lib/str.h"

/* key as sysctl(8) writes it, "net.ipv4.ip_forward"; a link's name may hold dots: '/' separates
 * then ("net/ipv4/conf/tap.1/rp_filter"). Values without newline. */
int sysctl_get(const char *key, char *value, size_t cap, struct err *err);
int sysctl_set(const char *key, const char *value, struct err *err);

/*
 * Sets key to want. old gets what was there; *changed is false when it already was so (then there
 * is nothing to put back). The caller records old in the ledger before relying on it.
 */
int sysctl_change(
	const char *key, const char *want, char *old, size_t cap, bool *changed, struct err *err);
/* Writes old back if the value is still ours; someone else's later change stays. */
int sysctl_restore(const char *key, const char *ours, const char *old, struct err *err);

#endif
