/* SPDX-License-Identifier: ISC */
/*
 * The one ring of a worker: made, restricted, waited on.
 * Runs in: worker
 *
 * Theory of operation: a system call filter cannot see what is submitted through a ring, so the ring itself is restricted before it is
 * enabled, once and for all (io_uring_register(2), IORING_REGISTER_RESTRICTIONS): receive, send, poll, cancel, and no register operation
 * at all. The filter then lets io_uring_enter through and neither of the others.
 *
 * Received bytes come in buffers of ours that the kernel takes from a shared ring when bytes arrive, so an idle connection owns none.
 *
 * There is one wait: on the ring. The loop's epoll descriptor is polled inside it; when that fires, what epoll has is fetched without
 * waiting, and again in the next turn until it has nothing: level-triggered descriptors fire no second time.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "engine_uring_ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "log.h"

/* Together some hundred kilobytes, which count against the user's RLIMIT_MEMLOCK (Linux 6.14); what exceeds them waits in the kernel. */
#define SQ_ENTRIES 512u
#define CQ_ENTRIES 4096u
#define BUFFER_GROUP 1
/* Results in one turn, so that timers and lists of the loop get theirs. */
#define RESULTS_AT_ONCE 1024u

static struct {
	struct io_uring uring;
	struct io_uring_buf_ring *buf_ring;
	char *buffers;
	int epoll_fd;
	bool epoll_hot;			/* epoll may have events that no completion will tell of */
	bool epoll_armed;
	uint32_t free_buffers;
	ring_result_fn *on_result;
} ring;

static const uint8_t allowed_ops[] = { IORING_OP_RECV, IORING_OP_SEND, IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL };
#define N_ALLOWED (sizeof(allowed_ops) / sizeof(allowed_ops[0]))

static int
fail_with(int negative_errno)
{
	errno = -negative_errno;
	return -1;
}

static int
make(struct io_uring *uring)
{
	struct io_uring_params params = {
		.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
		    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
		.cq_entries = CQ_ENTRIES,
	};
	int r = io_uring_queue_init_params(SQ_ENTRIES, uring, &params);

	return r < 0 ? fail_with(r) : 0;
}

static int
restrict_and_enable(struct io_uring *uring)
{
	struct io_uring_restriction list[N_ALLOWED + 1];
	int r;

	memset(list, 0, sizeof(list));
	for (size_t i = 0; i < N_ALLOWED; i++) {
		list[i].opcode = IORING_RESTRICTION_SQE_OP;
		list[i].sqe_op = allowed_ops[i];
	}
	list[N_ALLOWED].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	list[N_ALLOWED].sqe_flags = IOSQE_BUFFER_SELECT;
	/* By number: liburing 2.3 declares functions for these two and does not export them. */
	r = io_uring_register((unsigned)uring->ring_fd, IORING_REGISTER_RESTRICTIONS, list, N_ALLOWED + 1);
	if (r == 0)
		r = io_uring_register((unsigned)uring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	return r < 0 ? fail_with(r) : 0;
}

static int
open_buffers(void)
{
	struct io_uring_buf_reg reg = { .ring_entries = RING_BUFFERS, .bgid = BUFFER_GROUP };
	size_t size = RING_BUFFERS * sizeof(struct io_uring_buf);
	int r;

	ring.buf_ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ring.buffers = mmap(NULL, (size_t)RING_BUFFERS * RING_BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring.buf_ring == MAP_FAILED || ring.buffers == MAP_FAILED)
		return -1;
	reg.ring_addr = (uintptr_t)ring.buf_ring;
	r = io_uring_register_buf_ring(&ring.uring, &reg, 0);
	if (r < 0)
		return fail_with(r);
	io_uring_buf_ring_init(ring.buf_ring);
	for (uint32_t i = 0; i < RING_BUFFERS; i++)
		io_uring_buf_ring_add(ring.buf_ring, ring.buffers + (size_t)i * RING_BUFFER_SIZE, RING_BUFFER_SIZE, (uint16_t)i,
		    io_uring_buf_ring_mask(RING_BUFFERS), (int)i);
	io_uring_buf_ring_advance(ring.buf_ring, RING_BUFFERS);
	ring.free_buffers = RING_BUFFERS;
	return 0;
}

/* A free entry. The ring's own queue may be full of what was not submitted yet: that is submitted first, without waiting. */
static struct io_uring_sqe *
next_sqe(void)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring.uring);

	while (sqe == NULL) {
		int r = io_uring_submit(&ring.uring);

		ASSERT(r >= 0 || r == -EINTR || r == -EAGAIN || r == -EBUSY || r == -ENOMEM);
		sqe = io_uring_get_sqe(&ring.uring);
	}
	return sqe;
}

static uint64_t
pack(struct ring_tag tag)
{
	return (uint64_t)tag.op << 40 | (uint64_t)tag.d << 32 | tag.slot;
}

static struct ring_tag
unpack(uint64_t data)
{
	return (struct ring_tag){ .slot = (uint32_t)data, .d = (uint8_t)(data >> 32), .op = (uint8_t)(data >> 40) };
}

static void
poll_epoll(void)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_poll_multishot(sqe, ring.epoll_fd, POLLIN);
	io_uring_sqe_set_data64(sqe, pack((struct ring_tag){ .op = RING_EPOLL }));
	ring.epoll_armed = true;
}

int
ring_open(int epoll_fd, ring_result_fn *on_result)
{
	ring.epoll_fd = epoll_fd;
	ring.on_result = on_result;
	ring.epoll_hot = true;
	if (make(&ring.uring) == -1)
		return -1;
	if (open_buffers() == -1 || restrict_and_enable(&ring.uring) == -1) {
		int saved = errno;

		io_uring_queue_exit(&ring.uring);
		errno = saved;
		return -1;
	}
	return 0;
}

void
ring_recv(struct ring_tag tag, int fd)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
	sqe->flags |= IOSQE_BUFFER_SELECT;
	sqe->buf_group = BUFFER_GROUP;
	io_uring_sqe_set_data64(sqe, pack(tag));
}

void
ring_send(struct ring_tag tag, int fd, uint32_t buffer, uint32_t offset, uint32_t n)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_send(sqe, fd, ring.buffers + (size_t)buffer * RING_BUFFER_SIZE + offset, n, MSG_NOSIGNAL);
	io_uring_sqe_set_data64(sqe, pack(tag));
}

void
ring_connected(struct ring_tag tag, int fd)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_poll_add(sqe, fd, POLLOUT);
	io_uring_sqe_set_data64(sqe, pack(tag));
}

void
ring_cancel(struct ring_tag tag)
{
	struct io_uring_sqe *sqe = next_sqe();

	io_uring_prep_cancel64(sqe, pack(tag), 0);
	io_uring_sqe_set_data64(sqe, pack((struct ring_tag){ .op = RING_CANCEL }));
}

void
ring_give_buffer(uint32_t buffer)
{
	io_uring_buf_ring_add(ring.buf_ring, ring.buffers + (size_t)buffer * RING_BUFFER_SIZE, RING_BUFFER_SIZE, (uint16_t)buffer,
	    io_uring_buf_ring_mask(RING_BUFFERS), 0);
	io_uring_buf_ring_advance(ring.buf_ring, 1);
	ring.free_buffers++;
}

uint32_t
ring_free_buffers(void)
{
	return ring.free_buffers;
}

/* Does a result that waits say that epoll has events? Then they are fetched in this turn already. */
static void
look_for_epoll(void)
{
	struct io_uring_cqe *cqe;
	unsigned head;

	io_uring_for_each_cqe(&ring.uring, head, cqe)
		ring.epoll_hot |= unpack(cqe->user_data).op == RING_EPOLL;
}

int
ring_wait(void *owner, struct epoll_event *events, int most, uint64_t ns)
{
	struct __kernel_timespec timeout = { (long long)(ns / 1000000000u), (long long)(ns % 1000000000u) };
	struct io_uring_cqe *cqe;
	int n, r;

	(void)owner;
	if (!ring.epoll_armed)
		poll_epoll();
	if (ring.epoll_hot || ns == 0)
		r = io_uring_submit_and_get_events(&ring.uring);
	else
		r = io_uring_submit_and_wait_timeout(&ring.uring, &cqe, 1, ns == UINT64_MAX ? NULL : &timeout, NULL);
	/* A ring that is out of memory or full of results is asked again in the next turn, after the results were taken. */
	if (r < 0 && r != -ETIME && r != -EINTR && r != -EAGAIN && r != -EBUSY && r != -ENOMEM)
		return fail_with(r);
	n = 0;
	look_for_epoll();
	if (ring.epoll_hot) {
		n = epoll_wait(ring.epoll_fd, events, most, 0);
		ring.epoll_hot = n > 0;
	}
	return n;
}

static void
one_result(const struct io_uring_cqe *cqe)
{
	struct ring_result result = {
		.tag = unpack(cqe->user_data),
		.res = cqe->res,
		.buffer = cqe->flags & IORING_CQE_F_BUFFER ? (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT) : -1,
		.more = (cqe->flags & IORING_CQE_F_MORE) != 0,
	};

	ring.free_buffers -= result.buffer >= 0;
	if (result.tag.op == RING_EPOLL) {
		/* It may have come after look_for_epoll(): submitting from a handler makes room for results that waited in the kernel. */
		ring.epoll_armed = result.more;
		ring.epoll_hot = true;
	} else if (result.tag.op != RING_CANCEL)
		ring.on_result(&result);
}

void
ring_dispatch(void *owner)
{
	struct io_uring_cqe *cqes[64];
	unsigned total = 0, n;

	(void)owner;
	do {
		n = io_uring_peek_batch_cqe(&ring.uring, cqes, 64);
		for (unsigned i = 0; i < n; i++) {
			/* Copied first: handlers submit, and submitting may make room in the queue of results. */
			struct io_uring_cqe cqe = *cqes[i];

			one_result(&cqe);
		}
		io_uring_cq_advance(&ring.uring, n);
		total += n;
	} while (n > 0 && total < RESULTS_AT_ONCE);
}
