#include "oci/feed.h"
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void feed_init(struct feed *f, uint64_t size)
{
	atomic_init(&f->have, 0);
	atomic_init(&f->turn, 0);
	atomic_init(&f->broken, false);
	f->size = size;
}

/* Not a private futex: the cell is shared between two processes. */
void feed_wake(struct feed *f)
{
	atomic_fetch_add(&f->turn, 1);
	syscall(SYS_futex, &f->turn, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void feed_more(struct feed *f, uint64_t have)
{
	atomic_store(&f->have, have);
	feed_wake(f);
}

void feed_break(struct feed *f)
{
	atomic_store(&f->broken, true);
	feed_wake(f);
}

int feed_check(struct feed *f, struct err *err)
{
	if (atomic_load(&f->broken))
		return err_set(err, -ESTALE, "the layer is being fetched once more");
	return 0;
}

int feed_wait(
	struct feed *f, uint64_t pos, const atomic_bool *stop, uint64_t *have, struct err *err)
{
	for (;;) {
		uint32_t turn = atomic_load(&f->turn);
		uint64_t n = atomic_load(&f->have);
		int r = feed_check(f, err);

		if (r < 0)
			return r;
		if (n > pos || pos >= f->size) {
			*have = n > pos ? n : pos;
			return 0;
		}
		if (atomic_load(stop))
			return err_set(err, -ECANCELED, "reading was stopped");
		syscall(SYS_futex, &f->turn, FUTEX_WAIT, turn, NULL, NULL, 0);
	}
}

bool feed_whole(const struct feed *f)
{
	return atomic_load(&f->have) == f->size;
}
