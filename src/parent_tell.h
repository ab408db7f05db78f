/* SPDX-License-Identifier: ISC */
/*
 * What the reporter is told so that it can answer: what the parent, services and workers are, sockets to serve, results of requests.
 * Runs in: parent
 */
#ifndef PARENT_TELL_H
#define PARENT_TELL_H

#include <stdbool.h>
#include <stdint.h>

#include "chan.h"
#include "parent_listen.h"
#include "parent_order.h"
#include "parent_pool.h"
#include "sandbox.h"

#define TELL_LISTENERS 8u
#define TELL_RESULTS 64u

struct tell_listener {
	struct msg_listen msg;
	int fd;				/* not owned */
	bool told;
};

struct tell {
	const struct pools *pools;	/* all not owned */
	const struct listen_set *listeners;
	const struct orders *orders;
	struct msg_parent parent, parent_told;
	struct msg_service *services_told;	/* [n_services]; owned */
	struct msg_worker_state *workers_told;	/* [n_slots]; owned */
	uint32_t level_told;
	struct tell_listener listens[TELL_LISTENERS];
	unsigned n_listens;
	struct msg_result results[TELL_RESULTS];
	unsigned n_results;
};

/* 0, or -1 after a line. confined: what confine() got. */
int tell_init(struct tell *tell, const struct pools *pools, const struct listen_set *listeners, const struct orders *orders);
/* What this process has become once it is confined. */
void tell_confined(struct tell *tell, const struct sandbox_result *confined);
/* A socket for the reporter to serve; fd stays the caller's and must outlive this. */
void tell_listener(struct tell *tell, const struct msg_listen *msg, int fd);
/* What came of a request; lost, after a line, when there are too many that nobody takes. */
void tell_result(struct tell *tell, uint64_t number, enum ctl_code code, const char *text);
/* The reporter is another process, which was told the level of now and nothing else. */
void tell_forget(struct tell *tell);
/* Sends what it does not know, while it serves. 0, or -1 with errno. */
int tell_sync(struct tell *tell, struct chan *chan);
void tell_free(struct tell *tell);

#endif
