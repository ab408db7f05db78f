/* SPDX-License-Identifier: ISC */
/*
 * Network namespaces over time: pinned at start or awaited, and watched while serving, since a name may come to mean another one.
 * Runs in: parent
 */
#ifndef PARENT_WATCH_H
#define PARENT_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "loop.h"
#include "parent_listen.h"
#include "parent_netns.h"
#include "parent_pool.h"
#include "parent_route.h"
#include "parent_worker.h"

struct watch;

/* One namespace of the configuration. */
struct watched {
	struct watch *watch;
	unsigned of;			/* index into conf.netns */
	bool missing;
	bool blind;			/* that it cannot be looked at was said */
	bool opening;			/* listeners could not be opened in it yet */
	bool said;			/* and that was said */
	bool fresh;			/* it is the first of its name */
	uint64_t quiet_until;		/* loop time of the next line about clients that were reset */
	uint64_t refused_said;
	uint64_t wait;			/* ns until the next look; 0: only the supervision looks */
	struct loop_timer retry;
};

struct watch {
	const struct conf *conf;
	struct loop *loop;
	struct netns *netns;		/* [conf->n_netns], pinned; fd -1: not there yet. Owned */
	size_t n;			/* of them that are filled in */
	struct watched *list;		/* [conf->n_netns] */
	int inotify_fd;			/* owned; -1: only the supervision looks */
	bool running;
	/* What follows a namespace; NULL until watch_start(). */
	struct pools *pools;
	struct routes *routes;
	struct listen_set *listeners;
	struct workers *workers;
};

/* Before anything else: what watch_free() may be called for. */
void watch_init(struct watch *watch, const struct conf *conf, struct loop *loop);
/*
 * Opens all namespaces. One that is missing, and that all its services wait for, is no error: a line says who waits. Asks for the capabilities that
 * following them takes. EXIT_OK, or the exit code after a line. `soft`: one that is missing is none in any case.
 */
enum exit_code watch_pin(struct watch *watch, bool soft);
/* Begins to follow them. A watch that the kernel refuses is no error: then changes are noticed later. */
void watch_start(struct watch *watch, uint8_t kind, struct pools *pools, struct routes *routes, struct listen_set *listeners, struct workers *workers);
/* Looks at all of them; to be called every few seconds. */
void watch_supervise(struct watch *watch);
/* Workers came or went: says which namespaces are served now. */
void watch_recheck(struct watch *watch);
void watch_stop(struct watch *watch);
void watch_free(struct watch *watch);

#endif
