#include "supervisor/strays.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "supervisor/marker.h"

/* A jail that was just started may start its hypervisor behind our back: then once more. */
#define ROUNDS_MAX 10

struct strays {
	struct drover *d;
	struct known_process *known; /* by pid */
	size_t nknown;
	unsigned round, dying;
	void (*done)(void *arg);
	void *arg;
};

struct stray {
	struct strays *s;
	struct child *child;
};

static int by_pid(const void *a, const void *b)
{
	const struct known_process *x = a, *y = b;

	return x->pid < y->pid ? -1 : x->pid > y->pid;
}

static bool in_ledger(struct strays *s, const struct marked *p)
{
	const struct object *o = ledger_find(s->d->ledger, p->owner, OBJECT_PROCESS, p->name);

	return o != NULL && o->data != NULL && json_int(o->data, "pid", 0) == p->pid &&
	       (uint64_t)json_int(o->data, "starttime", 0) == p->starttime;
}

static bool is_known(struct strays *s, const struct marked *p)
{
	struct known_process key = { .pid = p->pid };
	const struct known_process *k = s->nknown == 0 ? NULL
						       : bsearch(&key, s->known, s->nknown,
								 sizeof(key), by_pid);

	return (k != NULL && k->starttime == p->starttime) || in_ledger(s, p);
}

static pid_t parent_of(pid_t pid)
{
	char path[32], *at;
	struct buf text = { 0 };
	pid_t parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	if (file_read(path, 65536, &text, NULL) == 0 && text.len > 0 &&
		(at = strstr(text.data, "\nPPid:")) != NULL)
		parent = (pid_t)strtol(at + strlen("\nPPid:"), NULL, 10);
	buf_finish(&text);
	return parent;
}

/* A server's own child, which has its environment: radvd's that keeps its rights, dnsmasq's for a
 * connection, kea's that cleans its file. */
static bool is_servers_child(
	struct strays *s, const struct marked *p, const struct marked *v, size_t n)
{
	pid_t parent = str_starts(p->owner, "net/") ? parent_of(p->pid) : 0;

	for (size_t i = 0; parent > 1 && i < n; i++) {
		if (v[i].pid == parent)
			return str_eq(v[i].owner, p->owner) && str_eq(v[i].name, p->name) &&
			       in_ledger(s, &v[i]);
	}
	return false;
}

static void next_round(struct strays *s);

static void stray_exited(void *arg, const struct child_status *status)
{
	struct stray *stray = arg;
	struct strays *s = stray->s;

	child_release(stray->child);
	free(stray);
	if (--s->dying == 0)
		next_round(s);
}

static void end_process(struct strays *s, const struct marked *p)
{
	static const struct child_stop_step steps[] = { { SIGTERM, 1000 } };
	struct stray *stray = calloc(1, sizeof(*stray));
	struct err err;

	if (stray == NULL) {
		log_error("process %d of %s cannot be ended: no memory", (int)p->pid, p->owner);
		return;
	}
	stray->s = s;
	/* Gone meanwhile: the better. */
	if (child_adopt(&stray->child, s->d->loop, p->pid, p->starttime, stray_exited, stray,
		    &err) < 0) {
		free(stray);
		return;
	}
	log_warn("process %d (%s of %s) is nobody's: droverd was killed before it wrote it down; "
		 "ending it",
		(int)p->pid, quote(p->name), quote(p->owner));
	s->dying++;
	child_stop(stray->child, steps, ARRAY_LEN(steps));
}

static void finish(struct strays *s)
{
	void (*done)(void *arg) = s->done;
	void *arg = s->arg;

	free(s->known);
	free(s);
	done(arg);
}

static void next_round(struct strays *s)
{
	struct marked *v = NULL;
	struct err err;
	size_t n = 0;

	if (marker_scan(s->d->run_dir, &v, &n, &err) < 0)
		log_error("looking for processes of ours: %s (ignoring)", err.msg);
	for (size_t i = 0; i < n && s->round < ROUNDS_MAX; i++) {
		if (!is_known(s, &v[i]) && !is_servers_child(s, &v[i], v, n))
			end_process(s, &v[i]);
	}
	marked_free(v, n);
	s->round++;
	if (s->dying == 0)
		finish(s);
}

void strays_clear(struct drover *d, const struct known_process *known, size_t n,
	void (*done)(void *arg), void *arg)
{
	struct strays *s = calloc(1, sizeof(*s));

	if (s != NULL)
		s->known = calloc(n + 1, sizeof(*s->known));
	if (s == NULL || s->known == NULL) {
		log_error("looking for processes of ours: no memory (ignoring)");
		free(s);
		done(arg);
		return;
	}
	s->d = d;
	s->done = done;
	s->arg = arg;
	s->nknown = n;
	if (n > 0) {
		memcpy(s->known, known, n * sizeof(*known));
		qsort(s->known, n, sizeof(*s->known), by_pid);
	}
	next_round(s);
}
