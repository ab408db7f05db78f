/* SPDX-License-Identifier: ISC */
/*
 * The terminal of `nsproxyctl top`: everything that is drawn, and how the user wants it.
 * Runs in: ctl
 */
#ifndef CTL_TOP_SCREEN_H
#define CTL_TOP_SCREEN_H

#include "ctl_top_data.h"
#include "ctl_top_feed.h"
#include "ctl_top_view.h"

/* The first ones show one table, the last one all three. */
enum top_view { VIEW_SERVICES = TOP_SERVICES, VIEW_WORKERS = TOP_WORKERS, VIEW_CONNECTIONS = TOP_CONNECTIONS, VIEW_ALL, VIEWS };

/* A line of the help. */
struct top_help {
	const char *keys, *text;
};

struct top_screen {
	enum top_view view;
	struct top_choice choices[TOP_KINDS];
	char filter[TOP_FILTER_MAX];	/* in force, also while it is typed; printable ASCII */
	bool typing;
	const struct top_help *help;	/* ends with keys NULL; shown instead of the tables. NULL: not asked for */
	size_t page;			/* rows of the table that keys move */
	size_t length;			/* items that it has */
	bool utf8, colours;
};

/* Takes the terminal over. False, after a line on stderr: there is none that could be used. */
bool top_screen_open(struct top_screen *screen);
/* Gives it back as it was. */
void top_screen_close(void);
/* Draws what differs from what is there. */
void top_screen_draw(struct top_screen *screen, const struct top_data *data, const struct top_feed *feed);
/* The table that keys for order and scrolling are about. */
enum top_kind top_screen_table(const struct top_screen *screen);
/* Is this column of that table shown on a screen as wide as ours is now? */
bool top_screen_has(enum top_kind kind, unsigned column);

#endif
