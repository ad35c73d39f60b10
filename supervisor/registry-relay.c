#include "supervisor/registry-relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/file.h"
#include "lib/log.h"
#include "supervisor/service.h"

#define CHILD_FD 3
#define BACKLOG  128

struct registry_relay {
	struct drover *d;
	char *name, *upstream, *spool;
	struct service *service;
	int fd; /* listens; -1 with an adopted relay, and before the first start */
	uint16_t port;
	void (*lost)(void *arg);
	void *arg;
};

/* port 0: any. */
static int listen_at(struct registry_relay *rr, uint16_t port, struct err *err)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sa);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, r;

	if (fd < 0)
		return err_errno(err, -errno, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&sa, len) < 0 || listen(fd, BACKLOG) < 0 ||
		getsockname(fd, (struct sockaddr *)&sa, &len) < 0) {
		r = err_errno(err, -errno, "listen at 127.0.0.1:%u", (unsigned)port);
		close(fd);
		return r;
	}
	rr->fd = fd;
	rr->port = ntohs(sa.sin_port);
	service_set_fd(rr->service, fd, CHILD_FD);
	return 0;
}

static void stop_listening(struct registry_relay *rr)
{
	if (rr->fd >= 0)
		close(rr->fd);
	rr->fd = -1;
	rr->port = 0;
	service_set_fd(rr->service, -1, CHILD_FD);
}

static bool died(void *arg, const struct child_status *status)
{
	struct registry_relay *rr = arg;
	struct err err;

	if (rr->fd >= 0 || listen_at(rr, rr->port, &err) == 0)
		return true;
	log_msg(LOG_LVL_WARN, rr->name, "%s", err.msg);
	rr->port = 0;
	rr->lost(rr->arg);
	return false;
}

static int make_argv(struct registry_relay *rr, struct strv *argv, struct err *err)
{
	char *program = path_join(rr->d->libexec, "drover-image");

	if (program != NULL)
		strv_add(argv, program);
	strv_add(argv, "relay");
	strv_add(argv, "--listen-fd");
	strv_addf(argv, "%d", CHILD_FD);
	strv_add(argv, "--upstream");
	strv_add(argv, rr->upstream);
	strv_add(argv, "--spool");
	strv_add(argv, rr->spool);
	free(program);
	/* Its sandbox allows what is there when it begins. */
	return program == NULL || argv->bad ? err_nomem(err) : mkdir_p(rr->spool, 0750, err);
}

int registry_relay_create(struct registry_relay **out, struct drover *d,
	const struct registry_relay_spec *spec, struct err *err)
{
	struct registry_relay *rr = calloc(1, sizeof(*rr));
	struct service_callbacks cb = { .died = died, .arg = rr };
	char *log = str_printf("%s/log/registry-%s-relay.log", d->state_dir, spec->registry);
	struct service_spec service = { .kind = "registry", .owner = spec->owner, .log_path = log };
	int r = -ENOMEM;

	if (rr != NULL) {
		rr->d = d;
		rr->fd = -1;
		rr->lost = spec->lost;
		rr->arg = spec->arg;
		rr->name = str_printf("%s-relay", spec->registry);
		rr->upstream = strdup(spec->upstream);
		rr->spool = strdup(spec->spool);
		service.name = rr->name;
		if (log != NULL && rr->name != NULL && rr->upstream != NULL && rr->spool != NULL)
			r = service_create(&rr->service, d, &service, &cb, err);
	}
	free(log);
	if (r < 0) {
		registry_relay_destroy(rr);
		return err_nomem(err);
	}
	*out = rr;
	return 0;
}

int registry_relay_start(struct registry_relay *rr, uint16_t port, struct err *err)
{
	struct strv argv = { 0 };
	int r = 0;

	if (service_up(rr->service))
		return 0;
	if (rr->fd < 0)
		r = listen_at(rr, port, err);
	if (r == 0)
		r = make_argv(rr, &argv, err);
	if (r == 0)
		r = service_start(rr->service, &argv, err);
	strv_finish(&argv);
	return r;
}

int registry_relay_adopt(struct registry_relay *rr, uint16_t port, struct err *err)
{
	struct strv argv = { 0 };
	int r = make_argv(rr, &argv, err);

	if (r == 0)
		r = service_adopt(rr->service, &argv, err);
	if (r == 0)
		rr->port = port;
	strv_finish(&argv);
	return r;
}

bool registry_relay_up(const struct registry_relay *rr)
{
	return service_up(rr->service) || rr->fd >= 0;
}

uint16_t registry_relay_port(const struct registry_relay *rr)
{
	return rr->port;
}

void registry_relay_stop(struct registry_relay *rr, void (*done)(void *arg), void *arg)
{
	stop_listening(rr);
	service_stop(rr->service, done, arg);
}

void registry_relay_destroy(struct registry_relay *rr)
{
	if (rr == NULL)
		return;
	if (rr->service != NULL)
		stop_listening(rr);
	service_destroy(rr->service);
	free(rr->name);
	free(rr->upstream);
	free(rr->spool);
	free(rr);
}
