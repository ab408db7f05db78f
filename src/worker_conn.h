/* SPDX-License-Identifier: ISC */
/*
 * Connections: the pool, their states, and the one place where each ends.
 * Runs in: worker
 */
#ifndef WORKER_CONN_H
#define WORKER_CONN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "loop.h"
#include "msg.h"

struct worker;
struct worker_route;

/*
 * FREE        in the pool. No descriptor, no timer, not in any list.
 * NEW         has its client; never survives a return to the loop.
 * CONNECTING  has both descriptors, both registered with the loop; the target has not answered yet. Bytes of the client may be read and,
 *             since Linux takes them as soon as the handshake is over, sent; an end of the client is not passed on before RELAYING.
 * RELAYING    both directions as their own machine says. Both sockets reset on close; only the orderly end disarms that, so that the death
 *             of this process, or an error on one side, never looks like a clean end of data on the other.
 * CLOSING     in the closing list; only the reaper touches it, no event reaches it.
 * Nothing but the moves in the table of worker_conn.c is legal.
 */
enum conn_state { CONN_FREE, CONN_NEW, CONN_CONNECTING, CONN_RELAYING, CONN_CLOSING, CONN_STATES };

/*
 * Direction d reads side d and writes side !d.
 * OPEN   bytes may come
 * EOF    the source ended in order and nothing is pending, but the end is not passed on yet
 * SHUT   the end was passed on; when both directions are here the connection ends in order
 */
enum dir_state { DIR_OPEN, DIR_EOF, DIR_SHUT };

struct conn {
	struct pair pair;
	struct loop_timer timer;	/* connect, idle and half-close timeouts, and the delayed keepalive settings */
	uint64_t begun_at;		/* loop time when it came */
	uint64_t active_at;		/* loop time of the last byte moved */
	const struct worker_route *route;
	uint32_t generation;
	uint32_t next_free;
	uint16_t port_offset;
	uint8_t state;			/* enum conn_state; set by conn_set_state() only */
	uint8_t end;			/* enum conn_end, once CLOSING */
	uint8_t dir_state[SIDES];	/* enum dir_state */
	uint8_t first_end;		/* the side whose end was passed on first */
	bool readable[SIDES];		/* as the last event or attempt said, by side */
	bool writable[SIDES];
	bool failed[SIDES];		/* an error event came for this side */
	bool starved;			/* the kernel was out of memory: the timer tries again */
	bool settled;			/* keepalive is on */
	bool clog_watched;		/* the timer looks for a pipe that its receiver keeps full */
	bool begun;			/* the engine knows the pair */
	bool runnable, ticking;		/* is in the list of that name */
};

/* A list of slots; each connection is in it once at most, so max_conns is room enough. */
struct slot_list {
	uint32_t *slots;
	uint32_t n;
};

struct conn_table {
	struct conn *conns;		/* [max] */
	uint32_t max, live, free_head;
	uint32_t used;			/* slots below this were used at some time; the others cost no memory yet */
	struct slot_list runnable;	/* spent their budget; go on in the next turn */
	struct slot_list ticking;	/* have a marked direction */
	struct slot_list closing;	/* wait for the reaper */
};

/* 0 or -1 with errno. */
int conn_table_init(struct conn_table *table, uint32_t max);
/* Takes the client's descriptor. NULL (and the descriptor is closed, which resets the client) when there is no room. */
struct conn *conn_new(struct worker *worker, const struct msg_conn *msg, const struct worker_route *route, int *client_fd);
/* The connection an event belongs to; NULL when that one is over. */
struct conn *conn_from_ref(struct worker *worker, struct loop_ref ref);
/* The connection whose pair this is, whatever its state. */
struct conn *conn_of_pair(struct worker *worker, const struct pair *pair);
struct loop_ref conn_ref(const struct conn *conn, int side);
void conn_set_state(struct conn *conn, enum conn_state state);
/* Marks for closing and says why; the first reason counts. The caller returns to the loop without touching the connection again. */
void conn_close(struct worker *worker, struct conn *conn, enum conn_end end);
/* After each batch of events: closes descriptors and frees what is CLOSING. */
void conn_reap(struct worker *worker);
/* All that live, at once. */
void conn_close_all(struct worker *worker, enum conn_end end);
/* Adds to the list unless it is there. */
void conn_want_run(struct worker *worker, struct conn *conn);
void conn_want_tick(struct worker *worker, struct conn *conn);
/* Registers both sockets with the loop: edge-triggered, for everything, once. 0 or -1 with errno. */
int conn_watch(struct worker *worker, struct conn *conn);
struct conn_record *conn_record_of(struct worker *worker, const struct conn *conn);
/* A slot whose last record is gone is free again. */
void conn_release_slot(struct conn_table *table, uint32_t slot);
const char *conn_state_name(unsigned state);

#endif
