/* lib/peer.h - who is at the other end of a connected Unix socket. Any thread. */
#ifndef DROVER_LIB_PEER_H
#define DROVER_LIB_PEER_H

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

/* false: it is not a Unix socket (on TCP SO_PEERCRED succeeds, with pid 0 and uid -1). */
bool peer_credentials(int fd, struct ucred *out);
/* Root, our own uid, and members of group (-1: none) at the time they connected. */
bool peer_allowed(int fd, const struct ucred *peer, gid_t group);

#endif
