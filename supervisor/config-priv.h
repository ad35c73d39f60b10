/* supervisor/config-priv.h - what the files of the config module share. */
#ifndef DROVER_SUPERVISOR_CONFIG_PRIV_H
#define DROVER_SUPERVISOR_CONFIG_PRIV_H

#include <string.h>
#include <sys/types.h>
#include "supervisor/config.h"
#include "supervisor/ini.h"

#define CONFIG_FILE_MAX    ((size_t)16 << 20)
#define CONFIG_DEPTH_MAX   16
#define CONFIG_NETWORK_MAX 8

struct by_name {
	const char *name;
	size_t at; /* in by_kind */
};

/* What config_load() makes: the config and, for config_find(), each kind's sections by name. */
struct config_impl {
	struct config pub;
	struct by_name *by_name[SECTION_KINDS];
};

/* The text of a key: from a file, an argument, a variable, or the table's default. */
struct raw_key {
	const struct ini_value *v;
	size_t n;            /* 0: not set */
	const char *file;    /* NULL: the default */
	unsigned line;       /* 0: an argument or a variable, which `file` then names */
	struct ini_key *key; /* that owns v; NULL: not from a file */
	bool bad;            /* it is there, but what it says was reported as a mistake */
};

struct raw_section {
	struct raw_key *keys; /* by index in section_keys() of its kind */
	bool misnamed;        /* its heading was refused: what it lacks is not the point */
};

/* A file that was read. */
struct source {
	const char *name; /* in config.files */
	dev_t dev;
	ino_t ino;
	const char *from; /* the file that includes it; NULL for the first */
	unsigned from_line;
	struct ini ini;
};

struct load {
	struct config_impl *c;
	const struct config_load_opts *opts;
	struct raw_section *raw[SECTION_KINDS]; /* beside by_kind */
	size_t cap[SECTION_KINDS];
	struct source *sources;
	size_t nsources;
	struct config_errors errors;
	uint64_t *seen; /* open hash of the errors, so that each is reported once */
	size_t nseen, seen_cap;
	bool nomem;
};

/* config-keys.c */
size_t section_kind_size(enum section_kind k);
const char *section_kind_help(enum section_kind k);
bool section_kind_find(const char *name, enum section_kind *out);
/* The rows of a kind, a template's being a machine's. */
const struct config_key *section_keys(enum section_kind kind, size_t *n);
const struct config_key *config_key_find(enum section_kind kind, const char *name);
const char *config_key_nearest(enum section_kind kind, const char *name);

/* config.c */
struct config_section *section_new(enum section_kind kind, const char *name, struct config_pos pos);
void section_free(struct config_section *s);
/* Sorts by_name; needed before config_find(). Returns 0 or -ENOMEM. */
int config_index(struct config_impl *c);
/* As config_find(), but the place in by_kind; -1 when there is none. */
ssize_t config_find_at(const struct config_impl *c, enum section_kind kind, const char *name);
static inline void *key_member(const struct config_section *s, const struct config_key *k)
{
	return (char *)(uintptr_t)s + k->offset;
}

/* config-error.c */
/* A mistake; one that was reported already, word for word, is passed over. */
void load_error(struct load *l, const char *file, unsigned line, const char *fmt, ...) PRINTF(4, 5);
/* "; did you mean 'x'?" or "": a static buffer of this thread, good until the next call. */
const char *did_you_mean(const char *nearest);

/* config-read.c: files to raw sections. */
void load_files(struct load *l);
/* The sections of machines that were made over the API; state_dir is known from the overrides. */
void load_dropins(struct load *l);
void load_free_sources(struct load *l);

/* config-template.c */
void load_templates(struct load *l);

/* config-value.c: raw text to members. */
void value_set(struct load *l, struct config_section *s, const struct config_key *k,
	const struct raw_key *raw);
/* The name of a section of this kind that is most like name; NULL when none is. */
const char *config_nearest(const struct config *c, enum section_kind kind, const char *name);
/* Absolute form of a path in `file`; NULL after an error was reported. */
char *path_resolve(
	struct load *l, const char *file, unsigned line, const char *key, const char *path);

/* config-subst.c */
/*
 * Puts in what is known now. What is known when the machine starts stays, if the key is `late`.
 * NULL after an error was reported.
 */
char *subst_text(struct load *l, const struct config_section *s, const struct config_key *k,
	const char *file, unsigned line, const char *text);
/*
 * A good text as another machine's section would have it: {{name}} and {{guestId}} stay, what is of
 * our environment does not. malloc'd; NULL: it has neither of the two.
 */
char *subst_kept(struct load *l, const char *text);
bool text_is_late(const char *text);

/* config-print.c: the exact value in the largest unit that divides it. */
void config_number_text(enum key_type type, uint64_t v, struct buf *out);

/* config-check.c: what no single value can show. */
void check_config(struct load *l);
/* The position of a key if a file has it, else of the section. */
struct config_pos config_key_pos(const struct config_section *s, const char *key);
bool config_is_hostname(const char *s);
#define check_key_error(l, s, key, fmt, ...)                                                       \
	do {                                                                                       \
		struct config_pos pos_ = config_key_pos(s, key);                                   \
		load_error(l, pos_.file, pos_.line, "%s: " fmt, key, ##__VA_ARGS__);               \
	} while (0)

#define check_section_error(l, s, fmt, ...)                                                        \
	load_error(l, (s)->pos.file, (s)->pos.line, "[%s %.80s] " fmt,                             \
		section_kind_name((s)->kind), (s)->name, ##__VA_ARGS__)

/* config-check-user.c: networks of kind user, and a nic on one. */
struct nic_spec;
void check_network_macvtap(struct load *l, const struct network_config *n);
void check_nic_macvtap(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n);
bool config_is_link_name(const char *s);
void check_network_user(struct load *l, const struct network_config *n);
void check_nic_user(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n);

/* config-check-network.c */
void check_network(struct load *l, const struct network_config *n, bool misnamed);
/* A default is no choice, though somebody has written it down. */
bool config_is_chosen(const struct config_section *s, const char *name);
void check_network6(struct load *l, const struct network_config *n); /* config-check-network6.c */
void check_networks6(struct load *l);
struct nic_spec;
void check_nic_address6(struct load *l, const struct vm_config *vm, const struct nic_spec *s,
	const struct network_config *n);
void check_egress(struct load *l, const struct network_config *n);
void check_network_names(struct load *l, const struct network_config *n);
void check_mirror_machines(struct load *l);
void check_networks(struct load *l); /* what they and the machines' nics are to one another */

/* config-check-hardware.c; also gives a machine the type that is its architecture's. */
void check_hardware(struct load *l, struct vm_config *vm, const struct raw_key *raws);
void check_has_kernel(struct load *l, const struct vm_config *vm, const struct raw_key *raws);
void check_vsocks(struct load *l);
void check_shared_volumes(struct load *l); /* config-check-volume.c */

/* config-check-warm.c: warm templates and the machines that are made from them. */
void check_warm(struct load *l, const struct vm_config *vm, const struct raw_key *raws);

/* config-image.c */
/* "https://HOST/FILE#sha256=...": the section as one word. */
void config_image_reference(const struct image_config_section *s, struct buf *out);
void check_image(struct load *l, const struct image_config_section *s);

/* config-hypervisor.c: whether there is one of this name, and what it cannot do. */
void check_hypervisor(struct load *l, const struct vm_config *vm);
void check_clone(struct load *l, const struct vm_config *vm); /* config-check-volume.c */

#endif
