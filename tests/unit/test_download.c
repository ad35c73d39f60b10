/*
 * Manifests and blobs of a registry that wants tokens, limits, breaks off, lies; and what is in
 * the store afterwards: nothing but whole and right blobs.
 */
#include "tests/unit/web.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "lib/file.h"
#include "oci/blob.h"
#include "oci/download.h"
#include "tests/unit/netns.h"

#define BLOBS     8
#define BLOB_SIZE ((size_t)300000)
#define PULL      "/v2/a/b/"

struct fixture {
	struct web *web;
	char *dir, *config;
	struct store *store;
	struct registry *registry;
	struct registry_conf conf;
	struct descriptor blobs[BLOBS];
	char data[BLOBS][BLOB_SIZE];
	const char *scenario;
	/* Of the events. */
	uint64_t seen[BLOBS];
	unsigned complete[BLOBS], cached;
	struct err err;
};

static size_t number_of(const struct fixture *f, const char *digest)
{
	size_t i;

	for (i = 0; i < BLOBS && strcmp(f->blobs[i].digest, digest) != 0; i++)
		;
	return i;
}

static bool is(const struct fixture *f, const char *scenario)
{
	return str_eq(f->scenario, scenario);
}

static void answer_blob(struct web_request *rq, struct fixture *f, size_t i)
{
	char *data = f->data[i];

	if (i == 0 && is(f, "cut") && rq->count <= 2) {
		/* Each time a bit more. */
		if (rq->count == 1) {
			web_head(rq, 200, "", BLOB_SIZE);
			web_send(rq, data, 1000);
		} else {
			web_head(rq, 206, "Content-Range: bytes 1000-299999/300000\r\n",
				BLOB_SIZE - 1000);
			web_send(rq, data + 1000, 1000);
		}
	} else if (i == 0 && is(f, "no range")) {
		web_head(rq, 200, "", BLOB_SIZE);
		web_send(rq, data, rq->count == 1 ? 5000 : BLOB_SIZE);
	} else if (i == 0 && is(f, "other range") && rq->count == 1) {
		web_head(rq, 200, "", BLOB_SIZE);
		web_send(rq, data, 5000);
	} else if (i == 0 && is(f, "other range")) {
		web_head(rq, 206, "Content-Range: bytes 7-299999/300000\r\n", BLOB_SIZE - 7);
		web_send(rq, data + 7, BLOB_SIZE - 7);
	} else if (i == 0 && is(f, "416") && rq->count == 1) {
		web_head(rq, 200, "", BLOB_SIZE);
		web_send(rq, data, 5000);
	} else if (i == 0 && is(f, "416") && rq->count == 2) {
		web_answer(rq, 416, "", "");
	} else if (i == 0 && (is(f, "wrong") || (is(f, "wrong once") && rq->count == 1))) {
		/* A copy: the next request may be answered before this one's thread is done. */
		char *wrong = malloc(BLOB_SIZE);

		assert_non_null(wrong);
		memcpy(wrong, data, BLOB_SIZE);
		wrong[100] ^= 1;
		web_range(rq, wrong, BLOB_SIZE);
		free(wrong);
	} else if (i == 0 && is(f, "short")) {
		web_answer(rq, 200, "", "all there is");
	} else if (i == 0 && is(f, "long")) {
		web_head(rq, 200, "", BLOB_SIZE + 1);
		web_send(rq, data, BLOB_SIZE);
		web_send(rq, "x", 1);
	} else if (i == 0 && is(f, "gone")) {
		web_answer(rq, 404, "", "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}");
	} else if (i == 0 && is(f, "stall")) {
		web_head(rq, 200, "", BLOB_SIZE);
		web_send(rq, data, 5000);
		web_stall(rq);
	} else if (i != 0 && is(f, "gone")) {
		/* The others are still on their way when the first is known to be missing. */
		web_head(rq, 200, "", BLOB_SIZE);
		web_send(rq, data, 5000);
		web_stall(rq);
	} else if (is(f, "limit") && rq->count == 1) {
		web_answer(rq, 429, "Retry-After: 1\r\n", "");
	} else {
		web_range(rq, data, BLOB_SIZE);
	}
}

/* Whether the request has what it needs; else it is answered. */
static bool authorized(struct web_request *rq, struct fixture *f)
{
	const char *auth = web_header(rq, "Authorization");
	char extra[256];

	if (is(f, "token") && strcmp(auth, "Bearer opensesame") != 0) {
		snprintf(extra, sizeof(extra),
			"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token\","
			"service=\"s\",scope=\"repository:a/b:pull\"\r\n",
			web_port(f->web));
	} else if (is(f, "never")) {
		snprintf(extra, sizeof(extra),
			"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/token\"\r\n",
			web_port(f->web));
	} else if (is(f, "no token")) {
		snprintf(extra, sizeof(extra),
			"WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%u/none\"\r\n",
			web_port(f->web));
	} else if (is(f, "basic") && strcmp(auth, "Basic dTpw") != 0) {
		snprintf(extra, sizeof(extra), "WWW-Authenticate: Basic realm=\"x\"\r\n");
	} else if (is(f, "negotiate")) {
		snprintf(extra, sizeof(extra), "WWW-Authenticate: Negotiate\r\n");
	} else {
		return true;
	}
	web_answer(rq, 401, extra, "");
	return false;
}

static void answer(struct web_request *rq, void *arg)
{
	struct fixture *f = arg;
	size_t i;

	if (str_starts(rq->path, "/token")) {
		web_answer(rq, 200, "", "{\"token\":\"opensesame\"}");
	} else if (!str_starts(rq->path, PULL)) {
		web_answer(rq, 404, "", "");
	} else if (!authorized(rq, f)) {
		return;
	} else if (str_starts(rq->path, PULL "blobs/")) {
		i = number_of(f, rq->path + strlen(PULL "blobs/"));
		if (i < BLOBS)
			answer_blob(rq, f, i);
		else
			web_answer(rq, 404, "", "");
	} else if (is(f, "503") && rq->count <= 2) {
		web_answer(rq, 503, "", "{\"errors\":[{\"message\":\"starting\"}]}");
	} else if (is(f, "503 always")) {
		web_answer(rq, 503, "", "{\"errors\":[{\"message\":\"starting\"}]}");
	} else if (is(f, "unknown")) {
		web_answer(rq, 404, "", "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\"}]}");
	} else {
		web_answer(rq, 200,
			"Content-Type: application/vnd.oci.image.manifest.v1+json\r\n"
			"Docker-Content-Digest: sha256:d\r\n",
			"{\"a\":1}");
	}
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct image_ref ref = { .repository = "a/b" };
	unsigned x = 1;

	netns_enter();
	f->dir = rig_tmp();
	f->web = web_start(NULL, answer, f);
	f->conf = (struct registry_conf)REGISTRY_CONF_DEFAULT;
	snprintf(ref.host, sizeof(ref.host), "127.0.0.1:%u", web_port(f->web));
	assert_int_equal(registry_open(&f->registry, &f->conf, &ref, &f->err), 0);
	assert_int_equal(store_open(&f->store, f->dir, false, &f->err), 0);
	for (size_t i = 0; i < BLOBS; i++) {
		for (size_t k = 0; k < BLOB_SIZE; k++)
			f->data[i][k] = (char)((x = x * 1103515245 + 12345) >> 16);
		f->blobs[i].size = BLOB_SIZE;
		assert_int_equal(
			digest_of("sha256:", f->data[i], BLOB_SIZE, f->blobs[i].digest, &f->err),
			0);
	}
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f == NULL)
		return 0;
	registry_close(f->registry);
	store_close(f->store);
	web_stop(f->web);
	rig_tmp_finish(f->dir);
	free(f->config);
	free(f);
	return 0;
}

static void on_progress(void *arg, const struct descriptor *blob, uint64_t done)
{
	struct fixture *f = arg;

	assert_true(done <= blob->size);
	f->seen[number_of(f, blob->digest)] = done;
}

static void on_complete(void *arg, const struct descriptor *blob, bool cached)
{
	struct fixture *f = arg;

	f->complete[number_of(f, blob->digest)]++;
	f->cached += cached;
}

static int download(struct fixture *f, size_t n)
{
	struct download_events events = { on_progress, on_complete, f };

	memset(f->complete, 0, sizeof(f->complete));
	f->cached = 0;
	return download_blobs(f->registry, f->store, f->blobs, n, &events, &f->err);
}

/* The first n blobs are there, told of once each, right to the last byte; no others. */
static void assert_stored(struct fixture *f, size_t n)
{
	for (size_t i = 0; i < BLOBS; i++) {
		struct buf b = { 0 };

		assert_int_equal(f->complete[i], i < n);
		assert_int_equal(
			store_has(f->store, STORE_BLOB, f->blobs[i].digest, BLOB_SIZE), i < n);
		if (i >= n)
			continue;
		assert_int_equal(
			store_read_blob(f->store, f->blobs[i].digest, 1 << 20, &b, NULL), 0);
		assert_int_equal(b.len, BLOB_SIZE);
		assert_true(memcmp(b.data, f->data[i], BLOB_SIZE) == 0);
		buf_finish(&b);
	}
}

static unsigned files_in(struct fixture *f, const char *folder)
{
	char *path = path_join(f->dir, folder);
	DIR *d = opendir(path);
	unsigned n = 0;

	assert_non_null(d);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	free(path);
	return n - 2;
}

static void expect(struct fixture *f, const char *scenario, size_t n)
{
	f->scenario = scenario;
	if (download(f, n) < 0)
		fail_msg("%s: %s", scenario, f->err.msg);
	assert_stored(f, n);
	assert_int_equal(files_in(f, "tmp"), 0);
}

/* Fails with this, and nothing of the first blob is left. */
static void expect_failure(struct fixture *f, const char *scenario, int code, const char *text)
{
	f->scenario = scenario;
	assert_int_equal(download(f, 1), code);
	if (strstr(f->err.msg, text) == NULL)
		fail_msg("%s", f->err.msg);
	assert_stored(f, 0);
	assert_int_equal(files_in(f, "tmp"), 0);
	assert_int_equal(files_in(f, "blobs/sha256"), 0);
}

static char *blob_request(struct fixture *f, size_t i)
{
	return str_printf("GET " PULL "blobs/%s", f->blobs[i].digest);
}

static void blobs_come_together(void **state)
{
	struct fixture *f = *state;

	expect(f, NULL, BLOBS);
	assert_int_equal(web_count(f->web, "GET "), BLOBS);
	assert_in_range(web_most(f->web), 1, 4);
	for (size_t i = 0; i < BLOBS; i++)
		assert_int_equal(f->seen[i], BLOB_SIZE);
	assert_int_equal(f->cached, 0);
	/* Once is enough. */
	expect(f, NULL, BLOBS);
	assert_int_equal(f->cached, BLOBS);
	assert_int_equal(web_count(f->web, "GET "), BLOBS);
	assert_int_equal(download(f, 0), 0);
}

static void what_was_cut_off_is_resumed(void **state)
{
	struct fixture *f = *state;
	char *request = blob_request(f, 0), *log;

	expect(f, "cut", 2);
	log = web_log(f->web);
	assert_int_equal(web_count(f->web, request), 3);
	assert_non_null(strstr(log, " Range: bytes=1000-\n"));
	assert_non_null(strstr(log, " Range: bytes=2000-\n"));
	free(log);
	free(request);
}

static void servers_without_ranges_start_over(void **state)
{
	expect(*state, "no range", 2);
}

static void a_range_that_is_not_there_starts_over(void **state)
{
	expect(*state, "416", 2);
}

static void another_range_is_refused(void **state)
{
	expect_failure(*state, "other range", -EBADMSG, "it sends another range than asked for");
}

static void a_wrong_blob_is_fetched_once_more(void **state)
{
	struct fixture *f = *state;
	char *request = blob_request(f, 0);

	expect(f, "wrong once", 2);
	assert_int_equal(web_count(f->web, request), 2);
	free(request);
}

static void a_wrong_blob_is_never_stored(void **state)
{
	struct fixture *f = *state;
	char *request = blob_request(f, 0);

	expect_failure(f, "wrong", -EBADMSG, "wrong content for blob sha256:");
	assert_int_equal(web_count(f->web, request), 2);
	free(request);
}

static void too_little_and_too_much_are_refused(void **state)
{
	expect_failure(*state, "short", -EPIPE, "blob sha256:");
	expect_failure(*state, "long", -EMSGSIZE, "blob sha256:");
}

/* One blob is missing: the others, on their way, are given up with it. */
static void the_first_failure_ends_all(void **state)
{
	struct fixture *f = *state;

	f->scenario = "gone";
	assert_int_equal(download(f, 4), -ENOENT);
	assert_non_null(strstr(f->err.msg, f->blobs[0].digest));
	assert_non_null(strstr(f->err.msg, "it answers 404, it says 'BLOB_UNKNOWN'"));
	assert_stored(f, 0);
	assert_int_equal(files_in(f, "tmp"), 0);
}

static void a_stalled_blob_is_given_up(void **state)
{
	struct fixture *f = *state;

	f->conf.stall_ms = 1000;
	f->conf.tries = 2;
	expect_failure(f, "stall", -ETIMEDOUT, "given up after 2 tries: it stopped sending");
}

static void limits_are_waited_out(void **state)
{
	struct fixture *f = *state;
	char *request = blob_request(f, 1);

	expect(f, "limit", 2);
	assert_int_equal(web_count(f->web, request), 2);
	free(request);
}

/* The token that one blob has fetched serves the others. */
static void blobs_share_a_token(void **state)
{
	struct fixture *f = *state;
	char *log;

	expect(f, "token", BLOBS);
	assert_int_equal(web_count(f->web, "GET /token"), 1);
	assert_int_equal(
		web_count(f->web, "GET /token?service=s&scope=repository%3Aa%2Fb%3Apull"), 1);
	log = web_log(f->web);
	assert_non_null(strstr(log, "Authorization: Bearer opensesame\n"));
	free(log);
}

/* What a process that died has left is gone on with, if it is right. */
static void what_others_left_is_used(void **state)
{
	struct fixture *f = *state;
	char *path = str_printf("%s/tmp/sha256-%s.part", f->dir, f->blobs[0].digest + 7);
	char *request = blob_request(f, 0),
	     *resumed = str_printf("%s Range: bytes=100000-", request);

	assert_int_equal(file_write_atomic(path, f->data[0], 100000, 0600, false, NULL), 0);
	expect(f, NULL, 1);
	assert_int_equal(web_count(f->web, request), 1);
	assert_int_equal(web_count(f->web, resumed), 1);
	/* And if it is wrong, it is fetched from the start after all. */
	assert_int_equal(store_remove(f->store, STORE_BLOB, f->blobs[0].digest, NULL), 0);
	assert_int_equal(file_write_atomic(path, f->data[1], 100000, 0600, false, NULL), 0);
	expect(f, NULL, 1);
	assert_int_equal(web_count(f->web, request), 3);
	free(resumed);
	free(request);
	free(path);
}

/* Two stores stand for two processes: their locks are on descriptors of their own. */
static void another_s_download_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct store *theirs;
	struct blob *b;
	pid_t pid;
	int ready[2], status;
	char c;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct timespec while_waiting = { .tv_nsec = 300 * 1000 * 1000 };

		if (store_open(&theirs, f->dir, false, NULL) < 0 ||
			blob_open(&b, theirs, f->blobs[0].digest, BLOB_SIZE, NULL) < 0 ||
			blob_write(b, f->data[0], 1000, NULL) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		nanosleep(&while_waiting, NULL);
		if (blob_write(b, f->data[0] + 1000, BLOB_SIZE - 1000, NULL) < 0 ||
			blob_finish(b, NULL) < 0)
			_exit(2);
		_exit(0);
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	expect(f, NULL, 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* Nothing of it was fetched here. */
	assert_int_equal(f->cached, 1);
	assert_int_equal(web_count(f->web, "GET "), 0);
	close(ready[0]);
	close(ready[1]);
}

/* A store without room: said by name, and nothing half is left. */
static void a_full_store_is_named(void **state)
{
	struct fixture *f = *state;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", f->dir, "tmpfs", 0, "size=128k") < 0) {
		print_message("no mount namespace of our own\n");
		skip();
	}
	store_close(f->store);
	assert_int_equal(store_open(&f->store, f->dir, false, &f->err), 0);
	expect_failure(f, NULL, -ENOSPC, "No space left on device");
	if (strstr(f->err.msg, f->dir) == NULL)
		fail_msg("%s", f->err.msg);
	store_close(f->store);
	assert_int_equal(umount2(f->dir, 0), 0);
	assert_int_equal(store_open(&f->store, f->dir, false, &f->err), 0);
}

/* Small documents */

static int get_manifest(struct fixture *f, const char *scenario, size_t max)
{
	struct registry_answer a;
	int r;

	f->scenario = scenario;
	r = registry_get_manifest(f->registry, "latest", max, &a, &f->err);
	if (r == 0) {
		assert_string_equal(buf_str(&a.body), "{\"a\":1}");
		assert_string_equal(a.content_type, "application/vnd.oci.image.manifest.v1+json");
		assert_string_equal(a.content_digest, "sha256:d");
		registry_answer_finish(&a);
	}
	return r;
}

static void manifests_are_got(void **state)
{
	struct fixture *f = *state;
	char *message;

	assert_int_equal(get_manifest(f, NULL, 100), 0);
	assert_int_equal(get_manifest(f, "token", 100), 0);
	assert_int_equal(get_manifest(f, "503", 100), 0);
	assert_int_equal(web_count(f->web, "GET /token"), 1);
	assert_int_equal(get_manifest(f, NULL, 6), -EFBIG);
	message = str_printf(
		"registry http://127.0.0.1:%u: its answer is larger than 6", web_port(f->web));
	assert_string_equal(f->err.msg, message);
	free(message);
	assert_int_equal(get_manifest(f, "unknown", 100), -ENOENT);
	assert_non_null(strstr(f->err.msg, "it answers 404, it says 'MANIFEST_UNKNOWN'"));
}

static void manifests_are_given_up(void **state)
{
	struct fixture *f = *state;

	f->conf.tries = 2;
	assert_int_equal(get_manifest(f, "503 always", 100), -EHOSTUNREACH);
	assert_non_null(
		strstr(f->err.msg, ": given up after 2 tries: it answers 503, it says 'starting'"));
	assert_int_equal(web_count(f->web, "GET " PULL "manifests/latest"), 2);
}

static void credentials_are_refused(void **state)
{
	struct fixture *f = *state;

	/* A token that helps nothing is fetched once. */
	assert_int_equal(get_manifest(f, "never", 100), -EACCES);
	assert_non_null(strstr(f->err.msg, "wants credentials"));
	assert_int_equal(web_count(f->web, "GET /token"), 1);
	assert_int_equal(get_manifest(f, "no token", 100), -ENOENT);
	assert_int_equal(get_manifest(f, "basic", 100), -EACCES);
	assert_int_equal(get_manifest(f, "negotiate", 100), -ENOTSUP);
}

static void passwords_are_used(void **state)
{
	struct fixture *f = *state;
	struct image_ref ref = { .repository = "a/b" };
	char *text, *log;

	f->config = path_join(f->dir, "config.json");
	text = str_printf("{\"auths\":{\"127.0.0.1:%u\":{\"auth\":\"dTpw\"}}}", web_port(f->web));
	assert_int_equal(file_write_atomic(f->config, text, strlen(text), 0600, false, NULL), 0);
	free(text);
	registry_close(f->registry);
	f->registry = NULL;
	f->conf.auth_file = f->config;
	snprintf(ref.host, sizeof(ref.host), "127.0.0.1:%u", web_port(f->web));
	assert_int_equal(registry_open(&f->registry, &f->conf, &ref, &f->err), 0);
	/* Not before they are asked for. */
	assert_int_equal(get_manifest(f, NULL, 100), 0);
	assert_int_equal(web_count(f->web, "GET " PULL "manifests/latest Authorization"), 0);
	assert_int_equal(get_manifest(f, "basic", 100), 0);
	assert_int_equal(
		web_count(f->web, "GET " PULL "manifests/latest Authorization: Basic dTpw"), 1);
	/* The token service is asked with them. */
	assert_int_equal(get_manifest(f, "token", 100), 0);
	log = web_log(f->web);
	assert_non_null(strstr(log, "/token?service=s&scope=repository%3Aa%2Fb%3Apull "
				    "Authorization: Basic dTpw\n"));
	free(log);
	/* Still refused: now they are wrong. */
	assert_int_equal(get_manifest(f, "never", 100), -EACCES);
	assert_non_null(strstr(f->err.msg, "refuses the credentials"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(blobs_come_together),
		TEST(what_was_cut_off_is_resumed),
		TEST(servers_without_ranges_start_over),
		TEST(a_range_that_is_not_there_starts_over),
		TEST(another_range_is_refused),
		TEST(a_wrong_blob_is_fetched_once_more),
		TEST(a_wrong_blob_is_never_stored),
		TEST(too_little_and_too_much_are_refused),
		TEST(the_first_failure_ends_all),
		TEST(a_stalled_blob_is_given_up),
		TEST(limits_are_waited_out),
		TEST(blobs_share_a_token),
		TEST(what_others_left_is_used),
		TEST(another_s_download_is_waited_for),
		TEST(a_full_store_is_named),
		TEST(manifests_are_got),
		TEST(manifests_are_given_up),
		TEST(credentials_are_refused),
		TEST(passwords_are_used),
	};

	curl_global_init(CURL_GLOBAL_DEFAULT);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
