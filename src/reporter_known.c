/* SPDX-License-Identifier: ISC */
/*
 * What the parent has said of itself, its services, routes and workers.
 * Runs in: reporter
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "reporter_known.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>


enum { TEXT_SERVICE, TEXT_PUBLIC, TEXT_PRIVATE, TEXT_LISTENER, TEXT_TARGET, TEXTS };

int
known_init(struct known *known, uint32_t max_workers, uint32_t n_routes)
{
	known->workers = calloc(max_workers > 0 ? max_workers : 1, sizeof(*known->workers));
	known->routes = calloc(n_routes > 0 ? n_routes : 1, sizeof(*known->routes));
	if (known->workers == NULL || known->routes == NULL)
		return -1;
	known->max_workers = max_workers;
	known->n_routes = n_routes;
	return 0;
}

int
known_make_services(struct known *known, uint32_t n_services)
{
	known->services = calloc(n_services > 0 ? n_services : 1, sizeof(*known->services));
	if (known->services == NULL)
		return -1;
	known->n_services = n_services;
	return 0;
}

/* Where each text of a message lies. False: one has no end. */
static bool
texts_of(const struct msg_names *names, const char *texts[TEXTS], size_t *size)
{
	const size_t rooms[TEXTS] = { sizeof(names->service), sizeof(names->public_netns), sizeof(names->private_netns),
		sizeof(names->listener_unix), sizeof(names->target_unix) };

	texts[TEXT_SERVICE] = names->service;
	texts[TEXT_PUBLIC] = names->public_netns;
	texts[TEXT_PRIVATE] = names->private_netns;
	texts[TEXT_LISTENER] = names->listener_unix;
	texts[TEXT_TARGET] = names->target_unix;
	*size = 0;
	for (int i = 0; i < TEXTS; i++) {
		size_t n = strnlen(texts[i], rooms[i]);

		if (n == rooms[i])
			return false;
		*size += n + 1;
	}
	return true;
}

/* Are they the same as those packed at `packed`? */
static bool
same_texts(const char *packed, const char *const texts[TEXTS])
{
	for (int i = 0; i < TEXTS; i++) {
		if (strcmp(packed, texts[i]) != 0)
			return false;
		packed += strlen(packed) + 1;
	}
	return true;
}

static char *
pack_texts(const char *const texts[TEXTS], size_t size)
{
	char *packed = malloc(size), *at = packed;

	for (int i = 0; packed != NULL && i < TEXTS; i++) {
		size_t n = strlen(texts[i]) + 1;

		memcpy(at, texts[i], n);
		at += n;
	}
	return packed;
}

int
known_name_route(struct known *known, const struct msg_names *names)
{
	const char *texts[TEXTS];
	struct known_route *route;
	size_t size;

	if (names->route >= known->n_routes || known->routes[names->route].texts != NULL || !texts_of(names, texts, &size)) {
		errno = EINVAL;
		return -1;
	}
	route = &known->routes[names->route];
	route->service = names->service_number;
	route->n_ports = names->n_ports;
	route->target = names->target;
	route->listener = names->listener;
	if (names->route > 0 && route[-1].texts != NULL && same_texts(route[-1].texts, texts)) {
		route->texts = route[-1].texts;
		return 0;
	}
	route->texts = pack_texts(texts, size);
	route->owns = true;
	return route->texts != NULL ? 0 : -1;
}

int
known_move_route(struct known *known, const struct msg_names *names)
{
	const char *texts[TEXTS];
	size_t size;

	if (names->route >= known->n_routes || known->routes[names->route].texts == NULL || !texts_of(names, texts, &size) ||
	    !same_texts(known->routes[names->route].texts, texts)) {
		errno = EINVAL;
		return -1;
	}
	known->routes[names->route].listener = names->listener;
	return 0;
}

bool
known_get_route(const struct known *known, uint32_t number, struct msg_names *names)
{
	const struct known_route *route;
	char *to[TEXTS] = { names->service, names->public_netns, names->private_netns, names->listener_unix, names->target_unix };
	const char *at;

	if (number >= known->n_routes || known->routes[number].texts == NULL)
		return false;
	route = &known->routes[number];
	memset(names, 0, sizeof(*names));
	names->route = number;
	names->service_number = route->service;
	names->n_ports = route->n_ports;
	names->target = route->target;
	names->listener = route->listener;
	at = route->texts;
	for (int i = 0; i < TEXTS; i++) {
		size_t n = strlen(at) + 1;

		memcpy(to[i], at, n);	/* fitted when it came */
		at += n;
	}
	return true;
}

int
known_service(struct known *known, const struct msg_service *service)
{
	if (service->number >= known->n_services || strnlen(service->name, sizeof(service->name)) == sizeof(service->name))
		return -1;
	known->services[service->number] = *service;
	return 0;
}

int
known_worker(struct known *known, const struct msg_worker_state *worker)
{
	if (worker->index >= known->max_workers || strnlen(worker->pool, sizeof(worker->pool)) == sizeof(worker->pool))
		return -1;
	known->workers[worker->index] = *worker;
	return 0;
}

int
known_find_service(const struct known *known, const char *name)
{
	for (uint32_t i = 0; i < known->n_services; i++) {
		const struct msg_service *service = &known->services[i];

		if (service->name[0] != '\0' && !(service->flags & SERVICE_REMOVED) && strcmp(service->name, name) == 0)
			return (int)i;
	}
	return -1;
}

void
known_free(struct known *known)
{
	for (uint32_t i = 0; i < known->n_routes; i++) {
		if (known->routes[i].owns)
			free(known->routes[i].texts);
	}
	free(known->routes);
	free(known->workers);
	free(known->services);
	*known = (struct known){ 0 };
}
