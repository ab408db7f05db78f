/* SPDX-License-Identifier: ISC */
/*
 * The listeners: polled, accepted from, paused while a client would have no place.
 * Runs in: parent
 *
 * Theory of operation: a client is taken out of the backlog only when it has a place. Three things may be in the way: the pool has no worker
 * with room (a gate), the service is at its max-connections (a limit), this process has no descriptor left (starved). Then the listeners keep
 * their backlog, which the kernel holds for us. Each obstacle has a timer that looks again; a listener that reports a client meanwhile is
 * taken out of the poll, so waiting costs nothing. While the private namespace is missing nothing is worth waiting for: clients are reset at once.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "fdutil.h"
#include "log.h"
#include "parent_handoff.h"

/* Clients from one listener in one turn, so that many busy listeners take turns. */
#define ACCEPT_MOST 128
#define GATE_FIRST (1 * NS_PER_MS)
#define GATE_MOST (100 * NS_PER_MS)
#define LIMIT_WAIT (10 * NS_PER_MS)
#define STARVED_WAIT (100 * NS_PER_MS)
#define STARVED_QUIET (60 * NS_PER_S)
/* ns between keeping newcomers out and the last look at who came before */
#define LAST_WAIT 10000000

/*
 * Moderation: passing clients one by one costs two context switches each, so when they come fast it is cheaper to let some gather. Only then: a
 * window of 10 ms with more than 40 of them (4000 a second) makes each turn of the next one wait 300 us. Clients that come one after the other,
 * each waiting for the one before, do not gather: waiting that brings less than two clients for each turn is given up for a second.
 */
#define WINDOW (10 * NS_PER_MS)
#define WINDOW_BUSY 40
#define GATHER_NS 300000
#define GATHER_LEAST 2
#define IN_VAIN (1 * NS_PER_S)

static bool
is_paused(const struct listen_set *set, const struct listener *listener)
{
	const struct listen_limit *limit = &set->limits[listener->service];

	return set->starved || (!limit->drained && (set->gates[listener->pool].shut || limit->shut));
}

static struct loop_ref
ref_of(const struct listen_set *set, const struct listener *listener)
{
	return (struct loop_ref){ .index = (uint32_t)(listener - set->list), .generation = 0, .kind = set->kind };
}

static void
pause_listener(struct listen_set *set, struct listener *listener)
{
	if (listener->paused || loop_modify(set->loop, listener->bound.fd, 0, ref_of(set, listener)) == -1)
		return;
	listener->paused = true;
	totals_add(set->pools->totals, TOTALS_PAUSES, 1);
}

static void
starve(struct listen_set *set)
{
	if (set->loop->now >= set->starved_quiet) {
		log_warn("cannot accept for the moment (clients wait in the backlog)");
		set->starved_quiet = set->loop->now + STARVED_QUIET;
	}
	set->starved = true;
	loop_timer_set(set->loop, &set->starved_timer, set->loop->now + STARVED_WAIT);
}

/* Polls those again that nothing is in the way of; a failure is tried again later. */
static void
resume(struct listen_set *set)
{
	for (uint32_t i = 0; i < set->n; i++) {
		struct listener *listener = &set->list[i];

		if (!listener->paused || listener->bound.fd == -1 || is_paused(set, listener))
			continue;
		if (loop_modify(set->loop, listener->bound.fd, EPOLLIN, ref_of(set, listener)) == 0)
			listener->paused = false;
		else
			starve(set);
	}
}

static void
gate_check(struct listen_gate *gate, bool settled)
{
	struct listen_set *set = gate->set;
	bool was_shut = gate->shut;

	gate->shut = !set->pools->list[gate->pool].missing && handoff_choose(set->pools, gate->pool) == NULL;
	if (settled && !gate->shut) {
		gate->wait = 0;
		loop_timer_clear(set->loop, &gate->timer);
	} else if (gate->timer.pos == 0) {
		gate->wait = gate->wait == 0 ? GATE_FIRST : gate->wait * 2 < GATE_MOST ? gate->wait * 2 : GATE_MOST;
		loop_timer_set(set->loop, &gate->timer, set->loop->now + gate->wait);
	}
	if (was_shut && !gate->shut)
		resume(set);
}

static void
gate_on_timer(void *owner, void *arg)
{
	struct listen_gate *gate = arg;

	(void)owner;
	gate_check(gate, handoff_retry(gate->set->pools, gate->pool));
}

/* How many more clients the service may have. */
static uint64_t
limit_room(const struct listen_set *set, unsigned service)
{
	uint64_t load = 0, most = set->limits[service].most;

	if (most == UINT32_MAX)
		return UINT64_MAX;
	/* Those that are retired count as well. */
	for (uint32_t i = 0; i < set->pools->n_slots; i++)
		load += worker_service_load(&set->pools->workers[i], service);
	return load < most ? most - load : 0;
}

static void
limit_on_timer(void *owner, void *arg)
{
	struct listen_set *set = arg;
	bool any_shut = false, opened = false;

	(void)owner;
	for (unsigned s = 0; s < set->conf->n_services; s++) {
		if (!set->limits[s].shut)
			continue;
		set->limits[s].shut = limit_room(set, s) == 0;
		any_shut |= set->limits[s].shut;
		opened |= !set->limits[s].shut;
	}
	if (any_shut)
		loop_timer_set(set->loop, &set->limit_timer, set->loop->now + LIMIT_WAIT);
	if (opened)
		resume(set);
}

static void
starved_on_timer(void *owner, void *arg)
{
	struct listen_set *set = arg;

	(void)owner;
	set->starved = false;
	resume(set);
}

/* True when the listener may be tried again at once; the queue was empty, or had something that is no client any more. */
static bool
accept_failed(struct listen_set *set, struct listener *listener)
{
	switch (errno) {
	case EAGAIN:
	case EINVAL:		/* a unix socket that is sealed */
		return false;
	case EMFILE:
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		starve(set);
		pause_listener(set, listener);
		return false;
	default:
		/* ECONNABORTED, EPROTO, EPERM of a packet filter, network errors that accept(2) passes on: that client is gone, the next may be fine. */
		log_debug("handoff", "accept: %s", strerror(errno));
		return true;
	}
}

static void
hand_over(struct listen_set *set, const struct listener *listener, struct worker *worker, int fd, const struct addr *peer)
{
	struct msg_conn conn = { .id = ++set->next_id, .route = listener->route, .port_offset = listener->port_offset };

	totals_add(set->pools->totals, TOTALS_ACCEPTED, 1);
	addr_to_wire(peer, &conn.client);
	handoff_conn(worker, &conn, listener->service, fd);
}

static int
accept_one(const struct listener *listener, struct addr *peer)
{
	peer->len = sizeof(peer->u);
	return accept4(listener->bound.fd, &peer->u.sa, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* Its clients are to be reset, not to wait. */
static bool
takes_none(const struct listen_set *set, const struct listener *listener)
{
	return set->pools->list[listener->pool].missing || set->limits[listener->service].drained;
}

/* There is nowhere to go: closing resets, since clients inherit SO_LINGER from the listener. */
static void
refuse_some(struct listen_set *set, struct listener *listener)
{
	struct addr peer;

	for (uint64_t i = 0; i < ACCEPT_MOST; i++) {
		FD_AUTO int fd = accept_one(listener, &peer);

		if (fd == -1 && !accept_failed(set, listener))
			return;
		if (fd == -1)
			continue;
		if (set->limits[listener->service].drained)
			set->limits[listener->service].reset++;
		else
			set->pools->list[listener->pool].refused++;
		totals_add(set->pools->totals, TOTALS_REFUSED, 1);
	}
}

/* Up to `most` clients, as long as there is a place for the next one. */
static void
accept_some(struct listen_set *set, struct listener *listener, uint64_t most)
{
	for (uint64_t i = 0; i < most; i++) {
		struct worker *worker = handoff_choose(set->pools, listener->pool);
		struct addr peer;
		int fd;

		if (worker == NULL) {
			gate_check(&set->gates[listener->pool], false);
			/* Only what a gate, limit or timer will resume: a worker may have got room since it was looked at. */
			if (is_paused(set, listener))
				pause_listener(set, listener);
			return;
		}
		fd = accept_one(listener, &peer);
		if (fd == -1) {
			if (accept_failed(set, listener))
				continue;
			return;
		}
		set->window_count++;
		hand_over(set, listener, worker, fd, &peer);
	}
}

static void
next_window(struct listen_set *set, uint64_t now)
{
	bool fast = set->window_count > WINDOW_BUSY && now - set->window_start < 2 * WINDOW;

	if (set->busy && set->window_count < GATHER_LEAST * set->window_turns)
		set->calm_until = now + IN_VAIN;
	set->busy = fast && now >= set->calm_until;
	set->window_start = now;
	set->window_count = set->window_turns = 0;
}

/* Once for each turn of the loop that finds clients: how fast do they come, and let them gather if it is fast. */
static void
moderate(struct listen_set *set)
{
	uint64_t now = set->loop->now;
	struct timespec gather = { 0, GATHER_NS };

	if (set->turn == now)
		return;
	set->turn = now;
	if (now - set->window_start >= WINDOW)
		next_window(set, now);
	set->window_turns++;
	if (set->busy)
		(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &gather, NULL);
}

static void
listen_on_readable(void *owner, struct loop_ref ref, uint32_t events)
{
	struct listen_set *set = owner;
	struct listener *listener = &set->list[ref.index];
	uint64_t room;

	(void)events;
	if (ref.index >= set->n || listener->bound.fd == -1)
		return;
	if (is_paused(set, listener)) {
		pause_listener(set, listener);
		return;
	}
	if (takes_none(set, listener)) {
		refuse_some(set, listener);
		return;
	}
	moderate(set);
	room = limit_room(set, listener->service);
	if (room == 0) {
		set->limits[listener->service].shut = true;
		loop_timer_set(set->loop, &set->limit_timer, set->loop->now + LIMIT_WAIT);
		pause_listener(set, listener);
		return;
	}
	accept_some(set, listener, room < ACCEPT_MOST ? room : ACCEPT_MOST);
}

void
listen_after_turn(struct listen_set *set)
{
	for (unsigned i = 0; i < set->pools->n; i++) {
		if (!handoff_flush(set->pools, i))
			gate_check(&set->gates[i], false);
	}
}

void
listen_recheck(struct listen_set *set)
{
	for (unsigned i = 0; i < set->pools->n; i++) {
		if (set->gates[i].shut)
			gate_check(&set->gates[i], handoff_flush(set->pools, i));
	}
}

static void
init_timers(struct listen_set *set)
{
	set->limit_timer = (struct loop_timer){ .fn = limit_on_timer, .arg = set };
	set->starved_timer = (struct loop_timer){ .fn = starved_on_timer, .arg = set };
	for (unsigned i = 0; i < set->pools->n; i++)
		set->gates[i] = (struct listen_gate){ .set = set, .pool = i, .timer = { .fn = gate_on_timer, .arg = &set->gates[i] } };
}

int
listen_start(struct listen_set *set, struct loop *loop, uint8_t kind)
{
	set->loop = loop;
	set->kind = kind;
	init_timers(set);
	loop_on(loop, kind, listen_on_readable, set);
	for (uint32_t i = 0; i < set->n; i++) {
		if (set->list[i].bound.fd != -1 && loop_add(loop, set->list[i].bound.fd, EPOLLIN, ref_of(set, &set->list[i])) == -1)
			return -1;
	}
	return 0;
}

uint64_t
listen_drain(struct listen_set *set, unsigned service, bool drained)
{
	uint64_t reset = set->limits[service].reset;

	if (drained != set->limits[service].drained)
		set->limits[service].reset = 0;
	set->limits[service].drained = drained;
	resume(set);
	return reset;
}

bool
listen_is_paused(const struct listen_set *set, unsigned service)
{
	return set->limits != NULL && set->pools->of_service[service] != POOL_NONE && !set->limits[service].drained &&
	    (set->starved || set->limits[service].shut || set->gates[set->pools->of_service[service]].shut);
}

static void
close_sockets(struct listen_set *set)
{
	for (uint32_t i = 0; i < set->n; i++) {
		if (set->list[i].bound.fd != -1)
			bind_unlink(&set->list[i].bound);
		fd_close(&set->list[i].bound.fd);
	}
}

/* What waits in its backlog, as far as there is room: closing it resets the rest. */
static void
accept_rest(struct listen_set *set, struct listener *listener)
{
	uint64_t last, most;

	if (listener->bound.fd == -1 || takes_none(set, listener))
		return;
	most = set->next_id + (uint64_t)set->conf->services[listener->service].backlog + ACCEPT_MOST;
	do {
		uint64_t room = limit_room(set, listener->service);

		last = set->next_id;
		accept_some(set, listener, room < ACCEPT_MOST ? room : ACCEPT_MOST);
		(void)handoff_flush(set->pools, listener->pool);
	} while (set->next_id != last && last < most);
}

int
listen_replace(struct listen_set *set, struct listener *listener, const struct bound *bound)
{
	accept_rest(set, listener);
	if (listener->bound.fd != -1)
		(void)loop_remove(set->loop, listener->bound.fd);
	fd_close(&listener->bound.fd);
	listener->bound = *bound;
	listener->paused = false;
	if (loop_add(set->loop, bound->fd, EPOLLIN, ref_of(set, listener)) == -1) {
		fd_close(&listener->bound.fd);
		return -1;
	}
	listener->wanted = false;
	return 0;
}

/*
 * A client that sees its connection made is served, one that comes later is refused; only a handshake under way for longer than LAST_WAIT is cut.
 * Who waits in a socket of the service manager waits for the next start.
 */
void
listen_stop(struct listen_set *set)
{
	struct timespec last = { 0, LAST_WAIT };

	for (uint32_t i = 0; i < set->n; i++) {
		if (set->list[i].bound.fd != -1 && !set->list[i].bound.shared)
			bind_seal(&set->list[i].bound);
	}
	(void)clock_nanosleep(CLOCK_MONOTONIC, 0, &last, NULL);
	for (uint32_t i = 0; i < set->n; i++) {
		if (!set->list[i].bound.shared)
			accept_rest(set, &set->list[i]);
	}
	close_sockets(set);
	listen_after_turn(set);
	loop_timer_clear(set->loop, &set->limit_timer);
	loop_timer_clear(set->loop, &set->starved_timer);
}

void
listen_close(struct listen_set *set)
{
	close_sockets(set);
	for (unsigned i = 0; set->loop != NULL && i < set->pools->n; i++)
		loop_timer_clear(set->loop, &set->gates[i].timer);
	if (set->loop != NULL) {
		loop_timer_clear(set->loop, &set->limit_timer);
		loop_timer_clear(set->loop, &set->starved_timer);
	}
	free(set->list);
	free(set->gates);
	free(set->limits);
	set->list = NULL;
	set->gates = NULL;
	set->limits = NULL;
	set->n = 0;
}
