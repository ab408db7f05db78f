/* SPDX-License-Identifier: ISC */
/*
 * The terminal of `nsproxyctl top`.
 * Runs in: ctl
 *
 * Theory of operation: each drawing begins with an empty screen in memory, of which curses sends the terminal only what differs from what it shows; so
 * nothing flickers, and a resized terminal needs no code of its own. Whatever does not fit is not drawn; nothing here minds a screen of one cell.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top_screen.h"

#include <curses.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl_top_text.h"
#include "log.h"

#define HEAD_LINES 4
#define LINE_MAX_BYTES 1024
#define WIDE_FROM 130		/* columns: addresses with their namespaces */
#define ESCAPE_MS 25		/* a key that begins with escape comes in one piece */

enum pair { PAIR_HEAD = 1, PAIR_GRAPH, PAIR_TITLE, PAIR_PROBLEM };

bool
top_screen_open(struct top_screen *screen)
{
	const char *term = getenv("TERM");

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		log_errx("top: this is no terminal; nsproxyctl services, workers and connections print to a file or pipe");
		return false;
	}
	(void)setlocale(LC_CTYPE, "");
	screen->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	if (newterm(NULL, stdout, stdin) == NULL) {
		log_errx("top: cannot use a terminal of type '%s'; set TERM to what this one is", term != NULL ? term : "");
		return false;
	}
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)nodelay(stdscr, TRUE);
	(void)keypad(stdscr, TRUE);
	(void)curs_set(0);
	(void)set_escdelay(ESCAPE_MS);
	screen->colours = getenv("NO_COLOR") == NULL && has_colors() && start_color() == OK && use_default_colors() == OK;
	if (screen->colours) {
		(void)init_pair(PAIR_HEAD, COLOR_CYAN, -1);
		(void)init_pair(PAIR_GRAPH, COLOR_GREEN, -1);
		(void)init_pair(PAIR_TITLE, COLOR_CYAN, -1);
		(void)init_pair(PAIR_PROBLEM, COLOR_RED, -1);
	}
	return true;
}

void
top_screen_close(void)
{
	(void)endwin();
}

/* Colour where there is one; the attribute alone must do elsewhere. */
static void
style(const struct top_screen *screen, attr_t attributes, enum pair pair)
{
	(void)attr_set(attributes, (short)(screen->colours ? pair : 0), NULL);
}

static void
plain(void)
{
	(void)attr_set(A_NORMAL, 0, NULL);
}

/* ASCII, cut at the edge of the screen. */
static void
put(int y, int x, const char *text)
{
	if (y < LINES && x >= 0 && x < COLS)
		(void)mvaddnstr(y, x, text, COLS - x);
}

static void
put_right(int y, const char *text)
{
	put(y, COLS > (int)strlen(text) ? COLS - (int)strlen(text) : 0, text);
}

#define OLD "OLD FIGURES: "
#define AGAIN "; trying again"

/* ---- head ------------------------------------------------------------------------------------------------------------------ */
static void
draw_first_line(const struct top_screen *screen, const struct top_data *data, const struct top_feed *feed)
{
	const struct row_status *status = &data->answer.status;
	char version[PARENT_VERSION_MAX], up[32], line[LINE_MAX_BYTES], clock[32];
	time_t now = time(NULL);
	struct tm tm;

	top_text_printable(version, sizeof(version), status->parent.version);
	top_text_uptime(up, sizeof(up), status->now > status->parent.started ? (status->now - status->parent.started) / UINT64_C(1000000000) : 0);
	(void)snprintf(line, sizeof(line), "nsproxy %s  pid %u  up %s  reloads %u  upgrades %u", version, status->parent.pid, up, status->parent.reloads,
	    status->parent.upgrades);
	(void)strftime(clock, sizeof(clock), " %H:%M:%S", localtime_r(&now, &tm));
	style(screen, A_REVERSE, PAIR_HEAD);
	(void)move(0, 0);
	for (int x = 0; x < COLS; x++)
		(void)addch(' ');
	put(0, 0, data->rounds > 0 ? line : "nsproxy");
	put_right(0, feed->paused ? " PAUSED" : clock);
	plain();
}

static void
draw_counts(const struct top_data *data)
{
	const struct row_status *status = &data->answer.status;
	char fresh[16], failed[16], drained[32] = "", line[LINE_MAX_BYTES];

	top_text_number(fresh, sizeof(fresh), data->total.rate[TOP_TAKEN], 1000);
	top_text_number(failed, sizeof(failed), data->total.rate[TOP_FAILED], 1000);
	if (status->drained > 0)
		(void)snprintf(drained, sizeof(drained), " (%u drained)", status->drained);
	(void)snprintf(line, sizeof(line), "connections %llu open  %s/s new  %s/s failed  %llu taken   services %u%s  workers %u%s",
	    (unsigned long long)status->open, fresh, failed, (unsigned long long)status->taken, status->services, drained,
	    status->workers, status->dropped > 0 ? "  records lost" : "");
	put(1, 0, line);
}

static void
draw_traffic(const struct top_screen *screen, const struct top_data *data)
{
	char up[16], down[16], line[128], graph[256];

	top_text_number(up, sizeof(up), data->total.rate[TOP_UP], 1024);
	top_text_number(down, sizeof(down), data->total.rate[TOP_DOWN], 1024);
	(void)snprintf(line, sizeof(line), "traffic  up %5s/s  down %5s/s  ", up, down);
	put(2, 0, line);
	if ((int)strlen(line) + TOP_HISTORY > COLS)
		return;
	top_text_graph(graph, sizeof(graph), data->total.history, TOP_HISTORY, screen->utf8);
	style(screen, A_BOLD, PAIR_GRAPH);
	(void)mvaddstr(2, (int)strlen(line), graph);
	plain();
}

static const char *const view_names[VIEWS] = { [VIEW_ALL] = "all", [VIEW_SERVICES] = "services", [VIEW_WORKERS] = "workers",
	[VIEW_CONNECTIONS] = "connections" };

static void
draw_state(const struct top_screen *screen, const struct top_data *data, const struct top_feed *feed)
{
	enum top_kind kind = top_screen_table(screen);
	const struct top_choice *choice = &screen->choices[kind];
	char line[LINE_MAX_BYTES], problem[LINE_MAX_BYTES];
	unsigned n;

	if (feed->problem[0] != '\0') {
		/* Long ones lose their end, never that. */
		int room = COLS - (int)sizeof(AGAIN) - (int)sizeof(OLD);

		top_text_printable(problem, sizeof(problem), feed->problem);
		(void)snprintf(line, sizeof(line), "%s%.*s%s", data->rounds > 0 ? OLD : "", room > 0 ? room : 0, problem, AGAIN);
		style(screen, A_REVERSE | A_BOLD, PAIR_PROBLEM);
		put(3, 0, line);
		plain();
		return;
	}
	(void)snprintf(line, sizeof(line), "view: %s   %s by %s%s%s%s", view_names[screen->view], top_kind_name(kind),
	    top_columns(kind, &n)[choice->sort].title, choice->reverse ? " reversed" : "", screen->filter[0] != '\0' ? "   filter: " : "", screen->filter);
	put(3, 0, line);
}

static void
draw_last_line(const struct top_screen *screen, const struct top_feed *feed)
{
	char line[LINE_MAX_BYTES];

	if (screen->typing) {
		(void)snprintf(line, sizeof(line), "filter (Enter keeps it, Escape drops it): %s_", screen->filter);
		put(LINES - 1, 0, line);
		return;
	}
	(void)snprintf(line, sizeof(line), "q quit  h help  Tab view  s sort  r reverse  / filter  p pause  +- every %.1f s", (double)feed->interval / 1e9);
	style(screen, A_BOLD, PAIR_TITLE);
	put(LINES - 1, 0, line);
	plain();
}

/* ---- tables ---------------------------------------------------------------------------------------------------------------- */
/* Shares out what is left of a line, to each column what makes it so many times as wide as it is meant to be at most. */
static unsigned
grow(const struct top_column *columns, unsigned n, unsigned widths[TOP_COLUMNS_MAX], unsigned used, unsigned times)
{
	unsigned before;

	do {
		before = used;
		for (unsigned i = 0; i < n && (int)used < COLS; i++)
			if (widths[i] > 0 && columns[i].most > columns[i].width && widths[i] < columns[i].most * times) {
				widths[i]++;
				used++;
			}
	} while (used != before);
	return used;
}

/* Columns that are shown and how wide: 0 for one that is not. */
static void
fit_columns(enum top_kind kind, unsigned widths[TOP_COLUMNS_MAX])
{
	unsigned n, used = 0;
	const struct top_column *columns = top_columns(kind, &n);

	for (unsigned i = 0; i < n; i++) {
		widths[i] = (int)columns[i].from <= COLS && (int)(used + columns[i].width) <= COLS ? columns[i].width : 0;
		used += widths[i] > 0 ? widths[i] + 1 : 0;
	}
	if (used > 0)
		used--;
	used = grow(columns, n, widths, used, 1);
	(void)grow(columns, n, widths, used, 2);
}

bool
top_screen_has(enum top_kind kind, unsigned column)
{
	unsigned widths[TOP_COLUMNS_MAX] = { 0 };

	fit_columns(kind, widths);
	return widths[column] > 0;
}

/* A text of bytes that are one cell each, or a drawing of exactly `width` cells. */
static void
put_cell(int y, int x, const struct top_column *column, unsigned width, const char *text)
{
	char cell[TOP_CELL_MAX];
	size_t length = strlen(text);

	if (text[0] == '\0')
		return;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)text[i] >= 0x80) {
			(void)mvaddstr(y, x, text);
			return;
		}
	if (column->right)
		(void)snprintf(cell, sizeof(cell), "%*.*s", (int)width, (int)width, text);
	else
		(void)snprintf(cell, sizeof(cell), "%.*s%s", length > width ? (int)width - 1 : (int)width, text, length > width ? "~" : "");
	put(y, x, cell);
}

static void
draw_titles(const struct top_screen *screen, int y, enum top_kind kind, const unsigned widths[TOP_COLUMNS_MAX])
{
	unsigned n;
	const struct top_column *columns = top_columns(kind, &n);
	int x = 0;

	for (unsigned i = 0; i < n; i++) {
		if (widths[i] == 0)
			continue;
		style(screen, screen->choices[kind].sort == i ? A_REVERSE : A_BOLD | A_UNDERLINE, PAIR_TITLE);
		put_cell(y, x, &columns[i], widths[i], columns[i].title);
		plain();
		x += (int)widths[i] + 1;
	}
}

static void
draw_row(const struct top_screen *screen, int y, enum top_kind kind, const unsigned widths[TOP_COLUMNS_MAX], const struct top_list *list,
    const struct top_item *item, bool stale)
{
	unsigned n;
	const struct top_column *columns = top_columns(kind, &n);
	char text[TOP_CELL_MAX];
	int x = 0;

	for (unsigned i = 0; i < n; i++) {
		if (widths[i] == 0)
			continue;
		columns[i].show(&list->look, item, text);
		style(screen, stale ? A_DIM : A_NORMAL, (unsigned char)text[0] >= 0x80 ? PAIR_GRAPH : 0);
		put_cell(y, x, &columns[i], widths[i], text);
		x += (int)widths[i] + 1;
	}
	plain();
}

/* A table of `height` lines, titles included, from line y on. */
static void
draw_table(struct top_screen *screen, int y, int height, enum top_kind kind, const struct top_data *data, bool stale)
{
	struct top_look look = { .utf8 = screen->utf8, .wide = COLS >= WIDE_FROM };
	struct top_choice *choice = &screen->choices[kind];
	bool moves = top_screen_table(screen) == kind;
	unsigned widths[TOP_COLUMNS_MAX] = { 0 };
	struct top_list list = { .n = 0 };
	size_t rows = height > 1 ? (size_t)height - 1 : 0, first;

	if (height <= 0 || !top_list_make(&list, data, kind, choice, screen->filter, &look))
		return;
	if (moves) {
		screen->page = rows;
		screen->length = list.n;
		if (choice->first + rows > list.n)
			choice->first = list.n > rows ? list.n - rows : 0;
	}
	first = moves ? choice->first : 0;
	fit_columns(kind, widths);
	draw_titles(screen, y, kind, widths);
	for (size_t i = 0; i < rows && first + i < list.n; i++) {
		if (i + 1 == rows && first + i + 1 < list.n && !moves) {
			char more[64];

			(void)snprintf(more, sizeof(more), "  and %zu more %s: key %d", list.n - first - i, top_kind_name(kind), (int)kind + 2);
			put(y + 1 + (int)i, 0, more);
			break;
		}
		draw_row(screen, y + 1 + (int)i, kind, widths, &list, list.entries[first + i].item, stale);
	}
	top_list_free(&list);
}

static int
at_most(size_t n, int most)
{
	return most < 1 ? 0 : n < (size_t)most ? (int)n : most;
}

static void
draw_tables(struct top_screen *screen, const struct top_data *data, bool stale)
{
	int y = HEAD_LINES, height = LINES - HEAD_LINES - 1, services, workers;

	if (screen->view != VIEW_ALL) {
		draw_table(screen, y, height, top_screen_table(screen), data, stale);
		return;
	}
	/* Connections get what the others do not need, and at least half. */
	services = 1 + at_most(data->sets[TOP_SERVICES].n, (height - 3) * 3 / 10);
	workers = 1 + at_most(data->sets[TOP_WORKERS].n, (height - 3) * 2 / 10);
	draw_table(screen, y, services, TOP_SERVICES, data, stale);
	draw_table(screen, y + services, workers, TOP_WORKERS, data, stale);
	draw_table(screen, y + services + workers, height - services - workers, TOP_CONNECTIONS, data, stale);
}

static void
draw_help(const struct top_help *help)
{
	char line[LINE_MAX_BYTES];
	int y = HEAD_LINES;

	for (; help->keys != NULL && y < LINES - 1; help++, y++) {
		(void)snprintf(line, sizeof(line), "  %-16s %s", help->keys, help->text);
		put(y, 0, line);
	}
}

enum top_kind
top_screen_table(const struct top_screen *screen)
{
	return screen->view == VIEW_ALL ? TOP_CONNECTIONS : (enum top_kind)screen->view;
}

void
top_screen_draw(struct top_screen *screen, const struct top_data *data, const struct top_feed *feed)
{
	(void)erase();
	draw_first_line(screen, data, feed);
	draw_state(screen, data, feed);
	if (data->rounds > 0) {
		draw_counts(data);
		draw_traffic(screen, data);
	}
	if (screen->help != NULL)
		draw_help(screen->help);
	else if (data->rounds > 0)
		draw_tables(screen, data, feed->problem[0] != '\0');
	draw_last_line(screen, feed);
	(void)refresh();
}
