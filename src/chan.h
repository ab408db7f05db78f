/* SPDX-License-Identifier: ISC */
/*
 * One SOCK_SEQPACKET channel between two of our processes: sends and receives messages of msg.def with their descriptors,
 * and checks everything that table says before a handler runs. Who the peer is follows from the channel, never from a message.
 * Runs in: any
 */
#ifndef CHAN_H
#define CHAN_H

#include <stdbool.h>
#include <stdint.h>

#include "msg.h"

/*
 * items: `count` structs of the message's type, aligned, valid until the handler returns. fds: what came along, owned by chan, which closes
 * on return what the handler did not fd_take(); one that the kernel could not install (limit of open files) is -1. A handler that finds a
 * message wrong returns -1: the sender broke the protocol.
 */
typedef int chan_handler_fn(void *owner, const void *items, unsigned count, int *fds, unsigned n_fds);

struct chan {
	int fd;				/* owned; -1: closed */
	enum msg_role self, peer;
	enum msg_phase phase;		/* of the receiver, self; set by its owner */
	chan_handler_fn *const *handlers;	/* [MSG_TYPES]; NULL: never expected here */
	void *owner;			/* first argument of the handlers */
	const char *wrong;		/* after EPROTO: what was wrong, a static text */
	uint32_t version;		/* that the last record claimed; 0: none was long enough */
	bool takes_fds;			/* some row brings descriptors from this peer to us; otherwise there is no room for any */
};

/* Both ends non-blocking and close-on-exec. 0 or -1 with errno. */
int chan_pair(int ends[2]);
/* Descriptors that anybody sends to this socket, or to one accepted from it, are refused where the kernel can do that (Linux 6.16). */
void chan_refuse_fds(int fd);
void chan_init(struct chan *chan, int fd, enum msg_role self, enum msg_role peer, chan_handler_fn *const handlers[MSG_TYPES], void *owner);
void chan_close(struct chan *chan);
/* Never blocks. The descriptors stay the caller's. 0, or -1 with errno: EAGAIN (full), ETOOMANYREFS (treat alike), EPIPE (gone). */
int chan_send(struct chan *chan, enum msg_type type, const void *items, unsigned count, const int *fds, unsigned n_fds);
/* Receives and handles one message. 1; 0: none there; -1 with errno: EPIPE (peer gone), EPROTO (see wrong), or recvmsg's. */
int chan_recv(struct chan *chan);
/* As chan_recv, but waits for one; for start-up only. */
int chan_recv_wait(struct chan *chan);
/* All that is there, at most `most` messages: 0, or -1 as above. */
int chan_drain(struct chan *chan, unsigned most);

#endif
