/* SPDX-License-Identifier: ISC */
/*
 * One SOCK_SEQPACKET channel between two of our processes.
 * Runs in: any
 *
 * Theory of operation: a record is struct msg_head plus its items; descriptors travel with it. Receiving checks, in this order, that nothing
 * was cut, that the version and the type exist, that this peer may send it to us in this phase, that the size is exactly that of the items
 * counted, and that exactly the descriptors came that the row calls for. Only then a handler runs. Whatever the handler did not take is
 * closed here, so a descriptor that came along always has an owner. Where no row brings descriptors from this peer (to the parent from anyone, to
 * the reporter from a worker or from nsproxyctl) there is no room for them, so the kernel never installs any (unix(7)).
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "chan.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83		/* Linux 6.16, include/uapi/asm-generic/socket.h */
#endif

int
chan_pair(int ends[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends);
}

static bool
brings_fds(enum msg_role from, enum msg_role to)
{
	for (unsigned i = 0; i < MSG_TYPES; i++) {
		const struct msg_row *row = msg_row(i);

		if ((row->from & from) && (row->to & to) && row->fds + row->item_fds > 0)
			return true;
	}
	return false;
}

/* Best effort: with it the sender gets EPERM; without it the missing control buffer does the same for us. */
void
chan_refuse_fds(int fd)
{
	int off = 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
}

void
chan_init(struct chan *chan, int fd, enum msg_role self, enum msg_role peer, chan_handler_fn *const handlers[MSG_TYPES], void *owner)
{
	*chan = (struct chan){ .fd = fd, .self = self, .peer = peer, .phase = MSG_START, .handlers = handlers, .owner = owner };
	chan->takes_fds = brings_fds(peer, self);
	/* Only the parent may: the other filters have no such call, and who made their sockets did it for them. */
	if (self == MSG_P)
		chan_refuse_fds(fd);
}

void
chan_close(struct chan *chan)
{
	fd_close(&chan->fd);
}

static int
send_with_fds(int fd, struct iovec *iov, const int *fds, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MSG_MAX_FDS)];
	} control;
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = CMSG_SPACE(sizeof(int) * n_fds) };
	struct cmsghdr *cmsg;

	memset(&control, 0, sizeof(control));
	cmsg = CMSG_FIRSTHDR(&msg);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
	memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	return sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? -1 : 0;
}

int
chan_send(struct chan *chan, enum msg_type type, const void *items, unsigned count, const int *fds, unsigned n_fds)
{
	const struct msg_row *row = msg_row(type);
	struct msg_head head = { .type = (uint16_t)type, .count = (uint16_t)count, .version = MSG_VERSION };
	size_t size = row->item_size * (size_t)count;
	char record[MSG_MAX_SIZE];

	ASSERT((row->from & chan->self) && (row->to & chan->peer) && count >= 1 && count <= row->most);
	ASSERT(n_fds == row->fds + row->item_fds * count);
	if (chan->fd < 0) {
		errno = EPIPE;
		return -1;
	}
	if (n_fds > 0) {
		struct iovec iov[2] = { { &head, sizeof(head) }, { (void *)(uintptr_t)items, size } };

		return send_with_fds(chan->fd, iov, fds, n_fds);
	}
	/* A plain send, so that a worker's filter need not know sendmsg, with which it could pass descriptors. */
	memcpy(record, &head, sizeof(head));
	memcpy(record + sizeof(head), items, size);
	return send(chan->fd, record, sizeof(head) + size, MSG_NOSIGNAL | MSG_DONTWAIT) == -1 ? -1 : 0;
}

/* One record as it came. */
struct received {
	_Alignas(16) char bytes[MSG_MAX_SIZE];
	size_t size;
	int fds[MSG_MAX_FDS];
	unsigned n_fds;
	bool cut;			/* the kernel installed only the first n_fds of those that came */
	const char *wrong;
};

static void
take_fds(struct msghdr *msg, struct received *got)
{
	for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(msg); cmsg != NULL; cmsg = CMSG_NXTHDR(msg, cmsg)) {
		size_t n;

		if (cmsg->cmsg_level != SOL_SOCKET || cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		n = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(int), sizeof(fd));
			if (got->n_fds < MSG_MAX_FDS)
				got->fds[got->n_fds++] = fd;
			else
				fd_close(&fd);
		}
	}
}

/* 1: a record; 0: none; -1 with errno, EPIPE at the end of the channel. */
static int
receive(struct chan *chan, struct received *got)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MSG_MAX_FDS)];
	} control;
	struct iovec iov = { got->bytes, sizeof(got->bytes) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (chan->takes_fds) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
	}
	got->n_fds = 0;
	got->wrong = NULL;
	do
		n = recvmsg(chan->fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n == -1 && errno == EINTR);
	if (n == -1) {
		/* ECONNRESET: the peer died with records of ours unread (unix(7)); for us it is gone either way. */
		if (errno == ECONNRESET)
			errno = EPIPE;
		/* A kernel short of memory keeps the record, and the descriptor stays readable: the next turn asks again. */
		return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? 0 : -1;
	}
	take_fds(&msg, got);
	got->size = (size_t)n;
	if (n == 0 && got->n_fds == 0 && !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		errno = EPIPE;
		return -1;
	}
	got->cut = (msg.msg_flags & MSG_CTRUNC) != 0;
	if (got->cut && !chan->takes_fds)
		got->wrong = "descriptors where none can be received";
	else if (msg.msg_flags & MSG_TRUNC)
		got->wrong = "longer than any message";
	return 1;
}

/* NULL when the record is exactly what msg.def allows here and now. */
static const char *
check(struct chan *chan, struct received *got, struct msg_head *head)
{
	const struct msg_row *row;
	unsigned n_fds;

	if (got->wrong != NULL)
		return got->wrong;
	if (got->size < sizeof(*head))
		return "shorter than a head";
	memcpy(head, got->bytes, sizeof(*head));
	chan->version = head->version;
	if (head->version != MSG_VERSION)
		return "another protocol version";
	row = msg_row(head->type);
	if (row == NULL)
		return "unknown type";
	if (!(row->from & chan->peer) || !(row->to & chan->self) || chan->handlers[head->type] == NULL)
		return "a type that this peer never sends here";
	if (!(row->phases & chan->phase))
		return "a type that is out of its phase";
	if (head->count == 0 || head->count > row->most)
		return "wrong number of items";
	if (got->size != sizeof(*head) + (size_t)row->item_size * head->count)
		return "wrong size";
	n_fds = row->fds + (unsigned)row->item_fds * head->count;
	/* At the limit of open files the record arrives and its last descriptors are gone (unix(7)): the handler gets the loss to count and say. */
	while (got->cut && row->item_fds > 0 && got->n_fds < n_fds)
		got->fds[got->n_fds++] = -1;
	if (got->n_fds != n_fds)
		return "wrong number of descriptors";
	return NULL;
}

int
chan_recv(struct chan *chan)
{
	struct received got;
	struct msg_head head = { 0, 0, 0 };
	int r;

	if (chan->fd < 0) {
		errno = EPIPE;
		return -1;
	}
	r = receive(chan, &got);
	if (r != 1)
		return r;
	chan->wrong = check(chan, &got, &head);
	if (chan->wrong == NULL &&
	    chan->handlers[head.type](chan->owner, got.bytes + sizeof(head), head.count, got.fds, got.n_fds) == -1 && chan->wrong == NULL)
		chan->wrong = "contents that make no sense";
	for (unsigned i = 0; i < got.n_fds; i++)
		fd_close(&got.fds[i]);
	if (chan->wrong != NULL) {
		errno = EPROTO;
		return -1;
	}
	return 1;
}

int
chan_recv_wait(struct chan *chan)
{
	for (;;) {
		struct pollfd pfd = { .fd = chan->fd, .events = POLLIN };
		int r = chan_recv(chan);

		if (r != 0)
			return r;
		if (poll(&pfd, 1, -1) == -1 && errno != EINTR)
			return -1;
	}
}

int
chan_drain(struct chan *chan, unsigned most)
{
	for (unsigned i = 0; i < most; i++) {
		int r = chan_recv(chan);

		if (r <= 0)
			return r;
	}
	return 0;
}
