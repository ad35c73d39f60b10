/*
 * Files of the host that machines have as disks: two at one, and one of them writing, would tear it
 * to pieces. The hypervisors' own locks see to that; here it is said by whom (machine-steps.h).
 */
#include <errno.h>
#include <sys/stat.h>

#include "lib/json.h"
#include "supervisor/machine-steps.h"

struct wanted {
	struct stat st;
	bool readonly;
};

static bool clashes(const struct wanted *w, const char *path, bool readonly)
{
	struct stat st;

	return path != NULL && !(w->readonly && readonly) && stat(path, &st) == 0 &&
	       st.st_ino == w->st.st_ino && st.st_dev == w->st.st_dev &&
	       st.st_rdev == w->st.st_rdev;
}

static bool has_volume(const struct machine *m, const struct wanted *w)
{
	struct volume all[VOLUMES_MAX];
	bool any = false;
	size_t n = 0;

	if (machine_volumes(m, all, &n, NULL) == 0)
		for (size_t i = 0; i < n && !any; i++)
			any = clashes(w, all[i].path, all[i].readonly);
	while (n > 0)
		volume_finish(&all[--n]);
	return any;
}

static bool has_file(const struct machine *m, const struct wanted *w)
{
	const json_t *e;
	size_t i;

	if (clashes(w, m->disk_path, false) || clashes(w, m->run_cfg->cdrom, true) ||
		has_volume(m, w))
		return true;
	json_array_foreach (m->added, i, e)
		if (clashes(w, json_str(e, "path"), json_flag(e, "readonly", false)))
			return true;
	return false;
}

/* Of two that come up the one that is further has it. */
static bool holds_files(const struct machine *other, const struct machine *m)
{
	return other->run_cfg != NULL &&
	       (other->process || other->state == MACHINE_STARTING ||
		       other->state == MACHINE_RESTORING ||
		       (other->state == MACHINE_PREPARING && !m->process && other->step > m->step));
}

int machine_file_free(const struct machine *m, const char *path, bool readonly, struct err *err)
{
	struct wanted w = { .readonly = readonly };
	const struct machine *other;

	if (stat(path, &w.st) < 0)
		return err_errno(err, -errno, "%s", quote(path));
	list_for_each_entry (other, &m->d->machines, entry) {
		if (other == m ? !m->process : !holds_files(other, m))
			continue;
		if (has_file(other, &w))
			return err_set(err, -EBUSY, "%s is a disk of vm %s, which runs%s",
				quote(path), other->name, readonly ? " and writes to it" : "");
	}
	return 0;
}
