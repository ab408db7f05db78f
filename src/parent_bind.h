/* SPDX-License-Identifier: ISC */
/*
 * Making one listening socket, TCP or unix, in the network namespace that the caller is in.
 * Runs in: parent
 */
#ifndef PARENT_BIND_H
#define PARENT_BIND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "parent_conf.h"

/* A socket that listens, and for a unix path the inode that is ours to remove. */
struct bound {
	int fd;				/* the caller's */
	struct addr addr;		/* with the port that the kernel chose */
	dev_t dev;			/* with ino: 0 when there is no path */
	ino_t ino;
	bool shared;			/* the service manager holds it too, and goes on listening when we end */
};

/* 0; -1 with errno, *step ("bind", "change the owner of its path", ...) and maybe *hint (what to do; else NULL). Leaves nothing behind then. */
int bind_tcp(const struct conf_service *service, const struct conf_endpoint *endpoint, uint16_t port, struct bound *bound, const char **step);
/* type: SOCK_STREAM, SOCK_SEQPACKET. */
int bind_unix(const struct conf_service *service, const struct conf_endpoint *endpoint, int type, struct bound *bound, const char **step,
    const char **hint);
/* Makes a socket that listens already one like ours. 0 or -1 with errno. */
int bind_inherited(const struct conf_service *service, int fd, sa_family_t family);
/*
 * A listener of the image before gets the settings of now, as far as a socket that listens takes them. 0, or -1 with errno and *step; then it has
 * those that it had.
 */
int bind_renew(const struct conf_service *service, struct bound *bound, const char **step);
/* Changes the owner of a socket's path, open with O_PATH; a group alone needs no CAP_CHOWN. 0 or -1 with errno. */
int bind_give(int path, uid_t uid, gid_t gid);
/* Removes the path if it still is what we made. */
void bind_unlink(const struct bound *bound);
/*
 * Before the last look into its backlog: from now on nobody is added to it. A new client is refused (unix) or gets no answer (TCP; it tries again
 * after a second and is refused then); one that was answered before is in the backlog. Best effort. Never for a shared socket: it would be deaf for
 * whoever uses it next.
 */
void bind_seal(const struct bound *bound);

#endif
