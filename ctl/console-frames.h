/* ctl/console-frames.h - the frames of the API's console stream (supervisor/routes.h). Pure. */
#ifndef DROVER_CTL_CONSOLE_FRAMES_H
#define DROVER_CTL_CONSOLE_FRAMES_H

#include "lib/str.h"

/* {0} to begin with; buf_finish(&f->held) at the end. */
struct console_frames {
	struct buf held; /* the begin of a head, or an object that is not whole */
	char kind;       /* of the frame at hand; 0: a head comes */
	size_t left;     /* bytes that it still has */
};

struct console_frames_to {
	/* As it comes, in pieces. */
	void (*output)(void *arg, const char *data, size_t len);
	/* Whole, with a NUL behind it. */
	void (*object)(void *arg, const char *text, size_t len);
	void *arg;
};

/* -EBADMSG: that is none of our frames. */
int console_frames_add(
	struct console_frames *f, const char *data, size_t len, const struct console_frames_to *to);

#endif
