/* SPDX-License-Identifier: ISC */
/*
 * The privileged parent: its stages from configuration to the end.
 * Runs in: parent
 *
 * Theory of operation: stages in a table, each of which either succeeds or gives the exit code of the program; whatever happens, parent_stop()
 * takes down what was put up. From the first fork on everything happens in one loop: clients, children's messages, signals, timers. The loop
 * never waits for a child and never reads a client.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fdutil.h"
#include "parent_activate.h"
#include "parent_adopt.h"
#include "parent_caps.h"
#include "parent_command.h"
#include "parent_conf_pack.h"
#include "parent_confine.h"
#include "parent_open.h"
#include "parent_parts.h"
#include "parent_renew.h"
#include "parent_retire.h"
#include "parent_signal.h"
#include "sandbox.h"
#include "totals.h"

/* Timers of the parent itself: supervision, stop, watchdog, reload, settling; that of orders; the reporter's, and the one of workers that are retired. */
#define OTHER_TIMERS 8
/* Descriptors of ours beside those that are counted: loop, signals, programs, namespaces under way, a child's ends while it is started. */
#define OTHER_FDS 64
#define FDS_PER_WORKER 3
/* Of a worker that died, for the reporter. */
#define FDS_PER_DEAD 2
/* For the reporter to write what it has. */
#define REPORTER_LAST (5 * NS_PER_S)

/* ---- timers ------------------------------------------------------------------------------------------------------------------------- */

static void
supervise_on_timer(void *owner, void *arg)
{
	struct parent *parent = arg;
	uint64_t next = workers_supervise(&parent->workers);

	(void)owner;
	reporter_supervise(&parent->reporter);
	watch_supervise(&parent->watch);
	if (metrics_supervise(&parent->metrics))
		reporter_sync(&parent->reporter);
	metrics_measure(&parent->totals, &parent->listeners, &parent->pools, parent->files);
	loop_timer_set(&parent->loop, &parent->supervise_timer, next);
}

static void
watchdog_on_timer(void *owner, void *arg)
{
	struct parent *parent = arg;

	(void)owner;
	notify_alive(&parent->notify);
	loop_timer_set(&parent->loop, &parent->watchdog_timer, parent->loop.now + parent->notify.watchdog_ns / 2);
}

/* ---- stages ------------------------------------------------------------------------------------------------------------------------- */

/* 0 to 2 are somebody's: nothing that is opened later may get these numbers. What else we inherited is the service manager's or nobody's. */
static int
tidy_descriptors(struct activation *activation, bool inherited)
{
	int first_other;

	if (activate_init(activation, &first_other) == -1)
		return -1;
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) != fd)
			return -1;
	}
	/* A state's descriptors are the only ones that we were executed with. */
	return inherited ? 0 : fd_close_from(first_other);
}

/* Where our program is: what an upgrade finds anew. Nothing else will do: argv[0] says what the starter liked to. */
static char *
find_program(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	return strdup(path);
}

/* The level and the form that the parent's pipe wants: what could be said twice is for the image that comes after the trial. */
static void
prepare_trial(const struct conf *conf)
{
	sandbox_die_with_parent();
	log_set_journal(true);
	if (conf->log_level < LOG_L_DEBUG)
		log_set_level(LOG_L_ERR);
}

static int
prepare_notify(struct parent *parent)
{
	const struct conf *conf = parent->conf;
	bool keep_stderr = conf->log.kind == CONF_LOG_STDERR;

	if (parent_is_trial(parent))
		notify_init_trial(&parent->notify);
	else if (parent_is_replacement(parent))
		notify_adopt(&parent->notify, parent->state, keep_stderr, conf->pidfile);
	else
		return notify_init(&parent->notify, conf->background, keep_stderr, conf->pidfile);
	return 0;
}

/* Should: make this process one that can be told things. Mustn't: acquire anything of the outside. */
static enum exit_code
parent_prepare(struct parent *parent)
{
	const struct conf *conf = parent->conf;

	log_set_level(conf->log_level);
	log_set_journal(outputs_stderr_is_journal());
	if (parent_is_trial(parent))
		prepare_trial(conf);
	if (!caps_check(conf->one_id))
		return EXIT_NAMESPACE;
	if (tidy_descriptors(&parent->activation, parent->state != NULL) == -1) {
		log_err("cannot tidy up the descriptors that this process was started with");
		return EXIT_MACHINE;
	}
	if (prepare_notify(parent) == -1)
		return EXIT_MACHINE;
	parent->files = fd_raise_limit();
	if (loop_init(&parent->loop, (uint32_t)(conf->n_services * (2 * conf->workers + 1) + conf->n_netns) + LISTEN_TIMERS + OTHER_TIMERS, parent) == -1 ||
	    signals_init(parent) == -1) {
		log_err("cannot make the event loop");
		return EXIT_MACHINE;
	}
	parent->supervise_timer = (struct loop_timer){ .fn = supervise_on_timer, .arg = parent };
	parent->watchdog_timer = (struct loop_timer){ .fn = watchdog_on_timer, .arg = parent };
	return EXIT_OK;
}

/* The parent itself keeps a few descriptors for each worker and one for each listener. */
static bool
files_suffice(const struct parent *parent)
{
	const struct pools *pools = &parent->pools;
	size_t before = pools->n_slots - 2 * pools->n_workers;
	size_t need = OTHER_FDS + parent->watch.n + parent->outputs.n + parent->routes.n_dirs + (FDS_PER_WORKER + FDS_PER_DEAD) * before;

	/* Where the namespace may change there may be twice as many workers for a while. */
	for (unsigned i = 0; i < pools->n; i++)
		need += (FDS_PER_WORKER + FDS_PER_DEAD) * (size_t)pools->list[i].n * (pools->list[i].of_netns != 0 ? 2 : 1);
	for (uint32_t i = 0; i < parent->routes.n; i++)
		need += parent->routes.list[i].n_ports;
	if (need > parent->files)
		log_errx("this configuration needs %zu descriptors in the parent alone, but the limit of open files is %zu (ulimit -n, LimitNOFILE=); "
		    "%zu workers of before may still finish connections", need, parent->files, before);
	else if (pools->n_slots > MSG_WORKERS_MOST)
		log_errx("this configuration needs %u places for workers, %u at most; %zu workers of before still finish connections", pools->n_slots,
		    MSG_WORKERS_MOST, before);
	return need <= parent->files && pools->n_slots <= MSG_WORKERS_MOST;
}

/* Workers that there are already. */
static uint32_t
count_before(const struct parent *parent)
{
	uint32_t n = 0;

	for (uint32_t i = 0; parent->state != NULL && i < parent->state->n_workers; i++)
		n += parent->state->workers[i].pid > 0;
	return n;
}

/* Counters go on where they were. */
static int
acquire_totals(struct parent *parent, struct state *before)
{
	FD_AUTO int parents = before != NULL ? state_take_fd(before, "totals") : -1;
	FD_AUTO int sums = before != NULL ? state_take_fd(before, "sums") : -1;

	if (parents != -1 && sums != -1 && totals_adopt(&parent->totals, parents, sums) == 0) {
		(void)fd_take(&parents);
		(void)fd_take(&sums);
		return 0;
	}
	if (totals_create(&parent->totals) == 0)
		return 0;
	log_err("cannot make the memory for counters");
	return -1;
}

static int
acquire_tables(struct parent *parent)
{
	const struct conf *conf = parent->conf;
	struct state *before = parent_is_replacement(parent) ? parent->state : NULL;
	int worker = parent->state != NULL ? state_take_fd(parent->state, "worker-program") : -1;
	int reporter = parent->state != NULL ? state_take_fd(parent->state, "reporter-program") : -1;

	if (acquire_totals(parent, before) == -1 ||
	    pools_init(&parent->pools, conf, &parent->loop, parent->watch.netns, parent->files, &parent->totals, count_before(parent)) == -1 ||
	    outputs_init(&parent->outputs, conf, before != NULL) == -1 ||
	    routes_init(&parent->routes, conf, &parent->pools, &parent->outputs, before) == -1 || (before == NULL && !files_suffice(parent)) ||
	    workers_init(&parent->workers, conf, &parent->loop, KIND_WORKER, &parent->pools, &parent->routes, worker) == -1 ||
	    reporter_init(&parent->reporter, conf, &parent->loop, KIND_REPORTER, &parent->outputs, &parent->routes, &parent->pools, reporter) == -1)
		return -1;
	if (before != NULL)
		adopt_workers(&parent->workers, before);
	parent->reporter.trial = parent_is_trial(parent);
	return 0;
}

/* Should: pin namespaces, find the programs, open outputs and listeners, or take over those that are open. Mustn't: fork, accept. */
static enum exit_code
parent_acquire(struct parent *parent)
{
	enum exit_code code = watch_pin(&parent->watch, parent_is_replacement(parent));

	if (code != EXIT_OK)
		return code;
	renew_want_capabilities(parent->conf);
	if (acquire_tables(parent) == -1)
		return EXIT_MACHINE;
	parent->reporter.metrics = &parent->metrics;
	code = metrics_open(&parent->metrics, parent->conf, parent->watch.netns, parent->state);
	if (code != EXIT_OK)
		return code;
	code = open_listeners(&parent->listeners, parent->conf, &parent->routes, &parent->pools, parent->watch.netns, &parent->activation,
	    parent->state);
	if (parent_is_replacement(parent))
		parent->listeners.next_id = parent->state->head.next_id;
	if (code == EXIT_OK && command_acquire(parent) == -1)
		code = EXIT_MACHINE;
	return code;
}

static enum exit_code
parent_confine(struct parent *parent)
{
	struct sandbox_result confined;
	enum exit_code code = confine(parent->conf->one_id, parent->state != NULL ? parent->state->head.filter : 0, &confined);

	tell_confined(&parent->tell, &confined);
	return code;
}

static enum exit_code
parent_turn(struct parent *parent)
{
	if (loop_turn(&parent->loop, LOOP_NEVER) == -1) {
		log_err("cannot wait for events");
		return EXIT_MACHINE;
	}
	if (parent->pools.changed) {
		parent->pools.changed = false;
		orders_sync(&parent->orders);
		reporter_sync(&parent->reporter);
		if (parent->serving)
			listen_recheck(&parent->listeners);
		watch_recheck(&parent->watch);
	}
	if (parent->serving)
		listen_after_turn(&parent->listeners);
	renew_check(parent);
	return EXIT_OK;
}

/* Should: start reporter and workers and wait for each READY. Mustn't: accept. */
static enum exit_code
parent_spawn_all(struct parent *parent)
{
	enum exit_code code = EXIT_OK;

	loop_timer_set(&parent->loop, &parent->supervise_timer, loop_clock());
	if (parent_is_replacement(parent)) {
		renew_take_over(parent);
		return EXIT_OK;
	}
	if (reporter_start(&parent->reporter) == -1)
		return EXIT_MACHINE;
	while (code == EXIT_OK && !parent->stopping && parent->reporter.state != REPORTER_SERVING) {
		code = parent_turn(parent);
		if (parent->reporter.state == REPORTER_DEAD)
			code = parent->reporter.failed;
	}
	if (code != EXIT_OK || parent->stopping)
		return code;
	if (workers_start(&parent->workers) == -1)
		return EXIT_MACHINE;
	while (code == EXIT_OK && !parent->stopping && pools_count(&parent->pools, WORKER_SERVING) < pools_wanted(&parent->pools)) {
		code = parent_turn(parent);
		if (parent->workers.failed != EXIT_OK)
			code = parent->workers.failed;
		if (parent->reporter.state == REPORTER_DEAD)
			code = parent->reporter.failed;
	}
	return code;
}

/* All would start as it should: that is said by leaving the configuration, so that it need not be read a second time. */
static enum exit_code
end_trial(struct parent *parent)
{
	int fd = state_take_fd(parent->state, "configuration");

	if (fd != -1 && conf_store(parent->conf, fd) == 0)
		return EXIT_OK;
	log_err("cannot leave the configuration to the parent");
	return EXIT_MACHINE;
}

static enum exit_code
announce(struct parent *parent)
{
	char status[128];

	if (parent_is_replacement(parent)) {
		renew_settle(parent);
		return EXIT_OK;
	}
	if (notify_pidfile(&parent->notify) == -1)
		return EXIT_MACHINE;
	log_notice("%s", renew_status(parent, status));
	notify_ready(&parent->notify, status);
	reload_settled(&parent->reload);
	return EXIT_OK;
}

/* Should: announce readiness, accept, hand over, supervise, until told to stop and the last worker is gone. Mustn't: block. */
static enum exit_code
parent_serve(struct parent *parent)
{
	enum exit_code code;

	if (parent_is_trial(parent))
		return end_trial(parent);
	parent->workers.phase = WORKERS_SERVING;
	parent->reporter.respawns = true;
	open_announce(&parent->listeners, &parent->routes);
	if (listen_start(&parent->listeners, &parent->loop, KIND_LISTENER) == -1) {
		log_err("cannot poll the listeners");
		return EXIT_MACHINE;
	}
	parent->serving = true;
	watch_start(&parent->watch, KIND_WATCH, &parent->pools, &parent->routes, &parent->listeners, &parent->workers);
	code = announce(parent);
	if (parent->notify.watchdog_ns > 0)
		watchdog_on_timer(NULL, parent);
	while (code == EXIT_OK && !(parent->stopping && pools_count(&parent->pools, WORKER_DEAD) == parent->pools.n_slots))
		code = parent_turn(parent);
	return code;
}

/* ---- end ---------------------------------------------------------------------------------------------------------------------------- */

/* Children that are left are killed and waited for: none outlives us. */
static void
end_children(struct parent *parent)
{
	workers_kill(&parent->workers);
	while (pools_count(&parent->pools, WORKER_DEAD) < parent->pools.n_slots && loop_turn(&parent->loop, LOOP_NEVER) == 0)
		continue;
	reporter_stop(&parent->reporter);
	for (uint64_t until = loop_clock() + REPORTER_LAST; parent->reporter.state != REPORTER_DEAD;) {
		if (loop_clock() >= until) {
			spawn_kill(parent->reporter.pid);
			until = LOOP_NEVER;
		}
		if (loop_turn(&parent->loop, 100 * NS_PER_MS) == -1)
			break;
	}
}

static void
parent_stop(struct parent *parent)
{
	parent->stopping = true;
	watch_stop(&parent->watch);
	listen_close(&parent->listeners);
	activate_free(&parent->activation);
	parent->serving = false;
	if (parent->loop.epoll_fd != -1) {
		loop_timer_clear(&parent->loop, &parent->supervise_timer);
		loop_timer_clear(&parent->loop, &parent->stop_timer);
		end_children(parent);
	}
	reporter_free(&parent->reporter);
	metrics_close(&parent->metrics);
	command_free(parent);
	workers_free(&parent->workers);
	routes_free(&parent->routes);
	outputs_free(&parent->outputs);
	pools_free(&parent->pools);
	totals_free(&parent->totals);
	watch_free(&parent->watch);
	notify_free(&parent->notify);
	fd_close(&parent->signal_fd);
	reload_free(&parent->reload);
	loop_free(&parent->loop);
}

enum exit_code
parent_run(const struct conf *conf, struct state *state, char *const argv[])
{
	static enum exit_code (*const stages[])(struct parent *parent) = {
		parent_prepare, parent_acquire, parent_confine, parent_spawn_all, parent_serve,
	};
	struct parent *parent = calloc(1, sizeof(*parent));
	enum exit_code code = EXIT_OK;

	if (parent == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the parent's state");
	parent->conf = conf;
	parent->state = state;
	parent->path = state != NULL && state->self != NULL ? strdup(state->self) : find_program();
	if (parent->path == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the parent's state");
	if (parent_is_replacement(parent)) {
		parent->reloads = state->head.reloads + !state->head.upgrade;
		parent->upgrades = state->head.upgrades + (state->head.upgrade != 0);
	}
	renew_init(parent, argv);
	parent->signal_fd = parent->loop.epoll_fd = parent->notify.manager = parent->notify.starter = -1;
	control_init(&parent->control);
	watch_init(&parent->watch, conf, &parent->loop);
	totals_init(&parent->totals);
	parent->workers.pools = &parent->pools;
	parent->workers.program = parent->reporter.program = parent->reporter.chan.fd = parent->reporter.failure_fd = -1;
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]) && code == EXIT_OK && !parent->stopping; i++)
		code = stages[i](parent);
	if (parent->serving && code == EXIT_OK)
		log_notice("stopped");
	parent_stop(parent);
	free(parent->path);
	free(parent);
	return code;
}
