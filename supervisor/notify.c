#include "supervisor/notify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/log.h"
#include "supervisor/machine.h"

/* Many machines change at once: systemd is told of it once. */
#define STATUS_DELAY_MS 200

static struct {
	char *socket, *usec, *pid; /* of the environment; NULL: not there */
	struct drover *d;          /* NULL: not open */
	struct events_sub *sub;
	struct deadline soon;
	uv_timer_t watchdog;
	bool watched;
	char status[256];
} n;

static void take(const char *name, char **out)
{
	const char *value = getenv(name);

	free(*out);
	*out = value != NULL ? strdup(value) : NULL;
	unsetenv(name);
}

void notify_take(void)
{
	take("NOTIFY_SOCKET", &n.socket);
	take("WATCHDOG_USEC", &n.usec);
	take("WATCHDOG_PID", &n.pid);
}

static void pass(const char *name, const char *value)
{
	if (value != NULL && setenv(name, value, 1) < 0)
		log_error("no memory to pass %s on", name);
}

void notify_pass(void)
{
	pass("NOTIFY_SOCKET", n.socket);
	pass("WATCHDOG_USEC", n.usec);
	pass("WATCHDOG_PID", n.pid);
}

static void notify(const char *text)
{
	const char *path = n.socket;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@') ||
		(len = strlen(path)) >= sizeof(sa.sun_path))
		return;
	memcpy(sa.sun_path, path, len);
	if (path[0] == '@')
		sa.sun_path[0] = '\0'; /* the abstract namespace */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	/* systemd that is not there any more is no concern of ours. */
	(void)!sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&sa,
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

void notify_status_text(const struct drover *d, char *out, size_t cap)
{
	unsigned count[MACHINE_STATES] = { 0 }, all = 0;
	const struct machine *m;
	const char *sep = ": ";
	size_t len;

	list_for_each_entry (m, &d->machines, entry) {
		/* One that was removed and rests is on nobody's mind. */
		if (m->cfg == NULL && !machine_active(m))
			continue;
		all++;
		count[m->state]++;
	}
	snprintf(out, cap, "%u machine%s", all, all == 1 ? "" : "s");
	for (int s = 0; s < MACHINE_STATES; s++) {
		/* The running ones come first, whatever the enum's order. */
		enum machine_state state = s == 0                 ? MACHINE_RUNNING
					   : s <= MACHINE_RUNNING ? (enum machine_state)(s - 1)
								  : (enum machine_state)s;

		len = strlen(out);
		if (count[state] == 0)
			continue;
		snprintf(out + len, cap - len, "%s%u %s", sep, count[state],
			machine_state_name(state));
		sep = ", ";
	}
}

static void send_status(void *arg)
{
	char status[sizeof(n.status)], text[sizeof(n.status) + 16];

	notify_status_text(n.d, status, sizeof(status));
	if (strcmp(status, n.status) == 0)
		return;
	memcpy(n.status, status, sizeof(status));
	snprintf(text, sizeof(text), "STATUS=%s", status);
	notify(text);
}

static void on_event(void *arg, uint64_t seq, const char *line, size_t len)
{
	/* Before the first READY=1 systemd shows what the daemon is at. */
	if (n.status[0] != '\0' && !n.d->stopping && !deadline_armed(&n.soon))
		deadline_set(&n.soon, STATUS_DELAY_MS);
}

static void ping(uv_timer_t *timer)
{
	notify("WATCHDOG=1");
}

/* The interval of sd_watchdog_enabled(3) in ms; 0: not asked for, or of another process. */
static uint64_t watchdog_ms(void)
{
	unsigned long long usec = n.usec != NULL ? strtoull(n.usec, NULL, 10) : 0;

	if (n.pid != NULL && atoi(n.pid) != getpid())
		return 0;
	return usec == 0 || usec == UINT64_MAX ? 0 : MAX(usec / 1000, 2);
}

void notify_open(struct drover *d)
{
	uint64_t interval = watchdog_ms() / 2;

	if (n.socket == NULL)
		return;
	n.d = d;
	n.status[0] = '\0';
	deadline_init(&n.soon, d->loop, send_status, NULL);
	n.sub = events_subscribe(d->events, on_event, NULL);
	n.watched = interval > 0;
	if (!n.watched)
		return;
	uv_timer_init(d->loop, &n.watchdog);
	uv_timer_start(&n.watchdog, ping, 0, interval);
}

void notify_close(void)
{
	if (n.d == NULL)
		return;
	events_unsubscribe(n.sub);
	n.sub = NULL;
	deadline_close(&n.soon, NULL);
	if (n.watched)
		uv_close((uv_handle_t *)&n.watchdog, NULL);
	n.d = NULL;
}

void notify_ready(struct drover *d)
{
	char text[sizeof(n.status) + 32];

	notify_status_text(d, n.status, sizeof(n.status));
	snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", n.status);
	notify(text);
}

void notify_reloading(void)
{
	struct timespec ts;
	char text[96];

	clock_gettime(CLOCK_MONOTONIC, &ts);
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu",
		(unsigned long long)ts.tv_sec * 1000000 + (unsigned long long)ts.tv_nsec / 1000);
	notify(text);
}

void notify_stopping(void)
{
	notify("STOPPING=1\nSTATUS=leaving");
}
