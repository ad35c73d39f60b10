#include "hv/json-scan.h"

#include <errno.h>
#include <string.h>

/* Goes on inside a string; false when data ends before it does. */
static bool skip_string(struct json_scan *s, const char *data, size_t len)
{
	while (s->pos < len) {
		char c = data[s->pos++];

		if (s->escaped) {
			s->escaped = false;
		} else if (c == '\\') {
			s->escaped = true;
		} else if (c == '"') {
			s->in_string = false;
			return true;
		}
	}
	return false;
}

int json_scan(struct json_scan *s, const char *data, size_t len)
{
	while (s->pos < len) {
		char c;

		if (s->in_string) {
			if (!skip_string(s, data, len))
				return 0;
			continue;
		}
		c = data[s->pos];
		if (s->depth == 0) {
			if (c == '{') {
				s->start = s->pos;
				s->depth = 1;
			} else if (c == '\0' || strchr(" \t\r\n", c) == NULL) {
				return -EBADMSG;
			}
			s->pos++;
			continue;
		}
		s->pos++;
		if (c == '"') {
			s->in_string = true;
		} else if (c == '{' || c == '[') {
			s->depth++;
		} else if (c == '}' || c == ']') {
			if (--s->depth == 0)
				return 1;
		}
	}
	return 0;
}

void json_scan_dropped(struct json_scan *s, size_t n)
{
	s->pos -= n;
	s->start = s->start > n ? s->start - n : 0;
}
