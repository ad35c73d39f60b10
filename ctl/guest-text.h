/*
 * ctl/guest-text.h - a guest's console output, made harmless for a person's terminal: text, tabs,
 * line ends and colours pass; whatever else would make the terminal do something (move, clear, set
 * its title, answer) is left out. Pure.
 */
#ifndef DROVER_CTL_GUEST_TEXT_H
#define DROVER_CTL_GUEST_TEXT_H

#include "lib/str.h"

/* {0} to begin with. What is cut off at the end of one piece goes on in the next. */
struct guest_text {
	int state;
	unsigned char held; /* the first byte of a character that may turn out to be a control */
	char sequence[32];  /* a control sequence (ECMA-48, 5.4) so far */
	size_t len;
};

/* Appends what may be shown of data to out. */
void guest_text_add(struct guest_text *g, const char *data, size_t len, struct buf *out);

#endif
