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

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fdutil.h"
#include "loop.h"
#include "parent_activate.h"
#include "parent_caps.h"
#include "parent_confine.h"
#include "parent_listen.h"
#include "parent_notify.h"
#include "parent_open.h"
#include "parent_output.h"
#include "parent_pool.h"
#include "parent_reporter.h"
#include "parent_route.h"
#include "parent_watch.h"
#include "parent_worker.h"
#include "totals.h"

enum { KIND_SIGNAL, KIND_LISTENER, KIND_WORKER, KIND_REPORTER, KIND_WATCH };

/* Timers of this file: supervision, stop, watchdog; the reporter's, and the one of workers that are retired. */
#define OTHER_TIMERS 5
/* Descriptors of ours beside those that are counted: loop, signals, programs, namespaces under way, a child's ends while it is started. */
#define OTHER_FDS 64
#define FDS_PER_WORKER 3
/* Of a worker that died, for the reporter. */
#define FDS_PER_DEAD 2
/* After the workers' own deadline. */
#define STOP_GRACE (2 * NS_PER_S)
#define STOP_RETRY (10 * NS_PER_MS)
/* For the reporter to write what it has. */
#define REPORTER_LAST (5 * NS_PER_S)

struct parent {
	const struct conf *conf;
	size_t files;			/* limit of descriptors of one process */
	struct loop loop;
	int signal_fd;
	struct watch watch;
	struct notify notify;
	struct outputs outputs;
	struct totals totals;
	struct pools pools;
	struct routes routes;
	struct activation activation;
	struct listen_set listeners;
	struct reporter reporter;
	struct workers workers;
	struct loop_timer supervise_timer, watchdog_timer, stop_timer;
	bool serving;			/* listeners are polled */
	bool stopping;			/* told to; at the first signal */
	bool without_limit;		/* by QUIT: until the last connection ends */
	uint64_t stop_deadline;		/* loop time; LOOP_NEVER: none */
};

/* ---- signals ------------------------------------------------------------------------------------------------------------------------ */

/* Milliseconds that workers still have. */
static uint64_t
stop_within_ms(const struct parent *parent)
{
	if (parent->stop_deadline == LOOP_NEVER)
		return UINT64_MAX;
	return parent->stop_deadline > parent->loop.now ? (parent->stop_deadline - parent->loop.now) / NS_PER_MS : 0;
}

/* Tells the workers; looks again until all have been told, and at the end of their time. */
static void
stop_tell(struct parent *parent, bool again)
{
	uint64_t next = LOOP_NEVER;

	if (!workers_stop(&parent->workers, stop_within_ms(parent), again))
		next = parent->loop.now + STOP_RETRY;
	else if (parent->stop_deadline != LOOP_NEVER)
		next = parent->stop_deadline + STOP_GRACE;
	loop_timer_set(&parent->loop, &parent->stop_timer, next);
}

static void
stop_on_timer(void *owner, void *arg)
{
	struct parent *parent = arg;

	(void)owner;
	if (parent->stop_deadline == LOOP_NEVER || parent->loop.now < parent->stop_deadline + STOP_GRACE) {
		stop_tell(parent, false);
		return;
	}
	log_warnx("workers are still there after their time: they are killed");
	workers_kill(&parent->workers);
}

static void
stop_begin(struct parent *parent, bool without_limit)
{
	uint64_t ms = parent->conf->drain_timeout_ms, load;

	parent->stopping = true;
	parent->without_limit = without_limit;
	parent->stop_deadline = without_limit ? LOOP_NEVER : parent->loop.now + ms * NS_PER_MS;
	notify_stopping(&parent->notify);
	watch_stop(&parent->watch);
	if (!parent->serving)
		return;
	listen_stop(&parent->listeners);
	load = pools_load(&parent->pools);
	if (without_limit)
		log_notice("stopping when the last of %llu connections has ended", (unsigned long long)load);
	else
		log_notice("stopping; %llu connections have %llu.%03llu s to end", (unsigned long long)load, (unsigned long long)(ms / 1000),
		    (unsigned long long)(ms % 1000));
	stop_tell(parent, false);
}

static void
on_term(struct parent *parent)
{
	if (!parent->stopping) {
		stop_begin(parent, false);
	} else if (parent->without_limit) {
		parent->without_limit = false;
		parent->stop_deadline = parent->loop.now + parent->conf->drain_timeout_ms * NS_PER_MS;
		log_notice("stopping within %llu ms instead", (unsigned long long)parent->conf->drain_timeout_ms);
		stop_tell(parent, true);
	} else {
		log_notice("stopping at once; %llu connections are reset", (unsigned long long)pools_load(&parent->pools));
		workers_kill(&parent->workers);
	}
}

static void
on_quit(struct parent *parent)
{
	if (!parent->stopping)
		stop_begin(parent, true);
}

static void
reopen_logs(struct parent *parent)
{
	outputs_reopen(&parent->outputs);
	reporter_sync(&parent->reporter);
}

static void
on_usr1(struct parent *parent)
{
	reopen_logs(parent);
	log_notice("log files were opened again");
}

/* What HUP does as long as the configuration of a running parent is fixed: the part that needs no configuration. */
static void
on_hup(struct parent *parent)
{
	notify_reloading(&parent->notify);
	reopen_logs(parent);
	if (parent->conf->file == NULL)
		log_notice("SIGHUP: log files were opened again; there is no configuration file to read");
	else
		log_warnx("SIGHUP: log files were opened again, but %s was not read: this version applies a new configuration at a restart only",
		    parent->conf->file);
	notify_reloaded(&parent->notify);
}

static void
on_usr2(struct parent *parent)
{
	(void)parent;
	log_warnx("SIGUSR2: this version cannot replace its program while it runs; nothing was done");
}

static void
on_child(struct parent *parent)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (!workers_on_exit(&parent->workers, pid, status) && !reporter_on_exit(&parent->reporter, pid, status))
			log_debug("child", "process %d, which nobody waits for, ended", (int)pid);
	}
}

static const struct {
	int signal;
	void (*run)(struct parent *parent);
} signal_table[] = {
	{ SIGCHLD, on_child },
	{ SIGTERM, on_term },
	{ SIGINT, on_term },
	{ SIGQUIT, on_quit },
	{ SIGHUP, on_hup },
	{ SIGUSR1, on_usr1 },
	{ SIGUSR2, on_usr2 },
};
#define N_SIGNALS (sizeof(signal_table) / sizeof(signal_table[0]))

static void
signals_on_readable(void *owner, struct loop_ref ref, uint32_t events)
{
	struct parent *parent = owner;
	struct signalfd_siginfo info;

	(void)ref, (void)events;
	while (read(parent->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		for (size_t i = 0; i < N_SIGNALS; i++) {
			if ((uint32_t)signal_table[i].signal == info.ssi_signo)
				signal_table[i].run(parent);
		}
	}
}

/* From here on signals only come through the descriptor: no work is ever done in a handler. */
static int
signals_init(struct parent *parent)
{
	sigset_t set;

	(void)sigemptyset(&set);
	for (size_t i = 0; i < N_SIGNALS; i++) {
		(void)sigaddset(&set, signal_table[i].signal);
		/* An ignored signal (nohup, a careless starter) would never arrive. */
		(void)signal(signal_table[i].signal, SIG_DFL);
	}
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) == -1)
		return -1;
	parent->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return parent->signal_fd == -1 ? -1 : 0;
}

/* ---- timers ------------------------------------------------------------------------------------------------------------------------- */

static void
supervise_on_timer(void *owner, void *arg)
{
	struct parent *parent = arg;
	uint64_t next = workers_supervise(&parent->workers);

	(void)owner;
	reporter_supervise(&parent->reporter);
	watch_supervise(&parent->watch);
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
tidy_descriptors(struct activation *activation)
{
	int first_other;

	if (activate_init(activation, &first_other) == -1)
		return -1;
	for (int fd = 0; fd <= 2; fd++) {
		if (fcntl(fd, F_GETFD) == -1 && open("/dev/null", O_RDWR) != fd)
			return -1;
	}
	return fd_close_from(first_other);
}

/* Should: make this process one that can be told things. Mustn't: acquire anything of the outside. */
static enum exit_code
parent_prepare(struct parent *parent)
{
	const struct conf *conf = parent->conf;

	log_set_level(conf->log_level);
	log_set_journal(outputs_stderr_is_journal());
	if (!caps_check(conf->one_id))
		return EXIT_NAMESPACE;
	if (tidy_descriptors(&parent->activation) == -1) {
		log_err("cannot tidy up the descriptors that this process was started with");
		return EXIT_MACHINE;
	}
	if (notify_init(&parent->notify, conf->background, conf->log.kind == CONF_LOG_STDERR, conf->pidfile) == -1)
		return EXIT_MACHINE;
	parent->files = fd_raise_limit();
	if (loop_init(&parent->loop, (uint32_t)(conf->n_services * (2 * conf->workers + 1) + conf->n_netns) + LISTEN_TIMERS + OTHER_TIMERS, parent) == -1 ||
	    signals_init(parent) == -1 ||
	    loop_add(&parent->loop, parent->signal_fd, EPOLLIN, (struct loop_ref){ .kind = KIND_SIGNAL }) == -1) {
		log_err("cannot make the event loop");
		return EXIT_MACHINE;
	}
	loop_on(&parent->loop, KIND_SIGNAL, signals_on_readable, parent);
	parent->supervise_timer = (struct loop_timer){ .fn = supervise_on_timer, .arg = parent };
	parent->watchdog_timer = (struct loop_timer){ .fn = watchdog_on_timer, .arg = parent };
	parent->stop_timer = (struct loop_timer){ .fn = stop_on_timer, .arg = parent };
	return EXIT_OK;
}

/* The parent itself keeps a few descriptors for each worker and one for each listener. */
static bool
files_suffice(const struct parent *parent)
{
	const struct pools *pools = &parent->pools;
	size_t need = OTHER_FDS + parent->watch.n + parent->outputs.n + parent->routes.n_dirs;

	/* Where the namespace may change there may be twice as many workers for a while. */
	for (unsigned i = 0; i < pools->n; i++)
		need += (FDS_PER_WORKER + FDS_PER_DEAD) * (size_t)pools->list[i].n * (pools->list[i].of_netns != 0 ? 2 : 1);
	for (uint32_t i = 0; i < parent->routes.n; i++)
		need += parent->routes.list[i].n_ports;
	if (need <= parent->files)
		return true;
	log_errx("this configuration needs %zu descriptors in the parent alone, but the limit of open files is %zu (ulimit -n, LimitNOFILE=)", need,
	    parent->files);
	return false;
}

/* Should: pin namespaces, find the programs, open outputs and listeners. Mustn't: fork, accept. */
static enum exit_code
parent_acquire(struct parent *parent)
{
	const struct conf *conf = parent->conf;
	enum exit_code code = watch_pin(&parent->watch);

	if (code != EXIT_OK)
		return code;
	if (totals_create(&parent->totals) == -1) {
		log_err("cannot make the memory for counters");
		return EXIT_MACHINE;
	}
	if (pools_init(&parent->pools, conf, &parent->loop, parent->watch.netns, parent->files, &parent->totals) == -1 ||
	    outputs_init(&parent->outputs, conf) == -1 ||
	    routes_init(&parent->routes, conf, &parent->pools, &parent->outputs) == -1 || !files_suffice(parent) ||
	    workers_init(&parent->workers, conf, &parent->loop, KIND_WORKER, &parent->pools, &parent->routes) == -1 ||
	    reporter_init(&parent->reporter, conf, &parent->loop, KIND_REPORTER, &parent->outputs, &parent->routes, &parent->pools) == -1)
		return EXIT_MACHINE;
	return open_listeners(&parent->listeners, conf, &parent->routes, &parent->pools, parent->watch.netns, &parent->activation);
}

static enum exit_code
parent_confine(struct parent *parent)
{
	return confine(parent->conf->one_id);
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
		reporter_sync(&parent->reporter);
		if (parent->serving)
			listen_recheck(&parent->listeners);
		watch_recheck(&parent->watch);
	}
	if (parent->serving)
		listen_after_turn(&parent->listeners);
	return EXIT_OK;
}

/* Should: start reporter and workers and wait for each READY. Mustn't: accept. */
static enum exit_code
parent_spawn_all(struct parent *parent)
{
	enum exit_code code = EXIT_OK;

	loop_timer_set(&parent->loop, &parent->supervise_timer, loop_clock());
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

/* Should: announce readiness, accept, hand over, supervise, until told to stop and the last worker is gone. Mustn't: block. */
static enum exit_code
parent_serve(struct parent *parent)
{
	enum exit_code code = EXIT_OK;
	char status[128];

	parent->workers.phase = WORKERS_SERVING;
	parent->reporter.respawns = true;
	open_announce(&parent->listeners, &parent->routes);
	if (listen_start(&parent->listeners, &parent->loop, KIND_LISTENER) == -1) {
		log_err("cannot poll the listeners");
		return EXIT_MACHINE;
	}
	parent->serving = true;
	watch_start(&parent->watch, KIND_WATCH, &parent->pools, &parent->routes, &parent->listeners, &parent->workers);
	(void)snprintf(status, sizeof(status), "ready, %zu services, %u workers", parent->conf->n_services, pools_wanted(&parent->pools));
	if (notify_pidfile(&parent->notify) == -1)
		return EXIT_MACHINE;
	log_notice("%s", status);
	notify_ready(&parent->notify, status);
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
	workers_free(&parent->workers);
	routes_free(&parent->routes);
	outputs_free(&parent->outputs);
	pools_free(&parent->pools);
	totals_free(&parent->totals);
	watch_free(&parent->watch);
	notify_free(&parent->notify);
	fd_close(&parent->signal_fd);
	loop_free(&parent->loop);
}

enum exit_code
parent_run(const struct conf *conf)
{
	static enum exit_code (*const stages[])(struct parent *parent) = {
		parent_prepare, parent_acquire, parent_confine, parent_spawn_all, parent_serve,
	};
	struct parent *parent = calloc(1, sizeof(*parent));
	enum exit_code code = EXIT_OK;

	if (parent == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the parent's state");
	parent->conf = conf;
	parent->signal_fd = parent->loop.epoll_fd = parent->notify.manager = parent->notify.starter = -1;
	watch_init(&parent->watch, conf, &parent->loop);
	totals_init(&parent->totals);
	parent->workers.pools = &parent->pools;
	parent->workers.program = parent->reporter.program = parent->reporter.chan.fd = parent->reporter.failure_fd = -1;
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]) && code == EXIT_OK && !parent->stopping; i++)
		code = stages[i](parent);
	if (parent->serving && code == EXIT_OK)
		log_notice("stopped");
	parent_stop(parent);
	free(parent);
	return code;
}
