/* SPDX-License-Identifier: ISC */
/*
 * All parts of the parent, for the few files that run it as a whole: its stages, its signals, its replacement.
 * Runs in: parent
 */
#ifndef PARENT_PARTS_H
#define PARENT_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "loop.h"
#include "parent_activate.h"
#include "parent_conf.h"
#include "parent_control.h"
#include "parent_listen.h"
#include "parent_metrics.h"
#include "parent_notify.h"
#include "parent_order.h"
#include "parent_output.h"
#include "parent_pool.h"
#include "parent_reload.h"
#include "parent_reporter.h"
#include "parent_request.h"
#include "parent_route.h"
#include "parent_state.h"
#include "parent_tell.h"
#include "parent_watch.h"
#include "parent_worker.h"
#include "totals.h"

/* Whose events they are. */
enum { KIND_SIGNAL, KIND_LISTENER, KIND_WORKER, KIND_REPORTER, KIND_WATCH, KIND_RELOAD };

struct parent {
	const struct conf *conf;
	size_t files;			/* limit of descriptors of one process */
	struct loop loop;
	int signal_fd;
	struct watch watch;
	struct notify notify;
	struct outputs outputs;
	struct totals totals;
	struct pools pools;
	struct routes routes;
	struct activation activation;
	struct listen_set listeners;
	struct metrics metrics;
	struct control control;
	struct orders orders;
	struct tell tell;
	struct requests requests;
	struct reporter reporter;
	struct workers workers;
	struct reload reload;
	struct state *state;		/* that this image was executed with, taken apart; NULL: it was started. Owned */
	char *path;			/* of our program, at the first start. Owned */
	uint64_t reloads, upgrades;
	bool late;			/* a new image: not all workers got ready in time */
	struct loop_timer supervise_timer, watchdog_timer, stop_timer, settle_timer;
	bool serving;			/* listeners are polled */
	bool stopping;			/* told to; at the first signal */
	bool without_limit;		/* by QUIT: until the last connection ends */
	uint64_t stop_deadline;		/* loop time; LOOP_NEVER: none */
};

/* Is this image a trial: does it look whether it could start, and nothing else? */
static inline bool
parent_is_trial(const struct parent *parent)
{
	return parent->state != NULL && parent->state->head.purpose == STATE_TRIAL;
}

/* Does it go on with what the image before has left? */
static inline bool
parent_is_replacement(const struct parent *parent)
{
	return parent->state != NULL && parent->state->head.purpose == STATE_REPLACE;
}

#endif
