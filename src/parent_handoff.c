/* SPDX-License-Identifier: ISC */
/*
 * Which worker gets a client, and handing it over.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_handoff.h"

#include <errno.h>

#include "fdutil.h"
#include "log.h"

/*
 * A worker that has clients in its channel and has taken none for so long is busy or hangs: it gets more only when all others are no better.
 * That is long before a heartbeat tells.
 */
#define STUCK_AFTER (5 * NS_PER_MS)
/* Most clients on their way to one worker: enough for any burst, and all that is lost when it turns out to hang. The others keep in the backlog. */
#define UNTAKEN_MOST 1024

/* One line in so many ns about a kernel that has too many descriptors in flight. */
#define IN_FLIGHT_QUIET (60 * NS_PER_S)

bool
handoff_has_room(const struct worker *worker)
{
	return !worker->blocked && worker->n_batch < POOL_BATCH && worker_load(worker) < worker->pools->max_conns &&
	    worker_untaken(worker) < UNTAKEN_MOST;
}

static bool
is_stuck(struct worker *worker)
{
	uint64_t taken = sb_get(&worker->board.head->taken), now = worker->pools->loop->now;

	if (taken != worker->taken_seen || worker_untaken(worker) == 0) {
		worker->taken_seen = taken;
		worker->taken_at = now;
	}
	return now - worker->taken_at >= STUCK_AFTER;
}

/* Better ones first. */
enum rank { PROMPT, STUCK, LATE, RANKS };

static enum rank
rank_of(struct worker *worker)
{
	bool stuck = is_stuck(worker);

	return worker->late ? LATE : stuck ? STUCK : PROMPT;
}

struct worker *
handoff_choose(struct pools *pools, unsigned pool)
{
	const struct pool *p = &pools->list[pool];
	struct worker *best[RANKS] = { NULL, NULL, NULL };
	uint64_t load[RANKS] = { 0, 0, 0 };
	bool answers = false;

	for (uint32_t i = 0; i < 2 * p->n; i++) {
		struct worker *worker = pool_slot(pools, p, i);
		enum rank rank;
		uint64_t l;

		if (worker->state != WORKER_SERVING || worker->ended || worker->retired)
			continue;
		rank = rank_of(worker);
		answers |= rank != LATE;
		l = worker_load(worker);
		if (handoff_has_room(worker) && (best[rank] == NULL || l < load[rank])) {
			best[rank] = worker;
			load[rank] = l;
		}
	}
	if (best[PROMPT] != NULL)
		return best[PROMPT];
	/* One that does not answer gets nothing as long as another one serves, even if that is full now. */
	return best[STUCK] != NULL || answers ? best[STUCK] : best[LATE];
}

static void
put(struct worker *worker, const struct msg_conn *conn, unsigned service, int fd)
{
	unsigned i = worker->n_batch++;

	worker->batch[i] = *conn;
	worker->batch_services[i] = service;
	worker->batch_fds[i] = fd;
	worker->sent++;
	worker->sent_by_service[service]++;
}

/* Takes the last one out again. The descriptor is the caller's. */
static int
take_back(struct worker *worker, struct msg_conn *conn, unsigned *service)
{
	unsigned i = --worker->n_batch;

	*conn = worker->batch[i];
	*service = worker->batch_services[i];
	worker->sent--;
	worker->sent_by_service[*service]--;
	return fd_take(&worker->batch_fds[i]);
}

static void
tell_in_flight(const struct worker *worker)
{
	static uint64_t quiet_until;

	if (errno != ETOOMANYREFS || worker->pools->loop->now < quiet_until)
		return;
	quiet_until = worker->pools->loop->now + IN_FLIGHT_QUIET;
	log_warn("clients wait, since too many descriptors are on their way between processes of this user; a higher limit of open files helps");
}

/* Our copies are closed right after the send: from then on the worker's death resets these clients, not ours. */
static void
send_batch(struct worker *worker)
{
	if (chan_send(&worker->chan, MSG_CONN, worker->batch, worker->n_batch, worker->batch_fds, worker->n_batch) == -1) {
		tell_in_flight(worker);
		worker->blocked = true;
		return;
	}
	worker->blocked = false;
	for (unsigned i = 0; i < worker->n_batch; i++)
		fd_close(&worker->batch_fds[i]);
	worker->n_batch = 0;
}

void
handoff_conn(struct worker *worker, const struct msg_conn *conn, unsigned service, int fd)
{
	put(worker, conn, service, fd);
	if (worker->n_batch == POOL_BATCH)
		send_batch(worker);
}

void
handoff_push(struct worker *worker)
{
	if (worker->n_batch > 0)
		send_batch(worker);
}

/* To whoever has room. True when at least one moved. */
static bool
move_batch(struct worker *worker)
{
	bool moved = false;

	while (worker->n_batch > 0 && !worker->foreign) {
		struct worker *to = handoff_choose(worker->pools, worker->pool);
		struct msg_conn conn;
		unsigned service;
		int fd;

		if (to == NULL || to == worker)
			break;
		fd = take_back(worker, &conn, &service);
		put(to, &conn, service, fd);
		moved = true;
	}
	return moved;
}

/* Ends: each round sends something, or finds one more worker blocked, or moves nothing. */
bool
handoff_flush(struct pools *pools, unsigned pool)
{
	const struct pool *p = &pools->list[pool];
	bool moved, settled;

	do {
		moved = false;
		settled = true;
		for (uint32_t i = 0; i < 2 * p->n; i++) {
			struct worker *worker = pool_slot(pools, p, i);

			if (worker->n_batch > 0 && !worker->blocked)
				send_batch(worker);
		}
		for (uint32_t i = 0; i < 2 * p->n; i++) {
			struct worker *worker = pool_slot(pools, p, i);

			if (worker->n_batch > 0)
				moved |= move_batch(worker);
			settled &= worker->n_batch == 0 && !worker->blocked;
		}
	} while (moved);
	return settled;
}

bool
handoff_retry(struct pools *pools, unsigned pool)
{
	const struct pool *p = &pools->list[pool];

	for (uint32_t i = 0; i < 2 * p->n; i++)
		pool_slot(pools, p, i)->blocked = false;
	return handoff_flush(pools, pool);
}

unsigned
handoff_orphans(struct worker *worker)
{
	unsigned lost;

	(void)move_batch(worker);
	lost = worker->n_batch;
	while (worker->n_batch > 0) {
		struct msg_conn conn;
		unsigned service;
		int fd = take_back(worker, &conn, &service);

		fd_close(&fd);
	}
	return lost;
}
