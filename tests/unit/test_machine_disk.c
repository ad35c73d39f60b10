/*
 * Keys, kernel, rootfs and disk of a start, with a script for drover-image and the fake hypervisor;
 * and the state file.
 */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/json.h"
#include "supervisor/machine-identity.h"
#include "supervisor/machine-steps.h"
#include "tests/unit/hv-rig.h"

static struct world {
	struct drover_rig r;
	char *fake;
} w;

static int setup(void **state)
{
	w = (struct world){ .fake = hv_rig_program("fakes/fake-qemu") };
	return 0;
}

static int teardown(void **state)
{
	struct machine *m;

	list_for_each_entry (m, &w.r.d.machines, entry) {
		if (m->process && hv_process(m->hv)->pid > 0)
			kill(hv_process(m->hv)->pid, SIGKILL);
	}
	drover_rig_finish(&w.r);
	free(w.fake);
	return 0;
}

/* Says "runs" each time; makes what is asked for below the rig's folder. */
static const char image[] =
	"echo \"$*\" >>runs\n"
	"verb=$1; shift\n"
	"while [ $# -gt 0 ]; do case $1 in --to) to=$2;; --inject) cp \"$2\" injected;; esac; shift; done\n"
	"[ ! -e fail-$verb ] || { cat fail-$verb; exit 1; }\n"
	"while [ -e hold-$verb ]; do sleep 0.02; done\n"
	"case $verb in\n"
	"kernel) touch kernel initrd\n"
	"  echo '{\"event\":\"done\",\"kernel\":\"'$PWD/kernel'\",\"initrd\":\"'$PWD/initrd'\"}';;\n"
	"rootfs) touch built; echo '{\"event\":\"done\",\"disk\":\"'$PWD/built'\"}';;\n"
	"clone) echo $$ >\"$to\"; echo '{\"event\":\"done\",\"method\":\"reflink\"}';;\n"
	"esac\n";

/* keys: of [vm web]. */
static struct machine *begin(const char *head, const char *keys)
{
	char *text = str_printf(
		"%s[vm web]\nkernel = ghcr.io/o/k:1\nrootfs = ghcr.io/o/r:1\n"
		"binary = %s\njail = no\nmemory = 16M\naccel = tcg\nautostart = no\n"
		"restart = no\n%s",
		head, w.fake, keys);
	char *script;

	drover_rig_init(&w.r, text);
	free(text);
	script = str_printf("cd %s || exit 9\n%s", w.r.dir, image);
	free(drover_rig_script(&w.r, "libexec/drover-image", script));
	free(script);
	return drover_rig_machine(&w.r, "web");
}

struct awaited {
	struct machine *m;
	enum machine_state state;
};

static bool is_in_state(void *arg)
{
	const struct awaited *a = arg;

	return a->m->state == a->state && a->m->op == NULL;
}

static void await(struct machine *m, enum machine_state state)
{
	struct awaited a = { m, state };

	drover_rig_until(&w.r, is_in_state, &a);
}

static void start(struct machine *m)
{
	struct err err;

	if (machine_start(m, "a test", true, NULL, &err) < 0)
		fail_msg("%s", err.msg);
}

static void stop(struct machine *m)
{
	assert_int_equal(machine_stop(m, INTENT_KILL, "a test", true, NULL, NULL), 0);
	await(m, MACHINE_STOPPED);
}

/* The verbs of drover-image's runs since the last look. */
static void assert_runs(const char *want)
{
	char *text = drover_rig_text(&w.r, "runs");
	struct buf verbs = { 0 };

	for (char *p = text; p != NULL && *p != '\0'; p += strcspn(p, "\n") + 1)
		buf_printf(&verbs, "%.*s ", (int)strcspn(p, " \n"), p);
	assert_string_equal(buf_str(&verbs), want);
	buf_finish(&verbs);
	free(text);
	drover_rig_put(&w.r, "runs", "");
}

static void assert_failed(struct machine *m, const char *message)
{
	start(m);
	await(m, MACHINE_FAILED);
	assert_int_equal(m->last_cause, CAUSE_START_FAILURE);
	if (strstr(m->sentence, message) == NULL)
		fail_msg("%s", m->sentence);
	assert_false(ledger_has(w.r.d.ledger, m->owner));
	assert_int_equal(access(m->run_dir, F_OK), -1);
}

/* ---- images and disks ---- */

/* That of this host's machine of this name, the same each time; a static buffer. */
static const char *machine_id(const struct machine *m)
{
	static char id[2][33];

	for (int i = 0; i < 2; i++) {
		json_t *j = json_object();

		assert_int_equal(machine_identity_add_derived_id(j, m->dir, NULL), 0);
		snprintf(id[i], sizeof(id[i]), "%s", json_str(j, "machine_id"));
		json_decref(j);
	}
	assert_string_equal(id[0], id[1]);
	assert_int_equal(strspn(id[0], "0123456789abcdef"), 32);
	return id[0];
}

static void test_images(void **state)
{
	struct machine *m = begin("[key me]\npublic = ssh-ed25519 AAAA me\n",
		"ssh_key = me\nssh_user = admin\nhostname = host-{{name}}\n");
	char *text, *want;

	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("kernel rootfs clone ");
	want = str_printf("{\"hostname\":\"host-web\",\"user\":\"admin\","
			  "\"root_device\":\"/dev/vda\",\"hosts\":true,\"machine_id\":\"%s\","
			  "\"authorized_keys\":[\"ssh-ed25519 AAAA me\"]}",
		machine_id(m));
	text = drover_rig_text(&w.r, "injected");
	assert_string_equal(text, want);
	free(text);
	free(want);
	/* Keys and hostname are in the disk; the order to put them there is not kept. */
	assert_null(drover_rig_text(&w.r, "state/vm/web/inject.json"));
	assert_true(str_ends(m->kernel_path, "/kernel"));
	assert_true(str_ends(m->initrd_path, "/initrd"));
	assert_true(str_ends(m->rootfs_path, "/built"));
	assert_true(str_ends(m->disk_path, "/state/vm/web/disk.raw"));
	stop(m);
	/* What was found before is good: nothing is asked for, and the disk stays. */
	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("");
	stop(m);
	/* What somebody deleted is found, or made, again. */
	unlink(m->kernel_path);
	unlink(m->disk_path);
	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("kernel clone ");
	stop(m);
}

/* disk = run: a fresh clone for each start that a person asks for, not for a restart. */
static void test_disk_run(void **state)
{
	struct machine *m = begin("", "disk = run\n");
	char *first, *second;

	start(m);
	await(m, MACHINE_RUNNING);
	first = drover_rig_text(&w.r, "state/vm/web/disk.raw");
	assert_runs("kernel rootfs clone ");
	assert_int_equal(machine_restart(m, INTENT_RESTART, "a test", NULL, NULL), 0);
	await(m, MACHINE_RUNNING);
	assert_runs("");
	stop(m);
	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("clone ");
	second = drover_rig_text(&w.r, "state/vm/web/disk.raw");
	assert_string_not_equal(first, second);
	stop(m);
	free(first);
	free(second);
}

/* The clone and the machine's own volumes go with the run; the state file tells a stale disk. */
static void test_ephemeral(void **state)
{
	struct machine *m = begin("", "ephemeral = yes\nvolume = data size=1M\n");
	char *volume = str_printf("%s/volume-data.raw", m->dir);
	char *keep = str_printf("%s/other.raw", m->dir);
	char *before = str_printf("%s/thrown.0.tmp", m->dir);
	struct stat st;

	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("kernel rootfs clone ");
	assert_int_equal(access(m->disk_path, F_OK), 0);
	assert_int_equal(access(volume, F_OK), 0);
	assert_int_equal(file_write_atomic(keep, "x", 1, 0600, false, NULL), 0);
	stop(m);
	assert_null(drover_rig_text(&w.r, "state/vm/web/disk.raw"));
	assert_int_equal(access(volume, F_OK), -1);
	assert_int_equal(access(keep, F_OK), 0);
	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("clone ");
	/* A restart is the end of a run, too. */
	assert_int_equal(machine_restart(m, INTENT_RESTART, "a test", NULL, NULL), 0);
	await(m, MACHINE_RUNNING);
	assert_runs("clone ");
	stop(m);
	/* A crash of the host brings back what was renamed; what an earlier run's disks are
	 * deleted in is still there. */
	assert_int_equal(file_write_atomic(volume, "old", 3, 0600, false, NULL), 0);
	assert_true(mkdir(before, 0700) == 0 || errno == EEXIST);
	start(m);
	await(m, MACHINE_RUNNING);
	assert_int_equal(stat(volume, &st), 0);
	assert_int_equal(st.st_size, 1 << 20);
	stop(m);
	free(before);
	free(volume);
	free(keep);
}

static void test_recreate(void **state)
{
	struct machine *m = begin("", "");

	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("kernel rootfs clone ");
	assert_int_equal(machine_restart(m, INTENT_RECREATE, "a test", NULL, NULL), 0);
	await(m, MACHINE_RUNNING);
	assert_runs("clone ");
	stop(m);
	assert_int_equal(machine_forget_disk(m, NULL), 0);
	assert_null(m->disk_path);
	assert_null(drover_rig_text(&w.r, "state/vm/web/disk.raw"));
	assert_int_equal(machine_forget_disk(m, NULL), 0);
}

static void test_pull_always(void **state)
{
	struct machine *m = begin("", "pull = always\n");

	start(m);
	await(m, MACHINE_RUNNING);
	assert_runs("kernel rootfs clone ");
	stop(m);
	start(m);
	await(m, MACHINE_RUNNING);
	/* The disk is there: no image of it is needed. */
	assert_runs("kernel ");
	stop(m);
}

static void test_sizes(void **state)
{
	struct machine *m = begin("", "disk_size = 16G\n");
	char *text;

	start(m);
	await(m, MACHINE_RUNNING);
	text = drover_rig_text(&w.r, "runs");
	/* A larger one is a clone that grows. */
	assert_null(strstr(text, "--ref ghcr.io/o/r:1 --policy missing --size"));
	assert_non_null(strstr(text, "/disk.raw --size 17179869184"));
	free(text);
	stop(m);
}

static void test_failures(void **state)
{
	struct machine *m = begin("", "");
	char *path;

	drover_rig_put(&w.r, "fail-kernel",
		"{\"event\":\"error\",\"code\":\"unavailable\",\"message\":\"no registry\"}\n");
	assert_failed(m, "vm web: kernel: no registry");
	assert_runs("kernel ");
	drover_rig_put(&w.r, "fail-rootfs",
		"{\"event\":\"error\",\"code\":\"no-space\",\"message\":\"disk full\"}\n");
	path = path_join(w.r.dir, "fail-kernel");
	unlink(path);
	free(path);
	assert_failed(m, "vm web: rootfs: disk full");
	path = path_join(w.r.dir, "fail-rootfs");
	unlink(path);
	free(path);
	drover_rig_put(&w.r, "fail-clone",
		"{\"event\":\"error\",\"code\":\"no-space\",\"message\":\"disk full\"}\n");
	assert_failed(m, "vm web: disk: disk full");
	assert_null(m->disk_path);
	assert_null(drover_rig_text(&w.r, "state/vm/web/inject.json"));
	path = path_join(w.r.dir, "fail-clone");
	unlink(path);
	free(path);
	/* Nothing of that sticks. */
	start(m);
	await(m, MACHINE_RUNNING);
	stop(m);
}

/* The image has not what it was asked for. */
static void test_without_kernel(void **state)
{
	struct machine *m = begin("", "");

	free(drover_rig_script(
		&w.r, "libexec/drover-image", "echo '{\"event\":\"done\",\"kernel\":null}'"));
	assert_failed(m, "vm web: kernel: 'ghcr.io/o/k:1' has no kernel");
	free(drover_rig_script(
		&w.r, "libexec/drover-image", "echo '{\"event\":\"done\",\"kernel\":\"/k\"}'"));
	assert_failed(m, "vm web: rootfs: 'ghcr.io/o/r:1' gives no disk");
}

static bool is_pulling(void *arg)
{
	char *text = drover_rig_text(&w.r, "runs");
	bool there = text != NULL && text[0] != '\0';

	free(text);
	return there;
}

static bool no_jobs(void *arg)
{
	return list_empty(&w.r.d.image_jobs);
}

/* A stop in the middle of a pull: at once; the pull goes on and is good for the next start. */
static void test_cancel(void **state)
{
	struct machine *m = begin("", "");
	struct operation *op = NULL;
	char *path;

	drover_rig_put(&w.r, "hold-kernel", "");
	assert_int_equal(machine_start(m, "a test", true, &op, NULL), 0);
	drover_rig_until(&w.r, is_pulling, NULL);
	assert_int_equal(operation_cancel(op, NULL), 0);
	await(m, MACHINE_STOPPED);
	assert_int_equal(m->last_cause, CAUSE_REQUESTED);
	assert_string_equal(operation_error(op)->msg, "vm web: start was cancelled");
	assert_int_equal(operation_state(op), OPERATION_CANCELLED);
	assert_false(list_empty(&w.r.d.image_jobs));
	path = path_join(w.r.dir, "hold-kernel");
	unlink(path);
	free(path);
	drover_rig_until(&w.r, no_jobs, NULL);
	assert_int_equal(m->state, MACHINE_STOPPED);
	start(m);
	await(m, MACHINE_RUNNING);
	stop(m);
}

/* Paths instead of images. */
static void test_paths(void **state)
{
	struct machine *m = begin("", "");
	struct vm_config *cfg = (struct vm_config *)(uintptr_t)m->cfg;

	free(cfg->kernel);
	cfg->kernel = strdup("/nonexistent/kernel");
	assert_failed(m, "vm web: kernel: '/nonexistent/kernel': No such file or directory");
	free(cfg->kernel);
	cfg->kernel = strdup("/etc");
	assert_failed(m, "vm web: kernel: '/etc' is neither a file nor a block device");
	free(cfg->kernel);
	cfg->kernel = strdup(w.fake);
	free(cfg->rootfs);
	cfg->rootfs = strdup("/nonexistent/disk");
	assert_failed(m, "vm web: rootfs: '/nonexistent/disk': No such file or directory");
	free(cfg->rootfs);
	cfg->rootfs = strdup(w.fake);
	assert_runs("");
	start(m);
	await(m, MACHINE_RUNNING);
	/* Somebody's own disk without a key: nothing is put into it. */
	assert_runs("clone ");
	assert_null(drover_rig_text(&w.r, "injected"));
	stop(m);
}

/* ---- keys ---- */

/* Two that need it at once get the same, made once; it is private. */
static void test_generate(void **state)
{
	struct machine *a, *b;
	struct buf line = { 0 };
	struct err err;
	struct stat st;
	char *path, *text;

	b = begin("[key made]\ngenerate = yes\n[template t]\nssh_key = made\n",
		"ssh_key = made\n[vm other]\ntemplate = t\nkernel = ghcr.io/o/k:1\njail = no\n"
		"autostart = no\naccel = tcg\nmemory = 16M\nbinary = /bin/false\n");
	a = drover_rig_machine(&w.r, "other");
	start(a);
	start(b);
	await(b, MACHINE_RUNNING);
	await(a, MACHINE_FAILED);
	path = path_join(w.r.dir, "state/keys/made/id_ed25519");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(path);
	if (key_public(&w.r.d, config_sshkey(drover_config(&w.r.d), "made"), &line, &err) < 0)
		fail_msg("%s", err.msg);
	assert_true(str_starts(buf_str(&line), "ssh-ed25519 "));
	assert_true(str_ends(buf_str(&line), " drover made"));
	text = drover_rig_text(&w.r, "injected");
	assert_non_null(strstr(text, buf_str(&line)));
	free(text);
	buf_finish(&line);
	path = path_join(w.r.dir, "state/keys/.made.web");
	assert_int_equal(access(path, F_OK), -1);
	free(path);
	path = path_join(w.r.dir, "state/keys/.made.other");
	assert_int_equal(access(path, F_OK), -1);
	free(path);
	stop(b);
}

static void test_key_sources(void **state)
{
	const struct config *c;
	struct buf line = { 0 };
	struct err err;

	begin("[key given]\npublic = ssh-ed25519 AAAA me\n[key file]\nfile = key.pub\n"
	      "[key made]\ngenerate = yes\n",
		"");
	c = drover_config(&w.r.d);
	assert_int_equal(key_public(&w.r.d, config_sshkey(c, "given"), &line, NULL), 0);
	assert_string_equal(buf_str(&line), "ssh-ed25519 AAAA me");
	buf_finish(&line);
	assert_int_equal(key_public(&w.r.d, config_sshkey(c, "file"), &line, &err), -ENOENT);
	assert_true(str_starts(err.msg, "key file: "));
	drover_rig_put(&w.r, "key.pub", "ssh-rsa BBBB you\r\n\n");
	assert_int_equal(key_public(&w.r.d, config_sshkey(c, "file"), &line, NULL), 0);
	assert_string_equal(buf_str(&line), "ssh-rsa BBBB you");
	buf_finish(&line);
	assert_int_equal(key_public(&w.r.d, config_sshkey(c, "made"), &line, &err), -ENOENT);
	buf_finish(&line);
}

/* ---- the state file ---- */

static struct machine *loaded(const char *text, struct saved_process *saved, int want)
{
	struct machine *m = machine_find(&w.r.d, "web");
	struct err err;

	drover_rig_put(&w.r, "state/vm/web/state.json", text);
	assert_int_equal(machine_load(m, saved, &err), want);
	return m;
}

/* What is counted outlives the daemon. */
static void test_state_round(void **state)
{
	struct machine *m = begin("[network taps]\ncidr = 172.16.0.0/16\n", "network = taps\n");
	struct saved_process saved;

	m->state = MACHINE_BACKOFF;
	m->want_known = m->want_running = true;
	m->restarts = 7;
	m->failures = 3;
	m->boot = 9;
	m->guest_id = 4;
	m->retry_at_ms = 1700000000123;
	m->last_cause = CAUSE_GUEST_PANIC;
	m->sentence = strdup("it said \"no\"");
	m->disk_stale = true;
	m->exit_status = (struct child_status){ true, true, 9 };
	m->disk_path = strdup("/d");
	m->nnics = 1;
	m->nics[0] = (struct nic){ .network = strdup("taps"), .tap_fd = -1, .ifindex = 5 };
	strcpy(m->nics[0].mac, "52:00:00:00:00:01");
	strcpy(m->nics[0].tap, "tap0");
	assert_int_equal(ip4_prefix_parse("172.16.3.4/30", false, &m->nics[0].net, NULL), 0);
	machine_tell(m, "start", "%s", "hello");
	err_set(&m->error, -ENOSPC, "no room");
	assert_int_equal(machine_save(m, NULL), 0);
	m->state = MACHINE_STOPPED;
	machine_destroy(m);
	m = drover_rig_machine(&w.r, "web");
	assert_int_equal(machine_load(m, &saved, NULL), 0);
	assert_int_equal(saved.state, MACHINE_BACKOFF);
	assert_true(saved.this_boot);
	assert_int_equal(saved.process.pid, 0);
	assert_true(m->want_known && m->want_running && m->disk_stale);
	assert_int_equal(m->restarts, 7);
	assert_int_equal(m->failures, 3);
	assert_int_equal(m->boot, 9);
	assert_int_equal(m->guest_id, 4);
	assert_int_equal(m->retry_at_ms, 1700000000123);
	assert_int_equal(m->last_cause, CAUSE_GUEST_PANIC);
	assert_string_equal(m->sentence, "it said \"no\"");
	assert_true(m->exit_status.known && m->exit_status.signaled);
	assert_int_equal(m->exit_status.code, 9);
	assert_string_equal(m->disk_path, "/d");
	assert_int_equal(m->nnics, 1);
	assert_string_equal(m->nics[0].mac, "52:00:00:00:00:01");
	assert_int_equal(m->nics[0].net.len, 30);
	assert_int_equal(m->nics[0].ifindex, 5);
	assert_int_equal(m->nics[0].tap_fd, -1);
	assert_int_equal(m->error.code, -ENOSPC);
	assert_string_equal(m->error.msg, "no room");
	assert_int_equal(json_array_size(m->story), 1);
}

static void test_state_damaged(void **state)
{
	struct machine *m = begin("", "");
	struct saved_process saved;
	struct err err;
	char *dir = path_join(w.r.dir, "state/vm/web");

	assert_int_equal(machine_load(m, &saved, &err), -ENOENT);
	assert_int_equal(mkdir_p(dir, 0700, NULL), 0);
	free(dir);
	loaded("", &saved, -EINVAL);
	loaded("{\"version\":1,\"name\":\"we", &saved, -EINVAL);
	loaded("\001\002", &saved, -EINVAL);
	loaded("[]", &saved, -EINVAL);
	/* Other types, states and causes of a later version: what cannot be known is unknown, and
	 * never stopped. */
	m = loaded(
		"{\"state\":\"hibernating\",\"wanted\":7,\"last_cause\":\"gremlins\",\"boot\":\"x\","
		"\"nics\":{\"a\":1},\"pid\":\"12\",\"colour\":[1,2]}",
		&saved, 0);
	assert_int_equal(saved.state, MACHINE_UNKNOWN);
	assert_false(saved.this_boot);
	assert_false(m->want_known);
	assert_int_equal(m->last_cause, CAUSE_NONE);
	assert_int_equal(m->boot, 0);
	assert_int_equal(m->nnics, 0);
	assert_int_equal(saved.process.pid, 0);
	assert_int_equal(m->guest_id, -1);
	/* More nics than there can be, and one that lacks its name. */
	loaded("{\"state\":\"stopped\",\"nics\":[{\"mac\":\"m\",\"tap\":\"t\",\"subnet\":\"junk\"},"
	       "{\"mac\":\"m\"},{\"mac\":\"m\",\"tap\":\"t\"}]}",
		&saved, 0);
	assert_int_equal(m->nnics, 1);
	assert_int_equal(m->nics[0].net.len, 0);
	assert_int_equal(saved.state, MACHINE_STOPPED);
	/* Where one was removed from a run there is a gap; those after it keep their numbers. */
	m = loaded("{\"state\":\"running\",\"nics\":[{},{\"network\":\"taps\",\"mac\":\"m\","
		   "\"tap\":\"t\",\"stage\":\"removing\"},{}]}",
		&saved, 0);
	assert_int_equal(m->nnics, 2);
	assert_null(m->nics[0].network);
	assert_int_equal(m->nics[0].tap_fd, -1);
	assert_int_equal(m->nics[1].stage, NIC_REMOVING);
}

/* A long story keeps its beginning and its end. */
static void test_story(void **state)
{
	struct machine *m = begin("", "");

	for (unsigned i = 0; i < 1000; i++)
		machine_tell(m, "step", "%u", i);
	assert_int_equal(json_array_size(m->story), 200);
	assert_string_equal(json_str(json_array_get(m->story, 0), "text"), "0");
	assert_string_equal(json_str(json_array_get(m->story, 199), "text"), "999");
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_images),
		T(test_disk_run),
		T(test_ephemeral),
		T(test_recreate),
		T(test_pull_always),
		T(test_sizes),
		T(test_failures),
		T(test_without_kernel),
		T(test_cancel),
		T(test_paths),
		T(test_generate),
		T(test_key_sources),
		T(test_state_round),
		T(test_state_damaged),
		T(test_story),
	};

	return cmocka_run_group_tests_name("machine_disk", tests, NULL, NULL);
}
