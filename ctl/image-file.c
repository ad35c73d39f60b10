/* drover image import, export. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl/api.h"
#include "ctl/image.h"
#include "lib/json.h"

/* As the daemon, whose folder is another, finds it; malloc'd. What has a scheme stays. */
static char *absolute(const char *path)
{
	static const char *const schemes[] = { "oci:", "oci-archive:", "docker-archive:", "file:" };
	char *folder, *out;

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++) {
		if (str_starts(path, schemes[i]))
			return strdup(path);
	}
	if (path[0] == '/')
		return strdup(path);
	folder = getcwd(NULL, 0);
	out = folder != NULL ? str_printf("%s/%s", folder, path) : NULL;
	free(folder);
	return out;
}

static int with_file(
	struct ctl *c, const char *what, const char *file, const char *key, const char *value)
{
	json_t *body = json_object();
	char *path = absolute(file);

	if (path == NULL) {
		ctl_fail("%s: no memory, or no folder that it could be in", file);
		json_decref(body);
		return CTL_FAILED;
	}
	json_put_str(body, "file", path);
	json_put_str(body, key, value);
	free(path);
	return image_follow(c, what, body);
}

int verb_image_import(struct ctl *c)
{
	return with_file(c, "/images/import", c->args.v[0], "name", ctl_opt(c, "name"));
}

int verb_image_export(struct ctl *c)
{
	const char *to = ctl_opt(c, "to");

	if (to == NULL) {
		ctl_fail("which file? --to FILE is missing");
		return CTL_USAGE;
	}
	return with_file(c, "/images/export", to, "reference", c->args.v[0]);
}
