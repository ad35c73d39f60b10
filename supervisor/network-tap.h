/*
 * supervisor/network-tap.h - puts a TAP back that was deleted under a running hypervisor. Loop
 * thread.
 *
 * The hypervisor's descriptor outlives the link and can be attached to a new one (hv_tap() of
 * hv/hv.h, tap_attach() of netcfg/link.h); the guest loses some packets. What cannot be put back is
 * the machine's condition network-lost, tried again less and less often.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_TAP_H
#define DROVER_SUPERVISOR_NETWORK_TAP_H

#include "supervisor/machine.h"

/* Begins with nic i of m; what is under way already goes on. */
void network_tap_begin(struct machine *m, unsigned i);
/* -EINPROGRESS; 0 when it is back; else why not, which nic->lost and its fellows have too. */
int network_tap_result(const struct nic *nic, struct err *err);
/* Whether it was tried in vain so lately that it can wait. */
bool network_tap_can_wait(const struct nic *nic);
/* No more is heard of what is under way, and why it was lost is forgotten. */
void network_tap_forget(struct nic *nic);

#endif
