#include "supervisor/args.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <config.h>
#include "lib/json.h"
#include "supervisor/faults.h"

#define DEFAULT_PATH "/etc/drover/drover.ini"

static const char usage[] =
	"usage: droverd [-c FILE] [-n] [--plan [-o json]] [--doctor [--root DIR]] [--KEY VALUE]...\n"
	"\n"
	"  -c, --config FILE   the configuration (default " DEFAULT_PATH ")\n"
	"  -n, --check         check the configuration, print every error, and exit\n"
	"      --plan          with -n: print what a first start would do\n"
	"      --doctor        print what the host has and lacks, as JSON, and exit\n"
	"      --root DIR      with --doctor: of the tree in DIR, such as that of an image\n"
	"      --reference     print every key with its default, as etc/drover.ini\n"
	"  -o json             with --plan: for programs\n"
	"  -V, --version\n"
	"  -h, --help\n"
	"\n"
	"Every key of [drover] is an argument, too: --run-dir DIR, --log-level debug, ...\n"
	"Arguments come before the environment (DROVER_RUN_DIR, ...), that before the files.\n"
	"\n"
	"Signals: HUP reloads, TERM and INT leave (on_exit = keep: the machines run on),\n"
	"USR1 logs the state, USR2 executes the installed droverd in place.\n";

static const struct config_key *drover_key(const char *arg)
{
	char name[64];

	snprintf(name, sizeof(name), "%s", arg);
	for (char *s = name; *s != '\0'; s++) {
		if (*s == '-')
			*s = '_';
	}
	for (size_t i = 0; i < config_nkeys; i++) {
		if (config_keys[i].section == SECTION_DROVER &&
			strcmp(config_keys[i].name, name) == 0)
			return &config_keys[i];
	}
	return NULL;
}

static int wrong(const char *what, const char *arg)
{
	fprintf(stderr, "droverd: %s %s\n%.*s", what, quote(arg),
		(int)(strchr(usage, '\n') - usage + 1), usage);
	return 2;
}

static int add_override(struct args *a, const char *arg, const char *value)
{
	const struct config_key *k = drover_key(arg + 2);
	struct config_override *v;

	if (k == NULL)
		return wrong("there is no argument", arg);
	if (value == NULL)
		return wrong("a value is missing after", arg);
	v = realloc(a->overrides, (a->noverrides + 1) * sizeof(*v));
	if (v == NULL)
		return 1;
	v[a->noverrides++] = (struct config_override){ k->name, value, arg };
	a->overrides = v;
	return -1;
}

static int print_reference(void)
{
	struct buf text = { 0 };

	config_print_reference(&text);
	fputs(buf_str(&text), stdout);
	buf_finish(&text);
	return 0;
}

#ifdef DROVER_FAULTS
/* "TABLE POINT kill" or "TABLE POINT kill fail", for tests/e2e/crash.sh. */
static int print_faults(void)
{
	static const struct fault_table *const tables[] = { &start_faults, &run_faults,
		&attach_faults, &network_faults, &port_faults, &user_faults, &macvtap_faults,
		&service_faults, &stop_faults, &teardown_faults, &release_faults, &reload_faults,
		&boot_faults, &adopt_faults, &snapshot_faults, &restore_faults, &suspend_faults,
		&clone_faults, &nic_faults, &freeze_faults, &warm_faults, &migrate_faults,
		&receive_faults };

	for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
		for (size_t i = 0; tables[t]->point(i) != NULL; i++)
			printf("%s %s kill%s\n", tables[t]->name, tables[t]->point(i),
				(tables[t]->fails & FAULT_BIT(i)) != 0 ? " fail" : "");
	}
	return 0;
}
#endif

static int set_root(struct args *a, const char *dir)
{
	struct stat st;

	if (dir == NULL || dir[0] != '/')
		return wrong("an absolute path is missing after", "--root");
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode))
		return wrong("this is no folder:", dir);
	/* That of the host is no other tree. */
	a->root = dir[strspn(dir, "/")] != '\0' ? dir : NULL;
	return -1;
}

static int one(struct args *a, const char *arg, const char *next, int *i)
{
	if (strcmp(arg, "-c") == 0 || strcmp(arg, "--config") == 0) {
		if (next == NULL)
			return wrong("a file is missing after", arg);
		a->path = next;
		a->path_given = true;
		++*i;
	} else if (strcmp(arg, "-n") == 0 || strcmp(arg, "--check") == 0) {
		a->check = true;
	} else if (strcmp(arg, "--plan") == 0) {
		a->plan = a->check = true;
	} else if (strcmp(arg, "-o") == 0) {
		if (!str_eq(next, "json"))
			return wrong("only json is known after", arg);
		a->json = true;
		++*i;
	} else if (strcmp(arg, "--doctor") == 0) {
		a->doctor = true;
	} else if (strcmp(arg, "--root") == 0) {
		++*i;
		return set_root(a, next);
	} else if (strcmp(arg, "--reference") == 0) {
		return print_reference();
#ifdef DROVER_FAULTS
	} else if (strcmp(arg, "--fault-points") == 0) {
		return print_faults();
#endif
	} else if (strcmp(arg, "-V") == 0 || strcmp(arg, "--version") == 0) {
		puts("droverd " PACKAGE_VERSION);
		return 0;
	} else if (strcmp(arg, "-h") == 0 || strcmp(arg, "--help") == 0) {
		fputs(usage, stdout);
		return 0;
	} else if (str_starts(arg, "--")) {
		++*i;
		return add_override(a, arg, next);
	} else {
		return wrong("there is no argument", arg);
	}
	return -1;
}

int args_parse(struct args *a, int argc, char **argv)
{
	a->path = DEFAULT_PATH;
	for (int i = 1; i < argc; i++) {
		int r = one(a, argv[i], argv[i + 1], &i);

		if (r >= 0)
			return r;
	}
	return -1;
}

void args_finish(struct args *a)
{
	free(a->overrides);
	a->overrides = NULL;
}

void args_print_plan(const struct args *a, const struct plan *p)
{
	json_t *j;
	char *text;

	if (!a->json) {
		for (size_t i = 0; i < p->n; i++)
			printf("%s %s %s: %s\n", plan_op_name(p->v[i].op),
				section_kind_name(p->v[i].kind), p->v[i].name, p->v[i].reason);
		if (p->n == 0)
			puts("nothing to do");
		return;
	}
	j = plan_json(p);
	text = json_text(j);
	puts(text != NULL ? text : "{}");
	free(text);
	json_decref(j);
}
