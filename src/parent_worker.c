/* SPDX-License-Identifier: ISC */
/*
 * The life of a worker, seen from the parent.
 * Runs in: parent
 *
 * Theory of operation: a slot goes DEAD -> STARTING (forked; set-up messages on their way) -> SERVING (READY came) -> STOPPING (told to finish)
 * -> DEAD (SIGCHLD). Only SIGCHLD leads back to DEAD, whatever went wrong before: a worker that hangs, talks nonsense or closes its channel is
 * killed, and the rest follows from its death. Nothing here waits.
 * */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_worker.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "child_fds.h"
#include "fdutil.h"
#include "log.h"
#include "parent_feed.h"
#include "parent_handoff.h"
#include "parent_retire.h"

#ifndef LIBEXECDIR
#define LIBEXECDIR "/usr/libexec"
#endif
#define WORKER_PROGRAM LIBEXECDIR "/nsproxy/nsproxy-worker"

static struct loop_ref
ref_of(const struct workers *workers, const struct worker *worker)
{
	return (struct loop_ref){ .index = worker->index, .generation = worker->generation & LOOP_GENERATION_MASK, .kind = workers->kind };
}

static void
feed_more(const struct workers *workers, struct worker *worker)
{
	int r = feed_worker(worker, workers->routes);
	bool full = r == -1 && errno != EPIPE;	/* or the kernel was short of memory: either way, again when it takes something */

	(void)loop_modify(workers->loop, worker->chan.fd, full ? EPOLLIN | EPOLLOUT : EPOLLIN, ref_of(workers, worker));
}

/* ---- what it sends ------------------------------------------------------------------------------------------------------------------ */

void
worker_end(struct worker *worker, bool said)
{
	worker->ended = true;
	worker->said = said;
	spawn_kill(worker->pid);
}

/* Once for each engine and start, whatever the number of workers. */
static void
say_fallback(struct workers *workers, uint32_t engines)
{
	for (size_t i = 0; i < workers->conf->n_services; i++) {
		uint32_t bit = 1u << workers->conf->services[i].engine;

		if (workers->conf->services[i].engine == ENGINE_ADAPTIVE || (engines & bit) || (workers->fallback_said & bit))
			continue;
		workers->fallback_said |= bit;
		log_warnx("this kernel cannot do the engine %s, or the limit of locked memory is too small for it: %s is used instead",
		    engine_name((unsigned)workers->conf->services[i].engine), engine_name(ENGINE_ADAPTIVE));
	}
}

static int
on_ready(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	const struct msg_ready *ready = items;
	char name[128];

	(void)count, (void)fds, (void)n_fds;
	if (worker->state != WORKER_STARTING)
		return -1;
	worker->state = WORKER_SERVING;
	worker->chan.phase = MSG_SERVING;
	worker->ready = *ready;
	worker->pools->changed = true;
	fd_close(&worker->failure_fd);
	say_fallback(worker->workers, ready->engines);
	log_debug("child", "%s is ready: engines 0x%x, layers 0x%x, %u system calls (%u checked), pipes of %u bytes", worker_name(worker, name),
	    ready->engines, ready->layers, ready->syscalls, ready->syscalls_checked, ready->pipe_size);
	return 0;
}

static int
on_pong(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	const struct msg_ping *pong = items;
	char name[128];

	(void)count, (void)fds, (void)n_fds;
	/* The right number for the question that is open; anything else was not asked for. */
	if (worker->ping_at == 0 || !worker->ping_sent || pong->number != worker->ping_number)
		return -1;
	worker->ping_at = 0;
	if (worker->late)
		log_notice("%s answers again", worker_name(worker, name));
	worker->late = false;
	return 0;
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_READY] = on_ready,
	[MSG_PONG] = on_pong,
};

static void
on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct workers *workers = owner;
	struct worker *worker = &workers->pools->workers[ref.index];
	char name[128];
	bool bad;

	if (ref.index >= workers->pools->n_slots || ref.generation != (worker->generation & LOOP_GENERATION_MASK) || worker->chan.fd == -1)
		return;
	if (events & EPOLLOUT)
		feed_more(workers, worker);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || chan_drain(&worker->chan, 16) == 0)
		return;
	bad = errno == EPROTO;
	if (bad)
		log_errx("%s sent a bad message (%s): it is killed and replaced", worker_name(worker, name), worker->chan.wrong);
	/* Bad or closed, there is nothing to talk about any more. SIGCHLD follows. */
	(void)loop_remove(workers->loop, worker->chan.fd);
	if (!worker->ended && (bad || worker->state != WORKER_STOPPING))
		worker_end(worker, bad);
}

/* ---- start -------------------------------------------------------------------------------------------------------------------------- */

/* What of a worker is ours and goes with its process. */
static void
release(struct worker *worker)
{
	pools_keep_dead(worker);
	chan_close(&worker->chan);
	fd_close(&worker->failure_fd);
	fd_close(&worker->report_fd);
	fd_close(&worker->board_fd);
	scoreboard_unmap(&worker->board);
	worker->state = WORKER_DEAD;
	worker->pid = 0;
	worker->sent = 0;
	memset(worker->sent_by_service, 0, sizeof(*worker->sent_by_service) * worker->pools->n_services);
	worker->blocked = worker->late = worker->ended = worker->said = worker->retired = worker->foreign = false;
	worker->ping_at = 0;
	worker->taken_seen = worker->taken_at = 0;
	worker->fed = 0;
}

/* The child's ends: closed as soon as it has its copies. */
struct child_ends {
	int chan, report, board;
};

int
worker_attach(struct worker *worker, int chan_fd)
{
	worker->generation += worker->generation == UINT32_MAX ? 2 : 1;
	chan_init(&worker->chan, chan_fd, MSG_P, MSG_W, handlers, worker);
	return loop_add(worker->workers->loop, chan_fd, EPOLLIN, ref_of(worker->workers, worker));
}

static int
make_ends(struct worker *worker, struct child_ends *child)
{
	const struct pools *pools = worker->pools;
	int chan[2], report[2];

	if (chan_pair(chan) == -1)
		return -1;
	child->chan = chan[1];
	if (worker_attach(worker, chan[0]) == -1 || chan_pair(report) == -1)
		return -1;
	child->report = report[1];
	worker->report_fd = report[0];
	child->board = scoreboard_create(pools->max_conns, pools->n_services);
	if (child->board == -1)
		return -1;
	worker->board_fd = scoreboard_reader_fd(child->board);
	if (worker->board_fd == -1)
		return -1;
	return scoreboard_map(&worker->board, worker->board_fd, 0, pools->max_conns, pools->n_services);
}

/* Both halves of a pool have the same users: a worker of the namespace before has its successor's. */
uid_t
worker_uid(const struct worker *worker)
{
	const struct conf *conf = worker->pools->conf;

	return conf->worker_uid_first <= conf->worker_uid_last ? conf->worker_uid_first + worker->index % worker->pools->n_workers : conf->uid;
}

static int
fork_worker(struct workers *workers, struct worker *worker, const struct child_ends *child)
{
	const struct conf *conf = workers->conf;
	const struct netns *netns = &workers->pools->list[worker->pool].netns;
	char title[300];
	struct child_plan plan = { .title = title, .program = workers->program, .netns = netns->fd, .fds = { child->chan, child->report, child->board },
		.n_fds = 3, .n_pipes = WORKER_PIPES, .uid = worker_uid(worker), .gid = conf->gid,
		.one_id = conf->one_id, .killed_first = true };

	(void)snprintf(title, sizeof(title), "nsproxy: worker %u [%s]", worker->index, workers->pools->list[worker->pool].name);
	if (netns->name[0] == '\0')
		plan.netns = CHILD_STAY;
	worker->feed = feed_digest(workers->pools, worker->pool, workers->routes);
	worker->program = workers->program_id;
	worker->uid = plan.uid;
	worker->gid = plan.gid;
	worker->netns_dev = netns->dev;
	worker->netns_ino = netns->ino;
	worker->started = loop_realtime();
	worker->ready = (struct msg_ready){ .engines = 0 };
	worker->pid = spawn(&plan, &worker->failure_fd);
	return worker->pid == -1 ? -1 : 0;
}

static int
start_worker(struct workers *workers, struct worker *worker)
{
	struct child_ends child = { -1, -1, -1 };
	int r;

	spawn_backoff_started(&worker->backoff, workers->loop->now);
	r = make_ends(worker, &child);
	if (r == 0)
		r = fork_worker(workers, worker, &child);
	fd_close(&child.chan);
	fd_close(&child.report);
	fd_close(&child.board);
	if (r == -1) {
		log_err("cannot start worker %u [%s]", worker->index, workers->pools->list[worker->pool].name);
		release(worker);
		return -1;
	}
	worker->state = WORKER_STARTING;
	workers->pools->changed = true;
	feed_more(workers, worker);
	return 0;
}

void
worker_start_again(struct worker *worker)
{
	struct workers *workers = worker->workers;

	if (start_worker(workers, worker) == -1)
		loop_timer_set(workers->loop, &worker->respawn, spawn_backoff_next(&worker->backoff, workers->loop->now) + NS_PER_S);
}

static void
respawn_on_timer(void *owner, void *arg)
{
	(void)owner;
	worker_start_again(arg);
}

static void
retire_on_timer(void *owner, void *arg)
{
	(void)owner;
	workers_retire(arg);
}

int
workers_init(struct workers *workers, const struct conf *conf, struct loop *loop, uint8_t kind, struct pools *pools, const struct routes *routes,
    int program)
{
	*workers = (struct workers){ .pools = pools, .routes = routes, .conf = conf, .loop = loop, .kind = kind };
	workers->program = program != -1 ? program : spawn_open_program(WORKER_PROGRAM);
	if (workers->program == -1)
		return -1;
	workers->program_id = spawn_program_id(workers->program);
	workers->retire_timer = (struct loop_timer){ .fn = retire_on_timer, .arg = workers };
	for (uint32_t i = 0; i < pools->n_slots; i++) {
		pools->workers[i].workers = workers;
		pools->workers[i].respawn = (struct loop_timer){ .fn = respawn_on_timer, .arg = &pools->workers[i] };
	}
	loop_on(loop, kind, on_event, workers);
	return 0;
}

int
workers_start(struct workers *workers)
{
	for (uint32_t i = 0; i < workers->pools->n_workers; i++) {
		struct worker *worker = &workers->pools->workers[i];

		if (workers->pools->list[worker->pool].netns.fd == -1 || worker->state != WORKER_DEAD || worker->respawn.pos != 0)
			continue;
		if (start_worker(workers, worker) == -1)
			return -1;
	}
	return 0;
}

/* ---- end ---------------------------------------------------------------------------------------------------------------------------- */

static void
replace(struct workers *workers, struct worker *worker, const char *name, uint64_t lost, const struct spawn_verdict *verdict)
{
	uint64_t next = spawn_backoff_next(&worker->backoff, workers->loop->now);
	bool at_once = next <= workers->loop->now;

	totals_add(workers->pools->totals, TOTALS_WORKER_DEATHS, 1);
	log_errx("%s ended: %s; %llu connections lost; %s", name, verdict->text, (unsigned long long)lost,
	    at_once ? "a new one is started" : "a new one is started after a while, since it keeps dying");
	if (at_once)
		worker_start_again(worker);
	else
		loop_timer_set(workers->loop, &worker->respawn, next);
}

/* One line, for the first: the others tend to fail alike, or are killed because of it. */
static void
start_failed(struct workers *workers, const struct worker *worker, const struct spawn_verdict *verdict)
{
	char name[128];

	if (workers->failed != EXIT_OK)
		return;
	workers->failed = verdict->code;
	if (!worker->said)
		log_errx("%s could not be started: %s", worker_name(worker, name), verdict->text);
}

static void
stopped(const struct workers *workers, const struct worker *worker, int status, const struct spawn_verdict *verdict)
{
	uint64_t lost = worker_load(worker);
	char name[128];

	/* When the start has failed, why was said already. */
	if (workers->failed == EXIT_OK && (lost > 0 || (status != 0 && !worker->said)))
		log_warnx("%s ended: %s; %llu connections lost", worker_name(worker, name), verdict->text, (unsigned long long)lost);
}

static void
bury(struct workers *workers, struct worker *worker, int status)
{
	struct spawn_verdict verdict;
	bool retired = worker->retired;
	char name[128];
	uint64_t lost;

	spawn_verdict(status, worker->failure_fd, &verdict);
	worker->state = WORKER_DEAD;	/* from here on it gets no clients */
	(void)handoff_orphans(worker);
	if (workers->phase == WORKERS_STARTING)
		start_failed(workers, worker, &verdict);
	else if (workers->phase == WORKERS_STOPPING || retired)
		stopped(workers, worker, status, &verdict);
	lost = worker_load(worker);
	(void)worker_name(worker, name);
	release(worker);
	workers->pools->changed = true;
	if (workers->phase == WORKERS_SERVING && !retired)
		replace(workers, worker, name, lost, &verdict);
	else if (workers->phase == WORKERS_SERVING && worker_is_current(worker))
		worker_start_again(worker);
}

bool
workers_on_exit(struct workers *workers, pid_t pid, int status)
{
	for (uint32_t i = 0; i < workers->pools->n_slots; i++) {
		struct worker *worker = &workers->pools->workers[i];

		if (worker->state == WORKER_DEAD || worker->pid != pid)
			continue;
		bury(workers, worker, status);
		return true;
	}
	return false;
}

void
workers_kill(struct workers *workers)
{
	workers->phase = WORKERS_STOPPING;
	for (uint32_t i = 0; i < workers->pools->n_slots; i++) {
		struct worker *worker = &workers->pools->workers[i];

		loop_timer_clear(workers->loop, &worker->respawn);
		if (worker->state != WORKER_DEAD && !worker->ended)
			worker_end(worker, true);
	}
}

void
workers_free(struct workers *workers)
{
	fd_close(&workers->program);
}
