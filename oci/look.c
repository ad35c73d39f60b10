#include "oci/look.h"
#include <string.h>

const struct descriptor *look_feos(const struct manifest *m, const char *part)
{
	static const char prefix[] = "application/vnd.ironcore.image.";
	size_t len = strlen(part);

	for (size_t i = 0; i < m->n; i++) {
		const char *type = m->layers[i].media_type;

		if (strncmp(type, prefix, strlen(prefix)) != 0)
			continue;
		type += strlen(prefix);
		if (strncmp(type, part, len) == 0 && str_starts(type + len, ".v1alpha1"))
			return &m->layers[i];
	}
	return NULL;
}
