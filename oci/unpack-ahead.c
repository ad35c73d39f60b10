/* The unpacking process that is started first, and told later what to unpack. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/str.h"
#include "oci/digest.h"
#include "oci/unpack-private.h"

#define MEDIA_TYPE_MAX 128
/* The layers, the disk, and the pipe for what the process says. */
#define FDS_MAX (UNPACKER_LAYERS_MAX + 2)

/* In memory that both have; the parent writes it, and reads nothing of it again. */
struct order {
	struct unpack_limits limits;
	uint64_t size_bytes;
	char seed[DIGEST_MAX];
	size_t n;
	struct order_layer {
		char media_type[MEDIA_TYPE_MAX]; /* "": none */
		char diff_id[DIGEST_MAX];        /* likewise */
		bool fed;
		struct feed feed;
	} layers[UNPACKER_LAYERS_MAX];
};

struct unpacker {
	struct order *order;
	pid_t pid;        /* 0: it was waited for */
	int socket, pipe; /* for the order, and what comes of it */
	struct unpack_limits limits;
	layers_progress_fn *progress;
	void *arg;
};

/* ---- in the process ---- */

/* The descriptors; their number, or -1. */
static int receive(int from, int *fds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control;
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	ssize_t n;

	do {
		n = recvmsg(from, &m, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	c = n == 1 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return -1;
	memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	return (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
}

static void take_layer(struct layer_src *l, struct order_layer *o, int fd)
{
	*l = (struct layer_src){ .fd = fd,
		.media_type = o->media_type[0] != '\0' ? o->media_type : NULL,
		.diff_id = o->diff_id[0] != '\0' ? o->diff_id : NULL,
		.feed = o->fed ? &o->feed : NULL };
}

_Noreturn static void wait_for_order(struct order *o, int socket, pid_t parent)
{
	static struct layer_src layers[UNPACKER_LAYERS_MAX];
	static struct unpack_job j;
	int n;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	j.pipe = socket;
	unpack_close_others(&j);
	n = receive(socket, j.fds);
	if (n < 2 || (size_t)n != o->n + 2)
		_exit(1);
	j.n = o->n + 1;
	j.pipe = j.fds[o->n + 1];
	j.limits = &o->limits;
	j.run = unpack_run_disk;
	j.layers = layers;
	j.nlayers = o->n;
	j.out[0] = j.fds[o->n];
	j.disk = (struct disk_opts){ .size_bytes = o->size_bytes, .seed = o->seed };
	for (size_t i = 0; i < o->n; i++)
		take_layer(&layers[i], &o->layers[i], j.fds[i]);
	unpack_child(&j, parent);
}

/* ---- in ours ---- */

static int start(struct unpacker *u, unpack_forget_fn *forget, void *arg, struct err *err)
{
	pid_t parent = getpid();
	int fds[2];

	u->order = mmap(
		NULL, sizeof(*u->order), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (u->order == MAP_FAILED) {
		u->order = NULL;
		return err_nomem(err);
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, -errno, "socketpair");
	u->pid = fork();
	if (u->pid == 0) {
		if (forget != NULL)
			forget(arg);
		wait_for_order(u->order, fds[1], parent);
	}
	close(fds[1]);
	u->socket = fds[0];
	if (u->pid < 0) {
		u->pid = 0;
		return err_errno(err, -errno, "start the unpacking part");
	}
	return 0;
}

int unpacker_start(struct unpacker **out, unpack_forget_fn *forget, void *arg, struct err *err)
{
	struct unpacker *u = calloc(1, sizeof(*u));
	int r;

	if (u == NULL)
		return err_nomem(err);
	u->socket = u->pipe = -1;
	r = start(u, forget, arg, err);
	if (r < 0)
		unpacker_stop(u);
	else
		*out = u;
	return r;
}

struct feed *unpacker_feed(struct unpacker *u, size_t i)
{
	return &u->order->layers[i].feed;
}

static int send_fds(
	int to, const struct layer_src *layers, size_t n, int out_fd, int pipe_fd, struct err *err)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_SPACE((n + 2) * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int fds[FDS_MAX];

	for (size_t i = 0; i < n; i++)
		fds[i] = layers[i].fd;
	fds[n] = out_fd;
	fds[n + 1] = pipe_fd;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN((n + 2) * sizeof(int));
	memcpy(CMSG_DATA(c), fds, (n + 2) * sizeof(int));
	if (sendmsg(to, &m, MSG_NOSIGNAL) != 1)
		return err_errno(err, -errno, "hand the layers to the unpacking part");
	return 0;
}

int unpacker_disk(struct unpacker *u, const struct layer_src *layers, size_t n,
	const struct disk_opts *opts, const struct unpack_limits *limits, int out_fd,
	struct err *err)
{
	struct order *o = u->order;
	int fds[2], r;

	if (n > UNPACKER_LAYERS_MAX)
		return err_set(err, -ENOTSUP, "it has %zu layers", n);
	for (size_t i = 0; i < n; i++) {
		const char *type = layers[i].media_type, *id = layers[i].diff_id;

		if ((type != NULL && strlen(type) >= MEDIA_TYPE_MAX) ||
			(id != NULL && strlen(id) >= DIGEST_MAX))
			return err_set(err, -ENOTSUP, "layer %zu has names that are too long", i);
		strcpy(o->layers[i].media_type, type != NULL ? type : "");
		strcpy(o->layers[i].diff_id, id != NULL ? id : "");
		o->layers[i].fed = layers[i].feed != NULL;
		/* A layer that is there twice is told of once. */
		if (layers[i].feed != NULL && layers[i].feed != &o->layers[i].feed)
			return err_set(err, -ENOTSUP, "layer %zu has another's feed", i);
	}
	o->n = n;
	o->limits = u->limits = *limits;
	o->size_bytes = opts->size_bytes;
	snprintf(o->seed, sizeof(o->seed), "%s", opts->seed);
	u->progress = opts->progress;
	u->arg = opts->arg;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	u->pipe = fds[0];
	r = send_fds(u->socket, layers, n, out_fd, fds[1], err);
	close(fds[1]);
	return r;
}

int unpacker_result(struct unpacker *u, struct disk_result *out, struct err *err)
{
	struct unpack_job j = {
		.limits = &u->limits, .progress = u->progress, .arg = u->arg, .pipe = u->pipe
	};
	struct unpack_message m;
	int r = unpack_follow(&j, u->pid, &m, err);

	u->pid = 0;
	if (r == 0) {
		*out = m.result.disk;
		out->warning[sizeof(out->warning) - 1] = '\0';
	}
	return r;
}

void unpacker_stop(struct unpacker *u)
{
	if (u == NULL)
		return;
	if (u->pid > 0) {
		kill(u->pid, SIGKILL);
		while (waitpid(u->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	if (u->socket >= 0)
		close(u->socket);
	if (u->pipe >= 0)
		close(u->pipe);
	if (u->order != NULL)
		munmap(u->order, sizeof(*u->order));
	free(u);
}
