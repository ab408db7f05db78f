/* SPDX-License-Identifier: ISC */
/*
 * What the parent has said of itself, its services, routes and workers: what answers are made of, beside the scoreboards.
 * Runs in: reporter
 */
#ifndef REPORTER_KNOWN_H
#define REPORTER_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "msg.h"

/* struct msg_names without the room that its texts may need; routes of one range share them. */
struct known_route {
	uint32_t service, n_ports;
	struct wire_addr target, listener;
	char *texts;			/* service, public and private namespace, listener's and target's path, each terminated; NULL: not named */
	bool owns;
};

struct known {
	struct msg_parent parent;	/* pid 0: it has not spoken yet */
	struct msg_service *services;	/* [n_services]; name "": not told. Owned, like the next two */
	struct msg_worker_state *workers;	/* [max_workers]; pid 0: not told */
	struct known_route *routes;	/* [n_routes] */
	struct msg_ready own;		/* what this process told the parent; and what it is, so that no filter need allow asking */
	uint32_t pid, uid, gid;
	uint32_t n_services, max_workers, n_routes;
};

/* 0, or -1 with errno. Before the filter, like the next two. */
int known_init(struct known *known, uint32_t max_workers, uint32_t n_routes);
int known_make_services(struct known *known, uint32_t n_services);
int known_name_route(struct known *known, const struct msg_names *names);
/* A route that has names: its listener is elsewhere. 0, or -1 with errno. */
int known_move_route(struct known *known, const struct msg_names *names);
void known_free(struct known *known);

/* 0, or -1: makes no sense. */
int known_service(struct known *known, const struct msg_service *service);
int known_worker(struct known *known, const struct msg_worker_state *worker);
/* Number of the service; -1: there is none of that name that is still configured. */
int known_find_service(const struct known *known, const char *name);
/* Fills in names as they came. False: that route is unknown. */
bool known_get_route(const struct known *known, uint32_t route, struct msg_names *names);

#endif
