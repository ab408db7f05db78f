/* SPDX-License-Identifier: ISC */
/*
 * What the engines of one worker share.
 * Runs in: worker
 *
 * Theory of operation: blocks are reserved address space, one block for each direction of each connection; memory comes to them when they
 * are first written and goes again in pool_trim(). Both free lists are stacks, so what was used last, and is warm in the cache, is used next.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine_pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "log.h"

/* Blocks beyond one for each direction, for those that give their pipe back: 256 MiB of bytes that stuck receivers leave. */
#define SPARE_BLOCKS 4096u
/* Free blocks that may keep their memory, so that everyday use never touches the system. */
#define WARM_BLOCKS 16u

static struct {
	const struct engine_host *host;
	char bounce[BLOCK_SIZE];
	char *blocks;
	uint32_t *next_block;		/* [blocks] chains */
	uint32_t *free_blocks;		/* stack */
	uint32_t n_free_blocks, own_blocks;	/* of all blocks, own_blocks are not spare */
	uint32_t dirty_from;		/* free_blocks[dirty_from ...] were used since the last trim */
	struct pool_pipe *pipes;
	uint16_t *free_pipes;		/* stack */
	uint16_t n_free_pipes, n_pipes;
} pool;

static int
open_blocks(uint32_t max_conns)
{
	uint32_t n = 2 * max_conns + SPARE_BLOCKS;

	pool.free_blocks = calloc(n, sizeof(*pool.free_blocks));
	pool.next_block = calloc(n, sizeof(*pool.next_block));
	if (pool.free_blocks == NULL || pool.next_block == NULL)
		return -1;
	pool.own_blocks = 2 * max_conns;
	pool.blocks = mmap(NULL, (size_t)n * BLOCK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (pool.blocks == MAP_FAILED)
		return -1;
	/* Huge pages would give one blocked direction two megabytes. */
	(void)madvise(pool.blocks, (size_t)n * BLOCK_SIZE, MADV_NOHUGEPAGE);
	for (uint32_t i = 0; i < n; i++)
		pool.free_blocks[i] = n - 1 - i;
	pool.n_free_blocks = pool.dirty_from = n;
	return 0;
}

static int
open_pipes(int first, uint32_t n)
{
	pool.pipes = calloc(n + 1, sizeof(*pool.pipes));
	pool.free_pipes = calloc(n + 1, sizeof(*pool.free_pipes));
	if (pool.pipes == NULL || pool.free_pipes == NULL)
		return -1;
	for (uint32_t i = 0; i < n; i++) {
		struct pool_pipe *pipe = &pool.pipes[i];
		int size;

		pipe->out = first + (int)(2 * i);
		pipe->in = pipe->out + 1;
		size = fcntl(pipe->in, F_GETPIPE_SZ);
		if (size == -1)
			return -1;
		pipe->size = (uint32_t)size;
		pool.free_pipes[n - 1 - i] = (uint16_t)i;
	}
	pool.n_pipes = pool.n_free_pipes = (uint16_t)n;
	return 0;
}

int
pool_open(const struct engine_host *host, uint32_t max_conns, int first_pipe, uint32_t n_pipes)
{
	pool.host = host;
	return open_blocks(max_conns) == -1 ? -1 : open_pipes(first_pipe, n_pipes);
}

const struct engine_host *
pool_host(void)
{
	return pool.host;
}

char *
pool_bounce(void)
{
	return pool.bounce;
}

uint32_t
pool_take_block(void)
{
	ASSERT(pool.n_free_blocks > 0);
	pool.n_free_blocks--;
	if (pool.dirty_from > pool.n_free_blocks)
		pool.dirty_from = pool.n_free_blocks;
	pool.next_block[pool.free_blocks[pool.n_free_blocks]] = NO_BLOCK;
	return pool.free_blocks[pool.n_free_blocks];
}

/* Any free block may serve, as long as every direction's own one stays there for it. */
uint32_t
pool_take_spare_block(uint32_t last)
{
	if (pool.n_free_blocks <= pool.own_blocks)
		return NO_BLOCK;
	pool.next_block[last] = pool_take_block();
	return pool.next_block[last];
}

uint32_t
pool_next_block(uint32_t block)
{
	return pool.next_block[block];
}

void
pool_give_block(uint32_t block)
{
	pool.free_blocks[pool.n_free_blocks++] = block;
}

char *
pool_block(uint32_t block)
{
	return pool.blocks + (size_t)block * BLOCK_SIZE;
}

uint16_t
pool_take_pipe(void)
{
	return pool.n_free_pipes > 0 ? pool.free_pipes[--pool.n_free_pipes] : NO_PIPE;
}

void
pool_give_pipe(uint16_t pipe)
{
	ASSERT(pool.n_free_pipes < pool.n_pipes);
	pool.free_pipes[pool.n_free_pipes++] = pipe;
}

bool
pool_has_spare(uint32_t blocks)
{
	return pool.n_free_blocks >= pool.own_blocks + blocks;
}

void
pool_read_pipe(uint16_t pipe, char *bytes, uint32_t n)
{
	while (n > 0) {
		ssize_t r = read(pool.pipes[pipe].out, bytes, n);

		if (r == -1 && errno == EINTR)
			continue;
		ASSERT(r > 0);
		bytes += r;
		n -= (uint32_t)r;
	}
}

/* The bytes belonged to a connection that is being reset: its ends learn of that, so reading them away loses nothing in silence. */
void
pool_give_dirty_pipe(uint16_t pipe, uint32_t bytes)
{
	while (bytes > 0) {
		uint32_t n = bytes < sizeof(pool.bounce) ? bytes : (uint32_t)sizeof(pool.bounce);

		pool_read_pipe(pipe, pool.bounce, n);
		bytes -= n;
	}
	pool_give_pipe(pipe);
}

const struct pool_pipe *
pool_pipe(uint16_t pipe)
{
	return &pool.pipes[pipe];
}

/* Free blocks below this give their memory back. */
static uint32_t
cold_blocks(void)
{
	return pool.n_free_blocks > WARM_BLOCKS ? pool.n_free_blocks - WARM_BLOCKS : 0;
}

bool
pool_wants_trim(void)
{
	return pool.dirty_from < cold_blocks();
}

void
pool_trim(void)
{
	uint32_t keep = cold_blocks();

	for (uint32_t i = pool.dirty_from; i < keep; i++)
		(void)madvise(pool_block(pool.free_blocks[i]), BLOCK_SIZE, MADV_DONTNEED);
	if (pool.dirty_from < keep)
		pool.dirty_from = keep;
}

uint32_t
pool_pipe_size(void)
{
	uint32_t least = pool.n_pipes > 0 ? UINT32_MAX : 0;

	for (uint16_t i = 0; i < pool.n_pipes; i++) {
		if (pool.pipes[i].size < least)
			least = pool.pipes[i].size;
	}
	return least;
}

uint32_t
pool_pipes_used(void)
{
	return pool.n_pipes - pool.n_free_pipes;
}
