/* SPDX-License-Identifier: ISC */
/*
 * Model test of the relay's machine: random bytes, ends, resets, rooms, partial moves and starvation, against a reference of a few lines.
 * Runs in: worker (the test links worker_relay.c alone; everything it calls is played here)
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "worker.h"
#include "worker_connect.h"
#include "worker_relay.h"

#define FD_OF_CLIENT 1000
#define FD_OF_TARGET 1001

/* One side's socket as the kernel would have it. */
struct side {
	uint64_t produced;		/* bytes its peer sent */
	uint64_t avail;			/* of these, not read yet */
	uint64_t room;			/* what it takes before it is full */
	uint64_t delivered;		/* what it took */
	bool fin, reset;		/* its peer ended in order, or reset */
	bool fin_sent;			/* the relay shut it down for writing */
	bool out_armed;			/* a write met "full": room is told by an event */
	uint32_t events;		/* not delivered yet */
};

static struct world {
	struct side side[SIDES];
	struct worker worker;
	struct conn conn;
	struct worker_route route;
	struct conn_record record;
	uint32_t run_slots[4], tick_slots[4];
	uint64_t rng, steps;
	int closed;			/* enum conn_end, or -1 */
	bool starve;			/* pumps may say PUMP_STARVED */
} w;

static uint32_t
rnd(uint32_t below)
{
	w.rng ^= w.rng << 13;
	w.rng ^= w.rng >> 7;
	w.rng ^= w.rng << 17;
	return (uint32_t)(w.rng >> 33) % below;
}

/* What worker_relay.c calls. */
void conn_close(struct worker *worker, struct conn *conn, enum conn_end end)
{
	(void)worker;
	if (conn->state == CONN_CLOSING)
		return;
	conn->state = CONN_CLOSING;
	w.closed = (int)end;
}
void conn_want_run(struct worker *worker, struct conn *conn)
{
	if (!conn->runnable)
		worker->conns.runnable.slots[worker->conns.runnable.n++] = 0;
	conn->runnable = true;
}
void conn_want_tick(struct worker *worker, struct conn *conn)
{
	if (!conn->ticking)
		worker->conns.ticking.slots[worker->conns.ticking.n++] = 0;
	conn->ticking = true;
}
void report_moved(struct worker *worker, const struct conn *conn, int d)
{
	(void)worker;
	w.record.bytes[d] = conn->pair.dir[d].total;
}
struct conn_record *conn_record_of(struct worker *worker, const struct conn *conn)
{
	(void)worker, (void)conn;
	return &w.record;
}
struct conn *conn_from_ref(struct worker *worker, struct loop_ref ref)
{
	(void)worker, (void)ref;
	return w.conn.state == CONN_RELAYING ? &w.conn : NULL;
}
struct conn *conn_of_pair(struct worker *worker, const struct pair *pair)
{
	(void)worker, (void)pair;
	return &w.conn;
}
void connect_on_event(struct worker *worker, struct conn *conn, int side, uint32_t events)
{
	(void)worker, (void)conn, (void)side, (void)events;
	fail();
}
void connect_failed(struct worker *worker, struct conn *conn, int error)
{
	(void)worker, (void)conn, (void)error;
	fail();
}
void connect_done(struct worker *worker, struct conn *conn)
{
	(void)worker, (void)conn;
	fail();
}
void report_conn_warning(struct worker *worker, const char *fmt, ...)
{
	(void)worker, (void)fmt;
}
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t due)
{
	(void)loop;
	timer->due = due;
	timer->pos = due != LOOP_NEVER;
}

/* The kernel. */
int shutdown(int fd, int how)
{
	int side = fd - FD_OF_CLIENT;

	assert_int_equal(how, SHUT_WR);
	if (w.side[side].reset) {
		errno = ENOTCONN;
		return -1;
	}
	assert_false(w.side[side].fin_sent);
	w.side[side].fin_sent = true;
	/* The rule of all rules: an end is passed on only after every byte, and only if it was one. */
	assert_true(w.side[!side].fin && !w.side[!side].reset);
	assert_int_equal(w.side[side].delivered, w.side[!side].produced);
	return 0;
}
int setsockopt(int fd, int level, int option, const void *value, socklen_t size)
{
	(void)fd, (void)level, (void)option, (void)value, (void)size;
	return 0;
}
int getsockopt(int fd, int level, int option, void *value, socklen_t *size)
{
	(void)level, (void)option, (void)size;
	*(int *)value = w.side[fd - FD_OF_CLIENT].reset ? ECONNRESET : 0;
	return 0;
}

/* An engine that moves as whimsically as the contract allows. */
static enum pump_result
whim_read(struct pair_dir *dir, struct side *source)
{
	uint64_t n = source->avail > 0 ? 1 + rnd((uint32_t)(source->avail < 100 ? source->avail : 100)) : 0;

	if (n > source->avail)
		n = source->avail;
	if (n > 0) {
		source->avail -= n;
		dir->pending = (uint32_t)n;
		return PUMP_MORE;
	}
	if (source->reset) {
		errno = ECONNRESET;
		return PUMP_ERROR_IN;
	}
	return source->fin ? PUMP_EOF : PUMP_BLOCKED_IN;
}

static enum pump_result
whim_write(struct pair_dir *dir, struct side *destination)
{
	uint64_t n = dir->pending < destination->room ? dir->pending : destination->room;

	if (destination->reset) {
		errno = EPIPE;
		return PUMP_ERROR_OUT;
	}
	if (n > 1 && rnd(3) == 0)
		n = 1 + rnd((uint32_t)n);
	destination->room -= n;
	destination->delivered += n;
	dir->total += n;
	dir->pending -= (uint32_t)n;
	if (dir->pending > 0 && destination->room > 0)
		return whim_write(dir, destination);
	if (dir->pending == 0)
		return PUMP_MORE;
	destination->out_armed = true;
	return PUMP_BLOCKED_OUT;
}

static enum pump_result
whim_pump(struct pair *pair, int d)
{
	struct pair_dir *dir = &pair->dir[d];

	assert_true(w.conn.state == CONN_RELAYING && w.conn.dir_state[d] == DIR_OPEN);
	for (uint32_t budget = 1 + rnd(4); budget > 0; budget--) {
		enum pump_result result = PUMP_MORE;

		if (w.starve && rnd(20) == 0)
			return PUMP_STARVED;
		if (dir->pending > 0)
			result = whim_write(dir, &w.side[!d]);
		else
			result = whim_read(dir, &w.side[d]);
		if (result != PUMP_MORE)
			return result;
	}
	return PUMP_MORE;
}

static enum tick_result
whim_tick(struct pair *pair, int d)
{
	(void)pair, (void)d;
	return (enum tick_result)rnd(3);
}

static const struct engine_ops whim = { .id = ENGINE_COPY, .pump = whim_pump, .tick = whim_tick };

static void
fresh(uint64_t seed)
{
	memset(&w, 0, sizeof(w));
	w.rng = seed * 0x9e3779b97f4a7c15ull + 1;
	w.closed = -1;
	w.worker.conns.conns = &w.conn;
	w.worker.conns.runnable.slots = w.run_slots;
	w.worker.conns.ticking.slots = w.tick_slots;
	w.route.engine = &whim;
	w.conn.route = &w.route;
	for (int d = 0; d < SIDES; d++) {
		w.conn.pair.fd[d] = FD_OF_CLIENT + d;
		w.conn.pair.dir[d].block = NO_BLOCK;
		w.conn.pair.dir[d].pipe = NO_PIPE;
		w.conn.readable[d] = w.conn.writable[d] = true;
		w.side[d].room = rnd(50);
	}
	w.conn.state = CONN_RELAYING;
	w.starve = rnd(4) == 0;
	w.worker.loop.now = NS_PER_S;
	relay_start(&w.worker, &w.conn);
}

/* Something happens at a side; an edge is told by an event, later. */
static void
happen(int s)
{
	struct side *side = &w.side[s];

	switch (rnd(12)) {
	case 0:
		if (!side->fin && !side->reset) {
			side->fin = true;
			side->events |= EPOLLIN | EPOLLRDHUP;
		}
		break;
	case 1:
		if (rnd(20) == 0 && !side->reset) {
			side->reset = true;
			side->events |= EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP;
		}
		break;
	case 2:
	case 3:
	case 4:
	case 5:
	case 6:
		if (!side->fin && !side->reset) {
			uint64_t n = 1 + rnd(200);

			side->produced += n;
			side->avail += n;
			side->events |= EPOLLIN;
		}
		break;
	default:
		side->room += 1 + rnd(200);
		if (side->out_armed)
			side->events |= EPOLLOUT;
		side->out_armed = false;
		break;
	}
}

static void
deliver(int s)
{
	struct loop_ref ref = { .kind = s == SIDE_CLIENT ? KIND_CLIENT : KIND_TARGET };
	uint32_t events = w.side[s].events;

	w.side[s].events = 0;
	if (events != 0)
		relay_on_event(&w.worker, ref, events);
}

static void
step(void)
{
	w.steps++;
	w.worker.loop.now += NS_PER_MS;
	switch (rnd(6)) {
	case 0:
	case 1:
		deliver((int)rnd(2));
		break;
	case 2:
		relay_run_lists(&w.worker);
		break;
	case 3:
		if (w.conn.starved)
			relay_on_timer(&w.worker, &w.conn);
		break;
	default:
		happen((int)rnd(2));
		break;
	}
}

/* Everyone reads, every event arrives, every list runs, memory is there again. */
static void
settle(void)
{
	w.starve = false;
	for (int i = 0; i < 10000 && w.conn.state == CONN_RELAYING; i++) {
		bool quiet = w.worker.conns.runnable.n == 0 && !w.conn.starved;

		for (int s = 0; s < SIDES; s++) {
			w.side[s].room += 100000;
			if (w.side[s].out_armed)
				w.side[s].events |= EPOLLOUT;
			w.side[s].out_armed = false;
			quiet = quiet && w.side[s].events == 0;
			deliver(s);
		}
		if (w.conn.starved)
			relay_on_timer(&w.worker, &w.conn);
		relay_run_lists(&w.worker);
		if (quiet)
			break;
	}
}

/* The reference. */
static void
judge(uint64_t seed)
{
	bool reset = w.side[0].reset || w.side[1].reset, ended = w.side[0].fin && w.side[1].fin;
	bool wrong = false;

	for (int s = 0; s < SIDES; s++)
		wrong |= !reset && w.side[!s].delivered != w.side[s].produced;
	if (reset && !(w.closed == END_CLIENT_RESET || w.closed == END_TARGET_RESET))
		wrong |= !(ended && (w.closed == END_CLIENT_CLOSED || w.closed == END_TARGET_CLOSED));
	if (!reset && ended)
		wrong |= w.closed != END_CLIENT_CLOSED && w.closed != END_TARGET_CLOSED;
	if (!reset && !ended)
		wrong |= w.closed != -1 || w.side[1].fin_sent != w.side[0].fin || w.side[0].fin_sent != w.side[1].fin;
	if (wrong)
		fail_msg("seed %llu: closed %d, reset %d/%d, end %d/%d, delivered %llu of %llu and %llu of %llu", (unsigned long long)seed,
		    w.closed, w.side[0].reset, w.side[1].reset, w.side[0].fin, w.side[1].fin, (unsigned long long)w.side[1].delivered,
		    (unsigned long long)w.side[0].produced, (unsigned long long)w.side[0].delivered, (unsigned long long)w.side[1].produced);
}

static void
test_model(void **state)
{
	uint64_t steps = 0, wanted = getenv("NSPROXY_LONG") != NULL ? 50000000 : 2000000, ends[CONN_ENDS_COUNT + 1] = { 0 };
	const char *one = getenv("SEED");

	(void)state;
	for (uint64_t seed = one != NULL ? strtoull(one, NULL, 10) : 1; steps < wanted; seed++) {
		fresh(seed);
		for (uint32_t n = 10 + rnd(150); n > 0 && w.conn.state == CONN_RELAYING; n--)
			step();
		settle();
		judge(seed);
		steps += w.steps;
		ends[w.closed + 1]++;
		if (one != NULL)
			break;
	}
	print_message("%llu steps; still open %llu, closed by client %llu, by target %llu, reset by client %llu, by target %llu\n",
	    (unsigned long long)steps, (unsigned long long)ends[0], (unsigned long long)ends[END_CLIENT_CLOSED + 1],
	    (unsigned long long)ends[END_TARGET_CLOSED + 1], (unsigned long long)ends[END_CLIENT_RESET + 1],
	    (unsigned long long)ends[END_TARGET_RESET + 1]);
	/* The generator must have reached every outcome, else the model proves little. */
	if (one == NULL)
		assert_true(ends[0] && ends[END_CLIENT_CLOSED + 1] && ends[END_TARGET_CLOSED + 1] && ends[END_CLIENT_RESET + 1] && ends[END_TARGET_RESET + 1]);
}

static void
test_timeouts(void **state)
{
	(void)state;
	fresh(1);
	w.starve = false;
	w.route.conf.idle_timeout_ms = 1000;
	w.route.conf.half_close_timeout_ms = 300;
	w.conn.active_at = w.worker.loop.now;
	relay_on_timer(&w.worker, &w.conn);
	assert_int_equal(w.closed, -1);
	assert_int_equal(w.conn.timer.due, w.conn.active_at + 1000 * NS_PER_MS);
	w.worker.loop.now = w.conn.timer.due;
	relay_on_timer(&w.worker, &w.conn);
	assert_int_equal(w.closed, END_IDLE);

	fresh(2);
	w.starve = false;
	w.route.conf.idle_timeout_ms = 1000;
	w.route.conf.half_close_timeout_ms = 300;
	w.side[SIDE_CLIENT].fin = true;
	w.side[SIDE_CLIENT].events = EPOLLIN | EPOLLRDHUP;
	deliver(SIDE_CLIENT);
	relay_run_lists(&w.worker);
	assert_true(w.side[SIDE_TARGET].fin_sent);
	assert_int_equal(w.conn.timer.due, w.conn.active_at + 300 * NS_PER_MS);
	w.worker.loop.now = w.conn.timer.due;
	relay_on_timer(&w.worker, &w.conn);
	assert_int_equal(w.closed, END_HALF_CLOSE);
}

/* With the half-close timeout off, what ends a half-closed connection is the idle timeout, and its name. */
static void
test_half_close_without_its_timeout(void **state)
{
	(void)state;
	fresh(3);
	w.starve = false;
	w.route.conf.idle_timeout_ms = 1000;
	w.side[SIDE_CLIENT].fin = true;
	w.side[SIDE_CLIENT].events = EPOLLIN | EPOLLRDHUP;
	deliver(SIDE_CLIENT);
	relay_run_lists(&w.worker);
	assert_true(w.side[SIDE_TARGET].fin_sent);
	w.worker.loop.now = w.conn.active_at + 1000 * NS_PER_MS;
	relay_on_timer(&w.worker, &w.conn);
	assert_int_equal(w.closed, END_IDLE);
}

/* A kernel that stays out of memory does not keep a silent connection for ever. */
static void
test_idle_while_starved(void **state)
{
	(void)state;
	fresh(4);
	w.route.conf.idle_timeout_ms = 1000;
	w.conn.starved = true;
	w.worker.loop.now = w.conn.active_at + 1000 * NS_PER_MS;
	relay_on_timer(&w.worker, &w.conn);
	assert_int_equal(w.closed, END_IDLE);
}

/* The event that ended the handshake told of the target's first bytes, too; no other will come. */
static void
test_target_speaks_first(void **state)
{
	(void)state;
	fresh(5);
	w.starve = false;
	w.side[SIDE_TARGET].produced = w.side[SIDE_TARGET].avail = 9;
	w.side[SIDE_CLIENT].room = 1000;
	w.conn.readable[SIDE_TARGET] = true;
	relay_start(&w.worker, &w.conn);
	for (int i = 0; i < 100; i++)
		relay_run_lists(&w.worker);
	assert_int_equal(w.side[SIDE_CLIENT].delivered, 9);
}

static int unclogged;

static void
note_unclog(struct pair *pair, int d)
{
	pair->dir[d].pipe = NO_PIPE;
	unclogged |= 1 << d;
}

/* A receiver that is stuck loses its pipe, however busy the other direction is; one that moves keeps it. */
static void
test_clog_of_one_direction(void **state)
{
	static const struct engine_ops engine = { .pump = whim_pump, .unclog = note_unclog };

	(void)state;
	fresh(6);
	w.route.engine = &engine;
	w.worker.loop.now += 10 * NS_PER_S;
	for (int d = 0; d < SIDES; d++) {
		w.conn.pair.dir[d].pipe = (uint16_t)d;
		w.conn.pair.dir[d].pending = 1;
	}
	w.conn.clog_watched = true;
	w.conn.active_at = w.conn.pair.dir[SIDE_TARGET].moved_at = w.worker.loop.now;
	w.conn.pair.dir[SIDE_CLIENT].moved_at = w.worker.loop.now - 2 * NS_PER_S;
	unclogged = 0;
	relay_on_timer(&w.worker, &w.conn);
	assert_int_equal(unclogged, 1 << SIDE_CLIENT);
	assert_true(w.conn.clog_watched);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_model),
		cmocka_unit_test(test_timeouts),
		cmocka_unit_test(test_half_close_without_its_timeout),
		cmocka_unit_test(test_idle_while_starved),
		cmocka_unit_test(test_target_speaks_first),
		cmocka_unit_test(test_clog_of_one_direction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
