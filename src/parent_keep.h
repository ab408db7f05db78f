/* SPDX-License-Identifier: ISC */
/*
 * What lives on over a reload, written down for the image that takes our place, or for a trial.
 * Runs in: parent
 */
#ifndef PARENT_KEEP_H
#define PARENT_KEEP_H

#include "parent_listen.h"
#include "parent_pool.h"
#include "parent_route.h"
#include "parent_state.h"

/*
 * Fills in the tables of an empty *state: services, routes, listeners, workers with the clients that wait for them, workers that died. Nothing is moved:
 * the descriptors stay whose they are.
 */
void keep_tables(struct state *state, const struct pools *pools, const struct routes *routes, const struct listen_set *set, const struct netns *netns);

#endif
