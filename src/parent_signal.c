/* SPDX-License-Identifier: ISC */
/*
 * What signals do, and how the daemon comes to its end.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_signal.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "log.h"
#include "parent_renew.h"
#include "parent_retire.h"

/* After the workers' own deadline. */
#define STOP_GRACE (2 * NS_PER_S)
#define STOP_RETRY (10 * NS_PER_MS)

/* Tells the workers; looks again until all have been told, and at the end of their time. */
static void
stop_tell(struct parent *parent)
{
	uint64_t next = LOOP_NEVER;

	if (!workers_stop(&parent->workers, parent->stop_deadline))
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
		stop_tell(parent);
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
	reload_stop(&parent->reload);
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
	stop_tell(parent);
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
		stop_tell(parent);
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

/* Without a file there is nothing to read again: then only what needs no configuration. */
static void
on_hup(struct parent *parent)
{
	if (parent->conf->file != NULL) {
		if (reload_begin(&parent->reload, false, 0) == -1)
			log_notice("SIGHUP: not reloaded, since nsproxy stops");
		return;
	}
	notify_reloading(&parent->notify);
	reopen_logs(parent);
	log_notice("SIGHUP: log files were opened again; there is no configuration file to read");
	renew_tell_ready(parent);
}

static void
on_usr2(struct parent *parent)
{
	if (reload_begin(&parent->reload, true, 0) == -1)
		log_notice("SIGUSR2: not upgraded, since nsproxy stops");
}

void
signals_reap(struct parent *parent)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (!workers_on_exit(&parent->workers, pid, status) && !reporter_on_exit(&parent->reporter, pid, status) &&
		    !reload_on_exit(&parent->reload, pid, status))
			log_debug("child", "process %d, which nobody waits for, ended", (int)pid);
	}
}

static const struct {
	int signal;
	void (*run)(struct parent *parent);
} signal_table[] = {
	{ SIGCHLD, signals_reap },
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
int
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
	if (parent->signal_fd == -1)
		return -1;
	parent->stop_timer = (struct loop_timer){ .fn = stop_on_timer, .arg = parent };
	loop_on(&parent->loop, KIND_SIGNAL, signals_on_readable, parent);
	return loop_add(&parent->loop, parent->signal_fd, EPOLLIN, (struct loop_ref){ .kind = KIND_SIGNAL });
}
