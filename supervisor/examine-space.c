/* Disks, folders and the clock: supervisor/examine.h. */
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include "supervisor/examine-private.h"

#define GROUP      "space"
#define SPACE_LOW  ((uint64_t)1 << 30)
#define SPACE_NONE ((uint64_t)100 << 20)
#define INODES_LOW 1000

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif
#ifndef BCACHEFS_SUPER_MAGIC
#define BCACHEFS_SUPER_MAGIC 0xca451a4e
#endif

/* The nearest folder that is there already: what will be made lies on its disk. */
static const char *nearest(const struct examination *x, const char *dir, char *path)
{
	struct stat st;
	char *slash;

	snprintf(path, PATH_MAX, "%s", examine_path(x, "%s", dir));
	while (stat(path, &st) < 0 && errno == ENOENT && (slash = strrchr(path, '/')) != NULL) {
		if (slash == path) {
			path[1] = '\0';
			break;
		}
		*slash = '\0';
	}
	return path;
}

static void check_inodes(struct examination *x, const struct statvfs *fs)
{
	if (fs->f_files > 0 && fs->f_favail < INODES_LOW)
		found(x, GROUP, "inodes", FOUND_WARN, "`drover image prune`",
			"only %llu more files can be made in %s", (unsigned long long)fs->f_favail,
			quote(x->o.state_dir));
}

static void check_space(struct examination *x)
{
	char path[PATH_MAX];
	struct statvfs fs;
	uint64_t unused;

	if (statvfs(nearest(x, x->o.state_dir, path), &fs) < 0) {
		found(x, GROUP, "space", FOUND_UNSEEN, NULL, "%s: %s", quote(x->o.state_dir),
			strerror(errno));
		return;
	}
	unused = (uint64_t)fs.f_bavail * fs.f_frsize;
	found(x, GROUP, "space",
		unused < SPACE_NONE  ? FOUND_FAIL
		: unused < SPACE_LOW ? FOUND_WARN
				     : FOUND_OK,
		"`drover image prune`, and `drover image rm` what is not needed",
		"%s are free for %s", format_size(unused), quote(x->o.state_dir));
	if ((fs.f_flag & ST_RDONLY) != 0)
		found(x, GROUP, "state-dir", FOUND_FAIL, "state_dir on a disk that can be written",
			"%s is read-only", quote(x->o.state_dir));
	check_inodes(x, &fs);
}

/* Clones of disks share blocks there; elsewhere they are overlays or sparse copies. */
static void check_reflink(struct examination *x)
{
	char path[PATH_MAX];
	struct statfs fs;

	if (statfs(nearest(x, x->o.state_dir, path), &fs) < 0)
		return;
	if (fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC ||
		fs.f_type == BCACHEFS_SUPER_MAGIC)
		found(x, GROUP, "reflink", FOUND_OK, NULL,
			"%s is on a filesystem that can share the blocks of copies",
			quote(x->o.state_dir));
	else
		found(x, GROUP, "reflink", FOUND_INFO, "state_dir on xfs or btrfs",
			"%s is on a filesystem whose files share no blocks: raw disks are copied whole",
			quote(x->o.state_dir));
}

static void check_run_dir(struct examination *x)
{
	char path[PATH_MAX];
	struct statfs fs;

	if (x->o.root != NULL) {
		found(x, GROUP, "run-dir", FOUND_UNSEEN, NULL,
			"what %s will be on shows when the system runs", quote(x->o.run_dir));
		return;
	}
	if (statfs(nearest(x, x->o.run_dir, path), &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		found(x, GROUP, "run-dir", FOUND_OK, NULL, "%s is on a tmpfs", quote(x->o.run_dir));
	else
		found(x, GROUP, "run-dir", FOUND_INFO, "run_dir on a tmpfs, such as /run/drover",
			"%s is on a disk: every small change is written to it",
			quote(x->o.run_dir));
}

/* Certificates, tokens and cloud-init need the right time, and guests get it from here. */
static void check_clock(struct examination *x)
{
	static const char fix[] = "`timedatectl set-ntp true`, or `apt-get install chrony`";
	struct timex now = { 0 };
	struct stat st;

	if (stat(examine_path(x, "/run/systemd/timesync/synchronized"), &st) == 0) {
		found(x, GROUP, "clock", FOUND_OK, NULL, "the clock is synchronized");
		return;
	}
	if (x->o.root != NULL) {
		found(x, GROUP, "clock", FOUND_UNSEEN, NULL,
			"whether the clock is right tells only the running system");
		return;
	}
	if (adjtimex(&now) < 0)
		found(x, GROUP, "clock", FOUND_UNSEEN, NULL, "the kernel's clock: %s",
			strerror(errno));
	else if ((now.status & STA_UNSYNC) != 0)
		found(x, GROUP, "clock", FOUND_INFO, fix,
			"nothing synchronizes the clock: certificates may not be valid, here and in guests");
	else
		found(x, GROUP, "clock", FOUND_OK, NULL, "the clock is synchronized");
}

void examine_space(struct examination *x)
{
	check_space(x);
	check_reflink(x);
	check_run_dir(x);
	check_clock(x);
}
