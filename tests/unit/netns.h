/*
 * tests/unit/netns.h - network namespaces for tests: this process's own, and those of helpers that
 * stand for guests and for the internet. Nothing is named, so that test programs run side by side.
 */
#ifndef DROVER_TESTS_UNIT_NETNS_H
#define DROVER_TESTS_UNIT_NETNS_H

#include "tests/unit/rig.h"
#include <sys/types.h>

/*
 * Puts this process into a fresh network namespace with lo up, or skips the test where that is
 * not permitted. Call it first in each test: libuv's pool gets one thread, and that comes along.
 */
void netns_enter(void);
/* A process in a namespace of its own; `nsenter -t PID -n` and `ip link set X netns PID` reach
 * it. It dies with the test. */
pid_t netns_peer(void);
void netns_peer_finish(pid_t pid);

/* Runs a shell command line and fails the test unless it exits with 0. */
void sh(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Its exit status. */
int sh_status(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Its standard output; a static buffer. */
const char *sh_output(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Repeats a command until it exits with 0; fails the test after 20 s. */
void sh_await(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
