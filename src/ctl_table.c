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
/* Bytes that most cells fit into. */
#define CELL_GUESS 256

void
ctl_table_begin(struct ctl_table *table, const char *const heads[], const bool right[], size_t n)
{
	*table = (struct ctl_table){ .n_columns = n < COLUMNS_MOST ? n : COLUMNS_MOST, .right = right };
	for (size_t i = 0; i < table->n_columns; i++)
		ctl_table_add(table, "%s", heads[i]);
}

/* Room for one more cell whose text has so many bytes. */
static bool
make_room(struct ctl_table *table, size_t bytes)
{
	size_t text_room = table->text_room, room = table->room;
	void *bigger;

	while (text_room < table->used + bytes)
		text_room = text_room > 0 ? text_room * 2 : 65536;
	if (text_room != table->text_room) {
		bigger = realloc(table->text, text_room);
		if (bigger == NULL)
			return false;
		table->text = bigger;
		table->text_room = text_room;
	}
	if (table->n_cells < room)
		return true;
	room = room > 0 ? room * 2 : 1024;
	bigger = reallocarray(table->cells, room, sizeof(*table->cells));
	if (bigger == NULL)
		return false;
	table->cells = bigger;
	table->room = room;
	return true;
}

void
ctl_table_add(struct ctl_table *table, const char *fmt, ...)
{
	size_t want = CELL_GUESS;

	for (int tries = 0; tries < 2; tries++) {
		va_list args;
		int n;

		if (!make_room(table, want)) {
			table->failed = true;
			return;
		}
		va_start(args, fmt);
		n = vsnprintf(table->text + table->used, table->text_room - table->used, fmt, args);
		va_end(args);
		if (n >= 0 && (size_t)n < table->text_room - table->used) {
			table->cells[table->n_cells++] = table->used;
			table->used += (size_t)n + 1;
			return;
		}
		want = n >= 0 ? (size_t)n + 1 : want;
	}
	table->failed = true;
}

static const char *
shown(const struct ctl_table *table, size_t cell)
{
	const char *text = table->text + table->cells[cell];

	return text[0] != '\0' ? text : "-";
}

static void
put_blanks(FILE *out, size_t n)
{
	while (n-- > 0)
		(void)putc_unlocked(' ', out);
}

static void
print_row(const struct ctl_table *table, size_t first, const size_t widths[], FILE *out)
{
	for (size_t c = 0; c < table->n_columns; c++) {
		const char *text = shown(table, first + c);
		size_t blanks = widths[c] - strlen(text);
		bool last = c + 1 == table->n_columns;

		put_blanks(out, table->right[c] ? blanks : 0);
		(void)fputs_unlocked(text, out);
		put_blanks(out, last || table->right[c] ? 0 : blanks);
		(void)fputs_unlocked(last ? "\n" : "  ", out);
	}
}

int
ctl_table_end(struct ctl_table *table, FILE *out)
{
	size_t widths[COLUMNS_MOST] = { 0 };
	bool failed = table->failed;

	for (size_t i = 0; !failed && i < table->n_cells; i++) {
		size_t width = strlen(shown(table, i));

		if (width > widths[i % table->n_columns])
			widths[i % table->n_columns] = width;
	}
	for (size_t i = 0; !failed && i + table->n_columns <= table->n_cells; i += table->n_columns)
		print_row(table, i, widths, out);
	free(table->text);
	free(table->cells);
	*table = (struct ctl_table){ 0 };
	return failed ? -1 : 0;
}
