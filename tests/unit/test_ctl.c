#include "tests/unit/rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl/ctl.h"
#include "ctl/help.h"
#include "ctl/pull-progress.h"
#include "ctl/show.h"
#include "ctl/table.h"
#include "lib/file.h"
#include "lib/json.h"

static json_t *parse(const char *text)
{
	struct err err = { 0 };
	json_t *v = NULL;

	if (json_parse(text, strlen(text), &v, &err) != 0)
		fail_msg("%s", err.msg);
	return v;
}

#define assert_buf(b, text)                                                                        \
	do {                                                                                       \
		assert_string_equal(buf_str(&(b)), text);                                          \
		buf_finish(&(b));                                                                  \
	} while (0)

static void tables_align(void **state)
{
	struct table t = { .columns = 3 };
	struct buf out = { 0 };

	table_cell(&t, "NAME");
	table_cell(&t, "STATE");
	table_cell(&t, "X");
	table_cell(&t, "a-long-name");
	table_cell(&t, NULL);
	table_cell(&t, "1");
	table_cell(&t, "\xc3\xa4");
	table_cell(&t, "evil\033[2J\n\xc2\x9b\xff");
	table_cellf(&t, "%d", 22);
	table_format(&t, &out);
	assert_buf(out, "NAME         STATE                 X\n"
			"a-long-name  -                     1\n"
			"\xc3\xa4            evil\\x1b[2J\\x0a\\x9b\xef\xbf\xbd  22\n");
}

static void bars_fill(void **state)
{
	struct buf out = { 0 };

	format_bar(&out, 17, 0, 100);
	assert_buf(out, "[          ]   0%");
	format_bar(&out, 17, 50, 100);
	assert_buf(out, "[=====>    ]  50%");
	format_bar(&out, 17, 100, 100);
	assert_buf(out, "[==========] 100%");
	format_bar(&out, 17, 99999, 100000);
	assert_buf(out, "[=========>]  99%");
	format_bar(&out, 17, 300, 100);
	assert_buf(out, "[==========] 100%");
	format_bar(&out, 17, 300, 0);
	assert_buf(out, "[          ]     ");
	format_bar(&out, 0, UINT64_MAX, UINT64_MAX);
	assert_buf(out, "[===] 100%");
}

static void images_are_shortened(void **state)
{
	struct buf out = { 0 };

	format_image(&out, "ghcr.io/x/y@sha256:0123456789abcdef0123456789abcdef");
	assert_buf(out, "ghcr.io/x/y@sha256:0123456789ab");
	format_image(&out, "ghcr.io/x/y:1");
	assert_buf(out, "ghcr.io/x/y:1");
	format_image(&out, "y@sha256:01");
	assert_buf(out, "y@sha256:01");
	format_image(&out, NULL);
	assert_buf(out, "");
	assert_string_equal(format_uptime(-1), "-");
	assert_string_equal(format_uptime(125), "2m 5s");
}

static const char vms[] =
	"[{\"name\":\"web\",\"state\":\"running\",\"conditions\":[],\"hypervisor\":\"qemu\","
	"\"address\":\"172.16.0.2\",\"image\":\"r/i:1\",\"uptime_s\":65,\"restarts\":0,"
	"\"last_cause\":\"requested\"},"
	"{\"name\":\"db\",\"state\":\"failed\",\"conditions\":[],\"hypervisor\":\"qemu\","
	"\"address\":null,\"image\":null,\"uptime_s\":null,\"restarts\":3,"
	"\"last_cause\":\"guest-panic\"},"
	"{\"name\":\"x\",\"state\":\"running\",\"conditions\":[\"degraded\",\"nospace\"],"
	"\"hypervisor\":\"qemu\",\"uptime_s\":0,\"restarts\":0},"
	"{\"name\":\"y\",\"state\":\"preparing\",\"conditions\":[],\"hypervisor\":\"qemu\","
	"\"restarts\":0,\"last_cause\":\"requested\","
	"\"operation\":{\"verb\":\"start\",\"step\":\"kernel\"}},"
	"{\"name\":\"z\",\"state\":\"stopping\",\"conditions\":[\"degraded\"],"
	"\"hypervisor\":\"qemu\",\"restarts\":0,\"operation\":{\"verb\":\"stop\"}}]";

static void lists_machines(void **state)
{
	struct buf out = { 0 };
	json_t *v = parse(vms);

	show_list(v, false, &out);
	assert_buf(out,
		"NAME  STATE      ADDRESS     HYPERVISOR  IMAGE  UPTIME  RESTARTS  CONDITIONS/CAUSE\n"
		"web   running    172.16.0.2  qemu        r/i:1  1m 5s   0         -\n"
		"db    failed     -           qemu        -      -       3         guest-panic\n"
		"x     running    -           qemu        -      0s      0         degraded, nospace\n"
		"y     preparing  -           qemu        -      -       0         start, at kernel\n"
		"z     stopping   -           qemu        -      -       0         stop; degraded\n");
	show_list(v, true, &out);
	assert_non_null(strstr(out.data, "web   \033[32mrunning\033[0m    172"));
	assert_non_null(strstr(out.data, "db    \033[31mfailed\033[0m     -"));
	buf_finish(&out);
	json_decref(v);
	v = json_array();
	show_list(v, true, &out);
	assert_non_null(strstr(out.data, "NAME  STATE"));
	buf_finish(&out);
	json_decref(v);
}

static void shows_a_machine(void **state)
{
	struct buf out = { 0 };
	json_t *v = parse(
		"{\"name\":\"web\",\"memory\":536870912,\"uptime_s\":3,\"error\":null,"
		"\"nics\":[{\"name\":\"nic0\",\"network\":\"taps\",\"mac\":\"02:00\","
		"\"tap\":\"tap1\",\"addresses\":[\"172.16.0.2\",\"fd00::2\"]}],"
		"\"ssh\":{\"user\":\"me\",\"identity\":\"/k\",\"address\":\"172.16.0.2\"},"
		"\"operation\":{\"verb\":\"stop\",\"step\":\"acpi\",\"started\":\"T\"},"
		"\"odd\":{\"a\":1}}");

	show_vm(v, &out);
	assert_buf(out, "name:       web\n"
			"memory:     512M\n"
			"uptime:     3s\n"
			"error:      -\n"
			"nic0:       172.16.0.2, fd00::2, mac 02:00, network taps, tap tap1\n"
			"ssh:        me@172.16.0.2 with /k\n"
			"operation:  stop, at acpi, since T\n"
			"odd:        {\"a\":1}\n");
	json_decref(v);
}

static void tells_events(void **state)
{
	static const struct {
		const char *json, *text;
	} table[] = {
		{ "{\"seq\":1,\"time\":\"T\",\"kind\":\"vm\",\"name\":\"web\",\"event\":\"state\","
		  "\"from\":\"starting\",\"to\":\"running\",\"cause\":null,\"reason\":\"by hand\"}",
			"T web state starting -> running reason=\"by hand\"\n" },
		{ "{\"seq\":2,\"time\":\"T\",\"kind\":\"drover\",\"name\":null,\"event\":\"started\"}",
			"T drover started\n" },
		{ "{\"seq\":3,\"time\":\"T\",\"kind\":\"network\",\"name\":\"taps\",\"event\":\"up\","
		  "\"n\":4,\"from\":\"x\"}",
			"T network taps up n=4 from=x\n" },
		{ "{\"time\":\"T\",\"kind\":\"vm\",\"name\":\"w\",\"event\":\"e\",\"t\":\"\\u001b[0m\"}",
			"T w e t=\\x1b[0m\n" },
		{ "{}", "-  ?\n" },
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		struct buf out = { 0 };
		json_t *v = parse(table[i].json);

		show_event(v, &out);
		assert_buf(out, table[i].text);
		json_decref(v);
	}
}

static void tells_why(void **state)
{
	struct buf out = { 0 };
	json_t *v = parse(
		"{\"name\":\"web\",\"state\":\"failed\",\"boot\":3,\"cause\":\"guest-panic\","
		"\"sentence\":\"the guest's kernel panicked\",\"started\":\"T1\",\"ended\":"
		"\"T2\",\"status\":null,\"console\":[\"line 1\",\"\\u001b[31mred\"],\"story\":"
		"[{\"time\":\"T1\",\"event\":\"start\",\"text\":\"by a person\"}]}");

	show_why(v, &out);
	assert_buf(out, "web is failed (boot 3): the guest's kernel panicked\n"
			"cause    guest-panic\n"
			"started  T1\n"
			"ended    T2\n"
			"\n"
			"  T1  start  by a person\n"
			"\n"
			"The console's last lines:\n"
			"  | line 1\n"
			"  | \\x1b[31mred\n");
	json_decref(v);
}

static void tells_plans(void **state)
{
	struct buf out = { 0 };
	json_t *v = parse("{\"actions\":[{\"op\":\"restart\",\"kind\":\"vm\",\"name\":\"web\","
			  "\"reason\":\"memory: 512M -> 1G\",\"keys\":[\"memory\"]},"
			  "{\"op\":\"start\",\"kind\":\"registry\",\"name\":\"r\"}]}");

	show_actions(v, &out);
	assert_buf(out, "restart vm web: memory: 512M -> 1G\nstart registry r\n");
	json_decref(v);
	v = parse("{\"actions\":[]}");
	show_actions(v, &out);
	assert_buf(out, "nothing to do\n");
	json_decref(v);
}

static void event(struct pull_progress *p, const char *text, struct buf *plain)
{
	json_t *v = parse(text);

	pull_progress_event(p, v, plain);
	json_decref(v);
}

static void pulls_have_bars_and_lines(void **state)
{
	struct pull_progress p = { 0 };
	struct buf plain = { 0 }, out = { 0 };

	event(&p,
		"{\"event\":\"start\",\"ref\":\"r/i:1\",\"cached\":1,\"layers\":["
		"{\"digest\":\"sha256:aaaaaaaaaaaaaaaaaaaa\",\"size\":1048576},"
		"{\"digest\":\"sha256:bbbbbbbbbbbbbbbbbbbb\",\"size\":3145728}]}",
		&plain);
	event(&p,
		"{\"event\":\"layer\",\"ref\":\"r/i:1\",\"digest\":\"sha256:aaaaaaaaaaaaaaaaaaaa\","
		"\"cached\":true}",
		&plain);
	event(&p,
		"{\"event\":\"progress\",\"ref\":\"r/i:1\",\"digest\":"
		"\"sha256:bbbbbbbbbbbbbbbbbbbb\",\"done\":1572864,\"size\":3145728}",
		&plain);
	assert_buf(plain, "r/i:1: 2 layers, 4M, 1 already here\n"
			  "r/i:1: aaaaaaaaaaaa is here already\n");
	assert_int_equal(pull_progress_draw(&p, 70, 24, &out), 3);
	for (char *line = strtok(out.data, "\n"); line != NULL; line = strtok(NULL, "\n")) {
		assert_true(text_width(line) < 70);
		if (str_starts(line, "aaaaaaaaaaaa "))
			assert_non_null(strstr(line, "already here"));
		else if (str_starts(line, "bbbbbbbbbbbb "))
			assert_non_null(strstr(line, " 50%"));
		else
			assert_non_null(strstr(line, " 62%"));
	}
	buf_finish(&out);
	assert_int_equal(pull_progress_draw(&p, 20, 24, &out), 3);
	buf_finish(&out);
	/* A low terminal: what is complete is left out first. */
	assert_int_equal(pull_progress_draw(&p, 70, 4, &out), 2);
	assert_true(str_starts(out.data, "bbbbbbbbbbbb "));
	buf_finish(&out);
	/* Hostile numbers, a layer that was not announced, another image. */
	event(&p,
		"{\"event\":\"progress\",\"ref\":\"r/i:1\",\"digest\":\"sha256:cc\",\"done\":-5,"
		"\"size\":-7}",
		&plain);
	assert_int_equal(pull_progress_draw(&p, 80, 24, &out), 4);
	buf_finish(&out);
	event(&p, "{\"event\":\"warning\",\"message\":\"a\\nb\\u001b\"}", &plain);
	event(&p, "{\"event\":\"done\",\"ref\":\"other\",\"digest\":\"sha256:dd\"}", &plain);
	event(&p, "{}", &plain);
	assert_int_equal(p.nlayers, 0);
	assert_buf(plain, "warning: a\\x0ab\\x1b\nother: done, sha256:dd\n");
	event(&p, "{\"event\":\"build\",\"ref\":\"other\",\"done\":1,\"size\":2}", &plain);
	assert_int_equal(pull_progress_draw(&p, 80, 24, &out), 1);
	buf_finish(&out);
	pull_progress_finish(&p);
}

/* ctl_parse() with its messages out of the way. */
static int parse_args(struct ctl *c, const char *line)
{
	static char copy[256]; /* c points at its words */
	char *argv[32] = { "drover" };
	int argc = 1, ret, saved = dup(STDERR_FILENO);

	snprintf(copy, sizeof(copy), "%s", line);
	for (char *w = strtok(copy, " "); w != NULL; w = strtok(NULL, " "))
		argv[argc++] = w;
	memset(c, 0, sizeof(*c));
	assert_non_null(freopen("/dev/null", "w", stderr));
	ret = ctl_parse(c, argc, argv);
	fflush(stderr);
	dup2(saved, STDERR_FILENO);
	close(saved);
	return ret;
}

static void reads_arguments(void **state)
{
	struct ctl c;

	assert_int_equal(parse_args(&c, "-o json list --all"), CTL_OK);
	assert_string_equal(c.verb->name, "list");
	assert_true(c.json);
	assert_true(ctl_flag(&c, "all"));
	assert_int_equal(parse_args(&c, "start a b --timeout=5 -t 7 c --socket /s"), CTL_OK);
	assert_int_equal(c.args.n, 3);
	assert_string_equal(ctl_opt(&c, "timeout"), "7");
	assert_null(ctl_opt(&c, "no-wait"));
	assert_string_equal(c.socket, "/s");
	strv_finish(&c.args);
	assert_int_equal(parse_args(&c, "image rm x"), CTL_OK);
	assert_string_equal(c.verb->name, "image rm");
	strv_finish(&c.args);
	assert_int_equal(parse_args(&c, "log web --boot -1 -f"), CTL_OK);
	assert_string_equal(ctl_opt(&c, "boot"), "-1");
	strv_finish(&c.args);
	assert_int_equal(parse_args(&c, "events -s-5"), CTL_OK);
	assert_string_equal(ctl_opt(&c, "since"), "-5");
	assert_int_equal(parse_args(&c, "--version"), CTL_OK);
	assert_string_equal(c.verb->name, "version");
	assert_int_equal(parse_args(&c, "stop --help"), -1);
	assert_string_equal(c.verb->name, "stop");
	assert_int_equal(parse_args(&c, "--help"), -1);
	assert_null(c.verb);
	assert_int_equal(parse_args(&c, "show -- --odd"), CTL_OK);
	assert_string_equal(c.args.v[0], "--odd");
	strv_finish(&c.args);
}

static void leaves_commands_alone(void **state)
{
	struct ctl c;

	assert_int_equal(parse_args(&c, "ssh web --wait 5 -- ls -l --all"), CTL_OK);
	assert_string_equal(ctl_opt(&c, "wait"), "5");
	assert_int_equal(c.args.n, 4);
	assert_string_equal(c.args.v[3], "--all");
	strv_finish(&c.args);
	assert_int_equal(parse_args(&c, "ssh web ls --help -- x"), CTL_OK);
	assert_int_equal(c.args.n, 5);
	assert_string_equal(c.args.v[2], "--help");
	assert_string_equal(c.args.v[3], "--");
	strv_finish(&c.args);
}

static void refuses_wrong_arguments(void **state)
{
	static const char *const wrong[] = { "", "strat x", "image", "image lst", "list x", "show",
		"log a b", "start a --frob", "start a --timeout", "list --all=1", "-o xml list",
		"-o", "start a -x", "why", "qmp", "hmp web", "check a b" };
	struct ctl c;

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		if (parse_args(&c, wrong[i]) != CTL_USAGE)
			fail_msg("accepted: %s", wrong[i]);
		strv_finish(&c.args);
	}
}

static void the_table_is_sound(void **state)
{
	for (size_t i = 0; i < nverbs; i++) {
		const struct verb *v = &verbs[i];

		assert_non_null(v->run);
		assert_true(v->min <= v->max);
		assert_true(strlen(v->help) < 60 && v->help[strlen(v->help) - 1] != '.');
		assert_true((v->max > 0) == (v->args[0] != '\0'));
		for (size_t j = 0; j < CTL_OPTS_MAX && v->opts[j].name != NULL; j++) {
			assert_non_null(v->opts[j].help);
			for (size_t k = 0; k < j; k++) {
				assert_string_not_equal(v->opts[j].name, v->opts[k].name);
				assert_true(v->opts[j].letter == 0 ||
					    v->opts[j].letter != v->opts[k].letter);
			}
		}
	}
}

/* A file in the tree that is made from the table; it is made again by `drover help --...`. */
static void check_made(const char *path, const struct buf *want)
{
	struct buf text = { 0 };
	struct err err = { 0 };

	if (file_read(path, 1 << 20, &text, &err) != 0)
		fail_msg("%s", err.msg);
	assert_string_equal(buf_str(&text), buf_str(want));
	buf_finish(&text);
}

static void what_is_made_from_the_table_is_fresh(void **state)
{
	struct buf out = { 0 };

	help_completion(&out);
	check_made("contrib/completion/drover.bash", &out);
	buf_clear(&out);
	help_man(&out);
	check_made("contrib/man/drover.1", &out);
	buf_clear(&out);
	help_text(&out);
	for (size_t i = 0; i < nverbs; i++)
		assert_non_null(strstr(out.data, verbs[i].help));
	buf_finish(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_align),
		cmocka_unit_test(bars_fill),
		cmocka_unit_test(images_are_shortened),
		cmocka_unit_test(lists_machines),
		cmocka_unit_test(shows_a_machine),
		cmocka_unit_test(tells_events),
		cmocka_unit_test(tells_why),
		cmocka_unit_test(tells_plans),
		cmocka_unit_test(pulls_have_bars_and_lines),
		cmocka_unit_test(reads_arguments),
		cmocka_unit_test(leaves_commands_alone),
		cmocka_unit_test(refuses_wrong_arguments),
		cmocka_unit_test(the_table_is_sound),
		cmocka_unit_test(what_is_made_from_the_table_is_fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
