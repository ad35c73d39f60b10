/* drover net graph: who is connected to what, as text, for dot(1) or as a picture of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl/api.h"
#include "ctl/print.h"
#include "ctl/table.h"
#include "lib/json.h"

/* What a network is connected to beside its machines; "" where that is nothing. */
static const char *way_out(const json_t *n)
{
	static const struct {
		const char *kind, *text;
	} ways[] = {
		{ "p2p", "the world, by way of the host" },
		{ "nat", "the world, under the host's address" },
		{ "routed", "the world, under its own addresses" },
		{ "bridge", "what is on the bridge" },
		{ "user", "the world, as droverd's user" },
		{ "macvtap", "what is behind the port, but not the host" },
	};

	for (size_t i = 0; i < ARRAY_LEN(ways); i++)
		if (str_eq(json_str(n, "kind"), ways[i].kind))
			return ways[i].text;
	return "";
}

static void add_ports(struct buf *out, const json_t *n)
{
	const json_t *port;
	size_t i;

	json_array_foreach (json_arr(n, "ports"), i, port)
		buf_printf(out, "%s%s", i == 0 ? "" : ", ", json_string_value(port));
}

static const char *text_of(const json_t *j, const char *key, const char *none)
{
	const char *s = json_str(j, key);

	return s != NULL && s[0] != '\0' ? s : none;
}

/* ---- text ---- */

/* lab (nat, 10.0.0.0/24) on dbr..., down
 *   => the world, under the host's address
 *   -- eth1, its port
 *   -- web-1 nic0 10.0.0.5 52:.. */
static void add_text(struct buf *out, const json_t *n)
{
	const json_t *ports = json_arr(n, "ports"), *nic;
	struct table t = { .columns = 4 };
	size_t i;

	buf_printf(out, "%s (%s%s%s)", text_of(n, "name", "?"), text_of(n, "kind", "?"),
		json_str(n, "cidr") != NULL ? ", " : "", text_of(n, "cidr", ""));
	if (json_str(n, "bridge") != NULL)
		buf_printf(out, " on %s", json_str(n, "bridge"));
	if (!str_eq(json_str(n, "state"), "up"))
		buf_printf(out, ", %s", text_of(n, "state", "?"));
	buf_adds(out, "\n");
	if (way_out(n)[0] != '\0')
		buf_printf(out, "  => %s\n", way_out(n));
	if (json_array_size(ports) > 0) {
		buf_adds(out, "  => ");
		add_ports(out, n);
		buf_adds(out, "\n");
	}
	json_array_foreach (json_arr(n, "nics"), i, nic) {
		bool runs = json_flag(nic, "running", false);

		table_cellf(&t, "  %s %s", runs ? "--" : "..", text_of(nic, "vm", "?"));
		table_cellf(&t, "nic%lld", (long long)json_int(nic, "nic", 0));
		table_cell(&t, json_str(nic, "address"));
		table_cell(&t, json_str(nic, "mac"));
	}
	table_format(&t, out);
}

/* ---- dot ---- */

/* A string of dot's; names cannot have quotes, links can have nearly anything. */
static void add_quoted(struct buf *out, const char *prefix, const char *text)
{
	buf_printf(out, "\"%s", prefix);
	for (; *text != '\0'; text++)
		buf_printf(out, "%s%c", *text == '"' || *text == '\\' ? "\\" : "", *text);
	buf_adds(out, "\"");
}

static void add_dot(struct buf *out, const json_t *n)
{
	const char *name = text_of(n, "name", "?");
	const json_t *e;
	size_t i;

	buf_adds(out, "\t");
	add_quoted(out, "net ", name);
	buf_printf(out, " [shape=ellipse, label=\"%s\\n%s %s\"];\n", name, text_of(n, "kind", "?"),
		text_of(n, "cidr", ""));
	if (way_out(n)[0] != '\0' && !str_eq(json_str(n, "kind"), "bridge") &&
		!str_eq(json_str(n, "kind"), "macvtap")) {
		buf_adds(out, "\t\"world\" [shape=plaintext];\n\t");
		add_quoted(out, "net ", name);
		buf_adds(out, " -- \"world\";\n");
	}
	json_array_foreach (json_arr(n, "ports"), i, e) {
		buf_adds(out, "\t");
		add_quoted(out, "net ", name);
		buf_adds(out, " -- ");
		add_quoted(out, "port ", json_string_value(e));
		buf_adds(out, ";\n");
	}
	json_array_foreach (json_arr(n, "nics"), i, e) {
		buf_adds(out, "\t");
		add_quoted(out, "vm ", text_of(e, "vm", "?"));
		buf_printf(out, " [shape=box, label=\"%s\"];\n\t", text_of(e, "vm", "?"));
		add_quoted(out, "net ", name);
		buf_adds(out, " -- ");
		add_quoted(out, "vm ", text_of(e, "vm", "?"));
		buf_printf(out, " [label=\"%s\"%s];\n", text_of(e, "address", ""),
			json_flag(e, "running", false) ? "" : ", style=dashed");
	}
}

/* ---- SVG: networks on the left, machines on the right, a line for each nic ---- */

#define BOX_W  210
#define BOX_H  44
#define STEP_Y 64
#define LEFT_X 20
#define FAR_X  520

static void add_xml(struct buf *out, const char *text)
{
	for (; *text != '\0'; text++) {
		switch (*text) {
		case '<':
			buf_adds(out, "&lt;");
			break;
		case '&':
			buf_adds(out, "&amp;");
			break;
		case '"':
			buf_adds(out, "&quot;");
			break;
		default:
			buf_add(out, text, 1);
		}
	}
}

static void add_label(struct buf *out, int x, int y, const char *size, const char *text)
{
	buf_printf(out, "<text x=\"%d\" y=\"%d\" font-size=\"%s\">", x, y, size);
	add_xml(out, text);
	buf_adds(out, "</text>\n");
}

static void add_box(struct buf *out, int x, size_t row, int radius, const char *name,
	const char *below, const char *color)
{
	int y = 20 + (int)row * STEP_Y;

	buf_printf(out,
		"<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"%d\" fill=\"%s\" "
		"stroke=\"#444\"/>\n",
		x, y, BOX_W, BOX_H, radius, color);
	add_label(out, x + 10, y + 18, "14", name);
	add_label(out, x + 10, y + 35, "11", below);
}

/* The row of a machine; each has one, in the order in which they come. */
static size_t row_of(json_t *machines, const char *name)
{
	const json_t *known;
	size_t i;

	json_array_foreach (machines, i, known)
		if (str_eq(json_string_value(known), name))
			return i;
	json_array_append_new(machines, json_string(name));
	return json_array_size(machines) - 1;
}

static void add_line(struct buf *out, size_t from, size_t to, const json_t *nic)
{
	int y1 = 20 + (int)from * STEP_Y + BOX_H / 2, y2 = 20 + (int)to * STEP_Y + BOX_H / 2;
	int x1 = LEFT_X + BOX_W;

	buf_printf(out, "<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" stroke=\"#444\"%s/>\n", x1,
		y1, FAR_X, y2, json_flag(nic, "running", false) ? "" : " stroke-dasharray=\"4\"");
	/* Near the machine's end, where lines of one network are apart. */
	add_label(out, x1 + (FAR_X - x1) / 2, y1 + (y2 - y1) * 3 / 5 - 4, "11",
		text_of(nic, "address", ""));
}

static void add_svg(struct buf *out, const json_t *all)
{
	json_t *machines = json_array();
	struct buf body = { 0 }, below = { 0 };
	const json_t *n, *nic;
	size_t i, k, rows;

	json_array_foreach (all, i, n) {
		json_array_foreach (json_arr(n, "nics"), k, nic)
			add_line(&body, i, row_of(machines, text_of(nic, "vm", "?")), nic);
	}
	json_array_foreach (all, i, n) {
		buf_clear(&below);
		buf_printf(&below, "%s %s ", text_of(n, "kind", "?"), text_of(n, "cidr", ""));
		add_ports(&below, n);
		add_box(&body, LEFT_X, i, 20, text_of(n, "name", "?"), buf_str(&below),
			str_eq(json_str(n, "state"), "up") ? "#dcebff" : "#ffd9d9");
	}
	json_array_foreach (machines, i, n)
		add_box(&body, FAR_X, i, 3, json_string_value(n), "", "#f4f4f4");
	rows = MAX(json_array_size(all), json_array_size(machines));
	buf_printf(out,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"font-family=\"sans-serif\">\n%s</svg>\n",
		FAR_X + BOX_W + 20, 20 + (int)MAX(rows, (size_t)1) * STEP_Y, buf_str(&body));
	buf_finish(&below);
	buf_finish(&body);
	json_decref(machines);
}

/* Pure, for the tests; all: as GET /networks has them. */
void net_graph(struct buf *out, const json_t *all, bool dot, bool svg)
{
	const json_t *n;
	size_t i;

	if (svg) {
		add_svg(out, all);
		return;
	}
	if (dot)
		buf_adds(out, "graph drover {\n\trankdir=LR;\n");
	json_array_foreach (all, i, n) {
		if (dot)
			add_dot(out, n);
		else
			add_text(out, n);
	}
	if (dot)
		buf_adds(out, "}\n");
	else if (json_array_size(all) == 0)
		buf_adds(out, "There are no networks.\n");
}

int verb_net_graph(struct ctl *c)
{
	struct api_call call = { 0 };
	struct buf text = { 0 };
	json_t *all;
	int ret;

	if (ctl_flag(c, "dot") && ctl_flag(c, "svg"))
		return ctl_fail("--dot and --svg are two pictures: choose one");
	api_path(&call, "/networks");
	ret = api_get(c, &all, &call);
	if (ret != CTL_OK)
		return ret;
	if (c->json) {
		print_json(all);
	} else {
		net_graph(&text, all, ctl_flag(c, "dot"), ctl_flag(c, "svg"));
		print_text(&text);
	}
	json_decref(all);
	return CTL_OK;
}
