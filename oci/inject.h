/*
 * oci/inject.h - what a machine gets written into its own clone of a disk before it starts: name
 * and SSH keys. Offline through libext2fs, no mount. Part of drover-image: blocks.
 */
#ifndef DROVER_OCI_INJECT_H
#define DROVER_OCI_INJECT_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/err.h"

struct inject_file {
	const char *name; /* "ssh_host_ed25519_key", "ssh_host_ed25519_key.pub" */
	const char *text;
};

struct inject_spec {
	const char *hostname;                /* written to /etc/hostname; NULL: left alone */
	const char *user;                    /* whose keys; NULL: "root" */
	const char *const *authorized_keys;  /* NULL-terminated lines; NULL or empty: none */
	const char *machine_id;              /* 32 hexadecimal digits; NULL: left alone */
	const struct inject_file *host_keys; /* below /etc/ssh; end with a NULL name */
	/* What a container's image lacks; only where the image does not say it itself. */
	const char *root_device; /* in /etc/fstab, "/dev/vda"; NULL: left alone */
	bool hosts;              /* localhost and the host name in /etc/hosts */
	bool network;            /* DHCP, by systemd-networkd or ifupdown if one of them is there */
	bool qcow2; /* the disk is an overlay (oci/qcow2.h), and not the filesystem itself */
};

struct inject_result {
	bool no_user;      /* the image's passwd has no such user: no keys were written */
	bool no_sshd;      /* no sshd or dropbear was found in the usual places */
	char warning[512]; /* the sentences for both; "" if there is nothing to warn of */
};

/*
 * path is an unmounted ext4 with a clean journal. Keys go to .ssh/authorized_keys (0600, .ssh
 * 0700, owned by the user) in the home that the image's /etc/passwd names, between two marker
 * lines; what was between them before is replaced, other keys stay. A machine-id replaces the one in
 * /etc, and D-Bus's copy of it, where there is one (machine-id(5): systemd makes it where there is
 * none); host keys go where there is an /etc/ssh. Symbolic links are followed
 * inside the image only. -EINVAL: no ext4, or a key or name with control characters.
 */
int inject_ext4(const char *path, const struct inject_spec *spec, struct inject_result *out,
	struct err *err);

#endif
