/*
 * lib/json-add.h - JSON text without a tree, for what is long and asked for often. Any thread. The
 * buffer is `bad` in the end when memory ran out.
 */
#ifndef DROVER_LIB_JSON_ADD_H
#define DROVER_LIB_JSON_ADD_H

#include <stdint.h>
#include "lib/str.h"

/* The comma if something stands before, and the key if there is one (NULL in an array). */
void json_add_key(struct buf *b, const char *key);
/* A member, or an element when key is NULL. A NULL value becomes null. */
void json_add_str(struct buf *b, const char *key, const char *value);
void json_add_int(struct buf *b, const char *key, int64_t value);
/* '{' or '[', with its key; the end is the caller's to add. */
void json_add_open(struct buf *b, const char *key, char bracket);

#endif
