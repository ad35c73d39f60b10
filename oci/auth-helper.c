#include "oci/auth-helper.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "lib/clock.h"
#include "lib/file.h"
#include "lib/json.h"
#include "oci/auth.h"

#define HELPER_MS  30000
#define EXIT_MS    2000 /* after its answer's end */
#define ANSWER_MAX ((size_t)64 << 10)

extern char **environ;

/* The name that is part of a program's. */
static bool name_valid(const char *s)
{
	return *s != '\0' && strlen(s) < 64 &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
		       strlen(s);
}

static int spawn(const char *program, pid_t *pid, int fds[2], struct err *err)
{
	char *argv[] = { (char *)(uintptr_t)program, "get", NULL };
	posix_spawn_file_actions_t fa;
	int in[2], out[2], r;

	if (pipe2(in, O_CLOEXEC) < 0)
		return err_errno(err, -errno, "pipe");
	if (pipe2(out, O_CLOEXEC) < 0) {
		r = err_errno(err, -errno, "pipe");
		close(in[0]);
		close(in[1]);
		return r;
	}
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in[0], 0);
	posix_spawn_file_actions_adddup2(&fa, out[1], 1);
	r = -posix_spawn(pid, program, &fa, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&fa);
	close(in[0]);
	close(out[1]);
	fds[0] = out[0];
	fds[1] = in[1];
	if (r == 0)
		return 0;
	close(fds[0]);
	close(fds[1]);
	return err_errno(err, r, "start %s", quote(program));
}

/* It may close its output and stay. Our child that was not waited for: the pid is still its own. */
static int await_exit(pid_t pid, uint64_t end)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	int r = p.fd < 0 ? -errno : 0, n = 0;

	while (r == 0 && n <= 0) {
		uint64_t now = clock_mono_ms();

		n = now >= end ? 0 : poll(&p, 1, (int)(end - now));
		if (n == 0)
			r = -ETIMEDOUT;
		else if (n < 0 && errno != EINTR)
			r = -errno;
	}
	if (p.fd >= 0)
		close(p.fd);
	return r;
}

/* Its answer and status; one that is late is killed. */
static int converse(pid_t pid, const int fds[2], const char *host, struct buf *answer, int *status)
{
	uint64_t end = clock_mono_ms() + HELPER_MS;
	char piece[1024];
	ssize_t n = write(fds[1], host, strlen(host));
	int r = 0;

	close(fds[1]);
	while (r == 0) {
		struct pollfd p = { .fd = fds[0], .events = POLLIN };
		uint64_t now = clock_mono_ms();

		if (now >= end)
			r = -ETIMEDOUT;
		else if (poll(&p, 1, (int)(end - now)) > 0) {
			n = read(fds[0], piece, sizeof(piece));
			if (n == 0 || (n < 0 && errno != EINTR))
				break;
			if (n > 0 && answer->len < ANSWER_MAX)
				buf_add(answer, piece, (size_t)n);
		}
	}
	close(fds[0]);
	explicit_bzero(piece, sizeof(piece));
	if (r == 0)
		r = await_exit(pid, clock_mono_ms() + EXIT_MS);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	return r;
}

static int take_answer(
	const struct buf *answer, const char *program, struct buf *out, struct err *err)
{
	const char *user, *secret;
	json_t *doc;
	int r;

	if (json_parse(answer->len > 0 ? answer->data : "", answer->len, &doc, NULL) < 0)
		return err_set(err, -EBADMSG, "%s: its answer is no JSON", quote(program));
	user = json_str(doc, "Username");
	secret = json_str(doc, "Secret");
	if (user == NULL || secret == NULL)
		r = err_set(
			err, -EBADMSG, "%s: its answer has no Username and Secret", quote(program));
	else if (strcmp(user, "<token>") == 0)
		r = err_set(err, -ENOTSUP, "%s: it gives an identity token, which is not supported",
			quote(program));
	else
		r = auth_basic(user, secret, out, err);
	json_decref(doc);
	return r;
}

static int ask(const char *name, const char *host, struct buf *out, struct err *err)
{
	char *called = str_printf("docker-credential-%s", name), *program;
	struct buf answer = { 0 };
	int fds[2], status = 0, r;
	pid_t pid;

	if (called == NULL)
		return err_nomem(err);
	program = find_program(called);
	r = program == NULL
		    ? err_set(err, -ENOENT, "the credential helper %s is not installed", called)
		    : spawn(program, &pid, fds, err);
	free(called);
	if (r == 0) {
		r = converse(pid, fds, host, &answer, &status);
		if (r < 0)
			err_set(err, r, "%s does not answer", quote(program));
		/* It fails where it knows nothing of the host: then nothing is sent. */
		else if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
			r = take_answer(&answer, program, out, err);
	}
	if (answer.data != NULL)
		explicit_bzero(answer.data, answer.len);
	buf_finish(&answer);
	free(program);
	return r;
}

int auth_helper_basic(const char *config, const char *host, struct buf *out, struct err *err)
{
	/* Docker knows its hub by this name. */
	const char *asked = strcmp(host, "docker.io") == 0 ? "https://index.docker.io/v1/" : host;
	const char *name;
	json_t *doc;
	int r = json_read_file(config, &doc, err);

	if (r < 0)
		return r;
	name = json_str(json_obj(doc, "credHelpers"), asked);
	if (name == NULL)
		name = json_str(json_obj(doc, "credHelpers"), host);
	if (name == NULL)
		name = json_str(doc, "credsStore");
	if (name != NULL && !name_valid(name))
		r = err_set(err, -EINVAL, "%s: %s is no name of a credential helper", quote(config),
			quote(name));
	else if (name != NULL)
		r = ask(name, asked, out, err);
	json_decref(doc);
	return r;
}
