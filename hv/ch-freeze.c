/*
 * hv/ch-freeze.c - a hypervisor's process that is made to stand still, so that its guest does, whatever
 * the process hears: by SIGSTOP, and then by the freezer of its cgroup, which no SIGCONT of somebody's
 * undoes (Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze: a signal that wakes a stopped
 * process leads it into the freezer before it runs; SIGKILL ends it all the same). Where it has no
 * cgroup of version 2 the signal alone has to do. A file marks that it was us who stopped it, for the next daemon.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hv/ch.h"
#include "lib/file.h"
#include "lib/log.h"

/* The state of one thread: a letter, as of proc_state(). */
static char thread_state(const char *folder, const char *thread)
{
	char path[PATH_MAX], line[512], *p;

	snprintf(path, sizeof(path), "%s/%s/stat", folder, thread);
	if (file_read_line(path, line, sizeof(line), NULL) < 0)
		return 'X';
	/* The name between the parentheses may hold anything. */
	p = strrchr(line, ')');
	return p != NULL && p[1] == ' ' ? p[2] : '?';
}

bool ch_all_stopped(pid_t pid)
{
	char folder[64];
	struct dirent *e;
	bool stopped = true;
	unsigned n = 0;
	DIR *d;

	snprintf(folder, sizeof(folder), "/proc/%d/task", (int)pid);
	d = opendir(folder);
	while (d != NULL && stopped && (e = readdir(d)) != NULL) {
		char state = e->d_name[0] != '.' ? thread_state(folder, e->d_name) : '.';

		n += state == 'T';
		stopped = state == 'T' || state == 'X' || state == 'Z' || state == '.';
	}
	if (d != NULL)
		closedir(d);
	return stopped && n > 0;
}

int ch_freeze(struct ch *c, struct err *err)
{
	int fd = open(c->frozen_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600), r;

	if (fd < 0)
		return err_errno(err, -errno, "create %s", quote(c->frozen_path));
	close(fd);
	r = c->process != NULL ? process_signal(c->process, SIGSTOP) : -ESRCH;
	if (r < 0)
		return err_errno(err, r, "stop the hypervisor");
	c->frozen = true;
	return 0;
}

/* Its jail, which is to say how it ended, is in it, too. */
static void freezer(const struct ch *c, const char *value)
{
	int fd = c->freezer_path != NULL ? open(c->freezer_path, O_WRONLY | O_CLOEXEC) : -1;

	if (fd >= 0 && write(fd, value, 1) != 1)
		log_warn("%s: %s (ignoring)", quote(c->freezer_path), strerror(errno));
	if (fd >= 0)
		close(fd);
}

void ch_hold(struct ch *c)
{
	freezer(c, "1");
}

void ch_let_end(struct ch *c)
{
	freezer(c, "0");
}

void ch_thaw(struct ch *c)
{
	freezer(c, "0");
	if (c->process != NULL)
		process_signal(c->process, SIGCONT);
	c->frozen = false;
	unlink(c->frozen_path);
}
