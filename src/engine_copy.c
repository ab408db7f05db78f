/* SPDX-License-Identifier: ISC */
/*
 * Engine "copy": read into the worker's one buffer, write from it. The plainest relay that is right, the fallback and the oracle of the others.
 * Runs in: worker
 *
 * Theory of operation: a direction reads only while nothing of it is pending, at most BLOCK_SIZE bytes, so its bound is one block. What the
 * receiver does not take moves into a block of the pool and is written when the receiver is writable again.
 *
 * A read that brings less than was asked for has emptied a TCP socket (epoll(7), question 9), so the usual EAGAIN need not be fetched; unless
 * the relay saw urgent data, an end or an error coming (dir->more): urgent data cuts reads short, and an end has no event after it. A unix
 * socket's read is also cut short by a descriptor that came along (unix(7)), so there nothing but EAGAIN counts.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine_copy.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine_pool.h"

/* Keeps what was read and not written. Only called with an empty block. */
static void
keep(struct pair_dir *dir, const char *bytes, size_t n)
{
	dir->block = pool_take_block();
	dir->block_off = 0;
	dir->pending = (uint32_t)n;
	memcpy(pool_block(dir->block), bytes, n);
}

/*
 * write(2) and not send(2), whose flags could also connect (MSG_FASTOPEN), so that the filter had to look at them for every message. The
 * sockets are non-blocking and SIGPIPE is ignored.
 *
 * PUMP_MORE: all n written; PUMP_BLOCKED_OUT, PUMP_STARVED: only *written of them; PUMP_ERROR_OUT.
 */
static enum pump_result
write_some(int fd, const char *bytes, size_t n, size_t *written)
{
	ssize_t r;

	*written = 0;
	do
		r = write(fd, bytes, n);
	while (r == -1 && errno == EINTR);
	if (r == -1 && errno == EAGAIN)
		return PUMP_BLOCKED_OUT;
	if (r == -1)
		return errno_is_starved(errno) ? PUMP_STARVED : PUMP_ERROR_OUT;
	*written = (size_t)r;
	/* The kernel that took only a part has armed its "writable again" event already (sk_stream_wait_memory). */
	return *written < n ? PUMP_BLOCKED_OUT : PUMP_MORE;
}

/* The first block of the chain is written, or not wanted any more. */
static void
give_first_block(struct pair_dir *dir)
{
	uint32_t next = pool_next_block(dir->block);

	pool_give_block(dir->block);
	dir->block = next;
	dir->block_off = 0;
}

enum pump_result
copy_flush(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	enum pump_result result;
	size_t written;

	while (dir->block != NO_BLOCK) {
		uint32_t n = BLOCK_SIZE - dir->block_off < dir->pending ? BLOCK_SIZE - dir->block_off : dir->pending;

		result = write_some(pair->fd[!d], pool_block(dir->block) + dir->block_off, n, &written);
		dir->total += written;
		dir->block_off += (uint32_t)written;
		dir->pending -= (uint32_t)written;
		if (written < n)
			return result;
		give_first_block(dir);
	}
	return PUMP_MORE;
}

/* The result for a read that brought no bytes. */
static enum pump_result
read_ended(struct pair_dir *dir, ssize_t n)
{
	if (n == 0)
		return PUMP_EOF;
	if (errno_is_starved(errno))
		return PUMP_STARVED;
	if (errno != EAGAIN)
		return PUMP_ERROR_IN;
	dir->more = false;
	return PUMP_BLOCKED_IN;
}

enum pump_result
copy_once(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	char *bounce = pool_bounce();
	enum pump_result result;
	size_t written;
	ssize_t n;

	do
		n = recv(pair->fd[d], bounce, BLOCK_SIZE, MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n <= 0)
		return read_ended(dir, n);
	result = write_some(pair->fd[!d], bounce, (size_t)n, &written);
	if (result == PUMP_ERROR_OUT)
		return result;
	dir->total += written;
	if (n < (ssize_t)BLOCK_SIZE)
		dir->full = 0;
	else if (dir->full < UINT8_MAX)
		dir->full++;
	if (written < (size_t)n) {
		keep(dir, bounce + written, (size_t)n - written);
		return result;
	}
	return n < (ssize_t)BLOCK_SIZE && !dir->more && pair->is_tcp[d] ? PUMP_BLOCKED_IN : PUMP_MORE;
}

enum pump_result
copy_pump(struct pair *pair, int d)
{
	enum pump_result result = copy_flush(pair, d);

	for (int i = 0; i < COPY_ROUNDS && result == PUMP_MORE; i++)
		result = copy_once(pair, d);
	return result;
}

bool
copy_stop(struct pair *pair)
{
	for (int d = 0; d < SIDES; d++) {
		while (pair->dir[d].block != NO_BLOCK)
			give_first_block(&pair->dir[d]);
		pair->dir[d].pending = 0;
	}
	return true;
}

const struct engine_ops engine_copy = {
	.id = ENGINE_COPY,
	.pump = copy_pump,
	.stop = copy_stop,
};
