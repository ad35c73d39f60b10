#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include "lib/file.h"
#include "netcfg/mirror.h"
#include "tests/unit/rig.h"

#define HEAD                                                                                       \
	"global\n\tlog stdout format raw local0 notice\n\tmaxconn 1000\n\tnbthread 1\n"            \
	"\tssl-default-bind-options ssl-min-ver TLSv1.2\n"
#define DEFAULTS                                                                                   \
	"defaults\n\tmode http\n\tlog global\n\ttimeout connect 5s\n\ttimeout client 300s\n"       \
	"\ttimeout server 300s\n\ttimeout http-request 30s\n\ttimeout http-keep-alive 60s\n"

static void the_configuration_is_exact(void **state)
{
	static const struct mirror_front fronts[] = {
		{ "ghcr", "10.0.0.254", 443, "/run/it's/ghcr.pem", "127.0.0.1:5000" },
		{ "hub", "10.0.0.253", 80, NULL, "[::1]:5001" },
		{ "quay", "fd00::1", 8443, "/q.pem", "127.0.0.1:5002" },
	};
	struct mirror_config c = { .fronts = fronts, .n = 3, .ca = "/s/ca.pem" };
	struct buf text = { 0 };
	struct err err;

	assert_int_equal(mirror_config_text(&c, &text, &err), 0);
	assert_string_equal(buf_str(&text), HEAD DEFAULTS
		"frontend ghcr-ca\n\tbind 10.0.0.254:80\n"
		"\thttp-request return status 200 content-type application/x-pem-file file "
		"'/s/ca.pem' if { path /drover-ca.pem }\n"
		"\thttp-request redirect scheme https code 301\n"
		"frontend ghcr\n\tbind 10.0.0.254:443 ssl crt '/run/it'\\''s/ghcr.pem'\n"
		"\thttp-request set-header X-Forwarded-Proto https\n"
		"\thttp-request deny deny_status 405 unless METH_GET\n"
		"\tdefault_backend ghcr\n"
		"backend ghcr\n\tserver cache 127.0.0.1:5000\n"
		"frontend hub\n\tbind 10.0.0.253:80\n"
		"\thttp-request deny deny_status 405 unless METH_GET\n"
		"\tdefault_backend hub\n"
		"backend hub\n\tserver cache [::1]:5001\n"
		"frontend quay-ca\n\tbind [fd00::1]:80\n"
		"\thttp-request return status 200 content-type application/x-pem-file file "
		"'/s/ca.pem' if { path /drover-ca.pem }\n"
		"\thttp-request return status 404\n"
		"frontend quay\n\tbind [fd00::1]:8443 ssl crt '/q.pem'\n"
		"\thttp-request set-header X-Forwarded-Proto https\n"
		"\thttp-request deny deny_status 405 unless METH_GET\n"
		"\tdefault_backend quay\n"
		"backend quay\n\tserver cache 127.0.0.1:5002\n");
	buf_clear(&text);
	c.n = 0;
	c.chroot = "/run/d";
	assert_int_equal(mirror_config_text(&c, &text, &err), 0);
	assert_string_equal(
		buf_str(&text), HEAD "\tuid 65534\n\tgid 65534\n\tchroot '/run/d'\n" DEFAULTS);
	c.ca = "/a\nb";
	assert_int_equal(mirror_config_text(&c, &text, &err), -EINVAL);
	buf_finish(&text);
}

/* haproxy itself takes it, with whatever may be in a path. */
static void haproxy_takes_it(void **state)
{
	char dir[] = "/tmp/drover it's \"$HOME\\ #%.XXXXXX", path[128], command[300];
	struct mirror_front front = { "hub", "127.0.0.1", 5000, NULL, "127.0.0.1:5001" };
	struct mirror_config c = { .fronts = &front, .n = 1, .ca = path, .chroot = dir };
	struct mirror_front tls = front;
	char cert[128];
	struct buf text = { 0 };
	struct err err;

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/ca.pem", dir);
	snprintf(cert, sizeof(cert), "%s/key.pem", dir);
	setenv("T", dir, 1);
	assert_int_equal(system("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 "
				"-nodes -subj /CN=x -keyout \"$T/key\" -out \"$T/ca.pem\" "
				"2>/dev/null && cat \"$T/key\" \"$T/ca.pem\" >\"$T/key.pem\""),
		0);
	tls.cert = cert;
	c.fronts = &tls;
	assert_int_equal(mirror_config_text(&c, &text, &err), 0);
	snprintf(command, sizeof(command), "%s/cfg", dir);
	assert_int_equal(file_write_atomic(command, text.data, text.len, 0600, false, &err), 0);
	assert_int_equal(
		system("haproxy -c -f \"$T/cfg\" >\"$T/out\" 2>&1 || { cat \"$T/out\"; exit 1; }"),
		0);
	buf_finish(&text);
	remove_tree(dir, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_configuration_is_exact),
		cmocka_unit_test(haproxy_takes_it),
	};

	return cmocka_run_group_tests_name("mirror", tests, NULL, NULL);
}
