/* What a cloud-hypervisor sends to another one, as its daemon reads it on the way. */
#include <stdlib.h>
#include <string.h>
#include "hv/ch-wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct end {
	size_t passed;
	int code;
	enum ch_wire_stop stop;
	struct ch_wire w;
};

/* A receiver that is content with everything, as soon as it has it. */
static void answer(struct ch_wire *w)
{
	char header[CH_WIRE_HEADER];
	size_t pass = 0;
	struct err err;

	ch_wire_header(header, (enum ch_wire_command)1, 0);
	if (ch_wire_answers(w, header, sizeof(header), &pass, &err) < 0 || pass != sizeof(header))
		abort();
}

/* In pieces of that size, and no more at once than one header, table row or payload. */
static struct end run(const char *data, size_t len, size_t piece)
{
	struct end e = { 0 };
	size_t there = 0, pass = 1;
	struct err err;

	while (e.code == 0 && e.stop == CH_WIRE_NO_STOP && (pass > 0 || there < len)) {
		size_t most = e.w.payload > 0 ? e.w.payload : 16, n;

		if (pass == 0)
			there = there + piece < len ? there + piece : len;
		n = there - e.passed < most ? there - e.passed : most;
		pass = 0;
		e.code = ch_wire_requests(&e.w, data + e.passed, n, &pass, &e.stop, &err);
		if (pass > n || (e.code < 0 && pass != 0))
			abort();
		e.passed += pass;
		if (e.code == 0 && e.w.waits && e.w.payload == 0 && e.w.table == 0)
			answer(&e.w);
	}
	return e;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	struct end whole = run(text, len, len + 1), bytes = run(text, len, 1);
	struct ch_wire w = { 0 };
	size_t pass;
	struct err err;

	/* How it comes makes no difference. */
	if (whole.passed != bytes.passed || whole.code != bytes.code || whole.stop != bytes.stop ||
		whole.w.memory != bytes.w.memory)
		abort();
	if (whole.stop == CH_WIRE_AT_COMPLETE && whole.w.last != CH_WIRE_STATE)
		abort();
	w.waits = true;
	ch_wire_answers(&w, text, len, &pass, &err);
	return 0;
}
