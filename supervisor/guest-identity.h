/*
 * supervisor/guest-identity.h - the script that makes a running guest, which was another machine until
 * just now, the machine that it is to be. Pure; any thread.
 *
 * The script goes to /bin/sh in the guest by the guest agent (guest-exec). It needs nothing but a
 * POSIX shell, and takes what the guest has: systemd, NetworkManager, ifupdown, OpenSSH, dropbear.
 * For what it cannot know there is a hook of the guest's own, GUEST_IDENTITY_HOOK.
 * Run a second time it changes nothing but the lease, which is asked for anew.
 */
#ifndef DROVER_SUPERVISOR_GUEST_IDENTITY_H
#define DROVER_SUPERVISOR_GUEST_IDENTITY_H

#include <jansson.h>
#include <stdint.h>
#include "lib/err.h"
#include "lib/str.h"

/*
 * Called with `address` as its argument once the nics have their new addresses: it gets the leases
 * anew, and then nothing else tries to.
 */
#define GUEST_IDENTITY_HOOK "/etc/drover/identity"

struct guest_nic {
	const char *was, *is; /* aa:bb:cc:dd:ee:ff */
};

struct guest_identity {
	const char *hostname, *old_hostname;
	const char *machine_id;  /* 32 digits */
	const char *seed;        /* text, stirred into the guest's random numbers */
	uint64_t now_s;          /* unix; the guest's clock stood still */
	const json_t *host_keys; /* [{name, text}], below /etc/ssh; may be NULL */
	const struct guest_nic *nics;
	size_t nnics;
};

/* Appends it; out->bad tells of missing memory. */
void guest_identity_script(const struct guest_identity *id, struct buf *out);
/* The agent's command that runs a script: guest-exec (QEMU, qga/qapi-schema.json). NULL: no memory. */
json_t *guest_exec_command(const char *script, size_t len);

#endif
