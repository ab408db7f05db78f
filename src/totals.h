/* SPDX-License-Identifier: ISC */
/*
 * Counters that outlive the process they belong to: what the parent counts, and the sums over workers that are gone.
 * Runs in: any
 *
 * Theory of operation: two sealed memfds, made once and kept over every restart, reload and upgrade. Each has one writer: the parent writes its
 * own, which others can only read, so that it may go on with what it finds there after an upgrade; the reporter writes the sums, which the
 * parent never reads.
 *
 * A metric is its sum over the workers that are gone plus its counter in each scoreboard that is mapped. When a worker has gone its scoreboard is
 * added to the sums, exactly once even if the reporter dies on the way: deaths are numbered by the parent and told in order; the sums exist twice
 * and hold the number of the last death that is in them; a new state is made in the copy that nobody reads, then one store makes it the valid one.
 * While a new image's reporter starts, the one before may still be there: who makes a state holds a lock, which is taken from one that died with it.
 */
#ifndef TOTALS_H
#define TOTALS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "scoreboard.h"

/* Services beyond have no sums: their counters are those of the workers that live. Memory is only used for services that there are. */
#define TOTALS_SERVICES 4096u

/* Counters and measures of the parent. TOTALS_DEATHS only numbers what MSG_GONE tells. */
#define TOTALS_PARENT(X)                                                                                                              \
	X(STARTED)		/* CLOCK_REALTIME, ns, when the first image started */                                                \
	X(ACCEPTED)		/* clients that were given to a worker */                                                             \
	X(REFUSED)		/* clients that were reset since their private namespace is missing or their service is drained */    \
	X(WORKER_DEATHS)	/* of workers that were not told to end */                                                            \
	X(REPORTER_DEATHS)	/* likewise */                                                                                        \
	X(RELOADS) X(RELOAD_FAILURES) X(UPGRADES) X(UPGRADE_FAILURES)                                                                 \
	X(RELOADED)		/* CLOCK_REALTIME, ns, when the configuration in effect was read */                                   \
	X(RELOAD_GOOD)		/* 1: the last reload or upgrade worked, or there was none */                                          \
	X(WORKERS_WANTED)                                                                                                             \
	X(LISTENERS) X(LISTENERS_PAUSED)                                                                                              \
	X(PAUSES)		/* how often a listener was paused */                                                                 \
	X(UNTAKEN)		/* clients on their way to a worker, at the last look, like all that follows */                       \
	X(BACKLOG)		/* clients that wait in the kernel for being accepted */                                              \
	X(FDS) X(FDS_MOST)	/* descriptors of the parent */                                                                       \
	X(DEATHS)
enum totals_id {
#define X(name) TOTALS_##name,
	TOTALS_PARENT(X)
#undef X
	TOTALS_IDS
};

struct totals_parent {
	uint32_t version, pad;
	_Atomic uint64_t values[TOTALS_IDS];
};

struct totals_service {
	char name[ROUTE_SERVICE_MAX];	/* whose sums these are: a number may come to mean another service */
	struct sb_service sums;
};

struct totals_sums {
	uint64_t death;			/* number of the last one that is in here */
	uint64_t dropped;		/* struct sb_head.dropped */
	uint32_t n_services, pad;	/* [0, n_services) were ever used */
	struct totals_service services[TOTALS_SERVICES];
};

struct totals_gone {
	uint32_t version;
	_Atomic uint32_t valid;		/* which of the two */
	_Atomic uint32_t locked;	/* 1: somebody makes the next state */
	uint32_t pad;
	_Atomic uint64_t lines_lost;	/* lines of log or access log that found no room */
	struct totals_sums sums[2];
};

/* What the parent holds. */
struct totals {
	int parent_fd;			/* writable; owned, like the next two; -1: none */
	int parent_reader;		/* the same memory, read-only, for the reporter */
	int gone_fd;
	struct totals_parent *parent;	/* mapped */
};

/* Made anew; 0 or -1 with errno. STARTED and RELOAD_GOOD are set. */
int totals_create(struct totals *totals);
/* Takes both descriptors, which an earlier image made. 0, or -1 with errno (EPROTO: of another version or size); then nothing is taken. */
int totals_adopt(struct totals *totals, int parent_fd, int gone_fd);
/* Nothing is held. For a struct that was zeroed, too. */
void totals_init(struct totals *totals);
void totals_free(struct totals *totals);

/* What the reporter maps. */
struct totals_view {
	const struct totals_parent *parent;	/* NULL: not mapped */
	struct totals_gone *gone;
	bool named[TOTALS_SERVICES];	/* by totals_name(), of this view */
};

/* fds: parent_reader, gone_fd. Does not take them. 0 or -1 with errno. */
int totals_map(struct totals_view *view, const int fds[2]);
void totals_unmap(struct totals_view *view);
/* The valid sums. */
const struct totals_sums *totals_sums(const struct totals_view *view);
/* Service number i is called so from now on; sums of another one under this number are forgotten. */
void totals_name(struct totals_view *view, uint32_t i, const char *name);
/*
 * Worker number `death` to die has left this scoreboard, and lost[i] connections of service i with it (NULL: none). False: it is in the sums
 * already, nothing was done.
 */
bool totals_fold(struct totals_view *view, uint64_t death, const struct scoreboard *board, const uint32_t *lost);

/* For the parent. */
static inline void
totals_add(struct totals *totals, enum totals_id id, uint64_t n)
{
	if (totals->parent != NULL)
		sb_add(&totals->parent->values[id], n);
}

static inline void
totals_set(struct totals *totals, enum totals_id id, uint64_t value)
{
	if (totals->parent != NULL)
		atomic_store_explicit(&totals->parent->values[id], value, memory_order_relaxed);
}

#endif
