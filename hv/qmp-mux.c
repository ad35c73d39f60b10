#include "hv/qmp-mux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/qmp-mux-private.h"
#include "lib/file.h"
#include "lib/log.h"
#include "lib/peer.h"

#define ACCEPT_PAUSE_MS 1000
#define AWAKE_NS        100000
/* Round trips with sleep after one whose answer did not come in that time, and their most. */
#define ASLEEP_MIN 8
#define ASLEEP_MAX 1024

static void accept_cb(uv_poll_t *poll, int status, int events);

void mux_part_closed(void *arg)
{
	struct qmp_mux *m = arg;
	void (*closed)(void *arg) = m->closed;
	void *closed_arg = m->closed_arg;

	if (--m->handles > 0)
		return;
	free(m->path);
	free(m->greeting);
	free(m);
	if (closed != NULL)
		closed(closed_arg);
}

/* ---- sleep ---- */

static void on_idle(uv_idle_t *idle)
{
	struct qmp_mux *m = container_of(idle, struct qmp_mux, awake);

	if (uv_hrtime() <= m->awake_until)
		return;
	uv_idle_stop(idle);
	if (m->nflight == 0)
		return;
	m->asleep = m->asleep_next;
	m->asleep_next = MIN(2 * m->asleep_next, ASLEEP_MAX);
}

void mux_answer_came(struct qmp_mux *m)
{
	if (uv_is_active((const uv_handle_t *)&m->awake))
		m->asleep_next = ASLEEP_MIN;
	else if (m->asleep > 0)
		m->asleep--;
}

void mux_stay_awake(struct qmp_mux *m)
{
	/* With one processor it would keep the others from their work. */
	if (m->closing || m->single || m->asleep > 0)
		return;
	m->awake_until = uv_hrtime() + AWAKE_NS;
	uv_idle_start(&m->awake, on_idle);
}

/* ---- what must not happen from within a call ---- */

/* An answer to the API may end in anything but the end of the multiplexer's memory. */
static bool answer_one(struct qmp_mux *m)
{
	struct mux_client *cl;

	list_for_each_entry (cl, &m->clients, entry) {
		struct mux_command *c = list_first(&cl->commands, struct mux_command, entry);

		if (cl->stream == NULL && c != NULL && c->answered) {
			mux_command_deliver(cl);
			return true;
		}
	}
	return false;
}

static void later(void *arg)
{
	struct qmp_mux *m = arg;
	struct mux_client *cl, *next;

	list_for_each_entry_safe (cl, next, &m->clients, entry) {
		mux_client_flush(cl);
		if (!cl->dead)
			mux_client_settle(cl);
	}
	while (!m->closing && answer_one(m))
		;
	mux_command_run(m);
}

/* ---- the socket ---- */

static void accept_again(void *arg)
{
	struct qmp_mux *m = arg;

	uv_poll_start(&m->listener, UV_READABLE, accept_cb);
}

static void welcome(struct qmp_mux *m, int fd)
{
	struct hv_peer who;
	struct ucred peer;

	if (!peer_credentials(fd, &peer) || !peer_allowed(fd, &peer, m->group)) {
		log_warn("%s: turned a client away: uid %d may not use it", quote(m->path),
			(int)peer.uid);
		close(fd);
		return;
	}
	if (m->nclients >= MUX_CLIENTS_MAX) {
		log_warn("%s: turned a client away (uid %d, pid %d): there are %d already",
			quote(m->path), (int)peer.uid, (int)peer.pid, MUX_CLIENTS_MAX);
		close(fd);
		return;
	}
	who = (struct hv_peer){ .uid = peer.uid, .pid = peer.pid };
	mux_client_add(m, fd, &who);
}

static void accept_cb(uv_poll_t *poll, int status, int events)
{
	struct qmp_mux *m = container_of(poll, struct qmp_mux, listener);
	int fd = accept4(m->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0) {
		welcome(m, fd);
	} else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
		/* Without a descriptor to spare the client stays in the queue, and poll would spin. */
		log_warn("%s: accept: %s; trying again in a second", quote(m->path),
			strerror(errno));
		uv_poll_stop(&m->listener);
		deadline_set(&m->accept_again, ACCEPT_PAUSE_MS);
	}
}

int qmp_mux_listen(struct qmp_mux *m, const char *path, gid_t group, struct err *err)
{
	int r = 0;

	m->path = strdup(path);
	if (m->path == NULL)
		return err_nomem(err);
	r = unix_listen(path, group != (gid_t)-1 ? 0660 : 0600, 16, &m->listen_fd, err);
	if (r == 0 && group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
		log_warn("%s: chown: %s (ignoring)", quote(path), strerror(errno));
	if (r == 0) {
		r = uv_poll_init(m->loop, &m->listener, m->listen_fd);
		if (r < 0) {
			close(m->listen_fd);
			m->listen_fd = -1;
			unlink(path);
			err_errno(err, r, "watch %s", quote(path));
		}
	}
	if (r < 0) {
		free(m->path);
		m->path = NULL;
		return r;
	}
	m->group = group;
	m->handles++;
	uv_poll_start(&m->listener, UV_READABLE, accept_cb);
	return 0;
}

void qmp_mux_set_write(struct qmp_mux *m, bool write)
{
	m->write = write;
}

/* ---- the monitor's side ---- */

void qmp_mux_ready(struct qmp_mux *m, const json_t *greeting)
{
	json_t *j = json_pack("{s:{s:O?,s:[]}}", "QMP", "version",
		json_object_get(greeting, "version"), "capabilities");
	char *text = j != NULL ? json_dumps(j, JSON_ENSURE_ASCII) : NULL;
	struct mux_client *cl, *next;

	json_decref(j);
	if (text == NULL)
		return; /* no memory: they wait for the next time */
	free(m->greeting);
	m->greeting = text;
	list_for_each_entry_safe (cl, next, &m->clients, entry) {
		mux_client_greet(cl);
		if (!cl->dead)
			mux_client_settle(cl);
	}
}

void qmp_mux_event(struct qmp_mux *m, const char *text, size_t len)
{
	struct mux_client *cl, *next;

	list_for_each_entry_safe (cl, next, &m->clients, entry)
		if (cl->stream != NULL && cl->negotiated)
			mux_client_give(cl, text, len, false);
}

void qmp_mux_lost(struct qmp_mux *m)
{
	mux_command_lost(m);
}

void qmp_mux_execute(struct qmp_mux *m, const struct hv_peer *who, const char *text, size_t len,
	bool write, hv_text_fn *reply, void *arg)
{
	struct mux_client *cl = mux_client_new(m, who);
	struct err err;

	if (cl == NULL) {
		/* The one case where the answer comes from within: nothing can be remembered. */
		err_nomem(&err);
		reply(arg, NULL, 0, &err);
		return;
	}
	cl->reply = reply;
	cl->arg = arg;
	cl->negotiated = true;
	cl->write = write;
	mux_command_take(cl, text, len);
	mux_command_run(m);
}

/* ---- life ---- */

int qmp_mux_create(
	struct qmp_mux **out, uv_loop_t *loop, const struct qmp_mux_callbacks *cb, struct err *err)
{
	struct qmp_mux *m = calloc(1, sizeof(*m));

	if (m == NULL)
		return err_nomem(err);
	m->loop = loop;
	m->cb = *cb;
	m->listen_fd = -1;
	m->group = (gid_t)-1;
	list_init(&m->clients);
	list_init(&m->turns);
	list_init(&m->flight);
	list_init(&m->fds);
	m->asleep_next = ASLEEP_MIN;
	m->single = sysconf(_SC_NPROCESSORS_ONLN) < 2;
	m->handles = 3;
	uv_idle_init(loop, &m->awake);
	deadline_init(&m->accept_again, loop, accept_again, m);
	deadline_init(&m->later, loop, later, m);
	*out = m;
	return 0;
}

static void listener_closed(uv_handle_t *h)
{
	mux_part_closed(container_of((uv_poll_t *)h, struct qmp_mux, listener));
}

static void idle_closed(uv_handle_t *h)
{
	mux_part_closed(container_of((uv_idle_t *)h, struct qmp_mux, awake));
}

/* Of the API, whose asker still waits. */
static void end_call(struct mux_client *cl)
{
	hv_text_fn *reply = cl->reply;
	void *arg = cl->arg;
	struct err err;

	mux_client_drop(cl);
	err_set(&err, -ESRCH, "the hypervisor is gone");
	reply(arg, NULL, 0, &err);
}

void qmp_mux_destroy(struct qmp_mux *m, void (*closed)(void *arg), void *arg)
{
	struct mux_client *cl;

	if (m == NULL) {
		if (closed != NULL)
			closed(arg);
		return;
	}
	m->closing = true;
	m->closed = closed;
	m->closed_arg = arg;
	mux_command_lost(m);
	while ((cl = list_first(&m->clients, struct mux_client, entry)) != NULL) {
		if (cl->stream != NULL)
			mux_client_drop(cl);
		else
			end_call(cl);
	}
	if (m->listen_fd >= 0) {
		unlink(m->path);
		uv_close((uv_handle_t *)&m->listener, listener_closed);
		close(m->listen_fd);
	}
	uv_close((uv_handle_t *)&m->awake, idle_closed);
	deadline_close(&m->accept_again, mux_part_closed);
	deadline_close(&m->later, mux_part_closed);
}
