/* SPDX-License-Identifier: ISC */
/*
 * The workers as the reporter sees them: a channel with records and lines of log, a scoreboard to read, and an end.
 * Runs in: reporter
 */
#ifndef REPORTER_WORKERS_H
#define REPORTER_WORKERS_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "loop.h"
#include "msg.h"
#include "reporter_access.h"
#include "reporter_sink.h"
#include "scoreboard.h"
#include "totals.h"

#define WORKER_LINES_PER_S 200u		/* lines of log that one worker may write in a second */
#define WORKERS_MAX MSG_WORKERS_MOST

struct workers;

struct reporter_worker {
	struct workers *workers;	/* the table this is in */
	uint32_t index, pid;
	bool present;			/* between MSG_WORKER and MSG_GONE */
	struct chan chan;		/* report channel; fd -1: ended or broken */
	struct scoreboard board;	/* read-only; map NULL: none */
	uint64_t *seen;			/* ids plus one of records received lately, at their low bits; mapped while present; NULL: none */
	uint32_t n_seen;		/* places in seen, a power of two */
	uint32_t generation;		/* of loop references */
	uint64_t second_begun;		/* loop time; lines are counted from then on */
	uint32_t lines;			/* written since */
	uint64_t suppressed;		/* lines beyond that */
	uint64_t dropped;		/* what the scoreboard said when the log last did */
};

struct workers {
	struct loop *loop;		/* not owned, like the next three */
	struct sink *sink;
	struct access *access;
	struct totals_view *totals;
	uint8_t kind;			/* of loop references */
	struct reporter_worker *table;	/* [max]; owned */
	uint32_t max;
	uint64_t folded;		/* number of the last death that is dealt with */
	uint64_t messages;		/* of CLOSED, handled since this was last set to 0 */
};

/* 0, or -1 with errno. Allocates the table; registers `kind` with the loop. */
int workers_init(struct workers *workers, struct loop *loop, uint8_t kind, struct sink *sink, struct access *access, struct totals_view *totals,
    uint32_t max);
void workers_free(struct workers *workers);
/* MSG_WORKER. Takes both descriptors. 0, or -1: the message makes no sense. */
int workers_add(struct workers *workers, const struct msg_worker *msg, int fds[2]);
/*
 * MSG_GONE: whatever the worker left behind is written and added to the totals, unless an earlier reporter did so; then it is forgotten.
 * death 0: it may still live, and nothing is added. 0, or -1: the message makes no sense.
 */
int workers_gone(struct workers *workers, uint32_t index, uint64_t death);
/* The same for all of them. */
void workers_all_gone(struct workers *workers);
/* Says what was suppressed or dropped, at most once a second for each worker. True: something is left to be said, call again in a second. */
bool workers_say_losses(struct workers *workers);

#endif
