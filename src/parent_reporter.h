/* SPDX-License-Identifier: ISC */
/*
 * The reporter, seen from the parent: started, told everything it must know, replaced when it dies. The parent's own log goes through it.
 * Runs in: parent
 */
#ifndef PARENT_REPORTER_H
#define PARENT_REPORTER_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "parent_metrics.h"
#include "parent_output.h"
#include "parent_pool.h"
#include "parent_request.h"
#include "parent_route.h"
#include "parent_spawn.h"
#include "parent_state.h"
#include "parent_tell.h"

/* STARTING: its set-up is on the way, READY is awaited. CLOSING: its channel is closed; it writes what it has and goes. */
enum reporter_state { REPORTER_DEAD, REPORTER_STARTING, REPORTER_SERVING, REPORTER_CLOSING };

struct reporter {
	const struct conf *conf;
	struct loop *loop;
	uint8_t kind;			/* of our references in the loop */
	int program;			/* O_PATH, owned */
	struct outputs *outputs;
	struct routes *routes;
	struct pools *pools;
	struct tell *tell;		/* set by the owner before the reporter is started, like the next one */
	struct requests *requests;
	enum reporter_state state;
	uint32_t generation;
	pid_t pid;
	int failure_fd;
	struct chan chan;
	bool wants_out;			/* its channel was full */
	bool settings_sent, totals_sent, synced_sent;
	const struct metrics *metrics;	/* not owned; NULL: none */
	uint32_t metrics_sent;		/* number of the listener that it was told of; 0: none */
	uint32_t names_sent;
	struct spawn_backoff backoff;
	struct loop_timer respawn;
	bool respawns;			/* false at start and at the end: a death is final */
	enum exit_code failed;		/* at start: why there is none */
	bool trial;			/* our own log does not go through it */
	struct msg_log *held;		/* [REPORTER_HELD_MOST] lines of a new image, until its first reporter is ready; then NULL. Owned */
	unsigned n_held;
	pid_t former;			/* of the image before, on its way out; 0: none */
	uint64_t former_until;		/* loop time when it is killed */
};
#define REPORTER_HELD_MOST 32

/* `program` is taken; -1: it is opened by its path. 0 or -1 after a line. The other arguments must outlive it. */
int reporter_init(struct reporter *reporter, const struct conf *conf, struct loop *loop, uint8_t kind, struct outputs *outputs,
    struct routes *routes, struct pools *pools, int program);
/* What came of a request that it sent: code is an enum ctl_code. Its caller is told, if it can be. */
void reporter_answer(struct reporter *reporter, uint64_t number, uint32_t code, const char *text);
/* In a new image: tells the reporter of the image before to leave, and starts ours, now or as soon as it can be. */
void reporter_succeed(struct reporter *reporter, struct state *state);
/* Forks it. 0 or -1 after a line. READY comes later. */
int reporter_start(struct reporter *reporter);
/* Tells it what it does not know yet: outputs, workers that came, workers that went. */
void reporter_sync(struct reporter *reporter);
/* True when pid was the reporter's; does what its end calls for. */
bool reporter_on_exit(struct reporter *reporter, pid_t pid, int status);
/* Has it been starting for too long? Then it is killed. */
void reporter_supervise(struct reporter *reporter);
/* Lets it write what it has and go. */
void reporter_stop(struct reporter *reporter);
void reporter_free(struct reporter *reporter);

#endif
