#include "ctl/guest-screen.h"

#include <stdlib.h>
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

/* xterm's control sequences (ctlseqs, "DEC Private Mode Set"): those that may be set and reset. */
static const struct {
	unsigned mode;
	bool on; /* as a shell expects it */
} modes[] = {
	{ 1, false },    /* cursor keys */
	{ 5, false },    /* reverse video */
	{ 6, false },    /* origin */
	{ 7, true },     /* wrapping */
	{ 12, false },   /* a blinking cursor */
	{ 25, true },    /* the cursor is shown */
	{ 47, false },   /* the other screen, in three ways */
	{ 1047, false }, /* */
	{ 1049, false }, /* */
	{ 1048, false }, /* the cursor is saved */
	{ 1000, false }, /* the mouse is told of, in five ways */
	{ 1002, false }, /* */
	{ 1003, false }, /* */
	{ 1005, false }, /* */
	{ 1006, false }, /* */
	{ 1004, false }, /* the focus is told of */
	{ 2004, false }, /* what is pasted is marked */
};

/* ---- control sequences ---- */

/* One private mode at a time, so that one which is not known does not take others with it. */
static void private_mode(struct guest_screen *g, unsigned mode, bool on, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		if (modes[i].mode != mode)
			continue;
		if (on != modes[i].on)
			g->modes |= 1u << i;
		else
			g->modes &= ~(1u << i);
		buf_printf(out, "\033[?%u%c", mode, on ? 'h' : 'l');
	}
}

static void private_modes(struct guest_screen *g, bool on, struct buf *out)
{
	char *p = g->sequence + 1, *end;

	for (;; p = end + 1) {
		unsigned long mode = strtoul(p, &end, 10);

		if (end != p && mode < 10000)
			private_mode(g, (unsigned)mode, on, out);
		if (*end != ';')
			return;
	}
}

/*
 * Moving, clearing, inserting, scrolling, colours, tabs, ordinary modes, where the cursor is (n) and
 * what the terminal is (c): shells and editors ask the last two, and nobody chooses the answers.
 */
static bool is_harmless(const struct guest_screen *g, char final)
{
	const char *s = g->sequence;

	if (strcmp(s, " ") == 0 || (strspn(s, "0123456") == 1 && strcmp(s + 1, " ") == 0))
		return final == 'q'; /* the cursor's shape */
	if (strcmp(s, "!") == 0)
		return final == 'p'; /* a soft reset */
	if (s[0] == '>' || s[0] == '?')
		return (s[0] == '>' && final == 'c' && s[1 + strspn(s + 1, "0")] == '\0') ||
		       (s[0] == '?' && strchr("JK", final) != NULL &&
			       s[1 + strspn(s + 1, "012")] == '\0');
	if (s[strspn(s, "0123456789;:")] != '\0')
		return false;
	return strchr("@ABCDEFGHIJKLMPSTXZ`abcdefghlmnrsu", final) != NULL;
}

static void control_end(struct guest_screen *g, char final, struct buf *out)
{
	g->sequence[g->len] = '\0';
	if (g->sequence[0] == '?' && (final == 'h' || final == 'l')) {
		private_modes(g, final == 'h', out);
	} else if (is_harmless(g, final)) {
		g->region |= final == 'r' && g->len > 0;
		buf_printf(out, "\033[%s%c", g->sequence, final);
	}
}

static void control(struct guest_screen *g, unsigned char c, struct buf *out)
{
	if (c >= 0x20 && c < 0x40) {
		/* One that is too long for any use is passed over. */
		if (g->len < sizeof(g->sequence))
			g->sequence[g->len++] = (char)c;
		return;
	}
	g->state = c == ESC ? ESCAPE : TEXT;
	if (c >= 0x40 && c < 0x7f && g->len < sizeof(g->sequence))
		control_end(g, (char)c, out);
}

/* ---- the rest ---- */

static void escape(struct guest_screen *g, unsigned char c, struct buf *out)
{
	g->state = TEXT;
	g->len = 0;
	if (c == '[') {
		g->state = CONTROL;
	} else if (c == ']' || c == 'P' || c == '_' || c == '^' || c == 'X') {
		g->state = STRING;
	} else if (c >= 0x20 && c < 0x30) {
		g->state = INTERMEDIATE;
		g->sequence[g->len++] = (char)c;
	} else if (c == ESC) {
		g->state = ESCAPE;
	} else if (strchr("78DEHM=>c", c) != NULL && c != '\0') {
		/* The cursor is saved and put back, lines, tabs, the keypad, a reset. */
		if (c == '=' || c == '>')
			g->keypad = c == '=';
		buf_printf(out, "\033%c", c);
	}
}

/* Character sets G0 and G1: ASCII, British, lines. */
static void intermediate(struct guest_screen *g, unsigned char c, struct buf *out)
{
	if (c >= 0x20 && c < 0x30) {
		g->len = sizeof(g->sequence);
		return;
	}
	g->state = TEXT;
	if (g->len != 1 || strchr("()", g->sequence[0]) == NULL || strchr("AB0", c) == NULL ||
		c == '\0')
		return;
	g->charset = true;
	buf_printf(out, "\033%c%c", g->sequence[0], c);
}

static void text(struct guest_screen *g, unsigned char c, struct buf *out)
{
	unsigned char lead = g->lead;
	bool inside = g->more > 0 && c >= 0x80 && c < 0xc0;

	/* U+0080 to U+009F are controls, too: in UTF-8 they begin with 0xc2, elsewhere they are bytes. */
	g->lead = 0;
	if (lead != 0 && c >= 0x80 && c < 0xa0)
		return;
	if (lead != 0)
		buf_add(out, &lead, 1);
	if (c == 0xc2)
		g->lead = c;
	g->more = inside ? g->more - 1 : c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc3 ? 1 : 0;
	if (c == ESC)
		g->state = ESCAPE;
	else if (c == 0x0e)
		g->charset = true;
	if (c == 0xc2 || (c >= 0x80 && c < 0xa0 && !inside) || c == 0x7f)
		return;
	/* Of the others ENQ makes a terminal answer with whatever it was told to. */
	if (c >= 0x20 || (c >= BEL && c <= 0x0f))
		buf_add(out, &c, 1);
}

void guest_screen_add(struct guest_screen *g, const char *data, size_t len, struct buf *out)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		switch (g->state) {
		case ESCAPE:
			escape(g, c, out);
			break;
		case INTERMEDIATE:
			intermediate(g, c, out);
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

void guest_screen_end(const struct guest_screen *g, struct buf *out)
{
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
		if ((g->modes & 1u << i) != 0)
			buf_printf(out, "\033[?%u%c", modes[i].mode, modes[i].on ? 'h' : 'l');
	}
	/* It moves the cursor. */
	if (g->region)
		buf_adds(out, "\0337\033[r\0338");
	if (g->keypad)
		buf_adds(out, "\033>");
	if (g->charset)
		buf_adds(out, "\033(B\033)B\017");
	buf_adds(out, "\033[0m");
}
