#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "oci/digest.h"
#include "oci/image.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_valid(void **state)
{
	static const struct {
		const char *in, *host, *repository, *tag, *digest, *out;
	} rows[] = {
		{ "debian", "docker.io", "library/debian", "latest", "",
			"docker.io/library/debian:latest" },
		{ "debian:12", "docker.io", "library/debian", "12", "",
			"docker.io/library/debian:12" },
		{ "org/name", "docker.io", "org/name", "latest", "", "docker.io/org/name:latest" },
		{ "index.docker.io/name:1", "docker.io", "library/name", "1", "",
			"docker.io/library/name:1" },
		{ "ghcr.io/org/ubuntu-kernel:6.5-x86_64", "ghcr.io", "org/ubuntu-kernel",
			"6.5-x86_64", "", "ghcr.io/org/ubuntu-kernel:6.5-x86_64" },
		{ "GHCR.io/a", "ghcr.io", "a", "latest", "", "ghcr.io/a:latest" },
		{ "localhost/a", "localhost", "a", "latest", "", "localhost/a:latest" },
		{ "localhost:5000/a/b/c:t", "localhost:5000", "a/b/c", "t", "",
			"localhost:5000/a/b/c:t" },
		{ "127.0.0.1:5000/a", "127.0.0.1:5000", "a", "latest", "",
			"127.0.0.1:5000/a:latest" },
		{ "[::1]:5000/a:1", "[::1]:5000", "a", "1", "", "[::1]:5000/a:1" },
		{ "h.x/a@sha256:" HEX64, "h.x", "a", "", "sha256:" HEX64, "h.x/a@sha256:" HEX64 },
		{ "h.x/a:t@sha256:" HEX64, "h.x", "a", "t", "sha256:" HEX64,
			"h.x/a:t@sha256:" HEX64 },
		{ "h.x/a@sha512:" HEX64 HEX64, "h.x", "a", "", "sha512:" HEX64 HEX64,
			"h.x/a@sha512:" HEX64 HEX64 },
		{ "oci:/d/e:t", "", "", "t", "", "oci:/d/e:t" },
		{ "oci-archive:/a:b/c.tar", "", "", "", "", "oci-archive:/a:b/c.tar" },
		{ "docker-archive:/c.tar:1", "", "", "1", "", "docker-archive:/c.tar:1" },
		{ "oci:1", "docker.io", "library/oci", "1", "", "docker.io/library/oci:1" },
		{ "https://h.x/a.qcow2", "", "", "", "", "https://h.x/a.qcow2" },
		{ "http://h.x:80/a?b#format=qcow2&sha256=" HEX64, "", "", "", "sha256:" HEX64,
			"http://h.x:80/a?b#sha256=" HEX64 "&format=qcow2" },
		{ "file:/d/a b:c.qcow2#backing=/d/x=y&backing=/z", "", "", "", "",
			"file:/d/a b:c.qcow2#backing=/d/x=y&backing=/z" },
		{ "file:/d/a#b#format=raw", "", "", "", "", "file:/d/a#b#format=raw" },
		{ "h.x/a:t#format=qcow2", "h.x", "a", "t", "", "h.x/a:t#format=qcow2" },
		{ "oci:/d:t#format=vmdk", "", "", "t", "", "oci:/d:t#format=vmdk" },
		{ "h.x/a__b/c---d/e.f_g:A_B.c-d", "h.x", "a__b/c---d/e.f_g", "A_B.c-d", "",
			"h.x/a__b/c---d/e.f_g:A_B.c-d" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct image_ref r;
		struct buf out = { 0 };
		struct err err = { 0 };

		if (image_ref_parse(rows[i].in, &r, &err) != 0)
			fail_msg("%s: %s", rows[i].in, err.msg);
		assert_string_equal(r.host, rows[i].host);
		assert_string_equal(r.repository, rows[i].repository);
		assert_string_equal(r.tag, rows[i].tag);
		assert_string_equal(r.digest, rows[i].digest);
		image_ref_format(&r, &out);
		assert_string_equal(buf_str(&out), rows[i].out);
		/* The canonical form means the same. */
		assert_int_equal(image_ref_parse(rows[i].out, &r, &err), 0);
		buf_clear(&out);
		image_ref_format(&r, &out);
		assert_string_equal(buf_str(&out), rows[i].out);
		buf_finish(&out);
	}
}

static void test_invalid(void **state)
{
	static const char *const rows[] = { "", "/", ":", "@", "a/", "/a", "a//b", "A", "org/Name",
		"A/b", "oci:/d:-t", "a:", "a:-t", "a:.t", "a:t/b:", "a b", "a:t t", "a_", "_a",
		"a..b", "a___b", "-a", "a-", "h.x:/a", "h.x:port/a", "h.x:123456/a", "-h.x/a",
		"h..x/a", "h.x", "h.x/", "[::1/a", "[]/a", "h_x.y/a",
		"a@sha256:", "a@sha256:" HEX64 "0", "a@md5:" HEX64,
		"a@sha256:" HEX64 "@sha256:" HEX64, "a@SHA256:" HEX64, "a\n", "a:t\x01",
		"http://h.x/a", "https://h.x", "https://h.x/", "https:///a", "https://u@h.x/a",
		"https://h.x/a b", "https://h.x/a#", "https://h.x/a#x=y", "https://h.x/a#sha256=12",
		"https://h.x/a#format=qcow", "https://h.x/a#backing=/d", "a#sha256=" HEX64,
		"https://h.x/a.qcow2#backing=d", "a#format=efi", "oci:/d#backing=/d",
		"file:/a.qcow2#backing=/1&backing=/2&backing=/3&backing=/4&backing=/5", "../a",
		"a/../b", "h.x/a:t@" };
	struct image_ref r;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (strcmp(rows[i], "h.x") == 0)
			continue; /* a repository of docker.io with that name */
		err.msg[0] = '\0';
		if (image_ref_parse(rows[i], &r, &err) != -EINVAL)
			fail_msg("accepted: '%s'", rows[i]);
		assert_true(err.msg[0] != '\0');
		assert_null(strchr(err.msg, '\n'));
	}
}

static void test_lengths(void **state)
{
	char s[700], name[300];
	struct image_ref r;
	struct err err;

	memset(name, 'a', sizeof(name));
	snprintf(s, sizeof(s), "h.x/%.255s:1", name);
	assert_int_equal(image_ref_parse(s, &r, &err), 0);
	snprintf(s, sizeof(s), "h.x/%.256s:1", name);
	assert_int_equal(image_ref_parse(s, &r, &err), -EINVAL);
	snprintf(s, sizeof(s), "%.248s", name); /* "library/" takes eight */
	assert_int_equal(image_ref_parse(s, &r, &err), -EINVAL);
	snprintf(s, sizeof(s), "h.x/a:%.128s", name);
	assert_int_equal(image_ref_parse(s, &r, &err), 0);
	snprintf(s, sizeof(s), "h.x/a:%.129s", name);
	assert_int_equal(image_ref_parse(s, &r, &err), -EINVAL);
	snprintf(s, sizeof(s), "%.253s.x/a", name);
	assert_int_equal(image_ref_parse(s, &r, &err), 0);
	snprintf(s, sizeof(s), "%.254s.x/a", name);
	assert_int_equal(image_ref_parse(s, &r, &err), -EINVAL);
}

static void test_digest(void **state)
{
	char out[DIGEST_MAX];
	struct digest *d;
	struct err err;

	assert_true(digest_valid("sha256:" HEX64));
	assert_true(digest_valid("sha512:" HEX64 HEX64));
	assert_false(digest_valid("sha256:" HEX64 "a"));
	assert_false(digest_valid("sha256:../" HEX64));
	assert_false(digest_valid("sha256"));
	assert_false(digest_valid(""));
	/* FIPS 180-2's "abc". */
	assert_int_equal(digest_of("sha256:", "abc", 3, out, &err), 0);
	assert_string_equal(
		out, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	assert_int_equal(digest_create(&d, "sha512:", &err), 0);
	assert_int_equal(digest_update(d, "nonsense", 8), 0);
	assert_int_equal(digest_reset(d), 0);
	assert_int_equal(digest_update(d, "a", 1), 0);
	assert_int_equal(digest_update(d, "bc", 2), 0);
	assert_int_equal(digest_final(d, out), 0);
	assert_memory_equal(out, "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea2", 55);
	assert_true(digest_valid(out));
	digest_destroy(d);
	assert_int_equal(digest_create(&d, "md5:", &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid),
		cmocka_unit_test(test_invalid),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_digest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
