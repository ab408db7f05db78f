/* SPDX-License-Identifier: ISC */
/*
 * Workers while they live and when they are to go.
 * Runs in: parent
 */
#ifndef PARENT_RETIRE_H
#define PARENT_RETIRE_H

#include <stdbool.h>
#include <stdint.h>

#include "parent_worker.h"

/* Pings, notices who is late, kills who is lost. Returns the loop time of the next call. */
uint64_t workers_supervise(struct workers *workers);
/*
 * The pool's namespace is another one, or there is one at last: new workers are started in it; those that there are get no more clients, and
 * drain-timeout to finish. The pool keeps a copy of *netns. Returns how many connections the old ones have.
 */
uint64_t workers_switch(struct workers *workers, struct pool *pool, const struct netns *netns);
/* Tells those that are marked as retired, and sees to it until all know and their time is over. */
void workers_retire(struct workers *workers);
/* Tells those who do not know it to finish until that loop time (LOOP_NEVER: no limit) and starts none again. True when all know. */
bool workers_stop(struct workers *workers, uint64_t until);

#endif
