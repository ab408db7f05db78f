/* SPDX-License-Identifier: ISC */
/*
 * Records of any bytes to every role: the first byte chooses receiver, sender and phase, the second how many descriptors come along.
 * Runs in: any
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "chan.h"

static unsigned handled;

/* Reads all of it, so that a wrong count or size shows under a sanitizer; sometimes refuses. */
static int
on_any(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds)
{
	const struct msg_row *row = owner;
	const unsigned char *bytes = items;
	unsigned sum = 0;

	for (size_t i = 0; row != NULL && i < (size_t)row->item_size * count; i++)
		sum += bytes[i];
	for (unsigned i = 0; i < n_fds; i++) {
		if (fcntl(fds[i], F_GETFD) == -1)
			abort();
	}
	handled++;
	return sum % 7 == 0 ? -1 : 0;
}

static chan_handler_fn *const handlers[MSG_TYPES] = {
#define MSG(name, from, to, item, most, fds, item_fds, phases) [MSG_##name] = on_any,
#include "msg.def"
#undef MSG
};

static void
send_raw(int fd, const uint8_t *data, size_t size, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * MSG_MAX_FDS)];
	} control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)data, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		struct cmsghdr *cmsg = &control.align;
		int fds[MSG_MAX_FDS];

		for (unsigned i = 0; i < n_fds; i++)
			fds[i] = fd;
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
	}
	(void)sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* A record of version 1 stands for a good one of this version: payloads change their shape, and seeds stay good. Its size in *made. */
static size_t
make_good(const uint8_t *record, size_t size, uint8_t made[MSG_MAX_SIZE])
{
	struct msg_head head;
	const struct msg_row *row;

	if (size < sizeof(head))
		return 0;
	memcpy(&head, record, sizeof(head));
	row = msg_row(head.type);
	if (head.version != 1 || row == NULL || head.count > row->most)
		return 0;
	memset(made, 0, MSG_MAX_SIZE);
	memcpy(made, record, size < MSG_MAX_SIZE ? size : MSG_MAX_SIZE);
	head.version = MSG_VERSION;
	memcpy(made, &head, sizeof(head));
	return sizeof(head) + (size_t)row->item_size * head.count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum msg_role roles[] = { MSG_P, MSG_W, MSG_R, MSG_C };
	static const enum msg_phase phases[] = { MSG_START, MSG_SERVING, MSG_DRAINING };
	struct chan chan;
	int ends[2], lowest, after;
	uint8_t record[MSG_MAX_SIZE];
	size_t good;

	if (size < 2)
		return 0;
	lowest = dup(0);
	(void)close(lowest);
	if (chan_pair(ends) == -1)
		return 0;
	chan_init(&chan, ends[0], roles[data[0] % 3], roles[data[0] / 3 % 3 + (data[0] >= 27)], handlers, NULL);
	chan.phase = phases[data[0] / 9 % 3];
	if (size >= 4)
		chan.owner = (void *)(uintptr_t)msg_row(data[2] | data[3] << 8);
	good = make_good(data + 2, size - 2, record);
	send_raw(ends[1], good > 0 ? record : data + 2, good > 0 ? good : size - 2, data[1] % (MSG_MAX_FDS + 1));
	if (chan_recv(&chan) == -1 && errno == EPROTO && chan.wrong == NULL)
		abort();
	chan_close(&chan);
	(void)close(ends[1]);
	/* Whatever came along is closed again. */
	after = dup(0);
	(void)close(after);
	if (after != lowest)
		abort();
	return 0;
}
