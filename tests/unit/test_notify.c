/* What systemd is told, on a socket of the test's. */
#include "tests/unit/drover-rig.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/file.h"
#include "supervisor/notify.h"

static struct world {
	struct drover_rig r;
	char *path;
	int fd;
} w;

static void set_socket(const char *path)
{
	setenv("NOTIFY_SOCKET", path, 1);
	notify_take();
}

static int setup(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };

	w = (struct world){ 0 };
	drover_rig_init(&w.r,
		"[vm a]\nkernel = /boot/k\n[vm b]\nkernel = /boot/k\n[vm c]\nkernel = /boot/k\n");
	w.path = path_join(w.r.dir, "notify");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", w.path);
	w.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(w.fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
	set_socket(w.path);
	return 0;
}

static int teardown(void **state)
{
	unsetenv("NOTIFY_SOCKET");
	notify_take();
	close(w.fd);
	free(w.path);
	drover_rig_finish(&w.r);
	return 0;
}

static const char *got(void)
{
	static char text[512];
	ssize_t n = recv(w.fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void test_ready(void **state)
{
	notify_ready(&w.r.d);
	assert_string_equal(got(), "READY=1\nSTATUS=0 machines");
	drover_rig_machine(&w.r, "a")->state = MACHINE_RUNNING;
	drover_rig_machine(&w.r, "b")->state = MACHINE_BACKOFF;
	drover_rig_machine(&w.r, "c")->state = MACHINE_UNKNOWN;
	/* No longer in the configuration. */
	drover_rig_machine(&w.r, "d")->state = MACHINE_STOPPED;
	notify_ready(&w.r.d);
	assert_string_equal(got(), "READY=1\nSTATUS=3 machines: 1 running, 1 backoff, 1 unknown");
	assert_string_equal(got(), "");
}

/* The time has to lie between ours before and after (sd_notify(3), MONOTONIC_USEC). */
static void test_reloading(void **state)
{
	unsigned long long said, now;
	struct timespec before, after;

	clock_gettime(CLOCK_MONOTONIC, &before);
	notify_reloading();
	clock_gettime(CLOCK_MONOTONIC, &after);
	assert_int_equal(sscanf(got(), "RELOADING=1\nMONOTONIC_USEC=%llu", &said), 1);
	now = (unsigned long long)before.tv_sec * 1000000 +
	      (unsigned long long)before.tv_nsec / 1000;
	assert_true(said >= now);
	now = (unsigned long long)after.tv_sec * 1000000 + (unsigned long long)after.tv_nsec / 1000;
	assert_true(said <= now);
}

static void test_stopping(void **state)
{
	notify_stopping();
	assert_string_equal(got(), "STOPPING=1\nSTATUS=leaving");
}

static void test_abstract(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0), keep = w.fd;
	char name[64];

	snprintf(name, sizeof(name), "@drover-test-%d", (int)getpid());
	memcpy(sa.sun_path + 1, name + 1, strlen(name) - 1);
	assert_int_equal(
		bind(fd, (struct sockaddr *)&sa,
			(socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
		0);
	set_socket(name);
	notify_stopping();
	w.fd = fd;
	assert_string_equal(got(), "STOPPING=1\nSTATUS=leaving");
	w.fd = keep;
	assert_string_equal(got(), "");
	close(fd);
}

/* Nobody there, nonsense, or a reader that does not read: told to nobody, without waiting. */
static void test_nobody(void **state)
{
	unsigned fds = rig_count_fds();
	char text[200];

	memset(text, 'x', sizeof(text));
	text[0] = '/';
	text[sizeof(text) - 1] = '\0';
	set_socket(text);
	notify_stopping();
	set_socket("relative");
	notify_stopping();
	set_socket("");
	notify_stopping();
	set_socket("/nonexistent/notify");
	notify_stopping();
	unsetenv("NOTIFY_SOCKET");
	notify_take();
	notify_stopping();
	assert_string_equal(got(), "");
	set_socket(w.path);
	for (int i = 0; i < 5000; i++)
		notify_stopping();
	assert_int_equal(rig_count_fds(), fds);
}

static bool pinged(void *arg)
{
	unsigned *n = arg;

	*n += strcmp(got(), "WATCHDOG=1") == 0;
	return *n >= 3;
}

static void open_with(const char *usec, int pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", pid);
	setenv("NOTIFY_SOCKET", w.path, 1);
	setenv("WATCHDOG_USEC", usec, 1);
	setenv("WATCHDOG_PID", text, 1);
	notify_take();
	assert_null(getenv("NOTIFY_SOCKET"));
	assert_null(getenv("WATCHDOG_USEC"));
	assert_null(getenv("WATCHDOG_PID"));
	notify_open(&w.r.d);
}

/* Its handles are gone a turn later. */
static void closed(void)
{
	notify_close();
	rig_run_for(w.r.d.loop, 1);
}

/* The loop has nothing else to do. */
static void test_watchdog(void **state)
{
	static const char *const off[] = { "0", "", "nonsense", "18446744073709551615" };
	unsigned n = 0;

	open_with("20000", (int)getpid());
	drover_rig_until(&w.r, pinged, &n);
	closed();
	while (got()[0] != '\0')
		;
	/* Of another process, or not asked for. */
	open_with("20000", (int)getpid() + 1);
	rig_run_for(w.r.d.loop, 100);
	closed();
	for (size_t i = 0; i < ARRAY_LEN(off); i++) {
		open_with(off[i], (int)getpid());
		rig_run_for(w.r.d.loop, 30);
		closed();
	}
	assert_string_equal(got(), "");
	/* An exec hands all of it on. */
	open_with("7", (int)getpid());
	closed();
	notify_pass();
	assert_string_equal(getenv("NOTIFY_SOCKET"), w.path);
	assert_string_equal(getenv("WATCHDOG_USEC"), "7");
	assert_non_null(getenv("WATCHDOG_PID"));
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
}

static bool has_news(void *arg)
{
	char *text = arg;

	snprintf(text, 128, "%s", got());
	return text[0] != '\0';
}

static void test_status_follows(void **state)
{
	struct machine *m = drover_rig_machine(&w.r, "a");
	char text[128];

	notify_open(&w.r.d);
	/* Before READY=1 nothing is said. */
	events_emit(w.r.d.events, "vm", "a", "state", NULL);
	rig_run_for(w.r.d.loop, 300);
	assert_string_equal(got(), "");
	notify_ready(&w.r.d);
	assert_string_equal(got(), "READY=1\nSTATUS=1 machine: 1 stopped");
	m->state = MACHINE_RUNNING;
	for (int i = 0; i < 10; i++)
		events_emit(w.r.d.events, "vm", "a", "state", NULL);
	drover_rig_until(&w.r, has_news, text);
	assert_string_equal(text, "STATUS=1 machine: 1 running");
	/* An event that changes nothing of it is none of systemd's business. */
	events_emit(w.r.d.events, "vm", "a", "rebooted", NULL);
	rig_run_for(w.r.d.loop, 300);
	assert_string_equal(got(), "");
	notify_close();
	events_emit(w.r.d.events, "vm", "a", "state", NULL);
	m->state = MACHINE_STOPPED;
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_ready),
		T(test_reloading),
		T(test_stopping),
		T(test_abstract),
		T(test_nobody),
		T(test_watchdog),
		T(test_status_follows),
	};

	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
