/* SPDX-License-Identifier: ISC */
/*
 * Engine "adaptive": copy or splice, per direction, by what the traffic looks like.
 * Runs in: worker
 *
 * Theory of operation: a direction starts as copy, which is cheapest for messages. Reads that fill the buffer twice in a row say that bytes
 * arrive faster than we fetch them: from then on it is spliced. Moves that stay small several times in a row make it copy again.
 * The switch happens between two calls; what is pending stays where it is, and both pumps write that first.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine_adaptive.h"

#include "engine_copy.h"
#include "engine_pool.h"
#include "engine_splice.h"

/* Full reads in a row that make a direction bulk. */
#define FULL_READS 2
/* Bytes; a call that emptied the source and moved less was small, and so many in a row end bulk. */
#define SMALL_MOVE (32u * 1024)
#define SMALL_MOVES 4

static enum pump_result
pump_messages(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	enum pump_result result = copy_flush(pair, d);

	for (int i = 0; i < COPY_ROUNDS && result == PUMP_MORE && dir->full < FULL_READS; i++)
		result = copy_once(pair, d);
	if (dir->full >= FULL_READS) {
		dir->bulk = true;
		dir->full = dir->small = 0;
	}
	return result;
}

static enum pump_result
pump_bulk(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	uint64_t before = dir->total;
	enum pump_result result = splice_pump(pair, d);

	if (result != PUMP_BLOCKED_IN || dir->marked)
		return result;
	if (dir->total - before >= SMALL_MOVE)
		dir->small = 0;
	else if (++dir->small >= SMALL_MOVES)
		dir->bulk = false;
	return result;
}

static enum pump_result
adaptive_pump(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	enum pump_result result = PUMP_MORE;

	if (!dir->bulk)
		result = pump_messages(pair, d);
	return dir->bulk && result == PUMP_MORE ? pump_bulk(pair, d) : result;
}

const struct engine_ops engine_adaptive = {
	.id = ENGINE_ADAPTIVE,
	.pump = adaptive_pump,
	.tick = splice_tick,
	.unclog = splice_unclog,
	.stop = splice_stop,
	.syscalls = splice_syscalls,
};
