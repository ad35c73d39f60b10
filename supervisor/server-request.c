#include "supervisor/server-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "lib/json.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* In place. A NUL byte is refused: what comes after it would be silently lost. */
static bool percent_decode(char *s)
{
	char *to = s;

	for (; *s != '\0'; s++) {
		if (*s != '%') {
			*to++ = *s;
			continue;
		}
		int hi = hex(s[1]), lo = hi >= 0 ? hex(s[2]) : -1;

		if (lo < 0 || hi + lo == 0)
			return false;
		*to++ = (char)(hi << 4 | lo);
		s += 2;
	}
	*to = '\0';
	return true;
}

struct query_parse {
	struct request *rq;
	int ret;
};

static enum MHD_Result on_query(
	void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
	struct query_parse *qp = arg;
	struct request *rq = qp->rq;
	struct pair *grown = reallocarray(rq->query, rq->nquery + 1, sizeof(*grown));
	/* The request can outlive the connection, whose memory key and value lie in. */
	char *k = strdup(key), *v = strdup(value != NULL ? value : "");

	if (grown != NULL)
		rq->query = grown;
	if (grown == NULL || k == NULL || v == NULL) {
		qp->ret = -ENOMEM;
	} else if (!percent_decode(k) || !percent_decode(v)) {
		qp->ret = -EINVAL;
	} else {
		rq->query[rq->nquery++] = (struct pair){ k, v };
		return MHD_YES;
	}
	free(k);
	free(v);
	return MHD_NO;
}

int request_parse(struct request *rq, const char *raw_path, struct err *err)
{
	struct query_parse qp = { .rq = rq };
	char *save = NULL;

	rq->path = strdup(raw_path);
	if (rq->path == NULL)
		return err_nomem(err);
	for (char *seg = strtok_r(rq->path, "/", &save); seg != NULL;
		seg = strtok_r(NULL, "/", &save)) {
		if (!percent_decode(seg))
			return err_set(err, -EINVAL, "the path is not percent-encoded correctly");
		if (rq->nsegments == PATH_SEGMENTS_MAX)
			return err_set(err, -EINVAL, "the path has too many parts");
		rq->segments[rq->nsegments++] = seg;
	}
	MHD_get_connection_values(rq->conn, MHD_GET_ARGUMENT_KIND, on_query, &qp);
	if (qp.ret == -ENOMEM)
		return err_nomem(err);
	if (qp.ret != 0)
		return err_set(err, -EINVAL, "the query is not percent-encoded correctly");
	return 0;
}

/* Compares with a template such as "/vms/{name}/log" and fills the parameters. */
static bool route_fits(const struct route *route, struct request *rq)
{
	const char *t = route->path;
	size_t i = 0;

	rq->nparams = 0;
	for (t += strspn(t, "/"); *t != '\0'; t += strspn(t, "/")) {
		size_t len = strcspn(t, "/");

		if (i == rq->nsegments)
			return false;
		if (t[0] == '{')
			rq->params[rq->nparams++] = (struct param){ t, rq->segments[i] };
		else if (strlen(rq->segments[i]) != len || memcmp(rq->segments[i], t, len) != 0)
			return false;
		i++;
		t += len;
	}
	return i == rq->nsegments;
}

static void not_allowed(struct request *rq, const char *method, const struct strv *allow)
{
	struct buf list = { 0 };
	struct err err;

	for (size_t i = 0; i < allow->n; i++)
		buf_printf(&list, "%s%s", i > 0 ? ", " : "", allow->v[i]);
	err_set(&err, -EINVAL, "%s is not possible here, only %s", quote(method), buf_str(&list));
	request_refuse(rq, MHD_HTTP_METHOD_NOT_ALLOWED, "invalid", err.msg);
	if (rq->response != NULL)
		MHD_add_response_header(rq->response, MHD_HTTP_HEADER_ALLOW, buf_str(&list));
	buf_finish(&list);
}

void request_dispatch(struct request *rq, const char *method)
{
	const struct server_opts *opts = &rq->server->opts;
	const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
	struct strv allow = { 0 };

	rq->dispatched = true;
	if (rq->too_large) {
		request_refuse(rq, MHD_HTTP_CONTENT_TOO_LARGE, "invalid",
			"the request's body is larger than 1 MiB");
		return;
	}
	for (size_t i = 0; i < opts->nroutes; i++) {
		const struct route *route = &opts->routes[i];

		if (!route_fits(route, rq))
			continue;
		if (strcmp(route->method, wanted) == 0) {
			strv_finish(&allow);
			rq->held = true;
			route->fn(opts->arg, rq);
			return;
		}
		strv_add(&allow, route->method);
	}
	if (allow.n > 0)
		not_allowed(rq, method, &allow);
	else
		request_refuse(
			rq, MHD_HTTP_NOT_FOUND, "not-found", "the API has nothing under this path");
	strv_finish(&allow);
}

const char *request_param(const struct request *rq, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < rq->nparams; i++) {
		const char *t = rq->params[i].template;

		if (strncmp(t + 1, name, len) == 0 && t[1 + len] == '}')
			return rq->params[i].value;
	}
	return NULL;
}

const char *request_query(const struct request *rq, const char *name)
{
	for (size_t i = 0; i < rq->nquery; i++) {
		if (strcmp(rq->query[i].name, name) == 0)
			return rq->query[i].value;
	}
	return NULL;
}

int request_query_int(
	const struct request *rq, const char *name, int64_t def, int64_t *out, struct err *err)
{
	const char *text = request_query(rq, name), *digits;
	long long value;
	char *end;

	if (text == NULL) {
		*out = def;
		return 0;
	}
	digits = text + (text[0] == '-');
	errno = 0;
	value = strtoll(text, &end, 10);
	if (errno != 0 || *end != '\0' || digits[0] < '0' || digits[0] > '9')
		return err_set(err, -EINVAL, "%s is not a number: %s", name, quote(text));
	*out = value;
	return 0;
}

const char *request_header(const struct request *rq, const char *name)
{
	return rq->conn != NULL ? MHD_lookup_connection_value(rq->conn, MHD_HEADER_KIND, name)
				: NULL;
}

int request_json(const struct request *rq, json_t **out, struct err *err)
{
	if (rq->body.bad)
		return err_nomem(err);
	if (rq->body.len == 0) {
		*out = NULL;
		return 0;
	}
	if (json_parse(rq->body.data, rq->body.len, out, err) != 0)
		return err_wrap(err, "the request's body");
	return 0;
}

const char *request_body(const struct request *rq, size_t *len)
{
	*len = rq->body.len;
	return buf_str(&rq->body);
}

uid_t request_uid(const struct request *rq)
{
	return rq->peer.uid;
}

pid_t request_pid(const struct request *rq)
{
	return rq->peer.pid;
}

void request_on_gone(struct request *rq, void (*gone)(void *arg), void *arg)
{
	rq->gone = gone;
	rq->gone_arg = arg;
}
