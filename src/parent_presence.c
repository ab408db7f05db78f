/* SPDX-License-Identifier: ISC */
/*
 * Is an address in the network namespace that we are in? bind(2) alone does not tell.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_presence.h"

#include <errno.h>
#include <net/if.h>
#include <stddef.h>
#include <sys/ioctl.h>

int
presence_check(int fd, const struct addr *addr)
{
	struct ifconf list = { .ifc_len = 0, .ifc_buf = NULL };	/* only asks how long the list would be (netdevice(7)) */

	if (addr->u.sa.sa_family != AF_INET || addr->u.in.sin_addr.s_addr == htonl(INADDR_ANY))
		return 0;
	if (ioctl(fd, SIOCGIFCONF, &list) == -1 || list.ifc_len > 0)
		return 0;
	errno = EADDRNOTAVAIL;
	return -1;
}
