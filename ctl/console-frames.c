#include "ctl/console-frames.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEAD_MAX   32
#define OBJECT_MAX (64u << 10)
#define OUTPUT_MAX (64u << 20)

/* "o 123\n" */
static int take_head(struct console_frames *f)
{
	char *digits = f->held.data + 2, *end;
	unsigned long len;

	if (f->held.len < 4 || f->held.data[1] != ' ' || *digits < '0' || *digits > '9')
		return -EBADMSG;
	len = strtoul(digits, &end, 10);
	f->kind = f->held.data[0];
	if (*end != '\n' || (f->kind != 'o' && f->kind != 'j') ||
		len > (f->kind == 'j' ? OBJECT_MAX : OUTPUT_MAX))
		return -EBADMSG;
	f->left = len;
	buf_clear(&f->held);
	return 0;
}

static size_t take_part(
	struct console_frames *f, const char *data, size_t len, const struct console_frames_to *to)
{
	size_t n = MIN(len, f->left);

	f->left -= n;
	if (f->kind == 'o') {
		if (n > 0)
			to->output(to->arg, data, n);
	} else {
		buf_add(&f->held, data, n);
	}
	if (f->left > 0)
		return n;
	if (f->kind == 'j') {
		to->object(to->arg, buf_str(&f->held), f->held.len);
		buf_clear(&f->held);
	}
	f->kind = 0;
	return n;
}

int console_frames_add(
	struct console_frames *f, const char *data, size_t len, const struct console_frames_to *to)
{
	int r;

	while (len > 0) {
		size_t n = 1;

		if (f->kind != 0) {
			n = take_part(f, data, len, to);
		} else {
			buf_add(&f->held, data, 1);
			if (f->held.bad || f->held.len > HEAD_MAX)
				return f->held.bad ? -ENOMEM : -EBADMSG;
			r = *data == '\n' ? take_head(f) : 0;
			if (r < 0)
				return r;
		}
		data += n;
		len -= n;
	}
	return f->held.bad ? -ENOMEM : 0;
}
