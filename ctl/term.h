/*
 * ctl/term.h - the terminal: raw mode, colours, and its state put back however the program ends.
 */
#ifndef DROVER_CTL_TERM_H
#define DROVER_CTL_TERM_H

#include <stdbool.h>

/* SIGINT, SIGTERM and SIGHUP restore the terminal and exit with 128 + their number. */
void term_init(void);
/* Standard input to raw mode; false when it is no terminal. */
bool term_raw(void);
/* Hides the cursor of standard output while a bar is drawn. */
void term_hide_cursor(void);
void term_restore(void);
/* Standard output is a terminal, and colours are wanted (NO_COLOR is not set). */
bool term_colors(void);
bool term_output(void);
/* Of standard output; 80 by 24 where that is not known. */
void term_size(unsigned *columns, unsigned *rows);

#endif
