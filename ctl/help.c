#include "ctl/help.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <config.h>
#include "ctl/api.h"
#include "ctl/table.h"
#include "lib/json.h"

static const char statuses[] =
	"Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such thing, 4 not in this state,\n"
	"5 droverd cannot be reached.\n";

void help_text(struct buf *out)
{
	struct table t = { .columns = 2 };
	const char *group = "";

	buf_adds(out, "usage: drover [--socket PATH] [-o json] VERB [ARGUMENT...]\n");
	for (size_t i = 0; i < nverbs; i++) {
		const struct verb *v = &verbs[i];

		if (strcmp(v->group, group) != 0) {
			if (t.cells.n > 0)
				table_format(&t, out);
			buf_printf(out, "\n%s\n", v->group);
		}
		group = v->group;
		table_cellf(&t, "  %s%s%s", v->name, v->args[0] != '\0' ? " " : "", v->args);
		table_cell(&t, v->help);
	}
	table_format(&t, out);
	buf_adds(out,
		"\nOptions of all verbs\n"
		"  -o json        print what the API gave, for programs\n"
		"  --socket PATH  where droverd listens (default: $DROVER_SOCKET, else\n"
		"                 $XDG_RUNTIME_DIR/drover/api.sock, else /run/drover/api.sock)\n"
		"\n`drover VERB --help` explains one verb.\n");
	buf_adds(out, statuses);
}

static bool has_opts(const struct verb *v)
{
	return v->opts[0].name != NULL;
}

void help_verb(const struct verb *v, struct buf *out)
{
	struct table t = { .columns = 2 };

	buf_adds(out, "usage: ");
	verb_usage(v, out);
	buf_printf(out, "\n\n%s.\n", v->help);
	if (v->more != NULL)
		buf_printf(out, "%s\n", v->more);
	if (!has_opts(v))
		return;
	buf_adds(out, "\n");
	for (size_t i = 0; i < CTL_OPTS_MAX && v->opts[i].name != NULL; i++) {
		const struct opt *o = &v->opts[i];
		char letter[8] = "    ";

		if (o->letter != 0)
			snprintf(letter, sizeof(letter), "-%c, ", o->letter);
		table_cellf(&t, "  %s--%s%s%s", letter, o->name, o->arg != NULL ? " " : "",
			o->arg != NULL ? o->arg : "");
		table_cell(&t, o->help);
	}
	table_format(&t, out);
}

/* Verbs whose arguments are names of machines. */
static bool takes_names(const struct verb *v)
{
	return str_starts(v->args, "NAME") || str_starts(v->args, "[NAME");
}

static void completion_opts(struct buf *out)
{
	for (size_t i = 0; i < nverbs; i++) {
		const struct verb *v = &verbs[i];

		buf_printf(out, "\t'%s') opts='", v->name);
		for (size_t j = 0; j < CTL_OPTS_MAX && v->opts[j].name != NULL; j++)
			buf_printf(out, "--%s ", v->opts[j].name);
		buf_adds(out, "--help'");
		if (takes_names(v))
			buf_adds(out, " names=1");
		if (strstr(v->args, "FILE") != NULL)
			buf_adds(out, " files=1");
		buf_adds(out, " ;;\n");
	}
}

/* The words that may stand first, or second behind `first`. */
static void completion_words(struct buf *out, const char *first)
{
	size_t len = strlen(first);
	struct strv seen = { 0 };

	for (size_t i = 0; i < nverbs; i++) {
		const char *name = verbs[i].name, *space = strchr(name, ' ');
		struct buf word = { 0 };

		if (len == 0)
			buf_add(&word, name, space != NULL ? (size_t)(space - name) : strlen(name));
		else if (space != NULL && (size_t)(space - name) == len && str_starts(name, first))
			buf_adds(&word, space + 1);
		if (word.len > 0 && !strv_has(&seen, word.data)) {
			buf_printf(out, "%s%s", seen.n > 0 ? " " : "", word.data);
			strv_add(&seen, word.data);
		}
		buf_finish(&word);
	}
	strv_finish(&seen);
}

void help_completion(struct buf *out)
{
	struct strv firsts = { 0 };

	buf_adds(out, "# Completion of drover for bash; made by `drover help --completion`.\n"
		      "_drover()\n{\n"
		      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} verb= opts= names= files= i w\n"
		      "\tlocal words=()\n"
		      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
		      "\t\tw=${COMP_WORDS[i]}\n"
		      "\t\tcase $w in\n"
		      "\t\t--socket | -o | --output) i=$((i + 1)) ;;\n"
		      "\t\t-*) ;;\n"
		      "\t\t*) words+=(\"$w\") ;;\n"
		      "\t\tesac\n"
		      "\tdone\n"
		      "\tCOMPREPLY=()\n"
		      "\tif [ ${#words[@]} = 0 ]; then\n"
		      "\t\tCOMPREPLY=($(compgen -W '");
	completion_words(out, "");
	buf_adds(out, " --socket --output --help --version' -- \"$cur\"))\n\t\treturn\n\tfi\n"
		      "\tverb=${words[0]}\n\tcase $verb in\n");
	for (size_t i = 0; i < nverbs; i++) {
		const char *space = strchr(verbs[i].name, ' ');
		struct buf first = { 0 };

		if (space == NULL)
			continue;
		buf_add(&first, verbs[i].name, (size_t)(space - verbs[i].name));
		if (!strv_has(&firsts, buf_str(&first))) {
			buf_printf(out,
				"\t%s)\n\t\tif [ ${#words[@]} = 1 ]; then\n"
				"\t\t\tCOMPREPLY=($(compgen -W '",
				buf_str(&first));
			completion_words(out, buf_str(&first));
			buf_adds(out, "' -- \"$cur\"))\n\t\t\treturn\n\t\tfi\n"
				      "\t\tverb=\"$verb ${words[1]}\"\n\t\t;;\n");
			strv_add(&firsts, buf_str(&first));
		}
		buf_finish(&first);
	}
	strv_finish(&firsts);
	buf_adds(out, "\tesac\n\tcase $verb in\n");
	completion_opts(out);
	buf_adds(out, "\tesac\n"
		      "\tcase $cur in\n"
		      "\t-*) COMPREPLY=($(compgen -W \"$opts --socket --output\" -- \"$cur\")) ;;\n"
		      "\t*)\n"
		      "\t\tif [ -n \"$names\" ]; then\n"
		      "\t\t\tCOMPREPLY=($(compgen -W \"$(drover list --all 2>/dev/null |\n"
		      "\t\t\t\tawk 'NR > 1 { print $1 }')\" -- \"$cur\"))\n"
		      "\t\telif [ -n \"$files\" ]; then\n"
		      "\t\t\tCOMPREPLY=($(compgen -f -- \"$cur\"))\n"
		      "\t\tfi\n"
		      "\t\t;;\n"
		      "\tesac\n}\n"
		      "complete -F _drover drover\n");
}

/* roff takes a dash for a hyphen and a line's leading dot for a request. */
static void add_roff(struct buf *out, const char *text)
{
	for (const char *s = text; *s != '\0'; s++) {
		if (*s == '-' || *s == '\\')
			buf_adds(out, "\\");
		else if (*s == '.' && (s == text || s[-1] == '\n'))
			buf_adds(out, "\\&");
		buf_add(out, s, 1);
	}
}

static void man_verb(const struct verb *v, struct buf *out)
{
	buf_adds(out, ".TP\n.B ");
	add_roff(out, v->name);
	for (size_t i = 0; i < CTL_OPTS_MAX && v->opts[i].name != NULL; i++) {
		buf_adds(out, " [\\-\\-");
		add_roff(out, v->opts[i].name);
		buf_printf(out, "%s%s]", v->opts[i].arg != NULL ? " " : "",
			v->opts[i].arg != NULL ? v->opts[i].arg : "");
	}
	buf_printf(out, " %s\n", v->args);
	add_roff(out, v->help);
	buf_adds(out, ".\n");
	if (v->more != NULL) {
		add_roff(out, v->more);
		buf_adds(out, "\n");
	}
	if (!has_opts(v))
		return;
	buf_adds(out, ".RS\n");
	for (size_t i = 0; i < CTL_OPTS_MAX && v->opts[i].name != NULL; i++) {
		const struct opt *o = &v->opts[i];

		buf_adds(out, ".TP\n.B ");
		if (o->letter != 0)
			buf_printf(out, "\\-%c, ", o->letter);
		buf_adds(out, "\\-\\-");
		add_roff(out, o->name);
		buf_printf(out, "%s%s\n", o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
		add_roff(out, o->help);
		buf_adds(out, "\n");
	}
	buf_adds(out, ".RE\n");
}

void help_man(struct buf *out)
{
	const char *group = "";

	buf_adds(out,
		".\\\" Made by `drover help --man`.\n"
		".TH DROVER 1 \"\" \"drover " PACKAGE_VERSION "\"\n"
		".SH NAME\ndrover \\- the command line of droverd, which drives virtual machines\n"
		".SH SYNOPSIS\n.B drover\n[\\-\\-socket PATH] [\\-o json] VERB [ARGUMENT...]\n"
		".SH DESCRIPTION\n"
		"drover asks droverd over its Unix socket. With\n.B \\-o json\n"
		"it prints what the API gave, else text for people.\n"
		"The socket is that of\n.BR \\-\\-socket ,\nelse of\n.BR DROVER_SOCKET ,\n"
		"else $XDG_RUNTIME_DIR/drover/api.sock if it exists, else\n"
		"/run/drover/api.sock.\n");
	for (size_t i = 0; i < nverbs; i++) {
		if (strcmp(verbs[i].group, group) != 0)
			buf_printf(out, ".SH %s\n", verbs[i].group);
		group = verbs[i].group;
		man_verb(&verbs[i], out);
	}
	buf_adds(out, ".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage, 3 no such thing, 4 not in "
		      "this state,\n5 droverd cannot be reached.\n"
		      ".SH SEE ALSO\n.BR droverd (8)\n");
}

static bool in_group(const struct verb *v, const char *word)
{
	size_t len = strlen(word);

	return strncmp(v->name, word, len) == 0 && v->name[len] == ' ';
}

void help_group(const char *word, struct buf *out)
{
	struct table t = { .columns = 2 };

	buf_printf(out, "usage: drover %s VERB [ARGUMENT...]\n\n", word);
	for (size_t i = 0; i < nverbs; i++) {
		const struct verb *v = &verbs[i];

		if (!in_group(v, word))
			continue;
		table_cellf(&t, "  %s%s%s", v->name, v->args[0] != '\0' ? " " : "", v->args);
		table_cell(&t, v->help);
	}
	table_format(&t, out);
	buf_printf(out, "\n`drover %s VERB --help` explains one verb.\n", word);
}

void help_print(const struct verb *v, const char *group)
{
	struct buf text = { 0 };

	if (v != NULL)
		help_verb(v, &text);
	else if (group != NULL)
		help_group(group, &text);
	else
		help_text(&text);
	fputs(buf_str(&text), stdout);
	buf_finish(&text);
}

int verb_help(struct ctl *c)
{
	const char *group = NULL;
	const struct verb *v = NULL;
	struct buf text = { 0 };
	size_t used;

	if (c->args.n > 0) {
		v = verb_find((const char *const *)c->args.v, c->args.n, &used);
		for (size_t i = 0; v == NULL && c->args.n == 1 && i < nverbs; i++)
			group = in_group(&verbs[i], c->args.v[0]) ? c->args.v[0] : group;
		if (v == NULL && group == NULL)
			return ctl_usage(c, "there is no verb %s", quote(c->args.v[0]));
	}
	if (ctl_flag(c, "completion"))
		help_completion(&text);
	else if (ctl_flag(c, "man"))
		help_man(&text);
	else if (v != NULL)
		help_verb(v, &text);
	else if (group != NULL)
		help_group(group, &text);
	else
		help_text(&text);
	fputs(buf_str(&text), stdout);
	buf_finish(&text);
	return CTL_OK;
}

/* A daemon that is not there is no failure of this verb: it says so. */
int verb_version(struct ctl *c)
{
	struct api_call call = { .timeout_ms = 5000 };
	const char *theirs = NULL;
	json_t *both;
	char *text;
	bool told = false;

	api_path(&call, "/version");
	if (api_start(c, &call) == CTL_OK) {
		api_wait(c, &call, 1);
		told = call.err.code == 0 && call.json != NULL;
		theirs = told ? json_str(call.json, "version") : NULL;
	}
	if (c->json) {
		both = json_object();
		json_put_str(both, "drover", PACKAGE_VERSION);
		json_object_set(both, "droverd", told ? call.json : json_null());
		text = json_text(both);
		puts(text != NULL ? text : "{}");
		free(text);
		json_decref(both);
	} else {
		puts("drover " PACKAGE_VERSION);
		if (theirs != NULL)
			printf("droverd %s\n", theirs);
		else
			printf("droverd: %s\n", call.err.msg);
	}
	api_finish(&call);
	return CTL_OK;
}
