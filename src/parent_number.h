/* SPDX-License-Identifier: ISC */
/*
 * Numbers of services and routes over a reload: what stays keeps its number, so that counters go on and old workers' records are named rightly.
 * Runs in: parent
 *
 * Theory of operation: a number is an index, into conf.services and into the routes. What was removed keeps its place as long as an old worker may
 * still speak of it, marked `removed`, without listeners and without a pool; later its number is free and is given away again.
 */
#ifndef PARENT_NUMBER_H
#define PARENT_NUMBER_H

#include "parent_conf.h"
#include "parent_route.h"
#include "parent_state.h"

/* Puts each service where its number says, removed ones among them. To be called before anything is made from conf. */
void number_services(struct conf *conf, const struct state *state);
/* Likewise; *routes has just been made from conf, and has room for state->n_routes more. */
void number_routes(struct routes *routes, const struct conf *conf, const struct outputs *outputs, const struct state *state);

#endif
