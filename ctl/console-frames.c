#include "ctl/console-frames.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HEAD_MAX   32
#define OBJECT_MAX (64u << 10)

/* "o 123\n" */
static int take_head(struct console_frames *f)
{
	unsigned long len;
	char end;

	if (sscanf(buf_str(&f->held), "%c %9lu%c", &f->kind, &len, &end) != 3 || end != '\n' ||
		(f->kind != 'o' && f->kind != 'j') || (f->kind == 'j' && len > OBJECT_MAX))
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
