/* SPDX-License-Identifier: ISC */
/*
 * Network namespaces: opened, pinned, entered. The only setns() in the tree.
 * Runs in: parent
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif

#include "parent_netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/nsfs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fdutil.h"
#include "log.h"
#include "parent_caps.h"

#define COME_BACK_TRIES 100

static bool
has_dotdot(const char *path)
{
	const char *p = path;

	while ((p = strstr(p, "..")) != NULL) {
		if ((p == path || p[-1] == '/') && (p[2] == '\0' || p[2] == '/'))
			return true;
		p += 2;
	}
	return false;
}

static bool
is_pid(const char *digits)
{
	size_t len = strlen(digits);

	return len >= 1 && len <= 10 && digits[0] != '0' && strspn(digits, "0123456789") == len;
}

char *
netns_path(const char *name)
{
	char *path = NULL;
	int len;

	if (name[0] == '\0')
		return strdup("/proc/self/ns/net");
	if (strncmp(name, "pid:", 4) == 0) {
		len = is_pid(name + 4) ? asprintf(&path, "/proc/%s/ns/net", name + 4) : -1;
	} else if (has_dotdot(name) || strcmp(name, ".") == 0) {
		len = -1;
	} else if (name[0] == '/') {
		return strdup(name);
	} else {
		len = strchr(name, '/') == NULL ? asprintf(&path, "/run/netns/%s", name) : -1;
	}
	if (len == -1) {
		errno = EINVAL;
		return NULL;
	}
	return path;
}

/* A descriptor of another process's namespace needs the right to trace that process (proc(5)). */
static int
open_path(const char *path)
{
	bool raised = strncmp(path, "/proc/", 6) == 0 && strncmp(path, "/proc/self/", 11) != 0 && caps_raise(CAP_SYS_PTRACE);
	/* O_NONBLOCK: a fifo in the place of a namespace must not hang us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (raised)
		caps_lower(CAP_SYS_PTRACE);
	return fd;
}

static const char *
open_advice(const char *name, const char *path, int error, char *buf, size_t size)
{
	buf[0] = '\0';
	if (error == ENOENT && strncmp(name, "pid:", 4) == 0)
		snprintf(buf, size, "; there is no process %s", name + 4);
	else if (error == ENOENT && name[0] != '/')
		snprintf(buf, size, "; create it with: ip netns add %s", name);
	else if (error == EACCES || error == EPERM)
		snprintf(buf, size, "; %s", strncmp(path, "/proc/", 6) == 0 ? "this needs root, or CAP_SYS_PTRACE" : "this needs root");
	return buf;
}

/* f_type is signed on some machines, the magic number is not. */
static bool
is_nsfs(const struct statfs *fs)
{
	return (unsigned long)fs->f_type == NSFS_MAGIC;
}

/* `ip netns add` makes a file of mode 0, which a root without capabilities may not open, before it mounts the namespace over it. */
static bool
is_half_made(const char *path)
{
	struct statfs fs;

	return statfs(path, &fs) == 0 && !is_nsfs(&fs) && strncmp(path, "/proc/", 6) != 0;
}

int
netns_find(struct netns *ns, const char *name, const char *path)
{
	FD_AUTO int fd = open_path(path);
	struct statfs fs;
	struct stat st;
	int kind;

	*ns = (struct netns){ .name = name, .path = path, .fd = -1 };
	if (fd == -1 && errno == EACCES)
		errno = is_half_made(path) ? EINVAL : EACCES;
	if (fd == -1 || fstatfs(fd, &fs) == -1 || fstat(fd, &st) == -1)
		return -1;
	kind = is_nsfs(&fs) ? ioctl(fd, NS_GET_NSTYPE) : 0;
	if (kind != CLONE_NEWNET) {
		/* A failure of the call tells nothing, another kind of namespace does. */
		errno = kind == -1 ? errno : EINVAL;
		return -1;
	}
	ns->dev = st.st_dev;
	ns->ino = st.st_ino;
	ns->fd = fd_take(&fd);
	return 0;
}

bool
netns_is_missing(int error)
{
	return error == ENOENT || error == ENOTDIR || error == ESRCH || error == EINVAL;
}

int
netns_open(struct netns *ns, const char *name, const char *path, const char *where)
{
	char advice[320];
	int saved;

	if (netns_find(ns, name, path) == 0)
		return 0;
	saved = errno;
	if (saved == EINVAL)
		log_errx("%s'%s' (%s) is not a network namespace", where, name, path);
	else
		log_errx("%scannot open network namespace '%s' (%s): %s%s", where, name, path, strerror(saved),
		    open_advice(name, path, saved, advice, sizeof(advice)));
	errno = saved;
	return -1;
}

void
netns_close(struct netns *ns)
{
	fd_close(&ns->fd);
}

int
netns_enter(int fd)
{
	return setns(fd, CLONE_NEWNET);
}

static int
move_to(const struct netns *ns)
{
	bool raised = caps_raise(CAP_SYS_ADMIN);
	int result = netns_enter(ns->fd);

	if (raised)
		caps_lower(CAP_SYS_ADMIN);
	return result;
}

int
netns_run(const struct netns *ns, const struct netns *home, int (*fn)(void *arg), void *arg)
{
	int result, saved, failures = 0;

	if (ns->dev == home->dev && ns->ino == home->ino)
		return fn(arg);
	if (move_to(ns) == -1)
		return -1;
	result = fn(arg);
	saved = errno;
	/* Whatever came next would happen in the wrong namespace; but a want of memory may go by. */
	while (move_to(home) == -1 && ++failures < COME_BACK_TRIES)
		continue;
	if (failures == COME_BACK_TRIES)
		fatal(EXIT_NAMESPACE, "cannot come back from network namespace '%s'", ns->name);
	errno = saved;
	return result;
}
