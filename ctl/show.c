#include "ctl/show.h"

#include <stdlib.h>
#include <string.h>
#include "ctl/table.h"
#include "lib/json.h"

static const char *color_of(const char *state)
{
	static const struct {
		const char *state, *color;
	} table[] = {
		{ "running", "32" },
		{ "failed", "31" },
		{ "unknown", "31" },
		{ "paused", "33" },
		{ "backoff", "33" },
	};

	for (size_t i = 0; state != NULL && i < ARRAY_LEN(table); i++) {
		if (strcmp(table[i].state, state) == 0)
			return table[i].color;
	}
	return NULL;
}

/* What is being done, else what is not as it should be: the conditions, else why the last run
 * ended. */
static void condition_cell(struct table *t, const json_t *vm)
{
	const json_t *conditions = json_arr(vm, "conditions");
	const char *state = json_str(vm, "state");
	const json_t *op = json_obj(vm, "operation");
	struct buf text = { 0 };

	if (op != NULL) {
		buf_adds(&text, json_str(op, "verb") != NULL ? json_str(op, "verb") : "?");
		if (json_str(op, "step") != NULL)
			buf_printf(&text, ", at %s", json_str(op, "step"));
		buf_adds(&text, json_array_size(conditions) > 0 ? "; " : "");
	}
	if (json_array_size(conditions) > 0)
		format_value(&text, conditions);
	else if (op == NULL && !str_eq(state, "running") && !str_eq(state, "paused"))
		buf_adds(&text,
			json_str(vm, "last_cause") != NULL ? json_str(vm, "last_cause") : "");
	table_cell(t, buf_str(&text));
	buf_finish(&text);
}

static void addresses_cell(struct table *t, const json_t *vm)
{
	const char *address = json_str(vm, "address"), *address6 = json_str(vm, "address6");

	if (address != NULL && address6 != NULL)
		table_cellf(t, "%s,%s", address, address6);
	else
		table_cell(t, address != NULL ? address : address6);
}

static void list_row(struct table *t, const json_t *vm)
{
	struct buf image = { 0 };

	format_image(&image, json_str(vm, "image"));
	table_cell(t, json_str(vm, "name"));
	table_cell(t, json_str(vm, "state"));
	addresses_cell(t, vm);
	table_cell(t, json_str(vm, "hypervisor"));
	table_cell(t, buf_str(&image));
	table_cell(t, format_uptime(json_int(vm, "uptime_s", -1)));
	table_cellf(t, "%lld", (long long)json_int(vm, "restarts", 0));
	condition_cell(t, vm);
	buf_finish(&image);
}

/* The widths are those of the text without colours, so these are put in afterwards. */
static void add_colored(struct buf *out, const char *text, const json_t *vms)
{
	size_t i = 0;

	for (const char *line = text; *line != '\0'; i++) {
		size_t len = strcspn(line, "\n") + 1;
		const char *state = i > 0 ? json_str(json_array_get(vms, i - 1), "state") : NULL;
		const char *color = color_of(state);
		/* The second column: behind the name, which has no space in it. */
		size_t at = strcspn(line, " ");

		at += strspn(line + at, " ");
		if (color == NULL || strncmp(line + at, state, strlen(state)) != 0) {
			buf_add(out, line, len);
		} else {
			buf_add(out, line, at);
			buf_printf(out, "\033[%sm%s\033[0m", color, state);
			at += strlen(state);
			buf_add(out, line + at, len - at);
		}
		line += len;
	}
}

void show_list(const json_t *vms, bool colors, struct buf *out)
{
	static const char *const heads[] = { "NAME", "STATE", "ADDRESS", "HYPERVISOR", "IMAGE",
		"UPTIME", "RESTARTS", "CONDITIONS/CAUSE" };
	struct table t = { .columns = ARRAY_LEN(heads) };
	struct buf plain = { 0 };
	size_t i;
	json_t *vm;

	for (i = 0; i < ARRAY_LEN(heads); i++)
		table_cell(&t, heads[i]);
	json_array_foreach (vms, i, vm)
		list_row(&t, vm);
	table_format(&t, colors ? &plain : out);
	if (colors)
		add_colored(out, buf_str(&plain), vms);
	buf_finish(&plain);
}

static void pair(struct table *t, const char *key, const char *value)
{
	table_cellf(t, "%s:", key);
	table_cell(t, value);
}

static void show_nics(struct table *t, const json_t *nics)
{
	size_t i;
	json_t *nic;

	json_array_foreach (nics, i, nic) {
		const char *network = json_str(nic, "network"), *tap = json_str(nic, "tap");
		struct buf text = { 0 };

		format_value(&text, json_arr(nic, "addresses") != NULL
					    ? json_arr(nic, "addresses")
					    : json_object_get(nic, "address"));
		if (text.len == 0)
			buf_adds(&text, "no address");
		buf_printf(&text, ", mac %s, network %s",
			json_str(nic, "mac") != NULL ? json_str(nic, "mac") : "-",
			network != NULL ? network : "-");
		if (tap != NULL && tap[0] != '\0')
			buf_printf(&text, ", tap %s", tap);
		pair(t, json_str(nic, "name") != NULL ? json_str(nic, "name") : "nic",
			buf_str(&text));
		buf_finish(&text);
	}
}

static void show_ssh(struct table *t, const json_t *ssh)
{
	const char *user = json_str(ssh, "user"), *address = json_str(ssh, "address");
	const char *identity = json_str(ssh, "identity");
	struct buf text = { 0 };

	if (address != NULL)
		buf_printf(&text, "%s@%s", user != NULL ? user : "root", address);
	if (address != NULL && identity != NULL)
		buf_printf(&text, " with %s", identity);
	pair(t, "ssh", buf_str(&text));
	buf_finish(&text);
}

static void show_drives(struct table *t, const json_t *drives)
{
	const json_t *e;
	size_t i;

	json_array_foreach (drives, i, e) {
		const char *id = json_str(e, "id"), *medium = json_str(e, "medium");
		struct buf text = { 0 };

		buf_printf(&text, "%s: %s%s", id != NULL ? id : "?",
			medium != NULL ? medium : "no medium",
			json_flag(e, "open", false) ? ", the tray is open" : "");
		pair(t, i == 0 ? "drives" : "", buf_str(&text));
		buf_finish(&text);
	}
}

static void show_operation(struct table *t, const json_t *op)
{
	struct buf text = { 0 };

	buf_printf(&text, "%s", json_str(op, "verb") != NULL ? json_str(op, "verb") : "?");
	if (json_str(op, "step") != NULL)
		buf_printf(&text, ", at %s", json_str(op, "step"));
	if (json_str(op, "started") != NULL)
		buf_printf(&text, ", since %s", json_str(op, "started"));
	pair(t, "operation", buf_str(&text));
	buf_finish(&text);
}

/* "healthy", and what is wrong with each check that has not passed. */
static void show_health(struct table *t, const json_t *health)
{
	struct buf text = { 0 };
	size_t i;
	json_t *c;

	buf_adds(&text, json_str(health, "state") != NULL ? json_str(health, "state") : "?");
	if (!json_flag(health, "ready", true))
		buf_adds(&text, ", not ready");
	pair(t, "health", buf_str(&text));
	json_array_foreach (json_arr(health, "checks"), i, c) {
		const char *error = json_str(c, "error");

		buf_clear(&text);
		buf_printf(&text, "%s: %s", json_str(c, "check"),
			error != NULL                            ? error
			: json_is_true(json_object_get(c, "ok")) ? "ok"
								 : "not asked yet");
		pair(t, "check", buf_str(&text));
	}
	buf_finish(&text);
}

static void show_warm(struct table *t, const json_t *warm)
{
	const char *image = json_str(warm, "image"), *reason = json_str(warm, "reason");
	const char *from = json_str(warm, "from"), *made = json_str(warm, "made");
	struct buf text = { 0 };

	if (json_object_get(warm, "good") == NULL)
		buf_printf(&text, "%s%s", from != NULL ? "from " : "begins with ",
			from != NULL    ? from
			: image != NULL ? image
					: "nothing");
	else if (image == NULL)
		buf_adds(&text, "not frozen yet");
	else
		buf_printf(&text, "%s, made %s", image, made != NULL ? made : "some time ago");
	if (reason != NULL)
		buf_printf(&text, " (%s)", reason);
	pair(t, "warm", buf_str(&text));
	buf_clear(&text);
	format_value(&text, json_arr(warm, "machines"));
	if (text.len > 0)
		pair(t, "machines", buf_str(&text));
	buf_finish(&text);
}

static void show_cannot(struct table *t, const json_t *cannot)
{
	const char *cap;
	json_t *why;

	json_object_foreach ((json_t *)cannot, cap, why) {
		char *text = str_printf("%s: %s", cap, json_string_value(why));

		pair(t, "cannot", text != NULL ? text : cap);
		free(text);
	}
}

static void show_member(struct table *t, const char *key, const json_t *v)
{
	struct buf text = { 0 };

	if (strcmp(key, "nics") == 0 && json_is_array(v)) {
		show_nics(t, v);
	} else if (strcmp(key, "drives") == 0 && json_is_array(v)) {
		show_drives(t, v);
	} else if (strcmp(key, "ssh") == 0 && json_is_object(v)) {
		show_ssh(t, v);
	} else if (strcmp(key, "health") == 0 && json_is_object(v)) {
		show_health(t, v);
	} else if (strcmp(key, "warm") == 0 && json_is_object(v)) {
		show_warm(t, v);
	} else if (strcmp(key, "cannot") == 0 && json_is_object(v)) {
		show_cannot(t, v);
	} else if (strcmp(key, "operation") == 0 && json_is_object(v)) {
		show_operation(t, v);
	} else if (strcmp(key, "uptime_s") == 0) {
		pair(t, "uptime", format_uptime(json_is_integer(v) ? json_integer_value(v) : -1));
	} else if (strcmp(key, "memory") == 0 && json_is_integer(v)) {
		pair(t, key, format_size((uint64_t)json_integer_value(v)));
	} else {
		format_value(&text, v);
		pair(t, key, buf_str(&text));
		buf_finish(&text);
	}
}

void show_vm(const json_t *vm, struct buf *out)
{
	struct table t = { .columns = 2 };
	const char *key;
	json_t *v;

	json_object_foreach ((json_t *)vm, key, v)
		show_member(&t, key, v);
	table_format(&t, out);
}

static bool is_head(const char *key)
{
	static const char *const head[] = { "seq", "time", "kind", "name", "event" };

	for (size_t i = 0; i < ARRAY_LEN(head); i++) {
		if (strcmp(key, head[i]) == 0)
			return true;
	}
	return false;
}

/* A change of state reads as such; everything else as key=value. */
static void event_details(const json_t *event, struct buf *out)
{
	const char *from = json_str(event, "from"), *to = json_str(event, "to"), *key;
	json_t *v;

	if (from != NULL && to != NULL)
		buf_printf(out, " %s -> %s", from, to);
	json_object_foreach ((json_t *)event, key, v) {
		if (is_head(key) || json_is_null(v))
			continue;
		if (from != NULL && to != NULL &&
			(v == json_object_get(event, "from") || v == json_object_get(event, "to")))
			continue;
		buf_printf(out, " %s=", key);
		if (json_is_string(v) && strpbrk(json_string_value(v), " =") != NULL)
			buf_printf(out, "\"%s\"", json_string_value(v));
		else
			format_value(out, v);
	}
}

void show_event(const json_t *event, struct buf *out)
{
	const char *time = json_str(event, "time"), *name = json_str(event, "name");
	const char *kind = json_str(event, "kind"), *what = json_str(event, "event");
	struct buf text = { 0 };

	buf_printf(&text, "%s ", time != NULL ? time : "-");
	/* Machines are what most events are about; other things say what they are. */
	if (kind != NULL && strcmp(kind, "vm") != 0)
		buf_printf(&text, "%s%s", kind, name != NULL ? " " : "");
	buf_printf(&text, "%s %s", name != NULL ? name : "", what != NULL ? what : "?");
	event_details(event, &text);
	add_clean(out, buf_str(&text));
	buf_adds(out, "\n");
	buf_finish(&text);
}

static void add_line(struct buf *out, const char *label, const char *value)
{
	if (value == NULL)
		return;
	buf_printf(out, "%-9s", label);
	add_clean(out, value);
	buf_adds(out, "\n");
}

static void show_story(const json_t *story, struct buf *out)
{
	struct table t = { .columns = 3 };
	size_t i;
	json_t *e;

	if (json_array_size(story) == 0)
		return;
	buf_adds(out, "\n");
	json_array_foreach (story, i, e) {
		table_cellf(&t, "  %s", json_str(e, "time") != NULL ? json_str(e, "time") : "-");
		table_cell(&t, json_str(e, "event"));
		table_cell(&t, json_str(e, "text"));
	}
	table_format(&t, out);
}

static void show_console(const json_t *lines, struct buf *out)
{
	size_t i;
	json_t *line;

	if (json_array_size(lines) == 0)
		return;
	buf_adds(out, "\nThe console's last lines:\n");
	json_array_foreach (lines, i, line) {
		buf_adds(out, "  | ");
		add_clean(out, json_string_value(line) != NULL ? json_string_value(line) : "");
		buf_adds(out, "\n");
	}
}

void show_why(const json_t *why, struct buf *out)
{
	const char *name = json_str(why, "name"), *cause = json_str(why, "cause");
	struct buf head = { 0 };

	buf_printf(&head, "%s is %s", name != NULL ? name : "?",
		json_str(why, "state") != NULL ? json_str(why, "state") : "unknown");
	if (json_int(why, "boot", 0) > 0)
		buf_printf(&head, " (boot %lld)", (long long)json_int(why, "boot", 0));
	if (json_str(why, "sentence") != NULL)
		buf_printf(&head, ": %s", json_str(why, "sentence"));
	add_clean(out, buf_str(&head));
	buf_adds(out, "\n");
	buf_finish(&head);
	add_line(out, "cause", cause);
	add_line(out, "started", json_str(why, "started"));
	add_line(out, "ended", json_str(why, "ended"));
	add_line(out, "status", json_str(why, "status"));
	show_story(json_arr(why, "story"), out);
	show_console(json_arr(why, "console"), out);
}

void show_actions(const json_t *plan, struct buf *out)
{
	const json_t *actions = json_arr(plan, "actions");
	struct buf text = { 0 };
	size_t i;
	json_t *a;

	json_array_foreach (actions, i, a) {
		const char *reason = json_str(a, "reason");

		buf_clear(&text);
		buf_printf(&text, "%s %s %s", json_str(a, "op") != NULL ? json_str(a, "op") : "?",
			json_str(a, "kind") != NULL ? json_str(a, "kind") : "?",
			json_str(a, "name") != NULL ? json_str(a, "name") : "?");
		if (reason != NULL && reason[0] != '\0')
			buf_printf(&text, ": %s", reason);
		add_clean(out, buf_str(&text));
		buf_adds(out, "\n");
	}
	if (json_array_size(actions) == 0)
		buf_adds(out, "nothing to do\n");
	buf_finish(&text);
}
