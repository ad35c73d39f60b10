/* Which disk a machine's I/O goes to, for io.max: supervisor/cgroup.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/cgroup.h"

/* Of a partition the disk: /sys/dev/block/MAJ:MIN leads into the disk's own folder. */
static void whole_disk(const char *sys, unsigned *maj, unsigned *min)
{
	char *partition = str_printf("%s/dev/block/%u:%u/partition", sys, *maj, *min);
	char *disk = str_printf("%s/dev/block/%u:%u/../dev", sys, *maj, *min);
	unsigned a, b;
	char line[32];

	if (partition != NULL && disk != NULL && access(partition, F_OK) == 0 &&
		file_read_line(disk, line, sizeof(line), NULL) == 0 &&
		sscanf(line, "%u:%u", &a, &b) == 2) {
		*maj = a;
		*min = b;
	}
	free(partition);
	free(disk);
}

int cgroup_io_device(const char *sys, const char *path, unsigned *out_major, unsigned *out_minor,
	struct err *err)
{
	unsigned maj, min;
	struct stat st;
	dev_t dev;

	if (stat(path, &st) < 0)
		return err_errno(err, -errno, "look at %s", quote(path));
	dev = S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev;
	maj = major(dev);
	min = minor(dev);
	if (maj == 0)
		return err_set(err, -ENODEV,
			"io.max: the filesystem of %s has no block device of its own", quote(path));
	whole_disk(sys, &maj, &min);
	*out_major = maj;
	*out_minor = min;
	return 0;
}
