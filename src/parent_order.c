/* SPDX-License-Identifier: ISC */
/*
 * What workers are told beside clients while they serve.
 * Runs in: parent
 *
 * Theory of operation: draining and the level are state, as everything that the reporter is told: each change has a number, each worker the number
 * that it knows, and orders_sync() sends the difference. A worker that was started in between learns it like any other. Clients that were accepted
 * before a service was drained are sent first, so that its deadline finds them.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_order.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "parent_handoff.h"

#define RETRY_AFTER (10 * NS_PER_MS)

static bool
listens_to_orders(const struct worker *worker)
{
	return (worker->state == WORKER_SERVING || worker->state == WORKER_STOPPING) && !worker->ended;
}

static int
tell_drain(const struct orders *orders, struct worker *worker, uint32_t service)
{
	const struct order_drain *drain = &orders->drains[service];
	uint64_t now = orders->loop->now;
	struct msg_drain msg = { .service = service, .within_ms = UINT64_MAX };

	if (drain->drained && drain->until != LOOP_NEVER)
		msg.within_ms = drain->until > now ? (drain->until - now) / NS_PER_MS : 0;
	return chan_send(&worker->chan, MSG_DRAIN, &msg, 1, NULL, 0);
}

/* False: its channel is full. */
static bool
tell_worker(struct orders *orders, struct worker *worker)
{
	uint32_t i = worker->index, *told = orders->told + (size_t)i * orders->n_services;
	struct msg_level level = { .level = (uint32_t)log_level() };

	if (orders->generations[i] != worker->generation) {
		memset(told, 0, sizeof(*told) * orders->n_services);
		orders->told_level[i] = 0;
		orders->generations[i] = worker->generation;
	}
	if (orders->told_level[i] != orders->level_serial) {
		if (chan_send(&worker->chan, MSG_LEVEL, &level, 1, NULL, 0) == -1)
			return errno == EPIPE;
		orders->told_level[i] = orders->level_serial;
	}
	for (uint32_t s = 0; s < orders->n_services; s++) {
		if (told[s] == orders->drains[s].serial)
			continue;
		if (worker->n_batch > 0 || tell_drain(orders, worker, s) == -1)
			return worker->n_batch == 0 && errno == EPIPE;
		told[s] = orders->drains[s].serial;
	}
	return true;
}

void
orders_sync(struct orders *orders)
{
	bool all = true;

	for (unsigned i = 0; i < orders->pools->n; i++)
		(void)handoff_flush(orders->pools, i);
	for (uint32_t i = 0; i < orders->pools->n_slots; i++) {
		if (listens_to_orders(&orders->pools->workers[i]))
			all &= tell_worker(orders, &orders->pools->workers[i]);
	}
	loop_timer_set(orders->loop, &orders->retry, all ? LOOP_NEVER : orders->loop->now + RETRY_AFTER);
}

static void
retry_on_timer(void *owner, void *arg)
{
	(void)owner;
	orders_sync(arg);
}

int
orders_init(struct orders *orders, struct pools *pools, uint32_t n_services, struct loop *loop)
{
	*orders = (struct orders){ .pools = pools, .loop = loop, .n_services = n_services, .retry = { .fn = retry_on_timer, .arg = orders } };
	orders->drains = calloc(n_services, sizeof(*orders->drains));
	orders->told = calloc((size_t)pools->n_slots * n_services, sizeof(*orders->told));
	orders->told_level = calloc(pools->n_slots, sizeof(*orders->told_level));
	orders->generations = calloc(pools->n_slots, sizeof(*orders->generations));
	if (orders->drains != NULL && orders->told != NULL && orders->told_level != NULL && orders->generations != NULL)
		return 0;
	log_err("cannot allocate what %u workers are told about %u services", pools->n_slots, n_services);
	return -1;
}

uint64_t
orders_drain(struct orders *orders, uint32_t service, uint64_t until)
{
	struct order_drain *drain = &orders->drains[service];
	uint64_t load = 0;

	drain->drained = true;
	drain->until = until;
	drain->serial++;
	orders_sync(orders);
	for (uint32_t i = 0; i < orders->pools->n_slots; i++)
		load += worker_service_load(&orders->pools->workers[i], service);
	return load;
}

void
orders_resume(struct orders *orders, uint32_t service)
{
	struct order_drain *drain = &orders->drains[service];

	drain->drained = false;
	drain->serial++;
	orders_sync(orders);
}

void
orders_level(struct orders *orders)
{
	orders->level_serial++;
	orders_sync(orders);
}

int
orders_close(struct orders *orders, uint32_t worker, uint32_t slot, uint64_t id)
{
	struct msg_close msg = { .id = id, .slot = slot };

	if (worker >= orders->pools->n_slots || slot >= orders->pools->workers[worker].board.max_conns ||
	    !listens_to_orders(&orders->pools->workers[worker])) {
		errno = ESRCH;
		return -1;
	}
	return chan_send(&orders->pools->workers[worker].chan, MSG_CLOSE, &msg, 1, NULL, 0);
}

void
orders_free(struct orders *orders)
{
	if (orders->loop != NULL)
		loop_timer_clear(orders->loop, &orders->retry);
	free(orders->drains);
	free(orders->told);
	free(orders->told_level);
	free(orders->generations);
	*orders = (struct orders){ 0 };
}
