#include "ctl/programs.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "lib/file.h"

char *find_droverd(void)
{
	static const char *const beside[] = { "droverd", "../sbin/droverd" };
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash != NULL)
			*slash = '\0';
		for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
			char *path = path_join(self, beside[i]);

			if (path != NULL && access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return find_program("droverd");
}
