/* What a monitor's client may ask for, and QEMU's words for what it may not. Pure. */
#include "tests/unit/rig.h"

#include <stdlib.h>
#include <string.h>

#include "hv/qmp-rules.h"

/* The refusal's sentence; NULL when it passes. */
static const char *refused(const char *text, bool negotiated)
{
	static struct qmp_refusal no;
	struct qmp_ask ask;
	int r = qmp_ask_parse(&ask, text, strlen(text), negotiated, &no);

	qmp_ask_finish(&ask);
	return r == 0 ? NULL : no.desc;
}

/* Each sentence is QEMU's (7.2), or begins so. */
static void test_refusals(void **state)
{
	static const struct {
		const char *text;
		bool negotiated;
		const char *begins;
	} cases[] = {
		{ "{\"execute\":\"query-status\"}", true, NULL },
		{ "{\"execute\":\"query-status\"}", false,
			"Expecting capabilities negotiation with 'qmp_capabilities'" },
		{ "{\"execute\":\"qmp_capabilities\"}", false, NULL },
		{ "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}", false, NULL },
		{ "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}", false,
			"Capability oob is not available" },
		{ "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"x\":1}}", false,
			"Parameter 'x' is unexpected" },
		{ "{\"execute\":\"qmp_capabilities\"}", true,
			"Capabilities negotiation is already complete, command ignored" },
		{ "{\"exec-oob\":\"query-status\"}", true,
			"QMP input member 'exec-oob' is unexpected" },
		{ "{\"foo\":1}", true, "QMP input member 'foo' is unexpected" },
		{ "{\"execute\":\"x\",\"control\":{}}", true,
			"QMP input member 'control' is unexpected" },
		{ "{\"execute\":5}", true, "QMP input member 'execute' must be a string" },
		{ "{\"execute\":\"x\",\"arguments\":[]}", true,
			"QMP input member 'arguments' must be an object" },
		{ "{\"id\":1}", true, "QMP input lacks member 'execute'" },
		{ "[1]", true, "QMP input must be a JSON object" },
		{ "\"x\"", true, "QMP input must be a JSON object" },
		{ "{bad}", true, "JSON parse error, " },
		{ "{\"execute\":\"x\",\"execute\":\"quit\"}", true, "JSON parse error, " },
		{ "{\"execute\":\"x\",\"\\u0065xecute\":\"quit\"}", true, "JSON parse error, " },
		{ "{\"execute\":\"x\",\"id\":\"\\ud800\"}", true, "JSON parse error, " },
		{ "{\"execute\":\"x\"]", true, "JSON parse error, " },
		{ "{\"execute\":\"x\",\"id\":99999999999999999999999999}", true, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const char *got = refused(cases[i].text, cases[i].negotiated);

		if (cases[i].begins == NULL ? got != NULL
					    : got == NULL || !str_starts(got, cases[i].begins))
			fail_msg("%s: %s", cases[i].text, got != NULL ? got : "passed");
	}
}

/* Brackets that QEMU would answer more than once. */
static void test_depth(void **state)
{
	char text[2200];

	memset(text, 0, sizeof(text));
	strcpy(text, "{\"execute\":\"x\",\"id\":");
	memset(text + strlen(text), '[', 1050);
	memset(text + strlen(text), ']', 1050);
	strcat(text, "}");
	assert_string_equal(
		refused(text, true), "JSON nesting depth or token count limit exceeded");
}

static void test_judgement(void **state)
{
#define HMP(line) "human-monitor-command\",\"arguments\":{\"command-line\":\"" line "\"},\"id\":\""
	static const struct {
		const char *command;
		bool changes;
		enum qmp_effect effect;
	} cases[] = {
		{ "query-status", false, 0 },
		{ "x-query-irq", false, 0 },
		{ "qom-list", false, 0 },
		{ "qom-list-types", false, 0 },
		{ "qom-get", false, 0 },
		{ "device-list-properties", false, 0 },
		{ "query", true, 0 },
		{ "qom-set", true, 0 },
		{ "qom-listen", true, 0 },
		{ "qom-get2", true, 0 },
		{ "", true, 0 },
		{ "eject", true, QMP_EFFECT_TRAY },
		{ "blockdev-change-medium", true, QMP_EFFECT_TRAY },
		{ "stop", true, QMP_EFFECT_STOP },
		{ "cont", true, QMP_EFFECT_CONT },
		{ "quit", true, QMP_EFFECT_QUIT },
		{ "q", true, 0 },
		{ "system_reset", true, QMP_EFFECT_RESET },
		{ "system_powerdown", true, QMP_EFFECT_POWERDOWN },
		{ HMP("info block"), false, 0 },
		{ HMP("  info"), false, 0 },
		{ HMP("infos"), true, 0 },
		{ HMP(""), true, 0 },
		{ HMP("q"), true, QMP_EFFECT_QUIT },
		{ HMP(" stop"), true, QMP_EFFECT_STOP },
		{ HMP("c"), true, QMP_EFFECT_CONT },
		{ HMP("system_reset"), true, QMP_EFFECT_RESET },
		{ "human-monitor-command", true, 0 },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct qmp_refusal no;
		struct qmp_ask ask;
		char text[256];

		snprintf(text, sizeof(text), "{\"execute\":\"%s\"}", cases[i].command);
		assert_int_equal(qmp_ask_parse(&ask, text, strlen(text), true, &no), 0);
		if (ask.changes != cases[i].changes || ask.effect != cases[i].effect)
			fail_msg("%s: changes %d, effect %d", text, ask.changes, ask.effect);
		qmp_ask_finish(&ask);
	}
}

/* The id is echoed as it came, but on one line. */
static void test_id(void **state)
{
	static const struct {
		const char *text, *id;
	} cases[] = {
		{ "{\"id\":null,\"what\":1}", "null" },
		{ "{\"id\":1.50,\"execute\":1}", "1.50" },
		{ "{\"id\":{\"a\":\r\n[ ]},\"execute\":1}", "{\"a\":  [ ]}" },
		{ "{\"execute\":1}", NULL },
		{ "{bad}", NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct qmp_refusal no;
		struct buf out = { 0 };
		struct qmp_ask ask;

		assert_int_equal(
			qmp_ask_parse(&ask, cases[i].text, strlen(cases[i].text), true, &no), -1);
		assert_true(str_eq(ask.id, cases[i].id));
		qmp_refusal_text(&out, ask.id, &no);
		assert_true(str_starts(buf_str(&out),
			cases[i].id != NULL ? "{\"id\": "
					    : "{\"error\": {\"class\": \"GenericError\""));
		buf_finish(&out);
		qmp_ask_finish(&ask);
	}
}

static void test_descriptors(void **state)
{
	static const char getfd[] = "{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"n1\"}}";
	struct qmp_refusal no;
	struct qmp_ask ask;

	assert_int_equal(qmp_ask_parse(&ask, getfd, strlen(getfd), true, &no), 0);
	assert_int_equal(ask.fd, QMP_FD_GET);
	assert_string_equal(ask.fdname, "n1");
	assert_true(ask.changes);
	qmp_ask_finish(&ask);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_depth),
		cmocka_unit_test(test_judgement),
		cmocka_unit_test(test_id),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests_name("qmp_rules", tests, NULL, NULL);
}
