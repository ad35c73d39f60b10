/*
 * supervisor/health-check.h - one value of `health =`: what is to be checked. Pure; any thread.
 *
 *	tcp:PORT | ssh | http://[HOST]:PORT[/PATH] | agent | console:REGEX
 */
#ifndef DROVER_SUPERVISOR_HEALTH_CHECK_H
#define DROVER_SUPERVISOR_HEALTH_CHECK_H

#include <regex.h>
#include <stdbool.h>
#include "lib/err.h"

#define HEALTH_CHECKS_MAX 16

enum health_kind {
	HEALTH_TCP,
	HEALTH_SSH,
	HEALTH_HTTP,
	HEALTH_AGENT,
	HEALTH_CONSOLE
};

struct health_check {
	enum health_kind kind;
	unsigned port; /* tcp, ssh, and http at the machine */
	char *url;     /* http; without a host it begins with ':' or '/' */
	regex_t regex; /* console */
};

/* out is written only on success; release it with health_check_finish(). */
int health_check_parse(struct health_check *out, const char *text, struct err *err);
void health_check_finish(struct health_check *c);
/* Whether it needs the machine's address. */
bool health_check_needs_address(const struct health_check *c);

#endif
