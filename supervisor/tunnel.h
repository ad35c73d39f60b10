/*
 * supervisor/tunnel.h - connections between sockets of hypervisors and sockets to another host: what
 * comes from one side goes to the other, until either closes; then both are closed. The hypervisors
 * connect to, and listen at, Unix sockets in the machine's run_dir only. Loop thread.
 */
#ifndef DROVER_SUPERVISOR_TUNNEL_H
#define DROVER_SUPERVISOR_TUNNEL_H

#include <uv.h>
#include "lib/err.h"

/* Connections at once. */
#define TUNNEL_MAX 20

struct tunnel;

int tunnel_create(struct tunnel **out, uv_loop_t *loop, struct err *err);
/* The next who connects to tunnel_listen()'s socket is connected with fd. fd is taken over. */
int tunnel_offer(struct tunnel *t, int fd, struct err *err);
/* Removes the socket when the last that was offered has found somebody. */
int tunnel_listen(struct tunnel *t, const char *path, struct err *err);
/* Connects to path and that with fd, which is taken over in any case. */
int tunnel_join(struct tunnel *t, int fd, const char *path, struct err *err);
/* The other host has ended a connection before the hypervisor did. May destroy the tunnel. */
typedef void tunnel_broken_fn(void *arg);
void tunnel_on_broken(struct tunnel *t, tunnel_broken_fn *broken, void *arg);
/* Closes all. Takes NULL. */
void tunnel_destroy(struct tunnel *t);

/* A listening Unix socket that only our user reaches; -errno. */
int tunnel_socket(const char *path, struct err *err);

#endif
