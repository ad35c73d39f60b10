/*
 * Migration, in the protocol of vm-migration/src/protocol.rs. What each side does in which order, and
 * after which failure, is vmm/src/lib.rs's, v50.0 to v53.0: before v53 the sender does nothing else
 * meanwhile, and answers the API when it is over; the receiver always does.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

#define RECEIVE "Error receiving migration"
#define SEND    "Error dispatching the migration worker"
#define PAGE    4096u

enum {
	START = 1,
	CONFIG = 2,
	STATE = 3,
	MEMORY = 4,
	COMPLETE = 5,
	ABANDON = 6,
	COMPLETE_PAUSED = 8
};
enum {
	OK = 1,
	ERROR = 2
};

static const char *const names[] = {
	[START] = "wire.start",
	[CONFIG] = "wire.config",
	[STATE] = "wire.state",
	[MEMORY] = "wire.memory",
	[COMPLETE] = "wire.complete",
	[ABANDON] = "wire.abandon",
	[COMPLETE_PAUSED] = "wire.complete",
};

struct header {
	uint16_t word;
	uint8_t more[6];
	uint64_t length;
};

struct range {
	uint64_t gpa, length;
};

/* ---- who runs ---- */

void migrate_witness(void)
{
	static int fd = -1;
	static bool has;
	const struct directive *d = script_find("witness", NULL);
	bool runs = vm.owned && vm.state == VM_RUNNING;
	char both[512];

	if (d == NULL || d->rest == NULL || runs == has)
		return;
	if (fd < 0)
		fd = open(d->rest, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (runs && flock(fd, LOCK_EX | LOCK_NB) < 0) {
		snprintf(both, sizeof(both), "%s.both", d->rest);
		close(open(both, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	} else if (!runs) {
		flock(fd, LOCK_UN);
	}
	has = runs;
}

static void run_on(void)
{
	event("vm", "resuming", NULL);
	vm.state = VM_RUNNING;
	migrate_witness();
	event("vm", "resumed", NULL);
}

/* ---- the guest's memory: its counter in the first page, and all else as the address says ---- */

static uint64_t memory_size(void)
{
	uint64_t n = (uint64_t)script_number(script_find("memory", NULL), 256 * 1024);

	return n / PAGE * PAGE;
}

static void page_at(uint64_t gpa, unsigned char *out)
{
	uint64_t counter = htole64(vm.counter);

	for (unsigned i = 0; i < PAGE; i++)
		out[i] = (unsigned char)((gpa / PAGE) * 31 + i % 251);
	if (gpa == 0)
		memcpy(out, &counter, sizeof(counter));
}

/* ---- both sides ---- */

static int unix_socket(const char *path, bool listening)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	if ((listening ? bind(fd, (struct sockaddr *)&addr, sizeof(addr))
		       : connect(fd, (struct sockaddr *)&addr, sizeof(addr))) < 0 ||
		(listening && listen(fd, 1) < 0)) {
		int e = errno;

		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static const char *unix_path(const char *url)
{
	return strncmp(url, "unix:", 5) == 0 && url[5] != '\0' ? url + 5 : NULL;
}

/* "complete" of "wire.complete". */
static bool is_scripted(const char *verb, unsigned word)
{
	return word < N(names) && names[word] != NULL &&
	       script_find(verb, names[word] + strlen("wire.")) != NULL;
}

/* ---- the receiver ---- */

struct receiver {
	int fd;
	unsigned last; /* request */
	json_t *config;
	unsigned long counter;
	bool answered; /* the API was, with an error */
};

static bool read_all(int fd, void *out, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = read(fd, (char *)out + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

static json_t *read_json(int fd, uint64_t length)
{
	char *text = malloc(length + 1);
	json_t *v = NULL;

	if (text != NULL && read_all(fd, text, length))
		v = json_loadb(text, length, 0, NULL);
	free(text);
	return v;
}

static bool receive_config(struct receiver *r, uint64_t length)
{
	json_t *v = read_json(r->fd, length);

	r->config = json_incref(json_object_get(v, "vm_config"));
	json_decref(v);
	return json_is_object(r->config);
}

static bool receive_range(struct receiver *r, const struct range *g)
{
	unsigned char got[PAGE], want[PAGE];
	uint64_t counter;

	if (g->length % PAGE != 0 || g->gpa % PAGE != 0)
		return false;
	for (uint64_t at = 0; at < g->length; at += PAGE) {
		if (!read_all(r->fd, got, sizeof(got)))
			return false;
		if (g->gpa + at == 0) {
			memcpy(&counter, got, sizeof(counter));
			vm.counter = r->counter = le64toh(counter);
		}
		page_at(g->gpa + at, want);
		if (memcmp(got, want, sizeof(got)) != 0)
			return false;
	}
	return true;
}

static bool receive_memory(struct receiver *r, uint64_t length)
{
	size_t n = length / sizeof(struct range);
	struct range *table = calloc(n + 1, sizeof(*table));
	bool ok = table != NULL && length % sizeof(*table) == 0 && read_all(r->fd, table, length);

	for (size_t i = 0; ok && i < n; i++)
		ok = receive_range(r, &table[i]);
	free(table);
	return ok;
}

static bool receive_state(struct receiver *r, uint64_t length)
{
	json_t *state = read_json(r->fd, length);
	bool ok = state != NULL && state_take_up(r->config, state, r->counter, RECEIVE);

	r->answered = state != NULL && !ok;
	json_decref(state);
	return ok;
}

/* vm_receive_migration_step() */
static bool obey(struct receiver *r, const struct header *h)
{
	static const unsigned before[] = {
		[START] = 1u << 0,
		[CONFIG] = 1u << START,
		[MEMORY] = 1u << CONFIG | 1u << MEMORY,
		[STATE] = 1u << CONFIG | 1u << MEMORY,
		[COMPLETE] = 1u << STATE,
		[COMPLETE_PAUSED] = 1u << STATE,
	};

	if (h->word >= N(before) || (before[h->word] & 1u << r->last) == 0)
		return false;
	r->last = h->word;
	switch (h->word) {
	case START:
		return h->more[0] == 0 && h->more[1] == 0;
	case CONFIG:
		return receive_config(r, h->length);
	case MEMORY:
		return receive_memory(r, h->length);
	case STATE:
		return receive_state(r, h->length);
	case COMPLETE:
		run_on();
		return true;
	default:
		return fake_major() >= 53;
	}
}

static bool respond(int fd, unsigned status)
{
	struct header h = { .word = htole16((uint16_t)status) };

	return send(fd, &h, sizeof(h), MSG_NOSIGNAL) == (ssize_t)sizeof(h);
}

static void receive_from(int fd)
{
	struct receiver r = { .fd = fd };
	struct header h;
	bool ok = true;

	while (ok && r.last != COMPLETE && r.last != COMPLETE_PAUSED) {
		/* What has come is left as it is: a VM with its state, standing still. */
		if (!read_all(fd, &h, sizeof(h))) {
			answer_error(RECEIVE, "Socket error", "failed to fill whole buffer", NULL);
			return;
		}
		h.word = le16toh(h.word);
		h.length = le64toh(h.length);
		if (h.word < N(names) && names[h.word] != NULL)
			script_fire(names[h.word]);
		ok = !is_scripted("refuse", h.word) && obey(&r, &h);
		respond(fd, ok ? OK : ERROR);
	}
	if (ok) {
		event("vm", "migration-receive-finished", NULL);
		answer_empty(204);
		return;
	}
	event("vm", "migration-receive-failed", NULL);
	if (vm.owned)
		machine_stop();
	json_decref(vm.config);
	vm.config = NULL;
	migrate_witness();
	if (r.answered)
		return;
	if (fake_major() < 53)
		answer_empty(204);
	else
		answer_error(RECEIVE, "Failed to complete migration for migratable component",
			"Migration was aborted", NULL);
}

void migrate_receive(const json_t *args)
{
	const char *path = unix_path(json_string_value(json_object_get(args, "receiver_url")));
	char why[256];
	int listener, fd;

	if (vm.owned || vm.migrating) {
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			vm.migrating ? "There is already an ongoing migration"
				     : "Can't receive a migration when a VM is already created",
			NULL);
		return;
	}
	if (path == NULL) {
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			"Invalid receive migration configuration",
			fake_major() < 54 ? "Error validating receive migration parameters: "
					    "receiver_url must use tcp:<host>:<port> or "
					    "unix:<path>."
					  : "Expected receiver_url to either use `tcp` or `unix` "
					    "prefix",
			NULL);
		return;
	}
	listener = unix_socket(path, true);
	if (listener < 0) {
		os_error(why, sizeof(why));
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			"Error binding to UNIX socket", why, NULL);
		return;
	}
	event("vm", "migration-receive-ready", NULL);
	fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	close(listener);
	/* From v53 on its path is left where it is. */
	if (fake_major() < 53 && unlink(path) < 0) {
		os_error(why, sizeof(why));
		answer_error(RECEIVE, "Failed to receive migratable component snapshot",
			"Error removing UNIX socket file", why, NULL);
		close(fd);
		return;
	}
	event("vm", "migration-receive-started", NULL);
	receive_from(fd);
	close(fd);
}

/* ---- the sender ---- */

static struct {
	int fd;
	enum vm_state before;
	unsigned last; /* request, of which the answer is to come; 0: none is under way */
	unsigned round;
	uint64_t due;
	char *data; /* that is still to be written */
	size_t len, at;
	struct header answer;
	size_t answer_len;
} out = { .fd = -1 };

static bool is_async(void)
{
	return fake_major() >= 53;
}

static void migration_over(bool ok)
{
	close(out.fd);
	out.fd = -1;
	free(out.data);
	out.data = NULL;
	vm.migrating = false;
	json_decref(vm.frozen);
	vm.frozen = NULL;
	if (is_async())
		event("vm", ok ? "migration-finished" : "migration-failed", NULL);
	if (!ok && out.before == VM_RUNNING && vm.state == VM_PAUSED)
		run_on();
	if (!is_async() && ok)
		answer_empty(204);
	else if (!is_async())
		answer_error("Error sending migration",
			"Failed to send migratable component snapshot", "Socket error", NULL);
	if (ok) {
		/* check_migration(): the process goes with its VM, without an event of that. */
		machine_stop();
		machine_quit(0);
	}
}

/* Header and payload; `more` bytes that are not in its length follow. */
static char *request(unsigned word, uint64_t length, size_t more)
{
	struct header h = { .word = htole16((uint16_t)word), .length = htole64(length) };

	if (word == START)
		h.more[0] = (uint8_t)script_number(script_find("protocol", NULL), 0);
	if (is_scripted("garble", word))
		h.more[5] = 1;
	out.last = word;
	out.len = sizeof(h) + length + more;
	out.at = 0;
	out.data = malloc(out.len);
	memcpy(out.data, &h, sizeof(h));
	script_fire(names[word]);
	return out.data + sizeof(h);
}

static void send_text(unsigned word, json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT);
	size_t len = strlen(text);

	json_decref(v);
	memcpy(request(word, len, 0), text, len);
	free(text);
}

static void send_config(void)
{
	send_text(CONFIG, json_pack("{s:O,s:[],s:{s:i}}", "vm_config", vm.config, "common_cpuid",
				  "memory_manager_data", "current_ram", 0));
}

/* All of it in two ranges, the second one far away; then the first page again. */
static void send_memory(void)
{
	uint64_t size = memory_size(), half = size / 2 / PAGE * PAGE;
	struct range table[2] = { { 0, half }, { UINT64_C(1) << 32, size - half } };
	size_t n = 2;
	char *p;

	if (out.round > 0) {
		table[0].length = PAGE;
		n = 1;
	}
	if (out.before == VM_RUNNING)
		event("vm", "migration-memory-iteration", "id", "0", NULL);
	p = request(MEMORY, n * sizeof(table[0]), table[0].length + (n > 1 ? table[1].length : 0));
	memcpy(p, table, n * sizeof(table[0]));
	p += n * sizeof(table[0]);
	for (size_t i = 0; i < n; i++)
		for (uint64_t at = 0; at < table[i].length; at += PAGE, p += PAGE)
			page_at(table[i].gpa + at, (unsigned char *)p);
	out.round++;
}

static void stand_still(void)
{
	if (vm.state != VM_RUNNING)
		return;
	event("vm", "pausing", NULL);
	vm.state = VM_PAUSED;
	migrate_witness();
	event("vm", "paused", NULL);
}

/* What follows the request that was just answered. */
static void next(void)
{
	switch (out.last) {
	case 0:
		request(START, 0, 0);
		return;
	case START:
		send_config();
		return;
	case CONFIG:
		send_memory();
		return;
	case MEMORY:
		if (out.round == 1 && out.due == 0) {
			out.due = now_ms() +
				  (uint64_t)script_number(script_find("migration", NULL), 0);
			return;
		}
		if (out.round == 1) {
			stand_still();
			send_memory();
			return;
		}
		event("vm", "snapshotting", NULL);
		event("vm", "snapshotted", NULL);
		send_text(STATE, state_devices());
		return;
	case STATE:
		request(out.before == VM_RUNNING || fake_major() < 53 ? COMPLETE : COMPLETE_PAUSED,
			0, 0);
		return;
	default:
		migration_over(true);
	}
}

static void read_answer(void)
{
	ssize_t n = recv(out.fd, (char *)&out.answer + out.answer_len,
		sizeof(out.answer) - out.answer_len, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0 && (out.answer_len += (size_t)n) < sizeof(out.answer))
		return;
	out.answer_len = 0;
	/* Older ones say Abandon after an error, which nobody reads any more. */
	if (n <= 0 || le16toh(out.answer.word) != OK || out.answer.length != 0)
		migration_over(false);
	else
		next();
}

static void write_more(void)
{
	ssize_t n = send(out.fd, out.data + out.at, out.len - out.at, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		migration_over(false);
		return;
	}
	out.at += (size_t)n;
	if (out.at < out.len)
		return;
	free(out.data);
	out.data = NULL;
}

int migrate_fd(void)
{
	return out.due == 0 || out.round > 1 ? out.fd : -1;
}

short migrate_events(void)
{
	return out.data != NULL ? POLLOUT : POLLIN;
}

int migrate_timeout(void)
{
	uint64_t now = now_ms();

	if (out.fd < 0 || out.due == 0 || out.round != 1)
		return -1;
	return out.due > now ? (int)(out.due - now) : 0;
}

void migrate_ready(void)
{
	if (out.fd < 0)
		return;
	if (out.due != 0 && out.round == 1) {
		if (now_ms() >= out.due)
			next();
	} else if (out.data != NULL) {
		write_more();
	} else {
		read_answer();
	}
}

void migrate_send(const json_t *args)
{
	const char *path = unix_path(json_string_value(json_object_get(args, "destination_url")));
	const char *cause = vm.migrating ? "There is already an ongoing migration"
			    : !vm.owned  ? "VM is not running"
					 : NULL;

	if (cause != NULL) {
		answer_error(SEND, "Failed to send migratable component snapshot", cause, NULL);
		return;
	}
	if (path == NULL) {
		answer_error(SEND, "Failed to send migratable component snapshot",
			"Invalid send migration configuration",
			"Error validating send migration parameters: destination_url must use "
			"tcp:<host>:<port> or unix:<path>.",
			NULL);
		return;
	}
	vm.frozen = machine_info();
	vm.migrating = true;
	out.before = vm.state;
	out.last = out.round = 0;
	out.due = 0;
	/* From v53 on it is a thread's work, and only events tell of it. */
	if (is_async()) {
		answer_empty(204);
		event("vm", "migration-started", NULL);
	}
	out.fd = unix_socket(path, false);
	if (out.fd < 0) {
		migration_over(false);
		return;
	}
	next();
	while (!is_async() && out.fd >= 0) {
		struct pollfd p = { .fd = migrate_fd(), .events = migrate_events() };

		if (poll(&p, 1, migrate_timeout()) >= 0)
			migrate_ready();
	}
}
