/*
 * fake-qemu - a hypervisor process for tests, as small as it can be: takes QEMU's command line,
 * speaks QMP and a serial console on the listening sockets that come as descriptors, holds the
 * locks of its disks, has a "guest" that obeys the power button, and misbehaves by script.
 *
 * The script is in the environment (FAKE_QEMU), in an argument `-fake SCRIPT`, or in a file,
 * `-fake-file PATH`; all that are there count. Directives are separated by newlines or ';':
 *
 *   say TEXT               to stderr, at the start
 *   exit STEP [STATUS]     exit there
 *   kill STEP [SIGNAL]     be killed there (default 9)
 *   stop STEP              SIGSTOP itself there
 *   close STEP             close the monitor's connection there (the next client is accepted)
 *   garbage STEP [TEXT]    send what is no JSON
 *   send STEP TEXT         send TEXT as it is
 *   event STEP NAME [DATA] emit an event; STOP, RESUME also change the status
 *   status STEP WORD       change the status without an event
 *   poweroff STEP | reboot STEP | panic STEP   what the guest does there
 *   console STEP TEXT      the guest prints (\n, \r are understood)
 *   flood STEP COUNT NAME  so many events of that name
 *   late COMMAND MS        answer that much later (nothing else is done meanwhile)
 *   ignore COMMAND         no answer, no effect
 *   error COMMAND [TEXT]   answer with an error
 *   reply COMMAND JSON     what the guest agent answers
 *   big COMMAND BYTES      answer with a string of that length
 *   fragments BYTES [MS]   send everything in pieces, with pauses
 *   linger MS              stay that long after the end (quit, poweroff), with closed sockets
 *   no-acpi                the guest ignores the power button
 *   no-agent               nobody listens at the guest agent's port
 *   no-term                ignore SIGTERM
 *   once FILE              the rest counts only if FILE does not exist yet; makes it
 *
 * STEP is `start` (before anything), `connect` (a client came), `greeting`, `capabilities` (after
 * each was sent), +MS (that long after the start), or the name of a command: before its answer, or
 * with a + behind, after it. What is given for a STEP happens once, except `late`, `ignore`,
 * `error` and `big`. The command x-fake {"script": ...} adds directives; STEP `now` is at once.
 *
 * The guest prints FAKE-READY, echoes its console, and obeys single letters as the nano guest
 * does: q powers off, r reboots; also p panics, k is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define N(a) (sizeof(a) / sizeof((a)[0]))

struct directive {
	struct directive *next;
	char *verb, *step, *rest;
	bool done;
};

static struct directive *script;
static struct {
	int mon_listen, mon, serial_listen, serial, agent_listen, agent;
	const char *status;
	bool negotiated, no_reboot, kvm, resetting;
	char *in;
	size_t in_len, in_cap;
	uint64_t started;
} vm = { .mon_listen = -1,
	.mon = -1,
	.serial_listen = -1,
	.serial = -1,
	.agent_listen = -1,
	.agent = -1,
	.status = "running" };
static volatile sig_atomic_t got_signal;

static void fire(const char *step);

static uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void wait_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

static struct directive *find(const char *verb, const char *step)
{
	for (struct directive *d = script; d != NULL; d = d->next)
		if (strcmp(d->verb, verb) == 0 &&
			(step == NULL || (d->step != NULL && strcmp(d->step, step) == 0)))
			return d;
	return NULL;
}

static long number(const struct directive *d, long def)
{
	return d != NULL && d->rest != NULL && *d->rest != '\0' ? strtol(d->rest, NULL, 0) : def;
}

/* The script */

static bool takes_step(const char *verb)
{
	static const char *const plain[] = { "say", "fragments", "linger", "no-acpi", "no-agent",
		"no-term", "once" };

	for (size_t i = 0; i < N(plain); i++)
		if (strcmp(verb, plain[i]) == 0)
			return false;
	return true;
}

static void add_line(char *line)
{
	struct directive *d, **end = &script;
	char *save;

	while (*end != NULL)
		end = &(*end)->next;
	d = calloc(1, sizeof(*d));
	d->verb = strtok_r(line, " \t", &save);
	if (d->verb == NULL) {
		free(d);
		return;
	}
	if (takes_step(d->verb))
		d->step = strtok_r(NULL, " \t", &save);
	d->rest = save != NULL ? save + strspn(save, " \t") : NULL;
	if (strcmp(d->verb, "once") == 0) {
		int fd = open(d->rest, O_CREAT | O_EXCL | O_WRONLY, 0600);

		if (fd < 0)
			d->verb = "end";
		else
			close(fd);
	}
	*end = d;
}

/* Lines are split at newlines and ';' outside of braces and quotes, for JSON's sake. */
static void add_script(const char *text)
{
	char *copy = text != NULL ? strdup(text) : NULL, *line = copy;
	int depth = 0;

	for (char *p = copy; p != NULL && !find("end", NULL); p++) {
		if (*p == '{' || *p == '[')
			depth++;
		else if (*p == '}' || *p == ']')
			depth--;
		if (*p == '\0' || (depth == 0 && (*p == '\n' || *p == ';'))) {
			bool last = *p == '\0';

			*p = '\0';
			add_line(line);
			line = p + 1;
			if (last)
				break;
		}
	}
}

static void add_script_file(const char *path)
{
	char text[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (n >= 0) {
		text[n] = '\0';
		add_script(text);
	}
	if (fd >= 0)
		close(fd);
}

/* Output */

static void send_raw(const char *data, size_t len)
{
	struct directive *d = find("fragments", NULL);
	long piece = number(d, 0), ms = 0;
	char *end;

	if (d != NULL) {
		strtol(d->rest, &end, 0);
		ms = strtol(end, NULL, 0);
	}
	while (len > 0 && vm.mon >= 0) {
		size_t n = piece > 0 && (size_t)piece < len ? (size_t)piece : len;
		ssize_t r = send(vm.mon, data, n, MSG_NOSIGNAL);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return;
		data += r;
		len -= (size_t)r;
		if (ms > 0)
			wait_ms(ms);
	}
}

static void send_json(json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(v);
	if (text == NULL)
		return;
	send_raw(text, strlen(text));
	send_raw("\r\n", 2);
	free(text);
}

static void emit(const char *name, json_t *data)
{
	struct timeval tv;
	json_t *ev;

	gettimeofday(&tv, NULL);
	ev = json_pack("{s:{s:I,s:I},s:s}", "timestamp", "seconds", (json_int_t)tv.tv_sec,
		"microseconds", (json_int_t)tv.tv_usec, "event", name);
	if (data != NULL)
		json_object_set_new(ev, "data", data);
	/* As in QEMU, nobody hears events before the negotiation. */
	if (vm.negotiated)
		send_json(ev);
	else
		json_decref(ev);
}

static void print_console(const char *text)
{
	for (const char *p = text; *p != '\0' && vm.serial >= 0; p++) {
		char c = *p;

		if (c == '\\' && (p[1] == 'n' || p[1] == 'r'))
			c = *++p == 'n' ? '\n' : '\r';
		if (send(vm.serial, &c, 1, MSG_NOSIGNAL) < 0)
			return;
	}
}

/* The machine */

static void end(int status)
{
	long ms = number(find("linger", NULL), 0);

	if (ms > 0) {
		close(vm.mon);
		close(vm.mon_listen);
		close(vm.serial);
		close(vm.serial_listen);
		wait_ms(ms);
	}
	_exit(status);
}

static void die(int sig)
{
	signal(sig, SIG_DFL);
	raise(sig);
	_exit(128 + sig);
}

static void shut_down(bool guest, const char *reason)
{
	vm.status = "shutdown";
	emit("SHUTDOWN", json_pack("{s:b,s:s}", "guest", guest, "reason", reason));
	end(0);
}

static void boot(void)
{
	print_console("FAKE-READY\\r\\n");
}

static void reset(bool guest, const char *reason)
{
	if (vm.no_reboot)
		shut_down(guest, reason);
	emit("RESET", json_pack("{s:b,s:s}", "guest", guest, "reason", reason));
	boot();
}

static void power_off(void)
{
	print_console("FAKE-BYE\\r\\n");
	shut_down(true, "guest-shutdown");
}

static void panic(void)
{
	emit("GUEST_PANICKED", json_pack("{s:s,s:{s:s,s:s}}", "action", "pause", "info", "type",
				       "hyper-v", "core", "0"));
	vm.status = "guest-panicked";
	emit("STOP", NULL);
}

static void do_event(char *rest)
{
	char *data = rest != NULL ? strchr(rest, ' ') : NULL;

	if (rest == NULL)
		return;
	if (data != NULL)
		*data++ = '\0';
	if (strcmp(rest, "STOP") == 0 && strcmp(vm.status, "running") == 0)
		vm.status = "paused";
	else if (strcmp(rest, "RESUME") == 0)
		vm.status = "running";
	emit(rest, data != NULL ? json_loads(data, 0, NULL) : NULL);
}

static void close_monitor(void)
{
	if (vm.mon >= 0)
		close(vm.mon);
	vm.mon = -1;
	vm.negotiated = false;
	vm.in_len = 0;
}

/* COUNT NAME */
static void flood(const char *rest)
{
	char *name;

	for (unsigned long n = strtoul(rest, &name, 10); n > 0; n--)
		emit(name + strspn(name, " "), NULL);
}

static void perform(struct directive *d)
{
	const char *v = d->verb;

	if (strcmp(v, "exit") == 0) {
		_exit((int)number(d, 1));
	} else if (strcmp(v, "kill") == 0) {
		die((int)number(d, SIGKILL));
	} else if (strcmp(v, "stop") == 0) {
		raise(SIGSTOP);
	} else if (strcmp(v, "close") == 0) {
		close_monitor();
	} else if (strcmp(v, "garbage") == 0) {
		const char *text = d->rest != NULL && *d->rest != '\0' ? d->rest : "%!garbage";

		send_raw(text, strlen(text));
		send_raw("\r\n", 2);
	} else if (strcmp(v, "send") == 0) {
		send_raw(d->rest, strlen(d->rest));
	} else if (strcmp(v, "event") == 0) {
		do_event(d->rest);
	} else if (strcmp(v, "flood") == 0) {
		flood(d->rest);
	} else if (strcmp(v, "status") == 0) {
		vm.status = d->rest;
	} else if (strcmp(v, "poweroff") == 0) {
		power_off();
	} else if (strcmp(v, "reboot") == 0) {
		reset(true, "guest-reset");
	} else if (strcmp(v, "panic") == 0) {
		panic();
	} else if (strcmp(v, "console") == 0) {
		print_console(d->rest);
	} else {
		return;
	}
	d->done = true;
}

static void fire(const char *step)
{
	for (struct directive *d = script; d != NULL; d = d->next) {
		if (!d->done && d->step != NULL && strcmp(d->step, step) == 0) {
			d->done = true;
			perform(d);
		}
	}
}

/* What is due at +MS; returns how long until the next, -1 for never. */
static int fire_timed(void)
{
	uint64_t now = now_ms();
	int next = -1;

	for (struct directive *d = script; d != NULL; d = d->next) {
		uint64_t due;

		if (d->done || d->step == NULL || *d->step != '+')
			continue;
		due = vm.started + strtoul(d->step + 1, NULL, 10);
		if (due <= now) {
			d->done = true;
			perform(d);
		} else if (next < 0 || due - now < (uint64_t)next) {
			next = (int)(due - now);
		}
	}
	return next;
}

/* QMP */

static json_t *query_status(void)
{
	return json_pack("{s:s,s:b,s:b}", "status", vm.status, "singlestep", 0, "running",
		strcmp(vm.status, "running") == 0);
}

static json_t *cmd_stop(const json_t *args)
{
	if (strcmp(vm.status, "running") == 0) {
		vm.status = "paused";
		emit("STOP", NULL);
	}
	return json_object();
}

static json_t *cmd_cont(const json_t *args)
{
	bool first = strcmp(vm.status, "prelaunch") == 0;

	if (strcmp(vm.status, "running") != 0) {
		vm.status = "running";
		emit("RESUME", NULL);
	}
	if (first)
		boot();
	return json_object();
}

static json_t *cmd_status(const json_t *args)
{
	return query_status();
}

static json_t *cmd_kvm(const json_t *args)
{
	return json_pack("{s:b,s:b}", "enabled", vm.kvm, "present", 1);
}

static json_t *cmd_name(const json_t *args)
{
	return json_pack("{s:s}", "name", "fake");
}

static json_t *cmd_empty(const json_t *args)
{
	return json_object();
}

static json_t *cmd_set_action(const json_t *args)
{
	const char *reboot = json_string_value(json_object_get(args, "reboot"));

	if (reboot != NULL)
		vm.no_reboot = strcmp(reboot, "shutdown") == 0;
	return json_object();
}

static json_t *cmd_fake(const json_t *args)
{
	add_script(json_string_value(json_object_get(args, "script")));
	return json_object();
}

static const struct {
	const char *name;
	json_t *(*fn)(const json_t *args);
} commands[] = {
	{ "qmp_capabilities", cmd_empty },
	{ "query-status", cmd_status },
	{ "query-kvm", cmd_kvm },
	{ "query-name", cmd_name },
	{ "stop", cmd_stop },
	{ "cont", cmd_cont },
	{ "system_powerdown", cmd_empty },
	{ "system_reset", cmd_empty },
	{ "quit", cmd_empty },
	{ "set-action", cmd_set_action },
	{ "getfd", cmd_empty },
	{ "migrate-set-capabilities", cmd_empty },
	{ "migrate-set-parameters", cmd_empty },
	{ "closefd", cmd_empty },
	{ "device_del", cmd_empty },
	{ "x-fake", cmd_fake },
};

static void reply(json_t *id, const char *key, json_t *value)
{
	json_t *msg = json_object();

	json_object_set_new(msg, key, value);
	if (id != NULL)
		json_object_set(msg, "id", id);
	send_json(msg);
}

static void reply_error(json_t *id, const char *class, const char *desc)
{
	reply(id, "error", json_pack("{s:s,s:s}", "class", class, "desc", desc));
}

/* What a command brings about after its answer. */
static void aftermath(const char *name)
{
	if (strcmp(name, "qmp_capabilities") == 0) {
		vm.negotiated = true;
		fire("capabilities");
	} else if (strcmp(name, "quit") == 0) {
		shut_down(false, "host-qmp-quit");
	} else if (strcmp(name, "system_reset") == 0) {
		reset(false, "host-qmp-system-reset");
	} else if (strcmp(name, "system_powerdown") == 0) {
		emit("POWERDOWN", NULL);
		if (find("no-acpi", NULL) == NULL && strcmp(vm.status, "running") == 0)
			power_off();
	} else if (strcmp(name, "x-fake") == 0) {
		fire("now");
	}
}

static json_t *big_value(const struct directive *d)
{
	size_t n = (size_t)number(d, 0);
	char *text = malloc(n + 1);
	json_t *v;

	memset(text, 'x', n);
	text[n] = '\0';
	v = json_string_nocheck(text);
	free(text);
	return v;
}

static void handle_command(json_t *cmd)
{
	const char *name = json_string_value(json_object_get(cmd, "execute"));
	json_t *id = json_object_get(cmd, "id");
	struct directive *d;
	char after[80];
	size_t i;

	if (name == NULL) {
		reply_error(id, "GenericError", "QMP input lacks member 'execute'");
		return;
	}
	fire(name);
	if (find("ignore", name) != NULL || vm.mon < 0)
		return;
	d = find("late", name);
	if (d != NULL)
		wait_ms(number(d, 0));
	if (!vm.negotiated && strcmp(name, "qmp_capabilities") != 0) {
		reply_error(id, "CommandNotFound",
			"Expecting capabilities negotiation with 'qmp_capabilities'");
		return;
	}
	d = find("error", name);
	if (d != NULL) {
		reply_error(
			id, "GenericError", d->rest != NULL && *d->rest != '\0' ? d->rest : "no");
		return;
	}
	for (i = 0; i < N(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			break;
	d = find("big", name);
	if (d != NULL) {
		reply(id, "return", big_value(d));
	} else if (i == N(commands)) {
		reply_error(id, "CommandNotFound", "The command has not been found");
		return;
	} else {
		reply(id, "return", commands[i].fn(json_object_get(cmd, "arguments")));
	}
	snprintf(after, sizeof(after), "%s+", name);
	fire(after);
	aftermath(name);
}

/* Takes whole commands out of the input. */
static void parse_input(void)
{
	while (vm.in_len > 0) {
		size_t skip = strspn(vm.in, " \t\r\n");
		json_error_t e;
		json_t *cmd;

		memmove(vm.in, vm.in + skip, vm.in_len - skip + 1);
		vm.in_len -= skip;
		if (vm.in_len == 0)
			return;
		cmd = json_loadb(vm.in, vm.in_len, JSON_DISABLE_EOF_CHECK, &e);
		if (cmd == NULL && json_error_code(&e) == json_error_premature_end_of_input)
			return;
		if (cmd == NULL) {
			vm.in_len = 0;
			reply_error(NULL, "GenericError", "JSON parse error");
			return;
		}
		memmove(vm.in, vm.in + e.position, vm.in_len - (size_t)e.position + 1);
		vm.in_len -= (size_t)e.position;
		handle_command(cmd);
		json_decref(cmd);
	}
}

static void read_monitor(void)
{
	union {
		char buf[CMSG_SPACE(8 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct msghdr mh = { .msg_control = control.buf, .msg_controllen = sizeof(control.buf) };
	struct iovec iov;
	ssize_t n;

	if (vm.in_cap - vm.in_len < 4096) {
		vm.in_cap = vm.in_cap * 2 + 8192;
		vm.in = realloc(vm.in, vm.in_cap);
	}
	iov = (struct iovec){ vm.in + vm.in_len, vm.in_cap - vm.in_len - 1 };
	mh.msg_iov = &iov;
	mh.msg_iovlen = 1;
	n = recvmsg(vm.mon, &mh, MSG_CMSG_CLOEXEC);
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		close_monitor();
		return;
	}
	vm.in_len += (size_t)n;
	vm.in[vm.in_len] = '\0';
	parse_input();
}

static void accept_monitor(void)
{
	vm.mon = accept4(vm.mon_listen, NULL, NULL, SOCK_CLOEXEC);
	if (vm.mon < 0)
		return;
	fire("connect");
	send_json(json_pack("{s:{s:{s:{s:i,s:i,s:i},s:s},s:[s]}}", "QMP", "version", "qemu",
		"micro", 9, "minor", 2, "major", 7, "package", "fake", "capabilities", "oob"));
	fire("greeting");
}

static void read_serial(void)
{
	char data[4096];
	ssize_t n = recv(vm.serial, data, sizeof(data), 0);

	if (n <= 0) {
		if (n == 0 || errno != EINTR) {
			close(vm.serial);
			vm.serial = -1;
		}
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (strcmp(vm.status, "running") != 0)
			continue;
		if (data[i] == 'q')
			power_off();
		else if (data[i] == 'r')
			reset(true, "guest-reset");
		else if (data[i] == 'p')
			panic();
		else if (data[i] == 'k')
			die(SIGKILL);
		else
			send(vm.serial, data + i, 1, MSG_NOSIGNAL);
	}
}

/* The guest agent */

static void agent_send(json_t *v, bool sentinel)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(v);
	if (sentinel)
		send(vm.agent, "\xff", 1, MSG_NOSIGNAL);
	send(vm.agent, text, strlen(text), MSG_NOSIGNAL);
	send(vm.agent, "\n", 1, MSG_NOSIGNAL);
	free(text);
}

/* The number of filesystems, of those that were frozen in case of a thaw (qga/qapi-schema.json). */
static void agent_freeze(bool freeze)
{
	static bool frozen;
	int n = freeze || frozen;

	print_console(freeze ? "FAKE-FROZEN\\r\\n" : "FAKE-THAWED\\r\\n");
	frozen = freeze;
	agent_send(json_pack("{s:i}", "return", n), false);
}

static void agent_command(const char *line)
{
	json_t *cmd = json_loads(line, 0, NULL);
	const char *name = json_string_value(json_object_get(cmd, "execute"));
	json_t *id = json_object_get(json_object_get(cmd, "arguments"), "id");
	struct directive *d = name != NULL ? find("error", name) : NULL;

	if (name == NULL || find("ignore", name) != NULL)
		;
	else if (d != NULL)
		agent_send(json_pack("{s:{s:s,s:s}}", "error", "class", "GenericError", "desc",
				   d->rest),
			false);
	else if ((d = find("reply", name)) != NULL)
		agent_send(json_pack("{s:o}", "return", json_loads(d->rest, 0, NULL)), false);
	else if (strcmp(name, "guest-sync-delimited") == 0)
		agent_send(json_pack("{s:O}", "return", id), true);
	else if (strcmp(name, "guest-ping") == 0)
		agent_send(json_pack("{s:{}}", "return"), false);
	else if (strcmp(name, "guest-fsfreeze-freeze") == 0)
		agent_freeze(true);
	else if (strcmp(name, "guest-fsfreeze-thaw") == 0)
		agent_freeze(false);
	else if (strcmp(name, "guest-shutdown") == 0)
		power_off();
	else
		agent_send(json_pack("{s:{s:s,s:s}}", "error", "class", "CommandNotFound", "desc",
				   "The command has not been found"),
			false);
	json_decref(cmd);
}

static void read_agent(void)
{
	char data[4096], *line, *save;
	ssize_t n = recv(vm.agent, data, sizeof(data) - 1, 0);

	if (n <= 0) {
		close(vm.agent);
		vm.agent = -1;
		return;
	}
	data[n] = '\0';
	/* Commands come whole from this client. */
	for (line = strtok_r(data, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save))
		agent_command(line + strspn(line, "\xff"));
}

/* The command line */

/* The value of key in "a,key=value,b", commas un-doubled; malloc'd, NULL without it. */
static char *option(const char *text, const char *key)
{
	size_t len = strlen(key);
	char *out, *o;

	for (const char *p = text; p != NULL && *p != '\0'; p++) {
		if ((p == text || p[-1] == ',') && strncmp(p, key, len) == 0 && p[len] == '=') {
			o = out = malloc(strlen(p));
			for (p += len + 1; *p != '\0' && (*p != ',' || p[1] == ','); p++) {
				if (*p == ',')
					p++;
				*o++ = *p;
			}
			*o = '\0';
			return out;
		}
	}
	return NULL;
}

/* As QEMU does, a disk that another one writes is refused; bytes 101 and 201 as there. */
static void lock_disk(const char *text)
{
	char *path = option(text, "filename"), *ro = option(text, "read-only");
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 101, .l_len = 1 };
	int fd;

	if (path == NULL || (ro != NULL && strcmp(ro, "on") == 0))
		return;
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "fake-qemu: -blockdev %s: Could not open '%s': %s\n", text, path,
			strerror(errno));
		_exit(1);
	}
	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		lock.l_start = 201;
	if (lock.l_start == 101 || fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		fprintf(stderr,
			"fake-qemu: -blockdev %s: Failed to get \"write\" lock\n"
			"Is another process using the image [%s]?\n",
			text, path);
		_exit(1);
	}
	free(path);
	free(ro);
}

static void parse_arguments(int argc, char **argv)
{
	static struct {
		char *id;
		int fd;
	} chardevs[8];
	size_t n = 0;

	for (int i = 1; i + 1 < argc; i++) {
		const char *a = argv[i], *v = argv[i + 1];
		char *id;

		if (strcmp(a, "-S") == 0)
			vm.status = "prelaunch";
		else if (strcmp(a, "-no-reboot") == 0)
			vm.no_reboot = true;
		else if (strcmp(a, "-action") == 0)
			vm.no_reboot |= strstr(v, "reboot=shutdown") != NULL;
		else if (strcmp(a, "-accel") == 0)
			vm.kvm = strcmp(v, "kvm") == 0;
		else if (strcmp(a, "-blockdev") == 0)
			lock_disk(v);
		else if (strcmp(a, "-fake") == 0)
			add_script(v);
		else if (strcmp(a, "-fake-file") == 0)
			add_script_file(v);
		else if (strcmp(a, "-name") == 0 && (id = option(v, "process")) != NULL)
			prctl(PR_SET_NAME, id);
		if (strcmp(a, "-chardev") == 0 && n < N(chardevs) && option(v, "fd") != NULL) {
			chardevs[n].id = option(v, "id");
			chardevs[n++].fd = atoi(option(v, "fd"));
		}
		for (size_t k = 0; k < n; k++) {
			if (strcmp(a, "-mon") == 0 && (id = option(v, "chardev")) != NULL &&
				strcmp(id, chardevs[k].id) == 0)
				vm.mon_listen = chardevs[k].fd;
			if (strcmp(a, "-serial") == 0 && strncmp(v, "chardev:", 8) == 0 &&
				strcmp(v + 8, chardevs[k].id) == 0)
				vm.serial_listen = chardevs[k].fd;
			if (strcmp(a, "-device") == 0 && strncmp(v, "virtserialport,", 15) == 0 &&
				(id = option(v, "chardev")) != NULL &&
				strcmp(id, chardevs[k].id) == 0)
				vm.agent_listen = chardevs[k].fd;
		}
	}
}

static void on_signal(int sig)
{
	got_signal = sig;
}

/* One client at a time on each socket, as with QEMU. */
static void serve(void)
{
	for (;;) {
		bool agent = find("no-agent", NULL) == NULL && strcmp(vm.status, "running") == 0;
		struct pollfd p[3] = {
			{ .fd = vm.mon >= 0 ? vm.mon : vm.mon_listen, .events = POLLIN },
			{ .fd = vm.serial >= 0 ? vm.serial : vm.serial_listen, .events = POLLIN },
			{ .fd = !agent          ? -1
				: vm.agent >= 0 ? vm.agent
						: vm.agent_listen,
				.events = POLLIN },
		};
		int timeout = fire_timed();

		if (got_signal && find("no-term", NULL) == NULL)
			shut_down(false, "host-signal");
		got_signal = 0;
		/* A directive may have changed the descriptors. */
		p[0].fd = vm.mon >= 0 ? vm.mon : vm.mon_listen;
		if (poll(p, 3, timeout) <= 0)
			continue;
		if (p[2].revents != 0 && vm.agent < 0)
			vm.agent = accept4(vm.agent_listen, NULL, NULL, SOCK_CLOEXEC);
		else if (p[2].revents != 0)
			read_agent();
		if (p[1].revents != 0 && vm.serial < 0)
			vm.serial = accept4(vm.serial_listen, NULL, NULL, SOCK_CLOEXEC);
		else if (p[1].revents != 0)
			read_serial();
		if (p[0].revents != 0 && vm.mon < 0)
			accept_monitor();
		else if (p[0].revents != 0)
			read_monitor();
	}
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };

	vm.started = now_ms();
	add_script(getenv("FAKE_QEMU"));
	parse_arguments(argc, argv);
	for (struct directive *d = script; d != NULL; d = d->next)
		if (strcmp(d->verb, "say") == 0)
			fprintf(stderr, "%s\n", d->rest);
	fire("start");
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	if (vm.serial_listen >= 0) {
		struct pollfd p = { .fd = vm.serial_listen, .events = POLLIN };

		/* wait=on */
		poll(&p, 1, -1);
		vm.serial = accept4(vm.serial_listen, NULL, NULL, SOCK_CLOEXEC);
	}
	if (strcmp(vm.status, "running") == 0)
		boot();
	serve();
}
