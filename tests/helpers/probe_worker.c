/* SPDX-License-Identifier: ISC */
/*
 * A worker that was taken over, inside the real sandbox: the worker's own stages up to and including worker_confine(), then, when SIGUSR1 comes,
 * one attempt, chosen by the worker's number. What stops it is either the filter, which kills the process, or an errno, which is said in the log.
 * With an argument it prints the names of its attempts, one a line, those that must succeed after a "+".
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "probe_attempts.h"
#include "worker.h"

static struct worker worker;
static struct probe_context context;

static void
try_one(const struct attempt *attempt)
{
	long r;

	errno = 0;
	r = attempt->act != NULL ? attempt->act(&context) : probe_call(attempt);
	log_notice("probe %s: %s", attempt->name, r == -1 ? strerror(errno) : "went through");
}

/* Serves on without ever returning: returning from a handler takes a system call that is not allowed. */
static void
on_signal(int sig)
{
	(void)sig;
	try_one(&attempts[worker.hello.index % n_attempts]);
	for (;;)
		(void)loop_turn(&worker.loop, LOOP_NEVER);
}

static int
on_ping(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)count, (void)fds, (void)n_fds;
	return chan_send(&worker.parent, MSG_PONG, items, 1, NULL, 0);
}

static int
on_conn(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)items, (void)fds, (void)n_fds;
	sb_add(&worker.board.head->taken, count);
	sb_add(&worker.board.head->finished, count);
	return 0;
}

static int
on_stop(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)items, (void)count, (void)fds, (void)n_fds;
	_exit(0);
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_PING] = on_ping,
	[MSG_CONN] = on_conn,
	[MSG_STOP] = on_stop,
};

static void __attribute__((unused))
list_attempts(void)
{
	for (unsigned i = 0; i < n_attempts; i++)
		printf("%s%s\n", attempts[i].must_work ? "+" : "", attempts[i].name);
}

int
main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = on_signal };

	(void)argv;
	if (argc > 1) {
#ifdef NSPROXY_SANITIZED
		return 77;	/* a sanitizer's own calls are let through: nothing can be shown */
#else
		list_attempts();
		return 0;
#endif
	}
	log_set_program("nsproxy-worker");
	worker_init(&worker);
	worker_prepare(&worker);
	worker.parent.handlers = handlers;
	context.parent = getppid();
	context.target = worker.routes.list[0].conf.target;
	context.channel = worker.parent.fd;
	(void)sigaction(SIGUSR1, &action, NULL);
	worker_confine(&worker);
	if (chan_send(&worker.parent, MSG_READY, &worker.ready, 1, NULL, 0) == -1)
		_exit(1);
	worker.parent.phase = MSG_SERVING;
	for (;;)
		(void)loop_turn(&worker.loop, LOOP_NEVER);
}
