/* SPDX-License-Identifier: ISC */
/*
 * The life of a worker, seen from the parent: started, watched, told to stop, replaced.
 * Runs in: parent
 */
#ifndef PARENT_WORKER_H
#define PARENT_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "parent_pool.h"
#include "parent_route.h"

/* What a worker's death means: the start has failed; it is replaced; it is one less to wait for. */
enum workers_phase { WORKERS_STARTING, WORKERS_SERVING, WORKERS_STOPPING };

/* What all workers are started from. */
struct workers {
	struct pools *pools;
	const struct routes *routes;
	const struct conf *conf;
	struct loop *loop;
	uint8_t kind;			/* of our references in the loop */
	int program;			/* O_PATH, owned */
	enum workers_phase phase;	/* set by the owner */
	enum exit_code failed;		/* while starting: why one is missing */
	uint32_t fallback_said;		/* engines whose absence was said */
	struct loop_timer retire_timer;
};

/* Opens the program. 0 or -1 after a line. */
int workers_init(struct workers *workers, const struct conf *conf, struct loop *loop, uint8_t kind, struct pools *pools,
    const struct routes *routes);
/* Forks them all, but not those of namespaces that are awaited. 0 or -1 after a line. */
int workers_start(struct workers *workers);
/* True when pid was a worker's; does what its end calls for. */
bool workers_on_exit(struct workers *workers, pid_t pid, int status);
/* Pings, notices who is late, kills who is lost. Returns the loop time of the next call. */
uint64_t workers_supervise(struct workers *workers);
/*
 * The pool's namespace is another one, or there is one at last: new workers are started in it; those that there are get no more clients, and
 * drain-timeout to finish. The pool keeps a copy of *netns. Returns how many connections the old ones have.
 */
uint64_t workers_switch(struct workers *workers, struct pool *pool, const struct netns *netns);
/* Tells those who do not know it to finish within so many ms (UINT64_MAX: no limit) and starts none again. True when all know. */
bool workers_stop(struct workers *workers, uint64_t within_ms, bool again);
/* SIGKILL to all. */
void workers_kill(struct workers *workers);
void workers_free(struct workers *workers);

#endif
