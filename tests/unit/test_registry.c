/* The pure parts of the registry client; tests/e2e/image*.t have it talk to registries. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/file.h"
#include "oci/auth.h"
#include "oci/manifest.h"
#include "oci/registry.h"

#define HEX     "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define D       "sha256:" HEX
#define DESC(n) "{\"mediaType\":\"m/" #n "\",\"digest\":\"" D "\",\"size\":" #n "}"
#define OCI     "application/vnd.oci.image."
#define DOCKER  "application/vnd.docker.distribution.manifest."

static void test_challenge(void **state)
{
	struct auth_challenge c;
	struct buf url = { 0 };
	struct err err;

	assert_int_equal(auth_challenge_parse("Bearer realm=\"https://auth.docker.io/token\","
					      "service=\"registry.docker.io\","
					      "scope=\"repository:a/b:pull,push\"",
				 &c, &err),
		0);
	assert_int_equal(c.scheme, AUTH_BEARER);
	assert_string_equal(c.realm, "https://auth.docker.io/token");
	assert_string_equal(c.scope, "repository:a/b:pull,push");
	assert_int_equal(auth_token_url(&c, "a/b", &url, &err), 0);
	assert_string_equal(buf_str(&url),
		"https://auth.docker.io/token?service=registry.docker.io&"
		"scope=repository%3Aa%2Fb%3Apull%2Cpush");
	buf_clear(&url);
	assert_int_equal(auth_challenge_parse(
				 "bearer  Realm = http://x/t?a=b , foo=\"\\\"q,\\\\\"", &c, &err),
		0);
	assert_int_equal(auth_token_url(&c, "n", &url, &err), 0);
	assert_string_equal(buf_str(&url), "http://x/t?a=b&scope=repository%3An%3Apull");
	buf_finish(&url);
	assert_int_equal(auth_challenge_parse("Basic realm=\"x\"", &c, &err), 0);
	assert_int_equal(c.scheme, AUTH_BASIC);
}

static void test_bad_challenge(void **state)
{
	static const char *const rows[] = { "Bearer realm=\"https://x", "Bearer realm", "Bearer ",
		"Bearer =x", "Bearer realm=\"file:///etc/passwd\"", "Bearer service=\"x\"",
		"Bearer averyverylongnameofaparameterindeed=1" };
	struct auth_challenge c;
	struct err err;
	char longest[4096];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (auth_challenge_parse(rows[i], &c, &err) != -EBADMSG)
			fail_msg("accepted: %s", rows[i]);
	}
	assert_int_equal(auth_challenge_parse("Negotiate", &c, &err), -ENOTSUP);
	assert_int_equal(auth_challenge_parse("", &c, &err), -EACCES);
	snprintf(longest, sizeof(longest), "Bearer realm=\"https://%03000d\"", 1);
	assert_int_equal(auth_challenge_parse(longest, &c, &err), -EBADMSG);
}

static void test_token(void **state)
{
	static const char *const bad[] = { "{}", "{\"token\":\"\"}", "{\"token\":\"a\\r\\nX: y\"}",
		"[]", "x" };
	struct buf out = { 0 };
	struct err err;

	assert_int_equal(auth_token_parse("{\"token\":\"abc\"}", 15, &out, &err), 0);
	assert_string_equal(buf_str(&out), "Bearer abc");
	buf_clear(&out);
	assert_int_equal(auth_token_parse("{\"access_token\":\"x\"}", 20, &out, &err), 0);
	assert_string_equal(buf_str(&out), "Bearer x");
	buf_clear(&out);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(auth_token_parse(bad[i], strlen(bad[i]), &out, &err) < 0);
	assert_int_equal(out.len, 0);
	buf_finish(&out);
}

static void test_auth_file(void **state)
{
	static const char text[] = "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpw\"},"
				   "\"https://index.docker.io/v1/\":{\"auth\":\"ZDpk\"},"
				   "\"h.x:5000\":{\"username\":\"u\",\"password\":\"p\"},"
				   "\"evil\":{\"auth\":\"x\\r\\nX: y\"}}}";
	char path[] = "/tmp/drover-auth.XXXXXX";
	struct buf out = { 0 };
	struct err err;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (int)strlen(text));
	close(fd);
	assert_int_equal(auth_file_basic(path, "ghcr.io", &out, &err), 0);
	assert_string_equal(buf_str(&out), "Basic dTpw");
	buf_clear(&out);
	assert_int_equal(auth_file_basic(path, "docker.io", &out, &err), 0);
	assert_string_equal(buf_str(&out), "Basic ZDpk");
	buf_clear(&out);
	assert_int_equal(auth_file_basic(path, "h.x:5000", &out, &err), 0);
	assert_string_equal(buf_str(&out), "Basic dTpw");
	buf_clear(&out);
	assert_int_equal(auth_file_basic(path, "other", &out, &err), 0);
	assert_int_equal(out.len, 0);
	assert_int_equal(auth_file_basic(path, "evil", &out, &err), -EINVAL);
	unlink(path);
	assert_int_equal(auth_file_basic(path, "ghcr.io", &out, &err), -ENOENT);
	buf_finish(&out);
}

static int kind_of(const char *doc, const char *type)
{
	enum manifest_kind kind;
	struct err err;
	int r = manifest_kind(doc, strlen(doc), type, &kind, &err);

	return r == 0 ? (int)kind : r;
}

static void test_kind(void **state)
{
	assert_int_equal(kind_of("{\"mediaType\":\"" OCI "index.v1+json\"}", NULL), MANIFEST_INDEX);
	assert_int_equal(kind_of("{}", DOCKER "list.v2+json"), MANIFEST_INDEX);
	assert_int_equal(kind_of("{}", DOCKER "v2+json"), MANIFEST_IMAGE);
	/* What the document says counts, not what the server says. */
	assert_int_equal(
		kind_of("{\"mediaType\":\"" OCI "manifest.v1+json\"}", OCI "index.v1+json"),
		MANIFEST_IMAGE);
	assert_int_equal(kind_of("{\"manifests\":[]}", "text/plain"), MANIFEST_INDEX);
	assert_int_equal(kind_of("{\"layers\":[]}", NULL), MANIFEST_IMAGE);
	assert_int_equal(kind_of("{\"layers\":[],\"manifests\":[]}", NULL), -EBADMSG);
	assert_int_equal(kind_of("{}", NULL), -EBADMSG);
	assert_int_equal(kind_of("{\"schemaVersion\":1}", NULL), -ENOTSUP);
	assert_int_equal(kind_of("{}", DOCKER "v1+prettyjws"), -ENOTSUP);
	assert_int_equal(kind_of("[]", NULL), -EBADMSG);
	assert_int_equal(kind_of("", NULL), -EBADMSG);
}

static void test_manifest(void **state)
{
	static const char good[] = "{\"config\":" DESC(3) ",\"layers\":[" DESC(1) "," DESC(2) "]}";
	static const char *const bad[] = { "{}", "{\"config\":" DESC(3) "}",
		"{\"layers\":[" DESC(1) "]}", "{\"config\":" DESC(3) ",\"layers\":[" DESC(-1) "]}",
		"{\"config\":" DESC(3) ",\"layers\":[{\"digest\":\"sha256:../../x\",\"size\":1}]}",
		"{\"config\":" DESC(3) ",\"layers\":[{\"digest\":\"" D "\"}]}",
		"{\"config\":" DESC(3) ",\"layers\":[{\"digest\":\"" D "\",\"size\":1.5}]}",
		"{\"config\":" DESC(3) ",\"layers\":[7]}", "{\"config\":7,\"layers\":[]}", "7",
		"" };
	static const char foreign[] = "{\"config\":" DESC(
		3) ",\"layers\":[{\"digest\":\"" D "\",\"size\":1,\"urls\":[\"http://x/\"]}]}";
	struct manifest m;
	struct err err;

	assert_int_equal(manifest_parse(good, strlen(good), &m, &err), 0);
	assert_int_equal(m.n, 2);
	assert_int_equal(m.layers[0].size, 1);
	assert_string_equal(m.layers[1].media_type, "m/2");
	assert_string_equal(m.config.digest, D);
	manifest_finish(&m);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (manifest_parse(bad[i], strlen(bad[i]), &m, &err) != -EBADMSG)
			fail_msg("accepted: %s", bad[i]);
	}
	assert_int_equal(manifest_parse(foreign, strlen(foreign), &m, &err), -ENOTSUP);
}

#define ENTRY(n, os, arch, more)                                                                   \
	"{\"mediaType\":\"m\",\"digest\":\"" D "\",\"size\":" #n ",\"platform\":{\"os\":\"" os     \
	"\",\"architecture\":\"" arch "\"" more "}}"

/* The size of the chosen entry, which tells the entries apart, or -errno. */
static int choose(const char *index, const char *platform, struct err *err)
{
	struct descriptor d;
	struct platform p;
	int r = platform_parse(platform, &p, err);

	if (r == 0)
		r = index_choose(index, strlen(index), &p, &d, err);
	return r < 0 ? r : (int)d.size;
}

static void test_index(void **state)
{
	static const char index[] = "{\"manifests\":[" ENTRY(1, "unknown", "unknown", "") "," ENTRY(
		2, "linux", "amd64", ",\"variant\":\"v3\"") "," ENTRY(3, "linux", "amd64",
		"") "," ENTRY(4, "linux", "arm64", ",\"variant\":\"v8\"") "," ENTRY(5, "linux",
		"arm", ",\"variant\":\"v7\"") "," ENTRY(6, "windows", "amd64",
		"") ",{\"digest\":\"" D "\",\"size\":7}]}";
	static const char empty[] = "{\"manifests\":[]}";
	struct err err;

	assert_int_equal(choose(index, "linux/amd64", &err), 3);
	assert_int_equal(choose(index, "linux/amd64/v3", &err), 2);
	assert_int_equal(choose(index, "linux/arm64", &err), 4);
	assert_int_equal(choose(index, "linux/arm64/v8", &err), 4);
	assert_int_equal(choose(index, "linux/arm/v7", &err), 5);
	assert_int_equal(choose(index, "linux/arm/v6", &err), -ENOENT);
	assert_int_equal(choose(index, "linux/riscv64", &err), -ENOENT);
	assert_string_equal(err.msg,
		"no image for linux/riscv64; there is 'linux/amd64/v3, linux/amd64, linux/arm64/v8, "
		"linux/arm/v7, windows/amd64'");
	assert_int_equal(
		choose("{\"manifests\":[{\"digest\":\"" D "\",\"size\":7}]}", "linux/amd64", &err),
		7);
	assert_int_equal(choose(empty, "linux/amd64", &err), -ENOENT);
	assert_string_equal(err.msg, "no image for linux/amd64; there is none for any platform");
	assert_int_equal(choose("7", "linux/amd64", &err), -EBADMSG);
}

static void test_platform(void **state)
{
	static const char *const bad[] = { "", "linux", "linux/", "/amd64", "linux/amd64/",
		"linux/arm/v7/x", "linux/0123456789012345678901234567890123456789" };
	struct platform p;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		if (platform_parse(bad[i], &p, &err) != -EINVAL)
			fail_msg("accepted: %s", bad[i]);
	}
}

static void test_config(void **state)
{
	static const char text[] = "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":"
				   "{\"diff_ids\":[\"" D "\"]}}";
	static const char bad[] = "{\"rootfs\":{\"diff_ids\":[\"sha256:x\"]}}";
	struct image_config c;
	struct err err;

	assert_int_equal(image_config_parse(text, strlen(text), &c, &err), 0);
	assert_string_equal(c.platform.architecture, "amd64");
	assert_int_equal(c.n, 1);
	assert_string_equal(c.diff_ids[0], D);
	image_config_finish(&c);
	assert_int_equal(image_config_parse("{}", 2, &c, &err), 0);
	assert_int_equal(c.n, 0);
	assert_string_equal(c.platform.os, "");
	image_config_finish(&c);
	assert_int_equal(image_config_parse(bad, strlen(bad), &c, &err), -EBADMSG);
}

static void url_is(struct registry_conf *conf, const char *ref, const char *url)
{
	struct registry *r;
	struct image_ref parsed;
	struct err err;

	assert_int_equal(image_ref_parse(ref, &parsed, &err), 0);
	assert_int_equal(registry_open(&r, conf, &parsed, &err), 0);
	assert_string_equal(registry_url(r), url);
	registry_close(r);
}

static void test_url(void **state)
{
	struct registry_conf conf = REGISTRY_CONF_DEFAULT;
	struct err err;

	strv_add(&conf.mirrors, "ghcr.io=http://127.0.0.1:5000//");
	strv_add(&conf.plain_http, "plain.x:80");
	url_is(&conf, "ghcr.io/a/b", "http://127.0.0.1:5000");
	url_is(&conf, "ghcr.io.x/a/b", "https://ghcr.io.x");
	url_is(&conf, "debian", "https://registry-1.docker.io");
	url_is(&conf, "plain.x:80/a", "http://plain.x:80");
	url_is(&conf, "plain.x/a", "https://plain.x");
	url_is(&conf, "localhost:5000/a", "http://localhost:5000");
	url_is(&conf, "127.0.0.1:5000/a", "http://127.0.0.1:5000");
	url_is(&conf, "[::1]:5000/a", "http://[::1]:5000");
	url_is(&conf, "localhost.x/a", "https://localhost.x");
	url_is(&conf, "127.0.0.1.x/a", "https://127.0.0.1.x");
	url_is(&conf, "127.x.org/a", "https://127.x.org");
	strv_finish(&conf.mirrors);
	strv_finish(&conf.plain_http);
	assert_int_equal(registry_mirror_check("a=https://b", &err), 0);
	assert_int_equal(registry_mirror_check("a=b", &err), -EINVAL);
	assert_int_equal(registry_mirror_check("=http://b", &err), -EINVAL);
	assert_int_equal(registry_mirror_check("a", &err), -EINVAL);
}

static void test_backoff(void **state)
{
	for (unsigned i = 1; i < 40; i++) {
		uint64_t ms = transfer_backoff_ms(i, 0);

		assert_in_range(ms, 180, 10001);
		assert_true(i < 5 || ms >= 3000);
	}
	assert_int_equal(transfer_backoff_ms(1, 3000), 3000);
	assert_int_equal(transfer_backoff_ms(1, 86400000), 60000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_challenge),
		cmocka_unit_test(test_bad_challenge),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_auth_file),
		cmocka_unit_test(test_kind),
		cmocka_unit_test(test_manifest),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_platform),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_url),
		cmocka_unit_test(test_backoff),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
