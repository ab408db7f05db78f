/* SPDX-License-Identifier: ISC */
/*
 * The reporter, seen from the parent.
 * Runs in: parent
 *
 * Theory of operation: what the reporter must know is state, not a stream of events: settings, outputs, names of routes, and which workers there
 * are. reporter_sync() sends the difference between what it was told and what is, as far as its channel takes it, and goes on when the channel
 * has room. A reporter that was replaced was told nothing, so it gets everything again, over the spare ends that each worker's slot keeps.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_reporter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdutil.h"
#include "log.h"

#ifndef LIBEXECDIR
#define LIBEXECDIR "/usr/libexec"
#endif
#define REPORTER_PROGRAM LIBEXECDIR "/nsproxy/nsproxy-reporter"

/* From fork to READY. */
#define START_MOST (10 * NS_PER_S)
/* For the one before to write what it has. */
#define FORMER_MOST (5 * NS_PER_S)

static struct loop_ref
ref_of(const struct reporter *reporter)
{
	return (struct loop_ref){ .index = 0, .generation = reporter->generation & LOOP_GENERATION_MASK, .kind = reporter->kind };
}

/* The sink of the parent's log. What the reporter cannot take goes to stderr: the parent never waits for it. */
static void
log_through(void *owner, enum log_level level, const char *text)
{
	struct reporter *reporter = owner;
	struct msg_log msg = { .level = (uint32_t)level };

	(void)snprintf(msg.text, sizeof(msg.text), "%s", text);
	if (reporter->state == REPORTER_STARTING && reporter->held != NULL && reporter->n_held < REPORTER_HELD_MOST)
		reporter->held[reporter->n_held++] = msg;
	else if (reporter->state != REPORTER_SERVING || chan_send(&reporter->chan, MSG_LOG, &msg, 1, NULL, 0) == -1)
		log_to_stderr(level, text);
}

/* What a new image had to say before its first reporter was ready. */
static void
say_held(struct reporter *reporter)
{
	for (unsigned i = 0; i < reporter->n_held; i++) {
		struct msg_log *msg = &reporter->held[i];

		if (reporter->state != REPORTER_SERVING || chan_send(&reporter->chan, MSG_LOG, msg, 1, NULL, 0) == -1)
			log_to_stderr((enum log_level)msg->level, msg->text);
	}
	free(reporter->held);
	reporter->held = NULL;
	reporter->n_held = 0;
}

static int
send_settings(struct reporter *reporter)
{
	const struct conf *conf = reporter->conf;
	struct msg_settings msg = { .access_format = (uint32_t)conf->access_format, .log_level = (uint32_t)log_level(),
		.flags = (conf->one_id ? SETTINGS_ONE_ID : 0) | (conf->metrics_at.addr.len > 0 ? SETTINGS_METRICS : 0),
		.n_routes = reporter->routes->n, .max_workers = reporter->pools->n_slots };

	if (reporter->settings_sent)
		return 0;
	if (chan_send(&reporter->chan, MSG_SETTINGS, &msg, 1, NULL, 0) == -1)
		return -1;
	reporter->settings_sent = true;
	return 0;
}

static int
send_totals(struct reporter *reporter)
{
	const struct totals *totals = reporter->pools->totals;
	struct msg_totals msg = { .n_services = (uint32_t)reporter->conf->n_services };
	int fds[2] = { totals->parent_reader, totals->gone_fd };

	if (reporter->totals_sent)
		return 0;
	if (chan_send(&reporter->chan, MSG_TOTALS, &msg, 1, fds, 2) == -1)
		return -1;
	reporter->totals_sent = true;
	return 0;
}

static int
send_names(struct reporter *reporter)
{
	while (reporter->names_sent < reporter->routes->n) {
		if (chan_send(&reporter->chan, MSG_NAMES, &reporter->routes->list[reporter->names_sent].names, 1, NULL, 0) == -1)
			return -1;
		reporter->names_sent++;
	}
	return 0;
}

/* Those whose listener was opened later, at a port that the kernel chose then. */
static int
send_moved(struct reporter *reporter)
{
	struct routes *routes = reporter->routes;

	for (uint32_t i = 0; routes->n_moved > 0 && i < routes->n; i++) {
		if (!routes->list[i].moved)
			continue;
		if (chan_send(&reporter->chan, MSG_NAMES, &routes->list[i].names, 1, NULL, 0) == -1)
			return -1;
		routes->list[i].moved = false;
		routes->n_moved--;
	}
	return 0;
}

/* Those that live. Their predecessors are out of the way: send_dead() comes first. */
static int
send_worker(struct reporter *reporter, struct worker *worker)
{
	struct msg_worker msg = { .index = worker->index, .max_conns = worker->board.max_conns, .n_services = worker->board.n_services,
		.pid = (uint32_t)worker->pid };
	int fds[2] = { worker->report_fd, worker->board_fd };

	if (worker->state == WORKER_DEAD || worker->announced == worker->generation)
		return 0;
	if (chan_send(&reporter->chan, MSG_WORKER, &msg, 1, fds, 2) == -1)
		return -1;
	worker->announced = worker->generation;
	return 0;
}

static int
send_workers(struct reporter *reporter)
{
	for (uint32_t i = 0; i < reporter->pools->n_slots; i++) {
		if (send_worker(reporter, &reporter->pools->workers[i]) == -1)
			return -1;
	}
	return 0;
}

/*
 * In the order of their deaths. One that no reporter has heard of is introduced first: what it left is read like that of any other. They are kept
 * until the reporter says that it has counted them, so one that dies before that is no loss: the next one is told again.
 */
static int
send_dead(struct reporter *reporter)
{
	for (uint32_t i = 0; i < reporter->pools->n_dead; i++) {
		struct dead_worker *dead = &reporter->pools->dead[i];
		struct msg_gone gone = { .index = dead->msg.index, .death = dead->death };
		int fds[2] = { dead->report_fd, dead->board_fd };

		if (dead->told)
			continue;
		if (!dead->announced && chan_send(&reporter->chan, MSG_WORKER, &dead->msg, 1, fds, 2) == -1)
			return -1;
		dead->announced = true;
		if (chan_send(&reporter->chan, MSG_GONE, &gone, 1, NULL, 0) == -1)
			return -1;
		dead->told = true;
	}
	return 0;
}

static int
send_metrics(struct reporter *reporter)
{
	const struct metrics *metrics = reporter->metrics;
	struct msg_listen msg = { .kind = LISTEN_METRICS };

	if (metrics == NULL || metrics->bound.fd == -1 || reporter->metrics_sent == metrics->number)
		return 0;
	if (chan_send(&reporter->chan, MSG_LISTEN, &msg, 1, &metrics->bound.fd, 1) == -1)
		return -1;
	reporter->metrics_sent = metrics->number;
	return 0;
}

static int
send_synced(struct reporter *reporter)
{
	struct msg_synced msg = { .workers = pools_count(reporter->pools, WORKER_SERVING) };

	if (reporter->synced_sent)
		return 0;
	if (chan_send(&reporter->chan, MSG_SYNCED, &msg, 1, NULL, 0) == -1)
		return -1;
	reporter->synced_sent = true;
	return 0;
}

void
reporter_sync(struct reporter *reporter)
{
	bool full;
	int r;

	if (reporter->state != REPORTER_STARTING && reporter->state != REPORTER_SERVING)
		return;
	r = send_settings(reporter);
	if (r == 0)
		r = send_totals(reporter);
	if (r == 0)
		r = outputs_send(reporter->outputs, &reporter->chan);
	if (r == 0)
		r = send_names(reporter);
	if (r == 0 && reporter->state == REPORTER_SERVING)
		r = send_moved(reporter);
	if (r == 0 && reporter->state == REPORTER_SERVING)
		r = send_dead(reporter);
	if (r == 0 && reporter->state == REPORTER_SERVING)
		r = send_workers(reporter);
	if (r == 0 && reporter->state == REPORTER_SERVING)
		r = send_metrics(reporter);
	if (r == 0 && reporter->state == REPORTER_SERVING)
		r = send_synced(reporter);
	if (r == 0 && reporter->state == REPORTER_SERVING)
		r = tell_sync(reporter->tell, &reporter->chan);
	/* Full, or the kernel was short of memory: again when it takes something. After EPIPE its end will be told by SIGCHLD. */
	full = r == -1 && errno != EPIPE;
	if (full != reporter->wants_out)
		(void)loop_modify(reporter->loop, reporter->chan.fd, full ? EPOLLIN | EPOLLOUT : EPOLLIN, ref_of(reporter));
	reporter->wants_out = full;
}

static int
on_ready(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_ready *ready = items;

	(void)count, (void)fds, (void)n_fds;
	if (reporter->state != REPORTER_STARTING)
		return -1;
	reporter->state = REPORTER_SERVING;
	reporter->chan.phase = MSG_SERVING;
	log_debug("child", "reporter (process %d) is ready: layers 0x%x, %u system calls", (int)reporter->pid, ready->layers, ready->syscalls);
	reporter_sync(reporter);
	say_held(reporter);
	return 0;
}

static int
on_folded(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	const struct msg_folded *folded = items;
	struct pools *pools = reporter->pools;
	uint32_t n = 0;

	(void)count, (void)fds, (void)n_fds;
	while (n < pools->n_dead && pools->dead[n].told && pools->dead[n].death <= folded->death)
		n++;
	pools_forget_dead(pools, n);
	return 0;
}

static int
on_request(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct reporter *reporter = owner;
	int r;

	(void)count, (void)fds, (void)n_fds;
	if (reporter->state != REPORTER_SERVING)
		return -1;
	r = requests_on(reporter->requests, items);
	reporter_sync(reporter);
	return r;
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_READY] = on_ready,
	[MSG_REQUEST] = on_request,
	[MSG_FOLDED] = on_folded,
};

static void
on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct reporter *reporter = owner;

	if (ref.generation != (reporter->generation & LOOP_GENERATION_MASK) || reporter->chan.fd == -1)
		return;
	if (events & EPOLLOUT)
		reporter_sync(reporter);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || chan_drain(&reporter->chan, 16) == 0)
		return;
	if (errno == EPROTO)
		log_errx("reporter (process %d) sent a bad message (%s): it is replaced", (int)reporter->pid, reporter->chan.wrong);
	/* Bad or gone, there is nothing to talk about any more. SIGCHLD follows. */
	(void)loop_remove(reporter->loop, reporter->chan.fd);
	spawn_kill(reporter->pid);
}

static void
on_respawn(void *owner, void *arg)
{
	struct reporter *reporter = arg;

	(void)owner;
	if (reporter_start(reporter) == -1)
		loop_timer_set(reporter->loop, &reporter->respawn, spawn_backoff_next(&reporter->backoff, reporter->loop->now) + NS_PER_S);
}

int
reporter_init(struct reporter *reporter, const struct conf *conf, struct loop *loop, uint8_t kind, struct outputs *outputs,
    struct routes *routes, struct pools *pools, int program)
{
	*reporter = (struct reporter){ .conf = conf, .loop = loop, .kind = kind, .outputs = outputs, .routes = routes, .pools = pools,
		.failure_fd = -1, .chan = { .fd = -1 }, .respawn = { .fn = on_respawn, .arg = reporter } };
	reporter->program = program != -1 ? program : spawn_open_program(REPORTER_PROGRAM);
	if (reporter->program == -1)
		return -1;
	loop_on(loop, kind, on_event, reporter);
	return 0;
}

/* A new process knows nothing. */
static void
forget_told(struct reporter *reporter)
{
	reporter->settings_sent = reporter->totals_sent = reporter->synced_sent = false;
	reporter->names_sent = reporter->metrics_sent = 0;
	reporter->wants_out = false;
	outputs_unsent(reporter->outputs);
	tell_forget(reporter->tell);
	for (uint32_t i = 0; i < reporter->pools->n_slots; i++)
		reporter->pools->workers[i].announced = 0;
	for (uint32_t i = 0; i < reporter->pools->n_dead; i++)
		reporter->pools->dead[i].announced = reporter->pools->dead[i].told = false;
}

int
reporter_start(struct reporter *reporter)
{
	const struct conf *conf = reporter->conf;
	struct child_plan plan = { .title = "nsproxy: reporter", .program = reporter->program, .netns = CHILD_EMPTY, .n_fds = 1, .uid = conf->uid,
		.gid = conf->gid, .one_id = conf->one_id };
	int ends[2];

	spawn_backoff_started(&reporter->backoff, reporter->loop->now);
	if (chan_pair(ends) == -1) {
		log_err("cannot make a channel for the reporter");
		return -1;
	}
	reporter->generation++;
	chan_init(&reporter->chan, ends[0], MSG_P, MSG_R, handlers, reporter);
	plan.fds[0] = ends[1];
	if (loop_add(reporter->loop, reporter->chan.fd, EPOLLIN, ref_of(reporter)) == -1 ||
	    (reporter->pid = spawn(&plan, &reporter->failure_fd)) == -1) {
		log_err("cannot start the reporter");
		chan_close(&reporter->chan);
		fd_close(&ends[1]);
		return -1;
	}
	fd_close(&ends[1]);
	reporter->state = REPORTER_STARTING;
	forget_told(reporter);
	if (!reporter->trial)
		log_set_sink(log_through, reporter);
	reporter_sync(reporter);
	return 0;
}

void
reporter_answer(struct reporter *reporter, uint64_t number, uint32_t code, const char *text)
{
	tell_result(reporter->tell, number, (enum ctl_code)code, text);
	reporter_sync(reporter);
}

/* It leaves what lives to its successor. One that cannot be told would take the end of its channel for the end of all workers. */
static void
relieve(struct reporter *reporter, struct state *state)
{
	struct msg_leave leave = { .request = state->head.request, .upgrade = state->head.upgrade != 0 };
	struct chan chan = { .fd = -1 };
	int fd = state_take_fd(state, "reporter");

	reporter->former = (pid_t)state->head.reporter_pid;
	reporter->former_until = reporter->loop->now + FORMER_MOST;
	if (fd == -1)
		return;
	chan_init(&chan, fd, MSG_P, MSG_R, handlers, reporter);
	if (chan_send(&chan, MSG_LEAVE, &leave, 1, NULL, 0) == -1)
		spawn_kill(reporter->former);
	chan_close(&chan);
}

void
reporter_succeed(struct reporter *reporter, struct state *state)
{
	reporter->respawns = true;
	reporter->held = calloc(REPORTER_HELD_MOST, sizeof(*reporter->held));
	relieve(reporter, state);
	on_respawn(NULL, reporter);
}

bool
reporter_on_exit(struct reporter *reporter, pid_t pid, int status)
{
	struct spawn_verdict verdict;
	enum reporter_state was = reporter->state;
	uint64_t next;

	if (reporter->former > 0 && pid == reporter->former) {
		reporter->former = 0;
		return true;
	}
	if (reporter->state == REPORTER_DEAD || pid != reporter->pid)
		return false;
	spawn_verdict(status, reporter->failure_fd, &verdict);
	reporter->state = REPORTER_DEAD;
	say_held(reporter);
	reporter->pid = 0;
	fd_close(&reporter->failure_fd);
	chan_close(&reporter->chan);
	forget_told(reporter);
	if (was == REPORTER_CLOSING)
		return true;
	reporter->failed = verdict.code;
	if (!reporter->respawns) {
		log_errx("the reporter %s: %s", was == REPORTER_STARTING ? "could not be started" : "ended", verdict.text);
		return true;
	}
	totals_add(reporter->pools->totals, TOTALS_REPORTER_DEATHS, 1);
	next = spawn_backoff_next(&reporter->backoff, reporter->loop->now);
	log_errx("the reporter (process %d) ended: %s; it is started again%s", (int)pid, verdict.text,
	    next > reporter->loop->now ? " after a while, since it keeps dying" : "");
	loop_timer_set(reporter->loop, &reporter->respawn, next);
	return true;
}

void
reporter_supervise(struct reporter *reporter)
{
	if (reporter->former > 0 && reporter->loop->now >= reporter->former_until)
		spawn_kill(reporter->former);
	if (reporter->state == REPORTER_SERVING)
		reporter_sync(reporter);	/* what changes all the time is told now and then */
	if (reporter->state != REPORTER_STARTING || reporter->loop->now < reporter->backoff.started + START_MOST)
		return;
	log_errx("the reporter (process %d) was not ready after 10 seconds: it is killed", (int)reporter->pid);
	spawn_kill(reporter->pid);
}

void
reporter_stop(struct reporter *reporter)
{
	reporter->respawns = false;
	loop_timer_clear(reporter->loop, &reporter->respawn);
	if (reporter->state == REPORTER_DEAD)
		return;
	reporter_sync(reporter);
	reporter->state = REPORTER_CLOSING;
	chan_close(&reporter->chan);
}

void
reporter_free(struct reporter *reporter)
{
	log_set_sink(NULL, NULL);
	free(reporter->held);
	chan_close(&reporter->chan);
	fd_close(&reporter->failure_fd);
	fd_close(&reporter->program);
}
