/*
 * ctl/doctor-fix.h - the parts of `drover doctor` that need no running droverd: the report that
 * `droverd --doctor` prints, and the changes that it proposes, made by this process. They block.
 */
#ifndef DROVER_CTL_DOCTOR_FIX_H
#define DROVER_CTL_DOCTOR_FIX_H

#include <jansson.h>
#include "ctl/ctl.h"

/* Of this host, or of the tree at root; config NULL: droverd's own. *out is a new reference. */
int doctor_local(const char *root, const char *config, json_t **out, struct err *err);

struct fixing {
	const char *root;  /* NULL: this host */
	bool yes;          /* without asking */
	bool quiet;        /* nothing is printed and nobody asked */
	json_t *results;   /* [{check, title, result, message|null}]; result is "done", "refused",
	                     "declined" or "failed" */
	size_t done, left; /* left: not done, for whatever reason */
	size_t failed;
};

/*
 * Makes each of the changes ({title, refused, steps, back}, supervisor/examine.h) after it was shown and
 * asked for. Only for those of doctor_local(): a droverd may be anyone's.
 */
void doctor_make(struct fixing *f, const json_t *changes);

#endif
