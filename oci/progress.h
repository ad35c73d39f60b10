/*
 * oci/progress.h - what drover-image tells of its work: JSON lines on standard output, as
 * oci/image.h documents them. When nobody reads them any more the work goes on.
 */
#ifndef DROVER_OCI_PROGRESS_H
#define DROVER_OCI_PROGRESS_H

#include <jansson.h>
#include <stdbool.h>
#include "oci/manifest.h"

/* One image's progress; fill with progress_init(). */
struct progress {
	const char *ref;                 /* as the caller gave it */
	const struct descriptor *layers; /* from progress_start() to progress_end() */
	uint64_t *last_ms;               /* for each layer, when it was last told of */
	size_t n;
	uint64_t build_last_ms;
};

void progress_init(struct progress *p, const char *ref);
void progress_finish(struct progress *p);
/* layers are borrowed until progress_end(). */
int progress_start(struct progress *p, const struct descriptor *layers, size_t n, size_t cached,
	struct err *err);
void progress_end(struct progress *p);
/* At most 10 a second a layer are written. */
void progress_layer(struct progress *p, const struct descriptor *layer, uint64_t done);
void progress_layer_done(struct progress *p, const struct descriptor *layer, bool cached);
void progress_build(struct progress *p, uint64_t done, uint64_t size);

void progress_warning(const char *message);
/* ref may be NULL. */
void progress_error(const char *ref, const struct err *err);
/* Writes v as a line and takes it over; NULL (no memory) is told of on standard error. */
void progress_event(json_t *v);

#endif
