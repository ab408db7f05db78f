/* SPDX-License-Identifier: ISC */
/*
 * A worker that misbehaves. Put in the place of nsproxy-worker, it behaves like a minimal correct one for services whose name no row of its table
 * has; a client of any other service makes it do what the row says. Rows that act before READY do so only while the program's file has an
 * mtime of 1 second, because nothing else reaches a process whose arguments, environment and descriptors are fixed.
 * Runs in: worker
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "chan.h"
#include "child_fds.h"
#include "fdutil.h"
#include "log.h"
#include "msg.h"
#include "scoreboard.h"

#define MAX_ROUTES 64u
#define FLOOD 20000u
#define FLOOD_FDS 50u

struct evil {
	struct chan parent, reporter;
	struct scoreboard board;
	struct msg_hello hello;
	struct msg_route routes[MAX_ROUTES];
	uint32_t n_routes;
	bool silent;			/* answers no PING any more */
};

struct record {
	struct msg_head head;
	_Alignas(8) char items[MSG_MAX_SIZE];
};

static struct evil evil;

/* A line of the log, by the ordinary way. */
static void __attribute__((format(printf, 1, 2)))
tell(const char *fmt, ...)
{
	struct msg_log msg = { .level = LOG_L_NOTICE };
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(msg.text, sizeof(msg.text), fmt, args);
	va_end(args);
	(void)chan_send(&evil.reporter, MSG_LOG, &msg, 1, NULL, 0);
}

static void __attribute__((noreturn))
wait_for_the_end(void)
{
	for (;;)
		(void)pause();
}

/* `size` bytes with this head, however little sense they make. */
static int
send_record(int fd, unsigned type, unsigned count, unsigned version, size_t size)
{
	struct record record = { .head = { .type = (uint16_t)type, .count = (uint16_t)count, .version = version } };

	return send(fd, &record, size, MSG_NOSIGNAL) == -1 ? -1 : 0;
}

static void __attribute__((noreturn))
send_and_wait(unsigned type, unsigned count, unsigned version, size_t size)
{
	if (send_record(evil.parent.fd, type, count, version, size) == -1)
		tell("cannot send: %s", strerror(errno));
	wait_for_the_end();
}

#define PONG_SIZE (sizeof(struct msg_head) + sizeof(struct msg_ping))

/* A record with n descriptors, all of them /dev/null. */
static int
send_with_fds(int fd, unsigned type, size_t item_size, unsigned n)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MSG_MAX_FDS)];
	} control;
	struct record record = { .head = { .type = (uint16_t)type, .count = 1, .version = MSG_VERSION } };
	struct iovec iov = { &record, sizeof(record.head) + item_size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int) * n) };
	struct cmsghdr *cmsg;

	memset(&control, 0, sizeof(control));
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n);
	for (unsigned i = 0; i < n; i++)
		memcpy(CMSG_DATA(cmsg) + i * sizeof(int), &(int){ STDIN_FILENO }, sizeof(int));
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == -1 ? -1 : 0;
}

/* ---- towards the parent -------------------------------------------------------------------------------------------------------------- */

static void bad_empty(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION, 0); }
static void bad_short(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION, 3); }
static void bad_size_less(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION, PONG_SIZE - 1); }
static void bad_size_more(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION, PONG_SIZE + 8); }
static void bad_longest(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION, sizeof(struct record)); }
static void bad_type(void) { send_and_wait(999, 1, MSG_VERSION, PONG_SIZE); }
static void bad_sender(void) { send_and_wait(MSG_HELLO, 1, MSG_VERSION, sizeof(struct msg_head) + sizeof(struct msg_hello)); }
static void bad_receiver(void) { send_and_wait(MSG_LOG, 1, MSG_VERSION, sizeof(struct msg_head) + sizeof(struct msg_log)); }
static void bad_version(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION + 1, PONG_SIZE); }
static void bad_count_none(void) { send_and_wait(MSG_PONG, 0, MSG_VERSION, sizeof(struct msg_head)); }
static void bad_count_two(void) { send_and_wait(MSG_PONG, 2, MSG_VERSION, PONG_SIZE + sizeof(struct msg_ping)); }
static void bad_count_lie(void) { send_and_wait(MSG_PONG, 65535, MSG_VERSION, PONG_SIZE); }
static void bad_twice(void) { send_and_wait(MSG_READY, 1, MSG_VERSION, sizeof(struct msg_head) + sizeof(struct msg_ready)); }
static void bad_pong(void) { send_and_wait(MSG_PONG, 1, MSG_VERSION, PONG_SIZE); }

static void
bad_huge(void)
{
	static char big[150000];

	if (send(evil.parent.fd, big, sizeof(big), MSG_NOSIGNAL) == -1)
		tell("cannot send: %s", strerror(errno));
	wait_for_the_end();
}

static void
bad_flood(void)
{
	struct pollfd pfd = { .fd = evil.parent.fd, .events = POLLOUT };

	while (poll(&pfd, 1, -1) != -1 && (send_record(evil.parent.fd, MSG_PONG, 1, MSG_VERSION, PONG_SIZE) == 0 || errno == EAGAIN))
		continue;
	wait_for_the_end();
}

/* A kernel that knows how refuses to send; else the parent sees a record that was cut. */
static void
bad_descriptors(void)
{
	if (send_with_fds(evil.parent.fd, MSG_PONG, sizeof(struct msg_ping), 8) == -1) {
		tell("descriptors to the parent are refused by the kernel: %s", strerror(errno));
		return;
	}
	wait_for_the_end();
}

static void
bad_close(void)
{
	chan_close(&evil.parent);
	wait_for_the_end();
}

/* Whoever sends into this end gets EPIPE, but no event says so. */
static void
bad_deaf(void)
{
	(void)shutdown(evil.parent.fd, SHUT_RD);
	wait_for_the_end();
}

static void
bad_silent(void)
{
	evil.silent = true;
}

/* Before READY. */
static void
early_pong(void)
{
	send_and_wait(MSG_PONG, 1, MSG_VERSION, PONG_SIZE);
}

static void
early_never(void)
{
	tell("is never ready");
	wait_for_the_end();
}

static void
early_exit(void)
{
	_exit(42);
}

/* ---- in the scoreboard --------------------------------------------------------------------------------------------------------------- */

static void
board_finished(void)
{
	struct sb_head *head = evil.board.head;

	atomic_store(&head->finished, UINT64_MAX);
	atomic_store(&head->taken, UINT64_MAX);
	atomic_store(&head->dropped, UINT64_MAX);
	head->max_conns = UINT32_MAX;
	head->n_services = UINT32_MAX;
	head->version = 0;
	for (uint32_t i = 0; i < evil.board.n_services; i++)
		atomic_store(&evil.board.services[i].finished, UINT64_MAX);
}

static void
board_backwards(void)
{
	static uint64_t finished = UINT64_MAX / 2;

	atomic_store(&evil.board.head->finished, finished);
	atomic_store(&evil.board.head->taken, finished / 2);
	finished /= 3;
}

/* Rows that are never let go, and rows full of nonsense; then death, so that the reporter reads them. */
static void
board_rows(void)
{
	uint32_t n = evil.board.max_conns < 200 ? evil.board.max_conns : 200;

	atomic_store(&evil.board.head->rows_used, UINT64_MAX);
	for (uint32_t i = 0; i < n; i++) {
		struct sb_row *row = &evil.board.rows[i];

		memset(&row->rec, 0xa5 + (int)i, sizeof(row->rec));
		atomic_store(&row->seq, i < n / 2 ? 1 : 2);
		atomic_store(&row->used, 1);
	}
	(void)kill(getpid(), SIGKILL);
}

static void
board_shrink(void)
{
	if (ftruncate(WORKER_FD_SCOREBOARD, 0) == -1)
		tell("the scoreboard does not shrink: %s", strerror(errno));
}

/* ---- towards the reporter ------------------------------------------------------------------------------------------------------------ */

static void
send_log(uint32_t level, const char *text, size_t size)
{
	struct msg_log msg = { .level = level };

	memset(msg.text, 'A', sizeof(msg.text));	/* no terminator but what the caller gives */
	memcpy(msg.text, text, size < sizeof(msg.text) ? size : sizeof(msg.text));
	(void)chan_send(&evil.reporter, MSG_LOG, &msg, 1, NULL, 0);
}

static void
log_open(void)
{
	send_log(LOG_L_NOTICE, "unterminated ", 13);
}

static void
log_control(void)
{
	static const char text[] = "control \033[31m\r\n<0>nsproxy: ready, 66 services, 6 workers\x7f\xff\xc2\x9b";

	send_log(LOG_L_NOTICE, text, sizeof(text));
}

static void
log_levels(void)
{
	static const uint32_t levels[] = { 0, 1, 2, 8, 255, UINT32_MAX };

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		send_log(levels[i], "level out of range", sizeof("level out of range"));
}

static void
log_flood(void)
{
	struct pollfd pfd = { .fd = evil.reporter.fd, .events = POLLOUT };

	for (unsigned i = 0; i < FLOOD && poll(&pfd, 1, -1) == 1; i++)
		send_log(LOG_L_NOTICE, "flood", sizeof("flood"));
}

static void
send_closed(const struct conn_record *rec, unsigned n)
{
	struct pollfd pfd = { .fd = evil.reporter.fd, .events = POLLOUT };

	while (n-- > 0 && poll(&pfd, 1, -1) == 1)
		(void)chan_send(&evil.reporter, MSG_CLOSED, rec, 1, NULL, 0);
}

static void
closed_route(void)
{
	struct conn_record rec = { .id = 1, .route = UINT32_MAX, .port_offset = UINT16_MAX };

	send_closed(&rec, 1);
}

/* Of its own service, everything else out of range. */
static void
closed_garbage(void)
{
	struct conn_record rec;

	memset(&rec, 0xff, sizeof(rec));
	rec.route = evil.routes[0].index;
	send_closed(&rec, 1);
	memset(&rec, 0x80, sizeof(rec));
	rec.route = evil.routes[0].index;
	send_closed(&rec, 1);
}

static void
closed_flood(void)
{
	struct conn_record rec = { .id = 77, .route = evil.routes[0].index, .end = END_CLIENT_CLOSED };

	send_closed(&rec, FLOOD);
}

/* The reporter takes descriptors from the parent; from a worker each of these must be closed again. */
static void
report_descriptors(void)
{
	for (unsigned i = 0; i < 4; i++)
		(void)send_with_fds(evil.reporter.fd, MSG_LOG, sizeof(struct msg_log), FLOOD_FDS);
}

static void
report_type(void)
{
	(void)send_record(evil.reporter.fd, MSG_WORKER, 1, MSG_VERSION, sizeof(struct msg_head) + sizeof(struct msg_worker));
}

static const struct {
	const char *service;
	bool early;			/* before READY */
	void (*act)(void);
} deeds[] = {
	{ "bad-empty", false, bad_empty },
	{ "bad-short", false, bad_short },
	{ "bad-size-less", false, bad_size_less },
	{ "bad-size-more", false, bad_size_more },
	{ "bad-longest", false, bad_longest },
	{ "bad-huge", false, bad_huge },
	{ "bad-type", false, bad_type },
	{ "bad-sender", false, bad_sender },
	{ "bad-receiver", false, bad_receiver },
	{ "bad-version", false, bad_version },
	{ "bad-count-none", false, bad_count_none },
	{ "bad-count-two", false, bad_count_two },
	{ "bad-count-lie", false, bad_count_lie },
	{ "bad-twice", false, bad_twice },
	{ "bad-pong", false, bad_pong },
	{ "bad-flood", false, bad_flood },
	{ "bad-descriptors", false, bad_descriptors },
	{ "bad-close", false, bad_close },
	{ "bad-deaf", false, bad_deaf },
	{ "bad-silent", false, bad_silent },
	{ "early-pong", true, early_pong },
	{ "early-never", true, early_never },
	{ "early-exit", true, early_exit },
	{ "board-finished", false, board_finished },
	{ "board-backwards", false, board_backwards },
	{ "board-rows", false, board_rows },
	{ "board-shrink", false, board_shrink },
	{ "log-open", false, log_open },
	{ "log-control", false, log_control },
	{ "log-levels", false, log_levels },
	{ "log-flood", false, log_flood },
	{ "closed-route", false, closed_route },
	{ "closed-garbage", false, closed_garbage },
	{ "closed-flood", false, closed_flood },
	{ "report-descriptors", false, report_descriptors },
	{ "report-type", false, report_type },
};

static void
act(const char *service, bool early)
{
	for (size_t i = 0; i < sizeof(deeds) / sizeof(deeds[0]); i++) {
		if (strcmp(service, deeds[i].service) == 0 && deeds[i].early == early)
			deeds[i].act();
	}
}

/* ---- the correct part ---------------------------------------------------------------------------------------------------------------- */

static int
on_hello(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)count, (void)fds, (void)n_fds;
	evil.hello = *(const struct msg_hello *)items;
	return 0;
}

static int
on_route(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)fds, (void)n_fds;
	for (unsigned i = 0; i < count && evil.n_routes < MAX_ROUTES; i++)
		evil.routes[evil.n_routes++] = ((const struct msg_route *)items)[i];
	return 0;
}

static int
on_ping(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)count, (void)fds, (void)n_fds;
	return evil.silent ? 0 : chan_send(&evil.parent, MSG_PONG, items, 1, NULL, 0);
}

static void
serve(const struct msg_route *route, const struct msg_conn *conn, int fd)
{
	struct conn_record rec = { .id = conn->id, .route = conn->route, .end = END_TARGET_CLOSED, .client = conn->client, .bytes = { 0, 5 } };
	struct linger off = { 0, 0 };

	atomic_fetch_add(&evil.board.head->taken, 1);
	atomic_fetch_add(&evil.board.services[route->service].taken, 1);
	act(route->service_name, false);
	if (send(fd, "good\n", 5, MSG_NOSIGNAL) == 5)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &off, sizeof(off));
	(void)chan_send(&evil.reporter, MSG_CLOSED, &rec, 1, NULL, 0);
	atomic_fetch_add(&evil.board.services[route->service].finished, 1);
	atomic_fetch_add(&evil.board.head->finished, 1);
}

static int
on_conn(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	const struct msg_conn *conns = items;

	(void)owner, (void)n_fds;
	for (unsigned i = 0; i < count; i++) {
		for (uint32_t r = 0; r < evil.n_routes; r++) {
			if (evil.routes[r].index == conns[i].route)
				serve(&evil.routes[r], &conns[i], fds[i]);
		}
		fd_close(&fds[i]);
	}
	return 0;
}

static int
on_stop(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)items, (void)count, (void)fds, (void)n_fds;
	_exit(0);
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
	[MSG_HELLO] = on_hello,
	[MSG_ROUTE] = on_route,
	[MSG_PING] = on_ping,
	[MSG_CONN] = on_conn,
	[MSG_STOP] = on_stop,
};

static void
receive(void)
{
	if (chan_recv_wait(&evil.parent) == -1)
		_exit(errno == EPIPE ? 0 : 1);
}

static bool
may_be_early(void)
{
	struct stat st;

	return stat("/proc/self/exe", &st) == 0 && st.st_mtime == 1;
}

int
main(void)
{
	struct msg_ready ready = { .engines = UINT32_MAX, .layers = UINT32_MAX };

	(void)signal(SIGPIPE, SIG_IGN);
	chan_init(&evil.parent, CHILD_FD_CHANNEL, MSG_W, MSG_P, handlers, NULL);
	chan_init(&evil.reporter, WORKER_FD_REPORT, MSG_W, MSG_R, handlers, NULL);
	while (evil.hello.max_conns == 0 || evil.n_routes < evil.hello.n_routes)
		receive();
	if (scoreboard_map(&evil.board, WORKER_FD_SCOREBOARD, 1, evil.hello.max_conns, evil.hello.n_services) == -1)
		_exit(1);
	if (may_be_early())
		act(evil.routes[0].service_name, true);
	if (chan_send(&evil.parent, MSG_READY, &ready, 1, NULL, 0) == -1)
		_exit(1);
	evil.parent.phase = MSG_SERVING;
	for (;;)
		receive();
}
