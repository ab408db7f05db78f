/* SPDX-License-Identifier: ISC */
/*
 * Telling the outside how we are: the service manager (sd_notify(3), by hand), the starter of -b, the pid file.
 * Runs in: parent
 */
#ifndef PARENT_NOTIFY_H
#define PARENT_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"
#include "parent_state.h"

struct notify {
	int manager;			/* connected datagram socket; -1: no service manager asked */
	int starter;			/* pipe to the starter of -b; -1: none */
	uint64_t watchdog_ns;		/* how often the manager wants to hear of us; 0: never */
	const char *pidfile;		/* conf's */
	bool pidfile_made;
	bool keep_stderr;		/* in the background: the log goes there */
};

/*
 * With `background` forks: the starter waits here and exits with what its child tells, or with the child's code; only the child returns, as the
 * leader of a session of its own. -1 after a line.
 */
int notify_init(struct notify *notify, bool background, bool keep_stderr, const char *pidfile);
/* A trial tells nobody. */
void notify_init_trial(struct notify *notify);
/* What the image before had. */
void notify_adopt(struct notify *notify, struct state *state, bool keep_stderr, const char *pidfile);
void notify_keep(const struct notify *notify, struct state *state);
/* Writes the pid file, if one is wanted. -1 after a line. */
int notify_pidfile(struct notify *notify);
/* Tells the service manager, then the starter. */
void notify_ready(struct notify *notify, const char *status);
void notify_status(struct notify *notify, const char *status);
void notify_reloading(struct notify *notify);
/* Whether or not something has changed; status says it. */
void notify_reloaded(struct notify *notify, const char *status);
void notify_alive(struct notify *notify);
void notify_stopping(struct notify *notify);
/* Removes the pid file that we made; closes. */
void notify_free(struct notify *notify);

#endif
