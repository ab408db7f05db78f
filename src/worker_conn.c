/* SPDX-License-Identifier: ISC */
/*
 * Connections: the pool, their states, and the one place where each ends.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_conn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "fdutil.h"
#include "log.h"
#include "worker.h"
#include "worker_relay.h"
#include "worker_report.h"

#define NO_SLOT UINT32_MAX

static const char *const state_names[CONN_STATES] = {
	[CONN_FREE] = "FREE",
	[CONN_NEW] = "NEW",
	[CONN_CONNECTING] = "CONNECTING",
	[CONN_RELAYING] = "RELAYING",
	[CONN_CLOSING] = "CLOSING",
};

/* Legal moves: bit n of a state's entry allows the move to state n. */
static const uint8_t moves[CONN_STATES] = {
	[CONN_FREE] = 1u << CONN_NEW,
	[CONN_NEW] = 1u << CONN_CONNECTING | 1u << CONN_CLOSING,
	[CONN_CONNECTING] = 1u << CONN_RELAYING | 1u << CONN_CLOSING,
	[CONN_RELAYING] = 1u << CONN_CLOSING,
	[CONN_CLOSING] = 1u << CONN_FREE,
};

const char *
conn_state_name(unsigned state)
{
	return state < CONN_STATES ? state_names[state] : "?";
}

int
conn_table_init(struct conn_table *table, uint32_t max)
{
	struct slot_list *lists[] = { &table->runnable, &table->ticking, &table->closing };

	memset(table, 0, sizeof(*table));
	table->conns = calloc(max, sizeof(*table->conns));
	if (table->conns == NULL)
		return -1;
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		lists[i]->slots = calloc(max, sizeof(*lists[i]->slots));
		if (lists[i]->slots == NULL)
			return -1;
	}
	table->max = max;
	table->free_head = NO_SLOT;
	return 0;
}

/* The next slot: one that was used before, else the first that never was. */
static uint32_t
take_slot(struct conn_table *table)
{
	uint32_t slot = table->free_head;

	if (slot != NO_SLOT)
		table->free_head = table->conns[slot].next_free;
	else if (table->used < table->max)
		slot = table->used++;
	return slot;
}

void
conn_release_slot(struct conn_table *table, uint32_t slot)
{
	ASSERT(table->conns[slot].state == CONN_FREE);
	table->conns[slot].next_free = table->free_head;
	table->free_head = slot;
}

struct conn *
conn_new(struct worker *worker, const struct msg_conn *msg, const struct worker_route *route, int *client_fd)
{
	struct conn_table *table = &worker->conns;
	uint32_t slot = take_slot(table), generation;
	struct conn *conn;

	if (slot == NO_SLOT) {
		report_make_room(worker);	/* ended ones may only wait for their record */
		slot = take_slot(table);
	}
	if (slot == NO_SLOT) {
		fd_close(client_fd);
		return NULL;
	}
	conn = &table->conns[slot];
	generation = conn->generation + 1;
	memset(conn, 0, sizeof(*conn));
	conn->generation = generation;
	pair_init(&conn->pair, slot);
	conn->pair.fd[SIDE_CLIENT] = fd_take(client_fd);
	conn->pair.is_tcp[SIDE_CLIENT] = msg->client.family != AF_UNIX;
	conn->pair.is_tcp[SIDE_TARGET] = route->conf.target.family != AF_UNIX;
	conn->route = route;
	conn->port_offset = msg->port_offset;
	conn->timer.fn = relay_on_timer;
	conn->timer.arg = conn;
	conn->begun_at = conn->active_at = worker->loop.now;
	/* Unknown until tried: trying is how it is found out. */
	conn->readable[SIDE_CLIENT] = conn->writable[SIDE_CLIENT] = conn->writable[SIDE_TARGET] = true;
	table->live++;
	conn_set_state(conn, CONN_NEW);
	report_opened(worker, conn, msg);
	return conn;
}

struct conn *
conn_from_ref(struct worker *worker, struct loop_ref ref)
{
	struct conn *conn;

	if (ref.index >= worker->conns.max)
		return NULL;
	conn = &worker->conns.conns[ref.index];
	if ((conn->generation & LOOP_GENERATION_MASK) != ref.generation)
		return NULL;
	return conn->state == CONN_CONNECTING || conn->state == CONN_RELAYING ? conn : NULL;
}

struct conn *
conn_of_pair(struct worker *worker, const struct pair *pair)
{
	return &worker->conns.conns[pair->slot];
}

struct loop_ref
conn_ref(const struct conn *conn, int side)
{
	return (struct loop_ref){ .kind = side == SIDE_CLIENT ? KIND_CLIENT : KIND_TARGET, .index = conn->pair.slot, .generation = conn->generation };
}

void
conn_set_state(struct conn *conn, enum conn_state state)
{
	ASSERT(moves[conn->state] & 1u << state);
	log_debug("conn", "%u/%u: %s -> %s", conn->pair.slot, conn->generation, conn_state_name(conn->state), conn_state_name(state));
	conn->state = (uint8_t)state;
}

int
conn_watch(struct worker *worker, struct conn *conn)
{
	const uint32_t events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;

	for (int side = SIDES - 1; side >= 0; side--) {
		if (loop_add(&worker->loop, conn->pair.fd[side], events, conn_ref(conn, side)) == -1)
			return -1;
	}
	return 0;
}

struct conn_record *
conn_record_of(struct worker *worker, const struct conn *conn)
{
	return &worker->board.rows[conn->pair.slot].rec;
}

static void
list_add(struct slot_list *list, const struct conn *conn)
{
	list->slots[list->n++] = conn->pair.slot;
}

void
conn_want_run(struct worker *worker, struct conn *conn)
{
	if (!conn->runnable)
		list_add(&worker->conns.runnable, conn);
	conn->runnable = true;
}

void
conn_want_tick(struct worker *worker, struct conn *conn)
{
	if (!conn->ticking)
		list_add(&worker->conns.ticking, conn);
	conn->ticking = true;
}

void
conn_close(struct worker *worker, struct conn *conn, enum conn_end end)
{
	if (conn->state == CONN_CLOSING)
		return;
	conn_set_state(conn, CONN_CLOSING);
	conn->end = (uint8_t)end;
	list_add(&worker->conns.closing, conn);
}

/* Ended in order on both sides: what is still in the kernel's send queues must arrive, so close() must not reset. */
static void
disarm_reset(const struct conn *conn, int side)
{
	struct linger off = { 0, 0 };

	if (conn->pair.is_tcp[side])
		(void)setsockopt(conn->pair.fd[side], SOL_SOCKET, SO_LINGER, &off, sizeof(off));
}

/* False: something of it is still in flight, the next turn asks again. */
static bool
reap_one(struct worker *worker, struct conn *conn)
{
	bool in_order = conn->dir_state[0] != DIR_OPEN && conn->dir_state[1] != DIR_OPEN &&
	    (conn->end == END_CLIENT_CLOSED || conn->end == END_TARGET_CLOSED);

	/* A connection that failed before its engine began with it has nothing there. */
	if (conn->begun && !conn->route->engine->stop(&conn->pair))
		return false;
	loop_timer_clear(&worker->loop, &conn->timer);
	for (int side = 0; side < SIDES; side++) {
		if (conn->pair.fd[side] >= 0 && in_order)
			disarm_reset(conn, side);
		fd_close(&conn->pair.fd[side]);
	}
	worker->conns.live--;
	conn_set_state(conn, CONN_FREE);
	report_closed(worker, conn);
	return true;
}

/* Keeps in the list only those that say so. */
static void
purge(struct conn_table *table, struct slot_list *list)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < list->n; i++) {
		struct conn *conn = &table->conns[list->slots[i]];
		bool *member = list == &table->runnable ? &conn->runnable : &conn->ticking;

		if (conn->state != CONN_CLOSING)
			list->slots[kept++] = list->slots[i];
		else
			*member = false;
	}
	list->n = kept;
}

void
conn_reap(struct worker *worker)
{
	struct conn_table *table = &worker->conns;
	uint32_t kept = 0;

	if (table->closing.n == 0)
		return;
	/* First out of the other lists: a slot that is used again must not be found there. */
	purge(table, &table->runnable);
	purge(table, &table->ticking);
	for (uint32_t i = 0; i < table->closing.n; i++) {
		if (!reap_one(worker, &table->conns[table->closing.slots[i]]))
			table->closing.slots[kept++] = table->closing.slots[i];
	}
	table->closing.n = kept;
}

void
conn_close_all(struct worker *worker, enum conn_end end)
{
	for (uint32_t i = 0; i < worker->conns.used; i++) {
		if (worker->conns.conns[i].state != CONN_FREE)
			conn_close(worker, &worker->conns.conns[i], end);
	}
	conn_reap(worker);
}
