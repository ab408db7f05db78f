/* SPDX-License-Identifier: ISC */
/*
 * Rounds of questions for `nsproxyctl top`: never blocks on the daemon, and finds it again when it comes back.
 * Runs in: ctl
 */
#ifndef CTL_TOP_FEED_H
#define CTL_TOP_FEED_H

#include "ctl_client.h"
#include "ctl_top_data.h"

struct top_feed {
	const char *path;
	struct ctl_client client;
	struct ctl_answer answer;	/* of the round under way */
	unsigned step;			/* which question of the round; past the last: none under way */
	uint64_t interval;		/* ns between two rounds */
	uint64_t due;			/* CLOCK_MONOTONIC: when the next thing is to be done */
	bool paused;
	bool answered;			/* this connection has answered a round */
	char problem[CTL_TEXT_MAX + 256];	/* why there is no news; "": all is well */
};

/* Connects. CTL_EXIT_DONE, or another code with the reason in feed->problem; then top_feed_close() is not needed. */
enum ctl_exit top_feed_open(struct top_feed *feed, const char *path, uint64_t interval);
void top_feed_close(struct top_feed *feed);
/* What to poll for reading; -1: nothing. */
int top_feed_fd(const struct top_feed *feed);
/* Does what is due at `now`, and takes what has come. True: something to show has changed. */
bool top_feed_turn(struct top_feed *feed, struct top_data *data, uint64_t now);
/* The next turn asks, whenever the last one was. */
void top_feed_hurry(struct top_feed *feed);

#endif
