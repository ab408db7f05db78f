/* SPDX-License-Identifier: ISC */
/*
 * Taking over what the image before left: its listeners, its workers, the clients that it could not hand over.
 * Runs in: parent
 *
 * Theory of operation: a listener stays when its namespace and its address as configured are the same. A worker stays when all that it would be told
 * and be started as now is what it was told and started as: then it goes on as if nothing had happened. Any other one is retired: it gets no new
 * clients, and those that it has keep their settings until they end, however long that takes.
 */
#ifndef PARENT_ADOPT_H
#define PARENT_ADOPT_H

#include <stdbool.h>

#include "parent_bind.h"
#include "parent_listen.h"
#include "parent_netns.h"
#include "parent_route.h"
#include "parent_state.h"
#include "parent_worker.h"

/*
 * The listener for this port of the endpoint, if the image before had it. True: *bound is the caller's; in a trial its fd is -1, since there it only
 * counts that the port is ours.
 */
bool adopt_listener(struct state *state, const struct netns *netns, const struct conf_endpoint *endpoint, uint16_t port, struct bound *bound);
/* Likewise for the metrics listener. When it is not for this endpoint (NULL: for none), it is closed. */
bool adopt_metrics(struct state *state, const struct netns *netns, const struct conf_endpoint *endpoint, struct bound *bound);
/* Gives each worker a slot, retired or not, with what is known of it. Makes pools of namespaces that are not configured any more. */
void adopt_workers(struct workers *workers, struct state *state);
/* Listeners that nobody took: what waits in their backlog goes to the workers that know it, then they are closed. Then the retired are told. */
void adopt_rest(struct workers *workers, struct listen_set *set, struct state *state);

#endif
