#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_offline),
		cmocka_unit_test(test_quoting),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
