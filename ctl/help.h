/* ctl/help.h - help, manual page and completion, all from the table of verbs. Pure but for print. */
#ifndef DROVER_CTL_HELP_H
#define DROVER_CTL_HELP_H

#include "ctl/ctl.h"

void help_text(struct buf *out);
void help_verb(const struct verb *v, struct buf *out);
void help_completion(struct buf *out);
void help_man(struct buf *out);
/* The verbs whose first word it is. */
void help_group(const char *word, struct buf *out);
/* v NULL: of the group; that NULL, too: the general one. */
void help_print(const struct verb *v, const char *group);

#endif
