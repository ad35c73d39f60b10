#include "supervisor/health-check.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/str.h"

#define SSH_PORT  22
#define HTTP_PORT 80

static int parse_tcp(struct health_check *c, const char *text, struct err *err)
{
	uint64_t port;

	if (parse_u64(text, 1, 65535, &port, NULL) < 0)
		return err_set(err, -EINVAL, "tcp:%s: a port from 1 to 65535 is missing", text);
	c->port = (unsigned)port;
	return 0;
}

/* What libcurl would take apart in another way than a person reads it is refused. */
static int parse_http(struct health_check *c, const char *text, struct err *err)
{
	const char *rest = text + strlen("http://");
	size_t authority = strcspn(rest, "/?#");
	const char *colon = memrchr(rest, ':', authority);
	const char *bracket = memrchr(rest, ']', authority);
	uint64_t port;
	char digits[8];

	for (const char *p = text; *p != '\0'; p++) {
		if (isspace((unsigned char)*p) || iscntrl((unsigned char)*p))
			return err_set(err, -EINVAL, "%s: a URL has no blanks", quote(text));
	}
	if (memchr(rest, '@', authority) != NULL)
		return err_set(err, -EINVAL, "%s: a user is of no use here", quote(text));
	if (rest[authority] == '#' || rest[authority] == '?')
		return err_set(err, -EINVAL, "%s: the path must begin with '/'", quote(text));
	if (colon != NULL && (bracket == NULL || colon > bracket)) {
		size_t n = authority - (size_t)(colon + 1 - rest);

		snprintf(
			digits, sizeof(digits), "%.*s", (int)MIN(n, sizeof(digits) - 1), colon + 1);
		if (parse_u64(digits, 1, 65535, &port, NULL) < 0)
			return err_set(err, -EINVAL, "%s: the port is not a number from 1 to 65535",
				quote(text));
	}
	c->url = strdup(rest);
	return c->url == NULL ? err_nomem(err) : 0;
}

static int parse_console(struct health_check *c, const char *text, struct err *err)
{
	char why[200];
	int r;

	/* An empty one would match before the guest has said anything. */
	if (*text == '\0')
		return err_set(err, -EINVAL, "console: a regular expression is missing");
	r = regcomp(&c->regex, text, REG_EXTENDED | REG_NOSUB);
	if (r == 0)
		return 0;
	regerror(r, &c->regex, why, sizeof(why));
	return r == REG_ESPACE ? err_nomem(err)
			       : err_set(err, -EINVAL, "console: %s is no regular expression: %s",
					 quote(text), why);
}

int health_check_parse(struct health_check *out, const char *text, struct err *err)
{
	static const char *const words[] = { "tcp:", "ssh", "http://", "agent", "console:" };
	struct health_check c = { 0 };
	const char *nearest;
	char word[16];
	int r = 0;

	if (str_starts(text, "tcp:")) {
		c.kind = HEALTH_TCP;
		r = parse_tcp(&c, text + 4, err);
	} else if (strcmp(text, "ssh") == 0) {
		c.kind = HEALTH_SSH;
		c.port = SSH_PORT;
	} else if (str_starts(text, "http://")) {
		c.kind = HEALTH_HTTP;
		r = parse_http(&c, text, err);
		c.port = r == 0 && c.url[0] == ':' ? (unsigned)atoi(c.url + 1) : HTTP_PORT;
	} else if (strcmp(text, "agent") == 0) {
		c.kind = HEALTH_AGENT;
	} else if (str_starts(text, "console:")) {
		c.kind = HEALTH_CONSOLE;
		r = parse_console(&c, text + 8, err);
	} else {
		snprintf(word, sizeof(word), "%.*s", (int)strcspn(text, "0123456789"), text);
		nearest = str_nearest(word, words, ARRAY_LEN(words));
		r = err_set(err, -EINVAL,
			"%s is not one of tcp:PORT, ssh, http://:PORT/PATH, agent, console:REGEX"
			"%s%s%s",
			quote(text), nearest != NULL ? "; did you mean '" : "",
			nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
	}
	if (r == 0)
		*out = c;
	return r;
}

void health_check_finish(struct health_check *c)
{
	free(c->url);
	c->url = NULL;
	if (c->kind == HEALTH_CONSOLE)
		regfree(&c->regex);
	c->kind = HEALTH_TCP;
}

bool health_check_needs_address(const struct health_check *c)
{
	return c->kind == HEALTH_TCP || c->kind == HEALTH_SSH ||
	       (c->kind == HEALTH_HTTP && (c->url[0] == ':' || c->url[0] == '/'));
}
