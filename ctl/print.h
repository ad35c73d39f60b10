/* ctl/print.h - what the verbs print: the API's JSON, or text made of it. */
#ifndef DROVER_CTL_PRINT_H
#define DROVER_CTL_PRINT_H

#include <jansson.h>
#include "lib/str.h"

/* One line of JSON. */
void print_json(const json_t *v);
/* Writes and empties the text. */
void print_text(struct buf *text);
/* For what is followed: at once, and the program ends when nobody reads any more. */
void print_now(const char *data, size_t len);

#endif
