/* SPDX-License-Identifier: ISC */
/*
 * Is an address in the network namespace that we are in? bind(2) alone does not tell.
 * Runs in: parent
 */
#ifndef PARENT_PRESENCE_H
#define PARENT_PRESENCE_H

#include "addr.h"

/*
 * For a TCP socket that could be bound to addr: 0, or -1 with EADDRNOTAVAIL when this namespace has no IPv4 address at all. There the kernel has no
 * table of local addresses, takes any address for local, and a listener would wait for clients for ever (measured on Linux 6.18).
 */
int presence_check(int fd, const struct addr *addr);

#endif
