#include "ctl/term.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define SHOW_CURSOR "\033[?25h"
#define HIDE_CURSOR "\033[?25l"

/* Of the process, as the terminal is. The handler reads them. */
static struct termios saved;
static volatile sig_atomic_t is_raw, is_hidden;

/* Only calls that a signal handler may make. */
void term_restore(void)
{
	if (is_raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
	if (is_hidden && write(STDOUT_FILENO, SHOW_CURSOR, sizeof(SHOW_CURSOR) - 1) < 0)
		is_hidden = 0; /* nobody sees it anyway */
	is_raw = is_hidden = 0;
}

static void on_signal(int sig)
{
	/* The prompt comes below the bars. */
	if (is_hidden && write(STDOUT_FILENO, "\n", 1) < 0)
		is_hidden = 0;
	term_restore();
	_exit(128 + sig);
}

void term_init(void)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction sa = { .sa_handler = on_signal }, old;

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		/* nohup(1) and background jobs have them ignored. */
		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
}

bool term_raw(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) != 0)
		return false;
	raw = saved;
	cfmakeraw(&raw);
	is_raw = 1;
	return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

void term_hide_cursor(void)
{
	if (term_output() && write(STDOUT_FILENO, HIDE_CURSOR, strlen(HIDE_CURSOR)) > 0)
		is_hidden = 1;
}

bool term_output(void)
{
	return isatty(STDOUT_FILENO);
}

bool term_colors(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");

	return term_output() && (no == NULL || no[0] == '\0') &&
	       (term == NULL || strcmp(term, "dumb") != 0);
}

void term_size(unsigned *columns, unsigned *rows)
{
	struct winsize ws = { 0 };

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws);
	*columns = ws.ws_col > 0 ? ws.ws_col : 80;
	*rows = ws.ws_row > 0 ? ws.ws_row : 24;
}
