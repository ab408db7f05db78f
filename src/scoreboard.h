/* SPDX-License-Identifier: ISC */
/*
 * Counters and live connections of one worker in a sealed memfd: the worker writes, parent and reporter only read.
 * Readers load a field once, atomically, and clamp it; what they read is never an index, a length or a bound.
 * Runs in: any
 */
#ifndef SCOREBOARD_H
#define SCOREBOARD_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "msg.h"

/* Connect times of connections that got to their target; durations of all that ended. */
enum sb_histogram_id { SB_CONNECT, SB_DURATION, SB_HISTOGRAMS };
#define SB_BUCKETS 13			/* the last one is for what is beyond all bounds */
/* Upper bounds of the buckets but the last, in us, inclusive. The one place: workers count by them, the reporter shows them. */
extern const uint64_t sb_bounds[SB_HISTOGRAMS][SB_BUCKETS - 1];

struct sb_histogram {
	_Atomic uint64_t sum;		/* us */
	_Atomic uint64_t buckets[SB_BUCKETS];	/* each by itself, not added up */
};

/* Nothing but counters of 64 bits (asserted): sb_service_add() goes over them as an array. */
struct sb_service {
	_Atomic uint64_t taken;		/* descriptors received for it */
	_Atomic uint64_t finished;
	_Atomic uint64_t bytes[2];	/* delivered, by direction; of connections that live, too */
	_Atomic uint64_t ends[CONN_ENDS_COUNT];
	struct sb_histogram histograms[SB_HISTOGRAMS];
};

struct sb_row {
	_Atomic uint32_t seq;		/* odd while its worker writes the row */
	_Atomic uint32_t used;		/* 1: holds a connection that lives, or one that ended and is not reported yet */
	struct conn_record rec;
};

struct sb_head {
	uint32_t version, max_conns, n_services, pad;
	_Atomic uint64_t taken;		/* descriptors received */
	_Atomic uint64_t finished;	/* connections ended, for whatever reason */
	_Atomic uint64_t dropped;	/* records and log lines that the reporter never got */
	_Atomic uint64_t turns;		/* of the loop */
	_Atomic uint64_t pipes_used;
	_Atomic uint64_t rows_used;	/* rows from this number on were never used: reading them would only cost memory */
};

struct scoreboard {
	void *map;			/* NULL: not mapped */
	size_t size;
	struct sb_head *head;
	struct sb_service *services;	/* [n_services] */
	struct sb_row *rows;		/* [max_conns] */
	uint32_t max_conns, n_services;	/* from the parent, not from the map */
};

/* Room is for so many services at least: with some to spare, so that a service that is added later finds its place. */
#define SB_SERVICES_STEP 64u
static inline uint32_t sb_services_room(size_t n_services)
{
	return (uint32_t)((n_services + SB_SERVICES_STEP - 1) / SB_SERVICES_STEP * SB_SERVICES_STEP);
}

size_t scoreboard_size(uint32_t max_conns, uint32_t n_services);
/* A sealed memfd of the right size, header filled in; the caller owns it. -1 with errno. */
int scoreboard_create(uint32_t max_conns, uint32_t n_services);
/* A second, read-only descriptor of the same memory, for readers. -1 with errno. */
int scoreboard_reader_fd(int fd);
/* Maps; does not take fd. -1 with errno (EPROTO: not a scoreboard of these sizes and this version). */
int scoreboard_map(struct scoreboard *sb, int fd, int writable, uint32_t max_conns, uint32_t n_services);
void scoreboard_unmap(struct scoreboard *sb);
/* How many rows, from the first on, are worth reading. */
uint32_t scoreboard_rows(const struct scoreboard *sb);
/* Copies row i as it stood at one moment. 1: used; 0: free, or its writer never let go. */
int scoreboard_read_row(const struct scoreboard *sb, uint32_t i, struct conn_record *rec);

/* For the one writer: one more value, in us. */
void sb_observe(struct sb_histogram *histogram, enum sb_histogram_id which, uint64_t us);
/* to += from, counter by counter. What is absurdly great in `from` (a worker may write anything) counts as SB_COUNT_MOST. */
void sb_service_add(struct sb_service *to, const struct sb_service *from);
#define SB_COUNT_MOST (UINT64_C(1) << 53)	/* beyond this a number of Prometheus, which is a double, is not exact any more */

static inline uint64_t sb_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* For the one writer: plain stores that readers never see torn. */
static inline void sb_set(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}

static inline void sb_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif
