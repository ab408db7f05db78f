/* SPDX-License-Identifier: ISC */
/*
 * What a worker is told before it serves: limits, routes, directories.
 * Runs in: parent
 */
#ifndef PARENT_FEED_H
#define PARENT_FEED_H

#include <stdint.h>

#include "parent_pool.h"
#include "parent_route.h"

/* Sends what of it was not sent yet. 0 when that is all; -1 with errno EAGAIN or ETOOMANYREFS: its channel is full; else it is gone. */
int feed_worker(struct worker *worker, const struct routes *routes);
/* Of all that a worker of this pool is told, but for what differs between workers and what can be changed while they live (the level of the log). */
uint64_t feed_digest(const struct pools *pools, unsigned pool, const struct routes *routes);

#endif
