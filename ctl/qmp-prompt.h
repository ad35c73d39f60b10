/*
 * ctl/qmp-prompt.h - lines from standard input: with a prompt, history and completion where that is
 * a terminal and the program was built with libedit; else as they come. One at a time.
 */
#ifndef DROVER_CTL_QMP_PROMPT_H
#define DROVER_CTL_QMP_PROMPT_H

#include <stdbool.h>
#include "lib/str.h"

struct prompt;

/* name: what stands in front of each line. NULL without memory. */
struct prompt *prompt_open(const char *name);
/* Whether prompt_names() is of use. */
bool prompt_completes(const struct prompt *p);
/* Words that a line may begin with; borrowed until prompt_close(). */
void prompt_names(struct prompt *p, const struct strv *names);
/* The next line without its end; NULL at the end. malloc'd. */
char *prompt_line(struct prompt *p);
void prompt_close(struct prompt *p);

#endif
