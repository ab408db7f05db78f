/* SPDX-License-Identifier: ISC */
/*
 * Where clients go: the routes of this worker's services, as the parent sent them.
 * Runs in: worker
 */
#ifndef WORKER_ROUTE_H
#define WORKER_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"
#include "msg.h"

struct worker_route {
	struct msg_route conf;
	const struct engine_ops *engine;	/* set when the engines are open */
	int dir_fd;				/* directory of a unix target, shared by the service's routes; -1: none. Owned. */
};

struct worker_routes {
	struct worker_route *list;		/* in order of conf.index, which may have gaps */
	uint32_t n, room;
	uint32_t n_dirs;			/* that were set */
};

/* Room for n routes. 0 or -1 with errno. */
int routes_init(struct worker_routes *routes, uint32_t n);
/* -1: out of order, too many, or a value that makes no sense. */
int routes_add(struct worker_routes *routes, const struct msg_route *conf);
/* The directory of that route and of all others of its service; takes *fd. -1: there is no such route, or it has one. */
int routes_set_dir(struct worker_routes *routes, uint32_t index, int *fd);
/* NULL when this worker has no such route. */
struct worker_route *routes_find(struct worker_routes *routes, uint32_t index);
/* The target with the port for this connection; for a unix target the name as connect(2) wants it after fchdir(). */
void route_target(const struct worker_route *route, uint16_t port_offset, struct addr *addr);
/* For log lines: "172.20.0.2:80", "unix:name". */
const char *route_target_text(const struct worker_route *route, uint16_t port_offset, char buf[ADDR_TEXT_MAX]);

#endif
