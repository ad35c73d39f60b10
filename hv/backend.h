/*
 * hv/backend.h - what the backends share: the part of a machine's object that hv.c answers from.
 * Private to hv/.
 */
#ifndef DROVER_HV_BACKEND_H
#define DROVER_HV_BACKEND_H

#include "hv/hv.h"
#include "lib/list.h"

#define HV_COMMAND_TIMEOUT_MS 5000
#define HV_READY_TIMEOUT_MS   60000

/* First member of a backend's own struct; zeroed by the backend's create, then hv_create()'s. */
struct hv {
	const struct hv_ops *ops;
	uv_loop_t *loop;
	struct hv_callbacks cb;
	enum hv_status status;
	bool unresponsive;
	struct hv_process process;
	struct hv_caps caps;
	struct list refusals; /* that have not been told yet; hv.c's own */
	char program[64];     /* caps.program points here */
	char accel_text[160];
};

/*
 * Picks the accelerator for spec and writes the reason: true for KVM. `auto` also asks whether the
 * binary emulates this host's kind of processor.
 */
bool hv_choose_accel(const struct hv_spec *spec, char *text, size_t cap);

/*
 * Opens the file for the hypervisor's stdout and stderr; *out is -1 where path is NULL. *offset: where
 * this run's own lines begin.
 */
int hv_log_open(const char *path, int *out, long long *offset, struct err *err);
/* Appends what the hypervisor said last, in this run, to the message. */
void hv_add_last_words(const char *path, long long offset, struct err *err);

/* Foreign text for a message: control characters become spaces, in place. */
void hv_clean_text(char *s);

#endif
