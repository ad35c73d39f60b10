/* hv/run-log.c - the hypervisor's own stdout and stderr, and what it said there last. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/backend.h"

#define WORDS_MAX 2048

int hv_log_open(const char *path, int *out, long long *offset, struct err *err)
{
	int fd = -1;

	if (path != NULL) {
		fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
		if (fd < 0)
			return err_errno(err, -errno, "open %s", quote(path));
		*offset = lseek(fd, 0, SEEK_END);
	}
	*out = fd;
	return 0;
}

/* Up to three lines. */
static void last_words(const char *path, long long offset, char *out, size_t cap)
{
	char text[WORDS_MAX + 1], *line[3] = { 0 }, *p, *save;
	struct stat st;
	ssize_t n = 0;
	off_t from;
	int fd;

	*out = '\0';
	fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return;
	if (fstat(fd, &st) == 0) {
		from = st.st_size >= offset ? (off_t)offset : 0;
		n = pread(fd, text, WORDS_MAX, MAX(from, st.st_size - WORDS_MAX));
	}
	close(fd);
	text[MAX(n, 0)] = '\0';
	for (p = strtok_r(text, "\r\n", &save); p != NULL; p = strtok_r(NULL, "\r\n", &save)) {
		/* QEMU says so at every start, although the client is there. */
		if (strstr(p, ": info: QEMU waiting for connection on: ") != NULL)
			continue;
		line[0] = line[1];
		line[1] = line[2];
		line[2] = p;
	}
	for (size_t i = 0; i < ARRAY_LEN(line); i++) {
		size_t used = strlen(out);

		if (line[i] != NULL)
			snprintf(out + used, cap - used, "%s%s", used > 0 ? "; " : "", line[i]);
	}
	hv_clean_text(out);
}

void hv_add_last_words(const char *path, long long offset, struct err *err)
{
	size_t len = strlen(err->msg);
	char words[700];

	last_words(path, offset, words, sizeof(words));
	if (*words != '\0')
		snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", words);
}
