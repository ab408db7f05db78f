/* SPDX-License-Identifier: ISC */
/*
 * Network namespaces: opened, pinned, entered. The only setns() in the tree.
 * Runs in: parent
 */
#ifndef PARENT_NETNS_H
#define PARENT_NETNS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* A pinned namespace. */
struct netns {
	const char *name, *path;	/* not owned (struct conf_netns) */
	int fd;				/* owned; -1: not open */
	dev_t dev;
	ino_t ino;			/* of fd, to notice that the path now is another namespace */
};

/*
 * Path for a NETNS as users write it: "" -> /proc/self/ns/net, NAME -> /run/netns/NAME, /abs, pid:N -> /proc/N/ns/net.
 * Allocated; NULL with errno EINVAL.
 */
char *netns_path(const char *name);
/*
 * 0, or -1 with errno after one line such as:
 * cannot open network namespace 'private' (/run/netns/private): No such file or directory; create it with: ip netns add private
 * `where` ("" or "FILE:LINE: ") comes first.
 */
int netns_open(struct netns *ns, const char *name, const char *path, const char *where);
/*
 * The same without a word. errno EINVAL: the path is something else, which a name is for a moment while `ip netns add` makes it.
 */
int netns_find(struct netns *ns, const char *name, const char *path);
/* Does the errno of netns_find() say that there is no such namespace (now)? Anything else tells nothing about it. */
bool netns_is_missing(int error);
void netns_close(struct netns *ns);
/*
 * For a process that never comes back (between fork and exec, or a resolver child): no allocation, no log. 0 or -1 with errno.
 * Needs CAP_SYS_ADMIN effective.
 */
int netns_enter(int fd);
/*
 * Runs fn in the namespace and comes back to `home`; fatal when it cannot come back. fn's result, or -1 with errno when the namespace may not be entered.
 * Raises CAP_SYS_ADMIN around each move only.
 */
int netns_run(const struct netns *ns, const struct netns *home, int (*fn)(void *arg), void *arg);

#endif
