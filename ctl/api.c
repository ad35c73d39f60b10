#include "ctl/api.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <uv.h>
#include "lib/http.h"
#include "lib/json.h"

#define SYSTEM_SOCKET  "/run/drover/api.sock"
#define ANSWER_MAX     (256u << 20)
#define LINE_MAX_BYTES (16u << 20)

struct api {
	uv_loop_t loop;
	struct http_client *http;
	char *socket;
};

static bool is_socket(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

char *api_socket(const struct ctl *c)
{
	const char *env = getenv("DROVER_SOCKET"), *session = getenv("XDG_RUNTIME_DIR");
	char *path;

	if (c->socket != NULL)
		return strdup(c->socket);
	if (env != NULL && env[0] != '\0')
		return strdup(env);
	if (session != NULL && session[0] == '/') {
		path = str_printf("%s/drover/api.sock", session);
		if (path == NULL || is_socket(path))
			return path;
		free(path);
	}
	return strdup(SYSTEM_SOCKET);
}

static void add_encoded(struct buf *out, const char *s)
{
	for (; *s != '\0'; s++) {
		bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			     (*s >= '0' && *s <= '9') || strchr("-._~", *s) != NULL;

		if (plain)
			buf_add(out, s, 1);
		else
			buf_printf(out, "%%%02X", (unsigned char)*s);
	}
}

static bool is_path_word(const char *name)
{
	return name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

void api_path(struct api_call *call, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt != '\0'; fmt++) {
		if (fmt[0] == '%' && fmt[1] == 's') {
			const char *name = va_arg(ap, const char *);

			if (is_path_word(name))
				call->no_machine = name;
			add_encoded(&call->path, name);
			fmt++;
		} else {
			buf_add(&call->path, fmt, 1);
		}
	}
	va_end(ap);
}

void api_query(struct api_call *call, const char *name, const char *value)
{
	bool first = strchr(buf_str(&call->path), '?') == NULL;

	buf_printf(&call->path, "%c%s=", first ? '?' : '&', name);
	add_encoded(&call->path, value);
}

void api_query_int(struct api_call *call, const char *name, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	api_query(call, name, text);
}

static int api_open(struct ctl *c)
{
	struct api *api = calloc(1, sizeof(*api));
	struct err err;

	if (api == NULL)
		return ctl_fail("out of memory");
	api->socket = api_socket(c);
	if (api->socket == NULL || uv_loop_init(&api->loop) != 0) {
		free(api->socket);
		free(api);
		return ctl_fail("out of memory");
	}
	if (http_client_create(&api->http, &api->loop, &err) != 0) {
		uv_loop_close(&api->loop);
		free(api->socket);
		free(api);
		return ctl_fail("%s", err.msg);
	}
	c->api = api;
	return CTL_OK;
}

void api_close(struct ctl *c)
{
	struct api *api = c->api;

	if (api == NULL)
		return;
	http_client_destroy(api->http, NULL, NULL);
	uv_run(&api->loop, UV_RUN_DEFAULT);
	uv_loop_close(&api->loop);
	free(api->socket);
	free(api);
	c->api = NULL;
}

static void take_lines(struct api_call *call)
{
	size_t done = 0;
	const char *nl;

	while ((nl = memchr(call->text.data + done, '\n', call->text.len - done)) != NULL) {
		*(char *)nl = '\0';
		call->line(
			call->arg, call->text.data + done, (size_t)(nl - call->text.data) - done);
		done = (size_t)(nl - call->text.data) + 1;
	}
	buf_drop(&call->text, done);
}

static int on_data(void *arg, int status, const char *data, size_t len)
{
	struct api_call *call = arg;

	if (status < 400 && call->data != NULL) {
		call->data(call->arg, data, len);
		return 0;
	}
	if (len > ANSWER_MAX - call->text.len)
		return -EFBIG;
	buf_add(&call->text, data, len);
	if (call->text.bad)
		return -ENOMEM;
	if (status < 400 && call->line != NULL) {
		take_lines(call);
		if (call->text.len > LINE_MAX_BYTES)
			return -EFBIG;
	}
	return 0;
}

/* The API's own sentence and word; an answer that is none of its errors is shown as it is. */
static void take_error(struct api_call *call)
{
	const json_t *e = json_obj(call->json, "error");
	const char *message = json_str(e, "message"), *word = json_str(e, "code");

	if (message != NULL)
		err_set(&call->err, word != NULL ? err_from_word(word) : -EIO, "%s", message);
	else
		err_set(&call->err, -EIO, "droverd answered with HTTP status %d", call->status);
	/* A machine that has a state is there: it is something else, an image say, that is not. */
	if (call->err.code == -ENOENT && json_str(e, "state") != NULL)
		call->err.code = -EIO;
}

static void no_answer(struct api_call *call, const struct err *err)
{
	const char *socket = call->ctl->api->socket;

	switch (err->code) {
	case -ENOENT:
		err_set(&call->err, -ECONNREFUSED,
			"droverd is not reachable: there is no socket %s; is it running?",
			quote(socket));
		break;
	case -ECONNREFUSED:
		err_set(&call->err, -ECONNREFUSED,
			"droverd is not reachable: nobody listens on %s; is it running?",
			quote(socket));
		break;
	case -EACCES:
		err_set(&call->err, -EACCES,
			"droverd is not reachable: no permission to use %s; "
			"are you in the group that may (drover)?",
			quote(socket));
		break;
	case -ETIMEDOUT:
		err_set(&call->err, -ETIMEDOUT, "droverd did not answer in time");
		break;
	case -ECONNRESET:
		err_set(&call->err, -ECONNRESET, "droverd has closed the connection");
		break;
	default:
		err_set(&call->err, err->code, "droverd is not reachable: %s", err->msg);
	}
}

static void on_done(void *arg, const struct http_result *res, const struct err *err)
{
	struct api_call *call = arg;

	call->ended = true;
	call->req = NULL;
	if (err != NULL) {
		no_answer(call, err);
	} else {
		call->status = res->status;
		if (call->line != NULL && res->status < 400 && call->text.len > 0) {
			buf_add(&call->text, "\n", 1);
			take_lines(call);
		}
		if (call->text.len > 0)
			json_parse(call->text.data, call->text.len, &call->json, NULL);
		if (res->status >= 400)
			take_error(call);
	}
	if (call->done != NULL)
		call->done(call);
}

/* As droverd would answer, which cannot be asked. */
static void answer_no_machine(struct api_call *call)
{
	call->ended = true;
	call->status = 404;
	err_set(&call->err, -ENOENT, "there is no machine %s", quote(call->no_machine));
	if (call->done != NULL)
		call->done(call);
}

int api_start(struct ctl *c, struct api_call *call)
{
	static const char *const headers[] = { "Content-Type: application/json", NULL };
	char *made = call->body != NULL ? json_text(call->body) : NULL;
	const char *body = call->body_text != NULL ? call->body_text : made;
	char *url = str_printf("http://localhost%s", buf_str(&call->path));
	struct http_spec spec = { .method = call->method,
		.url = url,
		.headers = body != NULL ? headers : NULL,
		.body = body,
		.body_len = body != NULL ? strlen(body) : 0,
		.timeout_ms = call->timeout_ms,
		.on_data = on_data };
	int ret = CTL_OK;

	if (call->body_data != NULL) {
		spec.body = call->body_data;
		spec.body_len = call->body_len;
	}
	if (c->api == NULL)
		ret = api_open(c);
	if (ret == CTL_OK &&
		(url == NULL || call->path.bad || (call->body != NULL && body == NULL)))
		ret = ctl_fail("out of memory");
	call->ctl = c;
	if (ret == CTL_OK && call->no_machine != NULL) {
		answer_no_machine(call);
	} else if (ret == CTL_OK) {
		spec.unix_socket = c->api->socket;
		if (http_request(c->api->http, &spec, on_done, call, &call->req, &call->err) != 0)
			ret = ctl_fail("%s", call->err.msg);
	}
	free(made);
	free(url);
	if (ret != CTL_OK) {
		call->ended = true;
		err_set(&call->err, -EIO, "the request could not be made");
	}
	return ret;
}

uv_loop_t *api_loop(struct ctl *c)
{
	return &c->api->loop;
}

void api_cancel(struct api_call *call)
{
	if (!call->ended && call->req != NULL)
		http_cancel(call->req);
}

static bool all_ended(const struct api_call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!calls[i].ended)
			return false;
	}
	return true;
}

void api_wait(struct ctl *c, struct api_call *calls, size_t n)
{
	while (!all_ended(calls, n) && uv_run(&c->api->loop, UV_RUN_ONCE) != 0)
		;
}

int api_report(const struct api_call *call)
{
	if (call->err.code == 0)
		return CTL_OK;
	fprintf(stderr, "drover: %s\n", call->err.msg);
	if (call->status == 0)
		return CTL_UNREACHABLE;
	switch (call->err.code) {
	case -ENOENT:
		return CTL_NOT_FOUND;
	case -EBADFD:
	case -EBUSY:
		return CTL_WRONG_STATE;
	default:
		return CTL_FAILED;
	}
}

int api_run(struct ctl *c, struct api_call *call)
{
	int ret = api_start(c, call);

	if (ret != CTL_OK)
		return ret;
	api_wait(c, call, 1);
	return api_report(call);
}

void api_finish(struct api_call *call)
{
	buf_finish(&call->path);
	buf_finish(&call->text);
	json_decref(call->json);
	call->json = NULL;
}

int api_get(struct ctl *c, json_t **out, struct api_call *call)
{
	int ret;

	call->timeout_ms = 30000;
	ret = api_run(c, call);
	if (ret == CTL_OK && call->json == NULL)
		ret = ctl_fail("droverd's answer is not JSON");
	if (ret == CTL_OK)
		*out = json_incref(call->json);
	api_finish(call);
	return ret;
}
