#include <errno.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lib/ca.h"
#include "lib/file.h"
#include "tests/unit/rig.h"

#define NOW  INT64_C(1800000000)
#define DAY  INT64_C(86400)
#define YEAR (365 * DAY)

static char dir[] = "/tmp/drover-ca.XXXXXX";

static const char *at(const char *name)
{
	static char path[4][128];
	static unsigned i;

	i = (i + 1) % 4;
	snprintf(path[i], sizeof(path[i]), "%s/%s", dir, name);
	return path[i];
}

static char *content(const char *name)
{
	struct buf b = { 0 };
	struct err err;

	assert_int_equal(file_read(at(name), 65536, &b, &err), 0);
	return buf_steal(&b);
}

static unsigned mode(const char *name)
{
	struct stat st;

	assert_int_equal(stat(at(name), &st), 0);
	return st.st_mode & 07777;
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/drover-ca.XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int teardown(void **state)
{
	return remove_tree(dir, NULL);
}

static void ensure(int64_t now)
{
	struct err err;

	if (ca_ensure(dir, now, &err) < 0)
		fail_msg("%s", err.msg);
}

static int64_t issue(const char *a, const char *b, int64_t now, bool *changed)
{
	struct strv names = { 0 };
	int64_t renew = 0;
	struct err err;

	strv_add(&names, a);
	if (b != NULL)
		strv_add(&names, b);
	if (ca_issue(dir, at("server.pem"), &names, now, changed, &renew, &err) < 0)
		fail_msg("%s", err.msg);
	strv_finish(&names);
	return renew;
}

/* By openssl's own program, not by what has made it. */
static int verifies(const char *options)
{
	char command[512];

	snprintf(command, sizeof(command),
		"openssl verify -attime %lld -x509_strict -purpose sslserver %s -CAfile %s %s >/dev/null 2>&1",
		(long long)NOW, options, at("ca.pem"), at("server.pem"));
	return system(command);
}

static void a_ca_is_made_once(void **state)
{
	struct ca_info info;
	char *key, *cert, *again;
	struct err err;

	ensure(NOW);
	assert_int_equal(mode("ca.key"), 0600);
	assert_int_equal(mode("ca.pem"), 0644);
	key = content("ca.key");
	cert = content("ca.pem");
	assert_int_equal(ca_info(cert, &info, &err), 0);
	assert_int_equal(strlen(info.fingerprint), 95);
	assert_true(info.from < NOW && info.until > NOW + 9 * YEAR);
	ensure(NOW + YEAR);
	again = content("ca.pem");
	assert_string_equal(again, cert);
	free(again);
	assert_int_equal(ca_info("no", &info, &err), -EINVAL);
	free(key);
	free(cert);
}

static void servers_are_signed(void **state)
{
	bool changed;
	char *first, *now;
	int64_t renew;

	ensure(NOW);
	renew = issue("ghcr.io", "10.0.0.5", NOW, &changed);
	assert_true(changed);
	assert_int_equal(renew, NOW + 60 * DAY);
	assert_int_equal(mode("server.pem"), 0600);
	assert_int_equal(verifies("-verify_hostname ghcr.io"), 0);
	assert_int_equal(verifies("-verify_ip 10.0.0.5"), 0);
	assert_int_not_equal(verifies("-verify_hostname x.ghcr.io"), 0);
	assert_int_not_equal(verifies("-verify_ip 10.0.0.6"), 0);
	first = content("server.pem");
	/* The same while it lasts, whatever the order of asking. */
	assert_int_equal(issue("10.0.0.5", "ghcr.io", NOW + 59 * DAY, &changed), renew);
	assert_false(changed);
	assert_true(issue("ghcr.io", "10.0.0.5", NOW + 61 * DAY, &changed) > NOW + 100 * DAY);
	assert_true(changed);
	now = content("server.pem");
	assert_string_not_equal(now, first);
	free(first);
	free(now);
}

static void other_names_are_another_certificate(void **state)
{
	bool changed;

	ensure(NOW);
	issue("ghcr.io", "10.0.0.5", NOW, &changed);
	issue("ghcr.io", NULL, NOW, &changed);
	assert_true(changed);
	issue("ghcr.io", "quay.io", NOW, &changed);
	assert_true(changed);
	issue("ghcr.io", "docker.io", NOW, &changed);
	assert_true(changed);
	/* A guest with a clock before it was made. */
	issue("ghcr.io", "docker.io", NOW - 2 * DAY, &changed);
	assert_true(changed);
}

static void an_old_ca_is_renewed_with_its_key(void **state)
{
	char *key, *key2, *old, *new;
	bool changed;

	ensure(NOW - 9 * YEAR);
	key = content("ca.key");
	old = content("ca.pem");
	issue("ghcr.io", NULL, NOW, &changed);
	ensure(NOW);
	key2 = content("ca.key");
	new = content("ca.pem");
	assert_string_equal(key2, key);
	assert_string_not_equal(new, old);
	/* Who has the old one, and who has the new one, trusts in what either has signed. */
	assert_int_equal(verifies("-verify_hostname ghcr.io"), 0);
	issue("ghcr.io", NULL, NOW + 70 * DAY, &changed);
	assert_true(changed);
	issue("ghcr.io", "quay.io", NOW, &changed);
	assert_int_equal(file_write_atomic(at("ca.pem"), old, strlen(old), 0644, false, NULL), 0);
	assert_int_equal(verifies("-verify_hostname quay.io"), 0);
	free(key);
	free(key2);
	free(old);
	free(new);
}

static void what_is_broken_is_told_of(void **state)
{
	struct strv names = { 0 };
	int64_t renew;
	bool changed;
	struct err err;

	/* A key that is no key is not replaced: guests know the certificate of the old one. */
	assert_int_equal(file_write_atomic(at("ca.key"), "x", 1, 0600, false, NULL), 0);
	assert_int_equal(ca_ensure(dir, NOW, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "ca.key is no private key"));
	unlink(at("ca.key"));
	ensure(NOW);
	/* A certificate that is broken, or of another key, is. */
	assert_int_equal(file_write_atomic(at("ca.pem"), "x", 1, 0644, false, NULL), 0);
	strv_add(&names, "ghcr.io");
	assert_int_equal(
		ca_issue(dir, at("server.pem"), &names, NOW, &changed, &renew, &err), -ENOENT);
	ensure(NOW);
	issue("ghcr.io", NULL, NOW, &changed);
	assert_int_equal(file_write_atomic(at("server.pem"), "x", 1, 0600, false, NULL), 0);
	issue("ghcr.io", NULL, NOW, &changed);
	assert_true(changed);
	/* Of a CA that is no more. */
	unlink(at("ca.key"));
	ensure(NOW);
	issue("ghcr.io", NULL, NOW, &changed);
	assert_true(changed);
	assert_int_equal(verifies("-verify_hostname ghcr.io"), 0);
	strv_finish(&names);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_ca_is_made_once, setup, teardown),
		cmocka_unit_test_setup_teardown(servers_are_signed, setup, teardown),
		cmocka_unit_test_setup_teardown(
			other_names_are_another_certificate, setup, teardown),
		cmocka_unit_test_setup_teardown(an_old_ca_is_renewed_with_its_key, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_broken_is_told_of, setup, teardown),
	};

	return cmocka_run_group_tests_name("ca", tests, NULL, NULL);
}
