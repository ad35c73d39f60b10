/*
 * hv/json-scan.h - finds where JSON objects end in a stream of bytes that comes in any pieces.
 * Looks at each byte once. Pure.
 */
#ifndef DROVER_HV_JSON_SCAN_H
#define DROVER_HV_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>

/* {0} to begin with. */
struct json_scan {
	size_t pos;   /* first byte not looked at */
	size_t start; /* of the object that pos is in */
	size_t depth; /* of brackets; 0: between objects */
	bool in_string, escaped;
};

/*
 * data holds len bytes, of which those before s->pos were there at the last call. Returns 1 when
 * an object is complete, from s->start to s->pos; 0 when more bytes are needed; -EBADMSG when
 * something other than white space or an object comes, at s->pos.
 */
int json_scan(struct json_scan *s, const char *data, size_t len);
/* The caller drops the first n bytes of data. */
void json_scan_dropped(struct json_scan *s, size_t n);

#endif
