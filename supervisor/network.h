/*
 * supervisor/network.h - the nics of machines on the networks of the configuration: subnet, TAP,
 * firewall, dnsmasq; and the host's settings while any of them needs them. Loop thread.
 *
 * Everything made is in the ledger under the machine's owner (or "host"), and goes by
 * objects_release(), whether it was made by this daemon or an earlier one.
 */
#ifndef DROVER_SUPERVISOR_NETWORK_H
#define DROVER_SUPERVISOR_NETWORK_H

#include "supervisor/machine.h"

struct survey;
struct survey_tap;

/* Its section: as the run began, or one that has come since; NULL: there is none. */
const struct network_config *network_of_nic(const struct machine *m, const struct nic *nic);
unsigned network_mtu(const struct machine *m, const struct nic *nic); /* 0: the usual one */
/* Whether it has been given its place on the network, now or by an earlier daemon. */
bool network_attached(const struct nic *nic);
/* What the guest has, or will have when it asks. */
bool network_guest_address(const struct nic *nic, uint32_t *out);
/* Whether what serves this nic (addresses, names) is not there. */
bool network_service_down(const struct drover *d, const struct nic *nic);

/*
 * Of a nic whose network is inside of the hypervisor. out->forwards is malloc'd, the strings are
 * the configuration's and m's.
 */
struct hv_user_net;
int network_user_spec(
	const struct machine *m, const struct nic *nic, struct hv_user_net *out, struct err *err);
/*
 * Where the host itself reaches a port of m: the guest's address, or 127.0.0.1 and the port that
 * is forwarded to it. false: not at all.
 */
bool network_reach(const struct machine *m, unsigned *port, char address[16]);

typedef void network_done_fn(void *arg, const struct err *err);

/*
 * Gives nic i of m its subnet (kept in m->nics) and makes its link: TAP, address, firewall
 * element, dnsmasq. m->nics[i].tap_fd is open afterwards. done exactly once, not before this
 * returns. What was made before a failure stays for the teardown.
 */
void network_attach(struct machine *m, unsigned i, network_done_fn *done, void *arg);
void network_close_tap(struct nic *nic);
/* For an adopted machine: watches the dnsmasq that an earlier daemon started, starts a new one
 * where it is gone. */
void network_adopt(struct machine *m);
/* The same for one nic, whether it was tried before or not. */
int network_adopt_nic(struct machine *m, struct nic *nic, struct err *err);
/* Lets go of the services of m's nics; they live on. */
void network_release(struct machine *m);

/* The alias of the TAPs of owner, "drover RUN_DIR vm/NAME": their sign. malloc'd, or NULL. */
char *network_alias(struct drover *d, const char *owner);
/* Gives a TAP that was just made, or made again, its alias and MAC; its number goes into nic. */
int network_mark_tap(struct machine *m, struct nic *nic, struct err *err);
/* Address or bridge, up, and the link's own settings; what is so already is no error. */
int network_set_link(struct machine *m, const struct nic *nic, struct err *err);
/* Whether they are not as they were set; then text says what. */
bool network_link_differs(const struct machine *m, const struct nic *nic, const struct survey *s,
	const struct survey_tap *tap, struct buf *text);

/*
 * Releases all that the ledger has for owner, last made first, and crosses it out. done exactly
 * once, not before this returns. What cannot be released is logged and stays in the ledger.
 */
void objects_release(struct drover *d, const char *owner, void (*done)(void *arg), void *arg);

/* The same for what belongs to the TAP alone: it, its firewall element, its dnsmasq. */
void objects_release_tap(
	struct drover *d, const char *owner, const char *tap, void (*done)(void *arg), void *arg);

/* Says once, at start, which foreign rule will block guests. */
void network_check_foreign(struct drover *d);
/* Host settings go when the last nic that needed them has gone. */
void network_host_check(struct drover *d, void (*done)(void *arg), void *arg);

#endif
