#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "oci/cache-log.h"
#include "oci/cache.h"

#define STORAGE_PART                                                                               \
	"version: 0.1\n"                                                                           \
	"log:\n"                                                                                   \
	"  level: warn\n"                                                                          \
	"  formatter: text\n"                                                                      \
	"storage:\n"                                                                               \
	"  filesystem:\n"                                                                          \
	"    rootdirectory: \"/var/lib/drover/registry/ghcr\"\n"                                   \
	"  cache:\n"                                                                               \
	"    blobdescriptor: inmemory\n"                                                           \
	"  delete:\n"                                                                              \
	"    enabled: false\n"
#define HTTP_PART                                                                                  \
	"http:\n"                                                                                  \
	"  addr: \"127.0.0.1:5000\"\n"                                                             \
	"  headers:\n"                                                                             \
	"    X-Content-Type-Options: [nosniff]\n"
#define HEALTH_PART                                                                                \
	"health:\n"                                                                                \
	"  storagedriver:\n"                                                                       \
	"    enabled: false\n"

static struct cache_spec spec = { .upstream = "https://ghcr.io",
	.listen = "127.0.0.1:5000",
	.storage = "/var/lib/drover/registry/ghcr" };

static void test_proxy(void **state)
{
	struct buf out = { 0 };
	struct err err;

	assert_int_equal(cache_config_text(&spec, &out, &err), 0);
	assert_string_equal(buf_str(&out),
		STORAGE_PART HTTP_PART "proxy:\n  remoteurl: \"https://ghcr.io\"\n" HEALTH_PART);
	buf_finish(&out);
}

static void test_offline(void **state)
{
	struct cache_spec s = spec;
	struct buf out = { 0 };
	struct err err;

	s.upstream = NULL;
	assert_int_equal(cache_config_text(&s, &out, &err), 0);
	assert_string_equal(buf_str(&out), STORAGE_PART
		"  maintenance:\n    readonly:\n      enabled: true\n" HTTP_PART HEALTH_PART);
	buf_finish(&out);
}

static void test_quoting(void **state)
{
	struct cache_spec s = spec;
	struct buf out = { 0 };
	struct err err;

	s.storage = "/a \"b\": {c} \\d # e";
	assert_int_equal(cache_config_text(&s, &out, &err), 0);
	assert_non_null(
		strstr(out.data, "rootdirectory: \"/a \\\"b\\\": {c} \\\\d # e\"\n  cache:"));
	buf_finish(&out);
	s.storage = "/a\n  inmemory: {}";
	assert_int_equal(cache_config_text(&s, &out, &err), -EINVAL);
	assert_int_equal(out.len, 0);
	buf_finish(&out);
}

static void test_refused(void **state)
{
	struct cache_spec s = spec;
	struct buf out = { 0 };
	struct err err;

	s.upstream = "ghcr.io";
	assert_int_equal(cache_config_text(&s, &out, &err), -EINVAL);
	assert_string_equal(
		err.msg, "registry: upstream 'ghcr.io' must begin with https:// or http://");
	s = spec;
	s.listen = "";
	assert_int_equal(cache_config_text(&s, &out, &err), -EINVAL);
	assert_string_equal(err.msg, "registry: listen is empty");
	assert_int_equal(out.len, 0);
	buf_finish(&out);
}

/* ---- what was asked for, and what was fetched ---- */

#define BLOB                                                                                       \
	"/v2/org/vm/blobs/"                                                                        \
	"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define LINE(request, rest)                                                                        \
	"127.0.0.1 - - [21/Nov/2026:10:00:00 +0000] \"" request " HTTP/1.1\" " rest

static void assert_count(const struct cache_count *c, uint64_t asked, uint64_t served,
	uint64_t served_bytes, uint64_t fetched, uint64_t fetched_bytes)
{
	assert_int_equal(c->asked, asked);
	assert_int_equal(c->served, served);
	assert_int_equal(c->served_bytes, served_bytes);
	assert_int_equal(c->fetched, fetched);
	assert_int_equal(c->fetched_bytes, fetched_bytes);
}

static void test_lines(void **state)
{
	static const char *const nothing[] = { "", "fetched", "fetched x " BLOB, "fetched 5",
		"fetched 5 /v2/org/vm/manifests/1", LINE("GET /v2/", "200 2 \"\" \"drover\""),
		LINE("HEAD " BLOB, "200 0 \"\" \"\""), LINE("PUT " BLOB, "405 7 \"\" \"\""),
		LINE("GET /v2/org/vm/manifests/1", "200 500 \"\" \"\""),
		LINE("GET /v2/org/vm/blobs/sha256:12", "404 9 \"\" \"\""),
		LINE("GET " BLOB, "none"), "time=\"now\" level=error msg=\"GET " BLOB "\"" };
	struct cache_count c = { 0 };

	assert_true(cache_hit_rate(&c) < 0 && cache_byte_hit_rate(&c) < 0);
	for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++)
		cache_log_line(nothing[i], &c);
	assert_count(&c, 0, 0, 0, 0, 0);
	cache_log_line(LINE("GET " BLOB, "200 3000 \"\" \"go\""), &c);
	cache_log_line(LINE("GET " BLOB "?x=1", "206 1000 \"\" \"go\""), &c);
	cache_log_line(LINE("GET " BLOB, "404 117 \"\" \"go\""), &c);
	assert_count(&c, 3, 2, 4000, 0, 0);
	cache_log_line("fetched 3000 " BLOB, &c);
	assert_count(&c, 3, 2, 4000, 1, 3000);
	/* The one that was not served is no hit, though nothing was fetched for it. */
	assert_true(cache_hit_rate(&c) > 0.33 && cache_hit_rate(&c) < 0.34);
	assert_true(cache_byte_hit_rate(&c) == 0.25);
	/* More fetched than given: a fetch broke off, and came again. */
	for (int i = 0; i < 3; i++)
		cache_log_line("fetched 3000 " BLOB, &c);
	assert_true(cache_hit_rate(&c) == 0 && cache_byte_hit_rate(&c) == 0);
}

static void append(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
}

static off_t size(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

static void test_follow(void **state)
{
	char path[] = "/tmp/test_cache-XXXXXX", old[64], *longest;
	struct cache_count c = { 0 };
	struct cache_log_at at = { 0 };
	struct err err;

	close(mkstemp(path));
	snprintf(old, sizeof(old), "%s.1", path);
	unlink(path);
	assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	append(path, "fetched 1 " BLOB "\n");
	cache_log_end(path, &at);
	append(path, "fetched 10 " BLOB "\nfetched 100 /v2");
	assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 1, 10);
	/* The second half of a line, which is counted once. */
	append(path, BLOB + 3);
	append(path, "\n");
	for (int i = 0; i < 2; i++)
		assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 2, 110);
	/* No line at all, and more than is kept of one. */
	longest = malloc(100001);
	memset(longest, 'x', 100000);
	longest[100000] = '\0';
	append(path, longest);
	append(path, "\nfetched 1000 " BLOB "\n");
	free(longest);
	assert_int_equal(cache_log_follow(path, 200000, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 3, 1110);
	assert_int_equal(at.offset, size(path));
	/* Too large: moved away, and its writer goes on in the same file. */
	append(path, "fetched 10000 " BLOB "\n");
	assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 4, 11110);
	assert_int_equal(size(path), 0);
	assert_true(size(old) > 100000);
	append(path, "fetched 100000 " BLOB "\n");
	assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 5, 111110);
	/* Another file, and one that somebody else has emptied. */
	assert_int_equal(rename(path, old), 0);
	append(path, "fetched 1000000 " BLOB "\nfetched 1 " BLOB "\n");
	assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 7, 1111111);
	assert_int_equal(truncate(path, 0), 0);
	append(path, "fetched 1 " BLOB "\n");
	assert_int_equal(cache_log_follow(path, 4096, &at, &c, &err), 0);
	assert_count(&c, 0, 0, 0, 8, 1111112);
	unlink(path);
	unlink(old);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_offline),
		cmocka_unit_test(test_quoting),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_follow),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
