/* supervisor/ini: what the reader makes of a text, and what it says about a wrong one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lib/str.h"
#include "supervisor/ini.h"

/* What was read, as "[kind|name]@line key@line=value|value+continued" lines, and the mistakes. */
struct result {
	struct buf text, mistakes;
};

static void note(void *arg, unsigned line, const char *message)
{
	buf_printf(arg, "%u: %s\n", line, message);
}

static void dump(const struct ini *ini, struct buf *out)
{
	size_t i, j, k;

	for (i = 0; i < ini->n; i++) {
		const struct ini_section *s = &ini->v[i];

		buf_printf(out, "[%s|%s]@%u\n", s->kind, s->name, s->line);
		for (j = 0; j < s->nkeys; j++) {
			buf_printf(out, "%s@%u", s->keys[j].name, s->keys[j].line);
			for (k = 0; k < s->keys[j].n; k++) {
				const struct ini_value *v = &s->keys[j].v[k];

				buf_printf(out, "%s%s<%s>", v->continued ? "+" : "=",
					v->quoted ? "q" : "", v->text);
			}
			buf_adds(out, "\n");
		}
	}
}

static struct result read_text(const char *data, size_t len)
{
	struct result r = { 0 };
	struct ini ini = { 0 };
	struct err err;
	/* A copy of exactly this size, so that reading beyond it shows under ASan. */
	char *copy = malloc(len + 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	copy = realloc(copy, len == 0 ? 1 : len);
	assert_int_equal(ini_read(&ini, copy, len, note, &r.mistakes, &err), 0);
	dump(&ini, &r.text);
	ini_finish(&ini);
	free(copy);
	return r;
}

static void expect_n(const char *data, size_t len, const char *text, const char *mistakes)
{
	struct result r = read_text(data, len);

	assert_string_equal(buf_str(&r.text), text);
	assert_string_equal(buf_str(&r.mistakes), mistakes);
	buf_finish(&r.text);
	buf_finish(&r.mistakes);
}

static void expect(const char *data, const char *text, const char *mistakes)
{
	expect_n(data, strlen(data), text, mistakes);
}

/* One mistake, in this line, whose message has these words in it. */
static void expect_mistake(const char *data, unsigned line, const char *words)
{
	struct result r = read_text(data, strlen(data));
	const char *m = buf_str(&r.mistakes);

	if ((unsigned)atoi(m) != line || strstr(m, words) == NULL ||
		strchr(m, '\n') != strrchr(m, '\n'))
		fail_msg("'%s' said '%s', not '%u: ...%s...'", data, m, line, words);
	buf_finish(&r.text);
	buf_finish(&r.mistakes);
}

static void sections_and_keys(void **state)
{
	expect("[drover]\nrun_id = ci-7\n\n[vm ubuntu-6.5]\nmemory=1G\n  \nkernel =  a b  \n",
		"[drover|]@1\nrun_id@2=<ci-7>\n[vm|ubuntu-6.5]@4\nmemory@5=<1G>\nkernel@7=<a b>\n",
		"");
	expect("", "", "");
	expect("\n\n", "", "");
	expect("[ vm \t x ]\nkey =\n", "[vm|x]@1\nkey@2=<>\n", "");
	expect("[vm x]\n[vm y]\n", "[vm|x]@1\n[vm|y]@2\n", "");
	/* The second '=' and a ':' belong to the value. */
	expect("[a b]\ncmdline = root=/dev/vda a:b\n", "[a|b]@1\ncmdline@2=<root=/dev/vda a:b>\n",
		"");
}

static void comments(void **state)
{
	expect("; one\n# two\n  ; three\n[vm x] ; four\na = 1 ; five\nb = 2\t;six\nc = 3;not\n"
	       "d = 4 # not\ne = ; seven\nf =;not\n",
		"[vm|x]@4\na@5=<1>\nb@6=<2>\nc@7=<3;not>\nd@8=<4 # not>\ne@9=<>\nf@10=<;not>\n",
		"");
	/* The same in an indented line as anywhere else. */
	expect("[vm x]\na = 1 ; one\n  2 ; two\n  ; three\n\n  # four\n  3;x\n",
		"[vm|x]@1\na@2=<1>+<2>+<3;x>\n", "");
}

static void quotes(void **state)
{
	expect("[vm x]\na = \" 1 ; 2 \" ; comment\nb = \"say \\\"x\\\" \\\\ y\"\nc = \"\"\n"
	       "d = a \"b\" c\ne = \"x\"\n  \"y ; z\"\n",
		"[vm|x]@1\na@2=q< 1 ; 2 >\nb@3=q<say \"x\" \\ y>\nc@4=q<>\nd@5=<a \"b\" c>\n"
		"e@6=q<x>+q<y ; z>\n",
		"");
	expect_mistake("[a b]\nk = \"abc\n", 2, "closing double quote is missing");
	expect_mistake("[a b]\nk = \"abc\\\"\n", 2, "closing double quote is missing");
	expect_mistake("[a b]\nk = \"abc\\\n", 2, "backslash");
	expect_mistake("[a b]\nk = \"a\\nb\"\n", 2, "backslash");
	expect_mistake("[a b]\nk = \"abc\" d\n", 2, "not a comment");
	expect_mistake("[a b]\nk = \"abc\";d\n", 2, "not a comment");
	/* A kernel's dyndbg= would lose its second half without a word. */
	expect_mistake("[a b]\nk = dyndbg=\"file a +p ; file b +p\"\n", 2, "would cut the value");
}

static void ends_of_lines(void **state)
{
	expect("[vm x]\r\na = 1\r\n  2\r\n\r\nb = \"3\"\r\n", "[vm|x]@1\na@2=<1>+<2>\nb@5=q<3>\n",
		"");
	expect("\xef\xbb\xbf[vm x]\na = 1", "[vm|x]@1\na@2=<1>\n", "");
	expect("[vm x]\na = 1 ;", "[vm|x]@1\na@2=<1>\n", "");
	expect("[vm x]\na =", "[vm|x]@1\na@2=<>\n", "");
	expect("[vm x]", "[vm|x]@1\n", "");
	expect_mistake("\n\xef\xbb\xbf[vm x]\n", 2, "neither");
	expect_mistake("[vm x]\na = 1\r2\n", 2, "control character");
}

static void continued(void **state)
{
	expect("[vm x]\nq = -a\n\t-b c\n -d\nr = 1\n", "[vm|x]@1\nq@2=<-a>+<-b c>+<-d>\nr@5=<1>\n",
		"");
	expect_mistake("[vm x]\n  a = 1\n", 2, "there is none");
	expect_mistake("  a\n", 1, "there is none");
	/* After a bad key or heading, what goes on with it is passed over. */
	expect_mistake("[vm x]\nbad\n  more\n", 2, "neither");
	expect_mistake("[vm x\na = 1\n  more\n", 1, "']'");
}

static void syntax(void **state)
{
	expect_mistake("[vm x]\nmemory\n", 2, "'memory' is neither");
	expect_mistake("[vm x]\nmemory: 1G\n", 2, "write '=', not ':'");
	expect_mistake("[vm x]\n= 1\n", 2, "no key before '='");
	expect_mistake("[vm x]\na b = 1\n", 2, "'a b' is not the name of a key");
	expect_mistake("[vm x]\na:b = 1\n", 2, "'a:b' is not the name of a key");
	expect_mistake("[vm x\n", 1, "closing ']'");
	expect_mistake("[]\n", 1, "empty");
	expect_mistake("[vm x] y\n", 1, "not a comment");
	expect_mistake("[vm x];y\n", 1, "not a comment");
	expect_mistake("[vm x] # y\n", 1, "begin with ' ;'");
	expect_mistake("a = 1\n", 1, "'a' stands before the first section");
	expect_mistake("[vm x]\na = \xff\n", 2, "UTF-8");
	expect_mistake("[vm x]\na = \xc0\x80\n", 2, "UTF-8");
	expect_mistake("[vm x]\na = \xed\xa0\x80\n", 2, "UTF-8");
	expect_mistake("[vm x]\na = \xe2\x82\n", 2, "UTF-8");
	expect_mistake("[vm x]\na = \x1b[31m\n", 2, "control character");
	/* Not in a comment, though. */
	expect("; \xff\n[vm x]\na = \xe2\x82\xac ; \xff\x01\n", "[vm|x]@2\na@3=<\xe2\x82\xac>\n",
		"");
}

static void all_mistakes_are_told(void **state)
{
	expect("x\n[vm a]\nb\nc = \"\n[\nd = 1\n[vm e]\nf = 2\n",
		"[vm|a]@2\nc@4\n[vm|e]@7\nf@8=<2>\n",
		"1: 'x' is neither a section nor 'key = value'\n"
		"3: 'b' is neither a section nor 'key = value'\n"
		"4: the closing double quote is missing\n"
		"5: the closing ']' of a section's heading is missing\n");
}

static void nul_bytes(void **state)
{
	static const char text[] = "[vm x]\na = 1\0 2\nb\0 = 3\n[vm\0 y]\nc = 4\n; \0 comment\n";
	static const char said[] = "2: a NUL byte: is this a text file?\n"
				   "3: a NUL byte: is this a text file?\n"
				   "4: a NUL byte: is this a text file?\n";

	expect_n(text, sizeof(text) - 1, "[vm|x]@1\nc@5=<4>\n", said);
}

/* inih alone cuts lines at 199 bytes and section names at 49. */
static void nothing_is_cut(void **state)
{
	struct buf in = { 0 }, out = { 0 };
	char name[64], *value = malloc(65537);
	int i;

	memset(name, 'n', 63);
	name[63] = '\0';
	assert_non_null(value);
	for (i = 0; i < 65536; i++)
		value[i] = (char)('a' + i % 26);
	value[65536] = '\0';
	buf_printf(&in, "[vm %s]\n%s = %s\n  %s\nb = \"%s\" ; %s\n", name, name, value, value,
		value, value);
	buf_printf(&out, "[vm|%s]@1\n%s@2=<%s>+<%s>\nb@4=q<%s>\n", name, name, value, value, value);
	expect(buf_str(&in), buf_str(&out), "");
	buf_clear(&in);
	buf_printf(&in, "[vm %s%s]\n%sx = 1\n", value, value, name);
	expect_mistake(buf_str(&in), 2, "at most 63 characters");
	buf_clear(&in);
	/* Two sections whose names differ after the 49th byte stay two. */
	buf_printf(&in, "[vm %sa]\nk = 1\n[vm %sb]\nk = 2\n", name, name);
	buf_clear(&out);
	buf_printf(&out, "[vm|%sa]@1\nk@2=<1>\n[vm|%sb]@3\nk@4=<2>\n", name, name);
	expect(buf_str(&in), buf_str(&out), "");
	buf_finish(&in);
	buf_finish(&out);
	free(value);
}

static void many_lines(void **state)
{
	struct buf in = { 0 };
	struct result r;
	int i;

	for (i = 0; i < 20000; i++)
		buf_printf(&in, "[vm m%d]\nq = 1\n  2\n", i);
	r = read_text(in.data, in.len);
	assert_string_equal(buf_str(&r.mistakes), "");
	assert_non_null(strstr(buf_str(&r.text), "[vm|m19999]@59998\nq@59999=<1>+<2>\n"));
	buf_finish(&r.text);
	buf_finish(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sections_and_keys),
		cmocka_unit_test(comments),
		cmocka_unit_test(quotes),
		cmocka_unit_test(ends_of_lines),
		cmocka_unit_test(continued),
		cmocka_unit_test(syntax),
		cmocka_unit_test(all_mistakes_are_told),
		cmocka_unit_test(nul_bytes),
		cmocka_unit_test(nothing_is_cut),
		cmocka_unit_test(many_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
