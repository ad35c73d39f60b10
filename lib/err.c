#include "lib/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Of the last error whose words nobody wanted: err_wrap() has it to pass on. */
static _Thread_local int unsaid = -EIO;

static void set(struct err *err, int code, const char *fmt, va_list ap)
{
	/* fmt's arguments may point into err->msg. */
	char msg[ERR_MSG_MAX];

	vsnprintf(msg, sizeof(msg), fmt, ap);
	err->code = code;
	memcpy(err->msg, msg, strlen(msg) + 1);
}

int err_set(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (err != NULL) {
		va_start(ap, fmt);
		set(err, code, fmt, ap);
		va_end(ap);
	} else {
		unsaid = code;
	}
	return code;
}

int err_errno(struct err *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	if (err == NULL)
		return unsaid = code;
	va_start(ap, fmt);
	set(err, code, fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	snprintf(err->msg + len, sizeof(err->msg) - len, ": %s", strerror(-code));
	return code;
}

int err_wrap(struct err *err, const char *fmt, ...)
{
	char msg[ERR_MSG_MAX];
	va_list ap;
	int n;

	if (err == NULL)
		return unsaid;
	va_start(ap, fmt);
	n = vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof(msg))
		snprintf(msg + n, sizeof(msg) - (size_t)n, ": %s", err->msg);
	memcpy(err->msg, msg, strlen(msg) + 1);
	return err->code;
}

int err_nomem(struct err *err)
{
	return err_set(err, -ENOMEM, "out of memory");
}

static const struct {
	int code;
	const char *word;
} words[] = {
	/* The first row of a word is the errno that the word gives back. */
	{ ENOENT, "not-found" },
	{ EEXIST, "exists" },
	{ EBUSY, "busy" },
	{ EINVAL, "invalid" },
	{ EPERM, "denied" },
	{ EACCES, "denied" },
	{ EBADFD, "wrong-state" },
	{ ETIMEDOUT, "timeout" },
	{ ECANCELED, "cancelled" },
	{ ENOSPC, "no-space" },
	{ EDQUOT, "no-space" },
	{ ENOMEM, "no-memory" },
	{ ENOTSUP, "unsupported" },
	{ EAGAIN, "again" },
	{ EHOSTUNREACH, "unavailable" },
	{ ECONNREFUSED, "unavailable" },
};

const char *err_word(int code)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (words[i].code == -code)
			return words[i].word;
	}
	return "failed";
}

int err_from_word(const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		if (strcmp(words[i].word, word) == 0)
			return -words[i].code;
	}
	return -EIO;
}
