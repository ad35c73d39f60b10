#include "supervisor/ledger.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "lib/log.h"

struct ledger {
	char *dir, *boot;
	struct list owners;
	uint64_t generation;
};

static const char *const kind_names[] = {
	[OBJECT_DIR] = "dir",
	[OBJECT_NFT_TABLE] = "nft-table",
	[OBJECT_SYSCTL] = "sysctl",
	[OBJECT_TAP] = "tap",
	[OBJECT_NFT_TAP] = "nft-tap",
	[OBJECT_PROCESS] = "process",
	[OBJECT_CGROUP] = "cgroup",
	[OBJECT_BRIDGE] = "bridge",
	[OBJECT_PORT] = "port",
	[OBJECT_NFT_ELEMENTS] = "nft-elements",
	[OBJECT_RESERVATION] = "reservation",
	[OBJECT_IFB] = "ifb",
	[OBJECT_ADDRESS] = "address",
	[OBJECT_MIRROR] = "mirror",
	[OBJECT_ROUTE] = "route",
};

const char *object_kind_name(enum object_kind kind)
{
	return kind_names[kind];
}

static void object_free(struct object *o)
{
	list_remove(&o->entry);
	json_decref(o->data);
	free(o->name);
	free(o);
}

static void owner_free(struct ledger_owner *owner)
{
	struct object *o, *tmp;

	list_for_each_entry_safe (o, tmp, &owner->objects, entry)
		object_free(o);
	list_remove(&owner->entry);
	free(owner->name);
	free(owner);
}

static struct ledger_owner *owner_find(struct ledger *l, const char *name)
{
	struct ledger_owner *owner;

	list_for_each_entry (owner, &l->owners, entry) {
		if (strcmp(owner->name, name) == 0)
			return owner;
	}
	return NULL;
}

static struct ledger_owner *owner_get(struct ledger *l, const char *name)
{
	struct ledger_owner *owner = owner_find(l, name);

	if (owner != NULL)
		return owner;
	owner = calloc(1, sizeof(*owner));
	if (owner == NULL)
		return NULL;
	owner->name = strdup(name);
	if (owner->name == NULL) {
		free(owner);
		return NULL;
	}
	list_init(&owner->objects);
	list_append(&l->owners, &owner->entry);
	return owner;
}

/* "vm/web-1" is kept as the file "vm:web-1": ':' cannot be in a name. */
static char *owner_path(struct ledger *l, const char *name)
{
	char *path = path_join(l->dir, name);

	if (path != NULL) {
		for (char *s = path + strlen(l->dir) + 1; *s != '\0'; s++) {
			if (*s == '/')
				*s = ':';
		}
	}
	return path;
}

static json_t *owner_json(const struct ledger *l, const struct ledger_owner *owner)
{
	json_t *array = json_array();
	struct object *o;

	list_for_each_entry (o, &owner->objects, entry) {
		json_t *e = json_object();

		json_put_str(e, "kind", kind_names[o->kind]);
		json_put_str(e, "name", o->name);
		json_put_int(e, "generation", (int64_t)o->generation);
		json_put_str(e, "boot", l->boot);
		if (o->failed)
			json_put_bool(e, "failed", true);
		if (o->data != NULL)
			json_object_set(e, "data", o->data);
		json_array_append_new(array, e);
	}
	return array;
}

static int owner_save(struct ledger *l, struct ledger_owner *owner, struct err *err)
{
	char *path = owner_path(l, owner->name), *text = NULL;
	json_t *array;
	int r;

	if (path == NULL)
		return err_nomem(err);
	if (list_empty(&owner->objects)) {
		unlink(path);
		free(path);
		owner_free(owner);
		return 0;
	}
	array = owner_json(l, owner);
	text = json_text(array);
	json_decref(array);
	r = text == NULL ? err_nomem(err)
			 : file_write_atomic(path, text, strlen(text), 0600, false, err);
	free(text);
	free(path);
	return r < 0 ? err_wrap(err, "ledger") : 0;
}

static int object_load(struct ledger *l, struct ledger_owner *owner, const json_t *e)
{
	const char *kind = json_str(e, "kind"), *name = json_str(e, "name");
	const char *boot = json_str(e, "boot");
	struct object *o;
	size_t k;

	for (k = 0; k < ARRAY_LEN(kind_names); k++) {
		if (kind != NULL && strcmp(kind, kind_names[k]) == 0)
			break;
	}
	if (k == ARRAY_LEN(kind_names) || name == NULL)
		return -EBADMSG;
	/* A file that no reboot has cleared away: all but folders died with the boot. */
	if (k != OBJECT_DIR && boot != NULL && strcmp(boot, l->boot) != 0)
		return 0;
	o = calloc(1, sizeof(*o));
	if (o == NULL)
		return -ENOMEM;
	o->kind = (enum object_kind)k;
	o->name = strdup(name);
	o->data = json_incref(json_object_get(e, "data"));
	o->generation = (uint64_t)json_int(e, "generation", 0);
	l->generation = MAX(l->generation, o->generation);
	list_append(&owner->objects, &o->entry);
	return o->name == NULL ? -ENOMEM : 0;
}

static void owner_load(struct ledger *l, const char *file)
{
	char *path = path_join(l->dir, file), *name = strdup(file);
	struct ledger_owner *owner;
	struct err err;
	json_t *array = NULL, *e;
	size_t i;

	if (path == NULL || name == NULL || json_read_file(path, &array, &err) < 0) {
		log_warn("ledger: ignoring %s: %s", quote(file),
			path != NULL ? err.msg : "no memory");
		goto out;
	}
	for (char *s = name; *s != '\0'; s++) {
		if (*s == ':')
			*s = '/';
	}
	owner = owner_get(l, name);
	json_array_foreach (array, i, e) {
		if (owner == NULL || object_load(l, owner, e) < 0)
			log_warn(
				"ledger: ignoring an entry of %s that makes no sense", quote(name));
	}
	/* Where nothing is left the file goes too. */
	if (owner != NULL && list_empty(&owner->objects))
		owner_save(l, owner, NULL);
out:
	json_decref(array);
	free(path);
	free(name);
}

int ledger_open(struct ledger **out, const char *dir, const char *boot, struct err *err)
{
	struct ledger *l = calloc(1, sizeof(*l));
	struct dirent *e;
	DIR *d = NULL;
	int r;

	if (l == NULL)
		return err_nomem(err);
	list_init(&l->owners);
	l->dir = strdup(dir);
	l->boot = strdup(boot);
	r = l->dir == NULL || l->boot == NULL ? err_nomem(err) : mkdir_p(dir, 0700, err);
	if (r == 0 && (d = opendir(dir)) == NULL)
		r = err_errno(err, -errno, "open %s", quote(dir));
	if (r < 0) {
		ledger_close(l);
		return r;
	}
	while ((e = readdir(d)) != NULL) {
		char *path;

		if (e->d_name[0] == '.')
			continue;
		if (strstr(e->d_name, ".tmp.") == NULL) {
			owner_load(l, e->d_name);
			continue;
		}
		path = path_join(dir, e->d_name); /* of a write that a crash cut short */
		if (path != NULL)
			unlink(path);
		free(path);
	}
	closedir(d);
	*out = l;
	return 0;
}

void ledger_close(struct ledger *l)
{
	struct ledger_owner *owner, *tmp;

	if (l == NULL)
		return;
	list_for_each_entry_safe (owner, tmp, &l->owners, entry)
		owner_free(owner);
	free(l->dir);
	free(l->boot);
	free(l);
}

struct object *ledger_find(
	struct ledger *l, const char *owner_name, enum object_kind kind, const char *name)
{
	struct ledger_owner *owner = owner_find(l, owner_name);
	struct object *o;

	if (owner == NULL)
		return NULL;
	list_for_each_entry (o, &owner->objects, entry) {
		if (o->kind == kind && strcmp(o->name, name) == 0)
			return o;
	}
	return NULL;
}

int ledger_add(struct ledger *l, const char *owner_name, enum object_kind kind, const char *name,
	json_t *data, struct err *err)
{
	struct object *o = ledger_find(l, owner_name, kind, name);
	struct ledger_owner *owner = owner_get(l, owner_name);

	if (o == NULL && owner != NULL) {
		o = calloc(1, sizeof(*o));
		if (o != NULL) {
			list_init(&o->entry);
			o->kind = kind;
			o->name = strdup(name);
			if (o->name == NULL) {
				free(o);
				o = NULL;
			} else {
				list_append(&owner->objects, &o->entry);
			}
		}
	}
	if (o == NULL) {
		json_decref(data);
		return err_nomem(err);
	}
	json_decref(o->data);
	o->data = data;
	o->generation = ++l->generation;
	o->failed = o->going = false;
	return owner_save(l, owner, err);
}

void ledger_remove(
	struct ledger *l, const char *owner_name, enum object_kind kind, const char *name)
{
	struct object *o = ledger_find(l, owner_name, kind, name);
	struct err err;

	if (o == NULL)
		return;
	object_free(o);
	if (owner_save(l, owner_find(l, owner_name), &err) < 0)
		log_warn("%s (ignoring: the entry is released again at the next start)", err.msg);
}

struct object *ledger_last(struct ledger *l, const char *owner_name, const char *suffix)
{
	struct ledger_owner *owner = owner_find(l, owner_name);
	struct object *o, *last = NULL;

	if (owner == NULL)
		return NULL;
	list_for_each_entry (o, &owner->objects, entry) {
		if (!o->failed && (suffix == NULL || str_ends(o->name, suffix)))
			last = o;
	}
	return last;
}

bool ledger_has(struct ledger *l, const char *owner_name)
{
	return owner_find(l, owner_name) != NULL;
}

void ledger_fail(struct ledger *l, const char *owner_name, enum object_kind kind, const char *name)
{
	struct object *o = ledger_find(l, owner_name, kind, name);
	struct err err;

	if (o == NULL)
		return;
	o->failed = true;
	o->going = false;
	if (owner_save(l, owner_find(l, owner_name), &err) < 0)
		log_warn("%s (ignoring)", err.msg);
}

void ledger_retry(struct ledger *l, const char *owner_name)
{
	struct ledger_owner *owner = owner_find(l, owner_name);
	struct object *o;

	if (owner == NULL)
		return;
	list_for_each_entry (o, &owner->objects, entry)
		o->failed = false;
}

struct list *ledger_owners(struct ledger *l)
{
	return &l->owners;
}
