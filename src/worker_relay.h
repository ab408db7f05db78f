/* SPDX-License-Identifier: ISC */
/*
 * The relay: which direction may move, what its results mean, half-close, timeouts.
 * Runs in: worker
 */
#ifndef WORKER_RELAY_H
#define WORKER_RELAY_H

#include "worker_conn.h"

/* Entering RELAYING. */
void relay_start(struct worker *worker, struct conn *conn);
/* loop handler of KIND_CLIENT and KIND_TARGET; owner is struct worker. */
void relay_on_event(void *owner, struct loop_ref ref, uint32_t events);
/* Remembers what the events of a side say; moves nothing. */
void relay_note(struct conn *conn, int side, uint32_t events);
/* As engine_host: what a completion engine has to tell. owner is struct worker. */
void relay_event(void *owner, struct pair *pair, int side, uint32_t events);
void relay_sent(void *owner, struct pair *pair, int d, uint32_t n);
void relay_failed(void *owner, struct pair *pair, int side, int error);
/* Moves direction d as far as it goes. */
void relay_run_dir(struct worker *worker, struct conn *conn, int d);
/* Goes on with those that spent their budget, and looks at the marked ones when it is time. */
void relay_run_lists(struct worker *worker);
/* ns until relay_run_lists() has something to do; LOOP_NEVER: only events matter. */
uint64_t relay_patience(const struct worker *worker);
/* When the connection's timer must look at it next: its connect, idle or half-close timeout, or one of the small things it does. */
uint64_t relay_next_look(const struct worker *worker, const struct conn *conn);
/* The connection's timer. */
void relay_on_timer(void *owner, void *arg);

#endif
