/* SPDX-License-Identifier: ISC */
/*
 * Where metrics are served: the listener, which the reporter accepts from, and what the parent counts that has no better place to be counted.
 * Runs in: parent
 */
#ifndef PARENT_METRICS_H
#define PARENT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "parent_bind.h"
#include "parent_listen.h"
#include "parent_netns.h"
#include "parent_state.h"

struct metrics {
	const struct conf *conf;
	const struct netns *netns;	/* [conf->n_netns], the watch's */
	struct bound bound;		/* owned; fd -1: not open */
	dev_t dev;			/* with ino: namespace it is in */
	ino_t ino;
	uint32_t number;		/* counts the sockets that there were: a reporter is told of each */
	bool said;			/* that it cannot be opened in the namespace of now */
};

/*
 * Opens it, unless none is configured or its namespace is awaited, or the image before has it (before: its state, or NULL): then that one is taken over.
 * EXIT_OK, or the exit code after a line.
 */
enum exit_code metrics_open(struct metrics *metrics, const struct conf *conf, const struct netns *netns, struct state *before);
/* Says in the state what the image that takes our place needs of it. */
void metrics_keep(const struct metrics *metrics, struct state *state);
/* Is it where its name means now? Else it is opened there, before the old one is closed. True: there is a new one. */
bool metrics_supervise(struct metrics *metrics);
/* Removes a unix path. For a struct that was zeroed, too. */
void metrics_close(struct metrics *metrics);

/* Takes the measures of struct totals that are not counted where they change. */
void metrics_measure(struct totals *totals, const struct listen_set *listeners, const struct pools *pools, size_t files);

#endif
