/*
 * supervisor/daemon-api.c - the API's socket, at start and when somebody has removed it; and what
 * else droverd itself needs that can be taken away from it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <config.h>
#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/daemon.h"
#include "supervisor/routes.h"

static int serve(struct daemon *dm, int fd, const char *path, struct server **out, struct err *err)
{
	struct drover *d = &dm->d;
	struct server_opts opts = {
		.routes = routes, .nroutes = nroutes, .arg = d, .group = d->group
	};

	/* The mode of the service manager's socket is in its unit. */
	if (d->group != (gid_t)-1 && !dm->given.activated && chown(path, (uid_t)-1, d->group) < 0)
		log_warn("%s: chown: %s (ignoring)", path, strerror(errno));
	return server_create(out, d->loop, fd, &opts, err);
}

int daemon_listen(struct daemon *dm, struct err *err)
{
	const struct drover_config *c = drover_config(&dm->d)->drover;
	char *path = c->listen != NULL ? strdup(c->listen) : path_join(c->run_dir, "api.sock");
	int r;

	if (path == NULL)
		return err_nomem(err);
	r = inherit_listen(&dm->given, path, err);
	if (r == 0)
		r = serve(dm, dm->given.listen_fd, path, &dm->server, err);
	if (r == 0)
		log_info("droverd %s listens at %s", PACKAGE_VERSION, path);
	if (r == 0)
		dm->api_path = path;
	else
		free(path);
	return r;
}

/* Nobody finds a socket whose name was removed: another one, and who is connected stays so. */
static void listen_again(struct daemon *dm)
{
	struct server *s;
	struct err err;
	int fd = -1;

	if (dm->server == NULL || dm->reexec || dm->leaving || dm->given.activated ||
		dm->api_path == NULL || access(dm->api_path, F_OK) == 0)
		return;
	if (unix_listen(dm->api_path, 0660, 128, &fd, &err) < 0 ||
		serve(dm, fd, dm->api_path, &s, &err) < 0) {
		if (fd >= 0)
			close(fd);
		log_error("the socket %s was removed, and there is no other: %s", dm->api_path,
			err.msg);
		return;
	}
	log_warn("the socket %s was removed; listening again", dm->api_path);
	server_quiesce(dm->server, 0, NULL, NULL);
	close(dm->given.listen_fd);
	dm->given.listen_fd = fd;
	server_destroy(dm->old_server, NULL, NULL);
	dm->old_server = dm->server;
	dm->server = s;
}

void daemon_look_after(struct drover *d)
{
	listen_again(daemon_of(d));
	events_check(d->events);
}
