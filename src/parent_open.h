/* SPDX-License-Identifier: ISC */
/*
 * Opening listeners, each in its namespace: all at start, or again in one that was made anew; saying what went wrong or where they listen.
 * Runs in: parent
 */
#ifndef PARENT_OPEN_H
#define PARENT_OPEN_H

#include "log.h"
#include "parent_activate.h"
#include "parent_listen.h"
#include "parent_route.h"
#include "parent_state.h"

/*
 * Opens every listener of the routes, in the namespaces netns[] (conf's), but for those that the service manager opened and those that are awaited,
 * which are `wanted` then; fills in names.listener of the routes. Says everything that fails. Listeners of `state` (NULL: there is none) stay open; for
 * an image that replaces another nothing fails: what cannot be opened is `wanted`.
 * EXIT_OK or the exit code of the first error; then listen_close() is the caller's as well.
 */
enum exit_code open_listeners(struct listen_set *set, const struct conf *conf, struct routes *routes, struct pools *pools, const struct netns *netns,
    struct activation *activation, struct state *state);
/* How many listeners are wanted in conf's namespace number `of`. */
uint32_t open_count_wanted(const struct listen_set *set, const struct routes *routes, unsigned of);
/* Marks the listeners of conf's namespace number `of`: it is another one now. Returns how many. */
uint32_t open_want(struct listen_set *set, const struct routes *routes, unsigned of);
/*
 * Opens the wanted listeners of that namespace, with the port that they had, and replaces the old ones, which hold as long as the new ones cannot be
 * opened. Says the first failure, and only that, when `say`. Returns how many are still wanted.
 */
uint32_t open_wanted(struct listen_set *set, struct routes *routes, unsigned of, const struct netns *netns, const struct netns *home, bool say);
/* One line for each listener that is not the one of the image before: where it really listens. */
void open_announce(const struct listen_set *set, const struct routes *routes);

#endif
