/* SPDX-License-Identifier: ISC */
/*
 * Numbers of services and routes over a reload.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_number.h"

#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "parent_output.h"
#include "parent_pool.h"

#define FREE UINT32_MAX

static void *
allocate(size_t n, size_t size)
{
	void *memory = calloc(n > 0 ? n : 1, size);

	if (memory == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the numbers of the services");
	return memory;
}

static char *
copy_of(const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		fatal(EXIT_MACHINE, "cannot allocate the name of a service");
	return copy;
}

/*
 * May a worker still speak of something in this namespace's pool? What was removed before only those of earlier configurations know; what is removed
 * now all of the pool do. While the reporter has not heard of all that died, they may be among these.
 */
static bool
is_known(const struct state *state, const char *netns, bool removed_before)
{
	if (state->n_dead > 0)
		return true;
	for (uint32_t i = 0; i < state->n_workers; i++) {
		const struct state_worker *worker = &state->workers[i];

		if (worker->pid > 0 && strcmp(worker->netns, netns) == 0 && (!removed_before || (worker->flags & STATE_WORKER_RETIRED)))
			return true;
	}
	return false;
}

static bool
route_is_known(const struct state *state, const struct state_route *route)
{
	return route->names.service[0] != '\0' && is_known(state, route->names.private_netns, route->removed);
}

static bool
service_is_known(const struct state *state, uint32_t service)
{
	for (uint32_t i = 0; i < state->n_routes; i++) {
		if (state->routes[i].service == service && route_is_known(state, &state->routes[i]))
			return true;
	}
	return false;
}

/* ---- services ----------------------------------------------------------------------------------------------------------------------- */

static uint32_t
number_of(const struct state *state, const char *name)
{
	for (uint32_t i = 0; i < state->n_services; i++) {
		if (strcmp(state->services[i].name, name) == 0)
			return i;
	}
	return FREE;
}

static void
make_removed(struct conf_service *service, const struct state_service *was)
{
	*service = (struct conf_service){ .removed = true, .log_empty = was->log_empty != 0 };
	service->name = copy_of(was->name);
	service->connect.text = copy_of("");
	service->access.kind = was->access_kind <= CONF_LOG_SAME ? (enum conf_log)was->access_kind : CONF_LOG_SAME;
	if (service->access.kind == CONF_LOG_FILE)
		service->access.path = copy_of(was->access_path);
}

/* What is left without a number gets the lowest that are free. */
static void
give_numbers(const struct conf *conf, const struct state *state, uint32_t *number, bool *taken)
{
	uint32_t next = 0;

	for (size_t s = 0; s < conf->n_services; s++) {
		number[s] = number_of(state, conf->services[s].name);
		if (number[s] != FREE)
			taken[number[s]] = true;
	}
	for (uint32_t i = 0; i < state->n_services; i++) {
		const struct state_service *was = &state->services[i];

		taken[i] |= was->name[0] != '\0' && service_is_known(state, i);
	}
	for (size_t s = 0; s < conf->n_services; s++) {
		if (number[s] != FREE)
			continue;
		while (taken[next])
			next++;
		number[s] = next;
		taken[next] = true;
	}
}

void
number_services(struct conf *conf, const struct state *state)
{
	size_t room = conf->n_services + state->n_services, n = 0;
	uint32_t *number = allocate(conf->n_services, sizeof(*number));
	bool *taken = allocate(room, sizeof(*taken));
	struct conf_service *services = allocate(room, sizeof(*services));

	give_numbers(conf, state, number, taken);
	for (uint32_t i = 0; i < room; i++) {
		if (taken[i])
			n = i + 1;
	}
	/* A place that nobody needs any more is filled like one that is removed, with a name that nobody has. */
	for (uint32_t i = 0; i < n; i++) {
		static const struct state_service nobody = { .access_kind = CONF_LOG_NONE };

		make_removed(&services[i], i < state->n_services && taken[i] ? &state->services[i] : &nobody);
	}
	for (size_t s = 0; s < conf->n_services; s++) {
		struct conf_service *place = &services[number[s]];

		free(place->name);
		free(place->connect.text);
		free(place->access.path);
		*place = conf->services[s];
	}
	free(conf->services);
	conf->services = services;
	conf->n_services = n;
	free(number);
	free(taken);
}

/* ---- routes ------------------------------------------------------------------------------------------------------------------------- */

/* The same clients to the same target, under the same names? The port that the kernel chose and where it is logged do not count. */
static bool
is_same(const struct state_route *was, const struct route *route)
{
	struct msg_names a = was->names, b = route->names;

	a.route = b.route;
	a.output = b.output;
	a.flags = b.flags;
	a.listener.port = b.listener.port;
	return was->names.service[0] != '\0' && was->service == route->service && was->first_port == route->first_port &&
	    memcmp(&a, &b, sizeof(a)) == 0;
}

static void
make_gone(struct route *route, const struct state_route *was, const struct conf *conf, const struct outputs *outputs)
{
	*route = (struct route){ .pool = POOL_NONE, .dir = -1, .removed = true };
	route->names.n_ports = 1;
	route->names.output = OUTPUT_NONE;
	route->names.service_number = FREE;
	if (was == NULL || was->service >= conf->n_services)
		return;
	route->service = was->service;
	route->first_port = was->first_port;
	route->names = was->names;
	route->names.output = outputs_access_id(outputs, &conf->services[was->service].access);
}

static void
give_route_numbers(const struct routes *routes, const struct state *state, uint32_t *number, bool *taken)
{
	uint32_t next = 0;

	for (uint32_t r = 0; r < routes->n; r++) {
		number[r] = FREE;
		for (uint32_t i = 0; i < state->n_routes && number[r] == FREE; i++) {
			if (!taken[i] && is_same(&state->routes[i], &routes->list[r]))
				number[r] = i;
		}
		if (number[r] != FREE)
			taken[number[r]] = true;
	}
	for (uint32_t i = 0; i < state->n_routes; i++)
		taken[i] |= route_is_known(state, &state->routes[i]);
	for (uint32_t r = 0; r < routes->n; r++) {
		if (number[r] != FREE)
			continue;
		while (taken[next])
			next++;
		number[r] = next;
		taken[next] = true;
	}
}

void
number_routes(struct routes *routes, const struct conf *conf, const struct outputs *outputs, const struct state *state)
{
	uint32_t room = routes->n + state->n_routes, n = 0;
	uint32_t *number = allocate(routes->n, sizeof(*number));
	bool *taken = allocate(room, sizeof(*taken));
	struct route *list = allocate(room, sizeof(*list));

	give_route_numbers(routes, state, number, taken);
	for (uint32_t i = 0; i < room; i++) {
		if (taken[i])
			n = i + 1;
		make_gone(&list[i], i < state->n_routes && taken[i] ? &state->routes[i] : NULL, conf, outputs);
	}
	for (uint32_t r = 0; r < routes->n; r++)
		list[number[r]] = routes->list[r];
	for (uint32_t i = 0; i < n; i++)
		list[i].msg.index = list[i].names.route = i;
	free(routes->list);
	routes->list = list;
	routes->n = n;
	free(number);
	free(taken);
}
