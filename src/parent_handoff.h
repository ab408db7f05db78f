/* SPDX-License-Identifier: ISC */
/*
 * Which worker gets a client, and handing it over.
 * Runs in: parent
 *
 * Theory of operation: a client is accepted only when handoff_choose() has named a worker with room, so it always has a place: the worker's
 * batch, sent as one MSG_CONN when it is full and at the end of each turn of the loop. A send that the kernel refuses (channel full, too many
 * descriptors in flight) marks the worker blocked and moves its batch to others; what nobody has room for stays and is tried again. So a client
 * that was accepted is never lost, what waits is bounded by one batch for each worker, and nothing here ever waits.
 */
#ifndef PARENT_HANDOFF_H
#define PARENT_HANDOFF_H

#include <stdbool.h>

#include "parent_pool.h"

/* The worker of the pool that the next client should go to; NULL: none has room. */
struct worker *handoff_choose(struct pools *pools, unsigned pool);
/* Gives it the client. fd is taken. worker is what handoff_choose() just said. */
void handoff_conn(struct worker *worker, const struct msg_conn *conn, unsigned service, int fd);
/* Sends what waits for the pool's workers. True when nothing waits and no worker is blocked. */
bool handoff_flush(struct pools *pools, unsigned pool);
/* As handoff_flush(), but blocked workers are tried again. */
bool handoff_retry(struct pools *pools, unsigned pool);
/* Can it be given one more now? */
bool handoff_has_room(const struct worker *worker);
/* Sends what waits for this worker, also after its channel was full. */
void handoff_push(struct worker *worker);
/* The worker takes no more clients (its state says so): what waits for it goes to others; what has no place there is reset. Returns how many. */
unsigned handoff_orphans(struct worker *worker);

#endif
