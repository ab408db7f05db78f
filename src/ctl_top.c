/* SPDX-License-Identifier: ISC */
/*
 * `nsproxyctl top`: the loop, and what each key does.
 * Runs in: ctl
 *
 * Theory of operation: signals are blocked but while the loop waits, so that none is missed between looking and waiting. The loop waits for keys, for the
 * daemon, for the next round and for the next second of the clock, then draws.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "ctl_top.h"

#include <curses.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl_top_feed.h"
#include "ctl_top_screen.h"
#include "log.h"

#define NS_PER_S UINT64_C(1000000000)
#define INTERVAL_LEAST (NS_PER_S / 4)
#define INTERVAL_MOST (16 * NS_PER_S)
#define HELP_LINES 16
#define ESCAPE 27
#define ERASE 127
#define KEYS_A_TURN 256		/* of somebody who pastes a book */

struct top {
	struct top_feed feed;
	struct top_data data;
	struct top_screen screen;
	struct top_help help[HELP_LINES];
	bool quit;
};

static volatile sig_atomic_t ended;	/* by a signal */

static void
on_signal(int number)
{
	(void)number;
	ended = 1;
}

static uint64_t
clock_now(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------ */
static struct top_choice *
choice_of(struct top *top)
{
	return &top->screen.choices[top_screen_table(&top->screen)];
}

static void
do_quit(struct top *top, int key)
{
	(void)key;
	top->quit = true;
}

static void
do_help(struct top *top, int key)
{
	(void)key;
	top->screen.help = top->help;
}

static void
do_next_view(struct top *top, int key)
{
	top->screen.view = (top->screen.view + (key == KEY_BTAB ? VIEWS - 1 : 1)) % VIEWS;
}

static void
do_view(struct top *top, int key)
{
	top->screen.view = key == '1' ? VIEW_ALL : (enum top_view)(key - '2');
}

/* The next column that the screen shows, to the right or to the left. */
static void
do_sort(struct top *top, int key)
{
	enum top_kind kind = top_screen_table(&top->screen);
	unsigned n, step;

	(void)top_columns(kind, &n);
	step = key == 'S' || key == '<' ? n - 1 : 1;
	for (unsigned i = 0; i < n; i++) {
		choice_of(top)->sort = (choice_of(top)->sort + step) % n;
		if (top_screen_has(kind, choice_of(top)->sort))
			break;
	}
	choice_of(top)->first = 0;
}

static void
do_reverse(struct top *top, int key)
{
	(void)key;
	choice_of(top)->reverse = !choice_of(top)->reverse;
}

static void
do_filter(struct top *top, int key)
{
	(void)key;
	top->screen.typing = true;
}

static void
do_pause(struct top *top, int key)
{
	(void)key;
	top->feed.paused = !top->feed.paused;
	if (!top->feed.paused)
		top_feed_hurry(&top->feed);
}

static void
do_interval(struct top *top, int key)
{
	uint64_t interval = key == '-' ? top->feed.interval * 2 : top->feed.interval / 2;

	if (interval < INTERVAL_LEAST || interval > INTERVAL_MOST)
		return;
	top->feed.interval = interval;
	top_feed_hurry(&top->feed);
}

static void
do_scroll(struct top *top, int key)
{
	size_t *first = &choice_of(top)->first, page = top->screen.page > 0 ? top->screen.page : 1;
	size_t last = top->screen.length > page ? top->screen.length - page : 0;
	size_t step = key == KEY_UP || key == KEY_DOWN ? 1 : page;

	if (key == KEY_HOME)
		*first = 0;
	else if (key == KEY_END)
		*first = last;
	else if (key == KEY_UP || key == KEY_PPAGE)
		*first = *first > step ? *first - step : 0;
	else
		*first = *first + step < last ? *first + step : last;
}

static void
do_redraw(struct top *top, int key)
{
	(void)top, (void)key;
	(void)clearok(curscr, TRUE);
}

static const struct {
	int keys[6];
	void (*act)(struct top *top, int key);
	struct top_help help;
} actions[] = {
	{ { 'q', 'Q' }, do_quit, { "q", "quit" } },
	{ { 'h', '?' }, do_help, { "h ?", "this help; any key leaves it" } },
	{ { '\t', KEY_BTAB }, do_next_view, { "Tab", "next view" } },
	{ { '1', '2', '3', '4' }, do_view, { "1 2 3 4", "all; services; workers; connections" } },
	{ { 's', '>', 'S', '<' }, do_sort, { "s > S <", "sort by the next column, by the one before" } },
	{ { 'r', 'R' }, do_reverse, { "r", "the other way round" } },
	{ { '/', 'f' }, do_filter, { "/ f", "only rows in which this is: a service, an address, a state" } },
	{ { 'p', ' ' }, do_pause, { "p Space", "stop asking, go on" } },
	{ { '+', '-' }, do_interval, { "+ -", "ask twice as often, half as often" } },
	{ { KEY_UP, KEY_DOWN, KEY_PPAGE, KEY_NPAGE, KEY_HOME, KEY_END }, do_scroll, { "arrows PgUp PgDn", "scroll; also Home and End" } },
	{ { 12 }, do_redraw, { "Ctrl-L", "draw everything again" } },
};
#define ACTIONS (sizeof(actions) / sizeof(actions[0]))
_Static_assert(ACTIONS < HELP_LINES, "the help has a line for each action, and an end");

static void
make_help(struct top *top)
{
	for (size_t i = 0; i < ACTIONS; i++)
		top->help[i] = actions[i].help;
}

/* The filter is in force while it is typed. */
static void
type(struct top *top, int key)
{
	struct top_screen *screen = &top->screen;
	size_t n = strlen(screen->filter);

	if (key == '\r' || key == '\n' || key == KEY_ENTER || key == ESCAPE)
		screen->typing = false;
	if (key == ESCAPE)
		screen->filter[0] = '\0';
	else if ((key == KEY_BACKSPACE || key == '\b' || key == ERASE) && n > 0)
		screen->filter[n - 1] = '\0';
	else if (key >= ' ' && key < ERASE && n + 1 < sizeof(screen->filter)) {
		screen->filter[n] = (char)key;
		screen->filter[n + 1] = '\0';
	}
	choice_of(top)->first = 0;
}

static void
press(struct top *top, int key)
{
	if (key == KEY_RESIZE)
		return;
	if (top->screen.typing) {
		type(top, key);
		return;
	}
	if (top->screen.help != NULL) {
		top->screen.help = NULL;
		return;
	}
	for (size_t i = 0; i < ACTIONS; i++)
		for (size_t k = 0; k < sizeof(actions[i].keys) / sizeof(actions[i].keys[0]); k++)
			if (key != 0 && actions[i].keys[k] == key)
				actions[i].act(top, key);
}

/* ---- loop ------------------------------------------------------------------------------------------------------------------ */
/* Signals are delivered only with this mask, that is while we wait. */
static void
take_signals(sigset_t *waiting)
{
	static const int ends[] = { SIGHUP, SIGINT, SIGTERM };
	struct sigaction action = { .sa_handler = on_signal };
	sigset_t blocked;

	(void)sigemptyset(&blocked);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		(void)sigaddset(&blocked, ends[i]);
		(void)sigaction(ends[i], &action, NULL);
	}
	(void)sigaddset(&blocked, SIGWINCH);
	(void)sigprocmask(SIG_BLOCK, &blocked, waiting);
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		(void)sigdelset(waiting, ends[i]);
	(void)sigdelset(waiting, SIGWINCH);
}

/* Until a key, the daemon or a signal has something, the next thing is due, or the clock shows another second. False: the terminal is gone. */
static bool
wait_for_something(const struct top *top, const sigset_t *waiting)
{
	struct pollfd fds[2] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = top_feed_fd(&top->feed), .events = POLLIN } };
	uint64_t now = clock_now(), left = NS_PER_S;
	struct timespec timeout, real;

	(void)clock_gettime(CLOCK_REALTIME, &real);
	left -= (uint64_t)real.tv_nsec;
	if (!top->feed.paused && (top->feed.due <= now || top->feed.due - now < left))
		left = top->feed.due > now ? top->feed.due - now : 0;
	timeout = (struct timespec){ .tv_sec = (time_t)(left / NS_PER_S), .tv_nsec = (long)(left % NS_PER_S) };
	if (ppoll(fds, 2, &timeout, waiting) == -1)
		return errno == EINTR;
	return !(fds[0].revents & (POLLHUP | POLLERR | POLLNVAL));
}

static void
loop(struct top *top, const sigset_t *waiting)
{
	bool terminal = true;

	while (terminal && !top->quit && !ended) {
		int key;

		(void)top_feed_turn(&top->feed, &top->data, clock_now());
		top_screen_draw(&top->screen, &top->data, &top->feed);
		terminal = wait_for_something(top, waiting);
		for (int i = 0; terminal && i < KEYS_A_TURN && !top->quit && (key = getch()) != ERR; i++)
			press(top, key);
	}
}

enum ctl_exit
top_run(const char *path)
{
	struct top top = { .screen = { .view = VIEW_ALL } };
	enum ctl_exit code = top_feed_open(&top.feed, path, NS_PER_S);
	sigset_t waiting;

	if (code != CTL_EXIT_DONE) {
		log_errx("%s", top.feed.problem);
		return code;
	}
	make_help(&top);
	for (int kind = 0; kind < TOP_KINDS; kind++)
		top.screen.choices[kind].sort = top_first_sort((enum top_kind)kind);
	if (top_screen_open(&top.screen)) {
		take_signals(&waiting);
		loop(&top, &waiting);
		top_screen_close();
	} else {
		code = CTL_EXIT_FAILED;
	}
	top_feed_close(&top.feed);
	top_data_free(&top.data);
	return code;
}
