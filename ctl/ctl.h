/*
 * ctl/ctl.h - what the verbs of `drover` share: options, exit statuses, the table of verbs. One
 * thread that may block.
 */
#ifndef DROVER_CTL_CTL_H
#define DROVER_CTL_CTL_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/str.h"

struct api;

/* What a program may tell apart. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1,
	CTL_USAGE = 2,
	CTL_NOT_FOUND = 3,
	CTL_WRONG_STATE = 4,
	CTL_UNREACHABLE = 5
};

struct opt {
	const char *name; /* without its dashes */
	char letter;      /* 0: none */
	const char *arg;  /* "SECONDS"; NULL: a flag */
	const char *help;
};

#define CTL_OPTS_MAX 8

struct ctl;

struct verb {
	const char *group; /* heading in the help */
	const char *name;  /* "image list": two words are fine */
	const char *args;  /* "NAME..." */
	unsigned min, max; /* number of arguments */
	bool rest;         /* after the first argument all belong to another program */
	const char *help;  /* one line */
	const char *more;  /* paragraphs for `drover help VERB`; may be NULL */
	struct opt opts[CTL_OPTS_MAX];
	int (*run)(struct ctl *c); /* returns an enum ctl_exit */
};
extern const struct verb verbs[];
extern const size_t nverbs;

struct ctl {
	const struct verb *verb;
	const char *group; /* of `drover image --help`: "image" */
	struct strv args;
	const char
		*values[CTL_OPTS_MAX]; /* by the verb's options; "" for a flag; NULL: not given */
	const char *socket;            /* --socket; NULL: to be searched */
	bool json;
	struct api *api; /* opened at the first call */
};

/* The value of the running verb's option; NULL when it was not given. name must be one of them. */
const char *ctl_opt(const struct ctl *c, const char *name);
bool ctl_flag(const struct ctl *c, const char *name);
/* Prints "drover: SENTENCE" and the verb's usage line; returns CTL_USAGE. */
int ctl_usage(const struct ctl *c, const char *fmt, ...) PRINTF(2, 3);
/* Prints "drover: SENTENCE"; returns CTL_FAILED. */
int ctl_fail(const char *fmt, ...) PRINTF(1, 2);
/* Numbers of seconds, "90" or "5m"; def when the option is missing. CTL_OK or CTL_USAGE. */
int ctl_seconds(const struct ctl *c, const char *name, uint64_t def, uint64_t *out);

/* Checks that the option, if it is given, is a whole number. CTL_OK or CTL_USAGE. */
int ctl_number(const struct ctl *c, const char *name);

/*
 * Fills verb, args, values, socket and json of c. CTL_OK; CTL_USAGE after the message; -1 when
 * help was asked for (verb is NULL then if it is the general one).
 */
int ctl_parse(struct ctl *c, int argc, char **argv);

/* "drover start NAME... [--timeout SECONDS]" */
void verb_usage(const struct verb *v, struct buf *out);
const struct verb *verb_find(const char *const *words, size_t n, size_t *used);

/* The verbs, by file. */
int verb_list(struct ctl *c);
int verb_show(struct ctl *c);
int verb_start(struct ctl *c);
int verb_stop(struct ctl *c);
int verb_reset(struct ctl *c);
int verb_nmi(struct ctl *c);
int verb_resize(struct ctl *c);
int verb_dump(struct ctl *c);
int verb_screendump(struct ctl *c);
int verb_stats(struct ctl *c);
int verb_disk_list(struct ctl *c);
int verb_disk_add(struct ctl *c);
int verb_disk_remove(struct ctl *c);
int verb_nic_list(struct ctl *c);
int verb_nic_add(struct ctl *c);
int verb_nic_remove(struct ctl *c);
int verb_kill(struct ctl *c);
int verb_restart(struct ctl *c);
int verb_pause(struct ctl *c);
int verb_resume(struct ctl *c);
int verb_suspend(struct ctl *c);
int verb_clone(struct ctl *c);
int verb_migrate(struct ctl *c);
int verb_snapshot_create(struct ctl *c);
int verb_snapshot_list(struct ctl *c);
int verb_snapshot_show(struct ctl *c);
int verb_snapshot_restore(struct ctl *c);
int verb_snapshot_delete(struct ctl *c);
int verb_rm(struct ctl *c);
int verb_cancel(struct ctl *c);
int verb_console(struct ctl *c);
int verb_log(struct ctl *c);
int verb_ssh(struct ctl *c);
int verb_qmp(struct ctl *c);
int verb_hmp(struct ctl *c);
int verb_ch(struct ctl *c);
int verb_why(struct ctl *c);
int verb_events(struct ctl *c);
int verb_plan(struct ctl *c);
int verb_reload(struct ctl *c);
int verb_config(struct ctl *c);
int verb_check(struct ctl *c);
int verb_pull(struct ctl *c);
int verb_image_list(struct ctl *c);
int verb_image_rm(struct ctl *c);
/* Of what rm and prune leave in the store. */
void image_print_in_use(int64_t stay);
int verb_image_import(struct ctl *c);
int verb_image_export(struct ctl *c);
int verb_image_inspect(struct ctl *c);
int verb_image_outdated(struct ctl *c);
int verb_image_prune(struct ctl *c);
int verb_image_verify(struct ctl *c);
int verb_registry_list(struct ctl *c);
int verb_net_list(struct ctl *c);
int verb_net_show(struct ctl *c);
int verb_net_leases(struct ctl *c);
int verb_net_check(struct ctl *c);
int verb_ca_show(struct ctl *c);
int verb_net_graph(struct ctl *c);
int verb_doctor(struct ctl *c);
int verb_version(struct ctl *c);
int verb_help(struct ctl *c);

#endif
