/*
 * lib/err.h - an error as a value: a negative errno and one sentence for a person.
 *
 * A function that can fail returns 0 or -errno and fills a struct err that its caller owns; there
 * is nothing to free. On the way up err_wrap() puts the more general part in front, so that the
 * message reads from the general to the cause. Any thread.
 */
#ifndef DROVER_LIB_ERR_H
#define DROVER_LIB_ERR_H

#include "lib/util.h"

#define ERR_MSG_MAX 1024

struct err {
	int code;              /* negative errno; 0: no error */
	char msg[ERR_MSG_MAX]; /* one line, no full stop, foreign strings already quoted */
};

/* Sets the message and returns code, which must be negative. err may be NULL. */
int err_set(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);
/* As err_set(), and appends ": " and strerror(-code). */
int err_errno(struct err *err, int code, const char *fmt, ...) PRINTF(3, 4);
/* Puts "fmt: " in front of the message; returns err->code. Where err is NULL that is the code of
 * the last error that was set without one, which is the one to be wrapped. */
int err_wrap(struct err *err, const char *fmt, ...) PRINTF(2, 3);
/* ENOMEM, the same everywhere. */
int err_nomem(struct err *err);

/*
 * The word for code that the API and the command line give to programs: "not-found" (ENOENT),
 * "exists" (EEXIST), "busy" (EBUSY), "invalid" (EINVAL), "denied" (EPERM, EACCES), "wrong-state"
 * (EBADFD), "timeout" (ETIMEDOUT), "cancelled" (ECANCELED), "no-space" (ENOSPC), "no-memory"
 * (ENOMEM), "unsupported" (ENOTSUP), "again" (EAGAIN), "unavailable" (EHOSTUNREACH, ECONNREFUSED);
 * else "failed".
 */
const char *err_word(int code);
/* The errno (negative) for such a word; -EIO for a word that is not known. */
int err_from_word(const char *word);

#endif
