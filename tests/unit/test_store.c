#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "lib/file.h"
#include "oci/blob.h"
#include "oci/index.h"
#include "oci/prune.h"

/* The digest of "hello world". */
#define HELLO "sha256:b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"
#define KEY   "0123456789abcdef"

static char dir[64];

static int make_dir(void **state)
{
	strcpy(dir, "/tmp/drover-store.XXXXXX");
	return mkdtemp(dir) != NULL ? 0 : -1;
}

static int remove_dir(void **state)
{
	return remove_tree(dir, NULL);
}

static struct store *open_store(void)
{
	struct store *s;
	struct err err;

	if (store_open(&s, dir, false, &err) < 0)
		fail_msg("%s", err.msg);
	return s;
}

static size_t entries(const char *folder)
{
	char command[128], line[16] = "";
	FILE *p;

	snprintf(command, sizeof(command), "ls -A %s/%s | wc -l", dir, folder);
	p = popen(command, "r");
	assert_non_null(p);
	assert_non_null(fgets(line, sizeof(line), p));
	pclose(p);
	return strtoul(line, NULL, 10);
}

static void test_blob(void **state)
{
	struct store *s = open_store();
	struct buf text = { 0 };
	struct blob *b;
	struct err err;

	assert_false(store_has(s, STORE_BLOB, HELLO, 11));
	assert_int_equal(blob_open(&b, s, HELLO, 11, &err), 0);
	assert_int_equal(blob_have(b), 0);
	assert_int_equal(blob_write(b, "hello ", 6, &err), 0);
	assert_false(store_has(s, STORE_BLOB, HELLO, UINT64_MAX));
	assert_int_equal(blob_finish(b, &err), -EPIPE);
	assert_int_equal(blob_write(b, "world!", 6, &err), -EMSGSIZE);
	assert_int_equal(blob_write(b, "world", 5, &err), 0);
	assert_int_equal(blob_finish(b, &err), 0);
	assert_true(store_has(s, STORE_BLOB, HELLO, 11));
	assert_false(store_has(s, STORE_BLOB, HELLO, 12));
	assert_int_equal(store_read_blob(s, HELLO, 100, &text, &err), 0);
	assert_string_equal(buf_str(&text), "hello world");
	buf_finish(&text);
	assert_int_equal(blob_open(&b, s, HELLO, 11, &err), -EEXIST);
	assert_int_equal(entries("tmp"), 0);
	store_close(s);
}

static void test_wrong_blob(void **state)
{
	struct store *s = open_store();
	struct blob *b;
	struct err err;

	assert_int_equal(blob_open(&b, s, HELLO, 11, &err), 0);
	assert_int_equal(blob_write(b, "hello_world", 11, &err), 0);
	assert_int_equal(blob_finish(b, &err), -EBADMSG);
	assert_non_null(strstr(err.msg, "wrong content for blob " HELLO));
	assert_false(store_has(s, STORE_BLOB, HELLO, UINT64_MAX));
	/* Once more from the start. */
	assert_int_equal(blob_restart(b, &err), 0);
	assert_int_equal(blob_have(b), 0);
	assert_int_equal(blob_write(b, "hello world", 11, &err), 0);
	assert_int_equal(blob_finish(b, &err), 0);

	assert_int_equal(store_remove(s, STORE_BLOB, HELLO, &err), 0);
	assert_int_equal(blob_put(s, HELLO, "hello_world", 11, &err), -EBADMSG);
	assert_int_equal(entries("blobs/sha256"), 0);
	assert_int_equal(entries("tmp"), 0);
	store_close(s);
}

/* A process that has claimed the blob, written `text` and waits; *out is a pipe to end it. */
static pid_t writer(const char *text, int *out)
{
	int ready[2], end[2];
	pid_t pid;
	char c;

	assert_int_equal(pipe(ready), 0);
	assert_int_equal(pipe(end), 0);
	pid = fork();
	if (pid == 0) {
		struct store *s;
		struct blob *b;

		close(end[1]);
		if (store_open(&s, dir, false, NULL) < 0 || blob_open(&b, s, HELLO, 11, NULL) < 0 ||
			blob_write(b, text, strlen(text), NULL) < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		/* Ends without a word, as by SIGKILL. */
		_exit(read(end[0], &c, 1) == 0 ? 0 : 1);
	}
	close(ready[1]);
	close(end[0]);
	assert_int_equal(read(ready[0], &c, 1), 1);
	close(ready[0]);
	*out = end[1];
	return pid;
}

static void test_shared_and_resumed(void **state)
{
	struct store *s = open_store();
	struct blob *b;
	struct err err;
	int end, status;
	pid_t pid = writer("hello", &end);

	assert_int_equal(blob_open(&b, s, HELLO, 11, &err), -EBUSY);
	assert_int_equal(store_busy_bytes(s, STORE_BLOB, HELLO), 5);
	/* Nobody removes what somebody works on. */
	store_sweep(s);
	assert_int_equal(store_busy_bytes(s, STORE_BLOB, HELLO), 5);
	close(end);
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	/* What it left is taken up where it ended. */
	assert_int_equal(blob_open(&b, s, HELLO, 11, &err), 0);
	assert_int_equal(blob_have(b), 5);
	assert_int_equal(blob_write(b, " world", 6, &err), 0);
	assert_int_equal(blob_finish(b, &err), 0);
	assert_true(store_has(s, STORE_BLOB, HELLO, 11));
	store_close(s);
}

static void test_sweep(void **state)
{
	struct store *s = open_store();
	int end;
	pid_t pid = writer("rubbish that is too long" + 13, &end);

	close(end);
	waitpid(pid, NULL, 0);
	assert_int_equal(entries("tmp"), 2);
	store_sweep(s);
	assert_int_equal(entries("tmp"), 0);
	store_close(s);
}

static void test_too_long_left_over(void **state)
{
	struct store *s = open_store();
	char path[160];
	struct blob *b;
	struct err err;

	snprintf(path, sizeof(path), "%s/tmp/sha256-%s.part", dir, HELLO + 7);
	assert_int_equal(file_write_atomic(path, "hello world, hello", 18, 0644, false, &err), 0);
	assert_int_equal(blob_open(&b, s, HELLO, 11, &err), 0);
	assert_int_equal(blob_have(b), 0);
	blob_abandon(b);
	assert_int_equal(entries("tmp"), 0);
	store_close(s);
}

static void test_claims(void **state)
{
	struct store *s = open_store();
	struct store_work *w, *other;
	struct err err;
	char *path;

	assert_int_equal(store_claim(s, STORE_KERNEL, KEY, true, &w, &err), 0);
	assert_int_equal(store_claim(s, STORE_KERNEL, KEY, false, &other, &err), -EBUSY);
	/* A disk of the same key is another item. */
	assert_int_equal(store_claim(s, STORE_DISK, KEY, false, &other, &err), 0);
	store_abandon(other);
	assert_int_equal(mkdir(store_work_path(w), 0755), 0);
	assert_int_equal(store_commit(w, &err), 0);
	assert_int_equal(store_claim(s, STORE_KERNEL, KEY, true, &w, &err), -EEXIST);
	path = store_path(s, STORE_KERNEL, KEY);
	assert_true(str_ends(path, "/kernels/" KEY));
	assert_int_equal(access(path, F_OK), 0);
	free(path);
	/* Nothing was made: an error, and the claim is gone. */
	assert_int_equal(store_claim(s, STORE_DISK, KEY, true, &w, &err), 0);
	assert_int_equal(store_commit(w, &err), -ENOENT);
	assert_int_equal(entries("tmp"), 0);
	store_close(s);
}

static void test_exclusive(void **state)
{
	struct store *s = open_store(), *x;
	struct err err;

	assert_int_equal(store_open(&x, dir, true, &err), -EBUSY);
	store_close(s);
	assert_int_equal(store_open(&x, dir, true, &err), 0);
	store_close(x);
}

static int remember(void *arg, enum store_kind kind, const char *key, uint64_t bytes)
{
	buf_printf(arg, "%d %s\n", (int)kind, key);
	return 0;
}

static void test_each(void **state)
{
	struct store *s = open_store();
	struct store_work *w;
	struct buf out = { 0 };
	struct err err;
	char path[128];

	assert_int_equal(blob_put(s, HELLO, "hello world", 11, &err), 0);
	assert_int_equal(store_claim(s, STORE_DISK, KEY, true, &w, &err), 0);
	assert_int_equal(file_write_atomic(store_work_path(w), "x", 1, 0644, false, &err), 0);
	assert_int_equal(store_commit(w, &err), 0);
	/* What is none of ours is left alone. */
	snprintf(path, sizeof(path), "%s/built/README", dir);
	assert_int_equal(file_write_atomic(path, "x", 1, 0644, false, &err), 0);
	assert_int_equal(store_each(s, remember, &out, &err), 0);
	assert_string_equal(buf_str(&out), "0 " HELLO "\n1 " KEY "\n");
	assert_int_equal(store_remove(s, STORE_DISK, KEY, &err), 0);
	assert_false(store_has(s, STORE_DISK, KEY, UINT64_MAX));
	buf_finish(&out);
	store_close(s);
}

static void put_disk(struct store *s, const char *key)
{
	struct store_work *w;
	struct err err;

	assert_int_equal(store_claim(s, STORE_DISK, key, true, &w, &err), 0);
	assert_int_equal(file_write_atomic(store_work_path(w), "x", 1, 0644, false, &err), 0);
	assert_int_equal(store_commit(w, &err), 0);
}

/* What an overlay lies above stays, whether an image needs it or not, and so does the image. */
static void test_in_use(void **state)
{
	struct index_entry e = { .digest = HELLO, .manifest = HELLO, .size = 1, .pulled_ms = 1 };
	struct prune_limits limits = { .age_ms = 1000 };
	struct store *s = open_store();
	unsigned stayed = 7;
	uint64_t freed;
	char base[128];
	struct err err;
	char *path;

	put_disk(s, KEY);
	put_disk(s, "beef");
	path = store_path(s, STORE_DISK, KEY);
	snprintf(base, sizeof(base), "%s/base-1.raw", dir);
	assert_int_equal(link(path, base), 0);
	assert_true(prune_in_use(s, KEY));
	assert_false(prune_in_use(s, "beef"));
	strcpy(e.platform.os, "linux");
	strcpy(e.platform.architecture, "amd64");
	assert_int_equal(index_put(s, "h.x/a:1", &e, &err), 0);
	assert_int_equal(index_add_built(s, "h.x/a:1", STORE_DISK, KEY, &err), 0);
	assert_int_equal(prune_index(s, &limits, NULL, NULL, &err), 0);
	assert_int_equal(index_get(s, "h.x/a:1", &e, &err), 0);
	assert_int_equal(prune_collect(s, &freed, &stayed, &err), 0);
	assert_int_equal(stayed, 0);
	assert_false(store_has(s, STORE_DISK, "beef", UINT64_MAX));
	assert_int_equal(index_remove(s, "h.x/a:1", &err), 0);
	assert_int_equal(prune_collect(s, &freed, &stayed, &err), 0);
	assert_int_equal(stayed, 1);
	assert_true(store_has(s, STORE_DISK, KEY, UINT64_MAX));
	assert_int_equal(unlink(base), 0);
	assert_int_equal(prune_collect(s, &freed, &stayed, &err), 0);
	assert_int_equal(stayed, 0);
	assert_false(store_has(s, STORE_DISK, KEY, UINT64_MAX));
	free(path);
	store_close(s);
}

static void test_index(void **state)
{
	struct store *s = open_store();
	struct index_entry e = { .digest = HELLO, .manifest = HELLO, .size = 7, .pulled_ms = 8 };
	struct index_entry got;
	struct err err;
	json_t *images;

	strcpy(e.platform.os, "linux");
	strcpy(e.platform.architecture, "amd64");
	assert_int_equal(index_get(s, "h.x/a:1", &got, &err), -ENOENT);
	assert_string_equal(err.msg, "h.x/a:1: not in the image store");
	assert_int_equal(index_put(s, "h.x/a:1", &e, &err), 0);
	assert_int_equal(index_get(s, "h.x/a:1", &got, &err), 0);
	assert_string_equal(got.manifest, HELLO);
	assert_string_equal(got.platform.architecture, "amd64");
	assert_int_equal(got.size, 7);
	assert_int_equal(got.pulled_ms, 8);

	assert_int_equal(index_add_built(s, "h.x/a:1", STORE_DISK, KEY, &err), 0);
	assert_int_equal(index_add_built(s, "h.x/a:1", STORE_DISK, KEY, &err), 0);
	assert_int_equal(index_add_built(s, "h.x/a:1", STORE_KERNEL, "beef", &err), 0);
	assert_int_equal(index_add_built(s, "h.x/gone:1", STORE_KERNEL, "beef", &err), 0);
	/* The same manifest from another tag digest: what was built stays. */
	strcpy(e.digest + 7, "0000000000000000000000000000000000000000000000000000000000000000");
	assert_int_equal(index_put(s, "h.x/a:1", &e, &err), 0);
	assert_int_equal(index_images(s, &images, &err), 0);
	assert_int_equal(
		json_array_size(json_object_get(json_object_get(images, "h.x/a:1"), "disks")), 1);
	json_decref(images);
	/* Another manifest: it goes. */
	strcpy(e.manifest, e.digest);
	assert_int_equal(index_put(s, "h.x/a:1", &e, &err), 0);
	assert_int_equal(index_images(s, &images, &err), 0);
	assert_int_equal(json_object_size(images), 1);
	assert_int_equal(
		json_array_size(json_object_get(json_object_get(images, "h.x/a:1"), "disks")), 0);
	json_decref(images);
	assert_int_equal(index_remove(s, "h.x/a:1", &err), 0);
	assert_int_equal(index_remove(s, "h.x/a:1", &err), -ENOENT);
	store_close(s);
}

static void test_damaged_index(void **state)
{
	static const char *const texts[] = { "", "{", "7", "{\"version\":2,\"images\":{}}",
		"{\"version\":1}", "{\"version\":1,\"images\":{\"h.x/a:1\":{\"digest\":\"x\"}}}",
		"{\"version\":1,\"images\":{\"h.x/a:1\":7}}" };
	struct store *s = open_store();
	struct index_entry e;
	struct err err;
	char path[128];

	snprintf(path, sizeof(path), "%s/index.json", dir);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		assert_int_equal(
			file_write_atomic(path, texts[i], strlen(texts[i]), 0644, false, &err), 0);
		assert_int_equal(index_get(s, "h.x/a:1", &e, &err), -EBADMSG);
		assert_int_equal(access(path, F_OK), 0);
	}
	store_close(s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blob),
		TEST(test_wrong_blob),
		TEST(test_shared_and_resumed),
		TEST(test_sweep),
		TEST(test_too_long_left_over),
		TEST(test_claims),
		TEST(test_exclusive),
		TEST(test_each),
		TEST(test_in_use),
		TEST(test_index),
		TEST(test_damaged_index),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
