#include "lib/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/str.h"

static struct {
	enum log_level level;
	enum log_format format;
	char *path;
	int fd;
	bool journal;
} state = { LOG_LVL_INFO, LOG_TEXT, NULL, STDERR_FILENO, false };

static const char *const level_names[] = { "error", "warning", "info", "debug" };
/* sd-daemon(3): "<3>" is an error, ... */
static const char level_syslog[] = { '3', '4', '6', '7' };

static int open_file(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

	return fd < 0 ? -errno : fd;
}

/* systemd.exec(5): device and inode of the journal's socket, if stderr is it still. */
static bool stderr_is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

int log_setup(const struct log_opts *opts)
{
	char *path = NULL;
	int fd = STDERR_FILENO;

	if (opts->path != NULL) {
		path = strdup(opts->path);
		if (path == NULL)
			return -ENOMEM;
		fd = open_file(path);
		if (fd < 0) {
			free(path);
			return fd;
		}
	}
	if (state.fd != STDERR_FILENO)
		close(state.fd);
	free(state.path);
	state.path = path;
	state.fd = fd;
	state.level = opts->level;
	state.format = opts->format;
	state.journal = stderr_is_journal();
	return 0;
}

int log_reopen(void)
{
	int fd;

	if (state.path == NULL)
		return 0;
	fd = open_file(state.path);
	if (fd < 0)
		return fd;
	close(state.fd);
	state.fd = fd;
	return 0;
}

bool log_enabled(enum log_level level)
{
	return level <= state.level;
}

/* As text control characters and what is no UTF-8 become \xNN; in JSON the latter U+FFFD. */
static void add_escaped(struct buf *b, const char *s, bool json)
{
	const char *end = s + strlen(s);
	size_t len;

	for (; s < end; s += MAX(len, (size_t)1)) {
		unsigned char c = (unsigned char)*s;

		len = utf8_len(s, (size_t)(end - s));
		if (len == 0 && json)
			buf_adds(b, "\xef\xbf\xbd");
		else if (json && (c == '"' || c == '\\'))
			buf_printf(b, "\\%c", c);
		else if (c < 0x20 || c == 0x7f || len == 0)
			buf_printf(b, json ? "\\u%04x" : "\\x%02x", c);
		else
			buf_add(b, s, len);
	}
}

static void add_json(struct buf *b, enum log_level level, const char *name, const char *msg)
{
	char time[32];

	format_time(time, clock_unix_ms());
	buf_printf(b, "{\"time\":\"%s\",\"level\":\"%s\"", time, level_names[level]);
	if (name != NULL) {
		buf_adds(b, ",\"name\":\"");
		add_escaped(b, name, true);
		buf_adds(b, "\"");
	}
	buf_adds(b, ",\"message\":\"");
	add_escaped(b, msg, true);
	buf_adds(b, "\"}\n");
}

static void add_text(struct buf *b, enum log_level level, const char *name, const char *msg)
{
	if (state.journal && state.path == NULL) {
		buf_printf(b, "<%c>", level_syslog[level]);
	} else if (state.path != NULL) {
		char time[32];

		format_time(time, clock_unix_ms());
		buf_printf(b, "%s %s ", time, level_names[level]);
	} else {
		buf_printf(b, "%s: ", level_names[level]);
	}
	if (name != NULL) {
		add_escaped(b, name, false);
		buf_adds(b, ": ");
	}
	add_escaped(b, msg, false);
	buf_adds(b, "\n");
}

void log_msg(enum log_level level, const char *name, const char *fmt, ...)
{
	struct buf line = { 0 };
	char msg[4096];
	va_list ap;

	if (!log_enabled(level))
		return;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (state.format == LOG_JSON)
		add_json(&line, level, name, msg);
	else
		add_text(&line, level, name, msg);
	/* A log that cannot be written has nowhere to complain to. */
	if (!line.bad && write(state.fd, line.data, line.len) < 0)
		(void)0;
	buf_finish(&line);
}
