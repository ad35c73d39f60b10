#include "ctl/qmp-prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config.h"

#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#endif

struct prompt {
	bool terminal;
	char *text;
};

#ifdef HAVE_LIBEDIT
/* libedit's completion functions have no argument of their owner's. */
static const struct strv *candidates;

static char *next_match(const char *word, int again)
{
	static size_t at;

	if (!again)
		at = 0;
	while (candidates != NULL && at < candidates->n) {
		const char *name = candidates->v[at++];

		if (str_starts(name, word))
			return strdup(name);
	}
	return NULL;
}

static char **complete(const char *word, int start, int end)
{
	/* Only a command's name is known, not what comes behind it; nor are files of interest. */
	rl_attempted_completion_over = 1;
	return start == 0 ? rl_completion_matches(word, next_match) : NULL;
}

static char *edited_line(const struct prompt *p)
{
	char *line = readline(p->text);

	if (line == NULL)
		putchar('\n');
	else if (*line != '\0')
		add_history(line);
	return line;
}
#endif

struct prompt *prompt_open(const char *name)
{
	struct prompt *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return NULL;
	p->terminal = isatty(STDIN_FILENO);
	p->text = str_printf("%s> ", name);
	if (p->text == NULL) {
		free(p);
		return NULL;
	}
#ifdef HAVE_LIBEDIT
	if (p->terminal) {
		using_history();
		rl_attempted_completion_function = complete;
	}
#endif
	return p;
}

bool prompt_completes(const struct prompt *p)
{
#ifdef HAVE_LIBEDIT
	return p->terminal;
#else
	return false;
#endif
}

void prompt_names(struct prompt *p, const struct strv *names)
{
#ifdef HAVE_LIBEDIT
	candidates = names;
#endif
}

char *prompt_line(struct prompt *p)
{
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

#ifdef HAVE_LIBEDIT
	if (p->terminal)
		return edited_line(p);
#endif
	if (p->terminal) {
		fputs(p->text, stdout);
		fflush(stdout);
	}
	n = getline(&line, &cap, stdin);
	if (n < 0) {
		free(line);
		if (p->terminal)
			putchar('\n');
		return NULL;
	}
	line[strcspn(line, "\r\n")] = '\0';
	return line;
}

void prompt_close(struct prompt *p)
{
#ifdef HAVE_LIBEDIT
	candidates = NULL;
#endif
	free(p->text);
	free(p);
}
