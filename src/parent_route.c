/* SPDX-License-Identifier: ISC */
/*
 * Routes: what a client of one listener needs, and what it is called.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_route.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fdutil.h"
#include "log.h"
#include "parent_keepalive.h"
#include "parent_number.h"
#include "parent_output.h"

const char *
route_format(const char *netns, const struct addr *addr, char buf[ROUTE_TEXT_MAX])
{
	char text[ADDR_TEXT_MAX];

	(void)snprintf(buf, ROUTE_TEXT_MAX, "%.255s%s%s", netns, netns[0] != '\0' ? "@" : "", addr_format(addr, text));
	return buf;
}

const char *
route_where(const struct conf_service *service, char buf[ROUTE_TEXT_MAX])
{
	buf[0] = '\0';
	if (service->file != NULL)
		(void)snprintf(buf, ROUTE_TEXT_MAX, "%s:%d: ", service->file, service->line);
	return buf;
}

static uint16_t
ports_of(const struct conf_endpoint *endpoint)
{
	return endpoint->addr.u.sa.sa_family == AF_UNIX ? 1 : (uint16_t)(endpoint->port_last - addr_port(&endpoint->addr) + 1);
}

static uint32_t
routes_of(const struct conf_service *service)
{
	uint32_t n = 0;

	for (size_t i = 0; i < service->n_listen; i++)
		n += ports_of(&service->connect) > 1 ? 1 : ports_of(&service->listen[i]);
	return n;
}

/* The text of a unix address: path, or "@name" of an abstract one. */
static void
unix_text(const struct addr *addr, char *buf, size_t size)
{
	char text[ADDR_TEXT_MAX];

	buf[0] = '\0';
	if (addr->u.sa.sa_family == AF_UNIX)
		(void)snprintf(buf, size, "%s", addr_format(addr, text) + strlen("unix:"));
}

/* What the worker connects to by: a name in the directory it gets, or the abstract name. */
static void
set_unix_target(struct msg_route *msg, const struct addr *addr)
{
	char text[sizeof(msg->unix_name)] = "";	/* all of it: what the stack held is none of the worker's business */

	unix_text(addr, text, sizeof(text));
	if (text[0] == '@' || text[0] == '\0')
		memcpy(msg->unix_name, text, sizeof(msg->unix_name));
	else
		(void)snprintf(msg->unix_name, sizeof(msg->unix_name), "%s", basename(text));
}

static void
fill_msg(struct route *route, uint32_t index, const struct conf_service *service)
{
	struct msg_route *msg = &route->msg;

	msg->index = index;
	msg->service = route->service;
	msg->engine = (uint32_t)service->engine;
	msg->flags = service->access.kind != CONF_LOG_NONE ? ROUTE_RECORD : 0;
	msg->connect_timeout_ms = service->connect_timeout_ms;
	msg->user_timeout_ms = service->user_timeout_ms;
	if (service->keepalive) {
		msg->keepalive_idle_s = KEEPALIVE_IDLE_S;
		msg->keepalive_interval_s = KEEPALIVE_INTERVAL_S;
		msg->keepalive_count = KEEPALIVE_COUNT;
	}
	msg->n_ports = ports_of(&service->connect) > 1 ? route->n_ports : 1;
	msg->idle_timeout_ms = service->idle_timeout_ms;
	msg->half_close_timeout_ms = service->half_close_timeout_ms;
	addr_to_wire(&service->connect.addr, &msg->target);
	if (service->source.len != 0)
		addr_to_wire(&service->source, &msg->source);
	(void)snprintf(msg->service_name, sizeof(msg->service_name), "%s", service->name);
	set_unix_target(msg, &service->connect.addr);
}

static void
fill_names(struct route *route, const struct conf *conf, const struct conf_service *service, uint32_t output)
{
	struct msg_names *names = &route->names;

	names->route = route->msg.index;
	names->output = output;
	names->flags = service->log_empty ? 0 : NAMES_SKIP_EMPTY;
	names->n_ports = route->msg.n_ports;
	names->service_number = route->msg.service;
	names->target = route->msg.target;
	addr_to_wire(&route->listen->addr, &names->listener);
	(void)snprintf(names->service, sizeof(names->service), "%s", service->name);
	(void)snprintf(names->public_netns, sizeof(names->public_netns), "%s", conf->netns[route->listen->netns].name);
	(void)snprintf(names->private_netns, sizeof(names->private_netns), "%s", conf->netns[service->connect.netns].name);
	unix_text(&route->listen->addr, names->listener_unix, sizeof(names->listener_unix));
	unix_text(&service->connect.addr, names->target_unix, sizeof(names->target_unix));
}

/* The directory of a unix target: workers reach no path but a name in it. */
static int
open_dir(const struct conf_service *service, int *dir)
{
	char text[112], where[ROUTE_TEXT_MAX];

	*dir = -1;
	unix_text(&service->connect.addr, text, sizeof(text));
	if (text[0] == '\0' || text[0] == '@')
		return 0;
	*dir = open(dirname(text), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dir == -1)
		log_err("%sservice %s: cannot open the directory of %s", route_where(service, where), service->name, service->connect.text);
	return *dir == -1 ? -1 : 0;
}

static void
add_endpoint(struct routes *routes, const struct conf *conf, unsigned s, const struct conf_endpoint *listen, unsigned pool, uint32_t output)
{
	const struct conf_service *service = &conf->services[s];
	uint16_t ports = ports_of(listen), step = ports_of(&service->connect) > 1 ? ports : 1;

	for (uint16_t done = 0; done < ports; done = (uint16_t)(done + step)) {
		struct route *route = &routes->list[routes->n];

		route->service = s;
		route->pool = pool;
		route->listen = listen;
		route->first_port = (uint16_t)(addr_port(&listen->addr) + done);
		route->n_ports = step;
		fill_msg(route, routes->n, service);
		fill_names(route, conf, service, output);
		route->names.listener.port = route->first_port;
		routes->n++;
	}
}

/* Whoever gets the routes of a service gets the directory once. */
static void
set_dirs(struct routes *routes)
{
	for (uint32_t i = 0; i < routes->n; i++) {
		struct route *route = &routes->list[i];

		route->dir = -1;
		if (route->removed || routes->dirs[route->service].fd == -1 || routes->dirs[route->service].given)
			continue;
		route->dir = routes->dirs[route->service].fd;
		routes->dirs[route->service].given = true;
	}
}

int
routes_init(struct routes *routes, const struct conf *conf, const struct pools *pools, const struct outputs *outputs, const struct state *state)
{
	uint32_t n = 0;

	for (size_t i = 0; i < conf->n_services; i++)
		n += routes_of(&conf->services[i]);
	routes->list = calloc(n, sizeof(*routes->list));
	routes->dirs = calloc(conf->n_services, sizeof(*routes->dirs));
	if (routes->list == NULL || routes->dirs == NULL) {
		log_err("cannot allocate the table of %u routes", n);
		return -1;
	}
	for (; routes->n_dirs < conf->n_services; routes->n_dirs++) {
		if (open_dir(&conf->services[routes->n_dirs], &routes->dirs[routes->n_dirs].fd) == -1)
			return -1;
	}
	for (unsigned s = 0; s < conf->n_services; s++) {
		for (size_t i = 0; i < conf->services[s].n_listen; i++)
			add_endpoint(routes, conf, s, &conf->services[s].listen[i], pools->of_service[s],
			    outputs_access_id(outputs, &conf->services[s].access));
	}
	if (state != NULL)
		number_routes(routes, conf, outputs, state);
	set_dirs(routes);
	return 0;
}

void
route_is_at(struct routes *routes, struct route *route, const struct addr *addr)
{
	struct wire_addr was = route->names.listener;

	if (addr->u.sa.sa_family == AF_UNIX)
		return;
	addr_to_wire(addr, &route->names.listener);
	if (route->moved || memcmp(&was, &route->names.listener, sizeof(was)) == 0)
		return;
	route->moved = true;
	routes->n_moved++;
}

void
routes_free(struct routes *routes)
{
	for (size_t i = 0; i < routes->n_dirs; i++)
		fd_close(&routes->dirs[i].fd);
	free(routes->dirs);
	free(routes->list);
	*routes = (struct routes){ 0 };
}
