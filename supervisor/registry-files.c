#include "supervisor/registry-private.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "oci/cache.h"

int registry_address_free(const char *listen, struct err *err)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *ai = NULL;
	char host[256];
	const char *colon = strrchr(listen, ':'), *node;
	int fd, one = 1, r = 0;

	if (colon == NULL || (size_t)(colon - listen) >= sizeof(host))
		return err_set(err, -EINVAL, "listen = %s is not ADDRESS:PORT", quote(listen));
	snprintf(host, sizeof(host), "%.*s", (int)(colon - listen), listen);
	if (host[0] == '[') {
		memmove(host, host + 1, strlen(host));
		host[strcspn(host, "]")] = '\0';
	}
	/* Numeric only: nothing is looked up. */
	node = host[0] != '\0' ? host : NULL;
	if (getaddrinfo(node, colon + 1, &hints, &ai) != 0) /* lint: numeric */
		return err_set(err, -EINVAL, "listen = %s is not ADDRESS:PORT", quote(listen));
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		r = -errno;
	} else {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (bind(fd, ai->ai_addr, ai->ai_addrlen) < 0)
			r = -errno;
		close(fd);
	}
	freeaddrinfo(ai);
	if (r == -EADDRINUSE)
		return err_set(err, r, "%s is taken by another program", listen);
	return r < 0 ? err_errno(err, r, "listen at %s", listen) : 0;
}

static char *config_path(const struct registry *r, bool proxy)
{
	return str_printf("%s/registry/%s%s.yml", r->d->run_dir, r->name, proxy ? "" : ".offline");
}

int registry_prepare(struct registry *r, bool proxy, struct strv *argv, struct err *err)
{
	char upstream[64];
	struct cache_spec spec = {
		.upstream = proxy ? upstream : NULL, .listen = r->listen, .storage = r->storage
	};
	char *path = config_path(r, proxy), *program = find_program("docker-registry");
	char *dir = str_printf("%s/registry", r->d->run_dir);
	struct buf text = { 0 };
	int ret;

	snprintf(upstream, sizeof(upstream), "http://127.0.0.1:%u",
		(unsigned)registry_relay_port(r->relay));
	if (program == NULL) {
		ret = err_set(err, -ENOENT,
			"docker-registry is not installed (Debian package docker-registry)");
	} else if (path == NULL || dir == NULL) {
		ret = err_nomem(err);
	} else {
		ret = mkdir_p(dir, 0700, err);
		if (ret == 0)
			ret = mkdir_p(r->storage, 0750, err);
		if (ret == 0)
			ret = cache_config_text(&spec, &text, err);
		if (ret == 0)
			ret = file_write_atomic(path, text.data, text.len, 0600, false, err);
		strv_add(argv, program);
		strv_add(argv, "serve");
		strv_add(argv, path);
		if (ret == 0 && argv->bad)
			ret = err_nomem(err);
	}
	buf_finish(&text);
	free(path);
	free(dir);
	free(program);
	return ret;
}

static char *saved_path(const struct registry *r)
{
	return str_printf("%s/registry/%s.json", r->d->run_dir, r->name);
}

int registry_save(const struct registry *r, bool proxy, struct err *err)
{
	json_t *saved = json_pack("{s:O,s:i}", "applied", r->applied, "relay_port",
		proxy ? (int)registry_relay_port(r->relay) : 0);
	char *path = saved_path(r), *text = json_text(saved);
	int ret = -ENOMEM;

	if (path != NULL && text != NULL)
		ret = file_write_atomic(path, text, strlen(text), 0600, false, err);
	else
		err_nomem(err);
	json_decref(saved);
	free(path);
	free(text);
	return ret;
}

bool registry_load(const struct registry *r, uint16_t *relay_port)
{
	char *path = saved_path(r);
	json_t *saved = NULL;
	bool same = path != NULL && json_read_file(path, &saved, NULL) == 0 &&
		    json_equal(json_object_get(saved, "applied"), r->applied);

	if (same)
		*relay_port = (uint16_t)json_int(saved, "relay_port", 0);
	json_decref(saved);
	free(path);
	return same;
}

void registry_remove_files(const struct registry *r)
{
	char *paths[] = { config_path(r, true), config_path(r, false), saved_path(r) };

	for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
		if (paths[i] != NULL)
			unlink(paths[i]);
		free(paths[i]);
	}
}
