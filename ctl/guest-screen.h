/*
 * ctl/guest-screen.h - a guest's console output for the terminal of a person who works at it: text,
 * colours, and what programs that draw on the whole screen need. What would do something else to the
 * terminal or its user is left out: its title, its clipboard, its printer, its keys' meaning, its
 * size, files, and questions whose answers tell what else is on the screen. Pure.
 */
#ifndef DROVER_CTL_GUEST_SCREEN_H
#define DROVER_CTL_GUEST_SCREEN_H

#include "lib/str.h"

/* {0} to begin with. What is cut off at the end of one piece goes on in the next. */
struct guest_screen {
	int state;
	unsigned char lead; /* the first byte of a character that may turn out to be a control */
	unsigned more;      /* bytes that the character at hand still has */
	char sequence[32];  /* a control sequence (ECMA-48, 5.4) so far */
	size_t len;
	unsigned modes; /* that the guest has changed, by their place in the table */
	bool keypad, region, charset;
};

/* Appends what may be shown of data to out. */
void guest_screen_add(struct guest_screen *g, const char *data, size_t len, struct buf *out);
/* What puts the terminal back to where a shell expects it. */
void guest_screen_end(const struct guest_screen *g, struct buf *out);

#endif
