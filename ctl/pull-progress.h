/*
 * ctl/pull-progress.h - what is known of a pull from its JSON lines (oci/image.h), and how that looks:
 * a bar for each layer and a total, or plain lines. Pure.
 */
#ifndef DROVER_CTL_PULL_PROGRESS_H
#define DROVER_CTL_PULL_PROGRESS_H

#include <jansson.h>
#include "lib/str.h"

struct pull_layer {
	char *digest;
	uint64_t done, size;
	bool complete, cached;
};

struct pull_progress {
	char *reference;
	struct pull_layer *layers;
	size_t nlayers;
	uint64_t build_done, build_size;
	bool bad; /* no memory: what is shown is less than there is */
};

/*
 * Takes one line in. What is worth a plain line of its own (a start, a complete layer, a warning,
 * the end) is added to plain.
 */
void pull_progress_event(struct pull_progress *p, const json_t *event, struct buf *plain);
/*
 * The lines of bars, each at most columns wide and all of them fewer than rows: where they do not
 * fit, complete layers are left out, then the last ones. Returns how many there are.
 */
unsigned pull_progress_draw(
	const struct pull_progress *p, unsigned columns, unsigned rows, struct buf *out);
void pull_progress_finish(struct pull_progress *p);

#endif
