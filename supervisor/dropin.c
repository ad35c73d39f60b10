#include "supervisor/dropin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/str.h"
#include "supervisor/config.h"

static char *folder(const char *state_dir)
{
	return path_join(state_dir, DROPIN_DIR);
}

static char *file_of(const char *state_dir, const char *name)
{
	return str_printf("%s/" DROPIN_DIR "/vm-%s.ini", state_dir, name);
}

/* What two machines cannot share; what is derived from the name comes by itself. */
static bool is_own(const struct config_key *key)
{
	return strcmp(key->name, "hostname") == 0 || strcmp(key->name, "vsock") == 0 ||
	       strcmp(key->name, "warm") == 0;
}

int dropin_text(const struct vm_config *cfg, const char *name, char **out, struct err *err)
{
	struct buf text = { 0 };

	buf_printf(&text, "; Made by drover as a copy of %s; `drover rm %s --disks` removes it.\n",
		cfg->s.name, name);
	config_print_section(&cfg->s, name, is_own, &text);
	if (cfg->vsock != NULL && strcmp(cfg->vsock, "none") != 0)
		buf_adds(&text, "vsock = auto\n");
	if (text.bad) {
		buf_finish(&text);
		return err_nomem(err);
	}
	*out = buf_steal(&text);
	return 0;
}

int dropin_write(const char *state_dir, const char *name, const char *text, struct err *err)
{
	char *dir = folder(state_dir), *path = file_of(state_dir, name);
	int r = dir == NULL || path == NULL ? err_nomem(err) : -ENOENT;

	/* Somebody who removes the last section removes the folder. */
	for (int i = 0; i < 2 && r == -ENOENT; i++) {
		r = mkdir_p(dir, 0700, err);
		if (r == 0)
			r = file_write_atomic(path, text, strlen(text), 0600, true, err);
	}
	free(dir);
	free(path);
	return r;
}

int dropin_remove(const char *state_dir, const char *name, struct err *err)
{
	char *dir = folder(state_dir), *path = file_of(state_dir, name);
	int r = dir == NULL || path == NULL ? err_nomem(err) : 0;

	if (r == 0 && unlink(path) < 0 && errno != ENOENT)
		r = err_errno(err, -errno, "delete %s", quote(path));
	/* Unless there are others in it. */
	if (r == 0)
		rmdir(dir);
	free(dir);
	free(path);
	return r;
}

bool dropin_has(const char *state_dir, const struct vm_config *cfg)
{
	char *path = cfg != NULL ? file_of(state_dir, cfg->s.name) : NULL;
	bool has = path != NULL && str_eq(path, cfg->s.pos.file);

	free(path);
	return has;
}
