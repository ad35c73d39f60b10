/* supervisor/examine-private.h - between the files of examine.h. */
#ifndef DROVER_SUPERVISOR_EXAMINE_PRIVATE_H
#define DROVER_SUPERVISOR_EXAMINE_PRIVATE_H

#include <limits.h>
#include "lib/deadline.h"
#include "lib/json.h"
#include "lib/util.h"
#include "supervisor/examine.h"

struct examination {
	struct examine_opts o;
	json_t *checks, *changes, *undo;
	bool bad;
	struct asked *asked; /* programs, while they are asked */
	size_t asking;       /* how many have not answered yet */
	char kernel[128];    /* its release; "": not known */
	struct deadline end; /* its closing calls done */
	examine_done_fn *done;
	void *arg;
};

/* The parts, in the order of the report; each adds its findings and changes. */
void examine_kvm(struct examination *x);
void examine_devices(struct examination *x);
void examine_limits(struct examination *x);
void examine_space(struct examination *x);
void examine_host_net(struct examination *x);
void examine_security(struct examination *x);
/* These two last: the one ends with the other, and that with examine_end(). */
void examine_programs(struct examination *x);
void examine_firewall(struct examination *x);
void examine_end(struct examination *x);
/* What --fix left here before: x->undo. */
void examine_undo(struct examination *x);

/* The path below the root. Static buffers, the last eight are good. */
const char *examine_path(const struct examination *x, const char *fmt, ...) PRINTF(2, 3);
/* First line of a file below the root; false: it cannot be read. */
bool examine_line(const struct examination *x, const char *path, char *line, size_t cap);
/* The whole of a small file; b is emptied first. */
bool examine_file(const struct examination *x, const char *path, struct buf *b);
/* A number in a file of one line; false: there is none. "max" and "unlimited" are UINT64_MAX. */
bool examine_number(const struct examination *x, const char *path, uint64_t *out);

bool examine_leaving(const struct examination *x);
/* Whether networks need links of this host, that is all but kind = user; none may be known. */
bool examine_has_links(const struct examination *x);
/* How many machines and networks are configured; 0 without a configuration. */
size_t examine_machines(const struct examination *x);
size_t examine_networks(const struct examination *x);

enum module {
	MODULE_HERE,    /* loaded, or in the kernel */
	MODULE_BUILTIN, /* in the kernel */
	MODULE_FOUND,   /* can be loaded */
	MODULE_ABSENT,  /* this kernel has none */
	MODULE_UNKNOWN  /* it is not loaded, and there is no list of what could be */
};
enum module examine_module(const struct examination *x, const char *name);

/* Hypervisors that run, "qemu-system-x86_64 (pid 12), ..."; false: none. */
bool examine_hypervisors(const struct examination *x, struct buf *out);

/*
 * A change for --fix: steps and back are taken over. refused: why it cannot be made now; NULL: it can.
 */
void examine_change(struct examination *x, const char *check, const char *title,
	const char *refused, json_t *steps, json_t *back);
void step_write(json_t *steps, const struct examination *x, const char *path, const char *text);
void step_remove(json_t *steps, const struct examination *x, const char *path);
/* argv ends with NULL; none with a root, whose kernel does not run. */
void step_run(json_t *steps, const struct examination *x, bool may_fail, const char *const *argv);
/* Loads a module, now and at each boot. */
void examine_load(struct examination *x, const char *check, const char *module);
/* What nested virtualization needs: module is kvm_intel or kvm_amd. */
void examine_nest(struct examination *x, const char *module, const char *refused);

#define EXAMINE_MARK "# Written by `drover doctor --fix`; `drover doctor --undo` removes it.\n"

#endif
