/* SPDX-License-Identifier: ISC */
/*
 * What the parent asks about connections that live.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_order.h"

#include <stdlib.h>

#include "log.h"
#include "worker.h"

/* Anything beyond a century is "no deadline". */
#define FOR_EVER_MS (UINT32_MAX * 1000ull)

static bool
lives(const struct conn *conn)
{
	return conn->state == CONN_CONNECTING || conn->state == CONN_RELAYING;
}

/* A service's time is over. Only marks: the turn ends with the reaper. */
static void
on_deadline(void *owner, void *arg)
{
	struct worker *worker = owner;
	const struct loop_timer *timer = arg;
	uint32_t service = (uint32_t)(timer - worker->drains);

	for (uint32_t i = 0; i < worker->conns.used; i++) {
		struct conn *conn = &worker->conns.conns[i];

		if (lives(conn) && conn->route->conf.service == service)
			conn_close(worker, conn, END_DRAINED);
	}
}

int
order_prepare(struct worker *worker, uint32_t n_services)
{
	worker->drains = calloc(n_services > 0 ? n_services : 1, sizeof(*worker->drains));
	if (worker->drains == NULL)
		return -1;
	for (uint32_t i = 0; i < n_services; i++)
		worker->drains[i] = (struct loop_timer){ .fn = on_deadline, .arg = &worker->drains[i] };
	return 0;
}

int
order_close(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	const struct msg_close *order = items;
	struct conn *conn;

	(void)count, (void)fds, (void)n_fds;
	if (order->slot >= worker->conns.max)
		return -1;
	conn = &worker->conns.conns[order->slot];
	if (lives(conn) && conn_record_of(worker, conn)->id == order->id)
		conn_close(worker, conn, END_KILLED);
	return 0;
}

int
order_drain(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	const struct msg_drain *order = items;
	uint64_t due = LOOP_NEVER;

	(void)count, (void)fds, (void)n_fds;
	if (order->service >= worker->hello.n_services)
		return -1;
	if (order->within_ms <= FOR_EVER_MS)
		due = worker->loop.now + order->within_ms * NS_PER_MS;
	loop_timer_set(&worker->loop, &worker->drains[order->service], due);
	return 0;
}

int
order_level(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	const struct msg_level *order = items;

	(void)owner, (void)count, (void)fds, (void)n_fds;
	if (order->level < LOG_L_ERR || order->level > LOG_L_DEBUG)
		return -1;
	log_set_level((enum log_level)order->level);
	return 0;
}
