/* drover-image: see oci/image.h. */
#include <curl/curl.h>
#include <errno.h>
#include <getopt.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <config.h>
#include "lib/log.h"
#include "oci/job.h"

enum {
	NEEDS_STORE = 1 << 0,
	NEEDS_REF = 1 << 1,
	NEEDS_FROM_TO = 1 << 2,
	TAKES_PULL = 1 << 3,
	TAKES_SIZE = 1 << 4,
	TAKES_INJECT = 1 << 5,
	NEEDS_RELAY = 1 << 6,
	NEEDS_DISK = 1 << 7,
	NEEDS_FROM = 1 << 8,
	NEEDS_TO = 1 << 9,
	TAKES_BUDGET = 1 << 10,
	TAKES_AGE = 1 << 11,
	NEEDS_STORAGE = 1 << 12,
	NEEDS_SPOOL = 1 << 13,
	TAKES_DISK_SIZE = 1 << 14
};

static const struct verb {
	const char *name;
	job_fn *run;
	unsigned flags;
	const char *help;
} verbs[] = {
	{ "pull", job_pull, NEEDS_STORE | NEEDS_REF | TAKES_PULL | TAKES_BUDGET,
		"fetches manifest and layers into the store" },
	{ "kernel", job_kernel, NEEDS_STORE | NEEDS_REF | TAKES_PULL | TAKES_BUDGET,
		"takes kernel and initrd out of /boot; pulls first if need be" },
	{ "rootfs", job_rootfs,
		NEEDS_STORE | NEEDS_REF | TAKES_PULL | TAKES_SIZE | TAKES_DISK_SIZE | TAKES_BUDGET,
		"makes the ext4 disk, or finds it made; pulls first if need be" },
	{ "clone", job_clone, NEEDS_FROM_TO | TAKES_SIZE | TAKES_INJECT,
		"copies a disk for one machine, by reflink or an overlay where that is possible" },
	{ "flatten", job_flatten, NEEDS_FROM | NEEDS_TO,
		"writes an overlay out to a whole disk, which takes its place" },
	{ "inject", job_inject, NEEDS_DISK | TAKES_INJECT,
		"writes name and keys into a machine's disk that is there already" },
	{ "list", job_list, NEEDS_STORE, "lists the images of the store" },
	{ "inspect", job_inspect, NEEDS_STORE | NEEDS_REF | TAKES_PULL | TAKES_BUDGET,
		"tells what an image holds and how it would be started; pulls first if need be" },
	{ "outdated", job_outdated, NEEDS_STORE | TAKES_PULL,
		"lists the images whose tag names something else by now" },
	{ "verify", job_verify, NEEDS_STORE,
		"reads every blob, and removes those that are damaged" },
	{ "rm", job_rm, NEEDS_STORE | NEEDS_REF, "removes images and what only they needed" },
	{ "import", job_import, NEEDS_STORE | NEEDS_FROM | TAKES_PULL | TAKES_BUDGET,
		"takes an image out of a file into the store: an archive or folder of the OCI layout, "
		"what docker save writes, a disk" },
	{ "export", job_export, NEEDS_STORE | NEEDS_REF | NEEDS_TO,
		"writes an image of the store into a file, an archive of the OCI layout" },
	{ "prune", job_prune, NEEDS_STORE | TAKES_BUDGET | TAKES_AGE,
		"removes images beyond the limits, and what no image needs" },
	{ "cache-prune", job_cache_prune, NEEDS_STORAGE | TAKES_AGE,
		"keeps the storage of a docker-registry, which must not run, to a size and an age" },
	{ "prefetch", job_prefetch, NEEDS_SPOOL | NEEDS_REF | TAKES_PULL,
		"pulls through a cache, which keeps what comes; nothing else does" },
	{ "sandbox", job_sandbox_report, 0, "tells what of the sandbox this kernel has" },
	{ "relay", job_relay, NEEDS_RELAY,
		"stands before a registry and fetches each blob once (for droverd's caches)" },
};

enum option_id {
	OPT_STORE = 256,
	OPT_REF,
	OPT_MIRROR,
	OPT_PLAIN_HTTP,
	OPT_AUTH_FILE,
	OPT_PLATFORM,
	OPT_POLICY,
	OPT_TRIES,
	OPT_STALL,
	OPT_SIZE,
	OPT_FROM,
	OPT_TO,
	OPT_DISK,
	OPT_INJECT,
	OPT_NO_SYNC,
	OPT_LISTEN_FD,
	OPT_UPSTREAM,
	OPT_SPOOL,
	OPT_MEMORY_LIMIT,
	OPT_TIME_LIMIT,
	OPT_IMAGE_MAX,
	OPT_NAME,
	OPT_BUDGET,
	OPT_AGE,
	OPT_KEEP,
	OPT_STORAGE,
	OPT_DRY_RUN,
	OPT_METHOD,
	OPT_OVERLAY,
	OPT_IF_COPIED,
	OPT_QCOW2,
	OPT_FLATTEN,
	OPT_HELP
};

static const struct option_row {
	const char *name, *value;
	enum option_id id;
	unsigned verbs; /* shown and taken for verbs with one of these flags; 0: for all */
	const char *help;
} rows[] = {
	{ "store", "DIR", OPT_STORE, NEEDS_STORE, "the folder of images (state_dir/oci)" },
	{ "ref", "REF", OPT_REF, NEEDS_REF, "an image, host/name:tag or host/name@digest; repeat" },
	{ "mirror", "HOST=URL", OPT_MIRROR, TAKES_PULL, "pull from URL what is HOST's; repeat" },
	{ "plain-http", "HOST", OPT_PLAIN_HTTP, TAKES_PULL, "a registry without TLS; repeat" },
	{ "auth-file", "FILE", OPT_AUTH_FILE, TAKES_PULL, "credentials, a docker config.json" },
	{ "platform", "OS/ARCH", OPT_PLATFORM, TAKES_PULL, "linux/amd64 by default" },
	{ "policy", "WHEN", OPT_POLICY, TAKES_PULL, "pull when missing (default), always, never" },
	{ "tries", "N", OPT_TRIES, TAKES_PULL, "of a request that fails for the moment; 5" },
	{ "stall", "TIME", OPT_STALL, TAKES_PULL, "how long a registry may be silent; 30s" },
	{ "size", "BYTES", OPT_SIZE, TAKES_SIZE, "of the disk, e.g. 16G" },
	{ "unshared-size", "BYTES", OPT_IF_COPIED, TAKES_DISK_SIZE,
		"the same, where copies of it cannot share its blocks and grow" },
	{ "memory-limit", "BYTES", OPT_MEMORY_LIMIT, TAKES_PULL, "of unpacking; 1G" },
	{ "time-limit", "TIME", OPT_TIME_LIMIT, TAKES_PULL, "of unpacking; 1h" },
	{ "budget", "BYTES", OPT_BUDGET, TAKES_BUDGET | NEEDS_STORAGE,
		"that the store may occupy" },
	{ "max-age", "TIME", OPT_AGE, TAKES_AGE, "since an image was used" },
	{ "keep", "REF", OPT_KEEP, TAKES_BUDGET, "an image that stays in any case; repeat" },
	{ "storage", "DIR", OPT_STORAGE, NEEDS_STORAGE, "docker-registry's rootdirectory" },
	{ "dry-run", NULL, OPT_DRY_RUN, NEEDS_STORAGE, "tells only what would be removed" },
	{ "image-max", "BYTES", OPT_IMAGE_MAX, TAKES_PULL, "of an image that is one file; 256G" },
	{ "from", "FILE", OPT_FROM, NEEDS_FROM_TO | NEEDS_FROM, "what is copied" },
	{ "to", "FILE", OPT_TO, NEEDS_FROM_TO | NEEDS_TO, "the copy; replaced if it is there" },
	{ "method", "HOW", OPT_METHOD, NEEDS_FROM_TO,
		"reflink, overlay or copy; auto (default): the first that can be" },
	{ "overlay", "FILE", OPT_OVERLAY, NEEDS_FROM_TO,
		"where an overlay would be made, in place of --to; none without it" },
	{ "qcow2", NULL, OPT_QCOW2, NEEDS_DISK, "the disk is such an overlay" },
	{ "flatten", "FILE", OPT_FLATTEN, NEEDS_DISK,
		"a whole disk that takes its place where e2fsck has to mend the filesystem" },
	{ "name", "REF", OPT_NAME, NEEDS_FROM, "what the image is called; else as the file says" },
	{ "disk", "FILE", OPT_DISK, NEEDS_DISK, "an ext4 that nobody uses" },
	{ "inject", "FILE", OPT_INJECT, TAKES_INJECT,
		"JSON: {\"hostname\", \"user\", \"authorized_keys\", \"root_device\", \"hosts\", "
		"\"network\"}" },
	{ "no-sync", NULL, OPT_NO_SYNC, NEEDS_FROM_TO,
		"the copy need not outlive a crash of the host" },
	{ "listen-fd", "N", OPT_LISTEN_FD, NEEDS_RELAY, "a listening TCP socket that was passed" },
	{ "upstream", "URL", OPT_UPSTREAM, NEEDS_RELAY, "the registry, such as https://ghcr.io" },
	{ "spool", "DIR", OPT_SPOOL, NEEDS_RELAY | NEEDS_SPOOL,
		"has room for the blobs under way" },
	{ "help", NULL, OPT_HELP, 0, "this text" },
};

static void help(const struct verb *v)
{
	char left[64];

	if (v != NULL) {
		printf("usage: drover-image %s [OPTION]...\n%s\n\n", v->name, v->help);
	} else {
		printf("usage: drover-image VERB [OPTION]...\n\n");
		for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
			printf("  %-10s %s\n", verbs[i].name, verbs[i].help);
		printf("\n");
	}
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (v != NULL && rows[i].verbs != 0 && (rows[i].verbs & v->flags) == 0)
			continue;
		snprintf(left, sizeof(left), "--%s %s", rows[i].name,
			rows[i].value != NULL ? rows[i].value : "");
		printf("  %-22s %s\n", left, rows[i].help);
	}
	printf("\nThe result is told as JSON lines on standard output. "
	       "Exit status: 0 done, 1 failed, 2 usage.\n");
}

static int parse_policy(const char *s, enum pull_policy *out, struct err *err)
{
	static const char *const names[] = { "missing", "always", "never" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(s, names[i]) == 0) {
			*out = (enum pull_policy)i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "policy %s: must be missing, always or never", quote(s));
}

static int parse_method(const char *s, struct job_opts *o, struct err *err)
{
	o->method_given = strcmp(s, "auto") != 0;
	for (int m = CLONE_REFLINK; m <= CLONE_OVERLAY && o->method_given; m++) {
		o->method = (enum clone_method)m;
		if (strcmp(s, clone_method_name(o->method)) == 0)
			return 0;
	}
	return o->method_given
		       ? err_set(err, -EINVAL, "method %s: must be auto, reflink, overlay or copy",
				 quote(s))
		       : 0;
}

static int take_option(struct job_opts *o, enum option_id id, const char *value, struct err *err)
{
	uint64_t n;
	int r = 0;

	switch (id) {
	case OPT_STORE:
		o->store = value;
		break;
	case OPT_REF:
		strv_add(&o->refs, value);
		break;
	case OPT_MIRROR:
		r = registry_mirror_check(value, err);
		strv_add(&o->registry.mirrors, value);
		break;
	case OPT_PLAIN_HTTP:
		strv_add(&o->registry.plain_http, value);
		break;
	case OPT_AUTH_FILE:
		o->registry.auth_file = value;
		break;
	case OPT_PLATFORM:
		r = platform_parse(value, &o->platform, err);
		break;
	case OPT_POLICY:
		r = parse_policy(value, &o->policy, err);
		break;
	case OPT_TRIES:
		r = parse_u64(value, 1, 100, &n, err);
		o->registry.tries = r == 0 ? (unsigned)n : 0;
		break;
	case OPT_STALL:
		r = parse_duration_ms(value, &o->registry.stall_ms, err);
		break;
	case OPT_SIZE:
		r = parse_size(value, &o->size, err);
		break;
	case OPT_METHOD:
		r = parse_method(value, o, err);
		break;
	case OPT_OVERLAY:
		o->overlay = value;
		break;
	case OPT_IF_COPIED:
		r = parse_size(value, &o->size_if_copied, err);
		break;
	case OPT_FLATTEN:
		o->flatten = value;
		break;
	case OPT_QCOW2:
		o->qcow2 = true;
		break;
	case OPT_FROM:
		o->from = value;
		break;
	case OPT_TO:
	case OPT_DISK:
		o->to = value;
		break;
	case OPT_INJECT:
		o->inject = value;
		break;
	case OPT_NO_SYNC:
		o->no_sync = true;
		break;
	case OPT_LISTEN_FD:
		r = parse_u64(value, 0, 65535, &n, err);
		o->listen_fd = r == 0 ? (int)n : -1;
		break;
	case OPT_UPSTREAM:
		o->upstream = value;
		break;
	case OPT_MEMORY_LIMIT:
		r = parse_size(value, &o->limits.memory_bytes, err);
		break;
	case OPT_TIME_LIMIT:
		r = parse_duration_ms(value, &o->limits.time_ms, err);
		break;
	case OPT_NAME:
		o->name = value;
		break;
	case OPT_IMAGE_MAX:
		r = parse_size(value, &o->max_bytes, err);
		break;
	case OPT_BUDGET:
		r = parse_size(value, &o->prune.budget, err);
		break;
	case OPT_AGE:
		r = parse_duration_ms(value, &o->prune.age_ms, err);
		break;
	case OPT_KEEP:
		strv_add(&o->prune.keep, value);
		break;
	case OPT_STORAGE:
		o->storage = value;
		break;
	case OPT_DRY_RUN:
		o->dry_run = true;
		break;
	case OPT_SPOOL:
		o->spool = value;
		break;
	case OPT_HELP:
		break;
	}
	return r;
}

static int check(const struct job_opts *o, const struct verb *v, struct err *err)
{
	if (o->refs.bad || o->registry.mirrors.bad || o->registry.plain_http.bad ||
		o->prune.keep.bad)
		return err_nomem(err);
	if ((v->flags & NEEDS_STORE) && o->store == NULL)
		return err_set(err, -EINVAL, "--store is missing");
	if ((v->flags & NEEDS_SPOOL) && o->spool == NULL)
		return err_set(err, -EINVAL, "--spool is missing");
	if ((v->flags & NEEDS_STORAGE) && o->storage == NULL)
		return err_set(err, -EINVAL, "--storage is missing");
	if ((v->flags & NEEDS_REF) && o->refs.n == 0)
		return err_set(err, -EINVAL, "--ref is missing");
	if ((v->flags & NEEDS_FROM_TO) && (o->from == NULL || o->to == NULL))
		return err_set(err, -EINVAL, "--from and --to are needed");
	if ((v->flags & NEEDS_FROM) && o->from == NULL)
		return err_set(err, -EINVAL, "--from is missing");
	if ((v->flags & NEEDS_TO) && o->to == NULL)
		return err_set(err, -EINVAL, "--to is missing");
	if ((v->flags & NEEDS_DISK) && (o->to == NULL || o->inject == NULL))
		return err_set(err, -EINVAL, "--disk and --inject are needed");
	if ((v->flags & NEEDS_RELAY) &&
		(o->listen_fd < 0 || o->upstream == NULL || o->spool == NULL))
		return err_set(err, -EINVAL, "--listen-fd, --upstream and --spool are needed");
	return 0;
}

/* 0: go on; 1: help was printed; -errno. */
static int parse(int argc, char **argv, const struct verb *v, struct job_opts *o, struct err *err)
{
	struct option longs[ARRAY_LEN(rows) + 1] = { 0 };
	size_t n = 0;
	int id, r;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (rows[i].verbs != 0 && (rows[i].verbs & v->flags) == 0)
			continue;
		longs[n].name = rows[i].name;
		longs[n].has_arg = rows[i].value != NULL ? required_argument : no_argument;
		longs[n++].val = (int)rows[i].id;
	}
	opterr = 0;
	while ((id = getopt_long(argc, argv, ":", longs, NULL)) != -1) {
		if (id == OPT_HELP) {
			help(v);
			return 1;
		}
		if (id == ':')
			return err_set(err, -EINVAL, "option %s needs a value", argv[optind - 1]);
		if (id == '?')
			return err_set(err, -EINVAL, "option %s is not known to %s",
				quote(argv[optind - 1]), v->name);
		r = take_option(o, (enum option_id)id, optarg, err);
		if (r < 0)
			return r;
	}
	if (optind < argc)
		return err_set(err, -EINVAL, "argument %s is one too many", quote(argv[optind]));
	return check(o, v, err);
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; name != NULL && i < ARRAY_LEN(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	}
	return NULL;
}

static int no_verb(const char *name)
{
	if (name != NULL && strcmp(name, "--help") == 0) {
		help(NULL);
		return 0;
	}
	if (name != NULL && strcmp(name, "--version") == 0) {
		puts("drover-image " PACKAGE_VERSION);
		return 0;
	}
	fprintf(stderr, "drover-image: %s; see drover-image --help\n",
		name != NULL ? "there is no such verb" : "a verb is missing");
	return 2;
}

int main(int argc, char **argv)
{
	struct job_opts o = { .registry = REGISTRY_CONF_DEFAULT,
		.limits = UNPACK_LIMITS_DEFAULT,
		.max_bytes = IMAGE_MAX_DEFAULT,
		.listen_fd = -1,
		.platform = { .os = "linux", .architecture = "amd64" } };
	const struct verb *v = find_verb(argv[1]);
	struct err err = { 0 };
	int r;

	/* libarchive reads names by the locale: those of layers are UTF-8. */
	if (setlocale(LC_CTYPE, "C.UTF-8") == NULL)
		setlocale(LC_CTYPE, "");
	/* A reader that went away is no reason to stop (oci/progress.h). */
	signal(SIGPIPE, SIG_IGN);
	srandom((unsigned)getpid() ^ (unsigned)time(NULL));
	if (v == NULL)
		return no_verb(argv[1]);
	r = parse(argc - 1, argv + 1, v, &o, &err);
	if (r != 0) {
		if (r < 0)
			fprintf(stderr, "drover-image %s: %s\n", v->name, err.msg);
		r = r < 0 ? 2 : 0;
		goto out;
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	r = v->run(&o) < 0 ? 1 : 0;
	curl_global_cleanup();
out:
	strv_finish(&o.refs);
	strv_finish(&o.registry.mirrors);
	strv_finish(&o.registry.plain_http);
	strv_finish(&o.prune.keep);
	return r;
}
