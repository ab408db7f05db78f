/* SPDX-License-Identifier: ISC */
/*
 * Taking over what the image before left.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_adopt.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fdutil.h"
#include "log.h"
#include "parent_feed.h"
#include "parent_handoff.h"
#include "parent_retire.h"

/* More than any backlog holds. */
#define REST_MOST 65536u

/* ---- listeners ---------------------------------------------------------------------------------------------------------------------- */

/* A path that was removed or taken by somebody else leads nobody to our socket any more. */
static bool
path_is_ours(const struct state_listener *listener)
{
	struct stat st;

	return listener->ino == 0 || (lstat(listener->bound.u.un.sun_path, &st) == 0 && st.st_dev == listener->dev && st.st_ino == listener->ino);
}

static bool
is_for(const struct state_listener *listener, const struct netns *netns, const struct addr *addr, uint16_t port, bool any)
{
	if (listener->fd == -1 || (listener->any != 0) != any || !addr_equal(&listener->configured, addr))
		return false;
	if (addr->u.sa.sa_family == AF_UNIX)
		return path_is_ours(listener);
	return listener->port == port && listener->netns_dev == netns->dev && listener->netns_ino == netns->ino;
}

bool
adopt_listener(struct state *state, const struct netns *netns, const struct conf_endpoint *endpoint, uint16_t port, struct bound *bound)
{
	struct addr addr = endpoint->addr;

	if (addr.u.sa.sa_family != AF_UNIX)
		addr_set_port(&addr, port);
	for (uint32_t i = 0; i < state->n_listeners; i++) {
		struct state_listener *listener = &state->listeners[i];

		if (!is_for(listener, netns, &addr, port, endpoint->any))
			continue;
		*bound = (struct bound){ .fd = state->head.purpose == STATE_REPLACE ? listener->fd : -1, .addr = listener->bound,
			.dev = (dev_t)listener->dev, .ino = (ino_t)listener->ino, .shared = listener->shared != 0 };
		listener->fd = -1;
		return true;
	}
	return false;
}

bool
adopt_metrics(struct state *state, const struct netns *netns, const struct conf_endpoint *endpoint, struct bound *bound)
{
	struct state_listener *row = &state->metrics;
	uint16_t port = endpoint != NULL && endpoint->addr.u.sa.sa_family != AF_UNIX ? addr_port(&endpoint->addr) : 0;
	bool is_it = endpoint != NULL && is_for(row, netns, &endpoint->addr, port, endpoint->any);

	*bound = (struct bound){ .fd = state->head.purpose == STATE_REPLACE ? state_take_fd(state, "metrics") : -1, .addr = row->bound,
		.dev = (dev_t)row->dev, .ino = (ino_t)row->ino };
	row->fd = -1;
	if (is_it)
		return true;
	if (bound->fd != -1)
		bind_unlink(bound);
	fd_close(&bound->fd);
	return false;
}

/* ---- workers ------------------------------------------------------------------------------------------------------------------------ */

static struct pool *
pool_by_name(const struct pools *pools, const char *name)
{
	for (unsigned i = 0; i < pools->n; i++) {
		if (strcmp(pools->list[i].netns.name, name) == 0)
			return &pools->list[i];
	}
	return NULL;
}

/* Is it what this slot's worker would be? */
static bool
fits(const struct workers *workers, const struct state_worker *row, const struct worker *slot, uint64_t feed)
{
	const struct netns *netns = &workers->pools->list[slot->pool].netns;
	const struct program_id *program = &workers->program_id;

	return row->state == WORKER_SERVING && !(row->flags & (STATE_WORKER_RETIRED | STATE_WORKER_ENDED)) && netns->fd != -1 &&
	    row->netns_dev == netns->dev && row->netns_ino == netns->ino && row->feed == feed && row->program_dev == program->dev &&
	    row->program_ino == program->ino && row->program_mtime == (uint64_t)program->mtime && row->uid == worker_uid(slot) &&
	    row->gid == workers->conf->gid;
}

/* A free slot of the pool for a worker that stays, its own when that is one; NULL: it does not stay. */
static struct worker *
slot_to_stay(const struct workers *workers, const struct state_worker *row)
{
	const struct pool *pool = pool_by_name(workers->pools, row->netns);
	struct worker *found = NULL;
	uint64_t feed;

	if (pool == NULL || pool->n == 0)
		return NULL;
	feed = feed_digest(workers->pools, (unsigned)(pool - workers->pools->list), workers->routes);
	for (uint32_t i = 0; i < pool->n; i++) {
		struct worker *slot = pool_slot(workers->pools, pool, i);

		if (slot->pid == 0 && fits(workers, row, slot, feed) && (found == NULL || slot->index == row->index))
			found = slot;
	}
	return found;
}

static void
take_counts(struct worker *worker, const struct state *state, uint32_t i)
{
	const struct state_worker *row = &state->workers[i];

	worker->sent = row->sent;
	for (uint32_t s = 0; s < state->n_services && s < worker->pools->n_services; s++)
		worker->sent_by_service[s] = state->sent[(size_t)i * state->n_services + s];
}

static void
take_worker(struct workers *workers, struct worker *worker, const struct state *state, uint32_t i)
{
	const struct state_worker *row = &state->workers[i];
	char name[128];

	worker->pid = row->pid;
	worker->state = row->state == WORKER_SERVING || row->state == WORKER_STOPPING ? (enum worker_state)row->state : WORKER_STARTING;
	worker->report_fd = row->report_fd;
	worker->board_fd = row->board_fd;
	worker->feed = row->feed;
	worker->program = (struct program_id){ .dev = (dev_t)row->program_dev, .ino = (ino_t)row->program_ino, .mtime = (int64_t)row->program_mtime };
	worker->uid = row->uid;
	worker->gid = row->gid;
	worker->netns_dev = (dev_t)row->netns_dev;
	worker->netns_ino = (ino_t)row->netns_ino;
	worker->ready = row->ready;
	worker->started = row->started;
	worker->ping_number = row->ping_number;
	worker->ping_at = row->ping_at;
	worker->ping_sent = (row->flags & STATE_WORKER_PING_SENT) != 0;
	worker->late = (row->flags & STATE_WORKER_LATE) != 0;
	worker->ended = (row->flags & STATE_WORKER_ENDED) != 0;
	worker->said = (row->flags & STATE_WORKER_SAID) != 0;
	worker->told_until = row->told_until;
	worker->backoff = (struct spawn_backoff){ .started = row->backoff_started, .wait = row->backoff_wait };
	take_counts(worker, state, i);
	if (worker_attach(worker, row->chan_fd) == 0) {
		worker->chan.phase = worker->state == WORKER_STARTING ? MSG_START : MSG_SERVING;
		if (scoreboard_map(&worker->board, worker->board_fd, 0, row->max_conns, row->n_services) == 0 || worker->ended)
			return;
	}
	log_err("cannot take over %s: it is killed and replaced", worker_name(worker, name));
	workers->pools->changed = true;
	worker_end(worker, true);
}

static struct worker *
spare_slot(struct pools *pools, uint32_t *next, const char *netns)
{
	struct worker *worker = &pools->workers[2 * pools->n_workers + (*next)++];
	const struct pool *pool = pool_by_name(pools, netns);

	worker->pool = pool != NULL ? (unsigned)(pool - pools->list) : pools_add_former(pools, netns);
	return worker;
}

/* A slot whose workers keep dying goes on waiting. */
static void
take_backoff(struct workers *workers, const struct state_worker *row)
{
	const struct pool *pool = pool_by_name(workers->pools, row->netns);

	for (uint32_t i = 0; pool != NULL && i < pool->n; i++) {
		struct worker *slot = pool_slot(workers->pools, pool, i);

		if (slot->pid != 0 || slot->respawn.pos != 0)
			continue;
		slot->backoff = (struct spawn_backoff){ .started = row->backoff_started, .wait = row->backoff_wait };
		loop_timer_set(workers->loop, &slot->respawn, row->retire_until);
		return;
	}
}

static void
take_conns(struct workers *workers, struct state *state)
{
	for (uint32_t i = 0; i < state->n_conns; i++) {
		const struct state_conn *row = &state->conns[i];
		struct worker *worker = &workers->pools->workers[state->workers[row->worker].index];
		unsigned n = worker->n_batch;

		if (n == POOL_BATCH) {
			fd_close(&state->conns[i].fd);
			continue;
		}
		/* It was counted as sent when it was put there. */
		worker->batch[n] = row->conn;
		worker->batch_services[n] = row->service;
		worker->batch_fds[n] = row->fd;
		worker->n_batch++;
	}
	state->n_conns = 0;
}

static void
take_dead(struct pools *pools, struct state *state)
{
	for (uint32_t i = 0; i < state->n_dead; i++) {
		struct state_dead *row = &state->dead[i];

		/* There is room for one of each slot, and for a few more. */
		if (pools->n_dead == pools->n_slots)
			pools_forget_dead(pools, 1);
		pools->dead[pools->n_dead] = (struct dead_worker){ .msg = row->msg, .death = row->death, .report_fd = row->report_fd,
			.board_fd = row->board_fd };
		pools->dead[pools->n_dead++].msg.index %= pools->n_slots;
	}
	state->n_dead = 0;
}

/* Only a namespace that was made anew sets an end to connections in the one before, here as in workers_switch(). */
static uint64_t
retire_time(const struct workers *workers, const struct state_worker *row)
{
	const struct pool *pool = pool_by_name(workers->pools, row->netns);

	if (row->flags & STATE_WORKER_RETIRED)
		return row->retire_until;
	if (pool == NULL || pool->netns.fd == -1 || (row->netns_dev == pool->netns.dev && row->netns_ino == pool->netns.ino))
		return LOOP_NEVER;
	return workers->loop->now + workers->conf->drain_timeout_ms * NS_PER_MS;
}

void
adopt_workers(struct workers *workers, struct state *state)
{
	struct pools *pools = workers->pools;
	uint32_t next = 0;

	for (uint32_t i = 0; i < state->n_workers; i++) {
		struct state_worker *row = &state->workers[i];
		struct worker *worker = row->pid > 0 ? slot_to_stay(workers, row) : NULL;

		if (row->pid <= 0)
			continue;
		if (worker == NULL) {
			worker = spare_slot(pools, &next, row->netns);
			worker->retired = worker->foreign = true;
			worker->retire_until = retire_time(workers, row);
		}
		take_worker(workers, worker, state, i);
		row->index = worker->index;
	}
	for (uint32_t i = 0; i < state->n_workers; i++) {
		if (state->workers[i].pid <= 0)
			take_backoff(workers, &state->workers[i]);
	}
	take_conns(workers, state);
	take_dead(pools, state);
	pools->changed = true;
}

/* ---- listeners that go -------------------------------------------------------------------------------------------------------------- */

/* The least loaded of those that know the listener's route: the pool's in the image before, which have not been told to finish yet. */
static struct worker *
who_knows(const struct pools *pools, const struct state *state, const struct state_listener *listener)
{
	struct worker *best = NULL;

	for (uint32_t i = 0; i < state->n_workers; i++) {
		const struct state_worker *row = &state->workers[i];
		struct worker *worker = row->pid > 0 ? &pools->workers[row->index] : NULL;

		if (worker == NULL || row->pool != listener->pool || worker->state != WORKER_SERVING || (row->flags & STATE_WORKER_RETIRED) ||
		    worker->ended || !handoff_has_room(worker))
			continue;
		if (best == NULL || worker_load(worker) < worker_load(best))
			best = worker;
	}
	return best;
}

/* Whoever finds no place is reset, as by any listener that is closed. */
static void
take_backlog(const struct pools *pools, struct listen_set *set, const struct state *state, const struct state_listener *listener)
{
	for (uint32_t i = 0; i < REST_MOST; i++) {
		struct worker *worker = who_knows(pools, state, listener);
		struct msg_conn conn = { .route = listener->route, .port_offset = listener->port_offset };
		struct addr peer = { .len = sizeof(peer.u) };
		int fd = accept4(listener->fd, &peer.u.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd == -1 && (errno == ECONNABORTED || errno == EINTR || errno == EPROTO))
			continue;
		if (fd == -1 || worker == NULL) {
			fd_close(&fd);
			return;
		}
		conn.id = ++set->next_id;
		totals_add(pools->totals, TOTALS_ACCEPTED, 1);
		addr_to_wire(&peer, &conn.client);
		handoff_conn(worker, &conn, listener->service, fd);
	}
}

void
adopt_rest(struct workers *workers, struct listen_set *set, struct state *state)
{
	struct pools *pools = workers->pools;

	for (uint32_t i = 0; i < state->n_listeners; i++) {
		struct state_listener *listener = &state->listeners[i];
		struct bound bound = { .fd = listener->fd, .addr = listener->bound, .dev = (dev_t)listener->dev, .ino = (ino_t)listener->ino };

		if (listener->fd == -1)
			continue;
		/* Who waits in a socket of the service manager waits for whoever it is given to next. */
		if (!listener->shared) {
			bind_seal(&bound);
			take_backlog(pools, set, state, listener);
		}
		bind_unlink(&bound);
		fd_close(&listener->fd);
	}
	for (uint32_t i = 2 * pools->n_workers; i < pools->n_slots; i++)
		handoff_push(&pools->workers[i]);
	workers_retire(workers);
}
