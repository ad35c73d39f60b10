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

#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"
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
	return str_starts(name, "volume-") || strcmp(name, "disk.raw") == 0 ||
	       strcmp(name, "disk.raw.part") == 0;
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

/* Whether there was anything. */
static bool collect(struct machine *m, const char *away)
{
	DIR *dir = opendir(m->dir);
	struct dirent *e;
	bool any = false;

	while (dir != NULL && (e = readdir(dir)) != NULL) {
		if (!is_disk(e->d_name))
			continue;
		if (!any && mkdir(away, 0700) < 0) {
			log_msg(LOG_LVL_WARN, m->name,
				"its disks are not thrown away: mkdir %s: %s", quote(away),
				strerror(errno));
			break;
		}
		any = true;
		take(m, e->d_name, away);
	}
	if (dir != NULL)
		closedir(dir);
	return any;
}

void machine_throw_disks(struct machine *m)
{
	char *away = str_printf("%s/thrown.%llu.tmp", m->dir, (unsigned long long)clock_mono_ms());

	/* If it goes wrong the next start sees to it once more. */
	m->disk_stale = true;
	free(m->disk_path);
	m->disk_path = NULL;
	if (away != NULL && collect(m, away)) {
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
