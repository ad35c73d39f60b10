/*
 * supervisor/config.h - the wanted state as one INI file (and what it includes) asks for it: typed,
 * validated, immutable. Blocking reads of small files; any thread, but one config is built by one.
 *
 * One table of keys (config_keys) yields parser, bounds, defaults, `drover config`, the manual
 * page and the reload class. Durations in ms, sizes in bytes unless the member says otherwise.
 */
#ifndef DROVER_SUPERVISOR_CONFIG_H
#define DROVER_SUPERVISOR_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "lib/list.h"
#include "lib/log.h"
#include "lib/str.h"

/* What a changed key means for a running machine (or service). */
enum reload_class {
	RELOAD_LIVE,
	RELOAD_RESTART,
	RELOAD_RECREATE
};

enum key_type {
	KEY_STRING, /* char * */
	KEY_BOOL,   /* bool */
	KEY_INT,    /* uint64_t, min..max */
	KEY_SIZE,   /* uint64_t bytes, min..max */
	KEY_TIME,   /* uint64_t ms, min..max */
	KEY_ENUM,   /* int; words[] in the order of the enum, NULL-terminated */
	KEY_LIST,   /* struct strv; with `ref`, names of such sections, which must exist */
	KEY_ARGS,   /* struct strv; a value is split at white space unless it is in quotes */
	KEY_NAME,   /* char *, name_check() */
	KEY_PATH,   /* char *, must be absolute after ~ and the file's own folder are applied */
	KEY_CIDR,   /* char *, IPv4 prefix without host bits */
	KEY_REF,    /* char *, name of a section of kind `ref`; must exist */
	/*
	 * char *: a path (begins with '/', '.' or '~') or a reference (oci/image.h); of an [image]'s
	 * name, the reference that it stands for.
	 */
	KEY_IMAGE,
};

enum section_kind {
	SECTION_DROVER,
	SECTION_NETWORK,
	SECTION_REGISTRY,
	SECTION_KEY,
	SECTION_IMAGE,
	SECTION_TEMPLATE, /* the keys of SECTION_VM */
	SECTION_VM,
	SECTION_KINDS
};

struct config_key {
	enum section_kind section;
	const char *name;
	enum key_type type;
	size_t offset;     /* in the section's struct */
	const char *def;   /* default as text; NULL: none */
	uint64_t min, max; /* KEY_INT, KEY_SIZE, KEY_TIME */
	const char *const *words;
	enum section_kind ref;
	bool required;
	bool late; /* may hold {{vm.NAME.address}} and the like: pass it through config_expand() */
	bool meta; /* shapes the text (template, include), is no property of the thing */
	enum reload_class reload;
	const char *help; /* one sentence, for etc/drover.ini and the manual */
};
extern const struct config_key config_keys[];
extern const size_t config_nkeys;
const char *section_kind_name(enum section_kind k); /* "vm" */

struct config_pos {
	const char *file; /* owned by the config */
	unsigned line;
};

/* The common head of every section's struct. */
struct config_section {
	enum section_kind kind;
	char *name; /* "" for [drover] */
	struct config_pos pos;
	struct config_pos *key_pos; /* by index in config_keys; line 0: not in a file (default) */
	/*
	 * Values with {{name}} or {{guestId}} in them, as another machine would have them: "KEY=TEXT",
	 * or "KEY:TEXT" for several words of a command line; all of a list if it is for one.
	 */
	struct strv written;
};

enum on_exit {
	ON_EXIT_KEEP,
	ON_EXIT_STOP
};

struct drover_config {
	struct config_section s;
	struct strv include; /* globs as written; the files are in config.files */
	char *run_id, *state_dir, *run_dir, *listen, *group, *log_file;
	char *cgroup_root;    /* NULL: CGROUP_DEFAULT_ROOT */
	int on_exit;          /* enum on_exit */
	int log_level;        /* enum log_level */
	int log_format;       /* enum log_format */
	uint64_t max_starts;  /* concurrent starts; 0: the number of processors */
	uint64_t events_max;  /* bytes of events.jsonl before it is rotated */
	uint64_t console_max; /* bytes of console log kept for each boot */
	uint64_t reconcile_interval, reconcile_min_age;
	uint64_t probe_interval; /* 0: never */
	char *image_auth;        /* NULL: anonymous */
	struct strv image_plain_http;
	uint64_t image_memory, image_time, image_max;
	uint64_t image_budget, image_age; /* 0: without limit */
};

struct registry_config {
	struct config_section s;
	char *upstream;    /* https://ghcr.io */
	char *listen;      /* 127.0.0.1:5000 */
	char *storage;     /* NULL: state_dir/registry/NAME */
	struct strv hosts; /* whose images are pulled through it; empty: upstream's host */
	bool offline;
	uint64_t budget, age; /* of what is cached; 0: without limit */
	struct strv prefetch; /* references of images */
};

enum network_kind {
	NETWORK_P2P,
	NETWORK_NAT,
	NETWORK_ISOLATED,
	NETWORK_ROUTED,
	NETWORK_BRIDGE,
	NETWORK_USER,
	NETWORK_MACVTAP
};
enum rp_filter {
	RP_FILTER_OURS,
	RP_FILTER_ALL
};

enum choice {
	CHOICE_AUTO,
	CHOICE_YES,
	CHOICE_NO
};

/* As written: supervisor/network6-values.h reads it. Times in ms. */
struct network6_config {
	char *cidr, *gateway, *range;
	int dhcp;                       /* enum choice, as those of router advertisements: */
	int managed, other, autonomous; /* the flags M and O, and A of the prefix */
	bool on_link;                   /* its flag L */
	uint64_t interval, router_lifetime, lifetime, refresh;
	struct strv dns, search;
	bool nat;
	uint64_t length; /* p2p: of each machine's prefix */
	char *delegate;  /* the pool that prefixes are delegated from */
	uint64_t delegate_length;
	uint64_t preferred, renew, rebind; /* 0: not said */
};

struct network_config {
	struct config_section s;
	int kind; /* enum network_kind */
	char *cidr;
	/* Of all but p2p, as written: supervisor/network-values.h reads them. */
	char *gateway, *range, *domain;
	char *bridge;       /* NULL: a name of its own */
	struct strv port;   /* links that are its ports */
	uint64_t vlan;      /* of the ports; 0: what comes untagged, and all others */
	bool uplink;        /* one of them may carry the default route */
	bool peers;         /* machines reach one another */
	uint64_t mtu;       /* 0: the kernel's */
	int mode;           /* of macvtap: enum macvtap_mode of netcfg/macvtap.h */
	struct strv open;   /* ports of the host */
	struct strv egress; /* what beyond the network machines reach; none: everything */
	char *rate;         /* of each nic, as netcfg/shape.h reads it; NULL: no limit */
	struct strv dns;
	struct strv record, mirror; /* as written: supervisor/network-names.h */
	bool dns_log;
	bool nat;
	int rp_filter; /* enum rp_filter */
	struct network6_config v6;
};

struct key_config {
	struct config_section s;
	char *public_key;  /* `public`: the line itself; or */
	char *file;        /* path of a public key file; or */
	bool generate;     /* an ed25519 pair made below state_dir/keys/NAME at first use */
	char *private_key; /* `private`: path for `drover ssh` */
};

struct image_config_section {
	struct config_section s;
	char *source, *sha256;
	int format;          /* enum image_format */
	struct strv backing; /* from the top */
};

enum vm_disk_policy {
	DISK_KEEP,
	DISK_RUN
};
/* How a machine's disk is made of another one. */
enum vm_clone {
	CLONE_KEY_AUTO,
	CLONE_KEY_REFLINK,
	CLONE_KEY_OVERLAY,
	CLONE_KEY_COPY
};
enum restart_policy {
	RESTART_NO,
	RESTART_ON_FAILURE,
	RESTART_ALWAYS
};
enum on_change {
	ON_CHANGE_RESTART,
	ON_CHANGE_DEFER
};
enum health_action {
	HEALTH_ACTION_NONE,
	HEALTH_ACTION_RESET,
	HEALTH_ACTION_RESTART
};
enum memory_limit {
	MEMORY_LIMIT_NO,
	MEMORY_LIMIT_YES,
	MEMORY_LIMIT_AUTO /* where it can be, and higher */
};

enum vm_board {
	BOARD_Q35,
	BOARD_PC,
	BOARD_MICROVM,
	BOARD_VIRT
};
enum vm_arch {
	ARCH_X86_64,
	ARCH_AARCH64
};
enum vm_display {
	DISPLAY_NONE,
	DISPLAY_VNC
};
enum pull_policy {
	PULL_MISSING,
	PULL_ALWAYS,
	PULL_NEVER
};

struct vm_config {
	struct config_section s;
	char *template_name;
	char *hypervisor; /* "qemu", "cloud-hypervisor" */
	char *binary;     /* NULL: the hypervisor's usual name, by PATH */
	int arch;         /* enum vm_arch */
	int machine;      /* enum vm_board */
	int accel;        /* enum hv_accel */
	char *cpu;
	uint64_t vcpus;
	uint64_t vcpus_max, sockets, cores, threads; /* 0: not given */
	uint64_t memory;                             /* bytes */
	uint64_t memory_max;                         /* bytes; 0: not given */
	bool hugepages, memory_shared;
	char *firmware; /* "bios", "uefi" or a path; NULL: the board's own */
	char *boot;     /* as written: supervisor/hardware.h */
	/* A path (begins with '/' or '.'; made absolute) or an OCI reference. */
	char *kernel, *initrd, *rootfs;
	char *cmdline;
	int disk;             /* enum vm_disk_policy */
	int clone;            /* enum vm_clone */
	bool ephemeral;       /* its disks go when the run ends */
	bool warm;            /* machines are made from its memory: supervisor/warm.h */
	char *from;           /* name of such a machine; NULL: it boots */
	uint64_t disk_size;   /* 0: the image's */
	struct strv volumes;  /* `volume`, as written: supervisor/hardware.h */
	char *cdrom;          /* path; NULL: none */
	struct strv shares;   /* `share`, as written: supervisor/hardware.h */
	struct strv networks; /* `network`, as written: supervisor/network-values.h */
	struct strv forwards; /* `forward`, likewise */
	struct strv ssh_keys; /* `ssh_key`: names */
	char *ssh_user;
	char *hostname; /* NULL: the machine's name */
	bool autostart;
	struct strv after;
	int on_change; /* enum on_change */
	int restart;   /* enum restart_policy */
	uint64_t restart_delay, restart_max_delay, restart_reset, restart_limit;
	uint64_t stop_timeout;           /* for the guest's own shutdown */
	uint64_t start_timeout;          /* spawn to monitor */
	int pull;                        /* enum pull_policy */
	int stop_on_panic;               /* `on_panic`: 0 ignore, 1 stop */
	bool jail, start_paused, reboot; /* reboot = no: a guest's reboot ends the run */
	struct strv health;              /* checks as written: supervisor/health-check.h */
	uint64_t health_interval, health_timeout, health_retries, health_start_period;
	int health_action;   /* enum health_action */
	int watchdog;        /* index into watchdog_words (config-keys.c); 0: none */
	int watchdog_action; /* index into "reset", "poweroff", "pause", "none" */
	bool agent;          /* the guest has an agent's port */
	int memory_limit;    /* enum memory_limit; of the others 0 is none */
	uint64_t memory_overhead, memory_high, cpu_limit, cpu_weight, io_weight, pids_limit;
	uint64_t io_read_limit, io_write_limit, io_read_ops, io_write_ops; /* a second */
	bool balloon, tpm, secure_boot;
	int vhost;              /* 0: auto, 1: yes, 2: no */
	char *vsock;            /* "none", "auto" or a CID */
	int display;            /* enum vm_display */
	uint64_t hotplug_slots; /* ports for devices that are added while it runs */
	bool qmp_write;         /* clients of qmp.sock may change something */
	struct strv qemu_args;
	int64_t guest_id; /* filled by the supervisor, -1: none yet; not a key */
};

/* Sections of one kind, in the order of the file. */
struct config_array {
	struct config_section **v; /* cast by kind: struct vm_config * ... */
	size_t n;
};

struct config {
	struct drover_config *drover;
	struct config_array by_kind[SECTION_KINDS];
	struct strv files; /* every file that was read, for the log */
	char *path;
};

/* One mistake; line 0: about the file as a whole, or about an argument or variable. */
struct config_error {
	char *file;
	unsigned line;
	char *message;
};
struct config_errors {
	struct config_error *v;
	size_t n;
};
void config_errors_finish(struct config_errors *e);
/* "FILE:LINE: MESSAGE\n" for each. */
void config_errors_print(const struct config_errors *e, struct buf *out);

/* What comes before the files: arguments, then the environment (DROVER_RUN_ID ...). */
struct config_override {
	const char *key; /* a key of [drover] */
	const char *value;
	const char *source; /* "--run-dir" or "DROVER_RUN_DIR", for messages */
};

/*
 * Reads path and what it includes. All mistakes are reported, not only the first; *out is written
 * only when there is none. guest_id gives the number for {{guestId}} of a machine's name (NULL:
 * all get 0, for `droverd -n`).
 */
struct config_load_opts {
	const char *path;
	const struct config_override
		*overrides; /* arguments; the environment is read by config_load */
	size_t noverrides;
	bool dropins; /* read those below state_dir, too (supervisor/dropin.h) */
	int64_t (*guest_id)(void *arg, const char *vm);
	void *arg;
};
int config_load(struct config **out, const struct config_load_opts *opts,
	struct config_errors *errors, struct err *err);
void config_destroy(struct config *c);

/* NULL when there is none of this name. */
const struct config_section *config_find(
	const struct config *c, enum section_kind kind, const char *name);
#define config_vm(c, name)                                                                         \
	((const struct vm_config *)(const void *)config_find(c, SECTION_VM, name))
#define config_network(c, name)                                                                    \
	((const struct network_config *)(const void *)config_find(c, SECTION_NETWORK, name))
#define config_sshkey(c, name)                                                                     \
	((const struct key_config *)(const void *)config_find(c, SECTION_KEY, name))

/* A key's value as text, in the form that the file would have it (lists joined by newline). */
void config_value_text(const struct config_section *s, const struct config_key *k, struct buf *out);
/* The whole effective configuration as INI; with all also defaults. */
void config_print(const struct config *c, bool all, struct buf *out);
/* What is set of one section, under another name, but for what skip() says. */
void config_print_section(const struct config_section *s, const char *name,
	bool (*skip)(const struct config_key *k), struct buf *out);
/* etc/drover.ini: every key with its help and default, from the table. */
void config_print_reference(struct buf *out);

/*
 * {{vm.NAME.address}}, {{network.NAME.bridge}}, {{key.NAME.public}} and {{macAddress}} (the first
 * nic's) are not known when a file is read. They stay in values of `late` keys, without white space
 * between the braces; config_expand() puts them in when the machine starts: lookup gets
 * "vm.NAME.address" and returns a malloc'd value, or NULL with err filled.
 */
typedef char *config_lookup_fn(void *arg, const char *ref, struct err *err);
int config_expand(
	const char *value, config_lookup_fn *lookup, void *arg, char **out, struct err *err);
/* Names of the machines that vm's values refer to: they start first. */
int config_vm_references(const struct vm_config *vm, struct strv *out);
/*
 * The machines' places in by_kind in the order of the file, but what a machine refers to before it;
 * order has room for all. Each loop is reported (a loaded config has none) with the place of one of
 * its machines and its path, "'a' -> 'b' -> 'a'", and is cut. Returns 0 or -ENOMEM.
 */
typedef void config_loop_fn(void *arg, size_t at, const char *path);
int config_vm_order(const struct config *c, size_t *order, config_loop_fn *loop, void *arg);

#endif
