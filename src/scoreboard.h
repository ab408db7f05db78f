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

struct sb_service {
	_Atomic uint64_t taken;		/* descriptors received for it */
	_Atomic uint64_t finished;
	_Atomic uint64_t bytes[2];	/* of finished connections */
	_Atomic uint64_t ends[CONN_ENDS_COUNT];
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
};

struct scoreboard {
	void *map;			/* NULL: not mapped */
	size_t size;
	struct sb_head *head;
	struct sb_service *services;	/* [n_services] */
	struct sb_row *rows;		/* [max_conns] */
	uint32_t max_conns, n_services;	/* from the parent, not from the map */
};

size_t scoreboard_size(uint32_t max_conns, uint32_t n_services);
/* A sealed memfd of the right size, header filled in; the caller owns it. -1 with errno. */
int scoreboard_create(uint32_t max_conns, uint32_t n_services);
/* A second, read-only descriptor of the same memory, for readers. -1 with errno. */
int scoreboard_reader_fd(int fd);
/* Maps; does not take fd. -1 with errno (EPROTO: not a scoreboard of these sizes and this version). */
int scoreboard_map(struct scoreboard *sb, int fd, int writable, uint32_t max_conns, uint32_t n_services);
void scoreboard_unmap(struct scoreboard *sb);
/* Copies row i as it stood at one moment. 1: used; 0: free, or its writer never let go. */
int scoreboard_read_row(const struct scoreboard *sb, uint32_t i, struct conn_record *rec);

static inline uint64_t sb_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* For the one writer: a plain add that readers never see torn. */
static inline void sb_add(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

#endif
