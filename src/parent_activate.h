/* SPDX-License-Identifier: ISC */
/*
 * Listeners that the service manager opened before it started us (sd_listen_fds(3), by hand), given to the services that they are for.
 * Runs in: parent
 */
#ifndef PARENT_ACTIVATE_H
#define PARENT_ACTIVATE_H

#include <stddef.h>

#include "parent_listen.h"
#include "parent_netns.h"
#include "parent_route.h"

struct activated;

struct activation {
	struct activated *list;		/* owned, and so are the descriptors that no listener has taken yet */
	size_t n;
};

/*
 * Takes what LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say and removes them from the environment. Before any descriptor is opened or closed;
 * *first_other is the first descriptor that is nobody's. 0, or -1 after a line.
 */
int activate_init(struct activation *activation, int *first_other);
/*
 * Gives each socket to the listener that it is for, whose bound.fd is set then; those that get none are still to be opened. Says each socket that
 * is not what its service listens on. EXIT_OK or the exit code of the first error.
 */
enum exit_code activate_listeners(struct activation *activation, struct listen_set *set, const struct conf *conf, const struct routes *routes,
    const struct netns *netns);
void activate_free(struct activation *activation);

#endif
