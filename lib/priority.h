/*
 * lib/priority.h - the calling thread goes before what it supervises. To be called once, by the
 * loop's thread; what it starts from then on, processes and threads, has the ordinary priority.
 */
#ifndef DROVER_LIB_PRIORITY_H
#define DROVER_LIB_PRIORITY_H

#include "lib/err.h"

/*
 * Our session, if we lead it, goes before others as well: long work is for children with one of their
 * own (child_spec.new_session).
 *
 * Gives the thread a nice value of at most -10 and short time slices, where the kernel and our
 * privileges allow it. A positive one, with which somebody has put us behind others on purpose,
 * stays. -EPERM: only the time slices are short, which takes no privilege.
 */
int priority_raise(struct err *err);

#endif
