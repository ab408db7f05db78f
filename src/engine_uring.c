/* SPDX-License-Identifier: ISC */
/*
 * Engine "io_uring": small messages by completions, bulk by splice's pump.
 * Runs in: worker
 *
 * Theory of operation: each direction keeps a multishot receive armed on its source. Bytes arrive in buffers of the ring and queue up here;
 * for the relay that is a readable source. Pumping submits the send of the oldest buffer, one at a time so that order is kept; until its
 * result is there, the direction is "blocked by its receiver" with those bytes pending, and the result makes it writable again. So the
 * relay's machine is the same as for every other engine, only told by results instead of by events.
 *
 * A receiver that is slow must not eat the buffers that all connections share: a direction with MOST_QUEUED of them waiting has its receive
 * cancelled until they are sent. While no receive is armed nobody would notice that the source fails, so from then on the pair is also
 * watched by epoll. Many slow receivers together can hold every buffer all the same; who finds none is pumped like bulk meanwhile.
 *
 * A direction whose buffers come full many times in a row is bulk: its receive is cancelled, and once nothing is queued it is pumped by
 * splice, told by epoll, until its moves are small again.
 *
 * Operations hold the socket open beyond close(): a pair is only over when nothing of it is in flight (stop).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine_uring.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "engine_pool.h"
#include "engine_splice.h"
#include "engine_uring_ring.h"
#include "log.h"

#define NO_BUFFER UINT16_MAX
/* Buffers of one direction that may wait for its receiver. */
#define MOST_QUEUED 8
/* Full buffers in a row that make a direction bulk. */
#define FULL_BUFFERS 16
/* Bytes; a splice call that emptied the source and moved less was small, and so many in a row end bulk. */
#define SMALL_MOVE (32u * 1024)
#define SMALL_MOVES 4

/* What the ring holds of one direction. */
struct uring_dir {
	uint16_t first, last;		/* buffers that wait, oldest first; NO_BUFFER: none */
	uint16_t offset;		/* bytes of the first one that are sent */
	uint8_t queued;
	uint8_t full;			/* full buffers in a row */
	bool receiving;			/* a receive is armed */
	bool sending;			/* the first buffer's send is in flight */
	bool cancelling;		/* the receive was told to end */
	bool ended;			/* the source ended in order */
	bool want_bulk;
	bool starved;			/* the kernel was out of memory */
	uint8_t hungry;			/* looks for a buffer in vain since so many pumps */
	uint8_t ticks;			/* since the source failed with bytes left to send */
	int error_in, error_out;	/* errno; 0: none */
};

struct uring_pair {
	struct uring_dir dir[SIDES];
	bool connecting;		/* RING_CONNECT is in flight */
	bool watched;			/* epoll watches the sockets too */
	bool stopping;
};

static struct {
	const struct engine_host *host;
	struct uring_pair *pairs;	/* [max_conns] */
	uint16_t next[RING_BUFFERS];	/* the buffer behind this one in its queue */
	uint16_t length[RING_BUFFERS];	/* bytes in it */
} engine;

static struct ring_tag
tag_of(const struct pair *pair, enum ring_op op, int d)
{
	return (struct ring_tag){ .slot = pair->slot, .op = (uint8_t)op, .d = (uint8_t)d };
}

static void
receive(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	ring_recv(tag_of(pair, RING_RECV, d), pair->fd[d]);
	dir->receiving = true;
}

static void
stop_receiving(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	if (dir->receiving && !dir->cancelling) {
		ring_cancel(tag_of(pair, RING_RECV, d));
		dir->cancelling = true;
	}
}

/* Without it we could not register, and would not learn of failures while nothing is received: then the pair cannot go on. */
static bool
watch(struct pair *pair)
{
	struct uring_pair *up = &engine.pairs[pair->slot];

	if (!up->watched)
		up->watched = engine.host->watch(engine.host->owner, pair) == 0;
	return up->watched;
}

static void
enqueue(struct pair *pair, int d, uint16_t buffer, uint32_t n)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	engine.length[buffer] = (uint16_t)n;
	engine.next[buffer] = NO_BUFFER;
	if (dir->first == NO_BUFFER)
		dir->first = buffer;
	else
		engine.next[dir->last] = buffer;
	dir->last = buffer;
	dir->queued++;
	if (n < RING_BUFFER_SIZE)
		dir->full = 0;
	else if (++dir->full >= FULL_BUFFERS)
		dir->want_bulk = true;
	if (dir->queued >= MOST_QUEUED || dir->want_bulk) {
		stop_receiving(pair, d);
		(void)watch(pair);
	}
}

static void
dequeue(struct uring_dir *dir)
{
	uint16_t buffer = dir->first;

	dir->first = engine.next[buffer];
	dir->offset = 0;
	dir->queued--;
	ring_give_buffer(buffer);
}

static void
send_first(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];
	uint32_t n = (uint32_t)engine.length[dir->first] - dir->offset;

	ring_send(tag_of(pair, RING_SEND, d), pair->fd[!d], dir->first, dir->offset, n);
	dir->sending = true;
	pair->dir[d].pending = n;
}

/* ---- results ------------------------------------------------------------------------------------------------------------------------ */

/* Results that say nothing of the connection. */
static bool
may_try_again(int res)
{
	return res == -EINTR || res == -EAGAIN || res == -ECANCELED;
}

static void
on_received(struct pair *pair, int d, const struct ring_result *result)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	if (!result->more)
		dir->receiving = dir->cancelling = false;
	if (result->buffer >= 0 && (result->res <= 0 || engine.pairs[pair->slot].stopping))
		ring_give_buffer((uint32_t)result->buffer);
	else if (result->buffer >= 0)
		enqueue(pair, d, (uint16_t)result->buffer, (uint32_t)result->res);
	if (result->res == 0)
		dir->ended = true;
	else if (result->res == -ENOBUFS)
		dir->hungry = 1;
	else if (result->res < 0 && !may_try_again(result->res) && dir->error_in == 0)
		dir->error_in = -result->res;
	/* Bytes that came before a failure are still sent if the receiver takes them within two ticks. */
	if (dir->error_in != 0 && (dir->first != NO_BUFFER || dir->sending))
		engine.host->want_tick(engine.host->owner, pair);
	engine.host->event(engine.host->owner, pair, d, EPOLLIN);
}

static void
on_sent(struct pair *pair, int d, const struct ring_result *result)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	dir->sending = false;
	pair->dir[d].pending = 0;
	if (result->res < 0) {
		dir->starved = errno_is_starved(-result->res);
		if (!may_try_again(result->res) && !dir->starved)
			dir->error_out = -result->res;
	} else {
		dir->offset = (uint16_t)(dir->offset + result->res);
		engine.host->sent(engine.host->owner, pair, d, (uint32_t)result->res);
		if (dir->offset >= engine.length[dir->first])
			dequeue(dir);
	}
	engine.host->event(engine.host->owner, pair, !d, EPOLLOUT);
}

static void
on_result(const struct ring_result *result)
{
	struct pair *pair = engine.host->pair(engine.host->owner, result->tag.slot);
	uint32_t events = result->res < 0 ? EPOLLERR : (uint32_t)result->res;	/* POLL* and EPOLL* are the same bits */

	if (result->tag.op == RING_RECV)
		on_received(pair, result->tag.d, result);
	else if (result->tag.op == RING_SEND)
		on_sent(pair, result->tag.d, result);
	else if (result->tag.op == RING_CONNECT) {
		engine.pairs[pair->slot].connecting = false;
		engine.host->event(engine.host->owner, pair, SIDE_TARGET, events);
	}
}

/* ---- hooks -------------------------------------------------------------------------------------------------------------------------- */

static int
uring_open(const struct engine_host *host, uint32_t max_conns)
{
	engine.host = host;
	engine.pairs = calloc(max_conns, sizeof(*engine.pairs));
	return engine.pairs == NULL ? -1 : ring_open(host->epoll_fd, on_result);
}

static void
uring_begin(struct pair *pair, bool connecting)
{
	struct uring_pair *up = &engine.pairs[pair->slot];

	memset(up, 0, sizeof(*up));
	up->dir[0].first = up->dir[1].first = NO_BUFFER;
	up->connecting = connecting;
	if (connecting)
		ring_connected(tag_of(pair, RING_CONNECT, 0), pair->fd[SIDE_TARGET]);
}

static enum pump_result
pump_bulk(struct pair *pair, int d)
{
	struct pair_dir *pd = &pair->dir[d];
	uint64_t before = pd->total;
	enum pump_result result = splice_pump(pair, d);

	if (result != PUMP_BLOCKED_IN || pd->marked)
		return result;
	if (pd->total - before >= SMALL_MOVE)
		pd->small = 0;
	else if (pd->small < SMALL_MOVES)
		pd->small++;
	if (pd->small >= SMALL_MOVES && ring_free_buffers() > 0) {
		pd->bulk = false;
		receive(pair, d);
	}
	return result;
}

static enum pump_result
begin_bulk(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	dir->want_bulk = false;
	dir->full = dir->hungry = 0;
	pair->dir[d].bulk = true;
	pair->dir[d].small = 0;
	return pump_bulk(pair, d);
}

/*
 * Arms the receive. Without a free buffer it would fail at once: the next turn may have some, since sends that end give theirs back; if it has
 * none either, slow receivers hold them all, for as long as they like, and the direction goes on without.
 */
static enum pump_result
pump_receive(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	if (dir->hungry > 0 && ring_free_buffers() == 0) {
		if (dir->hungry++ == 1)
			return PUMP_MORE;
		if (watch(pair))
			return begin_bulk(pair, d);
		dir->hungry = 1;
		return PUMP_STARVED;
	}
	dir->hungry = 0;
	receive(pair, d);
	return PUMP_BLOCKED_IN;
}

/* Nothing is queued or in flight: what the source said last, or it is asked for more. */
static enum pump_result
pump_empty(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	if (dir->error_in != 0) {
		errno = dir->error_in;
		return PUMP_ERROR_IN;
	}
	if (dir->ended)
		return PUMP_EOF;
	if (dir->want_bulk && !dir->receiving && watch(pair))
		return begin_bulk(pair, d);
	return dir->receiving ? PUMP_BLOCKED_IN : pump_receive(pair, d);
}

static enum pump_result
uring_pump(struct pair *pair, int d)
{
	struct uring_pair *up = &engine.pairs[pair->slot];
	struct uring_dir *dir = &up->dir[d];

	if (pair->dir[d].bulk)
		return pump_bulk(pair, d);
	if (dir->error_out != 0) {
		errno = dir->error_out;
		return PUMP_ERROR_OUT;
	}
	if (dir->starved) {
		dir->starved = false;
		return PUMP_STARVED;
	}
	if (dir->sending)
		return PUMP_BLOCKED_OUT;
	if (dir->first == NO_BUFFER)
		return pump_empty(pair, d);
	if (up->connecting)
		pair->dir[d].pending = (uint32_t)engine.length[dir->first] - dir->offset;
	else
		send_first(pair, d);
	return PUMP_BLOCKED_OUT;
}

/* For bulk as splice has it; else for a direction that failed and whose last bytes its receiver did not take in time. */
static enum tick_result
uring_tick(struct pair *pair, int d)
{
	struct uring_dir *dir = &engine.pairs[pair->slot].dir[d];

	if (pair->dir[d].bulk)
		return splice_tick(pair, d);
	if (dir->error_in == 0)
		return TICK_DONE;
	if (dir->ticks++ < 2)
		return TICK_LATER;
	engine.host->failed(engine.host->owner, pair, d, dir->error_in);
	return TICK_DONE;
}

static bool
uring_stop(struct pair *pair)
{
	struct uring_pair *up = &engine.pairs[pair->slot];
	bool idle = !up->connecting;

	if (!up->stopping) {
		up->stopping = true;
		if (up->connecting)
			ring_cancel(tag_of(pair, RING_CONNECT, 0));
		for (int d = 0; d < SIDES; d++) {
			stop_receiving(pair, d);
			if (up->dir[d].sending)
				ring_cancel(tag_of(pair, RING_SEND, d));
		}
	}
	for (int d = 0; d < SIDES; d++)
		idle &= !up->dir[d].receiving && !up->dir[d].sending;
	if (!idle)
		return false;
	for (int d = 0; d < SIDES; d++) {
		while (up->dir[d].first != NO_BUFFER)
			dequeue(&up->dir[d]);
	}
	return splice_stop(pair);
}

static const struct sandbox_rule uring_syscalls[] = {
	{ "io_uring_enter", -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } },
	{ "splice", -1, { { -1, 0, 0 }, { -1, 0, 0 }, { -1, 0, 0 } } },
	{ NULL, 0, { { 0, 0, 0 }, { 0, 0, 0 } } },
};

const struct engine_ops engine_uring = {
	.id = ENGINE_IO_URING,
	.open = uring_open,
	.wait = ring_wait,
	.dispatch = ring_dispatch,
	.begin = uring_begin,
	.pump = uring_pump,
	.tick = uring_tick,
	.unclog = splice_unclog,
	.stop = uring_stop,
	.syscalls = uring_syscalls,
};
