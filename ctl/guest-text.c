#include "ctl/guest-text.h"

#include <string.h>

enum {
	TEXT,
	ESCAPE,       /* after ESC */
	INTERMEDIATE, /* after ESC and a byte that another one follows, as of a character set */
	CONTROL,      /* after ESC [ */
	STRING,       /* a command's text (OSC, DCS, APC, PM, SOS), to its end */
	STRING_ESCAPE /* an ESC in it, which may begin the end */
};

#define ESC 0x1b
#define BEL 0x07

static void text(struct guest_text *g, unsigned char c, struct buf *out)
{
	char pair[2] = { (char)g->held, (char)c };

	/* U+0080 to U+009F are controls, too: in UTF-8 they begin with this byte. */
	if (g->held != 0) {
		g->held = 0;
		if (c >= 0x80 && c < 0xa0)
			return;
		buf_add(out, pair, 1);
	}
	if (c == ESC) {
		g->state = ESCAPE;
	} else if (c == 0xc2) {
		g->held = c;
	} else if ((c >= 0x20 && c != 0x7f) || c == '\n' || c == '\r' || c == '\t') {
		buf_add(out, pair + 1, 1);
	}
}

static void escape(struct guest_text *g, unsigned char c)
{
	if (c == '[') {
		g->state = CONTROL;
		g->len = 0;
	} else if (c == ']' || c == 'P' || c == '_' || c == '^' || c == 'X') {
		g->state = STRING;
	} else if (c >= 0x20 && c < 0x30) {
		g->state = INTERMEDIATE;
	} else {
		g->state = c == ESC ? ESCAPE : TEXT;
	}
}

/* Colours and their like ("\033[1;31m") are all that passes. */
static void control(struct guest_text *g, unsigned char c, struct buf *out)
{
	if (c >= 0x20 && c < 0x40) {
		if (g->len < sizeof(g->sequence))
			g->sequence[g->len++] = (char)c;
		return;
	}
	g->state = c == ESC ? ESCAPE : TEXT;
	if (c == 'm' && g->len < sizeof(g->sequence) &&
		strspn(g->sequence, "0123456789;:") >= g->len) {
		buf_adds(out, "\033[");
		buf_add(out, g->sequence, g->len);
		buf_adds(out, "m");
	}
}

void guest_text_add(struct guest_text *g, const char *data, size_t len, struct buf *out)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		switch (g->state) {
		case ESCAPE:
			escape(g, c);
			break;
		case INTERMEDIATE:
			if (c < 0x20 || c >= 0x30)
				g->state = TEXT;
			break;
		case CONTROL:
			control(g, c, out);
			break;
		case STRING:
			if (c == BEL)
				g->state = TEXT;
			else if (c == ESC)
				g->state = STRING_ESCAPE;
			break;
		case STRING_ESCAPE:
			g->state = c == '\\' ? TEXT : STRING;
			break;
		default:
			text(g, c, out);
		}
	}
}
