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
	setenv("NOTIFY_SOCKET", w.path, 1);
	return 0;
}

static int teardown(void **state)
{
	unsetenv("NOTIFY_SOCKET");
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
	assert_string_equal(got(), "READY=1\nSTATUS=0 of 0 machines active");
	drover_rig_machine(&w.r, "a")->state = MACHINE_RUNNING;
	drover_rig_machine(&w.r, "b")->state = MACHINE_BACKOFF;
	drover_rig_machine(&w.r, "c")->state = MACHINE_UNKNOWN;
	/* No longer in the configuration. */
	drover_rig_machine(&w.r, "d")->state = MACHINE_STOPPED;
	notify_ready(&w.r.d);
	assert_string_equal(got(), "READY=1\nSTATUS=2 of 3 machines active");
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
	assert_string_equal(got(), "STOPPING=1");
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
	setenv("NOTIFY_SOCKET", name, 1);
	notify_stopping();
	w.fd = fd;
	assert_string_equal(got(), "STOPPING=1");
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
	setenv("NOTIFY_SOCKET", text, 1);
	notify_stopping();
	setenv("NOTIFY_SOCKET", "relative", 1);
	notify_stopping();
	setenv("NOTIFY_SOCKET", "", 1);
	notify_stopping();
	setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
	notify_stopping();
	unsetenv("NOTIFY_SOCKET");
	notify_stopping();
	assert_string_equal(got(), "");
	setenv("NOTIFY_SOCKET", w.path, 1);
	for (int i = 0; i < 5000; i++)
		notify_stopping();
	assert_int_equal(rig_count_fds(), fds);
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
	};

	return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
