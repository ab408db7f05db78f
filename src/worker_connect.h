/* SPDX-License-Identifier: ISC */
/*
 * From a client to a connected pair: NEW -> CONNECTING -> RELAYING.
 * Runs in: worker
 */
#ifndef WORKER_CONNECT_H
#define WORKER_CONNECT_H

#include "worker_conn.h"

/* Begins the connection to the target; the connection is CONNECTING, RELAYING or CLOSING afterwards. */
void connect_start(struct worker *worker, struct conn *conn);
/* The target's socket says something while CONNECTING. */
void connect_on_event(struct worker *worker, struct conn *conn, int side, uint32_t events);
/* It failed with this errno: one log line, and the client is reset. */
void connect_failed(struct worker *worker, struct conn *conn, int error);
/* The handshake is over. */
void connect_done(struct worker *worker, struct conn *conn);

#endif
