/* lib/json.h - helpers over jansson: typed look-ups with errors, building, one-line output. */
#ifndef DROVER_LIB_JSON_H
#define DROVER_LIB_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include "lib/str.h"

/* Parses one JSON value of any type; the message names the line and what is wrong. */
int json_parse(const char *data, size_t len, json_t **out, struct err *err);
/* Reads a file of at most 64 MiB. */
int json_read_file(const char *path, json_t **out, struct err *err);
/* One line, no spaces, keys in the order they were set; malloc'd, NULL without memory. */
char *json_text(const json_t *v);

/* Borrowed; NULL (or def) when the key is missing, null, or of another type. */
const char *json_str(const json_t *obj, const char *key);
int64_t json_int(const json_t *obj, const char *key, int64_t def);
bool json_flag(const json_t *obj, const char *key, bool def);
const json_t *json_obj(const json_t *obj, const char *key);
const json_t *json_arr(const json_t *obj, const char *key);

/* As above, but a missing key or another type is an error that names the key: -EBADMSG. */
int json_need_str(const json_t *obj, const char *key, const char **out, struct err *err);
int json_need_int(const json_t *obj, const char *key, int64_t *out, struct err *err);

/* Setters that take over nothing and remember a failure: obj gets the key, NULL strings become
 * JSON null. Return 0 or -ENOMEM. */
int json_put_str(json_t *obj, const char *key, const char *value);
int json_put_int(json_t *obj, const char *key, int64_t value);
int json_put_bool(json_t *obj, const char *key, bool value);
/* A string of any bytes (a console's line); NULL without memory. */
json_t *json_str_new(const char *value);

#endif
