/*
 * fake-ch - cloud-hypervisor for tests: takes its command line, serves its HTTP API, event monitor
 * and serial socket, has a "guest" that obeys the power button, and misbehaves by script.
 *
 * States, statuses and texts are those of v53.0; what the real program said of them is in
 * tests/data/cloud-hypervisor, and tests/e2e/cloud-hypervisor-api.t compares. Every request's body is
 * checked against the schemas of its API description, and an unknown member is an error.
 *
 * The script is in the environment (FAKE_CH), in an argument `--fake SCRIPT`, in a file,
 * `--fake-file PATH`, or in a file beside the program as it was called, named as that with ".script"
 * behind; all that are there count. Directives are separated by newlines or ';':
 *
 *   say TEXT               to stderr, at the start
 *   exit STEP [STATUS]     exit there
 *   kill STEP [SIGNAL]     be killed there (default 9)
 *   stop STEP              SIGSTOP itself there
 *   wait STEP MS           do nothing there for so long
 *   close STEP             close the connection whose request is being served
 *   garbage STEP [TEXT]    send what is no HTTP
 *   event STEP SOURCE NAME [KEY VALUE]   emit an event
 *   event-text STEP TEXT   to the event monitor as it is
 *   status STEP WORD       change the state, without an event
 *   poweroff STEP | reboot STEP | panic STEP   what the guest does there
 *   console STEP TEXT      the guest prints (\n, \r are understood)
 *   late ENDPOINT MS       answer that much later (nothing else is done meanwhile)
 *   ignore ENDPOINT        no answer, no effect
 *   error ENDPOINT [STATUS] [TEXT]       answer with an error; TEXT may be a whole array
 *   big ENDPOINT BYTES     answer with a string of that length
 *   cut ENDPOINT           half an answer, then the connection is closed
 *   fragments BYTES [MS]   send answers in pieces, with pauses
 *   linger MS              stay that long after the end, with closed sockets
 *   migration MS           how long the guest's way takes
 *   memory BYTES           of the guest; 256 KiB otherwise
 *   protocol N             the version of its migration protocol
 *   garble COMMAND         send a header of that request that makes no sense
 *   refuse COMMAND         answer that request with an error
 *   witness FILE           lock FILE while the guest runs; make FILE.both when another one has it
 *   version TEXT           instead of v53.0
 *   features TEXT          one more feature; with any there is vm.coredump
 *   no-acpi                the guest ignores the power button
 *   no-unplug              the guest does not let go of devices
 *   no-events              nothing goes to the event monitor
 *   no-term                ignore SIGTERM
 *   once FILE              the rest counts only if FILE does not exist yet; makes it
 *
 * STEP is `start` (before anything), `connect` (a client came), +MS (that long after the start), or
 * the name of an endpoint, vm.boot: before its effect and answer, or with a + behind, after them; or a
 * request of a migration (COMMAND), sent or received: wire.start, wire.config, wire.memory, wire.state,
 * wire.complete.
 * What is given for a STEP happens once. PUT x-fake {"script": ...} adds directives; STEP `now` is at
 * once.
 *
 * The guest prints FAKE-READY; what its console takes is said in ch/machine.c.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

struct fake vm = { .api_listen = -1, .event_fd = -1, .serial_listen = -1, .serial = -1 };
static volatile sig_atomic_t got_signal;

static const char *value_of(const char *option, const char *key)
{
	size_t len = strlen(key);

	return strncmp(option, key, len) == 0 && option[len] == '=' ? option + len + 1 : NULL;
}

static void fatal(const char *what, const char *why)
{
	fprintf(stderr,
		"Error: Cloud Hypervisor exited with the following error:\n  %s\n\n"
		"Debug Info: %s\n",
		what, why);
	_exit(1);
}

static void open_api(const char *option)
{
	const char *fd = value_of(option, "fd"), *path = value_of(option, "path");
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	if (fd != NULL) {
		vm.api_listen = atoi(fd);
		return;
	}
	/* A bare path is understood, too. */
	vm.api_path = strdup(path != NULL ? path : option);
	unlink(vm.api_path);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", vm.api_path);
	vm.api_listen = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(vm.api_listen, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
		listen(vm.api_listen, 128) < 0)
		fatal("Failed to start the VMM thread", strerror(errno));
}

static void open_events(const char *option)
{
	const char *fd = value_of(option, "fd"), *path = value_of(option, "path");

	if (fd != NULL)
		vm.event_fd = atoi(fd);
	else if (path != NULL)
		vm.event_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (vm.event_fd < 0)
		fatal("Error doing event monitor I/O", strerror(errno));
	fcntl(vm.event_fd, F_SETFL, fcntl(vm.event_fd, F_GETFL) | O_NONBLOCK);
}

static void print_version(bool verbose)
{
	printf("cloud-hypervisor %s\nMigration Protocol Versions: 0\n", fake_version());
	if (verbose)
		printf("Enabled features: [\"io_uring\", \"kvm\"]\n");
	exit(0);
}

static void usage(const char *arg)
{
	fprintf(stderr,
		"error: unexpected argument '%s' found\n\nUsage: cloud-hypervisor [OPTIONS]\n\n"
		"For more information, try '--help'.\n",
		arg);
	_exit(2);
}

/* What is in argv that takes a value; all else is an error, as with clap. */
static void parse_arguments(int argc, char **argv)
{
	static const char *const ignored[] = { "--seccomp", "--log-file", "--log-format" };
	const char *api = NULL, *events = NULL;
	bool version = false, verbose = false;

	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
		size_t k;

		for (k = 0; k < N(ignored) && strcmp(a, ignored[k]) != 0; k++)
			;
		if (strcmp(a, "--version") == 0 || strcmp(a, "-V") == 0)
			version = true;
		else if (a[0] == '-' && a[1] == 'v' && strspn(a + 1, "v") == strlen(a + 1))
			verbose = true;
		else if (strcmp(a, "--no-shutdown") == 0 || strcmp(a, "--landlock") == 0)
			continue;
		else if (i++, strcmp(a, "--api-socket") == 0)
			api = v;
		else if (strcmp(a, "--event-monitor") == 0)
			events = v;
		else if (strcmp(a, "--fake") == 0)
			script_add(v);
		else if (strcmp(a, "--fake-file") == 0)
			script_add_file(v);
		else if (k == N(ignored))
			usage(a);
	}
	if (version)
		print_version(verbose);
	if (events != NULL)
		open_events(events);
	script_say();
	script_fire("start");
	event("vmm", "starting", NULL);
	if (api != NULL)
		open_api(api);
}

static void on_signal(int sig)
{
	got_signal = sig;
}

static int sooner(int a, int b)
{
	return a < 0 ? b : b < 0 ? a : a < b ? a : b;
}

static void serve_once(void)
{
	struct pollfd p[CLIENTS_MAX + 4];
	int timeout = sooner(script_fire_timed(), migrate_timeout());

	if (got_signal && !script_has("no-term"))
		machine_quit(0);
	got_signal = 0;
	p[0] = (struct pollfd){ .fd = vm.api_listen, .events = POLLIN };
	p[1] = (struct pollfd){ .fd = vm.owned ? vm.serial_listen : -1, .events = POLLIN };
	p[2] = (struct pollfd){ .fd = vm.serial, .events = POLLIN };
	p[3] = (struct pollfd){ .fd = migrate_fd(), .events = migrate_events() };
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		p[4 + i] = (struct pollfd){ .fd = http_client_fd(i), .events = POLLIN };
	if (poll(p, N(p), timeout) < 0)
		return;
	if (p[3].revents != 0 || migrate_timeout() == 0)
		migrate_ready();
	if (p[2].revents != 0 && vm.serial == p[2].fd)
		machine_serial_read();
	if (p[1].revents != 0 && vm.serial_listen == p[1].fd)
		machine_serial_accept();
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (p[4 + i].revents != 0 && http_client_fd(i) == p[4 + i].fd)
			http_read(i);
	if (p[0].revents != 0)
		http_accept();
	migrate_witness();
}

int main(int argc, char **argv)
{
	struct sigaction sa = { .sa_handler = on_signal };
	char path[4096];

	vm.started = now_ms();
	umask(077);
	script_add(getenv("FAKE_CH"));
	snprintf(path, sizeof(path), "%s.script", argv[0]);
	script_add_file(path);
	/* As there, no child, and these two end it (vmm/src/lib.rs, HANDLED_SIGNALS). */
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	parse_arguments(argc, argv);
	for (;;)
		serve_once();
}
