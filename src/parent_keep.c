/* SPDX-License-Identifier: ISC */
/*
 * What lives on over a reload, written down.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_keep.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"

static void *
allocate(size_t n, size_t size)
{
	void *memory = calloc(n > 0 ? n : 1, size);

	if (memory == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the state");
	return memory;
}

static void
keep_services(struct state *state, const struct conf *conf)
{
	state->services = allocate(conf->n_services, sizeof(*state->services));
	state->n_services = (uint32_t)conf->n_services;
	for (size_t i = 0; i < conf->n_services; i++) {
		const struct conf_service *service = &conf->services[i];
		struct state_service *row = &state->services[i];

		row->removed = service->removed;
		row->access_kind = (uint32_t)service->access.kind;
		row->log_empty = service->log_empty;
		(void)snprintf(row->name, sizeof(row->name), "%s", service->name);
		if (service->access.path != NULL && strlen(service->access.path) < sizeof(row->access_path))
			(void)snprintf(row->access_path, sizeof(row->access_path), "%s", service->access.path);
		else if (service->access.kind == CONF_LOG_FILE)
			row->access_kind = CONF_LOG_SAME;
	}
}

static void
keep_routes(struct state *state, const struct routes *routes)
{
	state->routes = allocate(routes->n, sizeof(*state->routes));
	state->n_routes = routes->n;
	for (uint32_t i = 0; i < routes->n; i++) {
		const struct route *route = &routes->list[i];

		state->routes[i] = (struct state_route){ .names = route->names, .service = route->service, .first_port = route->first_port,
			.removed = route->removed };
	}
}

static void
keep_listeners(struct state *state, const struct listen_set *set, const struct routes *routes, const struct netns *netns)
{
	state->listeners = allocate(set->n, sizeof(*state->listeners));
	for (uint32_t i = 0; i < set->n; i++) {
		const struct listener *listener = &set->list[i];
		const struct route *route = &routes->list[listener->route];
		const struct netns *in = &netns[route->listen->netns];
		struct state_listener *row = &state->listeners[state->n_listeners];

		if (listener->bound.fd == -1)
			continue;
		/* One that waits to be opened anew is in the namespace before: nobody's any more. */
		*row = (struct state_listener){ .fd = listener->bound.fd, .route = listener->route, .service = listener->service,
			.pool = listener->pool, .port_offset = listener->port_offset, .any = route->listen->any, .shared = listener->bound.shared,
			.netns_dev = listener->wanted ? 0 : in->dev, .netns_ino = listener->wanted ? 0 : in->ino, .dev = listener->bound.dev,
			.ino = listener->bound.ino, .configured = route->listen->addr, .bound = listener->bound.addr };
		if (row->configured.u.sa.sa_family != AF_UNIX) {
			row->port = (uint16_t)(route->first_port + listener->port_offset);
			addr_set_port(&row->configured, row->port);
		}
		state->n_listeners++;
	}
}

static uint32_t
flags_of(const struct worker *worker)
{
	return (worker->retired ? STATE_WORKER_RETIRED : 0) | (worker->ended ? STATE_WORKER_ENDED : 0) | (worker->said ? STATE_WORKER_SAID : 0) |
	    (worker->late ? STATE_WORKER_LATE : 0) | (worker->ping_sent ? STATE_WORKER_PING_SENT : 0);
}

static void
keep_worker(struct state_worker *row, const struct worker *worker)
{
	const struct pool *pool = &worker->pools->list[worker->pool];

	*row = (struct state_worker){ .netns_dev = worker->netns_dev, .netns_ino = worker->netns_ino, .pid = worker->pid, .index = worker->index,
		.pool = worker->pool, .generation = worker->generation, .state = (uint32_t)worker->state, .flags = flags_of(worker),
		.chan_fd = worker->chan.fd, .report_fd = worker->report_fd, .board_fd = worker->board_fd, .max_conns = worker->board.max_conns,
		.n_services = worker->board.n_services, .started = worker->started, .uid = worker->uid, .gid = worker->gid, .feed = worker->feed,
		.program_dev = worker->program.dev, .program_ino = worker->program.ino, .program_mtime = (uint64_t)worker->program.mtime,
		.sent = worker->sent, .ping_number = worker->ping_number, .ping_at = worker->ping_at, .retire_until = worker->retire_until,
		.told_until = worker->told_until, .backoff_started = worker->backoff.started, .backoff_wait = worker->backoff.wait,
		.ready = worker->ready };
	(void)snprintf(row->netns, sizeof(row->netns), "%s", pool->netns.name);
	if (worker->state == WORKER_DEAD)
		row->retire_until = worker->respawn.due;
}

static void
keep_conns(struct state *state, const struct worker *worker, uint32_t row)
{
	for (unsigned i = 0; i < worker->n_batch; i++)
		state->conns[state->n_conns++] = (struct state_conn){ .worker = row, .service = worker->batch_services[i], .fd = worker->batch_fds[i],
			.conn = worker->batch[i] };
}

/* Those that live, and slots that wait for their next try. */
static void
keep_workers(struct state *state, const struct pools *pools)
{
	size_t n_conns = 0;

	for (uint32_t i = 0; i < pools->n_slots; i++)
		n_conns += pools->workers[i].n_batch;
	state->workers = allocate(pools->n_slots, sizeof(*state->workers));
	state->sent = allocate((size_t)pools->n_slots * state->n_services, sizeof(*state->sent));
	state->conns = allocate(n_conns, sizeof(*state->conns));
	for (uint32_t i = 0; i < pools->n_slots; i++) {
		const struct worker *worker = &pools->workers[i];

		if (worker->state == WORKER_DEAD && worker->respawn.pos == 0)
			continue;
		keep_worker(&state->workers[state->n_workers], worker);
		memcpy(&state->sent[state->n_sent], worker->sent_by_service, sizeof(*state->sent) * state->n_services);
		keep_conns(state, worker, state->n_workers);
		state->n_sent += state->n_services;
		state->n_workers++;
	}
}

static void
keep_dead(struct state *state, const struct pools *pools)
{
	state->dead = allocate(pools->n_dead, sizeof(*state->dead));
	for (uint32_t i = 0; i < pools->n_dead; i++)
		state->dead[i] = (struct state_dead){ .msg = pools->dead[i].msg, .death = pools->dead[i].death, .report_fd = pools->dead[i].report_fd,
			.board_fd = pools->dead[i].board_fd };
	state->n_dead = pools->n_dead;
}

void
keep_tables(struct state *state, const struct pools *pools, const struct routes *routes, const struct listen_set *set, const struct netns *netns)
{
	keep_services(state, pools->conf);
	keep_routes(state, routes);
	keep_listeners(state, set, routes, netns);
	keep_workers(state, pools);
	keep_dead(state, pools);
}
