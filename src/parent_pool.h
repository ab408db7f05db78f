/* SPDX-License-Identifier: ISC */
/*
 * Pools of workers: one for each name of a private namespace. Only the data, and what can be read off it.
 * Runs in: parent
 *
 * Theory of operation: a pool has twice as many slots as workers. Its generation, which counts how often its namespace was made anew, tells by
 * its lowest bit which half is in use; in the other half are the workers of the namespace before, retired, until their last connection ends. The
 * first halves of all pools have the numbers 0 to n_workers - 1, the second ones follow. After these there is one for each worker that was taken over
 * from the image before (parent_adopt.h): whoever does not fit the configuration of now is retired into it.
 */
#ifndef PARENT_POOL_H
#define PARENT_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "chan.h"
#include "loop.h"
#include "parent_conf.h"
#include "parent_netns.h"
#include "parent_spawn.h"
#include "scoreboard.h"
#include "totals.h"

/* Most clients that wait in the parent for one worker: one full message. */
#define POOL_BATCH 64
/* The pool of a route that was removed. */
#define POOL_NONE UINT32_MAX
/* Scoreboards have room for so many services more, so that one that is added changes nothing for the workers of other pools. */
#define POOL_SERVICES_STEP 64u

/*
 * A slot for a worker; the process in it may change.
 * DEAD: none, `respawn` may be armed. STARTING: was sent its set-up or part of it, READY awaited. SERVING: takes clients.
 * STOPPING: was told to finish, takes none. In the last three pid, chan, report_fd, board_fd and board are set, and the slot owns them.
 */
enum worker_state { WORKER_DEAD, WORKER_STARTING, WORKER_SERVING, WORKER_STOPPING };

struct worker {
	struct pools *pools;
	struct workers *workers;	/* who cares for its life (parent_worker.h) */
	uint32_t index;			/* of the slot, over all pools */
	unsigned pool;
	enum worker_state state;
	uint32_t generation;		/* counts the processes that had this slot; never 0 */
	pid_t pid;
	int failure_fd;			/* what it left if it died before exec */
	uint64_t started;		/* CLOCK_REALTIME */
	/* What it was started as: whether it fits the configuration after a reload is told by comparing. */
	uint64_t feed;			/* digest of its set-up */
	struct program_id program;
	uid_t uid;
	gid_t gid;
	dev_t netns_dev;
	ino_t netns_ino;
	struct msg_ready ready;		/* what it said when it was */
	struct chan chan;
	uint32_t fed;			/* set-up messages sent so far, as worker_feed() counts them */
	int report_fd;			/* the reporter's end of its report channel: for a reporter that is started again */
	int board_fd;			/* read-only descriptor of its scoreboard, for the reporter */
	struct scoreboard board;
	uint32_t announced;		/* generation that the reporter was told of; 0: none */
	struct spawn_backoff backoff;
	struct loop_timer respawn;

	uint64_t sent;			/* clients given to it, those that still wait in the batch included */
	uint64_t *sent_by_service;	/* [n_services], likewise */
	uint64_t taken_seen, taken_at;	/* what the scoreboard said last, and the loop time since when it says so while clients wait */
	bool blocked;			/* its channel was full; the batch is kept until it is not */
	unsigned n_batch;
	struct msg_conn batch[POOL_BATCH];
	int batch_fds[POOL_BATCH];	/* owned */
	unsigned batch_services[POOL_BATCH];

	uint64_t ping_at;		/* loop time of the ping that is not answered yet; 0: none */
	uint64_t ping_number;
	bool ping_sent;
	bool retired;			/* of the namespace or configuration before: gets no clients, is not replaced, is told to stop */
	bool foreign;			/* of the configuration before: no other worker knows its routes */
	uint64_t retire_until;		/* loop time when its last connections are cut; LOOP_NEVER: they are not */
	uint64_t told_until;		/* while STOPPING: the time that it knows */
	bool late;			/* has not answered for a while: gets no clients while another one serves */
	bool ended;			/* SIGKILL is on its way: nothing more is wanted of it */
	bool said;			/* and why, so that its death needs no line of its own */
};

struct pool {
	struct netns netns;		/* a copy: the descriptor is its pinner's; -1: there is none yet, and there are no workers */
	unsigned of_netns;		/* index into conf.netns */
	const char *name;		/* for people: "private", or "here" */
	uint32_t first, n;		/* slots of the first half */
	uint32_t generation;
	bool missing;			/* the namespace is: its clients are reset */
	bool switching;			/* no worker of this generation has served yet */
	uint64_t refused;		/* clients that were reset since it is missing */
};

/* A worker that died before the reporter was told: its records must not be lost. The descriptors are owned. */
struct dead_worker {
	struct msg_worker msg;
	int report_fd, board_fd;
	uint64_t death;			/* its number (msg.h) */
	bool announced;			/* the reporter knows it */
	bool told;			/* and its end; forgotten when it says that all is written and counted */
};

struct pools {
	const struct conf *conf;
	struct loop *loop;
	struct pool *list;
	unsigned n;
	struct worker *workers;		/* [n_slots]: 2 * n_workers, then those that are only for workers that were taken over */
	uint32_t n_workers, n_slots;
	struct totals *totals;		/* not owned */
	uint32_t n_services;		/* of a scoreboard: conf's, rounded up */
	struct dead_worker *dead;	/* [n_slots + 16] */
	uint32_t n_dead;
	unsigned *of_service;		/* [n_services] */
	uint32_t max_conns;		/* of each worker */
	bool changed;			/* a worker came or went, or a listener got its port: the reporter and the listeners must be looked at */
};

/*
 * Pools for the services of conf; netns[] are conf's, pinned. Two names of one namespace have a pool each, since one of them may come to mean
 * another. `files` is the limit of descriptors of one process. `more`: workers that are taken over. 0, or -1 after a line.
 */
int pools_init(struct pools *pools, const struct conf *conf, struct loop *loop, const struct netns *netns, size_t files, struct totals *totals,
    uint32_t more);
/* A pool without slots for workers of a namespace that the configuration does not name any more. name must outlive it. Its index. */
unsigned pools_add_former(struct pools *pools, const char *name);
/* Every worker must be dead. */
void pools_free(struct pools *pools);

/* Slot i of both halves of a pool, 0 to 2 * n - 1. */
static inline struct worker *
pool_slot(const struct pools *pools, const struct pool *pool, uint32_t i)
{
	return &pools->workers[i < pool->n ? pool->first + i : pools->n_workers + pool->first + i - pool->n];
}

/* Is its slot in the half that its pool uses now? */
static inline bool
worker_is_current(const struct worker *worker)
{
	const struct pools *pools = worker->pools;

	return worker->index < 2 * pools->n_workers && (worker->index >= pools->n_workers) == (pools->list[worker->pool].generation & 1);
}

/* Clients that the worker holds or will hold. What the scoreboard says is clamped: a lie costs a bad choice. */
static inline uint64_t
worker_load(const struct worker *worker)
{
	uint64_t finished = worker->board.head != NULL ? sb_get(&worker->board.head->finished) : 0;

	return finished < worker->sent ? worker->sent - finished : 0;
}

/* Clients given to it that it has not yet taken out of its channel. */
static inline uint64_t
worker_untaken(const struct worker *worker)
{
	uint64_t taken = worker->board.head != NULL ? sb_get(&worker->board.head->taken) : 0;

	return taken < worker->sent ? worker->sent - taken : 0;
}

/* As worker_load(), of one service. */
uint64_t worker_service_load(const struct worker *worker, unsigned service);
/* Workers in the state, over all pools; not those that are being killed. */
uint32_t pools_count(const struct pools *pools, enum worker_state state);
/* Workers that take clients now, or would if there were any. */
uint32_t pools_serving(const struct pools *pools);
/* Workers that there should be: all but those of namespaces that are awaited. */
uint32_t pools_wanted(const struct pools *pools);
/* The slot's worker has died: what the reporter has to know of it is kept for it. Takes report_fd and board_fd. */
void pools_keep_dead(struct worker *worker);
/* The first `n` of them are no longer needed. */
void pools_forget_dead(struct pools *pools, uint32_t n);
/* Connections that live in all workers. */
uint64_t pools_load(const struct pools *pools);
/* "worker 3 [private] (process 4711)" */
const char *worker_name(const struct worker *worker, char buf[128]);

#endif
