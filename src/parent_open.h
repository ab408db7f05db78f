/* SPDX-License-Identifier: ISC */
/*
 * Opening all listeners at start, each in its namespace, and saying what went wrong or where they listen.
 * Runs in: parent
 */
#ifndef PARENT_OPEN_H
#define PARENT_OPEN_H

#include "log.h"
#include "parent_listen.h"
#include "parent_route.h"

/*
 * Opens every listener of the routes, in the namespaces netns[] (conf's); fills in names.listener of the routes. Says everything that fails.
 * EXIT_OK or the exit code of the first error; then listen_close() is the caller's as well.
 */
enum exit_code open_listeners(struct listen_set *set, const struct conf *conf, struct routes *routes, struct pools *pools, const struct netns *netns);
/* One line for each listener: where it really listens. */
void open_announce(const struct listen_set *set, const struct routes *routes);

#endif
