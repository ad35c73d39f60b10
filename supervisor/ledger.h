/*
 * supervisor/ledger.h - who owns what on the host: every TAP, firewall element, process, changed
 * setting and folder that droverd makes is written down here, with its owner, before it is made,
 * and crossed out after it is gone. Loop thread.
 *
 * One small file for each owner below run_dir/ledger (tmpfs: it dies with the boot, as do the
 * objects), replaced by rename. A crash between any two steps leaves an entry whose object may or
 * may not be there; releasing an object that is not there is no error.
 *
 * An object that could not be released stays, marked as failed: this release passes it over, and
 * the reconciler tries it again.
 */
#ifndef DROVER_SUPERVISOR_LEDGER_H
#define DROVER_SUPERVISOR_LEDGER_H

#include <jansson.h>
#include "lib/err.h"
#include "lib/list.h"

struct ledger;

enum object_kind {
	OBJECT_DIR,       /* name: path of a folder, removed with what is in it */
	OBJECT_NFT_TABLE, /* the table inet drover */
	OBJECT_SYSCTL,    /* name: key; data: {ours, old} */
	OBJECT_TAP,       /* name: of the link */
	OBJECT_NFT_TAP,   /* name: of the TAP; data: {net, nat} */
	/*
	 * name: of the service; data: {pid, starttime}, missing before the spawn; died_seq when it
	 * has died: the number of the event that says so.
	 */
	OBJECT_PROCESS,
	OBJECT_CGROUP, /* name: path of a cgroup; what is in it is killed */
	OBJECT_BRIDGE, /* name: of a bridge that we have made */
	OBJECT_PORT, /* name: of a link of the host's that is a port; data: {bridge, up}, as it was before */
	/* name: of a TAP or a bridge; data: what of it is in sets (netcfg/firewall-set.h) */
	OBJECT_NFT_ELEMENTS,
	/* name: path of a file by which a network's dnsmasq knows a nic; data: {network} */
	OBJECT_RESERVATION,
	OBJECT_IFB,    /* name: of the TAP whose way in it is (netcfg/shape.h) */
	OBJECT_MIRROR, /* name: an address of a bridge; data: {bridge, registry} */
	/* name: "10.0.0.1/24", of either family, on a bridge of the host's own; data: {link} */
	OBJECT_ADDRESS,
	/* name: "delegated PREFIX"; data: {to, via, tap}, a route (supervisor/network6-serve.h) */
	OBJECT_ROUTE,
	OBJECT_KINDS
};
const char *object_kind_name(enum object_kind kind);

struct object {
	struct list entry; /* in its owner, in the order of making */
	enum object_kind kind;
	char *name;
	json_t *data; /* may be NULL */
	uint64_t generation;
	bool failed; /* its release did */
	bool going;  /* is being released, by this daemon: others make it no more */
};

/* "vm/web-1", "net", "registry/ghcr" */
struct ledger_owner {
	struct list entry;
	char *name;
	struct list objects;
};

/*
 * Reads what an earlier daemon has left; dir is made. What was written in another boot than this
 * one (its boot id) is gone, and forgotten, but for folders. No entry is marked as failed.
 */
int ledger_open(struct ledger **out, const char *dir, const char *boot, struct err *err);
void ledger_close(struct ledger *l);

/*
 * Writes the object down (on tmpfs, at once). An entry of the same owner, kind and name gets the
 * new data. data is taken over.
 */
int ledger_add(struct ledger *l, const char *owner, enum object_kind kind, const char *name,
	json_t *data, struct err *err);
void ledger_remove(struct ledger *l, const char *owner, enum object_kind kind, const char *name);
/* NULL when there is none. */
struct object *ledger_find(
	struct ledger *l, const char *owner, enum object_kind kind, const char *name);
/* The object made last that is not marked as failed, which is the next to go; NULL: none. With
 * suffix only of those whose name ends in it. */
struct object *ledger_last(struct ledger *l, const char *owner, const char *suffix);
bool ledger_has(struct ledger *l, const char *owner); /* any object, failed ones too */
/* Marks it; ledger_add() takes the mark off again, and ledger_retry() those of all its objects. */
void ledger_fail(struct ledger *l, const char *owner, enum object_kind kind, const char *name);
void ledger_retry(struct ledger *l, const char *owner);
/* Owners that have objects, for the start and the reconciler. */
struct list *ledger_owners(struct ledger *l);

#endif
