/*
 * netcfg/firewall.h - the tables `inet drover` and `bridge drover`, the only ones that we touch. Builders are pure and
 * tested byte for byte; what they build is one transaction for `nft -f -` (a child: libnftables is
 * GPL-2.0-only). Loop thread.
 *
 * The rules never grow with the machines: an element in a set does (FACTS, "nft": exact-match
 * sets, one element 1.5 ms whatever the size).
 */
#ifndef DROVER_NETCFG_FIREWALL_H
#define DROVER_NETCFG_FIREWALL_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>
#include "lib/str.h"
#include "netcfg/alloc.h"

/*
 * The whole table: empty sets, chains (input from our TAPs, forward both ways, masquerade for the
 * guests that have NAT when they leave by a link that is not ours). Replaces what is there in one
 * transaction: to put all back after someone flushed the ruleset, append the text of every TAP and
 * apply it as one.
 */
void firewall_table_text(struct buf *out);
void firewall_table_delete_text(struct buf *out);
/*
 * The table of what guests on a bridge may send (netcfg/firewall-set.h): there while there are such
 * networks, since not every kernel has nft for bridges.
 */
void firewall_bridge_text(struct buf *out);
void firewall_bridge_delete_text(struct buf *out);
/*
 * One element for each TAP and, with nat, one for the guest's address (network + 2). Adding what
 * is there and deleting what is not are no errors.
 */
void firewall_tap_add_text(struct buf *out, const char *tap, struct ip4_prefix net, bool nat);
void firewall_tap_delete_text(struct buf *out, const char *tap, struct ip4_prefix net, bool nat);

/* -ENOENT: the table (or a set of it) is missing; -EPERM; -ETIMEDOUT; -ECANCELED; else -EIO. */
typedef void firewall_done_fn(void *arg, const struct err *err);
/*
 * Carries out the text in one transaction. Requests made in one turn of the loop or while an nft
 * runs are gathered and go into one transaction together; if it fails each part is tried alone, in
 * order, so that an error reaches its own caller only. done fires exactly once, never before the
 * call returns; firewall_apply() returns -ENOMEM when it queued nothing, then done does not fire.
 */
struct firewall;
int firewall_create(struct firewall **out, uv_loop_t *loop, struct err *err);
int firewall_apply(struct firewall *fw, const char *text, firewall_done_fn *done, void *arg);
/*
 * What runs is finished, what waits completes with -ECANCELED. closed (may be NULL) fires on a
 * later turn of the loop, when the memory is gone. Takes NULL (closed fires at once).
 */
void firewall_destroy(struct firewall *fw, void (*closed)(void *arg), void *arg);

/* Whether nothing is queued and no nft runs; and the number of requests that were ever made. */
bool firewall_idle(const struct firewall *fw);
uint64_t firewall_requests(const struct firewall *fw);

/* What should be in the sets for one TAP. */
struct firewall_tap {
	const char *tap;
	struct ip4_prefix net;
	bool nat;
};
enum firewall_table {
	FIREWALL_INET,
	FIREWALL_BRIDGE
};
/*
 * Compares `nft -j list table ...` with what the table's text, the TAPs and the elements
 * (firewall-set.h; an array of such objects, or NULL) make of it. true: the same; else difference
 * gets a sentence for a person, "a rule of chain input was changed". Pure.
 */
bool firewall_same(enum firewall_table table, const char *nft_json, size_t len,
	const struct firewall_tap *taps, size_t n, const json_t *elements, struct buf *difference);
/*
 * Runs that nft. json is NULL with err, and also without one when there is no such table. done
 * fires exactly once, on a later turn; with -ECANCELED after firewall_list_cancel().
 */
typedef void firewall_list_fn(void *arg, const char *json, size_t len, const struct err *err);
struct firewall_list;
int firewall_list(struct firewall_list **out, uv_loop_t *loop, enum firewall_table table,
	firewall_list_fn *done, void *arg, struct err *err);
void firewall_list_cancel(struct firewall_list *list);

/*
 * Looks through `nft -j list ruleset` (and legacy iptables where its filter table is in use) for
 * what will block guests: Docker's FORWARD policy drop, firewalld, ufw, any base chain at forward
 * or input that drops by its policy or its last rule and has no rule for our TAPs. done fires
 * exactly once, on a later turn, with one sentence that names each and the line that would open
 * it, or NULL when nothing blocks.
 */
typedef void foreign_done_fn(void *arg, const char *warning, const struct err *err);
int firewall_check_foreign(uv_loop_t *loop, foreign_done_fn *done, void *arg, struct err *err);
/*
 * The pure parts of it, over nft's JSON and over `iptables-legacy -S`. What they find is appended
 * to out. false: nothing blocks.
 */
bool firewall_foreign_text(const char *nft_json, size_t len, struct buf *out);
bool firewall_foreign_legacy_text(const char *rules, struct buf *out);

#endif
