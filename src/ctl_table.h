/* SPDX-License-Identifier: ISC */
/*
 * A table of text: cells are added row by row, printed when all widths are known.
 * Runs in: ctl
 */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct ctl_table {
	size_t n_columns;
	const bool *right;		/* [n_columns]: numbers stand at the right; not owned */
	char *text;			/* of all cells, each terminated; owned, like the next one */
	size_t used, text_room;
	size_t *cells;			/* where each begins in text */
	size_t n_cells, room;
	bool failed;			/* memory was short */
};

/* heads: the first row. Both arrays have n entries. */
void ctl_table_begin(struct ctl_table *table, const char *const heads[], const bool right[], size_t n);
/* "" is shown as "-". */
void ctl_table_add(struct ctl_table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Prints what there is and frees. 0, or -1: memory was short. */
int ctl_table_end(struct ctl_table *table, FILE *out);

#endif
