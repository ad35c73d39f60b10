/* What the cloud-hypervisor backend makes and reads: command line, configuration, errors, events. */
#include "tests/unit/rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/ch.h"

static struct hv_spec base(void)
{
	return (struct hv_spec){ .name = "web-1",
		.run_dir = "/run/drover/vm/web-1",
		.binary = "/usr/bin/cloud-hypervisor",
		.vcpus = 2,
		.memory_mib = 512,
		.kernel = "/k/vmlinux",
		.initrd = "/k/initrd",
		.cmdline = "root=/dev/vda rw",
		.sandbox = true };
}

/* ---- the command line ---- */

static void check_arguments(const struct hv_spec *spec, const char *want)
{
	struct hv_command c;
	struct buf b = { 0 };
	struct err err;

	if (hv_cloud_hypervisor.arguments(spec, 20, 21, -1, true, &c, &err) < 0)
		fail_msg("%s", err.msg);
	for (size_t i = 0; i < c.argv.n; i++)
		buf_printf(&b, "%s\n", c.argv.v[i]);
	assert_string_equal(buf_str(&b), want);
	assert_int_equal(c.nfds, 2);
	assert_int_equal(c.fds[0].fd, 20);
	assert_int_equal(c.fds[0].child_fd, 3);
	assert_int_equal(c.fds[1].fd, 21);
	assert_int_equal(c.fds[1].child_fd, 4);
	buf_finish(&b);
	hv_command_finish(&c);
}

static void arguments(void **state)
{
	static const char *const more[] = { "-v", "--log-file", NULL };
	struct hv_spec s = base();

	check_arguments(&s, "/usr/bin/cloud-hypervisor\n--api-socket\nfd=3\n--event-monitor\nfd=4\n"
			    "--seccomp\ntrue\n");
	s.sandbox = false;
	s.extra_args = more;
	check_arguments(&s, "/usr/bin/cloud-hypervisor\n--api-socket\nfd=3\n--event-monitor\nfd=4\n"
			    "--seccomp\nfalse\n-v\n--log-file\n");
}

/* ---- vm.create ---- */

#define TAIL                                                                                       \
	"\"rng\":{\"src\":\"/dev/urandom\"},"                                                      \
	"\"serial\":{\"mode\":\"Socket\",\"socket\":\"serial.sock\"},"                             \
	"\"console\":{\"mode\":\"Off\"}"

static void check_config(const struct hv_spec *spec, const char *want)
{
	json_t *j;
	struct err err;
	char *text;

	if (ch_vm_config(spec, &j, &err) < 0)
		fail_msg("%s", err.msg);
	text = json_dumps(j, JSON_COMPACT);
	assert_string_equal(text, want);
	free(text);
	json_decref(j);
}

static void config_plain(void **state)
{
	struct hv_spec s = base();

	check_config(&s, "{\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":2},"
			 "\"memory\":{\"size\":536870912},"
			 "\"payload\":{\"kernel\":\"/k/vmlinux\",\"initramfs\":\"/k/initrd\","
			 "\"cmdline\":\"root=/dev/vda rw\"}," TAIL "}");
	s.kernel = NULL;
	s.firmware = "/f/CLOUDHV.fd";
	s.vcpus = 0;
	check_config(&s, "{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":1},"
			 "\"memory\":{\"size\":536870912},"
			 "\"payload\":{\"firmware\":\"/f/CLOUDHV.fd\"}," TAIL "}");
}

static void config_full(void **state)
{
	static const struct hv_disk disks[] = {
		{ .path = "/d/a.raw", .format = HV_DISK_RAW },
		{ .id = "data", .path = "/d/b.qcow2", .format = HV_DISK_QCOW2, .serial = "s1" },
		{ .path = "/d/c.iso", .format = HV_DISK_RAW, .cdrom = true },
	};
	static const struct hv_nic nics[] = {
		{ .id = "nic0", .mac = "52:00:00:00:00:01", .tap_fd = 9, .tap = "tap0" },
		{ .id = "nic1", .mac = "52:00:00:00:00:02", .tap_fd = -1 },
	};
	static const struct hv_share shares[] = { { "home", "/run/fs.sock" } };
	struct hv_spec s = base();

	s.uuid = "8c5bd2bd-4ac5-4f5b-a4d8-3f0a6f0dca38";
	s.vcpus_max = 8;
	s.sockets = 1, s.cores = 4, s.threads = 2;
	s.memory_max_mib = 1024;
	s.hugepages = true;
	s.disks = disks, s.ndisks = ARRAY_LEN(disks);
	s.nics = nics, s.nnics = ARRAY_LEN(nics);
	s.shares = shares, s.nshares = 1;
	s.panic_device = s.balloon = true;
	s.vsock_cid = 5;
	s.tpm_socket = "/run/tpm.sock";
	check_config(&s,
		"{\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":8,\"topology\":{\"threads_per_core\":2,"
		"\"cores_per_die\":4,\"dies_per_package\":1,\"packages\":1}},"
		"\"memory\":{\"size\":536870912,\"hotplug_size\":536870912,\"shared\":true,"
		"\"hugepages\":true},"
		"\"payload\":{\"kernel\":\"/k/vmlinux\",\"initramfs\":\"/k/initrd\","
		"\"cmdline\":\"root=/dev/vda rw\"},"
		"\"disks\":[{\"id\":\"disk0\",\"path\":\"/d/a.raw\",\"image_type\":\"Raw\"},"
		"{\"id\":\"data\",\"path\":\"/d/b.qcow2\",\"image_type\":\"Qcow2\","
		"\"backing_files\":true,\"serial\":\"s1\"},"
		"{\"id\":\"disk2\",\"path\":\"/d/c.iso\",\"readonly\":true,\"image_type\":\"Raw\"}],"
		"\"net\":[{\"id\":\"nic0\",\"mac\":\"52:00:00:00:00:01\",\"tap\":\"tap0\"}],"
		"\"fs\":[{\"tag\":\"home\",\"socket\":\"/run/fs.sock\",\"num_queues\":1,"
		"\"queue_size\":1024}]," TAIL ",\"pvpanic\":true,"
		"\"balloon\":{\"size\":0,\"deflate_on_oom\":true,\"free_page_reporting\":true},"
		"\"vsock\":{\"cid\":5,\"socket\":\"vsock.sock\"},"
		"\"tpm\":{\"socket\":\"/run/tpm.sock\"},"
		"\"platform\":{\"uuid\":\"8c5bd2bd-4ac5-4f5b-a4d8-3f0a6f0dca38\"}}");
}

static void refused(const struct hv_spec *s, int code, const char *words)
{
	struct err err;
	json_t *j;

	assert_int_equal(ch_vm_config(s, &j, &err), code);
	if (strstr(err.msg, words) == NULL)
		fail_msg("'%s' lacks '%s'", err.msg, words);
}

static void config_refused(void **state)
{
	struct hv_spec s = base();

	s.agent = true;
	refused(&s, -ENOTSUP, "no guest agent's port");
	s = base();
	s.watchdog = "ib700";
	refused(&s, -ENOTSUP, "watchdog");
	s = base();
	s.vnc = "/run/vnc";
	refused(&s, -ENOTSUP, "display");
	s = base();
	s.cpu = "EPYC";
	refused(&s, -ENOTSUP, "choice of CPU models");
	s = base();
	s.kernel = NULL;
	refused(&s, -ENOTSUP, "it needs a kernel or a firmware");
	s = base();
	s.firmware_vars = "/v";
	refused(&s, -ENOTSUP, "keeps no variables");
	s = base();
	s.kernel = "/k/\xff";
	refused(&s, -EINVAL, "no UTF-8");
}

static void restored_config(void **state)
{
	json_t *theirs = json_loads(
		"{\"cpus\":{\"boot_vcpus\":1},\"payload\":{\"kernel\":\"/old\",\"igvm\":null},"
		"\"disks\":[{\"id\":\"disk0\",\"path\":\"/old/d\",\"num_queues\":2},"
		"{\"id\":\"added0\",\"path\":\"/a\"}],"
		"\"net\":[{\"id\":\"nic0\",\"tap\":null,\"fds\":[-1],\"mtu\":9000}],"
		"\"serial\":{\"mode\":\"Socket\",\"socket\":\"/old/s\"}}",
		0, NULL);
	json_t *ours = json_loads(
		"{\"cpus\":{\"boot_vcpus\":4},\"payload\":{\"kernel\":\"/new\"},"
		"\"disks\":[{\"id\":\"disk0\",\"path\":\"/new/d\"},{\"id\":\"disk1\"}],"
		"\"net\":[{\"id\":\"nic0\",\"tap\":\"tap7\"}],"
		"\"serial\":{\"mode\":\"Socket\",\"socket\":\"serial.sock\"},\"tpm\":{}}",
		0, NULL);
	char *text;

	assert_non_null(theirs);
	assert_non_null(ours);
	assert_int_equal(ch_restore_config(theirs, ours), 0);
	text = json_dumps(theirs, JSON_COMPACT);
	assert_string_equal(text,
		"{\"cpus\":{\"boot_vcpus\":1},\"payload\":{\"kernel\":\"/new\",\"igvm\":null},"
		"\"disks\":[{\"id\":\"disk0\",\"path\":\"/new/d\",\"num_queues\":2},"
		"{\"id\":\"added0\",\"path\":\"/a\"}],"
		"\"net\":[{\"id\":\"nic0\",\"tap\":\"tap7\",\"mtu\":9000}],"
		"\"serial\":{\"mode\":\"Socket\",\"socket\":\"serial.sock\"}}");
	free(text);
	json_decref(theirs);
	json_decref(ours);
}

/* ---- versions ---- */

static void versions(void **state)
{
	static const struct {
		const char *text;
		int r;
		unsigned major, minor;
		const char *shown;
	} rows[] = {
		{ "cloud-hypervisor v53.0\nMigration Protocol Versions: 0\n", 0, 53, 0, "v53.0" },
		{ "cloud-hypervisor v51.2-12-gabc-dirty\n", 0, 51, 2, "v51.2-12-gabc-dirty" },
		{ "v50.0", 0, 50, 0, "v50.0" },
		{ "53.0.0", 0, 53, 0, "v53.0.0" },
		{ "cloud-hypervisor \n", -EBADMSG, 0, 0, NULL },
		{ "QEMU emulator version 7.2.9", -EBADMSG, 0, 0, NULL },
		{ "v53", -EBADMSG, 0, 0, NULL },
		{ "", -EBADMSG, 0, 0, NULL },
	};
	struct ch_version v;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(ch_version_parse(rows[i].text, &v), rows[i].r);
		if (rows[i].r < 0)
			continue;
		assert_int_equal(v.major, rows[i].major);
		assert_int_equal(v.minor, rows[i].minor);
		assert_string_equal(v.text, rows[i].shown);
	}
	ch_version_parse("v50.0", &v);
	assert_int_equal(ch_version_check(&v, "/x", &err), 0);
	ch_version_parse("v49.0", &v);
	assert_int_equal(ch_version_check(&v, "/x", &err), -ENOTSUP);
	assert_string_equal(err.msg,
		"'/x' is cloud-hypervisor v49.0, which is too old: drover needs v50.0 or later");
}

/* ---- errors ---- */

static void errors(void **state)
{
	static const struct {
		int status;
		const char *body;
		int code;
		const char *message;
	} rows[] = {
		{ 200, "{}", 0, NULL },
		{ 204, "", 0, NULL },
		{ 400, "", -EINVAL, "the API answered with HTTP status 400" },
		{ 400, "[\"Failed to deserialize JSON\",\"missing field `path`\"]", -EINVAL,
			"Failed to deserialize JSON: missing field `path` (HTTP status 400)" },
		{ 404, "[\"Not Found\"]", -ENOENT, "Not Found (HTTP status 404)" },
		{ 404, "[\"Error from API\",\"The VM info is not available\",\"VM is not created\"]",
			-EBADFD,
			"Error from API: The VM info is not available: VM is not created "
			"(HTTP status 404)" },
		{ 405, "", -EBADFD, "the API answered with HTTP status 405" },
		{ 409, "[\"a\",\"a\",\"b\"]", -EEXIST, "a: b (HTTP status 409)" },
		{ 429, "[\"Too Many Requests\"]", -EBUSY, "Too Many Requests (HTTP status 429)" },
		{ 500, "[\"VM is not running\"]", -EBADFD, "VM is not running (HTTP status 500)" },
		{ 500,
			"[\"Cannot pause VM\",\"Invalid transition: InvalidStateTransition(Paused, "
			"Paused)\"]",
			-EBADFD,
			"Cannot pause VM: Invalid transition: InvalidStateTransition(Paused, Paused) "
			"(HTTP status 500)" },
		{ 500, "[\"Failed to validate config\",\"Identifier disk0 is not unique\"]",
			-EEXIST,
			"Failed to validate config: Identifier disk0 is not unique (HTTP status 500)" },
		{ 500, "[\"Cannot send VM snapshot\",\"No space left on device (os error 28)\"]",
			-ENOSPC,
			"Cannot send VM snapshot: No space left on device (os error 28) (HTTP status "
			"500)" },
		{ 500, "[]", -EIO, "the API answered with HTTP status 500" },
		{ 500, "[1,{\"a\":2},\"x\\ny\"]", -EIO, "x y (HTTP status 500)" },
		{ 500, "boom\r\n", -EIO, "boom   (HTTP status 500)" },
		{ 503, "", -EAGAIN, "the API answered with HTTP status 503" },
		{ 302, "", -EIO, "the API answered with HTTP status 302" },
	};
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(ch_error(rows[i].status, rows[i].body, strlen(rows[i].body), &err),
			rows[i].code);
		if (rows[i].code != 0)
			assert_string_equal(err.msg, rows[i].message);
	}
}

static void numbers_beyond_63_bits(void **state)
{
	static const char text[] = "{\"a\":18446744073709551615}";
	json_t *v = ch_parse(text, sizeof(text) - 1);

	assert_true(json_is_real(json_object_get(v, "a")));
	json_decref(v);
	assert_null(ch_parse("{", 1));
}

/* ---- events ---- */

static void note_event(void *arg, json_t *event)
{
	buf_printf(arg, "%s ", json_string_value(json_object_get(event, "event")));
}

#define EVENT(name)                                                                                \
	"{\n  \"timestamp\": {\n    \"secs\": 0,\n    \"nanos\": 7\n  },\n  \"source\": \"vm\",\n" \
	"  \"event\": \"" name "\",\n  \"properties\": {\n    \"id\": \"}\\n{\"\n  }\n}\n\n"

static void check_stream(const char *text, size_t piece, const char *want)
{
	struct ch_stream s = { 0 };
	struct buf got = { 0 };
	size_t len = strlen(text);

	for (size_t at = 0; at < len; at += piece)
		ch_stream_feed(&s, text + at, MIN(piece, len - at), note_event, &got);
	assert_string_equal(buf_str(&got), want);
	ch_stream_finish(&s);
	buf_finish(&got);
}

static void stream(void **state)
{
	static const char half[] = EVENT("lost"), three[] = EVENT("a") EVENT("b") EVENT("c");
	char *text;

	for (size_t piece = 1; piece <= sizeof(three); piece++)
		check_stream(three, piece, "a b c ");
	/* Begun in the middle: an earlier daemon has read the rest. */
	for (size_t cut = 1; cut < sizeof(half) - 4; cut++) {
		text = str_printf("%s%s", half + cut, EVENT("next"));
		check_stream(text, 4096, "next ");
		free(text);
	}
	/* Cut off by a full pipe, and garbage. */
	text = str_printf("%.40s\n%sgarbage\n}\n%s", half, EVENT("x"), EVENT("y"));
	check_stream(text, 5, "x y ");
	free(text);
	check_stream("{\"event\":\"short\"}\n\n{\"event\":\"crlf\"}\r\n\r\n", 3, "short crlf ");
	check_stream("[]\n\n7\n{\nno json\n}\n" EVENT("z"), 4096, "z ");
}

static void endless_line(void **state)
{
	struct ch_stream s = { 0 };
	struct buf got = { 0 };
	char junk[1024];

	memset(junk, 'x', sizeof(junk));
	ch_stream_feed(&s, "{\n", 2, note_event, &got);
	for (unsigned i = 0; i < 200; i++)
		ch_stream_feed(&s, junk, sizeof(junk), note_event, &got);
	assert_true(s.line.len < 100000);
	ch_stream_feed(&s, "\n}\n", 3, note_event, &got);
	ch_stream_feed(&s, EVENT("after"), strlen(EVENT("after")), note_event, &got);
	assert_string_equal(buf_str(&got), "after ");
	ch_stream_finish(&s);
	buf_finish(&got);
}

/* ---- requests of others, answers to ours ---- */

static void lines(void **state)
{
	static const struct {
		const char *text;
		int r;
		const char *method, *path, *body;
		bool changes;
	} rows[] = {
		{ "GET /vm.info", 0, "GET", "/vm.info", "", false },
		{ "GET /api/v1/vmm.ping\n", 0, "GET", "/vmm.ping", "", false },
		{ " PUT  /vm.resize   {\"desired_vcpus\": 2}", 0, "PUT", "/vm.resize",
			"{\"desired_vcpus\": 2}", true },
		{ "PUT /vm.pause", 0, "PUT", "/vm.pause", "", true },
		{ "PUT /vm.resize {", -EINVAL, NULL, NULL, NULL, false },
		{ "DELETE /vm.info", -EINVAL, NULL, NULL, NULL, false },
		{ "GET vm.info", -EINVAL, NULL, NULL, NULL, false },
		{ "GET /vm.info?x", -EINVAL, NULL, NULL, NULL, false },
		{ "GET", -EINVAL, NULL, NULL, NULL, false },
		{ "", -EINVAL, NULL, NULL, NULL, false },
	};
	struct ch_line l;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		assert_int_equal(
			ch_line_parse(rows[i].text, strlen(rows[i].text), &l, &err), rows[i].r);
		if (rows[i].r < 0)
			continue;
		assert_string_equal(l.method, rows[i].method);
		assert_string_equal(l.path, rows[i].path);
		assert_string_equal(l.body, rows[i].body);
		assert_int_equal(l.changes, rows[i].changes);
	}
}

static void answers(void **state)
{
	static const char text[] =
		"HTTP/1.1 200 \r\nServer: Cloud Hypervisor API\r\nConnection: keep-alive\r\n"
		"content-length: 8\r\n\r\n{\"id\":1}";
	struct ch_answer a;
	char *part;

	for (size_t len = 0; len < sizeof(text) - 1; len++) {
		part = strndup(text, len);
		assert_int_equal(ch_http_parse(part, len, &a), 0);
		free(part);
	}
	assert_int_equal(ch_http_parse(text, sizeof(text) - 1, &a), 1);
	assert_int_equal(a.status, 200);
	assert_int_equal(a.len, 8);
	assert_string_equal(a.text, "{\"id\":1}");
	assert_int_equal(ch_http_parse("HTTP/1.1 204 \r\n\r\n", 17, &a), 1);
	assert_int_equal(a.status, 204);
	assert_int_equal(a.len, 0);
	assert_int_equal(ch_http_parse("SMTP\r\n\r\n", 8, &a), -EBADMSG);
	part = strdup("HTTP/1.1 200 \r\nContent-Length: -5\r\n\r\n");
	assert_int_equal(ch_http_parse(part, strlen(part), &a), -EBADMSG);
	free(part);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arguments),
		cmocka_unit_test(config_plain),
		cmocka_unit_test(config_full),
		cmocka_unit_test(config_refused),
		cmocka_unit_test(restored_config),
		cmocka_unit_test(versions),
		cmocka_unit_test(errors),
		cmocka_unit_test(numbers_beyond_63_bits),
		cmocka_unit_test(stream),
		cmocka_unit_test(endless_line),
		cmocka_unit_test(lines),
		cmocka_unit_test(answers),
	};

	return cmocka_run_group_tests_name("cloud-hypervisor, pure", tests, NULL, NULL);
}
