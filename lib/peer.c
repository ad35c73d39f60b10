#include "lib/peer.h"

#include <unistd.h>

#include "lib/util.h"

/* More than a peer has; with more of them it is not admitted by its group. */
#define GROUPS_MAX 1024

#ifndef SO_PEERGROUPS
#define SO_PEERGROUPS 59
#endif

bool peer_credentials(int fd, struct ucred *out)
{
	socklen_t len = sizeof(*out);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, out, &len) == 0 && out->uid != (uid_t)-1;
}

static bool has_group(int fd, gid_t group)
{
	gid_t groups[GROUPS_MAX];
	socklen_t len = sizeof(groups);

	/* The groups that the peer had when it connected; no look-up by name or pid can be fooled. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &len) != 0)
		return false;
	for (size_t i = 0; i < len / sizeof(groups[0]); i++) {
		if (groups[i] == group)
			return true;
	}
	return false;
}

bool peer_allowed(int fd, const struct ucred *peer, gid_t group)
{
	if (peer->uid == 0 || peer->uid == geteuid())
		return true;
	return group != (gid_t)-1 && (peer->gid == group || has_group(fd, group));
}
