/* SPDX-License-Identifier: ISC */
/*
 * The one visible table of engines, and what they share at start.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <string.h>

#include "engine.h"
#include "engine_adaptive.h"
#include "engine_copy.h"
#include "engine_pool.h"
#include "engine_splice.h"
#ifdef HAVE_LIBURING
#include "engine_uring.h"
#endif

static const struct engine_ops *const engine_table[ENGINES] = {
	[ENGINE_ADAPTIVE] = &engine_adaptive,
	[ENGINE_COPY] = &engine_copy,
	[ENGINE_SPLICE] = &engine_splice,
#ifdef HAVE_LIBURING
	[ENGINE_IO_URING] = &engine_uring,
#endif
};

const struct engine_ops *
engine_by_id(unsigned id)
{
	return id < ENGINES ? engine_table[id] : NULL;
}

int
engines_open(const struct engine_host *host, uint32_t max_conns, int first_pipe, uint32_t n_pipes)
{
	return pool_open(host, max_conns, first_pipe, n_pipes);
}

uint32_t
engines_pipe_size(void)
{
	return pool_pipe_size();
}

uint32_t
engines_pipes_used(void)
{
	return pool_pipes_used();
}

bool
engines_want_trim(void)
{
	return pool_wants_trim();
}

void
engines_trim(void)
{
	pool_trim();
}

void
pair_init(struct pair *pair, uint32_t slot)
{
	memset(pair, 0, sizeof(*pair));
	pair->fd[SIDE_CLIENT] = pair->fd[SIDE_TARGET] = -1;
	pair->slot = slot;
	for (int d = 0; d < SIDES; d++) {
		pair->dir[d].block = NO_BLOCK;
		pair->dir[d].pipe = NO_PIPE;
	}
}
