/* SPDX-License-Identifier: ISC */
/*
 * Clients as they come from the parent: the receiving half of handoff_conn().
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_intake.h"

#include "fdutil.h"
#include "log.h"
#include "worker.h"
#include "worker_connect.h"

static int
intake_one(struct worker *worker, const struct msg_conn *msg, int *fd)
{
	const struct worker_route *route = routes_find(&worker->routes, msg->route);
	struct conn *conn;

	if (route == NULL || msg->port_offset >= route->conf.n_ports)
		return -1;
	sb_add(&worker->board.head->taken, 1);
	sb_add(&worker->board.services[route->conf.service].taken, 1);
	conn = *fd >= 0 ? conn_new(worker, msg, route, fd) : NULL;
	if (conn == NULL) {
		/* The parent counts and never sends too many; a client that is lost all the same is reset, counted and said. */
		sb_add(&worker->board.head->finished, 1);
		sb_add(&worker->board.services[route->conf.service].finished, 1);
		sb_add(&worker->board.services[route->conf.service].ends[END_ERROR], 1);
		report_conn_warning(worker, "service %s: no room for a connection (limit of open files), its client was reset",
		    route->conf.service_name);
		return 0;
	}
	connect_start(worker, conn);
	return 0;
}

int
intake_conn(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	struct worker *worker = owner;
	const struct msg_conn *list = items;

	ASSERT(n_fds == count);
	for (unsigned i = 0; i < count; i++) {
		if (intake_one(worker, &list[i], &fds[i]) == -1)
			return -1;
	}
	return 0;
}
