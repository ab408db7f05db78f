/* SPDX-License-Identifier: ISC */
/*
 * The listeners: polled, accepted from, paused while a client would have no place, closed.
 * Runs in: parent
 */
#ifndef PARENT_LISTEN_H
#define PARENT_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "parent_bind.h"
#include "parent_pool.h"

struct listener {
	struct bound bound;		/* owned; fd -1: closed */
	uint32_t route;
	unsigned service, pool;
	uint16_t port_offset;
	bool paused;			/* is in the epoll set without interest */
	bool wanted;			/* is to be opened (anew) in the namespace that its name means now */
	bool kept;			/* is the one of the image before */
};

/* Why the listeners of a pool are paused: no worker has room, or something waits that nobody takes. Asked again by timer, 1 ms to 100 ms. */
struct listen_gate {
	struct listen_set *set;
	unsigned pool;
	bool shut;
	uint64_t wait;			/* ns until the next try; 0: all is well */
	struct loop_timer timer;
};

/* `max-connections`, of all workers together. */
struct listen_limit {
	uint32_t most;			/* UINT32_MAX: only what fits */
	bool shut;
	bool drained;			/* clients are reset */
	uint64_t reset;			/* how many were since then */
};

struct listen_set {
	const struct conf *conf;
	struct loop *loop;
	uint8_t kind;			/* of our references in the loop */
	struct pools *pools;
	struct listener *list;
	uint32_t n;
	struct listen_gate *gates;	/* [pools->n] */
	struct listen_limit *limits;	/* [n_services] */
	struct loop_timer limit_timer;
	bool starved;			/* no descriptors or memory for another socket */
	struct loop_timer starved_timer;
	uint64_t starved_quiet;		/* loop time of the next line about it */
	uint64_t next_id;
	/* Moderation of accepting, see parent_listen.c: clients and turns of the window, whether its turns wait, since when and until when not. */
	uint64_t window_start, calm_until;
	uint32_t window_count, window_turns;
	bool busy;
	uint64_t turn;			/* loop time of the turn that was counted last */
};

/* Timers that it may have armed at the same time, beside one for each pool. */
#define LISTEN_TIMERS 2

/* Begins to accept. 0 or -1 with errno. */
int listen_start(struct listen_set *set, struct loop *loop, uint8_t kind);
/* At the end of each turn of the loop: sends what was gathered. */
void listen_after_turn(struct listen_set *set);
/* Workers came or went: listeners that are paused for want of one are looked at again. */
void listen_recheck(struct listen_set *set);
/* From now on the service's clients are reset at once, or served again. Returns how many were reset until now. */
uint64_t listen_drain(struct listen_set *set, unsigned service, bool drained);
/* Do the service's clients wait in the backlog? */
bool listen_is_paused(const struct listen_set *set, unsigned service);
/*
 * Takes what waits in the backlog of the old socket, closes it, and polls the new one in its place, which is taken. 0, or -1 with errno: then
 * the listener is closed and still wanted.
 */
int listen_replace(struct listen_set *set, struct listener *listener, const struct bound *bound);
/* Takes what already waits in the backlogs, then closes all sockets and removes unix paths. */
void listen_stop(struct listen_set *set);
/* The same without accepting, and frees. */
void listen_close(struct listen_set *set);

#endif
