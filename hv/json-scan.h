/*
 * hv/json-scan.h - finds where JSON objects end in a stream of bytes that comes in any pieces, and
 * members in the text of one, so that it can go on with not a byte changed but in them: encoding
 * it anew would lose what jansson cannot hold (integers of 64 bits, a real's digits). Looks at each
 * byte once. Pure.
 */
#ifndef DROVER_HV_JSON_SCAN_H
#define DROVER_HV_JSON_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/str.h"

/* {0} to begin with, but for the choice of what is accepted. */
struct json_scan {
	size_t pos;   /* first byte not looked at */
	size_t start; /* of the object that pos is in */
	size_t depth; /* of brackets; 0: between objects */
	bool in_string, escaped;
	/*
	 * Whatever is no object is a message too and not the end of it all, as QEMU's monitor takes it:
	 * arrays, strings, and runs of other bytes, which end before white space, {, [ or ".
	 */
	bool lenient;
	bool bare; /* within such a run */
};

/*
 * data holds len bytes, of which those before s->pos were there at the last call. Returns 1 when
 * an object is complete, from s->start to s->pos; 0 when more bytes are needed; -EBADMSG when
 * something other than white space or an object comes, at s->pos.
 */
int json_scan(struct json_scan *s, const char *data, size_t len);
/* The caller drops the first n bytes of data. */
void json_scan_dropped(struct json_scan *s, size_t n);

/* Where a member is: [key, value) is the name with its colon, [value, end) the value. */
struct json_member {
	size_t key, value, end;
};
/*
 * The member of the object in text that is called name (ASCII; escapes in the text's names count),
 * the first if there are several. text is well-formed, but no text makes it read beyond len.
 */
bool json_find(const char *text, size_t len, const char *name, struct json_member *out);
/*
 * Appends text to out with that member's value replaced, or put in front as a new one; with value
 * NULL without the member.
 */
void json_splice(
	struct buf *out, const char *text, size_t len, const char *name, const char *value);
/* Whether brackets nest deeper than depth, or more than tokens commas, colons and brackets come. */
bool json_exceeds(const char *text, size_t len, size_t depth, size_t tokens);

#endif
