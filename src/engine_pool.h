/* SPDX-License-Identifier: ISC */
/*
 * What the engines of one worker share: the bounce buffer, blocks for bytes that a blocked receiver leaves, pipes. All of it exists from the
 * start; taking and giving back never fails for want of memory.
 * Runs in: worker
 */
#ifndef ENGINE_POOL_H
#define ENGINE_POOL_H

#include <stdint.h>

#include "engine.h"

#define BLOCK_SIZE 65536u		/* bytes: what one read takes at most, so that one block always holds its rest */

struct pool_pipe {
	int out, in;			/* reading end, writing end */
	uint32_t size;			/* bytes, as F_GETPIPE_SZ says */
};

/* The pipes stand at first_pipe, first_pipe + 1 (reading end, writing end) and so on; the pool closes nothing. 0 or -1 with errno. */
int pool_open(const struct engine_host *host, uint32_t max_conns, int first_pipe, uint32_t n_pipes);
const struct engine_host *pool_host(void);
/* One for the whole worker: nothing stays in it over a return to the loop. BLOCK_SIZE bytes. */
char *pool_bounce(void);
/* There is one for each direction of each connection, so this never fails (asserted). Its next one is NO_BLOCK. */
uint32_t pool_take_block(void);
/* One more behind the last of a chain; NO_BLOCK when the spare ones are all in use. */
uint32_t pool_take_spare_block(uint32_t last);
/* The block behind this one in its chain; NO_BLOCK: it is the last. */
uint32_t pool_next_block(uint32_t block);
/* Only this one, not its chain. */
void pool_give_block(uint32_t block);
char *pool_block(uint32_t block);
/* NO_PIPE when all are in use. The pipe is empty. */
uint16_t pool_take_pipe(void);
/* Only an empty pipe may come back this way. */
void pool_give_pipe(uint16_t pipe);
/* Are there so many blocks beyond one for each direction? */
bool pool_has_spare(uint32_t blocks);
/* Takes exactly n bytes, which the pipe holds, out of it (asserted: a byte that stayed would go to another connection). */
void pool_read_pipe(uint16_t pipe, char *bytes, uint32_t n);
/* A pipe that still holds bytes of a connection that ended: read empty, then given back. */
void pool_give_dirty_pipe(uint16_t pipe, uint32_t bytes);
const struct pool_pipe *pool_pipe(uint16_t pipe);
bool pool_wants_trim(void);
/* Gives the memory of blocks that are not in use back to the system. */
void pool_trim(void);
/* Bytes of the smallest pipe, 0 without pipes. */
uint32_t pool_pipe_size(void);
uint32_t pool_pipes_used(void);

#endif
