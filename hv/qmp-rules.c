#include "hv/qmp-rules.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "hv/json-scan.h"
#include "lib/json.h"

/*
 * QEMU's own limits (qobject/json-streamer.c: nesting 1024, 2 million tokens): a message beyond
 * them would be answered more than once, and without its id. Of commas, colons and brackets there
 * are at least half as many as of tokens.
 */
#define DEPTH_MAX  1000
#define TOKENS_MAX 900000

/*
 * The commands that change nothing, in the machine or in QEMU; a * stands for any rest. From
 * docs/interop/qemu-qmp-ref. human-monitor-command is decided by its line.
 */
static const char *const harmless[] = {
	"query-*",
	"x-query-*",
	"qom-list",
	"qom-list-types",
	"qom-list-properties",
	"qom-get",
	"device-list-properties",
};

/* qapi/misc.json, run-state.json and block.json; hmp-commands.hx has the short names. */
static const struct {
	const char *name, *letter;
	enum qmp_effect effect;
} effects[] = {
	{ "stop", "s", QMP_EFFECT_STOP },
	{ "cont", "c", QMP_EFFECT_CONT },
	{ "quit", "q", QMP_EFFECT_QUIT },
	{ "system_reset", NULL, QMP_EFFECT_RESET },
	{ "system_powerdown", NULL, QMP_EFFECT_POWERDOWN },
	{ "eject", NULL, QMP_EFFECT_TRAY },
	{ "change", NULL, QMP_EFFECT_TRAY },
	{ "blockdev-open-tray", NULL, QMP_EFFECT_TRAY },
	{ "blockdev-close-tray", NULL, QMP_EFFECT_TRAY },
	{ "blockdev-insert-medium", NULL, QMP_EFFECT_TRAY },
	{ "blockdev-remove-medium", NULL, QMP_EFFECT_TRAY },
	{ "blockdev-change-medium", NULL, QMP_EFFECT_TRAY },
};

static int PRINTF(3, 4) refuse(struct qmp_refusal *no, const char *class, const char *fmt, ...)
{
	va_list ap;

	no->class = class;
	va_start(ap, fmt);
	vsnprintf(no->desc, sizeof(no->desc), fmt, ap);
	va_end(ap);
	return -1;
}

static bool fits(const char *pattern, const char *name)
{
	size_t len = strcspn(pattern, "*");

	return strncmp(pattern, name, len) == 0 && (pattern[len] == '*' || name[len] == '\0');
}

static enum qmp_effect effect_of(const char *name, bool hmp)
{
	for (size_t i = 0; i < ARRAY_LEN(effects); i++)
		if (str_eq(name, effects[i].name) || (hmp && str_eq(name, effects[i].letter)))
			return effects[i].effect;
	return QMP_EFFECT_NONE;
}

/* A line of the human monitor: its first word decides. */
static void judge_line(struct qmp_ask *a, const char *line)
{
	char word[32];
	size_t len;

	line += strspn(line, " \t");
	len = strcspn(line, " \t");
	snprintf(a->hmp, sizeof(a->hmp), "%s", line);
	snprintf(word, sizeof(word), "%.*s", (int)MIN(len, sizeof(word) - 1), line);
	a->changes = !str_eq(word, "info");
	a->effect = effect_of(word, true);
}

static void judge(struct qmp_ask *a, const json_t *args)
{
	const char *fdname = json_string_value(json_object_get(args, "fdname"));
	const char *line = json_string_value(json_object_get(args, "command-line"));

	a->negotiates = str_eq(a->name, "qmp_capabilities");
	a->changes = !a->negotiates;
	for (size_t i = 0; i < ARRAY_LEN(harmless); i++)
		if (fits(harmless[i], a->name))
			a->changes = false;
	if (str_eq(a->name, "human-monitor-command"))
		judge_line(a, line != NULL ? line : "");
	else
		a->effect = effect_of(a->name, false);
	if (str_eq(a->name, "getfd"))
		a->fd = QMP_FD_GET;
	else if (str_eq(a->name, "closefd"))
		a->fd = QMP_FD_CLOSE;
	else if (str_eq(a->name, "add-fd"))
		a->fd = QMP_FD_ADD;
	if (fdname != NULL && (a->fd == QMP_FD_GET || a->fd == QMP_FD_CLOSE))
		a->fdname = strdup(fdname);
}

/* As qmp_dispatch_check_obj() of qapi/qmp-dispatch.c does it. */
static int check_members(const json_t *msg, struct qmp_refusal *no)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)msg, key, v) {
		if (strcmp(key, "execute") == 0) {
			if (!json_is_string(v))
				return refuse(no, "GenericError",
					"QMP input member 'execute' must be a string");
		} else if (strcmp(key, "arguments") == 0) {
			if (!json_is_object(v))
				return refuse(no, "GenericError",
					"QMP input member 'arguments' must be an object");
		} else if (strcmp(key, "exec-oob") == 0) {
			return refuse(no, "GenericError",
				"QMP input member 'exec-oob' is unexpected: out-of-band execution is "
				"not offered here");
		} else if (strcmp(key, "id") != 0) {
			return refuse(
				no, "GenericError", "QMP input member '%s' is unexpected", key);
		}
	}
	if (json_object_get(msg, "execute") == NULL)
		return refuse(no, "GenericError", "QMP input lacks member 'execute'");
	return 0;
}

/* qmp_capabilities: none is offered, so none can be enabled. */
static int check_capabilities(const json_t *args, struct qmp_refusal *no)
{
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)(uintptr_t)args, key, v) {
		const char *first = json_string_value(json_array_get(v, 0));

		if (strcmp(key, "enable") != 0)
			return refuse(no, "GenericError", "Parameter '%s' is unexpected", key);
		if (!json_is_array(v))
			return refuse(no, "GenericError",
				"Invalid parameter type for 'enable', expected: array");
		if (json_array_size(v) > 0)
			return refuse(no, "GenericError", "Capability %s is not available",
				first != NULL ? first : "");
	}
	return 0;
}

static int check(struct qmp_ask *out, const json_t *msg, bool negotiated, struct qmp_refusal *no)
{
	const json_t *args = json_object_get(msg, "arguments");
	const char *name = json_string_value(json_object_get(msg, "execute"));

	snprintf(out->name, sizeof(out->name), "%s", name != NULL ? name : "");
	if (check_members(msg, no) < 0)
		return -1;
	judge(out, args);
	if (!negotiated && !out->negotiates)
		return refuse(no, "CommandNotFound",
			"Expecting capabilities negotiation with 'qmp_capabilities'");
	if (negotiated && out->negotiates)
		return refuse(no, "CommandNotFound",
			"Capabilities negotiation is already complete, command ignored");
	return out->negotiates ? check_capabilities(args, no) : 0;
}

int qmp_ask_parse(
	struct qmp_ask *out, const char *text, size_t len, bool negotiated, struct qmp_refusal *no)
{
	const size_t flags = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL;
	struct json_member id;
	json_error_t error;
	json_t *msg;
	int r;

	*out = (struct qmp_ask){ .changes = true };
	if (json_exceeds(text, len, DEPTH_MAX, TOKENS_MAX))
		return refuse(
			no, "GenericError", "JSON nesting depth or token count limit exceeded");
	msg = json_loadb(text, len, flags, &error);
	if (msg == NULL)
		return refuse(no, "GenericError", "JSON parse error, %s", error.text);
	if (!json_is_object(msg)) {
		json_decref(msg);
		return refuse(no, "GenericError", "QMP input must be a JSON object");
	}
	if (json_find(text, len, "id", &id)) {
		out->id = strndup(text + id.value, id.end - id.value);
		if (out->id == NULL) {
			json_decref(msg);
			return refuse(no, "GenericError", "out of memory");
		}
		/* White space between tokens; an answer has to be one line. */
		for (char *p = out->id; (p = strpbrk(p, "\r\n")) != NULL;)
			*p = ' ';
	}
	r = check(out, msg, negotiated, no);
	json_decref(msg);
	return r;
}

void qmp_ask_finish(struct qmp_ask *a)
{
	free(a->id);
	free(a->fdname);
	a->id = a->fdname = NULL;
}

void qmp_refusal_text(struct buf *out, const char *id, const struct qmp_refusal *no)
{
	json_t *desc = json_str_new(no->desc);
	char *text = json_dumps(desc, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	json_decref(desc);
	buf_adds(out, "{");
	if (id != NULL)
		buf_printf(out, "\"id\": %s, ", id);
	buf_printf(out, "\"error\": {\"class\": \"%s\", \"desc\": %s}}", no->class,
		text != NULL ? text : "\"refused\"");
	free(text);
}
