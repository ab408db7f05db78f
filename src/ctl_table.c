/* SPDX-License-Identifier: ISC */
/*
 * A table of text.
 * Runs in: ctl
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_table.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MOST 32

void
ctl_table_begin(struct ctl_table *table, const char *const heads[], const bool right[], size_t n)
{
	*table = (struct ctl_table){ .n_columns = n < COLUMNS_MOST ? n : COLUMNS_MOST, .right = right };
	for (size_t i = 0; i < table->n_columns; i++)
		ctl_table_add(table, "%s", heads[i]);
}

void
ctl_table_add(struct ctl_table *table, const char *fmt, ...)
{
	char *cell = NULL;
	va_list args;

	if (table->n_cells == table->room) {
		size_t room = table->room > 0 ? table->room * 2 : 256;
		char **bigger = reallocarray(table->cells, room, sizeof(*bigger));

		if (bigger == NULL) {
			table->failed = true;
			return;
		}
		table->cells = bigger;
		table->room = room;
	}
	va_start(args, fmt);
	if (vasprintf(&cell, fmt, args) == -1)
		cell = NULL;
	va_end(args);
	table->failed |= cell == NULL;
	if (cell != NULL)
		table->cells[table->n_cells++] = cell;
}

static const char *
shown(const char *cell)
{
	return cell[0] != '\0' ? cell : "-";
}

static void
print_row(const struct ctl_table *table, char *const *row, const size_t widths[], FILE *out)
{
	for (size_t c = 0; c < table->n_columns; c++) {
		bool last = c + 1 == table->n_columns;
		int width = last && !table->right[c] ? 0 : (int)widths[c];

		(void)fprintf(out, table->right[c] ? "%*s%s" : "%-*s%s", width, shown(row[c]), last ? "\n" : "  ");
	}
}

int
ctl_table_end(struct ctl_table *table, FILE *out)
{
	size_t widths[COLUMNS_MOST] = { 0 };
	bool failed = table->failed;

	for (size_t i = 0; i < table->n_cells; i++) {
		size_t width = strlen(shown(table->cells[i]));

		if (width > widths[i % table->n_columns])
			widths[i % table->n_columns] = width;
	}
	for (size_t i = 0; !failed && i + table->n_columns <= table->n_cells; i += table->n_columns)
		print_row(table, table->cells + i, widths, out);
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct ctl_table){ 0 };
	return failed ? -1 : 0;
}
