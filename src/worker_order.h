/* SPDX-License-Identifier: ISC */
/*
 * What the parent asks about connections that live: end this one, end those of a service at a deadline, log more or less.
 * Runs in: worker
 */
#ifndef WORKER_ORDER_H
#define WORKER_ORDER_H

#include <stdint.h>

struct worker;

/* Before the sandbox: room for a deadline of each service. 0 or -1 with errno. */
int order_prepare(struct worker *worker, uint32_t n_services);
/* Handlers of MSG_CLOSE, MSG_DRAIN, MSG_LEVEL. A connection that is over already is no error: it ended while the order was on its way. */
int order_close(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
int order_drain(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);
int order_level(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);

#endif
