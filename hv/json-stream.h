/*
 * hv/json-stream.h - JSON objects over a Unix stream socket, in both directions, descriptors with
 * them: what a monitor's client and server have in common. Loop thread.
 *
 * One message may have up to JSON_STREAM_MAX bytes; a longer one, or bytes that are no JSON
 * objects, end the stream. Time is linear in the bytes, whatever pieces they come in.
 */
#ifndef DROVER_HV_JSON_STREAM_H
#define DROVER_HV_JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>
#include "lib/err.h"

#define JSON_STREAM_MAX (10u << 20)

struct json_stream;

/* From the loop, or from json_stream_drain(); each may call json_stream_close(). */
struct json_stream_callbacks {
	/*
	 * The bytes of one object, which may still be malformed inside. Borrowed. With `lenient` below
	 * also the bytes of what is none.
	 */
	void (*message)(void *arg, const char *data, size_t len);
	/* There is room again after json_stream_write() did not take all. */
	void (*writable)(void *arg);
	/* EOF (-ECONNRESET), garbage (-EBADMSG), too long (-EMSGSIZE). The last callback. */
	void (*broken)(void *arg, const struct err *err);
	/*
	 * The other end will not write any more, but still reads: what is written still goes out. NULL:
	 * that is the end like any other.
	 */
	void (*eof)(void *arg);
	void *arg;
	bool lenient;  /* as in json-scan.h: garbage does not end the stream */
	bool keep_fds; /* received descriptors are kept for json_stream_take_fd() */
};

/* Takes over fd, which must be non-blocking, also when it fails. */
int json_stream_create(struct json_stream **out, uv_loop_t *loop, int fd,
	const struct json_stream_callbacks *cb, struct err *err);
/*
 * Writes what the socket takes, pass_fd (-1: none) with the first byte. Returns the number of
 * bytes, 0 when there is no room now (writable follows), -errno when the other end is gone; what
 * it still has to say is read nevertheless, and then broken follows.
 */
ssize_t json_stream_write(struct json_stream *s, const char *data, size_t len, int pass_fd);
/*
 * The first of the descriptors that came last, now the caller's; the others are closed. -1: there
 * are none. Descriptors that nobody takes are closed when new ones come, as QEMU does it
 * (chardev/char-socket.c).
 */
int json_stream_take_fd(struct json_stream *s);
/*
 * Stops and starts reading: back-pressure. What was read already is still reported, at most
 * 64 KiB and the rest of a message. Not before json_stream_create() has returned.
 */
void json_stream_pause(struct json_stream *s, bool pause);
/* Reads and reports all that has come so far. */
void json_stream_drain(struct json_stream *s);
/* Closes the socket at once; closed (may be NULL) fires when the memory is gone. Takes NULL. */
void json_stream_close(struct json_stream *s, void (*closed)(void *arg), void *arg);

#endif
