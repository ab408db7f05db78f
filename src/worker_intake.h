/* SPDX-License-Identifier: ISC */
/*
 * Clients as they come from the parent.
 * Runs in: worker
 */
#ifndef WORKER_INTAKE_H
#define WORKER_INTAKE_H

#include "chan.h"

/* chan handler of MSG_CONN; owner is struct worker. */
int intake_conn(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);

#endif
