/* tests/fakes/ch/fake.h - what the parts of fake-ch know of one another; see fake-ch.c. */
#ifndef DROVER_TESTS_FAKES_CH_FAKE_H
#define DROVER_TESTS_FAKES_CH_FAKE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define N(a)    (sizeof(a) / sizeof((a)[0]))
#define FDS_MAX 16

/* What is spelled as in vm.info. */
enum vm_state {
	VM_CREATED,
	VM_RUNNING,
	VM_SHUTDOWN,
	VM_PAUSED
};

struct fake {
	uint64_t started; /* ms, CLOCK_MONOTONIC */
	int api_listen, event_fd;
	char *api_path;
	int serial_listen, serial;
	char *serial_path;
	bool console_open; /* the serial socket was made: at vm.create, again by a boot after that */
	json_t *config;    /* NULL: not created */
	bool owned;        /* there is a VM: booted once, though the boot may have failed */
	enum vm_state state; /* of that VM */
	bool migrating;
	json_t *frozen; /* vm.info while it migrates */
	json_t *tree;   /* device_tree of vm.info */
	unsigned next_slot;
	struct {
		int fd;
		char id[64]; /* of its device */
	} held[FDS_MAX];
	size_t nheld;
	unsigned long counter; /* in the guest's memory: one more at each letter of its console */
};
extern struct fake vm;

/* script.c: what it does otherwise than cloud-hypervisor would */
struct directive {
	struct directive *next;
	char *verb, *step, *rest;
	bool done;
};
void script_add(const char *text);
void script_add_file(const char *path);
struct directive *script_find(const char *verb, const char *step);
bool script_has(const char *verb);
long script_number(const struct directive *d, long def);
void script_say(void);
void script_fire(const char *step);
int script_fire_timed(void); /* ms until the next one that is due, -1: none */
uint64_t now_ms(void);
void wait_ms(long ms);
/* "v53.0" */
const char *fake_version(void);
unsigned fake_major(void);
/* "53.0.0" */
const char *fake_crate_version(void);

/* http.c */
struct request {
	char method[12];
	char path[256]; /* behind /api/v1/, or as it came */
	bool under_root;
	const char *body;
	size_t body_len;
	bool has_body;
	json_t *json;
	int fds[FDS_MAX];
	size_t nfds;
};
#define CLIENTS_MAX 10 /* micro_http's MAX_CONNECTIONS */
void http_accept(void);
int http_client_fd(size_t i); /* -1: none */
void http_read(size_t i);
void http_close_all(void);
/* To the client whose request is being answered; nothing when there is none. */
void http_send(const char *data, size_t len);
void http_close_current(void);
void http_answer(int status, const char *body, bool has_body);

/* api.c */
void api_handle(struct request *r);

/* errors.c: the answers, with the texts of the real program */
void answer_json(int status, json_t *body); /* takes body */
void answer_empty(int status);
/* ["Error from API", first, ...], up to a NULL. */
void answer_error(const char *first, ...) __attribute__((sentinel));
void answer_chain(int status, const char *first, ...) __attribute__((sentinel));

/* schema.c */
struct schema_route {
	const char *method;
	const char *body; /* name of the schema; NULL: no body */
	bool known;
};
void schema_route(const char *path, struct schema_route *out);
/* The first thing that does not fit, in serde's words; false then. */
bool schema_check(const char *name, const json_t *v, const char *text, char *why, size_t cap);
/* What serde says of text that is no JSON. */
void schema_syntax(const char *text, size_t len, char *why, size_t cap);
void schema_fill(const char *name, json_t *v); /* defaults, as vm.info shows them */

/* machine.c: what the VM is and does */
/* key, value, ... up to a NULL */
void event(const char *source, const char *name, const char *key, ...);
void event_text(const char *text);
const char *machine_state(void);
bool machine_open_console(char *why, size_t cap);
void machine_close_console(void);
/* false: why was answered (an error of `what`). */
bool machine_boot(const char *what);
void machine_stop(void); /* what is the VM's own is gone */
void machine_power_off(void);
void machine_reset(void);
void machine_panic(void);
void machine_quit(int status) __attribute__((noreturn));
void machine_delete(void);
void machine_die(int sig) __attribute__((noreturn));
void machine_serial_accept(void);
void machine_serial_read(void);
void machine_print(const char *text);
json_t *machine_info(void);

/* devices.c */
void machine_add_node(const char *id, const char *bdf);
void machine_remove_node(const char *id);
bool machine_open_device(const char *kind, const json_t *config, const char *what);
bool machine_hold(int fd, const char *id);
void machine_let_go(const char *id); /* NULL: of all */
/* false: answered, that there are more than so many devices of that id already */
bool machine_unique(const char *what, const char *id, size_t allowed);
size_t machine_count_id(const char *id);
/* Adds it to the tree; {"id", "bdf"}. */
json_t *machine_add_device(const char *kind, json_t *config);
bool machine_is_id(const char *id);

/* state.c: snapshots */
void state_snapshot(const json_t *args);
void state_restore(struct request *r);
json_t *state_devices(void);
/* The VM of another process goes on here, standing still; false: that was answered. */
bool state_take_up(json_t *config, const json_t *state, unsigned long counter, const char *what);
void os_error(char *out, size_t cap);

/* migrate.c: migration, in the real program's protocol */
void migrate_receive(const json_t *args);
void migrate_send(const json_t *args);
int migrate_fd(void); /* to be polled for migrate_events(), -1: none */
short migrate_events(void);
int migrate_timeout(void);
void migrate_ready(void);
/* With `witness`: whether a second guest of that file runs. To be called when the state changed. */
void migrate_witness(void);

#endif
