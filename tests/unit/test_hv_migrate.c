/* Live migration between two real QEMUs, with the nano guest under TCG. */
#include "tests/unit/hv-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/file.h"

/* So slow that the end of a migration of touched memory never comes. */
#define SLOW 65536

static char *qemu, *nano;

/* Sender and receiver, each on a loop of its own. */
struct pair {
	struct hv_rig out, in;
	int fds[2];
	struct hv_migration to, from;
	bool moved;
	bool mixed;   /* disks, then memory */
	bool copying; /* all that is told of it is of its disks */
};

static struct pair *current; /* the operations of a rig have no argument of their own */

static int setup(void **state)
{
	qemu = find_program("qemu-system-x86_64");
	if (qemu == NULL) {
		print_message("# no qemu-system-x86_64\n");
		return 0;
	}
	if (system("sh tests/e2e/nano/build \"${B:-build}/nano.elf\"") != 0)
		return -1;
	nano = hv_rig_program("nano.elf");
	return 0;
}

static int teardown(void **state)
{
	free(qemu);
	free(nano);
	return 0;
}

static void init(struct hv_rig *r, const char *machine)
{
	hv_rig_init(r, qemu);
	r->spec.machine = machine;
	r->spec.kernel = nano;
	r->spec.cmdline = "";
}

static void receiver(struct pair *p, const char *machine)
{
	init(&p->in, machine);
	p->in.spec.incoming = true;
}

/* Connected by descriptors; the receiver is not started yet. */
static void pair_init(struct pair *p, const char *machine)
{
	if (qemu == NULL)
		skip();
	*p = (struct pair){ 0 };
	current = p;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fds), 0);
	p->to.fd = p->fds[0];
	p->from.fd = p->fds[1];
	init(&p->out, machine);
	receiver(p, machine);
}

static void pair_up(struct pair *p)
{
	hv_rig_up(&p->out);
	hv_rig_until_console(&p->out, "NANO-READY");
	hv_rig_up(&p->in);
	assert_int_equal(hv_status(p->in.hv), HV_STATUS_INCOMING);
}

/* A peer that dies must be seen to: the hypervisors have the only descriptors. */
static void let_go_of_fds(struct pair *p)
{
	for (size_t i = 0; i < ARRAY_LEN(p->fds); i++)
		if (p->fds[i] >= 0)
			close(p->fds[i]);
	p->fds[0] = p->fds[1] = -1;
}

static void pair_finish(struct pair *p)
{
	let_go_of_fds(p);
	hv_rig_finish(&p->in);
	hv_rig_finish(&p->out);
}

static void on_progress(void *arg, const struct hv_progress *progress)
{
	if (!current->mixed)
		assert_string_equal(progress->step, current->copying ? "disks" : "memory");
	assert_true(progress->total >= progress->done);
	current->moved = true;
}

static void send_it(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_migrate_out(hv, &current->to, on_progress, done, arg);
}

static void receive_it(struct hv *hv, hv_done_fn *done, void *arg)
{
	hv_migrate_in(hv, &current->from, done, arg);
}

/* Runs both loops. */
static void pump(const bool *flag)
{
	for (unsigned i = 0; i < 60000 && !*flag; i++) {
		uv_run(current->out.loop, UV_RUN_NOWAIT);
		uv_run(current->in.loop, UV_RUN_NOWAIT);
		usleep(1000);
	}
	assert_true(*flag);
}

static void until_op(struct hv_rig *r)
{
	pump(&r->op_done);
}

static int send_now(struct pair *p)
{
	hv_rig_op_start(&p->out, send_it);
	until_op(&p->out);
	return p->out.err.code;
}

static void count(struct hv_rig *r, const char *expected)
{
	buf_clear(&r->console);
	assert_int_equal(hv_console_write(r->hv, "N", 1), 0);
	hv_rig_until_console(r, expected);
}

static void lives(struct hv_rig *r)
{
	assert_int_equal(hv_status(r->hv), HV_STATUS_RUNNING);
	buf_clear(&r->console);
	assert_int_equal(hv_console_write(r->hv, "x", 1), 0);
	hv_rig_until_console(r, "x");
}

/* A guest that has counted to two goes on with three over there. */
static void goes_over(struct pair *p)
{
	count(&p->out, "NANO-COUNT 0001");
	count(&p->out, "NANO-COUNT 0002");
	hv_rig_op_start(&p->in, receive_it);
	assert_int_equal(send_now(p), 0);
	assert_int_equal(hv_status(p->out.hv), HV_STATUS_PAUSED);
	until_op(&p->in);
	if (p->in.err.code != 0)
		fail_msg("%s", p->in.err.msg);
	assert_int_equal(hv_status(p->in.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&p->out, hv_quit), 0);
	hv_rig_until_exit(&p->out);
	assert_int_equal(hv_rig_op(&p->in, hv_resume), 0);
	count(&p->in, "NANO-COUNT 0003");
	/* It was not booted there. */
	assert_null(strstr(buf_str(&p->in.console), "NANO-READY"));
}

static void over_descriptors(const char *machine)
{
	struct pair p;

	pair_init(&p, machine);
	pair_up(&p);
	goes_over(&p);
	pair_finish(&p);
}

static void test_descriptors(void **state)
{
	over_descriptors("q35");
	over_descriptors("microvm");
}

/* The receiver listens when its monitor tells the address. */
static char *await_listening(struct hv_rig *r)
{
	static char address[64];
	char *port;

	for (;;) {
		hv_rig_execute(r, "{\"execute\":\"query-migrate\"}", 0);
		assert_int_equal(r->err.code, 0);
		if (strstr(r->reply, "socket-address") != NULL)
			break;
		rig_run_for(r->loop, 10);
	}
	port = strstr(r->reply, "\"port\":\"");
	snprintf(address, sizeof(address), "tcp:127.0.0.1:%d", port != NULL ? atoi(port + 8) : 0);
	return address;
}

static void on_arrived(void *arg, const struct err *err)
{
	assert_null(err);
	*(bool *)arg = true;
}

/* By an address: the receiver listens, the sender connects. */
static void over(const char *address)
{
	bool arrived = false;
	struct pair p;
	char *path;

	pair_init(&p, "q35");
	path = str_printf("unix:%s/migration.sock", p.in.dir);
	pair_up(&p);
	p.from = (struct hv_migration){ .uri = address != NULL ? address : path, .fd = -1 };
	hv_migrate_in(p.in.hv, &p.from, on_arrived, &arrived);
	p.to = p.from;
	if (address != NULL)
		p.to.uri = await_listening(&p.in);
	else
		await_listening(&p.in);
	count(&p.out, "NANO-COUNT 0001");
	assert_int_equal(send_now(&p), 0);
	pump(&arrived);
	assert_int_equal(hv_rig_op(&p.in, hv_resume), 0);
	count(&p.in, "NANO-COUNT 0002");
	pair_finish(&p);
	free(path);
}

static void test_addresses(void **state)
{
	over(NULL);
	over("tcp:127.0.0.1:0");
}

/* Until something has been sent, at a pace at which it does not end. */
static void half_way(struct pair *p)
{
	buf_clear(&p->out.console);
	hv_console_write(p->out.hv, "M", 1);
	hv_rig_until_console(&p->out, "NANO-TOUCHED");
	p->to.max_bandwidth = SLOW;
	hv_rig_op_start(&p->in, receive_it);
	hv_rig_op_start(&p->out, send_it);
	pump(&p->moved);
	let_go_of_fds(p);
	rig_run_for(p->in.loop, 50);
	assert_false(p->out.op_done || p->in.op_done);
	assert_int_equal(hv_status(p->in.hv), HV_STATUS_INCOMING);
	lives(&p->out);
}

static void begun(struct pair *p)
{
	pair_init(p, "q35");
	pair_up(p);
	half_way(p);
}

/* And once more to another receiver, which shows that nothing was left of the first. */
static void to_another(struct pair *p)
{
	hv_rig_until_exit(&p->in);
	hv_rig_finish(&p->in);
	let_go_of_fds(p);
	receiver(p, "q35");
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->fds), 0);
	p->to = (struct hv_migration){ .fd = p->fds[0] };
	p->from = (struct hv_migration){ .fd = p->fds[1] };
	hv_rig_up(&p->in);
	goes_over(p);
}

static void test_cancelled(void **state)
{
	struct pair p;

	begun(&p);
	hv_job_cancel(p.out.hv);
	assert_false(p.out.op_done);
	until_op(&p.out);
	assert_int_equal(p.out.err.code, -ECANCELED);
	lives(&p.out);
	until_op(&p.in);
	assert_int_not_equal(p.in.err.code, 0);
	to_another(&p);
	pair_finish(&p);
}

static void test_receiver_killed(void **state)
{
	struct pair p;

	begun(&p);
	kill(p.in.process.pid, SIGKILL);
	until_op(&p.out);
	assert_int_equal(p.out.err.code, -EIO);
	lives(&p.out);
	to_another(&p);
	pair_finish(&p);
}

static void test_sender_killed(void **state)
{
	struct pair p;

	begun(&p);
	kill(p.out.process.pid, SIGKILL);
	until_op(&p.out);
	assert_int_equal(p.out.err.code, -EUNATCH);
	hv_rig_until_exit(&p.out);
	/* Half a guest is none. */
	until_op(&p.in);
	assert_int_not_equal(p.in.err.code, 0);
	hv_rig_until_exit(&p.in);
	pair_finish(&p);
}

/* The sender knows of a receiver that does not take what it gets, and goes on. */
static void does_not_fit(uint64_t memory_mib, bool balloon, const char *words)
{
	struct pair p;

	pair_init(&p, "q35");
	p.in.spec.memory_mib = memory_mib;
	p.out.spec.balloon = balloon;
	pair_up(&p);
	hv_rig_op_start(&p.in, receive_it);
	hv_rig_op_start(&p.out, send_it);
	until_op(&p.in);
	let_go_of_fds(&p);
	assert_int_not_equal(p.in.err.code, 0);
	if (strstr(p.in.err.msg, words) == NULL)
		fail_msg("QEMU's own words are not in: %s", p.in.err.msg);
	hv_rig_until_exit(&p.in);
	until_op(&p.out);
	assert_int_equal(p.out.err.code, -EIO);
	lives(&p.out);
	pair_finish(&p);
}

static void test_does_not_fit(void **state)
{
	does_not_fit(32, false, "ram");
	/* A device that is not there shows when everything has been written. */
	does_not_fit(16, true, "balloon");
}

static void test_nobody_there(void **state)
{
	struct pair p;

	pair_init(&p, "q35");
	pair_up(&p);
	p.to = (struct hv_migration){ .uri = "unix:/nonexistent/x", .fd = -1 };
	assert_int_not_equal(send_now(&p), 0);
	lives(&p.out);
	pair_finish(&p);
}

static void test_refused(void **state)
{
	struct pair p;

	pair_init(&p, "q35");
	pair_up(&p);
	assert_int_equal(hv_rig_op(&p.out, receive_it), -EBUSY);
	assert_int_equal(hv_rig_op(&p.out, hv_pause), 0);
	assert_int_equal(send_now(&p), -EBUSY);
	assert_non_null(strstr(p.out.err.msg, "the guest is paused, not running"));
	assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
	half_way(&p);
	/* A second one, which is refused; the first goes on. */
	hv_rig_op_start(&p.out, send_it);
	until_op(&p.out);
	assert_int_equal(p.out.err.code, -EBUSY);
	hv_job_cancel(p.out.hv);
	p.out.op_done = false;
	until_op(&p.out);
	assert_int_equal(p.out.err.code, -ECANCELED);
	pair_finish(&p);
}

/* ---- with disks ---- */

/* More than QEMU copies at once, however slow it is to be: up to 16 pieces of 1 MiB. */
#define DISK_SIZE (64 << 20)
/* Slow, but the next piece, which finds that nobody is there, comes soon. */
#define DISK_SPEED (2 << 20)

static const char *const disk_ids[] = { "disk0" };

/* Of random bytes, or of none. */
static char *make_disk(struct hv_rig *r, bool filled)
{
	char *path = str_printf("%s/disk.raw", r->dir);
	char *cmd = str_printf(
		"head -c %d %s >%s", DISK_SIZE, filled ? "/dev/urandom" : "/dev/zero", path);

	assert_int_equal(system(cmd), 0);
	free(cmd);
	return path;
}

struct disks {
	struct pair p;
	struct hv_disk out, in;
	char *socket;
	int listener;
};

static void serve(struct hv *hv, hv_done_fn *done, void *arg)
{
	struct disks *d = container_of(current, struct disks, p);

	hv_serve_disks(hv, d->listener, disk_ids, 1, done, arg);
}

static void disks_up(struct disks *d)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	pair_init(&d->p, "q35");
	d->out = (struct hv_disk){ .path = make_disk(&d->p.out, true) };
	d->in = (struct hv_disk){ .path = make_disk(&d->p.in, false) };
	d->p.out.spec.disks = &d->out;
	d->p.in.spec.disks = &d->in;
	d->p.out.spec.ndisks = d->p.in.spec.ndisks = 1;
	pair_up(&d->p);
	d->socket = str_printf("%s/nbd.sock", d->p.in.dir);
	snprintf(un.sun_path, sizeof(un.sun_path), "%s", d->socket);
	d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(d->listener, (struct sockaddr *)&un, sizeof(un)), 0);
	assert_int_equal(listen(d->listener, 5), 0);
	assert_int_equal(hv_rig_op(&d->p.in, serve), 0);
	d->p.to.nbd = d->socket;
	d->p.to.disks = disk_ids;
	d->p.to.ndisks = 1;
}

static void disks_finish(struct disks *d)
{
	pair_finish(&d->p);
	close(d->listener);
	unlink(d->socket);
	free(d->socket);
	free((char *)(uintptr_t)d->out.path);
	free((char *)(uintptr_t)d->in.path);
}

static bool same(const struct disks *d)
{
	char *cmd = str_printf("cmp -s %s %s", d->out.path, d->in.path);
	int r = system(cmd);

	free(cmd);
	return r == 0;
}

/* No job, and no node of somebody else's disk. */
static void nothing_left(struct hv_rig *r)
{
	hv_rig_execute(r, "{\"execute\":\"query-jobs\"}", 0);
	assert_int_equal(r->err.code, 0);
	assert_string_equal(r->reply, "[]");
	hv_rig_execute(r, "{\"execute\":\"query-named-block-nodes\"}", 0);
	assert_int_equal(r->err.code, 0);
	assert_null(strstr(r->reply, "drover-copy"));
}

static void test_disks(void **state)
{
	struct disks d;

	disks_up(&d);
	d.p.mixed = true;
	goes_over(&d.p);
	assert_true(same(&d));
	disks_finish(&d);
}

static void test_disks_cancelled(void **state)
{
	struct disks d;

	disks_up(&d);
	d.p.to.max_bandwidth = SLOW;
	d.p.copying = true;
	hv_rig_op_start(&d.p.in, receive_it);
	hv_rig_op_start(&d.p.out, send_it);
	pump(&d.p.moved);
	hv_job_cancel(d.p.out.hv);
	until_op(&d.p.out);
	assert_int_equal(d.p.out.err.code, -ECANCELED);
	lives(&d.p.out);
	nothing_left(&d.p.out);
	assert_false(same(&d));
	disks_finish(&d);
}

static void test_disks_lost(void **state)
{
	struct disks d;

	disks_up(&d);
	/* Nobody answers there. */
	d.p.to.nbd = "/nonexistent/nbd.sock";
	assert_int_not_equal(send_now(&d.p), 0);
	lives(&d.p.out);
	nothing_left(&d.p.out);
	/* Somebody does, and dies meanwhile. */
	d.p.to.nbd = d.socket;
	d.p.to.max_bandwidth = DISK_SPEED;
	d.p.copying = true;
	hv_rig_op_start(&d.p.out, send_it);
	pump(&d.p.moved);
	hv_kill(d.p.in.hv, SIGKILL);
	hv_rig_until_exit(&d.p.in);
	until_op(&d.p.out);
	assert_int_not_equal(d.p.out.err.code, 0);
	assert_non_null(strstr(d.p.out.err.msg, "could not copy disk0"));
	lives(&d.p.out);
	nothing_left(&d.p.out);
	disks_finish(&d);
}

/* One that waits for its guest. */
static void test_receiver_cancelled(void **state)
{
	struct pair p;

	pair_init(&p, "q35");
	pair_up(&p);
	hv_rig_op_start(&p.in, receive_it);
	rig_run_for(p.in.loop, 50);
	hv_job_cancel(p.in.hv);
	assert_false(p.in.op_done);
	until_op(&p.in);
	assert_int_equal(p.in.err.code, -ECANCELED);
	lives(&p.out);
	pair_finish(&p);
}

/* Its owner goes, another comes, finds the guest running and ends what the first has begun. */
static void test_adopted(void **state)
{
	struct pair p;

	begun(&p);
	hv_rig_adopt(&p.out);
	assert_int_equal(p.out.err.code, 0);
	lives(&p.out);
	hv_job_cancel(p.out.hv);
	until_op(&p.in);
	assert_int_not_equal(p.in.err.code, 0);
	lives(&p.out);
	to_another(&p);
	pair_finish(&p);
}

/*
 * Until the receiver runs the disk is nobody's but the sender's, who can take its guest back; and
 * then the receiver cannot run it beside him.
 */
static void test_taken_back(void **state)
{
	struct hv_disk disk = { 0 };
	struct pair p;
	char *path;
	int fd;

	pair_init(&p, "q35");
	path = path_join(p.out.dir, "disk.raw");
	disk.path = path;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	p.out.spec.disks = p.in.spec.disks = &disk;
	p.out.spec.ndisks = p.in.spec.ndisks = 1;
	pair_up(&p);
	hv_rig_op_start(&p.in, receive_it);
	assert_int_equal(send_now(&p), 0);
	until_op(&p.in);
	assert_int_equal(p.in.err.code, 0);
	/* By another owner, who knows nothing of it. */
	hv_rig_adopt(&p.out);
	assert_int_equal(hv_status(p.out.hv), HV_STATUS_PAUSED);
	assert_int_equal(hv_rig_op(&p.out, hv_resume), 0);
	lives(&p.out);
	assert_int_not_equal(hv_rig_op(&p.in, hv_resume), 0);
	assert_int_equal(hv_status(p.in.hv), HV_STATUS_PAUSED);
	lives(&p.out);
	pair_finish(&p);
	free(path);
}

/* The owner of a migration may go at any time. */
static void test_destroyed(void **state)
{
	struct pair p;

	begun(&p);
	hv_rig_destroy(&p.in);
	hv_rig_destroy(&p.out);
	assert_false(p.out.op_done || p.in.op_done);
	pair_finish(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_cancelled),
		cmocka_unit_test(test_receiver_killed),
		cmocka_unit_test(test_sender_killed),
		cmocka_unit_test(test_does_not_fit),
		cmocka_unit_test(test_nobody_there),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_receiver_cancelled),
		cmocka_unit_test(test_adopted),
		cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_destroyed),
		cmocka_unit_test(test_disks),
		cmocka_unit_test(test_disks_cancelled),
		cmocka_unit_test(test_disks_lost),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
