#include "supervisor/machine-identity.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/child.h"
#include "lib/file.h"
#include "lib/json.h"
#include "oci/digest.h"
#include "supervisor/pool-work.h"

#define FILE_NAME "identity.json"
#define KEYS_DIR  "identity.tmp" /* a name that is swept */
#define KEYGEN_MS 60000

struct making {
	char *dir, *keys;
	machine_identity_done_fn *done;
	void *arg;
};

static void making_end(struct making *k, const struct err *err)
{
	machine_identity_done_fn *done = k->done;
	void *arg = k->arg;

	remove_tree(k->keys, NULL);
	free(k->dir);
	free(k->keys);
	free(k);
	done(arg, err);
}

int machine_identity_add_keys(const char *dir_path, json_t *array, struct err *err)
{
	DIR *dir = opendir(dir_path);
	struct dirent *e;
	int r = 0;

	while (dir != NULL && r == 0 && (e = readdir(dir)) != NULL) {
		struct buf text = { 0 };
		char *path;

		if (!str_starts(e->d_name, "ssh_host_"))
			continue;
		path = path_join(dir_path, e->d_name);
		r = path == NULL ? err_nomem(err) : file_read(path, 65536, &text, err);
		if (r == 0)
			json_array_append_new(array,
				json_pack("{s:s,s:s}", "name", e->d_name, "text", buf_str(&text)));
		buf_finish(&text);
		free(path);
	}
	if (dir != NULL)
		closedir(dir);
	return r;
}

/* 32 hexadecimal digits, as a random UUID has them (RFC 4122, 4.4). */
static void put_id(json_t *to, unsigned char b[16])
{
	char text[33];

	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	for (size_t i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", b[i]);
	json_put_str(to, "machine_id", text);
}

int machine_identity_add_id(json_t *to, struct err *err)
{
	unsigned char b[16];

	if (getrandom(b, sizeof(b), 0) != sizeof(b))
		return err_errno(err, -errno, "random numbers");
	put_id(to, b);
	return 0;
}

/* The host's own is not to be shown, but a digest with more in it may be (machine-id(5)). */
int machine_identity_add_derived_id(json_t *to, const char *dir, struct err *err)
{
	char host[64] = "", *text, digest[DIGEST_MAX];
	unsigned char b[16];
	unsigned byte;
	int r;

	file_read_line("/etc/machine-id", host, sizeof(host), NULL);
	text = str_printf("drover machine-id %s %s", host, dir);
	r = text == NULL ? err_nomem(err) : digest_of("sha256:", text, strlen(text), digest, err);
	free(text);
	for (size_t i = 0; r == 0 && i < sizeof(b); i++) {
		sscanf(strchr(digest, ':') + 1 + 2 * i, "%2x", &byte);
		b[i] = (unsigned char)byte;
	}
	if (r == 0)
		put_id(to, b);
	return r;
}

static int write_it(struct making *k, struct err *err)
{
	json_t *doc = json_object(), *keys = json_array();
	char *path = path_join(k->dir, FILE_NAME), *text = NULL;
	int r = path == NULL ? err_nomem(err) : machine_identity_add_id(doc, err);

	if (r == 0)
		r = machine_identity_add_keys(k->keys, keys, err);
	json_object_set_new(doc, "host_keys", keys);
	if (r == 0 && (text = json_text(doc)) == NULL)
		r = err_nomem(err);
	if (r == 0)
		r = file_write_atomic(path, text, strlen(text), 0600, false, err);
	json_decref(doc);
	free(text);
	free(path);
	return r;
}

static void made(void *arg, const struct child_result *res, const struct err *err)
{
	struct making *k = arg;
	struct err mine;

	if (err == NULL && write_it(k, &mine) < 0)
		err = &mine;
	making_end(k, err);
}

static int nothing(void *arg, struct err *err)
{
	return 0;
}

static void was_there(void *arg, const struct err *err)
{
	making_end(arg, err);
}

static int start(struct making *k, uv_loop_t *loop, struct err *err)
{
	char *path = path_join(k->dir, FILE_NAME), *program = find_program("ssh-keygen");
	char *file = path_join(k->keys, "ssh_host_ed25519_key");
	char *argv[] = { "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file,
		NULL };
	struct child_spec spec = { .file = program, .argv = argv, .die_with_us = true };
	struct child_run_opts opts = { .timeout_ms = KEYGEN_MS };
	int r = path == NULL || file == NULL ? err_nomem(err) : 0;

	if (r == 0 && access(path, F_OK) == 0) {
		r = pool_work(loop, nothing, was_there, k);
		if (r < 0)
			err_nomem(err);
	} else if (r == 0 && program == NULL) {
		r = err_set(err, -ENOENT,
			"ssh-keygen is not installed (Debian package openssh-client)");
	} else if (r == 0) {
		r = remove_tree(k->keys, err);
		if (r == 0)
			r = mkdir_p(k->keys, 0700, err);
		if (r == 0)
			r = child_run(NULL, loop, &spec, &opts, made, k, err);
	}
	free(path);
	free(program);
	free(file);
	return r;
}

int machine_identity_make(uv_loop_t *loop, const char *dir, machine_identity_done_fn *done,
	void *arg, struct err *err)
{
	struct making *k = calloc(1, sizeof(*k));
	int r;

	if (k == NULL)
		return err_nomem(err);
	k->dir = strdup(dir);
	k->keys = path_join(dir, KEYS_DIR);
	k->done = done;
	k->arg = arg;
	r = k->dir == NULL || k->keys == NULL ? err_nomem(err) : start(k, loop, err);
	if (r < 0) {
		free(k->dir);
		free(k->keys);
		free(k);
	}
	return r;
}

int machine_identity_read(const char *dir, json_t **out, struct err *err)
{
	char *path = path_join(dir, FILE_NAME);
	int r = path == NULL ? err_nomem(err) : json_read_file(path, out, err);

	free(path);
	return r;
}
