/*
 * supervisor/ini.h - reads the text of one INI file into sections, keys and values with their line
 * numbers. Knows nothing of which keys there are. Any thread; blocks on nothing.
 *
 *	[kind name]        ; a comment
 *	key = value        ; white space before the ';' makes it one
 *	    another value  (an indented line goes on with the key above)
 *	# a line that begins with ';' or '#' is a comment, also between indented lines
 *	key = "keeps ; everything, \" and \\ too"
 *
 * A value in double quotes keeps everything between them; in it \" and \\ stand for " and \. Quotes
 * elsewhere are ordinary characters, but a ` ;` inside such a pair is refused, because it would cut
 * the value. A value is one line of valid UTF-8 without control characters (tabs are welcome).
 * A byte order mark, CRLF and a missing last newline are fine; `key: value` is not.
 */
#ifndef DROVER_SUPERVISOR_INI_H
#define DROVER_SUPERVISOR_INI_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/err.h"

#define INI_KEY_MAX 63

struct ini_value {
	char *text;
	unsigned line;
	bool quoted;
	bool continued; /* from an indented line */
};

struct ini_key {
	char *name;
	unsigned line;
	struct ini_value *v;
	size_t n; /* 0: the value was a mistake */
};

struct ini_section {
	char *kind, *name; /* name is "" when there is none */
	unsigned line;
	struct ini_key *keys; /* in the order of the file; repeated ones are kept apart */
	size_t nkeys;
};

struct ini {
	struct ini_section *v;
	size_t n;
};

typedef void ini_mistake_fn(void *arg, unsigned line, const char *message);

/*
 * Mistakes in the text go to mistake, all of them, and leave out what they are about; the return
 * value is not 0 only when there is no memory. data need not end with a NUL.
 */
int ini_read(struct ini *out, const char *data, size_t len, ini_mistake_fn *mistake, void *arg,
	struct err *err);
void ini_finish(struct ini *ini);
/* Appends from's values to key's; from is left without any. */
int ini_key_append(struct ini_key *key, struct ini_key *from);

#endif
