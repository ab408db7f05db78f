/* SPDX-License-Identifier: ISC */
/*
 * What `nsproxyctl top` knows: the rows of the last complete round of answers, and rates from the one before.
 * Runs in: ctl
 */
#ifndef CTL_TOP_DATA_H
#define CTL_TOP_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ctl_client.h"

#define TOP_HISTORY 16		/* rounds that a graph can show */

enum top_kind { TOP_SERVICES, TOP_WORKERS, TOP_CONNECTIONS, TOP_KINDS };

/* Counters that only grow while their owner lives; rates are their differences over a second. */
enum top_counter { TOP_UP, TOP_DOWN, TOP_TAKEN, TOP_FAILED, TOP_COUNTERS };

struct top_item {
	uint64_t id;			/* the same in two rounds: the same thing */
	uint64_t count[TOP_COUNTERS];
	double rate[TOP_COUNTERS];
	float history[TOP_HISTORY];	/* bytes a second in both directions, the latest last */
	const void *row;		/* in the answer: struct row_service, row_worker or row_conn, by kind */
};

/* Items of one kind, in the order of their ids. */
struct top_set {
	struct top_item *items;
	size_t n;
};

struct top_data {
	struct ctl_answer answer;
	uint64_t rounds;		/* complete so far */
	double seconds;			/* between the last two rounds; 0: the last one stands alone */
	struct top_item total;		/* of the whole daemon */
	struct top_set sets[TOP_KINDS];
};

/*
 * A round is complete: its rows become what is known, with rates. Takes what the answer owns and leaves it empty. Text in it is terminated, whatever came.
 * False: out of memory; nothing changed.
 */
bool top_data_take(struct top_data *data, struct ctl_answer *answer);
void top_data_free(struct top_data *data);

#endif
