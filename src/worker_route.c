/* SPDX-License-Identifier: ISC */
/*
 * Where clients go: the routes of this worker's services, as the parent sent them.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_route.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdutil.h"

int
routes_init(struct worker_routes *routes, uint32_t n)
{
	routes->list = calloc(n > 0 ? n : 1, sizeof(*routes->list));
	routes->n = routes->n_dirs = 0;
	routes->room = n;
	return routes->list == NULL ? -1 : 0;
}

static bool
is_terminated(const char *text, size_t size)
{
	return memchr(text, '\0', size) != NULL;
}

int
routes_add(struct worker_routes *routes, const struct msg_route *conf)
{
	struct worker_route *route = &routes->list[routes->n];

	if (routes->n == routes->room || (routes->n > 0 && conf->index <= routes->list[routes->n - 1].conf.index))
		return -1;
	if (!is_terminated(conf->service_name, sizeof(conf->service_name)) || !is_terminated(conf->unix_name, sizeof(conf->unix_name)))
		return -1;
	if (conf->engine >= ENGINES || conf->n_ports == 0 || conf->target.port + conf->n_ports - 1 > UINT16_MAX)
		return -1;
	if (conf->target.family == AF_UNIX ? conf->unix_name[0] == '\0' : conf->target.family != AF_INET && conf->target.family != AF_INET6)
		return -1;
	route->conf = *conf;
	route->dir_fd = -1;
	routes->n++;
	return 0;
}

struct worker_route *
routes_find(struct worker_routes *routes, uint32_t index)
{
	uint32_t low = 0, high = routes->n;

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (routes->list[middle].conf.index == index)
			return &routes->list[middle];
		if (routes->list[middle].conf.index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

int
routes_set_dir(struct worker_routes *routes, uint32_t index, int *fd)
{
	const struct worker_route *first = routes_find(routes, index);
	int dir;

	if (first == NULL || first->dir_fd >= 0)
		return -1;
	dir = fd_take(fd);
	for (uint32_t i = 0; i < routes->n; i++) {
		if (routes->list[i].conf.service == first->conf.service)
			routes->list[i].dir_fd = dir;
	}
	routes->n_dirs++;
	return 0;
}

static void
unix_target(const char *name, struct addr *addr)
{
	size_t n = strlen(name);

	memset(addr, 0, sizeof(*addr));
	addr->u.un.sun_family = AF_UNIX;
	if (n >= sizeof(addr->u.un.sun_path))
		n = sizeof(addr->u.un.sun_path) - 1;
	memcpy(addr->u.un.sun_path, name, n);
	addr->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (name[0] != '@'));
	if (name[0] == '@')
		addr->u.un.sun_path[0] = '\0';
}

void
route_target(const struct worker_route *route, uint16_t port_offset, struct addr *addr)
{
	if (route->conf.target.family == AF_UNIX) {
		unix_target(route->conf.unix_name, addr);
		return;
	}
	(void)addr_from_wire(&route->conf.target, addr);	/* family was checked by routes_add() */
	addr_set_port(addr, (uint16_t)(route->conf.target.port + port_offset));
}

const char *
route_target_text(const struct worker_route *route, uint16_t port_offset, char buf[ADDR_TEXT_MAX])
{
	struct addr addr;

	if (route->conf.target.family == AF_UNIX) {
		(void)snprintf(buf, ADDR_TEXT_MAX, "unix:%s", route->conf.unix_name);
		return buf;
	}
	route_target(route, port_offset, &addr);
	return addr_format(&addr, buf);
}
