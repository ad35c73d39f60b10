#include "supervisor/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"

#define LISTEN_FDS_START 3 /* SD_LISTEN_FDS_START */
#define LISTEN_FDS_MAX   64
#define REEXEC_VARIABLE  "DROVER_REEXEC"

static int option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	return getsockopt(fd, SOL_SOCKET, name, &value, &len) == 0 ? value : -1;
}

static bool is_api_socket(int fd)
{
	return option(fd, SO_DOMAIN) == AF_UNIX && option(fd, SO_TYPE) == SOCK_STREAM &&
	       option(fd, SO_ACCEPTCONN) == 1;
}

static bool keep(int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return flags >= 0 && fcntl(fd, F_SETFD, flags | FD_CLOEXEC) == 0;
}

static void take_socket(struct inherited *out, int fd)
{
	int flags = fcntl(fd, F_GETFL);

	out->listen_fd = fd;
	if (flags >= 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static void take_activated(struct inherited *out)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	int n = pid != NULL && fds != NULL && atoi(pid) == getpid() ? atoi(fds) : 0;

	if (n > LISTEN_FDS_MAX)
		n = LISTEN_FDS_MAX;
	for (int fd = LISTEN_FDS_START; fd < LISTEN_FDS_START + n; fd++) {
		if (!keep(fd))
			continue;
		if (out->listen_fd < 0 && is_api_socket(fd)) {
			take_socket(out, fd);
			out->activated = true;
		} else {
			log_warn("descriptor %d given by the service manager is not a listening "
				 "Unix socket, or one too many (ignoring)",
				fd);
			close(fd);
		}
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static void take_reexec(struct inherited *out)
{
	const char *text = getenv(REEXEC_VARIABLE);
	int pid, listen_fd, lock_fd, state_fd, activated, end = 0;

	/* A pid that is not ours: somebody else's variable, inherited by mistake. */
	out->reexec = text != NULL &&
		      sscanf(text, "%d %d %d %d %d %n", &pid, &listen_fd, &lock_fd, &state_fd,
			      &activated, &end) == 5 &&
		      end > 0 && pid == getpid();
	if (out->reexec)
		out->path = strdup(text + end);
	unsetenv(REEXEC_VARIABLE);
	if (!out->reexec)
		return;
	if (listen_fd > 2 && keep(listen_fd) && is_api_socket(listen_fd)) {
		take_socket(out, listen_fd);
		out->activated = activated != 0;
	}
	if (lock_fd > 2 && keep(lock_fd))
		out->lock_fd = lock_fd;
	if (state_fd > 2 && keep(state_fd))
		out->state_lock_fd = state_fd;
}

void inherit_take(struct inherited *out)
{
	*out = (struct inherited){ .listen_fd = -1, .lock_fd = -1, .state_lock_fd = -1 };
	take_reexec(out);
	take_activated(out);
}

static int let_live(int fd)
{
	return fd >= 0 && fcntl(fd, F_SETFD, 0) < 0 ? -errno : 0;
}

int inherit_pass(const struct inherited *in, const char *path)
{
	char *text = str_printf("%d %d %d %d %d %s", (int)getpid(), in->listen_fd, in->lock_fd,
		in->state_lock_fd, in->activated, path);
	int r = text == NULL ? -ENOMEM : let_live(in->listen_fd);

	if (r == 0)
		r = let_live(in->lock_fd);
	if (r == 0)
		r = let_live(in->state_lock_fd);
	if (r == 0 && setenv(REEXEC_VARIABLE, text, 1) < 0)
		r = -errno;
	free(text);
	return r;
}

/* What we held before a re-exec, unless the folder is another one since. */
static bool is_lock(int fd, const char *path)
{
	struct stat ours, there;

	return fd >= 0 && fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
	       ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static int lock_folder(int *held, const char *dir, struct err *err)
{
	char *path = path_join(dir, "droverd.lock");
	char text[32];
	int fd;

	if (path == NULL)
		return err_nomem(err);
	if (is_lock(*held, path)) {
		free(path);
		return 0;
	}
	if (*held >= 0)
		close(*held);
	*held = -1;
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		int r = err_errno(err, -errno, "open %s", quote(path));

		free(path);
		return r;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		ssize_t n = read(fd, text, sizeof(text) - 1);

		text[MAX(n, 0)] = '\0';
		close(fd);
		err_set(err, -EBUSY, "another droverd (process %s) works with %s", str_trim(text),
			quote(dir));
		free(path);
		return -EBUSY;
	}
	snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) < 0 || write(fd, text, strlen(text)) < 0)
		log_warn("%s: %s (ignoring)", path, strerror(errno));
	free(path);
	*held = fd;
	return 0;
}

int inherit_lock(struct inherited *in, const char *run_dir, struct err *err)
{
	return lock_folder(&in->lock_fd, run_dir, err);
}

int inherit_state_lock(struct inherited *in, const char *state_dir, struct err *err)
{
	return lock_folder(&in->state_lock_fd, state_dir, err);
}

/* The path that a socket is bound to, into path; "" when it has none. */
static void socket_path(int fd, char *path, size_t cap)
{
	struct sockaddr_un sa = { 0 };
	socklen_t len = sizeof(sa);

	path[0] = '\0';
	if (getsockname(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sun_path[0] == '/')
		snprintf(path, cap, "%.*s", (int)sizeof(sa.sun_path), sa.sun_path);
}

int inherit_listen(struct inherited *in, const char *path, struct err *err)
{
	char there[sizeof(((struct sockaddr_un *)NULL)->sun_path) + 1];

	if (in->listen_fd < 0)
		return unix_listen(path, 0660, 128, &in->listen_fd, err);
	socket_path(in->listen_fd, there, sizeof(there));
	if (in->activated && strcmp(there, path) != 0)
		log_warn("the service manager's socket is %s, not %s (ignoring `listen`)",
			quote(there), quote(path));
	/* A file that somebody has removed leads nobody to the socket any more. */
	if (in->activated || (strcmp(there, path) == 0 && access(path, F_OK) == 0))
		return 0;
	close(in->listen_fd);
	in->listen_fd = -1;
	if (there[0] != '\0' && strcmp(there, path) != 0)
		unlink(there);
	return unix_listen(path, 0660, 128, &in->listen_fd, err);
}
