/* SPDX-License-Identifier: ISC */
/*
 * The process that writes the logs: set-up messages from the parent, then the sandbox, then a loop until the parent's channel ends.
 * Runs in: reporter
 */
#ifndef REPORTER_H
#define REPORTER_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "loop.h"
#include "msg.h"
#include "reporter_access.h"
#include "reporter_control.h"
#include "reporter_http.h"
#include "reporter_known.h"
#include "reporter_metrics.h"
#include "reporter_page.h"
#include "reporter_sink.h"
#include "reporter_workers.h"
#include "totals.h"

/* Everything in it is owned. There is one, in main; it may not be moved once initialised (callbacks point into it). */
struct reporter {
	struct chan parent;
	struct loop loop;
	struct sink sink;
	struct access access;
	struct workers workers;
	struct totals_view totals;
	struct metrics_source metrics;
	struct http http;
	struct page page;
	uint64_t lost_told;		/* lines lost that are in the totals */
	struct known known;
	struct control control;
	struct loop_timer retry;	/* armed while an output or a worker has something left to be written or said */
	uint64_t retry_after;		/* ns until it fires, doubling up to a second while nothing gets better */
	uint64_t folded_told;		/* number of the last death that the parent knows to be dealt with */
	bool synced;			/* every worker has been told */
	bool configured;		/* SETTINGS came */
	bool one_id;
	bool leaving;			/* the parent's channel has ended, or another reporter is there */
	bool relieved;			/* another one is: workers live on without us */
};

/* Should: take the channel, ask to die with the parent. Mustn't: repair what is wrong. Fatal on failure, like the next two. */
void reporter_init(struct reporter *reporter);
/* Should: receive the set-up messages, allocate. Mustn't: read what a worker sent. */
void reporter_prepare(struct reporter *reporter);
/* Should: check that no privilege is left, enter the sandbox, tell the parent. */
void reporter_confine(struct reporter *reporter);
/* Should: loop; leave when the parent's channel ends, after every worker's last record. Mustn't: open anything. */
void reporter_run(struct reporter *reporter);
void reporter_free(struct reporter *reporter);

#endif
