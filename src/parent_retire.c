/* SPDX-License-Identifier: ISC */
/*
 * Workers while they live and when they are to go: asked whether they still turn, retired, told to stop.
 * Runs in: parent
 *
 * Theory of operation: who gets no new clients any more is retired: told to finish until a time, or without one, and killed when it is still there
 * after its time. That happens to the workers of a namespace that was made anew, whose other half is started then (a slot of it that still has a
 * worker, of two namespaces ago, is emptied first), and to those of the configuration before, whose connections keep the settings they have.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_retire.h"

#include "log.h"
#include "parent_handoff.h"

/* From fork to READY. */
#define START_MOST (10 * NS_PER_S)
/* A heartbeat at most this often, so that idle processes sleep; while someone is late we look more often. */
#define PING_EVERY (3 * NS_PER_S)
#define WATCH_EVERY (1 * NS_PER_S)
#define LATE_AFTER (3 * NS_PER_S)
#define LOST_AFTER (10 * NS_PER_S)
/* How soon a worker of the namespace before is told again to stop, when it could not be told. */
#define RETIRE_RETRY (10 * NS_PER_MS)
/* After its own deadline. */
#define RETIRE_GRACE (2 * NS_PER_S)

/* ---- supervision -------------------------------------------------------------------------------------------------------------------- */

/* The question counts from the first try: a full channel is no excuse. */
static void
ping(const struct workers *workers, struct worker *worker)
{
	struct msg_ping msg = { .number = worker->ping_number };

	if (worker->ping_at == 0) {
		worker->ping_at = workers->loop->now;
		worker->ping_sent = false;
		msg.number = ++worker->ping_number;
	}
	if (!worker->ping_sent && chan_send(&worker->chan, MSG_PING, &msg, 1, NULL, 0) == 0)
		worker->ping_sent = true;
}

static void
watch(const struct workers *workers, struct worker *worker)
{
	uint64_t waited;
	char name[128];

	waited = worker->ping_at != 0 ? workers->loop->now - worker->ping_at : 0;
	if (waited >= LOST_AFTER) {
		log_errx("%s has not answered for %llu seconds: it is killed", worker_name(worker, name), (unsigned long long)(waited / NS_PER_S));
		worker_end(worker, true);
		return;
	}
	if (waited >= LATE_AFTER && !worker->late) {
		log_warnx("%s has not answered for %llu seconds", worker_name(worker, name), (unsigned long long)(waited / NS_PER_S));
		worker->late = true;
	}
	ping(workers, worker);
}

uint64_t
workers_supervise(struct workers *workers)
{
	uint64_t now = workers->loop->now, every = PING_EVERY;
	char name[128];

	for (uint32_t i = 0; i < workers->pools->n_slots; i++) {
		struct worker *worker = &workers->pools->workers[i];

		if (worker->state == WORKER_DEAD || worker->ended)
			continue;
		if (worker->state != WORKER_STARTING) {
			watch(workers, worker);
			if (worker->late)
				every = WATCH_EVERY;
			continue;
		}
		every = WATCH_EVERY;
		if (now - worker->backoff.started >= START_MOST) {
			log_errx("%s was not ready after 10 seconds: it is killed", worker_name(worker, name));
			worker_end(worker, true);
		}
	}
	return now + every;
}

/* ---- stop --------------------------------------------------------------------------------------------------------------------------- */

/* Tells it to finish until that time, unless it knows. False: it could not be told now. */
static bool
stop_worker(struct worker *worker, uint64_t until)
{
	uint64_t now = worker->pools->loop->now;
	struct msg_stop stop = { .within_ms = until == LOOP_NEVER ? UINT64_MAX : until > now ? (until - now) / NS_PER_MS : 0 };

	if (worker->state == WORKER_STARTING) {
		if (!worker->ended)
			worker_end(worker, true);
		return true;
	}
	if (worker->state == WORKER_DEAD || worker->ended || (worker->state == WORKER_STOPPING && until >= worker->told_until))
		return true;
	/* The worker takes no client after this message, so those that wait for it go first, or elsewhere. */
	if (worker->n_batch > 0 || chan_send(&worker->chan, MSG_STOP, &stop, 1, NULL, 0) == -1)
		return false;
	worker->state = WORKER_STOPPING;
	worker->told_until = until;
	return true;
}

bool
workers_stop(struct workers *workers, uint64_t until)
{
	bool all = true;

	workers->phase = WORKERS_STOPPING;
	for (uint32_t i = 0; i < workers->pools->n_slots; i++) {
		struct worker *worker = &workers->pools->workers[i];

		loop_timer_clear(workers->loop, &worker->respawn);
		/* One that is retired may have less time. */
		all &= stop_worker(worker, worker->retired && worker->retire_until < until ? worker->retire_until : until);
	}
	return all;
}

/* ---- retirement --------------------------------------------------------------------------------------------------------------------- */

/* When to look at it again; LOOP_NEVER: all is done that can be. */
static uint64_t
retire(const struct workers *workers, struct worker *worker)
{
	uint64_t now = workers->loop->now;
	uint64_t end = worker->retire_until == LOOP_NEVER ? LOOP_NEVER : worker->retire_until + RETIRE_GRACE;
	char name[128];

	if (!worker->retired || worker->state == WORKER_DEAD || worker->ended)
		return LOOP_NEVER;
	if (now >= end) {
		log_warnx("%s, of a network namespace that was replaced, is still there after its time: it is killed", worker_name(worker, name));
		worker_end(worker, true);
		return LOOP_NEVER;
	}
	/* Nobody else can take its clients, as the other workers of a pool can. */
	if (worker->foreign)
		handoff_push(worker);
	if (!stop_worker(worker, worker->retire_until))
		return now + RETIRE_RETRY;
	return worker->ended ? LOOP_NEVER : end;
}

void
workers_retire(struct workers *workers)
{
	uint64_t next = LOOP_NEVER;

	for (uint32_t i = 0; i < workers->pools->n_slots; i++) {
		uint64_t due = retire(workers, &workers->pools->workers[i]);

		if (due < next)
			next = due;
	}
	loop_timer_set(workers->loop, &workers->retire_timer, next);
}

/* Workers of an earlier configuration have all the time they want, but not in a namespace where nobody is any more. */
static void
retire_former(const struct workers *workers, const struct pool *pool, const struct netns *netns)
{
	struct pools *pools = workers->pools;

	for (uint32_t i = 2 * pools->n_workers; i < pools->n_slots; i++) {
		struct worker *worker = &pools->workers[i];

		if (worker->state != WORKER_DEAD && &pools->list[worker->pool] == pool && worker->retire_until == LOOP_NEVER &&
		    (worker->netns_dev != netns->dev || worker->netns_ino != netns->ino))
			worker->retire_until = workers->loop->now + workers->conf->drain_timeout_ms * NS_PER_MS;
	}
}

uint64_t
workers_switch(struct workers *workers, struct pool *pool, const struct netns *netns)
{
	struct pools *pools = workers->pools;
	bool first = pool->netns.fd == -1;
	uint64_t load = 0;

	for (uint32_t i = 0; i < 2 * pool->n && !first; i++) {
		struct worker *worker = pool_slot(pools, pool, i);

		loop_timer_clear(workers->loop, &worker->respawn);
		load += worker_load(worker);
		/* The time of those that were retired before has already begun. */
		if (worker->state == WORKER_DEAD || worker->retired)
			continue;
		worker->retired = true;
		worker->retire_until = workers->loop->now + workers->conf->drain_timeout_ms * NS_PER_MS;
	}
	retire_former(workers, pool, netns);
	pool->netns = *netns;
	pool->generation += !first;
	pool->switching = true;
	for (uint32_t i = 0; i < 2 * pool->n; i++) {
		struct worker *worker = pool_slot(pools, pool, i);

		if (!worker_is_current(worker))
			continue;
		if (worker->state == WORKER_DEAD)
			worker_start_again(worker);
		else if (!worker->ended)
			worker_end(worker, false);
	}
	pools->changed = true;
	workers_retire(workers);
	return load;
}
