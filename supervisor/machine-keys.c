/* SSH keys of a machine, and the values that refer to running things. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "supervisor/machine-steps.h"

/* state_dir/keys/NAME/id_ed25519, with suffix behind. */
static char *key_path(struct drover *d, const char *name, const char *suffix)
{
	return str_printf("%s/keys/%s/id_ed25519%s", d->state_dir, name, suffix);
}

int key_public(struct drover *d, const struct key_config *key, struct buf *out, struct err *err)
{
	char *path = NULL;
	int r;

	if (key->public_key != NULL) {
		buf_adds(out, key->public_key);
		return out->bad ? err_nomem(err) : 0;
	}
	path = key->generate ? key_path(d, key->s.name, ".pub") : strdup(key->file);
	r = path == NULL ? err_nomem(err) : file_read(path, 65536, out, err);
	free(path);
	if (r < 0)
		return err_wrap(err, "key %s", key->s.name);
	while (out->len > 0 && (out->data[out->len - 1] == '\n' || out->data[out->len - 1] == '\r'))
		out->data[--out->len] = '\0';
	return 0;
}

/* ---- making a key pair ---- */

struct keygen {
	struct machine *m;
	char *dir, *tmp;
};

static void keygen_free(struct keygen *g)
{
	if (g->tmp != NULL)
		remove_tree(g->tmp, NULL);
	free(g->dir);
	free(g->tmp);
	free(g);
}

static void generated(void *arg, const struct child_result *res, const struct err *err)
{
	struct keygen *g = arg;
	struct machine *m = g->m;

	/*
	 * Two machines may want the same key at once: each makes a pair of its own, the first to be
	 * renamed is the one (a folder that is not empty is not replaced).
	 */
	if (err == NULL)
		rename(g->tmp, g->dir);
	keygen_free(g);
	if (err != NULL)
		machine_start_next(m, err);
	else
		machine_step_keys(m);
}

static int generate(struct machine *m, const char *name, struct err *err)
{
	struct keygen *g = calloc(1, sizeof(*g));
	char *program = find_program("ssh-keygen"), *file = NULL, *comment = NULL;
	struct child_run_opts opts = { .timeout_ms = 30000, .async = true };
	struct child_spec spec = { .file = program, .die_with_us = true };
	int r;

	if (g != NULL) {
		g->m = m;
		g->dir = str_printf("%s/keys/%s", m->d->state_dir, name);
		g->tmp = str_printf("%s/keys/.%s.%s", m->d->state_dir, name, m->name);
	}
	if (g != NULL && g->tmp != NULL)
		file = path_join(g->tmp, "id_ed25519");
	comment = str_printf("drover %s", name);
	if (program == NULL) {
		r = err_set(err, -ENOENT,
			"ssh-keygen is not installed (Debian package openssh-client)");
	} else if (g == NULL || g->dir == NULL || file == NULL || comment == NULL) {
		r = err_nomem(err);
	} else {
		char *argv[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f",
			file, NULL };

		spec.argv = argv;
		r = remove_tree(g->tmp, err);
		if (r == 0)
			r = mkdir_p(g->tmp, 0700, err);
		if (r == 0)
			r = child_run(NULL, m->d->loop, &spec, &opts, generated, g, err);
	}
	if (r < 0 && g != NULL)
		keygen_free(g);
	free(program);
	free(file);
	free(comment);
	return r;
}

void machine_step_keys(struct machine *m)
{
	const struct config *c = m->run_box->config;
	struct err err;

	for (size_t i = 0; i < m->run_cfg->ssh_keys.n; i++) {
		const struct key_config *key = config_sshkey(c, m->run_cfg->ssh_keys.v[i]);
		char *path;
		bool there;

		if (key == NULL || !key->generate)
			continue;
		path = key_path(m->d, key->s.name, ".pub");
		there = path != NULL && access(path, R_OK) == 0;
		free(path);
		if (there)
			continue;
		if (generate(m, key->s.name, &err) < 0) {
			err_wrap(&err, "key %s", key->s.name);
			machine_start_next(m, &err);
		}
		return;
	}
	machine_start_next(m, NULL);
}

/* ---- references ---- */

static char *lookup_address(struct machine *m, const char *name, struct err *err)
{
	struct machine *other = machine_find(m->d, name);
	char address[16];

	if (other == NULL || !machine_address(other, 0, address)) {
		err_set(err, -ENOENT, "vm %s has no address yet", name);
		return NULL;
	}
	return strdup(address);
}

/* "vm.NAME.address": the first and last parts are keywords, all between is the name. */
static char *lookup(void *arg, const char *ref, struct err *err)
{
	struct machine *m = arg;
	const char *first = strchr(ref, '.'), *last = strrchr(ref, '.');
	char name[256];

	if (strcmp(ref, "macAddress") == 0 && m->nnics > 0)
		return strdup(m->nics[0].mac);
	if (first == NULL || first == last || (size_t)(last - first) > sizeof(name)) {
		err_set(err, -EINVAL, "{{%s}} is not known here", ref);
		return NULL;
	}
	snprintf(name, sizeof(name), "%.*s", (int)(last - first - 1), first + 1);
	if (str_starts(ref, "vm.") && strcmp(last, ".address") == 0)
		return lookup_address(m, name, err);
	if (str_starts(ref, "key.") && strcmp(last, ".public") == 0) {
		const struct key_config *key = config_sshkey(m->run_box->config, name);
		struct buf text = { 0 };

		if (key != NULL && key_public(m->d, key, &text, err) == 0)
			return buf_steal(&text);
		buf_finish(&text);
		return NULL;
	}
	err_set(err, -EINVAL, "{{%s}} has no value here", ref);
	return NULL;
}

int machine_expand(struct machine *m, const char *value, char **out, struct err *err)
{
	return config_expand(value, lookup, m, out, err);
}
