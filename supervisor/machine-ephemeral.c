/*
 * Machines whose disks live as long as a run: supervisor/machine.h. What goes is renamed at once and
 * deleted in the pool; a daemon that is killed in between leaves a name that machine_sweep() knows.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
#include "oci/overlay.h"
#include "supervisor/machine-steps.h"
#include "supervisor/pool-work.h"

/* One that was removed from the configuration is still what it was. */
static bool is_ephemeral(const struct machine *m)
{
	return m->cfg != NULL ? m->cfg->ephemeral || m->cfg->warm
			      : str_eq(json_str(m->applied, "ephemeral"), "yes") ||
					str_eq(json_str(m->applied, "warm"), "yes");
}

/* By the names that droverd gives them in its own folder: what a user named lies elsewhere. */
static bool is_disk(const char *name)
{
	return str_starts(name, "volume-") || machine_is_own_disk(name) ||
	       strcmp(name, MACHINE_DISK ".part") == 0 ||
	       strcmp(name, MACHINE_OVERLAY ".part") == 0 || overlay_is_base(name);
}

static void take(struct machine *m, const char *name, const char *away)
{
	char *from = path_join(m->dir, name), *to = path_join(away, name);

	if (from != NULL && to != NULL && rename(from, to) < 0)
		log_msg(LOG_LVL_WARN, m->name, "%s is not thrown away: %s", quote(from),
			strerror(errno));
	free(from);
	free(to);
}

/* A folder of its own for each run's disks: the run before's may still be being deleted. */
static char *make_away(const struct machine *m)
{
	char *away = NULL;
	unsigned n = 0;
	int r;

	do {
		free(away);
		away = str_printf("%s/thrown.%u.tmp", m->dir, n++);
		r = away == NULL ? -ENOMEM : mkdir(away, 0700) < 0 ? -errno : 0;
	} while (r == -EEXIST);
	if (r < 0) {
		log_msg(LOG_LVL_WARN, m->name, "its disks are not thrown away: mkdir %s: %s",
			quote(away), strerror(-r));
		free(away);
		away = NULL;
	}
	return away;
}

/* The folder that they are in now; NULL if there was nothing. */
static char *collect(struct machine *m)
{
	DIR *dir = opendir(m->dir);
	struct dirent *e;
	char *away = NULL;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (!is_disk(e->d_name))
			continue;
		if (away == NULL && (away = make_away(m)) == NULL)
			break;
		take(m, e->d_name, away);
	}
	if (dir != NULL)
		closedir(dir);
	return away;
}

void machine_throw_disks(struct machine *m)
{
	char *away;

	/* If it goes wrong the next start sees to it once more. */
	m->disk_stale = true;
	free(m->disk_path);
	m->disk_path = NULL;
	away = collect(m);
	if (away != NULL) {
		machine_tell(m, "disk", "thrown away with the run");
		pool_remove_tree(m->d->loop, away);
	}
	free(away);
}

void machine_throw_away(struct machine *m)
{
	if (is_ephemeral(m) && !m->suspended && m->restore == NULL)
		machine_throw_disks(m);
}

void machine_throw_away_stale(struct machine *m)
{
	if ((m->run_cfg->ephemeral || m->run_cfg->warm) && m->disk_stale && m->load_dir == NULL)
		machine_throw_disks(m);
}
