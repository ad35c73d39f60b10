/* The script: what fake-ch does otherwise than cloud-hypervisor would; see fake-ch.c. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "tests/fakes/ch/fake.h"

static struct directive *script;

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void wait_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

struct directive *script_find(const char *verb, const char *step)
{
	for (struct directive *d = script; d != NULL; d = d->next)
		if (strcmp(d->verb, verb) == 0 &&
			(step == NULL || (d->step != NULL && strcmp(d->step, step) == 0)))
			return d;
	return NULL;
}

bool script_has(const char *verb)
{
	return script_find(verb, NULL) != NULL;
}

long script_number(const struct directive *d, long def)
{
	return d != NULL && d->rest != NULL && *d->rest != '\0' ? strtol(d->rest, NULL, 0) : def;
}

static bool takes_step(const char *verb)
{
	static const char *const plain[] = { "say", "fragments", "linger", "no-acpi", "no-term",
		"no-events", "once", "version", "features", "migration", "no-unplug", "no-nested",
		"memory", "protocol", "witness" };

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

/* Lines are split at newlines and ';' outside of braces and brackets, for JSON's sake. */
void script_add(const char *text)
{
	char *copy = text != NULL ? strdup(text) : NULL, *line = copy;
	int depth = 0;

	for (char *p = copy; p != NULL && !script_has("end"); p++) {
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

void script_add_file(const char *path)
{
	char text[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;

	if (n >= 0) {
		text[n] = '\0';
		script_add(text);
	}
	if (fd >= 0)
		close(fd);
}

void script_say(void)
{
	for (struct directive *d = script; d != NULL; d = d->next)
		if (strcmp(d->verb, "say") == 0)
			fprintf(stderr, "%s\n", d->rest);
}

const char *fake_version(void)
{
	struct directive *d = script_find("version", NULL);

	return d != NULL && d->rest != NULL ? d->rest : "v53.0";
}

/* A build between two releases, v53.0-244-g3f51be0c0, counts as the next one. */
unsigned fake_major(void)
{
	const char *v = fake_version();

	return (unsigned)strtoul(v + 1, NULL, 10) + (strchr(v, '-') != NULL);
}

const char *fake_crate_version(void)
{
	static char text[32];
	unsigned major = 0, minor = 0, patch = 0;

	sscanf(fake_version(), "v%u.%u.%u", &major, &minor, &patch);
	snprintf(text, sizeof(text), "%u.%u.%u", fake_major(), minor, patch);
	return text;
}

/* SOURCE NAME [KEY VALUE] */
static void do_event(const char *rest)
{
	char source[64] = "", name[64] = "", key[64] = "", value[128] = "";

	sscanf(rest, "%63s %63s %63s %127s", source, name, key, value);
	event(source, name, *key != '\0' ? key : NULL, value, NULL);
}

static void do_status(const char *word)
{
	static const char *const words[] = { "Created", "Running", "Shutdown", "Paused" };

	for (size_t i = 0; i < N(words); i++)
		if (strcmp(word, words[i]) == 0)
			vm.state = (enum vm_state)i;
}

static void perform(struct directive *d)
{
	const char *v = d->verb, *rest = d->rest != NULL ? d->rest : "";

	if (strcmp(v, "exit") == 0)
		_exit((int)script_number(d, 1));
	else if (strcmp(v, "kill") == 0)
		machine_die((int)script_number(d, SIGKILL));
	else if (strcmp(v, "stop") == 0)
		raise(SIGSTOP);
	else if (strcmp(v, "wait") == 0)
		wait_ms(script_number(d, 0));
	else if (strcmp(v, "close") == 0)
		http_close_current();
	else if (strcmp(v, "garbage") == 0)
		http_send(*rest != '\0' ? rest : "%!garbage\r\n\r\n",
			*rest != '\0' ? strlen(rest) : 13);
	else if (strcmp(v, "event") == 0)
		do_event(rest);
	else if (strcmp(v, "event-text") == 0)
		event_text(rest);
	else if (strcmp(v, "status") == 0)
		do_status(rest);
	else if (strcmp(v, "poweroff") == 0)
		machine_power_off();
	else if (strcmp(v, "reboot") == 0)
		machine_reset();
	else if (strcmp(v, "panic") == 0)
		machine_panic();
	else if (strcmp(v, "console") == 0)
		machine_print(rest);
}

/* Those that are looked for by name whenever their endpoint is called. */
static bool is_lasting(const struct directive *d)
{
	static const char *const lasting[] = { "late", "ignore", "error", "big", "cut" };

	for (size_t i = 0; i < N(lasting); i++)
		if (strcmp(d->verb, lasting[i]) == 0)
			return true;
	return false;
}

void script_fire(const char *step)
{
	for (struct directive *d = script; d != NULL; d = d->next) {
		if (d->done || d->step == NULL || is_lasting(d) || strcmp(d->step, step) != 0)
			continue;
		d->done = true;
		perform(d);
	}
}

int script_fire_timed(void)
{
	uint64_t now = now_ms();
	int next = -1;

	for (struct directive *d = script; d != NULL; d = d->next) {
		uint64_t due;

		if (d->done || d->step == NULL || *d->step != '+' || is_lasting(d))
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
