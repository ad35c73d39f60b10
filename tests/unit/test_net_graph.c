/* The pictures of `drover net graph`, and names that have to be escaped in them. */
#include "tests/unit/rig.h"

#include <jansson.h>
#include <string.h>
#include "ctl/table.h"

static const char networks[] =
	"[{\"name\":\"lab\",\"kind\":\"nat\",\"state\":\"up\",\"cidr\":\"10.0.0.0/24\",\"bridge\":\"br0\","
	"\"ports\":[],\"nics\":[{\"vm\":\"web-1\",\"nic\":0,\"mac\":\"52:00:00:00:00:01\","
	"\"address\":\"10.0.0.2\",\"running\":true},{\"vm\":\"db\",\"nic\":1,\"mac\":\"52:00:00:00:00:02\","
	"\"address\":null,\"running\":false}]},"
	"{\"name\":\"out\",\"kind\":\"bridge\",\"state\":\"down\",\"cidr\":null,\"bridge\":\"br1\","
	"\"ports\":[\"a\\\"<&\"],\"nics\":[]}]";

static void check(bool dot, bool svg, const char *want)
{
	json_t *all = json_loads(networks, 0, NULL);
	struct buf text = { 0 };

	assert_non_null(all);
	net_graph(&text, all, dot, svg);
	assert_string_equal(buf_str(&text), want);
	buf_finish(&text);
	json_decref(all);
}

static void test_text(void **state)
{
	check(false, false,
		"lab (nat, 10.0.0.0/24) on br0\n"
		"  => the world, under the host's address\n"
		"  -- web-1  nic0  10.0.0.2  52:00:00:00:00:01\n"
		"  .. db     nic1  -         52:00:00:00:00:02\n"
		"out (bridge) on br1, down\n"
		"  => what is on the bridge\n"
		"  => a\"<&\n");
}

static void test_dot(void **state)
{
	check(true, false,
		"graph drover {\n\trankdir=LR;\n"
		"\t\"net lab\" [shape=ellipse, label=\"lab\\nnat 10.0.0.0/24\"];\n"
		"\t\"world\" [shape=plaintext];\n"
		"\t\"net lab\" -- \"world\";\n"
		"\t\"vm web-1\" [shape=box, label=\"web-1\"];\n"
		"\t\"net lab\" -- \"vm web-1\" [label=\"10.0.0.2\"];\n"
		"\t\"vm db\" [shape=box, label=\"db\"];\n"
		"\t\"net lab\" -- \"vm db\" [label=\"\", style=dashed];\n"
		"\t\"net out\" [shape=ellipse, label=\"out\\nbridge \"];\n"
		"\t\"net out\" -- \"port a\\\"<&\";\n"
		"}\n");
}

static void test_svg(void **state)
{
	json_t *all = json_loads(networks, 0, NULL);
	struct buf text = { 0 };

	net_graph(&text, all, false, true);
	assert_non_null(strstr(buf_str(&text), "height=\"148\""));
	assert_non_null(strstr(buf_str(&text), ">bridge  a&quot;&lt;&amp;</text>"));
	assert_non_null(strstr(buf_str(&text), " stroke-dasharray=\"4\"/>"));
	assert_null(strstr(buf_str(&text), "<&"));
	buf_finish(&text);
	json_decref(all);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_dot),
		cmocka_unit_test(test_svg),
	};

	return cmocka_run_group_tests_name("net-graph", tests, NULL, NULL);
}
