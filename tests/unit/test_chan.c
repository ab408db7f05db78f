/* SPDX-License-Identifier: ISC */
/*
 * The channel: what msg.def allows comes through with its descriptors, and nothing else does; no stray descriptor survives.
 * Runs in: any
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "chan.h"
#include "fdutil.h"

static struct {
	unsigned calls, count, n_fds;
	int kept;
	int answer;
	uint64_t first_id;
} seen;

static int
on_conn(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner;
	seen.calls++;
	seen.count = count;
	seen.n_fds = n_fds;
	seen.first_id = ((const struct msg_conn *)items)->id;
	seen.kept = fd_take(&fds[0]);
	return seen.answer;
}

static int
on_ping(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	(void)owner, (void)items, (void)fds;
	seen.calls++;
	seen.count = count;
	seen.n_fds = n_fds;
	return 0;
}

static chan_handler_fn *const worker_handlers[MSG_TYPES] = { [MSG_CONN] = on_conn, [MSG_PING] = on_ping };
static chan_handler_fn *const parent_handlers[MSG_TYPES] = { [MSG_PONG] = on_ping, [MSG_READY] = on_ping };

static int
open_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

static void
pair_up(struct chan *parent, struct chan *worker)
{
	int ends[2];

	assert_int_equal(chan_pair(ends), 0);
	chan_init(parent, ends[0], MSG_P, MSG_W, parent_handlers, NULL);
	chan_init(worker, ends[1], MSG_W, MSG_P, worker_handlers, NULL);
	worker->phase = parent->phase = MSG_SERVING;
	memset(&seen, 0, sizeof(seen));
	seen.kept = -1;
}

static void
test_descriptors(void **state)
{
	struct msg_conn items[MSG_MAX_FDS] = { { .id = 42 } };
	struct chan parent, worker;
	int before = open_fds(), fds[MSG_MAX_FDS];

	(void)state;
	pair_up(&parent, &worker);
	assert_int_equal(chan_recv(&worker), 0);
	for (unsigned i = 0; i < MSG_MAX_FDS; i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(chan_send(&parent, MSG_CONN, items, MSG_MAX_FDS, fds, MSG_MAX_FDS), 0);
	assert_int_equal(chan_recv(&worker), 1);
	assert_int_equal(seen.count, MSG_MAX_FDS);
	assert_int_equal(seen.n_fds, MSG_MAX_FDS);
	assert_int_equal(seen.first_id, 42);
	/* The one that was taken lives, close-on-exec; chan closed the other 63. */
	assert_true(fcntl(seen.kept, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(open_fds(), before + 3);
	(void)close(seen.kept);
	chan_close(&parent);
	errno = 0;
	assert_int_equal(chan_recv(&worker), -1);
	assert_int_equal(errno, EPIPE);
	chan_close(&worker);
	assert_int_equal(open_fds(), before);
}

/* Sends raw bytes, with or without a descriptor, and says what the receiver thinks of it. */
static const char *
verdict(struct chan *to, int from, const void *bytes, size_t size, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MSG_MAX_FDS)];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)bytes, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		struct cmsghdr *cmsg = &control.align;
		int fds[MSG_MAX_FDS] = { 0 };

		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	if (sendmsg(from, &msg, MSG_NOSIGNAL) == -1)
		return "not sent";
	if (chan_recv(to) == 1)
		return "accepted";
	assert_int_equal(errno, EPROTO);
	return to->wrong;
}

static void
test_wrong_records(void **state)
{
	struct {
		struct msg_head head;
		char rest[MSG_MAX_SIZE];
	} record = { .head = { MSG_PING, 1, MSG_VERSION } };
	const size_t ping = sizeof(struct msg_head) + sizeof(struct msg_ping);
	struct chan parent, worker;
	int before;

	(void)state;
	pair_up(&parent, &worker);
	before = open_fds();
	assert_string_equal(verdict(&worker, parent.fd, &record, ping, 0), "accepted");
	assert_string_equal(verdict(&worker, parent.fd, &record, 3, 0), "shorter than a head");
	assert_string_equal(verdict(&worker, parent.fd, &record, ping - 1, 0), "wrong size");
	assert_string_equal(verdict(&worker, parent.fd, &record, ping + 1, 0), "wrong size");
	assert_string_equal(verdict(&worker, parent.fd, &record, sizeof(record), 0), "longer than any message");
	assert_string_equal(verdict(&worker, parent.fd, &record, ping, 2), "wrong number of descriptors");
	record.head.count = 0;
	assert_string_equal(verdict(&worker, parent.fd, &record, ping, 0), "wrong number of items");
	record.head.count = 2;
	assert_string_equal(verdict(&worker, parent.fd, &record, ping + 8, 0), "wrong number of items");
	record.head = (struct msg_head){ MSG_PING, 1, MSG_VERSION + 1 };
	assert_string_equal(verdict(&worker, parent.fd, &record, ping, 0), "another protocol version");
	record.head = (struct msg_head){ MSG_TYPES, 1, MSG_VERSION };
	assert_string_equal(verdict(&worker, parent.fd, &record, ping, 0), "unknown type");
	record.head.type = MSG_PONG;
	assert_string_equal(verdict(&worker, parent.fd, &record, ping, 0), "a type that this peer never sends here");
	record.head = (struct msg_head){ MSG_CONN, 1, MSG_VERSION };
	assert_string_equal(verdict(&worker, parent.fd, &record, sizeof(struct msg_head) + sizeof(struct msg_conn), 0), "wrong number of descriptors");
	worker.phase = MSG_START;
	assert_string_equal(verdict(&worker, parent.fd, &record, sizeof(struct msg_head) + sizeof(struct msg_conn), 1), "a type that is out of its phase");
	assert_int_equal(open_fds(), before);
	chan_close(&parent);
	chan_close(&worker);
}

static void
test_nothing_reaches_the_parent(void **state)
{
	struct {
		struct msg_head head;
		struct msg_ping ping;
	} pong = { { MSG_PONG, 1, MSG_VERSION }, { 7 } };
	struct chan parent, worker;
	const char *with_fd;
	int before;

	(void)state;
	pair_up(&parent, &worker);
	before = open_fds();
	assert_string_equal(verdict(&parent, worker.fd, &pong, sizeof(pong), 0), "accepted");
	/* Since Linux 6.16 the kernel refuses to send; before, the receiver refuses the record. Never is a descriptor installed. */
	with_fd = verdict(&parent, worker.fd, &pong, sizeof(pong), 1);
	assert_true(strcmp(with_fd, "not sent") == 0 || strcmp(with_fd, "descriptors where none can be received") == 0);
	assert_int_equal(open_fds(), before);
	seen.answer = -1;
	chan_close(&parent);
	chan_close(&worker);
}

static void
test_handler_says_no(void **state)
{
	struct msg_conn item = { .id = 1 };
	struct chan parent, worker;
	int fd = STDERR_FILENO;

	(void)state;
	pair_up(&parent, &worker);
	seen.answer = -1;
	assert_int_equal(chan_send(&parent, MSG_CONN, &item, 1, &fd, 1), 0);
	assert_int_equal(chan_recv(&worker), -1);
	assert_int_equal(errno, EPROTO);
	assert_string_equal(worker.wrong, "contents that make no sense");
	(void)close(seen.kept);
	chan_close(&parent);
	chan_close(&worker);
}

static void
test_full_channel_never_blocks(void **state)
{
	struct msg_ping ping = { 1 };
	struct chan parent, worker;
	unsigned n = 0;

	(void)state;
	pair_up(&parent, &worker);
	while (chan_send(&parent, MSG_PING, &ping, 1, NULL, 0) == 0)
		n++;
	assert_int_equal(errno, EAGAIN);
	assert_true(n > 10);
	assert_int_equal(chan_drain(&worker, n + 10), 0);
	assert_int_equal(seen.calls, n);
	chan_close(&worker);
	assert_int_equal(chan_send(&parent, MSG_PING, &ping, 1, NULL, 0), -1);
	assert_int_equal(errno, EPIPE);
	chan_close(&parent);
	assert_int_equal(chan_send(&parent, MSG_PING, &ping, 1, NULL, 0), -1);
}

static void
test_names(void **state)
{
	(void)state;
	assert_string_equal(msg_name(MSG_CONN), "CONN");
	assert_string_equal(msg_name(MSG_TYPES), "?");
	assert_null(msg_row(MSG_TYPES));
	assert_string_equal(conn_end_name(END_CLIENT_CLOSED), "closed-by-client");
	assert_string_equal(conn_end_name(9999), "error");
	for (unsigned i = 0; i < CONN_ENDS_COUNT; i++)
		assert_non_null(conn_end_name(i));
	for (unsigned i = 0; i < ENGINES; i++)
		assert_int_equal(engine_by_name(engine_name(i)), i);
	assert_int_equal(engine_by_name("turbo"), -1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_wrong_records),
		cmocka_unit_test(test_nothing_reaches_the_parent),
		cmocka_unit_test(test_handler_says_no),
		cmocka_unit_test(test_full_channel_never_blocks),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
