/*
 * hv/qmp-rules.h - what a client of a machine's monitor asks for, in QEMU's words where it is
 * refused, and whether it may change anything. Pure.
 */
#ifndef DROVER_HV_QMP_RULES_H
#define DROVER_HV_QMP_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include "lib/str.h"

/* What a command does to the run as a whole. */
enum qmp_effect {
	QMP_EFFECT_NONE,
	QMP_EFFECT_STOP,
	QMP_EFFECT_CONT,
	QMP_EFFECT_QUIT,
	QMP_EFFECT_RESET,
	QMP_EFFECT_POWERDOWN,
	QMP_EFFECT_TRAY, /* of a drive for media, or what is in it */
	QMP_EFFECTS
};

/* How a command deals with descriptors. */
enum qmp_fd_use {
	QMP_FD_NONE,
	QMP_FD_GET,   /* getfd: one comes with it, and gets the name */
	QMP_FD_ADD,   /* add-fd: one comes with it */
	QMP_FD_CLOSE, /* closefd: of the name */
};

struct qmp_ask {
	char *id;      /* its JSON text, verbatim; NULL: there is none */
	char name[64]; /* of the command; "" when there is none */
	char hmp[64];  /* human-monitor-command: the beginning of its line; else "" */
	char *fdname;  /* of getfd and closefd, if it is a string */
	bool negotiates;
	bool changes; /* whatever is not known to change nothing */
	enum qmp_effect effect;
	enum qmp_fd_use fd;
};
void qmp_ask_finish(struct qmp_ask *a);

struct qmp_refusal {
	const char *class;
	char desc[400];
};

/*
 * Takes a client's message apart. 0, or -1 with *no filled: QEMU itself would refuse it before it
 * looked at the command, or it asks for what is not offered here (out-of-band execution). *out is
 * filled as far as it goes, and is to be finished in both cases; the text of one that passes has no
 * duplicate keys. negotiated: whether that client's qmp_capabilities is over.
 */
int qmp_ask_parse(
	struct qmp_ask *out, const char *text, size_t len, bool negotiated, struct qmp_refusal *no);
/* An error object with that id (NULL: none), as QEMU writes it. */
void qmp_refusal_text(struct buf *out, const char *id, const struct qmp_refusal *no);

#endif
