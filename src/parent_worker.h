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
	struct program_id program_id;
	enum workers_phase phase;	/* set by the owner */
	enum exit_code failed;		/* while starting: why one is missing */
	uint32_t fallback_said;		/* engines whose absence was said */
	struct loop_timer retire_timer;
};

/* `program` is taken; -1: it is opened by its path. 0 or -1 after a line. */
int workers_init(struct workers *workers, const struct conf *conf, struct loop *loop, uint8_t kind, struct pools *pools,
    const struct routes *routes, int program);
/* Forks for all slots in use that have none, but not in namespaces that are awaited. 0 or -1 after a line. */
int workers_start(struct workers *workers);
/* True when pid was a worker's; does what its end calls for. */
bool workers_on_exit(struct workers *workers, pid_t pid, int status);
/* The user that this slot's worker has, or would have. */
uid_t worker_uid(const struct worker *worker);
/* SIGKILL to one. `said`: why was said. */
void worker_end(struct worker *worker, bool said);
/* Forks for a slot that has none; when that fails it is tried again later. */
void worker_start_again(struct worker *worker);
/* The channel of a worker that was started by the image before. 0 or -1 with errno. */
int worker_attach(struct worker *worker, int chan_fd);
/* SIGKILL to all. */
void workers_kill(struct workers *workers);
void workers_free(struct workers *workers);

#endif
