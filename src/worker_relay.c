/* SPDX-License-Identifier: ISC */
/*
 * The relay: which direction may move, what its results mean, half-close, timeouts.
 * Runs in: worker
 *
 * Theory of operation: both sockets are registered edge-triggered for everything, once. Events only set flags: readable and writable by
 * side, failed for errors. A direction may be pumped while it is open and
 *	- something is pending and its destination is writable, or
 *	- nothing is pending and its source is readable.
 * The pump says what stopped it, and that clears a flag. Nothing else reads or writes a relayed socket. A pump that stopped for its budget
 * goes on in the next turn of the loop; a kernel out of memory sends no event, so the timer tries again.
 *
 * An end of a source is passed on once nothing of it is pending: shutdown of the destination's writing side. When both ends are passed on the
 * connection is over, in order. An error of either side closes both with the reset that is armed from the start. Bytes that a side sent
 * before it reset are still passed on as far as the other side takes them.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_relay.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "log.h"
#include "worker.h"
#include "worker_connect.h"

/* ns: how often marked directions are looked at; half of the millisecond that a tail may wait at most. */
#define TICK_EVERY 500000u
/* ns: a kernel out of memory is asked again. */
#define STARVED_RETRY (10 * NS_PER_MS)
/* ns: a direction that its receiver blocks for so long gives its pipe back. */
#define CLOG_AFTER NS_PER_S
/* ns: connections older than this get their keepalive settings. */
#define SETTLE_AFTER (10 * NS_PER_S)
/* Deadlines this far away are rounded up to full seconds, so that many connections share a wake-up. */
#define COARSE_AFTER (5 * NS_PER_S)
/* Intervals of probes differ by up to so many seconds: see set_keepalive(). */
#define KEEPALIVE_SPREAD 8u

static const enum conn_end closed_by[SIDES] = { END_CLIENT_CLOSED, END_TARGET_CLOSED };
static const enum conn_end reset_by[SIDES] = { END_CLIENT_RESET, END_TARGET_RESET };

/* Half-close counts from the last byte, as the idle timeout does; it only is another length of time. */
static bool
half_close_decides(const struct conn *conn)
{
	bool half_closed = conn->dir_state[0] == DIR_SHUT || conn->dir_state[1] == DIR_SHUT;
	const struct msg_route *conf = &conn->route->conf;

	return half_closed && conf->half_close_timeout_ms > 0 &&
	    (conf->idle_timeout_ms == 0 || conf->half_close_timeout_ms < conf->idle_timeout_ms);
}

/* ns; 0: without end. */
static uint64_t
silence_allowed(const struct conn *conn)
{
	const struct msg_route *conf = &conn->route->conf;

	return (half_close_decides(conn) ? conf->half_close_timeout_ms : conf->idle_timeout_ms) * NS_PER_MS;
}

/* When the timer must look at this connection next. */
uint64_t
relay_next_look(const struct worker *worker, const struct conn *conn)
{
	uint64_t allowed = silence_allowed(conn), due = allowed > 0 ? conn->active_at + allowed : LOOP_NEVER;
	uint64_t now = worker->loop.now;

	if (conn->state == CONN_CONNECTING)
		due = conn->begun_at + conn->route->conf.connect_timeout_ms * NS_PER_MS;
	else if (!conn->settled && now + SETTLE_AFTER < due)
		due = now + SETTLE_AFTER;
	if (conn->state == CONN_RELAYING && due != LOOP_NEVER && due > now + COARSE_AFTER)
		due = (due + NS_PER_S - 1) / NS_PER_S * NS_PER_S;
	if (conn->clog_watched && due > now + CLOG_AFTER)
		due = now + CLOG_AFTER;
	if (conn->starved && due > now + STARVED_RETRY)
		due = now + STARVED_RETRY;
	return due;
}

void
relay_note(struct conn *conn, int side, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
		conn->readable[side] = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
		conn->pair.dir[side].more = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		conn->writable[side] = true;
	if (events & EPOLLERR)
		conn->failed[side] = true;
}

/* The target is not connected yet, but takes the client's first bytes or refuses them. */
static void
probe_while_connecting(struct worker *worker, struct conn *conn, enum pump_result result)
{
	if (result == PUMP_ERROR_OUT)
		connect_failed(worker, conn, errno);
	else if (conn->state == CONN_CONNECTING && conn->pair.dir[SIDE_CLIENT].total > 0)
		connect_done(worker, conn);
}

/* The source of d ended and nothing of it is left: passes that on. The second end closes the connection, and close() sends the FIN. */
static void
relay_dir_advance(struct worker *worker, struct conn *conn, int d)
{
	if (conn->state != CONN_RELAYING || conn->dir_state[d] != DIR_EOF)
		return;
	conn->dir_state[d] = DIR_SHUT;
	if (conn->dir_state[!d] == DIR_SHUT) {
		conn_close(worker, conn, closed_by[conn->first_end]);
		return;
	}
	conn->first_end = (uint8_t)d;
	conn_record_of(worker, conn)->flags |= d == SIDE_CLIENT ? RECORD_SHUT_UP : RECORD_SHUT_DOWN;
	if (shutdown(conn->pair.fd[!d], SHUT_WR) == -1) {
		conn_close(worker, conn, reset_by[!d]);	/* ENOTCONN: that side is gone */
		return;
	}
	loop_timer_set(&worker->loop, &conn->timer, relay_next_look(worker, conn));
}

static bool
reset_errno(int error)
{
	return error == ECONNRESET || error == EPIPE || error == ENOTCONN;
}

/* Reading or writing of a side failed: what the other side is owed is a reset, never a clean end. */
static void
side_failed(struct worker *worker, struct conn *conn, int side, int error)
{
	if (!reset_errno(error))
		report_conn_warning(worker, "service %s: a connection failed at its %s: %s", conn->route->conf.service_name,
		    side == SIDE_CLIENT ? "client" : "target", strerror(error));
	conn_close(worker, conn, reset_errno(error) ? reset_by[side] : END_ERROR);
}

/* The direction holds something that others could use: the timer looks whether it is still stuck then. */
static void
watch_clog(struct worker *worker, struct conn *conn, int d)
{
	uint64_t due = worker->loop.now + CLOG_AFTER;

	if (conn->route->engine->unclog == NULL || conn->pair.dir[d].pipe == NO_PIPE || conn->state != CONN_RELAYING)
		return;
	conn->clog_watched = true;
	if (conn->timer.pos == 0 || conn->timer.due > due)
		loop_timer_set(&worker->loop, &conn->timer, due);
}

static void
check_clog(struct worker *worker, struct conn *conn)
{
	conn->clog_watched = false;
	for (int d = 0; d < SIDES; d++) {
		const struct pair_dir *dir = &conn->pair.dir[d];

		if (dir->pipe == NO_PIPE)
			continue;
		if (worker->loop.now - dir->moved_at >= CLOG_AFTER)	/* whatever the other direction does meanwhile */
			conn->route->engine->unclog(&conn->pair, d);
		conn->clog_watched |= dir->pipe != NO_PIPE;
	}
}

/*
 * A write to a socket that was reset takes its error away (sock_error() in the kernel), and reading then says "end". An engine whose writes are
 * in flight may learn of the end first. A socket that was reset takes no more, not even nothing; one that only ended does. A unix socket does
 * not tell, but there a reset looks like an end anyway.
 */
static bool
end_is_true(const struct conn *conn, int d)
{
	if (conn->route->engine->begin == NULL || !conn->pair.is_tcp[d] || conn->dir_state[!d] == DIR_SHUT)
		return true;
	return send(conn->pair.fd[d], "", 0, MSG_NOSIGNAL | MSG_DONTWAIT) == 0 || errno == EAGAIN;
}

/* What stopped the pump decides which flag falls. */
static void
take_result(struct worker *worker, struct conn *conn, int d, enum pump_result result)
{
	switch (result) {
	case PUMP_BLOCKED_IN:
		conn->readable[d] = false;
		break;
	case PUMP_BLOCKED_OUT:
		conn->writable[!d] = false;
		watch_clog(worker, conn, d);
		break;
	case PUMP_MORE:
		conn_want_run(worker, conn);
		break;
	case PUMP_STARVED:
		conn->starved = true;
		loop_timer_set(&worker->loop, &conn->timer, relay_next_look(worker, conn));
		break;
	case PUMP_EOF:
		if (!end_is_true(conn, d)) {
			side_failed(worker, conn, d, ECONNRESET);
			break;
		}
		conn->dir_state[d] = DIR_EOF;
		relay_dir_advance(worker, conn, d);
		break;
	case PUMP_ERROR_IN:
		side_failed(worker, conn, d, errno);
		break;
	case PUMP_ERROR_OUT:
		side_failed(worker, conn, !d, errno);
		break;
	}
}

static bool
may_pump(const struct conn *conn, int d)
{
	if (conn->dir_state[d] != DIR_OPEN || conn->starved)
		return false;
	if (conn->state != CONN_RELAYING && !(conn->state == CONN_CONNECTING && d == SIDE_CLIENT))
		return false;
	return conn->pair.dir[d].pending > 0 ? conn->writable[!d] : conn->readable[d];
}

void
relay_run_dir(struct worker *worker, struct conn *conn, int d)
{
	uint64_t before = conn->pair.dir[d].total;
	enum pump_result result;

	if (!may_pump(conn, d))
		return;
	result = conn->route->engine->pump(&conn->pair, d);
	if (conn->pair.dir[d].total != before) {
		conn->active_at = worker->loop.now;
		report_moved(worker, conn, d);
	}
	if (conn->state != CONN_CONNECTING || result != PUMP_ERROR_OUT)
		take_result(worker, conn, d, result);
	if (conn->state == CONN_CONNECTING)
		probe_while_connecting(worker, conn, result);
}

void
relay_start(struct worker *worker, struct conn *conn)
{
	conn->active_at = worker->loop.now;
	conn->settled = conn->route->conf.keepalive_idle_s == 0;
	loop_timer_set(&worker->loop, &conn->timer, relay_next_look(worker, conn));
	relay_run_dir(worker, conn, SIDE_CLIENT);
	relay_dir_advance(worker, conn, SIDE_CLIENT);	/* an end that came while connecting */
	/* The event that told of the handshake's end may have told of the target's first bytes, too; an engine without events is asked to look. */
	if (conn->route->engine->begin != NULL)
		conn->readable[SIDE_TARGET] = true;
	relay_run_dir(worker, conn, SIDE_TARGET);
}

/* An error event whose errno no read or write brought out, because nothing could be read or written now. */
static void
check_failed(struct worker *worker, struct conn *conn, int side)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (conn->state != CONN_RELAYING || !conn->failed[side])
		return;
	conn->failed[side] = false;
	if (getsockopt(conn->pair.fd[side], SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error != 0)
		side_failed(worker, conn, side, error);
}

static void
handle_event(struct worker *worker, struct conn *conn, int side, uint32_t events)
{
	if (conn->state == CONN_CONNECTING) {
		connect_on_event(worker, conn, side, events);
		return;
	}
	relay_note(conn, side, events);
	relay_run_dir(worker, conn, side);
	relay_run_dir(worker, conn, !side);
	check_failed(worker, conn, side);
}

void
relay_on_event(void *owner, struct loop_ref ref, uint32_t events)
{
	struct conn *conn = conn_from_ref(owner, ref);

	if (conn != NULL)
		handle_event(owner, conn, ref.kind == KIND_CLIENT ? SIDE_CLIENT : SIDE_TARGET, events);
}

void
relay_event(void *owner, struct pair *pair, int side, uint32_t events)
{
	struct conn *conn = conn_of_pair(owner, pair);

	if (conn->state == CONN_CONNECTING || conn->state == CONN_RELAYING)
		handle_event(owner, conn, side, events);
}

void
relay_sent(void *owner, struct pair *pair, int d, uint32_t n)
{
	struct worker *worker = owner;
	struct conn *conn = conn_of_pair(worker, pair);

	pair->dir[d].total += n;
	conn->active_at = worker->loop.now;
	report_moved(worker, conn, d);
}

void
relay_failed(void *owner, struct pair *pair, int side, int error)
{
	struct conn *conn = conn_of_pair(owner, pair);

	if (conn->state == CONN_CONNECTING || conn->state == CONN_RELAYING)
		side_failed(owner, conn, side, error);
}

/* Marked directions: their millisecond. The list keeps those that want to be asked again. */
static void
run_ticks(struct worker *worker)
{
	struct slot_list *list = &worker->conns.ticking;
	uint32_t n = list->n;

	worker->ticked_at = worker->loop.now;
	list->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct conn *conn = &worker->conns.conns[list->slots[i]];
		bool again = false;

		conn->ticking = false;
		for (int d = 0; d < SIDES && conn->state == CONN_RELAYING; d++) {
			enum tick_result tick = conn->dir_state[d] == DIR_OPEN ? conn->route->engine->tick(&conn->pair, d) : TICK_DONE;

			if (tick == TICK_PUMP) {
				conn->readable[d] = true;
				relay_run_dir(worker, conn, d);
			}
			again |= tick == TICK_LATER;
		}
		if (again && conn->state == CONN_RELAYING)
			conn_want_tick(worker, conn);
	}
}

static void
run_runnable(struct worker *worker)
{
	struct slot_list *list = &worker->conns.runnable;
	uint32_t n = list->n;

	/* Those that want to run once more append behind the ones read so far: never past them, since each stands here once. */
	list->n = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct conn *conn = &worker->conns.conns[list->slots[i]];

		conn->runnable = false;
		for (int d = 0; d < SIDES && conn->state != CONN_CLOSING; d++)
			relay_run_dir(worker, conn, d);
	}
}

void
relay_run_lists(struct worker *worker)
{
	if (worker->conns.runnable.n > 0)
		run_runnable(worker);
	if (worker->conns.ticking.n > 0 && worker->loop.now - worker->ticked_at >= TICK_EVERY)
		run_ticks(worker);
}

uint64_t
relay_patience(const struct worker *worker)
{
	if (worker->conns.runnable.n > 0)
		return 0;
	return worker->conns.ticking.n > 0 ? TICK_EVERY : LOOP_NEVER;
}

/*
 * Probes of connections that fell silent together would leave together, more of them at one tick of the kernel's timers than a device's
 * queue holds (net.core.netdev_max_backlog), and with equal intervals the same ones would be lost each time. So intervals differ a little.
 */
static void
set_keepalive(struct conn *conn)
{
	const struct msg_route *conf = &conn->route->conf;
	const struct {
		int level, option, value;
	} options[] = {
		{ IPPROTO_TCP, TCP_KEEPIDLE, (int)conf->keepalive_idle_s },
		{ IPPROTO_TCP, TCP_KEEPINTVL, (int)(conf->keepalive_interval_s + conn->pair.slot % KEEPALIVE_SPREAD) },
		{ IPPROTO_TCP, TCP_KEEPCNT, (int)conf->keepalive_count },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
	};

	conn->settled = true;
	for (int side = 0; side < SIDES; side++) {
		for (size_t i = 0; i < sizeof(options) / sizeof(options[0]) && conn->pair.is_tcp[side]; i++)
			(void)setsockopt(conn->pair.fd[side], options[i].level, options[i].option, &options[i].value, sizeof(int));
	}
}

/* The kernel may have memory again. */
static void
end_starvation(struct worker *worker, struct conn *conn)
{
	conn->starved = false;
	for (int side = 0; side < SIDES; side++)
		conn->readable[side] = conn->writable[side] = true;
	for (int d = 0; d < SIDES; d++)
		relay_run_dir(worker, conn, d);
}

void
relay_on_timer(void *owner, void *arg)
{
	struct worker *worker = owner;
	struct conn *conn = arg;
	uint64_t now = worker->loop.now, allowed = silence_allowed(conn);

	if (conn->state == CONN_CONNECTING && now >= conn->begun_at + conn->route->conf.connect_timeout_ms * NS_PER_MS)
		connect_failed(worker, conn, ETIMEDOUT);
	else if (conn->state == CONN_RELAYING && allowed > 0 && now - conn->active_at >= allowed)
		conn_close(worker, conn, half_close_decides(conn) ? END_HALF_CLOSE : END_IDLE);
	else if (conn->starved)
		end_starvation(worker, conn);
	else if (conn->state == CONN_RELAYING && !conn->settled && now >= conn->active_at + SETTLE_AFTER)
		set_keepalive(conn);
	if (conn->state == CONN_RELAYING && conn->clog_watched)
		check_clog(worker, conn);
	if (conn->state == CONN_CONNECTING || conn->state == CONN_RELAYING)
		loop_timer_set(&worker->loop, &conn->timer, relay_next_look(worker, conn));
}
