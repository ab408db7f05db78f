/* SPDX-License-Identifier: ISC */
/*
 * What the worker's ring lets through: every opcode, every flag of an entry, every register operation, tried on the ring that ring_open() makes.
 * Runs in: worker (the test links the ring alone, and sees its insides)
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#ifdef HAVE_LIBURING
#include "engine_uring_ring.c"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

#define OPCODES 256
#define REGISTER_OPERATIONS 64

static int epoll_fd = -1;

static void
no_result(const struct ring_result *result)
{
	(void)result;
	fail_msg("a result for nobody");
}

static int
set_up(void **state)
{
	(void)state;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (ring_open(epoll_fd, no_result) == -1) {
		print_message("no ring here (%s): nothing to restrict\n", strerror(errno));
		(void)close(epoll_fd);
		epoll_fd = -1;
	}
	return 0;
}

static int
tear_down(void **state)
{
	(void)state;
	if (epoll_fd != -1) {
		io_uring_queue_exit(&ring.uring);
		(void)close(epoll_fd);
	}
	return 0;
}

/* The result of an entry that could do nothing even if it were let through: it has no descriptor. */
static int
attempt(unsigned opcode, unsigned flags)
{
	struct io_uring_sqe *sqe = next_sqe();
	struct io_uring_cqe *cqe;
	int res;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)opcode;
	sqe->flags = (uint8_t)flags;
	sqe->fd = -1;
	sqe->user_data = opcode;
	assert_int_equal(io_uring_submit_and_wait(&ring.uring, 1), 1);
	assert_int_equal(io_uring_peek_cqe(&ring.uring, &cqe), 0);
	assert_int_equal(cqe->user_data, opcode);
	res = cqe->res;
	io_uring_cqe_seen(&ring.uring, cqe);
	return res;
}

static bool
expected(unsigned opcode)
{
	for (size_t i = 0; i < N_ALLOWED; i++) {
		if (allowed_ops[i] == opcode)
			return true;
	}
	return false;
}

/* A line of the table of faults, where the other tests have theirs. */
static void
record(unsigned refused, unsigned unknown, unsigned passed)
{
	const char *path = getenv("NSPROXY_ROWS");
	FILE *file = path != NULL ? fopen(path, "ae") : NULL;
	char line[160];

	(void)snprintf(line, sizeof(line), "ROW 37 io_uring of %d opcodes %u refused with EACCES, %u unknown to this kernel, %u pass (%zu expected)\n", OPCODES,
	    refused, unknown, passed, N_ALLOWED);
	print_message("%s", line);
	if (file != NULL) {
		(void)fputs(line, file);
		(void)fclose(file);
	}
}

static void
test_opcodes(void **state)
{
	unsigned refused = 0, unknown = 0, passed = 0;

	(void)state;
	if (epoll_fd == -1)
		skip();
	for (unsigned opcode = 0; opcode < OPCODES; opcode++) {
		int res = attempt(opcode, 0);

		if (expected(opcode)) {
			assert_int_not_equal(res, -EACCES);
			passed++;
		} else if (res == -EACCES) {
			refused++;
		} else {
			/* The kernel looks at the number before it looks at restrictions; no known one may answer so. */
			if (res != -EINVAL || opcode < IORING_OP_LAST)
				fail_msg("opcode %u passes: %d", opcode, res);
			unknown++;
		}
	}
	assert_true(refused > 0);
	record(refused, unknown, passed);
}

static void
test_flags(void **state)
{
	(void)state;
	if (epoll_fd == -1)
		skip();
	for (unsigned bit = 0; bit < 8; bit++) {
		int res = attempt(IORING_OP_POLL_ADD, 1u << bit);

		if (1u << bit == IOSQE_BUFFER_SELECT)
			continue;
		assert_true(res == -EACCES || res == -EINVAL);
	}
}

/* Among them: other files, other buffers, other restrictions. The worker's filter forbids the call as well. */
static void
test_register_operations(void **state)
{
	(void)state;
	if (epoll_fd == -1)
		skip();
	for (unsigned operation = 0; operation < REGISTER_OPERATIONS; operation++) {
		long r = syscall(SYS_io_uring_register, ring.uring.ring_fd, operation, NULL, 0);

		assert_int_equal(r, -1);
		assert_true(errno == EACCES || errno == EINVAL);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_opcodes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_flags, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_register_operations, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int
main(void)
{
	return 77;			/* automake's word for "skipped": there is no ring to be restricted */
}
#endif
