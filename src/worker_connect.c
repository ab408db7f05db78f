/* SPDX-License-Identifier: ISC */
/*
 * From a client to a connected pair: NEW -> CONNECTING -> RELAYING.
 * Runs in: worker
 *
 * Theory of operation: after a non-blocking connect() to a target in the same kernel the handshake is usually over before the next system
 * call, so what the client sent already is read and written at once: a send that succeeds says that the target is connected. Otherwise an
 * event of the target does, and a failure comes as an error event whose errno SO_ERROR tells. Keepalive matters only after minutes
 * and is switched on by the connection's timer (worker_relay.c), so that short connections do not pay for it.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "worker_connect.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "log.h"
#include "worker.h"
#include "worker_relay.h"

/* The lowest that net.ipv4.ip_local_port_range makes sense with. */
#define FIRST_CHOSEN_PORT 1024

static const struct {
	int error;
	enum conn_end end;
	const char *hint;
} connect_errors[] = {
	{ ECONNREFUSED, END_REFUSED, "; is the target listening?" },
	{ ECONNRESET, END_TARGET_RESET, "; the target accepted and reset at once" },
	{ ETIMEDOUT, END_CONNECT_TIMEOUT, "; is the target's host up?" },
	{ EHOSTUNREACH, END_UNREACHABLE, "; check routes and links in the private namespace" },
	{ ENETUNREACH, END_UNREACHABLE, "; check routes and links in the private namespace" },
	{ ENETDOWN, END_UNREACHABLE, "; check the links in the private namespace" },
	{ EHOSTDOWN, END_UNREACHABLE, "; check the links in the private namespace" },
	{ ENOENT, END_REFUSED, "; is the target running?" },
	{ EADDRNOTAVAIL, END_CONNECT_FAILED, "; no local port is free, or `source` is not an address of the private namespace" },
	{ EAGAIN, END_REFUSED, "; the target's backlog is full" },
};

void
connect_failed(struct worker *worker, struct conn *conn, int error)
{
	enum conn_end end = END_CONNECT_FAILED;
	const char *hint = "";
	char target[ADDR_TEXT_MAX], client[ADDR_TEXT_MAX];

	/* Refusing says ECONNREFUSED; this one accepted, and broke off before we heard of it. */
	if (error == ECONNRESET || error == EPIPE) {
		conn_close(worker, conn, END_TARGET_RESET);
		return;
	}
	for (size_t i = 0; i < sizeof(connect_errors) / sizeof(connect_errors[0]); i++) {
		if (connect_errors[i].error == error) {
			end = connect_errors[i].end;
			hint = connect_errors[i].hint;
		}
	}
	report_conn_warning(worker, "service %s: cannot connect to %s for client %s: %s%s", conn->route->conf.service_name,
	    route_target_text(conn->route, conn->port_offset, target),
	    addr_format_wire(&conn_record_of(worker, conn)->client, client), strerror(error), hint);
	conn_close(worker, conn, end);
}

static int
set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof(value));
}

/* As the listener has them, from which the client's socket inherited: no delay, reset unless ended in order, urgent data in line. */
static int
set_target_options(int fd, const struct msg_route *conf)
{
	struct linger reset = { 1, 0 };

	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == -1)
		return -1;
	if (set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1) == -1 || set_option(fd, SOL_SOCKET, SO_OOBINLINE, 1) == -1)
		return -1;
	return conf->user_timeout_ms > 0 ? set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)conf->user_timeout_ms) : 0;
}

/* A port is chosen only at connect(), when the target is known, so the same port can serve different targets (ip(7)). */
static int
bind_source(int fd, const struct wire_addr *source)
{
	struct addr addr;

	if (source->family == 0)
		return 0;
	(void)set_option(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
	if (addr_from_wire(source, &addr) == -1)
		return -1;
	return bind(fd, &addr.u.sa, addr.len);
}

/* The target's socket with connect() under way: 0, or -1 with errno. The socket is the connection's in any case. */
static int
open_target(struct conn *conn)
{
	const struct worker_route *route = conn->route;
	struct addr target;
	int fd, r;

	route_target(route, conn->port_offset, &target);
	fd = socket(target.u.sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	conn->pair.fd[SIDE_TARGET] = fd;
	if (conn->pair.is_tcp[SIDE_TARGET] && (set_target_options(fd, &route->conf) == -1 || bind_source(fd, &route->conf.source) == -1))
		return -1;
	if (route->dir_fd >= 0 && fchdir(route->dir_fd) == -1)
		return -1;
	do
		r = connect(fd, &target.u.sa, target.len);
	while (r == -1 && errno == EINTR && !conn->pair.is_tcp[SIDE_TARGET]);
	/* A TCP connect() that a signal interrupts goes on by itself (connect(2)). */
	return r == 0 || errno == EINPROGRESS || errno == EINTR ? r == 0 : -1;
}

/* Unix sockets inherit nothing from their listener, and know urgent data (Linux 5.15), which would be lost. */
static void
set_unix_options(const struct conn *conn)
{
	for (int side = 0; side < SIDES; side++) {
		if (!conn->pair.is_tcp[side])
			(void)set_option(conn->pair.fd[side], SOL_SOCKET, SO_OOBINLINE, 1);
	}
}

/* From now on someone tells of this pair: the engine by completions, or epoll. */
static int
begin(struct worker *worker, struct conn *conn, bool connecting)
{
	conn->begun = true;
	if (conn->route->engine->begin == NULL)
		return conn_watch(worker, conn);
	conn->route->engine->begin(&conn->pair, connecting);
	return 0;
}

void
connect_start(struct worker *worker, struct conn *conn)
{
	int connected = open_target(conn);

	if (connected == -1 || begin(worker, conn, !connected) == -1) {
		connect_failed(worker, conn, errno);
		return;
	}
	set_unix_options(conn);
	conn_set_state(conn, CONN_CONNECTING);
	loop_timer_set(&worker->loop, &conn->timer, relay_next_look(worker, conn));
	if (connected)
		connect_done(worker, conn);
	else
		relay_run_dir(worker, conn, SIDE_CLIENT);
}

/*
 * TCP connects to itself when nobody listens on a local port that the kernel may choose as ours, and chooses. What the client sends would come
 * back to it, and the target could not start while that lasts (its port is taken): it is refused, which is what it is.
 */
static bool
is_own_end(const struct conn *conn, const struct addr *local)
{
	struct addr target;

	route_target(conn->route, conn->port_offset, &target);
	return conn->pair.is_tcp[SIDE_TARGET] && addr_equal(local, &target);
}

/* Our own end is asked for where somebody wants to know: the access log, or a port that may turn out to be ours. */
static bool
own_end_matters(const struct conn *conn)
{
	const struct msg_route *conf = &conn->route->conf;

	return (conf->flags & ROUTE_RECORD) || (conn->pair.is_tcp[SIDE_TARGET] && conf->target.port + conn->port_offset >= FIRST_CHOSEN_PORT);
}

void
connect_done(struct worker *worker, struct conn *conn)
{
	struct conn_record *rec = conn_record_of(worker, conn);
	struct addr local = { .len = sizeof(local.u) };

	if (own_end_matters(conn) && getsockname(conn->pair.fd[SIDE_TARGET], &local.u.sa, &local.len) == 0) {
		if (is_own_end(conn, &local)) {
			connect_failed(worker, conn, ECONNREFUSED);
			return;
		}
		addr_to_wire(&local, &rec->local);
	}
	conn_set_state(conn, CONN_RELAYING);
	rec->connected = loop_clock();
	relay_start(worker, conn);
}

void
connect_on_event(struct worker *worker, struct conn *conn, int side, uint32_t events)
{
	int error = 0;
	socklen_t size = sizeof(error);

	relay_note(conn, side, events);
	if (side == SIDE_CLIENT) {
		if (conn->failed[SIDE_CLIENT])
			conn_close(worker, conn, END_CLIENT_RESET);
		else
			relay_run_dir(worker, conn, SIDE_CLIENT);
		return;
	}
	if (events & (EPOLLERR | EPOLLHUP)) {
		if (getsockopt(conn->pair.fd[SIDE_TARGET], SOL_SOCKET, SO_ERROR, &error, &size) == -1)
			error = errno;
		/* EPOLLHUP without an error is a socket that has not begun to connect; that cannot come here, and must not look like success. */
		connect_failed(worker, conn, error != 0 ? error : ECONNABORTED);
		return;
	}
	if (events & EPOLLOUT)
		connect_done(worker, conn);
}
