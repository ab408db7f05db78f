/* SPDX-License-Identifier: ISC */
/*
 * A wall clock that jumps by a day, to and fro, five times a second: included before everything in a build with --enable-test-hooks, so that a
 * timeout which trusts it strikes at once or never.
 * Runs in: any
 */
#ifndef JUMPING_CLOCK_H
#define JUMPING_CLOCK_H

#include <time.h>

#define JUMPING_CLOCK_DAY 86400

static inline int
jumping_clock_gettime(clockid_t id, struct timespec *ts)
{
	struct timespec steady;

	if (clock_gettime(id, ts) == -1)
		return -1;
	if (id == CLOCK_REALTIME && clock_gettime(CLOCK_MONOTONIC, &steady) == 0)
		ts->tv_sec += ((steady.tv_sec * 5 + steady.tv_nsec / 200000000) % 3 - 1) * JUMPING_CLOCK_DAY;
	return 0;
}

#define clock_gettime jumping_clock_gettime

#endif
