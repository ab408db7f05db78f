/* SPDX-License-Identifier: ISC */
/*
 * Routes: what a client of one listener needs (for its worker), and what it is called (for the reporter). Numbered over all services.
 * Runs in: parent
 */
#ifndef PARENT_ROUTE_H
#define PARENT_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "msg.h"
#include "parent_conf.h"
#include "parent_pool.h"

struct outputs;
struct state;

/*
 * One `listen` value has one route; but when a range of ports goes to a single one, each port has its own, so that the log can tell them apart.
 * names.listener is filled in by whoever opens the listener, route_is_at(): the kernel may choose the port.
 */
struct route {
	unsigned service, pool;		/* pool POOL_NONE when removed */
	const struct conf_endpoint *listen;
	uint16_t first_port, n_ports;	/* listening ports; port i has port_offset i */
	int dir;			/* directory of a unix target, only at the first of the service's routes; -1: none */
	bool moved;			/* names.listener is not what the reporter was told at first */
	bool removed;			/* of an earlier configuration: has no listener, and only old workers know it */
	struct msg_route msg;
	struct msg_names names;
};

struct routes {
	struct route *list;
	uint32_t n;
	struct {
		int fd;			/* -1: none */
		bool given;		/* has its route */
	} *dirs;			/* [n_services], owned */
	size_t n_dirs;
	uint32_t n_moved;
};

/* Room for "NETNS@ADDRESS". */
#define ROUTE_TEXT_MAX (256 + ADDR_TEXT_MAX)

/* state: numbers that are known already; NULL: none are. 0, or -1 after a line. */
int routes_init(struct routes *routes, const struct conf *conf, const struct pools *pools, const struct outputs *outputs,
    const struct state *state);
void routes_free(struct routes *routes);
/* The route's first listener is open, at this address. */
void route_is_at(struct routes *routes, struct route *route, const struct addr *addr);
/* "public@10.10.10.10:80", "10.10.10.10:80" when netns is "". Returns buf. */
const char *route_format(const char *netns, const struct addr *addr, char buf[ROUTE_TEXT_MAX]);
/* Where a service was written: "FILE:LINE: " or "". Returns buf. */
const char *route_where(const struct conf_service *service, char buf[ROUTE_TEXT_MAX]);

#endif
