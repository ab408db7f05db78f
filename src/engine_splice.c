/* SPDX-License-Identifier: ISC */
/*
 * Engine "splice": socket to pipe to socket, no byte comes to user space.
 * Runs in: worker
 *
 * Theory of operation: a direction owns a pipe only while bytes are in it: taken from the worker's pool before a read, given back as soon as
 * it is empty. Without a free pipe the direction is copied. A pipe is always emptied before the next read, so an EAGAIN of a read can only
 * mean that the socket is empty, or that splice refuses to read: past urgent data it says EAGAIN for ever. One recv() tells which, and
 * takes the urgent byte; it is made when the relay saw urgent data (dir->more) and whenever an event promised bytes and splice found none.
 * Once the end of the stream has arrived behind the urgent data splice says "end" there, so an end counts only when recv() says it, too.
 *
 * Never SPLICE_F_MORE: it is MSG_MORE and holds bytes back for 200 ms.
 *
 * A receiver that stops would keep its pipe from everyone else. So a direction that has not shown that it moves a lot puts at most CAREFUL
 * bytes into its pipe, and when it has been stuck for a while they are read into blocks of memory and the pipe is free again (splice_unclog).
 *
 * Low-water marks: a direction that moved a lot several times in a row is bulk. SO_RCVLOWAT on its source then wakes us for a megabyte
 * at a time instead of for every segment. So that the tail of a burst never waits longer than a millisecond, such pairs are looked at every
 * half one (splice_tick), and the mark goes when little is found. An end or an error of the stream wakes regardless (tcp(7), tcp_poll()).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine_splice.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "engine_copy.h"
#include "engine_pool.h"

/* Moves of up to a pipe's size in one call, so that one busy direction does not hold up the others. */
#define SPLICE_ROUNDS 8
/* Bytes in the pipe of a direction that is not marked: 256 KiB. */
#define CAREFUL (4u * BLOCK_SIZE)
/* A call that moved this much was large; so many in a row make a direction bulk worth marking, and so many with less take the mark back. */
#define LARGE_MOVE (128u * 1024)
#define LARGE_MOVES 3
#define SMALL_TICKS 2
/* The mark, bytes, where there is room for it. */
#define LOW_WATER (1024 * 1024)
/* Bytes that the receive buffer of a marked direction should take: well beyond twice the mark. */
#define ROOM (4 * 1024 * 1024)
/* ns; asked twice as often as the millisecond that is promised. */
#define TICK_AFTER 500000u

const struct sandbox_rule splice_syscalls[] = {
	{ "splice", -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } },
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
};

/*
 * A mark may raise the receive buffer, but only so far that the window is as large as the mark (tcp_set_rcvlowat): the sender would stop each time
 * before we are woken. Asking for ROOM first makes room for the sender to go on meanwhile; the kernel grants at most half of the maximum of
 * net.ipv4.tcp_rmem (3 MiB of the usual 6), and the mark is half of what is granted where that is little.
 */
static int
make_room(int fd)
{
	int room = ROOM;
	socklen_t size = sizeof(room);

	if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &room, sizeof(room)) == -1 || getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &room, &size) == -1)
		return 1;
	return room / 2 < LOW_WATER ? room / 2 : LOW_WATER;
}

/* Failing is no error: without the mark we are only woken more often. */
static void
set_mark(struct pair *pair, int d, bool wanted)
{
	int bytes = wanted ? make_room(pair->fd[d]) : 1;

	(void)setsockopt(pair->fd[d], SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof(bytes));
	pair->dir[d].marked = bytes > 1;
	pair->dir[d].large = pair->dir[d].small = 0;
}

void
splice_unmark(struct pair *pair, int d)
{
	if (pair->dir[d].marked)
		set_mark(pair, d, false);
}

static void
give_pipe_back(struct pair_dir *dir)
{
	if (dir->pipe != NO_PIPE && dir->pending == 0) {
		pool_give_pipe(dir->pipe);
		dir->pipe = NO_PIPE;
	}
}

/* Pipe to destination: PUMP_MORE when the pipe is empty, else as the pump. */
static enum pump_result
drain_pipe(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];

	while (dir->pending > 0) {
		ssize_t n = splice(pool_pipe(dir->pipe)->out, NULL, pair->fd[!d], NULL, dir->pending, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n > 0) {
			dir->pending -= (uint32_t)n;
			dir->total += (uint64_t)n;
		} else if (n == 0 || errno == EAGAIN) {
			return PUMP_BLOCKED_OUT;
		} else if (errno != EINTR) {
			return errno_is_starved(errno) ? PUMP_STARVED : PUMP_ERROR_OUT;
		}
	}
	return PUMP_MORE;
}

/* Source to (empty) pipe: PUMP_MORE when bytes came; else as the pump, where PUMP_BLOCKED_IN is only what splice says. */
static enum pump_result
fill_pipe(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	const struct pool_pipe *pipe = pool_pipe(dir->pipe);
	uint32_t most = dir->marked || pipe->size < CAREFUL ? pipe->size : CAREFUL;
	ssize_t n;

	do
		n = splice(pair->fd[d], NULL, pipe->in, NULL, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n == -1 && errno == EINTR);
	if (n > 0) {
		dir->pending = (uint32_t)n;
		return PUMP_MORE;
	}
	if (n == 0)
		return PUMP_EOF;
	if (errno == EAGAIN)
		return PUMP_BLOCKED_IN;
	return errno_is_starved(errno) ? PUMP_STARVED : PUMP_ERROR_IN;
}

/* One move through the pipe. An EAGAIN that cannot be trusted, and every end, is asked again of recv. */
static enum pump_result
splice_once(struct pair *pair, int d, bool first)
{
	struct pair_dir *dir = &pair->dir[d];
	enum pump_result result;

	if (dir->pipe == NO_PIPE)
		dir->pipe = pool_take_pipe();
	if (dir->pipe == NO_PIPE)
		return copy_once(pair, d);
	result = fill_pipe(pair, d);
	if (result == PUMP_MORE)
		return drain_pipe(pair, d);
	give_pipe_back(dir);
	if (result == PUMP_EOF || (result == PUMP_BLOCKED_IN && (first || dir->more)))
		return copy_once(pair, d);
	return result;
}

/* After a call that emptied the source: is the direction bulk, still or now? */
static void
judge(struct pair *pair, int d, uint64_t moved)
{
	struct pair_dir *dir = &pair->dir[d];
	const struct engine_host *host = pool_host();

	if (dir->marked) {
		if (moved >= LARGE_MOVE)
			dir->small = 0;
		else if (++dir->small >= SMALL_TICKS)
			set_mark(pair, d, false);
	} else if (moved < LARGE_MOVE || !pair->is_tcp[d]) {
		dir->large = 0;
	} else if (++dir->large >= LARGE_MOVES) {
		set_mark(pair, d, true);
	}
	if (dir->marked)
		host->want_tick(host->owner, pair);
}

enum pump_result
splice_pump(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	uint64_t before = dir->total;
	enum pump_result result = dir->pipe != NO_PIPE ? drain_pipe(pair, d) : copy_flush(pair, d);

	for (int i = 0; i < SPLICE_ROUNDS && result == PUMP_MORE; i++)
		result = splice_once(pair, d, i == 0 && dir->total == before);
	give_pipe_back(dir);
	if (dir->total != before)
		dir->moved_at = *pool_host()->now;
	if (result == PUMP_BLOCKED_IN)
		judge(pair, d, dir->total - before);
	return result;
}

enum tick_result
splice_tick(struct pair *pair, int d)
{
	const struct pair_dir *dir = &pair->dir[d];

	/* Blocked by its receiver: the receiver's event goes on, and judge() asks for ticks again. */
	if (!dir->marked || dir->pending > 0)
		return TICK_DONE;
	return *pool_host()->now - dir->moved_at >= TICK_AFTER ? TICK_PUMP : TICK_LATER;
}

void
splice_unclog(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];
	uint32_t left = dir->pending, block = NO_BLOCK;

	if (dir->pipe == NO_PIPE || left == 0 || !pool_has_spare((left + BLOCK_SIZE - 1) / BLOCK_SIZE))
		return;
	while (left > 0) {
		uint32_t n = left < BLOCK_SIZE ? left : BLOCK_SIZE;

		block = block == NO_BLOCK ? dir->block = pool_take_block() : pool_take_spare_block(block);
		pool_read_pipe(dir->pipe, pool_block(block), n);
		left -= n;
	}
	dir->block_off = 0;
	pool_give_pipe(dir->pipe);
	dir->pipe = NO_PIPE;
}

bool
splice_stop(struct pair *pair)
{
	for (int d = 0; d < SIDES; d++) {
		struct pair_dir *dir = &pair->dir[d];

		if (dir->pipe != NO_PIPE) {
			pool_give_dirty_pipe(dir->pipe, dir->pending);
			dir->pipe = NO_PIPE;
			dir->pending = 0;
		}
	}
	return copy_stop(pair);
}

const struct engine_ops engine_splice = {
	.id = ENGINE_SPLICE,
	.pump = splice_pump,
	.tick = splice_tick,
	.unclog = splice_unclog,
	.stop = splice_stop,
	.syscalls = splice_syscalls,
};
