/* drover ssh: ssh(1) with what droverd knows of the machine. */
#include <errno.h>
#include <fcntl.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "ctl/api.h"
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"

#define SSH_PORT   22
#define TRY_MS     2000 /* for one attempt to connect and be greeted */
#define BETWEEN_MS 100

static bool has_ended(const char *state)
{
	return str_eq(state, "stopped") || str_eq(state, "failed") || str_eq(state, "removed");
}

/* Of a machine that is reached by a port of the host this is not the usual one. */
static uint16_t port_of(const json_t *vm)
{
	return (uint16_t)json_int(json_obj(vm, "ssh"), "port", SSH_PORT);
}

/* CTL_OK with *address NULL when it is not known yet. */
static int ask(struct ctl *c, json_t **vm, const char **address)
{
	struct api_call call = { 0 };
	const char *state;
	int ret;

	api_path(&call, "/vms/%s", c->args.v[0]);
	ret = api_get(c, vm, &call);
	if (ret != CTL_OK)
		return ret;
	state = json_str(*vm, "state");
	*address = json_str(json_obj(*vm, "ssh"), "address");
	if (has_ended(state)) {
		ctl_fail("vm %s is %s", c->args.v[0], state);
		json_decref(*vm);
		return CTL_WRONG_STATE;
	}
	return CTL_OK;
}

static int open_socket(const char *address, uint16_t port, int *out)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	bool is4 = inet_pton(AF_INET, address, &in4.sin_addr) == 1;
	int fd;

	if (!is4 && inet_pton(AF_INET6, address, &in6.sin6_addr) != 1)
		return -EINVAL;
	fd = socket(is4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	*out = fd;
	if (connect(fd, is4 ? (struct sockaddr *)&in4 : (struct sockaddr *)&in6,
		    is4 ? sizeof(in4) : sizeof(in6)) == 0 ||
		errno == EINPROGRESS)
		return 0;
	return -errno;
}

/* A server that is there says "SSH-" first (RFC 4253 section 4.2). */
static bool answers(const char *address, uint16_t port, uint64_t timeout_ms)
{
	char text[4];
	int fd = -1;
	bool ok = false;

	if (open_socket(address, port, &fd) == 0) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		ok = poll(&p, 1, (int)timeout_ms) == 1 && read(fd, text, 4) == 4 &&
		     memcmp(text, "SSH-", 4) == 0;
	}
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Asks again each time: the address can come late, and the machine can end. */
static int await_ssh(struct ctl *c, uint64_t wait_s, json_t **vm, const char **address)
{
	uint64_t end = clock_mono_ms() + wait_s * 1000, now;
	int ret;

	for (;;) {
		ret = ask(c, vm, address);
		if (ret != CTL_OK)
			return ret;
		if (wait_s == 0 && *address != NULL)
			return CTL_OK;
		now = clock_mono_ms();
		if (*address != NULL && answers(*address, port_of(*vm),
						MIN((uint64_t)TRY_MS, end > now ? end - now : 1)))
			return CTL_OK;
		if (clock_mono_ms() >= end)
			break;
		json_decref(*vm);
		poll(NULL, 0, BETWEEN_MS);
	}
	if (*address == NULL)
		ret = ctl_fail("vm %s has no address%s", c->args.v[0],
			wait_s == 0 ? " yet (--wait SECONDS waits for it)" : "");
	else
		ret = ctl_fail("vm %s does not answer on port %u of %s after %llu s", c->args.v[0],
			port_of(*vm), *address, (unsigned long long)wait_s);
	json_decref(*vm);
	return ret;
}

/* Host keys are new with each machine, and the address is on a link of our own. */
static void make_argv(
	struct strv *argv, const json_t *ssh, const char *address, const struct strv *args)
{
	const char *user = json_str(ssh, "user"), *identity = json_str(ssh, "identity");
	char port[8];

	strv_add(argv, "ssh");
	strv_add(argv, "-o");
	strv_add(argv, "StrictHostKeyChecking=no");
	strv_add(argv, "-o");
	strv_add(argv, "UserKnownHostsFile=/dev/null");
	strv_add(argv, "-o");
	strv_add(argv, "LogLevel=ERROR");
	if (identity != NULL) {
		strv_add(argv, "-i");
		strv_add(argv, identity);
		strv_add(argv, "-o");
		strv_add(argv, "IdentitiesOnly=yes");
	}
	if (json_int(ssh, "port", SSH_PORT) != SSH_PORT) {
		snprintf(port, sizeof(port), "%u", (unsigned)json_int(ssh, "port", SSH_PORT));
		strv_add(argv, "-p");
		strv_add(argv, port);
	}
	strv_add(argv, "-l");
	strv_add(argv, user != NULL ? user : "root");
	strv_add(argv, "--");
	strv_add(argv, address);
	for (size_t i = 1; i < args->n; i++)
		strv_add(argv, args->v[i]);
}

int verb_ssh(struct ctl *c)
{
	struct strv argv = { 0 };
	const char *address = NULL;
	json_t *vm = NULL;
	uint64_t wait_s;
	char *program;
	int ret = ctl_seconds(c, "wait", 0, &wait_s);

	if (ret == CTL_OK)
		ret = await_ssh(c, wait_s, &vm, &address);
	if (ret != CTL_OK)
		return ret;
	make_argv(&argv, json_obj(vm, "ssh"), address, &c->args);
	program = find_program("ssh");
	if (argv.bad) {
		ret = ctl_fail("out of memory");
	} else if (program == NULL) {
		ret = ctl_fail("there is no ssh in PATH");
	} else {
		fflush(stdout);
		execv(program, argv.v);
		ret = ctl_fail("%s: %s", quote(program), strerror(errno));
	}
	free(program);
	strv_finish(&argv);
	json_decref(vm);
	return ret;
}
