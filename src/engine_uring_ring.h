/* SPDX-License-Identifier: ISC */
/*
 * The one ring of a worker: made, restricted, waited on.
 * Runs in: worker
 */
#ifndef ENGINE_URING_RING_H
#define ENGINE_URING_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/* What an operation was for; travels through the ring as its user data. */
enum ring_op { RING_EPOLL, RING_RECV, RING_SEND, RING_CONNECT, RING_CANCEL };

struct ring_tag {
	uint32_t slot;
	uint8_t op;			/* enum ring_op */
	uint8_t d;			/* direction; RING_CONNECT: 0 */
};

/* One completion. res as the system call would return it, or -errno. buffer: -1, or which of ours holds the bytes. */
struct ring_result {
	struct ring_tag tag;
	int res;
	int buffer;
	bool more;			/* the operation goes on by itself */
};
typedef void ring_result_fn(const struct ring_result *result);

/* Each receives so much at most; all of them stay warm in a processor's cache that is not tiny. */
#define RING_BUFFER_SIZE 4096u
#define RING_BUFFERS 512u		/* a power of two */

/* Makes and restricts it; polls epoll_fd inside it. 0, or -1 with errno: this kernel cannot, or may not. */
int ring_open(int epoll_fd, ring_result_fn *on_result);
/* Multishot receive into our buffers, until told otherwise by a result without `more`. */
void ring_recv(struct ring_tag tag, int fd);
/* Sends n bytes of a buffer from offset on; one result. */
void ring_send(struct ring_tag tag, int fd, uint32_t buffer, uint32_t offset, uint32_t n);
/* One result with poll events once fd is writable or failed: the end of a connect(). */
void ring_connected(struct ring_tag tag, int fd);
/* Ends the operation with that tag, whose last result then comes. */
void ring_cancel(struct ring_tag tag);
/* Buffers that the kernel may still fill. */
uint32_t ring_free_buffers(void);
/* Its bytes are not needed any more. */
void ring_give_buffer(uint32_t buffer);

/* loop_wait_fn and loop_dispatch_fn: submit, wait on the ring, fetch what epoll has; then results to on_result. */
int ring_wait(void *owner, struct epoll_event *events, int most, uint64_t ns);
void ring_dispatch(void *owner);

#endif
