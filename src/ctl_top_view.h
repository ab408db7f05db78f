/* SPDX-License-Identifier: ISC */
/*
 * The tables of `nsproxyctl top`: columns, filter, order; knows nothing of terminals.
 * Runs in: ctl
 */
#ifndef CTL_TOP_VIEW_H
#define CTL_TOP_VIEW_H

#include "ctl_top_data.h"

#define TOP_CELL_MAX 448	/* bytes of a cell: an address with a namespace; a graph of many UTF-8 cells */
#define TOP_COLUMNS_MAX 14
#define TOP_FILTER_MAX 64

/* What a cell is made from. */
struct top_look {
	const struct top_data *data;
	double busiest;			/* bytes a second of the busiest item of the table */
	bool utf8;
	bool wide;			/* there is room for namespaces in addresses */
};

struct top_column {
	const char *title;
	unsigned width, most;		/* cells, least and greatest */
	unsigned from;			/* shown on screens of so many columns */
	bool right;			/* numbers are aligned to the right */
	void (*show)(const struct top_look *look, const struct top_item *item, char buf[TOP_CELL_MAX]);
	double (*key)(const struct top_look *look, const struct top_item *item);	/* NULL: ordered by its text, else greatest first */
};

/* How a person wants to see a table. */
struct top_choice {
	unsigned sort;			/* column */
	bool reverse;
	size_t first;			/* item at the top of the screen */
};

struct top_entry {
	const struct top_item *item;
	double key;			/* what the column orders by: this, then the text */
	char text[64];
	bool reverse;
};

/* Items that pass the filter, in order. */
struct top_list {
	struct top_entry *entries;	/* owned */
	size_t n;
	struct top_look look;
};

const struct top_column *top_columns(enum top_kind kind, unsigned *n);
/* The column that a table is ordered by at first. */
unsigned top_first_sort(enum top_kind kind);
/* "services"... */
const char *top_kind_name(enum top_kind kind);
/* Fills in a zeroed or used list. False: out of memory, the list is empty. */
bool top_list_make(struct top_list *list, const struct top_data *data, enum top_kind kind, const struct top_choice *choice, const char *filter,
    const struct top_look *look);
void top_list_free(struct top_list *list);

#endif
