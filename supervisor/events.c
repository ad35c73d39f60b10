#include "supervisor/events.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/json.h"
#include "lib/list.h"
#include "lib/log.h"
#include "supervisor/events-read.h"

#define PENDING_MAX (1u << 20)

struct events {
	char *path, *old_path; /* NULL: in memory alone */
	int fd;
	uint64_t size, max_bytes;
	uint64_t last;
	struct buf pending; /* lines that could not be written yet; without a file all of them */
	bool failing;
	struct list subs;
	struct list deliveries; /* events that subscribers have not had yet */
	bool delivering;
};

struct events_sub {
	struct list link;
	struct events *events;
	events_fn *fn;
	void *arg;
	uint64_t from; /* the last event before it subscribed */
	bool dead;
};

struct delivery {
	struct list link;
	uint64_t seq;
	size_t len;
	char line[];
};

/* The number of the last event in the rotated file, 0 if there is none. */
static uint64_t last_of_old(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t end, seq = 0;
	struct stat st;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) == 0)
		events_find_end(fd, (uint64_t)st.st_size, &end, &seq);
	close(fd);
	return seq;
}

static int open_file(struct events *ev, struct err *err)
{
	uint64_t end;
	struct stat st;
	int ret;

	ev->fd = open(ev->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (ev->fd < 0 || fstat(ev->fd, &st) != 0)
		return err_errno(err, -errno, "open %s", quote(ev->path));
	ret = events_find_end(ev->fd, (uint64_t)st.st_size, &end, &ev->last);
	if (ret != 0)
		return err_errno(err, ret, "read %s", quote(ev->path));
	if (end < (uint64_t)st.st_size) {
		log_warn("%s: ignoring %llu bytes of a broken line at its end", quote(ev->path),
			(unsigned long long)((uint64_t)st.st_size - end));
		if (ftruncate(ev->fd, (off_t)end) != 0)
			return err_errno(err, -errno, "truncate %s", quote(ev->path));
	}
	ev->size = end;
	if (ev->last == 0)
		ev->last = last_of_old(ev->old_path);
	return 0;
}

int events_open(
	struct events **out, uv_loop_t *loop, const char *path, uint64_t max_bytes, struct err *err)
{
	struct events *ev = calloc(1, sizeof(*ev));
	int ret;

	if (ev == NULL)
		return err_nomem(err);
	ev->fd = -1;
	ev->max_bytes = max_bytes;
	list_init(&ev->subs);
	list_init(&ev->deliveries);
	if (path != NULL) {
		ev->path = strdup(path);
		ev->old_path = str_printf("%s.1", path);
		ret = ev->path != NULL && ev->old_path != NULL ? open_file(ev, err)
							       : err_nomem(err);
		if (ret != 0) {
			events_close(ev);
			return ret;
		}
	}
	*out = ev;
	return 0;
}

void events_close(struct events *ev)
{
	struct events_sub *sub, *tmp;

	if (ev == NULL)
		return;
	list_for_each_entry_safe (sub, tmp, &ev->subs, link)
		free(sub);
	if (ev->fd >= 0)
		close(ev->fd);
	buf_finish(&ev->pending);
	free(ev->path);
	free(ev->old_path);
	free(ev);
}

uint64_t events_last(const struct events *ev)
{
	return ev->last;
}

static bool is_in_place(const struct events *ev)
{
	struct stat ours, there;

	return fstat(ev->fd, &ours) == 0 && stat(ev->path, &there) == 0 &&
	       ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

/* The first line of the new file holds the number that a daemon after us goes on from. */
void events_check(struct events *ev)
{
	struct stat st;
	int fd;

	if (ev->fd < 0 || is_in_place(ev))
		return;
	fd = open(ev->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0 || fstat(fd, &st) < 0) {
		log_error(
			"%s is gone, and there is no other: %s", quote(ev->path), strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	log_warn("%s was moved or deleted: begun anew", quote(ev->path));
	close(ev->fd);
	ev->fd = fd;
	ev->size = (uint64_t)st.st_size;
	events_emit(ev, "drover", NULL, "log-begun-anew", NULL);
}

static void rotate(struct events *ev)
{
	int fd;

	if (rename(ev->path, ev->old_path) != 0) {
		log_error("rename %s: %s", quote(ev->path), strerror(errno));
		return;
	}
	fd = open(ev->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (fd < 0) {
		log_error("open %s: %s", quote(ev->path), strerror(errno));
		return; /* goes on in the renamed one */
	}
	close(ev->fd);
	ev->fd = fd;
	ev->size = 0;
}

/*
 * Writes what is pending with one write(). A disk that is full must not make the daemon deaf: the
 * lines wait in memory, and what does not fit there is lost.
 */
static void flush(struct events *ev)
{
	ssize_t n;
	int error;

	if (ev->fd < 0)
		return;
	if (ev->max_bytes > 0 && ev->size > 0 && ev->size + ev->pending.len > ev->max_bytes)
		rotate(ev);
	n = write(ev->fd, ev->pending.data, ev->pending.len);
	error = n < 0 ? errno : ENOSPC;
	if (n == (ssize_t)ev->pending.len) {
		ev->size += (uint64_t)n;
		/* Most of the time one line: its memory is not worth keeping. */
		buf_finish(&ev->pending);
		if (ev->failing)
			log_info("%s is written again", quote(ev->path));
		ev->failing = false;
		return;
	}
	if (n > 0 && ftruncate(ev->fd, (off_t)ev->size) != 0)
		log_error("truncate %s: %s", quote(ev->path), strerror(errno));
	if (!ev->failing)
		log_error("write %s: %s", quote(ev->path), strerror(error));
	ev->failing = true;
}

static void make_room(struct events *ev, size_t len)
{
	size_t drop = 0;

	while (ev->pending.len - drop > 0 && ev->pending.len - drop + len > PENDING_MAX) {
		const char *nl = memchr(ev->pending.data + drop, '\n', ev->pending.len - drop);

		drop = nl != NULL ? (size_t)(nl - ev->pending.data) + 1 : ev->pending.len;
	}
	if (drop > 0)
		buf_drop(&ev->pending, drop);
}

static json_t *make_event(
	uint64_t seq, const char *kind, const char *name, const char *event, const json_t *more)
{
	json_t *obj = json_object();
	char time[32];

	format_time(time, clock_unix_ms());
	if (json_put_int(obj, "seq", (int64_t)seq) == 0 && json_put_str(obj, "time", time) == 0 &&
		json_put_str(obj, "kind", kind) == 0 && json_put_str(obj, "name", name) == 0 &&
		json_put_str(obj, "event", event) == 0 &&
		(more == NULL || json_object_update_missing(obj, (json_t *)more) == 0))
		return obj;
	json_decref(obj);
	return NULL;
}

/*
 * An event that a subscriber emits is queued behind the one at hand, so that all subscribers see
 * them in the order of their numbers.
 */
static void deliver(struct events *ev)
{
	struct events_sub *sub, *tmp;
	struct delivery *d;

	if (ev->delivering)
		return;
	ev->delivering = true;
	while ((d = list_first(&ev->deliveries, struct delivery, link)) != NULL) {
		list_remove(&d->link);
		list_for_each_entry (sub, &ev->subs, link) {
			if (!sub->dead && d->seq > sub->from)
				sub->fn(sub->arg, d->seq, d->line, d->len);
		}
		free(d);
	}
	ev->delivering = false;
	list_for_each_entry_safe (sub, tmp, &ev->subs, link) {
		if (sub->dead) {
			list_remove(&sub->link);
			free(sub);
		}
	}
}

uint64_t events_emit(
	struct events *ev, const char *kind, const char *name, const char *event, json_t *more)
{
	uint64_t seq = ev->last + 1;
	json_t *obj = make_event(seq, kind, name, event, more);
	char *line = obj != NULL ? json_text(obj) : NULL;
	size_t len = line != NULL ? strlen(line) : 0;
	struct delivery *d = line != NULL ? malloc(sizeof(*d) + len + 1) : NULL;

	json_decref(more);
	json_decref(obj);
	if (d == NULL) {
		free(line);
		return 0;
	}
	d->seq = seq;
	d->len = len;
	memcpy(d->line, line, len + 1);
	free(line);
	make_room(ev, len + 1);
	buf_add(&ev->pending, d->line, len);
	buf_add(&ev->pending, "\n", 1);
	if (ev->pending.bad) {
		buf_finish(&ev->pending);
		free(d);
		return 0;
	}
	ev->last = seq;
	flush(ev);
	list_append(&ev->deliveries, &d->link);
	deliver(ev);
	return seq;
}

static int replay_old(struct events *ev, uint64_t since, events_fn *fn, void *arg)
{
	int fd = open(ev->old_path, O_RDONLY | O_CLOEXEC), ret;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	ret = fstat(fd, &st) == 0 ? events_read_file(fd, (uint64_t)st.st_size, since, fn, arg)
				  : -errno;
	close(fd);
	return ret;
}

int events_replay(struct events *ev, uint64_t since, events_fn *fn, void *arg, struct err *err)
{
	struct buf waiting = { 0 };
	int ret = 0;

	if (since >= ev->last)
		return 0;
	/* fn may emit; what is new then is the business of subscribers. */
	buf_add(&waiting, buf_str(&ev->pending), ev->pending.len);
	if (ev->fd >= 0) {
		uint64_t size = ev->size;
		int fd = fcntl(ev->fd, F_DUPFD_CLOEXEC, 3);

		ret = fd < 0 ? -errno : replay_old(ev, since, fn, arg);
		if (ret == 0)
			ret = events_read_file(fd, size, since, fn, arg);
		if (fd >= 0)
			close(fd);
	}
	if (ret == 0 && !waiting.bad)
		events_read_lines(buf_str(&waiting), waiting.len, since, fn, arg);
	buf_finish(&waiting);
	return ret == 0 ? 0 : err_errno(err, ret, "read the events");
}

struct events_sub *events_subscribe(struct events *ev, events_fn *fn, void *arg)
{
	struct events_sub *sub = calloc(1, sizeof(*sub));

	if (sub == NULL)
		return NULL;
	sub->events = ev;
	sub->fn = fn;
	sub->arg = arg;
	sub->from = ev->last;
	list_append(&ev->subs, &sub->link);
	return sub;
}

void events_unsubscribe(struct events_sub *sub)
{
	if (sub == NULL)
		return;
	if (sub->events->delivering) {
		sub->dead = true;
		return;
	}
	list_remove(&sub->link);
	free(sub);
}
